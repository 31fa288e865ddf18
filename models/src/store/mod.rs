//! Packed weights, kept in files between starts: where they lie, whose they are, and which of them go when there are too
//! many. What is in a file is told in `file.rs`. That a file cannot be written or read costs time, never the model.

pub(crate) mod file;

pub use file::Entry;

use crate::load::{LoadOptions, plan};
use crate::{Checkpoint, Error, Result, Spec, fingerprint};
use file::{Index, Reader, Writer};
use nano_kernels::{Backend, KvFormat};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use xxhash_rust::xxh3::xxh3_64;

/// How names of files end, and those of files that are being written.
const ENDING: &str = "packed";
const PART: &str = "part";
/// Bytes that the disk keeps free.
const SPARE: u64 = 1 << 30;
/// A file that nobody has finished for so long is nobody's any more.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// A folder with packed weights of models that were loaded before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedCache {
    /// The folder. It is made when something is written.
    pub folder: PathBuf,
    /// Bytes that all files may take together: those that were not used for longest go first.
    pub limit: u64,
    /// Bytes of tensors that loading must convert before it is worth a file. What is packed as it is comes from its own file
    /// about as fast.
    pub least: u64,
}

/// A model in the folder.
#[derive(Clone, Debug)]
pub struct KeptModel {
    /// Its file.
    pub path: PathBuf,
    /// Its name; empty if the file is damaged.
    pub model: String,
    /// What it was made into.
    pub format: String,
    /// Bytes of the file.
    pub bytes: u64,
    /// When it was written or loaded last.
    pub used: SystemTime,
}

impl PackedCache {
    /// The models in the folder, the last used first.
    pub fn list(&self) -> Result<Vec<KeptModel>> {
        let mut models: Vec<KeptModel> = files(&self.folder, ENDING)
            .map(|(path, bytes, used)| {
                let index = Reader::open(&path).ok().flatten().map(|reader| reader.index).unwrap_or_default();
                KeptModel { path, model: index.model, format: index.format, bytes, used }
            })
            .collect();
        models.sort_by_key(|model| std::cmp::Reverse(model.used));
        Ok(models)
    }

    /// Removes those that were not used for longest, until the others take `most` bytes at most. Gives what was removed.
    pub fn prune(&self, most: u64) -> Result<Vec<KeptModel>> {
        let now = SystemTime::now();
        for (path, _, written) in files(&self.folder, PART) {
            if now.duration_since(written).is_ok_and(|age| age > ABANDONED) {
                remove(&path)?;
            }
        }
        let mut left = most;
        let mut gone = Vec::new();
        for model in self.list()? {
            match left.checked_sub(model.bytes) {
                Some(rest) if gone.is_empty() => left = rest,
                _ => {
                    remove(&model.path)?;
                    gone.push(model);
                }
            }
        }
        Ok(gone)
    }
}

/// Files of a folder that end so: paths, lengths and times. None if there is no such folder.
fn files(folder: &Path, ending: &'static str) -> impl Iterator<Item = (PathBuf, u64, SystemTime)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path()).filter(move |path| path.extension().is_some_and(|e| e == ending));
    paths.filter_map(|path| {
        let meta = std::fs::metadata(&path).ok().filter(std::fs::Metadata::is_file)?;
        Some((path, meta.len(), meta.modified().unwrap_or(UNIX_EPOCH)))
    })
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        // Another process was faster.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(|error| Error::io(path, "cannot be removed", error)),
    }
}

/// The part that a cache has in one load.
#[derive(Default)]
pub struct Shelf<'a> {
    cache: Option<&'a PackedCache>,
    path: PathBuf,
    stamp: String,
    model: String,
    format: String,
    threads: usize,
    /// Bytes that the weights will take.
    bytes: u64,
    reader: Option<Reader>,
    damaged: bool,
    /// The weights so far, from the file or made anew.
    weights: Vec<Entry>,
    notices: Vec<String>,
}

