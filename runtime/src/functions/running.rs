//! Calls on threads of their own: nobody waits for a function but by looking, a hung one is left alone, and there are
//! never many of those.

use super::function::after;
use super::{BotFunctions, Found};
use crate::stream::lock;
use serde_json::{Map, Value};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Calls that may hang at a time.
const HANGING: usize = 8;

/// What came of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct CallReport {
    /// The function.
    pub name: String,
    /// Its arguments, by the names of the parameters. Empty if what the model wrote could not be bound to them.
    pub arguments: Map<String, Value>,
    /// The text that it returned, `None` if it returns nothing; or a sentence that says why it failed.
    pub result: Result<Option<String>, String>,
    /// How long it ran.
    pub seconds: f64,
}

/// A call under way. Dropping it leaves the function alone.
pub(crate) struct Running {
    name: String,
    arguments: Map<String, Value>,
    started: Instant,
    limit: Duration,
    deadline: Instant,
    slot: Arc<Slot>,
    hanging: Arc<AtomicUsize>,
}

/// Where the thread leaves its result.
#[derive(Default)]
struct Slot {
    state: Mutex<State>,
    ready: Condvar,
}

#[derive(Default)]
enum State {
    #[default]
    Running,
    Done(Result<Option<String>, String>, f64),
    /// The result was given, or nobody waits any more.
    Left,
}

impl BotFunctions {
    /// Starts a call in a thread of its own. `wake` is called once when it is done, from that thread. A call that cannot
    /// be started is done when this returns, and wakes nobody: look at it before waiting.
    pub(crate) fn start(&self, found: Found, wake: impl FnOnce() + Send + 'static) -> Running {
        let function = self.get(&found.name).cloned();
        let limit = function.as_ref().and_then(|f| f.timeout()).unwrap_or_else(|| self.timeout());
        let (started, deadline) = (Instant::now(), after(limit));
        let (arguments, wrong) = match found.arguments {
            Ok(arguments) => (arguments, None),
            Err(why) => (Map::new(), Some(why)),
        };
        let slot = Arc::new(Slot::default());
        let hanging = Arc::clone(&self.hanging);
        let running = Running {
            name: found.name,
            arguments,
            started,
            limit,
            deadline,
            slot: Arc::clone(&slot),
            hanging: hanging.clone(),
        };
        let failed = match (wrong, function) {
            (Some(why), _) => Err(why),
            (None, None) => Err(self.unknown(&running.name)),
            (None, Some(function)) if hanging.load(Ordering::Relaxed) >= HANGING => {
                Err(function.says(&format!("it was not called, because {HANGING} earlier calls are still hanging")))
            }
            (None, Some(function)) => {
                let arguments = running.arguments.clone();
                let called = function.clone();
                let thread = std::thread::Builder::new().name("nano-function".into()).spawn(move || {
                    let result = called.call_until(&arguments, deadline);
                    slot.finish(result, started.elapsed().as_secs_f64(), &hanging);
                    wake();
                });
                match thread {
                    Ok(_) => return running,
                    Err(error) => Err(function.says(&format!("its thread cannot be started: {error}"))),
                }
            }
        };
        running.slot.finish(failed, 0.0, &running.hanging);
        running
    }
}

impl Slot {
    fn finish(&self, result: Result<Option<String>, String>, seconds: f64, hanging: &AtomicUsize) {
        let mut state = lock(&self.state);
        match *state {
            State::Left => {
                hanging.fetch_sub(1, Ordering::Relaxed);
            }
            _ => *state = State::Done(result, seconds),
        }
        drop(state);
        self.ready.notify_all();
    }
}

impl Running {
    /// What came of it, once it is done or its time is over; `None` before, and after it was given. Never waits.
    pub(crate) fn poll(&mut self) -> Option<CallReport> {
        let (result, seconds) = self.take(Instant::now() >= self.deadline)?;
        let arguments = std::mem::take(&mut self.arguments);
        Some(CallReport { name: self.name.clone(), arguments, result, seconds })
    }

    /// When its time is over.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Waits until it is done or its time is over.
    pub(super) fn wait(mut self) -> CallReport {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let running = |state: &mut State| matches!(state, State::Running);
            let state = self.slot.ready.wait_timeout_while(lock(&self.slot.state), left, running);
            drop(state.unwrap_or_else(PoisonError::into_inner));
            if let Some(report) = self.poll() {
                return report;
            }
        }
    }

    fn take(&self, late: bool) -> Option<(Result<Option<String>, String>, f64)> {
        let mut state = lock(&self.slot.state);
        match std::mem::replace(&mut *state, State::Left) {
            State::Done(result, seconds) => Some((result, seconds)),
            State::Running if late => {
                self.hanging.fetch_add(1, Ordering::Relaxed);
                let limit = self.limit.as_secs_f64();
                let why = format!("{}: it took longer than {limit} seconds", self.name);
                Some((Err(why), self.started.elapsed().as_secs_f64()))
            }
            before => {
                *state = before;
                None
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that still runs hangs from now on, until it ends.
        self.take(true);
    }
}

#[cfg(test)]
#[path = "running_tests.rs"]
mod tests;
