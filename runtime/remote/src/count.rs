//! How long a prompt is: exactly where an answer told so, else by a rule of thumb that answers correct. Servers that
//! can be asked are asked by `lengths`.

use crate::delta::Usage;
use nano_runtime::{Content, Message, Value};
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Conversations that are remembered.
const KEPT: usize = 64;

/// What answers have told of lengths.
pub(crate) struct Counts {
    /// Beginnings of conversations and their tokens, oldest first.
    known: VecDeque<(u64, usize)>,
    /// Tokens there were for each that the rule of thumb said.
    ratio: f64,
}

impl Default for Counts {
    fn default() -> Self {
        Self { known: VecDeque::new(), ratio: 1.0 }
    }
}

impl Counts {
    /// Learns from an answer.
    pub(crate) fn note(&mut self, messages: &[Message], tools: &[Value], answer: &Message, usage: Usage) {
        let guess = guess(messages, tools);
        if guess > 0 && usage.prompt > 0 {
            // What a template adds makes short prompts say little.
            self.ratio = (usage.prompt as f64 / guess as f64).clamp(0.25, 4.0);
        }
        let mut hasher = start(tools);
        messages.iter().for_each(|message| add(&mut hasher, message));
        self.keep(hasher.finish(), usage.prompt);
        // The next prompt goes on after the answer, as a rule without its reasoning.
        if answer.reasoning_content.is_none() {
            add(&mut hasher, answer);
            self.keep(hasher.finish(), usage.prompt + usage.answer);
        }
    }

    fn keep(&mut self, key: u64, tokens: usize) {
        self.known.retain(|(one, _)| *one != key);
        self.known.push_back((key, tokens));
        if self.known.len() > KEPT {
            self.known.pop_front();
        }
    }

    /// Whether no answer has told anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The longest known beginning, and the rest by the rule.
    pub(crate) fn estimate(&self, messages: &[Message], tools: &[Value]) -> usize {
        let mut hasher = start(tools);
        let mut best = None;
        for (place, message) in messages.iter().enumerate() {
            add(&mut hasher, message);
            let key = hasher.finish();
            if let Some((_, tokens)) = self.known.iter().find(|(one, _)| *one == key) {
                best = Some((place + 1, *tokens));
            }
        }
        let scaled = |guess: usize| (guess as f64 * self.ratio).ceil() as usize;
        match best {
            Some((count, tokens)) => tokens + scaled(guess(&messages[count..], &[])),
            None => scaled(guess(messages, tools)),
        }
    }
}

/// Four letters of a Latin text to a token, one of most others, and a few tokens of frame around each message.
fn guess(messages: &[Message], tools: &[Value]) -> usize {
    let text = |text: &str| {
        let latin = text.bytes().filter(u8::is_ascii).count();
        latin.div_ceil(4) + text.chars().filter(|c| !c.is_ascii()).count()
    };
    let value = |value: &Value| text(&value.to_string());
    let message = |message: &Message| {
        let calls = message.tool_calls.iter().flatten().map(value).sum::<usize>();
        5 + text(&message.content.text()) + calls
    };
    messages.iter().map(message).sum::<usize>() + tools.iter().map(value).sum::<usize>()
}

fn start(tools: &[Value]) -> DefaultHasher {
    let mut hasher = DefaultHasher::new();
    tools.iter().for_each(|tool| tool.to_string().hash(&mut hasher));
    hasher
}

fn add(hasher: &mut DefaultHasher, message: &Message) {
    message.role.hash(hasher);
    match &message.content {
        Content::Parts(parts) => {
            for part in parts {
                (&part.kind, &part.text, Value::Object(part.other.clone()).to_string()).hash(hasher);
            }
        }
        content => content.text().hash(hasher),
    }
    let calls = message.tool_calls.iter().flatten();
    calls.for_each(|call| call.to_string().hash(hasher));
    message.tool_call_id.hash(hasher);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_make_estimates_exact() {
        let mut counts = Counts::default();
        let mut messages = vec![Message::system("Be brief."), Message::user("How are you today, my friend?")];
        let first = counts.estimate(&messages, &[]);
        assert!((10..40).contains(&first), "{first}");
        let answer = Message::assistant("Fine.");
        counts.note(&messages, &[], &answer, Usage { prompt: 31, cached: 0, answer: 3 });
        assert_eq!(counts.estimate(&messages, &[]), 31);
        messages.push(answer);
        assert_eq!(counts.estimate(&messages, &[]), 34);
        messages.push(Message::user("And your dog?"));
        let next = counts.estimate(&messages, &[]);
        assert!((38..60).contains(&next), "{next}");
        // Other tools make another prompt.
        assert_ne!(counts.estimate(&messages[..2], &[Value::from("tool")]), 31);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut counts = Counts::default();
        for n in 0..200 {
            let messages = [Message::user(format!("{n}"))];
            counts.note(&messages, &[], &Message::assistant("ok"), Usage { prompt: 9, cached: 0, answer: 1 });
        }
        assert_eq!(counts.known.len(), KEPT);
        assert_eq!(counts.estimate(&[Message::user("199")], &[]), 9);
    }
}
