"""Frequencies and factors of rope as transformers makes them, for every scaling: rope.json."""

import torch
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from .compact import dump

SIZES = {"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 4096, "rope_theta": 1e4}
SHORT, LONG = [1.0 + 0.1 * i for i in range(8)], [1.0 + 3.0 * i for i in range(8)]
YARN = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 512}
LONGROPE = {"rope_type": "longrope", "short_factor": SHORT, "long_factor": LONG}

# Name: rope_scaling, the context it is to be chosen for, other keys.
CASES = {
    "linear": ({"rope_type": "linear", "factor": 2.5}, 4096, {}),
    "llama3": (
        {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 512},
        4096,
        {"rope_theta": 5e5},
    ),
    "dynamic within": ({"rope_type": "dynamic", "factor": 4.0}, 4096, {}),
    "dynamic beyond": ({"rope_type": "dynamic", "factor": 4.0}, 10000, {}),
    "yarn": (YARN, 4096, {}),
    "yarn wider": ({**YARN, "beta_fast": 8.0, "beta_slow": 0.25}, 4096, {"rope_theta": 1e6}),
    "yarn between indices": ({**YARN, "truncate": False}, 4096, {}),
    "yarn, attention_factor": ({**YARN, "attention_factor": 1.5}, 4096, {}),
    "yarn, mscale": ({**YARN, "mscale": 0.7, "mscale_all_dim": 1.3}, 4096, {}),
    "longrope short": ({**LONGROPE, "original_max_position_embeddings": 512}, 512, {}),
    "longrope long": ({**LONGROPE, "original_max_position_embeddings": 512}, 513, {}),
    "longrope, factor": ({**LONGROPE, "original_max_position_embeddings": 512, "factor": 32.0}, 4096, {}),
    "longrope, attention_factor": ({**LONGROPE, "original_max_position_embeddings": 512, "attention_factor": 1.25}, 4096, {}),
    "longrope, original outside": (LONGROPE, 4096, {"original_max_position_embeddings": 1024}),
    "a part": ({"rope_type": "linear", "factor": 2.0}, 4096, {"partial_rotary_factor": 0.4}),
}


def write(out):
    cases = []
    for name, (scaling, context, more) in CASES.items():
        config = {**SIZES, **more, "rope_scaling": scaling}
        kind = transformers.PhiConfig if "partial_rotary_factor" in more else transformers.LlamaConfig
        if "original_max_position_embeddings" in more:
            kind = transformers.Phi3Config
        options = {key: value for key, value in config.items() if key != "model_type"}
        made = kind(**options, **({"pad_token_id": 0} if kind is transformers.Phi3Config else {}))
        frequencies, attention = ROPE_INIT_FUNCTIONS[scaling["rope_type"]](made, torch.device("cpu"), seq_len=context)
        cases.append({
            "name": name,
            "config": config,
            "context": context,
            "frequencies": frequencies.tolist(),
            "attention": float(attention),
        })  # fmt: skip
    (out / "rope.json").write_text(dump({
        "made_by": f"scripts/golden.py rope: transformers {transformers.__version__}", "cases": cases,
    }))  # fmt: skip
