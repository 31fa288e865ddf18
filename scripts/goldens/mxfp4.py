"""Experts in MXFP4 as gpt-oss publishes them: blocks of 32 values that share a power of two, four bits each."""

import torch

# The exponents of each kind of matrix: what makes its values about as large as those of other tiny checkpoints.
EXPONENTS = {"gate_up_proj": (-4, -1), "down_proj": (-5, -2)}


def pack(weights, rng):
    """Replaces the experts' matrices by random blocks and scales: byte i of a block holds values 2 i and 2 i + 1."""
    out = {}
    for name, tensor in weights.items():
        exponents = EXPONENTS.get(name.rsplit(".", 1)[1]) if ".experts." in name else None
        if exponents is None:
            out[name] = tensor
            continue
        experts, inputs, outputs = tensor.shape
        blocks = rng.integers(0, 256, (experts, outputs, inputs // 32, 16), dtype="uint8")
        scales = (127 + rng.integers(*exponents, blocks.shape[:-1])).astype("uint8")
        out[f"{name}_blocks"], out[f"{name}_scales"] = torch.from_numpy(blocks), torch.from_numpy(scales)
    return out
