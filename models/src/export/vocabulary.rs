//! Tokenizer and chat template as GGUF metadata.

use super::Named;
use crate::GgufVocab;

/// The keys of a tokenizer.
pub fn values(vocab: GgufVocab, template: Option<String>) -> Vec<Named> {
    let mut out: Vec<Named> = Vec::new();
    let mut put = |key: &str, value| out.push((format!("tokenizer.{key}"), value));
    put("ggml.model", vocab.model.into());
    if let Some(pre) = vocab.pre {
        put("ggml.pre", pre.into());
    }
    put("ggml.tokens", vocab.tokens.into());
    if !vocab.scores.is_empty() {
        put("ggml.scores", vocab.scores.into());
    }
    put("ggml.token_type", vocab.types.into());
    if !vocab.merges.is_empty() {
        put("ggml.merges", vocab.merges.into());
    }
    let ids = [
        ("ggml.bos_token_id", vocab.bos),
        ("ggml.eos_token_id", vocab.eos),
        ("ggml.eot_token_id", vocab.eot),
        ("ggml.unknown_token_id", vocab.unk),
    ];
    for (key, id) in ids {
        if let Some(id) = id {
            put(key, id.into());
        }
    }
    put("ggml.add_bos_token", vocab.add_bos.unwrap_or(false).into());
    put("ggml.add_space_prefix", vocab.add_space_prefix.unwrap_or(false).into());
    if let Some(template) = template {
        put("chat_template", template.into());
    }
    out
}
