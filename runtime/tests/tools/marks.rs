//! A vocabulary of bytes and of the marks that families of models write.

use crate::common::byte_spellings;
use nano_models::{Control, GgufVocab};
use nano_runtime::Tokenizer;
use std::sync::OnceLock;

/// Control tokens.
const CONTROL: &[&str] = &[
    "<s>",
    "</s>",
    "<|im_start|>",
    "<|im_end|>",
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|python_tag|>",
    "[INST]",
    "[/INST]",
    "[TOOL_CALLS]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "<|start|>",
    "<|channel|>",
    "<|message|>",
    "<|constrain|>",
    "<|end|>",
    "<|call|>",
    "<|return|>",
];
/// Tokens of their own that are text.
const ADDED: &[&str] = &["<tool_call>", "</tool_call>", "<think>", "</think>"];

pub fn tokenizer() -> Tokenizer {
    static ONE: OnceLock<Tokenizer> = OnceLock::new();
    ONE.get_or_init(build).clone()
}

fn build() -> Tokenizer {
    let mut tokens: Vec<String> = byte_spellings().iter().map(char::to_string).collect();
    tokens.extend(CONTROL.iter().chain(ADDED).map(|&mark| mark.to_owned()));
    // A vocabulary of this kind must have a merge.
    tokens.push("~~".into());
    let kind = |i: usize| {
        if i < 256 {
            1
        } else if i < 256 + CONTROL.len() {
            3
        } else if i < 256 + CONTROL.len() + ADDED.len() {
            4
        } else {
            1
        }
    };
    let types = (0..tokens.len()).map(kind).collect();
    Tokenizer::from_gguf(GgufVocab {
        model: "gpt2".into(),
        pre: Some("gpt-2".into()),
        tokens,
        types,
        merges: vec!["~ ~".into()],
        bos: Some(256),
        eos: Some(257),
        add_bos: Some(false),
        ..GgufVocab::default()
    })
    .unwrap()
}

/// The tokens of a text, marks and all.
pub fn encode(text: &str) -> Vec<u32> {
    tokenizer().encode(text, Control::Parse).unwrap()
}

/// The text of tokens, marks and all.
pub fn decode(tokens: &[u32]) -> String {
    tokenizer().decode(tokens).unwrap()
}
