//! What is sent. The stand-in looks at shapes; here it is the values.

use crate::stand_in::{Manner, StandIn, delta, events, finish, stream_reply};
use crate::{ask, open, options, request};
use nano_remote::{RemoteEngine, RemoteOptions, Timeouts};
use nano_runtime::{
    BotFunction, BotFunctions, Constraint, Content, Engine, GenerateOptions, Message, Part, Request, Sampling,
    ToolChoice, Value,
};
use serde_json::json;
use std::time::Duration;

fn server() -> StandIn {
    StandIn::new(|_, _| stream_reply(&events(&[delta(json!({"content": "ok"})), finish("stop")])))
}

fn tool(name: &str) -> Value {
    BotFunction::closure(name, "Does it.", ["x"], |x: f64| x).tool()
}

/// The body that a request made.
fn sent(request: &Request) -> Value {
    let server = server();
    let told = ask(&open(&server), request);
    assert_eq!(told.text, "ok");
    server.seen().remove(0).body
}

#[test]
fn patience_without_end() {
    let server = server();
    let (connect, first_byte, between_bytes) = (Duration::MAX, Duration::MAX, Duration::MAX);
    let timeouts = Timeouts { connect, first_byte, between_bytes };
    let engine = RemoteEngine::open(RemoteOptions { timeouts, backoff: Duration::MAX, ..options(&server) }).unwrap();
    assert_eq!(ask(&engine, &request("Hi")).text, "ok");
}

#[test]
fn the_least_and_the_most() {
    let least = sent(&request("Hi"));
    assert_eq!(
        least,
        json!({"model": "test", "messages": [{"role": "user", "content": "Hi"}], "stream": true,
            "stream_options": {"include_usage": true}, "max_tokens": 128, "temperature": 0.0})
    );
    let options = GenerateOptions {
        max_new_tokens: 7,
        sampling: Some(Sampling { temperature: 0.7, top_k: 40, top_p: 0.95, min_p: 0.05 }),
        repetition_penalty: 1.1,
        presence_penalty: 0.2,
        frequency_penalty: -0.3,
        seed: Some(u64::MAX),
        stop: vec!["###".into(), "\n".into()],
        constraint: Some(Constraint::JsonSchema(json!({"type": "object"}))),
        tool_choice: ToolChoice::Required,
        ..GenerateOptions::default()
    };
    let mut most = sent(&Request { tools: vec![tool("f"), tool("g")], options, ..request("Hi") });
    let fields = most.as_object_mut().expect("an object");
    for name in ["model", "messages", "stream", "stream_options"] {
        fields.remove(name);
    }
    assert_eq!(
        most,
        json!({"max_tokens": 7, "temperature": 0.7, "top_p": 0.95, "min_p": 0.05, "top_k": 40, "presence_penalty": 0.2,
            "frequency_penalty": -0.3, "repetition_penalty": 1.1, "seed": i64::MAX, "stop": ["###", "\n"],
            "response_format": {"type": "json_schema",
                "json_schema": {"name": "answer", "strict": true, "schema": {"type": "object"}}},
            "tools": [tool("f"), tool("g")], "tool_choice": "required"})
    );
}

#[test]
fn what_is_as_usual_is_left_out() {
    let sampling = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0 };
    let options = GenerateOptions { sampling: Some(sampling), max_new_tokens: 2048, ..GenerateOptions::default() };
    let body = sent(&Request { options, ..request("Hi") });
    let names: Vec<&String> = body.as_object().expect("an object").keys().collect();
    assert_eq!(names, ["model", "messages", "stream", "stream_options", "temperature"]);
}

#[test]
fn choices_of_tools() {
    let choice = |choice: ToolChoice, tools: Vec<Value>| {
        let options = GenerateOptions { tool_choice: choice, ..GenerateOptions::default() };
        sent(&Request { tools, options, ..request("Hi") })["tool_choice"].clone()
    };
    assert_eq!(choice(ToolChoice::Auto, vec![tool("f")]), Value::Null);
    assert_eq!(choice(ToolChoice::None, vec![tool("f")]), "none");
    assert_eq!(choice(ToolChoice::None, vec![]), Value::Null);
    let named = choice(ToolChoice::Named("f".into()), vec![tool("f")]);
    assert_eq!(named, json!({"type": "function", "function": {"name": "f"}}));
}

#[test]
fn conversations() {
    let call = |id: &str, name: &str| {
        let function = json!({"name": name, "arguments": "{\"x\": 1}"});
        json!({"id": id, "type": "function", "function": function})
    };
    let result = |id: Option<&str>| Message {
        name: Some("f".into()),
        tool_call_id: id.map(str::to_owned),
        ..Message::new("tool", "3")
    };
    let part = |kind: &str, text: Option<&str>, other: Value| Part {
        kind: kind.into(),
        text: text.map(str::to_owned),
        other: other.as_object().cloned().unwrap_or_default(),
    };
    let image = json!({"image_url": {"url": "data:image/png;base64,AA=="}});
    let parts = vec![part("text", Some("see"), json!({})), part("image_url", None, image.clone())];
    let messages = vec![
        Message::system("Be brief."),
        Message { content: Content::Parts(parts), ..Message::user("") },
        Message {
            content: Content::None,
            reasoning_content: Some("hm".into()),
            tool_calls: Some(vec![call("a", "f"), call("b", "g")]),
            ..Message::assistant("")
        },
        result(Some("b")),
        result(Some("a")),
        // Without ids, and with arguments that are no text.
        Message {
            tool_calls: Some(vec![json!({"function": {"name": "f", "arguments": {"x": 1}}})]),
            ..Message::assistant("")
        },
        result(None),
        Message::assistant("Three."),
        Message::user("Thanks."),
    ];
    let body = sent(&Request { messages, ..Request::default() });
    let list = body["messages"].as_array().expect("messages");
    let mut image = image;
    image["type"] = "image_url".into();
    assert_eq!(list[1]["content"], json!([{"type": "text", "text": "see"}, image]));
    // No reasoning: this server has never sent any.
    assert_eq!(list[2], json!({"role": "assistant", "content": "", "tool_calls": [call("a", "f"), call("b", "g")]}));
    assert_eq!(list[3], json!({"role": "tool", "content": "3", "name": "f", "tool_call_id": "b"}));
    assert_eq!(list[5]["content"], "");
    assert_eq!(list[5]["tool_calls"][0]["id"], list[6]["tool_call_id"]);
    assert_eq!(list[5]["tool_calls"][0]["function"]["arguments"], "{\"x\":1}");
    assert_eq!(list[7], json!({"role": "assistant", "content": "Three."}));
}

