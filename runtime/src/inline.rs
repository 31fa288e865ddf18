//! Functions in the middle of a reply: calls are found in the text as it is decoded, run one after the other on threads
//! of their own while their sequence waits, and leave text that goes on in the same reply. Knows no cache and no step.

use crate::functions::{Found, Running, Scanner};
use crate::stream::Bell;
use crate::{BotFunctions, CallReport};
use serde_json::Map;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The calls of one reply.
pub(crate) struct Inline {
    functions: BotFunctions,
    /// Absent once no more calls may be made.
    scanner: Option<Scanner>,
    waiting: VecDeque<Found>,
    running: Option<Running>,
    /// Since when the sequence waits for calls.
    since: Option<Instant>,
    calls: usize,
    time: Duration,
    bell: Arc<Bell>,
}

impl Inline {
    /// `before` is the text that the reply was given to begin with: it calls nothing.
    pub(crate) fn new(functions: &BotFunctions, before: &str, bell: Arc<Bell>) -> Self {
        let mut scanner = Scanner::new(functions);
        scanner.splice(before);
        Self {
            functions: functions.clone(),
            scanner: Some(scanner),
            waiting: VecDeque::new(),
            running: None,
            since: None,
            calls: 0,
            time: Duration::ZERO,
            bell,
        }
    }

    /// Looks for calls that a piece of decoded text completes.
    pub(crate) fn scan(&mut self, piece: &str) {
        let Some(scanner) = &mut self.scanner else { return };
        self.waiting.extend(scanner.push(piece));
        if self.is_waiting() {
            self.since.get_or_insert_with(Instant::now);
        }
    }

    /// Notes text that is a call's result.
    pub(crate) fn splice(&mut self, text: &str) {
        if let Some(scanner) = &mut self.scanner {
            scanner.splice(text);
        }
    }

    /// Calls are to be made, or under way.
    pub(crate) fn is_waiting(&self) -> bool {
        self.running.is_some() || !self.waiting.is_empty()
    }

    /// The next call that came to its end, with the text to go on with. `None`: one is under way, or all have ended.
    pub(crate) fn next(&mut self) -> Option<(CallReport, Option<String>)> {
        let report = match &mut self.running {
            Some(running) => running.poll()?,
            None => self.start()?,
        };
        self.running = None;
        if !self.is_waiting()
            && let Some(since) = self.since.take()
        {
            self.time += since.elapsed();
        }
        let text = self.functions.spliced(&report);
        Some((report, text))
    }

    /// Starts the next call. A report: it may not be made, or ended at once.
    fn start(&mut self) -> Option<CallReport> {
        let found = self.waiting.pop_front()?;
        let limit = self.functions.call_limit();
        self.calls += 1;
        if self.calls > limit {
            self.scanner = None;
            self.waiting.clear();
            let name = found.name;
            let why = format!("{name} was not called: a reply may make {limit} calls");
            return Some(CallReport { name, arguments: Map::new(), result: Err(why), seconds: 0.0 });
        }
        let bell = Arc::clone(&self.bell);
        let mut running = self.functions.start(found, move || bell.ring());
        let report = running.poll();
        self.running = Some(running);
        report
    }

    /// When the call under way must have ended.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.running.as_ref().map(Running::deadline)
    }

    /// Calls made so far.
    pub(crate) fn calls(&self) -> usize {
        self.calls.min(self.functions.call_limit())
    }

    /// How long they made the reply wait, up to now.
    pub(crate) fn time(&self) -> Duration {
        self.time + self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}
