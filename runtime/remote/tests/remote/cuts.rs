//! One answer, cut at every byte: into two packets, and off.

use crate::stand_in::{HEAD, Reply, StandIn, delta, events, finish, usage};
use crate::{Told, ask, options, request};
use nano_remote::{RemoteEngine, RemoteOptions};
use nano_runtime::Finish;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The events of an answer with everything in it.
fn body() -> String {
    let call = |value| delta(json!({"tool_calls": [value]}));
    let text = events(&[
        delta(json!({"role": "assistant", "content": ""})),
        delta(json!({"reasoning_content": "hm"})),
        delta(json!({"content": "Gr\u{fc}\u{df}e"})),
        call(json!({"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}})),
        call(json!({"index": 0, "function": {"arguments": "{\"x\": \"\u{20ac}\"}"}})),
        finish("tool_calls"),
        usage(9, 4, 7),
    ]);
    // What no test needs twice.
    text.replace("\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"test\",", "")
}

/// In chunks, as most servers send it: one for each event.
fn chunked(body: &str) -> Vec<u8> {
    let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for event in body.split_inclusive("\n\n") {
        bytes.extend(format!("{:x}\r\n{event}\r\n", event.len()).into_bytes());
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

/// Answers to requests that each name the place of the cut, several at a time.
fn each_cut(
    length: usize,
    reply: impl Fn(usize) -> Vec<Reply> + Send + Sync + 'static,
    check: impl Fn(usize, Told, usize) + Sync,
) {
    let counts: Arc<Vec<AtomicUsize>> = Arc::new((0..=length).map(|_| AtomicUsize::new(0)).collect());
    let own = Arc::clone(&counts);
    let server = StandIn::new(move |seen, _| {
        let cut: usize = seen.body["messages"][0]["content"].as_str().expect("a text").parse().expect("a number");
        own[cut].fetch_add(1, Ordering::Relaxed);
        reply(cut)
    });
    let engine = RemoteEngine::open(RemoteOptions { retries: 1, ..options(&server) }).expect("a server");
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let cut = next.fetch_add(1, Ordering::Relaxed);
                    if cut > length {
                        break;
                    }
                    let told = ask(&engine, &request(&cut.to_string()));
                    check(cut, told, counts[cut].load(Ordering::Relaxed));
                }
            });
        }
    });
}

fn is_whole(told: &Told) {
    assert_eq!((told.text.as_str(), told.reasoning.as_str(), told.finish()), ("Grüße", "hm", Finish::Stop));
    assert_eq!(told.calls, [("call_1".to_owned(), "f({\"x\":\"€\"})".to_owned())]);
}

#[test]
fn in_two_packets() {
    for bytes in [format!("{HEAD}{}", body()).into_bytes(), chunked(&body())] {
        let whole = bytes.clone();
        let reply = move |cut: usize| {
            vec![Reply::Bytes(whole[..cut].to_vec()), Reply::Pause, Reply::Bytes(whole[cut..].to_vec())]
        };
        each_cut(bytes.len(), reply, |_, told, count| {
            is_whole(&told);
            let stats = told.output().stats;
            assert_eq!((stats.input_tokens, stats.reused_tokens, stats.output_tokens, count), (5, 4, 7, 1));
        });
    }
}

#[test]
fn cut_off() {
    let body = body();
    // A value counts from its last brace on: an event needs no empty line after it.
    let end_of = |words: &str| {
        let start = body.find(words).expect(words);
        start + body[start..].find('\n').expect("an end of line")
    };
    let (begins, finishes) = (end_of("reasoning_content"), end_of("finish_reason\":\"tool_calls"));
    let plain = format!("{HEAD}{body}").into_bytes();
    let chunks = chunked(&body);
    for (bytes, is_chunked) in [(plain, false), (chunks, true)] {
        // How much of the body there is before a cut.
        let before = |cut: usize| {
            if !is_chunked {
                return cut.saturating_sub(HEAD.len());
            }
            let mut at = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
            let mut got = 0;
            for event in body.split_inclusive("\n\n") {
                at += format!("{:x}\r\n", event.len()).len();
                got += cut.saturating_sub(at).min(event.len());
                at += event.len() + 2;
            }
            got
        };
        let whole = bytes.clone();
        let reply = move |cut: usize| vec![Reply::Bytes(whole[..cut].to_vec())];
        each_cut(bytes.len(), reply, |cut, told, count| {
            let got = before(cut);
            if got >= finishes {
                is_whole(&told);
                assert_eq!(count, 1, "cut at {cut}");
            } else if got >= begins {
                let error = told.error();
                assert!(error.contains("before the answer was complete"), "cut at {cut}: {error}");
                assert!(told.calls.is_empty() && "Grüße".starts_with(&told.text) && told.reasoning == "hm", "{told:?}");
                assert_eq!(count, 1, "cut at {cut}: it was sent again");
            } else {
                let error = told.error();
                assert!(error.contains("without an answer"), "cut at {cut}: {error}");
                assert_eq!((count, told.text.as_str(), told.reasoning.as_str()), (2, "", ""), "cut at {cut}");
            }
        });
    }
}
