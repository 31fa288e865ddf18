//! NanoLLM-style templates: a JSON object that maps each role to a string with one `${MESSAGE}` in it. This file checks such
//! an object and renders messages with it: the first message after the system prompt may have a form of its own (`first`),
//! and neighbours of one role share one prefix and one suffix. What it says of calls (`tool_call`, `tool_spec`) is checked
//! and left to whoever runs functions.

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

use crate::ToolSpec;
use crate::error::{Error, Result};
use crate::message::{Content, Message, describe};

const PLACEHOLDER: &str = "${MESSAGE}";

/// All of a template file.
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) system_prompt: Option<String>,
    pub(crate) stop: Vec<String>,
    pub(crate) stop_ids: Vec<Vec<u32>>,
    pub(crate) tool_call: Option<String>,
    pub(crate) tool_spec: Option<ToolSpec>,
    pub(crate) roles: Roles,
}

/// What stands around the messages of each role.
#[derive(Debug)]
pub(crate) struct Roles(Vec<Role>);

#[derive(Debug)]
struct Role {
    key: String,
    prefix: String,
    suffix: String,
}

/// Reads and checks a template; `name` is its file.
pub(crate) fn parse(name: &str, json: &str) -> Result<File> {
    let fail = |why: String| Error::Json { name: name.to_owned(), why };
    let keys = object(json).map_err(fail)?;
    let mut file = File {
        name: stem(name),
        system_prompt: None,
        stop: Vec::new(),
        stop_ids: Vec::new(),
        tool_call: None,
        tool_spec: None,
        roles: Roles(Vec::new()),
    };
    for (index, (key, value)) in keys.iter().enumerate() {
        if keys[..index].iter().any(|(earlier, _)| earlier == key) {
            return Err(fail(format!("the key {key:?} is there twice")));
        }
        file.take(key, value).map_err(fail)?;
    }
    if file.roles.find("user").is_none() {
        return Err(fail(format!("the key \"user\" is missing; found {}", listed(&keys))));
    }
    if file.system_prompt.is_some() && file.roles.find("system").is_none() {
        return Err(fail("the key \"system_prompt\" needs a key \"system\" that says where it goes".to_owned()));
    }
    if file.tool_spec == Some(ToolSpec::OpenAi) && file.tool_call.is_none() {
        return Err(fail("the key \"tool_spec\" says openai, which needs a key \"tool_call\"".to_owned()));
    }
    if file.roles.find("bot").is_none() {
        // NanoLLM never looked: it kept replies as the model had said them.
        file.roles.0.push(Role { key: "bot".to_owned(), prefix: String::new(), suffix: String::new() });
    }
    Ok(file)
}

impl File {
    /// One key. Null is as good as no key where the key is optional.
    fn take(&mut self, key: &str, value: &Value) -> std::result::Result<(), String> {
        match key {
            "name" | "system_prompt" | "stop" | "tool_call" | "tool_spec" if value.is_null() => {}
            "name" => match text(key, value)? {
                "" => return Err("the key \"name\" is empty; leave it out to take the file's name".to_owned()),
                name => self.name = name.to_owned(),
            },
            "system_prompt" => self.system_prompt = Some(text(key, value)?.to_owned()),
            "stop" => stop(value, &mut self.stop, &mut self.stop_ids)?,
            "tool_call" => self.tool_call = Some(pattern(key, text(key, value)?)?.to_owned()),
            "tool_spec" => {
                self.tool_spec = Some(match text(key, value)? {
                    "openai" => ToolSpec::OpenAi,
                    "python" => ToolSpec::Python,
                    _ => return Err(format!("the key {key:?} must be openai or python, found {}", describe(value))),
                });
            }
            _ => self.roles.0.push(role(key, value)?),
        }
        Ok(())
    }
}

/// The keys of an object in their order, those that are there twice too.
fn object(json: &str) -> std::result::Result<Vec<(String, Value)>, String> {
    struct Keys;
    impl<'de> Visitor<'de> for Keys {
        type Value = Vec<(String, Value)>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
            let mut keys = Vec::new();
            while let Some(key) = map.next_entry()? {
                keys.push(key);
            }
            Ok(keys)
        }
    }
    let value: Value = serde_json::from_str(json).map_err(|e| format!("not valid JSON: {e}"))?;
    if !value.is_object() {
        return Err(format!("expected an object with the roles as keys, found {}", describe(&value)));
    }
    serde_json::Deserializer::from_str(json).deserialize_map(Keys).map_err(|e| format!("not valid JSON: {e}"))
}

