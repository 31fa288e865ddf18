//! Where the calls are in the text of a reply, so that a terminal can colour them: the calls themselves while they come,
//! and their results behind them. What is called is not decided here.

use nano_runtime::{BotFunctions, CallReport};

/// What a stretch of a reply is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The model's words.
    Said,
    /// A call, or what looks like one so far.
    Call,
    /// What a call gave.
    Result,
    /// Why a call failed.
    Failure,
    /// What the model thinks before it answers.
    Thought,
    /// Not of the reply: a call ended without a word.
    Mark,
}

/// Tells stretches of one reply apart. Text that may become the name of a function is held back until that is clear.
pub struct Painter {
    functions: BotFunctions,
    /// What a call of each begins with.
    openings: Vec<String>,
    held: String,
    /// The last character shown.
    last: Option<char>,
    open: Option<Open>,
    /// What is left to come of a result, and which kind that is.
    spliced: (Kind, String),
}

/// A call whose parenthesis is not closed yet.
#[derive(Default)]
struct Open {
    depth: usize,
    quote: Option<char>,
    escaped: bool,
}

impl Painter {
    pub fn new(functions: &BotFunctions) -> Self {
        Self {
            openings: functions.names().map(|name| format!("{name}(")).collect(),
            functions: functions.clone(),
            held: String::new(),
            last: None,
            open: None,
            spliced: (Kind::Result, String::new()),
        }
    }

