//! Kernels by name, decoded when first asked for, and launches: arguments checked, blocks run.

use crate::kernel::Kernel;
use crate::machine::Grid;
use crate::memory::Memory;
use crate::module::{Place, entry_names, with_module};
use crate::worker::Worker;
use nano_kernels::cuda::{About, Arg, Launch};
use nano_kernels::{Error, Result};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Where the PTX lies.
const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../cuda/ptx");

/// Files of PTX and what was decoded of them.
pub struct Kernels {
    files: Vec<File>,
    by_name: HashMap<String, usize>,
    decoded: HashMap<String, Arc<Kernel>>,
}

struct File {
    name: String,
    text: String,
    /// Addresses of its variables in device memory, once one of its kernels was asked for.
    globals: Option<HashMap<String, u64>>,
}

impl Kernels {
    /// All files for a target.
    pub fn shipped(target: &str) -> Result<Self> {
        let wrong = |e: std::io::Error| Error::Unsupported(format!("kernels/cuda/ptx cannot be read: {e}"));
        let mut paths = Vec::new();
        for entry in Path::new(SHIPPED).read_dir().map_err(wrong)? {
            paths.push(entry.map_err(wrong)?.path());
        }
        paths.sort();
        let name = |path: &Path| path.file_name().map_or(String::new(), |n| n.to_string_lossy().into_owned());
        let mut texts = Vec::new();
        for path in paths.iter().filter(|p| name(p).ends_with(&format!(".{target}.ptx"))) {
            texts.push((name(path), std::fs::read_to_string(path).map_err(wrong)?));
        }
        Self::new(texts.into_iter())
    }

    /// Files by name and text.
    pub fn new(texts: impl Iterator<Item = (String, String)>) -> Result<Self> {
        let files: Vec<File> = texts.map(|(name, text)| File { name, text, globals: None }).collect();
        let mut by_name = HashMap::new();
        for (index, file) in files.iter().enumerate() {
            for entry in entry_names(&file.text) {
                if let Some(other) = by_name.insert(entry.to_owned(), index) {
                    let other: &File = &files[other];
                    return Err(Error::Unsupported(format!(
                        "kernel {entry} is in {} and in {}",
                        other.name, file.name
                    )));
                }
            }
        }
        Ok(Self { files, by_name, decoded: HashMap::new() })
    }

    /// Decodes them all; gives their number.
    pub fn all(&mut self, memory: &mut Memory) -> Result<usize> {
        let mut names: Vec<String> = self.by_name.keys().cloned().collect();
        names.sort();
        names.iter().try_for_each(|name| self.get(name, memory).map(drop))?;
        Ok(names.len())
    }

    /// A kernel.
    pub fn get(&mut self, name: &str, memory: &mut Memory) -> Result<Arc<Kernel>> {
        if let Some(kernel) = self.decoded.get(name) {
            return Ok(kernel.clone());
        }
        let &index = self.by_name.get(name).ok_or_else(|| {
            Error::Unsupported(format!("kernel {name}: there is none in this PTX; run scripts/kernels generate"))
        })?;
        let File { name: file, text, globals } = &mut self.files[index];
        let kernel = with_module(text, |module| {
            let globals = match globals {
                Some(known) => known,
                None => {
                    let mut placed = HashMap::new();
                    for v in module.variables.iter().filter(|v| v.place == Place::Global) {
                        let bytes = v.bytes.ok_or_else(|| format!("variable '{}' has no size", v.name))?;
                        let at = memory.alloc(bytes, &v.name).map_err(|e| e.to_string())?;
                        memory.write(at, &v.start)?;
                        placed.insert(v.name.clone(), at);
                    }
                    globals.insert(placed)
                }
            };
            let entry = module.entries.iter().find(|e| e.name == name).ok_or("it is not there")?;
            Kernel::new(entry, &module.variables, globals, file, text)
        });
        let kernel = Arc::new(kernel.map_err(|e| Error::Unsupported(format!("kernel {name}: {e}")))?);
        self.decoded.insert(name.to_owned(), kernel.clone());
        Ok(kernel)
    }
}

