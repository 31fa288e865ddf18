//! GGUF's header: metadata and the list of tensors, from bytes, without I/O. Whatever the bytes are, reading them
//! takes time and memory in proportion to their number, and ends in a [`Header`] that can be trusted or in one error.

use super::types::format;
use super::value::{Cursor, Fault, Value};
use crate::checkpoint::TensorInfo;
use crate::checkpoint::sniff::looks_like;
use crate::checkpoint::tensors::shape;
use crate::error::printable;
use crate::{Error, Result};
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::path::Path;

/// Longest key of the metadata, as the format states.
const MAX_KEY_BYTES: u64 = 65_535;
/// Longest tensor name. The format says 64; converters have written longer ones.
const MAX_NAME_BYTES: u64 = 1024;
/// Most dimensions of a tensor, as the format states.
const MAX_DIMS: u32 = 4;
/// Largest alignment of tensor data. Files have 32; a page or a disk block would be sensible.
const MAX_ALIGNMENT: u64 = 1 << 20;
/// Alignment where the file states none.
const DEFAULT_ALIGNMENT: u64 = 32;
/// Fewest bytes of a metadata entry: an empty key, a type, one byte.
const MIN_ENTRY_BYTES: u64 = 8 + 4 + 1;
/// Fewest bytes of a tensor's entry: an empty name, one dimension, type and offset.
const MIN_TENSOR_BYTES: u64 = 8 + 4 + 8 + 4 + 8;

/// All that a file says before its tensor data.
#[derive(Debug)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// The metadata by key.
    pub values: BTreeMap<String, Value>,
    /// The tensors in the file's order. Their ranges lie in the file and apart from one another.
    pub tensors: Vec<TensorEntry>,
}

/// One tensor of the list.
#[derive(Debug)]
pub struct TensorEntry {
    /// Its name.
    pub name: String,
    /// Its format and shape.
    pub info: TensorInfo,
    /// Its data, in bytes from the start of the file.
    pub range: Range<usize>,
}

/// Reads the header of a file that is `bytes` as a whole. `path` is for messages.
pub fn parse(path: &Path, bytes: &[u8]) -> Result<Header> {
    let fault = |why: Fault| Error::file(path, why);
    if bytes.is_empty() {
        return Err(fault("is empty; download or copy it again".into()));
    }
    if !bytes.starts_with(b"GGUF") {
        return Err(fault(looks_like(bytes)));
    }
    let mut cursor = Cursor::new(bytes, 4);
    let version = cursor.u32().map_err(fault)?;
    check_version(version).map_err(fault)?;
    let tensors = cursor.u64().map_err(fault)?;
    let entries = cursor.u64().map_err(fault)?;
    check_count("tensors", tensors, MIN_TENSOR_BYTES, &cursor).map_err(fault)?;
    check_count("metadata entries", entries, MIN_ENTRY_BYTES, &cursor).map_err(fault)?;

    let mut values = BTreeMap::new();
    for i in 0..entries {
        let key =
            cursor.text(MAX_KEY_BYTES).map_err(|e| fault(format!("metadata entry {i} of {entries}: its key: {e}")))?;
        let value =
            cursor.kind().and_then(|kind| cursor.value(kind)).map_err(|e| Error::key(path, key, format!("has {e}")))?;
        if values.insert(key.to_owned(), value).is_some() {
            return Err(Error::key(path, key, "is in the metadata twice"));
        }
    }
    let alignment = alignment(&values).map_err(|why| Error::key(path, "general.alignment", why))?;
    let tensors = read_tensors(path, &mut cursor, tensors, alignment)?;
    Ok(Header { version, values, tensors })
}

fn check_version(version: u32) -> std::result::Result<(), Fault> {
    match version {
        2 | 3 => Ok(()),
        1 => Err("is GGUF version 1, which is obsolete; convert the model again".into()),
        v if (1..=0xff).contains(&v.swap_bytes()) => {
            Err(format!("is big-endian GGUF (version {}), which is not supported", v.swap_bytes()))
        }
        v => Err(format!("is GGUF version {v}; versions 2 and 3 are supported")),
    }
}

