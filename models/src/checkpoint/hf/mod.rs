//! Hugging Face folders: config.json, tokenizer.json and their companions, and weights as one or many safetensors
//! files, or PyTorch's own. Reading those files' headers is `safetensors` and `torch`; which shard holds what is `index`.

mod index;
mod nested;
mod pickle;
mod quantized;
mod safetensors;
mod torch;
mod woven;

pub use index::{Index, parse_index};
pub(super) use nested::text_name;
pub use safetensors::{ShardTensor, Stored, parse_shard};
pub use torch::parse_torch;

use super::map::Map;
use super::tensors::{Entry, TWICE, Tensors};
use super::{Checkpoint, Container, TensorInfo, files_ending};
use crate::tokenizer::HfVocab;
use crate::{Config, Error, GgufVocab, Result, Tokenizer};
use nano_kernels::HostTensor;
use quantized::Method;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The weights in one file.
pub(super) const SINGLE: &str = "model.safetensors";
/// The list of shards where the weights are in many.
pub(super) const INDEX: &str = "model.safetensors.index.json";
/// The same in PyTorch's format, which is read where there are no safetensors.
pub(super) const TORCH_SINGLE: &str = "pytorch_model.bin";
pub(super) const TORCH_INDEX: &str = "pytorch_model.bin.index.json";
/// Largest text or JSON file that is read; vocabularies of a quarter million tokens take a tenth.
const MAX_TEXT_BYTES: u64 = 512 << 20;

/// An open Hugging Face folder.
#[derive(Debug)]
pub struct HuggingFace {
    path: PathBuf,
    config: Config,
    tensors: Tensors,
    /// How its authors quantized it.
    quantized: Option<String>,
    /// Tensors that are no part of the text model.
    left_out: usize,
}

impl HuggingFace {
    /// Reads config.json and maps the weights.
    pub fn open(path: &Path) -> Result<Self> {
        let file = path.join("config.json");
        let json = read_json(&file)?.ok_or_else(|| Error::NotFound { path: file.clone() })?;
        let method = quantized::method(path, &file, &json)?;
        let nested = nested::text_config(&json);
        let mut tensors = open_weights(path, method.as_ref(), woven::is_woven(&json))?;
        let left_out = if nested.is_some() { tensors.rename(text_name) } else { 0 };
        let config = Config::from_json(&file, nested.unwrap_or(json))?;
        let quantized = method.map(|method| method.to_string());
        Ok(HuggingFace { path: path.to_path_buf(), config, tensors, quantized, left_out })
    }

    /// The same from a config.json and a file of safetensors that are in memory already.
    #[cfg(any(test, feature = "testing"))]
    pub fn from_bytes(path: &Path, json: Value, shard: Vec<u8>) -> Result<Self> {
        let method = quantized::method(path, path, &json)?;
        let (mut tensors, mut found) = in_memory(path, shard)?;
        if let Some(method) = &method {
            method.gather(&mut tensors, &mut found)?;
        }
        if woven::is_woven(&json) {
            woven::gather(&mut tensors, &mut found)?;
        }
        list(&mut tensors, found)?;
        let quantized = method.map(|method| method.to_string());
        let config = Config::from_json(path, json)?;
        Ok(HuggingFace { path: path.to_path_buf(), config, tensors, quantized, left_out: 0 })
    }

    /// The tokens that end a turn: `eos_token_id`, one or many, of generation_config.json and config.json.
    fn stop(&self) -> Result<Vec<u32>> {
        let mut stop = Vec::new();
        let file = self.path.join("generation_config.json");
        if let Some(json) = read_json(&file)? {
            add_eos(&file, &json, &mut stop)?;
        }
        let file = self.path.join("config.json");
        if let Some(json) = read_json(&file)? {
            add_eos(&file, &nested::text_config(&json).unwrap_or(json), &mut stop)?;
        }
        Ok(stop)
    }
}

impl Checkpoint for HuggingFace {
    fn path(&self) -> &Path {
        &self.path
    }

    fn container(&self) -> Container {
        Container::HuggingFace
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

    fn stored(&self, name: &str) -> Result<Option<Cow<'_, [u8]>>> {
        Ok(self.tensors.stored(name).map(Cow::Borrowed))
    }

