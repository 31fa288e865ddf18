//! What a conversation has fed, as text beside its exact tokens, and how the text of the next prompt follows from it.
//! Knows tokens and text; knows no cache, no message and no engine.

use crate::Result;
use nano_models::{Control, Tokenizer};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// The tokens of a conversation in order, with the text that they stand for in a rendered prompt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Segments {
    list: Vec<Segment>,
    /// A stop token that was sampled after the last segment. It has no part in what follows: where the template
    /// writes it too, it is the first token of the next segment.
    stop: Option<u32>,
}

/// One stretch of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Segment {
    kind: Kind,
    /// With the spellings of control tokens hidden where they are text.
    text: String,
    tokens: Vec<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    /// Text of the template.
    Prompt,
    /// Sampled: the tokens are kept as they were drawn.
    Reply,
    /// Tokens that begin some text of the template which is not known any more.
    Torn,
}

/// A prompt: the tokens that stand for a rendered text, and where in the text each segment ends.
#[derive(Debug, Default)]
pub(crate) struct Prompt {
    pub(crate) segments: Segments,
    /// For each segment, the length of the text up to its end.
    ends: Vec<usize>,
    /// Tokens of the segments that were taken over as they were.
    pub(crate) kept: usize,
}

/// A reply whose place in a rendered text is looked for: the text before it, and its segment.
pub(crate) struct Placed<'a> {
    pub(crate) before: String,
    pub(crate) reply: &'a Segment,
}

/// How much of a text (the last) is, in other words, what a reply says (the second) after what both follow (the first).
pub(crate) type Same<'a> = &'a dyn Fn(&str, &str, &str) -> Option<usize>;

impl Segments {
    /// The tokens whose text the template is known to begin with, but not where that text ends.
    pub(crate) fn torn(tokens: Vec<u32>) -> Self {
        Self { list: vec![Segment { kind: Kind::Torn, text: String::new(), tokens }], stop: None }
    }

    /// All tokens in order.
    pub(crate) fn tokens(&self) -> Vec<u32> {
        self.list.iter().flat_map(|s| &s.tokens).chain(&self.stop).copied().collect()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.list.iter().map(|s| s.tokens.len()).sum::<usize>() + usize::from(self.stop.is_some())
    }

    /// Adds a sampled reply, and the stop token that ended it.
    pub(crate) fn push_reply(&mut self, reply: Segment, stop: Option<u32>) {
        self.list.push(reply);
        self.stop = stop;
    }

    /// The segments of a prompt: those of this conversation as far as the text begins with them, the rest encoded.
    /// `replies` gives the replies that may be among the rest, in order, when told how many were kept.
    pub(crate) fn follow<'a>(
        &self,
        text: &str,
        tokenizer: &Tokenizer,
        same: Same<'_>,
        replies: impl FnOnce(usize) -> Vec<Placed<'a>>,
    ) -> Result<Prompt> {
        let mut next = self.begin(text, same);
        let mut at = next.ends.last().copied().unwrap_or(0);
        let kept = next.segments.list.iter().filter(|s| s.kind == Kind::Reply).count();
        for Placed { before, reply } in replies(kept) {
            if before.len() < at || !text.starts_with(&before) {
                continue;
            }
            let rest = &text[before.len()..];
            if let Some(len) = reply.len_in(rest).or_else(|| same(&before, &reply.text, rest)) {
                next.push_text(text, at..before.len(), tokenizer)?;
                at = before.len() + len;
                next.push(reply.clone(), at);
            }
        }
        next.push_text(text, at..text.len(), tokenizer)?;
        Ok(next)
    }

    /// Keeps the first `len` tokens.
    pub(crate) fn truncate(&mut self, len: usize) {
        if len >= self.len() {
            return;
        }
        self.stop = None;
        let mut left = len;
        let mut whole = 0;
        // An empty reply at the end goes: it may be one that is to be replaced.
        while left > 0 && self.list.get(whole).is_some_and(|s| s.tokens.len() <= left) {
            left -= self.list[whole].tokens.len();
            whole += 1;
        }
        self.list.truncate(whole + usize::from(left > 0));
        if left > 0
            && let Some(cut) = self.list.last_mut()
        {
            cut.kind = Kind::Torn;
            cut.text.clear();
            cut.tokens.truncate(left);
        }
    }

    /// Takes out a range of tokens, if it is made of whole segments.
    pub(crate) fn remove(&mut self, range: Range<usize>) -> bool {
        let (Some(first), Some(end)) = (self.edge(range.start), self.edge(range.end)) else { return false };
        self.list.drain(first..end);
        true
    }

    /// The same as the beginning of a text, if it begins with them.
    pub(crate) fn in_text(self, text: &str, same: Same<'_>) -> Option<Prompt> {
        let mut prompt = self.begin(text, same);
        prompt.segments.stop = self.stop;
        (prompt.segments.list.len() == self.list.len()).then(|| Prompt { kept: self.len(), ..prompt })
    }

    /// How many tokens, about, a text begins with, and whether it begins with all.
    pub(crate) fn in_prompt(&self, text: &str, same: Same<'_>) -> (usize, bool) {
        let prompt = self.begin(text, same);
        let (at, known) = (prompt.ends.last().copied().unwrap_or(0), prompt.segments.list.len());
        let Some(next) = self.list.get(known) else { return (prompt.kept, true) };
        let common = common_text(&next.text, &text[at..]);
        (prompt.kept + common * next.tokens.len() / next.text.len().max(1), false)
    }

    /// As many of them as the text begins with.
    fn begin(&self, text: &str, same: Same<'_>) -> Prompt {
        let mut prompt = Prompt::default();
        let mut at = 0;
        let mut list = self.list.iter();
        while let Some(segment) = list.next() {
            let rest = &text[at..];
            if let Some(len) = segment.len_in(rest) {
                at += len;
                prompt.push(segment.clone(), at);
                continue;
            }
            // The template may write a reply in words of its own, with the end of what asked for it.
            let (common, reply) = match segment.kind {
                Kind::Reply => (0, Some(segment)),
                Kind::Prompt => {
                    (common_marks(&segment.text, rest), list.next().filter(|next| next.kind == Kind::Reply))
                }
                Kind::Torn => (0, None),
            };
            let Some(reply) = reply else { break };
            let said = if segment.kind == Kind::Prompt { &segment.text[common..] } else { "" };
            let said = [said, &reply.text].concat();
            let Some(len) = same(&text[..at + common], &said, &rest[common..]) else { break };
            at += common;
            if segment.kind == Kind::Prompt {
                prompt.push(segment.clone(), at);
            }
            at += len;
            prompt.push(reply.clone(), at);
        }
        prompt.kept = prompt.segments.len();
        prompt
    }

    /// The number of segments before a token, if one ends there. An empty reply belongs to what is before it.
    fn edge(&self, token: usize) -> Option<usize> {
        let mut at = 0;
        let ends = self.list.iter().map(|segment| {
            at += segment.tokens.len();
            at
        });
        let before = ends.take_while(|&end| end <= token).count();
        let sum: usize = self.list[..before].iter().map(|s| s.tokens.len()).sum();
        (sum == token).then_some(before)
    }
}

