//! The threads of a CPU backend: they take numbered tasks from a counter, spin for a moment between operations and
//! sleep when nothing comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a worker looks for new work before it sleeps. Operations of one step follow each other within microseconds.
const SPIN: Duration = Duration::from_micros(200);

/// A task set as the workers see it: a function with its data, borrowed for the length of [`Pool::run`].
#[derive(Clone, Copy)]
struct Work {
    call: unsafe fn(*const (), usize, usize),
    data: *const (),
    tasks: usize,
}

struct Shared {
    /// The current task set: its number above [`NUMBER`], whether workers may still join it, and how many have.
    state: AtomicU64,
    work: std::cell::UnsafeCell<Work>,
    next: AtomicUsize,
    failed: AtomicBool,
    stop: AtomicBool,
}

/// Workers may join the current task set.
const OPEN: u64 = 1 << 16;
/// Bits below count the workers that have joined.
const JOINED: u64 = OPEN - 1;
/// The task set's number starts here.
const NUMBER: u64 = OPEN << 1;

// SAFETY: `work` is written by `Pool::run` alone, while the task set is closed and no worker is in it, and read by workers
// that joined an open one; the data behind it is `Sync`, as `run` demands.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

/// A fixed set of threads, the caller's own among them.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

impl Pool {
    /// A pool of `threads` threads (at least one: the caller's).
    pub fn new(threads: usize) -> std::io::Result<Pool> {
        unsafe fn nothing(_: *const (), _: usize, _: usize) {}
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            work: std::cell::UnsafeCell::new(Work { call: nothing, data: std::ptr::null(), tasks: 0 }),
            next: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let mut pool = Pool { shared, workers: Vec::new() };
        for index in 1..threads.max(1) {
            let shared = pool.shared.clone();
            let builder = std::thread::Builder::new().name(format!("nano-cpu-{index}"));
            pool.workers.push(builder.spawn(move || work(&shared, index))?);
        }
        Ok(pool)
    }

    /// Number of threads, the caller's included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `f(task, thread)` once for every task in `0..tasks`, on all threads, and returns when all are done.
    /// `thread` is below [`threads`](Pool::threads) and no two calls with the same one run at once. Needs `&mut self`
    /// because one task set runs at a time.
    ///
    /// # Panics
    /// If a task panicked.
    pub fn run<F: Fn(usize, usize) + Sync>(&mut self, tasks: usize, f: F) {
        if self.workers.is_empty() || tasks <= 1 {
            for task in 0..tasks {
                f(task, 0);
            }
            return;
        }
        unsafe fn call<F: Fn(usize, usize)>(data: *const (), task: usize, thread: usize) {
            // SAFETY: `data` is the `f` of the `run` that is still waiting.
            unsafe { (*data.cast::<F>())(task, thread) }
        }
        let shared = &*self.shared;
        // SAFETY: the last set is closed and empty (the last run waited), so nobody reads `work`.
        unsafe { *shared.work.get() = Work { call: call::<F>, data: (&raw const f).cast(), tasks } };
        shared.next.store(0, Ordering::Relaxed);
        let number = (shared.state.load(Ordering::Relaxed) & !(NUMBER - 1)) + NUMBER;
        shared.state.store(number | OPEN, Ordering::Release);
        for worker in &self.workers {
            worker.thread().unpark();
        }
        let own = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| take(shared, 0)));
        // Every task is taken. Workers that come only now are not waited for: on a busy machine they may come late.
        shared.state.fetch_and(!OPEN, Ordering::Relaxed);
        let mut spins = 0u32;
        while shared.state.load(Ordering::Acquire) & JOINED != 0 {
            spins += 1;
            if spins.is_multiple_of(1 << 10) {
                std::thread::yield_now();
            }
            std::hint::spin_loop();
        }
        let failed = shared.failed.swap(false, Ordering::Relaxed);
        if let Err(panic) = own {
            std::panic::resume_unwind(panic);
        }
        assert!(!failed, "a task of the CPU backend panicked");
    }
}

