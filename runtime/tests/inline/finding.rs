//! What is a call, wherever tokens cut it, and that it fires once.

use crate::common::*;
use crate::setup::*;
use nano_runtime::{GenerateOptions, Message};

/// Says one reply; gives the events and the calls made.
fn hear(reply: &str) -> (Vec<String>, Vec<String>) {
    let mut bot = Bot::new(&[reply]);
    let heard = bot.say("go");
    assert_eq!((heard.text(), heard.output.stats.function_calls), (&*shown(reply), heard.reports.len()), "{reply}");
    assert_eq!(heard.output.tokens, [spoken(reply), vec![END]].concat(), "{reply}");
    (heard.events, bot.made())
}

#[test]
fn a_call_fires_however_tokens_cut_it_and_its_result_follows_the_whole_token() {
    for (reply, events, calls) in [
        ("It is ⟨time()⟩⟦ 12:00⟧, ok", &["It is time()", "<time>", " 12:00, ok"][..], &["time()"][..]),
        ("It is time()⟦ 12:00⟧, ok", &["It is time()", "<time>", " 12:00, ok"], &["time()"]),
        ("⟨time() ok⟩⟦ 12:00⟧!", &["time() ok", "<time>", " 12:00!"], &["time()"]),
        ("⟨time()step()⟩⟦ 12:00⟧.", &["time()step()", "<time>", " 12:00", "<step>", "."], &["time()", "step()"]),
        (
            "time()⟦ 12:00⟧,time()⟦ 12:00⟧",
            &["time()", "<time>", " 12:00,time()", "<time>", " 12:00"],
            &["time()", "time()"],
        ),
        ("say('(:) [')⟦ (:) [⟧", &["say('(:) [')", "<say>", " (:) ["], &["say((:) [)"]),
        ("say(\"a\\\")b\")⟦ a\")b⟧.", &["say(\"a\\\")b\")", "<say>", " a\")b."], &["say(a\")b)"]),
        ("add(\n  a = 40,\n\n  b=2,\n)⟦ 42⟧", &["add(\n  a = 40,\n\n  b=2,\n)", "<add>", " 42"], &["add(40, 2)"]),
        (
            "⟨add(1, 2)⟩⟦ 3⟧ and ⟨add(1, 2)⟩⟦ 3⟧",
            &["add(1, 2)", "<add>", " 3 and add(1, 2)", "<add>", " 3"],
            &["add(1, 2)", "add(1, 2)"],
        ),
    ] {
        assert_eq!(hear(reply), (owned(events), owned(calls)), "{reply}");
    }
}

#[test]
fn a_function_that_returns_nothing_runs_once_and_splices_nothing() {
    // Many tokens follow it, the first within two characters of the call.
    let (events, calls) = hear("step()..,, and⟨ step()⟩ on and on");
    assert_eq!(events, ["step()", "<step>", "..,, and step()", "<step>", " on and on"]);
    assert_eq!(calls, ["step()", "step()"]);
}

#[test]
fn a_token_may_close_one_call_and_open_the_next() {
    // What a result comes between is no call; after a function that returns nothing, it is one.
    let reply = "say('a'⟨) and add(⟩⟦ a⟧1, 2)";
    assert_eq!(hear(reply).1, ["say(a)"]);
    let reply = "step(⟨) and add(⟩1, 2)⟦ 3⟧";
    assert_eq!(hear(reply).1, ["step()", "add(1, 2)"]);
}

#[test]
fn what_is_no_whole_name_with_its_parenthesis_is_text() {
    for reply in ["Xtime()", "X⟨time()⟩", "_time()", "étime()", "time ()", "time(", "time", "Time()", "times()"] {
        let (events, calls) = hear(reply);
        assert_eq!((events, calls), (vec![shown(reply)], vec![]), "{reply}");
    }
    for reply in [".time()⟦ 12:00⟧", "(⟨time()⟩⟦ 12:00⟧", "é ⟨time()⟩⟦ 12:00⟧", "`time()⟦ 12:00⟧`"]
    {
        assert_eq!(hear(reply).1, ["time()"], "{reply}");
    }
}

