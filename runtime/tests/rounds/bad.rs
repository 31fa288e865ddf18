//! Calls that fail, in every way in which they can: the model is told, may try again, and is not asked for ever.

use crate::script::*;
use nano_runtime::{BotFunction, RoundEvent, ToolChoice};
use std::time::Duration;

/// What the model is told of this call, when it is the only one.
fn told_of(function: Option<BotFunction>, call: Say) -> String {
    let (mut chat, _) = chat([vec![call], vec![Text("Oh.")]]);
    let functions = chat.functions().clone().with(function).unwrap().with_timeout(Duration::from_secs(20));
    chat.set_functions(functions.with_result_limit(60));
    assert_eq!(chat.ask("go").unwrap(), "Oh.");
    assert_whole(chat.messages());
    chat.messages()[2].content.text()
}

#[test]
fn what_is_wrong_with_a_call_is_said() {
    let plain = |call| told_of(None, call);
    assert_eq!(plain(Call("fly", "{}")), "error: there is no function fly; there is add, echo, fail");
    assert_eq!(plain(Call("", "{}")), "error: there is no function ; there is add, echo, fail");
    assert_eq!(plain(Call("fail", "{}")), "error: fail: no signal");
    // What is no list of arguments at all is that of no arguments.
    for empty in ["", " ", "null"] {
        assert_eq!(plain(Call("fail", empty)), "error: fail: no signal");
    }
    let missing = plain(Call("add", r#"{"a": 1}"#));
    assert_eq!(missing, "error: add: the argument \"b\" is missing");
    let extra = plain(Call("add", r#"{"a": 1, "b": 2, "c": 3}"#));
    assert!(extra.starts_with("error: add: there is no argument \"c\""), "{extra}");
    let kind = plain(Call("add", r#"{"a": 1, "b": [2]}"#));
    assert!(kind.starts_with("error: add: the argument \"b\""), "{kind}");
    for (written, why) in
        [("[1]", "are [1], not a JSON object"), ("7", "are 7, not"), ("{\"a\": ", "are not JSON: EOF")]
    {
        let told = plain(Call("add", written));
        assert!(told.starts_with(&format!("error: add: the arguments {why}")), "{told}");
    }
}

#[test]
fn functions_that_panic_hang_and_babble() {
    let panics = BotFunction::closure("boom", "", [], || -> String { panic!("out of range") });
    assert_eq!(told_of(Some(panics), Call("boom", "{}")), "error: boom: it panicked: out of range");
    let hangs = BotFunction::closure("hang", "", [], || std::thread::sleep(Duration::from_secs(2)))
        .with_timeout(Duration::from_millis(50));
    assert_eq!(told_of(Some(hangs), Call("hang", "{}")), "error: hang: it took longer than 0.05 seconds");
    let babbles = BotFunction::closure("babble", "", [], || "word ".repeat(200_000));
    let told = told_of(Some(babbles), Call("babble", "{}"));
    assert!(told.len() <= 62 && told.ends_with("word …"), "{told}");
    let rambles = BotFunction::closure("ramble", "", [], || Err::<(), _>("word ".repeat(200_000)));
    let told = told_of(Some(rambles), Call("ramble", "{}"));
    assert!(told.len() <= 70 && told.starts_with("error: ramble: word"), "{told}");
    let silent = BotFunction::closure("drive", "", [], || ());
    assert_eq!(told_of(Some(silent), Call("drive", "{}")), "done");
}

#[test]
fn a_result_is_whole_in_the_event() {
    let (mut chat, _) = chat([vec![Call("long", "{}")], vec![Text("Oh.")]]);
    let long = BotFunction::closure("long", "", [], || "word ".repeat(1000));
    let functions = chat.functions().clone().with([long]).unwrap();
    chat.set_functions(functions);
    let results: Vec<_> = chat
        .round("go")
        .unwrap()
        .filter_map(|event| match event.unwrap() {
            RoundEvent::Result(result) => Some(result),
            _ => None,
        })
        .collect();
    assert_eq!(results[0].id, "call00000");
    assert_eq!(results[0].report.result.clone().unwrap().unwrap().len(), 5000);
    assert!(results[0].message.content.text().len() < 2010);
    assert_eq!(results[0].message, chat.messages()[2]);
}

/// The choices of tools that the engine is asked with.
fn choices(answers: Vec<Vec<Say>>, retries: usize) -> String {
    let (chat, script) = chat(answers);
    let mut chat = chat.with_retry_attempts(retries).with_max_function_rounds(None);
    chat.ask("go").unwrap();
    assert_whole(chat.messages());
    let letter = |choice| if choice == ToolChoice::None { 'n' } else { 'a' };
    script.asked().into_iter().map(|request| letter(request.options.tool_choice)).collect()
}

#[test]
fn failures_in_a_row_end_in_a_last_answer() {
    let bad = || vec![Call("fail", "{}")];
    let good = || vec![Call("echo", r#"{"text": "x"}"#)];
    // One that fails makes the whole answer one with failures, but only one.
    let mixed = || [good(), bad(), bad()].concat();
    let end = || vec![Text("Oh.")];
    assert_eq!(choices(vec![bad(), end()], 0), "an");
    assert_eq!(choices(vec![bad(), end()], 1), "aa");
    assert_eq!(choices(vec![bad(), bad(), end()], 1), "aan");
    assert_eq!(choices(vec![mixed(), mixed(), end()], 1), "aan");
    assert_eq!(choices(vec![bad(), bad(), bad(), end()], 2), "aaan");
    // One without failure begins anew.
    assert_eq!(choices(vec![bad(), good(), bad(), good(), bad(), bad(), end()], 1), "aaaaaan");
    let (chat, _) = chat([bad(), end()]);
    let lines = lines(chat.with_retry_attempts(0).round("go").unwrap());
    assert_eq!(lines[3], "notice calls failed too often: the model answers without calling");
}

#[test]
fn an_answer_may_make_so_many_calls() {
    let many: Vec<Say> = (0..20).map(|_| Call("echo", r#"{"text": "x"}"#)).collect();
    let (mut chat, _) = chat([many, vec![Text("Oh.")]]);
    let functions = chat.functions().clone().with_call_limit(3);
    chat.set_functions(functions);
    chat.ask("go").unwrap();
    assert_whole(chat.messages());
    let told = told(chat.messages());
    assert_eq!(told[4..6], ["tool: x", "tool: error: echo was not called: an answer may make 3 calls"]);
    assert_eq!(told.len(), 2 + 20 + 1);
}

#[test]
fn at_most_eight_functions_hang() {
    // Released at the end, so that the threads go.
    let (gate, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let hang = BotFunction::closure("hang", "", [], move || {
        // The gate is never used but by being dropped.
        let _ = held.lock().unwrap().recv();
    });
    let calls: Vec<Say> = (0..8).map(|_| Call("hang", "{}")).collect();
    let (chat, script) = chat([calls, vec![Text("Oh.")], vec![Call("hang", "{}")], vec![Text("Oh.")]]);
    let functions = chat.functions().clone().with([hang.with_timeout(Duration::from_millis(50))]).unwrap();
    let mut chat = chat.with_functions(functions.clone());
    chat.ask("go").unwrap();
    assert!(told(chat.messages())[2..10].iter().all(|told| told.contains("it took longer than 0.05 seconds")));
    chat.ask("go").unwrap();
    let refused = "tool: error: hang: it was not called, because 8 earlier calls are still hanging";
    assert_eq!(told(chat.messages())[13], refused);
    drop((gate, script, chat));
    let end = std::time::Instant::now() + Duration::from_secs(20);
    let call = || functions.call_text("hang", "").result;
    while call().is_err() {
        assert!(std::time::Instant::now() < end, "the hanging ones went, and it can be called again");
        std::thread::sleep(Duration::from_millis(1));
    }
}
