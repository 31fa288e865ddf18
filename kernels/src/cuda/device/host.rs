//! Page-locked host memory, and what else lives in a context and ends with it: recordings and points in time.

use super::context::Context;
use crate::Result;
use cudarc::driver::{result, sys};
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Arc;

/// Host memory that the device copies from and to. Zeros at first. Not write-combined: the processor reads results from
/// it.
pub struct Host {
    at: NonNull<u8>,
    len: usize,
    context: Arc<Context>,
}

// SAFETY: the memory belongs to the value alone, and may be read, written and freed from any thread.
unsafe impl Send for Host {}

impl Host {
    pub(super) fn new(context: &Arc<Context>, len: usize) -> Result<Self> {
        context.ready()?;
        // SAFETY: the memory is filled below, before anyone sees it.
        let at = unsafe { result::malloc_host(len.max(1), 0) };
        let at = context.check("taking page-locked host memory", at)?;
        let null = || result::DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY);
        let at = NonNull::new(at.cast::<u8>()).ok_or_else(null);
        let at = context.check("taking page-locked host memory", at)?;
        // SAFETY: `len` bytes were just taken there.
        unsafe { at.write_bytes(0, len) };
        Ok(Self { at, len, context: Arc::clone(context) })
    }
}

impl AsRef<[u8]> for Host {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `len` initialised bytes that live as long as the value.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.len) }
    }
}

impl AsMut<[u8]> for Host {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and borrowed from the only owner.
        unsafe { std::slice::from_raw_parts_mut(self.at.as_ptr(), self.len) }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if self.context.ready().is_ok() {
            // SAFETY: the memory was taken in this context and is freed once, after all copies that were asked for.
            let freed = unsafe {
                result::stream::synchronize(self.context.stream())
                    .and(result::free_host(self.at.as_ptr().cast::<c_void>()))
            };
            // Whoever uses the device next is told if it is lost.
            let _ = self.context.check("freeing host memory", freed);
        }
    }
}

/// A recorded sequence of launches.
pub struct Graph {
    pub(super) exec: sys::CUgraphExec,
    /// How many.
    pub(super) launches: u64,
    pub(super) context: Arc<Context>,
}

// SAFETY: a handle that one thread at a time uses, with the context made current first.
unsafe impl Send for Graph {}

impl Drop for Graph {
    fn drop(&mut self) {
        if self.context.ready().is_ok() {
            // SAFETY: made in this context, destroyed once; the driver lets a running replay end.
            let _ = self.context.check("dropping a recording", unsafe { result::graph::exec_destroy(self.exec) });
        }
    }
}

/// A point in the stream, and in time once the stream has passed it.
pub struct Tick {
    pub(super) event: sys::CUevent,
    pub(super) context: Arc<Context>,
}

// SAFETY: as for recordings.
unsafe impl Send for Tick {}

impl Tick {
    pub(super) fn new(context: &Arc<Context>, flags: sys::CUevent_flags) -> Result<Self> {
        context.ready()?;
        let event = context.check("making a mark", result::event::create(flags))?;
        Ok(Self { event, context: Arc::clone(context) })
    }

    pub(super) fn record(&self) -> Result<()> {
        // SAFETY: event and stream are of one context, which the caller has made current.
        self.context.check("marking the stream", unsafe { result::event::record(self.event, self.context.stream()) })
    }

    pub(super) fn wait(&self) -> Result<()> {
        // SAFETY: as above. An event that was never recorded has passed.
        self.context.check("waiting for the GPU", unsafe { result::event::synchronize(self.event) })
    }
}

impl Drop for Tick {
    fn drop(&mut self) {
        if self.context.ready().is_ok() {
            // SAFETY: made in this context, destroyed once.
            let _ = self.context.check("dropping a mark", unsafe { result::event::destroy(self.event) });
        }
    }
}
