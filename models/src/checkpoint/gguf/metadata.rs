//! The metadata of an open GGUF file: values by key, lists decoded when they are asked for.

use super::value::{Array, Cursor, Fault, Kind, Value};
use super::write::GgufValue;
use crate::checkpoint::map::Map;
use crate::config::Item;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Values by key, with the file that its lists lie in.
#[derive(Debug)]
pub struct Metadata {
    values: BTreeMap<String, Value>,
    map: Arc<Map>,
}

impl Metadata {
    pub(crate) fn new(values: BTreeMap<String, Value>, map: Arc<Map>) -> Self {
        Metadata { values, map }
    }

    /// A value. Keys are whole here: `llama.block_count`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// All keys, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// The elements of a list of this metadata, decoded one by one.
    pub fn values(&self, array: &Array) -> impl Iterator<Item = Result<Value, Fault>> {
        let mut cursor = Cursor::new(&self.map, array.range.start);
        let kind = array.kind;
        (0..array.len).map(move |_| cursor.value(kind))
    }

    /// Feeds every key and value to `put`, sorted by key; lists as they lie in the file.
    pub(crate) fn visit(&self, put: &mut dyn FnMut(&[u8])) {
        for (key, value) in &self.values {
            put(key.as_bytes());
            match value {
                Value::Array(array) => {
                    put(format!("{:?} {}", array.kind, array.len).as_bytes());
                    put(self.map.get(array.range.clone()).unwrap_or_default());
                }
                value => put(format!("{value:?}").as_bytes()),
            }
        }
    }

    /// All values as they lie in the file, in its order: to be written into another.
    pub(crate) fn raw(&self) -> Result<Vec<(String, GgufValue)>, Fault> {
        // Magic, version and number of tensors come first.
        let mut cursor = Cursor::new(&self.map, 16);
        let entries = cursor.u64()?;
        let mut out = Vec::new();
        for _ in 0..entries {
            let key = cursor.text(u64::MAX)?.to_owned();
            let number = cursor.u32()?;
            let (start, kind) = (cursor.at(), Kind::of(number)?);
            cursor.value(kind)?;
            out.push((key, GgufValue::Raw(number, self.map[start..cursor.at()].to_vec())));
        }
        Ok(out)
    }

    pub(crate) fn item(&self, key: &str) -> Option<Item<'_>> {
        self.get(key).map(|value| Item::gguf(self, value))
    }
}
