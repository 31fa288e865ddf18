//! Calls of tools as servers send them, in fragments or whole, put together. What is no proper call in the end is text
//! for the reader.

use nano_runtime::{Map, ToolCall, Value};
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// The calls of one answer so far.
#[derive(Default)]
pub(crate) struct Calls {
    list: Vec<Partial>,
}

#[derive(Default)]
struct Partial {
    index: Option<u64>,
    id: String,
    name: String,
    arguments: String,
}

/// What became of a call.
#[derive(Debug, PartialEq)]
pub(crate) enum Made {
    Call(ToolCall),
    /// It was none: what the model seems to have written.
    Text(String),
}

impl Calls {
    /// Adds one entry of `tool_calls`, or the one `function_call` of the old form.
    pub(crate) fn push(&mut self, entry: &Value) {
        let function = entry.get("function").unwrap_or(entry);
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or("").to_owned();
        let arguments = match function.get("arguments") {
            Some(Value::String(text)) => text.clone(),
            None | Some(Value::Null) => String::new(),
            // Some servers do not write them as text.
            Some(other) => other.to_string(),
        };
        let fragment = Partial {
            index: entry.get("index").and_then(Value::as_u64),
            id: text(entry.get("id")),
            name: text(function.get("name")),
            arguments,
        };
        match self.place(&fragment) {
            Some(place) => self.list[place].extend(fragment),
            None => self.list.push(fragment),
        }
    }

    /// The call that a fragment goes on with. Servers that send calls whole give them all the same index, or none.
    fn place(&self, fragment: &Partial) -> Option<usize> {
        let place = match fragment.index {
            Some(index) => self.list.iter().rposition(|one| one.index == Some(index))?,
            None if !fragment.id.is_empty() => self.list.iter().rposition(|one| one.id == fragment.id)?,
            None => self.list.len().checked_sub(1)?,
        };
        let one = &self.list[place];
        let other_id = !fragment.id.is_empty() && !one.id.is_empty() && fragment.id != one.id;
        let repeated = !fragment.id.is_empty() && fragment.id == one.id;
        let named_again = !fragment.name.is_empty() && !repeated && object(&one.arguments).is_some();
        (!other_id && !named_again).then_some(place)
    }

    /// Makes of each what it is.
    pub(crate) fn finish(self) -> Vec<Made> {
        let mut ids: Vec<String> = Vec::new();
        let mut made = Vec::new();
        for one in self.list {
            let arguments = match one.arguments.trim() {
                "" | "null" => Some(Map::new()),
                text => object(text),
            };
            let Some(arguments) = arguments.filter(|_| !one.name.trim().is_empty()) else {
                made.push(Made::Text(one.written()));
                continue;
            };
            let id = if one.id.is_empty() || ids.contains(&one.id) { new_id() } else { one.id };
            ids.push(id.clone());
            made.push(Made::Call(ToolCall { id: Some(id), name: one.name.trim().to_owned(), arguments }));
        }
        made
    }
}

impl Partial {
    fn extend(&mut self, fragment: Partial) {
        if self.id.is_empty() {
            self.id = fragment.id;
        }
        // A name comes once, in pieces, or again and again.
        if self.name != fragment.name {
            self.name += &fragment.name;
        }
        self.arguments += &fragment.arguments;
    }

    fn written(&self) -> String {
        format!("{{\"name\": {}, \"arguments\": {}}}", Value::from(self.name.as_str()), self.arguments)
    }
}

fn object(text: &str) -> Option<Map<String, Value>> {
    serde_json::from_str(text).ok()
}

/// Nine letters and digits: some models' templates take nothing else.
pub(crate) fn new_id() -> String {
    let mut number = RandomState::new().build_hasher().finish();
    let letters = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut letter = || {
        let letter = letters[(number % 36) as usize];
        number /= 36;
        char::from(letter)
    };
    (0..9).map(|_| letter()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn made(entries: &[Value]) -> Vec<(String, String, String)> {
        let mut calls = Calls::default();
        entries.iter().for_each(|entry| calls.push(entry));
        let show = |made| match made {
            Made::Call(call) => {
                (call.id.unwrap_or_default(), call.name, Value::Object(call.arguments).to_string().replace('"', ""))
            }
            Made::Text(text) => ("text".to_owned(), text, String::new()),
        };
        calls.finish().into_iter().map(show).collect()
    }

    fn three(id: &str, name: &str, arguments: &str) -> (String, String, String) {
        (id.into(), name.into(), arguments.into())
    }

    #[test]
    fn fragments() {
        let first = json!({"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}});
        let more = |index: u64, text: &str| json!({"index": index, "function": {"arguments": text}});
        let second = json!({"index": 1, "id": "b", "type": "function", "function": {"name": "f", "arguments": null}});
        let found = made(&[first.clone(), more(0, "{\"x\""), second, more(1, "{"), more(0, ": 1}"), more(1, "}")]);
        assert_eq!(found, [three("a", "f", "{x:1}"), three("b", "f", "{}")]);
        // The name and the id in every fragment.
        let again = json!({"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}});
        let after = json!({"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}});
        assert_eq!(made(&[first, again, after]), [three("a", "f", "{}")]);
    }

    #[test]
    fn whole_calls() {
        let function = json!({"name": "f", "arguments": "{\"x\": 1}"});
        let whole = |id: Value, index: Value| json!({"index": index, "id": id, "function": function});
        let two = [three("a", "f", "{x:1}"), three("b", "f", "{x:1}")];
        assert_eq!(made(&[whole(json!("a"), json!(0)), whole(json!("b"), json!(0))]), two);
        assert_eq!(made(&[whole(json!("a"), json!(null)), whole(json!("b"), json!(null))]), two);
        for index in [json!(0), json!(null)] {
            let without = made(&[whole(json!(null), index.clone()), whole(json!(""), index)]);
            assert_eq!(without.len(), 2, "{without:?}");
            let fits = |id: &str| id.len() == 9 && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
            assert!(without.iter().all(|one| fits(&one.0)) && without[0].0 != without[1].0, "{without:?}");
        }
        let same = made(&[whole(json!("a"), json!(0)), whole(json!("a"), json!(1))]);
        assert!(same[0].0 == "a" && same[1].0.len() == 9, "{same:?}");
        let object = json!({"id": "a", "function": {"name": "f", "arguments": {"x": 1}}});
        assert_eq!(made(&[object]), two[..1]);
    }

    #[test]
    fn without_arguments() {
        for arguments in [json!(""), json!(null), json!("null"), json!("{}"), json!(" ")] {
            let call = json!({"index": 0, "id": "a", "function": {"name": "f", "arguments": arguments}});
            assert_eq!(made(&[call]), [three("a", "f", "{}")]);
        }
    }

    #[test]
    fn what_is_no_call_is_text() {
        for (arguments, shown) in [("{\"x\":", "{\"x\":"), ("[1]", "[1]"), ("{}{}", "{}{}"), ("say", "say")] {
            let call = json!({"index": 0, "id": "a", "function": {"name": "f", "arguments": arguments}});
            let text = format!("{{\"name\": \"f\", \"arguments\": {shown}}}");
            assert_eq!(made(&[call]), [three("text", &text, "")]);
        }
        let nameless = json!({"index": 0, "id": "a", "function": {"arguments": "{}"}});
        assert_eq!(made(&[nameless]), [three("text", "{\"name\": \"\", \"arguments\": {}}", "")]);
        assert_eq!(made(&[json!("call")]), [three("text", "{\"name\": \"\", \"arguments\": }", "")]);
    }
}
