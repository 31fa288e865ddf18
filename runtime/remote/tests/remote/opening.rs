//! Finding the interface and the model: addresses as people write them, and lists of models as servers give them.

use crate::stand_in::{Manner, Reply, Seen, StandIn, delta, events, finish, json_reply, plain_reply, stream_reply};
use crate::{ask, request};
use nano_remote::{RemoteEngine, RemoteOptions};
use nano_runtime::{Engine, GenerateOptions, Message, Request, Sampling, Value};
use serde_json::json;
use std::time::Duration;

/// A server that has these answers to `GET`, and the same one to every question.
fn server(pages: impl Fn(&str, usize) -> Option<Vec<Reply>> + Send + Sync + 'static) -> StandIn {
    StandIn::with(Manner { bare: true, ..Manner::default() }, move |seen: &Seen, count| {
        let page = seen.what.strip_prefix("GET ").and_then(|path| pages(path, count));
        let answer = || stream_reply(&events(&[delta(json!({"content": "ok"})), finish("stop")]));
        let nothing = || plain_reply(404, "", "{\"detail\": \"Not Found\"}");
        page.unwrap_or_else(|| if seen.what == "POST /v1/chat/completions" { answer() } else { nothing() })
    })
}

fn options(url: String) -> RemoteOptions {
    RemoteOptions { backoff: Duration::ZERO, ..RemoteOptions::new(url) }
}

/// The model's entry in the list, and what is at `/props`.
fn with_entry(entry: Value, props: Option<Value>) -> StandIn {
    server(move |path, _| match path {
        "/v1/models" => Some(json_reply(200, &json!({"object": "list", "data": [entry]}))),
        "/props" => props.as_ref().map(|props| json_reply(200, props)),
        _ => None,
    })
}

fn whats(server: &StandIn) -> Vec<String> {
    server.seen().into_iter().map(|seen| seen.what).collect()
}

#[test]
fn without_its_path() {
    for elsewhere in [plain_reply(404, "", ""), plain_reply(200, "", "<html>"), json_reply(200, &json!({"hello": 1}))] {
        let server = server(move |path, _| match path {
            "/v1/models" => Some(json_reply(200, &json!({"data": [{"id": "test", "context_length": 99}]}))),
            _ => Some(elsewhere.clone()),
        });
        for url in [server.root(), server.root() + "/", server.root().replace("http://", "")] {
            let engine = RemoteEngine::open(options(url)).expect("found");
            assert_eq!((engine.url(), engine.name()), (server.url().as_str(), "test"));
            assert_eq!((engine.max_context_size(), engine.models()), (99, &["test".to_owned()][..]));
            assert_eq!(ask(&engine, &request("Hi")).text, "ok");
        }
    }
}

#[test]
fn where_it_is_not() {
    let page = server(|_, _| Some(plain_reply(200, "", "<!doctype html>")));
    let error = RemoteEngine::open(options(page.root())).expect_err("a page").to_string();
    let url = page.root();
    assert_eq!(
        error,
        format!("{url}: a web page answers there, not this interface; {url}/v1 was tried too: check the address")
    );
    let error = RemoteEngine::open(options(page.url())).expect_err("a page").to_string();
    assert!(error.ends_with("a web page answers there, not this interface; check the address's path"), "{error}");
    let moved = server(|_, _| Some(plain_reply(301, "Location: https://b/v1/models\r\n", "")));
    let error = RemoteEngine::open(options(moved.url())).expect_err("moved").to_string();
    assert!(error.contains("elsewhere, at https://b/v1/models"), "{error}");
    let nothing = server(|_, _| None);
    let error = RemoteEngine::open(options(nothing.url())).expect_err("nothing").to_string();
    assert!(error.contains("nothing of this interface at this path (404): Not Found"), "{error}");
    let odd = server(|_, _| Some(plain_reply(200, "", "hello")));
    let error = RemoteEngine::open(options(odd.url())).expect_err("odd").to_string();
    assert!(error.contains("not what this interface gives: hello"), "{error}");
}

