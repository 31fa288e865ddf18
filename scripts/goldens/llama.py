"""llama.cpp, through its Python binding: last-token logits and perplexity of SmolLM2; a check of the tiny GGUF files."""

import json
import tempfile
from pathlib import Path

import gguf
import llama_cpp
import numpy as np

from . import prompts
from .compact import dump

F32, F16 = 0, 1  # ggml type numbers of the key-value cache


def load(path, kv, context=1024):
    return llama_cpp.Llama(
        str(path), n_ctx=context, n_batch=512, n_threads=2, n_threads_batch=2, logits_all=True,
        type_k=kv, type_v=kv, flash_attn=False, verbose=False,
    )  # fmt: skip


def logits_of(model, tokens):
    model.reset()
    model.eval(tokens)
    return np.array(model.scores[: len(tokens)], dtype=np.float32)


def compare_tiny(folder):
    """llama.cpp rounds activations to the weights' format, so the files are read in float32 for an exact comparison.
    It has no sliding window for llama and phi3: they are compared as far as the window reaches. Of longrope it takes the
    factors that the size of its cache asks for. Its yarn always begins and ends at whole indices, which one of the gpt-oss
    files is made to tell from what the authors do."""
    for path in sorted(folder.glob("*/model.gguf")):
        if path.parent.name == "gpt-oss":
            continue
        with tempfile.TemporaryDirectory() as temporary:
            copy = Path(temporary) / "model.gguf"
            window = copy_as_f32(path, copy)
            expected = json.loads((path.parent / "expected.json").read_text())
            size = 256 if "context" in expected else 512  # Whole 256.
            model = load(copy, F32, size)
            worst = 0.0
            for case in expected["cases"]:
                if len(case["tokens"]) <= (window or size):
                    found = logits_of(model, case["tokens"])[-1]
                    worst = max(worst, float(np.abs(found - np.array(case["logits"])).max()) / case["logits_std"])
            model.close()
        print(f"{path.parent.name:14} largest difference from transformers: {worst:.2e} deviations")
        # Its gelu is a table in f16.
        assert worst < (1e-2 if path.parent.name.startswith(("gemma", "phi2")) else 1e-4), path


def copy_as_f32(path, copy):
    """Returns the sliding window, if the file has one."""
    reader = gguf.GGUFReader(path)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(copy, architecture)
    for field in reader.fields.values():
        # A name that speaks of phi3 would make it look for tokens of that vocabulary.
        if not field.name.startswith("GGUF.") and field.name not in ("general.architecture", "general.name"):
            of = field.types[1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], of)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        writer.add_tensor(tensor.name, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    window = reader.fields.get(f"{architecture}.attention.sliding_window")
    return int(window.contents()) or None if window and architecture in ("llama", "phi3") else None


def write_smollm2(out, path):
    model = load(path, F16)
    reference = json.loads((out / "transformers.json").read_text())
    text = (out / "text.txt").read_text(encoding="utf-8")
    cases = {}
    for name, prompt in prompts.texts(text).items():
        tokens = model.tokenize(prompt.encode(), add_bos=False, special=True)
        expected = reference["cases"][name]
        if name == "long":
            tokens = tokens[: prompts.LONG]
        assert tokens == expected["tokens"], f"{name}: the tokenizers of llama.cpp and transformers differ"
        rows = logits_of(model, tokens)
        found = prompts.summary(rows[-1])
        # How far int8 activations and an f16 cache move the logits: what a test may allow this project, too.
        a, b = np.array(found["sample_logits"]), np.array(expected["sample_logits"])
        cases[name] = {
            "tokens": len(tokens),
            **found,
            "nll_sum": float(prompts.losses(rows, tokens).sum()),
            "nmse_to_transformers": float(((a - b) ** 2).sum() / ((b - b.mean()) ** 2).sum()),
        }
        print(name, len(tokens), cases[name]["nmse_to_transformers"])
    ids = model.tokenize(text.encode(), add_bos=False, special=False)
    ppl = prompts.perplexity(ids, lambda w: logits_of(model, w))
    print("perplexity", ppl["ppl"])
    result = {
        "made_by": f"scripts/golden.py llama-smollm2: llama.cpp inside llama-cpp-python {llama_cpp.__version__}, built natively "
        "on x86-64 with AVX-512 VNNI, CPU, 2 threads, batch 512, f16 key-value cache, no flash attention",
        "model_sha256": prompts.digest(path),
        "fields": "tokens: how many, the lists are in transformers.json; the rest as there; nmse_to_transformers: of sample_logits",
        "cases": cases,
        "perplexity": ppl,
    }
    (out / "llama.cpp.json").write_text(dump(result))
