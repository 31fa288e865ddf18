//! Runs the PTX that is checked in for the CUDA kernels on a processor, so that their tests need no device: what runs
//! here is what a driver is given, down to the asm strings.
//!
//! [`Interpreter`] is the door: a [`Driver`] like a device. It holds every access against the bounds of what it touches
//! and against its alignment, and it says which instruction of which file went wrong. It does not look for races or
//! missing barriers between warps (the emulator does), and it knows nothing of time.

mod float;
mod kernel;
mod lane;
mod launch;
mod machine;
mod memory;
mod module;
mod names;
mod ops;
mod statement;
mod token;
mod worker;

use launch::{Checked, Kernels};
use memory::Memory;
use nano_kernels::cuda::{About, Driver, Launch};
use nano_kernels::{Error, Result};
use std::cell::{Cell, RefCell};
use std::ops::Range;

/// A machine that interprets PTX.
pub struct Interpreter {
    about: About,
    memory: RefCell<Memory>,
    kernels: RefCell<Kernels>,
    recording: RefCell<Option<Vec<Task>>>,
    instructions: Cell<u64>,
}

/// What was asked for while a recording was on.
#[derive(Clone)]
enum Task {
    Launch(Checked),
    Copy { from: u64, to: u64, bytes: usize },
}

/// A recorded sequence of launches and copies.
pub struct Recording(Vec<Task>);

impl Interpreter {
    /// A machine of compute capability 7.2 or 8.7 (72, 87; others from 80 on will do), with the kernels of this project.
    pub fn new(capability: u32) -> Result<Self> {
        let target = if capability >= 80 { "compute_80" } else { "compute_72" };
        Self::with(about(capability), Kernels::shipped(target)?)
    }

    /// A machine with the kernels of some texts, each with a name that errors will show.
    pub fn of_texts(capability: u32, texts: &[(&str, &str)]) -> Result<Self> {
        Self::with(about(capability), Kernels::new(texts.iter().map(|&(n, t)| (n.to_owned(), t.to_owned())))?)
    }

    fn with(about: About, kernels: Kernels) -> Result<Self> {
        Ok(Self {
            about,
            memory: RefCell::default(),
            kernels: RefCell::new(kernels),
            recording: RefCell::default(),
            instructions: Cell::new(0),
        })
    }

    /// Decodes every kernel, so that an instruction that is not known shows before a launch; gives their number.
    pub fn decode_all(&self) -> Result<usize> {
        self.kernels.borrow_mut().all(&mut self.memory.borrow_mut())
    }

    /// How many instructions all warps have done so far.
    pub fn instructions(&self) -> u64 {
        self.instructions.get()
    }

    fn perform(&self, task: &Task) -> Result<()> {
        match task {
            Task::Launch(launch) => {
                let done = launch.run(&self.memory.borrow())?;
                self.instructions.set(self.instructions.get() + done);
                Ok(())
            }
            Task::Copy { from, to, bytes } => {
                let memory = self.memory.borrow();
                let mut copied = vec![0; *bytes];
                memory.read(*from, &mut copied).and_then(|()| memory.write(*to, &copied)).map_err(failed("a copy"))
            }
        }
    }

    /// Does a task now, or keeps it if a recording is on.
    fn accept(&self, task: Task) -> Result<()> {
        if let Some(tasks) = self.recording.borrow_mut().as_mut() {
            tasks.push(task);
            return Ok(());
        }
        self.perform(&task)
    }

    fn refuse_while_recording(&self, what: &str) -> Result<()> {
        if self.recording.borrow().is_some() {
            return Err(Error::Unsupported(format!("{what} while launches are recorded")));
        }
        Ok(())
    }
}

fn failed(what: &str) -> impl Fn(String) -> Error {
    move |why| Error::Unsupported(format!("{what}: {why}"))
}

fn about(capability: u32) -> About {
    About {
        name: format!("PTX interpreter, sm_{capability}"),
        capability,
        multiprocessors: 4,
        // One block's share of a multiprocessor, by the manual's table of compute capabilities.
        shared_bytes: match capability {
            ..80 => 96 << 10,
            80 | 87 => 163 << 10,
            86 | 89 => 99 << 10,
            _ => 227 << 10,
        },
        integrated: true,
        memory: 8 << 30,
        driver: 11040,
    }
}

/// Host memory.
pub struct Host(Vec<u8>);

impl AsRef<[u8]> for Host {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl AsMut<[u8]> for Host {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Driver for Interpreter {
    type Host = Host;
    type Graph = Recording;

    fn about(&self) -> &About {
        &self.about
    }

    fn guards(&self) -> bool {
        true
    }

    fn alloc(&self, bytes: usize, what: &str) -> Result<u64> {
        self.refuse_while_recording("an allocation")?;
        self.memory.borrow_mut().alloc(bytes, what)
    }

    fn host(&self, bytes: usize) -> Result<Host> {
        Ok(Host(vec![0; bytes]))
    }

    fn upload(&self, to: u64, from: &Host, range: Range<usize>) -> Result<()> {
        self.refuse_while_recording("an upload")?;
        self.memory.borrow().write(to, &from.0[range]).map_err(failed("an upload"))
    }

    fn download(&self, from: u64, to: &mut Host, range: Range<usize>) -> Result<()> {
        self.refuse_while_recording("a download")?;
        self.memory.borrow().read(from, &mut to.0[range]).map_err(failed("a download"))
    }

    fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<()> {
        self.accept(Task::Copy { from, to, bytes })
    }

    fn launch(&self, launch: Launch<'_>) -> Result<()> {
        let kernel = self.kernels.borrow_mut().get(launch.kernel, &mut self.memory.borrow_mut())?;
        let checked = Checked::new(kernel, &launch, &self.about, &self.memory.borrow())?;
        self.accept(Task::Launch(checked))
    }

    fn mark(&self, _mark: usize) -> Result<()> {
        self.refuse_while_recording("a mark")
    }

    fn wait(&self, _mark: usize) -> Result<()> {
        self.refuse_while_recording("waiting")
    }

    fn finish(&self) -> Result<()> {
        self.refuse_while_recording("waiting")
    }

    fn begin_record(&self) -> Result<()> {
        self.refuse_while_recording("a recording")?;
        *self.recording.borrow_mut() = Some(Vec::new());
        Ok(())
    }

    fn end_record(&self) -> Result<Recording> {
        let tasks = self.recording.borrow_mut().take();
        tasks.map(Recording).ok_or_else(|| Error::Unsupported("no recording was begun".to_owned()))
    }

    fn replay(&self, graph: &Recording) -> Result<()> {
        self.refuse_while_recording("a replay")?;
        graph.0.iter().try_for_each(|task| self.perform(task))
    }
}
