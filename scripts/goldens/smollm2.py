"""SmolLM2 in transformers: the GGUF's own values dequantized to float32. Writes transformers.json."""

import torch
import transformers

from . import prompts
from .compact import dump

GREEDY = 32
NEAR_TIE = 0.01  # positions whose two best logits are closer than this share of the deviation are listed


def write(out, path):
    torch.set_num_threads(2)
    transformers.utils.logging.disable_progress_bar()
    source = {"gguf_file": path.name}
    tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, **source)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, dtype=torch.float32, attn_implementation="eager", **source
    ).eval()
    text = (out / "text.txt").read_text(encoding="utf-8")

    cases = {}
    for name, prompt in prompts.texts(text).items():
        tokens = tokenizer.encode(prompt, add_special_tokens=False)
        if name == "long":
            tokens, prompt = tokens[: prompts.LONG], f"the first {prompts.LONG} tokens of text.txt"
        cases[name] = {"text": prompt, **case(model, tokens)}
        print(name, len(tokens), repr(tokenizer.decode(cases[name]["greedy"])), flush=True)
    ids = tokenizer.encode(text, add_special_tokens=False)
    ppl = prompts.perplexity(ids, lambda w: forward(model, w)[0].numpy())
    print("perplexity", ppl["ppl"])
    result = {
        "made_by": f"scripts/golden.py smollm2: transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}, "
        "the GGUF file dequantized to float32, attention eager",
        "model_sha256": prompts.digest(path),
        "fields": "mean, std, top_*, sample_*: logits after the last token; nll_sum: natural log, tokens 2 to n; "
        f"pos_near_ties: positions where pos_argmax wins by less than {NEAR_TIE} deviations; greedy: the next {GREEDY} tokens, "
        "the end token ignored; greedy_gap: the smallest lead of one of them, in deviations",
        "cases": cases,
        "perplexity": ppl,
    }
    (out / "transformers.json").write_text(dump(result))


@torch.no_grad()
def forward(model, tokens, cache=None):
    out = model(torch.tensor([tokens]), past_key_values=cache, use_cache=True)
    return out.logits[0], out.past_key_values


def case(model, tokens):
    rows, cache = forward(model, tokens)
    lead = gaps(rows)
    greedy, gap, last = [], float("inf"), rows[-1:]
    for _ in range(GREEDY):
        gap = min(gap, float(gaps(last)[0]))
        greedy.append(int(last.argmax()))
        last, cache = forward(model, greedy[-1:], cache)
    return {
        "tokens": tokens,
        **prompts.summary(rows[-1].numpy()),
        "nll_sum": float(prompts.losses(rows.numpy(), tokens).sum()),
        "pos_argmax": rows.argmax(-1).tolist(),
        "pos_near_ties": (lead < NEAR_TIE).nonzero().flatten().tolist(),
        "greedy": greedy,
        "greedy_gap": gap,
    }


def gaps(rows):
    top = rows.topk(2, -1).values
    return (top[:, 0] - top[:, 1]) / rows.std(-1)
