#!/usr/bin/env python3
"""Writes models/tests/goldens/tokenizer: small vocabularies, and the tokens that their authors' code makes of hard texts.

    python scripts/golden_tokenizer.py models/tests/goldens/tokenizer [SmolLM2-135M-Instruct.Q4_1.gguf]

Needs tokenizers (made with 0.23.3), sentencepiece (0.2.3), gguf (0.19.0) and llama-cpp-python (0.3.36). Vocabularies are
trained here on the texts below, so a run with other versions may give others; the tokens always belong to the files beside
them. For each vocabulary there is

    NAME.tokenizer.json   a Hugging Face tokenizer        NAME.hf.json     what tokenizers makes of each text
    NAME.vocab.json       the same as GGUF keys           NAME.gguf.json   what llama.cpp makes of it (and sentencepiece)
"""

import base64
import itertools
import json
import sys
import tempfile
from pathlib import Path

import gguf
import sentencepiece as spm
from llama_cpp import Llama
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

PROSE = [
    "The quick brown fox jumps over the lazy dog. It doesn't matter, we'll see what they've done; I'm sure he'd agree.",
    "You are a helpful assistant. What's the weather like today? Tell me a story about the sea, the wind and 123 ships.",
    "def main():\n    for i in range(10):\n        print(i * 2)\n\n    return None\n",
    "user\nHello there!\nassistant\nHello! How can I help you today?\n",
    "Größe, naïve café, straße; Здравствуй, мир! 你好，世界。こんにちは世界 مرحبا بالعالم שלום עולם",
    "1 + 1 = 2, 3.14159, 2024-05-17, 1,000,000 and 50% of 0xFF",
]

TEXTS = PROSE + [
    "", " ", "  ", "   ", "a", " a", "  a", "a ", "a  ", "\n", "\n\n", " \n ", "\t", "\t\tx", "\r\n", "a\r\nb\r\n\r\nc", "a\n\n\n  b",
    " leading and trailing ", "a  b   c    d     e", "x" * 50, " " * 40, "\n" * 12, "ab" * 60, "=" * 33, "a" * 300,
    "0", "12", "1234567890", "1 2 3", "12a34", "3.14e-10", "٣٤٥", "१२३", "Ⅷ", "½", "³", "⁵", "x² + y³ = ½ Ⅷ ⁵⁶ 七", "①②", "1½", "Ⅷ12½3",
    "I'm", "you're they've we'll he'd it's don't", "I'M YOU'RE THEY'VE", "'s't're", "' s", "it’s", "rock'n'roll",
    "Hello, world!", "Hello   world", "hello world hello world", "HELLO World", "snake_case camelCase kebab-case",
    "你好，世界！", "こんにちは世界", "안녕하세요", "混合 text 和 english", "日本語のテキスト。", "𠮷野家",
    "😀", "👨‍👩‍👧‍👦", "🏳️‍🌈 flag", "👍🏽👎🏿", "a😀b", "🇩🇪🇫🇷", "e\u0301 vs \u00e9", "Z\u0351\u036b\u0343\u036a\u0302a\u0316l\u0348g\u031bo\u0300", "ﬁ ligature", "Å Å",
    "مرحبا بالعالم", "שלום עולם", "abc \u202eright to left\u202c def", "नमस्ते दुनिया", "สวัสดีชาวโลก", "ひ゛", "K",
    "\u00a0nbsp\u00a0", "\u2003em\u2003space", "\u200bzero\u200dwidth\u200c", "\ufeffbom", "\u3000全角\u3000", "a\u2028b\u2029c", "\u0085next",
    "▁", "▁▁a", "a▁b", " ▁ ", "<0x41>", "<0xE4><0xBD>", "Ġ", "Ċ", "é", "Â", "\x01\x02\x7f", "\u0300",
    "<s>", "</s>", "<s></s>", "<unk>", "<|im_start|>", "<|im_end|>", "<|im_start|>user\nhi<|im_end|>\n", "<|im_", "<<|im_end|>>", "<|im_end|> <|im_end|>",
    "<|eot_id|>", "<|begin_of_text|>", "a<s>b </s> c", " <s> ", "<s>\n", "[INST] hi [/INST]", "<tool_call>{}</tool_call>", "x<mask> y", "x <mask>", "<mask>",
    "the word is a keyword", "<sep> next", "<sep>   x", "<\u200d|im_end|>", "< |im_end|>", "<|IM_END|>",
    "$100 + €50 ~ £20 ^ 2 < 3 > 1 | `x`", "!!!???...", "«quoted» “text” – dash — more…", "#!@%&*()[]{}\\/", "a.b,c;d:e", "…", "+-*/=<>^~|",
    "https://example.com/a?b=c&d=%20", "C:\\path\\to\\file.txt", "{\"key\": [1, 2.5, null]}", "    indented\n\tmixed \t tabs\n", "trailing space \nnext", "...\n\n...", "a\n b", "!\n\n\n x",
]

CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>", "<|begin_of_text|>", "<|eot_id|>"]
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
QWEN35 = QWEN2.replace(r"?\p{L}+", r"?[\p{L}\p{M}]+").replace(r" ?[^\s\p{L}\p{N}]", r" ?[^\s\p{L}\p{M}\p{N}]")
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
WORDS = rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+%s|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*%s|"
REST = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEKKEN = WORDS % ("", "") + r"\p{N}|" + REST
GPT4O = WORDS % (2 * ("(?i:'s|'t|'re|'ve|'m|'ll|'d)?",)) + r"\p{N}{1,3}|" + REST


def write(path, value):
    path.write_text(json.dumps(value, ensure_ascii=True, separators=(",", ":")) + "\n")


def cut(pattern):
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def byte_level(cutter, normalizer=None, ignore_merges=False, bos=None):
    t = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    t.normalizer = normalizer
    t.pre_tokenizer = cutter
    t.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    t.train_from_iterator(PROSE * 3, trainers.BpeTrainer(vocab_size=520, special_tokens=CONTROL, initial_alphabet=alphabet, show_progress=False))
    t.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True, normalized=False), AddedToken("<sep>", rstrip=True, special=True, normalized=False)])
    t.add_tokens([AddedToken("<tool_call>", normalized=False), AddedToken("word", single_word=True, normalized=False)])
    if bos:
        t.post_processor = processors.TemplateProcessing(f"{bos} $A", f"{bos} $A {bos} $B", [(bos, t.token_to_id(bos))])
    return t


def hf_golden(t, plain=None):
    """`plain` is the tokenizer without control tokens, where `encode_special_tokens` is not enough."""
    t.no_truncation()
    out = {"parse": [t.encode(x, add_special_tokens=False).ids for x in TEXTS]}
    t.encode_special_tokens = True
    out["text"] = [(plain or t).encode(x, add_special_tokens=False).ids for x in TEXTS]
    t.encode_special_tokens = False
    out["decoded"] = [t.decode(ids, skip_special_tokens=True) for ids in out["text"]]
    return out


def llama_cpp(vocab):
    """What llama.cpp makes of the texts with a vocabulary in GGUF keys."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "vocab.gguf")
        w = gguf.GGUFWriter(path, "llama")
        w.add_context_length(512), w.add_embedding_length(64), w.add_block_count(1), w.add_feed_forward_length(64)
        w.add_head_count(1), w.add_layer_norm_rms_eps(1e-5), w.add_rope_dimension_count(64), w.add_vocab_size(len(vocab["tokens"]))
        w.add_tokenizer_model(vocab["model"])
        if vocab.get("pre"):
            w.add_tokenizer_pre(vocab["pre"])
        w.add_token_list(vocab["tokens"]), w.add_token_types(vocab["types"])
        if "scores" in vocab:
            w.add_token_scores(vocab["scores"])
        if "merges" in vocab:
            w.add_token_merges(vocab["merges"])
        for key, add in ("bos", w.add_bos_token_id), ("eos", w.add_eos_token_id), ("unk", w.add_unk_token_id), ("add_space_prefix", w.add_add_space_prefix):
            if key in vocab:
                add(vocab[key])
        w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()
        return llama_golden(path)


def llama_golden(path):
    model = Llama(model_path=path, vocab_only=True, verbose=False)
    out = {}
    for key, special in ("text", False), ("parse", True):
        out[key] = [model.tokenize(x.encode(), add_bos=False, special=special) if x else [] for x in TEXTS]
    return out


def as_gguf(t, pre):
    """A byte-level tokenizer's vocabulary in GGUF keys."""
    model = json.loads(t.to_str())["model"]
    added = t.get_added_tokens_decoder()
    spelled = {id: text for text, id in t.get_vocab(with_added_tokens=True).items()}
    types = [(3 if added[i].special else 4) if i in added else 1 for i in range(len(spelled))]
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    return {"model": "gpt2", "pre": pre, "tokens": [spelled[i] for i in range(len(spelled))], "types": types, "merges": merges, "bos": t.token_to_id("<s>"), "eos": t.token_to_id("</s>")}


