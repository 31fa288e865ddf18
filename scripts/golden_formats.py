#!/usr/bin/env python3
"""Makes the golden data of kernels/tests/format*.rs with the `gguf` package: weight formats and their float32 values.

    python3 -m venv VENV && VENV/bin/pip install gguf==0.19.0 numpy
    VENV/bin/python scripts/golden_formats.py

Writes one file per format to kernels/tests/data/formats (all little-endian):

    NAME.bin             blocks, then their values as float32 (gguf.quants.dequantize)
    to_NAME.bin          float32 values, then what the package makes of them in this format (gguf.quants.quantize)

It also writes kernels/src/format/books.bin, the code books of IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S and IQ1 as the
package packs them: two bits a value, or a nibble in IQ3.

Q8_K is not in the package; its values are `d * q`, from the published layout. Data are random with a fixed seed, and
then edges: scales that are zero, negative zero, denormal, negative, the largest, infinite and no number.
"""

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import IQ1_S, IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS, dequantize, quantize

KERNELS = Path(__file__).resolve().parent.parent / "kernels"
OUT = KERNELS / "tests" / "data" / "formats"

# Where the f16 scales of a block lie.
SCALES = {
    Type.Q8_0: [0],
    Type.Q4_0: [0],
    Type.Q4_1: [0, 2],
    Type.Q5_0: [0],
    Type.Q5_1: [0, 2],
    Type.IQ4_NL: [0],
    Type.Q2_K: [80, 82],
    Type.Q3_K: [108],
    Type.Q4_K: [0, 2],
    Type.Q5_K: [0, 2],
    Type.Q6_K: [208],
}
# Later additions: a generator of their own, so that the data of the others stay.
SCALES_2 = {
    Type.IQ4_XS: [0],
    Type.IQ3_S: [0],
    Type.IQ3_XXS: [0],
    Type.IQ2_S: [0],
    Type.IQ2_XS: [0],
    Type.IQ2_XXS: [0],
    Type.IQ1_S: [0],
    Type.TQ1_0: [52],
    Type.TQ2_0: [64],
}
F16_EDGES = [0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400, 0x7BFF, 0xFBFF, 0x7C00, 0x7E00]
F32_EDGES = [0x00000000, 0x80000000, 0x00000001, 0x807FFFFF, 0x00800000, 0x7F7FFFFF, 0xFF7FFFFF, 0x7F800000, 0x7FC00000]


def f16_bytes(bits):
    return np.frombuffer(np.uint16(bits).tobytes(), np.uint8)


def random_blocks(rng, kind, count):
    """Random bits with scales like those of weights, and then one block per edge and scale field."""
    length, size = GGML_QUANT_SIZES[kind]
    fields = (SCALES | SCALES_2)[kind]
    blocks = rng.integers(0, 256, (count + len(F16_EDGES) * len(fields), size), dtype=np.uint8)
    for block in blocks:
        for at in fields:
            block[at : at + 2] = f16_bytes(np.float16(rng.normal(0, 0.01)).view(np.uint16))
    edges = [(at, bits) for bits in F16_EDGES for at in fields]
    for block, (at, bits) in zip(blocks[count:], edges):
        block[at : at + 2] = f16_bytes(bits)
    return blocks


def q8_k(rng, count):
    blocks = rng.integers(0, 256, (count + len(F32_EDGES), 292), dtype=np.uint8)
    scales = rng.normal(0, 0.01, len(blocks)).astype(np.float32)
    scales[count:] = np.array(F32_EDGES, np.uint32).view(np.float32)
    blocks[:, :4] = scales.view(np.uint8).reshape(-1, 4)
    return blocks, scales[:, None] * blocks[:, 4:260].view(np.int8).astype(np.float32)


def iq1_m(rng, count):
    """The f16 scale lies in the top nibbles of the last four u16."""
    blocks = rng.integers(0, 256, (count + len(F16_EDGES), 56), dtype=np.uint8)
    scales = rng.normal(0, 0.01, count).astype(np.float16).view(np.uint16).tolist() + F16_EDGES
    for block, bits in zip(blocks, scales):
        for i in range(4):
            block[49 + 2 * i] = block[49 + 2 * i] & 15 | (bits >> 4 * i & 15) << 4
    return blocks


def mxfp4(rng, count):
    edges = [0, 1, 2, 3, 103, 104, 127, 143, 144, 252, 253, 254, 255]
    blocks = rng.integers(0, 256, (count + len(edges), 17), dtype=np.uint8)
    blocks[:, 0] = np.concatenate([rng.integers(112, 128, count), edges])
    return blocks


def write(name, *arrays):
    data = b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)
    (OUT / f"{name}.bin").write_bytes(data)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(20240901)
    with np.errstate(all="ignore"):
        for kind in SCALES:
            count = 6 if GGML_QUANT_SIZES[kind][0] == 32 else 2
            blocks = random_blocks(rng, kind, count)
            write(kind.name.lower(), blocks, dequantize(blocks, kind).astype("<f4"))
        write("q8_k", *q8_k(rng, 2))

        later = np.random.default_rng(20261121)
        for kind in SCALES_2:
            blocks = random_blocks(later, kind, 2)
            write(kind.name.lower(), blocks, dequantize(blocks, kind).astype("<f4"))
        for kind, blocks in (Type.IQ1_M, iq1_m(later, 2)), (Type.MXFP4, mxfp4(later, 6)):
            write(kind.name.lower(), blocks, dequantize(blocks, kind).astype("<f4"))
        books = [bytes.fromhex(kind.grid_hex.decode()) for kind in (IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S, IQ1_S)]
        (KERNELS / "src" / "format" / "books.bin").write_bytes(b"".join(books))

        bits = np.concatenate([rng.integers(0, 1 << 16, 256), F16_EDGES]).astype(np.uint16)
        write("f16", bits, bits.view(np.float16).astype("<f4"))
        write("bf16", bits, dequantize(bits.view(np.uint8).reshape(1, -1), Type.BF16).astype("<f4"))

        # Any bits, numbers in the range of f16 and its denormals, and ties of both formats.
        exact = rng.integers(0, 0x7BFF, 128).astype(np.uint16)
        ties = (exact.view(np.float16).astype(np.float64) + (exact + 1).astype(np.uint16).view(np.float16)) / 2
        values = np.concatenate([
            rng.integers(0, 1 << 32, 256, dtype=np.uint32).view(np.float32),
            rng.normal(0, 1, 128).astype(np.float32) * np.float32(2.0) ** rng.integers(-28, 16, 128),
            ties.astype(np.float32),
            (rng.integers(0, 0x7F80, 128, dtype=np.uint32) << 16 | 0x8000).view(np.float32),
            np.array(F32_EDGES + [0x477FF000, 0x477FEFFF, 0x7F7F8000, 0x7F7F7FFF], np.uint32).view(np.float32),
        ]).astype("<f4")
        write("to_f16", values, quantize(values, Type.F16))
        write("to_bf16", values, quantize(values.reshape(1, -1), Type.BF16))

    # Weights: normal, of several sizes; some with a heavy tail, some with an offset, one block constant, one zero.
    values = rng.normal(0, 1, (24, 32)) * 2.0 ** rng.integers(-10, 3, (24, 1))
    values[8:14] *= np.abs(rng.standard_t(3, (6, 32)))
    values[14:20] += rng.normal(0, 1, (6, 1))
    values[20] = 0.37
    values[21] = 0
    values = values.astype("<f4")
    for kind in (Type.Q8_0, Type.Q4_0, Type.Q4_1):
        write(f"to_{kind.name.lower()}", values, quantize(values, kind))


if __name__ == "__main__":
    main()
