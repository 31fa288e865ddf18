//! From messages to the prompt that comes next: what the template is given, and what of its text was fed before.

use crate::chat::{ChatHistory, Said, State};
use crate::segments::{Placed, Prompt, Segments, encode_start};
use crate::{Error, Result};
use nano_templates::{Content, Message, Vars};
use serde_json::Value;

/// What of a prompt was fed to a conversation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fed {
    /// So many tokens, about.
    pub(crate) tokens: usize,
    /// All that the conversation has was.
    pub(crate) whole: bool,
}

impl ChatHistory {
    /// What of this prompt was fed.
    pub(crate) fn fed(&self, prompt: &str) -> Fed {
        let (tokens, whole) = self.state.segments.in_prompt(prompt, &self.same());
        Fed { tokens: tokens.min(self.num_rows()), whole }
    }

    /// Puts other messages in place of those there are. What was fed stays, for the next prompt to begin with as far as it
    /// does.
    pub(crate) fn put_messages(&mut self, messages: Vec<Message>) {
        let State { messages: before, said, starts, settled, .. } = &mut self.state;
        let same = before.iter().zip(&messages).take_while(|(a, b)| a == b).count();
        // A reply that stands where it stood is looked for by its text.
        let stands = |i: usize| before.get(i).zip(messages.get(i)).is_some_and(|(a, b)| a.role == b.role);
        *said = (0..messages.len()).map(|i| if stands(i) { said[i].clone() } else { Said::default() }).collect();
        starts.truncate((same + 1).min(messages.len()));
        *settled = messages.len();
        *before = messages;
    }

    /// A system prompt with the description of the functions.
    pub(crate) fn with_functions(&self, system: Option<String>) -> Option<String> {
        if self.functions.is_empty() || !self.describe_functions {
            return system;
        }
        let docs = self.functions.docs();
        Some(match system.filter(|text| !text.is_empty()) {
            Some(text) => format!("{}\n\n{docs}", text.trim_end()),
            None => docs,
        })
    }

    /// The prompt that comes next, and its text.
    pub(crate) fn next_prompt(&self) -> Result<(Prompt, String)> {
        if self.state.messages.last().is_none_or(|m| m.role == "assistant") {
            return Err(Error::NoMessage);
        }
        self.follow(&self.state.segments)
    }

    /// The prompt of all messages, with as much of these segments as fits.
    pub(crate) fn follow(&self, segments: &Segments) -> Result<(Prompt, String)> {
        let text = self.render(&self.state.messages, true)?;
        let prompt = segments.follow(&text, self.model.tokenizer(), &self.same(), |kept| self.placed(kept))?;
        Ok((prompt, text))
    }

    /// The replies after the first `kept`, with the text before each.
    fn placed(&self, kept: usize) -> Vec<Placed<'_>> {
        let State { messages, said, .. } = &self.state;
        let replies = said.iter().enumerate().filter_map(|(i, said)| Some((i, said.reply.as_ref()?)));
        let place = |(i, reply)| Some(Placed { before: self.render(&messages[..i], true).ok()?, reply });
        replies.skip(kept).filter_map(place).collect()
    }

    /// The prompt for a conversation of the system prompt and one message.
    pub(crate) fn probe(&self, text: &str) -> Result<Vec<u32>> {
        let mut messages = self.state.messages.clone();
        messages.push(Message::user(text));
        encode_start(&self.render(&messages, true)?, self.model.tokenizer())
    }

    /// The text of messages, and of the words that make the model answer.
    pub(crate) fn render(&self, messages: &[Message], answer: bool) -> Result<String> {
        let mut hidden: Vec<Message> = messages.iter().map(|m| self.hide(m)).collect();
        if let (Some(preface), Some(first)) = (&self.preface, hidden.iter_mut().find(|m| m.role == "user")) {
            let preface = self.model.tokenizer().hide_control(preface);
            first.content = Content::Text(format!("{preface}\n\n{}", first.content.text()));
        }
        let mut vars = Vars { add_generation_prompt: answer, ..self.vars.clone() };
        self.speak_of_tools(&mut hidden, &mut vars);
        Ok(self.template.render(&hidden, &vars)?)
    }

    /// Whether a text says what a reply says.
    pub(crate) fn same(&self) -> impl Fn(&str, &str, &str) -> Option<usize> {
        |before, said, rest| self.offered.reader.as_ref()?.same(before, said, rest)
    }

    /// The message with all spellings of control tokens in its texts hidden.
    fn hide(&self, message: &Message) -> Message {
        let tokenizer = self.model.tokenizer();
        let hide = |text: &mut String| *text = tokenizer.hide_control(text);
        let mut message = message.clone();
        match &mut message.content {
            Content::Text(text) => hide(text),
            Content::Parts(parts) => parts.iter_mut().flat_map(|p| &mut p.text).for_each(hide),
            Content::None | Content::Absent => {}
        }
        message.name.iter_mut().chain(&mut message.reasoning_content).for_each(hide);
        let values = message.tool_calls.iter_mut().flatten().chain(message.other.values_mut());
        values.for_each(|value| hide_strings(value, &hide));
        message
    }
}

/// Hides in all strings of a value.
pub(crate) fn hide_strings(value: &mut Value, hide: &impl Fn(&mut String)) {
    match value {
        Value::String(text) => hide(text),
        Value::Array(values) => values.iter_mut().for_each(|v| hide_strings(v, hide)),
        Value::Object(fields) => fields.values_mut().for_each(|v| hide_strings(v, hide)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
