//! What a reply says: its text taken apart into words, reasoning and calls as it comes, and whether a template's way of
//! writing a message says the same as what the model wrote. The formats are in `tools`; conversations decide what is read.

use crate::tools::{ParserOptions, Piece, StreamParser, ToolCall, ToolFormat};
use crate::{Event, Map, Value};
use nano_templates::{Content, Message};
use std::sync::Arc;

/// How the replies of a conversation are read.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    pub(crate) format: ToolFormat,
    /// Of the tools' parameters, by name. Without any, calls are text.
    pub(crate) schemas: Arc<Map<String, Value>>,
    /// What ends a turn, as a template spells it.
    pub(crate) ends: Vec<String>,
}

/// A reply that is being read.
pub(crate) struct Reading {
    parser: StreamParser,
    /// The number of its first call.
    first: usize,
    text: String,
    reasoning: String,
    calls: Vec<ToolCall>,
}

impl Reader {
    /// Reads the reply to a prompt; `first` is the number of its first call.
    pub(crate) fn read(&self, prompt: &str, calls: bool, first: usize) -> Reading {
        Reading { first, ..self.reading(prompt, calls) }
    }

    fn reading(&self, prompt: &str, calls: bool) -> Reading {
        let options = ParserOptions {
            schemas: Arc::clone(&self.schemas),
            inside_reasoning: self.format.thinks_from_the_start(prompt),
            calls: calls && !self.schemas.is_empty(),
        };
        let (text, reasoning, calls) = (String::new(), String::new(), Vec::new());
        Reading { parser: StreamParser::new(self.format, options), first: 0, text, reasoning, calls }
    }

    /// How much of `rest` is the message that the model wrote as `said`, both after the text `before`: up to the end of
    /// the turn, if a reader is told the same by both. Layout, and the way that calls are spelled, say nothing.
    pub(crate) fn same(&self, before: &str, said: &str, rest: &str) -> Option<usize> {
        let end = self.ends.iter().filter_map(|end| rest.find(end.as_str())).min()?;
        let told = |text: &str| {
            let mut reading = self.reading(before, true);
            reading.push(&nano_models::Tokenizer::show_control(text));
            reading.finish();
            let Reading { text, reasoning, calls, .. } = reading;
            let calls: Vec<_> = calls.into_iter().map(|call| (call.name, call.arguments)).collect();
            (text.trim().to_owned(), reasoning.trim().to_owned(), calls)
        };
        (told(said) == told(&rest[..end])).then_some(end)
    }
}

impl Reading {
    /// Adds text, with the spellings of control tokens in it.
    pub(crate) fn push(&mut self, text: &str) -> Vec<Event> {
        let pieces = self.parser.push(text);
        self.note(pieces)
    }

    /// What was held back, when nothing follows.
    pub(crate) fn finish(&mut self) -> Vec<Event> {
        let pieces = self.parser.finish();
        self.note(pieces)
    }

    /// The message that was read.
    pub(crate) fn message(&self) -> Message {
        message(self.text.clone(), &self.reasoning, &self.calls)
    }

    fn note(&mut self, pieces: Vec<Piece>) -> Vec<Event> {
        let event = |piece| match piece {
            Piece::Text(text) => {
                self.text += &text;
                Event::Text(text)
            }
            Piece::Reasoning(text) => {
                self.reasoning += &text;
                Event::Reasoning(text)
            }
            Piece::Call(mut call) => {
                let number = self.first + self.calls.len();
                call.id.get_or_insert_with(|| call_id(number));
                self.calls.push(call.clone());
                Event::ToolCall(Box::new(call))
            }
        };
        pieces.into_iter().map(event).collect()
    }
}

/// An assistant's message.
pub(crate) fn message(text: String, reasoning: &str, calls: &[ToolCall]) -> Message {
    let tool_calls = (!calls.is_empty()).then(|| calls.iter().map(ToolCall::to_json).collect());
    Message {
        role: "assistant".into(),
        content: Content::Text(text),
        reasoning_content: (!reasoning.is_empty()).then(|| reasoning.to_owned()),
        tool_calls,
        ..Message::default()
    }
}

/// A name for a call that was given none: nine letters and digits, which is what the templates of Mistral ask for.
pub(crate) fn call_id(number: usize) -> String {
    format!("call{:05}", number % 100_000)
}

/// The number that follows those of these calls. Their count would not do: of a conversation that lost its oldest ones,
/// another call has that number.
pub(crate) fn next_number<'a>(calls: impl Iterator<Item = &'a Value>) -> usize {
    let number = |call: &Value| {
        let digits = call["id"].as_str()?.strip_prefix("call")?;
        digits.parse::<usize>().ok().filter(|_| digits.len() == 5)
    };
    calls.filter_map(number).max().map_or(0, |last| last + 1)
}
