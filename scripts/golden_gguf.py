#!/usr/bin/env python3
"""Writes the small GGUF files of models/tests/goldens/gguf with the `gguf` package (pip install gguf; made with 0.19.0).

They are what the parser is tested against: every metadata type, every readable tensor type, another alignment. The values
that the tests expect stand beside each file as JSON, decoded by the same package.

    python scripts/golden_gguf.py models/tests/goldens/gguf
"""

import json
import sys
from pathlib import Path

import gguf
import numpy as np

READABLE = "F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q4_K Q6_K Q5_0 Q5_1 Q2_K Q3_K Q5_K Q8_K IQ4_NL".split()


def block_bytes(kind, rng, blocks):
    """Blocks of random quants. The shared formats are only moved by the parser, so their content is arbitrary."""
    return rng.integers(0, 256, size=blocks * gguf.GGML_QUANT_SIZES[kind][1], dtype=np.uint8)


def metadata(path):
    """Every type that a value can have."""
    w = gguf.GGUFWriter(path, "llama")
    w.add_uint8("t.u8", 200)
    w.add_int8("t.i8", -100)
    w.add_uint16("t.u16", 60000)
    w.add_int16("t.i16", -30000)
    w.add_uint32("t.u32", 4000000000)
    w.add_int32("t.i32", -2000000000)
    w.add_uint64("t.u64", 1 << 60)
    w.add_int64("t.i64", -(1 << 60))
    w.add_float32("t.f32", 0.1)
    w.add_float64("t.f64", 0.1)
    w.add_bool("t.yes", True)
    w.add_bool("t.no", False)
    w.add_string("t.text", "grüße 👋\n")
    w.add_array("t.ints", [1, -2, 3])
    w.add_array("t.floats", [0.5, -1.5])
    w.add_array("t.flags", [True, False, True])
    w.add_array("t.texts", ["a", "", "größer"])
    w.add_uint32("llama.block_count", 3)
    w.add_float32("llama.rope.freq_base", 500000.0)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def tensors(path, alignment):
    """One tensor of each type, and one of each number of dimensions."""
    rng = np.random.default_rng(7)
    w = gguf.GGUFWriter(path, "llama")
    if alignment != gguf.GGUF_DEFAULT_ALIGNMENT:
        w.add_custom_alignment(alignment)
    expected = {}
    for name in READABLE:
        kind = gguf.GGMLQuantizationType[name]
        block, size = gguf.GGML_QUANT_SIZES[kind]
        rows, cols = 3, max(block, 8)
        data = block_bytes(kind, rng, rows * cols // block)
        data = data.reshape(rows, cols // block * size)
        tensor = f"t.{name}"
        if name == "F32":
            w.add_tensor(tensor, data.view(np.float32))
        elif name == "F16":
            w.add_tensor(tensor, data.view(np.float16))
        else:
            w.add_tensor(tensor, data, raw_dtype=kind)
        expected[tensor] = {"format": name, "rows": rows, "cols": cols, "hex": data.tobytes().hex()}
    for dims in [(5,), (2, 3), (2, 3, 4), (2, 2, 3, 4)]:
        data = rng.standard_normal(dims).astype(np.float32)
        tensor = f"d.{len(dims)}"
        w.add_tensor(tensor, data)
        rows = int(np.prod(dims[:-1]))
        expected[tensor] = {"format": "F32", "rows": rows, "cols": dims[-1], "hex": data.tobytes().hex()}
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return expected


def check(path, expected):
    """The package's own reader sees the same."""
    found = {t.name: t for t in gguf.GGUFReader(path).tensors}
    assert found.keys() == expected.keys()
    for name, e in expected.items():
        assert found[name].tensor_type.name == e["format"]
        assert found[name].data.tobytes().hex() == e["hex"]


def main(folder):
    metadata(folder / "metadata.gguf")
    for name, alignment in [("tensors.gguf", 32), ("aligned64.gguf", 64)]:
        expected = tensors(folder / name, alignment)
        check(folder / name, expected)
        (folder / name).with_suffix(".json").write_text(json.dumps(expected, indent=0) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
