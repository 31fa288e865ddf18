"""Folders as MLC writes them, by the formulas that its group quantization states: q = round(w / scale + 7) from 0 to 14 with
scale = max |w| / 7 of 32 inputs; eight quants in a word; q, k and v in one matrix, and gate and up."""

import json

import numpy as np
import torch

PHI2 = {
    "model.layers.": "transformer.h.", "model.embed_tokens": "transformer.embd", "model.final_layernorm": "lm_head.ln",
    "input_layernorm": "ln", "self_attn.dense": "mixer.out_proj", "self_attn.": "mixer.",
}  # fmt: skip
FUSED = {"q_proj": "qkv_proj", "k_proj": "qkv_proj", "v_proj": "qkv_proj", "gate_proj": "gate_up_proj", "up_proj": "gate_up_proj"}
SHARDS = 2


def write(folder, case, weights):
    """Returns the values of the quants, under Hugging Face's names."""
    config = case["config"]
    values, arrays, fused = {}, {}, {}
    for name, weight in weights.items():
        stem, kind = name.rsplit(".", 1)
        before, part = stem.rsplit(".", 1) if "." in stem else ("", stem)
        as_they_are = kind == "bias" or weight.dim() == 1
        read = weight if as_they_are else None
        if read is None:
            words, scales, read = quantize(weight.numpy())
        values[name] = read
        target = FUSED.get(part)
        if target == "qkv_proj" and config["model_type"] == "qwen2":
            target = "c_attn"
        into = f"{before}.{target}" if target else stem
        if config["model_type"] == "phi":
            into = into.replace("qkv_proj", "Wqkv")
            for hf, mlc in PHI2.items():
                into = into.replace(hf, mlc)
            into = "lm_head.linear" if into == "lm_head" else into
        if as_they_are and config["model_type"].startswith("gemma"):
            weight = (weight + 1).half()
            values[name] = weight.float() - 1
        pieces = {kind: weight.numpy().astype(np.float16)} if as_they_are else {"q_weight": words, "q_scale": scales}
        for piece, array in pieces.items():
            fused.setdefault(f"{into}.{piece}", []).append(array)
    for name, parts in fused.items():
        array = np.concatenate(parts)
        matrix = name.endswith(("q_weight", "q_scale"))
        if case["quantization"] == "q4f16_0" and matrix and not name.startswith(("model.embed_tokens", "transformer.embd")):
            array = array.T
        arrays[name] = np.ascontiguousarray(array)
    write_shards(folder, arrays)
    (folder / "mlc-chat-config.json").write_text(json.dumps(chat_config(case), indent=1) + "\n")
    return values


def quantize(weight):
    rows, cols = weight.shape
    groups = weight.astype(np.float16).reshape(rows, cols // 32, 32)
    scales = (np.abs(groups).max(-1) / np.float16(7)).astype(np.float16)
    quants = np.clip(np.round(groups / scales[..., None] + np.float16(7)), 0, 14).astype(np.uint32)
    read = (quants.astype(np.float32) - 7) * scales.astype(np.float32)[..., None]
    shifts = np.arange(0, 32, 4, dtype=np.uint32)
    words = (quants.reshape(rows, cols // 8, 8) << shifts).sum(-1, dtype=np.uint32)
    return words, scales, torch.from_numpy(read.reshape(rows, cols).astype(np.float32))


def write_shards(folder, arrays):
    records, names = [], list(arrays)
    for shard in range(SHARDS):
        data, inner = b"", []
        for name in names[shard::SHARDS]:
            array = arrays[name]
            inner.append({
                "name": name, "shape": list(array.shape), "dtype": str(array.dtype), "format": "f32-to-bf16",
                "nbytes": array.nbytes, "byteOffset": len(data),
            })  # fmt: skip
            data += array.tobytes()
        path = f"params_shard_{shard}.bin"
        (folder / path).write_bytes(data)
        records.append({"dataPath": path, "format": "raw-shard", "nbytes": len(data), "records": inner})
    cache = {"metadata": {"ParamSize": len(names)}, "records": records}
    (folder / "ndarray-cache.json").write_text(json.dumps(cache, indent=1) + "\n")


def chat_config(case):
    config = case["config"]
    keys = ["hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "vocab_size", "num_key_value_heads"]
    model = {key: config[key] for key in keys}
    own = [
        "rms_norm_eps", "tie_word_embeddings", "layer_norm_eps", "partial_rotary_factor", "use_qkv_bias", "hidden_activation",
        "attn_logit_softcapping", "final_logit_softcapping", "query_pre_attn_scalar", "sliding_window", "attention_bias",
    ]  # fmt: skip
    model |= {key: config[key] for key in own if key in config and (key != "tie_word_embeddings" or config["model_type"] in ("llama", "qwen2"))}
    if config["model_type"] == "llama":
        model |= {"position_embedding_base": config["rope_theta"], "rope_scaling": None}
    else:
        model |= {"rope_theta": config["rope_theta"], "hidden_act": config.get("hidden_act", "gelu")}
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    if case.get("first_phi"):
        model = {
            "model_type": "phi-msft", "vocab_size": config["vocab_size"], "n_positions": config["max_position_embeddings"],
            "n_embd": config["hidden_size"], "n_layer": config["num_hidden_layers"], "n_inner": config["intermediate_size"],
            "n_head": config["num_attention_heads"], "n_head_kv": 0, "position_embedding_base": config["rope_theta"],
            "rotary_dim": int(config["partial_rotary_factor"] * head_dim), "layer_norm_epsilon": config["layer_norm_eps"],
        }  # fmt: skip
    model |= {"context_window_size": config["max_position_embeddings"], "prefill_chunk_size": 512, "head_dim": head_dim}
    return {
        "version": "0.1.0",
        "model_type": "phi-msft" if case.get("first_phi") else config["model_type"],
        "quantization": case["quantization"],
        "model_config": model | {"tensor_parallel_shards": 1, "max_batch_size": 1},
        "vocab_size": config["vocab_size"],
        "context_window_size": config["max_position_embeddings"],
        "sliding_window_size": -1,
        "attention_sink_size": -1,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "tokenizer_files": ["tokenizer.json", "tokenizer_config.json"],
        "conv_template": {"name": "chatml", "stop_token_ids": [2]},
    }
