//! A request as the interface writes it. Options that it has no word for are refused by name, never left out silently.

use crate::calls::new_id;
use nano_runtime::{
    Constraint, Content, Error, GenerateOptions, Map, Message, Part, Request, Result, ToolChoice, Value,
};
use serde_json::json;
use std::collections::VecDeque;

/// What a body depends on besides the request.
pub(crate) struct Manner<'a> {
    pub(crate) model: &'a str,
    /// Tokens of the context, where they are known: an answer that may have as many has no limit of its own.
    pub(crate) context: Option<usize>,
    /// The field in which this server speaks of reasoning, once it has done so.
    pub(crate) reasoning: Option<&'static str>,
    /// This server's name for a repetition penalty.
    pub(crate) repetition: &'static str,
}

/// Looks for options that no server of this interface is sure to understand.
pub(crate) fn check(request: &Request, refuse: impl Fn(String) -> Error) -> Result<()> {
    let options = &request.options;
    options.check()?;
    let local =
        |flag: &str| refuse(format!("{flag} cannot be sent to a server; it works with a model on this machine"));
    if options.min_new_tokens > 0 {
        return Err(local("--min-new-tokens"));
    }
    if options.ignore_eos {
        return Err(local("--ignore-eos"));
    }
    if !options.reply_prefix.is_empty() {
        return Err(local("--reply-prefix"));
    }
    if !options.functions.is_empty() {
        return Err(refuse(
            "functions that are called in the middle of the text cannot be sent to a server; offer them with --tools"
                .to_owned(),
        ));
    }
    match &options.constraint {
        Some(Constraint::Regex(_)) => return Err(local("--regex")),
        Some(Constraint::Grammar(_)) => return Err(local("--grammar")),
        Some(Constraint::JsonSchema(_)) | None => {}
    }
    let named = |name: &str| request.tools.iter().any(|tool| tool["function"]["name"] == name);
    match &options.tool_choice {
        ToolChoice::Required if request.tools.is_empty() => {
            Err(refuse("--tool-choice required needs a function to call, and none is offered".to_owned()))
        }
        ToolChoice::Named(name) if !named(name) => {
            Err(refuse(format!("--tool-choice {name}: no function of that name is offered")))
        }
        _ => Ok(()),
    }
}

/// The body of a request for a streamed answer.
pub(crate) fn body(request: &Request, manner: &Manner<'_>) -> Value {
    let Request { tools, options, .. } = request;
    let mut body = Map::new();
    let mut set = |name: &str, value: Value| body.insert(name.to_owned(), value);
    set("model", manner.model.into());
    set("messages", messages(&request.messages, manner.reasoning));
    set("stream", true.into());
    set("stream_options", json!({"include_usage": true}));
    if manner.context.is_none_or(|context| options.max_new_tokens < context) {
        set("max_tokens", options.max_new_tokens.into());
    }
    sampling(options, manner, &mut set);
    if !options.stop.is_empty() {
        set("stop", json!(options.stop));
    }
    if let Some(Constraint::JsonSchema(schema)) = &options.constraint {
        let schema = json!({"name": "answer", "strict": true, "schema": schema});
        set("response_format", json!({"type": "json_schema", "json_schema": schema}));
    }
    if !tools.is_empty() {
        set("tools", json!(tools));
        match &options.tool_choice {
            ToolChoice::Auto => {}
            ToolChoice::None => drop(set("tool_choice", "none".into())),
            ToolChoice::Required => drop(set("tool_choice", "required".into())),
            ToolChoice::Named(name) => {
                set("tool_choice", json!({"type": "function", "function": {"name": name}}));
            }
        }
    }
    Value::Object(body)
}

