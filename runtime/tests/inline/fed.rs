//! What is fed around a call: the token that completes it and the result in one step, and nothing twice.

use crate::common::*;
use crate::finding::owned;
use crate::setup::*;
use nano_runtime::{Finish, GenerateOptions, Sampling};
use std::sync::Arc;
use std::sync::atomic::Ordering;

const TURN: &str = "<|im_start|>user\ngo<|im_end|>\n<|im_start|>assistant\n";

#[test]
fn the_token_that_completes_a_call_and_its_result_are_one_step() {
    for picks in [false, true] {
        let mut bot = Bot::with(&["-⟨time() ok⟩⟦ 12:00⟧b⟨ step()⟩c"], |fake| fake.picks = picks, |set| set);
        bot.say("go");
        let log = bot.log.lock().unwrap();
        let mut steps: Vec<(Vec<u32>, usize)> = log.steps.iter().map(|s| (s.fed.concat(), s.logits)).collect();
        // A row that was fed ahead and is void is fed again with what follows it.
        let void = |token: u32| (vec![token], 1);
        if picks {
            for token in [word("time() ok"), word(" step()")] {
                let at = steps.iter().position(|step| *step == void(token));
                steps.remove(at.expect("the machine ran ahead"));
            }
        }
        let prompt = tokens(TURN).len();
        let (first, rest) = steps.split_at(prompt.div_ceil(limits().rows));
        assert_eq!(first.iter().map(|(fed, _)| fed.len()).sum::<usize>(), prompt);
        let expected = [
            bytes("-"),
            [vec![word("time() ok")], bytes(" 12:00")].concat(),
            bytes("b"),
            vec![word(" step()")],
            bytes("c"),
        ];
        let mut expected: Vec<(Vec<u32>, usize)> = expected.into_iter().map(|fed| (fed, 1)).collect();
        if picks {
            // The stop token, which is never a row of the conversation.
            expected.push(void(END));
            steps_end_with_what_is_void(&mut expected, rest.len());
        }
        assert_eq!(rest, expected, "{picks}");
    }
}

/// The machine may or may not have run ahead of the last token.
fn steps_end_with_what_is_void(expected: &mut Vec<(Vec<u32>, usize)>, found: usize) {
    expected.truncate(found.max(expected.len() - 1));
}

#[test]
fn a_result_stays_in_the_cache_and_nothing_is_fed_twice() {
    let first = "It is ⟨time()⟩⟦ 12:00⟧, and ⟨add(1, 2)⟩⟦ 3⟧";
    let mut bot = Bot::new(&[first, "time()⟦ 12:00⟧"]);
    bot.say("go");
    let all = [tokens(TURN), spoken(first)].concat();
    assert_eq!(bot.fed(), all);
    assert_eq!(
        (bot.chat.num_rows(), bot.chat.message_tokens(1)),
        (all.len(), [tokens("<|im_start|>assistant\n"), spoken(first), vec![END]].concat())
    );
    let heard = bot.say("go");
    let next = [tokens("<|im_end|>\n"), tokens(TURN), spoken("time()⟦ 12:00⟧")].concat();
    assert_eq!(bot.fed(), next);
    assert_eq!(heard.output.stats.reused_tokens, all.len());
}

#[test]
fn a_result_that_fills_several_steps_is_fed_whole_before_the_next_token() {
    let long = "x".repeat(150);
    let reply = format!("say('{long}')⟦ {long}⟧ok");
    let mut bot = Bot::with(&[&reply, "ok"], |_| (), |set| set);
    let heard = bot.ask("go", &GenerateOptions { max_new_tokens: 1000, ..options() }).unwrap();
    assert_eq!((heard.text(), heard.output.finish), (&*shown(&reply), Finish::Stop));
    assert_eq!(bot.fed(), [tokens(TURN), spoken(&reply)].concat());
    assert_eq!(bot.say("go").text(), "ok");
}

#[test]
fn a_machine_that_runs_ahead_gives_the_same() {
    let replies = [
        "⟨time()⟩⟦ 12:00⟧ and add(1, 2)⟦ 3⟧",
        "abc",
        "⟨ step()⟩⟨ step()⟩",
        "⟨time()step()⟩⟦ 12:00⟧x",
        "fail()⟦ (error: fail: no signal)⟧",
    ];
    let run = |picks: bool| {
        let mut ahead = Arc::default();
        let runner = |fake: &mut Fake| {
            ahead = Arc::clone(&fake.ahead);
            fake.picks = picks;
        };
        let mut bot = Bot::with(&replies, runner, |set| set);
        let mut seen = Vec::new();
        for turn in 0..replies.len() {
            let heard = bot.ask("go", &GenerateOptions { max_new_tokens: 60 - turn, ..options() }).unwrap();
            let stats = heard.output.stats;
            seen.push((
                heard.events,
                heard.output.tokens,
                stats.spliced_tokens,
                stats.input_tokens,
                bot.chat.num_rows(),
            ));
        }
        (seen, bot.made(), ahead.load(Ordering::Relaxed))
    };
    let ((plain, made, none), (picked, made_too, ahead)) = (run(false), run(true));
    assert_eq!((plain, made), (picked, made_too));
    assert!(none == 0 && ahead > 20, "{ahead}");
}

#[test]
fn no_conversation_is_needed() {
    let (functions, calls) = functions();
    let (fake, log) = Fake::new(limits(), says(3, script("⟨time()⟩⟦ 12:00⟧, time()⟦ 12:00⟧")));
    let model = fake.model(None);
    let with = GenerateOptions { functions, ..options() };
    // What is asked calls nothing, but is seen by what follows it.
    let heard = listen(model.generate(bytes("abc"), model.cache(), &with)).unwrap();
    assert_eq!((heard.text(), made(&calls)), ("time() 12:00, time() 12:00", owned(&["time()", "time()"])));
    let tokens = spoken("⟨time()⟩⟦ 12:00⟧, time()⟦ 12:00⟧");
    assert_eq!(heard.output.cache.tokens(), [bytes("abc"), tokens].concat());
    assert_eq!((log.lock().unwrap().fed(), &heard.output.pending), (heard.output.cache.tokens().to_vec(), &vec![EOS]));
    // Without functions nothing is called.
    let heard = listen(model.complete("abc", &options()).unwrap()).unwrap();
    assert!(heard.reports.is_empty() && made(&calls).is_empty());
    let heard = listen(
        model
            .complete(
                "abc",
                &GenerateOptions {
                    seed: Some(1),
                    sampling: Some(Sampling { temperature: 0.0, ..Sampling::default() }),
                    ..with
                },
            )
            .unwrap(),
    )
    .unwrap();
    assert_eq!((heard.reports.len(), heard.output.stats.spliced_tokens), (2, 12));
}

#[test]
fn the_functions_of_a_request_come_in_place_of_the_conversations() {
    let mut bot = Bot::new(&["time() other()⟦ yes⟧", "time()⟦ 12:00⟧ other()"]);
    let other = nano_runtime::BotFunction::closure("other", "", [], || "yes");
    let functions = nano_runtime::BotFunctions::new([other]).unwrap();
    let heard = bot.ask("go", &GenerateOptions { functions, ..options() }).unwrap();
    assert_eq!((heard.text(), bot.made().len()), ("time() other() yes", 0));
    assert_eq!(bot.say("go").text(), "time() 12:00 other()");
}
