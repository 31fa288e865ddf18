//! What a conversation has fed, as text beside its exact tokens, and how the text of the next prompt follows from it.
//! Knows tokens and text; knows no cache, no message and no engine.

use crate::Result;
use nano_models::{Control, Tokenizer};

/// The tokens of a conversation in order, with the text that they stand for in a rendered prompt.
#[derive(Clone, Debug, Default)]
pub(crate) struct Segments {
    list: Vec<Segment>,
    /// A stop token that was sampled after the last segment. It has no part in what follows: where the template
    /// writes it too, it is the first token of the next segment.
    stop: Option<u32>,
}

#[derive(Clone, Debug, PartialEq)]
struct Segment {
    kind: Kind,
    /// With the spellings of control tokens hidden where they are text.
    text: String,
    tokens: Vec<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Text of the template.
    Prompt,
    /// Sampled: the tokens are kept as they were drawn.
    Reply,
    /// Tokens that begin some text of the template which is not known any more.
    Torn,
}

impl Segments {
    /// The tokens whose text the template is known to begin with, but not where that text ends.
    pub(crate) fn torn(tokens: Vec<u32>) -> Self {
        Self { list: vec![Segment { kind: Kind::Torn, text: String::new(), tokens }], stop: None }
    }

    /// All tokens in order.
    pub(crate) fn tokens(&self) -> Vec<u32> {
        self.list.iter().flat_map(|s| &s.tokens).chain(&self.stop).copied().collect()
    }

    /// Adds a sampled reply, and the stop token that ended it.
    pub(crate) fn push_reply(&mut self, text: String, tokens: Vec<u32>, stop: Option<u32>) {
        self.list.push(Segment { kind: Kind::Reply, text, tokens });
        self.stop = stop;
    }

    /// The segments of a prompt: those of this conversation as far as the text begins with them, the rest encoded.
    pub(crate) fn follow(&self, text: &str, tokenizer: &Tokenizer) -> Result<Self> {
        let mut next = Self::default();
        let mut rest = text;
        for segment in &self.list {
            let Some(after) = segment.strip(rest) else {
                next.push_prompt(rest, tokenizer)?;
                return Ok(next);
            };
            next.list.push(segment.clone());
            rest = after;
        }
        next.push_prompt(rest, tokenizer)?;
        Ok(next)
    }

    fn push_prompt(&mut self, text: &str, tokenizer: &Tokenizer) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let tokens = match self.list.iter().rev().find_map(|s| s.tokens.last()) {
            Some(&last) => tokenizer.encode_after(last, text)?,
            None => encode_start(text, tokenizer)?,
        };
        self.list.push(Segment { kind: Kind::Prompt, text: text.to_owned(), tokens });
        Ok(())
    }
}

impl Segment {
    /// What follows this segment in `text`, if `text` begins with it.
    fn strip<'a>(&self, text: &'a str) -> Option<&'a str> {
        let whole = self.text.as_str();
        match self.kind {
            Kind::Torn => None,
            Kind::Prompt => text.strip_prefix(whole),
            // Many templates strip white space at a reply's ends, or begin it with their own: that does not make it
            // another reply.
            Kind::Reply => {
                let forms = [whole, whole.trim_end(), whole.trim_start(), whole.trim()];
                let strip = |text: &'a str| forms.iter().find_map(|form| text.strip_prefix(form));
                strip(text).or_else(|| strip(text.trim_start()))
            }
        }
    }
}

/// The tokens of a prompt. A beginning-of-sequence token that the model wants is added unless the template wrote it.
pub(crate) fn encode_start(text: &str, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    let mut tokens = tokenizer.encode(text, Control::Parse)?;
    if let Some(bos) = tokenizer.bos().filter(|_| tokenizer.add_bos())
        && tokens.first() != Some(&bos)
    {
        tokens.insert(0, bos);
    }
    Ok(tokens)
}

/// How many tokens two sequences begin with in common.
pub(crate) fn common_prefix(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
