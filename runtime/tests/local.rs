//! The engine of a model on this machine: what it feeds of requests that begin alike, and what it keeps. The runner checks
//! that every row it reads is what a fresh prefill would have written.

mod common;

use common::talk::{fed, user};
use common::{CHATML, Fake, Fault, Shared, bytes, limits, options, parrot, template, tokens};
use nano_runtime::{ChatOptions, Engine, Error, Event, Finish, GenerateOptions, Limits, LocalEngine, Message, Request};

fn engine_with(limits: Limits, replies: &[&str]) -> (LocalEngine, Shared) {
    let (fake, log) = Fake::new(limits, parrot(replies.iter().map(|r| tokens(r)).collect()));
    (LocalEngine::new(&fake.model(template(CHATML)), ChatOptions::default()).unwrap(), log)
}

fn engine(replies: &[&str]) -> (LocalEngine, Shared) {
    engine_with(limits(), replies)
}

/// A conversation of the user and the assistant in turns.
fn request(said: &[&str]) -> Request {
    let role = |i: usize| if i.is_multiple_of(2) { "user" } else { "assistant" };
    let messages = said.iter().enumerate().map(|(i, text)| Message::new(role(i), *text)).collect();
    Request { messages, options: options(), ..Request::default() }
}

fn answer(engine: &LocalEngine, said: &[&str]) -> String {
    engine.predict(&request(said)).unwrap().text
}

#[test]
fn a_conversation_is_gone_on_with() {
    let (engine, log) = engine(&["Aha.", "So."]);
    assert_eq!(answer(&engine, &["One"]), "Aha.");
    assert_eq!(fed(&log), [user("One"), bytes("Aha.")].concat());
    let output = engine.predict(&request(&["One", "Aha.", "Two"])).unwrap();
    assert_eq!((output.text.as_str(), output.stats.reused_tokens), ("So.", user("One").len() + 4));
    assert_eq!(fed(&log), [tokens("<|im_end|>\n"), user("Two"), bytes("So.")].concat());
    assert_eq!(engine.kept(), 1);
}

#[test]
fn one_that_departs_shares_what_is_common_and_leaves_the_other_alone() {
    let (engine, log) = engine(&["Aha.", "So."]);
    answer(&engine, &["One", "Aha.", "Two"]);
    fed(&log);
    answer(&engine, &["One", "Aha.", "Else"]);
    assert_eq!(fed(&log), [tokens("Else<|im_end|>\n<|im_start|>assistant\n"), bytes("So.")].concat());
    assert_eq!(engine.kept(), 2);
    // Both go on.
    for said in [["One", "Aha.", "Two", "So.", "Three"], ["One", "Aha.", "Else", "So.", "Three"]] {
        answer(&engine, &said);
        assert_eq!(fed(&log), [tokens("<|im_end|>\n"), user("Three")].concat(), "{said:?}");
    }
    assert_eq!(engine.kept(), 2);
}

#[test]
fn a_long_text_before_another_question_is_fed_once() {
    let (engine, log) = engine(&["Aha."]);
    let text = "word ".repeat(40);
    answer(&engine, &[&format!("{text} What?")]);
    fed(&log);
    answer(&engine, &[&format!("{text} Where?")]);
    assert_eq!(fed(&log), [tokens("ere?<|im_end|>\n<|im_start|>assistant\n"), bytes("Aha.")].concat());
}

#[test]
fn what_a_prompt_takes_is_known_before() {
    let (engine, log) = engine(&["Aha."]);
    let Request { messages, .. } = request(&["One"]);
    let len = engine.prompt_len(&messages, &[]).unwrap();
    assert!(log.lock().unwrap().steps.is_empty());
    assert_eq!(engine.predict(&request(&["One"])).unwrap().stats.input_tokens, len);
    assert_eq!(engine.prompt_len(&messages, &[]).unwrap(), len);
    assert_eq!(engine.max_context_size(), limits().context);
    assert!(matches!(engine.prompt_len(&[], &[]), Err(Error::NoMessage)));
    let answered = request(&["One", "Aha."]).messages;
    assert!(engine.prompt_len(&answered, &[]).unwrap() > len, "one that has its answer has a length too");
}

#[test]
fn the_oldest_of_too_many_goes_and_closing_lets_all_go() {
    let (engine, _) = engine(&["Aha."]);
    let engine = engine.with_kept(2);
    let free = engine.model().cache().free_pages();
    for said in ["One", "Two", "Three"] {
        answer(&engine, &[said]);
    }
    assert_eq!(engine.kept(), 2);
    engine.close();
    assert_eq!((engine.kept(), engine.model().cache().free_pages()), (0, free));
    assert_eq!(answer(&engine, &["Four"]), "Aha.");
}

