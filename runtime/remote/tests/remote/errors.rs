//! What goes wrong: each is an error in words that help, and is tried again only where nothing was said yet.

use crate::stand_in::{HEAD, Reply, StandIn, delta, events, finish, json_reply, plain_reply, stream_reply};
use crate::{ask, open, options, request};
use nano_remote::{RemoteEngine, RemoteOptions};
use nano_runtime::{Engine, Error};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The error that an answer ends with, and how often it was asked for.
fn error(reply: Vec<Reply>) -> (String, usize) {
    let server = StandIn::new(move |_, _| reply.clone());
    let error = ask(&open(&server), &request("Hi")).error();
    assert!(error.starts_with(&format!("{}: ", server.url())), "{error}");
    (error, server.seen().len())
}

#[track_caller]
fn says(reply: Vec<Reply>, words: &[&str], times: usize) {
    let (error, count) = error(reply);
    assert!(words.iter().all(|word| error.contains(word)), "{error}");
    assert_eq!(count, times, "{error}");
}

fn page(status: u16) -> Vec<Reply> {
    plain_reply(status, "Content-Type: text/html\r\n", "\n<!doctype html><title>Hello</title>data: {}\n\n")
}

#[test]
fn statuses() {
    let said = |status| json_reply(status, &json!({"error": {"message": "so it is", "code": null}}));
    for (status, words, times) in [
        (400, "refused the request (400): so it is", 1),
        (401, "wants a key (401): so it is; set NANO_API_KEY", 1),
        (403, "wants a key (403)", 1),
        (404, "nothing of this interface at this path (404): so it is; check the address's path", 1),
        (422, "refused the request (422): so it is", 1),
        (429, "is busy (429): so it is; try again later", 4),
        (500, "failed (500): so it is", 4),
        (501, "failed (501): so it is", 1),
        (502, "failed (502): so it is", 4),
        (503, "failed (503): so it is", 4),
        (504, "failed (504): so it is", 4),
    ] {
        says(said(status), &[words], times);
    }
    for (reply, words) in [
        (json_reply(400, &json!({"detail": "so"})), "(400): so"),
        (json_reply(400, &json!({"message": "so", "object": "error"})), "(400): so"),
        (json_reply(400, &json!({"error": "so"})), "(400): so"),
        (plain_reply(400, "", "so\n"), "(400): so"),
        (plain_reply(400, "", ""), "refused the request (400)"),
        (plain_reply(308, "Location: http://b/v1\r\n", ""), "elsewhere, at http://b/v1"),
        (page(404), "a web page answers there"),
        (page(200), "a web page answers there, not this interface; check the address's path"),
        (json_reply(404, &json!({"error": {"message": "the model `test` does not exist"}})), "test is unknown there"),
    ] {
        says(reply, &[words], 1);
    }
    says(page(502), &["failed (502)"], 4);
    let long = error(plain_reply(400, "", &"word ".repeat(10_000))).0;
    assert!(long.len() < 700, "{} bytes", long.len());
}

#[test]
fn an_unknown_model_is_told_what_there_is() {
    let server = StandIn::new(|_, _| json_reply(404, &json!({"error": {"message": "not found", "code": 404}})));
    let options = RemoteOptions { model: Some("tset".into()), ..options(&server) };
    let error = ask(&RemoteEngine::open(options).expect("a server"), &request("Hi")).error();
    assert!(error.contains("the model tset is unknown there: not found; it has test"), "{error}");
}

#[test]
fn a_full_context_is_told_by_its_numbers() {
    let message = "This model's maximum context length is 64 tokens. However, you requested 200 tokens (72 in the messages, \
                   128 in the completion).";
    let body = json!({"error": {"message": message, "code": "context_length_exceeded"}});
    let inside = stream_reply(&events(std::slice::from_ref(&body)));
    for reply in [json_reply(400, &body), json_reply(500, &body), inside] {
        let server = StandIn::new(move |_, _| reply.clone());
        let told = ask(&open(&server), &request("Hi"));
        let error = told.end.expect("an end").expect_err("too long");
        assert!(matches!(error, Error::ContextFull { needed: 200, available: 64 }), "{error}");
        assert_eq!(server.seen().len(), 1);
    }
    let vague = json!({"error": {"message": "the prompt is too long", "code": "context_length_exceeded"}});
    says(json_reply(400, &vague), &["(400): the prompt is too long"], 1);
}

#[test]
fn bodies_that_are_no_answer() {
    let line = |text: &str| stream_reply(&format!("data: {text}\n\ndata: [DONE]\n\n"));
    for (reply, words) in [
        (line("{\"choices\": [{]"), "not what this interface gives: {\"choices\": [{]"),
        (line("42"), "not what this interface gives: 42"),
        (line("oops\nevent: x"), "not what this interface gives: oops"),
        (line("{\"error\": {\"message\": \"out of memory\"}}"), "the server failed: out of memory"),
        (line("{\"object\": \"error\", \"message\": \"so\"}"), "the server failed: so"),
        (stream_reply("event: error\ndata: {\"message\": \"so\"}\n\n"), "the server failed: so"),
        (stream_reply("data: [DONE]\n\n"), "gave no answer"),
        (json_reply(200, &json!({"error": "so"})), "the server failed: so"),
        (json_reply(200, &json!({"choices": []})), "gave no answer"),
        (json_reply(200, &json!({"hello": "you"})), "gave no answer"),
        (json_reply(200, &json!([1])), "not what this interface gives: [1]"),
        (plain_reply(200, "", "{\"choices\": [{\"message\": oops}]}"), "not what this interface gives: {"),
    ] {
        says(reply, &[words], 1);
    }
    // The text before an error was shown, and is not sent for again.
    let server = StandIn::new(|_, _| {
        let error = json!({"error": {"message": "so"}});
        stream_reply(&events(&[delta(json!({"content": "ok"})), error]))
    });
    let told = ask(&open(&server), &request("Hi"));
    assert_eq!((told.text.as_str(), server.seen().len()), ("ok", 1));
    assert!(told.error().contains("the server failed: so"));
}

