//! The emulator as a driver library: built as a shared library with the names of `libcuda.so.1`, so that a whole program
//! runs its CUDA path where there is no GPU (`cli/tests/cli/cuda.rs`). One device, one stream, everything done at once.
//!
//! `EMULATED_MEMORY` says how many bytes the device has, `EMULATED_CAPABILITY` is 72 or 87, `EMULATED_DRIVER` the CUDA
//! version, and after `EMULATED_LAUNCHES` launches the device is lost.
#![allow(non_snake_case, missing_docs, unused_unsafe)]
// Every function has the signature and the conditions of its namesake in cuda.h.
#![allow(clippy::missing_safety_doc, clippy::undocumented_unsafe_blocks, clippy::not_unsafe_ptr_arg_deref)]

use nano_emulator::{Emulator, Graph, Options};
use nano_kernels::cuda::{Arg, Driver, Launch};
use std::alloc::{Layout, alloc, dealloc};
use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

type Status = u32;
const OK: Status = 0;
const INVALID_VALUE: Status = 1;
const OUT_OF_MEMORY: Status = 2;
const INVALID_CONTEXT: Status = 201;
const INVALID_PTX: Status = 218;
const NOT_FOUND: Status = 500;
const ILLEGAL_ADDRESS: Status = 700;
const LAUNCH_FAILED: Status = 719;
const CAPTURE_UNSUPPORTED: Status = 900;

/// A kernel of a loaded module.
pub struct Function {
    name: &'static str,
    /// The types of its parameters.
    params: Vec<String>,
}

struct State {
    emulator: Emulator,
    memory: u64,
    taken: HashMap<u64, u64>,
    host: HashMap<usize, Layout>,
    launches: u64,
    capturing: bool,
    /// What every call answers from now on.
    lost: Status,
}

// The handles inside belong to whoever holds the lock.
unsafe impl Send for State {}

const CONTEXT: usize = 0x1000;
std::thread_local! {
    static CURRENT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn state() -> MutexGuard<'static, State> {
    static STATE: OnceLock<Mutex<State>> = OnceLock::new();
    let make = || {
        let memory = number("EMULATED_MEMORY", 2 << 30);
        let arch = if number("EMULATED_CAPABILITY", 87) < 80 { 72 } else { 80 };
        let options = Options { arch, memory: u64::MAX / 2, ..Options::default() };
        let emulator = Emulator::new(options).expect("the emulator has kernels");
        let (taken, host) = (HashMap::new(), HashMap::new());
        Mutex::new(State { emulator, memory, taken, host, launches: 0, capturing: false, lost: OK })
    };
    STATE.get_or_init(make).lock().unwrap_or_else(PoisonError::into_inner)
}

/// Functions of the library, without what all of them have in common.
macro_rules! library {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block)*) => {
        $(
            $(#[$doc])*
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $name($($arg: $type),*) -> Status {
                unsafe { $body }
            }
        )*
    };
}

/// Runs a call, as drivers do: in a thread that has the context, unless the device is lost.
fn call(work: impl FnOnce(&mut State) -> Status) -> Status {
    if CURRENT.get() != CONTEXT {
        return INVALID_CONTEXT;
    }
    let mut state = state();
    if state.lost != OK { state.lost } else { work(&mut state) }
}

/// The same for what cannot be recorded.
fn outside(work: impl FnOnce(&mut State) -> Status) -> Status {
    call(|state| if state.capturing { CAPTURE_UNSUPPORTED } else { work(state) })
}

fn success(fine: bool) -> Status {
    if fine { OK } else { INVALID_VALUE }
}

fn told(answer: nano_kernels::Result<()>) -> Status {
    match answer {
        Ok(()) => OK,
        Err(error) => {
            eprintln!("emulated driver: {error}");
            LAUNCH_FAILED
        }
    }
}

