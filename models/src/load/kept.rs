//! Weights that an earlier start packed: what the loader then need not read, and what it must know all the same.

use super::Loader;
use crate::Result;
use crate::names::Role;
use crate::store::Entry;
use nano_kernels::Backend;

impl<B: Backend> Loader<'_, B> {
    /// A weight that an earlier start packed, with what it found.
    pub fn kept(&mut self, key: &str) -> Option<B::Weight> {
        let (weight, entry) = self.shelf.take(key, self.backend)?;
        self.step_bytes += entry.step;
        self.broken.extend(entry.broken);
        self.reordered.extend(entry.reordered);
        Some(weight)
    }

    /// Notes a tensor that need not be read.
    pub fn pass(&mut self, role: Role, name: &str) -> Result<()> {
        let info = self.checkpoint.info(name).ok_or_else(|| crate::arch::missing(self.checkpoint, name))?;
        self.note(info, role);
        self.used.insert(name.to_string());
        Ok(())
    }

    /// How much was found so far.
    pub fn found(&self) -> (u64, usize, usize) {
        (self.step_bytes, self.broken.len(), self.reordered.len())
    }

    /// Notes a weight that was made, with what was found since.
    pub fn made(&mut self, key: String, (step, broken, reordered): (u64, usize, usize)) {
        let (broken, reordered) = (self.broken[broken..].to_vec(), self.reordered[reordered..].to_vec());
        let step = self.step_bytes - step;
        self.shelf.made(|| Entry::new(key, step, broken, reordered));
    }
}
