//! JSON in a stream: where a value ends, told byte by byte, and what calls it stands for. That no markup passes outside
//! of strings is what keeps reading linear: of two values that both fail, one lies in the other's strings.

use super::ToolCall;
use super::frame::{Block, Step};
use super::text::{SPACE, space};
use serde_json::{Map, Value};

/// Deeper nests are no calls. The parser of values has the same bound.
const DEPTH: usize = 127;

/// Finds the end of an object or array.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scan {
    at: usize,
    nest: Vec<u8>,
    next: Next,
    /// There are control characters in strings, which JSON does not allow and models write.
    control: bool,
    /// Where the last string began.
    string: usize,
    /// The keys that the outermost objects may have.
    keys: Option<&'static [&'static str]>,
}

/// What may come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Next {
    #[default]
    Value,
    ItemOrEnd,
    KeyOrEnd,
    Key,
    Colon,
    CommaOrEnd,
    InString {
        key: bool,
    },
    Escaped {
        key: bool,
    },
    InWord,
}

/// What a scan has come to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scanned {
    More,
    /// The value, and its length.
    Value(Value, usize),
    Fail,
}

impl Scan {
    /// A scan that fails early on objects with other keys than these, and on arrays of anything but objects.
    pub(crate) fn with_keys(keys: &'static [&'static str]) -> Self {
        Self { keys: Some(keys), ..Self::default() }
    }

    /// Goes on in a text that begins with the value.
    pub(crate) fn read(&mut self, text: &str) -> Scanned {
        let bytes = text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            if !self.take(byte, text) {
                return Scanned::Fail;
            }
            self.at += 1;
            if self.nest.is_empty() {
                return self.value(&text[..self.at]);
            }
        }
        Scanned::More
    }

    fn value(&self, text: &str) -> Scanned {
        let value = if self.control { serde_json::from_str(&escaped(text)) } else { serde_json::from_str(text) };
        value.map_or(Scanned::Fail, |value| Scanned::Value(value, self.at))
    }

    /// Takes a byte. False if it cannot stand here.
    fn take(&mut self, byte: u8, text: &str) -> bool {
        match self.next {
            Next::InString { key } => {
                match byte {
                    b'"' if key => {
                        self.next = Next::Colon;
                        return self.is_key_allowed(&text[self.string..self.at]);
                    }
                    b'"' => self.next = Next::CommaOrEnd,
                    b'\\' => self.next = Next::Escaped { key },
                    _ => self.control |= byte < b' ',
                }
                return true;
            }
            Next::Escaped { key } => {
                self.next = Next::InString { key };
                return byte >= b' ';
            }
            Next::InWord if byte.is_ascii_alphanumeric() || b"+-.".contains(&byte) => return true,
            Next::InWord => self.next = Next::CommaOrEnd,
            _ => (),
        }
        let object = self.nest.last() == Some(&b'{');
        match (self.next, byte) {
            (_, b' ' | b'\n' | b'\r' | b'\t') => return !self.nest.is_empty(),
            (Next::Value | Next::ItemOrEnd, b'{' | b'[') => {
                self.nest.push(byte);
                self.next = if byte == b'{' { Next::KeyOrEnd } else { Next::ItemOrEnd };
                return self.nest.len() <= DEPTH && (byte == b'{' || !self.is_outermost_list(1));
            }
            (Next::KeyOrEnd | Next::CommaOrEnd, b'}') if object => self.close(),
            (Next::ItemOrEnd | Next::CommaOrEnd, b']') if !object => self.close(),
            (Next::CommaOrEnd, b',') => self.next = if object { Next::Key } else { Next::Value },
            (Next::Colon, b':') => self.next = Next::Value,
            (Next::KeyOrEnd | Next::Key, b'"') => {
                self.string = self.at + 1;
                self.next = Next::InString { key: true };
            }
            _ if self.nest.is_empty() || self.is_outermost_list(0) => return false,
            (Next::Value | Next::ItemOrEnd, b'"') => self.next = Next::InString { key: false },
            (Next::Value | Next::ItemOrEnd, b'-' | b'0'..=b'9' | b'a'..=b'z') => self.next = Next::InWord,
            _ => return false,
        }
        true
    }

    fn close(&mut self) {
        self.nest.pop();
        self.next = Next::CommaOrEnd;
    }

    /// Whether only objects may stand here: in the outermost array, under `more` others.
    fn is_outermost_list(&self, more: usize) -> bool {
        self.keys.is_some() && self.nest.len() == 1 + more && self.nest[0] == b'['
    }

    fn is_key_allowed(&self, key: &str) -> bool {
        let outermost = self.nest.len() == 1 + usize::from(self.nest[0] == b'[');
        self.keys.is_none_or(|keys| !outermost || keys.contains(&key))
    }
}

/// The calls that an object or a list of objects stands for. `known` says which names count.
pub(crate) fn calls(value: Value, known: &dyn Fn(&str) -> bool) -> Option<Vec<ToolCall>> {
    match value {
        Value::Array(items) if !items.is_empty() => {
            items.into_iter().map(|item| call(item).filter(|call| known(&call.name))).collect()
        }
        value => Some(vec![call(value).filter(|call| known(&call.name))?]),
    }
}

/// Arguments as an object, or as text that holds one, as OpenAI's interface has them.
pub(crate) fn arguments(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(arguments) => Some(arguments),
        Value::Null => Some(Map::new()),
        Value::String(text) => match serde_json::from_str(&text) {
            Ok(Value::Object(arguments)) => Some(arguments),
            _ => None,
        },
        _ => None,
    }
}

/// The keys that a call may have.
pub(crate) const CALL_KEYS: &[&str] = &["name", "arguments", "parameters", "id", "type", "function"];

fn call(value: Value) -> Option<ToolCall> {
    let Value::Object(mut object) = value else { return None };
    let id = match object.remove("id") {
        Some(Value::String(id)) if !id.is_empty() => Some(id),
        _ => None,
    };
    // OpenAI's interface puts the function into an object of its own.
    let mut object = match object.remove("function") {
        Some(Value::Object(function)) => function,
        _ => object,
    };
    let Some(Value::String(name)) = object.remove("name") else { return None };
    let given = object.remove("arguments").or_else(|| object.remove("parameters")).unwrap_or_default();
    (!name.is_empty()).then_some(())?;
    Some(ToolCall { id, name, arguments: arguments(given)? })
}

/// Text of JSON whose strings have no bare control characters any more.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let (mut string, mut escape) = (false, false);
    for c in text.chars() {
        match c {
            _ if string && c < ' ' => out += &format!("\\u{:04x}", u32::from(c)),
            _ => out.push(c),
        }
        string ^= c == '"' && !escape;
        escape = string && c == '\\' && !escape;
    }
    out
}

/// A call or a list of calls in JSON, right behind a marker.
#[derive(Default)]
pub(crate) struct Objects {
    scan: Scan,
}

impl Block for Objects {
    fn read(&mut self, text: &str, _: &Map<String, Value>, _: bool) -> Step {
        let blank = space(text);
        if blank > SPACE {
            return Step::Fail(0);
        }
        match self.scan.read(&text[blank..]) {
            Scanned::More => Step::More,
            Scanned::Value(value, length) => {
                calls(value, &|_| true).map_or(Step::Fail(0), |calls| Step::Done(calls, blank + length))
            }
            Scanned::Fail => Step::Fail(0),
        }
    }
}
