//! Launches: what is asked for is held against what the kernel takes, and its blocks are run.

use crate::device;
use crate::memory::Memory;
use nano_kernels::Result;
use nano_kernels::cuda::{About, Arg, Launch};
use std::collections::HashMap;
use std::ffi::{CStr, c_char};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A kernel, as the compiled tables have it.
#[repr(C)]
pub struct Entry {
    name: *const c_char,
    call: Option<unsafe extern "C" fn(*const u64)>,
    kinds: *const c_char,
    threads: u32,
}

// SAFETY: constants of the program.
unsafe impl Sync for Entry {}

include!(concat!(env!("OUT_DIR"), "/tables.rs"));

/// The kernels of an ARCH.
pub fn entries(arch: u32) -> Vec<&'static Entry> {
    let mut found = Vec::new();
    for &(_, table) in TABLES.iter().filter(|(of, _)| *of == arch) {
        let mut at = table;
        // SAFETY: a table is constant and ends with an entry without a name.
        while let entry = unsafe { &*at }
            && !entry.name.is_null()
        {
            found.push(entry);
            // SAFETY: this was not the last one.
            at = unsafe { at.add(1) };
        }
    }
    found
}

impl Entry {
    pub fn name(&self) -> &'static str {
        // SAFETY: entries of tables have names, constant and of ASCII.
        unsafe { CStr::from_ptr(self.name) }.to_str().expect("a C++ name")
    }

    /// A letter per parameter, see `machine.h`.
    fn kinds(&self) -> &'static [u8] {
        // SAFETY: as above.
        unsafe { CStr::from_ptr(self.kinds) }.to_bytes()
    }
}

/// A launch that was found to be in order.
#[derive(Clone)]
pub struct Task {
    entry: &'static Entry,
    grid: [u32; 3],
    threads: u32,
    shared: u32,
    args: Vec<u64>,
}

impl Task {
    pub fn new(
        entries: &HashMap<&'static str, &'static Entry>,
        about: &About,
        memory: &Memory,
        launch: Launch<'_>,
    ) -> Result<Self> {
        let name = launch.kernel;
        let wrong = |what: String| Err(device(format!("kernel {name}: {what}")));
        let Some(&entry) = entries.get(name) else {
            return wrong(format!("there is none of this name for {}", about.name));
        };
        let kinds = entry.kinds();
        if launch.args.len() != kinds.len() {
            return wrong(format!("{} arguments, where it has {} parameters", launch.args.len(), kinds.len()));
        }
        let mut args = Vec::with_capacity(kinds.len());
        for (number, (&arg, &kind)) in launch.args.iter().zip(kinds).enumerate() {
            let (letter, bits) = match arg {
                Arg::Ptr(at) => (b'p', at),
                Arg::U32(v) => (b'i', u64::from(v)),
                Arg::F32(v) => (b'f', u64::from(v.to_bits())),
                Arg::U64(v) => (b'l', v),
            };
            if letter != kind {
                return wrong(format!("argument {number} is {arg:?}, where the parameter is {}", kind_name(kind)));
            }
            if let Arg::Ptr(at) = arg
                && at != 0
                && !memory.knows(at)
            {
                return wrong(format!("argument {number} is the address {at:#x}, where there is no memory"));
            }
            args.push(bits);
        }
        let Launch { grid, threads, shared, .. } = launch;
        if threads == 0 || threads > entry.threads {
            return wrong(format!("{threads} threads, where its launch bounds allow 1 to {}", entry.threads));
        }
        if grid[0] == 0 || grid[0] > i32::MAX as u32 || grid[1..].iter().any(|n| !(1..=65535).contains(n)) {
            return wrong(format!("a grid of {grid:?} blocks"));
        }
        if shared > about.shared_bytes {
            return wrong(format!("{shared} bytes of shared memory, where a block may have {}", about.shared_bytes));
        }
        Ok(Self { entry, grid, threads, shared, args })
    }
}

fn kind_name(kind: u8) -> &'static str {
    match kind {
        b'p' => "a pointer",
        b'i' => "an integer of 32 bits",
        b'f' => "a float",
        _ => "an integer of 64 bits",
    }
}

/// What the machine gets of a launch; see `worker.h`.
#[repr(C)]
struct Job {
    entry: *const Entry,
    arguments: *const u64,
    grid: [u32; 3],
    threads: u32,
    shared: u32,
    shared_limit: u32,
    seed: u64,
}

/// State of a processor thread that runs blocks; opaque.
enum Worker {}

unsafe extern "C" {
    fn emulator_worker_new(stack_bytes: usize, shared_bytes: usize) -> *mut Worker;
    fn emulator_worker_free(worker: *mut Worker);
    fn emulator_worker_run(worker: *mut Worker, job: *const Job, x: u32, y: u32, z: u32, seed: u64) -> *const c_char;
}