#[test]
fn what_is_kept_gives_way_when_pages_are_needed() {
    let (engine, _) = engine_with(Limits { pages: 8, context: 256, ..limits() }, &["Aha."]);
    for said in ["a", "b", "c", "d", "e"] {
        let long = said.repeat(100);
        let request = Request { options: GenerateOptions { max_new_tokens: 64, ..options() }, ..request(&[&long]) };
        assert_eq!(engine.predict(&request).unwrap().text, "Aha.");
    }
}

#[test]
fn an_answer_dropped_or_stopped_leaves_an_engine_that_answers() {
    // Longer than what is made ahead of its reader.
    let long = "So. ".repeat(100);
    let (engine, log) = engine(&["Hello world", &long]);
    for events in 0..5 {
        let mut answer = engine.stream(&request(&["One"])).unwrap();
        answer.by_ref().take(events).for_each(|event| drop(event.unwrap()));
    }
    assert_eq!(answer(&engine, &["One"]), "Hello world");
    fed(&log);
    let more = GenerateOptions { max_new_tokens: 500, ..options() };
    let more = Request { options: more, ..request(&["One", "Hello world", "Two"]) };
    let mut stopped = engine.stream(&more).unwrap();
    stopped.stopper().stop();
    let Some(Ok(Event::Done(output))) = stopped.find(|event| matches!(event, Ok(Event::Done(_)))) else { panic!() };
    assert_eq!(output.finish, Finish::Cancelled);
    assert!(stopped.is_ended() && stopped.next().is_none() && stopped.poll().is_none());
    assert_eq!(engine.predict(&more).unwrap().text, long);
}

#[test]
fn an_answer_that_fails_leaves_an_engine_that_answers() {
    let (mut fake, log) = Fake::new(limits(), parrot(vec![tokens("Aha."), tokens("So.")]));
    let mut left = 0;
    fake.faults = Box::new(move |fed| {
        left += usize::from(fed.concat().ends_with(&tokens("Two<|im_end|>\n<|im_start|>assistant\n")));
        (left == 1).then(|| {
            left += 1;
            Fault::Error
        })
    });
    let engine = LocalEngine::new(&fake.model(template(CHATML)), ChatOptions::default()).unwrap();
    answer(&engine, &["One"]);
    assert!(matches!(engine.predict(&request(&["One", "Aha.", "Two"])), Err(Error::Step(_))));
    fed(&log);
    assert_eq!(answer(&engine, &["One", "Aha.", "Two"]), "So.");
    assert_eq!(fed(&log), [tokens("<|im_end|>\n"), user("Two"), bytes("So.")].concat());
    let long = "x".repeat(2000);
    assert!(matches!(engine.predict(&request(&[&long])), Err(Error::ContextFull { .. })));
    assert!(matches!(engine.predict(&request(&[])), Err(Error::NoMessage)));
    assert_eq!(answer(&engine, &["One", "Aha.", "Two"]), "So.");
}

#[test]
fn requests_that_cannot_be_answered_push_nothing_out() {
    let (engine, log) = engine(&["Aha.", "So."]);
    answer(&engine, &["One"]);
    fed(&log);
    let long = "x".repeat(2000);
    let also = GenerateOptions { max_new_tokens: 0, ..options() };
    for _ in 0..6 {
        assert!(matches!(engine.predict(&request(&[&long])), Err(Error::ContextFull { .. })));
        assert!(matches!(engine.predict(&request(&["One", "Aha.", &long])), Err(Error::ContextFull { .. })));
        assert!(engine.predict(&Request { options: also.clone(), ..request(&["One", "Else"]) }).is_err());
    }
    assert_eq!(engine.kept(), 1);
    assert_eq!(answer(&engine, &["One", "Aha.", "Two"]), "So.");
    assert_eq!(fed(&log), [tokens("<|im_end|>\n"), user("Two"), bytes("So.")].concat());
}

#[test]
fn several_threads_ask_at_once() {
    let (engine, _) = engine(&["Hello world"]);
    std::thread::scope(|scope| {
        for name in ["a", "b", "c", "d", "e", "f"] {
            let engine = &engine;
            scope.spawn(move || (0..8).for_each(|_| assert_eq!(answer(engine, &[name]), "Hello world")));
        }
    });
    assert!(engine.kept() <= 4);
}

#[test]
fn any_order_of_requests_reads_the_right_rows() {
    let (engine, _) = engine(&["Aha.", "So.", "Hm.", "Oh."]);
    let mut seed = 7_u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    for _ in 0..400 {
        let turns = 1 + random(3);
        let mut said = Vec::new();
        for turn in 0..turns {
            said.push(["One", "Two", "One more"][random(3)]);
            if turn + 1 < turns {
                said.push(["Aha.", "So.", "made up"][random(3)]);
            }
        }
        let mut answer = engine.stream(&request(&said)).unwrap();
        match random(4) {
            0 => drop(answer.next()),
            1 => answer.stopper().stop(),
            _ => answer.for_each(|event| drop(event.unwrap())),
        }
    }
}
