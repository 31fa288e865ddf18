//! The way of a text to tokens: cut at added tokens, mend what was hidden, and give each stretch of ordinary text to the
//! model, with the invented space at its start that some models want.

use super::added::{Added, Splitter};
use super::merge::LONGEST_TEXT;
use super::spm::Spm;
use super::stages::Stages;
use super::{Control, control};
use crate::{Error, Result};

/// A text may grow this much before it is cut into words: a space becomes U+2581, and a byte two bytes.
const SPACE_GROWS: usize = 4;

/// What stands before a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// Nothing: the text starts here.
    Nothing,
    /// An added token.
    Token,
    /// Ordinary text.
    Text,
}

/// Where a tokenizer invents a space before text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prefix {
    Never,
    /// At the start of the whole text.
    Start,
    /// There, and after every added token.
    Each,
}

/// Ordinary text to tokens.
pub(super) enum Ordinary {
    Stages(Box<Stages>),
    Spm(Spm),
}

/// Text to tokens.
pub(super) struct Encoder {
    /// All added tokens that are matched in the text as given.
    all: Option<Splitter>,
    /// Those of them that a user may write.
    plain: Option<Splitter>,
    /// Those that only a template may write.
    control: Option<Splitter>,
    prefix: Prefix,
    ordinary: Ordinary,
}

impl Encoder {
    /// `added` may hold tokens that are matched after normalization; they are left to `ordinary`.
    pub fn new(added: &[Added], prefix: Prefix, ordinary: Ordinary) -> Result<Self, String> {
        let exact = || added.iter().filter(|t| !t.normalized);
        Ok(Self {
            all: Splitter::new(exact())?,
            plain: Splitter::new(exact().filter(|t| !t.control))?,
            control: Splitter::new(exact().filter(|t| t.control))?,
            prefix,
            ordinary,
        })
    }

    pub fn encode(&self, text: &str, control: Control, before: Before) -> Result<Vec<u32>> {
        if text.len() > LONGEST_TEXT / SPACE_GROWS {
            return Err(Error::Encode { why: format!("{} bytes are too many for one text", text.len()) });
        }
        let mut run = Run { encoder: self, before, out: Vec::new() };
        match control {
            Control::Text => run.split(text, self.plain.as_ref(), false),
            Control::Parse => run.split(text, self.all.as_ref(), true),
        }
        .map_err(|e| Error::Encode { why: e.to_string() })?;
        Ok(run.out)
    }

    pub fn hide_control(&self, text: &str) -> String {
        control::hide(text, self.control.as_ref())
    }
}

struct Run<'a> {
    encoder: &'a Encoder,
    before: Before,
    out: Vec<u32>,
}

impl Run<'_> {
    fn split(&mut self, text: &str, splitter: Option<&Splitter>, mend: bool) -> tokenizers::Result<()> {
        let whole = || if text.is_empty() { vec![] } else { vec![(0..text.len(), None)] };
        for (range, token) in splitter.map_or_else(whole, |s| s.split(text)) {
            let text = &text[range];
            match token {
                Some(id) => {
                    self.out.push(id);
                    self.before = Before::Token;
                }
                // What was hidden is ordinary text, in which the added tokens of a user count as anywhere.
                None if mend && text.contains(control::is_private) => {
                    self.split(&control::show(text), self.encoder.plain.as_ref(), false)?;
                }
                None => self.ordinary(text)?,
            }
        }
        Ok(())
    }

    fn ordinary(&mut self, text: &str) -> tokenizers::Result<()> {
        let prefix = match self.encoder.prefix {
            Prefix::Never => false,
            Prefix::Start => self.before == Before::Nothing,
            Prefix::Each => self.before != Before::Text,
        };
        self.before = Before::Text;
        match &self.encoder.ordinary {
            Ordinary::Stages(stages) => stages.encode(text, prefix, &mut self.out),
            Ordinary::Spm(spm) => {
                spm.encode(text, prefix, &mut self.out);
                Ok(())
            }
        }
    }
}
