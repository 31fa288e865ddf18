//! Zeroed memory that costs nothing until it is touched. Weights come from slabs on huge pages: a step reads all of them,
//! and with small pages it would spend as long on address translation as on reading.

use crate::{Error, Result};
use memmap2::MmapMut;
use std::sync::Arc;

/// Address space taken at once for weights. What is not used of it costs nothing.
const SLAB: usize = 64 << 20;
/// Every block starts at a multiple of this.
const ALIGN: usize = 64;

/// A mapping that several blocks share.
struct Slab {
    base: *mut u8,
    _map: MmapMut,
}

// SAFETY: blocks of a slab are disjoint, and each is reached through its own `Memory` alone.
unsafe impl Send for Slab {}
// SAFETY: as above.
unsafe impl Sync for Slab {}

impl Slab {
    fn new(bytes: usize, what: &str) -> Result<Slab> {
        let mut map = MmapMut::map_anon(bytes).map_err(|_| Error::Memory { what: what.to_string(), bytes })?;
        Ok(Slab { base: map.as_mut_ptr(), _map: map })
    }
}

/// A block of zeroed bytes, aligned to a cache line.
pub struct Memory {
    slab: Arc<Slab>,
    start: usize,
    len: usize,
}

impl Memory {
    /// `bytes` zeroed bytes of their own for `what` (named in the error), on small pages: each costs memory when it is
    /// first written.
    pub fn new(bytes: usize, what: &str) -> Result<Memory> {
        Ok(Memory { slab: Arc::new(Slab::new(bytes.max(1), what)?), start: 0, len: bytes })
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the block lies in the slab, which lives as long as this; writing needs `&mut self`.
        unsafe { std::slice::from_raw_parts(self.slab.base.add(self.start), self.len) }
    }

    /// The bytes, to write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; no other block overlaps this one.
        unsafe { std::slice::from_raw_parts_mut(self.slab.base.add(self.start), self.len) }
    }
}

/// Where the blocks of weights come from.
#[derive(Default)]
pub struct Arena {
    slab: Option<(Arc<Slab>, usize)>,
}

impl Arena {
    /// `bytes` zeroed bytes for `what` (named in the error).
    pub fn block(&mut self, bytes: usize, what: &str) -> Result<Memory> {
        let room = bytes.next_multiple_of(ALIGN);
        if room > SLAB / 2 {
            let slab = Arc::new(huge(Slab::new(bytes, what)?));
            return Ok(Memory { slab, start: 0, len: bytes });
        }
        let (slab, used) = match self.slab.take() {
            Some((slab, used)) if used + room <= SLAB => (slab, used),
            _ => (Arc::new(huge(Slab::new(SLAB, what)?)), 0),
        };
        self.slab = Some((slab.clone(), used + room));
        Ok(Memory { slab, start: used, len: bytes })
    }
}

/// Asks for huge pages.
fn huge(slab: Slab) -> Slab {
    #[cfg(target_os = "linux")]
    {
        // Advice only: without it everything works, a little slower.
        let _ = slab._map.advise(memmap2::Advice::HugePage);
    }
    slab
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_zeroed_aligned_and_do_not_overlap() {
        let mut arena = Arena::default();
        let mut blocks: Vec<Memory> =
            [1, 100, 5000, 40 << 20, 30 << 20, 30 << 20, 7].map(|n| arena.block(n, "a test").unwrap()).into();
        for (i, block) in blocks.iter_mut().enumerate() {
            assert!(block.bytes().iter().step_by(97).all(|b| *b == 0));
            assert!(block.bytes().as_ptr().addr().is_multiple_of(ALIGN));
            let last = block.len - 1;
            (block.bytes_mut()[0], block.bytes_mut()[last]) = (i as u8 + 1, i as u8 + 1);
        }
        for (i, block) in blocks.iter().enumerate() {
            assert!(block.bytes()[0] == i as u8 + 1 && block.bytes()[block.len - 1] == i as u8 + 1);
        }
    }

    #[test]
    fn memory_that_cannot_be_had_is_an_error() {
        let error = Memory::new(isize::MAX as usize / 2, "the KV cache").err().unwrap().to_string();
        assert!(error.contains("the KV cache") && error.contains("--max-context-len"), "{error}");
    }
}
