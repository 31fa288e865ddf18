"""What SmolLM2 is asked in both runs, and how a run's numbers are cut down to a file of a few kilobytes."""

import hashlib

import numpy as np

TOP = 64
SAMPLE = 256
WINDOW = 512  # perplexity: windows of this many tokens, the second half of each scored
LONG = 700

CHATS = {
    "chat": [("user", "What is the capital of France?")],
    "turns": [
        ("system", "You answer in one short sentence."),
        ("user", "Hi! My name is Ada. What is 12 times 12?"),
        ("assistant", "12 times 12 is 144."),
        ("user", "And how is that number called in old trade?"),
        ("assistant", "A dozen dozens is called a gross."),
        ("user", "Thank you. Do you remember my name?"),
    ],
}
PLAIN = {
    "one": "The",
    "sentence": "Once upon a time, in a village by the sea, there lived a",
    "code": "def fibonacci(n):\n    \"\"\"Returns the n-th Fibonacci number.\"\"\"\n    if n < 2:\n        return n\n    return",
    "unicode": "Grüße aus Köln! 東京は日本の首都です。 Emoji 🙂👍🏽, naïve café, 3.14159 and 1234567890 —",
}


def texts(text):
    """Prompt texts by name; control tokens in the chats are to be parsed as such."""
    out = dict(PLAIN)
    for name, messages in CHATS.items():
        turns = [f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in messages]
        if messages[0][0] != "system":
            turns.insert(0, "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n")
        out[name] = "".join(turns) + "<|im_start|>assistant\n"
    out["long"] = text
    return out


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def summary(logits):
    """Of one row of logits: the largest, some at indices fixed by a seed, mean and deviation."""
    logits = np.asarray(logits, dtype=np.float32)
    top = np.argsort(-logits, kind="stable")[:TOP]
    sample = np.sort(np.random.default_rng(2).choice(len(logits), SAMPLE, replace=False))
    return {
        "mean": float(logits.mean(dtype=np.float64)),
        "std": float(logits.std(dtype=np.float64)),
        "top_ids": top.tolist(),
        "top_logits": logits[top].tolist(),
        "sample_ids": sample.tolist(),
        "sample_logits": logits[sample].tolist(),
    }


def losses(logits, tokens):
    """Natural log of the probability of tokens[1:], negated, one for each."""
    rows = np.asarray(logits[: len(tokens) - 1], dtype=np.float64)
    rows = rows - rows.max(-1, keepdims=True)
    return np.log(np.exp(rows).sum(-1)) - rows[np.arange(len(rows)), tokens[1:]]


def perplexity(tokens, logits_of):
    """llama.cpp's convention: whole windows only, in each the tokens after its middle are scored from all before them."""
    windows, scored = [], 0
    for start in range(0, len(tokens) - WINDOW + 1, WINDOW):
        window = tokens[start : start + WINDOW]
        scored_here = losses(logits_of(window), window)[WINDOW // 2 :]
        windows.append(float(scored_here.sum()))
        scored += len(scored_here)
    total = sum(windows)
    return {
        "file": "text.txt",
        "context": WINDOW,
        "file_tokens": len(tokens),
        "tokens": scored,
        "nll_sum": total,
        "ppl": float(np.exp(total / scored)),
        "window_nll_sums": windows,
    }
