//! The numbers of a model, from config.json or from GGUF metadata. Every lookup states both spellings side by side, so
//! that an architecture's table reads the same for both containers. What the numbers mean is not known here.

use crate::checkpoint::Container;
use crate::checkpoint::gguf::Metadata;
use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// A model's numbers and options.
///
/// A lookup takes the key as config.json spells it and the key as GGUF spells it; the container decides which is used.
///
/// * `""` says that this container has no such key: the value is absent.
/// * `"a|b"` means `a`, or where that is absent, `b`.
/// * config.json keys may descend with dots (`"rope_scaling.factor"`), and `null` counts as absent.
/// * GGUF keys stand for `{architecture}.{key}`, except those that begin with `general.`, `tokenizer.` or `split.`.
#[derive(Debug)]
pub struct Config {
    file: PathBuf,
    architecture: String,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Json(serde_json::Value),
    Gguf(Metadata),
}

impl Config {
    /// From the content of a config.json. `file` is for messages.
    pub fn from_json(file: &Path, json: serde_json::Value) -> Result<Self> {
        if !json.is_object() {
            return Err(Error::file(file, format!("is {}; an object is needed", Item::json(&json).describe())));
        }
        Self::new(file, Source::Json(json), "model_type", "")
    }

    pub(crate) fn from_gguf(file: &Path, metadata: Metadata) -> Result<Self> {
        Self::new(file, Source::Gguf(metadata), "", "general.architecture")
    }

    fn new(file: &Path, source: Source, hf: &str, gguf: &str) -> Result<Self> {
        let mut config = Config { file: file.to_path_buf(), architecture: String::new(), source };
        config.architecture = config.str(hf, gguf)?.to_owned();
        Ok(config)
    }

    /// The architecture's name: `model_type` of config.json, `general.architecture` of GGUF.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// Which container the numbers come from.
    pub fn container(&self) -> Container {
        match self.source {
            Source::Json(_) => Container::HuggingFace,
            Source::Gguf(_) => Container::Gguf,
        }
    }

    /// The file the numbers come from, for messages.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Whether there is a value.
    pub fn has(&self, hf: &str, gguf: &str) -> bool {
        self.find(hf, gguf).is_some()
    }

    /// A size that must be there.
    pub fn usize(&self, hf: &str, gguf: &str) -> Result<usize> {
        self.opt_usize(hf, gguf)?.ok_or_else(|| self.missing(hf, gguf))
    }

    /// A number that must be there.
    pub fn f32(&self, hf: &str, gguf: &str) -> Result<f32> {
        self.opt_f32(hf, gguf)?.ok_or_else(|| self.missing(hf, gguf))
    }

    /// A text that must be there.
    pub fn str(&self, hf: &str, gguf: &str) -> Result<&str> {
        self.opt_str(hf, gguf)?.ok_or_else(|| self.missing(hf, gguf))
    }

    /// A size, if it is stated.
    pub fn opt_usize(&self, hf: &str, gguf: &str) -> Result<Option<usize>> {
        self.one(hf, gguf, "a whole number of 0 or more", Item::usize)
    }

    /// A number, if it is stated. Whole numbers count; infinities do not.
    pub fn opt_f32(&self, hf: &str, gguf: &str) -> Result<Option<f32>> {
        self.one(hf, gguf, "a number", Item::f32)
    }

    /// A flag, if it is stated.
    pub fn opt_bool(&self, hf: &str, gguf: &str) -> Result<Option<bool>> {
        self.one(hf, gguf, "true or false", |item| match item {
            Item::Bool(flag) => Some(flag),
            _ => None,
        })
    }

    /// A text, if it is stated.
    pub fn opt_str(&self, hf: &str, gguf: &str) -> Result<Option<&str>> {
        self.one(hf, gguf, "a text", |item| match item {
            Item::Text(text) => Some(text),
            _ => None,
        })
    }

