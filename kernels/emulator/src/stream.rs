//! The machine's one stream of work: done at once, or, under a seed, as late as the rules allow.

use crate::device;
use crate::launch::{Runner, Task, mix};
use crate::memory::Host;
use nano_kernels::Result;
use std::collections::VecDeque;
use std::ops::Range;
use std::ptr;

/// Something to do. Addresses and ranges were looked at when it was asked for.
pub enum Work {
    Upload { to: u64, from: Host, range: Range<usize> },
    Download { from: u64, to: Host, range: Range<usize> },
    Copy { from: u64, to: u64, bytes: usize },
    Launch(Task),
}

/// What was asked for and what of it is done.
pub struct Stream {
    seed: u64,
    random: u64,
    waiting: VecDeque<Work>,
    done: u64,
    launches: u64,
    runner: Runner,
    /// What went wrong; nothing runs afterwards.
    failed: Option<String>,
}

impl Stream {
    pub fn new(seed: u64, threads: usize, shared_bytes: u32) -> Self {
        let runner = Runner::new(seed, threads.max(1), shared_bytes);
        Self { seed, random: seed, waiting: VecDeque::new(), done: 0, launches: 0, runner, failed: None }
    }

    /// Adds work at the end.
    pub fn push(&mut self, work: Work) -> Result<()> {
        self.alive()?;
        self.waiting.push_back(work);
        self.random = mix(self.random);
        // Late as a rule, but some time the machine keeps up.
        if self.seed == 0 || self.random.is_multiple_of(4) { self.finish() } else { Ok(()) }
    }

    /// How much was asked for so far.
    pub fn issued(&self) -> u64 {
        self.done + self.waiting.len() as u64
    }

    pub fn launches(&self) -> u64 {
        self.launches
    }

    /// Does what was asked for up to a place.
    pub fn advance(&mut self, place: u64) -> Result<()> {
        self.alive()?;
        while self.done < place
            && let Some(work) = self.waiting.pop_front()
        {
            self.done += 1;
            if let Err(message) = self.run(work) {
                self.failed = Some(message);
                break;
            }
        }
        self.alive()
    }

    /// Does everything.
    pub fn finish(&mut self) -> Result<()> {
        self.advance(self.issued())
    }

    fn alive(&self) -> Result<()> {
        self.failed.as_ref().map_or(Ok(()), |message| Err(device(message)))
    }

    fn run(&mut self, work: Work) -> std::result::Result<(), String> {
        // SAFETY: device ranges lie in one piece of memory each and host ranges in their memory, as `Emulator` saw to
        // when the work was asked for; neither goes away before the machine, and a copy's two places are apart.
        unsafe {
            match work {
                Work::Upload { to, from, range } => {
                    ptr::copy_nonoverlapping(from.at(&range), to as *mut u8, range.len());
                }
                Work::Download { from, to, range } => {
                    ptr::copy_nonoverlapping(from as *const u8, to.at(&range), range.len());
                }
                Work::Copy { from, to, bytes } => ptr::copy_nonoverlapping(from as *const u8, to as *mut u8, bytes),
                Work::Launch(task) => {
                    self.launches += 1;
                    return self.runner.run(&task, self.launches);
                }
            }
        }
        Ok(())
    }
}
