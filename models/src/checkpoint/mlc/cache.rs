//! MLC's list of tensors (ndarray-cache.json, tensor-cache.json): of each its shape, and where in which shard it lies.
//! Parsing does no I/O.

use crate::checkpoint::tensors::{rows_of, shape};
use crate::error::printable;
use crate::{Error, Result};
use nano_kernels::Format;
use serde_json::Value;
use std::ops::Range;
use std::path::Path;

/// One tensor of the list.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its name.
    pub name: String,
    /// The file that holds it: a plain name.
    pub shard: String,
    /// Its place there.
    pub range: Range<usize>,
    /// How its values are to be read; `None` for words of quants.
    pub format: Option<Format>,
    /// Rows. A vector is one row; further dimensions are multiplied in.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
}

/// Reads the list. `path` is for messages.
pub fn parse_cache(path: &Path, bytes: &[u8]) -> Result<Vec<Record>> {
    let json: Value = serde_json::from_slice(bytes)
        .map_err(|e| Error::file(path, format!("is not valid JSON: {e}; download it again")))?;
    let shards = json.get("records").and_then(Value::as_array);
    let shards = shards.ok_or_else(|| Error::key(path, "records", "is missing or no list; download it again"))?;
    let mut out = Vec::new();
    for shard in shards {
        let name = shard.get("dataPath").and_then(Value::as_str).unwrap_or_default();
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\\', ':', '\0']) {
            return Err(Error::key(path, "records.dataPath", format!("is {:?}, no plain file name", printable(name))));
        }
        for tensor in shard.get("records").and_then(Value::as_array).into_iter().flatten() {
            out.push(record(path, name, tensor)?);
        }
    }
    match out.is_empty() {
        true => Err(Error::key(path, "records", "lists no tensors; download it again")),
        false => Ok(out),
    }
}

fn record(path: &Path, shard: &str, json: &Value) -> Result<Record> {
    let text = |key: &str| json.get(key).and_then(Value::as_str).unwrap_or_default();
    let name = text("name");
    let wrong = |why: String| Error::tensor(path, name, why);
    let number = |key: &str| {
        let number = json.get(key).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        number.ok_or_else(|| wrong(format!("its {key} is no number")))
    };
    let dims = json.get("shape").and_then(Value::as_array).map(|dims| dims.iter().map(Value::as_u64).collect());
    let Some(Some(dims)) = dims.map(|dims: Option<Vec<u64>>| dims) else {
        return Err(wrong("its shape is no list of numbers".into()));
    };
    let format = match text("dtype") {
        "uint32" => None,
        "float16" => Some(Format::F16),
        "bfloat16" => Some(Format::Bf16),
        // Floats are stored in half of their bytes.
        "float32" if text("format") == "f32-to-bf16" => Some(Format::Bf16),
        "float32" => Some(Format::F32),
        other => {
            let found = printable(other);
            return Err(wrong(format!("its dtype is \"{found}\"; read are uint32, float16, bfloat16 and float32")));
        }
    };
    let (rows, cols, bytes) = match format {
        Some(format) => shape(format, &dims).map(|info| (info.rows, info.cols, info.bytes)),
        None => rows_of(&dims).map(|(rows, cols)| (rows, cols, 4 * rows * cols)),
    }
    .map_err(wrong)?;
    let (from, length) = (number("byteOffset")?, number("nbytes")?);
    if length != bytes {
        return Err(wrong(format!("its {length} bytes are not the {bytes} of its shape")));
    }
    let end = from.checked_add(length).ok_or_else(|| wrong("its place is beyond any file".into()))?;
    Ok(Record { name: name.to_owned(), shard: shard.to_owned(), range: from..end, format, rows, cols })
}
