//! model.safetensors.index.json: which shard holds which tensor. Parsing does no I/O.

use crate::error::printable;
use crate::{Error, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Most shards of a model. The largest published models have a few hundred.
const MAX_SHARDS: usize = 4096;

/// The shard of each tensor.
#[derive(Debug)]
pub struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Reads an index. `path` is for messages. Shard names are plain file names: an index cannot point outside its folder.
pub fn parse_index(path: &Path, bytes: &[u8]) -> Result<Index> {
    let json: Value = serde_json::from_slice(bytes)
        .map_err(|e| Error::file(path, format!("is not valid JSON: {e}; download it again")))?;
    let Some(Value::Object(map)) = json.get("weight_map") else {
        return Err(Error::key(path, "weight_map", "is missing or no object; download the index again"));
    };
    let mut weight_map = BTreeMap::new();
    for (name, shard) in map {
        let Some(shard) = shard.as_str() else {
            return Err(Error::tensor(
                path,
                name,
                format!("its shard is {}; a file name is needed", printable(&shard.to_string())),
            ));
        };
        if !is_file_name(shard) {
            return Err(Error::tensor(path, name, format!("its shard {:?} is no plain file name", printable(shard))));
        }
        weight_map.insert(name.clone(), shard.to_owned());
    }
    let index = Index { weight_map };
    match index.shards().len() {
        0 => Err(Error::key(path, "weight_map", "is empty; download the index again")),
        1..=MAX_SHARDS => Ok(index),
        n => Err(Error::key(path, "weight_map", format!("names {n} shards; at most {MAX_SHARDS} are allowed"))),
    }
}

impl Index {
    /// All shards, each once, sorted.
    pub fn shards(&self) -> BTreeSet<&str> {
        self.weight_map.values().map(String::as_str).collect()
    }

    /// The shard of a tensor.
    pub fn shard(&self, tensor: &str) -> Option<&str> {
        self.weight_map.get(tensor).map(String::as_str)
    }

    /// Tensors with their shards, sorted.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        self.weight_map.iter().map(|(name, shard)| (name.as_str(), shard.as_str()))
    }
}

fn is_file_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', ':', '\0'])
}