    /// Adds text of the reply. Gives what is clear of it.
    pub fn text(&mut self, text: &str) -> Vec<(Kind, String)> {
        let mut out = Vec::new();
        let (kind, expected) = &mut self.spliced;
        let same = text.chars().zip(expected.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum();
        let (result, rest) = text.split_at(same);
        if rest.is_empty() {
            expected.drain(..same);
        } else {
            expected.clear();
        }
        let kind = *kind;
        self.show(&mut out, kind, result);
        self.held.push_str(rest);
        self.sort(&mut out);
        out
    }

    /// A call has ended: what follows is its result.
    pub fn call(&mut self, report: &CallReport) -> Vec<(Kind, String)> {
        let mut out = self.end();
        self.open = None;
        let kind = if report.result.is_ok() { Kind::Result } else { Kind::Failure };
        let text = self.functions.spliced(report);
        if text.is_none() {
            out.push((Kind::Mark, " ✓".into()));
        }
        self.spliced = (kind, text.unwrap_or_default());
        out
    }

    /// Gives what was held back.
    pub fn end(&mut self) -> Vec<(Kind, String)> {
        let mut out = Vec::new();
        let held = std::mem::take(&mut self.held);
        let kind = if self.open.is_some() { Kind::Call } else { Kind::Said };
        self.show(&mut out, kind, &held);
        out
    }

    fn show(&mut self, out: &mut Vec<(Kind, String)>, kind: Kind, text: &str) {
        if let Some(last) = text.chars().next_back() {
            self.last = Some(last);
            match out.last_mut() {
                Some((before, shown)) if *before == kind => shown.push_str(text),
                _ => out.push((kind, text.to_owned())),
            }
        }
    }

    /// Goes through what is held, up to what may become a name.
    fn sort(&mut self, out: &mut Vec<(Kind, String)>) {
        let held = std::mem::take(&mut self.held);
        let mut rest = held.as_str();
        while !rest.is_empty() {
            if let Some(open) = &mut self.open {
                let end = open.end(rest);
                let (call, after) = rest.split_at(end.unwrap_or(rest.len()));
                if end.is_some() {
                    self.open = None;
                }
                self.show(out, Kind::Call, call);
                rest = after;
                continue;
            }
            let Some((at, whole)) = self.opening(rest) else { break };
            let (said, after) = rest.split_at(at);
            self.show(out, Kind::Said, said);
            rest = after;
            if !whole {
                self.held = rest.to_owned();
                return;
            }
            self.open = Some(Open::default());
        }
        self.show(out, Kind::Said, rest);
    }

    /// Where in a text the first call begins, or what may become one; and whether it is there with its parenthesis.
    fn opening(&self, text: &str) -> Option<(usize, bool)> {
        let mut before = self.last;
        for (at, c) in text.char_indices() {
            let word = |c: char| c.is_alphanumeric() || c == '_';
            if word(c) && !before.is_some_and(word) {
                let rest = &text[at..];
                if self.openings.iter().any(|opening| rest.starts_with(opening)) {
                    return Some((at, true));
                }
                if self.openings.iter().any(|opening| opening.starts_with(rest)) {
                    return Some((at, false));
                }
            }
            before = Some(c);
        }
        None
    }
}

impl Open {
    /// Where the call ends in more of its text.
    fn end(&mut self, text: &str) -> Option<usize> {
        for (at, c) in text.char_indices() {
            match (self.quote, c) {
                _ if self.escaped => self.escaped = false,
                (Some(_), '\\') => self.escaped = true,
                (Some(quote), _) => self.quote = Some(quote).filter(|quote| *quote != c),
                (None, '"' | '\'') => self.quote = Some(c),
                (None, '(' | '[' | '{') => self.depth += 1,
                (None, ')' | ']' | '}') => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(at + 1);
                    }
                }
                (None, _) => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nano_runtime::BotFunction;

    fn functions() -> BotFunctions {
        let time = BotFunction::closure("time", "", [], || "12:30");
        let drive = BotFunction::closure("drive", "", ["to"], |_to: String| ());
        BotFunctions::new([time, drive]).unwrap()
    }

    /// All stretches, with those of one kind put together.
    fn painted(pieces: &[&str]) -> Vec<(Kind, String)> {
        let mut painter = Painter::new(&functions());
        let mut all: Vec<(Kind, String)> = Vec::new();
        let pieces = pieces.iter().flat_map(|piece| painter.text(piece)).collect::<Vec<_>>();
        for (kind, text) in pieces.into_iter().chain(painter.end()) {
            match all.last_mut() {
                Some((before, shown)) if *before == kind => shown.push_str(&text),
                _ => all.push((kind, text)),
            }
        }
        all
    }

    fn of(list: &[(Kind, &str)]) -> Vec<(Kind, String)> {
        list.iter().map(|(kind, text)| (*kind, (*text).to_owned())).collect()
    }

    #[test]
    fn calls_are_told_from_words() {
        use Kind::{Call, Said};
        for (text, expected) in [
            ("It is time() now.", &[(Said, "It is "), (Call, "time()"), (Said, " now.")][..]),
            ("time(), time()", &[(Call, "time()"), (Said, ", "), (Call, "time()")]),
            ("sometime() and timed() and time", &[(Said, "sometime() and timed() and time")]),
            ("drive('a) b', [1, (2)]) x", &[(Call, "drive('a) b', [1, (2)])"), (Said, " x")]),
            ("drive('a\\'b)')é", &[(Call, "drive('a\\'b)')"), (Said, "é")]),
            ("drive(\n", &[(Call, "drive(\n")]),
            ("Größe time(1)", &[(Said, "Größe "), (Call, "time(1)")]),
        ] {
            assert_eq!(painted(&[text]), of(expected), "{text}");
            let letters: Vec<String> = text.chars().map(String::from).collect();
            let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
            assert_eq!(painted(&letters), of(expected), "{text} in letters");
        }
    }

    #[test]
    fn words_are_not_held_back() {
        let mut painter = Painter::new(&functions());
        assert_eq!(painter.text("It is "), of(&[(Kind::Said, "It is ")]));
        assert_eq!(painter.text("tim"), []);
        assert_eq!(painter.text("id"), of(&[(Kind::Said, "timid")]));
        assert_eq!(painter.text(" dri"), of(&[(Kind::Said, " ")]));
        assert_eq!(painter.end(), of(&[(Kind::Said, "dri")]));
    }

    #[test]
    fn results_follow_their_calls() {
        let mut painter = Painter::new(&functions());
        let report = |result| CallReport { name: "time".into(), arguments: Default::default(), result, seconds: 0.0 };
        assert_eq!(painter.text("time()t"), of(&[(Kind::Call, "time()")]));
        assert_eq!(painter.call(&report(Ok(Some("12:30".into())))), of(&[(Kind::Said, "t")]));
        assert_eq!(painter.text(" 12"), of(&[(Kind::Result, " 12")]));
        assert_eq!(painter.text(":30 sharp"), of(&[(Kind::Result, ":30"), (Kind::Said, " sharp")]));
        painter.call(&report(Err("no clock".into())));
        assert_eq!(painter.text(" (error: no clock)"), of(&[(Kind::Failure, " (error: no clock)")]));
        assert_eq!(painter.text("."), of(&[(Kind::Said, ".")]));
        assert_eq!(painter.call(&report(Ok(None))), of(&[(Kind::Mark, " ✓")]));
        assert_eq!(painter.text(" on"), of(&[(Kind::Said, " on")]));
    }
}
