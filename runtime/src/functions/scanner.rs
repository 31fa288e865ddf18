//! Finds calls in a reply while it is written, whatever pieces it comes in. Each byte is looked at a bounded number of
//! times; nothing is kept but what may become a name, and the call that is open.

use super::BotFunctions;
use super::literal::{Problem, arguments};
use regex::Regex;
use serde_json::{Map, Value};

/// A call that is longer is forgotten.
const LONGEST: usize = 64 * 1024;

/// A call in a reply.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Found {
    pub(crate) name: String,
    /// Bound to the names of the parameters, or a sentence that says why they cannot be.
    pub(crate) arguments: Result<Map<String, Value>, String>,
    /// Where the call ends, in bytes of all text pushed and spliced so far.
    pub(crate) end: usize,
}

/// Looks for calls of a set of functions in one reply.
#[derive(Debug)]
pub(crate) struct Scanner {
    functions: BotFunctions,
    names: Option<Regex>,
    /// The end of what was read, long enough for a name, its parenthesis and the character before.
    tail: String,
    window: usize,
    /// Where in the tail a name may begin: not within a call or a splice.
    floor: usize,
    open: Option<Open>,
    /// Bytes read.
    seen: usize,
}

impl Scanner {
    pub(crate) fn new(functions: &BotFunctions) -> Self {
        // One parenthesis and one character of up to four bytes.
        let window = functions.names().map(str::len).max().unwrap_or(0) + 5;
        let names = functions.pattern.clone();
        Self { functions: functions.clone(), names, tail: String::new(), window, floor: 0, open: None, seen: 0 }
    }

    /// Adds text of the model. Gives the calls that it completes, in order.
    pub(crate) fn push(&mut self, text: &str) -> Vec<Found> {
        let mut found = Vec::new();
        let start = self.seen;
        self.seen += text.len();
        if self.names.is_none() {
            return found;
        }
        let mut at = 0;
        while at < text.len() {
            let Some(open) = &mut self.open else {
                at += self.look(&text[at..]);
                continue;
            };
            let (taken, end) = open.take(&text[at..]);
            at += taken;
            if let Some(end) = end {
                if end == End::Closed {
                    let arguments = open.arguments(&self.functions);
                    found.push(Found { name: open.name.clone(), arguments, end: start + at });
                }
                self.open = None;
                // What was read may be the character before a name, and is never a part of one.
                self.tail.clear();
                self.tail.extend(text[..at].chars().next_back());
                self.floor = self.tail.len();
            }
        }
        found
    }

    /// Adds text that is not the model's: it belongs to no call.
    pub(crate) fn splice(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        self.seen += text.len();
        self.open = None;
        self.keep(text);
        self.floor = self.tail.len();
    }

    /// Reads up to the next call that opens. Gives the number of bytes read.
    fn look(&mut self, text: &str) -> usize {
        let Some(parenthesis) = text.find('(') else {
            self.keep(text);
            return text.len();
        };
        let read = parenthesis + 1;
        self.keep(&text[..read]);
        let name = self.names.as_ref().and_then(|names| names.find_at(&self.tail, self.floor));
        if let Some(name) = name {
            self.open = Some(Open::new(name.as_str().trim_end_matches('(')));
        }
        read
    }

    fn keep(&mut self, text: &str) {
        let cut =
            |text: &str| (text.len().saturating_sub(self.window)..).find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        let from = cut(text);
        if from > 0 {
            self.tail.clear();
            self.floor = 0;
        }
        self.tail.push_str(&text[from..]);
        let from = cut(&self.tail);
        self.tail.drain(..from);
        self.floor = self.floor.saturating_sub(from);
    }
}

/// A call whose parenthesis is not closed yet.
#[derive(Debug)]
struct Open {
    name: String,
    text: String,
    state: State,
    depth: usize,
    /// Nothing but space since a line ended.
    line: bool,
    /// Length of the text when it was last asked whether it can still become arguments.
    asked: usize,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Closed,
    Forgotten,
}

/// Where the text of a call is, as far as brackets and quotes go.
#[derive(Clone, Copy, Debug)]
enum State {
    Code,
    /// After the first quote: the next decides between one and three.
    Quote(char),
    /// After a second quote: the string was empty, unless a third follows.
    Quotes(char),
    Text {
        quote: char,
        /// Quotes that end it.
        of: u8,
        /// Those of them that were read.
        ended: u8,
    },
    Escape {
        quote: char,
        of: u8,
    },
}

impl Open {
    fn new(name: &str) -> Self {
        let text = String::new();
        Self { name: name.to_owned(), text, state: State::Code, depth: 1, line: false, asked: 0 }
    }

    /// Reads up to the end of the call. Gives the number of bytes read, and the end if it is among them.
    fn take(&mut self, text: &str) -> (usize, Option<End>) {
        for (at, c) in text.char_indices() {
            let end = if self.closes(c) {
                Some(End::Closed)
            } else {
                self.text.push(c);
                (self.text.len() > LONGEST || self.is_prose(c)).then_some(End::Forgotten)
            };
            if end.is_some() {
                return (at + c.len_utf8(), end);
            }
        }
        (text.len(), None)
    }

    fn closes(&mut self, c: char) -> bool {
        self.state = match self.state {
            State::Code | State::Quotes(_) if c == '(' || c == '[' || c == '{' => {
                self.depth += 1;
                State::Code
            }
            State::Quotes(quote) if c == quote => State::Text { quote, of: 3, ended: 0 },
            State::Code | State::Quotes(_) => match c {
                ')' if self.depth == 1 => return true,
                // The last one is closed by a parenthesis only.
                ')' | ']' | '}' => {
                    self.depth = (self.depth - 1).max(1);
                    State::Code
                }
                '\'' | '"' => State::Quote(c),
                _ => State::Code,
            },
            State::Quote(quote) if c == quote => State::Quotes(quote),
            State::Quote(quote) => text_of(quote, 1, c),
            State::Text { quote, of, ended } if c == quote && ended + 1 < of => {
                State::Text { quote, of, ended: ended + 1 }
            }
            State::Text { quote, .. } if c == quote => State::Code,
            State::Text { quote, of, .. } => text_of(quote, of, c),
            State::Escape { quote, of } => State::Text { quote, of, ended: 0 },
        };
        false
    }

    /// An empty line ends a call that was none: a name and a parenthesis in the middle of prose, which would otherwise
    /// hide the calls that follow. The text is read once for each time that it doubles.
    fn is_prose(&mut self, c: char) -> bool {
        let empty = self.line && c == '\n';
        self.line = c == '\n' || self.line && c.is_whitespace();
        if !empty || self.text.len() < 2 * self.asked {
            return false;
        }
        self.asked = self.text.len();
        matches!(arguments(&self.text), Err(Problem::Wrong(_)))
    }

    fn arguments(&self, functions: &BotFunctions) -> Result<Map<String, Value>, String> {
        let Some(function) = functions.get(&self.name) else {
            return Err(functions.unknown(&self.name));
        };
        function.bind(arguments(&self.text).map_err(|problem| function.says(&problem.to_string()))?)
    }
}

fn text_of(quote: char, of: u8, c: char) -> State {
    if c == '\\' { State::Escape { quote, of } } else { State::Text { quote, of, ended: 0 } }
}

#[cfg(test)]
#[path = "scanner_tests.rs"]
mod tests;
