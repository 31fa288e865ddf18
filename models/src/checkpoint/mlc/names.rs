//! MLC's words for numbers and tensors, and those of Hugging Face. MLC keeps q, k and v in one matrix, and gate and up.

use crate::{Config, Error, Result};
use serde_json::{Map, Value};
use std::path::Path;

/// Families whose tensors' names are known.
const FAMILIES: [&str; 5] = ["llama", "mistral", "qwen2", "qwen3", "phi3"];

/// mlc-chat-config.json as a config.json. `head`: whether there is a head.
pub(super) fn config(file: &Path, json: &Value, head: bool) -> Result<Value> {
    let kind = json.get("model_type").and_then(Value::as_str).unwrap_or_default();
    if !FAMILIES.contains(&kind) {
        let why =
            format!("is \"{}\"; of MLC's folders read are {}", crate::error::printable(kind), FAMILIES.join(", "));
        return Err(Error::key(file, "model_type", why));
    }
    let inner = json.get("model_config").and_then(Value::as_object);
    let mut config: Map<String, Value> =
        inner.ok_or_else(|| Error::key(file, "model_config", "is missing or no object"))?.clone();
    // 0 and -1 stand for what is not said.
    let said = |place: Option<&Value>| place.filter(|n| n.as_f64().is_some_and(|n| n > 0.0)).cloned();
    for key in ["num_key_value_heads", "head_dim", "max_position_embeddings", "sliding_window", "rope_theta"] {
        if config.contains_key(key) && said(config.get(key)).is_none() {
            config.remove(key);
        }
    }
    for (from, to) in [
        ("position_embedding_base", "rope_theta"),
        ("context_window_size", "max_position_embeddings"),
        ("sliding_window_size", "sliding_window"),
    ] {
        if let Some(value) = said(config.get(from)).or_else(|| said(json.get(from)))
            && !config.contains_key(to)
        {
            config.insert(to.into(), value);
        }
    }
    config.entry("tie_word_embeddings").or_insert(Value::Bool(!head));
    config.insert("model_type".into(), kind.into());
    for key in ["eos_token_id", "bos_token_id"] {
        config.insert(key.into(), json.get(key).cloned().unwrap_or_default());
    }
    Ok(Value::Object(config))
}

/// A tensor, or a part of one: its stem in a Hugging Face folder, and its rows.
pub(super) struct Part {
    pub(super) stem: String,
    pub(super) from: usize,
    pub(super) to: usize,
}

/// What tensors are called.
pub(super) struct Names {
    /// Whether names are those of Phi-3 in MLC.
    phi: bool,
    /// Rows of q, k and v.
    qkv: [usize; 3],
}

impl Names {
    pub(super) fn new(config: &Config) -> Result<Self> {
        let heads = config.usize("num_attention_heads", "")?;
        let dim = config.usize("hidden_size", "")?;
        let head_dim = config.opt_usize("head_dim", "")?.unwrap_or(dim / heads.max(1));
        let kv = config.opt_usize("num_key_value_heads", "")?.unwrap_or(heads);
        let rows = |heads: usize| heads.saturating_mul(head_dim);
        Ok(Names { phi: config.architecture() == "phi3", qkv: [rows(heads), rows(kv), rows(kv)] })
    }

    /// The tensors that one of MLC's with so many rows stands for. `file` is for messages.
    pub(super) fn parts(&self, file: &Path, stem: &str, rows: usize) -> Result<Vec<Part>> {
        let whole = |stem: String| Ok(vec![Part { stem, from: 0, to: rows }]);
        if self.phi {
            return whole(phi(stem));
        }
        let (before, last) = stem.rsplit_once('.').unwrap_or(("", stem));
        let (names, sizes) = match last {
            "qkv_proj" | "c_attn" => (&["q_proj", "k_proj", "v_proj"][..], self.qkv.to_vec()),
            "gate_up_proj" => (&["gate_proj", "up_proj"][..], vec![rows / 2; 2]),
            _ => return whole(stem.to_owned()),
        };
        let sum = sizes.iter().fold(0usize, |sum, n| sum.saturating_add(*n));
        if sum != rows || sizes.contains(&0) {
            return Err(Error::tensor(file, stem, format!("has {rows} rows; the model's sizes make it {sum}")));
        }
        let mut from = 0;
        let part = |(name, size): (&&str, &usize)| {
            from += size;
            Part { stem: format!("{before}.{name}"), from: from - size, to: from }
        };
        Ok(names.iter().zip(&sizes).map(part).collect())
    }
}

/// Phi-3's names, whose fused matrices stay as they are.
fn phi(stem: &str) -> String {
    let mut out = stem.to_owned();
    for (from, to) in [
        ("transformer.h.", "model.layers."),
        ("transformer.embd", "model.embed_tokens"),
        ("transformer.norm", "model.norm"),
        (".mixer.out_proj", ".self_attn.o_proj"),
        (".mixer.", ".self_attn."),
    ] {
        out = out.replace(from, to);
    }
    match out.strip_suffix(".ln") {
        Some(layer) => format!("{layer}.input_layernorm"),
        None => out,
    }
}
