//! Memory of the emulated machine: host memory with a guard before and after every piece.

use crate::device;
use nano_kernels::{Error, Result};
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ffi::c_void;
use std::ops::Range;
use std::slice;
use std::sync::Arc;

/// Bytes before and after each piece, and what they hold.
const GUARD: usize = 1024;
const GUARD_BYTE: u8 = 0xc5;
const ALIGN: usize = 256;

/// What there is of the machine's memory.
pub struct Memory {
    pieces: Vec<Piece>,
    room: u64,
}

struct Piece {
    what: String,
    start: *mut u8,
    bytes: usize,
    layout: Layout,
}

// SAFETY: the pointer is this piece's own memory.
unsafe impl Send for Piece {}

impl Memory {
    pub fn new(room: u64) -> Self {
        Self { pieces: Vec::new(), room }
    }

    pub fn alloc(&mut self, bytes: usize, what: &str) -> Result<u64> {
        let free = self.room;
        let none = || Error::DeviceMemory { what: what.to_owned(), bytes, free };
        self.room = self.room.checked_sub(bytes as u64).ok_or_else(none)?;
        let layout = Layout::from_size_align(bytes + 2 * GUARD, ALIGN).map_err(|_| none())?;
        // SAFETY: the layout is not empty.
        let whole = unsafe { alloc_zeroed(layout) };
        if whole.is_null() {
            return Err(none());
        }
        // SAFETY: both guards lie within the allocation.
        let start = unsafe {
            whole.write_bytes(GUARD_BYTE, GUARD);
            whole.add(GUARD + bytes).write_bytes(GUARD_BYTE, GUARD);
            whole.add(GUARD)
        };
        let piece = Piece { what: what.to_owned(), start, bytes, layout };
        piece.guards().into_iter().for_each(|guard| forbid(guard, true));
        self.pieces.push(piece);
        // Most recent pieces are found by search: keep them in order of address.
        self.pieces.sort_unstable_by_key(|p| p.start as u64);
        Ok(start as u64)
    }

    /// An error unless these bytes lie in one piece.
    pub fn holds(&self, what: &str, at: u64, bytes: usize) -> Result<()> {
        match self.piece(at) {
            Some(piece) if at + bytes as u64 <= piece.end() => Ok(()),
            Some(piece) => Err(device(format!(
                "{what}: {bytes} bytes from {} on in {}, which has {}",
                at - piece.start as u64,
                piece.what,
                piece.bytes
            ))),
            None => Err(device(format!("{what}: {bytes} bytes at {at:#x}, where there is no memory"))),
        }
    }

    /// Whether an address lies in a piece, or just past its end.
    pub fn knows(&self, at: u64) -> bool {
        self.piece(at).is_some()
    }

    /// The piece that begins last before an address and reaches up to it.
    fn piece(&self, at: u64) -> Option<&Piece> {
        let after = self.pieces.partition_point(|p| p.start as u64 <= at);
        self.pieces[..after].last().filter(|p| at <= p.end())
    }

    /// An error if a guard does not hold what it should.
    pub fn check(&self) -> Result<()> {
        for piece in &self.pieces {
            for (guard, side) in piece.guards().iter().zip(["before", "after"]) {
                // SAFETY: the guard is part of the piece's allocation; only kernels gone wrong write there.
                let bytes = unsafe { slice::from_raw_parts(guard.start as *const u8, GUARD) };
                if let Some(at) = bytes.iter().position(|&b| b != GUARD_BYTE) {
                    let distance = if side == "before" { GUARD - at } else { at };
                    return Err(device(format!(
                        "{} ({} bytes): a kernel wrote {side} it, {distance} bytes from its {}",
                        piece.what,
                        piece.bytes,
                        if side == "before" { "start" } else { "end" }
                    )));
                }
            }
        }
        Ok(())
    }
}

impl Piece {
    fn end(&self) -> u64 {
        self.start as u64 + self.bytes as u64
    }

    fn guards(&self) -> [Range<usize>; 2] {
        let (start, end) = (self.start as usize, self.end() as usize);
        [start - GUARD..start, end..end + GUARD]
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.guards().into_iter().for_each(|guard| forbid(guard, false));
        // SAFETY: allocated with this layout, and nobody else frees it.
        unsafe { dealloc(self.start.sub(GUARD), self.layout) };
    }
}

/// Tells a sanitizer what kernels must not touch, or may again.
fn forbid(range: Range<usize>, forbidden: bool) {
    unsafe extern "C" {
        fn emulator_poison(at: *mut c_void, bytes: usize);
        fn emulator_unpoison(at: *mut c_void, bytes: usize);
    }
    let at = range.start as *mut c_void;
    // SAFETY: memory of a piece; without a sanitizer both do nothing.
    unsafe {
        if forbidden {
            emulator_poison(at, range.len());
        } else {
            emulator_unpoison(at, range.len());
        }
    }
}

/// Host memory that copies go from and to, possibly later than they were asked for.
pub struct Host(Arc<Bytes>);

struct Bytes {
    start: *mut u8,
    len: usize,
}

// SAFETY: the bytes belong to this value; that copies keep off what its holder borrows is the contract of `Driver`.
unsafe impl Send for Bytes {}
// SAFETY: as above.
unsafe impl Sync for Bytes {}

impl Host {
    pub(crate) fn new(bytes: usize) -> Result<Self> {
        let mut all = Vec::new();
        all.try_reserve_exact(bytes).map_err(|_| Error::Memory { what: "host memory".to_owned(), bytes })?;
        all.resize(bytes, 0u8);
        let start = Box::into_raw(all.into_boxed_slice()).cast();
        Ok(Self(Arc::new(Bytes { start, len: bytes })))
    }

    pub(crate) fn clone_handle(&self) -> Self {
        Self(self.0.clone())
    }

    pub(crate) fn holds(&self, range: &Range<usize>) -> Result<()> {
        if range.start <= range.end && range.end <= self.0.len {
            return Ok(());
        }
        Err(device(format!("bytes {range:?} of host memory that has {}", self.0.len)))
    }

    /// Where a range that it [holds](Host::holds) begins.
    pub(crate) fn at(&self, range: &Range<usize>) -> *mut u8 {
        // SAFETY: the range was looked at when the copy was asked for.
        unsafe { self.0.start.add(range.start) }
    }
}

impl AsRef<[u8]> for Host {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: its own memory, of this length.
        unsafe { slice::from_raw_parts(self.0.start, self.0.len) }
    }
}

impl AsMut<[u8]> for Host {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; handles held by copies are not read or written while this borrow lasts.
        unsafe { slice::from_raw_parts_mut(self.0.start, self.0.len) }
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        // SAFETY: made from a box of this length.
        drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(self.start, self.len)) });
    }
}
