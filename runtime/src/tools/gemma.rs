//! Gemma 2 and 3, which have no tokens for calls: as they are told to in words, they answer with a list of calls in
//! Python, with an object in JSON, or with a fence named `tool_code`.

use super::bare::Series;
use super::frame::{Dialect, Open, THINK};

const ENDS: &[&str] = &["<end_of_turn>"];

pub(crate) const GEMMA: Dialect = Dialect {
    thoughts: &[THINK],
    opens: &["```tool_code\n"],
    ends: ENDS,
    joined: false,
    bare: |first| matches!(first, b'{' | b'[' | b'`'),
    block: |open| match open {
        Open::Bare => Box::new(Series::answer(true, ENDS)),
        Open::Marker(_) | Open::Joined => Box::new(Series::fenced(true)),
    },
};