    /// A list of numbers, if it is stated.
    pub fn opt_f32s(&self, hf: &str, gguf: &str) -> Result<Option<Vec<f32>>> {
        self.many(hf, gguf, "numbers", |item| item.f32())
    }

    /// A list of sizes, if it is stated.
    pub fn opt_usizes(&self, hf: &str, gguf: &str) -> Result<Option<Vec<usize>>> {
        self.many(hf, gguf, "whole numbers of 0 or more", |item| item.usize())
    }

    /// A list of flags, if it is stated.
    pub fn opt_bools(&self, hf: &str, gguf: &str) -> Result<Option<Vec<bool>>> {
        self.many(hf, gguf, "true or false", |item| match item {
            Item::Bool(flag) => Some(flag),
            _ => None,
        })
    }

    /// A list of texts, if it is stated.
    pub fn opt_strs(&self, hf: &str, gguf: &str) -> Result<Option<Vec<String>>> {
        self.many(hf, gguf, "texts", |item| match item {
            Item::Text(text) => Some(text.to_owned()),
            _ => None,
        })
    }

    /// The error for a value that is there and cannot be used, for tables that know more than types: `why` follows the
    /// key, as in "is 7; a multiple of num_key_value_heads is needed".
    pub fn bad(&self, hf: &str, gguf: &str, why: impl Into<String>) -> Error {
        let key = self.find(hf, gguf).map_or_else(|| self.spelled(hf, gguf), |(key, _)| key);
        Error::key(&self.file, &key, why)
    }

    /// The value under either key, with the key as this container spells it.
    fn find(&self, hf: &str, gguf: &str) -> Option<(String, Item<'_>)> {
        match &self.source {
            Source::Json(json) => hf.split('|').filter(|k| !k.is_empty()).find_map(|key| {
                let value = key.split('.').try_fold(json, |value, part| value.get(part))?;
                (!value.is_null()).then(|| (key.to_owned(), Item::json(value)))
            }),
            Source::Gguf(metadata) => gguf.split('|').filter(|k| !k.is_empty()).find_map(|key| {
                let key = self.full(key);
                metadata.item(&key).map(|item| (key, item))
            }),
        }
    }

    fn one<'a, T>(
        &'a self,
        hf: &str,
        gguf: &str,
        needed: &str,
        read: impl Fn(Item<'a>) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some((key, item)) = self.find(hf, gguf) else { return Ok(None) };
        let found = item.describe();
        match read(item) {
            Some(value) => Ok(Some(value)),
            None => Err(Error::key(&self.file, &key, format!("is {found}; {needed} is needed"))),
        }
    }

    fn many<T>(
        &self,
        hf: &str,
        gguf: &str,
        needed: &str,
        read: impl Fn(Item<'_>) -> Option<T>,
    ) -> Result<Option<Vec<T>>> {
        let Some((key, item)) = self.find(hf, gguf) else { return Ok(None) };
        let wrong = |found: String| Error::key(&self.file, &key, format!("{found}; a list of {needed} is needed"));
        let one = |item: Item<'_>| {
            let found = item.describe();
            read(item).ok_or_else(|| wrong(format!("holds {found}")))
        };
        match item {
            Item::JsonList(list) => list.iter().map(|v| one(Item::json(v))).collect::<Result<_>>().map(Some),
            Item::GgufList(metadata, array) => {
                let values = metadata.values(array);
                values
                    .map(|v| {
                        one(Item::gguf(metadata, &v.map_err(|e| Error::key(&self.file, &key, format!("has {e}")))?))
                    })
                    .collect::<Result<_>>()
                    .map(Some)
            }
            other => Err(wrong(format!("is {}", other.describe()))),
        }
    }

    fn missing(&self, hf: &str, gguf: &str) -> Error {
        Error::MissingKey { path: self.file.clone(), key: self.spelled(hf, gguf) }
    }