/// Counts a launch; an answer if the device is lost with it.
fn launched(state: &mut State) -> Option<Status> {
    state.launches += 1;
    if state.launches <= number("EMULATED_LAUNCHES", u64::MAX) {
        return None;
    }
    state.lost = ILLEGAL_ADDRESS;
    Some(ILLEGAL_ADDRESS)
}

fn capability() -> c_int {
    number("EMULATED_CAPABILITY", 87) as c_int
}

/// The most shared memory of a block.
fn shared() -> c_int {
    if capability() < 80 { 96 << 10 } else { 163 << 10 }
}

/// Bytes of shared memory that each kernel has of itself.
const FIXED: c_int = 1024;

fn microseconds() -> u64 {
    static START: OnceLock<std::time::Instant> = OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed().as_micros() as u64 + 1
}

/// Whether these bytes are in one piece of the device's memory.
fn holds(state: &State, at: u64, bytes: usize) -> bool {
    let end = at + bytes as u64;
    state.taken.iter().any(|(start, size)| (*start..=start + size).contains(&at) && end <= start + size)
}

/// Copies bytes of which the device has these.
fn copied(device: &[u64], from: *const u8, to: *mut u8, bytes: usize) -> Status {
    outside(|s| {
        if !device.iter().all(|at| holds(s, *at, bytes)) {
            return INVALID_VALUE;
        }
        let done = told(s.emulator.finish());
        unsafe { std::ptr::copy(from, to, bytes) };
        done
    })
}

