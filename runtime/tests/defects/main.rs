//! What NanoLLM gets wrong, D1 to D24 of the list that this project keeps: what concerns conversations and generations
//! has its test here, under its number. The others:
//!
//! | number | what | tests |
//! |---|---|---|
//! | D5 | slash commands, the end of input, bare `reset` | `d05_…` in cli/tests/cli/defects.rs |
//! | D6 | templates from JSON files | `d06_…` in cli/tests/cli/defects.rs; `wrong_nanollm_files_name_the_file_and_the_key` in templates/tests/nanollm.rs |
//! | D7 | which template a model gets | `marks_in_the_vocabulary_come_before_the_name`, `what_nanollms_table_picked_wrongly` in templates/tests/choose.rs |
//! | D17 | a context of any size, weights without a copy, a plan before loading | `d17_…` in cli/tests/cli/defects.rs; `the_plan_comes_before_anything_is_loaded`, `the_context_gives_way_to_memory_and_says_so` in runtime/tests/open.rs |
//! | D19 | prompts that are lost, or taken for images | `d19_…` in cli/tests/cli/defects.rs |
//! | D21 | inputs that are changed, names that are empty | `d21_…` here; `a_gguf_is_downloaded_once_into_the_standard_layout` in models/tests/hub.rs |
//! | D23 | sets of functions that do not do what they say | `names_are_checked`, `equal_is_what_is_the_same` in runtime/src/functions/set_tests.rs |

#[path = "../common/mod.rs"]
mod common;
mod later;

use common::*;
use nano_models::testing::Parrot;
use nano_runtime::{
    BotFunction, BotFunctions, ChatHistory, ChatOptions, Error, Event, Finish, GenerateOptions, Limits, ModelOptions,
    NanoModel, Output, Overflow, Removal, Result, Sampling, Session, Template,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn chat_with(limits: Limits, replies: &[&str], system: Option<&str>) -> (ChatHistory, Shared) {
    let (fake, log) = Fake::new(limits, parrot(replies.iter().map(|r| tokens(r)).collect()));
    (open(&fake.model(template(CHATML)), system), log)
}

fn chat(replies: &[&str]) -> (ChatHistory, Shared) {
    chat_with(limits(), replies, None)
}

fn open(model: &NanoModel, system: Option<&str>) -> ChatHistory {
    model.chat(ChatOptions { system_prompt: system.map(str::to_owned), ..ChatOptions::default() }).unwrap()
}

fn say(chat: &mut ChatHistory, text: &str) -> Output {
    ask(chat, text, &options()).unwrap()
}

fn ask(chat: &mut ChatHistory, text: &str, options: &GenerateOptions) -> Result<Output> {
    chat.user(text);
    chat.reply(options)?.wait()
}

/// The tokens fed since the last call.
fn fed(log: &Shared) -> Vec<u32> {
    let mut log = log.lock().unwrap();
    let fed = log.fed();
    log.steps.clear();
    fed
}

/// All tokens of a conversation, message by message.
fn all(chat: &ChatHistory) -> Vec<u32> {
    (0..chat.messages().len()).flat_map(|i| chat.message_tokens(i)).collect()
}

fn user(text: &str) -> Vec<u32> {
    [tokens("<|im_start|>user\n"), bytes(text), tokens("<|im_end|>\n<|im_start|>assistant\n")].concat()
}

fn read(stream: &mut impl Iterator<Item = Result<Event>>) -> String {
    let mut text = String::new();
    for event in stream {
        if let Event::Text(more) = event.unwrap() {
            text += &more;
        }
    }
    text
}

/// The page's loop: generate, read, append, again. Nothing is fed twice, and messages own all that is in the cache.
#[test]
fn d01_a_reply_enters_once_and_only_as_the_stream_that_it_is() {
    let (fake, log) = Fake::new(limits(), parrot(vec![bytes("ab"), bytes("cd"), bytes("ef")]));
    let model = fake.model(template(CHATML));
    let (mut chat, mut other) = (open(&model, None), open(&model, Some("another")));
    let mut expected = Vec::new();
    for (text, reply) in [("one", "ab"), ("two", "cd"), ("three", "ef")] {
        chat.user(text);
        let mut stream = chat.generate(&options()).unwrap();
        assert_eq!(read(&mut stream), reply);
        let message = chat.append_reply(stream).unwrap();
        assert_eq!((message.role.as_str(), message.content.text().as_str()), ("assistant", reply));
        let new = [expected.last().map_or(vec![], |_| tokens("<|im_end|>\n")), user(text), bytes(reply)].concat();
        assert_eq!(fed(&log), new);
        expected.extend(new);
        assert_eq!((all(&chat), chat.num_rows()), ([&expected[..], &[END]].concat(), expected.len()));
        assert_eq!(chat.num_rows() + chat.num_pending(), chat.num_tokens());
    }
    // A stream of another conversation, or of another turn, does not enter, even where the turns have equal numbers.
    other.user("one");
    other.generate(&options()).unwrap().stop();
    for _ in 0..2 {
        other.user("x");
        other.reply(&options()).unwrap().wait().unwrap();
    }
    chat.user("mine");
    other.user("yours");
    let (mine, yours) = (chat.generate(&options()).unwrap(), other.generate(&options()).unwrap());
    let before = all(&other);
    assert!(matches!(chat.append_reply(yours), Err(Error::StaleReply)));
    assert!(matches!(other.append_reply(mine), Err(Error::StaleReply)));
    assert_eq!((chat.pop(0).len(), chat.messages().len(), other.pop(0).len(), all(&other)), (0, 6, 0, before));
    assert_eq!(read(&mut chat_reply(&mut chat, "again")), "");
}

fn chat_reply<'a>(chat: &'a mut ChatHistory, text: &str) -> nano_runtime::Reply<'a> {
    chat.user(text);
    chat.reply(&options()).unwrap()
}

