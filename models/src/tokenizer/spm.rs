//! SentencePiece's BPE, for vocabularies that have scores and no merges: of all neighbours whose joined text is a token,
//! those with the highest score join first, the leftmost of equals. What is no token in the end is spelled in bytes.

use super::merge::{Joined, Merger};
use ahash::AHashMap;

const SPACE: &str = "\u{2581}";

/// A vocabulary ready to encode.
pub(super) struct Spm {
    tokens: AHashMap<Box<str>, Entry>,
    /// Bytes of the longest token.
    longest: usize,
    /// The token of each byte, where the vocabulary has all of them.
    bytes: Option<Box<[u32; 256]>>,
    unk: Option<u32>,
    /// Runs of spaces count as one, and those at the ends as none.
    collapse: bool,
}

/// What is known of a token's text.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    id: u32,
    /// When neighbours join to it: less is sooner.
    rank: u32,
    /// A step on the way to longer tokens that is itself never used.
    unused: bool,
}

impl Spm {
    /// `tokens` are those that text may become: no control, unknown or byte tokens.
    pub fn new(
        tokens: AHashMap<Box<str>, Entry>,
        bytes: Option<Box<[u32; 256]>>,
        unk: Option<u32>,
        collapse: bool,
    ) -> Self {
        let longest = tokens.keys().map(|t| t.len()).max().unwrap_or(0);
        Self { tokens, longest, bytes, unk, collapse }
    }

    /// Appends the tokens of `text`, with a space before it if `prefix`.
    pub fn encode(&self, text: &str, prefix: bool, out: &mut Vec<u32>) {
        let mut spaced = String::with_capacity(text.len() + text.len() / 4 + SPACE.len());
        let mut previous = if prefix { ' ' } else { '\0' };
        let text = if self.collapse && prefix { text.trim_start_matches(' ') } else { text };
        if prefix && !text.is_empty() {
            spaced.push_str(SPACE);
        }
        for c in text.chars() {
            match c {
                ' ' if self.collapse && previous == ' ' => {}
                ' ' => spaced.push_str(SPACE),
                c => spaced.push(c),
            }
            previous = c;
        }
        // SentencePiece does this last, so that it also cuts off a space that the text itself wrote as U+2581.
        let spaced = if self.collapse { spaced.trim_end_matches(SPACE) } else { &spaced };
        self.merge(spaced, out);
    }

    fn merge(&self, text: &str, out: &mut Vec<u32>) {
        let mut merger = Merger::default();
        for (start, c) in text.char_indices() {
            merger.push(start, c.len_utf8(), 0);
        }
        // How unused tokens came about: the length of their left part.
        let mut unused = AHashMap::new();
        merger.merge(|a, b| {
            let joined = text.get(a.range().start..b.range().end).filter(|t| t.len() <= self.longest)?;
            let entry = self.tokens.get(joined)?;
            if entry.unused {
                unused.insert(joined, a.range().len());
            }
            Some(Joined { rank: entry.rank, id: 0 })
        });
        let mut unknown = false;
        let mut todo = Vec::new();
        for stretch in merger.stretches() {
            todo.push(&text[stretch.range()]);
            while let Some(text) = todo.pop() {
                if let Some((left, right)) = unused.get(text).map(|&at| text.split_at(at)) {
                    todo.extend([right, left]);
                    continue;
                }
                let was_unknown = std::mem::take(&mut unknown);
                match (self.tokens.get(text), &self.bytes) {
                    (Some(entry), _) => out.push(entry.id),
                    (None, Some(bytes)) => out.extend(text.bytes().map(|b| bytes[usize::from(b)])),
                    (None, None) => {
                        unknown = true;
                        out.extend(self.unk.filter(|_| !was_unknown)); // neighbours are one
                    }
                }
            }
        }
    }
}

impl Entry {
    /// A token of this score. The higher the score, the sooner neighbours join to it.
    pub fn new(id: u32, score: f32, unused: bool) -> Self {
        let bits = (score + 0.0).to_bits(); // no negative zero
        let ascending = if score.is_sign_negative() && score != 0.0 { !bits } else { bits | 1 << 31 };
        Self { id, rank: !ascending, unused }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_order_scores() {
        let scores = [f32::INFINITY, 3.5, 1e-30, 0.0, -1e-30, -1.0, -2.0, -31999.0, f32::NEG_INFINITY];
        let ranks: Vec<u32> = scores.iter().map(|&s| Entry::new(0, s, false).rank).collect();
        assert!(ranks.is_sorted_by(|a, b| a < b), "{ranks:?}");
        assert_eq!(Entry::new(0, -0.0, false).rank, Entry::new(0, 0.0, false).rank);
    }

    #[test]
    fn unused_tokens_are_taken_apart_again() {
        let list = [("a", false), ("b", false), ("c", false), ("ab", true), ("abc", true), ("cc", false)];
        let tokens =
            list.iter().zip(0..).map(|(&(t, unused), id)| (t.into(), Entry::new(id, id as f32, unused))).collect();
        let spm = Spm::new(tokens, None, Some(9), false);
        let encode = |text| {
            let mut out = Vec::new();
            spm.encode(text, false, &mut out);
            out
        };
        assert_eq!(encode("ab"), [0, 1]);
        assert_eq!(encode("abc"), [0, 1, 2]);
        assert_eq!(encode("abcc"), [0, 1, 5]);
        assert_eq!(encode("xyabz"), [9, 0, 1, 9]);
    }
}
