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
    Q,
    K,
    V,
    Out,
    MlpNorm,
    Gate,
    Up,
    Down,
}

/// A role with its names, `{}` standing for the layer. `""`: this container has none.
pub type Name = (Role, &'static str, &'static str);

/// The names that Llama and its many descendants share.
pub const LLAMA: &[Name] = &[
    (Role::Embed, "model.embed_tokens", "token_embd"),
    (Role::Norm, "model.norm", "output_norm"),
    (Role::Head, "lm_head", "output"),
    (Role::RopeFactors, "", "rope_freqs"),
    (Role::AttendNorm, "model.layers.{}.input_layernorm", "blk.{}.attn_norm"),
    (Role::Q, "model.layers.{}.self_attn.q_proj", "blk.{}.attn_q"),
    (Role::K, "model.layers.{}.self_attn.k_proj", "blk.{}.attn_k"),
    (Role::V, "model.layers.{}.self_attn.v_proj", "blk.{}.attn_v"),
    (Role::Out, "model.layers.{}.self_attn.o_proj", "blk.{}.attn_output"),
    (Role::MlpNorm, "model.layers.{}.post_attention_layernorm", "blk.{}.ffn_norm"),
    (Role::Gate, "model.layers.{}.mlp.gate_proj", "blk.{}.ffn_gate"),
    (Role::Up, "model.layers.{}.mlp.up_proj", "blk.{}.ffn_up"),
    (Role::Down, "model.layers.{}.mlp.down_proj", "blk.{}.ffn_down"),
];

/// The name of a role's `weight` or `bias`; `None` if this container has no such thing.
pub fn name(names: &[Name], container: Container, role: Role, layer: usize, part: &str) -> Option<String> {
    let (_, hf, gguf) = names.iter().find(|(r, ..)| *r == role)?;
    let stem = match container {
        Container::HuggingFace => hf,
        Container::Gguf => gguf,
    };
    (!stem.is_empty()).then(|| format!("{}.{part}", stem.replace("{}", &layer.to_string())))
}
