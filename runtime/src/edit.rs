//! What may be done to a history besides talking: taking back, removing, editing, trying again, forking. Each leaves
//! messages, tokens and rows in step.

use crate::cache::KvCache;
use crate::chat::{Before, ChatHistory, State};
use crate::{Error, GenerateOptions, NanoModel, Reply, Result};
use nano_templates::{Content, Message};
use serde_json::Value;
use std::ops::Range;
use std::sync::Arc;

/// How rows in the middle of a cache are removed. The two differ in what the rows after the gap know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Removal {
    /// The cache is cut at the gap and the rest fed again: the conversation is as if the messages had never been.
    #[default]
    Exact,
    /// The rest moves up, and its keys are rotated to their new positions. Nothing is fed again, but what was computed
    /// while attending to the removed rows stays so: the model may still know of them.
    Shift,
}

/// What a removal took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Rows that the removed messages had in the cache.
    pub rows: usize,
    /// How they were removed: a shift is done exactly where the template writes the rest in another way without the
    /// messages, where the messages' tokens cannot be told apart from their neighbours', or where the rows are shared and
    /// there are no pages to move them to.
    pub how: Removal,
}

/// A conversation as it was: see [`ChatHistory::mark`].
pub struct Mark {
    state: State,
    cache: KvCache,
    model: NanoModel,
}

impl ChatHistory {
    /// Takes away the last `count` messages, or all there are, and gives them back.
    pub fn pop(&mut self, count: usize) -> Vec<Message> {
        self.settle();
        let kept = self.state.messages.len().saturating_sub(count);
        let popped = self.state.messages[kept..].to_vec();
        self.keep(kept);
        popped
    }

    /// Takes away a range of messages. One that is empty takes nothing, and no row.
    pub fn remove(&mut self, messages: Range<usize>, how: Removal) -> Result<Removed> {
        self.settle();
        let len = self.state.messages.len();
        if messages.start > messages.end {
            let found = format!("{}..{}", messages.start, messages.end);
            return Err(Error::Option {
                name: "the range of messages",
                found,
                need: "it must not end before it begins",
            });
        }
        if messages.end > len {
            return Err(Error::NoSuchMessage { index: messages.start.max(len), messages: len });
        }
        if messages.is_empty() {
            return Ok(Removed { rows: 0, how });
        }
        let removed = self.take_out(messages, how)?;
        self.check();
        Ok(removed)
    }

    /// Puts another text into a message. What follows it stays, and is fed again with the next reply.
    pub fn edit(&mut self, message: usize, text: impl Into<String>) -> Result<()> {
        self.settle();
        let State { messages, said, .. } = &mut self.state;
        let len = messages.len();
        let edited = messages.get_mut(message).ok_or(Error::NoSuchMessage { index: message, messages: len })?;
        edited.content = Content::Text(text.into());
        said[message] = Default::default();
        self.forget_from(message);
        self.check();
        Ok(())
    }

    /// Takes back the last exchange: the user's last message and all that follows it, which it gives back.
    pub fn undo(&mut self) -> Vec<Message> {
        self.settle();
        let messages = &self.state.messages;
        match messages.iter().rposition(|m| m.role == "user") {
            Some(last) => {
                let first = messages[..last].iter().rposition(|m| m.role != "user").map_or(0, |i| i + 1);
                self.pop(messages.len() - first)
            }
            None => Vec::new(),
        }
    }

