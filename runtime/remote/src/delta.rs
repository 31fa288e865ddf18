//! What a server streams, value by value, to the events of an answer and its message. One that answers all at once is
//! read the same way.

use crate::calls::{Calls, Made};
use crate::failure::Failure;
use crate::refusal::Refusal;
use nano_runtime::{Content, Event, Finish, Message, Output, Stats, ToolCall, Value};
use serde_json::json;
use std::time::Instant;

/// An answer so far.
pub(crate) struct Assembly {
    text: String,
    reasoning: String,
    calls: Calls,
    /// Why the model stopped, in the server's words.
    finish: Option<String>,
    usage: Option<Usage>,
    /// The field in which reasoning came.
    reasoning_field: Option<&'static str>,
    /// Pieces of text, reasoning and calls: about as many as tokens.
    pieces: usize,
    guess: usize,
    sent: Instant,
    first: Option<Instant>,
    last: Option<Instant>,
}

/// Tokens as the server counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) prompt: usize,
    pub(crate) cached: usize,
    pub(crate) answer: usize,
}

impl Assembly {
    /// Begins when the request is sent. `guess` is the length of its prompt, for servers that do not count.
    pub(crate) fn new(sent: Instant, guess: usize) -> Self {
        Self {
            text: String::new(),
            reasoning: String::new(),
            calls: Calls::default(),
            finish: None,
            usage: None,
            reasoning_field: None,
            pieces: 0,
            guess,
            sent,
            first: None,
            last: None,
        }
    }

    /// Whether the model has said anything yet.
    pub(crate) fn has_begun(&self) -> bool {
        self.first.is_some()
    }

    /// Whether the model has said that it is done. Counts may follow.
    pub(crate) fn has_finished(&self) -> bool {
        self.finish.is_some()
    }

    pub(crate) fn usage(&self) -> Option<Usage> {
        self.usage
    }

