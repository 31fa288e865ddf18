//! A reply of a conversation under way, and how it joins the conversation or leaves no trace.

use crate::chat::ChatHistory;
use crate::segments::Segments;
use crate::{Event, Finish, Generation, Output, Result, Stopper};

/// A reply under way: an iterator of events.
///
/// It joins the conversation when [`Event::Done`] is read or, after [`stop`](Reply::stop), when it is dropped.
/// Otherwise, an error or dropping it takes the turn back.
pub struct Reply<'a> {
    history: &'a mut ChatHistory,
    /// Absent once the turn has ended.
    generation: Option<Generation>,
    stopper: Stopper,
    /// The conversation with the prompt, and its tokens.
    next: Segments,
    prompt: Vec<u32>,
    /// Rows in the cache before the turn.
    rows: usize,
}

impl<'a> Reply<'a> {
    pub(crate) fn new(
        history: &'a mut ChatHistory,
        generation: Generation,
        next: Segments,
        prompt: Vec<u32>,
        rows: usize,
    ) -> Self {
        let stopper = generation.stopper();
        Self { history, generation: Some(generation), stopper, next, prompt, rows }
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
        self.finish()
    }

    fn finish(&mut self) -> Result<Output> {
        for event in &mut *self {
            if let Event::Done(output) = event? {
                return Ok(*output);
            }
        }
        Err(crate::Error::Stopped)
    }

    /// Lets the output's tokens join the conversation, which keeps its cache.
    fn commit(&mut self, output: &mut Output) {
        let empty = self.history.model().cache();
        let cache = std::mem::replace(&mut output.cache, empty);
        let mut tokens: Vec<u32> = cache.tokens().iter().chain(&output.pending).copied().collect();
        debug_assert!(tokens.starts_with(&self.prompt));
        let mut reply = tokens.split_off(self.prompt.len());
        if output.stop_token.is_some() {
            reply.pop();
        }
        let mut segments = std::mem::take(&mut self.next);
        segments.push_reply(self.history.model().tokenizer().hide_control(&output.text), reply, output.stop_token);
        self.history.commit(segments, cache, output.text.clone(), output.finish == Finish::Cancelled);
    }

    fn roll_back(&mut self, generation: Generation) {
        self.history.roll_back(generation.into_cache(), self.rows);
    }
}

impl Iterator for Reply<'_> {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Result<Event>> {
        let mut event = self.generation.as_mut()?.next()?;
        match &mut event {
            Ok(Event::Text(_)) => {}
            Ok(Event::Done(output)) => {
                self.generation = None;
                self.commit(output);
            }
            Err(_) => {
                if let Some(generation) = self.generation.take() {
                    self.roll_back(generation);
                }
            }
        }
        Some(event)
    }
}

impl Drop for Reply<'_> {
    fn drop(&mut self) {
        if self.stopper.is_stopped() {
            // An error rolls the turn back by itself.
            let _ = self.finish();
        } else if let Some(generation) = self.generation.take() {
            self.roll_back(generation);
        }
    }
}
