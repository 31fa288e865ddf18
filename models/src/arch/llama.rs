//! Llama 1, 2, 3, TinyLlama, SmolLM, SmolLM2 and other models of the same make; Mistral, which adds a sliding window;
//! Mixtral, which has experts; SmolLM3, some of whose layers have no rope.

use super::{Arch, base, experts, slide};
use crate::names;
use crate::spec::{LayerRope, Spec};
use crate::{Checkpoint, Container, Result};
use nano_kernels::Pairing;

pub static LLAMA: Arch = Arch {
    name: "llama",
    models: "Llama 1, 2, 3, 3.1, 3.2, 3.3; TinyLlama, SmolLM, SmolLM2, OpenLLaMA, Sheared-LLaMA, Vicuna, Yi, CodeLlama and others of the same make",
    hf: &["llama"],
    gguf: &["llama"],
    spec: llama,
    names: &[names::COMMON, names::PRE_NORMS, names::EXPERTS],
    ignored: &["rotary_emb.inv_freq"],
    pairing: (Pairing::Halves, Pairing::Adjacent),
};

/// GGUF files of Mistral models call themselves llama, and most leave the window out.
pub static MISTRAL: Arch = Arch {
    name: "mistral",
    models: "Mistral 7B, Nemo, Small; Ministral",
    hf: &["mistral", "ministral"],
    gguf: &["mistral"],
    spec: mistral,
    ..LLAMA
};

/// GGUF files of Mixtral call themselves llama, too.
pub static MIXTRAL: Arch = Arch {
    name: "mixtral",
    models: "Mixtral",
    hf: &["mixtral"],
    gguf: &[],
    spec: mixtral,
    names: &[names::COMMON, names::PRE_NORMS, names::MIXTRAL, names::EXPERTS],
    ..LLAMA
};

pub static SMOLLM3: Arch =
    Arch { name: "smollm3", models: "SmolLM3", hf: &["smollm3"], gguf: &["smollm3"], spec: smollm3, ..LLAMA };

fn llama(arch: &'static Arch, checkpoint: &dyn Checkpoint, vocab: usize) -> Result<Spec> {
    let mut spec = base(arch, checkpoint, vocab)?;
    let c = checkpoint.config();
    // config.json of a Llama may carry a window that its authors' code does not use.
    let window = c.opt_usize("", "attention.sliding_window")?;
    slide(&mut spec, c, window, |_| true)?;
    if checkpoint.container() == Container::Gguf {
        experts(&mut spec, checkpoint, (true, true))?;
    }
    Ok(spec)
}

fn mistral(arch: &'static Arch, checkpoint: &dyn Checkpoint, vocab: usize) -> Result<Spec> {
    let mut spec = base(arch, checkpoint, vocab)?;
    let c = checkpoint.config();
    let window = c.opt_usize("sliding_window", "attention.sliding_window")?;
    slide(&mut spec, c, window, |_| true)?;
    Ok(spec)
}

fn mixtral(arch: &'static Arch, checkpoint: &dyn Checkpoint, vocab: usize) -> Result<Spec> {
    let mut spec = mistral(arch, checkpoint, vocab)?;
    experts(&mut spec, checkpoint, (true, true))?;
    Ok(spec)
}

fn smollm3(arch: &'static Arch, checkpoint: &dyn Checkpoint, vocab: usize) -> Result<Spec> {
    let mut spec = base(arch, checkpoint, vocab)?;
    let c = checkpoint.config();
    spec.tied = c.opt_bool("tie_word_embeddings", "")?.unwrap_or(!super::has(checkpoint, arch, names::Role::Head));
    let slides = c.opt_bool("use_sliding_window", "")?.unwrap_or(false);
    let window = c.opt_usize("sliding_window", "")?.filter(|_| slides);
    slide(&mut spec, c, window, |_| true)?;
    // 1 says that a layer has rope. GGUF files do not say.
    let stated = c.opt_usizes("no_rope_layers", "")?.filter(|layers| !layers.is_empty());
    let step = c.opt_usize("no_rope_layer_interval", "")?.unwrap_or(4).max(1);
    let stated = stated.unwrap_or_else(|| (1..=spec.layers).map(|i| usize::from(i % step != 0)).collect());
    if stated.len() != spec.layers {
        let why = format!("names {} layers; the model has {}", stated.len(), spec.layers);
        return Err(c.bad("no_rope_layers", "", why));
    }
    let without = spec.each.iter_mut().zip(stated).filter(|(_, rope)| *rope == 0);
    without.for_each(|(layer, _)| layer.rope = LayerRope::None);
    Ok(spec)
}
