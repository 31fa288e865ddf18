//! A model's numbers as GGUF metadata, under the keys that llama.cpp's converter writes. They come from the `Spec`, so that
//! one list serves all families; what a reader then makes of them is compared with it, and what GGUF cannot say is an error.

use super::Named;
use crate::checkpoint::gguf::GgufValue;
use crate::spec::{ExpertSpec, HeadNorms, Spec};
use crate::{Checkpoint, Error, Result, RopeScaling};
use nano_kernels::NormKind;
use std::path::Path;

/// What GGUF calls an architecture. Mistral and Mixtral go as the Llamas that they are.
pub fn architecture(spec: &Spec) -> &'static str {
    match spec.arch.name {
        "mistral" | "mixtral" => "llama",
        _ => spec.arch.gguf.first().copied().unwrap_or(spec.arch.name),
    }
}

/// All keys but those of tokenizer and file type.
pub fn values(checkpoint: &dyn Checkpoint, spec: &Spec) -> Result<Vec<Named>> {
    let arch = architecture(spec);
    let mut out: Vec<Named> = vec![
        ("general.architecture".into(), arch.into()),
        ("general.type".into(), "model".into()),
        ("general.name".into(), title(checkpoint.path()).into()),
    ];
    let mut put = |key: &str, value: GgufValue| out.push((format!("{arch}.{key}"), value));
    let size = |n: usize| GgufValue::U32(u32::try_from(n).unwrap_or(u32::MAX));
    for (key, n) in [
        ("block_count", spec.layers),
        ("context_length", spec.context),
        ("embedding_length", spec.dim),
        ("feed_forward_length", spec.hidden),
        ("attention.head_count", spec.heads),
        ("attention.head_count_kv", spec.kv_heads),
        ("attention.key_length", spec.head_dim),
        ("attention.value_length", spec.head_dim),
        ("rope.dimension_count", spec.rope.dims),
        ("vocab_size", spec.vocab),
    ] {
        put(key, size(n));
    }
    put("rope.freq_base", spec.rope.theta.into());
    if let Some(local) = &spec.local_rope {
        put("rope.freq_base_swa", local.theta.into());
    }
    let c = checkpoint.config();
    let (key, eps) = match spec.norm {
        NormKind::Rms => ("attention.layer_norm_rms_epsilon", "rms_norm_eps"),
        NormKind::Layer => ("attention.layer_norm_epsilon", "layer_norm_eps|norm_eps"),
    };
    // As stated: a table may have folded a factor into it.
    put(key, c.opt_f32(eps, "")?.unwrap_or(spec.norm_eps).into());
    match spec.window() {
        Some((window, _)) => put("attention.sliding_window", size(window)),
        // Its readers tell models without a window by this.
        None if arch == "phi3" => put("attention.sliding_window", size(0)),
        None => {}
    }
    for (key, cap) in [("attn_logit_softcapping", spec.attend_cap), ("final_logit_softcapping", spec.logit_cap)] {
        if let Some(cap) = cap {
            put(key, cap.into());
        }
    }
    match arch {
        "stablelm" => put("use_parallel_residual", spec.parallel.into()),
        "granite" => {
            for (key, hf) in [
                ("embedding_scale", "embedding_multiplier"),
                ("residual_scale", "residual_multiplier"),
                ("attention.scale", "attention_multiplier"),
                ("logit_scale", "logits_scaling"),
            ] {
                if let Some(factor) = c.opt_f32(hf, "")? {
                    put(key, factor.into());
                }
            }
        }
        _ => {}
    }
    if let Some(ExpertSpec { count, chosen, hidden, shared, .. }) = spec.experts {
        put("expert_count", size(count));
        put("expert_used_count", size(chosen));
        if hidden != spec.hidden || arch != "llama" {
            put("expert_feed_forward_length", size(hidden));
        }
        if shared > 0 {
            put("expert_shared_feed_forward_length", size(shared));
        }
    }
    match &spec.rope.scaling {
        RopeScaling::Linear(factor) => {
            put("rope.scaling.type", "linear".into());
            put("rope.scaling.factor", (*factor).into());
        }
        RopeScaling::Yarn { factor, original, fast, slow, attention, .. } => {
            put("rope.scaling.type", "yarn".into());
            put("rope.scaling.factor", (*factor).into());
            put("rope.scaling.original_context_length", size(*original as usize));
            put("rope.scaling.yarn_beta_fast", (*fast).into());
            put("rope.scaling.yarn_beta_slow", (*slow).into());
            // Readers multiply by what the factor makes usual.
            let usual = if *factor <= 1.0 { 1.0 } else { 0.1 * factor.ln() + 1.0 };
            if (attention / usual - 1.0).abs() > 1e-6 {
                put("rope.scaling.attn_factor", (attention / usual).into());
            }
        }
        RopeScaling::Long { original, attention, .. } => {
            put("rope.scaling.original_context_length", size(*original));
            put("rope.scaling.attn_factor", (*attention).into());
        }
        // Said by a tensor.
        RopeScaling::Llama3 { .. } => {}
        // Not said at all: it changes nothing within the model's own context.
        RopeScaling::None | RopeScaling::Dynamic { .. } => {}
    }
    Ok(out)
}

