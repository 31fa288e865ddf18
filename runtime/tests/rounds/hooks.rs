//! What hooks are asked, when, and what their answers change.

use crate::script::*;
use nano_runtime::{AfterError, CallReport, Chat, ChatHooks, Error, Message, ToolCall, ToolChoice};
use std::sync::{Arc, Mutex};

type Log = Arc<Mutex<Vec<String>>>;

/// Notes all that it is asked.
#[derive(Clone, Default)]
struct Notes(Log);

impl Notes {
    fn note(&self, text: impl Into<String>) {
        self.0.lock().unwrap().push(text.into());
    }
}

impl ChatHooks for Notes {
    fn prompt(&mut self, messages: &[Message]) -> Option<Vec<Message>> {
        self.note(format!("prompt of {}", messages.len()));
        None
    }

    fn add(&mut self, message: &mut Message) {
        self.note(format!("add {} {}", message.role, message.content.text()));
    }

    fn answered(&mut self, message: &Message) {
        self.note(format!("answered {}", message.content.text()));
    }

    fn before_call(&mut self, call: &ToolCall) -> Option<Result<Option<String>, String>> {
        self.note(format!("before {} {}", call.name, call.arguments.len()));
        None
    }

    fn after_call(&mut self, report: &mut CallReport) {
        self.note(format!("after {} {:?}", report.name, report.result));
    }

    fn on_error(&mut self, report: &CallReport, attempt: usize) -> Option<AfterError> {
        self.note(format!("error {} {attempt}", report.name));
        None
    }
}

#[test]
fn each_is_asked_in_its_turn() {
    let calls = vec![Call("echo", r#"{"text": "x"}"#), Call("fail", "{}")];
    let (chat, _) = chat([calls, vec![Call("add", "[]")], vec![Text("Oh.")]]);
    let notes = Notes::default();
    let mut chat = chat.with_hooks(notes.clone());
    chat.ask("go").unwrap();
    let log = notes.0.lock().unwrap();
    assert_eq!(
        *log,
        [
            "add user go",
            "prompt of 1",
            "answered ",
            "before echo 1",
            "before fail 0",
            "after echo Ok(Some(\"x\"))",
            "add tool x",
            "after fail Err(\"fail: no signal\")",
            "error fail 1",
            "add tool error: fail: no signal",
            "prompt of 4",
            "answered ",
            // What cannot be read as a call is not asked about.
            "after add Err(\"add: the arguments are [], not a JSON object\")",
            "error add 2",
            "add tool error: add: the arguments are [], not a JSON object",
            "prompt of 6",
            "answered Oh.",
        ]
    );
}

/// Changes what can be changed.
struct Meddler {
    after: Option<AfterError>,
}

impl ChatHooks for Meddler {
    fn prompt(&mut self, messages: &[Message]) -> Option<Vec<Message>> {
        Some([&[Message::system("It is noon.")], messages].concat())
    }

    fn add(&mut self, message: &mut Message) {
        message.content = format!("[{}]", message.content.text()).into();
    }

    fn before_call(&mut self, call: &ToolCall) -> Option<Result<Option<String>, String>> {
        match call.name.as_str() {
            "echo" => Some(Ok(Some("mocked".into()))),
            "add" => Some(Err("add is not allowed".into())),
            _ => None,
        }
    }

    fn after_call(&mut self, report: &mut CallReport) {
        if report.result.as_ref().is_ok_and(|text| text.as_deref() == Some("mocked")) {
            report.result = Ok(Some("mocked and changed".into()));
        }
    }

    fn on_error(&mut self, _: &CallReport, _: usize) -> Option<AfterError> {
        self.after
    }
}

fn meddled(after: Option<AfterError>, answers: Vec<Vec<Say>>) -> (Chat, Arc<Script>) {
    let (chat, script) = chat(answers);
    (chat.with_hooks(Meddler { after }), script)
}

#[test]
fn what_they_say_counts() {
    let calls = vec![Call("echo", r#"{"text": "x"}"#), Call("add", r#"{"a": 1, "b": 2}"#)];
    let (mut chat, script) = meddled(None, vec![calls, vec![Text("Oh.")]]);
    chat.ask("go").unwrap();
    let all = [
        "user: [go]",
        "assistant:  <echo> <add>",
        "tool: [mocked and changed]",
        "tool: [error: add is not allowed]",
        "assistant: Oh.",
    ];
    assert_eq!(told(chat.messages()), all);
    let prompts: Vec<String> = script.asked().iter().map(|request| told(&request.messages)[0].clone()).collect();
    assert_eq!(prompts, ["system: It is noon.", "system: It is noon."]);
}

#[test]
fn the_error_policy() {
    let bad = || vec![Call("fail", "{}")];
    let choices = |script: &Script| -> Vec<ToolChoice> {
        script.asked().into_iter().map(|request| request.options.tool_choice).collect()
    };
    let (mut chat, script) = meddled(Some(AfterError::LastAnswer), vec![bad(), vec![Text("Oh.")]]);
    chat.ask("go").unwrap();
    assert_eq!(choices(&script), [ToolChoice::Auto, ToolChoice::None]);
    let (mut chat, script) = meddled(Some(AfterError::Retry), vec![bad(), bad(), bad(), bad(), vec![Text("Oh.")]]);
    chat.ask("go").unwrap();
    assert_eq!(choices(&script), vec![ToolChoice::Auto; 5]);
    let (mut chat, script) = meddled(Some(AfterError::Fail), vec![bad(), vec![Text("Oh.")]]);
    let error = chat.ask("go").unwrap_err();
    assert!(matches!(&error, Error::Call { .. }) && error.to_string().contains("fail: no signal"), "{error}");
    assert!(chat.messages().is_empty());
    script.says([vec![Text("Well.")]]);
    assert_eq!(chat.ask("go").unwrap(), "Well.");
}

/// Of several failures, one that is to be tried again is enough.
struct Mixed;

impl ChatHooks for Mixed {
    fn on_error(&mut self, report: &CallReport, _: usize) -> Option<AfterError> {
        Some(if report.name == "fail" { AfterError::Retry } else { AfterError::LastAnswer })
    }
}

#[test]
fn one_retry_outweighs_the_others() {
    for calls in [["fail", "fly"], ["fly", "fail"]] {
        let bad = || calls.iter().map(|name| Call(name, "{}")).collect();
        let (chat, script) = chat([bad(), bad(), vec![Text("Oh.")]]);
        chat.with_hooks(Mixed).ask("go").unwrap();
        assert!(script.asked().iter().all(|request| request.options.tool_choice == ToolChoice::Auto));
    }
}
