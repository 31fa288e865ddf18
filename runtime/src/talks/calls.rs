//! The calls of one answer: read out of its message, started together, and given back in their order.

use super::chat::Setup;
use crate::functions::{Found, Running};
use crate::stream::Bell;
use crate::{CallReport, ToolCall};
use nano_templates::Message;
use serde_json::{Map, Value};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// A call, and what is wrong with how it is written.
pub(super) struct Call {
    call: ToolCall,
    wrong: Option<String>,
}

/// The calls that an assistant's message makes.
pub(super) fn calls_of(message: &Message) -> Vec<Call> {
    message.tool_calls.iter().flatten().map(Call::of).collect()
}

impl Call {
    fn of(value: &Value) -> Self {
        let function = value.get("function").unwrap_or(value);
        let name = function["name"].as_str().unwrap_or_default().to_owned();
        let written = match &function["arguments"] {
            Value::String(text) if text.trim().is_empty() => Ok(Value::Null),
            Value::String(text) => serde_json::from_str(text).map_err(|problem| problem.to_string()),
            other => Ok(other.clone()),
        };
        let (arguments, wrong) = match written {
            Ok(Value::Object(arguments)) => (arguments, None),
            Ok(Value::Null) => (Map::new(), None),
            Ok(other) => (Map::new(), Some(format!("{name}: the arguments are {other}, not a JSON object"))),
            Err(problem) => (Map::new(), Some(format!("{name}: the arguments are not JSON: {problem}"))),
        };
        let id = value["id"].as_str().map(str::to_owned);
        Self { call: ToolCall { id, name, arguments }, wrong }
    }
}

/// Calls under way, or ended and not yet asked for.
pub(super) struct Batch(VecDeque<(Option<String>, Stage)>);

enum Stage {
    Running(Running),
    Ended(CallReport),
}

impl Batch {
    /// Starts them all. `off`: none may be made, and each is refused.
    pub(super) fn start(calls: Vec<Call>, off: bool, setup: &mut Setup, bell: &Arc<Bell>) -> Self {
        let limit = setup.functions.call_limit();
        let start = |(index, Call { call, wrong }): (usize, Call)| {
            let ended = |result| {
                let (name, arguments) = (call.name.clone(), call.arguments.clone());
                Stage::Ended(CallReport { name, arguments, result, seconds: 0.0 })
            };
            let refuse = |why: &str| Err(format!("{} was not called: {why}", call.name));
            let stage = if off {
                ended(refuse("no more calls are possible now"))
            } else if index >= limit {
                ended(refuse(&format!("an answer may make {limit} calls")))
            } else if let Some(why) = wrong {
                ended(Err(why))
            } else if let Some(result) = setup.hooks.before_call(&call) {
                ended(result)
            } else {
                let found: Found = setup.functions.call_of(&call.name, call.arguments.clone());
                let bell = Arc::clone(bell);
                Stage::Running(setup.functions.start(found, move || bell.ring()))
            };
            (call.id, stage)
        };
        Self(calls.into_iter().enumerate().map(start).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What came of the first of those that are left, once that is known.
    pub(super) fn next(&mut self) -> Option<(Option<String>, CallReport)> {
        let report = match &mut self.0.front_mut()?.1 {
            Stage::Running(running) => running.poll()?,
            Stage::Ended(report) => report.clone(),
        };
        let (id, _) = self.0.pop_front()?;
        Some((id, report))
    }

    /// Waits until something may have happened to that one.
    pub(super) fn wait(&self, bell: &Bell) {
        if let Some((_, Stage::Running(running))) = self.0.front() {
            bell.wait(Some(running.deadline().saturating_duration_since(Instant::now())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn calls_are_read_however_they_are_written() {
        let read = |call: Value| {
            let message = Message { tool_calls: Some(vec![call]), ..Message::assistant("") };
            let Call { call, wrong } = calls_of(&message).pop().expect("a call");
            (call.id.unwrap_or_default(), call.name, Value::Object(call.arguments), wrong.unwrap_or_default())
        };
        let plain = |id: &str, arguments| (id.to_owned(), "f".to_owned(), arguments, String::new());
        let x = json!({"x": 1});
        let function = |arguments: &Value| json!({"name": "f", "arguments": arguments});
        assert_eq!(read(json!({"id": "a", "function": function(&json!("{\"x\": 1}"))})), plain("a", x.clone()));
        assert_eq!(read(json!({"id": "a", "function": function(&x)})), plain("a", x.clone()));
        // Without an id, and as some lists have it, without a function around the name.
        assert_eq!(read(function(&x)), plain("", x));
        for none in [json!(""), json!("null"), json!(null)] {
            assert_eq!(read(json!({"id": "a", "function": function(&none)})), plain("a", json!({})));
        }
        assert_eq!(read(json!({"id": "a", "function": {"name": "f"}})), plain("a", json!({})));
        for (bad, why) in
            [(json!("[1]"), "f: the arguments are [1], not"), (json!("{"), "f: the arguments are not JSON")]
        {
            assert!(read(json!({"function": function(&bad)})).3.starts_with(why));
        }
        // What is no call at all has no name, and is no function's.
        assert_eq!(read(json!(7)).1, "");
        assert!(calls_of(&Message::assistant("")).is_empty());
    }
}
