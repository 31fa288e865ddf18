//! gpt-oss: messages with a header each. The header's channel tells reasoning from text, and a recipient makes a call of
//! the message: `<|channel|>commentary to=functions.f <|constrain|>json<|message|>{..}<|call|>`.

use super::json::{Scan, Scanned};
use super::text::{Begins, Found, SPACE, begins, find, find_near, space};
use super::{ParserOptions, Piece, Pieces, ToolCall};
use serde_json::{Map, Value};

/// What can begin a header.
pub(crate) const MARKERS: &[&str] = &[CHANNEL, START];

/// What a prompt ends with whose answer begins inside reasoning.
pub(crate) const REASONING: &str = "<|channel|>analysis<|message|>";

/// What stands between two messages of an answer.
pub(crate) const NEXT: &str = "<|start|>assistant";

pub(crate) const START: &str = "<|start|>";
pub(crate) const END: &str = "<|end|>";
pub(crate) const CONSTRAIN: &str = "<|constrain|>";

pub(crate) const MESSAGE: &str = "<|message|>";
pub(crate) const CHANNEL: &str = "<|channel|>";
pub(crate) const CALL: &str = "<|call|>";
/// What ends a message, and what begins the next where the end is missing.
const ENDS: &[&str] = &[END, "<|return|>", CALL, CHANNEL, START];
/// How many of them end a message; the others are looked at again.
const CLOSING: usize = 3;
/// What a header can begin with at the beginning of an answer, whose prompt may have begun it.
const BEGINNINGS: &[&str] = &[CHANNEL, START, MESSAGE, "to="];
/// Longer headers are none.
const HEADER: usize = 256;

/// A call.
pub(crate) fn written(name: &str, arguments: &str) -> String {
    format!("{CHANNEL}commentary to=functions.{name} {CONSTRAIN}json{MESSAGE}{arguments}{CALL}")
}

/// Takes an answer apart.
pub(crate) struct Harmony {
    expected: ParserOptions,
    held: String,
    /// What of `held` is done with.
    at: usize,
    mode: Mode,
    out: Pieces,
}

enum Mode {
    /// Before a header: at the beginning of the answer, or else behind a message.
    Between {
        first: bool,
    },
    /// In a header. If it is none, the message before it goes on.
    Header {
        reasoning: bool,
    },
    Body {
        reasoning: bool,
    },
    /// In a message that is a call and begins `head` bytes from here.
    Call {
        name: String,
        head: usize,
        scan: Scan,
    },
}

impl Harmony {
    pub(crate) fn new(expected: ParserOptions) -> Self {
        let mode = match expected.inside_reasoning {
            true => Mode::Body { reasoning: true },
            false => Mode::Between { first: true },
        };
        Self { expected, held: String::new(), at: 0, mode, out: Pieces::default() }
    }

    pub(crate) fn push(&mut self, text: &str) -> Vec<Piece> {
        self.held.push_str(text);
        self.run(false)
    }

    pub(crate) fn finish(&mut self) -> Vec<Piece> {
        self.run(true)
    }

    fn run(&mut self, ended: bool) -> Vec<Piece> {
        while self.at < self.held.len() && self.step(ended) {}
        self.held.drain(..self.at);
        self.at = 0;
        std::mem::take(&mut self.out).0
    }

    /// Goes on as far as one mode reaches. False when more text is needed.
    fn step(&mut self, ended: bool) -> bool {
        match &self.mode {
            Mode::Between { first } => self.between(*first, ended),
            Mode::Header { reasoning } => self.header(*reasoning, ended),
            Mode::Body { reasoning } => self.body(*reasoning, ended),
            Mode::Call { .. } => self.call(ended),
        }
    }

    fn between(&mut self, first: bool, ended: bool) -> bool {
        if !first {
            self.at += space(&self.held[self.at..]);
        }
        let rest = &self.held[self.at..];
        let blank = space(rest);
        let told = &rest[blank..];
        let is = |marks: &[&str], wanted| marks.iter().any(|mark| begins(told, mark) == wanted);
        if !first && let Some(end) = ENDS[..CLOSING].iter().find(|end| told.starts_with(**end)) {
            self.at += end.len();
            return true;
        }
        let may_follow = if first { BEGINNINGS } else { ENDS };
        if blank <= SPACE && !ended && is(may_follow, Begins::Perhaps) {
            return false;
        }
        self.mode = if blank <= SPACE && is(may_follow, Begins::Yes) {
            self.at += blank;
            Mode::Header { reasoning: false }
        } else {
            Mode::Body { reasoning: false }
        };
        true
    }

