//! What happens as lines of JSON, for programs. When each is written is decided elsewhere.

use crate::out;
use crate::stats::Numbers;
use anyhow::Result;
use nano_runtime::{CallReport, Output, Overflow, ToolCall};
use serde::Serialize;
use serde_json::{Map, Value};

/// A line.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Line<'a> {
    Text {
        text: &'a str,
    },
    Reasoning {
        text: &'a str,
    },
    Call(Call<'a>),
    ToolCall {
        id: &'a str,
        name: &'a str,
        arguments: &'a Map<String, Value>,
    },
    ToolResult {
        id: &'a str,
        #[serde(flatten)]
        call: Call<'a>,
    },
    Overflow {
        policy: &'static str,
        removed_rows: usize,
    },
    Done {
        finish: &'static str,
        /// Tools called: their results follow, and another answer.
        #[serde(skip_serializing_if = "is_zero")]
        tool_calls: usize,
        stats: Numbers,
    },
    Command {
        command: &'a str,
        text: &'a str,
    },
    Error {
        message: String,
    },
}

/// What came of a call.
#[derive(Serialize)]
pub struct Call<'a> {
    name: &'a str,
    arguments: &'a Map<String, Value>,
    /// The text, or null where the function returns nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    returned: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<&'a str>,
    seconds: f64,
}

impl Line<'_> {
    /// Writes it to stdout.
    pub fn write(&self) -> Result<()> {
        out::json(self)
    }
}

impl<'a> Line<'a> {
    /// A tool was called.
    pub fn tool_call(call: &'a ToolCall) -> Self {
        Line::ToolCall { id: call.id.as_deref().unwrap_or(""), name: &call.name, arguments: &call.arguments }
    }

    /// Room was made.
    pub fn overflow(policy: Overflow, removed_rows: usize) -> Self {
        Line::Overflow { policy: policy.as_str(), removed_rows }
    }

    /// An answer ended.
    pub fn done(output: &Output, tool_calls: usize) -> Self {
        let Output { finish, stats, .. } = output;
        Line::Done { finish: finish.as_str(), tool_calls, stats: Numbers::of(stats) }
    }

    /// Something failed.
    pub fn error(message: impl std::fmt::Display) -> Self {
        Line::Error { message: message.to_string() }
    }
}

impl<'a> From<&'a CallReport> for Call<'a> {
    fn from(report: &'a CallReport) -> Self {
        let CallReport { name, arguments, result, seconds } = report;
        Call {
            name,
            arguments,
            returned: result.as_ref().ok().map(Option::as_deref),
            failed: result.as_ref().err().map(String::as_str),
            seconds: *seconds,
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde asks
fn is_zero(count: &usize) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use nano_runtime::{Finish, Message, Stats};

    fn text(line: &Line<'_>) -> String {
        serde_json::to_string(line).unwrap()
    }

    #[test]
    fn events_are_lines_of_json() {
        assert_eq!(text(&Line::Text { text: "a\n\"b\"" }), r#"{"event":"text","text":"a\n\"b\""}"#);
        assert_eq!(text(&Line::Reasoning { text: "a" }), r#"{"event":"reasoning","text":"a"}"#);
        assert_eq!(text(&Line::error("no")), r#"{"event":"error","message":"no"}"#);
        let overflow = text(&Line::overflow(Overflow::Drop, 3));
        assert_eq!(overflow, r#"{"event":"overflow","policy":"drop","removed_rows":3}"#);
        let stats =
            Stats { input_tokens: 3, output_tokens: 2, prefill_time: 0.5, decode_time: 0.25, ..Stats::default() };
        let output = Output::elsewhere(Message::assistant("a"), Finish::Stop, stats);
        let ended: Value = serde_json::from_str(&text(&Line::done(&output, 0))).unwrap();
        assert_eq!((&ended["event"], &ended["finish"]), (&"done".into(), &"stop".into()));
        assert_eq!((&ended["stats"]["prefill_rate"], &ended["stats"]["decode_rate"]), (&6.0.into(), &4.0.into()));
        assert!(ended.get("tool_calls").is_none());
        assert!(text(&Line::done(&output, 2)).starts_with(r#"{"event":"done","finish":"stop","tool_calls":2,"#));
    }

    #[test]
    fn calls_are_events() {
        let arguments = Map::from_iter([("to".to_owned(), Value::from(1))]);
        let report = |result| CallReport { name: "go".into(), arguments: arguments.clone(), result, seconds: 0.5 };
        let call = |result| text(&Line::Call(Call::from(&report(result))));
        let start = r#"{"event":"call","name":"go","arguments":{"to":1},"#;
        assert_eq!(call(Ok(Some("far".into()))), format!("{start}\"returned\":\"far\",\"seconds\":0.5}}"));
        assert_eq!(call(Ok(None)), format!("{start}\"returned\":null,\"seconds\":0.5}}"));
        assert_eq!(call(Err("no".into())), format!("{start}\"failed\":\"no\",\"seconds\":0.5}}"));
        let result = report(Ok(None));
        let result = Line::ToolResult { id: "abc", call: Call::from(&result) };
        let start = r#"{"event":"tool_result","id":"abc","name":"go","arguments":{"to":1},"#;
        assert_eq!(text(&result), format!("{start}\"returned\":null,\"seconds\":0.5}}"));
        let called = ToolCall { id: Some("abc".into()), name: "go".into(), arguments };
        let start = r#"{"event":"tool_call","id":"abc","name":"go","arguments":{"to":1}}"#;
        assert_eq!(text(&Line::tool_call(&called)), start);
    }
}
