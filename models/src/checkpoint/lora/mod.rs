//! A checkpoint with LoRA adapters merged into its weights: each tensor that an adapter changes is `W + scale · B·A`, made
//! when it is read and given in the format that the tensor had. Reading the adapters' files is `adapter`.

pub(crate) mod adapter;
mod names;

use super::{Checkpoint, Container, TensorInfo};
use crate::{Config, Error, GgufVocab, Result, Tokenizer};
use adapter::{Adapter, Change};
use nano_kernels::format::quantize_row;
use nano_kernels::{Format, HostTensor};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};

/// An adapter that is to be merged: a PEFT folder (adapter_config.json and adapter_model.safetensors or .bin).
#[derive(Clone, Debug, PartialEq)]
pub struct Lora {
    /// The folder.
    pub path: PathBuf,
    /// What its change is multiplied by, beside its own scale.
    pub scale: f32,
}

impl std::str::FromStr for Lora {
    type Err = String;

    /// `PATH` or `PATH:scale`.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (path, scale): (_, f32) =
            match text.rsplit_once(':').and_then(|(path, scale)| Some((path, scale.parse().ok()?))) {
                Some((path, scale)) => (path, scale),
                None => (text, 1.0),
            };
        if path.is_empty() || !scale.is_finite() {
            return Err("it must be PATH or PATH:scale, as in adapters/mine:0.5".into());
        }
        Ok(Lora { path: path.into(), scale })
    }
}

/// A checkpoint with `adapters` merged into it, in their order.
pub fn merge(base: Box<dyn Checkpoint>, adapters: &[Lora]) -> Result<Box<dyn Checkpoint>> {
    if adapters.is_empty() {
        return Ok(base);
    }
    let mut merged =
        Merged { base, adapters: Vec::new(), changes: BTreeMap::new(), rows: BTreeMap::new(), mark: String::new() };
    for lora in adapters {
        merged.add(lora)?;
    }
    Ok(Box::new(merged))
}

struct Merged {
    base: Box<dyn Checkpoint>,
    adapters: Vec<Adapter>,
    /// By the base's names: which adapters change a tensor, and how.
    changes: BTreeMap<String, Vec<(usize, Change)>>,
    /// By the base's names: heads of rows that GGUF holds in another order.
    rows: BTreeMap<String, usize>,
    /// Tells these adapters from others.
    mark: String,
}

impl Merged {
    fn add(&mut self, lora: &Lora) -> Result<()> {
        let adapter = Adapter::open(lora)?;
        let names = names::Names::of(&*self.base)?;
        let at = self.adapters.len();
        for (name, change) in adapter.changes()? {
            let wrong = |why: String| Error::tensor(&adapter.file, &name, why);
            let no_tensor = || wrong(format!("changes {name}, which {} does not have", self.base.path().display()));
            let target = names.find(&name).ok_or_else(no_tensor)?;
            let info = self.base.info(&target.name).ok_or_else(no_tensor)?;
            adapter.check(&change, (info.rows, info.cols)).map_err(wrong)?;
            if matches!(change, Change::Whole(_)) && info.rows == 1 && self.container() == Container::Gguf {
                // Converters add to some, and reorder others.
                return Err(wrong(
                    "replaces a vector, which GGUF may hold otherwise; merge it into the model's folder".into(),
                ));
            }
            if let Some(heads) = target.heads {
                if heads == 0 || !info.rows.is_multiple_of(2 * heads) {
                    return Err(wrong(format!("the model's {heads} heads do not divide the {} rows of it", info.rows)));
                }
                self.rows.insert(target.name.clone(), heads);
            }
            self.changes.entry(target.name).or_default().push((at, change));
        }
        self.mark += &format!("{:032x}\n", adapter.hash()?);
        self.adapters.push(adapter);
        Ok(())
    }

