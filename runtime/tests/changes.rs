//! What may be done to a history besides talking, and what happens when the context is full, on a scripted runner: what
//! is fed again, and what is not.

mod common;

use common::talk::*;
use common::*;
use nano_runtime::{
    ChatHistory, Event, Finish, GenerateOptions, Generation, Limits, Mark, NanoModel, Overflow, Removal, Removed,
    Reply, ReplyStream, Session, Template,
};
use std::ops::Range;

/// A shift keeps the rows after the gap: only what is new is fed.
#[test]
fn an_overflow_that_shifts_feeds_nothing_again() {
    let small = Limits { context: 160, ..limits() };
    let fifty = GenerateOptions { max_new_tokens: 50, ..options() };
    for (overflow, expected) in [(Overflow::Shift, false), (Overflow::Drop, true)] {
        let (mut chat, log) = chat_with(small, CHATML, &["ab", "cd", "ef", "gh"], Some("Sys"));
        chat.set_overflow(overflow);
        let (mut events, mut fed_again) = (Vec::new(), false);
        for text in ["one", "two", "three", "four", "five"] {
            chat.user(text);
            fed(&log);
            for event in chat.reply(&fifty).unwrap() {
                match event.unwrap() {
                    Event::Overflow { policy, removed_rows } => events.push((policy, removed_rows)),
                    Event::Done(output) => assert_eq!(output.finish, Finish::Stop),
                    _ => {}
                }
            }
            fed_again |= text != "one" && fed(&log).len() > 35;
        }
        assert_eq!((events.len(), fed_again), (1, expected), "{events:?}");
        assert!(events[0].0 == overflow && events[0].1 > 40, "{events:?}");
        let said = texts(&chat);
        assert_eq!(said[0], ("system".into(), "Sys".into()));
        assert_eq!(said[1].0, "user", "whole exchanges went");
        assert_eq!(chat.num_pending(), 1);
    }
}

/// Llama 2's template puts the system prompt into the first message of the user: without it the rest reads otherwise.
#[test]
fn a_shift_that_the_template_does_not_allow_is_done_exactly() {
    let folds = "{% for m in messages %}{% if m.role == 'user' %}<|im_start|>{% if loop.index0 == 0 %}(be brief) \
                 {% endif %}{{ m.content }}<|im_start|>assistant\n{% else %}{{ m.content }}<|im_end|>{% endif %}\
                 {% endfor %}";
    let (mut chat, log) = chat(folds, &["ab", "cd", "ef"]);
    ["one", "two"].iter().for_each(|text| drop(say(&mut chat, text)));
    let removed = chat.remove(0..2, Removal::Shift).unwrap();
    assert_eq!(removed.how, Removal::Exact);
    fed(&log);
    say(&mut chat, "three");
    let all = "<|im_start|>(be brief) two<|im_start|>assistant\ncd<|im_end|><|im_start|>three<|im_start|>assistant\n";
    assert!(fed(&log).starts_with(&tokens(all)));
    // Where the template allows it, nothing is fed but what is new.
    let (mut chat, log) = self::chat(CHATML, &["ab", "cd", "ef"]);
    ["one", "two"].iter().for_each(|text| drop(say(&mut chat, text)));
    let removed = chat.remove(0..2, Removal::Shift).unwrap();
    assert_eq!((removed.how, chat.num_pending()), (Removal::Shift, 1));
    fed(&log);
    say(&mut chat, "three");
    assert_eq!(fed(&log), tokens("<|im_end|>\n<|im_start|>user\nthree<|im_end|>\n<|im_start|>assistant\ncd"));
}