    fn quantized(&self) -> Option<&str> {
        self.quantized.as_deref()
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

    fn notices(&self) -> Vec<String> {
        let left_out = (self.left_out > 0).then_some(self.left_out);
        let left_out = left_out.map(|n| format!("{n} tensors that encode images were left out: only text is read"));
        left_out.into_iter().chain(self.tensors.notices()).collect()
    }

    fn tokenizer(&self) -> Result<Tokenizer> {
        Tokenizer::from_hf(vocab(&self.path, self.stop()?)?)
    }

    fn gguf_vocab(&self, rows: usize) -> Result<GgufVocab> {
        vocab(&self.path, self.stop()?)?.to_gguf(rows)
    }

    fn chat_template(&self) -> Result<Option<String>> {
        chat_template(&self.path)
    }
}

/// The files of a folder that make its tokenizer.
pub(super) fn vocab(folder: &Path, stop: Vec<u32>) -> Result<HfVocab> {
    let path = folder.join("tokenizer.json");
    let Some(json) = read_bytes(&path)? else {
        let why = "has no tokenizer.json; save the tokenizer with transformers (`save_pretrained`) to get one";
        return Err(Error::file(folder, why));
    };
    let config = read_json(&folder.join("tokenizer_config.json"))?;
    Ok(HfVocab { path, json, config, stop })
}

/// The chat template of a folder, if it has one.
pub(super) fn chat_template(folder: &Path) -> Result<Option<String>> {
    let path = folder.join("chat_template.jinja");
    if let Some(bytes) = read_bytes(&path)? {
        return String::from_utf8(bytes).map(Some).map_err(|_| Error::file(&path, "is not UTF-8"));
    }
    for name in ["tokenizer_config.json", "chat_template.json"] {
        let path = folder.join(name);
        if let Some(json) = read_json(&path)?
            && let Some(template) = template_of(&path, json)?
        {
            return Ok(Some(template));
        }
    }
    Ok(None)
}

/// Reads a whole small file. `None` if it does not exist.
fn read_bytes(path: &Path) -> Result<Option<Vec<u8>>> {
    let meta = match std::fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        meta => meta.map_err(|e| Error::io(path, "cannot be examined", e))?,
    };
    if !meta.is_file() {
        return Err(Error::file(path, "is not a regular file"));
    }
    if meta.len() > MAX_TEXT_BYTES {
        return Err(Error::file(path, format!("has {} bytes; at most {MAX_TEXT_BYTES} are read", meta.len())));
    }
    std::fs::read(path).map(Some).map_err(|e| Error::io(path, "cannot be read", e))
}

/// A JSON file; `None` if it does not exist.
pub(super) fn read_json(path: &Path) -> Result<Option<Value>> {
    let Some(bytes) = read_bytes(path)? else { return Ok(None) };
    if bytes.is_empty() {
        return Err(Error::file(path, "is empty; download or copy it again"));
    }
    serde_json::from_slice(&bytes).map(Some).map_err(|e| Error::file(path, format!("is not valid JSON: {e}")))
}

/// Adds the tokens of `eos_token_id`, one or many.
pub(super) fn add_eos(path: &Path, json: &Value, stop: &mut Vec<u32>) -> Result<()> {
    let ids = match json.get("eos_token_id") {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Array(ids)) => ids.as_slice(),
        Some(id) => std::slice::from_ref(id),
    };
    for id in ids {
        let number = id.as_u64().and_then(|id| u32::try_from(id).ok());
        let id =
            number.ok_or_else(|| Error::key(path, "eos_token_id", format!("holds {id}; token numbers are needed")))?;
        if !stop.contains(&id) {
            stop.push(id);
        }
    }
    Ok(())
}

/// The template of a JSON file: a text, or a list of named ones, of which "default" or the only one is meant.
fn template_of(path: &Path, mut json: Value) -> Result<Option<String>> {
    const KEY: &str = "chat_template";
    let wrong = |why: String| Error::key(path, KEY, why);
    let list = match json.get_mut(KEY).map(Value::take) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => return Ok(Some(text)),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(wrong("is neither a text nor a list of named templates".into())),
    };
    let mut named = Vec::new();
    for entry in &list {
        match (entry.get("name").and_then(Value::as_str), entry.get("template").and_then(Value::as_str)) {
            (Some(name), Some(text)) => named.push((name, text)),
            _ => return Err(wrong("holds an entry without a name and a template".into())),
        }
    }
    let chosen = named.iter().find(|(name, _)| *name == "default").or(match &named[..] {
        [only] => Some(only),
        _ => None,
    });
    match chosen {
        Some((_, text)) => Ok(Some((*text).to_owned())),
        None if named.is_empty() => Ok(None),
        None => {
            let names: Vec<&str> = named.iter().map(|(name, _)| *name).collect();
            Err(wrong(format!("has no \"default\" among {}; choose one with --chat-template", names.join(", "))))
        }
    }
}

/// Where a tensor was found: its file and place.
type Found = BTreeMap<String, (usize, Stored, Range<usize>)>;

/// Maps the one file of a folder with an adapter in it.
pub(super) fn open_adapter(folder: &Path) -> Result<(PathBuf, Tensors)> {
    const FILES: [&str; 2] = ["adapter_model.safetensors", "adapter_model.bin"];
    let path = FILES.iter().map(|name| folder.join(name)).find(|file| file.is_file());
    let path = path.ok_or_else(|| Error::file(folder, format!("has neither {} nor {}", FILES[0], FILES[1])))?;
    let mut tensors = Tensors::default();
    let (file, shard) = add_shard(&mut tensors, path.clone())?;
    let found = shard.into_iter().map(|t| (t.name, (file, t.stored, t.range))).collect();
    list(&mut tensors, found)?;
    Ok((path, tensors))
}

