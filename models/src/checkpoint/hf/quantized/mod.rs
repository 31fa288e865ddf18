//! Folders whose weights were quantized by their authors: what config.json says of it, and which tensors belong together.
//! What each method calls its pieces is told in `awq`, `gptq` and `compressed`; how they are read, in `checkpoint/packed`.

mod awq;
mod compressed;
mod gptq;

use super::{Found, Stored, read_json};
use crate::checkpoint::packed::{Array, Packed, Scales};
use crate::checkpoint::tensors::Tensors;
use crate::{Error, Result};
use serde_json::Value;
use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};

/// What is read, for messages.
const READ: &str = "read are awq, gptq and compressed-tensors (pack-quantized)";

/// How a folder's weights were quantized.
#[derive(Debug)]
pub(super) enum Method {
    Awq(awq::Awq),
    Gptq(gptq::Gptq),
    Compressed(compressed::Compressed),
}

/// What config.json, or a file beside it, says.
struct Settings<'a> {
    file: PathBuf,
    /// Where in the file, for messages.
    at: &'static str,
    json: &'a Value,
}

/// Finds the method that a folder's files name. `None` where its weights are as they are.
pub(super) fn method(folder: &Path, config: &Path, json: &Value) -> Result<Option<Method>> {
    for at in ["quantization_config", "compression_config"] {
        if let Some(inner) = json.get(at).filter(|inner| inner.is_object()) {
            return Settings { file: config.to_path_buf(), at, json: inner }.method(None);
        }
    }
    for (name, usual) in [("quantize_config.json", "gptq"), ("quant_config.json", "awq")] {
        let file = folder.join(name);
        if let Some(json) = read_json(&file)? {
            return Settings { file, at: "", json: &json }.method(Some(usual));
        }
    }
    Ok(None)
}

impl Method {
    /// Takes the pieces from what was found, and adds the tensors that they make.
    pub(super) fn gather(&self, tensors: &mut Tensors, found: &mut Found) -> Result<()> {
        let quants = match self {
            Method::Awq(_) | Method::Gptq(_) => ".qweight",
            Method::Compressed(_) => ".weight_packed",
        };
        let stems: Vec<String> = found.keys().filter_map(|name| name.strip_suffix(quants)).map(str::to_owned).collect();
        for stem in stems {
            let mut pieces = Pieces { stem: &stem, tensors, found };
            let packed = match self {
                Method::Awq(awq) => awq.read(&mut pieces)?,
                Method::Gptq(gptq) => gptq.read(&mut pieces)?,
                Method::Compressed(compressed) => compressed.read(&mut pieces)?,
            };
            tensors.add_packed(format!("{stem}.weight"), packed)?;
        }
        Ok(())
    }
}

impl Display for Method {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Method::Awq(awq) => awq.fmt(f),
            Method::Gptq(gptq) => gptq.fmt(f),
            Method::Compressed(compressed) => compressed.fmt(f),
        }
    }
}

