//! Calls as Python writes them: `f(a=1)`, and lists of these. The arguments are read by the reader of inline calls.

use super::ToolCall;
use crate::functions::literal;
use serde_json::{Map, Value};

/// Deeper nests are no calls.
const DEPTH: usize = 64;

/// Finds the end of a call, or of a list of calls, of which every byte is looked at once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scan {
    at: usize,
    nest: Vec<u8>,
    quote: Option<u8>,
    escaped: bool,
}

/// What a scan has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scanned {
    More,
    /// It is this long.
    End(usize),
    Fail,
}

impl Scan {
    /// Goes on in a text that begins with the call.
    pub(crate) fn read(&mut self, text: &str) -> Scanned {
        while let Some(&byte) = text.as_bytes().get(self.at) {
            self.at += 1;
            if !self.take(byte) {
                return Scanned::Fail;
            }
            if self.nest.is_empty() && matches!(byte, b')' | b']') {
                return Scanned::End(self.at);
            }
        }
        Scanned::More
    }

    /// Takes a byte. False if it cannot stand here.
    fn take(&mut self, byte: u8) -> bool {
        if let Some(quote) = self.quote {
            if byte == quote && !self.escaped {
                self.quote = None;
            }
            self.escaped = byte == b'\\' && !self.escaped;
            return true;
        }
        let arguments = self.nest.len() > usize::from(self.nest.first() == Some(&b'['));
        match byte {
            b'[' | b'(' | b'{' => {
                self.nest.push(byte);
                self.nest.len() <= DEPTH && (arguments || byte == b'(' || self.nest == [b'['])
            }
            b']' => self.nest.pop() == Some(b'['),
            b')' => self.nest.pop() == Some(b'('),
            b'}' => self.nest.pop() == Some(b'{'),
            b'"' | b'\'' if arguments => {
                self.quote = Some(byte);
                true
            }
            // Calls hold no markup outside of strings. That keeps reading linear, as it does in JSON.
            b'<' => false,
            b',' => !self.nest.is_empty(),
            _ => arguments || byte >= 0x80 || byte.is_ascii_alphanumeric() || b"_. \n\r\t".contains(&byte),
        }
    }
}

/// The calls in a text: one, or a list of them.
pub(crate) fn calls(text: &str, schemas: &Map<String, Value>) -> Option<Vec<ToolCall>> {
    let text = text.trim();
    let (mut rest, listed) = match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(list) => (list.trim(), true),
        None => (text, false),
    };
    let mut calls = Vec::new();
    loop {
        let mut scan = Scan::default();
        let Scanned::End(end) = scan.read(rest) else { return None };
        calls.push(call(&rest[..end], schemas)?);
        rest = rest[end..].trim_start();
        if rest.is_empty() {
            return Some(calls);
        }
        rest = rest.strip_prefix(',').filter(|_| listed)?.trim_start();
    }
}

fn call(text: &str, schemas: &Map<String, Value>) -> Option<ToolCall> {
    let (name, arguments) = text.strip_suffix(')')?.split_once('(')?;
    let name = name.trim();
    if name == "print" && !schemas.contains_key(name) {
        return call(arguments.trim(), schemas);
    }
    // What Llama calls its built-in tools by.
    let name = name.strip_suffix(".call").unwrap_or(name);
    if name.is_empty() || name.contains(char::is_whitespace) {
        return None;
    }
    let given = literal::arguments(arguments).ok()?;
    let parameters = schemas.get(name).and_then(|schema| schema["properties"].as_object());
    let mut names = parameters.into_iter().flat_map(Map::keys).cloned();
    let mut arguments = Map::new();
    for value in given.positional {
        arguments.insert(names.next()?, value);
    }
    for (key, value) in given.keywords {
        if arguments.insert(key, value).is_some() {
            return None;
        }
    }
    Some(ToolCall { id: None, name: name.to_owned(), arguments })
}
