//! A real device: the [`Driver`] over NVIDIA's driver library, which is opened at run time, so that the program needs no
//! CUDA to be built and none to run without a GPU. What runs on it is in the launchers beside this folder.

mod context;
mod fault;
mod free;
mod host;
mod images;
mod kernels;
mod nvrtc;
mod report;

pub use host::{Graph, Host, Tick};
pub use report::Report;

use super::driver::{About, Arg, Driver, Launch, MARKS};
use crate::{Error, Result};
use context::Context;
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUevent_flags as Flags, CUstreamCaptureMode as Mode};
use kernels::Kernels;
use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::ops::Range;
use std::sync::Arc;

/// The most arguments that a kernel has.
const ARGS: usize = 64;

// An argument's bytes are taken from the start of a 64-bit word.
const _: () = assert!(cfg!(target_endian = "little"));

/// A GPU with this program's kernels.
///
/// After an error that the driver does not recover from (a kernel that went astray, a board that fell off its bus) every
/// call answers that the GPU was lost.
pub struct Device {
    kernels: Kernels,
    marks: [Tick; MARKS],
    /// Addresses of all memory taken.
    taken: RefCell<Vec<u64>>,
    /// Launches when the recording began, while there is one.
    recording: Cell<Option<u64>>,
    launches: Cell<u64>,
    context: Arc<Context>,
}

impl Device {
    /// The GPU with this number, counted from 0 as the driver does (which heeds `CUDA_VISIBLE_DEVICES`).
    ///
    /// Loads all kernels. The first time on a machine the driver compiles them, which takes a few seconds; it keeps the
    /// result.
    pub fn open(ordinal: usize) -> Result<Self> {
        let context = Arc::new(Context::open(ordinal)?);
        let kernels = Kernels::load(&context)?;
        let mark = |_| Tick::new(&context, Flags::CU_EVENT_DISABLE_TIMING);
        let marks = (0..MARKS).map(mark).collect::<Result<Vec<_>>>()?;
        let marks = marks.try_into().map_err(|_| Error::Device("marks cannot be made".into()))?;
        let (taken, recording, launches) = (RefCell::default(), Cell::default(), Cell::default());
        Ok(Self { kernels, marks, taken, recording, launches, context })
    }

    /// Bytes of memory that can still be taken.
    pub fn free_bytes(&self) -> Result<u64> {
        self.context.free_bytes()
    }

    /// Kernels launched so far, those of replays included.
    pub fn launches(&self) -> u64 {
        self.launches.get()
    }

    /// Marks this place in the stream, to measure time.
    pub fn tick(&self) -> Result<Tick> {
        self.outside()?;
        let tick = Tick::new(&self.context, Flags::CU_EVENT_DEFAULT)?;
        tick.record()?;
        Ok(tick)
    }

    /// Milliseconds that the device took from one place in the stream to a later one, once it has passed both.
    pub fn elapsed_ms(&self, from: &Tick, to: &Tick) -> Result<f32> {
        self.outside()?;
        report::elapsed_ms(&self.context, from, to)
    }

    /// Makes ready for what must not be recorded. A recording that was never ended (its body panicked) is dropped.
    fn outside(&self) -> Result<()> {
        self.context.ready()?;
        match self.recording.get() {
            Some(_) => self.end_record().map(drop).or(Ok(())),
            None => Ok(()),
        }
    }

    fn check<T>(&self, doing: &str, answer: std::result::Result<T, DriverError>) -> Result<T> {
        self.context.check(doing, answer)
    }

    fn stream(&self) -> sys::CUstream {
        self.context.stream()
    }
}

/// Whether this machine has an NVIDIA driver, working or not.
pub fn has_driver() -> bool {
    // SAFETY: loads the driver's library, whose initialisation is made to be run by any program.
    unsafe { sys::is_culib_present() }
}

/// A range of a piece of host memory.
fn range<T>(found: Option<T>, range: &Range<usize>, len: usize) -> Result<T> {
    let shape = || Error::Shape {
        what: "a range of host memory".into(),
        found: format!("{}..{}", range.start, range.end),
        expected: format!("one within 0..{len}"),
    };
    found.ok_or_else(shape)
}