    /// The key of this container, for messages about values that are not there.
    fn spelled(&self, hf: &str, gguf: &str) -> String {
        let first = |keys: &str| keys.split('|').next().unwrap_or_default().to_owned();
        match &self.source {
            Source::Json(_) if !hf.is_empty() => first(hf),
            Source::Gguf(_) if !gguf.is_empty() => self.full(&first(gguf)),
            // The caller requires what this container cannot state: name the other spelling rather than nothing.
            _ => first(if hf.is_empty() { gguf } else { hf }),
        }
    }

    fn full(&self, key: &str) -> String {
        if ["general.", "tokenizer.", "split."].iter().any(|p| key.starts_with(p)) {
            return key.to_owned();
        }
        format!("{}.{key}", self.architecture)
    }

    /// Feeds every key and value to `put`, in an order that does not change.
    pub(crate) fn visit(&self, put: &mut dyn FnMut(&[u8])) {
        match &self.source {
            Source::Json(json) => put(json.to_string().as_bytes()),
            Source::Gguf(metadata) => metadata.visit(put),
        }
    }

    /// The metadata, where the container is GGUF.
    pub fn metadata(&self) -> Option<&Metadata> {
        match &self.source {
            Source::Json(_) => None,
            Source::Gguf(metadata) => Some(metadata),
        }
    }
}

/// A value of either container.
#[derive(Clone, Copy)]
pub(crate) enum Item<'a> {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Text(&'a str),
    JsonList(&'a [serde_json::Value]),
    GgufList(&'a Metadata, &'a crate::checkpoint::gguf::Array),
    Null,
    Object,
}

impl<'a> Item<'a> {
    fn json(value: &'a serde_json::Value) -> Self {
        use serde_json::Value;
        match value {
            Value::Null => Item::Null,
            Value::Bool(flag) => Item::Bool(*flag),
            Value::String(text) => Item::Text(text),
            Value::Array(list) => Item::JsonList(list),
            Value::Object(_) => Item::Object,
            Value::Number(n) => match (n.as_u64(), n.as_i64()) {
                (Some(n), _) => Item::Unsigned(n),
                (None, Some(n)) => Item::Signed(n),
                (None, None) => Item::Float(n.as_f64().unwrap_or(f64::NAN)),
            },
        }
    }

    pub(crate) fn gguf(metadata: &'a Metadata, value: &'a crate::checkpoint::gguf::Value) -> Self {
        use crate::checkpoint::gguf::Value;
        match value {
            Value::Unsigned(n) => Item::Unsigned(*n),
            Value::Signed(n) => Item::Signed(*n),
            Value::Float(n) => Item::Float(*n),
            Value::Bool(flag) => Item::Bool(*flag),
            Value::Text(text) => Item::Text(text),
            Value::Array(array) => Item::GgufList(metadata, array),
        }
    }

    pub(crate) fn usize(self) -> Option<usize> {
        match self {
            Item::Unsigned(n) => usize::try_from(n).ok(),
            Item::Signed(n) => usize::try_from(n).ok(),
            _ => None,
        }
    }

    fn f32(self) -> Option<f32> {
        let n = match self {
            Item::Unsigned(n) => n as f32,
            Item::Signed(n) => n as f32,
            Item::Float(n) => n as f32,
            _ => return None,
        };
        n.is_finite().then_some(n)
    }

    /// What it is, for messages: "the text \"abc\"", "a list".
    pub(crate) fn describe(self) -> String {
        match self {
            Item::Unsigned(n) => n.to_string(),
            Item::Signed(n) => n.to_string(),
            Item::Float(n) => format!("{n:?}"),
            Item::Bool(flag) => flag.to_string(),
            Item::Text(text) => format!("the text \"{}\"", crate::error::printable(text)),
            Item::JsonList(_) | Item::GgufList(..) => "a list".into(),
            Item::Null => "null".into(),
            Item::Object => "an object".into(),
        }
    }
}
