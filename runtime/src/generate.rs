//! What a user sees of a generation: the options that go in, the events that come out, and the handle that yields
//! them. The work is done elsewhere, by the worker.

use crate::model::Shared;
use crate::stream::{Bell, Reader, lock};
use crate::{
    BotFunctions, CallReport, Constraint, Error, KvCache, Overflow, Result, Sampling, Stats, ToolCall, ToolChoice,
};
use nano_templates::Message;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// How to generate, and when to stop.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateOptions {
    /// Tokens to sample at most.
    pub max_new_tokens: usize,
    /// Tokens that must have been sampled before a stop token or a stop string counts.
    pub min_new_tokens: usize,
    /// How to draw tokens; `None` takes the most likely one, of equals the lowest id.
    pub sampling: Option<Sampling>,
    /// Divides positive and multiplies negative logits of tokens among the last [`PENALTY_WINDOW`]; 1 does nothing.
    /// Control tokens are never penalised: they are the conversation's frame.
    ///
    /// [`PENALTY_WINDOW`]: crate::PENALTY_WINDOW
    pub repetition_penalty: f32,
    /// Taken from the logits of tokens among the last [`PENALTY_WINDOW`](crate::PENALTY_WINDOW).
    pub presence_penalty: f32,
    /// Taken from those logits once per occurrence.
    pub frequency_penalty: f32,
    /// Same seed and same input, same text. `None` takes a new one each time.
    pub seed: Option<u64>,
    /// Texts that end the generation and are not shown. One that spells a control token stands for that token.
    pub stop: Vec<String>,
    /// Go on after the model's own stop tokens.
    pub ignore_eos: bool,
    /// How a conversation's reply begins: the model goes on from there. It is part of the reply.
    pub reply_prefix: String,
    /// Functions that may be called in the middle of the text. In a conversation they take the place of its own, unless
    /// there are none.
    pub functions: BotFunctions,
    /// What the reply must look like. It comes before everything else that changes what is drawn. A reply that is complete
    /// by it ends, whatever `min_new_tokens` and `ignore_eos` say. In a round it holds for every answer, so that tools are
    /// called only if it admits calls.
    pub constraint: Option<Constraint>,
    /// Whether the tools that a conversation offers are called in this reply.
    pub tool_choice: ToolChoice,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            max_new_tokens: 128,
            min_new_tokens: 0,
            sampling: None,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: None,
            stop: Vec::new(),
            ignore_eos: false,
            reply_prefix: String::new(),
            functions: BotFunctions::default(),
            constraint: None,
            tool_choice: ToolChoice::Auto,
        }
    }
}

impl GenerateOptions {
    /// Looks for values that cannot be used.
    pub fn check(&self) -> Result<()> {
        let number = |name, value: f32, fits: bool, need| {
            if fits && value.is_finite() { Ok(()) } else { Err(Error::Option { name, found: value.to_string(), need }) }
        };
        if self.max_new_tokens == 0 {
            return Err(Error::Option { name: "max_new_tokens", found: "0".into(), need: "it must be 1 or more" });
        }
        if self.min_new_tokens > self.max_new_tokens {
            let found = format!("{}, and max_new_tokens is {}", self.min_new_tokens, self.max_new_tokens);
            return Err(Error::Option { name: "min_new_tokens", found, need: "it must not be larger" });
        }
        if self.stop.iter().any(String::is_empty) {
            return Err(Error::Option { name: "stop", found: "an empty text".into(), need: "it would match anywhere" });
        }
        number("repetition_penalty", self.repetition_penalty, self.repetition_penalty > 0.0, "it must be above 0")?;
        number("presence_penalty", self.presence_penalty, true, "it must be a number")?;
        number("frequency_penalty", self.frequency_penalty, true, "it must be a number")?;
        if let Some(Sampling { temperature, top_p, min_p, .. }) = self.sampling {
            number("temperature", temperature, temperature >= 0.0, "it must be 0 or more")?;
            number("top_p", top_p, top_p > 0.0 && top_p <= 1.0, "it must be above 0 and at most 1")?;
            number("min_p", min_p, (0.0..=1.0).contains(&min_p), "it must be between 0 and 1")?;
        }
        self.constraint.as_ref().map_or(Ok(()), Constraint::check)
    }
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Finish {
    /// A stop token or a stop string, or a reply that is complete by its constraint.
    Stop,
    /// `max_new_tokens` were sampled.
    Length,
    /// It was stopped from outside.
    Cancelled,
    /// The context is full.
    Context,
}

impl Finish {
    /// The name used in events for other programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Finish::Stop => "stop",
            Finish::Length => "length",
            Finish::Cancelled => "cancelled",
            Finish::Context => "context",
        }
    }
}

/// One thing that happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// New text: whole characters, and nothing that may belong to a stop string.
    Text(String),
    /// What the model thinks before it answers or calls.
    Reasoning(String),
    /// The model calls a tool. Nothing was run: that is up to whoever offered it. Its `id` is there.
    ToolCall(Box<ToolCall>),
    /// A function was called in the middle of the text: it comes after the text that called it, and before its result,
    /// which is text as well.
    Call(Box<CallReport>),
    /// The oldest exchanges of a conversation were removed to make room. Comes first.
    Overflow {
        /// What was done: `Drop` or `Shift`.
        policy: Overflow,
        /// Rows of the cache that the removed messages had.
        removed_rows: usize,
    },
    /// The end; nothing follows.
    Done(Box<Output>),
}

