//! Broken files and strange texts: a clear error that names the file, never a panic.

use super::*;
use nano_models::Control;

fn from_json(json: &str) -> Result<Tokenizer, String> {
    let vocab = HfVocab { path: "m/tokenizer.json".into(), json: json.into(), ..HfVocab::default() };
    Tokenizer::from_hf(vocab).map_err(|e| e.to_string())
}

fn refuses_json(json: &str, says: &str) {
    let error = from_json(json).map(|_| ()).expect_err(json);
    assert!(error.contains("m/tokenizer.json") && error.contains(says), "{json}\n{error}");
}

fn refuses(vocab: GgufVocab, key: &str, says: &str) {
    let path = vocab.path.display().to_string();
    let error = Tokenizer::from_gguf(vocab).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains(&path) && error.contains(key) && error.contains(says), "{key} {says}: {error}");
}

#[test]
fn tokenizer_json_that_is_none() {
    refuses_json("", "EOF");
    refuses_json("not json", "is not a tokenizer.json");
    refuses_json("[]", "is not a tokenizer.json");
    refuses_json("{}", "model");
    refuses_json(r#"{"model": {}}"#, "vocab");
    refuses_json(r#"{"model": {"vocab": 3}}"#, "an object of tokens and ids");
    refuses_json(r#"{"model": {"vocab": {"a": -1}, "merges": []}}"#, "invalid value");
    refuses_json(r#"{"model": {"vocab": {"a": "b"}, "merges": []}}"#, "invalid type");
    refuses_json(r#"{"model": {"vocab": {"a": 0}, "merges": [3]}}"#, "a merge of two tokens");
    refuses_json(r#"{"model": {"vocab": {"a": 0}, "merges": ["aa"]}}"#, "two tokens with a space between");
    refuses_json(r#"{"model": {"vocab": {"a": 0}, "merges": [["a", "a", "a"]]}}"#, "two tokens");
    refuses_json(r#"{"model": {"type": "BPE", "vocab": {"a": 0}}}"#, "no merges");
    refuses_json(r#"{"model": {"type": "BPE", "vocab": [["a", 1.0]]}}"#, "another type");
    refuses_json(r#"{"model": {"type": "WordPiece", "vocab": {"a": 0}}}"#, "known are BPE, Unigram and WordLevel");
    refuses_json(&"[".repeat(10_000), "is not a tokenizer.json");
    let deep = format!(r#"{{"model": {{"vocab": {{"a": 0}}, "merges": []}}, "normalizer": {}}}"#, "[".repeat(10_000));
    refuses_json(&deep, "recursion");
}

#[test]
fn vocabularies_that_cannot_be() {
    refuses_json(r#"{"model": {"vocab": {}, "merges": []}}"#, "no tokens");
    refuses_json(r#"{"model": {"vocab": []}}"#, "no tokens");
    refuses_json(r#"{"model": {"vocab": {"a": 4294967295}, "merges": []}}"#, "4294967295");
    refuses_json(
        r#"{"added_tokens": [{"id": 4000000000, "content": "x"}], "model": {"vocab": {"a": 0}, "merges": []}}"#,
        "4000000000",
    );
    refuses_json(r#"{"model": {"vocab": {"a": 0}, "merges": ["a b"]}}"#, "\"b\"");
    refuses_json(r#"{"model": {"vocab": {"a": 0, "b": 1}, "merges": ["a b"]}}"#, "\"ab\"");
    refuses_json(r#"{"model": {"vocab": {"a": 0}, "merges": [], "unk_token": "u"}}"#, "\"u\"");
    refuses_json(
        r###"{"model": {"vocab": {"a": 0}, "merges": [], "continuing_subword_prefix": "##"}}"###,
        "prefix or suffix",
    );
    refuses_json(r#"{"model": {"type": "Unigram", "vocab": [["a", -1.0]], "unk_id": 7}}"#, "unk_id");
    let bad = r#"{"added_tokens_decoder": {"x": {"content": "y"}}}"#;
    let vocab = HfVocab { config: Some(serde_json::from_str(bad).unwrap()), ..hf_vocab("smollm") };
    assert!(Tokenizer::from_hf(vocab).unwrap_err().to_string().contains("added_tokens_decoder"));
}

#[test]
fn stages_that_cannot_be() {
    let with = |part: &str| format!(r#"{{{part}, "model": {{"vocab": {{"a": 0}}, "merges": []}}}}"#);
    for (part, says) in [
        (r#""normalizer": 3"#, "no type"),
        (r#""normalizer": {"type": "Nope"}"#, "normalizer"),
        (r#""normalizer": {"type": "Sequence"}"#, "without a list"),
        (r#""normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}"#, "has no trie"),
        (r#""normalizer": {"type": "Precompiled", "precompiled_charsmap": "%"}"#, "base64"),
        (r#""pre_tokenizer": {"type": "FixedLength", "length": 0}"#, "length 0"),
        (r#""normalizer": {"type": "Replace", "pattern": {"Regex": "("}, "content": ""}"#, "normalizer"),
        (
            r#""pre_tokenizer": {"type": "Split", "pattern": {"Regex": "[z-a]"}, "behavior": "Isolated", "invert": false}"#,
            "pre_tokenizer",
        ),
        (r#""pre_tokenizer": {"type": "Sequence", "pretokenizers": [{}]}"#, "no type"),
        (r#""decoder": {"type": "CTC"}"#, "known are ByteLevel"),
        (r#""decoder": {"type": "Replace", "pattern": {"Regex": "a"}, "content": ""}"#, "only a text"),
        (r#""decoder": {"type": "Strip", "content": "", "start": 1}"#, "no character"),
        (r#""decoder": []"#, "no type"),
    ] {
        refuses_json(&with(part), says);
    }
}

#[test]
fn stages_that_match_nothing_or_everything() {
    let mut parts = Vec::new();
    for pattern in ["", "a*", "(?=a)", "$", "^", "(a|b)*", r"(.)\\1", r"\\s+(?!\\S)"] {
        for behavior in ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"] {
            for invert in ["true", "false"] {
                parts.push(format!(
                    r#""pre_tokenizer": {{"type": "Split", "pattern": {{"Regex": "{pattern}"}}, "behavior": "{behavior}", "invert": {invert}}}"#
                ));
            }
        }
        for content in ["", "x", " "] {
            parts.push(format!(
                r#""normalizer": {{"type": "Replace", "pattern": {{"Regex": "{pattern}"}}, "content": "{content}"}}"#
            ));
        }
    }
    let added = r#"[{"id": 3, "content": "<s>", "special": true, "lstrip": true, "rstrip": true}, {"id": 4, "content": " "},
        {"id": 5, "content": "é", "single_word": true}, {"id": 6, "content": "\n", "lstrip": true}, {"id": 7, "content": ""}]"#;
    for part in parts {
        let json = format!(
            r#"{{"added_tokens": {added}, {part}, "model": {{"vocab": {{"a": 0, "b": 1, "aa": 2}}, "merges": ["a a"]}}}}"#
        );
        let tokenizer = from_json(&json).unwrap_or_else(|e| panic!("{part}: {e}"));
        assert!(tokenizer.encode("", Control::Parse).unwrap().is_empty());
        for text in ["a", "aaaa <s>\n bé", " \n ", "e\u{301}\u{301}"] {
            if let Ok(ids) = tokenizer.encode(text, Control::Parse) {
                tokenizer.decode(&ids).unwrap(); // every id is one of the vocabulary's
            }
        }
    }
}

#[test]
fn cut_or_changed_anywhere_a_tokenizer_json_gives_an_error_or_a_tokenizer() {
    for name in ["smollm", "llama2", "unigram"] {
        let json = hf_vocab(name).json;
        for end in (0..json.len()).step_by(json.len() / 97) {
            let vocab = HfVocab { json: json[..end].to_vec(), ..hf_vocab(name) };
            assert!(Tokenizer::from_hf(vocab).is_err(), "{name}: {end} bytes");
        }
        let mut seed = 1u64;
        for _ in 0..200 {
            let mut json = json.clone();
            for _ in 0..3 {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let at = (seed >> 33) as usize % json.len();
                json[at] = b"\"{}[]:,0e\\"[(seed >> 20) as usize % 10];
            }
            if let Ok(tokenizer) = Tokenizer::from_hf(HfVocab { json, ..hf_vocab(name) })
                && let Ok(ids) = tokenizer.encode("Hello <|im_end|>\n 12 é", Control::Parse)
            {
                tokenizer.decode(&ids).unwrap();
            }
        }
    }
}

#[test]
fn gguf_vocabularies_that_cannot_be() {
    let smollm = || gguf_vocab("smollm");
    refuses(GgufVocab { model: "bert".into(), ..smollm() }, "tokenizer.ggml.model", "known are gpt2, llama and t5");
    refuses(GgufVocab { pre: Some("nope".into()), ..smollm() }, "tokenizer.ggml.pre", "known are llama-bpe");
    refuses(GgufVocab { tokens: vec![], ..smollm() }, "tokenizer.ggml.tokens", "no tokens");
    refuses(GgufVocab { types: vec![1; 7], ..smollm() }, "tokenizer.ggml.token_type", "holds 7 values");
    refuses(GgufVocab { scores: vec![0.0; 7], ..smollm() }, "tokenizer.ggml.scores", "holds 7 values");
    refuses(GgufVocab { merges: vec![], ..smollm() }, "tokenizer.ggml.merges", "missing");
    refuses(GgufVocab { merges: vec!["a".into()], ..smollm() }, "tokenizer.ggml.merges", "\"a\" at 0");
    refuses(GgufVocab { merges: vec!["a nowhere".into()], ..smollm() }, "tokenizer.ggml.merges", "nowhere");
    refuses(GgufVocab { merges: vec!["é".into()], ..smollm() }, "tokenizer.ggml.merges", "two tokens");
    refuses(GgufVocab { eos: Some(99_999), ..smollm() }, "tokenizer.ggml.eos_token_id", "99999");
    refuses(GgufVocab { stop: vec![u32::MAX], ..smollm() }, "ends a turn", "4294967295");
    for name in ["spm", "spm-unigram"] {
        refuses(GgufVocab { scores: vec![], ..gguf_vocab(name) }, "tokenizer.ggml.scores", "missing");
        let mut vocab = gguf_vocab(name);
        vocab.scores[5] = f32::NAN;
        refuses(vocab, "tokenizer.ggml.scores", "no number at 5");
    }
    for name in ["smollm", "spm"] {
        let mut vocab = gguf_vocab(name);
        let last = vocab.tokens.len() - 1;
        vocab.tokens[last] = vocab.tokens[last - 1].clone();
        vocab.types[last] = vocab.types[last - 1];
        if !matches!(vocab.types[last], 3 | 4) {
            refuses(vocab, "tokenizer.ggml.tokens", "twice");
        }
    }
}

#[test]
fn a_damaged_map_of_characters_is_refused_or_harmless() {
    let whole = gguf_vocab("spm-unigram").charsmap;
    assert!(whole.len() > 100);
    let texts = texts();
    let mut refused = 0;
    for at in (0..whole.len()).step_by(whole.len() / 300) {
        for change in 0..3 {
            let mut map = whole.clone();
            match change {
                0 => map.truncate(at),
                1 => map[at] ^= 1 << (at % 8),
                _ => map[at] = 0xff,
            }
            match Tokenizer::from_gguf(GgufVocab { charsmap: map, ..gguf_vocab("spm-unigram") }) {
                // What it does to texts is its own affair.
                Ok(tokenizer) => texts.iter().for_each(|text| drop(tokenizer.encode(text, Control::Text))),
                Err(error) => {
                    refused += 1;
                    assert!(error.to_string().contains("precompiled_charsmap"), "{error}");
                }
            }
        }
    }
    assert!(refused > 300, "{refused}");
}

#[test]
fn a_message_stays_short_and_printable() {
    let error = Tokenizer::from_gguf(GgufVocab { pre: Some("\x1b[31m\n".repeat(10_000)), ..gguf_vocab("smollm") })
        .unwrap_err()
        .to_string();
    assert!(error.len() < 2000 && !error.contains('\x1b') && !error.contains('\n'), "{error}");
}

#[test]
fn missing_types_are_made_up_for_by_spelling() {
    let untyped = Tokenizer::from_gguf(GgufVocab { types: vec![], ..gguf_vocab("spm") }).unwrap();
    let typed = gguf("spm");
    for text in ["</s>", "<s>x", "naïve <0x41> 你", "<unk>"] {
        for control in [Control::Parse, Control::Text] {
            assert_eq!(untyped.encode(text, control).unwrap(), typed.encode(text, control).unwrap(), "{text}");
        }
    }
    assert!(untyped.is_control(0) && untyped.is_control(2));
    let untyped = Tokenizer::from_gguf(GgufVocab { types: vec![], ..gguf_vocab("smollm") }).unwrap();
    assert_eq!(untyped.stop(), gguf("smollm").stop());
}

#[test]
fn long_texts_take_linear_time() {
    // Seconds, if any stage were quadratic.
    for (name, tokenizer) in all() {
        for unit in ["a", " ", "\n", "ab ", "é", "<|im_end|>", "</s>", "<", "1", " \n", "\u{FDD0}"] {
            let text = unit.repeat(20_000 / unit.len());
            let start = std::time::Instant::now();
            tokenizer.encode(&text, Control::Text).unwrap();
            tokenizer.encode(&tokenizer.hide_control(&text), Control::Parse).unwrap();
            assert!(start.elapsed().as_secs() < 20, "{name}: {unit:?}");
        }
    }
}
