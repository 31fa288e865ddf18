//! Granite 3: a Llama with factors on embeddings, scores, branches and logits.

use super::{Arch, base, llama::LLAMA};
use crate::spec::Spec;
use crate::{Checkpoint, Result};

pub static GRANITE: Arch =
    Arch { name: "granite", models: "Granite 3", hf: &["granite"], gguf: &["granite"], spec, ..LLAMA };

fn spec(arch: &'static Arch, checkpoint: &dyn Checkpoint, vocab: usize) -> Result<Spec> {
    let spec = base(arch, checkpoint, vocab)?;
    let c = checkpoint.config();
    let factor = |hf: &str, gguf: &str| -> Result<f32> {
        let value = c.opt_f32(hf, gguf)?.unwrap_or(1.0);
        let bad = || c.bad(hf, gguf, format!("is {value}; a positive number is needed"));
        if value > 0.0 { Ok(value) } else { Err(bad()) }
    };
    // Every branch is multiplied by this before it is added. Norms are all that reads the sums, and a norm does not see a
    // factor on its row but through eps: so the sums are held divided by it, and branches are added as they are.
    let branch = factor("residual_multiplier", "residual_scale")?;
    Ok(Spec {
        embed_scale: factor("embedding_multiplier", "embedding_scale")? / branch,
        norm_eps: spec.norm_eps / (branch * branch),
        attend_scale: c.opt_f32("attention_multiplier", "attention.scale")?.unwrap_or(spec.attend_scale),
        logit_scale: 1.0 / factor("logits_scaling", "logit_scale")?,
        ..spec
    })
}
