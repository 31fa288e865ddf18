"""Tiny checkpoints with quantized weights, packed by the tools' own code, and what transformers computes from the values
that the same code reads from them: expected.json beside each."""

import importlib
import importlib.util
import json
import shutil
import sys
import tempfile
import types

import numpy as np
import torch
import transformers
from safetensors.torch import save_file

from . import converted, mlc, tiny
from .compact import dump
from .families import FAMILIES
from .variants import BASE

VOCAB = 64
LENGTHS = [1, 33, 100]
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "vocab_size": VOCAB,
    "tie_word_embeddings": True,
    "max_position_embeddings": 512,
}
LLAMA = {**BASE, **SIZES}
WIDE = {**LLAMA, "hidden_size": 128, "intermediate_size": 128, "num_hidden_layers": 1}
QWEN2 = {
    **{key: LLAMA[key] for key in SIZES},
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "use_sliding_window": False,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
QWEN3_MOE = {
    **QWEN2,
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "head_dim": 16,
    "attention_bias": False,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "norm_topk_prob": True,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "num_hidden_layers": 1,
}


def case(method, about, config, bits=4, group=32, symmetric=False, order=None, **options):
    """order: None, "layer" (one for the matrices that read the same) or "own" (another for v in the last layer)."""
    return {
        "method": method, "about": about, "config": config, "bits": bits, "group": group, "symmetric": symmetric,
        "order": order, **options,
    }  # fmt: skip


CASES = {
    "awq": case("awq", "AWQ with zero points, groups of 32", LLAMA),
    "awq-symmetric": case("awq", "AWQ without zero points, groups of 64", {**QWEN2, "intermediate_size": 128}, group=64, symmetric=True),
    "awq-128": case("awq", "AWQ with zero points, groups of 128", WIDE, group=128),
    "awq-experts": case("awq", "AWQ of experts", QWEN3_MOE),
    "gptq": case("gptq", "GPTQ v1, symmetric; biases of zeros where the model has none", QWEN2, symmetric=True, zero_biases=True),
    "gptq-order": case("gptq", "GPTQ v1 with zero points, inputs by importance", LLAMA, order="own"),
    "gptq-8": case("gptq", "GPTQ v1 of 8 bits, one group in each row, scales and zero points", QWEN2, bits=8, group=-1),
    "gptq-v2": case("gptq_v2", "GPTQ v2 with zero points, groups of 32, 8 bits, by importance", LLAMA, bits=8, order="layer"),
    "gptq-experts": case("gptq_v2", "GPTQ v2 of experts, each with its inputs in an order of its own", QWEN3_MOE, order="layer"),
    "compressed": case("compressed", "compressed-tensors W4A16, symmetric, groups of 64, bfloat16 scales", WIDE, group=64, symmetric=True, scales=torch.bfloat16),
    "compressed-asymmetric": case("compressed", "compressed-tensors W4A16 with zero points", LLAMA),
    "compressed-order": case("compressed", "compressed-tensors W4A16, inputs by importance", QWEN2, order="layer"),
    "compressed-8": case("compressed", "compressed-tensors W8A16, a scale for each output", LLAMA, bits=8, group=-1, symmetric=True),
    "mlc-0": case("mlc", "MLC q4f16_0, transposed", LLAMA | {"tie_word_embeddings": False}, quantization="q4f16_0"),
    "mlc-1": case("mlc", "MLC q4f16_1, biases, a tied head", QWEN2, quantization="q4f16_1"),
}


TOOLS = {
    "awq": "AutoAWQ 0.2.9",
    "gptq": "AutoGPTQ 0.7.1",
    "gptq_v2": "GPTQModel 2.2.0",
    "compressed": "compressed-tensors 0.12.2",
    "mlc": "the formulas that MLC states",
}


def of_family(method, name, **options):
    """A family's tiny checkpoint with widths that the tools take: multiples of 32."""
    config = {**FAMILIES[name]["config"], "vocab_size": VOCAB, "num_key_value_heads": 2}
    wider = {"moe_intermediate_size": 32, "shared_expert_intermediate_size": 64}
    if config["model_type"] != "phi3" and not config.get("head_dim"):
        wider["hidden_size"] = 64
    config |= {key: width for key, width in wider.items() if key in config}
    return case(method, f"{TOOLS[method]}: {FAMILIES[name]['about']}", config, **options)


CASES |= {
    f"{method.partition('_')[0]}-{name}": of_family(method, name, **options)
    for method, names, options in [
        ("awq", ["qwen3", "gemma", "phi3", "mixtral", "granite"], {}),
        ("gptq", ["gemma2", "phi2", "qwen2-moe", "smollm3"], {"symmetric": True}),
        ("gptq_v2", ["ministral", "stablelm", "olmo2"], {"order": "layer"}),
        ("mlc", ["gemma", "gemma2", "stablelm", "phi2"], {"quantization": "q4f16_1"}),
        ("compressed", ["gemma3", "olmoe", "stablelm-12b", "phi3-long"], {"symmetric": True}),
    ]
    for name in names
}


CASES["mlc-first-phi2"] = {**CASES["mlc-phi2"], "about": "MLC: the words of the first files of Phi-2", "first_phi": True}
CASES["mlc-first-phi2"]["config"] = {**CASES["mlc-phi2"]["config"], "num_key_value_heads": 4}


def bare(package):
    """Lets the modules of an installed package be imported without what its __init__ asks for."""
    module = types.ModuleType(package)
    module.__path__ = list(importlib.util.find_spec(package).submodule_search_locations)
    sys.modules[package] = module


def write_all(out, names):
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    for package in ["awq", "awq.modules", "awq.modules.linear", "auto_gptq", "auto_gptq.nn_modules", "auto_gptq.nn_modules.qlinear"]:
        bare(package)
    for package in ["gptqmodel", "gptqmodel.models", "gptqmodel.nn_modules", "gptqmodel.utils"]:
        bare(package)
    sys.modules["gptqmodel.utils"].BACKEND = importlib.import_module("gptqmodel.utils.backend").BACKEND
    for name in names or CASES:
        for seed in range(100):
            if write(out / name, name, CASES[name], seed):
                break
        else:
            raise SystemExit(f"{name}: no seed gives clear argmaxes")


def write(folder, name, case, seed):
    config = case["config"]
    weights = converted.random_weights(config, [seed, *name.encode()])
    if any(".experts." in name for name in weights):
        weights = converted.one_by_one(weights, config["model_type"])
    # What is not quantized is stored in float16.
    weights = {n: w.half().float() for n, w in weights.items()}
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rng = np.random.default_rng([seed, 2])
    if case["method"] == "mlc":
        values = mlc.write(folder, case, weights)
    else:
        values = write_folder(folder, case, weights, rng)
    with tempfile.TemporaryDirectory() as temporary:
        save_file(values, f"{temporary}/model.safetensors", {"format": "pt"})
        with open(f"{temporary}/config.json", "w") as file:
            json.dump({**config, "torch_dtype": "float32"}, file)
        model = tiny.load(temporary)
    rng = np.random.default_rng([seed, 1])
    cases = []
    for length in LENGTHS:
        case_of, gap = tiny.run(model, rng.integers(3, VOCAB, length).tolist())
        if gap < tiny.GAP:
            return False
        cases.append(case_of)
    # MLC stores factors of norms where Gemma's are one less.
    plus = lambda name, values: case["method"] == "mlc" and config["model_type"].startswith("gemma") and values.dim() == 1
    expected = {
        "about": case["about"],
        "made_by": f"scripts/golden_packed.py {name}: transformers {transformers.__version__}, torch "
        f"{torch.__version__.split('+')[0]}, float32, weights from seed {seed}, packed and read by {TOOLS[case['method']]}",
        "fields": "tensors: rows, columns and the sum over i of (2 i + 1) times the bits of value i as float32, modulo 2 to "
        "the 64; cases: as in the tiny checkpoints",
        "tensors": {n: [*np.atleast_2d(v.numpy()).shape, digest(v + 1 if plus(n, v) else v)] for n, v in sorted(values.items())},
        "cases": cases,
    }
    (folder / "expected.json").write_text(dump(expected))
    for file in folder.iterdir():
        file.chmod(0o644)
    size = sum(f.stat().st_size for f in folder.iterdir())
    print(f"{name:22} seed {seed}  {size // 1024} KiB  std {cases[-1]['logits_std']:.2f}")
    return True


def digest(values):
    bits = np.ascontiguousarray(values.float().numpy()).reshape(-1).view(np.uint32).astype(np.uint64)
    weights = 2 * np.arange(len(bits), dtype=np.uint64) + np.uint64(1)
    return str(int((bits * weights).sum(dtype=np.uint64)))


def is_quantized(name, weights):
    router = name.endswith((".gate.weight", "_gate.weight"))
    return ".layers." in name and name.endswith(".weight") and weights[name].dim() == 2 and not router


def write_folder(folder, case, weights, rng):
    """Returns the values that the tool itself reads from what it packed."""
    values, tensors, orders = {}, {}, {}
    pack = {"awq": pack_awq, "gptq": pack_gptq, "gptq_v2": pack_gptq_v2, "compressed": pack_compressed}[case["method"]]
    for name, weight in weights.items():
        if not is_quantized(name, weights):
            values[name], tensors[name] = weight, weight.half()
            continue
        stem = name.removesuffix(".weight")
        groups = groups_of(case, stem, weight.shape[1], orders, rng)
        scales, zeros = grid(case, weight, groups)
        pieces, read = pack(case, weight, scales, zeros, groups)
        values[name] = read.float().contiguous()
        assert (values[name] - weight).abs().max() <= 1.01 * scales.float().max(), name
        tensors |= {f"{stem}.{piece}": tensor.contiguous() for piece, tensor in pieces.items()}
        if case.get("zero_biases") and f"{stem}.bias" not in weights:
            values[f"{stem}.bias"] = torch.zeros(weight.shape[0])
            tensors[f"{stem}.bias"] = values[f"{stem}.bias"].half()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    config = case["config"] | {"torch_dtype": "float16", "quantization_config": settings(case)}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    return values


def groups_of(case, stem, inputs, orders, rng):
    """The group of each input."""
    group = inputs if case["group"] == -1 else case["group"]
    plain = torch.arange(inputs) // group
    if not case["order"]:
        return plain.int()
    layer, part = stem.rsplit(".", 1)
    together = {"q_proj": "qkv", "k_proj": "qkv", "v_proj": "qkv", "gate_proj": "up", "up_proj": "up"}
    key = layer + together.get(part, part)
    if case["order"] == "own" and part == "v_proj" and f".{case['config']['num_hidden_layers'] - 1}." in stem:
        key = stem
    if key not in orders:
        orders[key] = plain[torch.from_numpy(rng.permutation(inputs))]
    return orders[key].int()


def grid(case, weight, groups):
    """Scales and zero points as the tools choose them: from the least and the largest value of each group."""
    count, most = int(groups.max()) + 1, 2 ** case["bits"] - 1
    scales, zeros = [], []
    for group in range(count):
        values = weight[:, groups == group]
        low, high = values.amin(1).clamp(max=0), values.amax(1).clamp(min=0)
        if case["symmetric"]:
            scale = torch.maximum(high, -low) / ((most - 1) / 2)
            zero = torch.full_like(scale, (most + 1) / 2)
        else:
            scale = (high - low) / most
            zero = torch.round(-low / scale)
        scales.append(scale)
        zeros.append(zero)
    scales = torch.stack(scales, 1).to(case.get("scales", torch.float16))
    zeros = torch.stack(zeros, 1)
    if not case["symmetric"] and case["method"] == "gptq":
        zeros = zeros.clamp(min=1)  # The first version cannot say 0.
    return scales, zeros


def linear(weight):
    out = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    out.weight.data = weight.clone()
    return out


def clipped(case, weight, scales, zeros, groups):
    """The tools round to the grid without a look at its ends: values beyond them are brought to them first."""
    index = groups.long()
    scale, zero = scales.float()[:, index], zeros[:, index]
    quants = torch.round(weight / scale + zero).clamp(0, 2 ** case["bits"] - 1)
    return (quants - zero) * scale


def pack_awq(case, weight, scales, zeros, groups):
    from awq.modules.linear.gemm import WQLinear_GEMM
    from awq.utils.packing_utils import dequantize_gemm

    group = case["group"]
    inside = clipped(case, weight, scales, zeros, groups)
    module = WQLinear_GEMM.from_linear(linear(inside), 4, group, scales=scales.t().contiguous().float(), zeros=zeros.t().contiguous())
    pieces = {"qweight": module.qweight, "qzeros": module.qzeros, "scales": module.scales}
    return pieces, dequantize_gemm(module.qweight, module.qzeros, module.scales.float(), 4, group).t()


def pack_gptq(case, weight, scales, zeros, groups):
    from auto_gptq.nn_modules.qlinear.qlinear_cuda import QuantLinear

    rows, cols = weight.shape
    module = QuantLinear(case["bits"], case["group"], cols, rows, False, weight_dtype=torch.float32)
    inside = clipped(case, weight, scales, zeros, groups)
    module.pack(linear(inside), scales.float(), zeros.clone(), groups)
    pieces = {"qweight": module.qweight, "qzeros": module.qzeros, "scales": module.scales.half(), "g_idx": module.g_idx}
    # With one input at a time, the products are the weights.
    return pieces, module(torch.eye(cols)).t()


def pack_gptq_v2(case, weight, scales, zeros, groups):
    from gptqmodel.nn_modules.qlinear.torch import TorchQuantLinear

    rows, cols = weight.shape
    module = TorchQuantLinear(case["bits"], case["group"], case["symmetric"], bool(case["order"]), cols, rows, False)
    inside = clipped(case, weight, scales, zeros, groups)
    module.pack(linear(inside), scales.float(), zeros.clone(), groups)
    pieces = {"qweight": module.qweight, "qzeros": module.qzeros, "scales": module.scales, "g_idx": module.g_idx}
    pieces = {name: tensor.clone() for name, tensor in pieces.items()}
    module.scales, module.optimized = module.scales.float(), True  # Nothing is to be compiled.
    module.post_init()
    return pieces, module.dequantize_weight().t()


def scheme(case):
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    weights = QuantizationArgs(
        num_bits=case["bits"],
        type="int",
        symmetric=case["symmetric"],
        strategy="channel" if case["group"] == -1 else "group",
        group_size=None if case["group"] == -1 else case["group"],
        actorder="group" if case["order"] else None,
    )
    return QuantizationScheme(targets=["Linear"], weights=weights)


def pack_compressed(case, weight, scales, zeros, groups):
    from compressed_tensors.compressors.quantized_compressors.pack_quantized import PackedQuantizationCompressor, unpack_from_int32
    from compressed_tensors.quantization.lifecycle.forward import dequantize

    args = scheme(case).weights
    # Its quants are signed.
    zeros = (zeros - 2 ** (case["bits"] - 1)).to(torch.int8)
    order = {"g_idx": groups} if case["order"] else {}
    pieces = PackedQuantizationCompressor().compress_weight(weight, scales, args, zeros, **order)
    quants = unpack_from_int32(pieces["weight_packed"], case["bits"], weight.shape)
    pieces |= {"weight_scale": scales} | ({"weight_g_idx": groups} if order else {})
    return pieces, dequantize(quants, scales.float(), zeros, args, **order)


def settings(case):
    """quantization_config as the tool writes it."""
    if case["method"] == "awq":
        return {
            "quant_method": "awq",
            "bits": 4,
            "group_size": case["group"],
            "zero_point": not case["symmetric"],
            "version": "gemm",
            "modules_to_not_convert": None,
        }
    if case["method"] == "compressed":
        return {
            "quant_method": "compressed-tensors",
            "format": "pack-quantized",
            "quantization_status": "compressed",
            "config_groups": {"group_0": json.loads(scheme(case).model_dump_json())},
            "ignore": ["lm_head", "re:.*mlp.gate$"],
            "kv_cache_scheme": None,
            "sparsity_config": {},
            "transform_config": {},
        }
    return {
        "quant_method": "gptq",
        "bits": case["bits"],
        "group_size": case["group"],
        "desc_act": bool(case["order"]),
        "sym": case["symmetric"],
        "lm_head": False,
        "damp_percent": 0.01,
        "checkpoint_format": case["method"],
    }
