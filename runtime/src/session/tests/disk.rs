//! A disk in memory: it keeps a log of what was asked of it, can run full, and can say what would be left of it after a
//! kill or a power cut at any place in that log.

use super::super::log::Storage;
use super::super::{Place, Result};
use crate::Error;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::rc::Rc;

/// Something that was asked of a disk. Files have numbers; the session is the one that was published last.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Make(u64),
    Write(u64, u64, Vec<u8>),
    Cut(u64, u64),
    Sync(u64),
    Publish(u64),
    Settle,
    Discard(u64),
}

/// What becomes of operations that were not synced when the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// All are there: a kill, not a power cut.
    Kept,
    Lost,
    /// Of writes to one file, only the last is there.
    Last,
    /// Of writes to one file, all are there but this one, counted from the last.
    AllBut(usize),
    /// Files are as long as they would be, and hold zeros.
    Zeros,
    /// The same, and so do all blocks of the disk that were being written, whatever else was in them.
    Torn,
}

impl Fate {
    pub(super) const ALL: [Fate; 9] = [
        Fate::Kept,
        Fate::Lost,
        Fate::Last,
        Fate::AllBut(0),
        Fate::AllBut(1),
        Fate::AllBut(2),
        Fate::AllBut(3),
        Fate::Zeros,
        Fate::Torn,
    ];
}

#[derive(Clone, Debug, Default)]
struct Files {
    files: BTreeMap<u64, Vec<u8>>,
    session: Option<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    now: Files,
    ops: Vec<Op>,
    /// Bytes and operations that still succeed.
    budget: Option<usize>,
    /// Whether what failed first was writing.
    refused: Option<bool>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Disk(Rc<RefCell<Inner>>);

impl Disk {
    /// A disk whose session has these bytes.
    pub(super) fn with(bytes: Vec<u8>) -> Self {
        let now = Files { files: BTreeMap::from([(0, bytes)]), session: Some(0) };
        Self(Rc::new(RefCell::new(Inner { now, ..Inner::default() })))
    }

    pub(super) fn place(&self) -> Memory {
        Memory(self.clone())
    }

    pub(super) fn open(&self) -> (Memory, MemoryFile) {
        let session = self.0.borrow().now.session.expect("no session was published");
        (self.place(), MemoryFile { disk: self.clone(), file: session })
    }

    /// The session's bytes.
    pub(super) fn file(&self) -> Vec<u8> {
        let inner = self.0.borrow();
        inner.now.files[&inner.now.session.expect("no session was published")].clone()
    }

    /// How many files there are.
    pub(super) fn files(&self) -> usize {
        self.0.borrow().now.files.len()
    }

    /// The number of operations so far.
    pub(super) fn ops(&self) -> usize {
        self.0.borrow().ops.len()
    }

    /// Everything fails after so many bytes were written; operations other than writing count as one.
    pub(super) fn limit(&self, budget: Option<usize>) {
        self.0.borrow_mut().budget = budget;
    }

    /// Whether it was in the middle of writing that the disk was full.
    pub(super) fn refused_writing(&self) -> bool {
        self.0.borrow().refused == Some(true)
    }

    /// What the session's place may hold after a cut: when the first `ops` operations and `bytes` bytes of the next
    /// were done. Two files where a renaming may or may not have come to the disk.
    pub(super) fn after(&self, ops: usize, bytes: usize, fate: Fate) -> Vec<Vec<u8>> {
        let inner = self.0.borrow();
        let mut done = inner.ops[..ops].to_vec();
        if let Some(Op::Write(file, at, data)) = inner.ops.get(ops) {
            done.push(Op::Write(*file, *at, data[..bytes.min(data.len())].to_vec()));
        }
        let mut files: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let mut pending: BTreeMap<u64, Vec<Op>> = BTreeMap::new();
        let (mut settled, mut renamed) = (None, None);
        for op in done {
            match op {
                Op::Make(file) => drop(files.insert(file, Vec::new())),
                Op::Write(file, ..) | Op::Cut(file, _) => pending.entry(file).or_default().push(op),
                Op::Sync(file) => {
                    for op in pending.remove(&file).unwrap_or_default() {
                        apply(&mut files, &op, Fate::Kept);
                    }
                }
                Op::Publish(file) => renamed = Some(file),
                Op::Settle => settled = renamed.or(settled),
                Op::Discard(_) => (),
            }
        }
        for waiting in pending.values() {
            let last = waiting.len() - 1;
            for (index, op) in waiting.iter().enumerate() {
                let kept = match fate {
                    Fate::Kept | Fate::Zeros | Fate::Torn => true,
                    Fate::Lost => false,
                    Fate::Last => index == last,
                    Fate::AllBut(lost) => index + lost != last,
                };
                if kept {
                    apply(&mut files, op, fate);
                }
            }
        }
        let mut places = if fate == Fate::Kept { vec![renamed] } else { vec![settled, renamed] };
        places.dedup();
        places.into_iter().flatten().map(|file| files[&file].clone()).collect()
    }

