//! The engine's thread: sequences in, one step, notes out. It waits for nobody but the bell: a reader that is behind
//! or a pool without pages holds up only its own sequence.

#[path = "ahead.rs"]
mod ahead;

use crate::sample::Logits;
use crate::schedule::{Demand, seats, share};
use crate::sequence::{Cost, Sequence};
use crate::stream::Bell;
use crate::{Error, Finish, Limits, Result, Runner};
use nano_kernels::{Pick, Step};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SendError, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long sequences wait for pages while no step can be made. Pages may come back from caches that users hold.
const PATIENCE: Duration = Duration::from_millis(200);

/// What the thread is asked to do.
enum Job {
    Start(Box<Sequence>),
    Task(Task),
}

/// Something to do between two steps with the machine.
type Task = Box<dyn FnOnce(&mut dyn Runner) + Send>;

/// Owns the thread; dropping it ends the thread once the sequences in flight have ended, and waits for that unless it is
/// this thread itself that drops it: a function that a model may call can hold the model, and a sequence holds the
/// function.
pub(crate) struct Worker {
    inbox: Option<Sender<Job>>,
    bell: Arc<Bell>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    pub(crate) fn spawn(runner: Box<dyn Runner>, bell: Arc<Bell>) -> Result<Self> {
        let (inbox, jobs) = channel();
        let mut engine = Engine::new(runner, jobs, Arc::clone(&bell));
        let thread = std::thread::Builder::new()
            .name("nano-engine".into())
            .spawn(move || engine.run())
            .map_err(|error| Error::Device(format!("the engine's thread cannot be started: {error}")))?;
        Ok(Self { inbox: Some(inbox), bell, thread: Some(thread) })
    }

    pub(crate) fn start(&self, sequence: Sequence) {
        let Some(inbox) = &self.inbox else { return sequence.fail(Error::Stopped) };
        if let Err(SendError(Job::Start(unsent))) = inbox.send(Job::Start(Box::new(sequence))) {
            unsent.fail(Error::Stopped);
        }
        self.bell.ring();
    }

    /// Does something with the machine between two steps, and waits for what comes of it.
    pub(crate) fn call<T: Send + 'static>(
        &self,
        task: impl FnOnce(&mut dyn Runner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (give, result) = channel();
        let task = move |runner: &mut dyn Runner| {
            let done = call(runner, |runner| Ok(task(runner))).unwrap_or_else(|why| Err(Error::Step(why)));
            // Whoever asked waits for it.
            let _ = give.send(done);
        };
        let inbox = self.inbox.as_ref().ok_or(Error::Stopped)?;
        inbox.send(Job::Task(Box::new(task))).map_err(|_| Error::Stopped)?;
        self.bell.ring();
        result.recv().map_err(|_| Error::Stopped)?
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.inbox = None;
        self.bell.ring();
        let own = |thread: &JoinHandle<()>| thread.thread().id() == std::thread::current().id();
        if let Some(thread) = self.thread.take_if(|thread| !own(thread)) {
            // A panic was reported when it happened.
            let _ = thread.join();
        }
    }
}

struct Engine {
    runner: Box<dyn Runner>,
    limits: Limits,
    inbox: Receiver<Job>,
    tasks: Vec<Task>,
    /// Nobody can send any more.
    closed: bool,
    bell: Arc<Bell>,
    /// In flight; those that wait longest for a step come first.
    sequences: Vec<Sequence>,
    /// When the wait for pages began during which no step could be made.
    starved: Option<Instant>,
    /// The step being made and its sequences; kept for their memory.
    step: Step,
    seated: Vec<Sequence>,
    demands: Vec<Demand>,
    grants: Vec<usize>,
}

impl Engine {
    fn new(runner: Box<dyn Runner>, inbox: Receiver<Job>, bell: Arc<Bell>) -> Self {
        Self {
            limits: runner.limits(),
            runner,
            inbox,
            tasks: Vec::new(),
            closed: false,
            bell,
            sequences: Vec::new(),
            starved: None,
            step: Step::default(),
            seated: Vec::new(),
            demands: Vec::new(),
            grants: Vec::new(),
        }
    }

