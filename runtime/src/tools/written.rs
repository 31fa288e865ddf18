//! Calls as the models of a format write them: what a reader of the format takes for these calls, as far as the format can
//! say them. For prompts, not for replies.

use super::harmony;
use super::{ToolCall, ToolFormat, deepseek};
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};
use serde_json::{Value, json};
use std::io::{self, Write};

impl ToolFormat {
    /// The text of these calls.
    pub(crate) fn write(self, calls: &[ToolCall]) -> String {
        let each = |write: &dyn Fn(&ToolCall) -> String, between: &str| {
            calls.iter().map(write).collect::<Vec<_>>().join(between)
        };
        let list = |key: &str| format!("[{}]", each(&|call| object(call, key), ", "));
        match self {
            Self::Json | Self::Gemma => {
                let key = if self == Self::Json { "arguments" } else { "parameters" };
                if let [call] = calls { object(call, key) } else { list(key) }
            }
            Self::Llama3 => each(&|call| object(call, "parameters"), "; "),
            Self::Mistral => format!("[TOOL_CALLS]{}", list("arguments")),
            Self::Phi4 => format!("<|tool_call|>{}", list("arguments")),
            Self::Hermes => each(&|call| format!("<tool_call>\n{}\n</tool_call>", object(call, "arguments")), "\n"),
            Self::Qwen => each(&tags, "\n"),
            Self::DeepSeek => deepseek::written(&each(&fenced, "\n")),
            Self::Harmony => each(&message, harmony::NEXT),
            Self::FunctionGemma => {
                each(&|call| format!("<start_function_call>{}<end_function_call>", curly(call, "<escape>")), "")
            }
            Self::Gemma4 => each(&|call| format!("<|tool_call>{}<tool_call|>", curly(call, "<|\"|>")), ""),
        }
    }
}

/// JSON as Python writes it, which is what models were shown: with a space behind commas and colons.
pub(crate) fn dumps(value: &impl Serialize) -> String {
    let mut out = Vec::new();
    // Writing values to memory does not fail.
    let _ = value.serialize(&mut Serializer::with_formatter(&mut out, Spaced));
    String::from_utf8(out).unwrap_or_default()
}

struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }
}

fn object(call: &ToolCall, key: &str) -> String {
    let mut object = json!({"name": call.name, key: call.arguments});
    if let Some(id) = &call.id {
        object["id"] = id.as_str().into();
    }
    dumps(&object)
}

fn tags(call: &ToolCall) -> String {
    let value = |value: &Value| value.as_str().map_or_else(|| dumps(value), str::to_owned);
    let argument = |(name, given)| format!("<parameter={name}>\n{}\n</parameter>\n", value(given));
    let arguments: String = call.arguments.iter().map(argument).collect();
    format!("<tool_call>\n<function={}>\n{arguments}</function>\n</tool_call>", call.name)
}

fn fenced(call: &ToolCall) -> String {
    deepseek::written_call(&call.name, &dumps(&call.arguments))
}

fn message(call: &ToolCall) -> String {
    harmony::written(&call.name, &dumps(&call.arguments))
}

fn curly(call: &ToolCall, quote: &str) -> String {
    format!("call:{}{}", call.name, braced(call.arguments.iter(), quote))
}

fn braced<'a>(fields: impl Iterator<Item = (&'a String, &'a Value)>, quote: &str) -> String {
    let field = |(key, value): (&String, &Value)| format!("{}:{}", bare(key), quoted(value, quote));
    format!("{{{}}}", fields.map(field).collect::<Vec<_>>().join(","))
}

/// A key, in quotation marks where it would be no word.
pub(crate) fn bare(key: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !key.is_empty() && key.chars().all(plain) { key.to_owned() } else { dumps(&key) }
}

fn quoted(value: &Value, quote: &str) -> String {
    match value {
        Value::String(text) if text.contains(quote) => dumps(text),
        Value::String(text) => format!("{quote}{text}{quote}"),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(|item| quoted(item, quote)).collect::<Vec<_>>().join(","))
        }
        Value::Object(fields) => braced(fields.iter(), quote),
        other => other.to_string(),
    }
}
