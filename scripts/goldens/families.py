"""The tiny checkpoints of other families than llama: config.json only. Names of options as each family's authors chose them."""

from .variants import BASE

SIZES = {
    key: BASE[key]
    for key in (
        "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
        "max_position_embeddings", "vocab_size", "bos_token_id", "eos_token_id", "tie_word_embeddings", "use_cache",
    )
}  # fmt: skip
FACTORS = [1.0, 1.1, 1.4, 2.2]
LONG_FACTORS = [1.0, 2.0, 6.0, 12.0]


def family(about, kind, model, lengths=None, context=None, in_gguf=True, storage="bf16", tests_against=None, **config):
    """lengths: of the cases, if not the usual ones. context: what the model is to be opened with, if not its own. in_gguf:
    whether GGUF files can say all of it."""
    merged = {"architectures": [model], "model_type": kind, **SIZES, "torch_dtype": {"bf16": "bfloat16", "f32": "float32"}[storage]}
    merged |= config
    return {
        "about": about,
        "storage": storage,
        "shards": 1,
        "extra": False,
        "tests_against": tests_against,
        "gguf_types": None,
        "family": True,
        "lengths": lengths,
        "context": context,
        "in_gguf": in_gguf,
        "config": {key: value for key, value in merged.items() if value is not None},
    }


