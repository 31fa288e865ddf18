//! One adapter as PEFT writes it: which modules it changes, by how much, and what that makes of a weight.

use super::Lora;
use crate::checkpoint::hf;
use crate::checkpoint::tensors::Tensors;
use crate::{Config, Error, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

/// Where PEFT keeps its modules.
const PREFIX: &str = "base_model.model.";
/// Fewer values than this are not worth a thread.
const THREADED: usize = 1 << 20;

/// An open adapter.
pub struct Adapter {
    /// Its file of tensors.
    pub file: PathBuf,
    /// What of adapter_config.json decides the result, as text.
    config: String,
    tensors: Tensors,
    /// By module: factor on B·A.
    alpha: f32,
    alphas: BTreeMap<String, f32>,
    rslora: bool,
    scale: f32,
    folder: PathBuf,
}

/// What is done to one tensor. The texts are names in the adapter's file.
pub enum Change {
    /// `W += factor · B·A`; under a magnitude, each row is then scaled to that length.
    Product { a: String, b: String, magnitude: Option<String>, factor: f32 },
    /// `W += factor · (B·A)ᵀ`
    Embedding { a: String, b: String, factor: f32 },
    /// The tensor is this one.
    Whole(String),
}

impl Adapter {
    /// Opens the folder.
    pub fn open(lora: &Lora) -> Result<Adapter> {
        let file = lora.path.join("adapter_config.json");
        let json = hf::read_json(&file)?.ok_or_else(|| {
            Error::file(&lora.path, "has no adapter_config.json: --lora takes a folder that PEFT saved")
        })?;
        Adapter::new(lora, &file, json, || hf::open_adapter(&lora.path))
    }

    /// The same from a configuration and a file of safetensors that are in memory already.
    #[cfg(any(test, feature = "testing"))]
    pub fn from_bytes(path: &Path, json: Value, shard: Vec<u8>) -> Result<Adapter> {
        let lora = Lora { path: path.to_path_buf(), scale: 1.0 };
        Adapter::new(&lora, path, json, || Ok((path.to_path_buf(), hf::adapter_from_bytes(path, shard)?)))
    }

    /// From a configuration, read from `file`, and what gives the tensors and their file.
    fn new(
        lora: &Lora,
        file: &Path,
        json: Value,
        tensors: impl FnOnce() -> Result<(PathBuf, Tensors)>,
    ) -> Result<Adapter> {
        // The readers of numbers want a model; its type is of no use here.
        let mut named = json.clone();
        if let Value::Object(keys) = &mut named {
            keys.insert("model_type".into(), "lora".into());
        }
        let c = Config::from_json(file, named)?;
        let bad = |key: &str, why: String| Err(c.bad(key, "", why));
        let kind = c.str("peft_type", "")?;
        if kind != "LORA" {
            return bad("peft_type", format!("is \"{}\"; LORA is read", crate::error::printable(kind)));
        }
        for key in ["fan_in_fan_out", "lora_bias"] {
            if c.opt_bool(key, "")?.unwrap_or(false) {
                return bad(key, "is true, which is not supported".into());
            }
        }
        let alpha = c.opt_f32("lora_alpha", "")?.unwrap_or(8.0);
        let rslora = c.opt_bool("use_rslora", "")?.unwrap_or(false);
        let mut alphas = BTreeMap::new();
        for (module, value) in json.get("alpha_pattern").and_then(Value::as_object).into_iter().flatten() {
            match value.as_f64() {
                Some(value) => drop(alphas.insert(module.clone(), value as f32)),
                None => return bad("alpha_pattern", format!("holds {value} for {module}; a number is needed")),
            }
        }
        let (file, tensors) = tensors()?;
        let config = format!("{alpha} {rslora} {alphas:?}");
        Ok(Adapter { file, config, tensors, alpha, alphas, rslora, scale: lora.scale, folder: lora.path.clone() })
    }

    /// For people.
    pub fn describe(&self) -> String {
        let times = if self.scale == 1.0 { String::new() } else { format!(", times {}", self.scale) };
        format!("adapter {}{times}", self.folder.display())
    }

    /// A number that differs for adapters that make something else of a weight.
    pub fn hash(&self) -> Result<u128> {
        let mut hash = Xxh3::new();
        hash.update(self.config.as_bytes());
        hash.update(&self.scale.to_le_bytes());
        for name in self.tensors.names() {
            hash.update(name.as_bytes());
            hash.update(&self.tensors.tensor(name)?.map(|tensor| tensor.bytes).unwrap_or_default());
        }
        Ok(hash.digest128())
    }

    /// What is changed, by transformers' names of weights and biases.
    pub fn changes(&self) -> Result<Vec<(String, Change)>> {
        let mut found = Vec::new();
        for full in self.tensors.names() {
            let Some(name) = full.strip_prefix(PREFIX) else {
                return Err(Error::tensor(&self.file, full, format!("does not begin with {PREFIX}")));
            };
            // Some versions write the adapter's own name as well.
            let plain = name.replace(".default", "").replace(".modules_to_save", "");
            let there = |other: &str| {
                let names = [other.to_owned(), other.replace(".weight", ".default.weight")];
                names.into_iter().find(|name| self.tensors.info(name).is_some())
            };
            let needed = |other: String| {
                there(&other).ok_or_else(|| Error::tensor(&self.file, full, format!("is there without {other}")))
            };
            let (module, change) = if let Some(module) = plain.strip_suffix(".lora_A.weight") {
                let b = needed(format!("{PREFIX}{module}.lora_B.weight"))?;
                let magnitude = there(&format!("{PREFIX}{module}.lora_magnitude_vector"))
                    .or_else(|| there(&format!("{PREFIX}{module}.lora_magnitude_vector.weight")));
                let factor = self.factor(module, full)?;
                (module, Change::Product { a: full.to_owned(), b, magnitude, factor })
            } else if let Some(module) = plain.strip_suffix(".lora_embedding_A") {
                let b = needed(format!("{PREFIX}{module}.lora_embedding_B"))?;
                let factor = self.factor(module, full)?;
                (module, Change::Embedding { a: full.to_owned(), b, factor })
            } else if let Some(module) = plain.strip_suffix(".lora_B.weight") {
                needed(format!("{PREFIX}{module}.lora_A.weight"))?;
                continue;
            } else if let Some(module) = plain.strip_suffix(".lora_embedding_B") {
                needed(format!("{PREFIX}{module}.lora_embedding_A"))?;
                continue;
            } else if plain.contains(".lora_magnitude_vector") {
                continue;
            } else if plain.contains("lora_") || !(plain.ends_with(".weight") || plain.ends_with(".bias")) {
                return Err(Error::tensor(&self.file, full, "is of a kind of adapter that is not supported"));
            } else {
                let name = hf::text_name(&plain.replace(".base_layer", "")).unwrap_or(plain);
                found.push((name, Change::Whole(full.to_owned())));
                continue;
            };
            let module = hf::text_name(&format!("{module}.weight")).unwrap_or_default();
            found.push((module, change));
        }
        if found.is_empty() {
            return Err(Error::file(&self.file, "holds no adapter's tensors"));
        }
        Ok(found)
    }

    /// Factor on B·A of a module, whose A is `a`.
    fn factor(&self, module: &str, a: &str) -> Result<f32> {
        let rank = self.tensors.info(a).map_or(1, |info| info.rows) as f32;
        let ends = |pattern: &str| module == pattern || module.ends_with(&format!(".{pattern}"));
        let alpha = self.alphas.iter().find(|(pattern, _)| ends(pattern)).map_or(self.alpha, |(_, alpha)| *alpha);
        Ok(self.scale * alpha / if self.rslora { rank.sqrt() } else { rank })
    }

    /// Rows and columns of one of the adapter's own tensors; zeros if there is none of this name.
    pub fn shape(&self, name: &str) -> (usize, usize) {
        self.tensors.info(name).map_or((0, 0), |info| (info.rows, info.cols))
    }

    /// Whether a change fits a tensor of so many rows and columns.
    pub fn check(&self, change: &Change, (rows, cols): (usize, usize)) -> Result<(), String> {
        let shape = |name: &str| self.shape(name);
        let fits = |name: &str, needed: (usize, usize)| {
            let found = shape(name);
            let why = || format!("{name} is {} x {}; the model makes it {} x {}", found.0, found.1, needed.0, needed.1);
            if found == needed { Ok(()) } else { Err(why()) }
        };
        match change {
            Change::Product { a, b, magnitude, .. } => {
                let rank = shape(a).0;
                fits(a, (rank, cols))?;
                fits(b, (rows, rank))?;
                magnitude.as_ref().map_or(Ok(()), |m| fits(m, (1, rows)))
            }
            Change::Embedding { a, b, .. } => {
                let rank = shape(a).0;
                fits(a, (rank, rows))?;
                fits(b, (cols, rank))
            }
            Change::Whole(name) => fits(name, (rows, cols)),
        }
    }

    /// Changes the values of a tensor. `heads`: they are in the order of GGUF, in so many heads of rows.
    pub fn apply(
        &self,
        change: &Change,
        values: &mut [f32],
        (rows, cols): (usize, usize),
        heads: Option<usize>,
    ) -> Result<()> {
        let read = |name: &str| -> Result<Vec<f32>> {
            Ok(self.tensors.tensor(name)?.map(|tensor| tensor.to_f32()).unwrap_or_default())
        };
        let row_of = |row: usize| heads.map_or(row, |heads| halves(row, rows / heads));
        match change {
            Change::Product { a, b, magnitude, factor } => {
                let (a, b) = (read(a)?, read(b)?);
                let rank = a.len() / cols.max(1);
                let magnitude = magnitude.as_deref().map(read).transpose()?;
                each_row(values, cols, |row, values| {
                    let row = row_of(row);
                    for (a, b) in a.chunks_exact(cols).zip(&b[row * rank..(row + 1) * rank]) {
                        values.iter_mut().zip(a).for_each(|(w, a)| *w += factor * b * a);
                    }
                    if let Some(magnitude) = &magnitude {
                        let length = values.iter().map(|w| f64::from(*w) * f64::from(*w)).sum::<f64>().sqrt() as f32;
                        let scale = if length > 0.0 { magnitude[row] / length } else { 0.0 };
                        values.iter_mut().for_each(|w| *w *= scale);
                    }
                });
            }
            Change::Embedding { a, b, factor } => {
                let (a, b) = (read(a)?, read(b)?);
                let rank = a.len() / rows.max(1);
                each_row(values, cols, |row, values| {
                    for (w, b) in values.iter_mut().zip(b.chunks_exact(rank.max(1))) {
                        *w += factor * b.iter().enumerate().map(|(k, b)| b * a[k * rows + row]).sum::<f32>();
                    }
                });
            }
            Change::Whole(name) => {
                let whole = read(name)?;
                each_row(values, cols, |row, values| {
                    let row = row_of(row);
                    values.copy_from_slice(&whole[row * cols..(row + 1) * cols]);
                });
            }
        }
        Ok(())
    }
}

/// Which row of a head in halves is row `row` in pairs: those that turn together lie side by side in GGUF.
fn halves(row: usize, head_dim: usize) -> usize {
    let (head, at) = (row / head_dim, row % head_dim);
    head * head_dim + at % 2 * (head_dim / 2) + at / 2
}

/// Every row, on all cores.
fn each_row(values: &mut [f32], cols: usize, change: impl Fn(usize, &mut [f32]) + Sync) {
    if values.is_empty() {
        return;
    }
    let threads = std::thread::available_parallelism().map_or(1, Into::into).min(values.len().div_ceil(THREADED));
    let share = (values.len() / cols).div_ceil(threads);
    std::thread::scope(|scope| {
        for (i, part) in values.chunks_mut(share * cols).enumerate() {
            let change = &change;
            scope.spawn(move || {
                part.chunks_exact_mut(cols).enumerate().for_each(|(row, values)| change(i * share + row, values));
            });
        }
    });
}