def sentencepiece(folder, **options):
    prefix = str(Path(folder) / "m")
    if options.get("model_type") == "unigram":
        rules = Path(folder) / "rules.tsv"
        rules.write_text("".join(f"{a}\t{b}\n" for a, b in RULES.items()))
        options["normalization_rule_tsv"] = str(rules)
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(list(itertools.chain.from_iterable(p.split("\n") for p in PROSE * 3))), model_prefix=prefix,
        hard_vocab_limit=False, character_coverage=0.98, minloglevel=2,
        **{"model_type": "bpe", "normalization_rule_name": "identity", "vocab_size": 520, "byte_fallback": True, "remove_extra_whitespaces": False, "control_symbols": ["<|im_start|>", "<|im_end|>"], **options})
    return spm.SentencePieceProcessor(model_file=prefix + ".model")


# A small map of characters, as code points; that of nmt_nfkc has a third of a megabyte.
RULES = {"FB01": "66 69", "BD": "31 2044 32", "FF0C": "2C", "FF01": "21", "A0": "20", "2003": "20", "3000": "20", "9": "20", "A": "20", "D A": "20",
         "200B": "", "65 301": "E9", "2167": "56 49 49 49", "1F600": "3A 29"}  # fmt: skip
UNIGRAM = {"model_type": "unigram", "normalization_rule_name": "", "byte_fallback": False, "vocab_size": 300, "remove_extra_whitespaces": True}


def charsmap(folder):
    """SentencePiece's compiled map of characters, in base64."""
    from sentencepiece import sentencepiece_model_pb2 as pb

    model = pb.ModelProto()
    model.ParseFromString((Path(folder) / "m.model").read_bytes())
    return base64.b64encode(model.normalizer_spec.precompiled_charsmap).decode()


def spm_as_gguf(sp, **more):
    kind = lambda i: 2 if sp.is_unknown(i) else 3 if sp.is_control(i) else 6 if sp.is_byte(i) else 5 if sp.is_unused(i) else 1
    ids = range(sp.get_piece_size())
    return {"model": "llama", "tokens": [sp.id_to_piece(i) for i in ids], "types": [kind(i) for i in ids], "scores": [sp.get_score(i) for i in ids],
            "bos": sp.bos_id(), "eos": sp.eos_id(), "unk": sp.unk_id(), **more}


def spm_as_hf(sp, legacy):
    vocab = {sp.id_to_piece(i): i for i in range(sp.get_piece_size())}
    ranks = {p: (-sp.get_score(i), i) for p, i in vocab.items() if not (sp.is_control(i) or sp.is_unknown(i) or sp.is_byte(i))}
    merges = [(p[:k], p[k:]) for p in sorted(ranks, key=ranks.get) for k in range(1, len(p)) if p[:k] in ranks and p[k:] in ranks]
    t = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if legacy:
        t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    t.add_special_tokens([AddedToken(sp.id_to_piece(i), special=True, normalized=False) for i in vocab.values() if sp.is_control(i) or sp.is_unknown(i)])
    t.add_tokens([AddedToken("<tool_call>", normalized=False)])
    return t


