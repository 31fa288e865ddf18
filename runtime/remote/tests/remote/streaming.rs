//! What is made of a stream that goes well, in all the shapes that servers give it.

use crate::stand_in::{HEAD, Reply, StandIn, delta, events, finish, json_reply, stream_reply, usage};
use crate::{Told, ask, open, request};
use nano_runtime::{Content, Finish, Value};
use serde_json::json;

fn told(reply: Vec<Reply>) -> Told {
    let server = StandIn::new(move |_, _| reply.clone());
    let told = ask(&open(&server), &request("Hi"));
    assert_eq!(server.seen().len(), 1, "it was sent again");
    told
}

fn streamed(values: &[Value]) -> Told {
    told(stream_reply(&events(values)))
}

#[test]
fn text_and_counts() {
    let told = streamed(&[
        delta(json!({"role": "assistant", "content": ""})),
        delta(json!({"content": "Hel"})),
        delta(json!({"content": null})),
        delta(json!({"content": "lo €"})),
        finish("stop"),
        usage(20, 12, 3),
    ]);
    let output = told.output();
    assert_eq!((told.text.as_str(), output.text.as_str(), told.finish()), ("Hello €", "Hello €", Finish::Stop));
    assert_eq!(output.message, nano_runtime::Message::assistant("Hello €"));
    let stats = output.stats;
    assert_eq!((stats.input_tokens, stats.reused_tokens, stats.output_tokens), (8, 12, 3));
    assert!(stats.first_token_time > 0.0 && stats.prefill_time > 0.0 && stats.decode_time >= 0.0);
}

#[test]
fn a_server_that_does_not_count() {
    let told = streamed(&[delta(json!({"content": "Hel"})), delta(json!({"content": "lo"})), finish("stop")]);
    let stats = told.output().stats;
    assert_eq!((stats.input_tokens > 2, stats.reused_tokens, stats.output_tokens), (true, 0, 2));
}

#[test]
fn calls() {
    let call = |index: u64, id: Value, name: Value, arguments: &str| {
        delta(json!({"tool_calls": [{"index": index, "id": id, "type": "function",
            "function": {"name": name, "arguments": arguments}}]}))
    };
    let none = Value::Null;
    let told = streamed(&[
        delta(json!({"content": "Let me see."})),
        call(0, json!("call_1"), json!("weather"), ""),
        call(0, none.clone(), none.clone(), "{\"city\": "),
        call(0, none.clone(), none.clone(), "\"Köln\"}"),
        call(1, none.clone(), json!("time"), ""),
        finish("tool_calls"),
        usage(9, 0, 5),
    ]);
    assert_eq!(told.calls[0], ("call_1".into(), "weather({\"city\":\"Köln\"})".into()));
    assert_eq!((told.calls[1].0.len(), told.calls[1].1.as_str()), (9, "time({})"));
    let message = &told.output().message;
    assert_eq!(message.content, Content::Text("Let me see.".into()));
    assert_eq!(
        message.tool_calls.as_ref().expect("calls")[0],
        json!({"id": "call_1", "type": "function",
            "function": {"name": "weather", "arguments": "{\"city\":\"Köln\"}"}})
    );
    assert_eq!((told.finish(), message.tool_calls.as_ref().map(Vec::len)), (Finish::Stop, Some(2)));
    let bare = streamed(&[call(0, json!("a"), json!("f"), "{}"), finish("stop")]);
    assert_eq!(bare.output().message.content, Content::None);
}

#[test]
fn calls_that_are_none_are_text() {
    let arguments = "{\"city\": \"Pa";
    let told = streamed(&[
        delta(json!({"content": "So: "})),
        delta(json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": arguments}}]})),
        finish("length"),
    ]);
    let text = "So: {\"name\": \"f\", \"arguments\": {\"city\": \"Pa}";
    assert_eq!((told.text.as_str(), told.finish(), told.calls.len()), (text, Finish::Length, 0));
    assert_eq!((told.output().text.as_str(), &told.output().message.tool_calls), (text, &None));
}

#[test]
fn other_shapes() {
    let old = streamed(&[
        delta(json!({"function_call": {"name": "f", "arguments": ""}})),
        delta(json!({"function_call": {"arguments": "{\"x\": 1}"}})),
        finish("function_call"),
    ]);
    assert_eq!(old.calls[0].1, "f({\"x\":1})");
    let parts =
        json!([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "ok"}]);
    let parts = streamed(&[delta(json!({"content": parts})), finish("stop")]);
    assert_eq!((parts.text.as_str(), parts.reasoning.as_str()), ("ok", "hm"));
    let both =
        streamed(&[delta(json!({"reasoning": "hm", "reasoning_content": "hm", "content": null})), finish("stop")]);
    assert_eq!((both.reasoning.as_str(), both.text.as_str()), ("hm", ""));
    let second = json!({"choices": [{"index": 1, "delta": {"content": "other"}, "finish_reason": "stop"}]});
    let one = streamed(&[delta(json!({"content": "ok"})), second, finish("stop")]);
    assert_eq!(one.text, "ok");
    let odd = streamed(&[
        json!({"type": "ping"}),
        json!({"choices": null}),
        json!({"choices": [], "prompt_filter_results": []}),
        json!({"choices": [{}]}),
        json!({"choices": [{"delta": null, "finish_reason": null}]}),
        delta(json!({"content": "ok", "tool_calls": null, "function_call": null})),
        finish("stop"),
    ]);
    assert_eq!(odd.text, "ok");
}

