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
    /// Scores that have no value, one for each head.
    Sinks,
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
    /// Logits of experts.
    Router,
    /// Matrices of one expert.
    ExpertGate,
    ExpertUp,
    ExpertDown,
    /// The same of all experts of a layer, one after the other.
    ExpertGates,
    ExpertUps,
    /// Of each expert the gate, then the up.
    ExpertGateUps,
    ExpertDowns,
    /// Logit of the expert that every row goes through.
    SharedRouter,
    SharedGate,
    SharedUp,
    SharedDown,
}

/// A role with its names, `{}` standing for the layer and `{e}` for the expert. `""`: this container has none.
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

/// Experts, one by one or all in one.
pub const EXPERTS: &[Name] = &[
    (Role::Router, "model.layers.{}.mlp.gate", "blk.{}.ffn_gate_inp"),
    (Role::ExpertGate, "model.layers.{}.mlp.experts.{e}.gate_proj", "blk.{}.ffn_gate.{e}"),
    (Role::ExpertUp, "model.layers.{}.mlp.experts.{e}.up_proj", "blk.{}.ffn_up.{e}"),
    (Role::ExpertDown, "model.layers.{}.mlp.experts.{e}.down_proj", "blk.{}.ffn_down.{e}"),
    (Role::ExpertGates, "", "blk.{}.ffn_gate_exps"),
    (Role::ExpertUps, "", "blk.{}.ffn_up_exps"),
    (Role::ExpertGateUps, "model.layers.{}.mlp.experts.gate_up_proj", "blk.{}.ffn_gate_up_exps"),
    (Role::ExpertDowns, "model.layers.{}.mlp.experts.down_proj", "blk.{}.ffn_down_exps"),
];

/// gpt-oss: what differs from [`COMMON`]. Its folders have all experts of a layer in one tensor, which is taken apart
/// before names are looked up.
pub const GPT_OSS: &[Name] = &[
    (Role::AttendNorm, "model.layers.{}.input_layernorm", "blk.{}.attn_norm"),
    (Role::MlpNorm, "model.layers.{}.post_attention_layernorm", "blk.{}.post_attention_norm"),
    (Role::Sinks, "model.layers.{}.self_attn.sinks", "blk.{}.attn_sinks"),
    (Role::Router, "model.layers.{}.mlp.router", "blk.{}.ffn_gate_inp"),
    (Role::ExpertGate, "model.layers.{}.mlp.experts.{e}.gate_proj", ""),
    (Role::ExpertUp, "model.layers.{}.mlp.experts.{e}.up_proj", ""),
    (Role::ExpertDown, "model.layers.{}.mlp.experts.{e}.down_proj", ""),
    (Role::ExpertGates, "", "blk.{}.ffn_gate_exps"),
    (Role::ExpertUps, "", "blk.{}.ffn_up_exps"),
    (Role::ExpertDowns, "", "blk.{}.ffn_down_exps"),
];

/// Mixtral's as its authors named them.
pub const MIXTRAL: &[Name] = &[
    (Role::Router, "model.layers.{}.block_sparse_moe.gate", ""),
    (Role::ExpertGate, "model.layers.{}.block_sparse_moe.experts.{e}.w1", ""),
    (Role::ExpertUp, "model.layers.{}.block_sparse_moe.experts.{e}.w3", ""),
    (Role::ExpertDown, "model.layers.{}.block_sparse_moe.experts.{e}.w2", ""),
];

/// An expert that every row goes through.
pub const SHARED_EXPERT: &[Name] = &[
    (Role::SharedRouter, "model.layers.{}.mlp.shared_expert_gate", "blk.{}.ffn_gate_inp_shexp"),
    (Role::SharedGate, "model.layers.{}.mlp.shared_expert.gate_proj", "blk.{}.ffn_gate_shexp"),
    (Role::SharedUp, "model.layers.{}.mlp.shared_expert.up_proj", "blk.{}.ffn_up_shexp"),
    (Role::SharedDown, "model.layers.{}.mlp.shared_expert.down_proj", "blk.{}.ffn_down_shexp"),
];

/// Whether a table names a role at all.
pub fn has(names: &[&[Name]], role: Role) -> bool {
    names.iter().copied().flatten().any(|(r, ..)| *r == role)
}

/// The name of a role's `weight` or `bias`; `None` if this container has no such thing.
pub fn name(names: &[&[Name]], container: Container, role: Role, layer: usize, part: &str) -> Option<String> {
    all(names, container, role, layer, part).next()
}

/// All names that a role's `weight` or `bias` may have, the usual one first.
pub fn all(
    names: &[&[Name]],
    container: Container,
    role: Role,
    layer: usize,
    part: &str,
) -> impl Iterator<Item = String> {
    let stem = move |(_, hf, gguf): &Name| match container {
        Container::HuggingFace => *hf,
        Container::Gguf => *gguf,
    };
    let stems = names.iter().copied().flatten().filter(move |(r, ..)| *r == role).map(stem);
    stems.filter(|stem| !stem.is_empty()).flat_map(move |stem| {
        let stem = stem.replace("{}", &layer.to_string());
        // Folders hold some as bare parameters, which have no `weight`.
        let bare = (part == "weight" && container == Container::HuggingFace).then(|| stem.clone());
        [format!("{stem}.{part}")].into_iter().chain(bare)
    })
}
