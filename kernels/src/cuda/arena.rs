//! Device memory in slabs of at most 256 MB: some Tegra drivers refuse single large allocations. Nothing is ever given
//! back before the driver goes. What a slab is used for is its owner's business.

use super::driver::Driver;
use crate::{Error, Result};

/// The most that one allocation may take.
pub const SLAB_BYTES: usize = 256 << 20;
/// What is taken from the driver at a time, unless more is needed at once: small models should not pay for 256 MB.
const STEP_BYTES: usize = 16 << 20;
/// Alignment of everything.
const ALIGN: usize = 256;

/// The slabs, and what is still free in each.
#[derive(Default)]
pub struct Arena {
    free: Vec<(u64, usize)>,
    bytes: usize,
}

impl Arena {
    /// Zeroed memory for `what`, at a multiple of 256; at most [`SLAB_BYTES`].
    pub fn take<D: Driver>(&mut self, driver: &D, bytes: usize, what: &str) -> Result<u64> {
        let bytes = bytes.max(1).next_multiple_of(ALIGN);
        if bytes > SLAB_BYTES {
            return Err(Error::Memory { what: format!("{what} (in one piece)"), bytes });
        }
        let fits = self.free.iter_mut().filter(|(_, left)| *left >= bytes).min_by_key(|(_, left)| *left);
        if let Some((at, left)) = fits {
            let taken = *at;
            *at += bytes as u64;
            *left -= bytes;
            return Ok(taken);
        }
        // A piece of half a step or more gets a slab of its own, so that little is left over at ends.
        let slab = if bytes * 2 > STEP_BYTES || driver.guards() { bytes } else { STEP_BYTES };
        let at = driver.alloc(slab, what)?;
        self.bytes += slab;
        if slab > bytes {
            self.free.push((at + bytes as u64, slab - bytes));
        }
        Ok(at)
    }

    /// Bytes taken from the driver.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
