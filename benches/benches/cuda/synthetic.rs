//! A checkpoint of a given shape whose weights are a repeated pattern: what a step costs does not depend on the values,
//! and nothing has to be on disk.

use nano_kernels::{Format, HostTensor};
use nano_models::{Checkpoint, Config, Container, Result, TensorInfo, Tokenizer};
use serde_json::json;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Sizes of a llama.
#[derive(Clone, Copy)]
pub struct Shape {
    pub name: &'static str,
    pub layers: usize,
    pub dim: usize,
    pub hidden: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub vocab: usize,
    pub tied: bool,
}

/// Llama 3.1 8B.
pub const B8: Shape =
    Shape { name: "8B", layers: 32, dim: 4096, hidden: 14336, heads: 32, kv_heads: 8, vocab: 128256, tied: false };
/// Llama 3.2 1B.
pub const B1: Shape =
    Shape { name: "1B", layers: 16, dim: 2048, hidden: 8192, heads: 32, kv_heads: 8, vocab: 128256, tied: true };
/// SmolLM2 135M.
pub const M135: Shape =
    Shape { name: "135M", layers: 30, dim: 576, hidden: 1536, heads: 9, kv_heads: 3, vocab: 49152, tied: true };
/// For an emulator.
pub const TOY: Shape =
    Shape { name: "toy", layers: 2, dim: 64, hidden: 128, heads: 4, kv_heads: 2, vocab: 256, tied: true };

/// The checkpoint.
pub struct Synthetic {
    config: Config,
    tensors: BTreeMap<String, TensorInfo>,
    bytes: HashMap<Format, Vec<u8>>,
}

impl Synthetic {
    /// Matrices in `format`, embedding and head in `vocabulary`, norms in float32.
    pub fn new(shape: Shape, format: Format, vocabulary: Format) -> Result<Self> {
        let Shape { layers, dim, hidden, heads, kv_heads, vocab, tied, .. } = shape;
        let head = dim / heads;
        let config = Config::from_json(
            Path::new("config.json"),
            json!({
                "model_type": "llama", "vocab_size": vocab, "max_position_embeddings": 131072, "hidden_size": dim,
                "num_hidden_layers": layers, "intermediate_size": hidden, "num_attention_heads": heads,
                "num_key_value_heads": kv_heads, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "hidden_act": "silu",
                "tie_word_embeddings": tied
            }),
        )?;
        let mut tensors = BTreeMap::new();
        let mut add = |name: String, format: Format, rows: usize, cols: usize| {
            let bytes = format.row_bytes(cols).unwrap_or(0) * rows;
            tensors.insert(name, TensorInfo { format, rows, cols, bytes });
        };
        add("model.embed_tokens.weight".into(), vocabulary, vocab, dim);
        if !tied {
            add("lm_head.weight".into(), vocabulary, vocab, dim);
        }
        add("model.norm.weight".into(), Format::F32, 1, dim);
        for layer in 0..layers {
            let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
            add(name("input_layernorm"), Format::F32, 1, dim);
            add(name("post_attention_layernorm"), Format::F32, 1, dim);
            add(name("self_attn.q_proj"), format, heads * head, dim);
            add(name("self_attn.k_proj"), format, kv_heads * head, dim);
            add(name("self_attn.v_proj"), format, kv_heads * head, dim);
            add(name("self_attn.o_proj"), format, dim, heads * head);
            add(name("mlp.gate_proj"), format, hidden, dim);
            add(name("mlp.up_proj"), format, hidden, dim);
            add(name("mlp.down_proj"), format, dim, hidden);
        }
        let mut bytes: HashMap<Format, Vec<u8>> = HashMap::new();
        for format in [format, vocabulary, Format::F32] {
            let most = tensors.values().filter(|t| t.format == format).map(|t| t.bytes).max().unwrap_or(0);
            bytes.entry(format).or_insert_with(|| pattern(format, most));
        }
        Ok(Synthetic { config, tensors, bytes })
    }
}

/// Weights of about ±1/64, quantized from pseudo-random numbers, over and over.
fn pattern(format: Format, bytes: usize) -> Vec<u8> {
    let mut seed = 1u32;
    let values: Vec<f32> = (0..1 << 16)
        .map(|_| {
            seed = seed.wrapping_mul(1664525).wrapping_add(1013904223);
            if format == Format::F32 { 1.0 } else { ((seed >> 8) as f32 / (1 << 24) as f32 - 0.5) / 32.0 }
        })
        .collect();
    let source: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let tensor = HostTensor::new("pattern", Format::F32, 1, values.len(), Cow::Owned(source)).and_then(|t| {
        // Only formats that can be written are asked for.
        if format == Format::F32 { Ok(t) } else { t.convert(format, 1) }
    });
    let piece = tensor.map(|t| t.bytes.into_owned()).unwrap_or_default();
    let mut all = Vec::with_capacity(bytes);
    while all.len() < bytes {
        all.extend_from_slice(&piece[..piece.len().min(bytes - all.len())]);
    }
    all
}

impl Checkpoint for Synthetic {
    fn path(&self) -> &Path {
        Path::new("synthetic")
    }

    fn container(&self) -> Container {
        Container::HuggingFace
    }

    fn config(&self) -> &Config {
        &self.config
    }

    fn names(&self) -> Vec<&str> {
        self.tensors.keys().map(String::as_str).collect()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.tensors.get(name).copied()
    }

    fn tensor(&self, name: &str) -> Result<Option<HostTensor<'_>>> {
        let Some(info) = self.info(name) else { return Ok(None) };
        let bytes = Cow::Borrowed(&self.bytes[&info.format][..info.bytes]);
        Ok(Some(HostTensor::new(name, info.format, info.rows, info.cols, bytes)?))
    }

    fn release(&self, _name: &str) {}

    fn tokenizer(&self) -> Result<Tokenizer> {
        Tokenizer::numbered(self.config.usize("vocab_size", "")?)
    }

    fn chat_template(&self) -> Result<Option<String>> {
        Ok(None)
    }
}
