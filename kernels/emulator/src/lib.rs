//! A machine for the CUDA backend that runs the kernels' own source on a processor, and says what is wrong with them:
//! deadlocks, parted warps, misaligned access, missing waits, stores out of bounds, wrong arguments. For tests; it tells
//! nothing about speed.
//!
//! [`Emulator`] is the door. The kernels are C++ here (`cpp/` gives them CUDA's language), compiled by the build script
//! for both ARCHes. What no source shows is not seen here: the PTX itself, and how a device rounds inside its products.

mod launch;
mod memory;
mod stream;

pub use memory::Host;

use launch::{Entry, Task};
use memory::Memory;
use nano_kernels::cuda::{About, Driver, Launch, MARKS};
use nano_kernels::{Error, Result};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use stream::{Stream, Work};

/// What machine to be, and how to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which of the two builds of the kernels: 72 or 80.
    pub arch: u32,
    /// 0: threads and blocks in order, copies at once. Else threads, blocks and copies in an order drawn from this
    /// number, as late or as early as the rules allow: what misses a barrier or a wait then shows for most numbers.
    pub seed: u64,
    /// Processor threads, each with a block at a time.
    pub threads: usize,
    /// Multiprocessors that it claims to have.
    pub multiprocessors: u32,
    /// Bytes of memory that it has.
    pub memory: u64,
    /// Whether it claims to share its memory with the processor.
    pub integrated: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { arch: 80, seed: 0, threads: 1, multiprocessors: 4, memory: 4 << 30, integrated: false }
    }
}

/// The emulated machine. Clones are the same machine.
#[derive(Clone)]
pub struct Emulator(Arc<Machine>);

struct Machine {
    about: About,
    options: Options,
    entries: HashMap<&'static str, &'static Entry>,
    memory: Mutex<Memory>,
    state: Mutex<State>,
}

struct State {
    stream: Stream,
    recording: Option<Vec<Task>>,
    marks: [u64; MARKS],
}

/// A recorded sequence of launches.
pub struct Graph(Vec<Task>);

impl Emulator {
    /// A machine of its own. An ARCH without kernels is an error.
    pub fn new(options: Options) -> Result<Self> {
        let (capability, shared_bytes) = match options.arch {
            72 => (72, 96 << 10),
            80 => (87, 163 << 10),
            other => return Err(device(format!("the emulator has kernels for ARCH 72 and 80, not {other}"))),
        };
        let about = About {
            name: format!("emulator of sm_{capability}"),
            capability,
            multiprocessors: options.multiprocessors,
            shared_bytes,
            integrated: options.integrated,
            memory: options.memory,
            driver: 12060,
        };
        let entries = launch::entries(options.arch).into_iter().map(|entry| (entry.name(), entry)).collect();
        let state = State {
            stream: Stream::new(options.seed, options.threads, shared_bytes),
            recording: None,
            marks: [0; MARKS],
        };
        let (memory, state) = (Mutex::new(Memory::new(options.memory)), Mutex::new(state));
        Ok(Self(Arc::new(Machine { about, options, entries, memory, state })))
    }

    /// Names of the kernels that it has, in order.
    pub fn kernels(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.0.entries.keys().copied().collect();
        names.sort_unstable();
        names
    }

    /// Launches done so far.
    pub fn launches(&self) -> u64 {
        self.0.state().stream.launches()
    }

    /// Finishes all work and looks at the bytes around every piece of memory: an error names the piece whose
    /// neighbourhood was written. The last clone of a machine does this when it is dropped, and panics.
    pub fn check(&self) -> Result<()> {
        self.0.state().stream.finish()?;
        self.0.memory().check()
    }
}

impl Machine {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, for what must not be asked for while launches are recorded.
    fn outside_recording(&self, what: &str) -> Result<MutexGuard<'_, State>> {
        let state = self.state();
        match state.recording {
            Some(_) => Err(device(format!("{what} while launches are recorded"))),
            None => Ok(state),
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let memory = self.memory.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = memory.check() {
            panic!("{error}");
        }
    }
}

impl Driver for Emulator {
    type Host = Host;
    type Graph = Graph;

    fn about(&self) -> &About {
        &self.0.about
    }

    fn alloc(&self, bytes: usize, what: &str) -> Result<u64> {
        drop(self.0.outside_recording("memory is asked for")?);
        self.0.memory().alloc(bytes, what)
    }

    fn host(&self, bytes: usize) -> Result<Host> {
        Host::new(bytes)
    }

    fn upload(&self, to: u64, from: &Host, range: Range<usize>) -> Result<()> {
        let mut state = self.0.outside_recording("an upload")?;
        from.holds(&range)?;
        self.0.memory().holds("an upload", to, range.len())?;
        state.stream.push(Work::Upload { to, from: from.clone_handle(), range })
    }

    fn download(&self, from: u64, to: &mut Host, range: Range<usize>) -> Result<()> {
        let mut state = self.0.outside_recording("a download")?;
        to.holds(&range)?;
        self.0.memory().holds("a download", from, range.len())?;
        if self.0.options.seed != 0 {
            // Whoever reads before waiting does not find what was there before.
            to.as_mut()[range.clone()].fill(0xff);
        }
        state.stream.push(Work::Download { from, to: to.clone_handle(), range })
    }

    fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<()> {
        let mut state = self.0.outside_recording("a copy")?;
        let memory = self.0.memory();
        memory.holds("a copy's source", from, bytes)?;
        memory.holds("a copy's target", to, bytes)?;
        if from.abs_diff(to) < bytes as u64 {
            return Err(device(format!("a copy of {bytes} bytes between places {} bytes apart", from.abs_diff(to))));
        }
        drop(memory);
        state.stream.push(Work::Copy { from, to, bytes })
    }

    fn launch(&self, launch: Launch<'_>) -> Result<()> {
        let task = Task::new(&self.0.entries, &self.0.about, &self.0.memory(), launch)?;
        let mut state = self.0.state();
        match &mut state.recording {
            Some(tasks) => {
                tasks.push(task);
                Ok(())
            }
            None => state.stream.push(Work::Launch(task)),
        }
    }

    fn mark(&self, mark: usize) -> Result<()> {
        let mut state = self.0.outside_recording("a mark")?;
        let place = state.stream.issued();
        *slot(&mut state.marks, mark)? = place;
        Ok(())
    }

    fn wait(&self, mark: usize) -> Result<()> {
        let mut state = self.0.outside_recording("a wait")?;
        let place = *slot(&mut state.marks, mark)?;
        state.stream.advance(place)
    }

    fn finish(&self) -> Result<()> {
        self.0.outside_recording("a wait")?.stream.finish()
    }

    fn begin_record(&self) -> Result<()> {
        self.0.outside_recording("another recording")?.recording = Some(Vec::new());
        Ok(())
    }

    fn end_record(&self) -> Result<Graph> {
        let tasks = self.0.state().recording.take();
        tasks.map(Graph).ok_or_else(|| device("the end of a recording that was not begun"))
    }

    fn replay(&self, graph: &Graph) -> Result<()> {
        let mut state = self.0.outside_recording("a replay")?;
        graph.0.iter().try_for_each(|task| state.stream.push(Work::Launch(task.clone())))
    }
}

fn slot(marks: &mut [u64; MARKS], mark: usize) -> Result<&mut u64> {
    marks.get_mut(mark).ok_or_else(|| device(format!("mark {mark}, where there are {MARKS}")))
}

fn device(message: impl Into<String>) -> Error {
    Error::Device(message.into())
}
