//! Calls and results where a reply ends: limits, stops, the context.

use crate::common::*;
use crate::finding::owned;
use crate::setup::*;
use nano_runtime::{BotFunction, Finish, GenerateOptions, Limits};
use std::time::{Duration, Instant};

fn at_most(max_new_tokens: usize) -> GenerateOptions {
    GenerateOptions { max_new_tokens, ..options() }
}

fn stop(text: &str) -> GenerateOptions {
    GenerateOptions { stop: vec![text.into()], ..options() }
}

#[test]
fn a_call_that_the_length_cuts_does_not_fire() {
    for (reply, max) in [("time() ok", 5), ("time(", 9), ("add(1, 2) ok", 8), ("time(", 5)] {
        let mut bot = Bot::new(&[reply, "ok"]);
        let heard = bot.ask("go", &at_most(max)).unwrap();
        assert_eq!((heard.text(), bot.made().len()), (&reply[..max.min(reply.len())], 0), "{reply}");
        // Nor does it in the next reply.
        assert_eq!((bot.say("more").text(), bot.made().len()), ("ok", 0));
    }
}

#[test]
fn a_call_completed_by_the_last_token_fires_and_splices_nothing() {
    for (prefix, reply, max) in
        [("", "time() ok", 6), ("", "⟨time() ok⟩", 1), ("So: ", "time() ok", 6), ("ünd ", "⟨time()⟩", 1)]
    {
        for picks in [false, true] {
            let mut bot = Bot::with(&[&format!("{prefix}{reply}"), "ok"], |fake| fake.picks = picks, |set| set);
            let last = GenerateOptions { reply_prefix: prefix.into(), ..at_most(max) };
            let heard = bot.ask("go", &last).unwrap();
            assert_eq!((heard.output.finish, bot.made()), (Finish::Length, owned(&["time()"])), "{prefix}|{reply}");
            assert!(heard.text().starts_with(&format!("{prefix}time()")));
            assert_eq!((heard.events.last().unwrap().as_str(), heard.output.tokens.len()), ("<time>", max));
            let stats = heard.output.stats;
            assert_eq!((stats.function_calls, stats.spliced_tokens), (1, 0));
            assert_eq!(bot.say("more").text(), "ok");
        }
    }
}

#[test]
fn a_result_that_is_longer_than_what_is_left_is_cut_at_the_limit() {
    for (max, text) in [(7, "time() "), (9, "time() 12"), (12, "time() 12:00"), (13, "time() 12:00,")] {
        let mut bot = Bot::new(&["time()⟦ 12:00⟧, ok", "ok"]);
        let heard = bot.ask("go", &at_most(max)).unwrap();
        assert_eq!((heard.text(), heard.output.finish), (text, Finish::Length));
        let stats = heard.output.stats;
        assert_eq!((stats.output_tokens, stats.spliced_tokens), (max, (max - 6).min(6)));
        bot.fed();
        bot.say("more");
        let last = format!(
            "{}<|im_end|>\n<|im_start|>user\nmore<|im_end|>\n<|im_start|>assistant\nok",
            &text[text.len() - 1..]
        );
        let fed = bot.fed();
        assert!(fed.ends_with(&tokens(&last)), "the conversation goes on: {fed:?}");
    }
}

#[test]
fn a_call_that_a_stop_string_cuts_does_not_fire() {
    for (reply, stop_at, text) in [
        ("time() ok", "()", "time"),
        ("time() ok", "time", ""),
        ("so ⟨time()⟩ ok", ")", "so time("),
        ("⟨###time()⟩", "###", ""),
        ("⟨time()step()⟩", "()st", "time"),
    ] {
        let mut bot = Bot::new(&[reply]);
        let heard = bot.ask("go", &stop(stop_at)).unwrap();
        assert_eq!((heard.text(), heard.output.finish, bot.made().len()), (text, Finish::Stop, 0), "{reply}");
    }
}

#[test]
fn a_call_before_a_stop_in_the_same_token_fires_and_splices_nothing() {
    for (prefix, reply, stop_at, text, calls) in [
        ("", "⟨time()###⟩", "###", "time()", &["time()"][..]),
        ("So ", "⟨time()###⟩", "###", "So time()", &["time()"]),
        ("", "⟨time()step()⟩", "ep", "time()st", &["time()"]),
        ("", "time()⟦ 12:00⟧", "step", "time() 12:00", &["time()"]),
        ("", "time()⟦ 12:00⟧, ok", ":", "time() 12", &["time()"]),
    ] {
        let mut bot = Bot::new(&[&format!("{prefix}{reply}"), "ok"]);
        let cut = GenerateOptions { reply_prefix: prefix.into(), ..stop(stop_at) };
        let heard = bot.ask("go", &cut).unwrap();
        assert_eq!((heard.text(), bot.made()), (text, owned(calls)), "{prefix}|{reply}");
        assert_eq!(heard.output.finish, Finish::Stop);
        assert_eq!(bot.say("more").text(), "ok");
    }
}

