//! The engine against a strict stand-in for a server, over real sockets: what is sent, what is made of what comes back,
//! and all the ways in which it can go wrong. What real servers do is tried by `scripts/remote-check`.

mod asking;
mod chats;
mod cuts;
mod errors;
mod opening;
mod stand_in;
mod stopping;
mod streaming;
mod strict;
mod ways;

use nano_remote::{RemoteEngine, RemoteOptions};
use nano_runtime::{Engine, Error, Event, Finish, Message, Output, Request};
use stand_in::StandIn;
use std::time::Duration;

/// Options that do not make a test wait.
fn options(server: &StandIn) -> RemoteOptions {
    RemoteOptions { backoff: Duration::ZERO, ..RemoteOptions::new(server.url()) }
}

fn open(server: &StandIn) -> RemoteEngine {
    RemoteEngine::open(options(server)).expect("the server is there")
}

fn request(text: &str) -> Request {
    Request { messages: vec![Message::user(text)], ..Request::default() }
}

/// All that an answer was: text, reasoning, and calls as `name(arguments)`, and its end.
#[derive(Debug, Default)]
struct Told {
    text: String,
    reasoning: String,
    calls: Vec<(String, String)>,
    end: Option<Result<Output, Error>>,
}

impl Told {
    fn output(&self) -> &Output {
        self.end.as_ref().expect("an end").as_ref().expect("no error")
    }

    fn error(&self) -> String {
        self.end.as_ref().expect("an end").as_ref().expect_err("an error").to_string()
    }

    fn finish(&self) -> Finish {
        self.output().finish
    }
}

fn ask(engine: &RemoteEngine, request: &Request) -> Told {
    let mut told = Told::default();
    let mut answer = engine.stream(request).expect("a request that can be sent");
    for event in &mut answer {
        assert!(told.end.is_none(), "something came after the end");
        match event {
            Ok(Event::Text(text)) => told.text += &text,
            Ok(Event::Reasoning(text)) => told.reasoning += &text,
            Ok(Event::ToolCall(call)) => {
                let arguments = serde_json::Value::Object(call.arguments.clone()).to_string();
                told.calls.push((call.id.clone().expect("an id"), format!("{}({arguments})", call.name)));
            }
            Ok(Event::Done(output)) => told.end = Some(Ok(*output)),
            Ok(other) => panic!("an event that no server makes: {other:?}"),
            Err(error) => told.end = Some(Err(error)),
        }
    }
    assert!(answer.is_ended() && answer.poll().is_none());
    told
}
