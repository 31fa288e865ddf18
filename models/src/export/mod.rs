//! A checkpoint as one GGUF file, in formats that were asked for: what `quantize` does. Any program that reads GGUF can
//! load it. Which keys, which tensors: `numbers`, `vocabulary`, `tensors`; bytes to the disk: `file`.
//!
//! The file is written beside its place under another name and takes its own when it is whole. What a killed run leaves is
//! written over by the next. At most one tensor of the checkpoint is in memory, and a few rows of what becomes of it.

mod calibration;
mod file;
mod numbers;
mod tensors;
mod vocabulary;
mod walk;

use crate::checkpoint::Container;
use crate::checkpoint::gguf::{Gguf, GgufValue};
use crate::names::Role;
use crate::quantization::{Head, Quantization};
use crate::spec::Spec;
use crate::{Checkpoint, Error, Progress, Result};
pub use calibration::Calibration;
use file::{Conversion, Output};
use nano_kernels::Format;
use std::path::Path;
use tensors::{Data, Item};

/// A metadata entry.
type Named = (String, GgufValue);

/// Keys of a GGUF file that are not those of a file made from it.
const OWN_KEYS: [&str; 6] = [
    "general.file_type",
    "general.quantization_version",
    "general.alignment",
    "split.no",
    "split.count",
    "split.tensors.count",
];

/// What to make.
#[derive(Clone, Copy, Debug)]
pub struct ExportOptions<'a> {
    /// The format of matrices.
    pub quantization: Quantization,
    /// That of embedding and head, if not the usual one.
    pub head: Option<Head>,
    /// What is known of the inputs of its matrices, to quantize those better that matter.
    pub calibration: Option<&'a Calibration>,
    /// Threads for conversions.
    pub threads: usize,
    /// Whether a file that is there already may be replaced.
    pub replace: bool,
}

/// What was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Exported {
    /// Bytes of the file.
    pub bytes: u64,
    /// Bits that a value takes in the mean, over all tensors.
    pub bits_per_weight: f64,
    /// What the user should know.
    pub notices: Vec<String>,
}

/// Writes `checkpoint` to the file `to`. `report` is called as it goes on.
pub fn export(
    checkpoint: &dyn Checkpoint,
    to: &Path,
    options: &ExportOptions<'_>,
    report: &mut dyn FnMut(Progress),
) -> Result<Exported> {
    if !options.replace && to.symlink_metadata().is_ok() {
        return Err(Error::file(to, "exists already; remove it, or say that it may be replaced (--force)"));
    }
    let spec = Spec::read(checkpoint)?;
    let mut items = tensors::list(checkpoint, &spec)?;
    // Readers of some scalings want these before anything else.
    items.sort_by_key(|item| item.role != Role::RopeFactors);
    let formats: Vec<Format> = items.iter().map(|item| format(item, options)).collect();
    let mut notices: Vec<String> = numbers::notice(&spec).into_iter().collect();
    if let Some(calibration) = options.calibration {
        notices.extend(fits(calibration, checkpoint, &items)?);
    }
    let values = values(checkpoint, &spec, options)?;
    let mut output = Output::create(to, &values, &items, &formats)?;
    let done = fill(checkpoint, &spec, &mut output, &items, &formats, options, report);
    match done.and_then(|()| output.finish()) {
        Ok(()) => {}
        Err(error) => {
            output.discard();
            return Err(error);
        }
    }
    let count: u64 = items.iter().map(|item| item.dims.iter().map(|n| *n as u64).product::<u64>()).sum();
    Ok(Exported {
        bytes: output.bytes(),
        bits_per_weight: 8.0 * output.data_bytes() as f64 / count.max(1) as f64,
        notices,
    })
}

