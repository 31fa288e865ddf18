"""Writes one set of weights as a Hugging Face folder and as a GGUF file."""

import json
import math

import gguf
import numpy as np
import torch
from safetensors.torch import save_file

from . import tokenizer

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
FILE_TYPES = {"f32": "ALL_F32", "bf16": "MOSTLY_BF16", "f16": "MOSTLY_F16"}
GGUF_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}


def heads_of(config):
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    return heads, config.get("num_key_value_heads", heads), head_dim


def random_weights(config, seed):
    """Large enough that attention is uneven and every part of a layer moves the logits."""
    rng = np.random.default_rng(seed)
    dim, hidden = config["hidden_size"], config["intermediate_size"]
    heads, kv_heads, head_dim = heads_of(config)
    weights = {}

    def matrix(name, rows, cols, gain, bias):
        weights[name + ".weight"] = rng.standard_normal((rows, cols)) * gain / math.sqrt(cols)
        if bias:
            weights[name + ".bias"] = rng.standard_normal(rows) * 0.3

    def norm(name):
        weights[name + ".weight"] = 1.0 + 0.2 * rng.standard_normal(dim)

    attention_bias, mlp_bias = config.get("attention_bias"), config.get("mlp_bias")
    matrix("model.embed_tokens", config["vocab_size"], dim, 0.4 * math.sqrt(dim), False)
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        norm(layer + "input_layernorm")
        matrix(layer + "self_attn.q_proj", heads * head_dim, dim, 1.5, attention_bias)
        matrix(layer + "self_attn.k_proj", kv_heads * head_dim, dim, 1.5, attention_bias)
        matrix(layer + "self_attn.v_proj", kv_heads * head_dim, dim, 1.0, attention_bias)
        matrix(layer + "self_attn.o_proj", dim, heads * head_dim, 1.0, attention_bias)
        norm(layer + "post_attention_layernorm")
        matrix(layer + "mlp.gate_proj", hidden, dim, 1.0, mlp_bias)
        matrix(layer + "mlp.up_proj", hidden, dim, 1.0, mlp_bias)
        matrix(layer + "mlp.down_proj", dim, hidden, 1.5, mlp_bias)
    norm("model.norm")
    if not config["tie_word_embeddings"]:
        matrix("lm_head", config["vocab_size"], dim, 2.0, False)
    return {name: torch.from_numpy(w.astype(np.float32)) for name, w in weights.items()}


def gguf_name(name):
    stem, kind = name.rsplit(".", 1)
    if stem.startswith("model.layers."):
        index, part = stem[len("model.layers.") :].split(".", 1)
        return f"blk.{index}.{GGUF_NAMES[part]}.{kind}"
    return f"{GGUF_NAMES[stem]}.{kind}"


