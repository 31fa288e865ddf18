//! FunctionGemma and Gemma 4: `call:name{key:value}` between markers, with a token of its own around strings.

use super::frame::{Block, Dialect, Step, THINK, never};
use super::text::{Begins, SPACE, WORD, begins, space};
use super::{ToolCall, typed};
use serde_json::{Map, Value};

/// Deeper nests are no calls.
const DEPTH: usize = 64;

pub(crate) const FUNCTION_GEMMA: Dialect = Dialect {
    thoughts: &[THINK],
    opens: &["<start_function_call>"],
    ends: &["<end_function_call>", "<start_function_response>", "<end_of_turn>"],
    joined: false,
    bare: never,
    block: |_| Box::new(Call::new("<escape>")),
};

pub(crate) const GEMMA_4: Dialect = Dialect {
    thoughts: &[("<|channel>thought", "<channel|>")],
    opens: &["<|tool_call>"],
    ends: &["<tool_call|>", "<|tool_response>", "<turn|>"],
    joined: false,
    bare: never,
    block: |_| Box::new(Call::new("<|\"|>")),
};

const CALL: &str = "call:";

/// A call, of which every byte is looked at once until it is complete.
struct Call {
    /// What is put around strings.
    quote: &'static str,
    /// The name, and where the arguments begin.
    head: Option<(String, usize)>,
    at: usize,
    depth: usize,
    string: Option<Quote>,
}

/// What a string is in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quote {
    Token,
    /// A quotation mark, which the format does not have and models write.
    Mark,
}

impl Block for Call {
    fn read(&mut self, text: &str, schemas: &Map<String, Value>, _: bool) -> Step {
        if self.head.is_none() {
            match head(text) {
                Ok(head) => {
                    self.at = head.1;
                    self.head = Some(head);
                }
                Err(step) => return step,
            }
        }
        let end = match self.end(text) {
            Ok(end) => end,
            Err(step) => return step,
        };
        let Some((name, from)) = self.head.take() else { return Step::Fail(0) };
        let mut reader = Reader { rest: &text[from..end], quote: self.quote };
        match reader.arguments(schemas, &name) {
            Some(arguments) => Step::Done(vec![ToolCall { id: None, name, arguments }], end),
            None => Step::Fail(0),
        }
    }
}

impl Call {
    fn new(quote: &'static str) -> Self {
        Self { quote, head: None, at: 0, depth: 0, string: None }
    }

    /// Where the arguments end.
    fn end(&mut self, text: &str) -> Result<usize, Step> {
        let bytes = text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            let here = &bytes[self.at..];
            let token = here.starts_with(self.quote.as_bytes());
            if !token && byte == b'<' && self.string != Some(Quote::Mark) && self.quote.as_bytes().starts_with(here) {
                return Err(Step::More);
            }
            match (self.string, byte) {
                (None | Some(Quote::Token), _) if token => {
                    self.string = if self.string.is_none() { Some(Quote::Token) } else { None };
                    self.at += self.quote.len();
                    continue;
                }
                (Some(Quote::Mark), b'\\') if here.len() == 1 => return Err(Step::More),
                (Some(Quote::Mark), b'\\') => self.at += 1,
                (Some(Quote::Mark), b'"') => self.string = None,
                (None, b'"') => self.string = Some(Quote::Mark),
                (None, b'{' | b'[') if self.depth < DEPTH => self.depth += 1,
                (None, b'}' | b']') => self.depth -= 1,
                (None, b'<' | b'{' | b'[') => return Err(Step::Fail(0)),
                _ => (),
            }
            self.at += 1;
            if self.depth == 0 {
                return Ok(self.at);
            }
        }
        Err(Step::More)
    }
}

