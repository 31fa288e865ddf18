//! Who waits while a function runs: its own reply, and nobody else.

use crate::common::*;
use crate::finding::owned;
use crate::setup::*;
use nano_runtime::{BotFunction, BotFunctions, ChatHistory, Event, Finish, GenerateOptions, NanoModel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A model whose conversations say these replies, and a function `wait` that is held.
fn held(replies: &[&str]) -> (NanoModel, BotFunctions, Held, Shared) {
    let (fake, log) = Fake::new(limits(), parrot(replies.iter().map(|reply| script(reply)).collect()));
    let (wait, held) = Held::new("wait");
    (fake.model(template(CHATML)), functions().0.with([wait]).unwrap(), held, log)
}

fn state(chat: &ChatHistory) -> (usize, usize, usize) {
    (chat.messages().len(), chat.num_tokens(), chat.num_rows())
}

#[test]
fn cancelling_while_a_function_runs_ends_the_reply_at_once() {
    let (model, functions, held, _) = held(&["so wait()", "ok"]);
    let mut chat = open(&model, functions);
    soon(move || {
        chat.user("go");
        let reply = chat.reply(&options()).unwrap();
        held.begun();
        reply.stopper().stop();
        let heard = listen(reply).unwrap();
        assert_eq!((heard.text(), heard.output.finish), ("so wait()", Finish::Cancelled));
        assert_eq!((heard.reports.len(), heard.output.stats.function_calls), (0, 1));
        assert!(chat.is_cancelled(1));
        // What it returns now is nobody's.
        held.go("late");
        chat.user("more");
        assert_eq!(listen(chat.reply(&options()).unwrap()).unwrap().text(), "ok");
        assert_eq!(chat.messages()[1].content.text(), "so wait()");
    });
}

#[test]
fn dropping_the_reply_while_a_function_runs_takes_the_turn_back() {
    let (model, functions, held, _) = held(&["ok", "so wait()⟦ now⟧", "ok"]);
    let mut chat = open(&model, functions);
    soon(move || {
        chat.user("one");
        chat.reply(&options()).unwrap().wait().unwrap();
        let before = state(&chat);
        chat.user("two");
        let reply = chat.reply(&options()).unwrap();
        held.begun();
        drop(reply);
        assert_eq!(state(&chat), before);
        held.go("late");
        // A stream that is let go of, and one that is appended before its function is done.
        chat.user("two");
        let stream = chat.generate(&options()).unwrap();
        held.begun();
        drop(stream);
        assert!(matches!(chat.pop(0)[..], []) && chat.num_rows() == 0 && chat.messages().len() == 2);
        held.go("late");
        chat.user("two");
        let stream = chat.generate(&options()).unwrap();
        held.begun();
        assert_eq!(chat.append_reply(stream).unwrap().content.text(), "so wait()");
        held.go("late");
        // And one that is waited for.
        chat.undo();
        chat.user("two");
        held.go("now");
        assert_eq!(chat.reply(&options()).unwrap().wait().unwrap().text, "so wait() now");
    });
}

#[test]
fn other_conversations_go_on_while_a_function_hangs() {
    for picks in [false, true] {
        let long = "ab".repeat(100);
        let replies = vec![script("wait()⟦ now⟧"), script(&format!("{long} time()⟦ 12:00⟧"))];
        let (mut fake, _) = Fake::new(limits(), parrot(replies));
        fake.picks = picks;
        let (wait, held) = Held::new("wait");
        let (model, functions) = (fake.model(template(CHATML)), functions().0.with([wait]).unwrap());
        let (mut hung, mut other) = (open(&model, functions.clone()), open(&model, functions));
        soon(move || {
            hung.user("go");
            let reply = hung.reply(&options()).unwrap();
            held.begun();
            // Its own first reply hangs as well: that is dropped.
            other.user("first");
            let first = other.reply(&options()).unwrap();
            held.begun();
            first.stop();
            drop(first);
            other.user("second");
            let heard = listen(other.reply(&GenerateOptions { max_new_tokens: 500, ..options() }).unwrap()).unwrap();
            assert_eq!(heard.text(), format!("{long} time() 12:00"));
            held.go("late");
            held.go("now");
            let heard = listen(reply).unwrap();
            assert!(["wait() now", "wait() late"].contains(&heard.text()), "{}", heard.text());
        });
    }
}

#[test]
fn a_reader_that_is_behind_holds_up_its_own_functions_only() {
    let many = "⟨ step()⟩x".repeat(70);
    let replies = vec![script(&many), script("time()⟦ 12:00⟧")];
    let (fake, _) = Fake::new(limits(), parrot(replies));
    let (set, calls) = functions();
    let set = set.with_call_limit(1000);
    let model = fake.model(template(CHATML));
    let (mut slow, mut fast) = (open(&model, set.clone()), open(&model, set));
    slow.user("go");
    let unread = slow.reply(&GenerateOptions { max_new_tokens: 500, ..options() }).unwrap();
    fast.user("go");
    fast.reply(&GenerateOptions { max_new_tokens: 500, ..options() }).unwrap().wait().unwrap();
    fast.user("go");
    let heard = listen(fast.reply(&options()).unwrap()).unwrap();
    assert_eq!(heard.text(), "time() 12:00");
    let heard = listen(unread).unwrap();
    assert_eq!((heard.text(), heard.reports.len()), (&*shown(&many), 70));
    assert_eq!(made(&calls).iter().filter(|call| *call == "step()").count(), 140);
}

#[test]
fn a_control_loop_may_poll_while_a_function_runs() {
    let (model, functions, held, _) = held(&["wait()⟦ now⟧ ok"]);
    let mut chat = open(&model, functions);
    chat.user("go");
    let mut stream = chat.generate(&options()).unwrap();
    held.begun();
    let mut text = String::new();
    while let Some(event) = stream.poll() {
        let Event::Text(more) = event.unwrap() else { panic!("nothing but text came so far") };
        text += &more;
    }
    assert_eq!((text.as_str(), stream.is_ended()), ("wait()", false));
    held.go("now");
    let heard = soon(move || {
        while !stream.is_ended() {
            stream.by_ref().find(|event| matches!(event, Ok(Event::Done(_))));
        }
        stream
    });
    assert_eq!(chat.append_reply(heard).unwrap().content.text(), "wait() now ok");
}

#[test]
fn everything_may_be_dropped_while_a_function_runs() {
    let (model, functions, held, log) = held(&["wait()"]);
    let mut chat = open(&model, functions);
    soon(move || {
        chat.user("go");
        let stream = chat.generate(&options()).unwrap();
        held.begun();
        drop((stream, chat, model));
        assert!(log.lock().unwrap().dropped, "the engine did not wait for the function");
        held.go("late");
    });
}

#[test]
fn a_time_out_comes_while_nothing_else_happens_and_while_much_does() {
    let never = Held::new("never");
    let never = (never.0.with_timeout(Duration::from_millis(15)), never.1);
    let why = "⟦ (error: never: it took longer than 0.015 seconds)⟧";
    let replies = vec![script(&format!("never(){why}.")), script(&"ab".repeat(400))];
    let (fake, _) = Fake::new(limits(), parrot(replies));
    let model = fake.model(template(CHATML));
    let set = functions().0.with([never.0]).unwrap();
    let (mut idle, mut busy) = (open(&model, set.clone()), open(&model, set));
    soon(move || {
        let told = shown(&format!("never(){why}."));
        idle.user("go");
        assert_eq!(listen(idle.reply(&options()).unwrap()).unwrap().text(), told);
        busy.user("go");
        let long = GenerateOptions { max_new_tokens: 800, ..options() };
        assert_eq!(listen(busy.reply(&long).unwrap()).unwrap().text(), told);
        busy.user("go");
        let much = busy.reply(&long).unwrap();
        idle.pop(2);
        idle.user("go");
        let waits = idle.reply(&options()).unwrap();
        assert_eq!(listen(much).unwrap().text().len(), 800);
        assert_eq!(listen(waits).unwrap().text(), told);
    });
}

#[test]
fn a_function_may_ask_the_model_itself() {
    let (fake, _) = Fake::new(limits(), parrot(vec![script("ask()⟦ yes⟧!")]));
    let model: Arc<Mutex<Option<NanoModel>>> = Arc::default();
    let asked = Arc::clone(&model);
    let ask = BotFunction::closure("ask", "", [], move || {
        let model = asked.lock().unwrap().clone().expect("a model");
        let prompt = tokens("<|im_start|>assistant\nask(");
        let output = model.generate(prompt, model.cache(), &GenerateOptions { max_new_tokens: 1, ..options() });
        output.wait().map(|output| if output.text == ")" { "yes" } else { "no" }).map_err(|error| error.to_string())
    });
    let mut chat = open(model.lock().unwrap().insert(fake.model(template(CHATML))), BotFunctions::new([ask]).unwrap());
    soon(move || {
        chat.user("go");
        assert_eq!(listen(chat.reply(&options()).unwrap()).unwrap().text(), "ask() yes!");
        model.lock().unwrap().take();
    });
}

#[test]
fn a_step_that_fails_after_a_call_takes_the_turn_back() {
    // The step that feeds the result fails.
    let runner = |fake: &mut Fake| {
        let mut broken = true;
        fake.faults = Box::new(move |fed| {
            (fed.concat().starts_with(&[word("time()"), u32::from(b' ')]) && std::mem::take(&mut broken))
                .then_some(Fault::Panic)
        });
    };
    let mut bot = Bot::with(&["ok", "⟨time()⟩⟦ 12:00⟧"], runner, |set| set);
    bot.say("one");
    let before = state(&bot.chat);
    let error = bot.ask("two", &options()).unwrap_err();
    assert!(error.to_string().contains("the fan fell off"), "{error}");
    assert_eq!(state(&bot.chat), before);
    assert_eq!((bot.say("two").text(), bot.made()), ("time() 12:00", owned(&["time()", "time()"])));
}