#[test]
fn a_stop_string_in_a_result_ends_the_reply_there() {
    let both = BotFunction::closure("both", "", [], || "one###two");
    let add = |set: nano_runtime::BotFunctions| set.with([both.clone()]).unwrap();
    for picks in [false, true] {
        let mut bot = Bot::with(&["both()⟦ one⟧###", "ok"], |fake| fake.picks = picks, add);
        let heard = bot.ask("go", &stop("###")).unwrap();
        assert_eq!((heard.text(), heard.output.finish), ("both() one", Finish::Stop));
        assert_eq!(heard.events, ["both()", "<both>", " one"]);
        assert_eq!(heard.output.stop_token, None);
        bot.fed();
        // What stands is the conversation's.
        bot.say("more");
        let next = ") one<|im_end|>\n<|im_start|>user\nmore<|im_end|>\n<|im_start|>assistant\nok";
        assert!(bot.fed().starts_with(&tokens(next)));
    }
    // The second call of the token was written before: it fires, and its result is not wanted.
    let mut bot = Bot::with(&["⟨time()step()⟩"], |_| (), |set| set);
    let heard = bot.ask("go", &stop("2:")).unwrap();
    assert_eq!((heard.text(), bot.made()), ("time()step() 1", owned(&["time()", "step()"])));
}

#[test]
fn a_stop_string_may_begin_before_a_result() {
    // What may belong to one is held back, and shown when it does not.
    let mut bot = Bot::new(&["time()⟦ 12:00⟧."]);
    let heard = bot.ask("go", &stop(") 13")).unwrap();
    assert_eq!((heard.text(), bot.made().len()), ("time() 12:00.", 1));
    let mut bot = Bot::new(&["time()⟦ 12:00⟧."]);
    let heard = bot.ask("go", &stop(") 12")).unwrap();
    assert_eq!((heard.text(), heard.output.finish, bot.made().len()), ("time(", Finish::Stop, 1));
}

#[test]
fn a_stop_token_may_follow_a_call_at_once() {
    let mut bot = Bot::new(&["⟨time()⟩⟦ 12:00⟧", " step()"]);
    let heard = bot.say("go");
    assert_eq!((heard.text(), heard.output.finish, heard.output.stop_token), ("time() 12:00", Finish::Stop, Some(END)));
    let heard = bot.say("go");
    assert_eq!((heard.text(), heard.output.stop_token, bot.made().len()), (" step()", Some(END), 2));
}

#[test]
fn the_context_may_end_in_a_result() {
    let prompt = tokens("<|im_start|>user\ngo<|im_end|>\n<|im_start|>assistant\n").len();
    // Room for what is said, and so much less or more for the result of six tokens.
    for (room, finish, text) in [
        (0, Finish::Context, "time() 12:00"),
        (3, Finish::Context, "time() 12:00"),
        (5, Finish::Context, "time() 12:00"),
        (6, Finish::Context, "time() 12:00,"),
        (8, Finish::Context, "time() 12:00, o"),
        (10, Finish::Stop, "time() 12:00, ok"),
    ] {
        for picks in [false, true] {
            let context = prompt + 6 + room;
            let small = Limits { context, ..limits() };
            let runner = |fake: &mut Fake| (fake.picks, fake.limits) = (picks, small);
            let mut bot = Bot::with(&["time()⟦ 12:00⟧, ok"], runner, |set| set);
            let heard = bot.ask("go", &at_most(100)).unwrap();
            assert_eq!((heard.text(), heard.output.finish), (text, finish), "{room}");
            assert!(bot.chat.num_rows() <= context && bot.made().len() == 1);
            assert_eq!(bot.chat.num_rows() + bot.chat.num_pending(), bot.chat.num_tokens());
            // The conversation goes on: the exchange is dropped for the next one.
            let heard = bot.ask("go", &at_most(100));
            let overflow = heard.map(|_| ()).map_err(|error| error.to_string());
            assert!(overflow.is_ok() || room > 100, "{overflow:?}");
        }
    }
    // A function that returns nothing, in the last place.
    let small = Limits { context: prompt + 6, ..limits() };
    let mut bot = Bot::with(&[" step()⟦⟧, ok"], |fake| fake.limits = small, |set| set);
    let heard = bot.ask("go", &at_most(100)).unwrap();
    assert_eq!((heard.output.finish, bot.made().len()), (Finish::Context, 1));
}

/// Waiting for a function is no time of decoding, and takes none of it away.
#[test]
fn the_time_of_a_call_is_told_apart_from_that_of_decoding() {
    let pause = Duration::from_millis(30);
    for (reply, max) in [("abcd time() ok", 11), ("time()⟦ 12:00⟧ab", 100), ("abcd time()⟦ 12:00⟧", 13)] {
        let slow = BotFunction::closure("time", "", [], move || {
            std::thread::sleep(pause);
            "12:00"
        });
        let runner = |fake: &mut Fake| fake.before = Box::new(|| std::thread::sleep(Duration::from_millis(2)));
        let mut bot = Bot::with(&[reply], runner, |_| nano_runtime::BotFunctions::new([slow]).unwrap());
        let start = Instant::now();
        let heard = bot.ask("go", &at_most(max)).unwrap();
        let (stats, all) = (heard.output.stats, start.elapsed().as_secs_f64());
        assert!(stats.prefill_time + stats.decode_time + stats.function_time <= all, "{reply}: {stats:?} in {all}");
        // Two steps at least were made after the first token.
        assert!(stats.function_time >= pause.as_secs_f64() && stats.decode_time >= 0.004, "{reply}: {stats:?}");
    }
}