/// Stack of a CUDA thread. Sanitizers make frames larger.
const STACK_BYTES: usize = if cfg!(any(feature = "address", feature = "thread")) { 256 << 10 } else { 64 << 10 };

struct OwnWorker(*mut Worker);

// SAFETY: a worker is used by one thread at a time: whoever holds it mutably.
unsafe impl Send for OwnWorker {}

impl Drop for OwnWorker {
    fn drop(&mut self) {
        // SAFETY: made by emulator_worker_new.
        unsafe { emulator_worker_free(self.0) };
    }
}

impl OwnWorker {
    fn run(&mut self, job: &Job, [x, y, z]: [u32; 3], seed: u64) -> std::result::Result<(), String> {
        // SAFETY: the job outlives the call; the kernel's arguments were held against its parameters.
        let message = unsafe { emulator_worker_run(self.0, job, x, y, z, seed) };
        if message.is_null() {
            return Ok(());
        }
        // SAFETY: a text inside the worker.
        Err(unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned())
    }
}

/// Runs launches, a block per processor thread at a time.
pub struct Runner {
    seed: u64,
    threads: usize,
    shared_bytes: u32,
    workers: Vec<OwnWorker>,
}

impl Runner {
    pub fn new(seed: u64, threads: usize, shared_bytes: u32) -> Self {
        Self { seed, threads, shared_bytes, workers: Vec::new() }
    }

    /// Runs all blocks; `number` tells launches apart for the schedule.
    pub fn run(&mut self, task: &Task, number: u64) -> std::result::Result<(), String> {
        let [gx, gy, gz] = task.grid.map(u64::from);
        let blocks = gx * gy * gz;
        let threads = self.threads.min(usize::try_from(blocks).unwrap_or(usize::MAX));
        while self.workers.len() < threads {
            // SAFETY: a plain constructor.
            let worker = unsafe { emulator_worker_new(STACK_BYTES, self.shared_bytes as usize) };
            if worker.is_null() {
                return Err("the emulator cannot get memory for its threads' stacks".to_owned());
            }
            self.workers.push(OwnWorker(worker));
        }
        let job = Shared(Job {
            entry: task.entry,
            arguments: task.args.as_ptr(),
            grid: task.grid,
            threads: task.threads,
            shared: task.shared,
            shared_limit: self.shared_bytes,
            seed: self.seed,
        });
        let order = (self.seed != 0).then(|| Order::new(blocks, mix(self.seed ^ number)));
        let (next, stop, failed) = (AtomicU64::new(0), AtomicBool::new(false), Mutex::new(None));
        let work = |worker: &mut OwnWorker| {
            let job = &job;
            while !stop.load(Ordering::Relaxed) {
                let turn = next.fetch_add(1, Ordering::Relaxed);
                if turn >= blocks {
                    return;
                }
                let block = order.as_ref().map_or(turn, |o| o.at(turn));
                let index = [block % gx, block / gx % gy, block / gx / gy].map(|i| i as u32);
                if let Err(message) = worker.run(&job.0, index, mix(self.seed ^ mix(number ^ mix(block)))) {
                    stop.store(true, Ordering::Relaxed);
                    failed.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(message);
                }
            }
        };
        match &mut self.workers[..threads] {
            [own] => work(own),
            several => std::thread::scope(|scope| {
                let (own, others) = several.split_first_mut().expect("at least one block");
                let spawned: Vec<_> = others.iter_mut().map(|worker| scope.spawn(|| work(worker))).collect();
                work(own);
                // One by one, since a sanitizer knows of joined threads only that they are over.
                spawned.into_iter().for_each(|thread| thread.join().expect("kernels do not panic"));
            }),
        }
        failed.into_inner().unwrap_or_else(|e| e.into_inner()).map_or(Ok(()), Err)
    }
}

struct Shared(Job);

// SAFETY: a job is only read; what it points to lives as long as the launch.
unsafe impl Sync for Shared {}

/// A permutation of the blocks.
struct Order {
    blocks: u64,
    stride: u64,
    start: u64,
}

impl Order {
    fn new(blocks: u64, random: u64) -> Self {
        let mut stride = random % blocks;
        while gcd(stride, blocks) != 1 {
            stride = (stride + 1) % blocks.max(2);
        }
        Self { blocks, stride, start: mix(random) % blocks }
    }

    fn at(&self, turn: u64) -> u64 {
        ((u128::from(turn) * u128::from(self.stride) + u128::from(self.start)) % u128::from(self.blocks)) as u64
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// A number that looks random, from a number.
pub fn mix(value: u64) -> u64 {
    let mut x = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}