impl Settings<'_> {
    fn method(&self, usual: Option<&str>) -> Result<Option<Method>> {
        const KEY: &str = "quant_method";
        let name = self.text(KEY)?.or(usual);
        Ok(Some(match name.map(str::to_ascii_lowercase).as_deref() {
            Some("awq") => Method::Awq(awq::Awq::new(self)?),
            Some("gptq") => Method::Gptq(gptq::Gptq::new(self)?),
            Some("compressed-tensors" | "compressed_tensors") => Method::Compressed(compressed::Compressed::new(self)?),
            // Its tensors are read by the architecture that has them.
            Some("mxfp4") => return Ok(None),
            Some(other) => return Err(self.wrong(KEY, format!("is \"{other}\"; {READ}"))),
            None => return Err(self.wrong(KEY, format!("is missing; {READ}"))),
        }))
    }

    fn wrong(&self, key: &str, why: impl Into<String>) -> Error {
        let dot = if self.at.is_empty() { "" } else { "." };
        Error::key(&self.file, &format!("{}{dot}{key}", self.at), why)
    }

    /// A value; `null` is none.
    fn get(&self, key: &str) -> Option<&Value> {
        self.json.get(key).filter(|value| !value.is_null())
    }

    fn text(&self, key: &str) -> Result<Option<&str>> {
        let text = |value: &Value| self.wrong(key, format!("is {value}; a text is needed"));
        self.get(key).map(|value| value.as_str().ok_or_else(|| text(value))).transpose()
    }

    fn flag(&self, key: &str) -> Result<Option<bool>> {
        let flag = |value: &Value| self.wrong(key, format!("is {value}; true or false is needed"));
        self.get(key).map(|value| value.as_bool().ok_or_else(|| flag(value))).transpose()
    }

    /// A number under one of some keys.
    fn number(&self, keys: &[&str]) -> Result<Option<i64>> {
        let Some((key, value)) = keys.iter().find_map(|key| Some((key, self.get(key)?))) else { return Ok(None) };
        let number = value.as_i64();
        number.map(Some).ok_or_else(|| self.wrong(key, format!("is {value}; a whole number is needed")))
    }

    /// Bits of a quant: 4, or 8 where that is read.
    fn bits(&self, keys: &[&str], read: &[usize]) -> Result<usize> {
        let bits = self.number(keys)?;
        let known = bits.and_then(|bits| usize::try_from(bits).ok()).filter(|bits| read.contains(bits));
        known.ok_or_else(|| {
            let found = bits.map_or("missing".to_owned(), |bits| bits.to_string());
            let read: Vec<String> = read.iter().map(usize::to_string).collect();
            self.wrong(keys[0], format!("is {found}; read are {}", read.join(" and ")))
        })
    }

    /// Inputs of a group; `None` if each output is one group.
    fn group(&self, keys: &[&str]) -> Result<Option<usize>> {
        match self.number(keys)? {
            Some(-1) => Ok(None),
            Some(n) if n > 0 && n % 32 == 0 => Ok(Some(n as usize)),
            found => {
                let found = found.map_or("missing".to_owned(), |n| n.to_string());
                let why = format!("is {found}; multiples of 32 are read, and -1 for one group in each row");
                Err(self.wrong(keys[0], why))
            }
        }
    }
}

/// How groups are told in words.
fn groups(group: Option<usize>) -> String {
    group.map_or("one group in each row".into(), |n| format!("groups of {n}"))
}

/// The pieces of one tensor.
struct Pieces<'a> {
    /// Its name without `.weight`.
    stem: &'a str,
    tensors: &'a Tensors,
    found: &'a mut Found,
}

impl Pieces<'_> {
    /// An error about a piece, or about the tensor itself.
    fn wrong(&self, file: usize, piece: &str, why: impl Into<String>) -> Error {
        Error::tensor(self.tensors.path(file), &format!("{}.{piece}", self.stem), why)
    }

    /// Integers of so many bytes each, taken out; `None` if they are not there.
    fn integers(&mut self, piece: &str, sizes: &[usize]) -> Result<Option<(Array, usize)>> {
        match self.found.remove(&format!("{}.{piece}", self.stem)) {
            None => Ok(None),
            Some((file, Stored::Integers { size, rows, cols, .. }, range)) if sizes.contains(&size) => {
                Ok(Some((Array { file, range, rows, cols }, size)))
            }
            Some((file, stored, _)) => {
                let found = match stored {
                    Stored::Values(info) => info.format.name(),
                    Stored::Integers { dtype, .. } => dtype,
                };
                let needed: Vec<String> = sizes.iter().map(|size| format!("I{}", size * 8)).collect();
                Err(self.wrong(file, piece, format!("is {found}; {} is needed", needed.join(" or "))))
            }
        }
    }

    /// The quants.
    fn quants(&mut self, piece: &str) -> Result<Array> {
        let quants = self.integers(piece, &[4])?;
        quants.map(|(array, _)| array).ok_or_else(|| self.wrong(0, piece, "is missing"))
    }

    /// The scales. `beside`: the file of the quants, for messages.
    fn scales(&mut self, piece: &str, transposed: bool, beside: usize) -> Result<Scales> {
        match self.found.remove(&format!("{}.{piece}", self.stem)) {
            Some((file, Stored::Values(info), range)) => {
                let array = Array { file, range, rows: info.rows, cols: info.cols };
                Ok(Scales { array, format: info.format, transposed })
            }
            Some((file, ..)) => Err(self.wrong(file, piece, "is of integers; F16, BF16 or F32 is needed")),
            None => Err(self.wrong(beside, piece, "is missing")),
        }
    }
}
