"""Tiny checkpoints with what transformers computes from them in float32: expected.json beside each."""

import copy
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers

from . import checkpoint, converted, mxfp4
from .compact import dump
from .families import FAMILIES
from .variants import LENGTHS, VARIANTS, VOCAB

ALL = {**VARIANTS, **FAMILIES}

GREEDY = 32
# No two candidates for an argmax may be closer than this share of the logits' deviation: other sums' rounding is far below.
GAP = 2e-4


def write_all(out, names):
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    for name in names or ALL:
        write(out / name, name, ALL[name])


def write(folder, name, variant):
    for seed in range(100):
        if write_seed(folder, name, variant, seed):
            return
    raise SystemExit(f"{name}: no seed gives clear argmaxes")


def write_seed(folder, name, variant, seed):
    config = variant["config"]
    family = variant.get("family", False)
    weights = (converted if family else checkpoint).random_weights(config, [seed, *name.encode()])
    if variant.get("one_by_one"):
        weights = converted.one_by_one(weights, config["model_type"])
    if variant.get("mxfp4"):
        weights = mxfp4.pack(weights, np.random.default_rng([seed, 2]))
    blocks = checkpoint.quantize(weights, variant["gguf_types"]) if variant["gguf_types"] else {}
    storage = checkpoint.DTYPES[variant["storage"]]
    weights = {n: w if w.dtype == torch.uint8 else w.to(storage).to(torch.float32) for n, w in weights.items()}
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    checkpoint.write_hf(folder, variant, weights)
    model = load(folder)

    rng = np.random.default_rng([seed, 1])
    cases = []
    for length in variant.get("lengths") or LENGTHS:
        tokens = rng.integers(3, VOCAB, length).tolist()
        case, gap = run(model, tokens)
        if gap < GAP:
            return False
        cases.append(case)
    difference = check_it_tests(folder, variant, cases)
    if family and variant["in_gguf"]:
        converted.write_gguf(folder / "model.gguf", variant, folder)
    elif not family:
        checkpoint.write_gguf(folder / "model.gguf", variant, weights, blocks)
    expected = {
        "about": variant["about"],
        "made_by": f"scripts/golden.py tiny {name}: transformers {transformers.__version__}, torch "
        f"{torch.__version__.split('+')[0]}, float32, attention eager, weights from seed {seed}",
        "fields": "logits and logits_std: after the last of tokens; pos_argmax: after each of tokens; nll_sum: natural "
        f"log, tokens 2 to n; greedy.tokens: the next {GREEDY}; greedy.logits: after the last of those",
        "without_the_option": difference,
        **({"context": variant["context"]} if variant.get("context") else {}),
        "cases": cases,
    }
    (folder / "expected.json").write_text(dump(expected))
    for file in folder.iterdir():
        file.chmod(0o644)
    size = sum(f.stat().st_size for f in folder.iterdir())
    print(f"{name:14} seed {seed}  {size // 1024} KiB  std {cases[-1]['logits_std']:.2f}  without the option {difference}")
    return True


def load(folder):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    assert not info["missing_keys"] and not info["mismatched_keys"], info
    return model.eval()


@torch.no_grad()
def run(model, tokens):
    ids = torch.tensor([tokens])
    logits = model(ids, use_cache=False).logits[0]
    gap = smallest_gap(logits)
    losses = -torch.log_softmax(logits.double(), -1)[:-1].gather(1, ids[0, 1:, None])
    greedy = list(tokens)
    for _ in range(GREEDY):
        last = model(torch.tensor([greedy]), use_cache=False).logits[0, -1:]
        gap = min(gap, smallest_gap(last))
        greedy.append(int(last.argmax()))
    after = model(torch.tensor([greedy]), use_cache=False).logits[0, -1]
    case = {
        "tokens": tokens,
        "logits": logits[-1].tolist(),
        "logits_std": float(logits[-1].std()),
        "nll_sum": float(losses.sum()),
        "pos_argmax": logits.argmax(-1).tolist(),
        "greedy": {"tokens": greedy[len(tokens) :], "logits": after.tolist()},
    }
    return case, gap


def smallest_gap(logits):
    top = logits.topk(2, -1).values
    return float(((top[:, 0] - top[:, 1]) / logits.std(-1)).min())


def check_it_tests(folder, variant, cases):
    """Without the option the checkpoint is for, the longest case must come out clearly different."""
    if not variant["tests_against"]:
        return None
    with tempfile.TemporaryDirectory() as temporary:
        other = Path(temporary) / "model"
        shutil.copytree(folder, other)
        config = copy.deepcopy(variant["config"]) | variant["tests_against"]
        (other / "config.json").write_text(json.dumps(config))
        case, _ = run(load(other), cases[-1]["tokens"])
    difference = np.abs(np.array(case["logits"]) - np.array(cases[-1]["logits"])).max() / cases[-1]["logits_std"]
    assert difference > 0.05, f"{folder.name}: its option changes logits by {difference} deviations only"
    return f"largest change of a logit of the longest case: {difference:.3g} deviations"
