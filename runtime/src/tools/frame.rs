//! The frame that most formats share: reasoning first, then text with calls in it, each call behind a marker. What stands
//! between the marker and the end of a call is read by the format's own [`Block`].
//!
//! Every byte is looked at a bounded number of times. A block that fails gives back its marker as text, and what follows
//! is looked at again; the blocks see to it that no two of them which fail reach far over each other.

use super::text::{Begins, Found, SPACE, begins, find, space, without_space};
use super::{ParserOptions, Piece, Pieces, ToolCall};
use serde_json::{Map, Value};

/// What tells a format from others.
pub(crate) struct Dialect {
    /// What opens and closes reasoning. It is looked for at the beginning of an answer only.
    pub(crate) thoughts: &'static [(&'static str, &'static str)],
    /// What begins a call.
    pub(crate) opens: &'static [&'static str],
    /// What may follow a call and belongs to it: closing markers, and the end of the turn.
    pub(crate) ends: &'static [&'static str],
    /// Whether an object may follow a call at once, or after a semicolon or comma, as the next call.
    pub(crate) joined: bool,
    /// Whether an answer that begins with this character may be a call without a marker.
    pub(crate) bare: fn(u8) -> bool,
    /// Reads a call.
    pub(crate) block: fn(Open) -> Box<dyn Block>,
}

/// What a block was opened by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Open {
    /// The first character of the answer.
    Bare,
    /// The marker with this index.
    Marker(usize),
    /// A call before it.
    Joined,
}

/// The usual marks of reasoning.
pub(crate) const THINK: (&str, &str) = ("<think>", "</think>");

/// No answer of the format begins with a call that has no marker.
pub(crate) fn never(_: u8) -> bool {
    false
}

/// Reads what follows the marker of a call.
pub(crate) trait Block: Send {
    /// Looks at all the text since the marker, of which there is more at every call; with `ended`, there will be no more.
    fn read(&mut self, text: &str, schemas: &Map<String, Value>, ended: bool) -> Step;
}

/// How far a block is.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    /// It needs more text; without more, the marker is text.
    More,
    /// These calls were made by that many bytes.
    Done(Vec<ToolCall>, usize),
    /// It is no call: the marker and this many bytes after it are text, and the rest is looked at again.
    Fail(usize),
}

/// Takes an answer apart.
pub(crate) struct Frame {
    dialect: &'static Dialect,
    expected: ParserOptions,
    held: String,
    /// What of `held` is done with.
    at: usize,
    mode: Mode,
    out: Pieces,
}

enum Mode {
    /// Nothing but white space so far, which is kept when it turns out to begin a text, unless reasoning came before.
    Start {
        keep: bool,
    },
    Text,
    /// Thoughts; nothing of them was given yet if they have not `begun`.
    Reasoning {
        close: &'static str,
        begun: bool,
    },
    /// A call whose text begins `head` bytes from here: white space and the marker are before it.
    Call {
        head: usize,
        block: Box<dyn Block>,
    },
    /// Behind a call.
    After {
        closed: bool,
    },
}