#[test]
fn without_a_list() {
    let server = server(|_, _| None);
    for url in [server.url(), server.root()] {
        let named = RemoteOptions { model: Some("mine".into()), ..options(url) };
        let engine = RemoteEngine::open(named).expect("it knows what is there");
        assert_eq!((engine.name(), engine.url()), ("mine", server.url().as_str()));
        assert_eq!(ask(&engine, &request("Hi")).text, "ok");
        assert!(engine.models().is_empty());
    }
}

#[test]
fn one_of_several() {
    let list = |names: &'static [&'static str]| {
        server(move |path, _| {
            let data: Vec<Value> = names.iter().map(|name| json!({"id": name})).collect();
            (path == "/v1/models").then(|| json_reply(200, &json!({"data": data})))
        })
    };
    let several = list(&["a", "b"]);
    let error = RemoteEngine::open(options(several.url())).expect_err("which").to_string();
    assert!(error.ends_with("several models; name one with --model; it has a, b"), "{error}");
    let named = RemoteOptions { model: Some("b".into()), ..options(several.url()) };
    assert_eq!(RemoteEngine::open(named).expect("b").name(), "b");
    let error = RemoteEngine::open(options(list(&[]).url())).expect_err("none").to_string();
    assert!(error.ends_with("the server has no model"), "{error}");
    for body in [json!([{"id": "a"}]), json!({"models": [{"name": "a"}]}), json!({"data": ["a"]})] {
        let server = server(move |path, _| (path == "/v1/models").then(|| json_reply(200, &body)));
        assert_eq!(RemoteEngine::open(options(server.url())).expect("a").name(), "a");
    }
}

#[test]
fn a_server_that_still_loads() {
    let server = server(|path, count| match (path, count) {
        ("/v1/models", 0 | 1) => Some(json_reply(503, &json!({"error": {"message": "Loading model"}}))),
        ("/v1/models", _) => Some(json_reply(200, &json!({"data": [{"id": "test", "max_model_len": 9}]}))),
        _ => None,
    });
    assert_eq!(RemoteEngine::open(options(server.url())).expect("loaded").name(), "test");
    assert_eq!(whats(&server).len(), 3);
}

#[test]
fn how_much_context() {
    let llama = json!({"id": "m", "owned_by": "llamacpp", "meta": {"n_ctx_train": 8192}});
    let props = Some(json!({"default_generation_settings": {"n_ctx": 512}}));
    for (entry, props, context) in [
        (json!({"id": "m", "max_model_len": 1000, "context_length": 7}), None, 1000),
        (json!({"id": "m", "max_model_len": null, "context_length": 7}), None, 7),
        (json!({"id": "m", "context_window": 8}), None, 8),
        (llama.clone(), props.clone(), 512),
        (llama.clone(), None, 8192),
        (json!({"id": "m"}), props, 512),
        (json!({"id": "m"}), Some(json!("odd")), 4096),
        (json!({"id": "m"}), None, 4096),
    ] {
        let server = with_entry(entry.clone(), props);
        let engine = RemoteEngine::open(options(server.url())).expect("a server");
        assert_eq!(engine.max_context_size(), context, "{entry}");
        let given = RemoteOptions { context: Some(33), ..options(server.url()) };
        assert_eq!(RemoteEngine::open(given).expect("a server").max_context_size(), 33);
    }
    // A limit that nobody knows is no reason to leave one out that was asked for.
    let server = with_entry(json!({"id": "m"}), None);
    let long = GenerateOptions { max_new_tokens: 9000, ..GenerateOptions::default() };
    ask(&RemoteEngine::open(options(server.url())).expect("a server"), &Request { options: long, ..request("Hi") });
    assert_eq!(server.seen().pop().expect("a request").body["max_tokens"], 9000);
}

