//! Answers that nobody wants any more: they end at once, whatever the server does, and the server is told by the end of
//! the connection.

use crate::stand_in::{HEAD, Reply, StandIn, delta, plain_reply};
use crate::{open, options, request};
use nano_remote::RemoteEngine;
use nano_runtime::{Engine, Event, Finish};
use serde_json::json;
use std::time::{Duration, Instant};

/// Far longer than it takes, far shorter than any time-out.
const SOON: Duration = Duration::from_secs(2);

#[test]
fn in_the_middle_of_the_text() {
    let call = json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}]});
    let body = format!("{HEAD}data: {}\n\ndata: {}\n\n", delta(json!({"content": "ok"})), delta(call));
    let server = StandIn::new(move |_, _| vec![Reply::Bytes(body.clone().into_bytes()), Reply::UntilClosed]);
    let mut answer = open(&server).stream(&request("Hi")).expect("an answer");
    assert!(matches!(answer.next(), Some(Ok(Event::Text(text))) if text == "ok"));
    let began = Instant::now();
    answer.stopper().stop();
    let Some(Ok(Event::Done(output))) = answer.next() else { panic!("no end") };
    assert!(began.elapsed() < SOON && answer.next().is_none());
    assert_eq!((output.finish, output.text.as_str()), (Finish::Cancelled, "ok"));
    // A call that may not be whole is none.
    assert_eq!(output.message.tool_calls, None);
    server.wait_until_closed(1);
}

#[test]
fn before_anything_came() {
    for first in [String::new(), HEAD.to_owned()] {
        let server = StandIn::new(move |_, _| vec![Reply::Bytes(first.clone().into_bytes()), Reply::UntilClosed]);
        let mut answer = open(&server).stream(&request("Hi")).expect("an answer");
        while server.seen().is_empty() {
            std::thread::yield_now();
        }
        let (began, stopper) = (Instant::now(), answer.stopper());
        stopper.stop();
        let Some(Ok(Event::Done(output))) = answer.next() else { panic!("no end") };
        assert!(began.elapsed() < SOON);
        assert_eq!((output.finish, output.text.as_str()), (Finish::Cancelled, ""));
        server.wait_until_closed(1);
    }
}

#[test]
fn while_it_waits_to_try_again() {
    let server = StandIn::new(|_, _| plain_reply(503, "Retry-After: 50\r\n", ""));
    let mut answer = open(&server).stream(&request("Hi")).expect("an answer");
    while server.seen().is_empty() {
        std::thread::yield_now();
    }
    let began = Instant::now();
    answer.stopper().stop();
    let Some(Ok(Event::Done(output))) = answer.next() else { panic!("no end") };
    assert!(began.elapsed() < SOON && output.finish == Finish::Cancelled);
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn dropped() {
    let server = StandIn::new(|_, _| vec![Reply::Bytes(HEAD.into()), Reply::UntilClosed]);
    let engine = open(&server);
    let answer = engine.stream(&request("Hi")).expect("an answer");
    while server.seen().is_empty() {
        std::thread::yield_now();
    }
    drop(answer);
    server.wait_until_closed(1);
    // A server that writes without end is left as well.
    let text = format!("data: {}\n\n", delta(json!({"content": "a"}))).repeat(1000);
    let forever = vec![Reply::Bytes(HEAD.into()), Reply::Forever(text.into_bytes())];
    let server = StandIn::new(move |_, _| forever.clone());
    let mut answer = open(&server).stream(&request("Hi")).expect("an answer");
    answer.next();
    drop(answer);
    server.wait_until_closed(1);
}

#[test]
fn several_at_once() {
    let server = StandIn::new(|_, _| vec![Reply::UntilClosed]);
    let engine = RemoteEngine::open(options(&server)).expect("a server");
    let answers: Vec<_> = (0..8).map(|_| engine.stream(&request("Hi")).expect("an answer")).collect();
    let stoppers: Vec<_> = answers.iter().map(|answer| answer.stopper()).collect();
    stoppers.iter().for_each(|stopper| stopper.stop());
    for mut answer in answers {
        assert!(matches!(answer.next(), Some(Ok(Event::Done(output))) if output.finish == Finish::Cancelled));
    }
}
