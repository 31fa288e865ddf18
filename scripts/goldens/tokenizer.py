"""The tokenizer all tiny checkpoints share: byte-level BPE over printable ASCII, tab and newline, with a ChatML template."""

import json

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = [
    "Ġ t", "h e", "i n", "r e", "o n", "Ġt he", "e r", "Ġ a", "n d",
    "a t", "Ġ w", "o u", "Ġa nd", "i s", "in g", "l l", "e n", "Ġ s",
]
TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def tokens():
    letters = ["Ġ", "Ċ", "ĉ"] + [chr(c) for c in range(0x21, 0x7F)]
    return SPECIAL + letters + [m.replace(" ", "") for m in MERGES]


def write_hf(folder):
    added = [
        {"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        for i, t in enumerate(SPECIAL)
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {t: i for i, t in enumerate(tokens())},
            "merges": MERGES,
        },
    }
    config = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": {str(a["id"]): {k: v for k, v in a.items() if k != "id"} for a in added},
        "bos_token": SPECIAL[0],
        "chat_template": TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": SPECIAL[2],
        "model_max_length": 512,
        "tokenizer_class": "GPT2Tokenizer",
        "unk_token": None,
    }
    for name, data in [("tokenizer.json", tokenizer), ("tokenizer_config.json", config)]:
        (folder / name).write_text(json.dumps(data, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def add_to_gguf(writer, vocab_size):
    """The keys llama.cpp's converter writes for such a vocabulary; rows past the tokenizer's are unused tokens."""
    import gguf

    kind = gguf.TokenType
    known = tokens()
    names = known + [f"[PAD{i}]" for i in range(len(known), vocab_size)]
    types = [kind.CONTROL] * len(SPECIAL) + [kind.NORMAL] * (len(known) - len(SPECIAL))
    types += [kind.UNUSED] * (vocab_size - len(known))
    writer.add_add_space_prefix(False)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(names)
    writer.add_token_types(types)
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
