//! Model files as one thing: numbers ([`Config`]), tensors by name, a tokenizer, a chat template. [`open`] finds out
//! which container a path holds. What the names mean, and which architecture they belong to, is decided elsewhere.

pub mod gguf;
pub mod hf;
pub mod hub;
pub mod lora;
pub(crate) mod map;
pub mod mlc;
mod packed;
mod sniff;
mod tensors;
mod woven;

pub(crate) use map::Map;

use crate::{Config, Error, GgufVocab, Result, Tokenizer};
use nano_kernels::{Format, HostTensor};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// A model's files, opened. Tensor data is mapped, not read.
pub trait Checkpoint: Send + Sync {
    /// The file or folder, for messages.
    fn path(&self) -> &Path;
    /// Which container it is.
    fn container(&self) -> Container;
    /// The model's numbers and options.
    fn config(&self) -> &Config;
    /// All tensor names, sorted.
    fn names(&self) -> Vec<&str>;
    /// A tensor's format and shape. `None` if there is none of this name.
    fn info(&self, name: &str) -> Option<TensorInfo>;
    /// A tensor, borrowed from the file if it lies there as it is. `None` if there is none of this name.
    fn tensor(&self, name: &str) -> Result<Option<HostTensor<'_>>>;
    /// Some of a tensor's bytes as they lie in the file, for telling checkpoints apart.
    fn stored(&self, name: &str) -> Result<Option<Cow<'_, [u8]>>> {
        Ok(self.tensor(name)?.map(|tensor| tensor.bytes))
    }
    /// How its authors quantized it, for people: "GPTQ, 4 bits, groups of 128". `None` if formats say it all.
    fn quantized(&self) -> Option<&str> {
        None
    }
    /// Says that this tensor's bytes are not needed any more, so that the system may take their memory back. They can
    /// be read again all the same.
    fn release(&self, name: &str);
    /// [`release`](Checkpoint::release), and the system's cache of the file need not keep the bytes either: for machines
    /// whose GPU takes its memory from the same place.
    fn evict(&self, name: &str) {
        self.release(name);
    }
    /// What the user should know about how the files, and those tensors that were, were read.
    fn notices(&self) -> Vec<String> {
        Vec::new()
    }
    /// The files that hold the weights; none if they are in memory.
    fn files(&self) -> Vec<PathBuf> {
        self.under().map_or_else(Vec::new, |(base, _)| base.files())
    }
    /// The checkpoint that this one changes, and what tells this from others which change it.
    fn under(&self) -> Option<(&dyn Checkpoint, &str)> {
        None
    }
    /// The tokenizer that belongs to the model.
    fn tokenizer(&self) -> Result<Tokenizer>;
    /// The same as the keys of a GGUF file, for an embedding of `rows`.
    fn gguf_vocab(&self, _rows: usize) -> Result<GgufVocab> {
        Err(Error::file(self.path(), "has no tokenizer that could be written"))
    }
    /// The model's own chat template (Jinja), if it has one.
    fn chat_template(&self) -> Result<Option<String>>;
}

/// How a model's files are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Container {
    /// One GGUF file, or the parts of one.
    Gguf,
    /// A folder with config.json, tokenizer.json and safetensors.
    HuggingFace,
}

/// What is known of a tensor before its data is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// How its bytes are to be read.
    pub format: Format,
    /// Rows (outputs). A vector is one row; further dimensions are multiplied in.
    pub rows: usize,
    /// Columns (inputs): the values that lie side by side.
    pub cols: usize,
    /// Bytes in the file.
    pub bytes: usize,
}

/// Opens a model: a GGUF file (of a split one, any part), a Hugging Face folder, a folder of MLC's, or a folder that holds
/// just one GGUF model.
pub fn open(path: &Path) -> Result<Box<dyn Checkpoint>> {
    let path = &normal(path);
    let meta = std::fs::metadata(path).map_err(|e| Error::io(path, "cannot be examined", e))?;
    if !meta.is_dir() {
        return Ok(Box::new(gguf::Gguf::open(path)?));
    }
    let ggufs = gguf::split::models(&files_ending(path, ".gguf")?, |p| file_name(p));
    let has_config = path.join("config.json").is_file();
    // Some keep the config.json that MLC converted.
    if path.join(mlc::CONFIG).is_file() && (!has_config || files_ending(path, ".safetensors")?.is_empty()) {
        return Ok(Box::new(mlc::Mlc::open(path)?));
    }
    match &ggufs[..] {
        // A GGUF repository often carries a config.json beside its one file; it is no Hugging Face folder without
        // weights.
        [one] if !has_config || files_ending(path, ".safetensors")?.is_empty() => Ok(Box::new(gguf::Gguf::open(one)?)),
        [] if !has_config => Err(Error::file(path, "a folder with neither config.json nor a .gguf file is no model")),
        [_, _, ..] if !has_config => {
            let names: Vec<_> = ggufs.iter().map(|p| file_name(p)).collect();
            Err(Error::file(path, format!("the folder holds several models; name one of {}", names.join(", "))))
        }
        _ => Ok(Box::new(hf::HuggingFace::open(path)?)),
    }
}

/// Opens a GGUF file that is in memory already. `path` is for messages.
pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Box<dyn Checkpoint>> {
    Ok(Box::new(gguf::Gguf::from_bytes(path, bytes)?))
}

/// The path without a trailing slash or `.` parts, so that messages and names look the same however it was typed.
fn normal(path: &Path) -> PathBuf {
    let out: PathBuf = path.components().collect();
    if out.as_os_str().is_empty() { PathBuf::from(".") } else { out }
}

/// The last part of a path, for names.
fn file_name(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Files of a folder whose names end so, sorted.
fn files_ending(folder: &Path, end: &str) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(|e| Error::io(folder, "cannot be listed", e))?;
    let mut out = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| Error::io(folder, "cannot be listed", e))?.path();
        if path.file_name().is_some_and(|n| n.to_string_lossy().ends_with(end)) && path.is_file() {
            out.push(path);
        }
    }
    out.sort();
    Ok(out)
}
