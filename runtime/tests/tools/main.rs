//! Tools in a conversation: replies that call, results that come back, and what is fed for each. The model is a script,
//! whose vocabulary is bytes and the marks of the families; the templates are the built-in ones, some of our own that do
//! what published ones do, and the published ones where they are there.

mod chats;
#[path = "../common/mod.rs"]
mod common;
mod kept;
mod marks;
mod offers;
mod published;
mod rounds;
mod smollm2;
mod walk;

use common::{Fake, Shared, limits, options};
use marks::{encode, tokenizer};
use nano_runtime::{
    ChatHistory, ChatOptions, Event, GenerateOptions, Limits, Message, NanoModel, Output, Template, Value,
};
use serde_json::json;
use std::collections::VecDeque;

/// A model that says these texts, one token after the other. Each ends where it ends a turn.
fn model(template: Template, says: &[&str]) -> (NanoModel, Shared) {
    let mut tokens: VecDeque<u32> = says.iter().flat_map(|text| encode(text)).collect();
    let tokenizer = tokenizer();
    let limits = Limits { vocab: tokenizer.len(), context: 8192, pages: 512, ..limits() };
    let (fake, log) = Fake::new(limits, move |_| tokens.pop_front().expect("the model has nothing more to say"));
    (NanoModel::with_runner(Box::new(fake), tokenizer, Some(template)).unwrap(), log)
}

/// A tool that takes a number and a text.
fn drive() -> Value {
    let properties = json!({"speed": {"type": "number"}, "where": {"type": "string"}});
    let parameters = json!({"type": "object", "properties": properties, "required": ["speed"]});
    json!({"type": "function", "function": {"name": "drive", "description": "Drives.", "parameters": parameters}})
}

fn with_tools(template: Template, says: &[&str]) -> (ChatHistory, Shared) {
    let (model, log) = model(template, says);
    (model.chat(ChatOptions { tools: vec![drive()], ..ChatOptions::default() }).unwrap(), log)
}

/// All events of a reply, as lines, and its end.
fn reply(chat: &mut ChatHistory, options: &GenerateOptions) -> (Vec<String>, Output) {
    let mut lines: Vec<String> = Vec::new();
    for event in chat.reply(options).unwrap() {
        let line = match event.unwrap() {
            Event::Text(text) => format!("text {text}"),
            Event::Reasoning(text) => format!("reasoning {text}"),
            Event::ToolCall(call) => {
                format!("call {} {} {}", call.id.unwrap(), call.name, Value::Object(call.arguments))
            }
            Event::Done(output) => return (lines, *output),
            event => format!("{event:?}"),
        };
        // Texts come byte by byte.
        match (lines.last_mut(), line.split_once(' ').unwrap()) {
            (Some(last), (kind @ ("text" | "reasoning"), more)) if last.starts_with(kind) => last.push_str(more),
            _ => lines.push(line),
        }
    }
    panic!("a reply without an end");
}

/// What a call returned.
fn result(call: &Message, index: usize, content: &str) -> Message {
    let call = &call.tool_calls.as_ref().unwrap()[index];
    Message {
        name: Some(call["function"]["name"].as_str().unwrap().to_owned()),
        tool_call_id: Some(call["id"].as_str().unwrap().to_owned()),
        ..Message::new("tool", content)
    }
}

fn ask(chat: &mut ChatHistory, text: &str) -> (Vec<String>, Output) {
    chat.user(text);
    reply(chat, &options())
}