impl<'a> Shelf<'a> {
    /// Looks for the packed weights of a model, if it is worth it.
    pub fn open<B: Backend>(
        cache: Option<&'a PackedCache>,
        checkpoint: &dyn Checkpoint,
        spec: &Spec,
        options: &LoadOptions,
    ) -> Result<Self> {
        let none = Shelf::default();
        let (Some(cache), Some(layout)) = (cache, B::LAYOUT) else { return Ok(none) };
        let plan = plan::<B>(checkpoint, spec, options, spec.page_layout(1, KvFormat::F16))?;
        let files = checkpoint.files();
        if plan.converted_bytes < cache.least || plan.weights_bytes > cache.limit || files.is_empty() {
            return Ok(none);
        }
        let Some(stamp) = stamp(checkpoint, &files, layout, options)? else { return Ok(none) };
        let made = format!("{:?} {:?}", options.quantization, options.head);
        let change = checkpoint.under().map_or("", |(_, mark)| mark);
        let place = std::fs::canonicalize(checkpoint.path()).unwrap_or_else(|_| checkpoint.path().to_path_buf());
        let name = title(&place);
        let number = xxh3_64(format!("{} {made} {layout} {change}", place.display()).as_bytes());
        let plain: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() || "-._".contains(c) { c } else { '-' }).collect();
        let path = cache.folder.join(format!("{plain}-{number:016x}.{ENDING}"));
        let format = options.quantization.map_or("its own formats", |q| q.name());
        let mut shelf = Shelf {
            cache: Some(cache),
            stamp,
            model: name,
            format: format!("{format}{} ({layout})", if change.is_empty() { "" } else { ", with adapters" }),
            threads: options.threads,
            bytes: plan.weights_bytes,
            ..none
        };
        match Reader::open(&path) {
            Ok(Some(reader)) if reader.index.stamp == shelf.stamp => shelf.reader = Some(reader),
            Ok(Some(_)) => shelf.notices.push(
                "the model or this program has changed since its packed weights were kept: they are made anew".into(),
            ),
            // What cannot be read is told where it cannot be written either.
            Ok(None) | Err(Error::Io { .. }) => {}
            Err(error) => shelf.notices.push(format!("packed weights are made anew: {error}")),
        }
        shelf.path = path;
        Ok(shelf)
    }

    /// A weight that the file holds whole.
    pub fn take<B: Backend>(&mut self, key: &str, backend: &B) -> Option<(B::Weight, Entry)> {
        let reader = self.reader.as_ref()?;
        let found = reader.weight(key, self.threads);
        let made = found.and_then(|(entry, bytes)| Some((backend.load_weight(bytes).ok()?, entry.clone())));
        reader.done(key, backend.shares_memory());
        match &made {
            Some((_, entry)) => self.weights.push(entry.clone()),
            None => self.damaged = true,
        }
        made
    }

    /// Notes a weight that was made anew.
    pub fn made(&mut self, entry: impl FnOnce() -> Entry) {
        if self.cache.is_some() {
            self.weights.push(entry());
        }
    }

    /// Writes the weights, given in the order in which they were loaded, unless they came from the file. Tells what the user
    /// should know, and the file that was written, with its bytes.
    pub fn finish<B: Backend>(mut self, weights: &[&B::Weight], backend: &B) -> (Vec<String>, Option<(PathBuf, u64)>) {
        let Some(cache) = self.cache else { return (self.notices, None) };
        if self.reader.is_some() && !self.damaged {
            // Where that is not allowed, it goes sooner than it might.
            let _ = File::options().append(true).open(&self.path).map(|file| file.set_modified(SystemTime::now()));
            return (self.notices, None);
        }
        if self.damaged {
            self.notices.push(format!("{}: is damaged: what it held wrongly was made anew", self.path.display()));
        }
        let written = self.write(cache, weights, backend);
        match written {
            Ok(bytes) => {
                if let Err(error) = cache.prune(cache.limit) {
                    self.notices.push(error.to_string());
                }
                (self.notices, Some((self.path, bytes)))
            }
            Err(error) => {
                let folder = cache.folder.display();
                self.notices.push(format!(
                    "packed weights are not kept for the next start: {folder}: {error}; --no-packed-cache does not try"
                ));
                (self.notices, None)
            }
        }
    }

    fn write<B: Backend>(&mut self, cache: &PackedCache, weights: &[&B::Weight], backend: &B) -> std::io::Result<u64> {
        assert_eq!(weights.len(), self.weights.len(), "every weight is noted");
        std::fs::create_dir_all(&cache.folder)?;
        room(&cache.folder, self.bytes)?;
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let part = self.path.with_extension(format!("{}-{nanos}.{PART}", std::process::id()));
        let [stamp, model, format] = [&self.stamp, &self.model, &self.format].map(Clone::clone);
        let mut writer = Writer::create(part, Index { stamp, model, format, weights: Vec::new() })?;
        for (entry, weight) in self.weights.drain(..).zip(weights) {
            writer.add(entry, |out| backend.store_weight(weight, out))?;
        }
        writer.finish(&self.path)
    }
}

/// Whether a disk has room for so many bytes and a good deal beside them: others want to write too.
fn room(folder: &Path, bytes: u64) -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    if let Ok(disk) = rustix::fs::statvfs(folder) {
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free < bytes.saturating_add(SPARE) {
            return Err(std::io::Error::other(format!("{free} bytes are free; {bytes} are needed and {SPARE} spared")));
        }
    }
    Ok(())
}

/// What tells this state of a model from others: its files' names, sizes and times, samples of them, and this program.
/// `None` if the system does not tell.
fn stamp(
    checkpoint: &dyn Checkpoint,
    files: &[PathBuf],
    layout: &str,
    options: &LoadOptions,
) -> Result<Option<String>> {
    let version = env!("CARGO_PKG_VERSION");
    let mut stamp =
        format!("{version} {layout} {:?} {:?} {}", options.quantization, options.head, fingerprint(checkpoint)?);
    for file in files {
        let Ok(meta) = std::fs::metadata(file) else { return Ok(None) };
        let Ok(time) = meta.modified().map(|time| time.duration_since(UNIX_EPOCH).unwrap_or_default()) else {
            return Ok(None);
        };
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        stamp.push_str(&format!("\n{name} {} {}", meta.len(), time.as_nanos()));
    }
    Ok(Some(stamp))
}

/// What people call a model: org/name where its path lies in the Hub's cache, else the last part of the path.
fn title(path: &Path) -> String {
    let hub = path.iter().find_map(|part| part.to_str()?.strip_prefix("models--").map(|name| name.replace("--", "/")));
    hub.unwrap_or_else(|| path.file_name().unwrap_or_default().to_string_lossy().into_owned())
}
