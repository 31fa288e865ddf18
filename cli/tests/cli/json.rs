//! Programs that drive the binary over pipes: events out, objects in.

use super::harness::{BYE, HELLO, Model, Running, parrot};
use serde_json::json;

#[test]
fn events_have_the_promised_shape() {
    let model = Model::new(&parrot());
    let ran = model.run(&["--json"], "hi\n").succeeded();
    let events = ran.events();
    let (done, texts) = events.split_last().unwrap();
    assert_eq!(texts.iter().map(|e| e["text"].as_str().unwrap()).collect::<String>(), HELLO);
    assert!(texts.len() > 1 && texts.iter().all(|e| e["event"] == "text"), "streamed: {texts:?}");
    assert_eq!((&done["event"], &done["finish"]), (&json!("done"), &json!("stop")));
    let stats = &done["stats"];
    assert_eq!((&stats["output_tokens"], &stats["reused_tokens"]), (&json!(4), &json!(0)));
    for name in
        ["input_tokens", "prefill_time", "prefill_rate", "decode_time", "decode_rate", "first_token_time", "gb_s"]
    {
        assert!(stats[name].as_f64().is_some_and(|x| x > 0.0), "{name}: {stats}");
    }
    assert_eq!(ran.stderr, "", "statistics are in the event");
    let whole = model.run(&["--json", "--disable-streaming"], "hi\n").succeeded().events();
    assert_eq!(whole[0], json!({"event": "text", "text": HELLO}));
    assert_eq!(whole.len(), 2);
    let cut = model.run(&["--json", "-n", "1"], "hi\n").succeeded().events();
    assert_eq!(cut[1]["finish"], "length");
}

#[test]
fn a_conversation_with_a_program() {
    let model = Model::new(&parrot());
    let mut running = Running::start(model.command(&["--json"]), model.dir.path());
    let mut inputs = Vec::new();
    for (line, reply) in [
        (r#"{"user": "hi,\nI am two lines"}"#, HELLO),
        (r#"{"user": "/reset"}"#, BYE),
        ("plain text", HELLO),
        ("{\"command\": \"/reset\"}\n{\"user\": \"hi\"}", HELLO),
    ] {
        running.say(line);
        let (text, end) = running.turn();
        assert_eq!((text.as_str(), &end["event"]), (reply, &json!("done")), "{line}");
        inputs.push((end["stats"]["input_tokens"].as_u64().unwrap(), end["stats"]["reused_tokens"].as_u64().unwrap()));
    }
    assert!(inputs[1].1 > inputs[0].0, "a turn reuses what came before: {inputs:?}");
    drop(running.stdin.take());
    assert_eq!(running.rest(), "");
    assert_eq!(running.end().code(), Some(0));
}

#[test]
fn failures_are_events() {
    let model = Model::new(&parrot().context(96));
    let mut running = Running::start(model.command(&["--json"]), model.dir.path());
    let long = format!(r#"{{"user": "{}"}}"#, "x".repeat(200));
    for (line, word) in [
        (long.as_str(), "context"),
        ("{\"user\": 1}", "user"),
        ("{broken", "line 3"),
        (r#"{"usr": "hi"}"#, "line 4"),
        (r#"{"command": "/frobnicate"}"#, "/frobnicate"),
    ] {
        running.say(line);
        let (text, end) = running.turn();
        assert_eq!((text.as_str(), &end["event"]), ("", &json!("error")), "{line}");
        assert!(end["message"].as_str().unwrap().contains(word), "{end}");
    }
    running.say("hi");
    assert_eq!(running.turn().0, HELLO, "none of it left a trace");
    drop(running.stdin.take());
    assert_eq!(running.end().code(), Some(1));
}

#[test]
fn an_error_that_ends_the_program_is_an_event_too() {
    let model = Model::new(&parrot());
    let ran = model.run(&["--json", "--chat-template", "nonesuch"], "").failed_with(&["nonesuch", "chat-ml"]);
    assert_eq!(ran.events()[0]["event"], "error");
}

#[test]
fn a_full_context_ends_a_reply() {
    let model = Model::new(&parrot().endless().context(64));
    let events = model.run(&["--json", "-n", "1000"], "hi\n").succeeded().events();
    assert_eq!(events.last().unwrap()["finish"], "context");
}
