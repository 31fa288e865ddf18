//! What a chat talks through: messages, and answers that join them. Here is the interface, and messages that any engine
//! answers; a conversation with rows of its own is in `history`.

use crate::engine::{Answer, Engine, Request};
use crate::{ChatHistory, Error, Event, GenerateOptions, Result, Stopper};
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
pub struct EngineConversation {
    engine: Arc<dyn Engine>,
    messages: Vec<Message>,
    marked: Vec<Message>,
    answer: Option<Box<dyn Answer>>,
}

impl EngineConversation {
    /// No messages yet.
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        Self { engine, messages: Vec::new(), marked: Vec::new(), answer: None }
    }

    /// The engine.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    /// Ends the answer with its last event.
    fn note(&mut self, event: Result<Event>) -> Result<Event> {
        match &event {
            Ok(Event::Done(output)) => {
                self.messages.push(output.message.clone());
                self.answer = None;
            }
            Err(_) => self.answer = None,
            Ok(_) => {}
        }
        event
    }
}

impl Conversation for EngineConversation {
    fn messages(&self) -> &[Message] {
        &self.messages
    }

    fn append_message(&mut self, message: Message) {
        self.answer = None;
        self.messages.push(message);
    }

    fn set_messages(&mut self, messages: Vec<Message>) {
        self.answer = None;
        self.messages = messages;
    }

    fn mark(&mut self) {
        self.answer = None;
        self.marked = self.messages.clone();
    }

    fn take_back(&mut self) {
        self.answer = None;
        self.messages = self.marked.clone();
    }

    fn begin(&mut self, prompt: Option<Vec<Message>>, tools: &[Value], options: &GenerateOptions) -> Result<()> {
        self.answer = None;
        let messages = prompt.unwrap_or_else(|| self.messages.clone());
        if messages.is_empty() {
            return Err(Error::NoMessage);
        }
        let request = Request { messages, tools: tools.to_vec(), options: options.clone() };
        self.answer = Some(self.engine.stream(&request)?);
        Ok(())
    }

    fn next(&mut self) -> Option<Result<Event>> {
        // An engine that says no more and had no end.
        let event = self.answer.as_mut()?.next().unwrap_or(Err(Error::Stopped));
        Some(self.note(event))
    }

    fn poll(&mut self) -> Option<Result<Event>> {
        let answer = self.answer.as_mut()?;
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
        let (engine, messages) = (self.engine.name(), &self.messages);
        f.debug_struct("EngineConversation")
            .field("engine", &engine)
            .field("messages", messages)
            .finish_non_exhaustive()
    }
}
