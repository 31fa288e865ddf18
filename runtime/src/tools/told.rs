//! Tools in words, for templates that know none: what the model is told of them and of how to call, and a conversation
//! with calls and results as one without. What a template knows is found out by the template itself
//! ([`knows_tools`](nano_templates::Template::knows_tools)).

use super::written::dumps;
use super::{ToolCall, ToolFormat};
use nano_templates::{Content, Message, Part};
use serde_json::{Value, json};
use std::collections::HashMap;

/// What belongs into the system prompt: the functions, and how to call them.
pub(crate) fn told(format: ToolFormat, tools: &[Value]) -> String {
    let functions: Vec<_> = tools.iter().map(|tool| dumps(tool.get("function").unwrap_or(tool))).collect();
    let call = |name: &str| {
        let arguments = [("argument_name".to_owned(), json!("value"))].into_iter().collect();
        ToolCall { id: None, name: name.to_owned(), arguments }
    };
    let one = format.write(&[call("function_name")]);
    let mut text = format!(
        "You can call functions. These are the functions, with JSON schemas of their arguments:\n\n{}\n\nTo call one, \
         answer with nothing but the call, in this form:\n\n{one}\n\n",
        functions.join("\n")
    );
    // gpt-oss makes one call in a message.
    if format != ToolFormat::Harmony {
        let two = format.write(&[call("first_function"), call("second_function")]);
        text += &format!("Several calls at once:\n\n{two}\n\n");
    }
    text + "What the functions return is told to you in the next message. When no function is needed, answer in words."
}

/// The messages for such a template: calls are the text that the model would have written, and what functions returned is
/// said by the user, in one message for results that follow each other and for what the user says next.
pub(crate) fn translate(messages: &[Message], format: ToolFormat) -> Vec<Message> {
    let mut out: Vec<Message> = Vec::with_capacity(messages.len());
    let mut names: HashMap<&str, &str> = HashMap::new();
    let mut returned = false;
    for message in messages {
        for call in message.tool_calls.iter().flatten() {
            let name = call.get("function").unwrap_or(call).get("name");
            names.extend(call["id"].as_str().zip(name.and_then(Value::as_str)));
        }
        let follows = returned;
        returned = message.role == "tool";
        let said = match message.role.as_str() {
            "tool" => Message { content: result(message, &names), ..Message::user("") },
            _ => Message { content: with_calls(message, format), tool_calls: None, ..message.clone() },
        };
        match out.last_mut() {
            // Many of these templates want users and assistants to take turns.
            Some(last) if follows && said.role == "user" => {
                last.content = joined(std::mem::take(&mut last.content), "\n\n", said.content);
            }
            _ => out.push(said),
        }
    }
    out
}

fn result(message: &Message, names: &HashMap<&str, &str>) -> Content {
    let known = || message.tool_call_id.as_deref().and_then(|id| names.get(id).copied());
    let head = match message.name.as_deref().or_else(known) {
        Some(name) => format!("The function {name} returned:"),
        None => "The function returned:".to_owned(),
    };
    joined(head.into(), "\n", message.content.clone())
}

fn with_calls(message: &Message, format: ToolFormat) -> Content {
    let Some(calls) = message.tool_calls.as_ref().filter(|calls| !calls.is_empty()) else {
        return message.content.clone();
    };
    let read: Option<Vec<_>> = calls.iter().map(ToolCall::from_json).collect();
    // Malformed ones are shown as they are.
    let written = match read {
        Some(calls) => format.write(&calls),
        None => calls.iter().map(dumps).collect::<Vec<_>>().join("\n"),
    };
    joined(message.content.clone(), "\n\n", written.into())
}

/// Two contents in one.
fn joined(first: Content, between: &str, second: Content) -> Content {
    match (first, second) {
        (Content::Parts(mut parts), Content::Parts(more)) => {
            parts.extend([Part::text(between)].into_iter().chain(more));
            Content::Parts(parts)
        }
        (Content::Parts(mut parts), second) => {
            parts.push(Part::text(format!("{between}{}", second.text())));
            Content::Parts(parts)
        }
        (first, Content::Parts(mut parts)) => {
            parts.insert(0, Part::text(format!("{}{between}", first.text())));
            Content::Parts(parts)
        }
        (first, second) => {
            let (first, second) = (first.text(), second.text());
            let between = if first.is_empty() || second.is_empty() { "" } else { between };
            Content::Text(format!("{first}{between}{second}"))
        }
    }
}

#[cfg(test)]
#[path = "told_tests.rs"]
mod tests;
