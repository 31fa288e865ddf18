#!/usr/bin/env python3
"""Makes the golden data of models/tests/checkpoint_torch.rs with PyTorch: files of tensors, and what they hold.

    python3 -m venv VENV && VENV/bin/pip install torch==2.15.0 numpy
    VENV/bin/python scripts/golden_torch.py

Writes to models/tests/goldens/torch: tensors.bin with tensors.json (their values), and files that are to be refused.
"""

import json
import os
from collections import OrderedDict
from pathlib import Path

import torch

OUT = Path(__file__).resolve().parent.parent / "models" / "tests" / "goldens" / "torch"


class Evil:
    def __reduce__(self):
        return os.system, ("true",)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(20261121)
    pool = torch.randn(4, 3)
    tensors = OrderedDict(
        f32=torch.randn(3, 5),
        f16=torch.randn(2, 4).half(),
        bf16=torch.randn(7).bfloat16(),
        shared=pool,
        rows=pool[1:3],
        single=pool.t()[:, :1].contiguous().t(),
        parameter=torch.nn.Parameter(torch.randn(2, 2)),
    )
    state = torch.nn.Linear(2, 2).state_dict()
    state.clear()
    state.update(tensors)
    torch.save(state, OUT / "tensors.bin")
    expected = {
        name: {"dims": list(t.shape), "values": t.detach().float().flatten().tolist()} for name, t in tensors.items()
    }
    (OUT / "tensors.json").write_text(json.dumps(expected, indent=0) + "\n")
    torch.save({"w": torch.randn(3, 2).t()}, OUT / "transposed.bin")
    torch.save({"ids": torch.arange(3)}, OUT / "int64.bin")
    torch.save({"epoch": 3}, OUT / "number.bin")
    torch.save({"w": Evil()}, OUT / "code.bin")
    torch.save({"w": torch.ones(2)}, OUT / "old.bin", _use_new_zipfile_serialization=False)


if __name__ == "__main__":
    main()