library! {
    fn cuInit(_flags: c_uint) { OK }
    fn cuDriverGetVersion(version: *mut c_int) {
        *version = number("EMULATED_DRIVER", 12060) as c_int;
        OK
    }
    fn cuDeviceGet(device: *mut c_int, ordinal: c_int) {
        *device = ordinal;
        OK
    }
    fn cuDeviceGetCount(count: *mut c_int) {
        *count = 1;
        OK
    }
    fn cuDeviceGetName(name: *mut c_char, len: c_int, _device: c_int) {
        let text = c"Emulated GPU".to_bytes_with_nul();
        std::ptr::copy_nonoverlapping(text.as_ptr().cast(), name, text.len().min(len as usize));
        OK
    }
    fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, _device: c_int) {
        *value = match attribute {
            8 => 48 << 10,    // shared memory of a block
            13 => 1_300_000,  // clock, kHz
            16 => 4,          // multiprocessors
            36 => 3_199_000,  // memory clock, kHz
            37 => 256,        // memory bus, bits
            38 => 4 << 20,    // L2
            75 => capability() / 10,
            76 => capability() % 10,
            97 => shared(),   // shared memory of a block that asks for it
            _ => 0,
        };
        OK
    }
    fn cuDeviceTotalMem_v2(bytes: *mut usize, _device: c_int) {
        *bytes = state().memory as usize;
        OK
    }
    fn cuDevicePrimaryCtxRetain(context: *mut usize, _device: c_int) {
        *context = CONTEXT;
        OK
    }
    fn cuDevicePrimaryCtxRelease_v2(_device: c_int) { OK }
    fn cuCtxGetCurrent(context: *mut usize) {
        *context = CURRENT.get();
        OK
    }
    fn cuCtxSetCurrent(context: usize) {
        CURRENT.set(context);
        OK
    }
    fn cuCtxSynchronize() { outside(|s| told(s.emulator.finish())) }

    /// Only streams that do not wait for the default one may be recorded.
    fn cuStreamCreate(stream: *mut usize, flags: c_uint) {
        *stream = 0x2000;
        call(|_| success(flags == 1))
    }
    fn cuStreamDestroy_v2(_stream: usize) { call(|_| OK) }
    fn cuStreamSynchronize(_stream: usize) { outside(|s| told(s.emulator.finish())) }
    fn cuStreamBeginCapture_v2(_stream: usize, mode: c_uint) {
        outside(|s| {
            s.capturing = true;
            if mode == 1 { told(s.emulator.begin_record()) } else { INVALID_VALUE }
        })
    }
    fn cuStreamEndCapture(_stream: usize, graph: *mut *mut Graph) {
        call(|s| {
            s.capturing = false;
            let Ok(made) = s.emulator.end_record() else { return INVALID_VALUE };
            *graph = Box::into_raw(Box::new(made));
            OK
        })
    }
    fn cuStreamIsCapturing(_stream: usize, status: *mut c_uint) {
        *status = state().capturing.into();
        OK
    }
    /// The recording itself serves as what is run; destroying the template leaves it.
    fn cuGraphInstantiateWithFlags(exec: *mut *mut Graph, graph: *mut Graph, _flags: u64) {
        *exec = graph;
        OK
    }
    fn cuGraphDestroy(_graph: *mut Graph) { call(|_| OK) }
    fn cuGraphExecDestroy(exec: *mut Graph) {
        call(|_| {
            drop(Box::from_raw(exec));
            OK
        })
    }
    fn cuGraphUpload(_exec: *mut Graph, _stream: usize) { outside(|_| OK) }
    fn cuGraphLaunch(exec: *mut Graph, _stream: usize) {
        outside(|s| launched(s).unwrap_or_else(|| told(s.emulator.replay(&*exec))))
    }

    fn cuEventCreate(event: *mut *mut u64, _flags: c_uint) {
        *event = Box::into_raw(Box::new(0));
        call(|_| OK)
    }
    fn cuEventRecord(event: *mut u64, _stream: usize) {
        outside(|s| {
            let done = told(s.emulator.finish());
            *event = microseconds();
            done
        })
    }
    fn cuEventSynchronize(_event: *mut u64) { outside(|_| OK) }
    fn cuEventElapsedTime(ms: *mut f32, from: *mut u64, to: *mut u64) {
        *ms = (*to - *from) as f32 / 1e3;
        call(|_| OK)
    }
    fn cuEventDestroy_v2(event: *mut u64) {
        call(|_| {
            drop(Box::from_raw(event));
            OK
        })
    }

    fn cuMemAlloc_v2(at: *mut u64, bytes: usize) {
        outside(|s| {
            if s.taken.values().sum::<u64>() + bytes as u64 > s.memory {
                return OUT_OF_MEMORY;
            }
            let Ok(place) = s.emulator.alloc(bytes, "emulated device memory") else { return OUT_OF_MEMORY };
            // What a device's memory holds at first is anything.
            std::ptr::write_bytes(place as *mut u8, 0xa5, bytes);
            s.taken.insert(place, bytes as u64);
            *at = place;
            OK
        })
    }
    /// The emulator keeps it to its end; the room is there again.
    fn cuMemFree_v2(at: u64) { outside(|s| success(s.taken.remove(&at).is_some())) }
    fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) {
        call(|s| {
            *total = s.memory as usize;
            *free = (s.memory - s.taken.values().sum::<u64>()) as usize;
            OK
        })
    }
    /// Write-combined memory (4) is slow to read.
    fn cuMemHostAlloc(at: *mut *mut u8, bytes: usize, flags: c_uint) {
        outside(|s| {
            let Ok(layout) = Layout::from_size_align(bytes.max(1), 4096) else { return INVALID_VALUE };
            *at = alloc(layout);
            s.host.insert(*at as usize, layout);
            success(flags & 4 == 0)
        })
    }
    fn cuMemFreeHost(at: *mut u8) {
        outside(|s| {
            let Some(layout) = s.host.remove(&(at as usize)) else { return INVALID_VALUE };
            dealloc(at, layout);
            OK
        })
    }
    fn cuMemsetD8Async(at: u64, value: u8, bytes: usize, _stream: usize) {
        outside(|s| {
            if !holds(s, at, bytes) {
                return INVALID_VALUE;
            }
            std::ptr::write_bytes(at as *mut u8, value, bytes);
            OK
        })
    }
    fn cuMemcpyHtoDAsync_v2(to: u64, from: *const u8, bytes: usize, _stream: usize) {
        copied(&[to], from, to as *mut u8, bytes)
    }
    fn cuMemcpyDtoHAsync_v2(to: *mut u8, from: u64, bytes: usize, _stream: usize) {
        copied(&[from], from as *const u8, to, bytes)
    }
    fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, _stream: usize) {
        copied(&[from, to], from as *const u8, to as *mut u8, bytes)
    }

    /// Reads the kernels' names and parameters out of PTX, and nothing else: the emulator has kernels of its own.
    fn cuModuleLoadDataEx(
        module: *mut *mut Vec<Function>,
        image: *const c_char,
        count: c_uint,
        options: *const c_uint,
        values: *const *mut c_char,
    ) {
        outside(|_| {
            let text = CStr::from_ptr(image).to_string_lossy();
            if !text.contains(".version 7.4") {
                // Option 5 is a buffer for errors.
                for i in (0..count as usize).filter(|i| *options.add(*i) == 5) {
                    let log = c"emulated ptxas: unknown version".to_bytes_with_nul();
                    std::ptr::copy_nonoverlapping(log.as_ptr().cast(), *values.add(i), log.len());
                }
                return INVALID_PTX;
            }
            let functions = text.split(".entry").skip(1).filter_map(|entry| {
                let (name, rest) = entry.split_once('(')?;
                let params = rest.split_once(')')?.0.split(".param").skip(1);
                let params = params.map(|p| p.split_whitespace().next().unwrap_or_default().to_owned()).collect();
                Some(Function { name: name.trim().to_owned().leak(), params })
            });
            *module = Box::into_raw(Box::new(functions.collect()));
            OK
        })
    }
    fn cuModuleUnload(_module: *mut Vec<Function>) { outside(|_| OK) }
    fn cuModuleGetFunction(function: *mut *const Function, module: *const Vec<Function>, name: *const c_char) {
        outside(|s| {
            let name = CStr::from_ptr(name).to_string_lossy();
            match (*module).iter().find(|f| f.name == name) {
                Some(found) if s.emulator.kernels().contains(&found.name) => {
                    *function = found;
                    OK
                }
                _ => NOT_FOUND,
            }
        })
    }
    fn cuFuncLoad(_function: *const Function) { outside(|_| OK) }
    fn cuFuncGetAttribute(value: *mut c_int, _attribute: c_uint, _function: *const Function) {
        *value = FIXED;
        OK
    }
    /// Attribute 8 is the most dynamic shared memory.
    fn cuFuncSetAttribute(_function: *const Function, attribute: c_uint, value: c_int) {
        call(|_| success(attribute == 8 && value + FIXED <= shared()))
    }
    fn cuLaunchKernel(
        function: *const Function,
        x: c_uint,
        y: c_uint,
        z: c_uint,
        threads: c_uint,
        threads_y: c_uint,
        threads_z: c_uint,
        shared: c_uint,
        _stream: usize,
        values: *const *const u64,
        _extra: *const c_void,
    ) {
        call(|s| {
            let lost = if s.capturing { None } else { launched(s) };
            if lost.is_some() || threads_y * threads_z != 1 {
                return lost.unwrap_or(INVALID_VALUE);
            }
            let Function { name, params } = &*function;
            let args = params.iter().enumerate().map(|(i, kind)| {
                let at = *values.add(i);
                match kind.as_str() {
                    ".u64" => Arg::Ptr(*at),
                    ".f32" => Arg::F32(*at.cast()),
                    _ => Arg::U32(*at.cast()),
                }
            });
            let args: Vec<Arg> = args.collect();
            told(s.emulator.launch(Launch { kernel: name, grid: [x, y, z], threads, shared, args: &args }))
        })
    }
    fn cuGetErrorName(_status: Status, text: *mut *const c_char) {
        *text = c"CUDA_ERROR".as_ptr();
        OK
    }
    fn cuGetErrorString(_status: Status, text: *mut *const c_char) {
        *text = c"an error".as_ptr();
        OK
    }
}