#[test]
fn a_name_of_its_own_for_a_penalty() {
    let llama = json!({"id": "m", "owned_by": "llamacpp", "meta": {"n_ctx_train": 8192}});
    for (entry, name, other) in
        [(llama, "repeat_penalty", "repetition_penalty"), (json!({"id": "m"}), "repetition_penalty", "repeat_penalty")]
    {
        let server = with_entry(entry, None);
        let sampling = Some(Sampling { temperature: 0.5, top_k: 0, top_p: 1.0, min_p: 0.0 });
        let options_ = GenerateOptions { repetition_penalty: 1.3, sampling, ..GenerateOptions::default() };
        let engine = RemoteEngine::open(options(server.url())).expect("a server");
        ask(&engine, &Request { options: options_, ..request("Hi") });
        let body = server.seen().pop().expect("a request").body;
        assert_eq!((&body[name], &body[other]), (&json!(1.3), &Value::Null));
    }
}

#[test]
fn lengths_by_counting_messages() {
    let server = StandIn::new(|seen, _| match seen.what.as_str() {
        "POST /tokenize" => json_reply(200, &json!({"count": 17, "max_model_len": 2048, "tokens": []})),
        _ => plain_reply(404, "", ""),
    });
    let engine = crate::open(&server);
    let tool = json!({"type": "function", "function": {"name": "f"}});
    assert_eq!(engine.prompt_len(&[Message::user("Hi")], std::slice::from_ref(&tool)).ok(), Some(17));
    let messages = json!([{"role": "user", "content": "Hi"}]);
    assert_eq!(server.seen()[0].body, json!({"model": "test", "messages": messages, "tools": [tool]}));
    assert_eq!(engine.prompt_len(&[Message::user("Hi")], &[]).ok(), Some(17));
    assert_eq!(server.seen()[1].body, json!({"model": "test", "messages": messages}));
}

#[test]
fn lengths_by_writing_the_prompt_out() {
    for first in [json_reply(200, &json!({"tokens": []})), json_reply(400, &json!({"error": "content?"}))] {
        let server = StandIn::new(move |seen, _| match seen.what.as_str() {
            "POST /tokenize" if seen.body.get("content").is_none() => first.clone(),
            "POST /tokenize" => json_reply(200, &json!({"tokens": [1, 2, 3]})),
            "POST /apply-template" => json_reply(200, &json!({"prompt": "<user>Hi"})),
            _ => plain_reply(404, "", ""),
        });
        let engine = crate::open(&server);
        for _ in 0..2 {
            assert_eq!(engine.prompt_len(&[Message::user("Hi")], &[]).ok(), Some(3));
        }
        let [first, second, third] = ["POST /tokenize", "POST /apply-template", "POST /tokenize"];
        assert_eq!(whats(&server), [first, second, third, second, third]);
        assert_eq!(server.seen()[2].body, json!({"content": "<user>Hi", "add_special": true}));
    }
}

#[test]
fn lengths_by_what_answers_tell() {
    let usage = crate::stand_in::usage(50, 0, 2);
    let server = StandIn::new(move |seen, _| match seen.what.as_str() {
        "POST /v1/chat/completions" => {
            stream_reply(&events(&[delta(json!({"content": "ok"})), finish("stop"), usage.clone()]))
        }
        _ => plain_reply(404, "", ""),
    });
    let engine = crate::open(&server);
    let mut messages = vec![Message::user("What is the capital of France, and of Spain?")];
    let guess = engine.prompt_len(&messages, &[]).expect("an estimate");
    assert!((8..30).contains(&guess), "{guess}");
    let told = ask(&engine, &Request { messages: messages.clone(), ..Request::default() });
    assert_eq!(engine.prompt_len(&messages, &[]).ok(), Some(50));
    messages.push(told.output().message.clone());
    assert_eq!(engine.prompt_len(&messages, &[]).ok(), Some(52));
    // It was asked once whether it counts.
    assert_eq!(whats(&server), ["POST /tokenize", "POST /v1/chat/completions"]);
}
