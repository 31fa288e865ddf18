//! What a model will take, before anything of it is read.

use super::{LoadOptions, experts, target};
use crate::decoder::Room;
use crate::names::Role;
use crate::shapes::{name, pieces, roles, stacks};
use crate::spec::Spec;
use crate::{Checkpoint, Result};
use nano_kernels::{Backend, PAGE_ROWS};

/// The memory that a model will take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Bytes of packed weights.
    pub weights_bytes: u64,
    /// Bytes that one page of the cache takes.
    pub page_bytes: u64,
    /// Bytes of buffers.
    pub workspace_bytes: u64,
}

impl Plan {
    /// Bytes of cache for `rows` tokens.
    pub fn kv_bytes(&self, rows: usize) -> u64 {
        rows.div_ceil(PAGE_ROWS) as u64 * self.page_bytes
    }
}

/// The memory that `checkpoint` will take on backend `B`. Reads no tensor data.
pub fn plan<B: Backend>(
    checkpoint: &dyn Checkpoint,
    spec: &Spec,
    options: &LoadOptions,
    pages: nano_kernels::PageLayout,
) -> Result<Plan> {
    let mut weights = 0;
    let mut add = |role: Role, layer: usize| -> Result<()> {
        let name = name(checkpoint, spec, role, layer, "weight").unwrap_or_default();
        let info = checkpoint.info(&name).ok_or_else(|| crate::arch::missing(checkpoint, &name))?;
        let (format, pieces) = (target::<B>(info, options.quantization, role), pieces(role));
        weights += (pieces * B::weight_bytes(format, info.rows / pieces, info.cols)) as u64;
        Ok(())
    };
    add(Role::Embed, 0)?;
    if !spec.tied {
        add(Role::Head, 0)?;
    }
    for layer in 0..spec.layers {
        for stack in stacks(spec, layer) {
            roles(checkpoint, spec, stack, layer).into_iter().try_for_each(|role| add(role, layer))?;
        }
        if spec.each[layer].sparse {
            experts::beside(spec).into_iter().flatten().try_for_each(|role| add(*role, layer))?;
        }
    }
    for layer in (0..spec.layers).filter(|layer| spec.each[*layer].sparse) {
        weights += experts::bytes::<B>(checkpoint, spec, options.quantization, layer)?;
    }
    let buffers = options.rows * Room::<B>::width(spec) + options.logits_rows * spec.vocab;
    Ok(Plan { weights_bytes: weights, page_bytes: B::page_bytes(&pages) as u64, workspace_bytes: 4 * buffers as u64 })
}
