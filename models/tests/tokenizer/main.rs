//! Tokenizers against their authors' code. `scripts/golden_tokenizer.py` makes the vocabularies and the expected tokens.

mod control;
mod detokenize;
mod golden;
mod hostile;
mod to_gguf;

use base64::{Engine, prelude::BASE64_STANDARD};
use nano_models::{GgufVocab, HfVocab, Tokenizer};
use serde_json::Value;
use std::path::PathBuf;

const HF: [&str; 11] =
    ["llama3", "smollm", "gpt2", "qwen2", "qwen35", "tekken", "gpt4o", "nfc", "prefix", "llama2", "llama2-first"];
const GGUF: [&str; 13] = [
    "llama3",
    "smollm",
    "gpt2",
    "qwen2",
    "qwen35",
    "tekken",
    "gpt4o",
    "default",
    "spm-unigram",
    "spm",
    "spm-no-prefix",
    "spm-collapse",
    "spm-unk",
];

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/tokenizer").join(name)
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(file(name)).unwrap()).unwrap()
}

fn texts() -> Vec<String> {
    serde_json::from_value(json("texts.json")).unwrap()
}

/// The lists under a key of a golden file, one for each text.
fn ids(golden: &Value, key: &str) -> Vec<Vec<u32>> {
    serde_json::from_value(golden[key].clone()).unwrap()
}

fn hf_vocab(name: &str) -> HfVocab {
    let path = file(&format!("{name}.tokenizer.json"));
    HfVocab { json: std::fs::read(&path).unwrap(), path, ..HfVocab::default() }
}

fn hf(name: &str) -> Tokenizer {
    Tokenizer::from_hf(hf_vocab(name)).unwrap()
}

fn gguf_vocab(name: &str) -> GgufVocab {
    let name = format!("{name}.vocab.json");
    let keys = json(&name);
    let list = |key: &str| keys.get(key).cloned().unwrap_or_else(|| Value::Array(vec![]));
    let id = |key: &str| keys.get(key).and_then(Value::as_u64).map(|id| id as u32);
    GgufVocab {
        path: file(&name),
        model: keys["model"].as_str().unwrap().to_owned(),
        pre: keys.get("pre").and_then(Value::as_str).map(str::to_owned),
        tokens: serde_json::from_value(list("tokens")).unwrap(),
        types: serde_json::from_value(list("types")).unwrap(),
        scores: serde_json::from_value(list("scores")).unwrap(),
        merges: serde_json::from_value(list("merges")).unwrap(),
        bos: id("bos"),
        eos: id("eos"),
        unk: id("unk"),
        add_space_prefix: keys.get("add_space_prefix").and_then(Value::as_bool),
        charsmap: keys
            .get("charsmap")
            .and_then(Value::as_str)
            .map(|text| BASE64_STANDARD.decode(text).unwrap())
            .unwrap_or_default(),
        remove_extra_whitespaces: keys.get("remove_extra_whitespaces").and_then(Value::as_bool),
        ..GgufVocab::default()
    }
}

fn gguf(name: &str) -> Tokenizer {
    Tokenizer::from_gguf(gguf_vocab(name)).unwrap()
}

/// Every tokenizer of the golden files.
fn all() -> Vec<(String, Tokenizer)> {
    let hf = HF.into_iter().chain(["unigram"]).map(|name| (format!("{name} (hf)"), hf(name)));
    hf.chain(GGUF.into_iter().map(|name| (format!("{name} (gguf)"), gguf(name)))).collect()
}
