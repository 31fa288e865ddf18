//! DeepSeek: calls between markers of full-width bars, their arguments in a fence of Markdown (R1) or right behind the
//! name (V3.1). Neither the end of the calls nor the beginning of their outputs need be there.

use super::ToolCall;
use super::frame::{Block, Dialect, Open, Step, THINK, never};
use super::json::{Scan, Scanned};
use super::text::{Begins, SPACE, WORD, begins, find_near, space};
use serde_json::{Map, Value};

pub(crate) const CALLS_BEGIN: &str = "<｜tool▁calls▁begin｜>";
pub(crate) const CALL_BEGIN: &str = "<｜tool▁call▁begin｜>";
pub(crate) const CALL_END: &str = "<｜tool▁call▁end｜>";
pub(crate) const CALLS_END: &str = "<｜tool▁calls▁end｜>";
pub(crate) const SEPARATOR: &str = "<｜tool▁sep｜>";
const FENCE: &str = "```";

pub(crate) const DEEPSEEK: Dialect = Dialect {
    thoughts: &[THINK],
    opens: &[CALLS_BEGIN, CALL_BEGIN],
    ends: &[CALL_END, CALLS_END, "<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>", "<｜end▁of▁sentence｜>"],
    joined: false,
    bare: never,
    block: |open| Box::new(Call { first: open == Open::Marker(0), ..Call::default() }),
};

/// Calls between their markers.
pub(crate) fn written(calls: &str) -> String {
    format!("{CALLS_BEGIN}{calls}{CALLS_END}")
}

/// One call, as R1 writes it.
pub(crate) fn written_call(name: &str, arguments: &str) -> String {
    format!("{CALL_BEGIN}function{SEPARATOR}{name}\n{FENCE}json\n{arguments}\n{FENCE}{CALL_END}")
}

/// One call, behind its own marker, or before that, behind the one that begins all calls.
#[derive(Default)]
struct Call {
    first: bool,
    /// The name, where the arguments begin, and whether they stand in a fence.
    head: Option<(String, usize, bool)>,
    scan: Scan,
    /// The arguments and where they end, once they are complete.
    arguments: Option<(Map<String, Value>, usize)>,
}

impl Block for Call {
    fn read(&mut self, text: &str, _: &Map<String, Value>, ended: bool) -> Step {
        let (name, from, fenced) = match &mut self.head {
            Some(head) => head,
            unread => match head(text, self.first) {
                Ok(head) => unread.insert(head),
                Err(step) => return step,
            },
        };
        let (arguments, end) = match &mut self.arguments {
            Some(arguments) => arguments,
            unread => match self.scan.read(&text[*from..]) {
                Scanned::More => return Step::More,
                Scanned::Value(Value::Object(arguments), length) => unread.insert((arguments, *from + length)),
                Scanned::Value(..) | Scanned::Fail => return Step::Fail(0),
            },
        };
        let mut used = *end;
        if *fenced {
            let close = used + space(&text[used..]);
            match begins(&text[close..], FENCE) {
                _ if close - used > SPACE => (),
                Begins::Yes => used = close + FENCE.len(),
                Begins::Perhaps if !ended => return Step::More,
                Begins::Perhaps | Begins::No => (),
            }
        }
        Step::Done(vec![ToolCall { id: None, name: name.clone(), arguments: std::mem::take(arguments) }], used)
    }
}

/// All before the arguments. The kind of a call, which is always a function, comes before its name in R1 only.
fn head(text: &str, first: bool) -> Result<(String, usize, bool), Step> {
    let mut at = 0;
    if first {
        at = pass(text, at, CALL_BEGIN)?;
    }
    let (before, end) = until(text, at, SEPARATOR)?;
    at = blank(text, end)?;
    if text.as_bytes()[at] == b'{' {
        return named(before, at, false);
    }
    let (name, end) = until(text, at, "\n")?;
    at = blank(text, end)?;
    if text.as_bytes()[at] == b'{' {
        return named(name, at, false);
    }
    at = pass(text, at, FENCE)?;
    let (_, end) = until(text, at, "\n")?;
    at = blank(text, end)?;
    named(name, at, true)
}

fn named(name: &str, at: usize, fenced: bool) -> Result<(String, usize, bool), Step> {
    let name = name.trim();
    if name.is_empty() { Err(Step::Fail(0)) } else { Ok((name.to_owned(), at, fenced)) }
}

/// Where text goes on behind white space, of which there must be something.
fn blank(text: &str, at: usize) -> Result<usize, Step> {
    let length = space(&text[at..]);
    match text.len() - at - length {
        _ if length > SPACE => Err(Step::Fail(0)),
        0 => Err(Step::More),
        _ => Ok(at + length),
    }
}

/// Where text goes on behind white space and this.
fn pass(text: &str, at: usize, what: &str) -> Result<usize, Step> {
    let at = blank(text, at)?;
    match begins(&text[at..], what) {
        Begins::Yes => Ok(at + what.len()),
        Begins::Perhaps => Err(Step::More),
        Begins::No => Err(Step::Fail(0)),
    }
}

/// The word before an end, and what comes behind that. A quotation mark in it would be no name, but could hide one.
fn until<'a>(text: &'a str, at: usize, end: &str) -> Result<(&'a str, usize), Step> {
    match find_near(text, at, WORD, end) {
        Some(found) if !text[at..found].contains('"') => Ok((&text[at..found], found + end.len())),
        None if text.len() - at < WORD + end.len() => Err(Step::More),
        _ => Err(Step::Fail(0)),
    }
}
