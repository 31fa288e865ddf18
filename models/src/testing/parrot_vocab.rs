//! A byte-level BPE vocabulary in which given words are single tokens, as GGUF metadata and as tokenizer.json.

use super::{Folder, GgufWriter};
use serde_json::{Value, json};
use std::collections::HashMap;

/// Tokens by id: 256 bytes, control tokens, then what the merges make.
pub(super) struct Vocab {
    /// Spellings: of control tokens as they are, of others with each byte as its byte-level letter.
    pub(super) tokens: Vec<String>,
    controls: Vec<String>,
    /// Best first.
    merges: Vec<(String, String)>,
    ids: HashMap<String, u32>,
    /// The token that ends a turn.
    pub(super) stop: u32,
}

impl Vocab {
    pub(super) fn new<'a>(controls: &[&str], stop: &str, words: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut vocab =
            Vocab { tokens: Vec::new(), controls: Vec::new(), merges: Vec::new(), ids: HashMap::new(), stop: 0 };
        for byte in 0..=255 {
            vocab.add(letter(byte).to_string());
        }
        for control in controls {
            vocab.controls.push((*control).to_owned());
            vocab.add((*control).to_owned());
        }
        vocab.stop = *vocab.ids.get(stop).unwrap_or_else(|| panic!("{stop} is no control token"));
        for word in words {
            vocab.add_word(word);
        }
        vocab
    }

    /// The id of a word or control token.
    pub(super) fn id(&self, word: &[u8]) -> Option<u32> {
        let plain = std::str::from_utf8(word).ok().filter(|w| self.controls.iter().any(|c| c == w));
        self.ids.get(&plain.map_or_else(|| letters(word), str::to_owned)).copied()
    }

    fn add(&mut self, token: String) -> bool {
        let id = self.tokens.len() as u32;
        let new = self.ids.insert(token.clone(), id).is_none();
        assert!(new, "{token:?} is in the vocabulary twice");
        self.tokens.push(token);
        new
    }

    /// Adds merges until the word is one token. A merge added last is used last, so earlier words stay whole.
    fn add_word(&mut self, word: &[u8]) {
        assert!(!word.is_empty(), "a token has no text");
        loop {
            let parts = self.parts(word);
            let [left, right, ..] = &parts[..] else { return };
            let joined = format!("{left}{right}");
            self.merges.push((left.clone(), right.clone()));
            if !self.ids.contains_key(&joined) {
                self.add(joined);
            }
        }
    }

    /// The tokens of a word: byte pair encoding, the plain way.
    fn parts(&self, word: &[u8]) -> Vec<String> {
        let mut parts: Vec<String> = word.iter().map(|b| letter(*b).to_string()).collect();
        loop {
            let rank = |i: &usize| self.merges.iter().position(|(a, b)| *a == parts[*i] && *b == parts[*i + 1]);
            let best = (0..parts.len().saturating_sub(1)).filter_map(|i| Some((rank(&i)?, i))).min();
            let Some((_, i)) = best else { return parts };
            let right = parts.remove(i + 1);
            parts[i].push_str(&right);
        }
    }

    pub(super) fn gguf(&self, writer: GgufWriter, template: &str) -> GgufWriter {
        let types: Vec<i32> = self.tokens.iter().map(|t| if self.controls.contains(t) { 3 } else { 1 }).collect();
        let merges: Vec<String> = self.merges.iter().map(|(a, b)| format!("{a} {b}")).collect();
        writer
            .value("tokenizer.ggml.model", "gpt2")
            .value("tokenizer.ggml.pre", "gpt-2")
            .value("tokenizer.ggml.tokens", self.tokens.clone())
            .value("tokenizer.ggml.token_type", types)
            .value("tokenizer.ggml.merges", merges)
            .value("tokenizer.ggml.eos_token_id", self.stop)
            .value("tokenizer.ggml.add_bos_token", false)
            .value("tokenizer.chat_template", template)
    }

    pub(super) fn folder(&self, folder: Folder, template: &str) -> Folder {
        let byte_level =
            json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
        let ids: serde_json::Map<String, Value> =
            (0u32..).zip(&self.tokens).map(|(id, t)| (t.clone(), Value::from(id))).collect();
        let added: Vec<Value> = self
            .controls
            .iter()
            .map(|c| {
                json!({"id": self.ids[c], "content": c, "single_word": false, "lstrip": false, "rstrip": false,
                       "normalized": false, "special": true})
            })
            .collect();
        let tokenizer = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
            "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
            "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                      "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                      "vocab": ids, "merges": self.merges}
        });
        let stop = &self.tokens[self.stop as usize];
        folder
            .json("tokenizer.json", &tokenizer)
            .json(
                "tokenizer_config.json",
                &json!({"tokenizer_class": "GPT2Tokenizer", "eos_token": stop, "chat_template": template,
                        "add_bos_token": false, "clean_up_tokenization_spaces": false}),
            )
            .json("generation_config.json", &json!({"eos_token_id": self.stop}))
    }
}

fn letters(bytes: &[u8]) -> String {
    bytes.iter().map(|b| letter(*b)).collect()
}

/// The letter that stands for a byte in byte-level vocabularies: itself where it is printable Latin-1, else the next
/// free one from U+0100.
fn letter(byte: u8) -> char {
    let printable = |b: u8| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    if printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|b| !printable(*b)).count() as u32;
    char::from_u32(0x100 + before).unwrap_or('?')
}
