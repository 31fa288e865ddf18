//! A reply of a conversation under way, and how it joins the conversation or leaves no trace.

use crate::cache::KvCache;
use crate::chat::{ChatHistory, Said, State};
use crate::reading::Reading;
use crate::segments::{Prompt, Segment};
use crate::transcript::Told;
use crate::{Error, Event, Finish, Generation, NanoModel, Output, Result, Stopper};
use nano_models::Tokenizer;
use nano_templates::Message;
use std::collections::VecDeque;
use std::sync::Arc;

/// What was fed for a reply.
pub(crate) struct Plan {
    pub(crate) prompt: Prompt,
    /// The prompt's text.
    pub(crate) text: String,
    /// What the reply was given to begin with.
    pub(crate) prefix: Vec<u32>,
    pub(crate) prefix_text: String,
    pub(crate) told: Told,
    /// Takes the reply apart.
    pub(crate) reading: Option<Reading>,
}

impl Plan {
    /// All tokens before the first that is sampled.
    pub(crate) fn tokens(&self) -> Vec<u32> {
        let mut tokens = self.prompt.segments.tokens();
        tokens.extend_from_slice(&self.prefix);
        tokens
    }
}

/// What a reply that came to an end leaves to the conversation.
pub(crate) struct Ended {
    cache: KvCache,
    pending: Vec<u32>,
    /// As it was written, marks and all.
    text: String,
    message: Message,
    stop: Option<u32>,
    cancelled: bool,
}

/// A reply under way: an iterator of events, whose conversation is elsewhere.
///
/// It joins the conversation by [`ChatHistory::append_reply`]. Dropping it takes the turn back, and the rows of the
/// conversation are computed again.
pub struct ReplyStream {
    generation: Generation,
    stopper: Stopper,
    model: NanoModel,
    /// Events that come before those of the generation which are still to come.
    waiting: VecDeque<Event>,
    reading: Option<Reading>,
    plan: Plan,
    /// Names it to its conversation.
    turn: Arc<()>,
    ended: Option<std::result::Result<Ended, KvCache>>,
}

impl ReplyStream {
    pub(crate) fn new(
        generation: Generation,
        model: NanoModel,
        mut plan: Plan,
        turn: Arc<()>,
        overflow: Option<Event>,
    ) -> Self {
        let mut reading = plan.reading.take();
        let given = match &mut reading {
            _ if plan.prefix_text.is_empty() => Vec::new(),
            Some(reading) => reading.push(&plan.prefix_text),
            None => vec![Event::Text(plan.prefix_text.clone())],
        };
        let waiting = overflow.into_iter().chain(given).collect();
        Self { stopper: generation.stopper(), generation, model, waiting, reading, plan, turn, ended: None }
    }

    /// The next event, if one is there: never waits. `None` while there is none, and after the end.
    pub fn poll(&mut self) -> Option<Result<Event>> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(Ok(event));
            }
            let event = self.generation.poll()?;
            if let Some(event) = self.note(event) {
                return Some(event);
            }
        }
    }

    /// Whether the last event was read.
    pub fn is_ended(&self) -> bool {
        self.ended.is_some() && self.waiting.is_empty()
    }

    /// Asks for an early end. What was said so far can join the conversation, marked as cancelled.
    pub fn stop(&self) {
        self.stopper.stop();
    }

    /// A handle that stops this reply from another thread.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    pub(crate) fn turn(&self) -> &Arc<()> {
        &self.turn
    }

    /// Keeps what the conversation needs of an event, and takes text apart. `None`: nothing to tell, or others come first.
    fn note(&mut self, event: Result<Event>) -> Option<Result<Event>> {
        match event {
            Ok(Event::Text(text)) => match &mut self.reading {
                None => return Some(Ok(Event::Text(text))),
                Some(reading) => self.waiting.extend(reading.push(&text)),
            },
            Ok(Event::Done(mut output)) => {
                output.text.insert_str(0, &self.plan.prefix_text);
                let text = output.text.clone();
                output.message = match &mut self.reading {
                    None => Message::assistant(text.clone()),
                    Some(reading) => {
                        self.waiting.extend(reading.finish());
                        reading.message()
                    }
                };
                output.text = output.message.content.text();
                let cache = std::mem::replace(&mut output.cache, self.model.cache());
                self.ended = Some(Ok(Ended {
                    cache,
                    pending: output.pending.clone(),
                    text,
                    message: output.message.clone(),
                    stop: output.stop_token,
                    cancelled: output.finish == Finish::Cancelled,
                }));
                self.waiting.push_back(Event::Done(output));
            }
            Ok(event) => return Some(Ok(event)),
            Err(error) => {
                self.ended = Some(Err(self.generation.take_cache()));
                return Some(Err(error));
            }
        }
        self.waiting.pop_front().map(Ok)
    }

    /// Ends the reply where it is.
    pub(crate) fn into_parts(mut self) -> (Plan, std::result::Result<Ended, (Box<Error>, KvCache)>) {
        let mut failed = None;
        if self.ended.is_none() {
            self.stop();
            failed = self.by_ref().find_map(std::result::Result::err);
        }
        let ended = match self.ended {
            Some(Ok(ended)) => Ok(ended),
            Some(Err(cache)) => Err((Box::new(failed.unwrap_or(Error::FailedReply)), cache)),
            None => Err((Box::new(failed.unwrap_or(Error::Stopped)), self.model.cache())),
        };
        (self.plan, ended)
    }

    /// Ends it as if it had not been, and gives its cache back.
    pub(crate) fn into_cache(self) -> KvCache {
        match self.into_parts().1 {
            Ok(ended) => ended.cache,
            Err((_, cache)) => cache,
        }
    }
}