def qwen2(about, **config):
    return family(about, "qwen2", "Qwen2ForCausalLM", **{"hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 1e6, **config})


def qwen3(about, **config):
    defaults = {"hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 1e6, "head_dim": 16, "attention_bias": False}
    return family(about, "qwen3", "Qwen3ForCausalLM", **{**defaults, **config})


def gemma(about, kind, model, **config):
    defaults = {"hidden_activation": "gelu_pytorch_tanh", "rms_norm_eps": 1e-6, "head_dim": 16, "attention_bias": False}
    return family(about, kind, model, **{**defaults, "tie_word_embeddings": True, "intermediate_size": 32, **config})


def gemma2(about, **config):
    defaults = {"query_pre_attn_scalar": 16, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0, "sliding_window": 20}
    return gemma(about, "gemma2", "Gemma2ForCausalLM", **{**defaults, **config})


def gemma3(about, **config):
    defaults = {"query_pre_attn_scalar": 16, "sliding_window": 20, "num_hidden_layers": 7, "rope_theta": 1e6, "rope_local_base_freq": 1e4}
    return gemma(about, "gemma3_text", "Gemma3ForCausalLM", **{**defaults, **config})


def phi3(about, **config):
    defaults = {"hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 1e4, "pad_token_id": 0, "original_max_position_embeddings": 512}
    return family(about, "phi3", "Phi3ForCausalLM", **{**defaults, **config})


def llama(about, **config):
    return family(about, "llama", "LlamaForCausalLM", **{"hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 1e4, **config})


def longrope(kind="longrope"):
    return {"type": kind, "short_factor": FACTORS, "long_factor": LONG_FACTORS}


def stablelm(about, **config):
    defaults = {"hidden_act": "silu", "layer_norm_eps": 1e-5, "rope_theta": 1e4, "partial_rotary_factor": 0.25, "head_dim": None}
    defaults |= {"num_attention_heads": 2, "num_key_value_heads": 2, "use_qkv_bias": True, "use_parallel_residual": False}
    return family(about, "stablelm", "StableLmForCausalLM", **{**defaults, "qk_layernorm": False, **config})


def experts(about, kind, model, one_by_one=True, **config):
    defaults = {"hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 1e6, "num_experts_per_tok": 2, "num_hidden_layers": 2}
    defaults |= {"intermediate_size": 32, "output_router_logits": False}
    return family(about, kind, model, **{**defaults, **config}) | {"one_by_one": one_by_one}


def qwen2_moe(about, **config):
    defaults = {"num_experts": 6, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 48, "norm_topk_prob": False}
    defaults |= {"decoder_sparse_step": 1, "mlp_only_layers": [], "use_sliding_window": False}
    return experts(about, "qwen2_moe", "Qwen2MoeForCausalLM", **{**defaults, **config})


def qwen3_moe(about, **config):
    defaults = {"num_experts": 8, "moe_intermediate_size": 16, "norm_topk_prob": True, "head_dim": 16, "attention_bias": False}
    defaults |= {"decoder_sparse_step": 1, "mlp_only_layers": [], "use_sliding_window": False, "num_experts_per_tok": 3}
    return experts(about, "qwen3_moe", "Qwen3MoeForCausalLM", **{**defaults, **config})


def gpt_oss(about, mxfp4=False, **config):
    defaults = {"hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 1.5e5, "num_hidden_layers": 4, "num_local_experts": 4}
    defaults |= {"num_experts_per_tok": 2, "attention_bias": True, "sliding_window": 20, "swiglu_limit": 7.0, "output_router_logits": False}
    defaults |= {"layer_types": ["sliding_attention", "full_attention"] * 2, "rope_scaling": {**YARN, "beta_fast": 32.0, "truncate": False}}
    if mxfp4:
        unpacked = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]
        defaults["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": unpacked}
    return family(about, "gpt_oss", "GptOssForCausalLM", **{**defaults, **config}) | {"mxfp4": mxfp4}


NO_SCALING = {"rope_scaling": None}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 16.0, "beta_slow": 1.0}

FAMILIES = {
    "yarn": llama("rope_scaling yarn", head_dim=16, rope_scaling=YARN, tests_against=NO_SCALING),
    "dynamic": llama(
        "rope_scaling dynamic: within the original context it changes nothing",
        rope_scaling={"type": "dynamic", "factor": 4.0},
        num_hidden_layers=1,
    ),
    "smollm3": family(
        "smollm3: no rope in every fourth layer",
        "smollm3",
        "SmolLM3ForCausalLM",
        hidden_act="silu",
        rms_norm_eps=1e-6,
        rope_theta=2e6,
        num_hidden_layers=5,
        intermediate_size=32,
        no_rope_layers=[1, 1, 1, 0, 1],
        no_rope_layer_interval=4,
        use_sliding_window=False,
        sliding_window=None,
        layer_types=["full_attention"] * 5,
        attention_bias=False,
        mlp_bias=False,
        pad_token_id=0,
        tie_word_embeddings=True,
        tests_against={"no_rope_layers": [1] * 5},
    ),
    "ministral": family(
        "ministral: a window in every other layer",
        "ministral",
        "MinistralForCausalLM",
        hidden_act="silu",
        rms_norm_eps=1e-5,
        rope_theta=1e5,
        head_dim=16,
        sliding_window=20,
        layer_types=["full_attention", "sliding_attention"],
        in_gguf=False,
        tests_against={"layer_types": ["full_attention"] * 2},
    ),
    "qwen2": qwen2(
        "qwen2: biases on q, k and v; a window that is switched off; several end tokens",
        use_sliding_window=False,
        sliding_window=20,
        max_window_layers=0,
        eos_token_id=[2, 0],
    ),
    "qwen2-window": qwen2(
        "qwen2 with a window from the second layer on, tied head",
        in_gguf=False,
        use_sliding_window=True,
        sliding_window=20,
        max_window_layers=1,
        tie_word_embeddings=True,
        tests_against={"use_sliding_window": False},
    ),
    "qwen3": qwen3("qwen3: norms of the heads of q and k; heads wider than hidden_size / heads", tie_word_embeddings=True),
    "gemma": gemma(
        "gemma: 1 + w, scaled embeddings, one key-value head, hidden_act gelu that means tanh",
        "gemma",
        "GemmaForCausalLM",
        hidden_activation=None,
        hidden_act="gelu",
        num_key_value_heads=1,
        rope_theta=1e4,
    ),
    "gemma2": gemma2(
        "gemma2: norms on both sides, softcaps, a window in even layers",
        rope_theta=1e4,
        tests_against={"attn_logit_softcapping": 50.0},
    ),
    "gemma3": gemma3(
        "gemma3: norms of q and k, five layers of six with a window and a rope of their own",
        tests_against={"rope_local_base_freq": 1e6},
    ),
    "phi2": family(
        "phi-2: attention and MLP side by side, layer norms, biases everywhere, rope on a part of each head",
        "phi",
        "PhiForCausalLM",
        hidden_act="gelu_new",
        layer_norm_eps=1e-5,
        rope_theta=1e4,
        partial_rotary_factor=0.5,
        qk_layernorm=False,
        intermediate_size=128,
        num_key_value_heads=4,
        tests_against={"partial_rotary_factor": 1.0},
    ),
    "phi3": phi3("phi-3: fused projections and a window", sliding_window=20, tests_against={"sliding_window": None}),
    "phi3-long": phi3(
        "phi-3 with longrope beyond the original context",
        original_max_position_embeddings=24,
        rope_scaling=longrope(),
        lengths=[31, 32, 33, 100, 300],
        tests_against={"rope_scaling": longrope() | {"long_factor": FACTORS}},
    ),
    "phi3-short": phi3(
        "phi-3 with longrope within the original context, spelled su, rope on a part of each head",
        original_max_position_embeddings=400,
        partial_rotary_factor=0.75,
        rope_scaling={"type": "longrope", "short_factor": FACTORS[:3], "long_factor": LONG_FACTORS[:3]},
        context=400,
        tests_against={"rope_scaling": {"type": "longrope", "short_factor": LONG_FACTORS[:3], "long_factor": FACTORS[:3]}},
    ),
    "granite": family(
        "granite: factors on embeddings, scores, branches and logits",
        "granite",
        "GraniteForCausalLM",
        hidden_act="silu",
        rms_norm_eps=0.5,
        rope_theta=1e4,
        attention_bias=False,
        mlp_bias=False,
        embedding_multiplier=6.0,
        attention_multiplier=0.2,
        residual_multiplier=0.3,
        logits_scaling=3.0,
        tie_word_embeddings=True,
        tests_against={"residual_multiplier": 0.5},
    ),
    "stablelm": stablelm("stablelm 2 1.6B: layer norms, biases on q, k and v, rope on a part of each head"),
    "stablelm-12b": stablelm(
        "stablelm 2 12B: parallel blocks, norms of q and k with factors of each head's own",
        num_attention_heads=4,
        num_key_value_heads=2,
        use_qkv_bias=False,
        use_parallel_residual=True,
        qk_layernorm=True,
        partial_rotary_factor=0.5,
    ),
    "olmo2": family(
        "olmo2: norms of what branches add, and of the whole of q and k",
        "olmo2",
        "Olmo2ForCausalLM",
        hidden_act="silu",
        rms_norm_eps=1e-6,
        rope_theta=5e5,
        attention_bias=False,
        pad_token_id=0,
    ),
    "stablelm-parallel": stablelm("stablelm with parallel blocks and without biases", use_qkv_bias=False, use_parallel_residual=True),
    "mixtral": experts(
        "mixtral: experts one by one, factors that sum to 1",
        "mixtral",
        "MixtralForCausalLM",
        num_local_experts=4,
        sliding_window=None,
        tests_against={"num_experts_per_tok": 1},
    ),
    "qwen2-moe": qwen2_moe(
        "qwen2-moe: an expert for every token with a gate of its own, shares of all experts' softmax",
        tests_against={"norm_topk_prob": True},
    ),
    "qwen2-moe-mixed": qwen2_moe(
        "qwen2-moe with layers without experts: every second has some, but not those of mlp_only_layers",
        in_gguf=False,
        num_hidden_layers=4,
        decoder_sparse_step=2,
        mlp_only_layers=[3],
    ),
    "olmoe": experts(
        "olmoe: norms of the whole of q and k, shares of all experts' softmax",
        "olmoe",
        "OlmoeForCausalLM",
        num_experts=8,
        num_experts_per_tok=3,
        norm_topk_prob=False,
        rope_theta=1e4,
        clip_qkv=None,
        attention_bias=False,
        pad_token_id=1,
        tests_against={"norm_topk_prob": True},
    ),
    "qwen3-moe": qwen3_moe("qwen3-moe: norms of the heads of q and k", tests_against={"norm_topk_prob": False}),
    "gpt-oss": gpt_oss(
        "gpt-oss in floats: sinks, biases of experts, cut gates, a window in every other layer",
        head_dim=16,
        intermediate_size=16,
        tests_against={"swiglu_limit": 5.0},
    ),
    "gpt-oss-mxfp4": gpt_oss(
        "gpt-oss as it is published: experts in MXFP4",
        mxfp4=True,
        hidden_size=64,
        head_dim=8,
        num_key_value_heads=1,
        intermediate_size=32,
        eos_token_id=[2, 0],
        tests_against={"sliding_window": 10},
    ),
    "new-qwen3-moe": qwen3_moe("qwen3-moe with the experts of a layer in one matrix, as transformers 5 has them", one_by_one=False),
    "new-gemma3": gemma3(
        "gemma3 as transformers 5 writes it: rope_parameters by layer type, layer_types, dtype; heads scaled by another number",
        in_gguf=False,
        num_hidden_layers=2,
        query_pre_attn_scalar=24,
        final_logit_softcapping=2.0,
        rope_theta=None,
        rope_local_base_freq=None,
        torch_dtype=None,
        dtype="bfloat16",
        layer_types=["full_attention", "sliding_attention"],
        rope_parameters={
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 5e3},
        },
    ),
    "gemma3-images": family(
        "gemma3 inside a model that reads images: numbers in text_config, some left to transformers' defaults",
        "gemma3",
        "Gemma3ForConditionalGeneration",
        in_gguf=False,
        **{key: None for key in SIZES if key not in ("vocab_size", "bos_token_id", "eos_token_id", "tie_word_embeddings")},
        **{"tie_word_embeddings": True, "mm_tokens_per_image": 1, "image_token_index": 60, "boi_token_index": 61, "eoi_token_index": 62},
        text_config={
            **{key: SIZES[key] for key in ("hidden_size", "vocab_size", "max_position_embeddings")},
            **{"model_type": "gemma3_text", "intermediate_size": 32, "num_hidden_layers": 2, "head_dim": 16, "sliding_window": 20},
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        },
        vision_config={
            **{"model_type": "siglip_vision_model", "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1},
            **{"num_attention_heads": 1, "image_size": 8, "patch_size": 8, "vision_use_head": False},
        },
    ),
    "new-phi3": phi3(
        "phi-3 as transformers 5 writes it: all of rope in rope_parameters",
        num_hidden_layers=1,
        rope_theta=None,
        torch_dtype=None,
        dtype="bfloat16",
        rope_parameters={"rope_theta": 5e4, "rope_type": "default", "partial_rotary_factor": 0.5},
    ),
}
