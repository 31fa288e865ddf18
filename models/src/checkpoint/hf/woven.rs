//! Folders of gpt-oss: `experts.gate_up_proj` and `experts.down_proj` of a layer, in MXFP4 (`_blocks` and `_scales`) or in
//! floats, each with a `_bias`. They are listed as an expert's own tensors, under the names that other families have for
//! these. How they are read is in `checkpoint/woven`.

use super::{Found, Stored};
use crate::checkpoint::tensors::Tensors;
use crate::checkpoint::woven::{Data, Place, Woven};
use crate::{Error, Result};
use nano_kernels::Format;
use serde_json::Value;
use std::collections::BTreeSet;

/// What a tensor of all experts is called, and the matrices whose outputs lie in it in turns.
const STACKS: [(&str, &[&str]); 2] = [("gate_up_proj", &["gate_proj", "up_proj"]), ("down_proj", &["down_proj"])];
/// The pieces that one may have.
const PIECES: [&str; 4] = ["_blocks", "_scales", "_bias", ""];
/// More experts than any model has: each gets a name.
const MOST: usize = 1 << 12;

/// Whether a config.json speaks of a model with such tensors.
pub fn is_woven(config: &Value) -> bool {
    config.get("model_type").and_then(Value::as_str) == Some("gpt_oss")
}

/// Takes them from what was found, and adds those that they make.
pub fn gather(tensors: &mut Tensors, found: &mut Found) -> Result<()> {
    let stem = |name: &String| {
        let (stem, last) = name.rsplit_once('.').filter(|(stem, _)| stem.ends_with(".experts"))?;
        let piece = STACKS.iter().find_map(|(stack, _)| last.strip_prefix(stack))?;
        PIECES.contains(&piece).then(|| stem.to_owned())
    };
    let stems: BTreeSet<String> = found.keys().filter_map(stem).collect();
    for stem in stems {
        for (stack, matrices) in STACKS {
            let name = format!("{stem}.{stack}");
            Stack::take(&name, matrices.len(), tensors, found)?.add(&stem, matrices, tensors)?;
        }
    }
    Ok(())
}

/// A tensor of all experts.
struct Stack {
    experts: usize,
    inputs: usize,
    /// Of each expert, those of all its matrices.
    outputs: usize,
    data: Data,
    bias: (Format, Place),
}

impl Stack {
    /// Takes the pieces of a stack in which `matrices` lie in turns.
    fn take(name: &str, matrices: usize, tensors: &Tensors, found: &mut Found) -> Result<Stack> {
        let [blocks, scales, bias, floats] = PIECES.map(|piece| found.remove(&format!("{name}{piece}")));
        let all = [&blocks, &scales, &bias, &floats];
        let file = all.into_iter().flatten().next().map_or(0, |(file, ..)| *file);
        let wrong =
            |file: usize, piece: &str, why: String| Error::tensor(tensors.path(file), &format!("{name}{piece}"), why);
        let missing = |piece: &str| wrong(file, piece, "is missing".into());
        let (at, stored, range) = bias.ok_or_else(|| missing("_bias"))?;
        let Stored::Values(info) = stored else { return Err(wrong(at, "_bias", needed(stored, "F32, F16 or BF16"))) };
        let (experts, outputs, bias) = (info.rows, info.cols, (info.format, (at, range)));
        if experts > MOST {
            return Err(wrong(
                at,
                "_bias",
                format!("has {experts} rows, one for each expert; at most {MOST} are read"),
            ));
        }
        if !outputs.is_multiple_of(matrices) {
            return Err(wrong(at, "_bias", format!("has {outputs} values for an expert, of {matrices} matrices")));
        }
        let beside = format!("beside biases of {experts} experts and {outputs} outputs");
        let (inputs, data) = match (blocks, scales, floats) {
            (None, None, None) => return Err(missing("")),
            (None, None, Some((at, Stored::Values(info), range))) => {
                if info.cols != outputs || !info.rows.is_multiple_of(experts) {
                    let why = format!("is {} x {}, {beside}: a row is needed for each input", info.rows, info.cols);
                    return Err(wrong(at, "", why));
                }
                (info.rows / experts, Data::Values(info.format, (at, range)))
            }
            (None, None, Some((at, stored, _))) => return Err(wrong(at, "", needed(stored, "F32, F16 or BF16"))),
            (.., Some((at, ..))) => return Err(wrong(at, "", "is there twice: in floats, and in MXFP4".into())),
            (None, ..) => return Err(missing("_blocks")),
            (_, None, _) => return Err(missing("_scales")),
            (Some((at, blocks, range)), Some((scales_at, scales, scales_range)), None) => {
                let of = |at: usize, piece: &str, stored: Stored| match stored {
                    Stored::Integers { dtype: "U8", rows, cols, .. } => Ok((rows, cols)),
                    other => Err(wrong(at, piece, needed(other, "U8"))),
                };
                let (blocks, scales) = (of(at, "_blocks", blocks)?, of(scales_at, "_scales", scales)?);
                if Some(scales.0) != experts.checked_mul(outputs) {
                    let why = format!("is {} x {}, {beside}: a row is needed for each output", scales.0, scales.1);
                    return Err(wrong(scales_at, "_scales", why));
                }
                if blocks != (scales.0 * scales.1, 16) {
                    let (rows, cols) = blocks;
                    let why = format!(
                        "has {rows} blocks of {cols} bytes; {} of 16 bytes are needed, one for each scale",
                        scales.0 * scales.1
                    );
                    return Err(wrong(at, "_blocks", why));
                }
                let data = Data::Blocks { blocks: (at, range), scales: (scales_at, scales_range) };
                (32 * scales.1, data)
            }
        };
        Ok(Stack { experts, inputs, outputs, data, bias })
    }

    /// Adds the matrices and biases of each expert.
    fn add(&self, stem: &str, matrices: &[&str], tensors: &mut Tensors) -> Result<()> {
        let part = |(file, range): &Place, expert: usize| {
            let size = range.len() / self.experts;
            (*file, range.start + expert * size..range.start + (expert + 1) * size)
        };
        let (rows, step) = (self.outputs / matrices.len(), matrices.len());
        for expert in 0..self.experts {
            let data = match &self.data {
                Data::Blocks { blocks, scales } => {
                    Data::Blocks { blocks: part(blocks, expert), scales: part(scales, expert) }
                }
                Data::Values(format, values) => Data::Values(*format, part(values, expert)),
            };
            for (first, matrix) in matrices.iter().enumerate() {
                let weight = Woven { rows, cols: self.inputs, step, first, data: data.clone() };
                let bias = Data::Values(self.bias.0, part(&self.bias.1, expert));
                let bias = Woven { rows, cols: 1, step, first, data: bias };
                for (kind, woven) in [("weight", weight), ("bias", bias)] {
                    tensors.add_woven(format!("{stem}.{expert}.{matrix}.{kind}"), woven)?;
                }
            }
        }
        Ok(())
    }
}

fn needed(found: Stored, needed: &str) -> String {
    let found = match found {
        Stored::Values(info) => info.format.name(),
        Stored::Integers { dtype, .. } => dtype,
    };
    format!("is {found}; {needed} is needed")
}
