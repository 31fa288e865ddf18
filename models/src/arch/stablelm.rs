//! StableLM 2 and StableLM 3B: layer norms with biases, rope on a part of each head; in the 12B parallel
//! blocks and a norm for each head of q and k.

use super::{Arch, base, has, rope};
use crate::names::{self, Role};
use crate::spec::{HeadNorms, Spec};
use crate::{Checkpoint, Container, Result};
use nano_kernels::{NormKind, Pairing};

pub static STABLELM: Arch = Arch {
    name: "stablelm",
    models: "StableLM 2, StableLM Zephyr",
    hf: &["stablelm"],
    gguf: &["stablelm"],
    spec,
    names: &[names::COMMON, names::PRE_NORMS, names::OWN_NORMS],
    ignored: &["rotary_emb.inv_freq"],
    pairing: (Pairing::Halves, Pairing::Halves),
};

fn spec(arch: &'static Arch, checkpoint: &dyn Checkpoint, vocab: usize) -> Result<Spec> {
    let spec = base(arch, checkpoint, vocab)?;
    let c = checkpoint.config();
    Ok(Spec {
        norm: NormKind::Layer,
        norm_eps: c.opt_f32("layer_norm_eps|norm_eps", "attention.layer_norm_epsilon")?.unwrap_or(1e-5),
        head_norms: match checkpoint.container() {
            Container::HuggingFace if c.opt_bool("qk_layernorm", "")?.unwrap_or(false) => HeadNorms::Own,
            Container::Gguf if has(checkpoint, arch, Role::QNorm) => HeadNorms::Own,
            _ => HeadNorms::None,
        },
        parallel: match checkpoint.container() {
            Container::HuggingFace => c.opt_bool("use_parallel_residual", "")?.unwrap_or(false),
            // Some files say so of models that are not.
            Container::Gguf => !has(checkpoint, arch, Role::MlpNorm),
        },
        rope: rope::rope(arch, checkpoint, spec.head_dim, 0.25, spec.context)?,
        ..spec
    })
}