    fn run(&mut self) {
        loop {
            self.admit();
            for task in std::mem::take(&mut self.tasks) {
                task(&mut *self.runner);
            }
            self.reap();
            self.attend_calls();
            let starving = self.seat();
            if !self.seated.is_empty() {
                self.starved = None;
                self.step();
            } else if let Some((index, error)) = starving {
                self.starve(index, error);
            } else if self.closed && self.sequences.is_empty() {
                return;
            } else {
                let deadline = self.sequences.iter().filter_map(Sequence::deadline).min();
                self.bell.wait(deadline.map(|at| at.saturating_duration_since(Instant::now())));
            }
        }
    }

    fn admit(&mut self) {
        loop {
            match self.inbox.try_recv() {
                Ok(Job::Start(sequence)) => self.sequences.push(*sequence),
                Ok(Job::Task(task)) => self.tasks.push(task),
                Err(error) => {
                    self.closed = error == TryRecvError::Disconnected;
                    return;
                }
            }
        }
    }

    /// Ends what nobody reads any more and what was stopped.
    fn reap(&mut self) {
        self.sequences.retain(|s| !s.is_abandoned());
        for mut stopped in self.sequences.extract_if(.., |s| s.is_stopped()) {
            let end = stopped.end(Finish::Cancelled);
            stopped.finish(end, cost(&*self.runner));
        }
    }

    /// Looks after sequences that wait for functions.
    fn attend_calls(&mut self) {
        let mut next = 0;
        while next < self.sequences.len() {
            let sequence = &mut self.sequences[next];
            match if sequence.is_calling() { sequence.attend_calls(self.limits.context) } else { Ok(None) } {
                Ok(None) => next += 1,
                Ok(Some(end)) => self.sequences.remove(next).finish(end, cost(&*self.runner)),
                Err(error) => self.sequences.remove(next).fail(error),
            }
        }
    }

    /// Seats those that can go on. Returns the youngest of those that find no pages.
    fn seat(&mut self) -> Option<(usize, Error)> {
        let seats = seats(&self.limits);
        let mut starving: Option<(usize, Error)> = None;
        let mut next = 0;
        while next < self.sequences.len() && self.seated.len() < seats {
            let sequence = &mut self.sequences[next];
            if sequence.is_paused() {
                next += 1;
                continue;
            }
            let copied = match sequence.reserve() {
                Ok(None) => Ok(()),
                Ok(Some(copy)) => call(&mut *self.runner, |runner| runner.copy_rows(&copy.from, &copy.to)),
                Err(error) => {
                    let asked = sequence.asked();
                    if starving.as_ref().is_none_or(|&(other, _)| self.sequences[other].asked() <= asked) {
                        starving = Some((next, error));
                    }
                    next += 1;
                    continue;
                }
            };
            let sequence = self.sequences.remove(next);
            match copied {
                Ok(()) => self.seated.push(sequence),
                Err(why) => sequence.fail_copy(Error::Step(why)),
            }
        }
        starving
    }

    /// No step can be made and pages are wanted: waits a while for some, then lets the youngest go.
    fn starve(&mut self, index: usize, error: Error) {
        let waited = self.starved.get_or_insert_with(Instant::now).elapsed();
        if waited < PATIENCE {
            self.bell.wait(Some(PATIENCE - waited));
        } else {
            self.starved = None;
            self.sequences.remove(index).fail(error);
        }
    }

