//! The bytes of a session file: what each part looks like and how it is told from damage. No file is touched here.
//!
//! ```text
//! header   magic, version, length, file id, bytes of a page, identity (JSON), checksum
//! turn     head:    magic, file id, start, number, new pages, pages, bytes of state, checksum
//!          pages:   those that are new in this turn
//!          record:  where every page of the conversation lies and its checksum, then the state
//!          trailer: magic, start, checksum of the record, checksum
//! ```
//!
//! Numbers are little-endian. A turn begins at a multiple of [`BLOCK`], so that writing one never rewrites a block of
//! the disk that holds an earlier one. A turn counts once its trailer and record are right; its pages are checked when
//! they are read. All checksums of a turn depend on the file's id and the turn's start: bytes of another file, or of
//! another place, are damage.

use super::Header;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Turns begin at multiples of this.
pub(super) const BLOCK: u64 = 4096;
/// Bytes of a turn's head.
pub(super) const HEAD: u64 = 64;
/// Bytes of a turn's trailer.
pub(super) const TRAILER: u64 = 32;
/// Bytes that a record takes for one page.
pub(super) const ENTRY: u64 = 16;
/// No header is longer.
pub(super) const MAX_HEADER: u64 = 1 << 16;
/// No record is longer: what a hostile file can make us allocate.
pub(super) const MAX_RECORD: u64 = 1 << 26;
/// No page is longer.
pub(super) const MAX_PAGE: u64 = 1 << 30;

const MAGIC: [u8; 8] = *b"NanoSess";
const HEAD_MAGIC: [u8; 8] = *b"NanoTurn";
const TRAILER_MAGIC: [u8; 8] = *b"TurnDone";
const VERSION: u32 = 1;
/// Bytes of the header before the identity.
const FIXED: usize = 32;
const SUM: usize = 8;

/// What a header says.
#[derive(Debug)]
pub(super) struct Preamble {
    /// The file's own number, which all checksums of its turns depend on.
    pub(super) id: u64,
    pub(super) header: Header,
    /// Bytes that it takes.
    pub(super) bytes: u64,
}

impl Preamble {
    /// The header of a new file, or what is wrong with it.
    pub(super) fn new(id: u64, header: &Header) -> Result<(Self, Vec<u8>), String> {
        if header.page_bytes == 0 || header.page_bytes as u64 > MAX_PAGE {
            return Err(format!("pages of {} bytes cannot be saved; 1 to {MAX_PAGE} will do", header.page_bytes));
        }
        let identity = serde_json::to_vec(&header.identity).map_err(|e| format!("the model's identity: {e}"))?;
        let len = FIXED + identity.len() + SUM;
        if len as u64 > MAX_HEADER {
            return Err(format!("the header would take {len} bytes; {MAX_HEADER} is the most"));
        }
        let mut bytes = Vec::with_capacity(len);
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((len as u32).to_le_bytes());
        bytes.extend(id.to_le_bytes());
        bytes.extend((header.page_bytes as u64).to_le_bytes());
        bytes.extend(identity);
        let sum = xxh3_64(&bytes);
        bytes.extend(sum.to_le_bytes());
        Ok((Self { id, header: header.clone(), bytes: len as u64 }, bytes))
    }

    /// Reads the start of a file, of which `bytes` are at most the first [`MAX_HEADER`]; or what is wrong with it.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        if bytes.is_empty() {
            return Err("is empty, not a session; delete it, or take another file".into());
        }
        if !starts_as(bytes, &MAGIC) {
            return Err("is no session file (its first 8 bytes are of something else, or damaged)".into());
        }
        let cut = |need: usize| format!("its header is cut off at byte {} of {need}; no turn was saved", bytes.len());
        if bytes.len() < FIXED {
            return Err(cut(FIXED));
        }
        let version = u32_at(bytes, 8);
        if version != VERSION {
            return Err(format!("is a session of version {version} (byte 8); this program reads version {VERSION}"));
        }
        let len = u32_at(bytes, 12) as usize;
        if len < FIXED + SUM || len as u64 > MAX_HEADER {
            return Err(format!("its header is damaged at byte 12: it says that it is {len} bytes long"));
        }
        if bytes.len() < len {
            return Err(cut(len));
        }
        let end = len - SUM;
        if xxh3_64(&bytes[..end]) != u64_at(bytes, end) {
            return Err(format!("its header is damaged: bytes 0 to {end} do not match their checksum at byte {end}"));
        }
        let page_bytes = u64_at(bytes, 24);
        if page_bytes == 0 || page_bytes > MAX_PAGE {
            return Err(format!(
                "its header says at byte 24 that a page has {page_bytes} bytes; 1 to {MAX_PAGE} can be"
            ));
        }
        let identity = serde_json::from_slice(&bytes[FIXED..end])
            .map_err(|e| format!("its header does not say at byte {FIXED} what it belongs to: {e}"))?;
        let header = Header { identity, page_bytes: page_bytes as usize };
        Ok(Self { id: u64_at(bytes, 16), header, bytes: len as u64 })
    }

    /// Whether a file that begins so is a session, damaged or not.
    pub(super) fn begins(bytes: &[u8]) -> bool {
        bytes.len() >= MAGIC.len() && starts_as(bytes, &MAGIC)
    }

    /// Where the first turn begins.
    pub(super) fn first(&self) -> u64 {
        self.bytes.next_multiple_of(BLOCK)
    }
}