impl Prompt {
    fn push(&mut self, segment: Segment, end: usize) {
        self.segments.list.push(segment);
        self.ends.push(end);
    }

    fn push_text(&mut self, text: &str, range: Range<usize>, tokenizer: &Tokenizer) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let (end, text) = (range.end, text[range].to_owned());
        let tokens = self.segments.encode(self.segments.list.len(), &text, tokenizer)?;
        self.push(Segment { kind: Kind::Prompt, text, tokens }, end);
        Ok(())
    }

    /// Where in the text the segment begins whose first token is this one, if one does.
    pub(crate) fn text_at(&self, token: usize) -> Option<usize> {
        let before = self.segments.edge(token)?;
        Some(before.checked_sub(1).map_or(0, |last| self.ends[last]))
    }

    /// The token at which the text from `at` on begins: the first that holds some of it. Splits a segment there, if its
    /// tokens can be split there.
    pub(crate) fn token_at(&mut self, at: usize, tokenizer: &Tokenizer) -> Result<usize> {
        let index = self.ends.partition_point(|&end| end <= at);
        let before: usize = self.segments.list[..index].iter().map(|s| s.tokens.len()).sum();
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        let Some(segment) = self.segments.list.get(index) else { return Ok(before) };
        match segment.kind {
            _ if at == start => Ok(before),
            Kind::Prompt => {
                let first = self.segments.encode(index, &segment.text[..at - start], tokenizer)?;
                let common = common_prefix(&first, &segment.tokens);
                if common == first.len() {
                    let text = self.segments.list[index].text.split_off(at - start);
                    let tokens = self.segments.list[index].tokens.split_off(common);
                    self.segments.list.insert(index + 1, Segment { kind: Kind::Prompt, text, tokens });
                    self.ends.insert(index, at);
                }
                Ok(before + common)
            }
            // What a template strips of a reply's end is the reply's.
            Kind::Reply | Kind::Torn => Ok(before + segment.tokens.len()),
        }
    }
}

impl Segments {
    /// The tokens of a text that comes before segment `index`.
    fn encode(&self, index: usize, text: &str, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
        match self.list[..index].iter().rev().find_map(|s| s.tokens.last()) {
            Some(&last) => Ok(tokenizer.encode_after(last, text)?),
            None => encode_start(text, tokenizer),
        }
    }
}

impl Segment {
    /// A sampled reply.
    pub(crate) fn reply(text: String, tokens: Vec<u32>) -> Self {
        Self { kind: Kind::Reply, text, tokens }
    }

    /// How much of `text` this segment is, if `text` begins with it.
    fn len_in(&self, text: &str) -> Option<usize> {
        let whole = self.text.as_str();
        match self.kind {
            Kind::Torn => None,
            Kind::Prompt => text.starts_with(whole).then_some(whole.len()),
            // Many templates strip white space at a reply's ends, or begin it with their own: that does not make it
            // another reply.
            Kind::Reply => {
                let forms = [whole, whole.trim_end(), whole.trim_start(), whole.trim()];
                let found = |text: &str| forms.iter().find(|form| text.starts_with(**form)).map(|form| form.len());
                let bare = text.trim_start();
                found(text).or_else(|| Some(text.len() - bare.len() + found(bare)?))
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

/// How many bytes two texts begin with in common: whole characters.
pub(crate) fn common_text(a: &str, b: &str) -> usize {
    let mut len = common_prefix(a.as_bytes(), b.as_bytes());
    while !a.is_char_boundary(len) {
        len -= 1;
    }
    len
}

/// The same, but no mark or word is cut.
fn common_marks(a: &str, b: &str) -> usize {
    let common = &a[..common_text(a, b)];
    common.rfind(['\n', '>', ']']).map_or(0, |last| last + 1)
}

/// How many items two sequences begin with in common.
pub(crate) fn common_prefix<T: PartialEq>(a: &[T], b: &[T]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
