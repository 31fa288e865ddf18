//! Messages in the shape of the OpenAI API, as programs and files hold them. Fields this crate does not know are kept for
//! the template. How a template sees a message is decided in `calls`; nothing here renders.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, FieldError, Result};

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(try_from = "Map<String, Value>", into = "Map<String, Value>")]
pub struct Message {
    /// `system`, `user`, `assistant`, `tool` or whatever the template knows.
    pub role: String,
    /// What is said.
    pub content: Content,
    /// Who says it: the name of a function in a `tool` message.
    pub name: Option<String>,
    /// What the model thought before it answered.
    pub reasoning_content: Option<String>,
    /// The calls an assistant makes, each an object as in the OpenAI API.
    pub tool_calls: Option<Vec<Value>>,
    /// The call that a `tool` message answers.
    pub tool_call_id: Option<String>,
    /// All other fields, in their order.
    pub other: Map<String, Value>,
}

/// The content of a message.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Content {
    /// A string.
    Text(String),
    /// A list of parts.
    Parts(Vec<Part>),
    /// `null`, as in an assistant's message that only makes calls.
    None,
    /// No `content` field; some templates tell this from `null`.
    #[default]
    Absent,
}

/// One part of a message: text, or something a later stage understands (an image).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Part {
    /// The `type`: `text`, `image`, `image_url` …
    pub kind: String,
    /// The text of a `text` part.
    pub text: Option<String>,
    /// All other fields, in their order.
    pub other: Map<String, Value>,
}

impl Message {
    /// A message of plain text.
    pub fn new(role: impl Into<String>, text: impl Into<String>) -> Self {
        Self { role: role.into(), content: Content::Text(text.into()), ..Self::default() }
    }

    /// A system message.
    pub fn system(text: impl Into<String>) -> Self {
        Self::new("system", text)
    }

    /// A user's message.
    pub fn user(text: impl Into<String>) -> Self {
        Self::new("user", text)
    }

    /// A reply of the model.
    pub fn assistant(text: impl Into<String>) -> Self {
        Self::new("assistant", text)
    }

    /// Reads a JSON list of messages; an error names the message and the field.
    pub fn parse_list(json: &str) -> Result<Vec<Self>> {
        let value: Value = serde_json::from_str(json).map_err(|e| Error::Messages { why: e.to_string() })?;
        Self::from_list(value)
    }

    /// Takes the messages of a JSON list; an error names the message and the field.
    pub fn from_list(list: Value) -> Result<Vec<Self>> {
        let Value::Array(list) = list else {
            return Err(Error::Messages { why: format!("found {}", describe(&list)) });
        };
        let message = |(index, value)| {
            let fields = match value {
                Value::Object(fields) => fields,
                other => {
                    let found = describe(&other);
                    return Err(Error::Messages { why: format!("messages[{index}] is {found}, not an object") });
                }
            };
            Self::try_from(fields).map_err(|field| Error::Message { index, field })
        };
        list.into_iter().enumerate().map(message).collect()
    }
}

impl Content {
    /// All text in it, parts one after the other; empty where there is none.
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Parts(parts) => parts.iter().filter_map(|p| p.text.as_deref()).collect(),
            Self::None | Self::Absent => String::new(),
        }
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl Part {
    /// A part of plain text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { kind: "text".to_owned(), text: Some(text.into()), other: Map::new() }
    }
}

impl TryFrom<Map<String, Value>> for Message {
    type Error = FieldError;

    fn try_from(mut fields: Map<String, Value>) -> std::result::Result<Self, FieldError> {
        let role = match take(&mut fields, "role") {
            Some(Value::String(role)) => role,
            Some(other) => return Err(wrong("role", "a string", &other)),
            None => return Err(missing("role", "a string")),
        };
        let content = match take(&mut fields, "content") {
            None => Content::Absent,
            Some(Value::Null) => Content::None,
            Some(Value::String(text)) => Content::Text(text),
            Some(Value::Array(parts)) => {
                Content::Parts(parts.into_iter().enumerate().map(part).collect::<std::result::Result<_, _>>()?)
            }
            Some(other) => return Err(wrong("content", "a string, a list of parts or null", &other)),
        };
        let tool_calls = match take(&mut fields, "tool_calls") {
            None | Some(Value::Null) => None,
            Some(Value::Array(calls)) => {
                calls.iter().enumerate().try_for_each(check_call)?;
                Some(calls)
            }
            Some(other) => return Err(wrong("tool_calls", "a list of calls", &other)),
        };
        Ok(Self {
            role,
            content,
            tool_calls,
            name: optional_string(&mut fields, "name")?,
            reasoning_content: optional_string(&mut fields, "reasoning_content")?,
            tool_call_id: optional_string(&mut fields, "tool_call_id")?,
            other: fields,
        })
    }
}

