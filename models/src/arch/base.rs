//! What the families of llama's descent have in common: sizes by their usual keys. A table changes what is its own.

use super::{Arch, rope};
use crate::names::{self, Role};
use crate::spec::{HeadNorms, LayerRope, LayerSpec, Spec};
use crate::{Checkpoint, Config, Container, Result};
use nano_kernels::{Act, NormKind};

/// Rows of root mean square norms, a gated MLP, one rope for all layers, no window, nothing scaled.
pub fn base(arch: &'static Arch, checkpoint: &dyn Checkpoint, vocab: usize) -> Result<Spec> {
    let c = checkpoint.config();
    let dim = c.usize("hidden_size", "embedding_length")?;
    let heads = c.usize("num_attention_heads", "attention.head_count")?;
    let head_dim = c.opt_usize("head_dim", "attention.key_length")?.unwrap_or(dim / heads.max(1));
    let context = c.opt_usize("max_position_embeddings", "context_length")?.unwrap_or(2048);
    let layers = c.usize("num_hidden_layers", "block_count")?;
    let gguf = checkpoint.container() == Container::Gguf;
    Ok(Spec {
        arch,
        layers,
        dim,
        hidden: c.usize("intermediate_size", "feed_forward_length")?,
        heads,
        kv_heads: c.opt_usize("num_key_value_heads", "attention.head_count_kv")?.unwrap_or(heads),
        head_dim,
        vocab,
        context,
        norm: NormKind::Rms,
        norm_eps: c.opt_f32("rms_norm_eps", "attention.layer_norm_rms_epsilon")?.unwrap_or(1e-6),
        norm_plus: 0.0,
        head_norms: if names::has(arch.names, Role::QNorm) { HeadNorms::Shared } else { HeadNorms::None },
        act: act(c, Act::Silu)?,
        gated: true,
        parallel: false,
        embed_scale: 1.0,
        rope: rope::rope(arch, checkpoint, head_dim, 1.0, context)?,
        local_rope: None,
        attend_scale: 1.0 / (head_dim as f32).sqrt(),
        attend_cap: None,
        experts: None,
        each: vec![LayerSpec::default(); layers.min(MOST_LAYERS)],
        logit_scale: 1.0,
        logit_cap: None,
        tied: c.opt_bool("tie_word_embeddings", "")?.unwrap_or(gguf && !has(checkpoint, arch, Role::Head)),
    })
}

/// More than any model has: what a damaged file says must not take the memory.
const MOST_LAYERS: usize = 1 << 12;

/// Whether the checkpoint has the first layer's weight of a role.
pub fn has(checkpoint: &dyn Checkpoint, arch: &Arch, role: Role) -> bool {
    let name = names::name(arch.names, checkpoint.container(), role, 0, "weight");
    name.is_some_and(|name| checkpoint.info(&name).is_some())
}

/// The MLP's activation by the names that config.json gives it. GGUF leaves it to the architecture.
pub fn act(config: &Config, usual: Act) -> Result<Act> {
    const KEYS: &str = "hidden_activation|hidden_act";
    Ok(match config.opt_str(KEYS, "")? {
        None => usual,
        Some("silu" | "swish") => Act::Silu,
        Some("gelu") => Act::Gelu,
        Some("gelu_new" | "gelu_pytorch_tanh" | "gelu_fast") => Act::GeluTanh,
        Some(other) => {
            let why = format!("is \"{other}\"; known: silu, swish, gelu, gelu_new, gelu_pytorch_tanh, gelu_fast");
            return Err(config.bad(KEYS, "", why));
        }
    })
}

/// Makes the layers that `layer_types` names, or else those that `slides` names, see back `window` tokens only.
pub fn slide(spec: &mut Spec, c: &Config, window: Option<usize>, slides: impl Fn(usize) -> bool) -> Result<()> {
    let types = c.opt_strs("layer_types", "")?;
    if let Some(types) = &types {
        let wrong = |why| Err(c.bad("layer_types", "", why));
        if types.len() != spec.layers {
            return wrong(format!("names {} layers; the model has {}", types.len(), spec.layers));
        }
        if let Some(other) = types.iter().find(|t| !["full_attention", "sliding_attention"].contains(&t.as_str())) {
            return wrong(format!("holds \"{other}\"; known: full_attention, sliding_attention"));
        }
    }
    for (i, layer) in spec.each.iter_mut().enumerate() {
        let slides = types.as_ref().map_or_else(|| slides(i), |types| types[i] == "sliding_attention");
        layer.window = window.filter(|w| *w > 0 && slides);
        if slides && spec.local_rope.is_some() {
            layer.rope = LayerRope::Local;
        }
    }
    Ok(())
}
