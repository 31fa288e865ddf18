//! GGUF files: one file, or the parts of one, with metadata, vocabulary and tensors, mapped. The parser is in `header`, which does no I/O;
//! what the metadata says of the tokenizer is read in `vocab`; how parts
//! are named is told in `split`.

mod header;
mod metadata;
pub(super) mod split;
mod types;
mod value;
mod vocab;
mod write;

pub use header::{Header, TensorEntry, parse};
pub use metadata::Metadata;
pub(crate) use types::type_number;
pub use value::{Array, Kind, Value};
pub use write::GgufValue;
pub(crate) use write::{Listed, header};

use super::map::Map;
use super::tensors::{Entry, Tensors};
use super::{Checkpoint, Container, TensorInfo};
use crate::{Config, Error, GgufVocab, Result, Tokenizer};
use nano_kernels::HostTensor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An open GGUF file, with the other parts of its model where it is split.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    config: Config,
    tensors: Tensors,
}

impl Gguf {
    /// Maps the file and reads its header. Of a split model, any part will do; all must lie side by side.
    pub fn open(path: &Path) -> Result<Self> {
        let map = Arc::new(Map::open(path)?);
        let header = parse(path, &map)?;
        match split::count(path, &header.values)? {
            1 => Self::new(path, map, header),
            count => Self::of_parts(path, count),
        }
    }

    /// Reads a file that is in memory already. `path` is for messages.
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self> {
        let map = Arc::new(Map::Memory(bytes));
        let header = parse(path, &map)?;
        match split::count(path, &header.values)? {
            1 => Self::new(path, map, header),
            n => Err(Error::file(path, format!("is one of {n} parts of a model; all of them are needed, as files"))),
        }
    }

    fn new(path: &Path, map: Arc<Map>, header: Header) -> Result<Self> {
        let mut tensors = Tensors::default();
        let file = tensors.add_file(path.to_path_buf(), Arc::clone(&map));
        for TensorEntry { name, info, range } in header.tensors {
            // The header holds no name twice.
            tensors.add(name, Entry { info, file, range });
        }
        let config = Config::from_gguf(path, Metadata::new(header.values, map))?;
        Ok(Gguf { path: path.to_path_buf(), config, tensors })
    }

    /// A model of `count` parts, of which `path` is one.
    fn of_parts(path: &Path, count: u64) -> Result<Self> {
        let mut tensors = Tensors::default();
        let mut first = None;
        let mut found = 0;
        for (at, part) in split::paths(path, count)?.into_iter().enumerate() {
            let map = Arc::new(Map::open(&part)?);
            let header = parse(&part, &map)?;
            split::check(&part, &header.values, at, count)?;
            found += header.tensors.len() as u64;
            let file = tensors.add_file(part.clone(), Arc::clone(&map));
            for TensorEntry { name, info, range } in header.tensors {
                if !tensors.add(name.clone(), Entry { info, file, range }) {
                    return Err(Error::tensor(&part, &name, "is in an earlier part too"));
                }
            }
            if at == 0 {
                let expected = split::tensors(&part, &header.values)?;
                first = Some((expected, Config::from_gguf(&part, Metadata::new(header.values, map))?));
            }
        }
        let Some((expected, config)) = first else { return Err(Error::file(path, "is a part of no parts")) };
        if let Some(expected) = expected.filter(|n| *n != found) {
            let why = format!("its parts hold {found} tensors where {expected} are announced; download them again");
            return Err(Error::file(path, why));
        }
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

    fn files(&self) -> Vec<PathBuf> {
        self.tensors.paths()
    }

    fn release(&self, name: &str) {
        self.tensors.release(name);
    }

    fn evict(&self, name: &str) {
        self.tensors.evict(name);
    }

    fn tokenizer(&self) -> Result<Tokenizer> {
        Tokenizer::from_gguf(self.gguf_vocab(0)?)
    }

    fn gguf_vocab(&self, _rows: usize) -> Result<GgufVocab> {
        let Some(metadata) = self.config.metadata() else {
            return Err(Error::file(&self.path, "has no metadata"));
        };
        vocab::read(&self.path, metadata)
    }

    fn chat_template(&self) -> Result<Option<String>> {
        Ok(self.config.opt_str("", "tokenizer.chat_template")?.map(str::to_owned))
    }
}