/// The name, and where its arguments begin.
fn head(text: &str) -> Result<(String, usize), Step> {
    let blank = space(text);
    match begins(&text[blank..], CALL) {
        _ if blank > SPACE => return Err(Step::Fail(0)),
        Begins::Yes => (),
        Begins::Perhaps => return Err(Step::More),
        Begins::No => return Err(Step::Fail(0)),
    }
    let from = blank + CALL.len();
    let length = text[from..].bytes().take(WORD).take_while(|b| !b"{}<>\",\n".contains(b)).count();
    match text.as_bytes().get(from + length) {
        None => Err(Step::More),
        Some(b'{') if !text[from..from + length].trim().is_empty() => {
            Ok((text[from..from + length].trim().to_owned(), from + length))
        }
        Some(_) => Err(Step::Fail(0)),
    }
}

/// Reads complete arguments, whose nest is known to be no deeper than allowed.
struct Reader<'a> {
    rest: &'a str,
    quote: &'static str,
}

/// A value, or text that may be one.
enum Read<'a> {
    Value(Value),
    Word(&'a str),
}

impl<'a> Reader<'a> {
    fn arguments(&mut self, schemas: &Map<String, Value>, tool: &str) -> Option<Map<String, Value>> {
        self.object(&|name, word| typed::value(word, schemas, tool, name))
    }

    /// `decide` tells what a bare word stands for under its key.
    fn object(&mut self, decide: &dyn Fn(&str, &str) -> Value) -> Option<Map<String, Value>> {
        let mut object = Map::new();
        self.take("{").then_some(())?;
        while !self.take("}") {
            let key = match self.string()? {
                Some(key) => key,
                None => self.word(&[':']).filter(|key| !key.is_empty())?.to_owned(),
            };
            self.take(":").then_some(())?;
            let value = match self.value()? {
                Read::Value(value) => value,
                Read::Word(word) => decide(&key, word),
            };
            object.insert(key, value);
            if !self.take(",") && !self.rest.starts_with('}') {
                return None;
            }
        }
        Some(object)
    }

    fn value(&mut self) -> Option<Read<'a>> {
        if let Some(string) = self.string()? {
            return Some(Read::Value(string.into()));
        }
        if self.rest.starts_with('{') {
            return Some(Read::Value(Value::Object(self.object(&|_, word| plain(word))?)));
        }
        if !self.take("[") {
            return self.word(&[',', '}', ']']).filter(|word| !word.is_empty()).map(Read::Word);
        }
        let mut items = Vec::new();
        while !self.take("]") {
            items.push(match self.value()? {
                Read::Value(value) => value,
                Read::Word(word) => plain(word),
            });
            if !self.take(",") && !self.rest.starts_with(']') {
                return None;
            }
        }
        Some(Read::Value(Value::Array(items)))
    }

    /// A string, if one begins here. `None` if it is broken.
    fn string(&mut self) -> Option<Option<String>> {
        if self.take(self.quote) {
            let (string, rest) = self.rest.split_once(self.quote)?;
            self.rest = rest.trim_start();
            return Some(Some(string.to_owned()));
        }
        if !self.rest.starts_with('"') {
            return Some(None);
        }
        let mut strings = serde_json::Deserializer::from_str(self.rest).into_iter::<String>();
        let string = strings.next()?.ok()?;
        self.rest = self.rest[strings.byte_offset()..].trim_start();
        Some(Some(string))
    }

    /// What stands before one of these.
    fn word(&mut self, ends: &[char]) -> Option<&'a str> {
        let (word, rest) = self.rest.split_at(self.rest.find(ends)?);
        self.rest = rest;
        Some(word.trim())
    }

    fn take(&mut self, what: &str) -> bool {
        let rest = self.rest.strip_prefix(what);
        if let Some(rest) = rest {
            // White space in a string is the string's own.
            self.rest = if what == self.quote { rest } else { rest.trim_start() };
        }
        rest.is_some()
    }
}

/// What a bare word stands for where no schema says.
fn plain(word: &str) -> Value {
    match word {
        "True" => true.into(),
        "False" => false.into(),
        "None" => Value::Null,
        _ => serde_json::from_str(word).unwrap_or_else(|_| word.into()),
    }
}