    fn header(&mut self, reasoning: bool, ended: bool) -> bool {
        let rest = &self.held[self.at..];
        let found = find_near(rest, 0, HEADER, MESSAGE);
        let header = &rest[..found.unwrap_or(0)];
        // A quotation mark in a header could hide it in the string of another call.
        let broken = header.contains('"') || ENDS[..CLOSING].iter().any(|end| header.contains(end));
        let Some(length) = found.filter(|_| !broken) else {
            if found.is_none() && rest.len() < HEADER + MESSAGE.len() && !ended {
                return false;
            }
            // The first character is enough to get on; what follows it is looked at as the message it is part of.
            let first = rest.chars().next().map_or(0, char::len_utf8);
            emit(&mut self.out, &rest[..first], reasoning);
            self.at += first;
            self.mode = Mode::Body { reasoning };
            return true;
        };
        let head = length + MESSAGE.len();
        match recipient(header) {
            Some(name) if self.expected.calls => {
                self.mode = Mode::Call { name: name.to_owned(), head, scan: Scan::default() };
            }
            Some(_) => {
                self.out.text(&rest[..head]);
                self.at += head;
                self.mode = Mode::Body { reasoning: false };
            }
            None => {
                self.mode = Mode::Body { reasoning: word_after(header, CHANNEL) == Some("analysis") };
                self.at += head;
            }
        }
        true
    }

    fn body(&mut self, reasoning: bool, ended: bool) -> bool {
        let rest = &self.held[self.at..];
        let (free, found) = match find(rest, ENDS) {
            Found::At(at, index) => (at, Some(index)),
            Found::Perhaps(at) if !ended => (at, None),
            Found::Perhaps(_) | Found::No => (rest.len(), None),
        };
        emit(&mut self.out, &rest[..free], reasoning);
        self.at += free;
        match found {
            Some(index) if index < CLOSING => {
                self.at += ENDS[index].len();
                self.mode = Mode::Between { first: false };
            }
            Some(_) => self.mode = Mode::Header { reasoning },
            None => (),
        }
        found.is_some()
    }

    fn call(&mut self, ended: bool) -> bool {
        let Mode::Call { name, head, scan } = &mut self.mode else { return false };
        let text = &self.held[self.at + *head..];
        let blank = space(text);
        let made = match scan.read(&text[blank..]) {
            _ if blank > SPACE => None,
            Scanned::Value(Value::Object(arguments), length) => Some((arguments, blank + length)),
            Scanned::More if !ended => return false,
            // A message without words is a call without arguments.
            _ if blank <= SPACE && text[blank..].starts_with(CALL) => Some((Map::new(), blank)),
            Scanned::Fail if !ended && begins(&text[blank..], CALL) == Begins::Perhaps => {
                *scan = Scan::default();
                return false;
            }
            _ => None,
        };
        match made {
            Some((arguments, used)) => {
                self.at += *head + used;
                let name = std::mem::take(name);
                self.out.calls(vec![ToolCall { id: None, name, arguments }]);
                self.mode = Mode::Between { first: false };
            }
            None => {
                let head = *head;
                self.out.text(&self.held[self.at..self.at + head]);
                self.at += head;
                self.mode = Mode::Body { reasoning: false };
            }
        }
        true
    }
}

fn emit(out: &mut Pieces, text: &str, reasoning: bool) {
    if reasoning { out.reasoning(text) } else { out.text(text) }
}

/// The tool that a message is for. Those of the runtime that the model was made with have no `functions.` before them.
fn recipient(header: &str) -> Option<&str> {
    let name = word_after(header, "to=")?;
    let name = name.strip_prefix("functions.").unwrap_or(name);
    (!name.is_empty() && !matches!(name, "assistant" | "user" | "all")).then_some(name)
}

fn word_after<'a>(header: &'a str, what: &str) -> Option<&'a str> {
    let (_, after) = header.split_once(what)?;
    let after = after.trim_start();
    Some(&after[..after.find(|c: char| c == '<' || c.is_whitespace()).unwrap_or(after.len())])
}