/// The model's name: its folder's, or in the Hub's cache the repository's.
fn title(path: &Path) -> String {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let snapshot = path.parent().filter(|parent| parent.ends_with("snapshots"));
    let hub = snapshot.and_then(Path::parent).and_then(name);
    let hub = hub.as_deref().and_then(|name| name.strip_prefix("models--")?.rsplit("--").next().map(str::to_owned));
    hub.or_else(|| name(path)).unwrap_or_else(|| "model".to_owned())
}

/// What should be known of numbers that GGUF does not say.
pub fn notice(spec: &Spec) -> Option<String> {
    match spec.rope.scaling {
        RopeScaling::Dynamic { original, .. } => Some(format!(
            "GGUF does not say that rope is scaled beyond {original} tokens: from this file the model is as it was trained, \
             for up to so many"
        )),
        _ => None,
    }
}

/// Refuses a model whose numbers do not come back from the file: `found` is what a reader made of it.
pub fn check(path: &Path, spec: &Spec, found: &Spec) -> Result<()> {
    if spec.experts.is_some() && spec.dense_hidden() > 0 {
        // This program's reader would see it from the tensors; others would not.
        return Err(Error::file(path, "cannot be written as GGUF: only some of its layers have experts"));
    }
    for ((what, expected), (_, found)) in said(spec).into_iter().zip(said(found)) {
        if expected != found {
            let why =
                format!("cannot be written as GGUF: {what} is {expected}, and a reader would take it for {found}");
            return Err(Error::file(path, why));
        }
    }
    Ok(())
}

/// All that a file says of a model, in words.
fn said(spec: &Spec) -> Vec<(&'static str, String)> {
    let scaling = |scaling: &RopeScaling| match scaling {
        RopeScaling::Llama3 { .. } | RopeScaling::Dynamic { .. } => RopeScaling::None,
        other => other.clone(),
    };
    let rope =
        |rope: &crate::RopeSpec| format!("{} values, base {}, {:?}", rope.dims, rope.theta, scaling(&rope.scaling));
    let each = |f: &dyn Fn(usize) -> String| (0..spec.each.len()).map(f).collect::<Vec<_>>().join(" ");
    let rounded = |x: f32| format!("{x:.5e}");
    vec![
        ("the number of layers", spec.layers.to_string()),
        ("the width", spec.dim.to_string()),
        ("the width of the MLP", if spec.dense_hidden() > 0 { spec.hidden.to_string() } else { String::new() }),
        ("the number of heads", format!("{} and {}", spec.heads, spec.kv_heads)),
        ("the width of a head", spec.head_dim.to_string()),
        ("the vocabulary", spec.vocab.to_string()),
        ("the context", spec.context.to_string()),
        ("the norm", format!("{:?}, eps {}", spec.norm, rounded(spec.norm_eps))),
        (
            "the norm of heads",
            if spec.head_norms == HeadNorms::None { "none".into() } else { format!("{:?}", spec.head_norms) },
        ),
        ("the activation", format!("{:?}, gate {}", spec.act, spec.gated)),
        ("the order of branches", if spec.parallel { "parallel".into() } else { "one after the other".into() }),
        ("the factor on embeddings", rounded(spec.embed_scale)),
        ("rope", rope(&spec.rope)),
        ("rope of sliding layers", spec.local_rope.as_ref().map_or("that of all".into(), rope)),
        ("the layers without rope", each(&|i| spec.rope_of(i).is_some().to_string())),
        ("the window of each layer", each(&|i| spec.each[i].window.unwrap_or(0).to_string())),
        ("which layers have experts", each(&|i| spec.each[i].sparse.to_string())),
        ("the experts", format!("{:?}", spec.experts)),
        ("the factor on scores", rounded(spec.attend_scale)),
        ("the caps of scores and logits", format!("{:?}, {:?}", spec.attend_cap, spec.logit_cap)),
        ("the factor on logits", rounded(spec.logit_scale)),
        ("whether the head is the embedding", spec.tied.to_string()),
    ]
}
