//! Folders of MLC: values are those of the formula, under Hugging Face's names.

use crate::weights::{Random, Weights};
use nano_kernels::{Format, Group};
use nano_models::testing::{Folder, RawTensor, TempDir};
use nano_models::{Checkpoint, open};
use serde_json::{Value, json};

const DIM: usize = 64;
/// Rows of q, and of k and v; of gate and up.
const ROWS: [usize; 3] = [96, 32, 80];

pub fn config() -> Value {
    json!({
        "version": "0.1.0", "model_type": "llama", "quantization": "q4f16_1", "vocab_size": 128,
        "model_config": {
            "hidden_size": DIM, "intermediate_size": ROWS[2], "num_attention_heads": 6, "num_hidden_layers": 1,
            "rms_norm_eps": 1e-5, "vocab_size": 128, "position_embedding_base": 50000, "context_window_size": 2048,
            "num_key_value_heads": 2, "head_dim": 16, "tensor_parallel_shards": 1, "rope_scaling": null
        },
        "context_window_size": 2048, "sliding_window_size": -1, "bos_token_id": 1, "eos_token_id": [2, 5],
        "conv_template": {"name": "x", "stop_token_ids": [2, 7]}
    })
}

/// The shards and their list: a tensor to each shard but the first, which has two.
pub fn folder(config: &Value, list: &str, tensors: &[RawTensor]) -> Folder {
    let mut folder = Folder::default().json("mlc-chat-config.json", config);
    let mut records = Vec::new();
    let mut rest = tensors;
    while !rest.is_empty() {
        let (shard, left) = rest.split_at(if records.is_empty() { 2.min(rest.len()) } else { 1 });
        rest = left;
        let name = format!("params_shard_{}.bin", records.len());
        let (mut bytes, mut inner) = (Vec::new(), Vec::new());
        for t in shard {
            let dtype = match t.dtype {
                "F16" => "float16",
                "BF16" | "F32" => "float32",
                _ => "uint32",
            };
            let format = if t.dtype == "F32" { "raw" } else { "f32-to-bf16" };
            inner.push(json!({
                "name": t.name, "shape": t.dims, "dtype": dtype, "format": format, "nbytes": t.bytes.len(),
                "byteOffset": bytes.len()
            }));
            bytes.extend(&t.bytes);
        }
        records.push(json!({"dataPath": name, "format": "raw-shard", "nbytes": bytes.len(), "records": inner}));
        folder = folder.file(&name, bytes);
    }
    folder.json(list, &json!({"metadata": {"ParamSize": tensors.len()}, "records": records}))
}

/// Quants of 0 to 14, less 7.
fn weights(seed: u64, rows: usize) -> Weights {
    let mut weights = Weights::new(seed, 4, (rows, DIM), 32, (7, 1));
    weights.quants.iter_mut().for_each(|q| *q = (*q).min(14));
    weights
}

fn mlc(stem: &str, weights: &Weights, transposed: bool) -> Vec<RawTensor> {
    let mut tensors = if transposed { weights.gptq(stem, 1) } else { weights.compressed(stem, true) };
    // Quants and scales alone.
    tensors.retain(|t| ["qweight", "scales", "weight_packed", "weight_scale"].iter().any(|end| t.name.ends_with(end)));
    tensors[0].name = format!("{stem}.q_weight");
    tensors[1].name = format!("{stem}.q_scale");
    tensors
}

fn half(name: &str, n: usize) -> RawTensor {
    let mut random = Random(3);
    let bytes = (0..n).flat_map(|_| (0x3c00 + random.below(200) as u16).to_le_bytes()).collect();
    RawTensor { name: name.into(), dtype: "F16", dims: vec![n], bytes }
}

fn opened(folder: &Folder) -> (TempDir, Box<dyn Checkpoint>) {
    let dir = folder.temp("mlc");
    let checkpoint = open(dir.path()).unwrap_or_else(|e| panic!("{e}"));
    (dir, checkpoint)
}

fn values(checkpoint: &dyn Checkpoint, name: &str) -> Vec<f32> {
    checkpoint.tensor(name).unwrap().unwrap_or_else(|| panic!("{name}")).to_f32()
}