    /// Answers the user's last message again, in place of the answer there is. A reply that fails, or is dropped before
    /// its end, leaves that answer.
    pub fn regenerate(&mut self, options: &GenerateOptions) -> Result<Reply<'_>> {
        self.settle();
        let asked = self.state.messages.iter().rposition(|m| m.role == "user").ok_or(Error::NoMessage)?;
        let before = Before::All(Box::new(self.state.clone()));
        self.keep(asked + 1);
        let stream = self.begin(options, before)?;
        Ok(Reply::new(self, stream))
    }

    /// A second conversation that goes on from here. The two share the pages of their cache until one of them changes.
    pub fn fork(&mut self) -> Self {
        self.settle();
        let cache = self.cache.as_mut().map(KvCache::fork);
        self.with_cache(cache)
    }

    /// The same conversation on another cache.
    pub(crate) fn with_cache(&self, cache: Option<KvCache>) -> Self {
        Self {
            model: self.model.clone(),
            template: self.template.clone(),
            vars: self.vars.clone(),
            stop_tokens: self.stop_tokens.clone(),
            stop_strings: self.stop_strings.clone(),
            overflow: self.overflow,
            functions: self.functions.clone(),
            describe_functions: self.describe_functions,
            preface: self.preface.clone(),
            offered: self.offered.clone(),
            format: self.format,
            refuses_system: self.refuses_system,
            state: self.state.clone(),
            cache,
            open: None,
            turn: Arc::default(),
        }
    }

    /// Notes the conversation as it is, rows and all, for [`rollback`](ChatHistory::rollback). The mark holds the pages
    /// of its rows for as long as it lives.
    pub fn mark(&mut self) -> Mark {
        self.settle();
        let cache = self.cache.get_or_insert_with(|| self.model.cache()).fork();
        Mark { state: self.state.clone(), cache, model: self.model.clone() }
    }

    /// Makes the conversation what it was at a mark, of this conversation or of one that it was forked from.
    pub fn rollback(&mut self, mark: Mark) -> Result<()> {
        self.settle();
        if !Arc::ptr_eq(&mark.model.0, &self.model.0) {
            return Err(Error::ForeignCache);
        }
        self.state = mark.state;
        self.cache = Some(mark.cache);
        self.check();
        Ok(())
    }

    /// Whether `role` may speak next: `system` before anything else, `user` after an answer or after another message of
    /// the user, `assistant` after the user or a tool.
    pub fn turn(&self, role: &str) -> bool {
        let messages = &self.state.messages;
        let last = messages.last().map(|m| m.role.as_str());
        match role {
            "system" => last.is_none(),
            "user" => last != Some("tool"),
            "assistant" | "bot" => matches!(last, Some("user" | "tool")),
            "tool" => messages.last().is_some_and(|m| m.tool_calls.is_some()) || last == Some("tool"),
            _ => true,
        }
    }

    /// The messages as a list in the shape of the OpenAI API.
    pub fn to_json(&self) -> Value {
        self.state.messages.iter().map(|m| Value::Object(m.clone().into())).collect()
    }

    /// Puts other messages in place of those there are: a list as of [`to_json`](ChatHistory::to_json). An error names
    /// the message and the field, and changes nothing.
    pub fn from_json(&mut self, messages: Value) -> Result<()> {
        let messages = Message::from_list(messages)?;
        self.settle();
        self.state = State::default();
        messages.into_iter().for_each(|message| self.state.push(message));
        self.state.settled = self.state.messages.len();
        self.cut(0);
        self.check();
        Ok(())
    }

    /// Keeps the first `len` messages.
    fn keep(&mut self, len: usize) {
        self.state.truncate(len);
        self.cut(self.state.segments.len());
        self.check();
    }

    /// Forgets the tokens from a message on.
    fn forget_from(&mut self, message: usize) {
        if let Some(&start) = self.state.starts.get(message) {
            self.state.segments.truncate(start);
            self.state.starts.truncate(message);
            self.cut(start);
        }
    }

    /// Removes messages that are there.
    pub(crate) fn take_out(&mut self, range: Range<usize>, how: Removal) -> Result<Removed> {
        let rows = self.num_rows();
        if how == Removal::Shift
            && let Some(tokens) = self.shift_out(range.clone())?
        {
            return Ok(Removed { rows: tokens.end.min(rows) - tokens.start.min(rows), how });
        }
        let total = self.state.segments.len();
        let row = |message: usize| self.state.starts.get(message).copied().unwrap_or(total).min(rows);
        let removed = row(range.end) - row(range.start);
        self.forget_from(range.start);
        self.state.drain(range);
        Ok(Removed { rows: removed, how: Removal::Exact })
    }

    /// Removes messages without feeding the rest again, where that can be done. The tokens that went.
    fn shift_out(&mut self, range: Range<usize>) -> Result<Option<Range<usize>>> {
        let Some((state, tokens)) = self.without(&range) else { return Ok(None) };
        let before = std::mem::replace(&mut self.state, state);
        let cache = self.cache.take().unwrap_or_else(|| self.model.cache());
        let (cache, done) = self.model.0.remove_rows(cache, tokens.clone());
        self.cache = Some(cache);
        if done.is_err() {
            self.state = before;
        }
        match done {
            // Rows that others share need pages to move to. Feeding the rest again needs fewer.
            Err(Error::PoolFull { .. }) => Ok(None),
            done => done.map(|()| Some(tokens)),
        }
    }

    /// The state without some messages and the tokens that go with them, if the template writes what follows them just so
    /// without them. What it writes before whatever message comes first, such as a system prompt of its own, stays.
    fn without(&self, range: &Range<usize>) -> Option<(State, Range<usize>)> {
        let mut state = self.state.clone();
        let (&first, &end) = (state.starts.get(range.start)?, state.starts.get(range.end)?);
        let text = self.render(&state.messages, true).ok()?;
        let mut prompt = std::mem::take(&mut state.segments).in_text(&text, &self.same())?;
        let rest = &text[prompt.text_at(end)?..];
        state.drain(range.clone());
        let shorter = self.render(&state.messages, true).ok()?;
        let kept = shorter.strip_suffix(rest).filter(|kept| text.starts_with(*kept))?;
        let tokens = prompt.token_at(kept.len(), self.model.tokenizer()).ok()?..end;
        state.segments = prompt.segments;
        if tokens.is_empty() || tokens.start < first || !state.segments.remove(tokens.clone()) {
            return None;
        }
        state.starts.drain(range.clone());
        state.starts[range.start..].iter_mut().for_each(|start| *start -= tokens.len());
        state.starts[range.start] = first;
        Some((state, tokens))
    }
}

impl std::fmt::Debug for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mark").field("messages", &self.state.messages).finish_non_exhaustive()
    }
}

impl State {
    fn drain(&mut self, range: Range<usize>) {
        self.settled -= range.end.min(self.settled) - range.start.min(self.settled);
        self.messages.drain(range.clone());
        self.said.drain(range);
    }
}
