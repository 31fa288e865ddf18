//! Llama 3.x: `<|python_tag|>` and a call in JSON, or for built-in tools in Python, several of them joined by semicolons;
//! often without the tag, when the calls are all there is.

use super::bare::{Series, Single};
use super::frame::{Dialect, Open, THINK};

const ENDS: &[&str] = &["<|eom_id|>", "<|eot_id|>"];

pub(crate) const LLAMA: Dialect = Dialect {
    thoughts: &[THINK],
    opens: &["<|python_tag|>"],
    ends: ENDS,
    joined: true,
    bare: |first| matches!(first, b'{' | b'['),
    block: |open| match open {
        Open::Bare => Box::new(Series::answer(true, ENDS)),
        Open::Marker(_) | Open::Joined => Box::<Single>::default(),
    },
};
