//! Histories: what enters them, what a turn that fails leaves, what is taken out, and what going back costs.

use crate::common::talk::*;
use crate::common::*;
use crate::*;
use nano_runtime::{Error, Overflow, Removal, Session};
use std::sync::Arc;
use std::sync::atomic::Ordering;

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
        let (mut chat, log) = chat_with(small, CHATML, &["ab"; 9], Some("Be brief."));
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
        let (mut chat, log) = chat(CHATML, &["ab", "cd", "ef", "gh"]);
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

#[test]
fn d15_a_reset_costs_nothing() {
    let (mut chat, log) = chat_with(limits(), CHATML, &["ab", "cd"], Some("Be brief."));
    let first = fed_by(&mut chat, &log, "one");
    let system = tokens("<|im_start|>system\nBe brief.<|im_end|>\n");
    assert!(first.starts_with(&system));
    for _ in 0..3 {
        chat.reset();
        assert_eq!((fed(&log).len(), chat.num_rows() >= system.len()), (0, true));
        let again = fed_by(&mut chat, &log, "one");
        assert!(again.len() + system.len() <= first.len() && first.ends_with(&again));
    }
}

/// What a conversation holds is its tokens and its pages, and both go when it goes.
#[test]
fn d20_nothing_is_kept_of_conversations_that_are_gone() {
    let small = Limits { pages: 8, context: 256, ..limits() };
    let (fake, _) = Fake::new(small, |tokens| if tokens.len() % 7 == 0 { END } else { 97 });
    let model = fake.model(template(CHATML));
    for i in 0..50 {
        let mut chat = open(&model, None);
        say(&mut chat, &format!("{i} {}", "x".repeat(60)));
        let mut fork = chat.fork();
        let mark = fork.mark();
        say(&mut fork, "more");
        fork.rollback(mark).unwrap();
        drop(chat.generate(&options()));
    }
    // All eight pages are there.
    let all = model.generate(vec![1; 254], model.cache(), &GenerateOptions { max_new_tokens: 1, ..options() });
    assert_eq!(all.wait().unwrap().cache.len(), 254);
}

#[test]
fn d22_a_reply_that_is_stopped_joins_with_what_was_said_and_fed() {
    let long = "c".repeat(500);
    let (mut chat, log) = chat(CHATML, &[&long, "d"]);
    chat.user("go");
    let mut reply = chat.reply(&GenerateOptions { max_new_tokens: 400, ..options() }).unwrap();
    assert!(matches!(reply.next(), Some(Ok(Event::Text(_)))));
    reply.stop();
    drop(reply);
    // Nothing goes on behind the back: what is there is all there is, and the template ends the turn.
    let said = chat.messages()[1].content.text();
    assert!(chat.is_cancelled(1) && !said.is_empty() && long.starts_with(&said));
    let first = fed(&log);
    assert_eq!([&first[..], &bytes("c")].concat()[..chat.num_tokens()], all(&chat));
    let next = fed_by(&mut chat, &log, "on");
    assert!(next.ends_with(&[tokens("<|im_end|>\n"), user("on"), bytes("d")].concat()));
    assert_eq!(
        all(&chat),
        [user("go"), bytes(&said), tokens("<|im_end|>\n"), user("on"), bytes("d"), vec![END]].concat()
    );
}

/// Going back, trying again, branching off and coming back after a restart feed what is new and nothing else.
#[test]
fn d24_forks_marks_and_sessions_cost_no_prefill() {
    let folder = nano_models::testing::TempDir::new("d24");
    let path = folder.path().join("robot.session");
    let replies = ["ab", "cd", "ef"];
    let (mut chat, log) = chat(CHATML, &replies);
    say(&mut chat, &"x".repeat(100));
    fed(&log);
    let next = |text: &str, reply: &str| [tokens("<|im_end|>\n"), user(text), bytes(reply)].concat();
    // A mark, and a fork.
    let mark = chat.mark();
    assert_eq!(fed_by(&mut chat, &log, "one"), next("one", "cd"));
    let mut fork = chat.fork();
    chat.rollback(mark).unwrap();
    assert_eq!(fed_by(&mut chat, &log, "two"), next("two", "cd"));
    assert_eq!(fed_by(&mut fork, &log, "three"), next("three", "ef"));
    // Again: only the reply, and the token before it for its logits.
    chat.regenerate(&options()).unwrap().wait().unwrap();
    let again = fed(&log);
    assert!(again.ends_with(&bytes("cd")) && again.len() <= next("two", "cd").len(), "{again:?}");
    // After a restart.
    let rows = chat.num_rows();
    chat.save(&path).unwrap();
    let (fake, log) = Fake::new(limits(), parrot(replies.iter().map(|r| bytes(r)).collect()));
    let (_, mut chat, notices) = Session::open(&path, &fake.model(template(CHATML)), ChatOptions::default()).unwrap();
    assert_eq!((chat.num_rows(), notices), (rows, vec![]));
    assert_eq!(fed_by(&mut chat, &log, "four"), next("four", "ef"));
}