/// What stands at the start of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Where the turn begins.
    pub(super) start: u64,
    /// Which one it is, from 1.
    pub(super) number: u64,
    /// Pages that follow.
    pub(super) fresh: u64,
    /// Pages of the conversation.
    pub(super) pages: u64,
    /// Bytes of state.
    pub(super) state: u64,
}

/// Where a turn's parts lie. All of them are inside the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub(super) record: u64,
    pub(super) trailer: u64,
    pub(super) end: u64,
}

impl Head {
    pub(super) fn encode(&self, id: u64) -> [u8; HEAD as usize] {
        let mut out = [0; HEAD as usize];
        out[..8].copy_from_slice(&HEAD_MAGIC);
        for (slot, value) in [id, self.start, self.number, self.fresh, self.pages, self.state].into_iter().enumerate() {
            out[8 + slot * 8..16 + slot * 8].copy_from_slice(&value.to_le_bytes());
        }
        let sum = xxh3_64(&out[..56]);
        out[56..].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// `None` if these bytes are no head of the file `id` at `start`.
    pub(super) fn decode(bytes: &[u8; HEAD as usize], id: u64, start: u64) -> Option<Self> {
        let of_here = bytes[..8] == HEAD_MAGIC && u64_at(bytes, 8) == id && u64_at(bytes, 16) == start;
        if !of_here || xxh3_64(&bytes[..56]) != u64_at(bytes, 56) {
            return None;
        }
        let [number, fresh, pages, state] = [24, 32, 40, 48].map(|at| u64_at(bytes, at));
        Some(Self { start, number, fresh, pages, state })
    }

    /// Where the parts lie, if they can lie in a file of `len` bytes and the record is not absurdly long.
    pub(super) fn extent(&self, page_bytes: u64, len: u64) -> Option<Extent> {
        let record = self.start.checked_add(HEAD)?.checked_add(self.fresh.checked_mul(page_bytes)?)?;
        let bytes = self.pages.checked_mul(ENTRY)?.checked_add(self.state)?;
        let trailer = record.checked_add(bytes)?;
        let end = trailer.checked_add(TRAILER)?;
        (bytes <= MAX_RECORD && end <= len).then_some(Extent { record, trailer, end })
    }
}

/// What stands at the end of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trailer {
    /// Where the turn begins.
    pub(super) start: u64,
    /// The record's checksum.
    pub(super) sum: u64,
}

impl Trailer {
    pub(super) fn encode(&self, id: u64) -> [u8; TRAILER as usize] {
        let mut out = [0; TRAILER as usize];
        out[..8].copy_from_slice(&TRAILER_MAGIC);
        out[8..16].copy_from_slice(&self.start.to_le_bytes());
        out[16..24].copy_from_slice(&self.sum.to_le_bytes());
        let sum = xxh3_64_with_seed(&out[..24], id);
        out[24..].copy_from_slice(&sum.to_le_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8; TRAILER as usize], id: u64) -> Option<Self> {
        let right = bytes[..8] == TRAILER_MAGIC && xxh3_64_with_seed(&bytes[..24], id) == u64_at(bytes, 24);
        right.then(|| Self { start: u64_at(bytes, 8), sum: u64_at(bytes, 16) })
    }
}

/// Where a page lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) offset: u64,
    pub(super) sum: u64,
}

/// The record of a turn: a table of pages and the state.
pub(super) fn record(table: &[Entry], state: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(table.len() * ENTRY as usize + state.len() + TRAILER as usize);
    for entry in table {
        out.extend(entry.offset.to_le_bytes());
        out.extend(entry.sum.to_le_bytes());
    }
    out.extend(state);
    out
}

/// Takes a record apart. `None` if the table names places where no page of `page_bytes` can lie.
pub(super) fn split(
    mut record: Vec<u8>,
    head: &Head,
    first: u64,
    page_bytes: u64,
    end: u64,
) -> Option<(Vec<Entry>, Vec<u8>)> {
    let table = usize::try_from(head.pages.checked_mul(ENTRY)?).ok()?;
    let entries: Vec<Entry> = record
        .get(..table)?
        .chunks_exact(ENTRY as usize)
        .map(|e| Entry { offset: u64_at(e, 0), sum: u64_at(e, 8) })
        .collect();
    let inside = |e: &Entry| e.offset >= first + HEAD && e.offset.checked_add(page_bytes).is_some_and(|to| to <= end);
    if !entries.iter().all(inside) {
        return None;
    }
    record.drain(..table);
    Some((entries, record))
}

/// The checksum of a record, which belongs to one head.
pub(super) fn record_sum(record: &[u8], head: &[u8; HEAD as usize]) -> u64 {
    xxh3_64_with_seed(record, u64_at(head, 56))
}

/// The checksum of a page.
pub(super) fn page_sum(bytes: &[u8], id: u64) -> u64 {
    xxh3_64_with_seed(bytes, id)
}

fn starts_as(bytes: &[u8], magic: &[u8]) -> bool {
    bytes.iter().zip(magic).all(|(a, b)| a == b)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}
