//! One session file that is open: finding its last complete turn, reading pages, appending turns. Where the file lies,
//! and what happens when it is rewritten, is not known here.

use super::format::{
    BLOCK, ENTRY, Entry, Extent, HEAD, Head, MAX_HEADER, MAX_RECORD, Preamble, TRAILER, Trailer, page_sum, record,
    record_sum, split,
};
use super::{Header, ReadPage};
use crate::{Error, Result};
use std::io;
use std::path::{Path, PathBuf};

/// Blocks that are looked through for a turn where none is known to begin (16 GiB): a bound for files that are one
/// large hole.
const SEARCH: u64 = 1 << 22;

/// The bytes of an open file.
pub(super) trait Storage {
    fn len(&mut self) -> io::Result<u64>;
    /// Fills `into`, or fails.
    fn read_at(&mut self, at: u64, into: &mut [u8]) -> io::Result<()>;
    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()>;
    fn set_len(&mut self, len: u64) -> io::Result<()>;
    /// Returns once all that was written will outlast a power cut.
    fn sync(&mut self) -> io::Result<()>;
}

/// A session file.
#[derive(Debug)]
pub(super) struct Log<S> {
    /// For messages.
    path: PathBuf,
    storage: S,
    preamble: Preamble,
    /// Where the last complete turn ends; without one, the header.
    end: u64,
    /// The number of the last complete turn, or 0.
    number: u64,
    /// The pages of the last complete turn.
    table: Vec<Entry>,
    /// Bytes after `end` are of no use, and must be gone before others are written.
    tail: bool,
}

/// A file, the state of its last complete turn, and what was found wrong.
pub(super) struct Found<S> {
    pub(super) log: Log<S>,
    pub(super) state: Option<Vec<u8>>,
    pub(super) notice: Option<String>,
}

/// A turn whose record is right.
struct Complete {
    head: Head,
    end: u64,
    table: Vec<Entry>,
    state: Vec<u8>,
}

impl<S: Storage> Log<S> {
    /// Writes the header of a new file.
    pub(super) fn create(path: &Path, mut storage: S, id: u64, header: &Header) -> Result<Self> {
        let (preamble, bytes) = Preamble::new(id, header).map_err(|why| Error::session(path, why))?;
        storage.write_at(0, &bytes).map_err(|e| Error::session_io(path, "cannot be written", e))?;
        let end = preamble.bytes;
        Ok(Self { path: path.to_path_buf(), storage, preamble, end, number: 0, table: Vec::new(), tail: false })
    }

    /// Finds the last complete turn.
    pub(super) fn open(path: &Path, mut storage: S) -> Result<Found<S>> {
        let unread = |e| Error::session_io(path, "cannot be read", e);
        let len = storage.len().map_err(unread)?;
        let mut start = vec![0; len.min(MAX_HEADER) as usize];
        storage.read_at(0, &mut start).map_err(unread)?;
        let preamble = Preamble::read(&start).map_err(|why| Error::session(path, why))?;
        let end = preamble.bytes;
        let mut log =
            Self { path: path.to_path_buf(), storage, preamble, end, number: 0, table: Vec::new(), tail: false };
        let state = log.last(len).map_err(unread)?.map(|turn| {
            (log.end, log.number, log.table) = (turn.end, turn.head.number, turn.table);
            turn.state
        });
        log.tail = log.end < len;
        let notice = log.tail.then(|| log.notice(len));
        Ok(Found { log, state, notice })
    }

    pub(super) fn header(&self) -> &Header {
        &self.preamble.header
    }

    pub(super) fn pages(&self) -> usize {
        self.table.len()
    }

    /// Reads a page of the last complete turn into `into`, whatever that held. After an error its content is no page.
    pub(super) fn read_page(&mut self, index: usize, into: &mut Vec<u8>) -> Result<()> {
        let Some(&Entry { offset, sum }) = self.table.get(index) else {
            let why = format!("has no page {index}; its last turn has {}", self.table.len());
            return Err(Error::session(&self.path, why));
        };
        let damaged = |why| Error::SessionPage { path: self.path.clone(), page: index, offset, why };
        into.resize(self.preamble.header.page_bytes, 0);
        self.storage.read_at(offset, into).map_err(|e| damaged(format!("cannot be read: {e}")))?;
        if page_sum(into, self.preamble.id) == sum {
            Ok(())
        } else {
            Err(damaged("is damaged: its bytes do not match their checksum".into()))
        }
    }