#[test]
fn ends() {
    let ok = || delta(json!({"content": "ok"}));
    let body = |values: &[Value]| events(values).replace("data: [DONE]\n\n", "");
    for (name, finish_is) in [("stop", Finish::Stop), ("length", Finish::Length), ("content_filter", Finish::Stop)] {
        assert_eq!(streamed(&[ok(), finish(name)]).finish(), finish_is, "{name}");
        // It closes without a word.
        let told = told(stream_reply(&body(&[ok(), finish(name)])));
        assert_eq!((told.finish(), told.text.as_str()), (finish_is, "ok"), "{name}");
    }
    // No reason yet, in words: what is cut off then is not complete.
    for reason in ["", "null"] {
        let none = json!({"choices": [{"index": 0, "delta": {"content": "ok"}, "finish_reason": reason}]});
        assert_eq!(streamed(&[none.clone(), ok(), finish("length")]).finish(), Finish::Length, "{reason}");
        let cut = told(stream_reply(&body(&[none]))).error();
        assert!(cut.contains("before the answer was complete"), "{cut}");
    }
    let filtered = streamed(&[finish("content_filter")]).error();
    assert!(filtered.contains("content filter refused it"), "{filtered}");
    let aborted = streamed(&[ok(), finish("abort")]).error();
    assert!(aborted.contains("abort"), "{aborted}");
    // Without a reason, but with the last word; without a line's end after it.
    assert_eq!(streamed(&[ok()]).finish(), Finish::Stop);
    assert_eq!(told(stream_reply(events(&[ok(), finish("stop")]).trim_end())).text, "ok");
    let nothing = streamed(&[usage(3, 0, 0)]).error();
    assert!(nothing.contains("no choices"), "{nothing}");
    let empty = streamed(&[finish("stop")]);
    assert_eq!((empty.text.as_str(), empty.output().stats.output_tokens), ("", 0));
    // It says that it is done, and then neither sends nor closes: what there is counts after a while.
    let mut kept = stream_reply(&body(&[ok(), finish("stop")]));
    kept.push(Reply::UntilClosed);
    let server = StandIn::new(move |_, _| kept.clone());
    let mut options = crate::options(&server);
    options.timeouts.between_bytes = std::time::Duration::from_millis(30);
    let engine = nano_remote::RemoteEngine::open(options).expect("a server");
    assert_eq!(ask(&engine, &request("Hi")).finish(), Finish::Stop);
    server.wait_until_closed(1);
}

#[test]
fn an_answer_all_at_once() {
    let call = json!({"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let message = json!({"role": "assistant", "content": "ok", "reasoning_content": "hm", "tool_calls": [call]});
    let whole = json!({"id": "c", "object": "chat.completion", "created": 1, "model": "test",
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}});
    let told = told(json_reply(200, &whole));
    assert_eq!((told.text.as_str(), told.reasoning.as_str(), told.calls.len()), ("ok", "hm", 1));
    assert_eq!((told.output().stats.input_tokens, told.output().stats.output_tokens), (9, 2));
}

#[test]
fn lines_of_all_kinds() {
    let text = ": keep-alive\r\n\r\nevent: message\r\nid: 1\r\ndata:{\"choices\":\r\ndata: [{\"delta\":\r\n\
        data: {\"content\": \"ok\"},\r\ndata:\"finish_reason\": \"stop\"}]}\r\nretry: 5\r\n\r\n: bye\r\n\r\ndata: [DONE]\r\n\r\n";
    assert_eq!(told(stream_reply(text)).text, "ok");
    // Half a character, and half a pair of them.
    let half = b"data: {\"choices\": [{\"delta\": {\"content\": \"a\xe2\x82\"}, \"finish_reason\": \"stop\"}]}\n\n";
    let told = told(vec![Reply::Bytes([HEAD.as_bytes(), half].concat())]);
    assert_eq!(told.text, "a\u{fffd}");
}

#[test]
fn chunks_of_one_byte() {
    let body = events(&[delta(json!({"content": "Grüße, 世界"})), finish("stop"), usage(5, 0, 4)]);
    let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for byte in body.bytes() {
        bytes.extend_from_slice(b"1\r\n");
        bytes.push(byte);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    assert_eq!(told(vec![Reply::Bytes(bytes)]).text, "Grüße, 世界");
}
