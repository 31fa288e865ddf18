//! What a chat asks of whatever answers it: a model on this machine, a server elsewhere, a script in a test. An engine is
//! given whole lists of messages; what it keeps between two requests is its own business. Chats are in `talks`, the
//! engine of a loaded model in `local`.

use crate::stream::{Bell, Outlet, Reader, stream};
use crate::{Error, Event, GenerateOptions, KvCache, Output, Result, Stats, Stopper};
use nano_templates::Message;
use serde_json::Value;
use std::sync::Arc;

/// Whether a model calls functions in an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// As it likes.
    #[default]
    Auto,
    /// It answers in words. It is told of the functions nevertheless, so that its prompt stays what it was.
    None,
    /// It calls at least one of them, and says nothing before.
    Required,
    /// It calls the one of this name, and says nothing before.
    Named(String),
}

/// What an answer is asked for with.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The conversation, oldest message first.
    pub messages: Vec<Message>,
    /// Functions that may be called: tools of the OpenAI API, as [`BotFunction::tool`](crate::BotFunction::tool) gives
    /// them.
    pub tools: Vec<Value>,
    /// How to answer. An engine refuses what it cannot do.
    pub options: GenerateOptions,
}

/// Answers conversations. It may be asked by several threads at once.
pub trait Engine: Send + Sync {
    /// The model's name.
    fn name(&self) -> &str;

    /// Tokens that a prompt and its answer may have together.
    fn max_context_size(&self) -> usize;

    /// Tokens of the prompt that these messages and tools make, all that the template writes among them. Where only a
    /// server could say exactly, an estimate.
    fn prompt_len(&self, messages: &[Message], tools: &[Value]) -> Result<usize>;

    /// The same, without delay where that can be had, perhaps less exact: what a chat asks where its messages may exceed
    /// the context.
    fn estimated_len(&self, messages: &[Message], tools: &[Value]) -> Result<usize> {
        self.prompt_len(messages, tools)
    }

    /// Starts an answer: an assistant's message that follows the last of the request's.
    fn stream(&self, request: &Request) -> Result<Box<dyn Answer>>;

    /// Waits for an answer.
    fn predict(&self, request: &Request) -> Result<Output> {
        for event in self.stream(request)? {
            if let Event::Done(output) = event? {
                return Ok(*output);
            }
        }
        Err(Error::Stopped)
    }

    /// Gives up what is held for later requests. The engine can be used on.
    fn close(&self) {}
}

/// An answer under way: an iterator of events, of which [`Event::Done`] or an error is the last. Dropping it ends it.
pub trait Answer: Iterator<Item = Result<Event>> + Send {
    /// The next event, if one is there: never waits. `None` while there is none, and after the end.
    fn poll(&mut self) -> Option<Result<Event>>;

    /// Whether the last event was read.
    fn is_ended(&self) -> bool;

    /// A handle that ends the answer early, as [`Finish::Cancelled`](crate::Finish::Cancelled).
    fn stopper(&self) -> Stopper;
}

/// The two ends of an answer that is made on a thread of its own.
pub fn answer() -> (AnswerSink, AnswerStream) {
    let bell = Arc::new(Bell::default());
    let stopper = Stopper::new(Arc::clone(&bell));
    let (outlet, reader) = stream(usize::MAX, bell);
    (AnswerSink { outlet, stopper: stopper.clone() }, AnswerStream { reader: Some(reader), stopper })
}

/// Where an answer is put.
pub struct AnswerSink {
    outlet: Outlet<Result<Event>>,
    stopper: Stopper,
}

impl AnswerSink {
    /// Adds an event; never waits. After [`Event::Done`] or an error there must be no other.
    pub fn push(&self, event: Result<Event>) {
        self.outlet.push(event);
    }

    /// Whether nobody waits for more: it was stopped, or its reader is gone.
    pub fn is_over(&self) -> bool {
        self.stopper.is_stopped() || self.outlet.is_abandoned()
    }

    /// A handle that was given to whoever reads.
    pub fn stopper(&self) -> &Stopper {
        &self.stopper
    }
}

/// Where it is read. If whoever made it goes without an end, the end is [`Error::Stopped`].
pub struct AnswerStream {
    /// Absent after the end.
    reader: Option<Reader<Result<Event>>>,
    stopper: Stopper,
}

impl AnswerStream {
    fn note(&mut self, event: Option<Result<Event>>) -> Result<Event> {
        let event = event.unwrap_or(Err(Error::Stopped));
        if matches!(event, Ok(Event::Done(_)) | Err(_)) {
            self.reader = None;
        }
        event
    }
}

impl Iterator for AnswerStream {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Result<Event>> {
        let event = self.reader.as_ref()?.next();
        Some(self.note(event))
    }
}

impl Answer for AnswerStream {
    fn poll(&mut self) -> Option<Result<Event>> {
        let event = self.reader.as_ref()?.try_next()?;
        Some(self.note(event))
    }

    fn is_ended(&self) -> bool {
        self.reader.is_none()
    }

    fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }
}

impl Output {
    /// The end of an answer that was made elsewhere: it has no tokens and no rows here.
    pub fn elsewhere(message: Message, finish: crate::Finish, stats: Stats) -> Self {
        Self {
            text: message.content.text(),
            message,
            tokens: Vec::new(),
            finish,
            stats,
            cache: KvCache::nowhere(),
            pending: Vec::new(),
            stop_token: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Finish;

    #[test]
    fn an_answer_has_one_end() {
        let (sink, mut answer) = answer();
        assert!(answer.poll().is_none() && !answer.is_ended());
        sink.push(Ok(Event::Text("a".into())));
        let done = Output::elsewhere(Message::assistant("a"), Finish::Stop, Stats::default());
        sink.push(Ok(Event::Done(Box::new(done))));
        assert!(matches!(answer.poll(), Some(Ok(Event::Text(text))) if text == "a"));
        assert!(matches!(answer.next(), Some(Ok(Event::Done(_)))));
        assert!(answer.is_ended() && answer.next().is_none() && answer.poll().is_none());
    }

    #[test]
    fn a_maker_that_goes_is_an_error_and_a_reader_that_goes_is_told() {
        let (sink, mut stream) = answer();
        drop(sink);
        assert!(matches!(stream.next(), Some(Err(Error::Stopped))));
        assert!(stream.next().is_none());
        let (sink, stream) = answer();
        assert!(!sink.is_over());
        drop(stream);
        assert!(sink.is_over());
        let (sink, stream) = answer();
        stream.stopper().stop();
        assert!(sink.is_over());
    }
}
