//! Hugging Face folders, and a folder that goes away with its value.

use super::TestTensor;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// An empty folder of the system's temporary folder, removed when dropped.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    /// Makes one. `name` helps to tell whose it was if a test is killed.
    pub fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("nano-{name}-{}-{n}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        TempDir(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file in it and gives the file's path.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).unwrap_or_else(|e| panic!("{}: {e}", parent.display()));
        }
        std::fs::write(&path, content).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The bytes of a safetensors file.
pub fn safetensors(tensors: &[TestTensor]) -> Vec<u8> {
    let raw = |t: &TestTensor| RawTensor {
        name: t.name.clone(),
        dtype: t.format.name(),
        dims: t.dims.clone(),
        bytes: t.bytes.clone(),
    };
    raw_safetensors(&tensors.iter().map(raw).collect::<Vec<_>>())
}

/// A tensor of safetensors whose values may be integers.
#[derive(Clone, Debug)]
pub struct RawTensor {
    /// Its name.
    pub name: String,
    /// What its values are, as safetensors spell it.
    pub dtype: &'static str,
    /// Its shape.
    pub dims: Vec<usize>,
    /// Its data.
    pub bytes: Vec<u8>,
}

/// The bytes of a safetensors file of any tensors.
pub fn raw_safetensors(tensors: &[RawTensor]) -> Vec<u8> {
    let mut header = Map::new();
    let mut data: Vec<u8> = Vec::new();
    for t in tensors {
        let from = data.len();
        data.extend(&t.bytes);
        let entry = json!({"dtype": t.dtype, "shape": t.dims, "data_offsets": [from, data.len()]});
        header.insert(t.name.clone(), entry);
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header);
    out.extend(data);
    out
}

/// The files of a Hugging Face folder, to be written or changed first.
#[derive(Clone, Debug, Default)]
pub struct Folder {
    /// Files by name.
    pub files: Vec<(String, Vec<u8>)>,
}

impl Folder {
    /// Adds or replaces a file.
    pub fn file(mut self, name: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.retain(|(n, _)| n != name);
        self.files.push((name.to_owned(), content.into()));
        self
    }

    /// Adds a JSON file.
    pub fn json(self, name: &str, content: &Value) -> Self {
        self.file(name, content.to_string())
    }

    /// Adds the weights as `shards` files with an index, or as one file.
    pub fn weights(mut self, tensors: &[TestTensor], shards: usize) -> Self {
        if shards <= 1 {
            return self.file("model.safetensors", safetensors(tensors));
        }
        let mut weight_map = Map::new();
        for (i, part) in tensors.chunks(tensors.len().div_ceil(shards).max(1)).enumerate() {
            let name = format!("model-{:05}-of-{shards:05}.safetensors", i + 1);
            for t in part {
                weight_map.insert(t.name.clone(), Value::from(name.clone()));
            }
            self = self.file(&name, safetensors(part));
        }
        self.json("model.safetensors.index.json", &json!({"metadata": {}, "weight_map": weight_map}))
    }

    /// Writes all files into a folder that exists.
    pub fn write(&self, folder: &Path) {
        for (name, content) in &self.files {
            let path = folder.join(name);
            std::fs::write(&path, content).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        }
    }

    /// Writes all files into a folder of their own.
    pub fn temp(&self, name: &str) -> TempDir {
        let dir = TempDir::new(name);
        self.write(dir.path());
        dir
    }
}
