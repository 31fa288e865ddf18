//! What a chat talks through: messages, and answers that join them. Here is the interface, and messages that any engine
//! answers; a conversation with rows of its own is in `history`.

use super::room;
use crate::engine::{Answer, Engine, Request};
use crate::{ChatHistory, Error, Event, GenerateOptions, Overflow, Result, Stopper};
use nano_templates::Message;
use serde_json::Value;
use std::sync::Arc;

/// Messages, and answers that join them.
///
/// One answer is under way at most. Its [`Event::Done`] is read when its message has joined; an error is read when all of
/// it is gone. Whatever else is done to the messages while an answer is under way ends it first, as if it had not been; what
/// was appended for an answer that ends so, or fails, may go with it.
pub trait Conversation: Send {
    /// The messages, the system prompt among them.
    fn messages(&self) -> &[Message];

    /// Appends a message.
    fn append_message(&mut self, message: Message);

    /// Puts other messages in place of those there are. What both begin with stays as it is.
    fn set_messages(&mut self, messages: Vec<Message>);

    /// Notes the conversation as it is, for [`take_back`](Conversation::take_back).
    fn mark(&mut self);

    /// Makes the conversation what it was when it was marked.
    fn take_back(&mut self);

    /// Starts the answer to the messages. `prompt` is what to answer in their place, where a hook says so; the messages
    /// stay what they are.
    fn begin(&mut self, prompt: Option<Vec<Message>>, tools: &[Value], options: &GenerateOptions) -> Result<()>;

    /// Waits for the next event of the answer. `None`: there is no answer under way.
    fn next(&mut self) -> Option<Result<Event>>;

    /// The next event of the answer, if one is there: never waits.
    fn poll(&mut self) -> Option<Result<Event>>;

    /// A handle that ends the answer under way.
    fn stopper(&self) -> Option<Stopper>;

    /// The conversation with a local model that this is, if it is one.
    fn history(&mut self) -> Option<&mut ChatHistory> {
        None
    }
}

/// Messages that an engine answers.
///
/// Where they and the room for an answer ([`max_new_tokens`](GenerateOptions::max_new_tokens), but no more than half of the
/// context) exceed what the engine takes, the oldest exchanges are not sent any more, until half of the context is free;
/// an [`Event::Overflow`] tells. They stay in the list of messages. The system prompt and the exchange that is to be
/// answered are always sent. The engine is asked for lengths only where they may be exceeded.
pub struct EngineConversation {
    engine: Arc<dyn Engine>,
    overflow: Overflow,
    state: State,
    marked: State,
    answer: Option<Box<dyn Answer>>,
    /// Comes before the events of the answer.
    first: Option<Event>,
}

#[derive(Clone, Default)]
struct State {
    messages: Vec<Message>,
    /// The first message that is sent, besides the system prompt.
    start: usize,
}

impl EngineConversation {
    /// No messages yet.
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        let (state, marked) = Default::default();
        Self { engine, overflow: Overflow::Drop, state, marked, answer: None, first: None }
    }

    /// What to do where the engine's context is exceeded: with [`Overflow::Error`] all messages are sent, and the engine
    /// refuses them. The others are the same here.
    pub fn with_overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// The engine.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    /// Ends the answer with its last event.
    fn note(&mut self, event: Result<Event>) -> Result<Event> {
        match &event {
            Ok(Event::Done(output)) => {
                self.state.messages.push(output.message.clone());
                self.answer = None;
            }
            Err(_) => self.answer = None,
            Ok(_) => {}
        }
        event
    }

    /// What to send.
    fn request(&mut self, prompt: Option<Vec<Message>>, tools: &[Value], options: &GenerateOptions) -> Request {
        let State { messages, start } = &mut self.state;
        let made_room = match (&prompt, self.overflow) {
            (Some(_), _) | (None, Overflow::Error) => None,
            _ => room::make(&*self.engine, messages, *start, tools, options),
        };
        self.first = made_room.map(|(later, removed_rows)| {
            *start = later;
            Event::Overflow { policy: Overflow::Drop, removed_rows }
        });
        let messages = prompt.unwrap_or_else(|| room::from(messages, *start));
        let mut options = options.clone();
        if self.overflow != Overflow::Error {
            options.max_new_tokens = room::limit(&*self.engine, &messages, tools, options.max_new_tokens);
        }
        Request { messages, tools: tools.to_vec(), options }
    }
}

impl Conversation for EngineConversation {
    fn messages(&self) -> &[Message] {
        &self.state.messages
    }

    fn append_message(&mut self, message: Message) {
        self.answer = None;
        self.state.messages.push(message);
    }

    fn set_messages(&mut self, messages: Vec<Message>) {
        self.answer = None;
        let alike = self.state.messages.iter().zip(&messages).take_while(|(old, new)| old == new).count();
        let start = if alike < self.state.start { 0 } else { self.state.start };
        self.state = State { messages, start };
    }

    fn mark(&mut self) {
        self.answer = None;
        self.marked = self.state.clone();
    }

    fn take_back(&mut self) {
        self.answer = None;
        self.state = self.marked.clone();
    }

    fn begin(&mut self, prompt: Option<Vec<Message>>, tools: &[Value], options: &GenerateOptions) -> Result<()> {
        self.answer = None;
        let request = self.request(prompt, tools, options);
        if request.messages.is_empty() {
            return Err(Error::NoMessage);
        }
        self.answer = Some(self.engine.stream(&request)?);
        Ok(())
    }

    fn next(&mut self) -> Option<Result<Event>> {
        let answer = self.answer.as_mut()?;
        if let Some(event) = self.first.take() {
            return Some(Ok(event));
        }
        // An engine that says no more and had no end.
        let event = answer.next().unwrap_or(Err(Error::Stopped));
        Some(self.note(event))
    }

    fn poll(&mut self) -> Option<Result<Event>> {
        let answer = self.answer.as_mut()?;
        if let Some(event) = self.first.take() {
            return Some(Ok(event));
        }
        let event = match answer.poll() {
            None if answer.is_ended() => Err(Error::Stopped),
            event => event?,
        };
        Some(self.note(event))
    }

    fn stopper(&self) -> Option<Stopper> {
        self.answer.as_ref().map(|answer| answer.stopper())
    }
}

impl std::fmt::Debug for EngineConversation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (engine, messages) = (self.engine.name(), &self.state.messages);
        f.debug_struct("EngineConversation")
            .field("engine", &engine)
            .field("messages", messages)
            .finish_non_exhaustive()
    }
}
