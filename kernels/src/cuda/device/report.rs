//! What a device is and how fast its memory is, for people. Loads no kernels.

use super::context::Context;
use super::host::Tick;
use crate::cuda::About;
use crate::{Error, Result};
use cudarc::driver::result;
use cudarc::driver::sys::{CUdevice_attribute as Attribute, CUevent_flags as Flags};
use std::sync::Arc;

/// Bytes that are copied at a time, unless less is free.
const COPY: u64 = 256 << 20;
/// Timed copies.
const PASSES: usize = 9;

/// A device, as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// What it is.
    pub about: About,
    /// Bytes of memory that can be taken.
    pub free: u64,
    /// Bytes of its second-level cache.
    pub l2_bytes: u64,
    /// Its highest clock in MHz; 0 if the driver does not say.
    pub clock_mhz: f64,
    /// The highest clock of its memory in MHz; 0 if the driver does not say.
    pub memory_clock_mhz: f64,
    /// Bits of its memory's bus.
    pub bus_bits: u32,
    /// GB (10⁹ bytes) per second that it reads and writes, together, when it copies within its memory: the median of
    /// several copies.
    pub copy_gb_s: f64,
}

impl Report {
    /// Looks at the GPU with this number.
    pub fn read(ordinal: usize) -> Result<Self> {
        use Attribute::*;
        let context = Arc::new(Context::open(ordinal)?);
        let number = |attribute| context.attribute(attribute);
        Ok(Self {
            about: context.about().clone(),
            free: context.free_bytes()?,
            l2_bytes: number(CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE).into(),
            clock_mhz: f64::from(number(CU_DEVICE_ATTRIBUTE_CLOCK_RATE)) / 1e3,
            memory_clock_mhz: f64::from(number(CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE)) / 1e3,
            bus_bits: number(CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH),
            copy_gb_s: copy_rate(&context)?,
        })
    }
}

fn copy_rate(context: &Arc<Context>) -> Result<f64> {
    let bytes = COPY.min(context.free_bytes()? / 4) as usize;
    let from = Piece::new(context, bytes)?;
    let to = Piece::new(context, bytes)?;
    let mut rates = Vec::with_capacity(PASSES);
    // The first two wake the clocks and are not counted.
    for pass in 0..PASSES + 2 {
        let ticks = [Tick::new(context, Flags::CU_EVENT_DEFAULT)?, Tick::new(context, Flags::CU_EVENT_DEFAULT)?];
        ticks[0].record()?;
        // SAFETY: both pieces are whole, of this size, and live to the end of the function.
        let copied = unsafe { result::memcpy_dtod_async(to.at, from.at, bytes, context.stream()) };
        context.check("measuring copies", copied)?;
        ticks[1].record()?;
        let seconds = f64::from(elapsed_ms(context, &ticks[0], &ticks[1])?) / 1e3;
        if pass >= 2 {
            rates.push(2.0 * bytes as f64 / seconds.max(1e-9) / 1e9);
        }
    }
    rates.sort_by(f64::total_cmp);
    Ok(rates[PASSES / 2])
}

/// Milliseconds between two places in the stream, once the second is passed.
pub fn elapsed_ms(context: &Context, from: &Tick, to: &Tick) -> Result<f32> {
    from.wait()?;
    to.wait()?;
    // SAFETY: both events have timing and were recorded.
    context.check("measuring time", unsafe { result::event::elapsed(from.event, to.event) })
}

/// Device memory that is given back.
struct Piece {
    at: u64,
    context: Arc<Context>,
}

impl Piece {
    fn new(context: &Arc<Context>, bytes: usize) -> Result<Self> {
        context.ready()?;
        // SAFETY: what it holds does not matter.
        let at = unsafe { result::malloc_sync(bytes.max(1)) };
        let full =
            |_| Error::DeviceMemory { what: "measuring copies".into(), bytes, free: context.free_bytes().unwrap_or(0) };
        Ok(Self { at: at.map_err(full)?, context: Arc::clone(context) })
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if self.context.ready().is_ok() {
            // SAFETY: taken in this context, freed once; freeing waits for what still uses it.
            let _ = self.context.check("giving memory back", unsafe { result::free_sync(self.at) });
        }
    }
}
