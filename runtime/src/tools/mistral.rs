//! Mistral: `[TOOL_CALLS]` and a list of calls in JSON, or, from the eleventh tokenizer on, a name, perhaps an id, and the
//! arguments, for each call anew.

use super::ToolCall;
use super::frame::{Block, Dialect, Step, THINK, never};
use super::json::{Objects, Scan, Scanned};
use super::text::{Begins, SPACE, WORD, begins, space};
use serde_json::{Map, Value};

pub(crate) const MISTRAL: Dialect = Dialect {
    thoughts: &[("[THINK]", "[/THINK]"), THINK],
    opens: &[CALLS],
    ends: &["</s>"],
    joined: false,
    bare: never,
    block: |_| Box::<Calls>::default(),
};

pub(crate) const CALLS: &str = "[TOOL_CALLS]";
const CALL_ID: &str = "[CALL_ID]";
pub(crate) const ARGS: &str = "[ARGS]";

/// What follows the marker. The first character tells the two forms apart.
#[derive(Default)]
struct Calls {
    listed: Objects,
    /// A name was read: it, the id, and where the arguments begin.
    named: Option<(String, Option<String>, usize)>,
    arguments: Scan,
}

impl Block for Calls {
    fn read(&mut self, text: &str, schemas: &Map<String, Value>, ended: bool) -> Step {
        let (name, id, from) = match &mut self.named {
            Some(named) => named,
            named => {
                let blank = space(text);
                match text.as_bytes().get(blank) {
                    _ if blank > SPACE => return Step::Fail(0),
                    None => return Step::More,
                    Some(b'[' | b'{') => return self.listed.read(text, schemas, ended),
                    Some(_) => match head(text, blank) {
                        Ok(head) => named.insert(head),
                        Err(step) => return step,
                    },
                }
            }
        };
        match self.arguments.read(&text[*from..]) {
            Scanned::More => Step::More,
            Scanned::Value(Value::Object(arguments), length) => {
                Step::Done(vec![ToolCall { id: id.clone(), name: name.clone(), arguments }], *from + length)
            }
            Scanned::Value(..) | Scanned::Fail => Step::Fail(0),
        }
    }
}

/// The name and id of a call, and where its arguments begin.
fn head(text: &str, from: usize) -> Result<(String, Option<String>, usize), Step> {
    let (name, mut at) = word(text, from)?;
    let mut id = None;
    for marker in [CALL_ID, ARGS] {
        match begins(&text[at..], marker) {
            Begins::Yes => at += marker.len(),
            Begins::Perhaps => return Err(Step::More),
            Begins::No => continue,
        }
        if marker == CALL_ID {
            let (given, end) = word(text, at)?;
            (id, at) = (Some(given.to_owned()), end);
        }
    }
    let blank = space(&text[at..]);
    match text.as_bytes().get(at + blank) {
        _ if blank > SPACE => Err(Step::Fail(0)),
        None => Err(Step::More),
        Some(b'{') => Ok((name.to_owned(), id, at + blank)),
        Some(_) => Err(Step::Fail(0)),
    }
}

/// A word that a marker, white space or the arguments end.
fn word(text: &str, from: usize) -> Result<(&str, usize), Step> {
    let length =
        text[from..].bytes().take(WORD).take_while(|b| !b.is_ascii_whitespace() && !b"[{<\"".contains(b)).count();
    match text.as_bytes().get(from + length) {
        _ if length == 0 && from < text.len() => Err(Step::Fail(0)),
        _ if length == WORD => Err(Step::Fail(0)),
        None => Err(Step::More),
        Some(_) => Ok((&text[from..from + length], from + length)),
    }
}
