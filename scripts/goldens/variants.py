"""The tiny checkpoints: one entry for each way in which files of the llama family differ. Sizes and config.json only."""

VOCAB = 118  # the tokens of the shared tokenizer; no multiple of 16
LENGTHS = [1, 2, 31, 32, 33, 100, 300]

BASE = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "vocab_size": VOCAB,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "mlp_bias": False,
    "initializer_range": 0.02,
    "use_cache": True,
}

LLAMA3_SCALING = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def variant(about, storage="bf16", drop=(), shards=1, extra=False, tests_against=None, gguf_types=None, **config):
    """tests_against: config changes that must change the logits much, so that the golden can catch what it is for."""
    merged = {k: v for k, v in {**BASE, **config}.items() if k not in drop}
    # Files older than transformers 5 say torch_dtype; the new spelling is given by the variant itself.
    if "dtype" not in merged:
        merged["torch_dtype"] = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}[storage]
    return {
        "about": about,
        "storage": storage,
        "shards": shards,
        "extra": extra,
        "tests_against": tests_against,
        "gguf_types": gguf_types,
        "config": merged,
    }


VARIANTS = {
    "plain": variant(
        "grouped-query attention, tied head, float32",
        storage="f32",
        tie_word_embeddings=True,
        intermediate_size=32,
    ),
    "untied": variant(
        "a head of its own; eps 1e-6; a vocabulary padded past the tokenizer's; several end tokens",
        rms_norm_eps=1e-6,
        vocab_size=128,
        eos_token_id=[2, 0],
        tests_against={"rms_norm_eps": 1e-1},
    ),
    "bias": variant(
        "biases on every projection of attention and MLP",
        attention_bias=True,
        mlp_bias=True,
        intermediate_size=32,
    ),
    "head-dim": variant(
        "head_dim 16 where hidden_size / heads is 8",
        head_dim=16,
        tie_word_embeddings=True,
        intermediate_size=32,
    ),
    "odd-rows": variant(
        "head_dim 12, so that key and value have 24 rows; vocabulary 118: no multiples of 16",
        num_attention_heads=8,
        num_key_value_heads=2,
        head_dim=12,
        intermediate_size=96,
        num_hidden_layers=1,
    ),
    "linear": variant(
        "rope_scaling linear, factor 4; theta 50000",
        head_dim=16,
        rope_theta=50000.0,
        rope_scaling={"rope_type": "linear", "factor": 4.0},
        tests_against={"rope_scaling": None},
        intermediate_size=32,
    ),
    "llama3": variant(
        "rope_scaling llama3 with wavelengths in all three bands; theta 500000",
        head_dim=16,
        rope_theta=500000.0,
        rope_scaling={"rope_type": "llama3", **LLAMA3_SCALING},
        tests_against={"rope_scaling": None},
        intermediate_size=32,
    ),
    "window": variant(
        "mistral with a sliding window of 20 positions",
        drop=("attention_bias", "mlp_bias"),
        architectures=["MistralForCausalLM"],
        model_type="mistral",
        sliding_window=20,
        tests_against={"sliding_window": None},
    ),
    "mqa": variant(
        "one key-value head",
        num_key_value_heads=1,
    ),
    "old-spelling": variant(
        "as old files are written: rope_scaling.type, no num_key_value_heads, no head_dim, rotary inv_freq tensors",
        drop=("num_key_value_heads", "attention_bias", "mlp_bias", "rope_theta"),
        extra=True,
        storage="f16",
        rope_scaling={"type": "linear", "factor": 2.0},
        tests_against={"rope_scaling": None},
    ),
    "new-spelling": variant(
        "as transformers 5 writes it: rope_parameters, dtype, head_dim",
        drop=("rope_theta",),
        dtype="bfloat16",
        head_dim=8,
        rope_parameters={"rope_theta": 500000.0, "rope_type": "llama3", **LLAMA3_SCALING},
        tests_against={"rope_parameters": {"rope_theta": 500000.0, "rope_type": "default"}},
    ),
    "bf16": variant("bfloat16 storage; three layers", num_hidden_layers=3, intermediate_size=32),
    "f16": variant("float16 storage; one layer", storage="f16", num_hidden_layers=1),
    "sharded": variant(
        "three safetensors files and an index; tied head",
        shards=3,
        tie_word_embeddings=True,
        intermediate_size=32,
    ),
    "quantized": variant(
        "GGUF in Q8_0, Q4_0, Q4_1, Q5_0, Q5_1 and F16; the folder holds the same values in float32",
        storage="f32",
        num_hidden_layers=1,
        gguf_types={
            "token_embd": "Q8_0",
            "attn_q": "Q4_0",
            "attn_k": "Q4_1",
            "attn_v": "Q8_0",
            "attn_output": "Q5_0",
            "ffn_gate": "Q4_1",
            "ffn_up": "Q4_0",
            "ffn_down": "Q5_1",
            "output": "F16",
        },
    ),
}
