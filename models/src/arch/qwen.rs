//! Qwen 2 and 2.5, whose q, k and v have biases; Qwen 3, whose heads of q and k are normalised; both with
//! experts.

use super::{Arch, base, experts, slide};
use crate::names;
use crate::spec::Spec;
use crate::{Checkpoint, Result};
use nano_kernels::Pairing;

pub static QWEN2: Arch = Arch {
    name: "qwen2",
    models: "Qwen 2, Qwen 2.5, QwQ",
    hf: &["qwen2"],
    gguf: &["qwen2"],
    spec,
    names: &[names::COMMON, names::PRE_NORMS],
    ignored: &["rotary_emb.inv_freq"],
    pairing: (Pairing::Halves, Pairing::Halves),
};

pub static QWEN3: Arch = Arch {
    name: "qwen3",
    models: "Qwen 3",
    hf: &["qwen3"],
    gguf: &["qwen3"],
    names: &[names::COMMON, names::PRE_NORMS, names::HEAD_NORMS],
    ..QWEN2
};

pub static QWEN2_MOE: Arch = Arch {
    name: "qwen2-moe",
    models: "Qwen 1.5 MoE, Qwen 2 MoE",
    hf: &["qwen2_moe"],
    gguf: &["qwen2moe"],
    spec: |arch, checkpoint, vocab| sparse(arch, checkpoint, vocab, (false, false)),
    names: &[names::COMMON, names::PRE_NORMS, names::EXPERTS, names::SHARED_EXPERT],
    ..QWEN2
};

pub static QWEN3_MOE: Arch = Arch {
    name: "qwen3-moe",
    models: "Qwen 3 MoE",
    hf: &["qwen3_moe"],
    gguf: &["qwen3moe"],
    // GGUF files are all of models whose factors sum to 1.
    spec: |arch, checkpoint, vocab| sparse(arch, checkpoint, vocab, (false, true)),
    names: &[names::COMMON, names::PRE_NORMS, names::HEAD_NORMS, names::EXPERTS],
    ..QWEN2
};

fn sparse(arch: &'static Arch, checkpoint: &dyn Checkpoint, vocab: usize, normalize: (bool, bool)) -> Result<Spec> {
    let mut spec = spec(arch, checkpoint, vocab)?;
    experts(&mut spec, checkpoint, normalize)?;
    Ok(spec)
}

fn spec(arch: &'static Arch, checkpoint: &dyn Checkpoint, vocab: usize) -> Result<Spec> {
    let mut spec = base(arch, checkpoint, vocab)?;
    let c = checkpoint.config();
    // Most files carry a window that is switched off.
    let on = c.opt_bool("use_sliding_window", "")?.unwrap_or(false);
    let window = c.opt_usize("sliding_window", "attention.sliding_window")?.filter(|_| on);
    let whole = c.opt_usize("max_window_layers", "")?.unwrap_or(28);
    slide(&mut spec, c, window, |layer| layer >= whole)?;
    Ok(spec)
}