/// The same from bytes of safetensors.
#[cfg(any(test, feature = "testing"))]
pub(super) fn adapter_from_bytes(path: &Path, shard: Vec<u8>) -> Result<Tensors> {
    let (mut tensors, found) = in_memory(path, shard)?;
    list(&mut tensors, found)?;
    Ok(tensors)
}

/// What a file of safetensors holds that is in memory already.
#[cfg(any(test, feature = "testing"))]
fn in_memory(path: &Path, shard: Vec<u8>) -> Result<(Tensors, Found)> {
    let mut tensors = Tensors::default();
    let map = Arc::new(Map::Memory(shard));
    let shard = parse_shard(path, &map)?;
    let file = tensors.add_file(path.to_path_buf(), map);
    Ok((tensors, shard.into_iter().map(|t| (t.name, (file, t.stored, t.range))).collect()))
}

/// Maps the weights and lists their tensors.
fn open_weights(folder: &Path, method: Option<&Method>, woven: bool) -> Result<Tensors> {
    let mut tensors = Tensors::default();
    let mut found = Found::new();
    let has = |name: &str| folder.join(name).is_file();
    let (single, index) = match has(SINGLE) || has(INDEX) {
        true => (SINGLE, INDEX),
        false => (TORCH_SINGLE, TORCH_INDEX),
    };
    let single = Some(folder.join(single)).filter(|path| path.is_file());
    // Tools for quantized weights named the one file as they liked.
    let own = || method.filter(|_| !has(index)).and_then(|_| only_safetensors(folder));
    if let Some(single) = single.or_else(own) {
        let (file, shard) = add_shard(&mut tensors, single)?;
        found.extend(shard.into_iter().map(|t| (t.name, (file, t.stored, t.range))));
    } else {
        open_shards(folder, index, &mut tensors, &mut found)?;
    }
    if let Some(method) = method {
        method.gather(&mut tensors, &mut found)?;
    }
    if woven {
        woven::gather(&mut tensors, &mut found)?;
    }
    list(&mut tensors, found)?;
    Ok(tensors)
}

/// Lists tensors of values; nothing else may be left.
fn list(tensors: &mut Tensors, found: Found) -> Result<()> {
    for (name, (file, stored, range)) in found {
        match stored {
            Stored::Values(info) if tensors.add(name.clone(), Entry { info, file, range }) => {}
            Stored::Values(_) => return Err(Error::tensor(tensors.path(file), &name, TWICE)),
            Stored::Integers { dtype, .. } => {
                return Err(Error::tensor(tensors.path(file), &name, safetensors::unsupported(dtype)));
            }
        }
    }
    Ok(())
}

/// The one file of safetensors in a folder.
fn only_safetensors(folder: &Path) -> Option<PathBuf> {
    let mut files = files_ending(folder, ".safetensors").ok()?;
    if files.len() == 1 { files.pop() } else { None }
}

/// Maps all files that an index lists.
fn open_shards(folder: &Path, index: &str, tensors: &mut Tensors, all: &mut Found) -> Result<()> {
    let path = folder.join(index);
    let Some(bytes) = read_bytes(&path)? else { return Err(no_weights(folder)) };
    let index = parse_index(&path, &bytes)?;
    let absent: Vec<&str> = index.shards().into_iter().filter(|s| !folder.join(s).is_file()).collect();
    if let Some(first) = absent.first() {
        let why = format!("{} of its shards are not in the folder, {first} first; download them", absent.len());
        return Err(Error::file(&path, why));
    }
    for shard in index.shards() {
        let (file, found) = add_shard(tensors, folder.join(shard))?;
        for ShardTensor { name, stored, range } in found {
            // Where a tensor lies twice, the index says which is meant.
            if index.shard(&name).is_some_and(|s| s != shard) {
                continue;
            }
            if all.contains_key(&name) {
                let why = "is in another shard too, and the index does not list it";
                return Err(Error::tensor(tensors.path(file), &name, why));
            }
            all.insert(name, (file, stored, range));
        }
    }
    for (name, shard) in index.entries() {
        if !all.contains_key(name) {
            let why = format!("is listed in shard {shard} and is not there; download it again");
            return Err(Error::tensor(&path, name, why));
        }
    }
    Ok(())
}

fn add_shard(tensors: &mut Tensors, path: PathBuf) -> Result<(usize, Vec<ShardTensor>)> {
    let map = Arc::new(Map::open(&path)?);
    let is_torch = path.extension().is_some_and(|end| end == "bin");
    let found = if is_torch { parse_torch(&path, &map)? } else { parse_shard(&path, &map)? };
    Ok((tensors.add_file(path, map), found))
}

fn no_weights(folder: &Path) -> Error {
    let other = |end: &str| files_ending(folder, end).ok().and_then(|f| f.into_iter().next());
    let found = other(".safetensors").or_else(|| other(".bin")).or_else(|| other(".pth")).or_else(|| other(".gguf"));
    let hint = match found.as_deref().and_then(Path::file_name) {
        Some(name) => format!("; {} is there, which is not read", name.to_string_lossy()),
        None => String::new(),
    };
    Error::file(folder, format!("holds config.json and no weights ({SINGLE} or {INDEX}){hint}"))
}
