//! A file of packed weights: their bytes one after the other, an index of them as JSON, and a trailer that says where the
//! index lies. Each weight, the index and the trailer have checksums, so that whatever changes of the file is found before it
//! is used; what lies between them is not used. Files are written under another name, and take their own when they are whole.

use crate::Error;
use crate::checkpoint::map::Map;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Result, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_128};

/// What a file begins with and ends with.
const MAGIC: [u8; 8] = *b"NanoPkd1";
/// Where the index lies, its length, its checksum, the checksum of these three, and the magic.
const TRAILER: usize = 8 + 8 + 16 + 8 + 8;
/// Checksums are made of pieces of this length, on as many threads as there are.
const PIECE: usize = 4 << 20;
/// Weights begin at multiples of this.
const ALIGN: u64 = 64;

/// What a file holds.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Index {
    /// What the weights were made from, by what, and for what.
    pub stamp: String,
    /// The model's name, and what it was made into, for people.
    pub model: String,
    pub format: String,
    pub weights: Vec<Entry>,
}

/// A weight, and what was found when it was made.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Entry {
    /// The tensors that it was made of.
    pub key: String,
    at: u64,
    bytes: u64,
    hash: String,
    /// Bytes of it that a step reads.
    pub step: u64,
    /// Tensors with values that are no numbers, and how many.
    pub broken: Vec<(String, usize)>,
    /// Tensors that became floats because of the order of their columns.
    pub reordered: Vec<String>,
}

impl Entry {
    /// A weight of these tensors.
    pub fn new(key: String, step: u64, broken: Vec<(String, usize)>, reordered: Vec<String>) -> Self {
        Entry { key, step, broken, reordered, ..Entry::default() }
    }
}

/// A file, opened.
pub struct Reader {
    map: Map,
    pub index: Index,
    places: HashMap<String, usize>,
}

impl Reader {
    /// Opens a file; `None` if there is none. Nothing of the weights is read.
    pub fn open(path: &Path) -> crate::Result<Option<Self>> {
        let map = match Map::open(path) {
            Ok(map) => map,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        Reader::new(map).map(Some).ok_or_else(|| Error::file(path, "is damaged"))
    }

    /// The same of a file's bytes; `None` if they are damaged.
    pub fn new(map: Map) -> Option<Self> {
        let index = index(&map)?;
        let places = index.weights.iter().enumerate().map(|(i, entry)| (entry.key.clone(), i)).collect();
        Some(Reader { map, index, places })
    }

    /// A weight and its bytes, if they are as they were written.
    pub fn weight(&self, key: &str, threads: usize) -> Option<(&Entry, &[u8])> {
        let entry = &self.index.weights[*self.places.get(key)?];
        let bytes = self.map.get(range(entry)?)?;
        (digest(bytes, threads) == entry.hash).then_some((entry, bytes))
    }

    /// Lets the system have a weight's memory back.
    pub fn done(&self, key: &str, evict: bool) {
        let entry = self.places.get(key).map(|place| &self.index.weights[*place]);
        if let Some(range) = entry.and_then(range) {
            if evict { self.map.evict(range) } else { self.map.release(range) }
        }
    }
}

fn range(entry: &Entry) -> Option<std::ops::Range<usize>> {
    let start = usize::try_from(entry.at).ok()?;
    Some(start..start.checked_add(usize::try_from(entry.bytes).ok()?)?)
}

/// The index of a file that is whole.
fn index(bytes: &[u8]) -> Option<Index> {
    let trailer = &bytes[bytes.len().checked_sub(TRAILER)?..];
    let number = |at: usize| Some(u64::from_le_bytes(*trailer[at..].first_chunk()?));
    if number(32)? != xxh3_64(&trailer[..32]) || trailer[40..] != MAGIC || !bytes.starts_with(&MAGIC) {
        return None;
    }
    let at = usize::try_from(number(0)?).ok()?;
    let index = bytes.get(at..at.checked_add(usize::try_from(number(8)?).ok()?)?)?;
    let whole = xxh3_128(index).to_le_bytes() == trailer[16..32];
    whole.then(|| serde_json::from_slice(index).ok())?
}

/// A file that is being written. Without [`finish`](Writer::finish) it goes away again.
pub struct Writer {
    file: BufWriter<File>,
    /// Its name until it is whole.
    path: PathBuf,
    at: u64,
    index: Index,
    whole: bool,
}

impl Writer {
    /// Begins a file at `path`, which nobody else has.
    pub fn create(path: PathBuf, index: Index) -> Result<Self> {
        let file = File::options().write(true).create_new(true).open(&path)?;
        let mut writer = Writer { file: BufWriter::with_capacity(1 << 20, file), path, at: 0, index, whole: false };
        writer.put(&MAGIC)?;
        Ok(writer)
    }

