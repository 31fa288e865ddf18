//! PyTorch's files of tensors (`pytorch_model.bin`): a zip archive, uncompressed, with a pickle that lists the tensors
//! and a file for the bytes of each storage. What the pickle may say is told in `pickle`. Parsing does no I/O.

use super::pickle::{self, Fault, Pickled};
use super::{ShardTensor, Stored};
use crate::checkpoint::tensors::shape;
use crate::error::printable;
use crate::{Error, Result};
use nano_kernels::Format;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

/// Longest pickle. It has some hundred bytes for each tensor.
const MAX_PICKLE_BYTES: usize = 64 << 20;

/// Reads the tensors' places from a file that is `bytes` as a whole. `path` is for messages.
pub fn parse_torch(path: &Path, bytes: &[u8]) -> Result<Vec<ShardTensor>> {
    let fault = |why: Fault| Error::file(path, why);
    let files = archive(bytes).map_err(fault)?;
    let mut pickles = files.keys().filter_map(|name| name.strip_suffix("data.pkl"));
    let (Some(folder), None) = (pickles.next().map(str::to_owned), pickles.next()) else {
        return Err(fault("is a zip archive without one data.pkl; it is no file of PyTorch's".into()));
    };
    let inside = |name: &str| files.get(&format!("{folder}{name}")).cloned();
    if inside("byteorder").is_some_and(|range| &bytes[range] != b"little") {
        return Err(fault("is in big-endian byte order, which is not supported".into()));
    }
    let pickle = inside("data.pkl").map(|range| &bytes[range]).unwrap_or_default();
    if pickle.len() > MAX_PICKLE_BYTES {
        return Err(fault(format!("its pickle has {} bytes; at most {MAX_PICKLE_BYTES} are read", pickle.len())));
    }
    let mut out: Vec<ShardTensor> = Vec::new();
    for (name, tensor) in pickle::read(pickle).map_err(fault)? {
        let wrong = |why: Fault| Error::tensor(path, &name, why);
        let storage = inside(&format!("data/{}", tensor.storage))
            .ok_or_else(|| wrong(format!("its storage data/{} is not in the file", printable(&tensor.storage))))?;
        let (info, at) = place(&tensor, storage.len()).map_err(wrong)?;
        let from = storage.start + at;
        out.push(ShardTensor { range: from..from + info.bytes, name, stored: Stored::Values(info) });
    }
    Ok(out)
}

