//! Tokens to text, one at a time: constant work a token, never half a character.

use super::Tokenizer;
use super::pieces::Kind;

/// Turns tokens into text as they come. The pieces together are the text of all tokens; control tokens give nothing.
pub struct Detokenizer {
    tokenizer: Tokenizer,
    /// The bytes of a character that is not complete yet.
    held: Vec<u8>,
    /// Nothing was written yet, at the start of a text.
    at_start: bool,
    /// Control tokens are text as well.
    spelled: bool,
}

impl Detokenizer {
    pub(super) fn new(tokenizer: Tokenizer, at_start: bool) -> Self {
        Self { tokenizer, held: Vec::new(), at_start, spelled: false }
    }

    /// The same, but a control token gives its spelling: for those who read a model's marks.
    pub fn spelling_control(self) -> Self {
        Self { spelled: true, ..self }
    }

    /// The text that is complete now, maybe none. An id outside of the vocabulary gives nothing.
    pub fn push(&mut self, id: u32) -> String {
        let pieces = &self.tokenizer.0.pieces;
        match pieces.kind(id) {
            Kind::Control if self.spelled => {}
            Kind::Control | Kind::Absent => return String::new(),
            _ => {}
        }
        pieces.write(id, self.at_start, &mut self.held);
        self.at_start = false;
        self.take(false)
    }

    /// What is left at the end: a character that was never completed becomes U+FFFD.
    pub fn finish(&mut self) -> String {
        self.take(true)
    }

    /// Takes whole characters out of `held`, and U+FFFD for bytes that can be part of none.
    fn take(&mut self, all: bool) -> String {
        let mut text = String::new();
        let mut rest = &self.held[..];
        let kept = loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    break 0;
                }
                Err(e) => {
                    let (valid, bad) = rest.split_at(e.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid)); // valid, so nothing is lost
                    match e.error_len() {
                        Some(len) => rest = &bad[len..],
                        None if all => rest = &[],
                        None => break bad.len(),
                    }
                    text.push(char::REPLACEMENT_CHARACTER);
                }
            }
        };
        self.held.drain(..self.held.len() - kept);
        text
    }
}
