//! One sequence in flight: a cache, tokens that wait to be fed, and what becomes of the logits. Which sequence is fed
//! when is not decided here.

use crate::cache::RowCopy;
use crate::generate::{Note, Stopper};
use crate::inline::Inline;
use crate::sample::Logits;
use crate::schedule::Demand;
use crate::stream::Outlet;
use crate::transcript::{Added, Ending, Transcript};
use crate::{Error, Finish, KvCache, Limits, Output, Result, Stats};
use nano_kernels::{PREV, Pick, Row, SequenceRows, Step};
use nano_models::Tokenizer;
use nano_templates::Message;
use std::time::{Duration, Instant};

/// A generation or a scoring run, as the worker holds it.
pub(crate) struct Sequence {
    cache: KvCache,
    /// Rows at the start: what an error rolls back to.
    mark: usize,
    /// Tokens to feed, the prompt first, and how many of them were.
    feed: Vec<u32>,
    fed: usize,
    prompt: usize,
    goal: Goal,
    inline: Option<Box<Inline>>,
    /// How it ends once its calls have.
    ending: Option<Ending>,
    notes: Outlet<Note>,
    stopper: Stopper,
    clock: Clock,
    tokenizer: Tokenizer,
}

pub(crate) enum Goal {
    /// Sample a reply.
    Write(Box<Transcript>),
    /// Report the logits of all rows from this token of the feed on.
    Score { from: usize },
}

struct Clock {
    asked: Instant,
    started: Option<Instant>,
    first: Option<Instant>,
    last: Option<Instant>,
    /// How long functions had made it wait when the last token was sampled.
    waited: Duration,
}

impl Sequence {
    /// `feed` is not empty and follows what the cache holds.
    pub(crate) fn new(
        cache: KvCache,
        feed: Vec<u32>,
        goal: Goal,
        notes: Outlet<Note>,
        stopper: Stopper,
        tokenizer: Tokenizer,
        asked: Instant,
    ) -> Self {
        let clock = Clock { asked, started: None, first: None, last: None, waited: Duration::ZERO };
        let (mark, prompt) = (cache.len(), feed.len());
        let (inline, ending) = (None, None);
        Self { cache, mark, feed, fed: 0, prompt, goal, inline, ending, notes, stopper, clock, tokenizer }
    }

    /// The same, with functions that its text may call.
    pub(crate) fn with_inline(self, inline: Option<Inline>) -> Self {
        Self { inline: inline.map(Box::new), ..self }
    }

    pub(crate) fn asked(&self) -> Instant {
        self.clock.asked
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.notes.is_abandoned()
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopper.is_stopped()
    }

    /// Its reader is behind, or it waits for a function.
    pub(crate) fn is_paused(&self) -> bool {
        self.notes.is_full() || self.is_calling()
    }

    /// It waits for a function.
    pub(crate) fn is_calling(&self) -> bool {
        self.inline.as_ref().is_some_and(|inline| inline.is_waiting())
    }

    /// It has called functions.
    pub(crate) fn has_called(&self) -> bool {
        self.inline.as_ref().is_some_and(|inline| inline.calls() > 0)
    }

