//! An engine whose answers are given, and chats with it.

use nano_runtime::{
    Answer, AnswerSink, BotFunction, BotFunctions, Chat, Engine, Error, Event, Finish, Message, Output, Request,
    Result, Round, RoundEvent, Stats, Stopper, ToolCall, Value,
};
use serde_json::json;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A part of an answer.
#[derive(Clone, Debug)]
pub enum Say {
    Text(&'static str),
    Think(&'static str),
    /// A function and its arguments, as they are written.
    Call(&'static str, &'static str),
    Fail,
    /// Says nothing more until it is stopped.
    Hang,
    /// Ends without an end, which no engine should.
    Vanish,
}

pub use Say::{Call, Fail, Hang, Text, Think, Vanish};

/// Says its answers one after the other.
#[derive(Default)]
pub struct Script {
    answers: Mutex<VecDeque<Vec<Say>>>,
    requests: Mutex<Vec<Request>>,
    calls: Mutex<usize>,
    /// How often it was asked for a length.
    pub counted: AtomicUsize,
    context: usize,
}

impl Script {
    pub fn new(answers: impl IntoIterator<Item = Vec<Say>>) -> Arc<Self> {
        let answers = Mutex::new(answers.into_iter().collect());
        Arc::new(Self { answers, context: 100_000, ..Self::default() })
    }

    /// One whose context holds so many letters.
    pub fn with_context(context: usize) -> Arc<Self> {
        Arc::new(Self { context, ..Self::default() })
    }

    /// What it was asked since this was last looked at.
    pub fn asked(&self) -> Vec<Request> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }

    /// Puts other answers in place of those that are left.
    pub fn says(&self, answers: impl IntoIterator<Item = Vec<Say>>) {
        *self.answers.lock().unwrap() = answers.into_iter().collect();
    }
}

impl Engine for Script {
    fn name(&self) -> &str {
        "script"
    }

    fn max_context_size(&self) -> usize {
        self.context
    }

    fn prompt_len(&self, messages: &[Message], _: &[Value]) -> Result<usize> {
        self.counted.fetch_add(1, Ordering::Relaxed);
        Ok(messages.iter().map(|message| message.content.text().len()).sum())
    }