/// A tensor's shape, and where in its storage of `room` bytes it begins.
fn place(tensor: &Pickled, room: usize) -> std::result::Result<(crate::TensorInfo, usize), Fault> {
    let (format, size) = match tensor.kind.as_str() {
        "FloatStorage" => (Format::F32, 4),
        "HalfStorage" => (Format::F16, 2),
        "BFloat16Storage" => (Format::Bf16, 2),
        other => {
            let kind = printable(other);
            return Err(format!("its values are a {kind}; supported are FloatStorage HalfStorage BFloat16Storage"));
        }
    };
    let info = shape(format, &tensor.dims)?;
    let mut stride = 1;
    let mut contiguous = tensor.dims.len() == tensor.strides.len();
    for (dim, found) in tensor.dims.iter().zip(&tensor.strides).rev() {
        contiguous &= *dim == 1 || *found == stride;
        // The product of all was checked with the shape.
        stride *= dim;
    }
    if !contiguous {
        return Err(format!(
            "its strides {:?} are not those of rows of {:?} one after another (it was transposed, or cut out); save it \
             again after .contiguous()",
            tensor.strides, tensor.dims
        ));
    }
    let from = usize::try_from(tensor.offset).ok().and_then(|n| n.checked_mul(size));
    match from.filter(|from| from.checked_add(info.bytes).is_some_and(|end| end <= room)) {
        Some(from) => Ok((info, from)),
        None => Err(format!(
            "its {} bytes from value {} on reach beyond its storage of {room}; the file is damaged",
            info.bytes, tensor.offset
        )),
    }
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> std::result::Result<u64, Fault> {
    let found = at.checked_add(N).and_then(|end| bytes.get(at..end)).ok_or("its archive is cut short or damaged")?;
    let mut out = [0; 8];
    out[..N].copy_from_slice(found);
    Ok(u64::from_le_bytes(out))
}

/// The files of a zip archive, by name. They lie in it as they are.
fn archive(bytes: &[u8]) -> std::result::Result<HashMap<String, Range<usize>>, Fault> {
    const DAMAGED: &str = "its archive is cut short or damaged";
    if !bytes.starts_with(b"PK\x03\x04") {
        return Err(match bytes {
            [0x80, ..] => "is in the format that PyTorch wrote before 1.6; load and save it with a newer one".into(),
            _ => "is not a PyTorch file: it does not begin as a zip archive; download it again".into(),
        });
    }
    // The end has 22 bytes and a comment of up to 65535.
    let last = bytes.len().checked_sub(22).ok_or(DAMAGED)?;
    let end = (last.saturating_sub(65_535)..=last).rev().find(|at| bytes[*at..].starts_with(b"PK\x05\x06"));
    let end = end.ok_or("its archive has no end; the file is cut short")?;
    let (mut count, mut at) = (number::<2>(bytes, end + 10)?, number::<4>(bytes, end + 16)?);
    if let Some(locator) = end.checked_sub(20).filter(|at| bytes[*at..].starts_with(b"PK\x06\x07")) {
        let wide = usize::try_from(number::<8>(bytes, locator + 8)?).map_err(|_| DAMAGED)?;
        if number::<4>(bytes, wide)? != 0x0606_4b50 {
            return Err(DAMAGED.into());
        }
        let field = |n: usize| wide.checked_add(n).ok_or(DAMAGED);
        (count, at) = (number::<8>(bytes, field(32)?)?, number::<8>(bytes, field(48)?)?);
    }
    let mut files = HashMap::new();
    let mut at = usize::try_from(at).map_err(|_| DAMAGED)?;
    for _ in 0..count {
        // An entry has 46 bytes and three texts, so a false count ends with the file.
        if number::<4>(bytes, at)? != 0x0201_4b50 {
            return Err(DAMAGED.into());
        }
        let [name, extra, comment] = [28, 30, 32].map(|n| number::<2>(bytes, at + n));
        let (name, extra, comment) = (name? as usize, extra? as usize, comment? as usize);
        let fields = at + 46 + name..at + 46 + name + extra;
        let next = fields.end + comment;
        let name = bytes.get(at + 46..at + 46 + name).ok_or(DAMAGED)?;
        let name = String::from_utf8_lossy(name).into_owned();
        let mut wide = wide_fields(bytes.get(fields).ok_or(DAMAGED)?);
        let mut value = |n: usize| match number::<4>(bytes, at + n)? {
            0xffff_ffff => wide.next().ok_or_else(|| DAMAGED.to_owned()),
            n => Ok(n),
        };
        // In the order in which the wide ones lie.
        let (length, packed, header) = (value(24)?, value(20)?, value(42)?);
        if number::<2>(bytes, at + 10)? != 0 || length != packed {
            return Err(format!("its archive has {} compressed, which PyTorch does not do", printable(&name)));
        }
        let header = usize::try_from(header).map_err(|_| DAMAGED)?;
        if number::<4>(bytes, header)? != 0x0403_4b50 {
            return Err(DAMAGED.into());
        }
        let start = header + 30 + (number::<2>(bytes, header + 26)? + number::<2>(bytes, header + 28)?) as usize;
        let end = usize::try_from(length).ok().and_then(|n| start.checked_add(n)).filter(|end| *end <= bytes.len());
        let end = end.ok_or_else(|| format!("{DAMAGED}: {} reaches beyond it", printable(&name)))?;
        if files.insert(name, start..end).is_some() {
            return Err("its archive has two files of one name".into());
        }
        at = next;
    }
    Ok(files)
}

/// The numbers of the extra field that holds what does not fit into 32 bits.
fn wide_fields(mut extra: &[u8]) -> impl Iterator<Item = u64> {
    let mut found: &[u8] = &[];
    while let [a, b, c, d, rest @ ..] = extra {
        let (id, n) = (u16::from_le_bytes([*a, *b]), u16::from_le_bytes([*c, *d]));
        let (field, rest) = rest.split_at(usize::from(n).min(rest.len()));
        if id == 1 {
            found = field;
        }
        extra = rest;
    }
    found.as_chunks().0.iter().map(|n| u64::from_le_bytes(*n))
}
