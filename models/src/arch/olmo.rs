//! OLMo 2: norms of what branches add instead of what they read, and of the whole of q and k; OLMoE: experts, with norms
//! of what branches read.

use super::{Arch, base, experts};
use crate::names;
use crate::spec::{HeadNorms, Spec};
use crate::{Checkpoint, Result};
use nano_kernels::Pairing;

pub static OLMO2: Arch = Arch {
    name: "olmo2",
    models: "OLMo 2",
    hf: &["olmo2"],
    gguf: &["olmo2"],
    spec,
    names: &[names::COMMON, names::POST_NORMS, names::HEAD_NORMS],
    ignored: &["rotary_emb.inv_freq"],
    pairing: (Pairing::Halves, Pairing::Halves),
};

pub static OLMOE: Arch = Arch {
    name: "olmoe",
    models: "OLMoE",
    hf: &["olmoe"],
    gguf: &["olmoe"],
    spec: sparse,
    names: &[names::COMMON, names::PRE_NORMS, names::HEAD_NORMS, names::EXPERTS],
    ..OLMO2
};

fn spec(arch: &'static Arch, checkpoint: &dyn Checkpoint, vocab: usize) -> Result<Spec> {
    Ok(Spec { head_norms: HeadNorms::Whole, ..base(arch, checkpoint, vocab)? })
}

fn sparse(arch: &'static Arch, checkpoint: &dyn Checkpoint, vocab: usize) -> Result<Spec> {
    let mut spec = spec(arch, checkpoint, vocab)?;
    let c = checkpoint.config();
    let (hf, gguf) = ("clip_qkv", "attention.clamp_kqv");
    if let Some(most) = c.opt_f32(hf, gguf)?.filter(|most| *most > 0.0) {
        // No published model clamps them.
        return Err(c.bad(hf, gguf, format!("is {most}; queries, keys and values are not clamped here")));
    }
    experts(&mut spec, checkpoint, (false, false))?;
    Ok(spec)
}
