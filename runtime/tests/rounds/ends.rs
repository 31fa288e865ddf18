//! Rounds that end before their end: after every number of events, by a stop, by being dropped, by an engine that fails.
//! What was before is whole, and the next round works.

use crate::script::*;
use nano_runtime::{BotFunction, BotFunctions, Chat, Error, Finish, RoundEvent};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A round with everything in it: 14 events.
fn answers() -> Vec<Vec<Say>> {
    let calls = [Call("add", r#"{"a": 1, "b": 2}"#), Call("fail", "{}")];
    vec![
        [vec![Think("hm"), Text("Let me see.")], calls.to_vec()].concat(),
        vec![Text("Again."), Call("echo", r#"{"text": "x"}"#)],
        vec![Text("Do"), Text("ne.")],
    ]
}

/// A chat that has talked before.
fn begun() -> (Chat, Arc<Script>) {
    let (mut chat, script) = chat([vec![Call("echo", r#"{"text": "old"}"#)], vec![Text("Old.")]]);
    chat.ask("before").unwrap();
    script.says(answers());
    (chat, script)
}

fn events() -> usize {
    begun().0.round("go").unwrap().count()
}

/// The next round is like any other.
fn goes_on(chat: &mut Chat, script: &Script, what: &str) {
    let before = chat.messages().len();
    assert!(!chat.is_busy(), "{what}");
    assert_whole(chat.messages());
    script.asked();
    script.says(answers());
    assert_eq!(chat.ask("next").unwrap(), "Done.", "{what}");
    assert_whole(chat.messages());
    assert_eq!(chat.messages().len(), before + 7, "{what}");
    let asked = script.asked();
    assert_eq!(asked.len(), 3);
    assert_eq!(asked[0].messages.len(), before + 1, "{what}: nothing of what was taken back is told again");
}

#[test]
fn dropped_after_every_event() {
    let all = events();
    assert_eq!(all, 14);
    for k in 0..=all {
        let (mut chat, script) = begun();
        let before = chat.messages().to_vec();
        let mut round = chat.round("go").unwrap();
        assert_eq!(round.by_ref().take(k).count(), k);
        assert_eq!(round.is_ended(), k == all);
        drop(round);
        if k < all {
            assert_eq!(chat.messages(), before, "dropped after {k} events");
        } else {
            assert_eq!(chat.messages().len(), before.len() + 7);
        }
        goes_on(&mut chat, &script, &format!("dropped after {k} events"));
    }
}

/// What is left of a round that was stopped after so many events, as documented: all that was said, if an answer is under way
/// that makes no calls so far; otherwise nothing.
fn left(lines: &[String]) -> bool {
    let of_this_answer =
        lines.iter().rev().take_while(|line| !line.starts_with("done")).filter(|l| l.starts_with("call"));
    let waits_for_results = {
        let calls = lines.iter().filter(|line| line.starts_with("call")).count();
        calls != lines.iter().filter(|line| line.starts_with("result")).count()
    };
    // After the last result the next answer has not been asked for yet.
    let is_between = lines.last().is_some_and(|line| line.starts_with("result"));
    of_this_answer.count() == 0 && !waits_for_results && !is_between
}

#[test]
fn stopped_after_every_event_by_itself_and_from_elsewhere() {
    let all = events();
    for (k, dropped) in (0..=all).flat_map(|k| [(k, false), (k, true)]) {
        let what = format!("stopped after {k} events, dropped: {dropped}");
        let (mut chat, script) = begun();
        let before = chat.messages().to_vec();
        let mut round = chat.round("go").unwrap();
        let mut lines: Vec<String> = round.by_ref().take(k).map(|event| line(&event)).collect();
        round.stop();
        let mut last = None;
        if dropped {
            drop(round);
        } else {
            for event in round.by_ref() {
                lines.push(line(&event));
                last = Some(event);
            }
            assert!(round.is_ended() && round.poll().is_none(), "{what}");
            drop(round);
        }
        let told = told(chat.messages());
        let stays = left(&lines[..k]);
        if k == all {
            assert_eq!((told.len(), told.last().unwrap().as_str()), (before.len() + 7, "assistant: Done."), "{what}");
        } else if stays {
            assert!(told.len() > before.len(), "{what}: {told:?}");
            assert!(told.last().unwrap().starts_with("assistant:"), "{what}: {told:?}");
            if let Some(Ok(RoundEvent::Answer(nano_runtime::Event::Done(output)))) = &last {
                assert_eq!(output.finish, Finish::Cancelled, "{what}");
            } else {
                assert!(dropped, "{what}: {last:?}");
            }
        } else {
            assert_eq!(chat.messages(), before, "{what}");
            assert!(dropped || matches!(last, Some(Err(Error::RoundStopped))), "{what}: {last:?}");
        }
        goes_on(&mut chat, &script, &what);
    }
}

#[test]
fn what_a_stop_leaves() {
    // (events read, what is left behind the earlier round)
    let left: [(usize, &[&str]); 4] = [
        (0, &["user: go", "assistant: "]),
        (2, &["user: go", "assistant: Let me see."]),
        (3, &[]),
        (13, &["user: go", "assistant: Let me see. <add> <fail>", "tool: 3", "tool: error: fail: no signal"]),
    ];
    for (k, expected) in left {
        let (mut chat, _) = begun();
        let before = chat.messages().len();
        let mut round = chat.round("go").unwrap();
        round.by_ref().take(k).for_each(drop);
        round.stop();
        drop(round);
        let told = told(&chat.messages()[before..]);
        assert_eq!(told[..expected.len()], *expected, "stopped after {k} events");
        if k == 13 {
            let rest = ["assistant: Again. <echo>", "tool: x", "assistant: Done."];
            assert_eq!(told[expected.len()..], rest);
        } else {
            assert_eq!(told.len(), expected.len());
        }
    }
}

#[test]
fn after_a_stop_nothing_is_called() {
    let called = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&called);
    let drive = BotFunction::closure("drive", "Drives.", [], move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    for stops in [true, false] {
        let (chat, _) = chat([vec![Call("drive", "{}")], vec![Text("Done.")]]);
        let mut chat = chat.with_functions(BotFunctions::new([drive.clone()]).unwrap());
        let mut round = chat.round("go").unwrap();
        assert_eq!(round.by_ref().take(2).map(|event| line(&event)).last().unwrap(), "done stop");
        if stops {
            round.stop();
            assert!(matches!(round.next(), Some(Err(Error::RoundStopped))));
        }
        drop(round);
        let threads_had_time = Duration::from_millis(5);
        std::thread::sleep(threads_had_time);
        assert_eq!(called.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn an_engine_that_fails_after_every_event() {
    let whole = answers();
    for (answer, says) in whole.iter().enumerate() {
        // Before each part, and in place of the end. `None`: the answer cannot even begin.
        for at in [None].into_iter().chain((0..=says.len()).map(Some)) {
            let what = format!("answer {answer} fails at {at:?}");
            let (mut chat, script) = begun();
            let before = chat.messages().to_vec();
            let mut broken = whole[..answer].to_vec();
            broken.extend(at.map(|at| [&says[..at], &[Fail]].concat()));
            script.says(broken);
            match chat.round("go") {
                Ok(round) => {
                    let lines = lines(round);
                    let problem = if at.is_some() { "it broke" } else { "it has nothing more to say" };
                    assert_eq!(lines.last().unwrap(), &format!("error script: {problem}"), "{what}");
                    assert_eq!(lines.iter().filter(|line| line.starts_with("error")).count(), 1);
                }
                Err(_) => assert_eq!((answer, at), (0, None)),
            }
            assert_eq!(chat.messages(), before, "{what}");
            goes_on(&mut chat, &script, &what);
        }
    }
}

#[test]
fn an_answer_without_an_end_is_an_error() {
    for polls in [false, true] {
        let (mut chat, script) = begun();
        let before = chat.messages().to_vec();
        script.says([vec![Text("So"), Vanish]]);
        chat.start("go").unwrap();
        let mut next = || if polls { chat.poll() } else { chat.next_event() };
        assert_eq!(next().map(|event| line(&event)).unwrap(), "text So");
        // A poll that finds nothing may find the end only the next time.
        let error = next().or_else(&mut next);
        assert!(matches!(error, Some(Err(Error::Stopped))));
        assert_eq!(chat.messages(), before);
        goes_on(&mut chat, &script, "vanished");
    }
}

#[test]
fn a_hung_answer_is_stopped_or_dropped() {
    for k in 0..2 {
        let (mut chat, script) = begun();
        script.says([vec![Text("So"), Hang]]);
        let mut round = chat.round("go").unwrap();
        round.by_ref().take(k).for_each(drop);
        if k == 1 {
            assert!(round.poll().is_none() && !round.is_ended());
        }
        drop(round);
        goes_on(&mut chat, &script, "hung");
    }
}
