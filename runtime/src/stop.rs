//! Stop strings, looked for in decoded text whatever tokens it came in. Text that may be the start of one is held back.

/// Looks for the first of several strings in text that comes in pieces.
#[derive(Clone, Debug, Default)]
pub(crate) struct StopStrings {
    strings: Vec<String>,
    held: String,
}

/// What a piece of text led to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Scan {
    /// Text that is free to be shown.
    pub(crate) free: String,
    /// A stop string follows `free`; all that came after its start was dropped.
    pub(crate) hit: bool,
}

impl StopStrings {
    pub(crate) fn new(strings: Vec<String>) -> Self {
        debug_assert!(strings.iter().all(|s| !s.is_empty()));
        Self { strings, held: String::new() }
    }

    /// Adds text. The stop string that begins first counts.
    pub(crate) fn push(&mut self, text: &str) -> Scan {
        if self.strings.is_empty() {
            return Scan { free: text.to_owned(), hit: false };
        }
        self.held.push_str(text);
        if let Some(start) = self.strings.iter().filter_map(|s| self.held.find(s.as_str())).min() {
            self.held.truncate(start);
            return Scan { free: std::mem::take(&mut self.held), hit: true };
        }
        let kept = self.partial();
        let rest = self.held.split_off(self.held.len() - kept);
        Scan { free: std::mem::replace(&mut self.held, rest), hit: false }
    }

    /// Text held back, when nothing follows that could complete it.
    pub(crate) fn release(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Length of the longest end of the held text that begins a stop string.
    fn partial(&self) -> usize {
        let held = self.held.as_bytes();
        let longest = |stop: &String| {
            let most = held.len().min(stop.len() - 1);
            (1..=most).rev().find(|&n| held.ends_with(&stop.as_bytes()[..n])).unwrap_or(0)
        };
        // A suffix that equals the start of a string starts on a character, so the split above is sound.
        self.strings.iter().map(longest).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(stops: &[&str], pieces: &[&str]) -> (String, bool, String) {
        let mut stop = StopStrings::new(stops.iter().map(|s| s.to_string()).collect());
        let mut shown = String::new();
        for piece in pieces {
            let scan = stop.push(piece);
            shown += &scan.free;
            if scan.hit {
                return (shown, true, stop.release());
            }
        }
        (shown, false, stop.release())
    }

    #[test]
    fn found_however_the_text_is_cut() {
        let text = "one € two###three";
        let cuts: Vec<usize> = (0..=text.len()).filter(|&i| text.is_char_boundary(i)).collect();
        for &a in &cuts {
            for &b in cuts.iter().filter(|&&b| b >= a) {
                let found = scan(&["###"], &[&text[..a], &text[a..b], &text[b..]]);
                assert_eq!(found, ("one € two".into(), true, String::new()), "cut at {a} and {b}");
            }
        }
    }

    #[test]
    fn a_false_start_is_shown_once_it_is_known() {
        let mut stop = StopStrings::new(vec!["###".into()]);
        assert_eq!(stop.push("a##"), Scan { free: "a".into(), hit: false });
        assert_eq!(stop.push("b"), Scan { free: "##b".into(), hit: false });
    }

    #[test]
    fn overlapping_starts_are_held() {
        // "aab" must be found in "aaab", whose first "aa" is a false start.
        for cut in 0..4 {
            assert_eq!(scan(&["aab"], &[&"aaab"[..cut], &"aaab"[cut..]]), ("a".into(), true, String::new()));
        }
    }

    #[test]
    fn what_is_held_at_the_end_is_released() {
        assert_eq!(scan(&["###"], &["x##"]), ("x".into(), false, "##".into()));
    }

    #[test]
    fn the_string_that_begins_first_wins() {
        assert_eq!(scan(&["c", "bc"], &["abcd"]), ("a".into(), true, String::new()));
    }

    #[test]
    fn a_character_is_not_cut() {
        assert_eq!(scan(&["é!"], &["aé", "?"]), ("aé?".into(), false, String::new()));
    }
}
