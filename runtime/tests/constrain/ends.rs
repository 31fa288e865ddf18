//! How replies under a constraint end, and what goes on after them.

use crate::common::*;
use crate::*;
use nano_runtime::{BotFunction, BotFunctions, ChatOptions, Event, Finish};

#[test]
fn a_complete_reply_ends_by_itself() {
    let (model, log) = wishes("yesyes");
    let output = model.generate(tokens("x"), model.cache(), &regex("yes")).wait().unwrap();
    assert_eq!((output.text.as_str(), output.finish, output.stop_token), ("yes", Finish::Stop, None));
    assert_eq!((output.tokens, output.pending), (bytes("yes"), bytes("s")));
    assert_eq!(log.lock().unwrap().rows(), 3, "nothing is fed to learn that it is complete");
    assert!(output.stats.mask_time >= output.stats.worst_mask_time && output.stats.worst_mask_time > 0.0);
    let free = model.generate(tokens("x"), model.cache(), &GenerateOptions { max_new_tokens: 3, ..options() });
    assert_eq!(free.wait().unwrap().stats.mask_time, 0.0);
}

#[test]
fn a_stop_token_comes_where_the_text_may_end_and_nowhere_else() {
    for (wish, said) in [("", "a"), ("aa", "aa"), ("aaaa", "aaaa"), ("ab", "a")] {
        let output = written(wish, &regex("a+b*c?")).unwrap();
        let stop = output.stop_token;
        assert!(output.text.starts_with(said), "{wish}: {}", output.text);
        assert!(stop == Some(EOS) || output.text.ends_with('c'), "{wish}: {stop:?} {}", output.text);
    }
    let output = written("a</s>a", &regex("aaa")).unwrap();
    assert_eq!((output.text.as_str(), output.stop_token), ("aaa", None));
    // One that the options name.
    let stop = GenerateOptions { stop: vec!["<|im_start|>".into()], ..regex("a{2,9}") };
    let output = written("a<|im_start|>a<|im_start|>", &stop).unwrap();
    assert_eq!((output.text.as_str(), output.stop_token), ("aaa", Some(START)));
    // One that the grammar names ends the reply there.
    let output = written("zzz", &grammar("start: \"a\" <|im_end|> \"b\"")).unwrap();
    assert_eq!((output.text.as_str(), output.stop_token, output.finish), ("a", Some(END), Finish::Stop));
}

#[test]
fn limits_and_stop_strings_keep_their_meaning() {
    let cut = |max_new_tokens| GenerateOptions { max_new_tokens, ..regex("[a-c]{3}") };
    let output = written("abc", &cut(2)).unwrap();
    assert_eq!((output.text.as_str(), output.finish), ("ab", Finish::Length));
    let output = written("abc", &cut(3)).unwrap();
    assert_eq!((output.text.as_str(), output.finish), ("abc", Finish::Stop), "what is complete was not cut");
    let output = written("ab##c", &GenerateOptions { stop: vec!["##".into()], ..regex("[a-c#]{3,9}") }).unwrap();
    assert_eq!((output.text.as_str(), output.finish), ("ab", Finish::Stop));
    // Until the minimum is reached, a reply does not end where it may, but it ends where it must.
    let least = |min_new_tokens, pattern| GenerateOptions { min_new_tokens, max_new_tokens: 20, ..regex(pattern) };
    assert_eq!(text("ab", &least(5, "[a-c]*")), "abaaa");
    let output = written("ab", &least(5, "[a-c]{3}")).unwrap();
    assert_eq!((output.text.as_str(), output.finish), ("aba", Finish::Stop));
    let endless = GenerateOptions { ignore_eos: true, max_new_tokens: 6, ..regex("[a-c]*") };
    assert_eq!(written("ab", &endless).unwrap().finish, Finish::Length);
    assert_eq!(text("ab", &GenerateOptions { ignore_eos: true, ..regex("[a-c]{4}") }), "abaa");
    let named = GenerateOptions { min_new_tokens: 9, max_new_tokens: 20, ..grammar("start: \"a\" <|im_end|>") };
    let output = written("zz", &named).unwrap();
    assert_eq!((output.text.as_str(), output.finish), ("a", Finish::Stop));
}

#[test]
fn a_conversation_goes_on_after_a_reply_that_no_token_ended() {
    let (fake, log) = Fake::new(limits(), parrot(vec![tokens("maybe"), tokens("fine")]));
    let mut chat = fake.model(template(CHATML)).chat(ChatOptions::default()).unwrap();
    chat.user("well?");
    let first =
        chat.reply(&GenerateOptions { reply_prefix: "I say ".into(), ..regex("yes|no") }).unwrap().wait().unwrap();
    assert_eq!(first.text, "I say no", "the prefix need not fit");
    chat.user("good");
    let second = chat.reply(&options()).unwrap().wait().unwrap();
    assert_eq!(second.text, "fine");
    let said = "<|im_start|>user\nwell?<|im_end|>\n<|im_start|>assistant\nI say no<|im_end|>\n\
                <|im_start|>user\ngood<|im_end|>\n<|im_start|>assistant\nfine";
    assert_eq!(log.lock().unwrap().fed(), tokens(said), "and nothing is fed twice");
}

fn clock() -> BotFunctions {
    BotFunctions::new([BotFunction::closure("time", "The time.", [], || "12:00")]).unwrap()
}

#[test]
fn results_of_calls_are_not_the_constraints_business() {
    for (pattern, text, tokens) in [
        (r"It is time\(\)!", "It is time() 12:00!", 19),
        // The call completes the reply; its result belongs to it.
        (r"It is time\(\)", "It is time() 12:00", 18),
        (r"time\(\)[,;]time\(\)b", "time() 12:00,time() 12:00b", 26),
    ] {
        let (model, log) = wishes("zzz");
        let options = GenerateOptions { functions: clock(), ..regex(pattern) };
        let mut calls = 0;
        for event in model.generate(bytes("x"), model.cache(), &options) {
            match event.unwrap() {
                Event::Call(_) => calls += 1,
                Event::Done(output) => {
                    assert_eq!((output.text.as_str(), output.finish), (text, Finish::Stop), "{pattern}");
                    assert_eq!((output.tokens.len(), output.stats.function_calls), (tokens, calls));
                    // What ends a reply is not fed.
                    assert_eq!(output.pending.len(), if pattern.ends_with(')') { 7 } else { 1 });
                    let mut all = log.lock().unwrap().fed();
                    all.extend(output.pending);
                    assert_eq!(all, bytes(&format!("x{text}")));
                }
                _ => {}
            }
        }
        assert_eq!(calls, pattern.matches("time").count());
    }
    // What the constraint does not let the model write is not called.
    let options = GenerateOptions { functions: clock(), ..regex("[a-z ]{5}") };
    let output = written("time()", &options).unwrap();
    assert_eq!(output.stats.function_calls, 0);
}

#[test]
fn a_reply_can_be_stopped_and_its_model_dropped() {
    let (fake, gate) = gated(Fake::new(limits(), says(1, bytes("aaaaaaaa"))).0);
    let model = fake.model(None);
    let run = model.generate(bytes("x"), model.cache(), &regex("a*"));
    drop(model);
    gate.reached();
    run.stop();
    gate.open();
    assert_eq!(run.wait().unwrap().finish, Finish::Cancelled);
}
