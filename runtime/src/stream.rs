//! The two ways in which the worker and its users wait for each other without ever blocking the worker: a bell that
//! wakes the worker, and a bounded stream of notes from one sequence to its reader.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Locks a mutex whose data is sound even if a holder panicked.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes the worker. A ring is kept until the worker waits, so none is lost.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: Mutex<bool>,
    ring: Condvar,
}

impl Bell {
    pub(crate) fn ring(&self) {
        *lock(&self.rung) = true;
        self.ring.notify_one();
    }

    /// Waits for a ring, or until the time is over.
    pub(crate) fn wait(&self, limit: Option<Duration>) {
        let quiet = |rung: &mut bool| !*rung;
        let rung = lock(&self.rung);
        let mut rung = match limit {
            None => self.ring.wait_while(rung, quiet).unwrap_or_else(PoisonError::into_inner),
            Some(limit) => self.ring.wait_timeout_while(rung, limit, quiet).unwrap_or_else(PoisonError::into_inner).0,
        };
        *rung = false;
    }
}

/// A stream that holds `capacity` notes before its writer is asked to pause.
pub(crate) fn stream<T>(capacity: usize, bell: Arc<Bell>) -> (Outlet<T>, Reader<T>) {
    let state = Mutex::new(State { notes: VecDeque::new(), writer: true, reader: true });
    let shared = Arc::new(Shared { state, ready: Condvar::new(), capacity, bell });
    (Outlet(Arc::clone(&shared)), Reader(shared))
}

struct Shared<T> {
    state: Mutex<State<T>>,
    ready: Condvar,
    capacity: usize,
    bell: Arc<Bell>,
}

struct State<T> {
    notes: VecDeque<T>,
    writer: bool,
    reader: bool,
}

/// The worker's end.
pub(crate) struct Outlet<T>(Arc<Shared<T>>);

impl<T> Outlet<T> {
    /// The reader is behind: no step should be made for it until it has read.
    pub(crate) fn is_full(&self) -> bool {
        lock(&self.0.state).notes.len() >= self.0.capacity
    }

    /// Nobody reads any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        !lock(&self.0.state).reader
    }

    /// Adds a note; never waits. Whoever asked [`is_full`](Outlet::is_full) before a step overfills the stream by the
    /// notes of one step at most.
    pub(crate) fn push(&self, note: T) {
        lock(&self.0.state).notes.push_back(note);
        self.0.ready.notify_one();
    }
}

impl<T> Drop for Outlet<T> {
    fn drop(&mut self) {
        lock(&self.0.state).writer = false;
        self.0.ready.notify_one();
    }
}

/// The user's end.
pub(crate) struct Reader<T>(Arc<Shared<T>>);

impl<T> Reader<T> {
    /// Waits for the next note. `None`: there will be no more.
    pub(crate) fn next(&self) -> Option<T> {
        let shared = &self.0;
        let empty = |state: &mut State<T>| state.notes.is_empty() && state.writer;
        let state = shared.ready.wait_while(lock(&shared.state), empty).unwrap_or_else(PoisonError::into_inner);
        self.take(state)
    }

    /// The next note, without waiting. `None`: there is none now. `Some(None)`: there will be no more.
    pub(crate) fn try_next(&self) -> Option<Option<T>> {
        let state = lock(&self.0.state);
        let nothing_yet = state.notes.is_empty() && state.writer;
        (!nothing_yet).then(|| self.take(state))
    }

    fn take(&self, mut state: MutexGuard<'_, State<T>>) -> Option<T> {
        let shared = &self.0;
        let was_full = state.notes.len() >= shared.capacity;
        let note = state.notes.pop_front();
        drop(state);
        if was_full {
            shared.bell.ring();
        }
        note
    }
}

impl<T> Drop for Reader<T> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.reader = false;
        // Notes may hold caches: their pages go back now.
        let notes = std::mem::take(&mut state.notes);
        drop(state);
        drop(notes);
        self.0.bell.ring();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_stream_tells_its_writer_and_rings_when_read() {
        let bell = Arc::new(Bell::default());
        let (outlet, reader) = stream(2, Arc::clone(&bell));
        outlet.push(1);
        assert!(!outlet.is_full());
        outlet.push(2);
        assert!(outlet.is_full());
        assert_eq!(reader.next(), Some(1));
        bell.wait(None);
        assert!(!outlet.is_full());
        drop(outlet);
        assert_eq!((reader.try_next(), reader.next(), reader.try_next()), (Some(Some(2)), None, Some(None)));
        let (_outlet, reader) = stream::<()>(2, Arc::default());
        assert_eq!(reader.try_next(), None);
    }

    #[test]
    fn a_dropped_reader_is_noticed() {
        let (outlet, reader) = stream(2, Arc::default());
        outlet.push(Arc::new(()));
        drop(reader);
        assert!(outlet.is_abandoned());
    }

    #[test]
    fn a_wait_ends_in_time() {
        Bell::default().wait(Some(Duration::from_millis(5)));
    }
}