#[test]
fn quants_are_read_without_loss_and_fused_matrices_are_cut() {
    let fused: [usize; 2] = [ROWS[0] + 2 * ROWS[1], 2 * ROWS[2]];
    for (quantization, transposed) in [("q4f16_0", true), ("q4f16_1", false)] {
        for list in ["ndarray-cache.json", "tensor-cache.json"] {
            let mut config = config();
            config["quantization"] = json!(quantization);
            let layer = "model.layers.0";
            let (embed, qkv, gate_up) = (weights(1, 128), weights(2, fused[0]), weights(3, fused[1]));
            // An embedding always lies in rows.
            let mut tensors = mlc("model.embed_tokens", &embed, false);
            tensors.extend(mlc(&format!("{layer}.self_attn.qkv_proj"), &qkv, transposed));
            tensors.extend(mlc(&format!("{layer}.mlp.gate_up_proj"), &gate_up, transposed));
            tensors.push(half(&format!("{layer}.self_attn.qkv_proj.bias"), fused[0]));
            tensors.push(half("model.norm.weight", DIM));
            let (_dir, checkpoint) = opened(&folder(&config, list, &tensors));
            let checkpoint = &*checkpoint;
            assert_eq!(checkpoint.names().len(), 1 + 3 + 2 + 3 + 1);
            assert_eq!(checkpoint.quantized(), Some(format!("MLC {quantization}").as_str()));
            let info = checkpoint.info(&format!("{layer}.self_attn.k_proj.weight")).unwrap();
            assert_eq!((info.format, info.rows, info.cols), (Format::Int4(Group::G32), ROWS[1], DIM));
            assert_eq!(values(checkpoint, "model.embed_tokens.weight"), embed.values());
            let bias: Vec<f32> = ["q", "k", "v"]
                .iter()
                .flat_map(|p| values(checkpoint, &format!("{layer}.self_attn.{p}_proj.bias")))
                .collect();
            assert_eq!(bias.len(), fused[0]);
            assert!(bias.iter().any(|b| *b != bias[0]));
            for (names, whole) in [
                (["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"].as_slice(), &qkv),
                (["mlp.gate_proj", "mlp.up_proj"].as_slice(), &gate_up),
            ] {
                let parts = names.iter().flat_map(|n| values(checkpoint, &format!("{layer}.{n}.weight")));
                assert_eq!(parts.collect::<Vec<_>>(), whole.values(), "{quantization}: {names:?}");
            }
            let bytes: usize = checkpoint.names().iter().map(|n| checkpoint.info(n).unwrap().bytes).sum();
            assert_eq!(bytes, tensors.iter().map(|t| t.bytes.len()).sum::<usize>());
        }
    }
}

#[test]
fn numbers_are_said_in_the_words_of_config_json() {
    let tensors = mlc("model.embed_tokens", &weights(1, 128), false);
    let (_dir, checkpoint) = opened(&folder(&config(), "ndarray-cache.json", &tensors));
    let c = checkpoint.config();
    assert_eq!(c.architecture(), "llama");
    assert_eq!(c.opt_f32("rope_theta", "").unwrap(), Some(50000.0));
    assert_eq!(c.opt_usize("max_position_embeddings", "").unwrap(), Some(2048));
    assert_eq!(c.opt_usize("sliding_window", "").unwrap(), None);
    assert_eq!(c.opt_bool("tie_word_embeddings", "").unwrap(), Some(true), "there is no head");
    let mut other = config();
    other["model_config"]["sliding_window_size"] = json!(512);
    other["model_config"]["context_window_size"] = json!(-1);
    other["context_window_size"] = json!(-1);
    let mut tensors = tensors;
    tensors.extend(mlc("lm_head", &weights(2, 128), false));
    let (_dir, checkpoint) = opened(&folder(&other, "ndarray-cache.json", &tensors));
    let c = checkpoint.config();
    assert_eq!(c.opt_usize("max_position_embeddings", "").unwrap(), None);
    assert_eq!(c.opt_usize("sliding_window", "").unwrap(), Some(512));
    assert_eq!(c.opt_bool("tie_word_embeddings", "").unwrap(), Some(false));
}

