//! Who waits for whom: calls of an answer run at once, nobody who polls ever waits, and a function that hangs is its own
//! chat's affair.

use crate::script::*;
use nano_runtime::{BotFunction, BotFunctions, Chat, Error, RoundEvent};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(1000);

/// A function that says when it is called, and waits until it is told what to return.
fn held(name: &str) -> (BotFunction, Receiver<()>, Sender<&'static str>) {
    let ((here, begun), (go, told)) = (channel(), channel::<&'static str>());
    let told = Mutex::new(told);
    let function = BotFunction::closure(name, "Waits.", [], move || {
        // Nobody may be left to listen.
        let _ = here.send(());
        told.lock().unwrap().recv().map_err(|_| "nobody said a word".to_owned())
    });
    (function.with_timeout(LONG), begun, go)
}

fn wait(begun: &Receiver<()>) {
    begun.recv_timeout(Duration::from_secs(20)).expect("it was called");
}

#[test]
fn calls_that_need_each_other_end() {
    let ((to_left, left), (to_right, right)) = (channel::<String>(), channel::<String>());
    let meet = |name: &'static str, to: Sender<String>, from: Receiver<String>| {
        let from = Mutex::new(from);
        BotFunction::closure(name, "Meets the other.", [], move || {
            to.send(format!("from {name}")).map_err(|problem| problem.to_string())?;
            from.lock().unwrap().recv_timeout(Duration::from_secs(20)).map_err(|problem| problem.to_string())
        })
        .with_timeout(LONG)
    };
    let functions = BotFunctions::new([meet("left", to_right, left), meet("right", to_left, right)]).unwrap();
    let (chat, _) = chat([vec![Call("right", "{}"), Call("left", "{}")], vec![Text("Met.")]]);
    let mut chat = chat.with_functions(functions);
    assert_eq!(chat.ask("go").unwrap(), "Met.");
    assert_eq!(told(chat.messages())[2..4], ["tool: from left", "tool: from right"]);
}

#[test]
fn results_keep_the_order_of_calls() {
    let (first, begun, go) = held("first");
    let (second, second_begun, second_go) = held("second");
    let (chat, _) = chat([vec![Call("first", "{}"), Call("second", "{}")], vec![Text("Done.")]]);
    let mut chat = chat.with_functions(BotFunctions::new([first, second]).unwrap());
    let mut round = chat.round("go").unwrap();
    let polled = |round: &mut nano_runtime::Round<'_>| round.poll().map(|event| line(&event));
    for expected in ["call first", "call second", "done stop"] {
        assert_eq!(polled(&mut round).unwrap(), expected);
    }
    // From here on there is nothing to see for as long as the first runs, whatever the other does.
    assert_eq!(polled(&mut round), None);
    wait(&begun);
    wait(&second_begun);
    second_go.send("2").unwrap();
    std::thread::sleep(Duration::from_millis(20));
    assert!(polled(&mut round).is_none() && !round.is_ended());
    go.send("1").unwrap();
    let rest: Vec<String> = round.map(|event| line(&event)).collect();
    assert_eq!(rest, ["result first 1", "result second 2", "text Done.", "done stop"]);
}

