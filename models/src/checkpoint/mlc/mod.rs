//! Folders of MLC, which NanoLLM used: mlc-chat-config.json, a list of tensors, and their bytes in shards. What the files
//! say is brought into the words of a Hugging Face folder, fused matrices cut into their parts, so that architectures need
//! not know. The list is read by `cache`; numbers and names are told in `names`.

mod cache;
mod names;

pub use cache::{Record, parse_cache};
pub(crate) use names::NORMS_ARE_FACTORS;

use super::hf;
use super::map::Map;
use super::packed::{Array, Layout, Packed, Scales, Zeros};
use super::tensors::{Entry, Tensors};
use super::{Checkpoint, Container, TensorInfo};
use crate::{Config, Error, GgufVocab, Result, Tokenizer};
use names::{Names, Part};
use nano_kernels::{Format, HostTensor};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file that makes a folder one of MLC's.
pub(super) const CONFIG: &str = "mlc-chat-config.json";
/// The list of tensors, by its old name and by its new one.
pub(super) const CACHES: [&str; 2] = ["ndarray-cache.json", "tensor-cache.json"];
/// Values that share a scale.
const GROUP: usize = 32;
/// What stands for 0 among the sixteen quants.
const ZERO: u16 = 7;

/// An open folder of MLC's.
#[derive(Debug)]
pub struct Mlc {
    path: PathBuf,
    config: Config,
    tensors: Tensors,
    quantized: String,
    stop: Vec<u32>,
}

impl Mlc {
    /// Reads the two lists and maps the weights.
    pub fn open(path: &Path) -> Result<Self> {
        let file = path.join(CONFIG);
        let json = hf::read_json(&file)?.ok_or_else(|| Error::NotFound { path: file.clone() })?;
        let transposed = transposed(&file, &json)?;
        let cache = CACHES.map(|name| path.join(name)).into_iter().find(|path| path.is_file());
        let Some(cache) = cache else {
            let why = format!("holds {CONFIG} and no list of tensors ({} or {})", CACHES[0], CACHES[1]);
            return Err(Error::file(path, why));
        };
        let bytes = std::fs::read(&cache).map_err(|e| Error::io(&cache, "cannot be read", e))?;
        let records = parse_cache(&cache, &bytes)?;
        let head = records.iter().any(|record| record.name.starts_with("lm_head."));
        let config = Config::from_json(&file, names::config(&file, &json, head)?)?;
        let names = Names::new(&config)?;
        let tensors = open_shards(path, &cache, records, &names, transposed)?;
        let mut stop = Vec::new();
        hf::add_eos(&file, &json, &mut stop)?;
        if let Some(ids) = json.get("conv_template").and_then(|template| template.get("stop_token_ids")) {
            hf::add_eos(&file, &serde_json::json!({ "eos_token_id": ids }), &mut stop)?;
        }
        let quantized = format!("MLC {}", json["quantization"].as_str().unwrap_or_default());
        Ok(Mlc { path: path.to_path_buf(), config, tensors, quantized, stop })
    }
}

/// Whether a folder's matrices have their words in columns.
fn transposed(file: &Path, json: &Value) -> Result<bool> {
    const KEY: &str = "quantization";
    match json.get(KEY).and_then(Value::as_str) {
        Some("q4f16_0" | "q4bf16_0") => Ok(true),
        Some("q4f16_1" | "q4f16_2" | "q4f32_1" | "q4bf16_1" | "q0f16" | "q0f32" | "q0bf16") => Ok(false),
        Some(ft) if ft.contains("_ft") => {
            let why = format!(
                "is \"{ft}\", whose quants lie in the order of one kind of GPU; give the model that it was made of, with \
                 --quantization q4f16, or convert that to q4f16_1"
            );
            Err(Error::key(file, KEY, why))
        }
        other => {
            let why = format!("is {other:?}; read are q4f16_0, q4f16_1, q4f16_2, q4f32_1 and q0f16");
            Err(Error::key(file, KEY, why))
        }
    }
}

