//! A machine that computes nothing: what a reply takes on it is what everything but the model takes.

use nano_kernels::{Candidate, Step};
use nano_runtime::{Limits, Result, Runner};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Says the same tokens over and over: which one comes next is a matter of the place alone.
pub struct Idle {
    limits: Limits,
    says: Vec<u32>,
    /// What it says first.
    script: Arc<Mutex<VecDeque<u32>>>,
    picked: [Vec<Candidate>; 2],
    copied: Arc<AtomicUsize>,
}

impl Idle {
    /// Tokens that it is to say before anything else.
    pub fn script(&mut self) -> Arc<Mutex<VecDeque<u32>>> {
        Arc::clone(&self.script)
    }

    /// The machine, and the count of rows that it was asked to copy.
    pub fn new(limits: Limits, says: Vec<u32>) -> (Box<Self>, Arc<AtomicUsize>) {
        let copied = Arc::new(AtomicUsize::new(0));
        let (script, picked) = Default::default();
        (Box::new(Self { limits, says, script, picked, copied: Arc::clone(&copied) }), copied)
    }
}

impl Runner for Idle {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn step(&mut self, _: &Step) -> Result<&[f32]> {
        Ok(&[])
    }

    fn can_pick(&self) -> bool {
        true
    }

    fn start(&mut self, step: &Step) -> Result<()> {
        self.picked.swap(0, 1);
        self.picked[0].clear();
        let says = &self.says;
        let mut script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
        let pick = |&row: &u32| {
            let next = step.rows[row as usize].position as usize + 1;
            Candidate { id: script.pop_front().unwrap_or(says[next % says.len()]), logit: 1.0 }
        };
        self.picked[0].extend(step.logits.iter().map(pick));
        Ok(())
    }

    fn picks(&mut self, ago: usize) -> Result<&[Candidate]> {
        Ok(&self.picked[ago])
    }

    fn copy_rows(&mut self, from: &[u32], _: &[u32]) -> Result<()> {
        self.copied.fetch_add(from.len(), Ordering::Relaxed);
        Ok(())
    }

    fn shift(&mut self, _: &[u32], _: i32) -> Result<()> {
        Ok(())
    }

    fn page_bytes(&self) -> usize {
        0
    }

    fn read_page(&mut self, _: u32, _: usize, _: &mut [u8]) -> Result<()> {
        Ok(())
    }

    fn write_page(&mut self, _: u32, _: &[u8]) -> Result<()> {
        Ok(())
    }
}