    /// Bytes of the operation, if it writes some.
    pub(super) fn bytes_of(&self, op: usize) -> usize {
        match self.0.borrow().ops.get(op) {
            Some(Op::Write(_, _, data)) => data.len(),
            _ => 0,
        }
    }

    fn run(&self, op: Op) -> io::Result<()> {
        let mut inner = self.0.borrow_mut();
        let cost = if let Op::Write(_, _, data) = &op { data.len() } else { 1 };
        let left = inner.budget.unwrap_or(usize::MAX);
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        // Cutting off and removing take no room.
        if cost > left && !matches!(op, Op::Cut(..) | Op::Discard(_)) {
            inner.refused.get_or_insert(matches!(op, Op::Write(..)));
            inner.budget = Some(0);
            if let Op::Write(file, at, data) = op {
                let part = Op::Write(file, at, data[..left].to_vec());
                apply(&mut inner.now.files, &part, Fate::Kept);
                inner.ops.push(part);
            }
            return Err(full());
        }
        inner.budget = inner.budget.map(|left| left.saturating_sub(cost));
        match &op {
            Op::Make(file) => drop(inner.now.files.insert(*file, Vec::new())),
            Op::Publish(file) => {
                if let Some(old) = inner.now.session.replace(*file) {
                    inner.now.files.remove(&old);
                }
            }
            Op::Discard(file) => drop(inner.now.files.remove(file)),
            op => apply(&mut inner.now.files, op, Fate::Kept),
        }
        inner.ops.push(op);
        Ok(())
    }
}

fn apply(files: &mut BTreeMap<u64, Vec<u8>>, op: &Op, fate: Fate) {
    match op {
        Op::Write(file, at, data) => {
            let (bytes, at) = (files.get_mut(file).expect("a file that was made"), *at as usize);
            let end = at + data.len();
            bytes.resize(bytes.len().max(end), 0);
            match fate {
                Fate::Zeros => (),
                Fate::Torn => bytes[at / 4096 * 4096..end].fill(0),
                _ => bytes[at..end].copy_from_slice(data),
            }
        }
        Op::Cut(file, len) => files.get_mut(file).expect("a file that was made").resize(*len as usize, 0),
        _ => (),
    }
}

/// The session's place on a [`Disk`].
#[derive(Debug)]
pub(super) struct Memory(Disk);

#[derive(Debug)]
pub(super) struct MemoryFile {
    disk: Disk,
    file: u64,
}

impl Memory {
    fn run(&self, op: Op) -> Result<()> {
        self.0.run(op).map_err(|e| Error::session_io(self.path(), "cannot be written", e))
    }
}

impl Place for Memory {
    type File = MemoryFile;

    fn path(&self) -> &Path {
        Path::new("talk.session")
    }

    fn writable(&self) -> Result<()> {
        Ok(())
    }

    fn beside(&mut self, id: u64) -> Result<MemoryFile> {
        self.run(Op::Make(id))?;
        Ok(MemoryFile { disk: self.0.clone(), file: id })
    }

    fn publish(&mut self, id: u64, _new: bool) -> Result<()> {
        self.run(Op::Publish(id))
    }

    fn settle(&mut self) -> Result<()> {
        self.run(Op::Settle)
    }

    fn discard(&mut self, id: u64) {
        self.run(Op::Discard(id)).expect("removing takes no room");
    }
}

impl Storage for MemoryFile {
    fn len(&mut self) -> io::Result<u64> {
        Ok(self.disk.0.borrow().now.files[&self.file].len() as u64)
    }

    fn read_at(&mut self, at: u64, into: &mut [u8]) -> io::Result<()> {
        let inner = self.disk.0.borrow();
        let bytes = &inner.now.files[&self.file];
        let range = at as usize..at as usize + into.len();
        into.copy_from_slice(bytes.get(range).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.run(Op::Write(self.file, at, bytes.to_vec()))
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.disk.run(Op::Cut(self.file, len))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.run(Op::Sync(self.file))
    }
}
