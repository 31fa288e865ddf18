//! What GGUF metadata says of the tokenizer, gathered for the one who knows what it means.

use super::Metadata;
use super::value::{Array, Value};
use crate::config::Item;
use crate::tokenizer::GgufVocab;
use crate::{Error, Result};
use std::path::Path;

/// Keys whose token ends a turn.
const STOP_KEYS: [&str; 3] =
    ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"];

/// Reads the vocabulary. `path` is for messages.
pub(super) fn read(path: &Path, metadata: &Metadata) -> Result<GgufVocab> {
    let reader = Reader { path, metadata };
    let model = reader.text("tokenizer.ggml.model")?.ok_or_else(|| {
        Error::file(
            path,
            "has no tokenizer (tokenizer.ggml.model is missing); convert the model again with its tokenizer",
        )
    })?;
    let tokens = reader.texts("tokenizer.ggml.tokens")?;
    if tokens.is_empty() {
        return Err(Error::key(path, "tokenizer.ggml.tokens", "is missing or empty; the tokenizer has no vocabulary"));
    }
    let id = |key| reader.id(key, tokens.len());
    let mut stop = Vec::new();
    for key in STOP_KEYS {
        if let Some(id) = id(key)?.filter(|id| !stop.contains(id)) {
            stop.push(id);
        }
    }
    Ok(GgufVocab {
        path: path.to_path_buf(),
        model,
        pre: reader.text("tokenizer.ggml.pre")?,
        types: reader.for_each_token("tokenizer.ggml.token_type", tokens.len(), |value| match value {
            Value::Signed(n) => i32::try_from(n).ok(),
            Value::Unsigned(n) => i32::try_from(n).ok(),
            _ => None,
        })?,
        scores: reader.for_each_token("tokenizer.ggml.scores", tokens.len(), |value| match value {
            Value::Float(n) => Some(n as f32),
            _ => None,
        })?,
        merges: reader.texts("tokenizer.ggml.merges")?,
        bos: id("tokenizer.ggml.bos_token_id")?,
        eos: id("tokenizer.ggml.eos_token_id")?,
        eot: id("tokenizer.ggml.eot_token_id")?,
        unk: id("tokenizer.ggml.unknown_token_id")?,
        stop,
        add_bos: reader.flag("tokenizer.ggml.add_bos_token")?,
        add_space_prefix: reader.flag("tokenizer.ggml.add_space_prefix")?,
        remove_extra_whitespaces: reader.flag("tokenizer.ggml.remove_extra_whitespaces")?,
        charsmap: reader.bytes("tokenizer.ggml.precompiled_charsmap")?,
        tokens,
    })
}

struct Reader<'a> {
    path: &'a Path,
    metadata: &'a Metadata,
}

impl Reader<'_> {
    fn wrong(&self, key: &str, needed: &str) -> Error {
        let found = self.metadata.item(key).map_or_else(|| "missing".into(), Item::describe);
        Error::key(self.path, key, format!("is {found}; {needed} is needed"))
    }

    fn text(&self, key: &str) -> Result<Option<String>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text.clone())),
            Some(_) => Err(self.wrong(key, "a text")),
        }
    }

    fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.wrong(key, "true or false")),
        }
    }

    /// A token's number. Converters write the largest u32 for "none".
    fn id(&self, key: &str, vocabulary: usize) -> Result<Option<u32>> {
        let Some(item) = self.metadata.item(key) else { return Ok(None) };
        match item.usize().and_then(|n| u32::try_from(n).ok()) {
            Some(u32::MAX) => Ok(None),
            Some(id) if (id as usize) < vocabulary => Ok(Some(id)),
            _ => Err(self.wrong(key, &format!("a token number below {vocabulary}"))),
        }
    }

    fn list(&self, key: &str) -> Result<Option<&Array>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Array(array)) => Ok(Some(array)),
            Some(_) => Err(self.wrong(key, "a list")),
        }
    }

    /// A list of texts; empty where there is none.
    fn texts(&self, key: &str) -> Result<Vec<String>> {
        let Some(array) = self.list(key)? else { return Ok(Vec::new()) };
        self.collect(key, array, "texts", |value| match value {
            Value::Text(text) => Some(text),
            _ => None,
        })
    }

    /// A list of bytes, with or without signs; empty where there is none.
    fn bytes(&self, key: &str) -> Result<Vec<u8>> {
        let Some(array) = self.list(key)? else { return Ok(Vec::new()) };
        self.collect(key, array, "bytes", |value| match value {
            Value::Signed(n) => i8::try_from(n).ok().map(|n| n as u8),
            Value::Unsigned(n) => u8::try_from(n).ok(),
            _ => None,
        })
    }

    /// A list with one element for each token; empty where there is none.
    fn for_each_token<T>(&self, key: &str, vocabulary: usize, read: impl Fn(Value) -> Option<T>) -> Result<Vec<T>> {
        let Some(array) = self.list(key)? else { return Ok(Vec::new()) };
        if array.len != vocabulary {
            let why = format!("has {} elements where the vocabulary has {vocabulary} tokens", array.len);
            return Err(Error::key(self.path, key, why));
        }
        self.collect(key, array, "numbers", read)
    }

    fn collect<T>(&self, key: &str, array: &Array, needed: &str, read: impl Fn(Value) -> Option<T>) -> Result<Vec<T>> {
        let wrong = |at: usize, why: String| Error::key(self.path, key, format!("at {at}: {why}"));
        let values = self.metadata.values(array).enumerate();
        values
            .map(|(at, value)| {
                let value = value.map_err(|e| wrong(at, e))?;
                read(value).ok_or_else(|| wrong(at, format!("a value of another type where {needed} are needed")))
            })
            .collect()
    }
}
