//! Functions that note their calls, conversations whose model calls them, and what is seen of it.

use crate::common::*;
use nano_runtime::{
    BotFunction, BotFunctions, CallReport, ChatHistory, ChatOptions, Event, GenerateOptions, NanoModel, Output, Result,
};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The calls that were made, in order.
pub type Calls = Arc<Mutex<Vec<String>>>;

/// What the functions below were called with.
pub fn functions() -> (BotFunctions, Calls) {
    let calls = Calls::default();
    let note = |name: &'static str| {
        let calls = Arc::clone(&calls);
        move |arguments: String| calls.lock().unwrap().push(format!("{name}({arguments})"))
    };
    let (time, step, add, say) = (note("time"), note("step"), note("add"), note("say"));
    let (fail, boom) = (note("fail"), note("boom"));
    let list = [
        BotFunction::closure("time", "The time.", [], move || {
            time(String::new());
            "12:00"
        }),
        BotFunction::closure("step", "Goes a step.", [], move || step(String::new())),
        BotFunction::closure("add", "Adds.", ["a", "b"], move |a: i64, b: i64| {
            add(format!("{a}, {b}"));
            a + b
        }),
        BotFunction::closure("say", "Repeats.", ["text"], move |text: String| {
            say(text.clone());
            text
        }),
        BotFunction::closure("fail", "Fails.", [], move || {
            fail(String::new());
            Err::<(), _>("no signal".to_owned())
        }),
        BotFunction::closure("boom", "Panics.", [], move || -> String {
            boom(String::new());
            panic!("out of range")
        }),
    ];
    (BotFunctions::new(list).unwrap(), calls)
}

/// The calls made since this was last asked.
pub fn made(calls: &Calls) -> Vec<String> {
    std::mem::take(&mut *calls.lock().unwrap())
}

/// A reply as the runner says it. What stands in ⟦⟧ should be spliced in by the engine: the runner would say `?` there,
/// so that nothing but the engine can have said it.
pub fn script(reply: &str) -> Vec<u32> {
    let mut out = Vec::new();
    for (i, part) in reply.split(['⟦', '⟧']).enumerate() {
        if i % 2 == 0 { out.extend(tokens(part)) } else { out.resize(out.len() + part.len(), u32::from(b'?')) }
    }
    out
}

/// The tokens that such a reply should have.
pub fn spoken(reply: &str) -> Vec<u32> {
    let part = |(i, part): (usize, &str)| if i % 2 == 0 { tokens(part) } else { bytes(part) };
    reply.split(['⟦', '⟧']).enumerate().flat_map(part).collect()
}

/// The text that such a reply should have.
pub fn shown(reply: &str) -> String {
    reply.replace(['⟦', '⟧', '⟨', '⟩'], "")
}

/// A conversation whose replies are these.
pub struct Bot {
    pub chat: ChatHistory,
    pub calls: Calls,
    pub log: Shared,
}

impl Bot {
    pub fn new(replies: &[&str]) -> Self {
        Self::with(replies, |_| (), |functions| functions)
    }

    /// The same on another runner, with other functions.
    pub fn with(
        replies: &[&str],
        runner: impl FnOnce(&mut Fake),
        set: impl FnOnce(BotFunctions) -> BotFunctions,
    ) -> Self {
        let (mut fake, log) = Fake::new(limits(), parrot(replies.iter().map(|reply| script(reply)).collect()));
        runner(&mut fake);
        let (functions, calls) = functions();
        let chat = open(&fake.model(template(CHATML)), set(functions));
        Self { chat, calls, log }
    }

    pub fn say(&mut self, text: &str) -> Heard {
        self.ask(text, &options()).unwrap()
    }

    pub fn ask(&mut self, text: &str, options: &GenerateOptions) -> Result<Heard> {
        self.chat.user(text);
        listen(self.chat.reply(options)?)
    }

    pub fn made(&self) -> Vec<String> {
        made(&self.calls)
    }

    /// The tokens fed since the last call.
    pub fn fed(&self) -> Vec<u32> {
        let mut log = self.log.lock().unwrap();
        let fed = log.fed();
        log.steps.clear();
        fed
    }
}

/// A conversation that says nothing of its functions to the model.
pub fn open(model: &NanoModel, functions: BotFunctions) -> ChatHistory {
    model.chat(ChatOptions { functions, describe_functions: false, ..ChatOptions::default() }).unwrap()
}

/// What a reply showed.
#[derive(Debug)]
pub struct Heard {
    /// Texts that follow each other as one; calls as `<name>`.
    pub events: Vec<String>,
    pub reports: Vec<CallReport>,
    pub output: Output,
}

impl Heard {
    pub fn text(&self) -> &str {
        &self.output.text
    }
}

/// Reads a reply to its end.
pub fn listen(reply: impl Iterator<Item = Result<Event>>) -> Result<Heard> {
    let (mut events, mut reports, mut whole) = (Vec::<String>::new(), Vec::new(), String::new());
    let mut follows = false;
    for event in reply {
        match event? {
            Event::Text(text) => {
                assert!(!text.is_empty());
                whole += &text;
                match events.last_mut().filter(|_| follows) {
                    Some(last) => last.push_str(&text),
                    None => events.push(text),
                }
                follows = true;
            }
            Event::Call(report) => {
                events.push(format!("<{}>", report.name));
                reports.push(*report);
                follows = false;
            }
            Event::Done(output) => {
                assert_eq!(output.text, whole, "the events are the text");
                let (spliced, all) = (output.stats.spliced_tokens, output.tokens.len());
                assert!(spliced <= all && output.stats.output_tokens == all);
                return Ok(Heard { events, reports, output: *output });
            }
            // Before anything else.
            Event::Overflow { .. } => assert!(events.is_empty()),
            other => panic!("{other:?}"),
        }
    }
    panic!("a reply without an end")
}

/// A function that waits until it is told what to return.
pub struct Held {
    begun: Receiver<()>,
    go: Sender<&'static str>,
}

impl Held {
    /// Has a time-out that no test waits for.
    pub fn new(name: &str) -> (BotFunction, Self) {
        let ((here, begun), (go, told)) = (channel(), channel::<&'static str>());
        let told = Mutex::new(told);
        let function = BotFunction::closure(name, "Waits.", [], move || {
            // Nobody may be left to listen.
            let _ = here.send(());
            told.lock().unwrap().recv().map_err(|_| "nobody said a word".to_owned())
        });
        (function.with_timeout(Duration::from_secs(1000)), Self { begun, go })
    }

    /// Waits until it runs.
    pub fn begun(&self) {
        self.begun.recv_timeout(Duration::from_secs(20)).expect("it was called");
    }

    /// Lets it return.
    pub fn go(&self, result: &'static str) {
        self.go.send(result).unwrap();
    }
}

/// Does something that must not take long.
pub fn soon<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> T {
    let (give, result) = channel();
    std::thread::spawn(move || give.send(what()));
    result.recv_timeout(Duration::from_secs(20)).expect("it ends soon")
}
