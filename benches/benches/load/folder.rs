//! A Hugging Face folder of a llama with float16 values, written piece by piece: 541 MB.

use super::FORMAT;
use nano_kernels::format::f32_to_f16;
use serde_json::{Map, json};
use std::fs::File;
use std::io::{BufWriter, Result, Write};
use std::path::Path;

/// The file that holds the tensors.
pub const WEIGHTS: &str = "model.safetensors";
/// Tokens.
pub const VOCAB: usize = 32000;

const DIM: usize = 1024;
const HIDDEN: usize = 2816;
const LAYERS: usize = 16;
const HEADS: usize = 16;

/// Writes it.
pub fn write(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": VOCAB,
        "max_position_embeddings": 4096, "hidden_size": DIM, "num_hidden_layers": LAYERS, "intermediate_size": HIDDEN,
        "num_attention_heads": HEADS, "num_key_value_heads": HEADS, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "hidden_act": "silu", "tie_word_embeddings": false, "torch_dtype": "float16"
    });
    std::fs::write(folder.join("config.json"), config.to_string())?;
    let tensors = tensors();
    let mut header = Map::new();
    let mut at = 0;
    for (name, shape) in &tensors {
        let end = at + 2 * shape.iter().product::<usize>();
        header.insert(name.clone(), json!({"dtype": FORMAT.name(), "shape": shape, "data_offsets": [at, end]}));
        at = end;
    }
    let mut header = serde_json::Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = BufWriter::with_capacity(1 << 20, File::create(folder.join(WEIGHTS))?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    let mut state = 1_u64;
    for (name, shape) in &tensors {
        let around = if name.contains("norm") { 1.0 } else { 0.0 };
        for _ in 0..shape.iter().product() {
            file.write_all(&f32_to_f16(around + 0.02 * normal(&mut state)).to_le_bytes())?;
        }
    }
    file.into_inner()?.sync_all()
}

fn tensors() -> Vec<(String, Vec<usize>)> {
    let mut tensors = vec![
        ("model.embed_tokens.weight".to_owned(), vec![VOCAB, DIM]),
        ("lm_head.weight".to_owned(), vec![VOCAB, DIM]),
        ("model.norm.weight".to_owned(), vec![DIM]),
    ];
    for layer in 0..LAYERS {
        let mut add = |part: &str, shape: &[usize]| {
            tensors.push((format!("model.layers.{layer}.{part}.weight"), shape.to_vec()));
        };
        add("input_layernorm", &[DIM]);
        for part in ["q", "k", "v", "o"] {
            add(&format!("self_attn.{part}_proj"), &[DIM, DIM]);
        }
        add("post_attention_layernorm", &[DIM]);
        add("mlp.gate_proj", &[HIDDEN, DIM]);
        add("mlp.up_proj", &[HIDDEN, DIM]);
        add("mlp.down_proj", &[DIM, HIDDEN]);
    }
    tensors
}

/// About normal: a sum of four even ones.
fn normal(state: &mut u64) -> f32 {
    (0..4).fold(-2.0, |sum, _| {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        sum + (*state >> 40) as f32 / (1 << 24) as f32
    }) * 1.73
}