/// A turn is done or undone: the first step of the prompt, the middle of a reply, and a copy of shared rows may fail.
#[test]
fn d02_a_turn_that_fails_leaves_the_conversation_and_its_rows_as_they_were() {
    for fault in [|| Fault::Error, || Fault::Panic, || Fault::NaN, || Fault::Short] {
        for bad in ["b", "d"] {
            let (mut fake, log) = Fake::new(limits(), parrot(vec![bytes("a"), bytes("cde")]));
            let mut broken = true;
            let bad = bytes(bad);
            fake.faults = Box::new(move |fed| {
                (fed.concat().iter().any(|t| bad.contains(t)) && std::mem::take(&mut broken))
                    .then_some(fault)
                    .map(|fault| fault())
            });
            let mut chat = open(&fake.model(template(CHATML)), None);
            say(&mut chat, "x");
            let (before, rows) = (all(&chat), chat.num_rows());
            assert!(ask(&mut chat, "b", &options()).is_err());
            assert_eq!((all(&chat), chat.num_rows(), chat.messages().len()), (before, rows, 2));
            fed(&log);
            assert_eq!(say(&mut chat, "b").text, "cde");
            assert_eq!(fed(&log), [tokens("<|im_end|>\n"), user("b"), bytes("cde")].concat());
        }
    }
}

#[test]
fn d02_rows_that_could_not_be_copied_are_computed_again() {
    for shift in [false, true] {
        let (fake, _) = Fake::new(limits(), parrot(vec![bytes("ab"), bytes("cd"), bytes("ef"), bytes("gh")]));
        let bad = Arc::clone(&fake.bad_copies);
        let mut chat = open(&fake.model(template(CHATML)), None);
        ["one", "two", "three"].into_iter().for_each(|text| drop(say(&mut chat, text)));
        let mut fork = chat.fork();
        bad.store(1, Ordering::Relaxed);
        let failed = match shift {
            true => fork.remove(2..4, Removal::Shift).is_err(),
            false => ask(&mut fork, "four", &options()).is_err(),
        };
        assert!(failed && bad.load(Ordering::Relaxed) == 0);
        assert_eq!((fork.messages().len(), all(&fork)), (6, all(&chat)));
        // The runner would not read a row that was never written.
        assert_eq!((say(&mut fork, "four").text, say(&mut chat, "four").text), ("gh".into(), "gh".into()));
    }
}

/// The system prompt stays, the oldest whole exchanges go, before anything is fed and with room for the reply.
#[test]
fn d03_a_full_context_drops_the_oldest_exchanges_or_is_a_typed_error() {
    let small = Limits { context: 200, ..limits() };
    let thirty = GenerateOptions { max_new_tokens: 30, ..options() };
    for overflow in [Overflow::Error, Overflow::Drop, Overflow::Shift] {
        let (mut chat, log) = chat_with(small, &["ab"; 9], Some("Be brief."));
        chat.set_overflow(overflow);
        let mut dropped = false;
        for turn in 0..9 {
            let before = all(&chat);
            fed(&log);
            match ask(&mut chat, &format!("question {turn}"), &thirty) {
                Ok(_) => {}
                Err(Error::ContextFull { needed, available: 200 }) => {
                    assert!(overflow == Overflow::Error && needed > 200);
                    assert_eq!((fed(&log).len(), all(&chat)), (0, before));
                    dropped = true;
                    break;
                }
                Err(other) => panic!("{other}"),
            }
            assert!(chat.num_tokens() <= 200);
            let roles: Vec<&str> = chat.messages().iter().map(|m| m.role.as_str()).collect();
            assert_eq!(roles[0], "system");
            assert!(roles[1..].chunks(2).all(|pair| pair == ["user", "assistant"]), "{roles:?}");
            dropped |= roles.len() < 2 * turn + 3;
        }
        assert!(dropped);
    }
}

