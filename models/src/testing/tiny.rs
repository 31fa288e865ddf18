//! A small llama with pseudo-random weights, the same numbers as a GGUF file and as a Hugging Face folder.

use super::parrot_vocab::Vocab;
use super::{Folder, GgufWriter, TestTensor};
use serde_json::json;

/// Sizes and options of a small llama. Change what a test needs, then write it.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // the field's own names
pub struct Tiny {
    pub layers: usize,
    pub dim: usize,
    pub hidden: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub context: usize,
    /// The head is the embedding.
    pub tied: bool,
    /// q, k and v have biases.
    pub bias: bool,
    pub rope_theta: f32,
    pub eps: f32,
    pub seed: u64,
    /// The chat template; ChatML unless changed.
    pub template: String,
}

impl Default for Tiny {
    fn default() -> Self {
        Tiny {
            layers: 2,
            dim: 64,
            hidden: 96,
            heads: 4,
            kv_heads: 2,
            head_dim: 16,
            context: 256,
            tied: false,
            bias: false,
            rope_theta: 10000.0,
            eps: 1e-5,
            seed: 1,
            template: super::parrot::CHATML.to_owned(),
        }
    }
}

/// The parts of one weight's name in both spellings, its shape, and its values.
pub(super) struct Named {
    pub(super) hf: String,
    pub(super) gguf: String,
    pub(super) dims: Vec<usize>,
    pub(super) values: Vec<f32>,
    /// Heads of a q or k weight: GGUF holds their rows in another order.
    pub(super) rope_heads: Option<usize>,
}

impl Tiny {
    /// The vocabulary's size: 256 bytes, control tokens and a few words.
    pub fn vocab_size(&self) -> usize {
        self.vocab().tokens.len()
    }

    /// As a GGUF file.
    pub fn gguf(&self) -> Vec<u8> {
        let writer = self.sizes(GgufWriter::new("llama"), self.vocab_size());
        let writer = self.vocab().gguf(writer, &self.template);
        gguf_tensors(writer, &self.weights()).bytes()
    }

    /// As a Hugging Face folder with its weights in one file or several.
    pub fn folder(&self, shards: usize) -> Folder {
        let tensors: Vec<TestTensor> =
            self.weights().iter().map(|w| TestTensor::f32(&w.hf, &w.dims, &w.values)).collect();
        let vocab = self.vocab();
        let folder = Folder::default().json("config.json", &self.config(vocab.tokens.len(), vocab.stop));
        vocab.folder(folder, &self.template).weights(&tensors, shards)
    }

    pub(super) fn sizes(&self, writer: GgufWriter, vocab: usize) -> GgufWriter {
        writer
            .value("general.name", "tiny")
            .value("llama.vocab_size", vocab as u32)
            .value("llama.context_length", self.context as u32)
            .value("llama.embedding_length", self.dim as u32)
            .value("llama.block_count", self.layers as u32)
            .value("llama.feed_forward_length", self.hidden as u32)
            .value("llama.attention.head_count", self.heads as u32)
            .value("llama.attention.head_count_kv", self.kv_heads as u32)
            .value("llama.attention.key_length", self.head_dim as u32)
            .value("llama.attention.value_length", self.head_dim as u32)
            .value("llama.attention.layer_norm_rms_epsilon", self.eps)
            .value("llama.rope.dimension_count", self.head_dim as u32)
            .value("llama.rope.freq_base", self.rope_theta)
    }