def permute(rows, heads):
    """Rotary halves become adjacent pairs, as GGUF files of this architecture store query and key rows."""
    half = rows.shape[0] // heads // 2
    return rows.reshape(heads, 2, half, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def quantize(weights, types):
    """Replaces each matrix that `types` names by the values its GGUF blocks stand for; returns the blocks too."""
    blocks = {}
    for name, w in weights.items():
        wanted = types.get(gguf_name(name).split(".")[-2]) if w.dim() == 2 else None
        if wanted:
            qtype = gguf.GGMLQuantizationType[wanted]
            blocks[name] = (gguf.quants.quantize(w.numpy(), qtype), qtype)
            weights[name] = torch.from_numpy(gguf.quants.dequantize(blocks[name][0], qtype).astype(np.float32))
    return blocks


def write_hf(folder, variant, weights):
    config = variant["config"]
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    generation = {"bos_token_id": config["bos_token_id"], "eos_token_id": config["eos_token_id"]}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=1) + "\n")
    tokenizer.write_hf(folder)
    kind = DTYPES[variant["storage"]]
    tensors = {name: (w if w.dtype == torch.uint8 else w.to(kind)).contiguous() for name, w in weights.items()}
    if variant["extra"]:
        _, _, head_dim = heads_of(config)
        inv_freq = 1.0 / (10000.0 ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim))
        for i in range(config["num_hidden_layers"]):
            tensors[f"model.layers.{i}.self_attn.rotary_emb.inv_freq"] = inv_freq.clone()
    metadata = {"format": "pt"}
    if variant["shards"] == 1:
        save_file(tensors, folder / "model.safetensors", metadata)
        return
    files = {}
    count = variant["shards"]
    for i, name in enumerate(tensors):
        files[name] = f"model-{i * count // len(tensors) + 1:05}-of-{count:05}.safetensors"
    for file in sorted(set(files.values())):
        save_file({n: w for n, w in tensors.items() if files[n] == file}, folder / file, metadata)
    total = sum(w.numel() * w.element_size() for w in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")


def llama3_factors(rope, head_dim):
    """The divisors llama.cpp's converter stores in rope_freqs.weight for rope_type llama3."""
    factors = []
    low = rope["original_max_position_embeddings"] / rope["low_freq_factor"]
    high = rope["original_max_position_embeddings"] / rope["high_freq_factor"]
    for i in range(0, head_dim, 2):
        wavelength = 2 * math.pi * rope["rope_theta"] ** (i / head_dim)
        if wavelength < high:
            factors.append(1.0)
        elif wavelength > low:
            factors.append(rope["factor"])
        else:
            ratio = rope["original_max_position_embeddings"] / wavelength
            smooth = (ratio - rope["low_freq_factor"]) / (rope["high_freq_factor"] - rope["low_freq_factor"])
            factors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(factors, dtype=np.float32)


def write_gguf(path, variant, weights, blocks):
    config = variant["config"]
    heads, kv_heads, head_dim = heads_of(config)
    rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    rope.setdefault("rope_theta", config.get("rope_theta", 10000.0))
    scaling = rope.get("rope_type", rope.get("type"))

    w = gguf.GGUFWriter(path, "llama")
    w.add_type(gguf.GGUFType.MODEL)
    w.add_name(path.parent.name)
    w.add_block_count(config["num_hidden_layers"])
    w.add_context_length(config["max_position_embeddings"])
    w.add_embedding_length(config["hidden_size"])
    w.add_feed_forward_length(config["intermediate_size"])
    w.add_head_count(heads)
    if "num_key_value_heads" in config:
        w.add_head_count_kv(kv_heads)
    if scaling == "linear":
        w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        w.add_rope_scaling_factor(rope["factor"])
    if "rope_theta" in config or "rope_parameters" in config:
        w.add_rope_freq_base(rope["rope_theta"])
    w.add_layer_norm_rms_eps(config["rms_norm_eps"])
    if "head_dim" in config:
        w.add_key_length(head_dim)
        w.add_value_length(head_dim)
    if config.get("sliding_window"):
        w.add_sliding_window(config["sliding_window"])
    w.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_1 if blocks else gguf.LlamaFileType[FILE_TYPES[variant["storage"]]])
    w.add_vocab_size(config["vocab_size"])
    w.add_rope_dimension_count(head_dim)
    tokenizer.add_to_gguf(w, config["vocab_size"])
    w.add_quantization_version(gguf.GGML_QUANT_VERSION)

    if scaling == "llama3":
        w.add_tensor("rope_freqs.weight", llama3_factors(rope, head_dim))
    for name, tensor in weights.items():
        if name in blocks:
            data, qtype = blocks[name]
        elif tensor.dim() == 1 or variant["storage"] == "f32":
            data, qtype = tensor.numpy(), gguf.GGMLQuantizationType.F32
        else:
            qtype = gguf.GGMLQuantizationType[variant["storage"].upper()]
            data = gguf.quants.quantize(tensor.numpy(), qtype)
        if ".q_proj." in name:
            data = permute(data, heads)
        elif ".k_proj." in name:
            data = permute(data, kv_heads)
        w.add_tensor(gguf_name(name), np.ascontiguousarray(data), raw_dtype=qtype)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