/// Rows that move are rotated to their new places, and rows that may not move are computed again. That a rotated row is
/// the right one is shown in src/shift_tests.rs.
#[test]
fn d04_removing_from_the_middle_leaves_no_row_in_a_wrong_place() {
    for how in [Removal::Exact, Removal::Shift] {
        let (mut chat, log) = chat(&["ab", "cd", "ef", "gh"]);
        ["one", "two", "three"].into_iter().for_each(|text| drop(say(&mut chat, text)));
        let removed = chat.remove(2..4, how).unwrap();
        assert_eq!((removed.how, removed.rows > 20), (how, true));
        fed(&log);
        // The runner checks the position of every row that it reads.
        say(&mut chat, "four");
        let last = [tokens("<|im_end|>\n"), user("four"), bytes("ef")].concat();
        let again = [user("three"), bytes("ef"), last.clone()].concat();
        assert_eq!(fed(&log), if how == Removal::Shift { last } else { again });
    }
}

/// A turn that fails after rows were moved for it goes back to rows that were not.
#[test]
fn d04_rows_that_were_moved_for_a_turn_that_fails_do_not_stay() {
    let small = Limits { context: 200, ..limits() };
    let (mut fake, log) = Fake::new(small, parrot(vec![bytes("ab"); 9]));
    fake.faults = Box::new(|fed| fed.concat().contains(&u32::from(b'!')).then_some(Fault::Error));
    let mut chat = open(&fake.model(template(CHATML)), Some("Sys"));
    let most = |max_new_tokens| GenerateOptions { max_new_tokens, ..options() };
    // All exchanges begin alike, so that those that move up have the tokens of those that go.
    ["same one", "same two", "same three"].into_iter().for_each(|text| drop(ask(&mut chat, text, &most(5)).unwrap()));
    chat.set_overflow(Overflow::Shift);
    let (before, system) = (all(&chat), chat.message_tokens(0).len());
    assert!(ask(&mut chat, "same four!", &most(90)).is_err());
    assert_eq!((all(&chat), chat.num_rows()), (before.clone(), system), "{}", before.len());
    fed(&log);
    chat.set_overflow(Overflow::Error);
    ask(&mut chat, "x", &most(5)).unwrap();
    assert!(fed(&log).starts_with(&before[system..before.len() - 1]));
}

/// Two models whose tokenizers differ share a template: what it stops at is resolved for each.
#[test]
fn d08_a_templates_stops_are_resolved_in_each_conversation() {
    let json =
        r####"{"user": "${MESSAGE}\n<|im_start|>assistant\n", "bot": "${MESSAGE}", "stop": ["##", "<|im_end|>"]}"####;
    let shared = Template::nanollm("t.json", json).unwrap();
    let start = || {
        let (fake, _) = Fake::new(limits(), parrot(vec![tokens("a⟨no!##⟩b"), tokens("c<|im_end|>d")]));
        let template = Some(shared.clone());
        fake.model(None).chat(ChatOptions { template, ..ChatOptions::default() }).unwrap()
    };
    for _ in 0..2 {
        let mut chat = start();
        assert_eq!((say(&mut chat, "x").text, say(&mut chat, "y").stop_token), ("ano!".into(), Some(END)));
    }
    assert_eq!(shared.stop(), ["##", "<|im_end|>"]);
}

#[test]
fn d09_a_stop_string_is_neither_shown_nor_kept() {
    let (mut chat, log) = chat(&["one ⟨one###⟩two", "x"]);
    let stop = GenerateOptions { stop: vec!["###".into()], ..options() };
    chat.user("go");
    let mut texts = Vec::new();
    for event in chat.reply(&stop).unwrap() {
        match event.unwrap() {
            Event::Text(text) => texts.push(text),
            Event::Done(output) => assert_eq!(output.tokens, tokens("one ⟨one###⟩"), "as they were sampled"),
            _ => {}
        }
    }
    assert_eq!((texts.concat().as_str(), chat.messages()[1].content.text().as_str()), ("one one", "one one"));
    fed(&log);
    say(&mut chat, "more");
    assert!(fed(&log).starts_with(&[tokens("one<|im_end|>\n"), user("more")].concat()));
}