impl Frame {
    pub(crate) fn new(dialect: &'static Dialect, expected: ParserOptions) -> Self {
        let mode = match dialect.thoughts.first() {
            Some((_, close)) if expected.inside_reasoning => Mode::Reasoning { close, begun: false },
            _ => Mode::Start { keep: true },
        };
        Self { dialect, expected, held: String::new(), at: 0, mode, out: Pieces::default() }
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
            Mode::Start { keep } => self.start(*keep, ended),
            Mode::Text => self.text(ended),
            Mode::Reasoning { close, begun } => self.reasoning(close, *begun, ended),
            Mode::Call { .. } => self.call(ended),
            Mode::After { closed } => self.after(*closed, ended),
        }
    }

    fn start(&mut self, keep: bool, ended: bool) -> bool {
        if !keep {
            self.at += space(&self.held[self.at..]);
        }
        let rest = &self.held[self.at..];
        let blank = space(rest);
        let Some(&first) = rest.as_bytes().get(blank).filter(|_| blank <= SPACE) else {
            if ended || blank > SPACE {
                self.mode = Mode::Text;
            }
            return ended || blank > SPACE;
        };
        for (open, close) in self.dialect.thoughts {
            match begins(&rest[blank..], open) {
                Begins::Yes => {
                    self.at += blank + open.len();
                    self.mode = Mode::Reasoning { close, begun: false };
                    return true;
                }
                Begins::Perhaps if !ended => return false,
                Begins::Perhaps | Begins::No => (),
            }
        }
        self.mode = if self.expected.calls && (self.dialect.bare)(first) {
            Mode::Call { head: blank, block: (self.dialect.block)(Open::Bare) }
        } else {
            Mode::Text
        };
        true
    }

    fn text(&mut self, ended: bool) -> bool {
        let rest = &self.held[self.at..];
        let opens = if self.expected.calls { self.dialect.opens } else { &[] };
        let (free, found) = match find(rest, opens) {
            Found::At(at, index) => (without_space(&rest[..at]), Some((at, index))),
            Found::Perhaps(at) if !ended => (without_space(&rest[..at]), None),
            Found::No if !ended && !opens.is_empty() => (without_space(rest), None),
            Found::Perhaps(_) | Found::No => (rest.len(), None),
        };
        self.out.text(&rest[..free]);
        self.at += free;
        if let Some((at, index)) = found {
            let head = at - free + opens[index].len();
            self.mode = Mode::Call { head, block: (self.dialect.block)(Open::Marker(index)) };
        }
        found.is_some()
    }

    fn reasoning(&mut self, close: &'static str, begun: bool, ended: bool) -> bool {
        if !begun {
            self.at += space(&self.held[self.at..]);
            let rest = &self.held[self.at..];
            if rest.is_empty() {
                return false;
            }
            // Some models repeat the marker that the prompt ends with.
            for (open, _) in self.dialect.thoughts {
                match begins(rest, open) {
                    Begins::Yes => {
                        self.at += open.len();
                        return true;
                    }
                    Begins::Perhaps if !ended => return false,
                    Begins::Perhaps | Begins::No => (),
                }
            }
        }
        let rest = &self.held[self.at..];
        let (free, closed) = match find(rest, &[close]) {
            Found::At(at, _) => (without_space(&rest[..at]), Some(at + close.len())),
            Found::Perhaps(at) if !ended => (without_space(&rest[..at]), None),
            Found::No if !ended => (without_space(rest), None),
            Found::Perhaps(_) | Found::No => (rest.len(), None),
        };
        self.out.reasoning(&rest[..free]);
        self.at += closed.unwrap_or(free);
        self.mode = match closed {
            Some(_) => Mode::Start { keep: false },
            None => Mode::Reasoning { close, begun: begun || free > 0 },
        };
        closed.is_some()
    }

    fn call(&mut self, ended: bool) -> bool {
        let Mode::Call { head, block } = &mut self.mode else { return false };
        let head = self.at + *head;
        match block.read(&self.held[head..], &self.expected.schemas, ended) {
            Step::More if !ended => return false,
            Step::Done(calls, used) => {
                self.out.calls(calls);
                self.at = head + used;
                self.mode = Mode::After { closed: false };
            }
            step => {
                let end = head + if let Step::Fail(skip) = step { skip } else { 0 };
                self.out.text(&self.held[self.at..end]);
                self.at = end;
                self.mode = Mode::Text;
            }
        }
        true
    }

    fn after(&mut self, closed: bool, ended: bool) -> bool {
        self.at += space(&self.held[self.at..]);
        let rest = &self.held[self.at..];
        if rest.is_empty() {
            return false;
        }
        let mut perhaps = false;
        for end in self.dialect.ends {
            match begins(rest, end) {
                Begins::Yes => {
                    self.at += end.len();
                    self.mode = Mode::After { closed: true };
                    return true;
                }
                Begins::Perhaps => perhaps = true,
                Begins::No => (),
            }
        }
        if perhaps && !ended {
            return false;
        }
        if self.dialect.joined && !closed {
            let joint = usize::from(matches!(rest.as_bytes()[0], b';' | b','));
            let head = joint + space(&rest[joint..]);
            match rest.as_bytes().get(head) {
                None if !ended && head <= SPACE => return false,
                Some(b'{') if head <= SPACE => {
                    self.mode = Mode::Call { head, block: (self.dialect.block)(Open::Joined) };
                    return true;
                }
                _ => (),
            }
        }
        self.mode = Mode::Text;
        true
    }
}