    /// When the function that it waits for must have ended.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.inline.as_ref()?.deadline()
    }

    /// Looks after its calls. Returns how the sequence ends, if it does.
    pub(crate) fn attend_calls(&mut self, context: usize) -> Result<Option<End>> {
        let (Some(inline), Goal::Write(transcript)) = (&mut self.inline, &mut self.goal) else { return Ok(None) };
        while let Some((report, text)) = inline.next() {
            self.notes.push(Note::Call(report));
            if let (Some(text), None) = (text, &self.ending) {
                let (shown, tokens, ending) = transcript.splice(&text)?;
                inline.splice(&text);
                self.feed.extend(tokens);
                self.ending = ending;
                if !shown.is_empty() {
                    self.notes.push(Note::Text(shown));
                }
            }
        }
        if inline.is_waiting() {
            return Ok(None);
        }
        if let Some(ending) = self.ending.take() {
            return Ok(Some(End::Written(ending)));
        }
        if transcript.is_complete() {
            return Ok(Some(self.end(Finish::Stop)));
        }
        let needed = self.cache.len() + self.feed.len() - self.fed;
        Ok((needed > context).then(|| self.end(Finish::Context)))
    }

    /// Takes pages for all that waits to be fed. What is returned must be copied first.
    pub(crate) fn reserve(&mut self) -> Result<Option<RowCopy>> {
        self.cache.reserve(self.feed.len() - self.fed)
    }

    /// The rows it could feed now.
    pub(crate) fn demand(&self) -> Demand {
        let rows = self.feed.len() - self.fed;
        let silent = match self.goal {
            Goal::Write(_) => rows - 1,
            Goal::Score { from } => from.saturating_sub(self.fed).min(rows),
        };
        Demand { rows, silent }
    }

    /// What it needs to know of the `vocab` logits of its last row.
    pub(crate) fn needs(&self, vocab: usize) -> Pick {
        match &self.goal {
            Goal::Write(transcript) => transcript.needs(vocab),
            Goal::Score { .. } => Pick::None,
        }
    }

    /// Adds its next `count` rows to a step, as the step's sequence number `index`.
    pub(crate) fn fill(&mut self, step: &mut Step, index: usize, count: usize) {
        self.clock.started.get_or_insert_with(Instant::now);
        let silent = self.demand().silent;
        self.seat(step, index);
        for (i, &token) in self.feed[self.fed..self.fed + count].iter().enumerate() {
            if i >= silent {
                step.logits.push(step.rows.len() as u32);
            }
            let position = self.cache.len() + i;
            let (slot, visible) = (self.cache.slot(position), position as u32 + 1);
            step.rows.push(Row { token, position: position as u32, slot, sequence: index as u32, visible });
        }
    }

    /// Whether it may feed the token that a step under way, of `count` rows of its own, is about to choose: if nothing but
    /// that token can follow, whatever it is, and there is room for it.
    pub(crate) fn can_go_ahead(&mut self, count: usize, limits: &Limits) -> bool {
        let Goal::Write(transcript) = &self.goal else { return false };
        let free = !self.is_paused() && !self.is_stopped() && !self.is_abandoned();
        let room = self.cache.len() + count < limits.context;
        let fed = self.fed + count == self.feed.len();
        free && fed && room && transcript.wants_more() && matches!(self.cache.reserve(count + 1), Ok(None))
    }

    /// Adds the row of that token: what the run before picks for its logits row `pick`.
    pub(crate) fn fill_ahead(&self, step: &mut Step, index: usize, count: usize, pick: usize) {
        self.seat(step, index);
        let position = self.cache.len() + count;
        let (slot, visible) = (self.cache.slot(position), position as u32 + 1);
        step.logits.push(step.rows.len() as u32);
        step.rows.push(Row {
            token: PREV + pick as u32,
            position: position as u32,
            slot,
            sequence: index as u32,
            visible,
        });
    }

    /// Whether a row fed ahead at this position is the very row that it would feed now.
    pub(crate) fn follows(&self, position: u32) -> bool {
        self.cache.len() == position as usize && self.feed.len() == self.fed + 1 && !self.is_calling()
    }

    /// Notes its pages as the step's sequence number `index`.
    fn seat(&self, step: &mut Step, index: usize) {
        if step.sequences.len() <= index {
            step.sequences.push(SequenceRows::default());
        }
        let pages = &mut step.sequences[index].pages;
        pages.clear();
        pages.extend_from_slice(self.cache.pages());
    }

    /// The step wrote `count` rows; `logits` are those of them that wanted some. Returns how the sequence ends, if it
    /// does. `context` is how many rows it may have.
    pub(crate) fn accept(&mut self, count: usize, logits: Logits<'_>, context: usize) -> Result<Option<End>> {
        let first = self.fed + self.demand().silent.min(count);
        self.cache.wrote(&self.feed[self.fed..self.fed + count]);
        self.fed += count;
        match &mut self.goal {
            Goal::Score { .. } => {
                if !logits.is_empty() {
                    self.notes.push(Note::Logits(first, logits.all().to_vec()));
                }
                Ok((self.fed == self.feed.len()).then_some(End::Scored))
            }
            Goal::Write(_) if logits.is_empty() => Ok(None),
            Goal::Write(transcript) => {
                let Added { shown, piece, ending } = transcript.sample(logits)?;
                let now = Instant::now();
                self.clock.first.get_or_insert(now);
                self.clock.last = Some(now);
                if !shown.is_empty() {
                    self.notes.push(Note::Text(shown));
                }
                if let Some(inline) = &mut self.inline {
                    self.clock.waited = inline.time();
                    inline.scan(&piece);
                    if inline.is_waiting() {
                        self.feed.extend(transcript.tokens().last());
                        self.ending = ending;
                        return Ok(None);
                    }
                }
                if let Some(ending) = ending {
                    return Ok(Some(End::Written(ending)));
                }
                if transcript.is_complete() {
                    return Ok(Some(self.end(Finish::Stop)));
                }
                if self.cache.len() >= context {
                    return Ok(Some(self.end(Finish::Context)));
                }
                self.feed.extend(transcript.tokens().last());
                Ok(None)
            }
        }
    }

    /// How it ends if it is ended from outside.
    pub(crate) fn end(&mut self, finish: Finish) -> End {
        let Goal::Write(transcript) = &mut self.goal else { return End::Scored };
        if let Some(ending) = self.ending.take() {
            return End::Written(ending);
        }
        let (text, ending) = transcript.end(finish);
        if !text.is_empty() {
            self.notes.push(Note::Text(text));
        }
        End::Written(ending)
    }

    /// Reports the end.
    pub(crate) fn finish(self, end: End, cost: Cost) {
        let (Goal::Write(transcript), End::Written(ending)) = (self.goal, end) else {
            return self.notes.push(Note::Scored(self.cache));
        };
        let (calls, waited) = self.inline.as_ref().map_or((0, Duration::ZERO), |i| (i.calls(), i.time()));
        let spliced_tokens = transcript.spliced();
        let (mask_time, worst_mask_time) = transcript.mask_times();
        let (text, tokens) = transcript.into_parts();
        let mut cache = self.cache;
        // What stays, as if all of it had been fed; then the part that has no row.
        let mut stays = self.feed[..self.prompt].to_vec();
        stays.extend_from_slice(&tokens[..ending.keep]);
        if !ending.again.is_empty()
            && let Some(&last) = stays.last()
        {
            match self.tokenizer.encode_after(last, &self.tokenizer.hide_control(&ending.again)) {
                Ok(again) => stays.extend(again),
                Err(error) => {
                    cache.truncate(self.mark);
                    return self.notes.push(Note::Failed(error.into(), cache));
                }
            }
        }
        cache.truncate(self.mark + self.prompt + ending.keep);
        let pending = stays.split_off(cache.len() - self.mark);
        debug_assert_eq!(cache.tokens()[self.mark..], stays);
        let stats = Stats {
            input_tokens: self.prompt,
            reused_tokens: self.mark,
            output_tokens: tokens.len(),
            spliced_tokens,
            function_calls: calls,
            function_time: waited.as_secs_f64(),
            mask_time: mask_time.as_secs_f64(),
            worst_mask_time: worst_mask_time.as_secs_f64(),
            bytes_per_token: cost.bytes,
            launches_per_token: cost.launches,
            ..self.clock.times()
        };
        let Ending { finish, stop_token, .. } = ending;
        self.notes.push(Note::Done(Box::new(Output {
            message: Message::assistant(text.clone()),
            text,
            tokens,
            finish,
            stats,
            cache,
            pending,
            stop_token,
        })));
    }

    /// Reports an error and gives the cache back as it came.
    pub(crate) fn fail(self, error: Error) {
        let mut cache = self.cache;
        cache.truncate(self.mark);
        self.notes.push(Note::Failed(error, cache));
    }

    /// The same, after a page of its own was not filled: the rows of that page are lost.
    pub(crate) fn fail_copy(mut self, error: Error) {
        self.cache.forget_page(self.cache.len());
        self.fail(error);
    }
}

/// What a step of one row costs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Bytes of weights read.
    pub(crate) bytes: u64,
    /// Kernels launched.
    pub(crate) launches: u64,
}

/// How a sequence ends.
pub(crate) enum End {
    Written(Ending),
    Scored,
}

impl Clock {
    fn times(&self) -> Stats {
        let seconds = |from: Option<Instant>, to: Option<Instant>| match (from, to) {
            (Some(from), Some(to)) => to.duration_since(from).as_secs_f64(),
            _ => 0.0,
        };
        Stats {
            prefill_time: seconds(self.started, self.first.or_else(|| Some(Instant::now()))),
            decode_time: (seconds(self.first, self.last) - self.waited.as_secs_f64()).max(0.0),
            first_token_time: seconds(Some(self.asked), self.first),
            ..Stats::default()
        }
    }
}