    /// Appends a turn. On an error the last one still stands.
    pub(super) fn append(&mut self, state: &[u8], pages: usize, changed: usize, read: ReadPage<'_>) -> Result<()> {
        self.clear_tail()?;
        let out = self.write(state, pages, changed, read);
        if out.is_err() {
            // If this fails too, the next turn tries it again and says so.
            self.tail = true;
            let _ = self.clear_tail();
        }
        out
    }

    /// Returns once all that was written will outlast a power cut.
    pub(super) fn sync(&mut self) -> Result<()> {
        self.storage.sync().map_err(|e| Error::session_io(&self.path, "cannot be written", e))
    }

    /// Bytes that the file would have after such a turn, and how many of them would be of use.
    pub(super) fn sizes(&self, state: usize, pages: usize, changed: usize) -> (u64, u64) {
        let page_bytes = self.preamble.header.page_bytes as u64;
        let record = HEAD + pages as u64 * ENTRY + state as u64 + TRAILER;
        let fresh = (pages - self.kept(pages, changed)) as u64;
        let len = self.end.next_multiple_of(BLOCK) + fresh * page_bytes + record;
        (len, self.preamble.first() + pages as u64 * page_bytes + record)
    }

    /// Pages that stay where they are.
    fn kept(&self, pages: usize, changed: usize) -> usize {
        changed.min(pages).min(self.table.len())
    }

    fn write(&mut self, state: &[u8], pages: usize, changed: usize, read: ReadPage<'_>) -> Result<()> {
        let Preamble { id, ref header, .. } = self.preamble;
        let page_bytes = header.page_bytes;
        let kept = self.kept(pages, changed);
        let start = self.end.next_multiple_of(BLOCK);
        let (fresh, all, bytes) = ((pages - kept) as u64, pages as u64, state.len() as u64);
        let head = Head { start, number: self.number + 1, fresh, pages: all, state: bytes };
        let Some(extent) = head.extent(page_bytes as u64, u64::MAX) else {
            let why =
                format!("{pages} pages and {bytes} bytes of messages are too much: {MAX_RECORD} bytes can be listed");
            return Err(Error::session(&self.path, why));
        };
        let head = head.encode(id);
        let unwritten = |e| Error::session_io(&self.path, "cannot be written", e);
        let mut put = |at, bytes: &[u8]| self.storage.write_at(at, bytes).map_err(unwritten);

        put(start, &head)?;
        let mut table = self.table[..kept].to_vec();
        let mut page = Vec::new();
        for index in kept..pages {
            page.clear();
            read(index, &mut page)?;
            if page.len() != page_bytes {
                let why = format!("page {index} has {} bytes where {page_bytes} were announced", page.len());
                return Err(Error::session(&self.path, why));
            }
            let offset = start + HEAD + ((index - kept) * page_bytes) as u64;
            table.push(Entry { offset, sum: page_sum(&page, id) });
            put(offset, &page)?;
        }
        if fresh > 0 {
            // A record that outlasts a power cut while its pages do not would name pages that are not there.
            self.storage.sync().map_err(unwritten)?;
        }
        let mut bytes = record(&table, state);
        let sum = record_sum(&bytes, &head);
        bytes.extend(Trailer { start, sum }.encode(id));
        self.storage.write_at(extent.record, &bytes).map_err(unwritten)?;
        self.storage.sync().map_err(unwritten)?;
        (self.end, self.number, self.table) = (extent.end, self.number + 1, table);
        Ok(())
    }

