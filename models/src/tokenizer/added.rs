//! Finding added tokens in a text: those that are matched by their spelling before the model sees the rest. The rules
//! (longest first, word borders, white space taken along) are those of tokenizer.json.

use aho_corasick::{AhoCorasick, MatchKind};
use std::ops::Range;

/// A token that is found by its spelling.
#[derive(Clone, Debug)]
pub(super) struct Added {
    pub id: u32,
    pub text: String,
    /// A control token, which only a template may write.
    pub control: bool,
    /// Matched in the normalized text, not in the text as given.
    pub normalized: bool,
    /// Only where no word character stands beside it.
    pub single_word: bool,
    /// Takes white space on its left along.
    pub lstrip: bool,
    /// Takes white space on its right along.
    pub rstrip: bool,
}

impl Added {
    /// A token matched exactly as spelled.
    pub fn exact(id: u32, text: &str, control: bool) -> Self {
        Self { id, text: text.to_owned(), control, normalized: false, single_word: false, lstrip: false, rstrip: false }
    }
}

/// A set of added tokens, ready to cut texts.
pub(super) struct Splitter {
    find: AhoCorasick,
    tokens: Vec<Added>,
}

impl Splitter {
    /// `None` if there is nothing to find. Fails only if there are too many tokens for one automaton.
    pub fn new<'a>(tokens: impl Iterator<Item = &'a Added>) -> Result<Option<Self>, String> {
        // An empty spelling would be found everywhere.
        let tokens: Vec<Added> = tokens.filter(|t| !t.text.is_empty()).cloned().collect();
        if tokens.is_empty() {
            return Ok(None);
        }
        let find = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(tokens.iter().map(|t| &t.text))
            .map_err(|e| format!("the added tokens cannot be searched for: {e}"))?;
        Ok(Some(Self { find, tokens }))
    }

    /// Cuts `text` into tokens and the text between them. Ranges of text never overlap and are never empty.
    pub fn split(&self, text: &str) -> Vec<(Range<usize>, Option<u32>)> {
        let mut out = Vec::new();
        let mut done = 0;
        for found in self.find.find_iter(text) {
            let token = &self.tokens[found.pattern().as_usize()];
            let (mut start, mut end) = (found.start(), found.end());
            let (left, right) = (&text[..start], &text[end..]);
            if token.single_word && (left.ends_with(is_word) || right.starts_with(is_word)) {
                continue;
            }
            if token.lstrip {
                start = left.trim_end().len().max(done);
            }
            if token.rstrip {
                end = text.len() - right.trim_start().len();
            }
            if done < start {
                out.push((done..start, None));
            }
            out.push((start..end, Some(token.id)));
            done = done.max(end);
        }
        if done < text.len() {
            out.push((done..text.len(), None));
        }
        out
    }

    /// Where the spelling found first at or after `from` starts.
    pub fn next_start(&self, text: &str, from: usize) -> Option<usize> {
        self.find.find(aho_corasick::Input::new(text).range(from..)).map(|m| m.start())
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '\u{200C}' | '\u{200D}')
}