impl Pool {
    /// Calls `f(i, chunk)` for every chunk of `width` values of `out`, `per_task` neighbouring chunks to a task.
    pub fn chunks<T: Send, F: Fn(usize, &mut [T]) + Sync>(
        &mut self,
        out: &mut [T],
        width: usize,
        per_task: usize,
        f: F,
    ) {
        struct Base<T>(*mut T);
        // SAFETY: every task makes slices of chunks of its own.
        unsafe impl<T: Send> Sync for Base<T> {}
        impl<T> Base<T> {
            fn at(&self, i: usize) -> *mut T {
                self.0.wrapping_add(i)
            }
        }
        let (width, per_task) = (width.max(1), per_task.max(1));
        let (len, base) = (out.len(), Base(out.as_mut_ptr()));
        let chunks = len.div_ceil(width);
        self.run(chunks.div_ceil(per_task), |task, _| {
            for i in task * per_task..chunks.min((task + 1) * per_task) {
                let here = width.min(len - i * width);
                // SAFETY: the chunk lies in `out`, and chunks do not overlap.
                f(i, unsafe { std::slice::from_raw_parts_mut(base.at(i * width), here) });
            }
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.state.fetch_add(NUMBER, Ordering::Release);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            let _ = worker.join();
        }
    }
}

fn take(shared: &Shared, thread: usize) {
    // SAFETY: called by the owner, or by a worker that has joined and not left, when `work` does not change.
    let work = unsafe { *shared.work.get() };
    loop {
        let task = shared.next.fetch_add(1, Ordering::Relaxed);
        if task >= work.tasks {
            return;
        }
        // SAFETY: `data` lives until `run` has seen every worker leave.
        unsafe { (work.call)(work.data, task, thread) }
    }
}

fn work(shared: &Shared, thread: usize) {
    let mut seen = 0;
    loop {
        let mut since = Instant::now();
        let mut spins = 0u32;
        let number = loop {
            let number = shared.state.load(Ordering::Acquire) & !(NUMBER - 1);
            if number != seen {
                break number;
            }
            spins += 1;
            if spins.is_multiple_of(256) {
                if since.elapsed() > SPIN {
                    std::thread::park();
                    since = Instant::now();
                } else {
                    std::thread::yield_now();
                }
            }
            std::hint::spin_loop();
        };
        seen = number;
        if shared.stop.load(Ordering::Acquire) {
            return;
        }
        let join = |state: u64| (state & !JOINED == number | OPEN).then_some(state + 1);
        if shared.state.fetch_update(Ordering::Acquire, Ordering::Relaxed, join).is_err() {
            continue; // Closed, or already another set.
        }
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| take(shared, thread)));
        if result.is_err() {
            shared.failed.store(true, Ordering::Relaxed);
        }
        shared.state.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once() {
        for threads in [1, 2, 3] {
            let mut pool = Pool::new(threads).unwrap();
            for tasks in [0, 1, 2, 7, 100] {
                for _ in 0..50 {
                    let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                    pool.run(tasks, |task, thread| {
                        assert!(thread < threads);
                        counts[task].fetch_add(1, Ordering::Relaxed);
                    });
                    assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1));
                }
            }
        }
    }

    #[test]
    fn every_chunk_is_seen_once() {
        for threads in [1, 3] {
            let mut pool = Pool::new(threads).unwrap();
            for (len, width, per_task) in [(0, 3, 1), (7, 3, 2), (9, 3, 1), (5, 8, 4), (100, 1, 7)] {
                let mut values = vec![0; len];
                pool.chunks(&mut values, width, per_task, |i, chunk| {
                    assert!(chunk.len() == width || (i + 1) * width > len);
                    chunk.iter_mut().for_each(|x| *x += i + 1);
                });
                assert!(values.iter().enumerate().all(|(at, x)| *x == at / width + 1));
            }
        }
    }

    #[test]
    fn sleeping_workers_wake() {
        let mut pool = Pool::new(2).unwrap();
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(5));
            let done = AtomicUsize::new(0);
            pool.run(10, |_, _| {
                done.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(done.load(Ordering::Relaxed), 10);
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let mut pool = Pool::new(2).unwrap();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.run(8, |task, _| assert!(task != 5, "planned"));
        }));
        assert!(result.is_err());
        let done = AtomicUsize::new(0);
        pool.run(8, |_, _| {
            done.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(done.load(Ordering::Relaxed), 8);
    }
}
