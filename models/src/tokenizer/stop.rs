//! Which tokens end a turn. Files name some of them; the rest is known by spelling, as in llama.cpp.

use super::pieces::{Kind, Pieces};
use std::collections::HashSet;

const END_OF_TURN: &[&str] = &[
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<｜end▁of▁sentence｜>",
    "</s>",
    "<eos>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
];

/// Whether a spelling is known to end a turn.
pub(super) fn ends_turn(spelling: &str) -> bool {
    END_OF_TURN.contains(&spelling)
}

/// The given ids and the control tokens known by their spelling, each once.
pub(super) fn tokens(given: impl IntoIterator<Item = u32>, pieces: &Pieces) -> Vec<u32> {
    let mut seen = HashSet::new();
    let known = (0..pieces.len() as u32)
        .filter(|&id| pieces.kind(id) == Kind::Control && pieces.spelling(id).is_some_and(ends_turn));
    // An answer of gpt-oss is several messages, and this ends one of them.
    let spelled = |id: u32| pieces.spelling(id).unwrap_or_default();
    let mut all: Vec<u32> = given.into_iter().chain(known).filter(|&id| seen.insert(id)).collect();
    if all.iter().any(|&id| spelled(id) == "<|call|>") {
        all.retain(|&id| spelled(id) != "<|end|>");
    }
    all
}