#[test]
fn a_result_ends_a_word_and_calls_nothing() {
    // The result would be a call, would begin one, and would be the first half of a name.
    assert_eq!(hear("say('time()')⟦ time()⟧ no").1, ["say(time())"]);
    assert_eq!(hear("say('step(')⟦ step(⟧) no").1, ["say(step()"]);
    assert_eq!(hear("say('ti')⟦ ti⟧me() no").1, ["say(ti)"]);
    // A name right behind a word is no name, whoever wrote the word.
    assert_eq!(hear("say('X')⟦ X⟧time() no").1, ["say(X)"]);
}

#[test]
fn the_users_text_the_system_prompt_and_earlier_messages_call_nothing() {
    let mut bot = Bot::new(&["ok", "fine"]);
    bot.chat.set_system_prompt(Some("time() step()".into()));
    bot.say("please time() and step()");
    bot.chat.append_message(Message::assistant("time()"));
    bot.say("time(");
    assert_eq!(bot.made(), [] as [&str; 0]);
}

#[test]
fn a_reply_prefix_calls_nothing_but_is_seen_by_what_follows_it() {
    for (prefix, reply, calls) in [
        ("time()", ", ok", &[][..]),
        ("time(", ") ok", &[]),
        ("ti", "me() ok", &[]),
        ("X", "time() ok", &[]),
        ("Now ", "time()⟦ 12:00⟧ ok", &["time()"]),
        ("time() ", "time()⟦ 12:00⟧ ok", &["time()"]),
    ] {
        let mut bot = Bot::new(&[&format!("{prefix}{reply}")]);
        let heard = bot.ask("go", &GenerateOptions { reply_prefix: prefix.into(), ..options() }).unwrap();
        assert_eq!(
            (bot.made(), heard.text()),
            (owned(calls), &*format!("{prefix}{}", shown(reply))),
            "{prefix}|{reply}"
        );
    }
}

#[test]
fn characters_cut_over_tokens_around_a_call_stay_whole() {
    let cut = |text: &str| text.replace(['⟦', '⟧'], "");
    for reply in ["é🙂time()⟦ 12:00⟧🙂é", "say('🙂')⟦ 🙂⟧é", "say('é)')⟦ é)⟧é"] {
        // Every byte is a token.
        let (events, calls) = hear(reply);
        assert_eq!((events.concat().replace("<time>", "").replace("<say>", ""), calls.len()), (cut(reply), 1));
    }
    // The token that completes the call holds the first byte of a character whose second byte never comes, for the
    // result is in between: it is shown as broken, and the result is whole.
    let said = [bytes("time("), vec![CUT], bytes("??????"), vec![0xA9], bytes("!")].concat();
    let mut bot = Bot::with(&[], |fake| fake.script = Box::new(parrot(vec![said])), |set| set);
    let heard = bot.say("go");
    assert_eq!((heard.text(), bot.made()), ("time()\u{FFFD} 12:00\u{FFFD}!", owned(&["time()"])));
    assert_eq!(heard.events[..2], ["time()", "<time>"]);
    // A function that returns nothing does not part them.
    let said = [bytes("step("), vec![CUT], vec![0xA9], bytes("!")].concat();
    let mut bot = Bot::with(&[], |fake| fake.script = Box::new(parrot(vec![said])), |set| set);
    assert_eq!((bot.say("go").text(), bot.made()), ("step()é!", owned(&["step()"])));
}

#[test]
fn wrong_arguments_are_told_in_the_text() {
    for (call, why) in [
        ("add(1, x)", "add: a literal"),
        ("add(1)", "add: the argument \"b\" is missing"),
        ("add(1, 2, 3)", "add: it takes 2 arguments"),
        ("add(a=1, c=2)", "c"),
        ("say([[)])", "say: "),
        ("time(1)", "time: it takes no arguments"),
    ] {
        let (fake, _) = Fake::new(limits(), parrot(vec![bytes(call)]));
        let (functions, calls) = functions();
        let mut chat = open(&fake.model(template(CHATML)), functions);
        chat.user("go");
        let heard = listen(chat.reply(&options()).unwrap()).unwrap();
        let Some(report) = heard.reports.first() else {
            assert_eq!(call, "say([[)])", "a bracket that is open keeps a call open");
            continue;
        };
        let error = report.result.as_ref().unwrap_err();
        assert!(error.starts_with(why) || error.contains(why), "{call}: {error}");
        assert!(report.arguments.is_empty() && made(&calls).is_empty(), "{call}");
        assert!(heard.text().starts_with(&format!("{call} (error: {error})")), "{call}: {}", heard.text());
    }
}

pub fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}