/// Maps the shards and lists the tensors that they make.
fn open_shards(folder: &Path, cache: &Path, records: Vec<Record>, names: &Names, transposed: bool) -> Result<Tensors> {
    let mut tensors = Tensors::default();
    let mut files: BTreeMap<String, usize> = BTreeMap::new();
    let mut found: BTreeMap<String, (Record, usize)> = BTreeMap::new();
    for record in records {
        let file = match files.get(&record.shard) {
            Some(file) => *file,
            None => {
                let path = folder.join(&record.shard);
                let map = Arc::new(Map::open(&path)?);
                let file = tensors.add_file(path, map);
                files.insert(record.shard.clone(), file);
                file
            }
        };
        let length = tensors.bytes(file).len();
        if record.range.end > length {
            let why = format!("its data ends at byte {} of {length}; the file is cut short", record.range.end);
            return Err(Error::tensor(tensors.path(file), &record.name, why));
        }
        let name = record.name.clone();
        if found.insert(name.clone(), (record, file)).is_some() {
            return Err(Error::tensor(cache, &name, "is listed twice"));
        }
    }
    let first = |name: &str, at: usize| name.split('.').nth(at).is_some_and(|part| part.starts_with("param_"));
    if found.keys().any(|name| first(name, 0)) {
        let why = "numbers its tensors instead of naming them, as MLC did before 2024; convert the model again";
        return Err(Error::file(cache, why));
    }
    let quants: Vec<String> =
        found.keys().filter_map(|name| name.strip_suffix(".q_weight")).map(str::to_owned).collect();
    for stem in quants {
        let mut take = |piece: &str| {
            let name = format!("{stem}.{piece}");
            found.remove(&name).ok_or_else(|| Error::tensor(cache, &name, "is missing"))
        };
        let (quants, scales) = (take("q_weight")?, take("q_scale")?);
        let embedding = stem.ends_with(".embed_tokens") || stem.ends_with(".embd");
        let transposed = transposed && !embedding;
        let path = tensors.path(quants.1).to_path_buf();
        let Some(format) = scales.0.format.filter(|_| quants.0.format.is_none()) else {
            return Err(Error::tensor(&path, &stem, "its quants are no uint32, or its scales no floats"));
        };
        let packed = packed(quants, (scales.0, scales.1, format), transposed);
        for Part { stem, from, to } in names.parts(&path, &stem, packed.rows)? {
            let packed = Packed { first: from, rows: to - from, ..packed.clone() };
            tensors.add_packed(format!("{stem}.weight"), packed)?;
        }
    }
    for (name, (record, file)) in found {
        add_plain(&mut tensors, names, &name, record, file)?;
    }
    Ok(tensors)
}

/// A matrix whose pieces were found.
fn packed(quants: (Record, usize), scales: (Record, usize, Format), transposed: bool) -> Packed {
    let array = |record: &Record, file: usize| Array {
        file,
        range: record.range.clone(),
        rows: record.rows,
        cols: record.cols,
    };
    let (words, rows) = match transposed {
        true => (quants.0.rows, quants.0.cols),
        false => (quants.0.cols, quants.0.rows),
    };
    Packed {
        bits: 4,
        rows,
        cols: words.saturating_mul(8),
        per: GROUP,
        layout: if transposed { Layout::Columns } else { Layout::Rows },
        quants: array(&quants.0, quants.1),
        scales: Scales { array: array(&scales.0, scales.1), format: scales.2, transposed },
        zeros: Zeros::Same(ZERO),
        groups: None,
        first: 0,
    }
}

/// Adds values that lie as they are, cut into parts where they are several.
fn add_plain(tensors: &mut Tensors, names: &Names, name: &str, record: Record, file: usize) -> Result<()> {
    let path = tensors.path(file).to_path_buf();
    let Some(format) = record.format else {
        return Err(Error::tensor(&path, name, "is of integers, and no quants of a matrix"));
    };
    let (stem, kind) = name.rsplit_once('.').unwrap_or((name, ""));
    // A bias is one row.
    let (all, width) = if kind == "bias" { (record.cols, 1) } else { (record.rows, record.cols) };
    let size = width * format.block_bytes();
    for Part { stem, from, to } in names.parts(&path, stem, all)? {
        let (rows, cols) = if kind == "bias" { (1, to - from) } else { (to - from, width) };
        let range = record.range.start + from * size..record.range.start + to * size;
        let info = TensorInfo { format, rows, cols, bytes: range.len() };
        let name = format!("{stem}.{kind}");
        if !tensors.add(name.clone(), Entry { info, file, range }) {
            return Err(Error::tensor(&path, &name, "is there twice"));
        }
    }
    Ok(())
}

impl Checkpoint for Mlc {
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
        Some(&self.quantized)
    }

    fn notices(&self) -> Vec<String> {
        self.tensors.notices()
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
        Tokenizer::from_hf(hf::vocab(&self.path, self.stop.clone())?)
    }

    fn gguf_vocab(&self, rows: usize) -> Result<GgufVocab> {
        hf::vocab(&self.path, self.stop.clone())?.to_gguf(rows)
    }

    fn chat_template(&self) -> Result<Option<String>> {
        hf::chat_template(&self.path)
    }
}