    pub(crate) fn reasoning_field(&self) -> Option<&'static str> {
        self.reasoning_field
    }

    /// Takes a value of the stream; what it says to the reader is put into `events`.
    pub(crate) fn take(&mut self, value: &Value, announced: bool, events: &mut Vec<Event>) -> Result<(), Failure> {
        if announced || Refusal::is_in(value) {
            return Err(Failure::Said(Box::new(Refusal::of(value))));
        }
        if !value.is_object() {
            return Err(Failure::Garbage(value.to_string()));
        }
        if let Some(usage) = value.get("usage").and_then(Usage::of) {
            self.usage = Some(usage);
        }
        let choices = value.get("choices").and_then(Value::as_array);
        // Servers that were asked for several answers number them; others leave the number out.
        let first = |choice: &&Value| choice.get("index").and_then(Value::as_u64).unwrap_or(0) == 0;
        let Some(choice) = choices.into_iter().flatten().find(first) else { return Ok(()) };
        if let Some(delta) = choice.get("delta").or_else(|| choice.get("message")) {
            self.delta(delta, events);
        }
        // Some servers say in each piece, in words, that there is no reason yet.
        let reason = choice.get("finish_reason").and_then(Value::as_str);
        if let Some(reason) = reason.filter(|reason| !["", "null"].contains(reason)) {
            self.finish = Some(reason.to_owned());
        }
        Ok(())
    }

    fn delta(&mut self, delta: &Value, events: &mut Vec<Event>) {
        // Some servers send reasoning in both fields.
        for field in ["reasoning_content", "reasoning"] {
            if let Some(text) = delta.get(field).and_then(Value::as_str).filter(|text| !text.is_empty()) {
                self.reasoning_field = Some(field);
                self.thought(text, events);
                break;
            }
        }
        match delta.get("content") {
            Some(Value::String(text)) => self.said(text, events),
            Some(Value::Array(parts)) => parts.iter().for_each(|part| self.part(part, events)),
            _ => {}
        }
        if let Some(text) = delta.get("refusal").and_then(Value::as_str) {
            self.said(text, events);
        }
        let calls = delta.get("tool_calls").and_then(Value::as_array).filter(|calls| !calls.is_empty());
        // Some servers send each call in the old form as well.
        let old = delta.get("function_call").filter(|function| function.is_object() && calls.is_none());
        for entry in calls.into_iter().flatten().chain(old) {
            self.calls.push(entry);
            self.piece();
        }
    }

    fn part(&mut self, part: &Value, events: &mut Vec<Event>) {
        let text = |value: &Value| value.get("text").and_then(Value::as_str).unwrap_or("").to_owned();
        match part.get("thinking") {
            Some(Value::Array(parts)) => self.thought(&parts.iter().map(text).collect::<String>(), events),
            Some(Value::String(text)) => self.thought(text, events),
            _ => self.said(&text(part), events),
        }
    }

    fn said(&mut self, text: &str, events: &mut Vec<Event>) {
        if !text.is_empty() {
            self.piece();
            self.text += text;
            events.push(Event::Text(text.to_owned()));
        }
    }

    fn thought(&mut self, text: &str, events: &mut Vec<Event>) {
        if !text.is_empty() {
            self.piece();
            self.reasoning += text;
            events.push(Event::Reasoning(text.to_owned()));
        }
    }

    fn piece(&mut self) {
        let now = Instant::now();
        self.first.get_or_insert(now);
        self.last = Some(now);
        self.pieces += 1;
    }

    /// The end that the server meant. The last events are put into `events`.
    pub(crate) fn finish(mut self, events: &mut Vec<Event>) -> Result<Output, Failure> {
        let finish = match self.finish.as_deref() {
            Some("length" | "max_tokens") => Finish::Length,
            Some("content_filter") if !self.has_begun() => {
                return Err(Failure::Nothing("its content filter refused it".to_owned()));
            }
            Some(reason @ ("error" | "abort")) => {
                return Err(Failure::Nothing(format!("it ended the answer with {reason}")));
            }
            Some(_) => Finish::Stop,
            // Some servers only say that they are done.
            None if self.has_begun() => Finish::Stop,
            None => return Err(Failure::Nothing("there is nothing in it (no choices)".to_owned())),
        };
        let mut calls = Vec::new();
        for made in std::mem::take(&mut self.calls).finish() {
            match made {
                Made::Text(text) => self.said(&text, events),
                Made::Call(call) => {
                    calls.push(written(&call));
                    events.push(Event::ToolCall(Box::new(call)));
                }
            }
        }
        Ok(self.output(calls, finish))
    }

    /// The end that the user wanted. Calls are given up: the last may not be whole.
    pub(crate) fn cancel(self) -> Output {
        self.output(Vec::new(), Finish::Cancelled)
    }

    fn output(self, calls: Vec<Value>, finish: Finish) -> Output {
        let seconds = |from: Option<Instant>, to: Option<Instant>| {
            from.zip(to).map_or(0.0, |(from, to)| to.saturating_duration_since(from).as_secs_f64())
        };
        let to_first = seconds(Some(self.sent), self.first);
        let stats = Stats {
            input_tokens: self.usage.map_or(self.guess, |usage| usage.prompt.saturating_sub(usage.cached)),
            reused_tokens: self.usage.map_or(0, |usage| usage.cached),
            output_tokens: self.usage.map_or(self.pieces, |usage| usage.answer),
            prefill_time: to_first,
            decode_time: seconds(self.first, self.last),
            first_token_time: to_first,
            ..Stats::default()
        };
        let bare = self.text.is_empty() && !calls.is_empty();
        let message = Message {
            content: if bare { Content::None } else { Content::Text(self.text) },
            reasoning_content: Some(self.reasoning).filter(|text| !text.is_empty()),
            tool_calls: Some(calls).filter(|calls| !calls.is_empty()),
            ..Message::assistant("")
        };
        Output::elsewhere(message, finish, stats)
    }
}

impl Usage {
    fn of(value: &Value) -> Option<Self> {
        let number = |value: Option<&Value>| value.and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        let details = value.get("prompt_tokens_details");
        let prompt = number(value.get("prompt_tokens"))?;
        Some(Self {
            prompt,
            cached: number(details.and_then(|details| details.get("cached_tokens"))).unwrap_or(0).min(prompt),
            answer: number(value.get("completion_tokens")).unwrap_or(0),
        })
    }
}

fn written(call: &ToolCall) -> Value {
    let arguments = Value::Object(call.arguments.clone()).to_string();
    json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}})
}
