//! Numbers of experts by their usual keys.

use crate::names::{self, Role};
use crate::spec::{ExpertSpec, Spec};
use crate::{Checkpoint, Container, Result};

/// Reads how many experts there are, how wide they are and which layers have some; a model without any is left as it is.
/// `normalize`: whether factors sum to 1 where config.json does not say, and in GGUF files, which never say.
pub fn experts(spec: &mut Spec, checkpoint: &dyn Checkpoint, normalize: (bool, bool)) -> Result<()> {
    let c = checkpoint.config();
    let count = c.opt_usize("num_experts|num_local_experts", "expert_count")?.unwrap_or(0);
    if count == 0 {
        return Ok(());
    }
    let hidden = c.opt_usize("moe_intermediate_size", "expert_feed_forward_length")?.unwrap_or(spec.hidden);
    let shared = match names::has(spec.arch.names, Role::SharedRouter) {
        true => {
            c.opt_usize("shared_expert_intermediate_size", "expert_shared_feed_forward_length")?.unwrap_or(spec.hidden)
        }
        false => 0,
    };
    let gguf = checkpoint.container() == Container::Gguf;
    spec.experts = Some(ExpertSpec {
        count,
        chosen: c.usize("num_experts_per_tok", "expert_used_count")?,
        hidden,
        shared,
        normalize: if gguf { normalize.1 } else { c.opt_bool("norm_topk_prob", "")?.unwrap_or(normalize.0) },
    });
    let dense = c.opt_usizes("mlp_only_layers", "")?.unwrap_or_default();
    let every = c.opt_usize("decoder_sparse_step", "")?.unwrap_or(1).max(1);
    for (i, layer) in spec.each.iter_mut().enumerate() {
        let router = names::name(spec.arch.names, Container::Gguf, Role::Router, i, "weight");
        layer.sparse = match gguf {
            true => router.is_some_and(|name| checkpoint.info(&name).is_some()),
            false => (i + 1).is_multiple_of(every) && !dense.contains(&i),
        };
    }
    Ok(())
}