/// What is as usual is not sent: the fewer fields, the fewer servers that know one of them by another name.
fn sampling(options: &GenerateOptions, manner: &Manner<'_>, set: &mut impl FnMut(&str, Value) -> Option<Value>) {
    let mut number = |name: &str, value: f32, usual: Option<f32>| {
        if usual != Some(value) {
            set(name, decimal(value));
        }
    };
    match &options.sampling {
        // Greedy must be said: the servers' own default is to draw.
        None => number("temperature", 0.0, None),
        Some(sampling) => {
            number("temperature", sampling.temperature, None);
            number("top_p", sampling.top_p, Some(1.0));
            number("min_p", sampling.min_p, Some(0.0));
        }
    }
    number("presence_penalty", options.presence_penalty, Some(0.0));
    number("frequency_penalty", options.frequency_penalty, Some(0.0));
    number(manner.repetition, options.repetition_penalty, Some(1.0));
    if let Some(top_k) = options.sampling.as_ref().map(|sampling| sampling.top_k).filter(|top_k| *top_k > 0) {
        set("top_k", top_k.into());
    }
    if let Some(seed) = options.seed {
        // Servers keep it in 63 bits.
        set("seed", (seed & (i64::MAX as u64)).into());
    }
}

/// 0.7 as 0.7, not as the nearest double of the nearest float.
fn decimal(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

/// A conversation in the interface's form.
///
/// Reasoning goes back only where it belongs to the round under way (what was thought before the last call), and only
/// in the field in which this very server has sent some: others refuse fields they do not know, and templates drop
/// older reasoning anyway.
pub(crate) fn messages(messages: &[Message], reasoning: Option<&'static str>) -> Value {
    let round = messages.iter().rposition(|message| message.role == "user").unwrap_or(0);
    // Calls without an id are given one, and the results after them take these in order.
    let mut open = VecDeque::new();
    let list = messages.iter().enumerate().map(|(place, message)| {
        let mut one = Map::new();
        one.insert("role".to_owned(), message.role.as_str().into());
        let calls = message.tool_calls.as_deref().unwrap_or_default();
        one.insert("content".to_owned(), content(&message.content));
        if let Some(name) = &message.name {
            one.insert("name".to_owned(), name.as_str().into());
        }
        if let (Some(field), Some(text)) = (reasoning, &message.reasoning_content)
            && place > round
        {
            one.insert(field.to_owned(), text.as_str().into());
        }
        if !calls.is_empty() {
            open.clear();
            let calls: Vec<Value> = calls.iter().map(|made| call(made, &mut open)).collect();
            one.insert("tool_calls".to_owned(), calls.into());
        }
        if message.role == "tool" {
            let id = message.tool_call_id.clone();
            if let Some(at) = open.iter().position(|one| id.as_ref().is_none_or(|id| id == one)) {
                let taken = open.remove(at);
                one.insert("tool_call_id".to_owned(), id.or(taken).into());
            } else {
                one.insert("tool_call_id".to_owned(), id.unwrap_or_else(new_id).into());
            }
        }
        Value::Object(one)
    });
    list.collect()
}

/// A message that only makes calls has an empty text. The interface allows null, and none at all, but servers there are
/// that take neither, and templates that add a text to it.
fn content(content: &Content) -> Value {
    match content {
        Content::Text(text) => text.as_str().into(),
        Content::None | Content::Absent => "".into(),
        Content::Parts(parts) => parts.iter().map(part).collect(),
    }
}

fn part(part: &Part) -> Value {
    let mut one = Map::new();
    one.insert("type".to_owned(), part.kind.as_str().into());
    if let Some(text) = &part.text {
        one.insert("text".to_owned(), text.as_str().into());
    }
    one.extend(part.other.clone());
    Value::Object(one)
}

fn call(made: &Value, open: &mut VecDeque<String>) -> Value {
    let function = made.get("function").unwrap_or(made);
    let arguments = match function.get("arguments") {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => "{}".to_owned(),
    };
    let id = made.get("id").and_then(Value::as_str).filter(|id| !id.is_empty());
    let id = id.map_or_else(new_id, str::to_owned);
    open.push_back(id.clone());
    json!({"id": id, "type": "function", "function": {"name": function["name"], "arguments": arguments}})
}
