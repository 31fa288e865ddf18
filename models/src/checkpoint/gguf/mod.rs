//! GGUF files: one file with metadata, vocabulary and tensors, mapped. The parser is in `header`, which does no I/O;
//! what the metadata says of the tokenizer is read in `vocab`.

mod header;
mod metadata;
mod types;
mod value;
mod vocab;

pub use header::{Header, TensorEntry, parse};
pub use metadata::Metadata;
#[cfg(any(test, feature = "testing"))]
pub(crate) use types::type_number;
pub use value::{Array, Kind, Value};

use super::map::Map;
use super::tensors::{Entry, Tensors};
use super::{Checkpoint, Container, TensorInfo};
use crate::{Config, Error, Result, Tokenizer};
use nano_kernels::HostTensor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An open GGUF file.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    config: Config,
    tensors: Tensors,
}

impl Gguf {
    /// Maps the file and reads its header.
    pub fn open(path: &Path) -> Result<Self> {
        Self::new(path, Map::open(path)?)
    }

    /// Reads a file that is in memory already. `path` is for messages.
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self> {
        Self::new(path, Map::Memory(bytes))
    }

    fn new(path: &Path, map: Map) -> Result<Self> {
        let map = Arc::new(map);
        let header = parse(path, &map)?;
        let mut tensors = Tensors::default();
        let file = tensors.add_file(path.to_path_buf(), Arc::clone(&map));
        for TensorEntry { name, info, range } in header.tensors {
            // The header holds no name twice.
            tensors.add(name, Entry { info, file, range });
        }
        let config = Config::from_gguf(path, Metadata::new(header.values, map))?;
        Ok(Gguf { path: path.to_path_buf(), config, tensors })
    }
}

impl Checkpoint for Gguf {
    fn path(&self) -> &Path {
        &self.path
    }

    fn container(&self) -> Container {
        Container::Gguf
    }

    fn config(&self) -> &Config {
        &self.config
    }

    fn names(&self) -> Vec<&str> {
        self.tensors.names()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.tensors.info(name)
    }

    fn tensor(&self, name: &str) -> Result<Option<HostTensor<'_>>> {
        self.tensors.tensor(name)
    }

    fn release(&self, name: &str) {
        self.tensors.release(name);
    }

    fn evict(&self, name: &str) {
        self.tensors.evict(name);
    }

    fn tokenizer(&self) -> Result<Tokenizer> {
        let Some(metadata) = self.config.metadata() else {
            return Err(Error::file(&self.path, "has no metadata"));
        };
        Tokenizer::from_gguf(vocab::read(&self.path, metadata)?)
    }

    fn chat_template(&self) -> Result<Option<String>> {
        Ok(self.config.opt_str("", "tokenizer.chat_template")?.map(str::to_owned))
    }
}