/// Refuses a calibration of another model, and tells what it does not know.
fn fits(calibration: &Calibration, checkpoint: &dyn Checkpoint, items: &[Item]) -> Result<Option<String>> {
    let matrices = || items.iter().filter(|item| item.matrix);
    for item in matrices() {
        let cols = item.dims.last().copied().unwrap_or(1);
        if let Some(found) = calibration.of(&item.name).map(<[f32]>::len).filter(|found| *found != cols) {
            let why = format!("has {cols} inputs, and the calibration is of {found}: it belongs to another model");
            return Err(Error::tensor(checkpoint.path(), &item.name, why));
        }
    }
    let known = matrices().filter(|item| calibration.of(&item.name).is_some()).count();
    match matrices().count() - known {
        _ if known == 0 => {
            Err(Error::file(checkpoint.path(), "has no matrix that the calibration knows: it belongs to another model"))
        }
        0 => Ok(None),
        // The embedding is looked up, not multiplied.
        1 => Ok(None),
        left => Ok(Some(format!("the calibration says nothing of {left} matrices, which are quantized as without it"))),
    }
}

/// The format of a tensor of the file. Vectors, and what chooses experts, stay as exact as they are.
fn format(item: &Item, options: &ExportOptions<'_>) -> Format {
    let cols = item.dims.last().copied().unwrap_or(1);
    match (item.matrix, item.role) {
        (false, _) => Format::F32,
        (true, Role::Embed | Role::Head) => options.quantization.vocabulary(options.head, cols),
        (true, _) => options.quantization.format(cols),
    }
}

fn values(checkpoint: &dyn Checkpoint, spec: &Spec, options: &ExportOptions<'_>) -> Result<Vec<Named>> {
    let mut values = match checkpoint.config().metadata() {
        Some(metadata) => {
            let raw = metadata.raw().map_err(|why| Error::file(checkpoint.path(), why))?;
            raw.into_iter().filter(|(key, _)| !OWN_KEYS.contains(&key.as_str())).collect()
        }
        None => {
            let mut values = numbers::values(checkpoint, spec)?;
            values.extend(vocabulary::values(checkpoint.gguf_vocab(spec.vocab)?, checkpoint.chat_template()?));
            values
        }
    };
    values.push(("general.quantization_version".into(), 2_u32.into()));
    values.push(("general.file_type".into(), file_type(options.quantization).into()));
    Ok(values)
}

/// llama.cpp's number for files whose matrices are mostly of a format.
fn file_type(quantization: Quantization) -> u32 {
    match quantization {
        Quantization::F32 => 0,
        Quantization::F16 => 1,
        Quantization::Q4F16 => 2,
        Quantization::Q4_1 => 3,
        Quantization::Q8F16 => 7,
        Quantization::Q4K => 14,
        Quantization::Q6K => 18,
        Quantization::Bf16 => 32,
    }
}

/// Writes the data, after a look at whether the file's numbers come back as they went in.
fn fill(
    checkpoint: &dyn Checkpoint,
    spec: &Spec,
    output: &mut Output,
    items: &[Item],
    formats: &[Format],
    options: &ExportOptions<'_>,
    report: &mut dyn FnMut(Progress),
) -> Result<()> {
    let total = items.iter().map(|item| item.bytes(checkpoint)).sum();
    let mut progress = Progress { done_bytes: 0, total_bytes: total };
    let first = items.iter().take_while(|item| item.role == Role::RopeFactors).count();
    for at in 0..items.len() {
        if at == first && checkpoint.container() != Container::Gguf {
            let written = Gguf::open(output.path())?;
            numbers::check(checkpoint.path(), spec, &Spec::read(&written)?)?;
        }
        let item = &items[at];
        let weights = options.calibration.filter(|_| item.matrix).and_then(|calibration| calibration.of(&item.name));
        let conversion = Conversion { format: formats[at], weights, threads: options.threads };
        output.write(checkpoint, item, at, &conversion)?;
        progress.done_bytes += items[at].bytes(checkpoint);
        report(progress);
    }
    Ok(())
}

impl Item {
    /// Bytes of the checkpoint that it is made of.
    fn bytes(&self, checkpoint: &dyn Checkpoint) -> u64 {
        let Data::Parts(parts) = &self.data else { return 0 };
        let of = |part: &tensors::Part| {
            let info = checkpoint.info(&part.name)?;
            Some(info.bytes as u64 * part.rows.len() as u64 / info.rows.max(1) as u64)
        };
        parts.iter().filter_map(of).sum()
    }
}