    /// The format in which a changed tensor is given: its own where that can be written.
    fn format(from: Format) -> Format {
        match from.native() {
            Format::Int4(_) | Format::Int8(_) | Format::Mxfp4 => Format::Q8_0,
            native => native,
        }
    }

    fn change(&self, tensor: &HostTensor<'_>, changes: &[(usize, Change)]) -> Result<HostTensor<'static>> {
        let (rows, cols) = (tensor.rows, tensor.cols);
        let mut values = tensor.to_f32();
        let heads = self.rows.get(&tensor.name).copied();
        for (adapter, change) in changes {
            self.adapters[*adapter].apply(change, &mut values, (rows, cols), heads)?;
        }
        let mut to = Self::format(tensor.format);
        if !cols.is_multiple_of(to.block_len()) {
            to = Format::F16;
        }
        let row_bytes = to.row_bytes(cols).unwrap_or(0);
        let mut bytes = vec![0; rows * row_bytes];
        let share = rows.div_ceil(std::thread::available_parallelism().map_or(1, Into::into)).max(1);
        std::thread::scope(|scope| {
            let parts = bytes.chunks_mut(share * row_bytes).zip(values.chunks(share * cols));
            let each = |(out, values): (&mut [u8], &[f32])| {
                let mut rows = out.chunks_exact_mut(row_bytes).zip(values.chunks_exact(cols));
                rows.try_for_each(|(out, values)| quantize_row(to, values, out))
            };
            let threads: Vec<_> = parts.map(|part| scope.spawn(move || each(part))).collect();
            threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
        })?;
        Ok(HostTensor::new(&tensor.name, to, rows, cols, Cow::Owned(bytes))?)
    }
}

impl Checkpoint for Merged {
    fn path(&self) -> &Path {
        self.base.path()
    }

    fn container(&self) -> Container {
        self.base.container()
    }

    fn config(&self) -> &Config {
        self.base.config()
    }

    fn names(&self) -> Vec<&str> {
        self.base.names()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        let info = self.base.info(name)?;
        let format = if self.changes.contains_key(name) { Self::format(info.format) } else { info.format };
        Some(TensorInfo { format, ..info })
    }

    fn tensor(&self, name: &str) -> Result<Option<HostTensor<'_>>> {
        let Some(tensor) = self.base.tensor(name)? else { return Ok(None) };
        match self.changes.get(name) {
            Some(changes) => self.change(&tensor, changes).map(Some),
            None => Ok(Some(tensor)),
        }
    }

    fn quantized(&self) -> Option<&str> {
        self.base.quantized()
    }

    fn release(&self, name: &str) {
        self.base.release(name);
    }

    fn evict(&self, name: &str) {
        self.base.evict(name);
    }

    fn notices(&self) -> Vec<String> {
        let mut notices = self.base.notices();
        for (at, adapter) in self.adapters.iter().enumerate() {
            let n = self.changes.values().flatten().filter(|(adapter, _)| *adapter == at).count();
            notices.push(format!("{} is merged into {n} tensors", adapter.describe()));
        }
        let mut again: Vec<&str> = Vec::new();
        for name in self.changes.keys() {
            let from = self.base.info(name).map_or(Format::F32, |info| info.format);
            if from.block_len() > 1 && !again.contains(&from.name()) {
                again.push(from.name());
            }
        }
        if !again.is_empty() {
            notices.push(format!(
                "what is merged is quantized anew from {}: merging into the model's own floats loses less",
                again.join(", ")
            ));
        }
        notices
    }

    fn under(&self) -> Option<(&dyn Checkpoint, &str)> {
        Some((&*self.base, &self.mark))
    }

    fn tokenizer(&self) -> Result<Tokenizer> {
        self.base.tokenizer()
    }

    fn gguf_vocab(&self, rows: usize) -> Result<GgufVocab> {
        self.base.gguf_vocab(rows)
    }

    fn chat_template(&self) -> Result<Option<String>> {
        self.base.chat_template()
    }
}
