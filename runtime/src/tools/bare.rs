//! Calls without a marker of their own: the whole answer is calls, in JSON or as Python writes them, perhaps in a fence of
//! Markdown. An answer in JSON is not taken for a call: it has other keys, or the name of no tool, or words around it.

use super::frame::{Block, Dialect, Step, THINK};
use super::json::{self, CALL_KEYS};
use super::text::{Begins, SPACE, begins, space};
use super::{ToolCall, python};
use serde_json::{Map, Value};

/// For models that know no format of their own.
pub(crate) const JSON: Dialect = Dialect {
    thoughts: &[THINK],
    opens: &[],
    ends: &[],
    joined: false,
    bare: |first| matches!(first, b'{' | b'[' | b'`'),
    block: |_| Box::new(Series::answer(false, &[])),
};

/// What one call, or one list of calls, is written in.
enum Unit {
    Json(json::Scan),
    Python(python::Scan),
}

/// What a unit has come to.
enum Reading {
    More,
    Calls(Vec<ToolCall>, usize),
    Fail,
}

impl Unit {
    /// Tells from the beginning of a text. `Err` says whether more text may help.
    fn of(text: &str, python: bool) -> Result<Self, bool> {
        let json = || Self::Json(json::Scan::with_keys(CALL_KEYS));
        let is_name = |byte: u8| byte == b'_' || byte >= 0x80 || byte.is_ascii_alphabetic();
        let blank = 1 + text.get(1..).map_or(0, space);
        match (text.as_bytes().first(), text.as_bytes().get(blank)) {
            (None, _) => Err(true),
            (Some(b'{'), _) => Ok(json()),
            (Some(b'['), _) if blank > SPACE => Err(false),
            (Some(b'['), None) => Err(true),
            (Some(b'['), Some(b'{')) => Ok(json()),
            (Some(b'['), Some(&second)) if python && is_name(second) => Ok(Self::Python(python::Scan::default())),
            (Some(&first), _) if python && is_name(first) => Ok(Self::Python(python::Scan::default())),
            _ => Err(false),
        }
    }

    fn read(&mut self, text: &str, schemas: &Map<String, Value>, known: &dyn Fn(&str) -> bool) -> Reading {
        let (calls, length) = match self {
            Self::Json(scan) => match scan.read(text) {
                json::Scanned::More => return Reading::More,
                json::Scanned::Value(value, length) => (json::calls(value, known), length),
                json::Scanned::Fail => return Reading::Fail,
            },
            Self::Python(scan) => match scan.read(text) {
                python::Scanned::More => return Reading::More,
                python::Scanned::End(length) => (python::calls(&text[..length], schemas), length),
                python::Scanned::Fail => return Reading::Fail,
            },
        };
        match calls.filter(|calls| calls.iter().all(|call| known(&call.name))) {
            Some(calls) => Reading::Calls(calls, length),
            None => Reading::Fail,
        }
    }
}

/// One call or list of calls right behind a marker, in JSON or as Python writes it.
#[derive(Default)]
pub(crate) struct Single {
    unit: Option<Unit>,
}

impl Block for Single {
    fn read(&mut self, text: &str, schemas: &Map<String, Value>, _: bool) -> Step {
        let blank = space(text);
        let unit = match &mut self.unit {
            Some(unit) => unit,
            None if blank > SPACE => return Step::Fail(0),
            unit => match Unit::of(&text[blank..], true) {
                Ok(told) => unit.insert(told),
                Err(true) => return Step::More,
                Err(false) => return Step::Fail(0),
            },
        };
        match unit.read(&text[blank..], schemas, &|_| true) {
            Reading::More => Step::More,
            Reading::Calls(calls, length) => Step::Done(calls, blank + length),
            Reading::Fail => Step::Fail(0),
        }
    }
}

const FENCE: &str = "```";

/// Calls one after the other, to the end of the answer or of a fence.
pub(crate) struct Series {
    python: bool,
    /// They may only be followed by the end of the answer, which one of these may spell.
    answer: Option<&'static [&'static str]>,
    /// A closing fence must come.
    fence: bool,
    /// The closing fence came.
    closed: bool,
    unit: Option<Unit>,
    calls: Vec<ToolCall>,
    at: usize,
}

impl Series {
    /// A whole answer.
    pub(crate) fn answer(python: bool, ends: &'static [&'static str]) -> Self {
        Self { python, answer: Some(ends), fence: false, closed: false, unit: None, calls: Vec::new(), at: 0 }
    }

    /// What stands in a fence whose opening line has been read.
    pub(crate) fn fenced(python: bool) -> Self {
        Self { answer: None, fence: true, ..Self::answer(python, &[]) }
    }

    fn done(&mut self) -> Step {
        Step::Done(std::mem::take(&mut self.calls), self.at)
    }

    /// Looks at what is between calls. `None` if a call may begin here.
    fn between(&mut self, text: &str, ended: bool) -> Option<Step> {
        let apart = |c: char| c.is_ascii_whitespace() || (!self.calls.is_empty() && matches!(c, ';' | ','));
        self.at = text.len() - text[self.at..].trim_start_matches(apart).len();
        let rest = &text[self.at..];
        let complete = !self.calls.is_empty() && (self.closed || !self.fence);
        if rest.is_empty() {
            return Some(if complete && ended { self.done() } else { Step::More });
        }
        if complete && let Some(ends) = self.answer {
            let ends: Vec<_> = ends.iter().map(|end| begins(rest, end)).collect();
            if ends.contains(&Begins::Yes) {
                return Some(self.done());
            }
            if ends.contains(&Begins::Perhaps) {
                return Some(Step::More);
            }
        }
        match begins(rest, FENCE) {
            Begins::Perhaps => Some(Step::More),
            Begins::Yes if self.fence && !self.closed && !self.calls.is_empty() => {
                self.at += FENCE.len();
                self.closed = true;
                if self.answer.is_none() { Some(self.done()) } else { self.between(text, ended) }
            }
            Begins::Yes if self.fence || !self.calls.is_empty() => Some(Step::Fail(0)),
            Begins::Yes => {
                // The line that opens a fence may name a language.
                let line = &rest[FENCE.len()..];
                let word = line.bytes().take_while(|&b| b.is_ascii_alphabetic() || b == b'_').count();
                match line.as_bytes().get(word) {
                    None if word <= SPACE => Some(Step::More),
                    Some(b'\n' | b'\r' | b' ') if word <= SPACE => {
                        self.fence = true;
                        self.at += FENCE.len() + word;
                        self.between(text, ended)
                    }
                    _ => Some(Step::Fail(0)),
                }
            }
            Begins::No if self.closed => Some(Step::Fail(0)),
            Begins::No => None,
        }
    }
}

impl Block for Series {
    fn read(&mut self, text: &str, schemas: &Map<String, Value>, ended: bool) -> Step {
        let known = |name: &str| schemas.is_empty() || schemas.contains_key(name);
        loop {
            let mut unit = match self.unit.take() {
                Some(unit) => unit,
                None => {
                    if let Some(step) = self.between(text, ended) {
                        return step;
                    }
                    match Unit::of(&text[self.at..], self.python) {
                        Ok(unit) => unit,
                        Err(true) => return Step::More,
                        Err(false) => return Step::Fail(0),
                    }
                }
            };
            match unit.read(&text[self.at..], schemas, &known) {
                Reading::More => {
                    self.unit = Some(unit);
                    return Step::More;
                }
                Reading::Calls(calls, length) => {
                    self.calls.extend(calls);
                    self.at += length;
                }
                Reading::Fail => return Step::Fail(0),
            }
        }
    }
}