    fn stream(&self, request: &Request) -> Result<Box<dyn Answer>> {
        self.requests.lock().unwrap().push(request.clone());
        let says = self.answers.lock().unwrap().pop_front();
        let Some(says) = says else { return Err(failure("it has nothing more to say")) };
        let (message, sink) = (Message::assistant(""), nano_runtime::answer().0);
        let mut calls = self.calls.lock().unwrap();
        let first = *calls;
        *calls += says.iter().filter(|say| matches!(say, Call(..))).count();
        Ok(Box::new(Saying { says: says.into(), message, call: first, sink, ended: false }))
    }
}

pub fn failure(problem: &str) -> Error {
    Error::Engine { engine: "script".into(), problem: problem.into() }
}

struct Saying {
    says: VecDeque<Say>,
    message: Message,
    call: usize,
    sink: AnswerSink,
    ended: bool,
}

impl Saying {
    fn done(&mut self, finish: Finish) -> Result<Event> {
        self.ended = true;
        Ok(Event::Done(Box::new(Output::elsewhere(self.message.clone(), finish, Stats::default()))))
    }
}

impl Iterator for Saying {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Result<Event>> {
        loop {
            if self.ended {
                return None;
            }
            if let Some(event) = self.poll() {
                return Some(event);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Answer for Saying {
    fn poll(&mut self) -> Option<Result<Event>> {
        if self.ended {
            return None;
        }
        if self.sink.stopper().is_stopped() {
            return Some(self.done(Finish::Cancelled));
        }
        Some(match self.says.front().cloned() {
            None => self.done(Finish::Stop),
            Some(Hang) => return None,
            Some(Vanish) => {
                self.ended = true;
                return None;
            }
            Some(say) => {
                self.says.pop_front();
                match say {
                    Text(text) => {
                        self.message.content = (self.message.content.text() + text).into();
                        Ok(Event::Text(text.into()))
                    }
                    Think(text) => {
                        self.message.reasoning_content.get_or_insert_default().push_str(text);
                        Ok(Event::Reasoning(text.into()))
                    }
                    Call(name, arguments) => {
                        let id = format!("call{:05}", self.call);
                        self.call += 1;
                        let function = json!({"name": name, "arguments": arguments});
                        let call = json!({"id": id, "type": "function", "function": function});
                        self.message.tool_calls.get_or_insert_default().push(call);
                        let arguments = serde_json::from_str(arguments).unwrap_or_default();
                        Ok(Event::ToolCall(Box::new(ToolCall { id: Some(id), name: name.into(), arguments })))
                    }
                    Fail => {
                        self.ended = true;
                        Err(failure("it broke"))
                    }
                    Hang | Vanish => unreachable!("looked for above"),
                }
            }
        })
    }

    fn is_ended(&self) -> bool {
        self.ended
    }

    fn stopper(&self) -> Stopper {
        self.sink.stopper().clone()
    }
}

/// `add`, `echo`, `fail`.
pub fn functions() -> BotFunctions {
    BotFunctions::new([
        BotFunction::closure("add", "Adds.", ["a", "b"], |a: i64, b: i64| a + b),
        BotFunction::closure("echo", "Repeats.", ["text"], |text: String| text),
        BotFunction::closure("fail", "Fails.", [], || Err::<(), _>("no signal")),
    ])
    .unwrap()
}

/// A chat over an engine that says this.
pub fn chat(answers: impl IntoIterator<Item = Vec<Say>>) -> (Chat, Arc<Script>) {
    let script = Script::new(answers);
    (Chat::new(script.clone()).with_functions(functions()), script)
}

/// A round as lines.
pub fn lines(round: Round<'_>) -> Vec<String> {
    round.map(|event| line(&event)).collect()
}

pub fn line(event: &Result<RoundEvent>) -> String {
    match event {
        Ok(RoundEvent::Answer(Event::Text(text))) => format!("text {text}"),
        Ok(RoundEvent::Answer(Event::Reasoning(text))) => format!("think {text}"),
        Ok(RoundEvent::Answer(Event::ToolCall(call))) => format!("call {}", call.name),
        Ok(RoundEvent::Answer(Event::Done(output))) => format!("done {}", output.finish.as_str()),
        Ok(RoundEvent::Result(result)) => format!("result {} {}", result.report.name, result.message.content.text()),
        Ok(RoundEvent::Notice(text)) => format!("notice {text}"),
        Ok(other) => format!("{other:?}"),
        Err(error) => format!("error {error}"),
    }
}

/// Messages as `role: text`, calls as names behind it.
pub fn told(messages: &[Message]) -> Vec<String> {
    let calls = |message: &Message| -> String {
        let calls = message.tool_calls.iter().flatten();
        calls.map(|call| format!(" <{}>", call["function"]["name"].as_str().unwrap())).collect()
    };
    messages.iter().map(|m| format!("{}: {}{}", m.role, m.content.text(), calls(m))).collect()
}

/// Every call has its result, in its place.
pub fn assert_whole(messages: &[Message]) {
    let mut rest = messages.iter().peekable();
    while let Some(message) = rest.next() {
        assert_ne!(message.role, "tool", "a result without a call: {:?}", told(messages));
        for call in message.tool_calls.iter().flatten() {
            let result = rest.next().filter(|result| result.role == "tool");
            let result = result.unwrap_or_else(|| panic!("a call without a result: {:?}", told(messages)));
            assert_eq!(result.tool_call_id.as_deref(), call["id"].as_str());
            assert_eq!(result.name.as_deref(), call["function"]["name"].as_str());
        }
    }
}