#[test]
fn reasoning_goes_back_as_it_came_and_only_in_its_round() {
    for field in ["reasoning_content", "reasoning"] {
        let server = StandIn::new(move |_, _| {
            stream_reply(&events(&[delta(json!({field: "hm"})), delta(json!({"content": "ok"})), finish("stop")]))
        });
        let engine = open(&server);
        let thought = |text: &str, calls: Option<Vec<Value>>| Message {
            reasoning_content: Some("hm".into()),
            tool_calls: calls,
            ..Message::assistant(text)
        };
        let call = json!({"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}});
        let result = Message { tool_call_id: Some("a".into()), ..Message::new("tool", "3") };
        let user = || Message::user("Hi");
        let messages = vec![user(), thought("old", None), user(), thought("", Some(vec![call])), result];
        let request = Request { messages, ..Request::default() };
        let told = ask(&engine, &request);
        assert_eq!((told.reasoning.as_str(), told.output().message.reasoning_content.as_deref()), ("hm", Some("hm")));
        ask(&engine, &request);
        let sent = server.seen();
        let of = |request: usize, message: usize| sent[request].body["messages"][message][field].clone();
        assert_eq!((of(0, 3), of(1, 1), of(1, 3)), (Value::Null, Value::Null, "hm".into()), "{field}");
    }
}

#[test]
fn what_cannot_be_sent_is_refused_by_name() {
    let server = server();
    let engine = open(&server);
    let functions = BotFunctions::new([BotFunction::closure("f", "Does it.", [], || "x")]).expect("functions");
    let usual = GenerateOptions::default;
    let named = ToolChoice::Named("g".into());
    for (options, flag) in [
        (GenerateOptions { min_new_tokens: 1, ..usual() }, "--min-new-tokens"),
        (GenerateOptions { ignore_eos: true, ..usual() }, "--ignore-eos"),
        (GenerateOptions { reply_prefix: "So".into(), ..usual() }, "--reply-prefix"),
        (GenerateOptions { functions, ..usual() }, "--tools"),
        (GenerateOptions { constraint: Some(Constraint::Regex("a".into())), ..usual() }, "--regex"),
        (GenerateOptions { constraint: Some(Constraint::Grammar("start: \"a\"".into())), ..usual() }, "--grammar"),
        (GenerateOptions { tool_choice: named, ..usual() }, "--tool-choice g"),
        (GenerateOptions { tool_choice: ToolChoice::Required, ..usual() }, "--tool-choice required"),
        (GenerateOptions { max_new_tokens: 0, ..usual() }, "max_new_tokens"),
    ] {
        let refused = engine.stream(&Request { options, ..request("Hi") }).err().expect(flag).to_string();
        assert!(refused.contains(flag), "{flag}: {refused}");
    }
    assert!(server.seen().is_empty());
}

#[test]
fn the_key_is_sent_and_never_shown() {
    let key = "sk-very-secret";
    let server = StandIn::with(Manner { key: Some(key), ..Manner::default() }, move |seen, _| {
        let got = seen.headers.get("authorization").cloned().unwrap_or_default();
        let body = json!({"error": {"message": format!("Incorrect API key provided: {got}")}});
        crate::stand_in::json_reply(401, &body)
    });
    let mut options = options(&server);
    let refused = RemoteEngine::open(options.clone()).expect_err("no key").to_string();
    assert!(refused.contains("wants a key (401)") && refused.contains("NANO_API_KEY"), "{refused}");
    options.key = Some("wrong-key".into());
    let refused = RemoteEngine::open(options.clone()).expect_err("a wrong key").to_string();
    assert!(refused.contains("was refused (401)") && !refused.contains("wrong-key"), "{refused}");
    options.key = Some(format!(" {key}\n"));
    options.proxy = Some("http://me:word@proxy".into());
    let shown = format!("{options:?}");
    assert!(!shown.contains(key) && !shown.contains("word"), "{shown}");
    options.proxy = None;
    let engine = RemoteEngine::open(options.clone()).expect("the right key");
    let error = ask(&engine, &request("Hi")).error();
    assert!(error.contains("Incorrect API key provided: Bearer (the key)") && !error.contains(key), "{error}");
    assert!(!format!("{engine:?}").contains(key));
    options.key = Some("two words".into());
    let refused = RemoteEngine::open(options).expect_err("no key").to_string();
    assert!(refused.contains("characters") && !refused.contains("two words"), "{refused}");
}
