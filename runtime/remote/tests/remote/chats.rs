//! A chat with functions over a server: what each request of a round holds, and what is left after one that fails.

use crate::open;
use crate::stand_in::{HEAD, Reply, Seen, StandIn, delta, events, finish, stream_reply};
use nano_runtime::{BotFunction, BotFunctions, Chat, Value};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A function that counts how often it runs.
fn weather(ran: &Arc<AtomicUsize>) -> BotFunctions {
    let ran = Arc::clone(ran);
    let function = BotFunction::closure("weather", "Tells the weather.", ["city"], move |city: String| {
        ran.fetch_add(1, Ordering::Relaxed);
        format!("sun in {city}")
    });
    BotFunctions::new([function]).expect("functions")
}

fn call(index: u64, id: &str, city: &str) -> Value {
    let arguments = json!({"city": city}).to_string();
    let function = json!({"name": "weather", "arguments": arguments});
    delta(json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": function}]}))
}

fn roles(seen: &Seen) -> Vec<&str> {
    seen.body["messages"].as_array().into_iter().flatten().filter_map(|one| one["role"].as_str()).collect()
}

#[test]
fn a_round_with_two_calls() {
    let server = StandIn::new(|_, count| {
        let calls = [call(0, "a", "Rome"), call(1, "b", "Oslo"), finish("tool_calls")];
        let words = [delta(json!({"content": "Sun."})), finish("stop")];
        stream_reply(&if count == 0 { events(&calls) } else { events(&words) })
    });
    let ran = Arc::default();
    let mut chat = Chat::new(Arc::new(open(&server))).with_functions(weather(&ran));
    assert_eq!(chat.ask("How is the weather?").expect("an answer"), "Sun.");
    assert_eq!(chat.ask("Thanks.").expect("an answer"), "Sun.");
    let seen = server.seen();
    let requests: Vec<&Seen> = seen.iter().filter(|one| one.what.ends_with("completions")).collect();
    assert_eq!(roles(requests[0]), ["user"]);
    assert_eq!(roles(requests[1]), ["user", "assistant", "tool", "tool"]);
    assert_eq!(roles(requests[2]), ["user", "assistant", "tool", "tool", "assistant", "user"]);
    let results = &requests[1].body["messages"];
    assert_eq!((&results[2]["tool_call_id"], &results[2]["content"]), (&json!("a"), &json!("sun in Rome")));
    assert_eq!((&results[3]["tool_call_id"], &results[3]["content"]), (&json!("b"), &json!("sun in Oslo")));
    assert_eq!(requests[0].body["tools"][0]["function"]["name"], "weather");
    assert_eq!((requests.len(), ran.load(Ordering::Relaxed)), (3, 2));
}

#[test]
fn an_answer_that_breaks_off_leaves_nothing() {
    let server = StandIn::new(|seen, count| match count {
        _ if seen.what.ends_with("tokenize") => crate::stand_in::plain_reply(404, "", ""),
        0 => vec![Reply::Bytes(format!("{HEAD}data: {}\n\n", call(0, "a", "Rome")).into_bytes())],
        _ => stream_reply(&events(&[delta(json!({"content": "Sun."})), finish("stop")])),
    });
    let ran = Arc::default();
    let mut chat = Chat::new(Arc::new(open(&server))).with_functions(weather(&ran));
    let error = chat.ask("How is the weather?").expect_err("it broke off").to_string();
    assert!(error.contains("before the answer was complete"), "{error}");
    assert!(chat.messages().is_empty() && ran.load(Ordering::Relaxed) == 0);
    assert_eq!(chat.ask("And now?").expect("an answer"), "Sun.");
    let seen = server.seen();
    let last = seen.iter().rfind(|one| one.what.ends_with("completions")).expect("a request");
    assert_eq!(last.body["messages"], json!([{"role": "user", "content": "And now?"}]));
}
