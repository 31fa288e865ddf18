//! The header of one safetensors file. The `safetensors` crate knows the format; what it takes on trust (that the
//! offsets end where the file does) is checked here, and its errors get the tensor's name. Parsing does no I/O.

use crate::checkpoint::TensorInfo;
use crate::checkpoint::tensors::{rows_of, shape};
use crate::{Error, Result};
use nano_kernels::Format;
use safetensors::tensor::{Dtype, Metadata};
use serde_json::Value;
use std::ops::Range;
use std::path::Path;

/// Bytes before the header: its length.
const LENGTH_BYTES: usize = 8;
/// Longest header, as the format states.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// One tensor of a file.
#[derive(Debug)]
pub struct ShardTensor {
    /// Its name.
    pub name: String,
    /// What its data is.
    pub stored: Stored,
    /// Its data, in bytes from the start of the file.
    pub range: Range<usize>,
}

/// What the data of a tensor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// Values.
    Values(TensorInfo),
    /// Integers: quants and what belongs to them. Further dimensions are multiplied into `rows`.
    #[allow(missing_docs)]
    Integers { dtype: &'static str, size: usize, rows: usize, cols: usize },
}

impl Stored {
    /// Bytes of the data.
    pub fn bytes(&self) -> usize {
        match self {
            Stored::Values(info) => info.bytes,
            Stored::Integers { size, rows, cols, .. } => size * rows * cols,
        }
    }
}

/// Reads the header of a file that is `bytes` as a whole. `path` is for messages.
pub fn parse_shard(path: &Path, bytes: &[u8]) -> Result<Vec<ShardTensor>> {
    let fault = |why: String| Error::file(path, why);
    let cut = || format!("has {} bytes, fewer than its header; the file is cut short", bytes.len());
    let (length, rest) = bytes.split_first_chunk::<LENGTH_BYTES>().ok_or_else(|| fault(cut()))?;
    let length = u64::from_le_bytes(*length);
    if rest.first().is_some_and(|b| *b != b'{') || length > MAX_HEADER_BYTES {
        return Err(fault(not_safetensors(bytes)));
    }
    // At most a hundred million: fits.
    let (header, data) = rest.split_at_checked(length as usize).ok_or_else(|| fault(cut()))?;
    let metadata: Metadata = serde_json::from_slice(header).map_err(|e| diagnose(path, header, &e))?;
    let start = bytes.len() - data.len();
    let mut out = Vec::new();
    for (name, tensor) in metadata.tensors() {
        let wrong = |why: String| Error::tensor(path, &name, why);
        let dims: Vec<u64> = tensor.shape.iter().map(|d| *d as u64).collect();
        let values = |format| shape(format, &dims).map(Stored::Values);
        let integers = |dtype, size| rows_of(&dims).map(|(rows, cols)| Stored::Integers { dtype, size, rows, cols });
        let stored = match tensor.dtype {
            Dtype::F32 => values(Format::F32),
            Dtype::F16 => values(Format::F16),
            Dtype::BF16 => values(Format::Bf16),
            Dtype::I8 => integers("I8", 1),
            Dtype::U8 => integers("U8", 1),
            Dtype::I32 => integers("I32", 4),
            Dtype::U32 => integers("U32", 4),
            Dtype::I64 => integers("I64", 8),
            other => Err(unsupported(&format!("{other:?}"))),
        };
        let stored = stored.map_err(wrong)?;
        let (from, to) = tensor.data_offsets;
        if to > data.len() {
            let why = format!(
                "its data ends at byte {to} of {}; the file is cut short or damaged, download it again",
                data.len()
            );
            return Err(wrong(why));
        }
        if to.checked_sub(from) != Some(stored.bytes()) {
            let bytes = stored.bytes();
            return Err(wrong(format!("its offsets {from} to {to} do not hold the {bytes} bytes of its shape")));
        }
        out.push(ShardTensor { range: start + from..start + to, name, stored });
    }
    if metadata.data_len() != data.len() {
        let why =
            format!("has {} bytes of data where its header lists {}; it is damaged", data.len(), metadata.data_len());
        return Err(fault(why));
    }
    Ok(out)
}

/// What is said of a tensor whose values are not read.
pub(super) fn unsupported(dtype: &str) -> String {
    format!("its dtype {dtype} is not supported; supported are F32 F16 BF16")
}

fn not_safetensors(bytes: &[u8]) -> String {
    let hint = if bytes.starts_with(b"version https://git-lfs") {
        "it is a Git LFS pointer; fetch the file itself with `git lfs pull`"
    } else if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"\x80\x02") {
        "it looks like a PyTorch file; convert it"
    } else if bytes.starts_with(b"GGUF") {
        "it is a GGUF file; give it as the model"
    } else {
        "its first bytes are no header; download it again"
    };
    format!("is not a safetensors file: {hint}")
}

/// The header was refused as a whole: finds the tensor that is to blame.
fn diagnose(path: &Path, header: &[u8], error: &serde_json::Error) -> Error {
    let json: Value = match serde_json::from_slice(header) {
        Ok(json) => json,
        Err(e) => return Error::file(path, format!("its header is not valid JSON: {e}; download it again")),
    };
    for (name, entry) in json.as_object().into_iter().flatten().filter(|(name, _)| *name != "__metadata__") {
        let dtype = entry.get("dtype").and_then(Value::as_str);
        match dtype.map(|d| (d, serde_json::from_value::<Dtype>(Value::from(d)))) {
            Some((dtype, Err(_))) => return Error::tensor(path, name, unsupported(&crate::error::printable(dtype))),
            None => return Error::tensor(path, name, "its entry in the header states no dtype"),
            Some((_, Ok(_))) => {}
        }
        if let Err(e) = serde_json::from_value::<safetensors::tensor::TensorInfo>(entry.clone()) {
            return Error::tensor(path, name, format!("its entry in the header is wrong: {e}"));
        }
    }
    Error::file(path, format!("its header is wrong: {error}; download it again"))
}
