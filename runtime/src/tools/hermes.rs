//! Hermes, Qwen 2.5 and Qwen 3: `<tool_call>` and an object in JSON, any number of times. That the object is complete
//! makes the call: the closing marker often ends the reply, and is not seen here.

use super::frame::{Dialect, THINK, never};
use super::json::Objects;

pub(crate) const HERMES: Dialect = Dialect {
    thoughts: &[THINK],
    opens: &["<tool_call>"],
    ends: &["</tool_call>", "<|im_end|>"],
    joined: true,
    bare: never,
    block: |_| Box::<Objects>::default(),
};
