//! Which tokens may come next, token by token. A thread of its own compiles the constraint and then computes each mask
//! while the step runs whose logits it is for.

use super::{Constraint, Vocabulary, reason};
use crate::{Error, Result};
use llguidance::Matcher;
use llguidance::toktrie::SimpleVob;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// Schemas and grammars are walked by functions that call themselves; the memory is taken as it is used.
const STACK: usize = 256 << 20;

/// How long compiling or a mask may take. Limits on their work keep nearly all of them far below.
const PATIENCE: Duration = Duration::from_secs(20);

/// The tokens that may come next.
pub(crate) struct Mask {
    /// A bit for each, the first in the lowest bit of the first word.
    pub(crate) words: Vec<u32>,
    /// The text may end here.
    may_end: bool,
}

impl Mask {
    fn new(set: SimpleVob, end: u32) -> Self {
        let may_end = set.is_allowed(end);
        let mut words = Vec::from(set);
        // The end is no token of the model.
        words[end as usize / 32] &= !(1 << (end % 32));
        Self { words, may_end }
    }

    /// Lets the stop tokens in where the text may end, then takes out those that are banned. Returns whether the text may
    /// end here.
    pub(crate) fn settle(&mut self, stops: &[u32], banned: &[u32]) -> bool {
        let may_end = self.may_end;
        stops.iter().filter(|_| may_end).for_each(|&token| self.set(token, true));
        // A grammar may ask for a stop token by its name.
        let ends = may_end || stops.iter().any(|&token| self.allows(token));
        banned.iter().for_each(|&token| self.set(token, false));
        ends
    }

    fn set(&mut self, token: u32, allowed: bool) {
        let Some(word) = self.words.get_mut(token as usize / 32) else { return };
        let bit = 1 << (token % 32);
        *word = if allowed { *word | bit } else { *word & !bit };
    }

    fn allows(&self, token: u32) -> bool {
        self.words.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1)
    }

    /// No token may come next.
    pub(crate) fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }
}

/// What is known of the text so far, and the mask that follows from it.
struct Found {
    // Large, and moved from thread to thread.
    matcher: Box<Matcher>,
    mask: Mask,
    took: Duration,
}

type Answer = std::result::Result<Found, String>;

/// The masks of one reply.
pub(crate) struct Masks {
    constraint: Constraint,
    jobs: Sender<Box<Matcher>>,
    answers: Receiver<Answer>,
    /// `None`: it is with the thread, or was lost with an error.
    matcher: Option<Box<Matcher>>,
    mask: Option<Mask>,
    complete: bool,
    /// Spent on the last token so far.
    token_time: Duration,
    time: Duration,
    worst: Duration,
}

impl Masks {
    /// Compiles a constraint that was checked, and refuses one that cannot be enforced or that no text fits.
    pub(crate) fn new(
        constraint: &Constraint,
        vocabulary: &std::result::Result<Arc<Vocabulary>, String>,
    ) -> Result<Self> {
        let vocabulary = vocabulary.clone().map_err(|problem| constraint.error(problem))?;
        let (jobs, inbox) = channel();
        let (outbox, answers) = channel();
        let own = constraint.clone();
        // It ends by itself once nobody can give it anything to do.
        std::thread::Builder::new()
            .name("nano-masks".into())
            .stack_size(STACK)
            .spawn(move || work(&own, &vocabulary, &inbox, &outbox))
            .map_err(|error| constraint.error(format!("no thread can be started for it: {error}")))?;
        let mut masks = Self {
            constraint: constraint.clone(),
            jobs,
            answers,
            matcher: None,
            mask: None,
            complete: false,
            token_time: Duration::ZERO,
            time: Duration::ZERO,
            worst: Duration::ZERO,
        };
        if masks.mask()?.is_empty() {
            return Err(constraint.error("only the empty text fits it"));
        }
        Ok(masks)
    }

    /// The tokens that may come next; waits until they are known. Whoever takes a mask may change it.
    pub(crate) fn mask(&mut self) -> Result<&mut Mask> {
        if self.mask.is_none() {
            let answer = self.answers.recv_timeout(PATIENCE).unwrap_or_else(|error| Err(late(error)));
            let Found { matcher, mask, took } = answer.map_err(|problem| self.constraint.error(problem))?;
            self.matcher = Some(matcher);
            self.spent(took);
            self.token_time = Duration::ZERO;
            self.mask = Some(mask);
        }
        self.mask.as_mut().ok_or(Error::Stopped)
    }

    /// Notes the token that came, one of the last mask, and has the next mask computed.
    pub(crate) fn push(&mut self, token: u32) -> Result<()> {
        self.mask()?;
        self.mask = None;
        let mut matcher = self.matcher.take().ok_or(Error::Stopped)?;
        let started = Instant::now();
        let pushed = matcher.consume_token(token);
        self.spent(started.elapsed());
        pushed.map_err(|error| self.constraint.error(reason::problem(&error.to_string())))?;
        if matcher.is_stopped() {
            self.complete = true;
            self.mask = Some(Mask { words: Vec::new(), may_end: true });
            return Ok(());
        }
        // A thread that ended is noticed when its answer is missed.
        let _ = self.jobs.send(matcher);
        Ok(())
    }

    /// Whether the text is complete, so that nothing can follow.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// What to say where no token can come next and the text may not end.
    pub(crate) fn dead_end(&self) -> Error {
        self.constraint.error(reason::problem("NoExtensionBias"))
    }

    /// The time that all masks took, and the most that one took. Compiling does not count.
    pub(crate) fn times(&self) -> (Duration, Duration) {
        (self.time, self.worst)
    }

    fn spent(&mut self, took: Duration) {
        self.time += took;
        self.token_time += took;
        self.worst = self.worst.max(self.token_time);
    }
}

fn late(error: RecvTimeoutError) -> String {
    match error {
        RecvTimeoutError::Timeout => format!("it takes more than {} seconds to work with", PATIENCE.as_secs()),
        RecvTimeoutError::Disconnected => "its thread has ended".into(),
    }
}

/// What the thread does: compiles, then answers each matcher with its mask.
fn work(constraint: &Constraint, vocabulary: &Vocabulary, inbox: &Receiver<Box<Matcher>>, outbox: &Sender<Answer>) {
    let mut job = compile(constraint, vocabulary);
    loop {
        let answer = job.and_then(|matcher| find(matcher, vocabulary.end));
        let lost = answer.is_err();
        if outbox.send(answer).is_err() || lost {
            return;
        }
        let Ok(matcher) = inbox.recv() else { return };
        job = Ok(matcher);
    }
}

fn compile(constraint: &Constraint, vocabulary: &Vocabulary) -> std::result::Result<Box<Matcher>, String> {
    let parser = vocabulary.factory.create_parser(constraint.grammar()).map_err(|error| {
        let message = error.to_string();
        match constraint {
            Constraint::Regex(_) => reason::regex_problem(&message),
            _ => reason::problem(&message),
        }
    })?;
    let mut matcher = Box::new(Matcher::new(Ok(parser)));
    // They say what would not be enforced.
    match matcher.grammar_warnings().first() {
        Some(warning) => Err(reason::problem(warning)),
        None => Ok(matcher),
    }
}

fn find(mut matcher: Box<Matcher>, end: u32) -> Answer {
    let started = Instant::now();
    let set = matcher.compute_mask().map_err(|error| reason::problem(&error.to_string()))?;
    Ok(Found { mask: Mask::new(set, end), took: started.elapsed(), matcher })
}
