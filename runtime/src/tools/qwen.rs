//! Qwen 3.5 and Qwen Coder: calls in tags, `<function=name>` and a `<parameter=name>` for every argument, often without
//! the `<tool_call>` around them. Values are text: see [`typed`](super::typed). What has come of a call that breaks off
//! is text and is not looked at again, since a value may hold anything but its closing tag.

use super::frame::{Block, Dialect, Open, Step, THINK, never};
use super::json::Objects;
use super::text::{Begins, SPACE, Seek, WORD, begins, space};
use super::{ToolCall, typed};
use serde_json::{Map, Value};

const FUNCTION: &str = "<function=";
const END_FUNCTION: &str = "</function>";
const PARAMETER: &str = "<parameter=";
const END_PARAMETER: &str = "</parameter>";
const END_CALL: &str = "</tool_call>";

pub(crate) const QWEN: Dialect = Dialect {
    thoughts: &[THINK],
    opens: &["<tool_call>", FUNCTION],
    ends: &[END_CALL, "<|im_end|>"],
    joined: false,
    bare: never,
    block: |open| {
        Box::new(Call { part: if open == Open::Marker(0) { Part::Open } else { Part::Name }, ..Call::default() })
    },
};

#[derive(Default)]
struct Call {
    at: usize,
    part: Part,
    name: String,
    arguments: Map<String, Value>,
    /// Calls as Hermes writes them, which some of these models fall back to.
    objects: Objects,
}

/// What comes next.
#[derive(Default)]
enum Part {
    #[default]
    Open,
    Name,
    Between,
    Parameter,
    Value(String, Seek),
}

impl Block for Call {
    fn read(&mut self, text: &str, schemas: &Map<String, Value>, ended: bool) -> Step {
        loop {
            let step = match &mut self.part {
                Part::Open => {
                    let blank = space(text);
                    match begins(&text[blank..], FUNCTION) {
                        _ if blank > SPACE => Err(Step::Fail(0)),
                        Begins::Yes => {
                            self.at = blank + FUNCTION.len();
                            Ok(Part::Name)
                        }
                        Begins::Perhaps => Err(Step::More),
                        Begins::No => return self.objects.read(text, schemas, ended),
                    }
                }
                Part::Name => word(text, self.at).map(|(name, end)| {
                    self.name = name.to_owned();
                    self.at = end;
                    Part::Between
                }),
                Part::Between => self.between(text),
                Part::Parameter => word(text, self.at).map(|(name, end)| {
                    self.at = end;
                    Part::Value(name.to_owned(), Seek::default())
                }),
                Part::Value(name, seek) => match seek.find(text, self.at, END_PARAMETER) {
                    Some(end) => {
                        let value = typed::value(inner(&text[self.at..end]), schemas, &self.name, name);
                        self.arguments.insert(std::mem::take(name), value);
                        self.at = end + END_PARAMETER.len();
                        Ok(Part::Between)
                    }
                    None => Err(Step::More),
                },
            };
            match step {
                Ok(part) => self.part = part,
                Err(Step::More) if ended => return Step::Fail(text.len()),
                Err(step) => return step,
            }
        }
    }
}

impl Call {
    fn between(&mut self, text: &str) -> Result<Part, Step> {
        self.at += space(&text[self.at..]);
        let rest = &text[self.at..];
        let tags = [PARAMETER, END_FUNCTION, END_CALL];
        match tags.iter().find(|tag| rest.starts_with(**tag)) {
            Some(&PARAMETER) => {
                self.at += PARAMETER.len();
                Ok(Part::Parameter)
            }
            Some(tag) => {
                let call = ToolCall {
                    id: None,
                    name: std::mem::take(&mut self.name),
                    arguments: std::mem::take(&mut self.arguments),
                };
                Err(Step::Done(vec![call], self.at + tag.len()))
            }
            None if tags.iter().any(|tag| begins(rest, tag) == Begins::Perhaps) => Err(Step::More),
            None => Err(Step::Fail(self.at)),
        }
    }
}

/// A name up to the end of its tag.
fn word(text: &str, from: usize) -> Result<(&str, usize), Step> {
    let length = text[from..].bytes().take(WORD).take_while(|b| !b"><\n".contains(b)).count();
    match text.as_bytes().get(from + length) {
        None => Err(Step::More),
        Some(b'>') if !text[from..from + length].trim().is_empty() => {
            Ok((text[from..from + length].trim(), from + length + 1))
        }
        Some(_) => Err(Step::Fail(from)),
    }
}

/// A value without the line feeds that the format puts around it.
fn inner(text: &str) -> &str {
    let text = text.strip_prefix('\n').unwrap_or(text);
    text.strip_suffix('\n').unwrap_or(text)
}