/// A launch that fits its kernel.
#[derive(Clone)]
pub struct Checked {
    kernel: Arc<Kernel>,
    grid: Arc<Grid>,
}

impl Checked {
    /// Holds a launch against its kernel and the machine.
    pub fn new(kernel: Arc<Kernel>, launch: &Launch<'_>, about: &About, memory: &Memory) -> Result<Self> {
        let wrong = |what: String| Err(Error::Unsupported(format!("kernel {}: {what}", kernel.name)));
        let Launch { grid, threads, shared, args, .. } = *launch;
        if args.len() != kernel.params.len() {
            return wrong(format!("{} arguments, where it has {} parameters", args.len(), kernel.params.len()));
        }
        let mut params = vec![0; kernel.params.last().map_or(0, |p| p.at + p.bytes)];
        for (number, (&arg, param)) in args.iter().zip(&kernel.params).enumerate() {
            let (kind, value) = match arg {
                Arg::Ptr(at) => ("u64", at),
                Arg::U64(value) => ("u64", value),
                Arg::U32(value) => ("u32", u64::from(value)),
                Arg::F32(value) => ("f32", u64::from(value.to_bits())),
            };
            if kind != param.kind {
                return wrong(format!("argument {number} is {arg:?}, where the parameter is {}", param.kind));
            }
            if let Arg::Ptr(at) = arg
                && at != 0
                && !memory.knows(at)
            {
                return wrong(format!("argument {number} is the address {at:#x}, where there is no memory"));
            }
            params[param.at..][..param.bytes].copy_from_slice(&value.to_le_bytes()[..param.bytes]);
        }
        if threads == 0 || threads > kernel.threads {
            return wrong(format!("{threads} threads, where its launch bounds allow 1 to {}", kernel.threads));
        }
        if grid[0] == 0 || grid[0] > i32::MAX as u32 || grid[1..].iter().any(|n| !(1..=65535).contains(n)) {
            return wrong(format!("a grid of {grid:?} blocks"));
        }
        let total = kernel.dynamic_base() + shared as usize;
        if total > about.shared_bytes as usize {
            return wrong(format!("{total} bytes of shared memory, where a block may have {}", about.shared_bytes));
        }
        Ok(Self { kernel, grid: Arc::new(Grid { blocks: grid, threads, dynamic: shared, params }) })
    }

    /// Runs all blocks; gives how many instructions warps did.
    pub fn run(&self, memory: &Memory) -> Result<u64> {
        let [x, y, z] = self.grid.blocks.map(u64::from);
        let blocks = x * y * z;
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        let threads = if self.kernel.ordered { 1 } else { cores.min(blocks) };
        let (next, done) = (AtomicU64::new(0), AtomicU64::new(0));
        // Of several failures the first block's is told, however the threads ran.
        let failed: Mutex<Option<(u64, String)>> = Mutex::new(None);
        let work = || {
            let mut worker = Worker::new(memory, &self.kernel, &self.grid);
            loop {
                let block = next.fetch_add(1, Relaxed);
                if block >= blocks {
                    return;
                }
                let at = [block % x, block / x % y, block / (x * y)].map(|n| n as u32);
                match worker.run(&self.kernel, &self.grid, at) {
                    Ok(count) => {
                        done.fetch_add(count, Relaxed);
                    }
                    Err(why) => {
                        next.store(blocks, Relaxed);
                        let mut failed = failed.lock().unwrap_or_else(|e| e.into_inner());
                        if failed.as_ref().is_none_or(|(first, _)| block < *first) {
                            *failed = Some((block, why));
                        }
                        return;
                    }
                }
            }
        };
        if threads == 1 {
            work();
        } else {
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(work);
                }
            });
        }
        match failed.into_inner().unwrap_or_else(|e| e.into_inner()) {
            Some((_, why)) => Err(Error::Unsupported(format!("kernel {}: {why}", self.kernel.name))),
            None => Ok(done.into_inner()),
        }
    }
}