/// Calls and their results go together.
#[test]
fn an_exchange_with_a_tool_is_never_split() {
    let small = Limits { context: 200, ..limits() };
    let (mut chat, _) = chat_with(small, CHATML, &["ab", "cd", "ef"], None);
    let calls = serde_json::json!([
        {"role": "user", "content": "what time?"},
        {"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "time", "arguments": {}}}]},
        {"role": "tool", "content": "x".repeat(40)},
        {"role": "assistant", "content": "noon"},
        {"role": "user", "content": "and now?"},
        {"role": "assistant", "content": "one"},
    ]);
    chat.from_json(calls.clone()).unwrap();
    assert_eq!(chat.to_json(), calls);
    chat.user("z".repeat(20));
    let reply = chat.reply(&GenerateOptions { max_new_tokens: 60, ..options() }).unwrap();
    reply.wait().unwrap();
    let roles: Vec<String> = chat.messages().iter().map(|m| m.role.clone()).collect();
    assert_eq!(roles, ["user", "assistant", "user", "assistant"]);
    assert!(chat.from_json(serde_json::json!([{"content": "x"}])).unwrap_err().to_string().contains("role"));
    assert_eq!(chat.messages().len(), 4);
}

#[test]
fn whose_turn_it_is() {
    let (mut chat, _) = chat(CHATML, &["ab"]);
    assert!(chat.turn("system") && chat.turn("user") && !chat.turn("assistant"));
    chat.user("one");
    assert!(
        !chat.turn("system") && chat.turn("user") && chat.turn("assistant"),
        "an image may come before its question"
    );
    chat.reply(&options()).unwrap().wait().unwrap();
    assert!(chat.turn("user") && !chat.turn("assistant"));
}

#[test]
fn a_fork_shares_all_full_pages() {
    let (mut chat, log) = chat(CHATML, &["ab", "cd"]);
    say(&mut chat, &"x".repeat(200));
    let rows = chat.num_rows();
    log.lock().unwrap().copied = 0;
    let mut fork = chat.fork();
    assert_eq!((fork.num_rows(), log.lock().unwrap().copied), (rows, 0));
    assert_eq!((say(&mut fork, "two").text, say(&mut chat, "three").text), ("cd".into(), "cd".into()));
    assert_eq!(log.lock().unwrap().copied, rows % 32, "one page that is not full, once");
}

/// The first message that is not there is named, a range that runs backwards is called so, and an empty one costs no row.
#[test]
fn ranges_that_cannot_be_removed_say_why() {
    let (mut chat, log) = chat(CHATML, &["ab", "cd", "ef"]);
    say(&mut chat, "one");
    say(&mut chat, "two");
    let why = |chat: &mut ChatHistory, range| chat.remove(range, Removal::Exact).unwrap_err().to_string();
    assert_eq!(why(&mut chat, 2..9), "there is no message 4: the conversation has 4, numbered from 0");
    assert_eq!(why(&mut chat, 5..6), "there is no message 5: the conversation has 4, numbered from 0");
    let backwards = Range { start: 3, end: 1 };
    assert_eq!(why(&mut chat, backwards), "the range of messages is 3..1: it must not end before it begins");
    let rows = chat.num_rows();
    for how in [Removal::Exact, Removal::Shift] {
        assert_eq!(chat.remove(1..1, how).unwrap(), Removed { rows: 0, how });
    }
    assert_eq!(chat.num_rows(), rows);
    fed(&log);
    say(&mut chat, "three");
    assert!(fed(&log).starts_with(&tokens("<|im_end|>\n<|im_start|>user\nthree")));
}

/// Programs keep these in structures of their own, show them when a test of theirs fails, and move them to other threads.
#[test]
fn what_a_program_holds_can_be_shown_and_sent() {
    fn holds<T: Send + std::fmt::Debug>() {}
    holds::<(NanoModel, ChatHistory, ReplyStream, Reply<'static>, Generation, Mark, Session)>();
    let (mut chat, _) = chat(CHATML, &["ab"]);
    say(&mut chat, "one");
    let shown = format!("{chat:?}");
    assert!(shown.contains("\"one\"") && shown.contains(&format!("rows: {}", chat.num_rows())), "{shown}");
}

/// Rows that a mark shares cannot move in place. Where there are no pages to move them to, the rest is fed again.
#[test]
fn a_shift_that_finds_no_pages_is_exact() {
    let limits = Limits { pages: 8, ..limits() };
    let (mut chat, log) = chat_with(limits, CHATML, &["ab", "cd", "ef"], None);
    say(&mut chat, &"x".repeat(20));
    say(&mut chat, &"y".repeat(90));
    let mark = chat.mark();
    assert_eq!(chat.num_rows().div_ceil(32), 5);
    let removed = chat.remove(0..2, Removal::Shift).unwrap();
    assert_eq!((removed.how, chat.num_rows(), chat.messages().len()), (Removal::Exact, 0, 2));
    drop(mark);
    fed(&log);
    say(&mut chat, "on");
    assert!(fed(&log).starts_with(&tokens("<|im_start|>user\nyyy")));
}

/// An empty reply that was given another try leaves nothing behind: the replies after it are still told apart.
#[test]
fn replies_keep_their_tokens_after_one_that_was_empty() {
    let json = r#"{"user": "<|im_start|>user\n${MESSAGE}<|im_end|>\n<|im_start|>assistant\n", "bot": "${MESSAGE}<|im_end|>\n"}"#;
    let (fake, log) = Fake::new(limits(), parrot(["", "⟨ world⟩", "cd", "e"].map(tokens).to_vec()));
    let mut chat = open(&fake.model(Some(Template::nanollm("t.json", json).unwrap())), None);
    say(&mut chat, "one");
    for _ in 0..2 {
        assert_eq!(chat.regenerate(&options()).unwrap().wait().unwrap().text, "");
    }
    say(&mut chat, "two");
    say(&mut chat, "three");
    chat.edit(2, "other").unwrap();
    fed(&log);
    say(&mut chat, "four");
    let fed = fed(&log);
    assert!(fed.windows(tokens("⟨ world⟩").len()).any(|found| found == tokens("⟨ world⟩")), "{fed:?}");
}

/// Many templates write a system prompt of their own before whatever message comes first. It is the first message's, and
/// stays when that goes.
#[test]
fn a_shift_keeps_what_the_template_writes_before_any_message() {
    let own = "{% if messages[0].role != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}".to_owned();
    let (mut chat, log) = chat(&(own + CHATML), &["ab", "cd", "ef", "gh"]);
    ["one", "two", "three"].iter().for_each(|text| drop(say(&mut chat, text)));
    let first = chat.message_tokens(0);
    assert!(first.starts_with(&tokens("<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n")));
    let rows = chat.num_rows();
    let removed = chat.remove(0..2, Removal::Shift).unwrap();
    assert_eq!((removed.how, rows - chat.num_rows()), (Removal::Shift, removed.rows));
    let kept = "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\ntwo<|im_end|>\n";
    assert_eq!(chat.message_tokens(0), tokens(kept));
    fed(&log);
    assert_eq!(say(&mut chat, "four").text, "ef", "the third reply of those that are there");
    assert_eq!(fed(&log), tokens("<|im_end|>\n<|im_start|>user\nfour<|im_end|>\n<|im_start|>assistant\nef"));
}
