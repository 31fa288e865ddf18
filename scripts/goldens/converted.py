"""Checkpoints of any family: weights shaped as transformers wants them, GGUF files as llama.cpp's own converter writes them."""

import logging
import math
import shutil
import tempfile
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

from . import tokenizer

GAINS = {"gate": 2.0, "router": 2.0, "q_proj": 1.5, "k_proj": 1.5, "qkv_proj": 1.3, "down_proj": 1.5, "fc2": 1.5, "lm_head": 2.0}


def random_weights(config, seed):
    """Large enough that attention is uneven and every part of a layer moves the logits."""
    rng = np.random.default_rng(seed)
    options = {key: value for key, value in config.items() if key not in ("architectures", "torch_dtype", "dtype")}
    model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(**options))
    gemma = config["model_type"].startswith("gemma")
    weights = {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config["tie_word_embeddings"]:
            continue
        part, kind = name.split(".")[-2:]
        values = rng.standard_normal(tuple(tensor.shape))
        if kind.endswith("bias"):
            values *= 0.3
        elif kind == "sinks":
            values *= 2.0
        elif kind in ("gate_up_proj", "down_proj") and config["model_type"] == "gpt_oss":
            # Inputs by outputs; gates that are large enough to be cut.
            values *= (4.0 if kind == "gate_up_proj" else 1.5) / math.sqrt(tensor.shape[-2])
        elif tensor.dim() == 1:
            values = 0.2 * values + (0.0 if gemma else 1.0)
        elif part == "embed_tokens":
            values *= 0.15 if gemma else 0.4
        else:
            values *= GAINS.get(part, 1.0) / math.sqrt(tensor.shape[-1])
        weights[name] = torch.from_numpy(values.astype(np.float32))
    return weights


def one_by_one(weights, kind):
    """Experts as checkpoints had them before transformers 5: each matrix by itself, Mixtral's under names of their own."""
    gate, up, down = ("w1", "w3", "w2") if kind == "mixtral" else ("gate_proj", "up_proj", "down_proj")
    out = {}
    for name, tensor in weights.items():
        mlp = name.replace(".mlp.", ".block_sparse_moe.") if kind == "mixtral" else name
        stem = mlp.rsplit(".", 1)[0]
        if name.endswith(".experts.gate_up_proj"):
            for i, pair in enumerate(tensor):
                for part, half in zip((gate, up), pair.chunk(2)):
                    out[f"{stem}.{i}.{part}.weight"] = half.contiguous()
        elif name.endswith(".experts.down_proj"):
            out |= {f"{stem}.{i}.{down}.weight": matrix.contiguous() for i, matrix in enumerate(tensor)}
        else:
            out[mlp] = tensor
    return out


def write_gguf(path, variant, folder):
    with tempfile.TemporaryDirectory() as temporary:
        if variant["config"].get("qk_layernorm"):
            folder = stacked(folder, Path(temporary) / folder.name)
        convert(path, variant, folder)


def stacked(folder, copy):
    """A copy in which the norms of heads are one tensor: the converter means to stack them and loses them instead."""
    shutil.copytree(folder, copy)
    tensors = load_file(copy / "model.safetensors")
    heads = {}
    for name in [name for name in tensors if "_layernorm.norms." in name]:
        heads.setdefault(name.split(".norms.")[0] + ".weight", []).append((int(name.split(".")[-2]), tensors.pop(name)))
    for name, parts in heads.items():
        tensors[name] = torch.stack([part for _, part in sorted(parts, key=lambda part: part[0])])
    save_file(tensors, copy / "model.safetensors", {"format": "pt"})
    return copy


def convert(path, variant, folder):
    """Only the vocabulary is not read by the converter."""
    logging.disable(logging.INFO)
    from conversion import ModelBase, ModelType, get_model_architecture, get_model_class

    hparams = ModelBase.load_hparams(folder, False)
    kind = get_model_class(get_model_architecture(hparams, ModelType.TEXT))
    kind.set_vocab = lambda self: tokenizer.add_to_gguf(self.gguf_writer, variant["config"]["vocab_size"])
    types = {"f32": gguf.LlamaFileType.ALL_F32, "bf16": gguf.LlamaFileType.MOSTLY_BF16, "f16": gguf.LlamaFileType.MOSTLY_F16}
    with torch.inference_mode():
        kind(folder, types[variant["storage"]], path, eager=True, model_name=path.parent.name).write()