impl Iterator for ReplyStream {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Result<Event>> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(Ok(event));
            }
            let event = self.generation.next()?;
            if let Some(event) = self.note(event) {
                return Some(event);
            }
        }
    }
}

/// A reply under way: an iterator of events that holds its conversation.
///
/// It joins the conversation when [`Event::Done`] is read or, after [`stop`](Reply::stop), when it is dropped.
/// Otherwise, an error or dropping it takes the turn back.
pub struct Reply<'a> {
    history: &'a mut ChatHistory,
    /// Absent once the turn has ended.
    stream: Option<ReplyStream>,
    stopper: Stopper,
}

impl<'a> Reply<'a> {
    pub(crate) fn new(history: &'a mut ChatHistory, stream: ReplyStream) -> Self {
        Self { history, stopper: stream.stopper(), stream: Some(stream) }
    }

    /// The next event, if one is there: never waits for the model. `None` while there is none, and after the end.
    pub fn poll(&mut self) -> Option<Result<Event>> {
        let event = self.stream.as_mut()?.poll()?;
        Some(self.settle(event))
    }

    /// Whether the last event was read.
    pub fn is_ended(&self) -> bool {
        self.stream.is_none()
    }

    /// Asks for an early end. What was said so far joins the conversation, marked as cancelled.
    pub fn stop(&self) {
        self.stopper.stop();
    }

    /// A handle that stops this reply from another thread.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Waits for the end.
    pub fn wait(mut self) -> Result<Output> {
        for event in &mut self {
            if let Event::Done(output) = event? {
                return Ok(*output);
            }
        }
        Err(Error::Stopped)
    }

    /// Ends the turn with its last event.
    fn settle(&mut self, event: Result<Event>) -> Result<Event> {
        match &event {
            Ok(Event::Done(_)) | Err(_) => {
                if let Some(stream) = self.stream.take() {
                    let joined = self.history.append_reply(stream);
                    if let (Ok(_), Err(error)) = (&event, joined) {
                        return Err(error);
                    }
                }
            }
            Ok(_) => {}
        }
        event
    }
}

impl Iterator for Reply<'_> {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Result<Event>> {
        let event = self.stream.as_mut()?.next()?;
        Some(self.settle(event))
    }
}

impl Drop for Reply<'_> {
    fn drop(&mut self) {
        let Some(stream) = self.stream.take() else { return };
        if self.stopper.is_stopped() {
            // An error takes the turn back by itself.
            let _ = self.history.append_reply(stream);
        } else {
            self.history.roll_back(Some(stream.into_cache()));
        }
    }
}

impl std::fmt::Debug for ReplyStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplyStream").field("ended", &self.is_ended()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Reply<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reply").field("ended", &self.is_ended()).finish_non_exhaustive()
    }
}

impl ChatHistory {
    /// Lets a reply's tokens join the conversation, which keeps its cache. An error takes the turn back.
    pub(crate) fn commit(&mut self, plan: Plan, ended: Ended) {
        let Plan { mut prompt, text, told, .. } = plan;
        let Ended { cache, pending, text: said, message, stop, cancelled } = ended;
        let fed = prompt.segments.len();
        let mut reply = cache.tokens().get(fed..).unwrap_or_default().to_vec();
        // A reply that was stopped early may leave some of its prompt to be fed.
        reply.extend_from_slice(&pending[fed.saturating_sub(cache.len())..]);
        if stop.is_some() {
            reply.pop();
        }
        self.find_starts(&mut prompt, &text);
        let tokenizer = self.model.tokenizer();
        let text = if told.spelled { spelled(tokenizer, &said, &reply) } else { tokenizer.hide_control(&said) };
        let reply = Segment::reply(text, reply);
        let State { messages, said: notes, segments, settled, .. } = &mut self.state;
        *segments = prompt.segments;
        segments.push_reply(reply.clone(), stop);
        messages.push(message);
        notes.push(Said { reply: Some(reply), cancelled });
        *settled = messages.len();
        self.cache = Some(cache);
        self.check();
    }
}

/// The text of a reply whose control tokens are read: their spellings are hidden where they are text.
fn spelled(tokenizer: &Tokenizer, said: &str, tokens: &[u32]) -> String {
    if !tokens.iter().any(|&token| tokenizer.is_control(token)) {
        return tokenizer.hide_control(said);
    }
    let mut detokenizer = tokenizer.detokenizer_inside();
    let (mut text, mut words) = (String::new(), String::new());
    for &token in tokens {
        if tokenizer.is_control(token) {
            words += &detokenizer.finish();
            text += &tokenizer.hide_control(&std::mem::take(&mut words));
            text += &tokenizer.token_text(Some(token));
        } else {
            words += &detokenizer.push(token);
        }
    }
    words += &detokenizer.finish();
    text + &tokenizer.hide_control(&words)
}