/// A regular expression that gives what is inside a call.
fn pattern<'a>(key: &str, pattern: &'a str) -> std::result::Result<&'a str, String> {
    match regex::Regex::new(pattern) {
        Ok(regex) if regex.captures_len() > 1 => Ok(pattern),
        Ok(_) => Err(format!("the key {key:?} must have a group, (…), around the JSON of a call, found {pattern:?}")),
        Err(error) => {
            // The last line says what is wrong, those before it where.
            let error = error.to_string();
            let why = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
            Err(format!("the key {key:?} must be a regular expression, found {pattern:?}: {why}"))
        }
    }
}

impl Roles {
    /// The text of all messages, one after the other.
    pub(crate) fn render(&self, name: &str, messages: &[Message]) -> Result<String> {
        // Where the template has a system prompt, the first message after it is the second.
        let first = usize::from(self.find("system").is_some());
        let mut out = String::new();
        for (index, message) in messages.iter().enumerate() {
            let same = |other: Option<&Message>| other.is_some_and(|other| other.role == message.role);
            let role = match self.find("first").filter(|_| index == first && message.role == "user") {
                Some(role) => role,
                None => self.role_of(name, index, message)?,
            };
            if !same(index.checked_sub(1).and_then(|before| messages.get(before))) {
                out.push_str(&role.prefix);
            }
            out.push_str(&words(name, index, message)?);
            if !same(messages.get(index + 1)) {
                out.push_str(&role.suffix);
            }
        }
        Ok(out)
    }

    /// NanoLLM says `bot` and `tool_response` where OpenAI says `assistant` and `tool`.
    fn role_of(&self, name: &str, index: usize, message: &Message) -> Result<&Role> {
        let key = match message.role.as_str() {
            "assistant" => "bot",
            "tool" => "tool_response",
            other => other,
        };
        self.find(key).or_else(|| self.find(&message.role)).ok_or_else(|| Error::Role {
            name: name.to_owned(),
            index,
            role: message.role.clone(),
            key: key.to_owned(),
            known: self.0.iter().map(|r| r.key.as_str()).collect::<Vec<_>>().join(", "),
        })
    }

    fn find(&self, key: &str) -> Option<&Role> {
        self.0.iter().find(|r| r.key == key)
    }
}

fn words(name: &str, index: usize, message: &Message) -> Result<String> {
    if let Content::Parts(parts) = &message.content
        && let Some(part) = parts.iter().find(|p| p.kind != "text")
    {
        return Err(Error::Part { name: name.to_owned(), index, kind: part.kind.clone() });
    }
    Ok(message.content.text())
}

fn role(key: &str, value: &Value) -> std::result::Result<Role, String> {
    let text = text(key, value)?;
    match text.split(PLACEHOLDER).collect::<Vec<_>>()[..] {
        [prefix, suffix] => Ok(Role { key: key.to_owned(), prefix: prefix.to_owned(), suffix: suffix.to_owned() }),
        ref pieces => {
            Err(format!("the key {key:?} must contain {PLACEHOLDER} once, found it {} times", pieces.len() - 1))
        }
    }
}

/// `stop` is a string, an id, or a list of strings, ids and lists of ids.
fn stop(value: &Value, texts: &mut Vec<String>, ids: &mut Vec<Vec<u32>>) -> std::result::Result<(), String> {
    let wrong = |value: &Value| {
        let found = describe(value);
        format!("the key \"stop\" takes strings, token ids and lists of token ids, found {found}")
    };
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| wrong(value));
    let mut one = |value: &Value, nested: bool| match value {
        Value::String(text) if !text.is_empty() => {
            texts.push(text.clone());
            Ok(())
        }
        Value::Number(_) => {
            ids.push(vec![id(value)?]);
            Ok(())
        }
        Value::Array(list) if nested && !list.is_empty() => {
            ids.push(list.iter().map(id).collect::<std::result::Result<_, _>>()?);
            Ok(())
        }
        other => Err(wrong(other)),
    };
    match value {
        Value::Array(list) => list.iter().try_for_each(|value| one(value, true)),
        value => one(value, false),
    }
}

fn text<'a>(key: &str, value: &'a Value) -> std::result::Result<&'a str, String> {
    value.as_str().ok_or_else(|| format!("the key {key:?} must be a string, found {}", describe(value)))
}

fn listed(keys: &[(String, Value)]) -> String {
    if keys.is_empty() {
        return "no keys".to_owned();
    }
    keys.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>().join(", ")
}

fn stem(file: &str) -> String {
    let stem = std::path::Path::new(file).file_stem().map(|s| s.to_string_lossy().into_owned());
    stem.unwrap_or_else(|| file.to_owned())
}