#[test]
fn connections_that_end_too_early() {
    let none = "closed the connection without an answer";
    says(vec![], &[none], 4);
    says(vec![Reply::Bytes(b"HTTP/1.1 200".to_vec())], &[none], 4);
    says(stream_reply(""), &[none], 4);
    says(stream_reply(": one moment\n\n"), &[none], 4);
    let begun = format!("{HEAD}data: {}\n\n", delta(json!({"content": "ok"})));
    says(vec![Reply::Bytes(begun.into_bytes())], &["before the answer was complete"], 1);
    says(json_reply(200, &json!({"a": 1})).into_iter().map(cut).collect(), &[none], 4);
    says(vec![Reply::Bytes(b"SSH-2.0-OpenSSH_9.9\r\n".to_vec())], &["cannot be reached"], 1);
}

fn cut(reply: Reply) -> Reply {
    match reply {
        Reply::Bytes(bytes) => Reply::Bytes(bytes[..bytes.len() - 3].to_vec()),
        other => other,
    }
}

#[test]
fn a_second_try_is_as_good_as_the_first() {
    let ok = || stream_reply(&events(&[delta(json!({"content": "ok"})), finish("stop")]));
    let server = StandIn::new(move |_, count| match count {
        0 => plain_reply(503, "Retry-After: 0\r\n", "{\"error\": \"loading\"}"),
        1 => vec![],
        2 => plain_reply(429, "", ""),
        _ => ok(),
    });
    let told = ask(&open(&server), &request("Hi"));
    assert_eq!((told.text.as_str(), server.seen().len()), ("ok", 4));
    let bodies: Vec<Value> = server.seen().into_iter().map(|seen| seen.body).collect();
    assert!(bodies.iter().all(|body| *body == bodies[0]));
    let server = StandIn::new(|_, _| plain_reply(503, "", ""));
    let engine = RemoteEngine::open(RemoteOptions { retries: 0, ..options(&server) }).expect("a server");
    ask(&engine, &request("Hi")).error();
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn a_server_that_asks_for_too_much_patience_is_not_waited_for() {
    says(plain_reply(429, "Retry-After: 3600\r\n", ""), &["asks to wait 3600 s"], 1);
}

#[test]
fn stalls() {
    let stalled = |body: String| vec![Reply::Bytes(format!("{HEAD}{body}").into_bytes()), Reply::UntilClosed];
    let begun = stalled(format!("data: {}\n\n", delta(json!({"content": "ok"}))));
    for (reply, words) in [
        (vec![Reply::UntilClosed], "no answer began within 0.04 s"),
        (stalled(String::new()), "no answer began within 0.04 s"),
        (stalled(": one moment\n\n".into()), "no answer began within 0.04 s"),
        (begun, "the answer stopped in the middle: nothing came for 0.03 s"),
    ] {
        let server = StandIn::new(move |_, _| reply.clone());
        let mut options = options(&server);
        options.timeouts.connect = Duration::from_millis(300);
        options.timeouts.first_byte = Duration::from_millis(40);
        options.timeouts.between_bytes = Duration::from_millis(30);
        let told = ask(&RemoteEngine::open(options).expect("a server"), &request("Hi"));
        let error = told.error();
        assert!(error.contains(words), "{error}");
        server.wait_until_closed(1);
        assert_eq!(server.seen().len(), 1);
    }
}

#[test]
fn nobody_there() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
    drop(listener);
    let began = Instant::now();
    let error = RemoteEngine::open(RemoteOptions::new(&url)).expect_err("nobody").to_string();
    assert!(error.contains("nothing listens there") && began.elapsed() < Duration::from_millis(400), "{error}");
    // A server that goes away is waited for.
    let server = StandIn::new(|_, _| vec![]);
    let engine = open(&server);
    drop(server);
    let error = ask(&engine, &request("Hi")).error();
    assert!(error.contains("nothing listens there"), "{error}");
    let error =
        RemoteEngine::open(RemoteOptions::new("http://no.such.host.invalid/v1")).expect_err("nobody").to_string();
    assert!(error.contains("cannot be reached") || error.contains("no host"), "{error}");
    for (url, words) in [("", "empty"), ("ftp://a", "ftp://"), ("http://a:secret@b", "not used")] {
        let error = RemoteEngine::open(RemoteOptions::new(url)).expect_err(url).to_string();
        assert!(error.starts_with("the engine's address: ") && error.contains(words), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
    assert!(engine.prompt_len(&[], &[]).is_ok());
}