#[test]
fn phi_3_has_other_names() {
    let mut config = config();
    config["model_type"] = json!("phi3");
    let mut tensors = mlc("transformer.embd", &weights(1, 128), false);
    tensors.extend(mlc("transformer.h.0.mixer.qkv_proj", &weights(2, 160), false));
    tensors.extend(mlc("transformer.h.0.mixer.out_proj", &weights(3, DIM), false));
    tensors.extend(mlc("transformer.h.0.mlp.gate_up_proj", &weights(4, 160), false));
    tensors.push(half("transformer.h.0.ln.weight", DIM));
    tensors.push(half("transformer.norm.weight", DIM));
    let (_dir, checkpoint) = opened(&folder(&config, "ndarray-cache.json", &tensors));
    let names = [
        "model.embed_tokens.weight",
        "model.layers.0.input_layernorm.weight",
        "model.layers.0.mlp.gate_up_proj.weight",
        "model.layers.0.self_attn.o_proj.weight",
        "model.layers.0.self_attn.qkv_proj.weight",
        "model.norm.weight",
    ];
    assert_eq!(checkpoint.names(), names);
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let tensors = mlc("model.layers.0.self_attn.qkv_proj", &weights(1, 160), false);
    let whole = folder(&config(), "ndarray-cache.json", &tensors);
    let error = |folder: Folder| open(folder.temp("mlc").path()).map(|_| ()).unwrap_err().to_string();
    let changed = |change: fn(&mut Value)| {
        let mut config = config();
        change(&mut config);
        error(whole.clone().json("mlc-chat-config.json", &config))
    };
    let list = |change: fn(&mut Value)| {
        let (_, bytes) = whole.files.iter().find(|(name, _)| name == "ndarray-cache.json").unwrap();
        let mut json: Value = serde_json::from_slice(bytes).unwrap();
        change(&mut json);
        error(whole.clone().json("ndarray-cache.json", &json))
    };
    fn first(json: &mut Value) -> &mut Value {
        &mut json["records"][0]["records"][0]
    }
    let mut short = whole.clone();
    short.files.iter_mut().find(|(name, _)| name == "params_shard_0.bin").unwrap().1.pop();
    let mut absent = whole.clone();
    absent.files.retain(|(name, _)| name != "ndarray-cache.json");
    for (error, says) in [
        (
            changed(|c| c["quantization"] = json!("q4f16_ft")),
            "mlc-chat-config.json: quantization is \"q4f16_ft\", whose quants lie in the order of one kind of GPU",
        ),
        (changed(|c| c["quantization"] = json!("q3f16_1")), "quantization is Some(\"q3f16_1\"); read are q4f16_0"),
        (changed(|c| c["model_type"] = json!("rwkv5")), "model_type is \"rwkv5\"; of MLC's folders read are llama"),
        (changed(|c| c["model_config"] = json!([])), "model_config is missing or no object"),
        (
            changed(|c| c["model_config"]["num_key_value_heads"] = json!(6)),
            "qkv_proj: has 160 rows; the model's sizes make it 288",
        ),
        (
            list(|l| first(l)["name"] = json!("param_0")),
            "ndarray-cache.json: numbers its tensors instead of naming them",
        ),
        (list(|l| first(l)["name"] = json!("a.q_weight")), "ndarray-cache.json: tensor a.q_scale: is missing"),
        (list(|l| first(l)["dtype"] = json!("int8")), "its dtype is \"int8\"; read are uint32"),
        (list(|l| first(l)["nbytes"] = json!(3)), "its 3 bytes are not the 5120 of its shape"),
        (list(|l| first(l)["shape"] = json!([160, -1])), "its shape is no list of numbers"),
        (list(|l| first(l)["byteOffset"] = json!(u64::MAX)), "its place is beyond any file"),
        (list(|l| first(l)["byteOffset"] = json!(1_000_000)), "the file is cut short"),
        (list(|l| l["records"][0]["dataPath"] = json!("../x")), "records.dataPath is \"../x\", no plain file name"),
        (list(|l| l["records"][0]["dataPath"] = json!("x.bin")), "x.bin: no such file"),
        (list(|l| l["records"] = json!([])), "records lists no tensors"),
        (
            list(|l| {
                first(l)["shape"] = json!([320, 4]);
            }),
            "self_attn.qkv_proj: has 320 rows; the model's sizes make it 160",
        ),
        (error(short), "params_shard_0.bin: tensor model.layers.0.self_attn.qkv_proj.q_scale: its data ends at byte"),
        (error(absent), "holds mlc-chat-config.json and no list of tensors (ndarray-cache.json or tensor-cache.json)"),
    ] {
        assert!(error.contains(says), "{error}\nshould say {says}");
    }
}
