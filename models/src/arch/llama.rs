//! Llama 1, 2, 3, TinyLlama, SmolLM, SmolLM2 and other models of the same make; Mistral, which adds a sliding window.

use super::{Arch, act, rope_scaling};
use crate::names;
use crate::spec::{RopeSpec, Spec};
use crate::{Checkpoint, Container, Result};
use nano_kernels::{NormKind, Pairing};

pub static LLAMA: Arch = Arch {
    name: "llama",
    hf: &["llama"],
    gguf: &["llama"],
    spec,
    names: names::LLAMA,
    ignored: &["rotary_emb.inv_freq"],
    pairing: (Pairing::Halves, Pairing::Adjacent),
};

/// GGUF files of Mistral models call themselves llama, and most leave the window out.
pub static MISTRAL: Arch = Arch { name: "mistral", hf: &["mistral"], gguf: &["mistral"], ..LLAMA };

fn spec(arch: &'static Arch, checkpoint: &dyn Checkpoint, vocab: usize) -> Result<Spec> {
    let c = checkpoint.config();
    let dim = c.usize("hidden_size", "embedding_length")?;
    let heads = c.usize("num_attention_heads", "attention.head_count")?;
    let head_dim = c.opt_usize("head_dim", "attention.key_length")?.unwrap_or(dim / heads.max(1));
    // config.json of a Llama may carry a window that its authors' code does not use.
    let window_key = if arch.name == "mistral" { "sliding_window" } else { "" };
    let gguf = checkpoint.container() == Container::Gguf;
    Ok(Spec {
        arch,
        layers: c.usize("num_hidden_layers", "block_count")?,
        dim,
        hidden: c.usize("intermediate_size", "feed_forward_length")?,
        heads,
        kv_heads: c.opt_usize("num_key_value_heads", "attention.head_count_kv")?.unwrap_or(heads),
        head_dim,
        vocab,
        context: c.opt_usize("max_position_embeddings", "context_length")?.unwrap_or(2048),
        norm: NormKind::Rms,
        norm_eps: c.opt_f32("rms_norm_eps", "attention.layer_norm_rms_epsilon")?.unwrap_or(1e-6),
        act: act(c, "hidden_act")?,
        rope: RopeSpec {
            pairing: arch.pairing(checkpoint.container()),
            dims: c.opt_usize("", "rope.dimension_count")?.unwrap_or(head_dim),
            theta: c.opt_f32("rope_theta|rope_parameters.rope_theta", "rope.freq_base")?.unwrap_or(10000.0),
            scaling: rope_scaling(c)?,
        },
        attend_scale: 1.0 / (head_dim as f32).sqrt(),
        window: c.opt_usize(window_key, "attention.sliding_window")?.filter(|w| *w > 0),
        tied: c.opt_bool("tie_word_embeddings", "")?.unwrap_or(gguf && !has_head(arch, checkpoint)),
    })
}

fn has_head(arch: &Arch, checkpoint: &dyn Checkpoint) -> bool {
    let name = names::name(arch.names, checkpoint.container(), names::Role::Head, 0, "weight");
    name.is_some_and(|name| checkpoint.info(&name).is_some())
}
