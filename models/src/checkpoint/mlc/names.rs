//! MLC's words for numbers and tensors, and those of Hugging Face. MLC keeps q, k and v in one matrix, and gate and up.

use crate::{Config, Error, Result};
use serde_json::{Map, Value};
use std::path::Path;

/// Families whose tensors' names are known.
const FAMILIES: [&str; 10] =
    ["llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "stablelm", "phi", "phi-msft", "phi3"];

/// A key of our own: whether norms are stored as the factors that they are, where the family's are one less. MLC adds the 1
/// when it converts.
pub(crate) const NORMS_ARE_FACTORS: &str = "norms_are_factors";

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
    if kind == "phi-msft" {
        first_phi(file, &mut config)?;
    }
    config.entry("tie_word_embeddings").or_insert(Value::Bool(!head));
    config.insert("model_type".into(), if kind == "phi-msft" { "phi" } else { kind }.into());
    config.insert(NORMS_ARE_FACTORS.into(), Value::Bool(true));
    for key in ["eos_token_id", "bos_token_id"] {
        config.insert(key.into(), json.get(key).cloned().unwrap_or_default());
    }
    Ok(Value::Object(config))
}

/// Brings the words of the first files of Phi-2 into those of the later ones.
fn first_phi(file: &Path, config: &mut Map<String, Value>) -> Result<()> {
    for (from, to) in [
        ("n_embd", "hidden_size"),
        ("n_layer", "num_hidden_layers"),
        ("n_head", "num_attention_heads"),
        ("n_head_kv", "num_key_value_heads"),
        ("n_inner", "intermediate_size"),
        ("n_positions", "max_position_embeddings"),
        ("layer_norm_epsilon", "layer_norm_eps"),
    ] {
        // 0 stands for what is not said.
        if let Some(value) = config.remove(from).filter(|value| value.as_f64() != Some(0.0))
            && !config.contains_key(to)
        {
            config.insert(to.into(), value);
        }
    }
    let number = |config: &Map<String, Value>, key: &str| {
        let found = config.get(key).and_then(Value::as_u64).filter(|n| *n > 0);
        found.ok_or_else(|| Error::key(file, key, "is missing or no positive number"))
    };
    let (dim, heads) = (number(config, "hidden_size")?, number(config, "num_attention_heads")?);
    config.entry("intermediate_size").or_insert(dim.saturating_mul(4).into());
    config.entry("layer_norm_eps").or_insert(1e-5.into());
    let turned = config.remove("rotary_dim").map_or(Some(32.0), |n| n.as_f64()).unwrap_or_default();
    config.insert("partial_rotary_factor".into(), (turned / (dim / heads).max(1) as f64).into());
    Ok(())
}

/// A tensor, or a part of one: its stem in a Hugging Face folder, and its rows.
pub(super) struct Part {
    pub(super) stem: String,
    pub(super) from: usize,
    pub(super) to: usize,
}

/// What tensors are called.
pub(super) struct Names {
    /// What MLC says otherwise than Hugging Face, in stems.
    renamed: &'static [(&'static str, &'static str)],
    /// Whether the family's own files have fused matrices.
    fused: bool,
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
        let (renamed, fused) = match config.architecture() {
            "phi3" => (PHI3, true),
            "phi" => (PHI2, false),
            _ => (&[][..], false),
        };
        Ok(Names { renamed, fused, qkv: [rows(heads), rows(kv), rows(kv)] })
    }

    /// The tensors that one of MLC's with so many rows stands for. `file` is for messages.
    pub(super) fn parts(&self, file: &Path, stem: &str, rows: usize) -> Result<Vec<Part>> {
        let stem = &self.rename(stem);
        let (before, last) = stem.rsplit_once('.').unwrap_or(("", stem));
        let (names, sizes) = match last {
            _ if self.fused => (&[][..], Vec::new()),
            "qkv_proj" | "c_attn" | "Wqkv" => (&["q_proj", "k_proj", "v_proj"][..], self.qkv.to_vec()),
            "gate_up_proj" => (&["gate_proj", "up_proj"][..], vec![rows / 2; 2]),
            _ => (&[][..], Vec::new()),
        };
        if names.is_empty() {
            return Ok(vec![Part { stem: stem.clone(), from: 0, to: rows }]);
        }
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

    /// What Hugging Face calls a stem of MLC's.
    fn rename(&self, stem: &str) -> String {
        let mut out = self.renamed.iter().fold(stem.to_owned(), |out, (from, to)| out.replace(from, to));
        if let Some(layer) = out.strip_suffix(".ln").filter(|_| !self.renamed.is_empty()) {
            out = format!("{layer}.input_layernorm");
        }
        out
    }
}

/// Of Phi-2.
const PHI2: &[(&str, &str)] = &[
    ("transformer.h.", "model.layers."),
    ("transformer.embd", "model.embed_tokens"),
    ("lm_head.linear", "lm_head"),
    ("lm_head.ln", "model.final_layernorm"),
    (".mixer.out_proj", ".self_attn.dense"),
    (".mixer.", ".self_attn."),
];

/// Of Phi-3.
const PHI3: &[(&str, &str)] = &[
    ("transformer.h.", "model.layers."),
    ("transformer.embd", "model.embed_tokens"),
    ("transformer.norm", "model.norm"),
    (".mixer.out_proj", ".self_attn.o_proj"),
    (".mixer.", ".self_attn."),
];
