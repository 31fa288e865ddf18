//! Tensor roles and what Hugging Face and GGUF call them.

use crate::Container;

/// What a tensor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Role {
    Embed,
    Norm,
    Head,
    /// Divisors of the rope frequencies (a GGUF file's way to say llama3 scaling).
    RopeFactors,
    AttendNorm,
    /// q, k and v as one matrix.
    Qkv,
    Q,
    K,
    V,
    QNorm,
    KNorm,
    Out,
    /// Of what attention adds to the residual stream.
    AttendPost,
    MlpNorm,
    /// Gate and up as one matrix.
    GateUp,
    Gate,
    Up,
    Down,
    /// Of what the MLP adds to the residual stream.
    MlpPost,
}

/// A role with its names, `{}` standing for the layer. `""`: this container has none.
pub type Name = (Role, &'static str, &'static str);

/// What nearly all families name alike.
pub const COMMON: &[Name] = &[
    (Role::Embed, "model.embed_tokens", "token_embd"),
    (Role::Norm, "model.norm", "output_norm"),
    (Role::Head, "lm_head", "output"),
    (Role::RopeFactors, "", "rope_freqs"),
    (Role::Q, "model.layers.{}.self_attn.q_proj", "blk.{}.attn_q"),
    (Role::K, "model.layers.{}.self_attn.k_proj", "blk.{}.attn_k"),
    (Role::V, "model.layers.{}.self_attn.v_proj", "blk.{}.attn_v"),
    (Role::Out, "model.layers.{}.self_attn.o_proj", "blk.{}.attn_output"),
    (Role::Gate, "model.layers.{}.mlp.gate_proj", "blk.{}.ffn_gate"),
    (Role::Up, "model.layers.{}.mlp.up_proj", "blk.{}.ffn_up"),
    (Role::Down, "model.layers.{}.mlp.down_proj", "blk.{}.ffn_down"),
];

/// Norms of what attention and MLP read.
pub const PRE_NORMS: &[Name] = &[
    (Role::AttendNorm, "model.layers.{}.input_layernorm", "blk.{}.attn_norm"),
    (Role::MlpNorm, "model.layers.{}.post_attention_layernorm", "blk.{}.ffn_norm"),
];

/// Norms of what attention and MLP read and of what they add.
pub const SANDWICH_NORMS: &[Name] = &[
    (Role::AttendNorm, "model.layers.{}.input_layernorm", "blk.{}.attn_norm"),
    (Role::AttendPost, "model.layers.{}.post_attention_layernorm", "blk.{}.post_attention_norm"),
    (Role::MlpNorm, "model.layers.{}.pre_feedforward_layernorm", "blk.{}.ffn_norm"),
    (Role::MlpPost, "model.layers.{}.post_feedforward_layernorm", "blk.{}.post_ffw_norm"),
];

/// Norms of the heads of q and k.
pub const HEAD_NORMS: &[Name] = &[
    (Role::QNorm, "model.layers.{}.self_attn.q_norm", "blk.{}.attn_q_norm"),
    (Role::KNorm, "model.layers.{}.self_attn.k_norm", "blk.{}.attn_k_norm"),
];

/// Norms of the heads of q and k that are each head's own: StableLM's. `{head}` stands for the head.
pub const OWN_NORMS: &[Name] = &[
    (Role::QNorm, "model.layers.{}.self_attn.q_layernorm.norms.{head}", "blk.{}.attn_q_norm"),
    (Role::KNorm, "model.layers.{}.self_attn.k_layernorm.norms.{head}", "blk.{}.attn_k_norm"),
];

/// Norms of what attention and MLP add.
pub const POST_NORMS: &[Name] = &[
    (Role::AttendPost, "model.layers.{}.post_attention_layernorm", "blk.{}.post_attention_norm"),
    (Role::MlpPost, "model.layers.{}.post_feedforward_layernorm", "blk.{}.post_ffw_norm"),
];

/// Projections that are one matrix.
pub const FUSED: &[Name] = &[
    (Role::Qkv, "model.layers.{}.self_attn.qkv_proj", "blk.{}.attn_qkv"),
    (Role::GateUp, "model.layers.{}.mlp.gate_up_proj", "blk.{}.ffn_up"),
];

/// Phi-2's own. Some GGUF files fuse q, k and v.
pub const PHI2: &[Name] = &[
    (Role::Embed, "model.embed_tokens", "token_embd"),
    (Role::Norm, "model.final_layernorm", "output_norm"),
    (Role::Head, "lm_head", "output"),
    (Role::AttendNorm, "model.layers.{}.input_layernorm", "blk.{}.attn_norm"),
    (Role::Qkv, "", "blk.{}.attn_qkv"),
    (Role::Q, "model.layers.{}.self_attn.q_proj", "blk.{}.attn_q"),
    (Role::K, "model.layers.{}.self_attn.k_proj", "blk.{}.attn_k"),
    (Role::V, "model.layers.{}.self_attn.v_proj", "blk.{}.attn_v"),
    (Role::Out, "model.layers.{}.self_attn.dense", "blk.{}.attn_output"),
    (Role::Up, "model.layers.{}.mlp.fc1", "blk.{}.ffn_up"),
    (Role::Down, "model.layers.{}.mlp.fc2", "blk.{}.ffn_down"),
];

/// Whether a table names a role at all.
pub fn has(names: &[&[Name]], role: Role) -> bool {
    names.iter().copied().flatten().any(|(r, ..)| *r == role)
}

/// The name of a role's `weight` or `bias`; `None` if this container has no such thing.
pub fn name(names: &[&[Name]], container: Container, role: Role, layer: usize, part: &str) -> Option<String> {
    let (_, hf, gguf) = names.iter().copied().flatten().find(|(r, ..)| *r == role)?;
    let stem = match container {
        Container::HuggingFace => hf,
        Container::Gguf => gguf,
    };
    (!stem.is_empty()).then(|| format!("{}.{part}", stem.replace("{}", &layer.to_string())))
}