    /// Cuts off what follows the last complete turn, for good: were it still there after a power cut, it could stand
    /// behind the next turn.
    fn clear_tail(&mut self) -> Result<()> {
        if self.tail {
            let cleared = self.storage.set_len(self.end).and_then(|()| self.storage.sync());
            cleared.map_err(|e| Error::session_io(&self.path, "an incomplete turn cannot be cut off", e))?;
            self.tail = false;
        }
        Ok(())
    }

    /// The last complete turn of a file of `len` bytes: the one that ends with the file, or the last of all that can
    /// be found.
    fn last(&mut self, len: u64) -> io::Result<Option<Complete>> {
        if let Some(start) = self.trailer_start(len)?
            && let Some(turn) = self.turn(start, len)?
            && turn.end == len
        {
            return Ok(Some(turn));
        }
        for start in self.starts(len)?.into_iter().rev() {
            if let Some(turn) = self.turn(start, len)? {
                return Ok(Some(turn));
            }
        }
        Ok(None)
    }

    /// Where the turn begins whose trailer ends the file.
    fn trailer_start(&mut self, len: u64) -> io::Result<Option<u64>> {
        let first = self.preamble.first();
        if len < first + HEAD + TRAILER {
            return Ok(None);
        }
        let mut bytes = [0; TRAILER as usize];
        self.storage.read_at(len - TRAILER, &mut bytes)?;
        let start = Trailer::decode(&bytes, self.preamble.id).map(|t| t.start);
        Ok(start.filter(|s| *s >= first && s.is_multiple_of(BLOCK)))
    }

    /// Where turns begin that lie wholly in the file, complete or not: from head to head, and from block to block where
    /// a head is damaged.
    fn starts(&mut self, len: u64) -> io::Result<Vec<u64>> {
        let (mut at, mut searched) = (self.preamble.first(), 0);
        let mut out = Vec::new();
        while searched < SEARCH && at.saturating_add(HEAD) <= len {
            let Some(head) = self.head(at)? else {
                searched += 1;
                at += BLOCK;
                continue;
            };
            // A turn that goes on beyond the end of the file was the last.
            let Some(extent) = self.extent(&head, len) else { break };
            out.push(at);
            at = extent.end.next_multiple_of(BLOCK);
        }
        Ok(out)
    }

    /// The turn at `start`, if it is complete. Its pages are not looked at.
    fn turn(&mut self, start: u64, len: u64) -> io::Result<Option<Complete>> {
        if start.saturating_add(HEAD) > len {
            return Ok(None);
        }
        let Some(head) = self.head(start)? else { return Ok(None) };
        let Some(Extent { record, trailer, end }) = self.extent(&head, len) else { return Ok(None) };
        let mut bytes = [0; TRAILER as usize];
        self.storage.read_at(trailer, &mut bytes)?;
        let Some(Trailer { sum, .. }) = Trailer::decode(&bytes, self.preamble.id) else { return Ok(None) };
        let mut bytes = vec![0; (trailer - record) as usize];
        self.storage.read_at(record, &mut bytes)?;
        if record_sum(&bytes, &head.encode(self.preamble.id)) != sum {
            return Ok(None);
        }
        let page_bytes = self.preamble.header.page_bytes as u64;
        let parts = split(bytes, &head, self.preamble.first(), page_bytes, record);
        Ok(parts.map(|(table, state)| Complete { head, end, table, state }))
    }

    /// The head at a place where there are bytes for one.
    fn head(&mut self, at: u64) -> io::Result<Option<Head>> {
        let mut bytes = [0; HEAD as usize];
        self.storage.read_at(at, &mut bytes)?;
        Ok(Head::decode(&bytes, self.preamble.id, at))
    }

    fn extent(&self, head: &Head, len: u64) -> Option<Extent> {
        head.extent(self.preamble.header.page_bytes as u64, len)
    }

    fn notice(&self, len: u64) -> String {
        let Self { path, end, number, .. } = self;
        let kept = match number {
            0 => "no turn before them is complete, and the conversation is empty".to_owned(),
            number => format!("the conversation is as turn {number} left it"),
        };
        format!(
            "{}: the last {} bytes, from byte {end} on, are a damaged or incomplete turn and are left out: {kept}",
            path.display(),
            len - end
        )
    }
}