    pub(super) fn config(&self, vocab: usize, eos: u32) -> serde_json::Value {
        json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": vocab,
            "max_position_embeddings": self.context, "hidden_size": self.dim, "num_hidden_layers": self.layers,
            "intermediate_size": self.hidden, "num_attention_heads": self.heads, "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim, "rms_norm_eps": self.eps, "rope_theta": self.rope_theta, "rope_scaling": null,
            "hidden_act": "silu", "attention_bias": self.bias, "mlp_bias": false, "tie_word_embeddings": self.tied,
            "torch_dtype": "float32", "bos_token_id": null, "eos_token_id": eos
        })
    }

    fn vocab(&self) -> Vocab {
        let words = ["the", " the", " a", " and", "user", "assistant", "system", "hello", " world"];
        Vocab::new(&["<|endoftext|>", "<|im_start|>", "<|im_end|>"], "<|im_end|>", words.map(str::as_bytes))
    }

    fn weights(&self) -> Vec<Named> {
        let mut random = Random(self.seed);
        self.named(self.vocab_size(), &mut |name, n| {
            let around = if name.ends_with("norm.weight") { 1.0 } else { 0.0 };
            (0..n).map(|_| around + random.next()).collect()
        })
    }

    /// All weights of the architecture, their values asked for by Hugging Face name and count.
    pub(super) fn named(&self, vocab: usize, values: &mut dyn FnMut(&str, usize) -> Vec<f32>) -> Vec<Named> {
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let mut out = Vec::new();
        let mut add = |hf: String, gguf: String, dims: &[usize], rope_heads| {
            let values = values(&hf, dims.iter().product());
            out.push(Named { hf, gguf, dims: dims.to_vec(), values, rope_heads });
        };
        add("model.embed_tokens.weight".into(), "token_embd.weight".into(), &[vocab, self.dim], None);
        for i in 0..self.layers {
            let mut layer = |hf: &str, gguf: &str, dims: &[usize], rope| {
                add(format!("model.layers.{i}.{hf}"), format!("blk.{i}.{gguf}"), dims, rope);
            };
            layer("input_layernorm.weight", "attn_norm.weight", &[self.dim], None);
            let heads = [("q", q, Some(self.heads)), ("k", kv, Some(self.kv_heads)), ("v", kv, None)];
            for (part, rows, rope) in heads {
                layer(
                    &format!("self_attn.{part}_proj.weight"),
                    &format!("attn_{part}.weight"),
                    &[rows, self.dim],
                    rope,
                );
                if self.bias {
                    layer(&format!("self_attn.{part}_proj.bias"), &format!("attn_{part}.bias"), &[rows], rope);
                }
            }
            layer("self_attn.o_proj.weight", "attn_output.weight", &[self.dim, q], None);
            if self.bias {
                layer("self_attn.o_proj.bias", "attn_output.bias", &[self.dim], None);
            }
            layer("post_attention_layernorm.weight", "ffn_norm.weight", &[self.dim], None);
            layer("mlp.gate_proj.weight", "ffn_gate.weight", &[self.hidden, self.dim], None);
            layer("mlp.up_proj.weight", "ffn_up.weight", &[self.hidden, self.dim], None);
            layer("mlp.down_proj.weight", "ffn_down.weight", &[self.dim, self.hidden], None);
        }
        add("model.norm.weight".into(), "output_norm.weight".into(), &[self.dim], None);
        if !self.tied {
            add("lm_head.weight".into(), "output.weight".into(), &[vocab, self.dim], None);
        }
        out
    }
}

/// Adds the weights under their GGUF names.
pub(super) fn gguf_tensors(writer: GgufWriter, weights: &[Named]) -> GgufWriter {
    weights.iter().fold(writer, |writer, w| {
        let values = match w.rope_heads {
            Some(heads) => interleave(&w.values, w.dims[0], heads),
            None => w.values.clone(),
        };
        writer.tensor(TestTensor::f32(&w.gguf, &w.dims, &values))
    })
}

/// The rows of a q or k weight in GGUF's order for llama: rope pairs lie side by side, not half a head apart.
fn interleave(values: &[f32], rows: usize, heads: usize) -> Vec<f32> {
    let (cols, head) = (values.len() / rows, rows / heads);
    let row = |r: usize| &values[r * cols..(r + 1) * cols];
    let mut out = Vec::with_capacity(values.len());
    for r in 0..rows {
        let (h, i) = (r / head, r % head);
        out.extend(row(h * head + i / 2 + (i % 2) * (head / 2)));
    }
    out
}

/// Numbers around zero, small enough that logits stay tame; the same for the same seed everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let unit = (self.0 >> 40) as f32 / (1u64 << 24) as f32;
        (unit - 0.5) * 0.25
    }
}
