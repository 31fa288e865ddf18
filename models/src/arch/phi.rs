//! Phi-2, whose blocks add attention and MLP of the same rows; Phi-3, 3.5 and 4, which fuse their projections.

use super::{Arch, act, base, rope, slide};
use crate::names;
use crate::spec::Spec;
use crate::{Checkpoint, Result};
use nano_kernels::{Act, NormKind, Pairing};

pub static PHI2: Arch = Arch {
    name: "phi2",
    models: "Phi-2",
    hf: &["phi"],
    gguf: &["phi2"],
    spec: phi2,
    names: &[names::PHI2],
    ignored: &["rotary_emb.inv_freq"],
    pairing: (Pairing::Halves, Pairing::Halves),
};

pub static PHI3: Arch = Arch {
    name: "phi3",
    models: "Phi-3, Phi-3.5, Phi-4",
    hf: &["phi3"],
    gguf: &["phi3"],
    spec: phi3,
    names: &[names::COMMON, names::PRE_NORMS, names::FUSED],
    // The factors of rope are read with the numbers.
    ignored: &["rotary_emb.inv_freq", "rope_factors_long.weight", "rope_factors_short.weight"],
    ..PHI2
};

fn phi2(arch: &'static Arch, checkpoint: &dyn Checkpoint, vocab: usize) -> Result<Spec> {
    let spec = base(arch, checkpoint, vocab)?;
    let c = checkpoint.config();
    Ok(Spec {
        norm: NormKind::Layer,
        norm_eps: c.opt_f32("layer_norm_eps", "attention.layer_norm_epsilon")?.unwrap_or(1e-5),
        act: act(c, Act::GeluTanh)?,
        gated: false,
        parallel: true,
        rope: rope::rope(arch, checkpoint, spec.head_dim, 0.5, spec.context)?,
        ..spec
    })
}

fn phi3(arch: &'static Arch, checkpoint: &dyn Checkpoint, vocab: usize) -> Result<Spec> {
    let mut spec = base(arch, checkpoint, vocab)?;
    let c = checkpoint.config();
    let window = c.opt_usize("sliding_window", "attention.sliding_window")?;
    slide(&mut spec, c, window, |_| true)?;
    Ok(spec)
}
