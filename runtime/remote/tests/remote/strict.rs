//! The body of a request for an answer, as the strictest of servers reads it: every field is known and of its type, and
//! messages follow each other as they must.

use serde_json::{Map, Value};

type Check = fn(&Value) -> bool;

const FIELDS: [(&str, Check); 18] = [
    ("model", is_text),
    ("messages", Value::is_array),
    ("stream", |value| *value == Value::Bool(true)),
    ("stream_options", |value| *value == serde_json::json!({"include_usage": true})),
    ("max_tokens", |value| value.as_u64().is_some_and(|n| n > 0)),
    ("temperature", |value| within(value, 0.0, 2.0)),
    ("top_p", |value| within(value, 0.0, 1.0)),
    ("top_k", |value| value.as_u64().is_some_and(|n| n > 0)),
    ("min_p", |value| within(value, 0.0, 1.0)),
    ("presence_penalty", |value| within(value, -2.0, 2.0)),
    ("frequency_penalty", |value| within(value, -2.0, 2.0)),
    ("repetition_penalty", |value| within(value, 0.0, 9.0)),
    ("repeat_penalty", |value| within(value, 0.0, 9.0)),
    ("seed", |value| value.as_i64().is_some()),
    ("stop", |value| value.as_array().is_some_and(|list| list.iter().all(is_text))),
    ("tools", |value| value.as_array().is_some_and(|list| !list.is_empty() && list.iter().all(is_tool))),
    ("tool_choice", is_choice),
    ("response_format", is_format),
];

/// What is wrong with it.
pub fn look(body: &Value) -> Vec<String> {
    let Some(body) = body.as_object() else { return vec!["the body is no object".to_owned()] };
    let mut found = Vec::new();
    for (name, value) in body {
        match FIELDS.iter().find(|(known, _)| known == name) {
            None => found.push(format!("an unknown field {name}")),
            Some((_, fits)) if !fits(value) => found.push(format!("the field {name} is {value}")),
            Some(_) => {}
        }
    }
    for needed in ["model", "messages", "stream", "stream_options", "temperature"] {
        if !body.contains_key(needed) {
            found.push(format!("no field {needed}"));
        }
    }
    if body.contains_key("tool_choice") && !body.contains_key("tools") {
        found.push("a choice without tools".to_owned());
    }
    found.extend(conversation(body));
    found
}

fn conversation(body: &Map<String, Value>) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Vec<String> = Vec::new();
    for (place, message) in body["messages"].as_array().into_iter().flatten().enumerate() {
        let Some(message) = message.as_object() else {
            found.push(format!("message {place} is no object"));
            continue;
        };
        let role = message.get("role").and_then(Value::as_str).unwrap_or("");
        let allowed: &[&str] = match role {
            "system" | "user" => &["role", "content", "name"],
            "assistant" => &["role", "content", "name", "tool_calls", "reasoning_content", "reasoning"],
            "tool" => &["role", "content", "name", "tool_call_id"],
            _ => &[],
        };
        let mut demand = |fits: bool, what: &str| {
            if !fits {
                found.push(format!("message {place}, of {role}: {what}"));
            }
        };
        for name in message.keys() {
            demand(allowed.contains(&name.as_str()), &format!("an unknown field {name}"));
        }
        let calls = message.get("tool_calls").and_then(Value::as_array);
        match message.get("content") {
            Some(Value::String(_)) => {}
            Some(Value::Array(parts)) => demand(parts.iter().all(|part| is_text(&part["type"])), "its parts"),
            _ => demand(false, "its content"),
        }
        if role == "tool" {
            let id = message.get("tool_call_id").and_then(Value::as_str).unwrap_or("");
            demand(open.iter().any(|one| one == id), "it answers no call");
            open.retain(|one| one != id);
        } else {
            demand(open.is_empty(), "calls before it have no result");
        }
        if let Some(calls) = calls {
            demand(!calls.is_empty(), "an empty list of calls");
            for call in calls {
                let keys: Vec<&str> = call.as_object().into_iter().flat_map(Map::keys).map(String::as_str).collect();
                demand(keys == ["id", "type", "function"] && call["type"] == "function", "the shape of a call");
                demand(is_text(&call["function"]["name"]), "a call without a name");
                let arguments = call["function"]["arguments"].as_str().unwrap_or("none");
                let object = serde_json::from_str::<Map<String, Value>>(arguments);
                demand(object.is_ok(), "arguments that are no object in text");
                let id = call["id"].as_str().unwrap_or("").to_owned();
                demand(!id.is_empty() && !open.contains(&id), "a call without an id of its own");
                open.push(id);
            }
        }
    }
    found
}

fn is_text(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.is_empty())
}

fn within(value: &Value, least: f64, most: f64) -> bool {
    // Written as people write it: 0.7, not 0.699999988079071.
    value.as_f64().is_some_and(|number| number >= least && number <= most) && value.to_string().len() < 9
}

fn is_tool(tool: &Value) -> bool {
    tool["type"] == "function" && is_text(&tool["function"]["name"]) && tool["function"]["parameters"].is_object()
}

fn is_choice(choice: &Value) -> bool {
    match choice {
        Value::String(word) => word == "none" || word == "required",
        _ => {
            let name = &choice["function"]["name"];
            is_text(name) && *choice == serde_json::json!({"type": "function", "function": {"name": name}})
        }
    }
}

fn is_format(format: &Value) -> bool {
    let schema = &format["json_schema"]["schema"];
    let name = &format["json_schema"]["name"];
    let whole = serde_json::json!({"type": "json_schema",
        "json_schema": {"name": name, "strict": true, "schema": schema}});
    is_text(name) && *format == whole
}