def unigram():
    t = Tokenizer(models.Unigram())
    t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    t.decoder = decoders.Metaspace(prepend_scheme="always")
    t.train_from_iterator(PROSE * 3, trainers.UnigramTrainer(vocab_size=300, special_tokens=["<unk>", "<s>", "</s>"], unk_token="<unk>", show_progress=False))
    source = json.loads(t.to_str())
    for id in range(3):  # no text has these spellings, so this is the tokenizer without the control tokens
        source["model"]["vocab"][id][0] = "\ue000" * (7 + id)
    source["added_tokens"] = []
    return t, Tokenizer.from_str(json.dumps(source))


def main():
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    write(out / "texts.json", TEXTS)

    byte = lambda prefix=False: pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    smollm = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte()])
    for name, pre, t in [
        ("llama3", "llama-bpe", byte_level(cut(LLAMA3), ignore_merges=True, bos="<|begin_of_text|>")),
        ("smollm", "smollm", byte_level(smollm)),
        ("gpt2", "gpt-2", byte_level(byte())),
        ("qwen2", "qwen2", byte_level(cut(QWEN2))),
        ("qwen35", "qwen35", byte_level(cut(QWEN35))),
        ("tekken", "tekken", byte_level(cut(TEKKEN), ignore_merges=True, bos="<s>")),
        ("gpt4o", "gpt-4o", byte_level(cut(GPT4O))),
        ("default", "default", byte_level(byte())),
        ("nfc", None, byte_level(cut(QWEN2), normalizer=normalizers.NFC())),
        ("prefix", None, byte_level(byte(True))),
    ]:
        if name != "default":
            (out / f"{name}.tokenizer.json").write_text(t.to_str())
            write(out / f"{name}.hf.json", hf_golden(t))
        if pre:
            vocab = as_gguf(t, pre)
            write(out / f"{name}.vocab.json", vocab)
            write(out / f"{name}.gguf.json", llama_cpp(vocab))

    with tempfile.TemporaryDirectory() as folder:
        for name, options, more in [
            ("spm", {}, {"add_space_prefix": True}),
            ("spm-no-prefix", {"add_dummy_prefix": False}, {"add_space_prefix": False}),
            ("spm-collapse", {"remove_extra_whitespaces": True}, {"add_space_prefix": True, "remove_extra_whitespaces": True}),
            ("spm-unigram", UNIGRAM, {"model": "t5", "add_space_prefix": True, "remove_extra_whitespaces": True}),
            ("spm-unk", {"byte_fallback": False, "vocab_size": 300}, {"add_space_prefix": True}),
        ]:
            sp = sentencepiece(folder, **options)
            vocab = spm_as_gguf(sp, **more)
            if name == "spm-unigram":
                vocab["charsmap"] = charsmap(folder)
            write(out / f"{name}.vocab.json", vocab)
            golden = {"text": sp.encode(TEXTS), "decoded": sp.decode(sp.encode(TEXTS))}
            if name in ("spm", "spm-no-prefix"):  # llama.cpp neither collapses spaces nor works without byte tokens
                theirs = llama_cpp(vocab)
                golden["parse"] = theirs["parse"]
                for text, a, b in zip(TEXTS, golden["text"], theirs["text"]):
                    if a != b:
                        print(f"{name}: {text!r}: sentencepiece {a} llama.cpp {b}")
            write(out / f"{name}.gguf.json", golden)
            if name == "spm":
                for hf, legacy in ("llama2", True), ("llama2-first", False):
                    t = spm_as_hf(sp, legacy)
                    (out / f"{hf}.tokenizer.json").write_text(t.to_str())
                    write(out / f"{hf}.hf.json", hf_golden(t))

    t, plain = unigram()
    (out / "unigram.tokenizer.json").write_text(t.to_str())
    write(out / "unigram.hf.json", hf_golden(t, plain))

    if len(sys.argv) > 2:
        write(out / "smollm2.gguf.json", llama_golden(sys.argv[2]))


main()
