//! Device memory: allocations at addresses of their own, so that no access beside one can land in another unseen.

use nano_kernels::{Error, Result};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Bits of an address that count bytes inside an allocation; those above are its number, counted from 1.
const INSIDE: u32 = 36;

/// All allocations of a machine. Words are atomic, for blocks run on several threads; no order is implied.
#[derive(Default)]
pub struct Memory {
    areas: Vec<Area>,
}

struct Area {
    what: String,
    bytes: usize,
    words: Box<[AtomicU32]>,
}

impl Memory {
    /// Memory of zeros; gives its address.
    pub fn alloc(&mut self, bytes: usize, what: &str) -> Result<u64> {
        if bytes as u64 >= 1 << INSIDE {
            return Err(Error::Memory { what: what.to_owned(), bytes });
        }
        let words = Box::into_raw(vec![0u32; bytes.div_ceil(4)].into_boxed_slice());
        // SAFETY: the pointer comes from a box and is not used again; an AtomicU32 is laid out as an u32. This way the
        // zeros are those of fresh memory, which is not touched until it is used.
        let words = unsafe { Box::from_raw(words as *mut [AtomicU32]) };
        self.areas.push(Area { what: what.to_owned(), bytes, words });
        Ok((self.areas.len() as u64) << INSIDE)
    }

    /// The words of an allocation and the byte among them where an access of `bytes` begins.
    pub fn span(&self, address: u64, bytes: usize) -> std::result::Result<(&[AtomicU32], usize), String> {
        let inside = (address & ((1 << INSIDE) - 1)) as usize;
        let number = (address >> INSIDE) as usize;
        match self.areas.get(number.wrapping_sub(1)) {
            Some(area) if inside + bytes <= area.bytes => Ok((&area.words, inside)),
            Some(area) => Err(format!("{bytes} bytes at byte {inside} of '{}', which has {}", area.what, area.bytes)),
            None => Err(format!("{bytes} bytes at address {address:#x}, where there is no memory")),
        }
    }

    /// Whether an address lies in (or just past) an allocation.
    pub fn knows(&self, address: u64) -> bool {
        self.span(address, 0).is_ok()
    }

    /// Copies to the device.
    pub fn write(&self, to: u64, from: &[u8]) -> std::result::Result<(), String> {
        let (words, mut at) = self.span(to, from.len())?;
        let (head, body) = from.split_at(from.len().min(at.wrapping_neg() % 4));
        let bytes = |at: &mut usize, some: &[u8]| {
            for &byte in some {
                put(words, *at, 1, u64::from(byte));
                *at += 1;
            }
        };
        bytes(&mut at, head);
        let (whole, rest) = body.split_at(body.len() / 4 * 4);
        for word in whole.chunks_exact(4) {
            words[at / 4].store(u32::from_le_bytes([word[0], word[1], word[2], word[3]]), Relaxed);
            at += 4;
        }
        bytes(&mut at, rest);
        Ok(())
    }

    /// Copies from the device.
    pub fn read(&self, from: u64, to: &mut [u8]) -> std::result::Result<(), String> {
        let (words, at) = self.span(from, to.len())?;
        for (offset, byte) in to.iter_mut().enumerate() {
            let at = at + offset;
            *byte = (words[at / 4].load(Relaxed) >> (at % 4 * 8)) as u8;
        }
        Ok(())
    }

    /// Changes 4 or 8 bytes; gives what was there. Only for launches whose blocks run one after the other.
    pub fn update(&self, at: u64, size: usize, f: impl FnOnce(u64) -> u64) -> std::result::Result<u64, String> {
        let (words, at) = self.span(at, size)?;
        let old = get(words, at, size);
        put(words, at, size, f(old));
        Ok(old)
    }
}

/// A value of 1, 2, 4 or 8 bytes at a multiple of its size.
pub fn get(words: &[AtomicU32], at: usize, size: usize) -> u64 {
    let word = |i: usize| u64::from(words[i].load(Relaxed));
    match size {
        8 => word(at / 4) | word(at / 4 + 1) << 32,
        4 => word(at / 4),
        _ => word(at / 4) >> (at % 4 * 8) & ((1 << (size * 8)) - 1),
    }
}

/// Stores such a value.
pub fn put(words: &[AtomicU32], at: usize, size: usize, value: u64) {
    match size {
        8 => {
            words[at / 4].store(value as u32, Relaxed);
            words[at / 4 + 1].store((value >> 32) as u32, Relaxed);
        }
        4 => words[at / 4].store(value as u32, Relaxed),
        _ => {
            let (shift, mask) = (at % 4 * 8, ((1u64 << (size * 8)) - 1) as u32);
            let insert = |old: u32| Some(old & !(mask << shift) | (value as u32 & mask) << shift);
            // Another thread may be writing the word's other bytes. The closure never refuses.
            let _ = words[at / 4].fetch_update(Relaxed, Relaxed, insert);
        }
    }
}