    /// Adds a weight, whose bytes `write` writes.
    pub fn add(&mut self, entry: Entry, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
        let padding = [0; ALIGN as usize];
        self.put(&padding[..(self.at.next_multiple_of(ALIGN) - self.at) as usize])?;
        let mut hashed = Hashed { to: &mut self.file, bytes: 0, piece: Xxh3::new(), all: Xxh3::new() };
        write(&mut hashed)?;
        let (bytes, hash) = (hashed.bytes, hashed.finish());
        self.index.weights.push(Entry { at: self.at, bytes, hash, ..entry });
        self.at += bytes;
        Ok(())
    }

    /// Ends the file, and gives it the name by which it will be found. Gives its length.
    pub fn finish(mut self, name: &Path) -> Result<u64> {
        let index = serde_json::to_vec(&self.index)?;
        let trailer = trailer(self.at, &index);
        self.put(&index)?;
        self.put(&trailer)?;
        self.file.flush()?;
        // The system's own times of files lag behind the clock by which files are marked as used.
        self.file.get_ref().set_modified(SystemTime::now())?;
        self.file.get_ref().sync_all()?;
        std::fs::rename(&self.path, name)?;
        self.whole = true;
        // The name lasts only when its folder is synced; if that cannot be, the next start finds out.
        let _ = name.parent().map(File::open).transpose().map(|folder| folder.map(|folder| folder.sync_all()));
        Ok(self.at)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.at += bytes.len() as u64;
        self.file.write_all(bytes)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.whole {
            // Nothing depends on it: what stays is removed by a later start.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// What ends a file whose index lies at `at`.
fn trailer(at: u64, index: &[u8]) -> Vec<u8> {
    let mut trailer = Vec::with_capacity(TRAILER);
    trailer.extend(at.to_le_bytes());
    trailer.extend((index.len() as u64).to_le_bytes());
    trailer.extend(xxh3_128(index).to_le_bytes());
    trailer.extend(xxh3_64(&trailer).to_le_bytes());
    trailer.extend(MAGIC);
    trailer
}

/// A file with an index of any bytes, whose checksums are right.
#[cfg(any(test, feature = "testing"))]
pub fn sealed(index: &[u8], weights: &[u8]) -> Vec<u8> {
    let at = MAGIC.len() + weights.len();
    [&MAGIC, weights, index, &trailer(at as u64, index)].concat()
}

/// The checksum of `bytes`: that of the checksums of its pieces.
fn digest(bytes: &[u8], threads: usize) -> String {
    let pieces = bytes.len().div_ceil(PIECE);
    let share = pieces.div_ceil(threads.max(1)).max(1) * PIECE;
    let of = |bytes: &[u8]| bytes.chunks(PIECE).map(xxh3_128).collect::<Vec<_>>();
    let mut all = Xxh3::new();
    std::thread::scope(|scope| {
        let mut shares = bytes.chunks(share);
        let own = shares.next();
        let others: Vec<_> = shares.map(|share| scope.spawn(move || of(share))).collect();
        let own = own.map(of).unwrap_or_default();
        // A checksum cannot panic; if it did, it would be the wrong one.
        let others = others.into_iter().flat_map(|other| other.join().unwrap_or_default());
        own.into_iter().chain(others).for_each(|piece| all.update(&piece.to_le_bytes()));
    });
    format!("{:032x}", all.digest128())
}

/// Passes bytes on and makes [`digest`] of them.
struct Hashed<'a> {
    to: &'a mut BufWriter<File>,
    bytes: u64,
    piece: Xxh3,
    all: Xxh3,
}

impl Hashed<'_> {
    fn end_piece(&mut self) {
        self.all.update(&self.piece.digest128().to_le_bytes());
        self.piece.reset();
    }

    fn finish(mut self) -> String {
        if !self.bytes.is_multiple_of(PIECE as u64) {
            self.end_piece();
        }
        format!("{:032x}", self.all.digest128())
    }
}

impl Write for Hashed<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let left = PIECE - (self.bytes % PIECE as u64) as usize;
        let written = self.to.write(&bytes[..bytes.len().min(left)])?;
        self.piece.update(&bytes[..written]);
        self.bytes += written as u64;
        if written > 0 && self.bytes.is_multiple_of(PIECE as u64) {
            self.end_piece();
        }
        Ok(written)
    }

    fn flush(&mut self) -> Result<()> {
        self.to.flush()
    }
}