/// A launch's arguments as the driver takes them: 64-bit words, and how many bytes of each count.
fn words(args: &[Arg]) -> impl Iterator<Item = (u64, u8)> {
    args.iter().map(|arg| match *arg {
        Arg::Ptr(value) | Arg::U64(value) => (value, 8),
        Arg::U32(value) => (value.into(), 4),
        Arg::F32(value) => (value.to_bits().into(), 4),
    })
}

/// Refuses arguments that do not fit a kernel's parameters: the driver would read past them.
fn fits(kernel: &str, params: &[u8], args: &[Arg]) -> Result<()> {
    if params.len() <= ARGS && params.iter().copied().eq(words(args).map(|(_, size)| size)) {
        return Ok(());
    }
    let sizes = words(args).map(|(_, size)| size).collect::<Vec<_>>();
    Err(Error::Shape {
        what: format!("bytes of the arguments of kernel {kernel}"),
        found: format!("{sizes:?}"),
        expected: format!("{params:?}"),
    })
}

impl Driver for Device {
    type Host = Host;
    type Graph = Graph;

    fn about(&self) -> &About {
        self.context.about()
    }

    fn alloc(&self, bytes: usize, what: &str) -> Result<u64> {
        self.outside()?;
        // SAFETY: the memory is filled before anything can read it.
        let at = match unsafe { result::malloc_sync(bytes.max(1)) } {
            Err(DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => {
                let free = self.free_bytes().unwrap_or(0);
                return Err(Error::DeviceMemory { what: what.to_owned(), bytes, free });
            }
            answer => self.check(&format!("taking memory for {what}"), answer)?,
        };
        self.taken.borrow_mut().push(at);
        // SAFETY: so many bytes were just taken there.
        let filled = unsafe { result::memset_d8_async(at, 0, bytes, self.stream()) };
        self.check(&format!("filling memory for {what}"), filled)?;
        Ok(at)
    }

    fn host(&self, bytes: usize) -> Result<Host> {
        self.outside()?;
        Host::new(&self.context, bytes)
    }

    fn upload(&self, to: u64, from: &Host, of: Range<usize>) -> Result<()> {
        self.outside()?;
        let from = range(from.as_ref().get(of.clone()), &of, from.as_ref().len())?;
        // SAFETY: the caller has taken the memory at `to`, and leaves `from` alone until the copy is passed.
        self.check("copying to the GPU", unsafe { result::memcpy_htod_async(to, from, self.stream()) })
    }

    fn download(&self, from: u64, to: &mut Host, of: Range<usize>) -> Result<()> {
        self.outside()?;
        let len = to.as_ref().len();
        let to = range(to.as_mut().get_mut(of.clone()), &of, len)?;
        // SAFETY: as for uploads.
        self.check("copying from the GPU", unsafe { result::memcpy_dtoh_async(to, from, self.stream()) })
    }

    fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<()> {
        self.context.ready()?;
        // SAFETY: the caller has taken both pieces of memory.
        let copied = unsafe { result::memcpy_dtod_async(to, from, bytes, self.stream()) };
        self.check("copying on the GPU", copied)
    }

    fn launch(&self, launch: Launch<'_>) -> Result<()> {
        self.context.ready()?;
        let function = self.kernels.get(launch.kernel)?;
        fits(launch.kernel, &function.params, launch.args)?;
        let mut values = [0_u64; ARGS];
        let mut pointers = [std::ptr::null_mut::<c_void>(); ARGS];
        for ((value, pointer), (word, _)) in values.iter_mut().zip(&mut pointers).zip(words(launch.args)) {
            *value = word;
            *pointer = std::ptr::from_mut(value).cast();
        }
        let [x, y, z] = launch.grid;
        let (block, shared) = ((launch.threads, 1, 1), launch.shared);
        // SAFETY: the kernel has as many parameters of these sizes as there are arguments; what they point to is the
        // caller's word.
        let launched =
            unsafe { result::launch_kernel(function.handle, (x, y, z), block, shared, self.stream(), &mut pointers) };
        self.launches.set(self.launches.get() + 1);
        launched.or_else(|error| {
            let Launch { kernel, threads, .. } = launch;
            let doing = format!("launching {kernel} ({x} x {y} x {z} blocks of {threads}, {shared} bytes shared)");
            self.check(&doing, Err(error))
        })
    }

    fn mark(&self, mark: usize) -> Result<()> {
        self.outside()?;
        self.marks[mark].record()
    }

    fn wait(&self, mark: usize) -> Result<()> {
        self.outside()?;
        self.marks[mark].wait()
    }

    fn finish(&self) -> Result<()> {
        self.outside()?;
        // SAFETY: the stream is the context's own.
        self.check("waiting for the GPU", unsafe { result::stream::synchronize(self.stream()) })
    }

    fn begin_record(&self) -> Result<()> {
        self.outside()?;
        // Other threads' calls are no part of it.
        // SAFETY: the stream is the context's own.
        let begun = unsafe { result::stream::begin_capture(self.stream(), Mode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL) };
        self.check("recording a step", begun)?;
        self.recording.set(Some(self.launches.get()));
        Ok(())
    }

    fn end_record(&self) -> Result<Graph> {
        self.context.ready()?;
        let before = self.recording.take().unwrap_or(self.launches.get());
        // What was recorded has not run.
        let launches = self.launches.replace(before) - before;
        // SAFETY: the stream is the context's own.
        let graph = self.check("recording a step", unsafe { result::stream::end_capture(self.stream()) })?;
        if graph.is_null() {
            return Err(Error::Device("recording a step: something in it cannot be recorded".into()));
        }
        // SAFETY: the graph is good and not used after it is destroyed; what is instantiated stands for itself.
        let exec = unsafe {
            let exec = result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0));
            let destroyed = result::graph::destroy(graph);
            exec.and_then(|exec| destroyed.map(|()| exec))
        };
        let exec = self.check("making a recording ready", exec)?;
        let graph = Graph { exec, launches, context: Arc::clone(&self.context) };
        // SAFETY: both are of one context.
        self.check("making a recording ready", unsafe { result::graph::upload(exec, self.stream()) })?;
        Ok(graph)
    }

    fn replay(&self, graph: &Graph) -> Result<()> {
        self.outside()?;
        self.launches.set(self.launches.get() + graph.launches);
        // SAFETY: made by this device, which has one context and stream.
        self.check("running a step", unsafe { result::graph::launch(graph.exec, self.stream()) })
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if self.outside().is_ok() {
            // Nothing may run when the kernels go.
            // SAFETY: the stream is the context's own, and each piece of memory is freed once.
            unsafe {
                let _ = self.check("waiting for the GPU", result::stream::synchronize(self.stream()));
                for at in self.taken.borrow().iter() {
                    let _ = self.check("giving memory back", result::free_sync(*at));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_must_fit_their_parameters() {
        let args = [Arg::Ptr(1 << 40), Arg::U32(7), Arg::F32(1.0), Arg::U64(9)];
        fits("k", &[8, 4, 4, 8], &args).unwrap();
        fits("k", &[], &[]).unwrap();
        for params in [&[8, 4, 4][..], &[8, 4, 4, 8, 4], &[8, 8, 4, 8], &[8, 4, 4, 0]] {
            let error = fits("k", params, &args).unwrap_err().to_string();
            assert!(error.contains("kernel k") && error.contains("[8, 4, 4, 8]"), "{error}");
        }
        assert!(fits("k", &[4; ARGS + 1], &[Arg::U32(0); ARGS + 1]).is_err());
    }

    #[test]
    fn words_hold_an_argument_at_their_start() {
        let list: Vec<(u64, u8)> = words(&[Arg::F32(1.0), Arg::U32(u32::MAX), Arg::Ptr(u64::MAX)]).collect();
        assert_eq!(list, [(0x3f80_0000, 4), (0xffff_ffff, 4), (u64::MAX, 8)]);
        assert_eq!(list[1].0.to_ne_bytes()[..4], u32::MAX.to_ne_bytes());
    }

    #[test]
    fn ranges_of_host_memory_are_looked_at() {
        let bytes = [0_u8; 4];
        let of = |r: Range<usize>| range(bytes.get(r.clone()), &r, 4).map(<[u8]>::len);
        assert_eq!(of(1..4).unwrap(), 3);
        assert!(of(1..5).unwrap_err().to_string().contains("1..5"));
    }

    fn movable<T: Send>() {}

    #[test]
    fn a_device_may_change_threads() {
        movable::<Device>();
        movable::<Graph>();
        movable::<Host>();
    }
}
