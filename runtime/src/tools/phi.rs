//! Phi-4 and Granite 3: `<|tool_call|>` and a list of calls in JSON, or `functools` and the same.

use super::frame::{Dialect, THINK, never};
use super::json::Objects;

pub(crate) const PHI: Dialect = Dialect {
    thoughts: &[THINK],
    opens: &["<|tool_call|>", "functools"],
    ends: &["<|/tool_call|>", "</|tool_call|>", "<|end|>", "<|end_of_text|>"],
    joined: true,
    bare: never,
    block: |_| Box::<Objects>::default(),
};