/// A finished generation.
#[derive(Debug)]
pub struct Output {
    /// The whole text, as it was shown: without reasoning and calls of tools.
    pub text: String,
    /// The assistant's message: the text, the reasoning and the calls of tools. What joins a conversation.
    pub message: Message,
    /// The tokens as they were sampled, those of a stop included.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub finish: Finish,
    /// What it took.
    pub stats: Stats,
    /// The cache with all rows that were fed. For a reply of a conversation, which keeps its cache, an empty one.
    pub cache: KvCache,
    /// Tokens that belong after those in the cache and have no row yet; to go on, they come first in the next prompt.
    /// Usually the last token sampled: after a stop string the text before it, after a cancelled prefill the rest of
    /// the prompt.
    pub pending: Vec<u32>,
    /// The stop token that ended the generation. It is also the last of `pending`.
    pub stop_token: Option<u32>,
}

/// What the worker writes into a sequence's stream.
pub(crate) enum Note {
    Text(String),
    Done(Box<Output>),
    Failed(Error, KvCache),
    /// Rows of logits, one after the other, from the row with this index on.
    Logits(usize, Vec<f32>),
    Scored(KvCache),
    Call(CallReport),
}

/// Stops a generation from anywhere, for instance from the handler of Ctrl-C.
#[derive(Clone, Debug)]
pub struct Stopper {
    flag: Arc<AtomicBool>,
    bell: Arc<Bell>,
    /// What is stopped with it.
    part: Arc<Mutex<Option<Stopper>>>,
}

impl Stopper {
    pub(crate) fn new(bell: Arc<Bell>) -> Self {
        Self { flag: Arc::default(), bell, part: Arc::default() }
    }

    /// Asks the generation to end within the step that is running. Text so far is kept.
    pub fn stop(&self) {
        self.flag.store(true, Ordering::Release);
        self.bell.ring();
        if let Some(part) = &*lock(&self.part) {
            part.stop();
        }
    }

    /// From now on this stops a part as well: at once, if it was stopped already. It takes the place of the last one.
    pub(crate) fn pass_on(&self, part: Stopper) {
        let mut place = lock(&self.part);
        if self.is_stopped() {
            part.stop();
        }
        *place = Some(part);
    }

    /// Whether it was asked to.
    pub fn is_stopped(&self) -> bool {
        self.flag.load(Ordering::Acquire)
    }
}

/// A generation under way: an iterator of events that ends after [`Event::Done`] or the first error.
///
/// Dropping it cancels the generation and its cache is lost; [`into_cache`](Generation::into_cache) saves the cache.
pub struct Generation {
    // Dropped first: the worker may only end once no reader is left.
    notes: Option<Reader<Note>>,
    stopper: Stopper,
    cache: Option<KvCache>,
    model: Arc<Shared>,
}

impl Generation {
    pub(crate) fn new(notes: Reader<Note>, stopper: Stopper, model: Arc<Shared>) -> Self {
        Self { notes: Some(notes), stopper, cache: None, model }
    }

    /// Asks for an early end: the events that are still to come end with [`Finish::Cancelled`].
    pub fn stop(&self) {
        self.stopper.stop();
    }

    /// A handle that stops this generation from another thread.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Waits for the end.
    pub fn wait(mut self) -> Result<Output> {
        self.finish()
    }

    /// Ends the generation if it is still going, and gives back its cache: with all rows fed so far, or after an error
    /// as it was before. Empty if [`Event::Done`], which holds the cache, was already read.
    pub fn into_cache(mut self) -> KvCache {
        self.stop();
        match self.finish() {
            Ok(output) => output.cache,
            Err(_) => self.take_cache(),
        }
    }

    /// The next event, if one is there: never waits. `None` while there is none, and after the end.
    pub fn poll(&mut self) -> Option<Result<Event>> {
        let note = self.notes.as_ref()?.try_next()?;
        Some(self.event(note))
    }

    /// The cache that an error gave back.
    pub(crate) fn take_cache(&mut self) -> KvCache {
        self.cache.take().unwrap_or_else(|| self.model.cache())
    }

    /// Reads to the end.
    pub(crate) fn finish(&mut self) -> Result<Output> {
        for event in &mut *self {
            if let Event::Done(output) = event? {
                return Ok(*output);
            }
        }
        Err(Error::Stopped)
    }

    /// The next rows of logits of a scoring run. After the last, the cache can be taken.
    pub(crate) fn next_logits(&mut self) -> Option<Result<(usize, Vec<f32>)>> {
        match self.notes.as_ref()?.next() {
            Some(Note::Logits(first, rows)) => return Some(Ok((first, rows))),
            Some(Note::Scored(cache)) => self.cache = Some(cache),
            Some(Note::Failed(error, cache)) => {
                self.notes = None;
                self.cache = Some(cache);
                return Some(Err(error));
            }
            Some(_) | None => return Some(Err(Error::Stopped)),
        }
        self.notes = None;
        None
    }

    fn event(&mut self, note: Option<Note>) -> Result<Event> {
        let event = match note {
            Some(Note::Text(text)) => return Ok(Event::Text(text)),
            Some(Note::Call(report)) => return Ok(Event::Call(Box::new(report))),
            Some(Note::Done(output)) => Ok(Event::Done(output)),
            Some(Note::Failed(error, cache)) => {
                self.cache = Some(cache);
                Err(error)
            }
            Some(Note::Logits(..) | Note::Scored(_)) | None => Err(Error::Stopped),
        };
        self.notes = None;
        event
    }
}

impl std::fmt::Debug for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generation").field("ended", &self.notes.is_none()).finish_non_exhaustive()
    }
}

impl Iterator for Generation {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Result<Event>> {
        let note = self.notes.as_ref()?.next();
        Some(self.event(note))
    }
}
