//! Gemma 1; Gemma 2, with norms on both sides of each branch, softcaps and a window in every other layer; Gemma 3 (text),
//! with norms of q and k, a window in five layers of six, and a rope of their own for those.

use super::{Arch, act, base, rope, slide};
use crate::checkpoint::mlc::NORMS_ARE_FACTORS;
use crate::names;
use crate::spec::Spec;
use crate::{Checkpoint, Container, Result};
use nano_kernels::{Act, Pairing};

pub static GEMMA: Arch = Arch {
    name: "gemma",
    models: "Gemma 1",
    hf: &["gemma"],
    gguf: &["gemma"],
    spec: gemma,
    names: &[names::COMMON, names::PRE_NORMS],
    ignored: &["rotary_emb.inv_freq"],
    pairing: (Pairing::Halves, Pairing::Halves),
};

pub static GEMMA2: Arch = Arch {
    name: "gemma2",
    models: "Gemma 2",
    hf: &["gemma2"],
    gguf: &["gemma2"],
    spec: gemma2,
    names: &[names::COMMON, names::SANDWICH_NORMS],
    ..GEMMA
};

pub static GEMMA3: Arch = Arch {
    name: "gemma3",
    models: "Gemma 3, text",
    hf: &["gemma3_text"],
    gguf: &["gemma3"],
    spec: gemma3,
    names: &[names::COMMON, names::SANDWICH_NORMS, names::HEAD_NORMS],
    ..GEMMA
};

fn gemma(arch: &'static Arch, checkpoint: &dyn Checkpoint, vocab: usize) -> Result<Spec> {
    let spec = base(arch, checkpoint, vocab)?;
    let hf = checkpoint.container() == Container::HuggingFace;
    let usual = act(checkpoint.config(), Act::GeluTanh)?;
    let tied = checkpoint.config().opt_bool("tie_word_embeddings", "")?.unwrap_or(hf || spec.tied);
    let factors = checkpoint.config().opt_bool(NORMS_ARE_FACTORS, "")?.unwrap_or(false);
    Ok(Spec {
        // The first files say "gelu" and mean this.
        act: if usual == Act::Gelu { Act::GeluTanh } else { usual },
        // Hugging Face stores w of a factor 1 + w, others the factor.
        norm_plus: if hf && !factors { 1.0 } else { 0.0 },
        embed_scale: (spec.dim as f32).sqrt(),
        tied,
        ..spec
    })
}

/// What Gemma 2 and 3 share. `large` is the number of layers of the one size whose heads are scaled by the model's
/// width, which GGUF files do not say.
fn capped(arch: &'static Arch, checkpoint: &dyn Checkpoint, vocab: usize, large: usize) -> Result<Spec> {
    let spec = gemma(arch, checkpoint, vocab)?;
    let c = checkpoint.config();
    let by_width = checkpoint.container() == Container::Gguf && spec.layers == large;
    let usual = if by_width { spec.dim / spec.heads.max(1) } else { spec.head_dim };
    let scalar = c.opt_f32("query_pre_attn_scalar", "")?.unwrap_or(usual as f32);
    Ok(Spec {
        attend_scale: 1.0 / scalar.sqrt(),
        attend_cap: c.opt_f32("attn_logit_softcapping", "attn_logit_softcapping")?.filter(|cap| *cap > 0.0),
        logit_cap: c.opt_f32("final_logit_softcapping", "final_logit_softcapping")?.filter(|cap| *cap > 0.0),
        ..spec
    })
}

fn gemma2(arch: &'static Arch, checkpoint: &dyn Checkpoint, vocab: usize) -> Result<Spec> {
    let mut spec = capped(arch, checkpoint, vocab, 46)?;
    let c = checkpoint.config();
    let window = c.opt_usize("sliding_window", "attention.sliding_window")?.unwrap_or(4096);
    slide(&mut spec, c, Some(window), |layer| layer % 2 == 0)?;
    Ok(spec)
}

fn gemma3(arch: &'static Arch, checkpoint: &dyn Checkpoint, vocab: usize) -> Result<Spec> {
    let mut spec = capped(arch, checkpoint, vocab, 62)?;
    let c = checkpoint.config();
    spec.local_rope = Some(rope::local(&spec.rope, checkpoint, 10000.0)?);
    let window = c.opt_usize("sliding_window", "attention.sliding_window")?;
    let step = c.opt_usize("sliding_window_pattern|_sliding_window_pattern", "")?.unwrap_or(6).max(1);
    slide(&mut spec, c, window, |layer| window.is_some() && (layer + 1) % step != 0)?;
    Ok(spec)
}