#[test]
fn a_control_loop_owns_its_chat() {
    let (hold, begun, go) = held("hold");
    let (chat, _) = chat([vec![Call("hold", "{}")], vec![Text("Done.")], vec![Hang]]);
    let mut chat = chat.with_functions(BotFunctions::new([hold]).unwrap());
    chat.start("go").unwrap();
    let (mut lines, mut cycles) = (Vec::new(), 0);
    while chat.is_busy() {
        while let Some(event) = chat.poll() {
            lines.push(line(&event));
        }
        cycles += 1;
        if cycles == 5 {
            wait(&begun);
            go.send("let go").unwrap();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(lines, ["call hold", "done stop", "result hold let go", "text Done.", "done stop"]);
    // Whatever else is done takes the round back.
    chat.start("more").unwrap();
    assert!(chat.poll().is_none() && chat.is_busy());
    assert_eq!((chat.undo().len(), chat.is_busy(), chat.messages().len()), (4, false, 0));
}

#[test]
fn a_round_is_stopped_from_elsewhere_whatever_it_waits_for() {
    // While a function runs, and the reader waits.
    let (hold, begun, go) = held("hold");
    let functions = BotFunctions::new([hold]).unwrap();
    let (chat, script) = chat([vec![Call("hold", "{}")]]);
    let mut chat = chat.with_functions(functions);
    let round = chat.round("go").unwrap();
    let stopper = round.stopper();
    let thread = std::thread::spawn(move || {
        wait(&begun);
        stopper.stop();
    });
    assert!(matches!(round.wait(), Err(Error::RoundStopped)));
    thread.join().unwrap();
    assert!(chat.messages().is_empty());
    go.send("late").unwrap();
    // While the second answer is waited for.
    script.says([vec![Call("hold", "{}")], vec![Text("So"), Hang]]);
    go.send("now").unwrap();
    let mut round = chat.round("go").unwrap();
    let stopper = round.stopper();
    let mut lines = Vec::new();
    for event in &mut round {
        lines.push(line(&event));
        if lines.last().unwrap() == "text So" {
            let stopper = stopper.clone();
            std::thread::spawn(move || stopper.stop());
        }
    }
    // The call that was left alone may have taken the other's word.
    assert_eq!(lines[..2], ["call hold", "done stop"]);
    assert_eq!(lines[3..], ["text So", "done cancelled"]);
    drop(round);
    assert_eq!(chat.messages().len(), 4);
    assert_whole(chat.messages());
}

#[test]
fn a_function_that_hangs_holds_up_no_other_chat() {
    let (hold, begun, _go) = held("hold");
    let functions = functions().with([hold]).unwrap();
    let (first, script) = chat([vec![Call("hold", "{}")]]);
    let mut first = first.with_functions(functions.clone());
    first.start("go").unwrap();
    while begun.try_recv().is_err() {
        first.poll();
        std::thread::sleep(Duration::from_millis(1));
    }
    script.says([vec![Call("add", r#"{"a": 1, "b": 2}"#)], vec![Text("3")]]);
    let mut second = Chat::new(script).with_functions(functions);
    assert_eq!(second.ask("go").unwrap(), "3");
    assert!(first.poll().is_none() && first.is_busy());
}

#[test]
fn functions_see_the_messages_and_talk_to_another_model() {
    let helper = Script::new([vec![Text("It was about ships.")]]);
    let (chat, script) = chat([
        vec![Call("echo", r#"{"text": "ships, ships, ships"}"#)],
        vec![Text("Well."), Call("sum_up", "{}"), Call("echo", r#"{"text": "x"}"#)],
        vec![Text("Ships.")],
    ]);
    let (messages, engine, seen) = (chat.shared_messages(), helper.clone(), Arc::new(Mutex::new(Vec::new())));
    let saw = Arc::clone(&seen);
    let sum_up = BotFunction::closure("sum_up", "Sums up what was said.", [], move || {
        let messages = messages.get();
        *saw.lock().unwrap() = told(&messages);
        let results = messages.iter().filter(|message| message.role == "tool");
        let long: String = results.map(|message| message.content.text()).collect();
        let mut chat = Chat::new(engine.clone()).with_system_prompt("Sum up.");
        chat.ask(long).map_err(|problem| problem.to_string())
    });
    let functions = chat.functions().clone().with([sum_up]).unwrap();
    let mut chat = chat.with_functions(functions);
    assert_eq!(chat.ask("go").unwrap(), "Ships.");
    assert_eq!(told(chat.messages())[3..5], ["assistant: Well. <sum_up> <echo>", "tool: It was about ships."]);
    // The messages that the answer which called was asked with: each call in them has its result.
    assert_eq!(*seen.lock().unwrap(), ["user: go", "assistant:  <echo>", "tool: ships, ships, ships"]);
    assert_eq!(told(&helper.asked()[0].messages), ["system: Sum up.", "user: ships, ships, ships"]);
    assert_eq!(script.asked().len(), 3);
}

#[test]
fn a_chat_goes_where_it_is_needed() {
    fn send<T: Send>(_: &T) {}
    let (mut chat, _) = chat([vec![Text("a")]]);
    send(&chat);
    let event = std::thread::spawn(move || chat.ask("go")).join().unwrap();
    assert_eq!(event.unwrap(), "a");
    fn event_is_sent<T: Send>() {}
    event_is_sent::<RoundEvent>();
}