fn check_count(what: &str, count: u64, least: u64, cursor: &Cursor<'_>) -> std::result::Result<(), Fault> {
    let room = cursor.left() / least;
    if count > room {
        return Err(format!("claims {count} {what} and has room for {room} at most; the file is cut short or damaged"));
    }
    Ok(())
}

fn alignment(values: &BTreeMap<String, Value>) -> std::result::Result<u64, Fault> {
    match values.get("general.alignment") {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(Value::Unsigned(n)) if n.is_power_of_two() && *n <= MAX_ALIGNMENT => Ok(*n),
        Some(Value::Unsigned(n)) => Err(format!("is {n}; a power of two up to {MAX_ALIGNMENT} is needed")),
        Some(_) => Err("is not an unsigned number".into()),
    }
}

/// A tensor's entry as it stands in the file: its offset counts from the start of the data, which is not known yet.
struct Listed {
    name: String,
    info: TensorInfo,
    offset: u64,
}

fn read_tensors(path: &Path, cursor: &mut Cursor<'_>, count: u64, alignment: u64) -> Result<Vec<TensorEntry>> {
    let mut listed: Vec<Listed> = Vec::new();
    let mut names = HashSet::new();
    for i in 0..count {
        let name = cursor
            .text(MAX_NAME_BYTES)
            .map_err(|e| Error::file(path, format!("tensor {i} of {count}: its name: {e}")))?;
        let wrong = |why: Fault| Error::tensor(path, name, why);
        if !names.insert(name) {
            return Err(wrong("is listed twice".into()));
        }
        let (info, offset) = read_tensor(cursor).map_err(wrong)?;
        if !offset.is_multiple_of(alignment) {
            return Err(wrong(format!("its offset {offset} is not aligned to {alignment} bytes")));
        }
        listed.push(Listed { name: name.to_owned(), info, offset });
    }
    place(path, listed, cursor, alignment)
}

fn read_tensor(cursor: &mut Cursor<'_>) -> std::result::Result<(TensorInfo, u64), Fault> {
    let n = cursor.u32()?;
    if n == 0 || n > MAX_DIMS {
        return Err(format!("has {n} dimensions; 1 to {MAX_DIMS} are allowed"));
    }
    let mut dims = Vec::with_capacity(MAX_DIMS as usize);
    for _ in 0..n {
        dims.push(cursor.u64()?);
    }
    // The file has the values that lie side by side first.
    dims.reverse();
    let format = format(cursor.u32()?)?;
    let offset = cursor.u64()?;
    Ok((shape(format, &dims)?, offset))
}

/// Turns offsets into ranges of the file, which must hold them all, apart from one another.
fn place(path: &Path, listed: Vec<Listed>, cursor: &Cursor<'_>, alignment: u64) -> Result<Vec<TensorEntry>> {
    let file = cursor.at() as u64 + cursor.left();
    let start = (cursor.at() as u64).next_multiple_of(alignment);
    let mut tensors = Vec::with_capacity(listed.len());
    for Listed { name, info, offset } in listed {
        let begin = start.checked_add(offset);
        let end = begin.and_then(|b| b.checked_add(info.bytes as u64));
        let (Some(begin), Some(end)) = (begin, end.filter(|end| *end <= file)) else {
            let why = format!(
                "its {} bytes at offset {offset} reach beyond the file's {file} bytes; the file is cut short or damaged",
                info.bytes
            );
            return Err(Error::tensor(path, &name, why));
        };
        // Both are at most the length of a slice.
        tensors.push(TensorEntry { name, info, range: begin as usize..end as usize });
    }
    let mut by_place: Vec<&TensorEntry> = tensors.iter().collect();
    by_place.sort_by_key(|t| t.range.start);
    for pair in by_place.windows(2) {
        if pair[1].range.start < pair[0].range.end {
            let why = format!("its data overlaps that of tensor {}", printable(&pair[0].name));
            return Err(Error::tensor(path, &pair[1].name, why));
        }
    }
    Ok(tensors)
}