impl From<Message> for Map<String, Value> {
    fn from(message: Message) -> Self {
        let mut fields = Self::new();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                fields.insert(key.to_owned(), value);
            }
        };
        put("role", Some(message.role.into()));
        put(
            "content",
            match message.content {
                Content::Text(text) => Some(text.into()),
                Content::Parts(parts) => Some(parts.into_iter().map(|p| Value::Object(p.into())).collect()),
                Content::None => Some(Value::Null),
                Content::Absent => None,
            },
        );
        put("reasoning_content", message.reasoning_content.map(Value::from));
        put("name", message.name.map(Value::from));
        put("tool_calls", message.tool_calls.map(Value::from));
        put("tool_call_id", message.tool_call_id.map(Value::from));
        fields.extend(message.other);
        fields
    }
}

impl From<Part> for Map<String, Value> {
    fn from(part: Part) -> Self {
        let mut fields = Self::new();
        fields.insert("type".to_owned(), part.kind.into());
        if let Some(text) = part.text {
            fields.insert("text".to_owned(), text.into());
        }
        fields.extend(part.other);
        fields
    }
}

fn part((index, value): (usize, Value)) -> std::result::Result<Part, FieldError> {
    let path = |field: &str| format!("content[{index}]{field}");
    let Value::Object(mut fields) = value else {
        return Err(wrong(&path(""), "an object with a type", &value));
    };
    let kind = match take(&mut fields, "type") {
        Some(Value::String(kind)) => kind,
        Some(other) => return Err(wrong(&path(".type"), "a string", &other)),
        None => return Err(missing(&path(".type"), "a string")),
    };
    let text = match take(&mut fields, "text") {
        Some(Value::String(text)) => Some(text),
        Some(other) => return Err(wrong(&path(".text"), "a string", &other)),
        None if kind == "text" => return Err(missing(&path(".text"), "a string")),
        None => None,
    };
    Ok(Part { kind, text, other: fields })
}

/// A call is an object; where it has a `function`, that has a name. Other shapes are the template's business.
fn check_call((index, call): (usize, &Value)) -> std::result::Result<(), FieldError> {
    let path = |field: &str| format!("tool_calls[{index}]{field}");
    let Value::Object(fields) = call else {
        return Err(wrong(&path(""), "an object", call));
    };
    match fields.get("function") {
        None => Ok(()),
        Some(Value::Object(function)) => match function.get("name") {
            Some(Value::String(_)) => Ok(()),
            Some(other) => Err(wrong(&path(".function.name"), "a string", other)),
            None => Err(missing(&path(".function.name"), "a string")),
        },
        Some(other) => Err(wrong(&path(".function"), "an object", other)),
    }
}

fn optional_string(fields: &mut Map<String, Value>, key: &str) -> std::result::Result<Option<String>, FieldError> {
    match take(fields, key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(wrong(key, "a string", &other)),
    }
}

/// Removes a field without disturbing the order of the others.
fn take(fields: &mut Map<String, Value>, key: &str) -> Option<Value> {
    fields.shift_remove(key)
}

fn wrong(path: &str, expected: &'static str, found: &Value) -> FieldError {
    FieldError { path: path.to_owned(), expected, found: describe(found) }
}

fn missing(path: &str, expected: &'static str) -> FieldError {
    FieldError { path: path.to_owned(), expected, found: "nothing".to_owned() }
}

/// A value in a few words, for messages.
pub(crate) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => format!("the number {n}"),
        Value::String(s) if s.chars().count() <= 40 => format!("the string {s:?}"),
        Value::String(s) => format!("the string {:?}…", s.chars().take(40).collect::<String>()),
        Value::Array(a) => format!("a list of {}", a.len()),
        Value::Object(_) => "an object".to_owned(),
    }
}