    fn step(&mut self) {
        self.demands.clear();
        self.demands.extend(self.seated.iter().map(Sequence::demand));
        share(&self.demands, &self.limits, &mut self.grants);
        self.step.rows.clear();
        self.step.logits.clear();
        self.step.sequences.truncate(self.seated.len());
        let Limits { vocab, context, .. } = self.limits;
        let mut pick = None;
        for (index, (sequence, &count)) in self.seated.iter_mut().zip(&self.grants).enumerate() {
            let before = self.step.logits.len();
            sequence.fill(&mut self.step, index, count);
            if self.step.logits.len() > before {
                pick = Some(both(pick, sequence.needs(vocab)));
            }
        }
        self.step.pick = pick.filter(|_| self.runner.can_pick()).unwrap_or_default();
        let cost = cost(&*self.runner);
        if self.step.pick == Pick::Argmax && self.step.logits.len() == self.seated.len() {
            return self.steps_ahead(cost);
        }
        match run(&mut *self.runner, &self.step, vocab) {
            Ok(logits) => {
                let (mut rest, mut wanted) = (logits, self.step.logits.iter().peekable());
                let mut end = 0;
                for (mut sequence, &count) in self.seated.drain(..).zip(&self.grants) {
                    end += count;
                    let rows = std::iter::from_fn(|| wanted.next_if(|&&row| (row as usize) < end)).count();
                    let own;
                    (own, rest) = split(rest, rows, vocab, self.step.pick);
                    match sequence.accept(count, own, context) {
                        Ok(None) => self.sequences.push(sequence),
                        Ok(Some(end)) => sequence.finish(end, cost),
                        Err(error) => sequence.fail(error),
                    }
                }
            }
            Err(why) => self.seated.drain(..).for_each(|sequence| sequence.fail(Error::Step(why.clone()))),
        }
    }
}

fn cost(runner: &dyn Runner) -> Cost {
    Cost { bytes: runner.bytes_per_step(), launches: runner.launches_per_step() }
}

/// What serves both wishes: of one sequence and, if there are any, of those before it.
fn both(before: Option<Pick>, wish: Pick) -> Pick {
    match (before, wish) {
        (None, wish) => wish,
        (Some(Pick::None), _) | (_, Pick::None) => Pick::None,
        (Some(Pick::TopK(a)), Pick::TopK(b)) => Pick::TopK(a.max(b)),
        (Some(Pick::TopK(k)), Pick::Argmax) | (Some(Pick::Argmax), Pick::TopK(k)) => Pick::TopK(k),
        (Some(Pick::Argmax), Pick::Argmax) => Pick::Argmax,
    }
}

/// What is known of the first `rows` logits rows, and of the rest.
fn split<'a>(logits: Logits<'a>, rows: usize, vocab: usize, pick: Pick) -> (Logits<'a>, Logits<'a>) {
    match logits {
        Logits::All(values) => {
            let (own, rest) = values.split_at(rows * vocab);
            (Logits::All(own), Logits::All(rest))
        }
        Logits::Best(picked) => {
            let (own, rest) = picked.split_at(rows * pick.count());
            (Logits::Best(own), Logits::Best(rest))
        }
    }
}

/// Calls a runner. A panic below is an error here: other sequences go on.
fn call<'a, T>(
    runner: &'a mut dyn Runner,
    what: impl FnOnce(&'a mut dyn Runner) -> Result<T>,
) -> std::result::Result<T, String> {
    let runner = AssertUnwindSafe((runner, what));
    let call = move || {
        let AssertUnwindSafe((runner, what)) = { runner };
        what(runner)
    };
    match catch_unwind(call) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().copied();
            let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            Err(format!("it panicked: {}", text.unwrap_or("no message")))
        }
    }
}

/// Runs a step and looks at what came of it.
fn run<'a>(runner: &'a mut dyn Runner, step: &Step, vocab: usize) -> std::result::Result<Logits<'a>, String> {
    let logits = call(runner, |runner| {
        if step.pick == Pick::None {
            return runner.step(step).map(Logits::All);
        }
        runner.start(step)?;
        runner.picks(0).map(Logits::Best)
    })?;
    let (found, each) = match logits {
        Logits::All(values) => (values.len(), vocab),
        Logits::Best(picked) => (picked.len(), step.pick.count()),
    };
    let expected = step.logits.len() * each;
    if found == expected { Ok(logits) } else { Err(format!("{found} logits came where {expected} were wanted")) }
}
