//! Sessions: what a conversation costs to save, and how it goes on after a restart, damage or a change of model. That
//! restored rows are those of the conversation's tokens, the runner checks at every step.

mod common;

use common::talk::{fed, say, texts};
use common::*;
use nano_models::testing::TempDir;
use nano_runtime::{
    ChatHistory, ChatOptions, Content, GenerateOptions, Limits, Message, NanoModel, Overflow, Part, Removal, SavedChat,
    Session,
};
use serde_json::Value;
use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const REPLIES: [&str; 4] = ["⟨Hello⟩!", "⟨bye⟩", "yes", "no"];

fn model() -> (NanoModel, Shared) {
    limited(limits())
}

fn limited(limits: Limits) -> (NanoModel, Shared) {
    let (fake, log) = Fake::new(limits, parrot(REPLIES.map(tokens).to_vec()));
    (fake.model(template(CHATML)), log)
}

fn open(path: &Path, model: &NanoModel) -> (Session, ChatHistory, Vec<String>) {
    let system_prompt = Some("Be brief.".to_owned());
    Session::open(path, model, ChatOptions { system_prompt, ..ChatOptions::default() }).unwrap()
}

fn file(folder: &TempDir) -> PathBuf {
    folder.path().join("robot.session")
}

/// Two turns, the first of them long.
fn saved(path: &Path) -> (Vec<(String, String)>, usize) {
    let (model, _) = model();
    let (mut session, mut chat, _) = open(path, &model);
    say(&mut chat, &"one ".repeat(40));
    session.commit(&mut chat).unwrap();
    say(&mut chat, "two");
    session.commit(&mut chat).unwrap();
    (texts(&chat), chat.num_tokens())
}

#[test]
fn a_conversation_goes_on_after_a_restart_as_if_there_had_been_none() {
    let folder = TempDir::new("session");
    let path = file(&folder);
    let (said, tokens_then) = saved(&path);
    let (model, log) = model();
    let (mut session, mut chat, notices) = open(&path, &model);
    assert_eq!((texts(&chat), chat.num_tokens(), chat.num_pending(), notices), (said, tokens_then, 1, vec![]));
    assert_eq!(say(&mut chat, "three").text, "yes");
    let new = "<|im_end|>\n<|im_start|>user\nthree<|im_end|>\n<|im_start|>assistant\nyes";
    assert_eq!(fed(&log), tokens(new), "nothing that was said before is fed again");
    session.commit(&mut chat).unwrap();
    assert_eq!(SavedChat::read(&path).unwrap().messages.len(), 7);
}

#[test]
fn a_turn_costs_the_pages_that_are_new() {
    let folder = TempDir::new("session");
    let path = file(&folder);
    let (model, log) = model();
    let (mut session, mut chat, _) = open(&path, &model);
    say(&mut chat, &"one ".repeat(100));
    session.commit(&mut chat).unwrap();
    let pages = |log: &Shared| std::mem::take(&mut log.lock().unwrap().read);
    assert_eq!(pages(&log), chat.num_rows().div_ceil(32));
    let long = fs::metadata(&path).unwrap().len();
    let before = chat.num_rows();
    say(&mut chat, "two");
    session.commit(&mut chat).unwrap();
    assert_eq!(pages(&log), chat.num_rows().div_ceil(32) - before / 32, "the last page and what came after");
    assert!(fs::metadata(&path).unwrap().len() - long < long);
    session.commit(&mut chat).unwrap();
    assert!(pages(&log) <= 1, "only a page that is not full is read again");
}

#[test]
fn every_change_of_a_history_is_what_comes_back() {
    let folder = TempDir::new("session");
    let path = file(&folder);
    let (first, then) = model();
    let (mut session, mut chat, _) = open(&path, &first);
    for text in ["one", "two", "three"] {
        say(&mut chat, &text.repeat(20));
        session.commit(&mut chat).unwrap();
    }
    type Change = fn(&mut ChatHistory);
    let changes: [Change; 6] = [
        |chat| assert_eq!(chat.remove(1..3, Removal::Shift).unwrap().how, Removal::Shift),
        |chat| chat.edit(1, "another text").unwrap(),
        |chat| drop(chat.undo()),
        |chat| {
            let mark = chat.mark();
            chat.edit(1, "x").unwrap();
            say(chat, "four");
            chat.rollback(mark).unwrap();
        },
        |chat| drop(say(chat, "more")),
        |chat| chat.reset(),
    ];
    for (i, change) in changes.into_iter().enumerate() {
        let mark = (i == 3).then(|| chat.mark());
        change(&mut chat);
        session.commit(&mut chat).unwrap();
        if let Some(mark) = mark {
            // Saved in between with other rows: those of the mark are not what the file has.
            chat.edit(1, "in between").unwrap();
            say(&mut chat, "four");
            session.commit(&mut chat).unwrap();
            chat.rollback(mark).unwrap();
            session.commit(&mut chat).unwrap();
        }
        let (other, log) = model();
        let (mut back, notices) = ChatHistory::load(&other, &path, ChatOptions::default()).unwrap();
        assert_eq!((texts(&back), back.num_rows()), (texts(&chat), chat.num_rows()), "change {i}");
        assert_eq!((back.num_tokens(), notices), (chat.num_tokens(), vec![]));
        (0..chat.messages().len()).for_each(|m| assert_eq!(back.message_tokens(m), chat.message_tokens(m)));
        // It goes on as the original would.
        fed(&then);
        say(&mut back, "and?");
        say(&mut chat.fork(), "and?");
        assert_eq!(fed(&log), fed(&then), "change {i}");
    }
}

#[test]
fn damage_in_a_page_costs_the_rows_from_there_on() {
    let folder = TempDir::new("session");
    let path = file(&folder);
    let (said, _) = saved(&path);
    // The marks of rows are found in the file: one in the third page is changed.
    let mut bytes = Vec::new();
    fs::File::open(&path).unwrap().read_to_end(&mut bytes).unwrap();
    let row = |position: u32| {
        let mut row = vec![2];
        row.extend(u32::from(b'o').to_le_bytes());
        row.extend(position.to_le_bytes());
        row
    };
    let (position, at) = (64..96)
        .find_map(|p| Some((p, bytes.windows(9).position(|w| w == row(p))?)))
        .expect("a row with this token in the third page");
    let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(at as u64 + 3)).unwrap();
    file.write_all(&[7]).unwrap();
    drop(file);
    let (model, log) = model();
    let (mut session, mut chat, notices) = open(&path, &model);
    assert_eq!((texts(&chat), chat.num_rows()), (said, 64), "row {position} is damaged");
    assert!(
        notices.len() == 1 && notices[0].contains("page 2") && notices[0].contains("computed again"),
        "{notices:?}"
    );
    say(&mut chat, "three");
    assert!(fed(&log).len() > 100);
    session.commit(&mut chat).unwrap();
    drop(session);
    let (again, _) = self::model();
    assert_eq!(open(&path, &again).2, Vec::<String>::new(), "what was damaged is written anew");
}

#[test]
fn another_model_keeps_the_messages_and_says_what_changed() {
    let folder = TempDir::new("session");
    let path = file(&folder);
    let (said, _) = saved(&path);
    let strips = CHATML.replace("{{ m.content }}", "{{ m.content | trim }}");
    let (fake, log) = Fake::new(limits(), parrot(REPLIES.map(tokens).to_vec()));
    let other = fake.model(template(&strips));
    let (mut session, mut chat, notices) = open(&path, &other);
    assert_eq!((texts(&chat), chat.num_rows(), chat.num_tokens()), (said, 0, 0));
    assert!(notices[0].contains("the chat template") && notices[0].contains("the messages stay"), "{notices:?}");
    say(&mut chat, "three");
    assert!(fed(&log).len() > 200);
    session.commit(&mut chat).unwrap();
    drop(session);
    let (_, chat, notices) = open(&path, &other);
    assert_eq!((chat.num_pending(), notices), (1, vec![]));
}

#[test]
fn a_smaller_context_takes_what_fits_and_the_policy_does_the_rest() {
    let folder = TempDir::new("session");
    let path = file(&folder);
    saved(&path);
    let (small, _) = limited(Limits { context: 100, ..limits() });
    let (_session, mut chat, notices) = open(&path, &small);
    assert!(chat.num_rows() == 100 && notices[0].contains("the context holds 100"), "{notices:?}");
    chat.user("three");
    let options = GenerateOptions { max_new_tokens: 5, ..options() };
    let mut reply = chat.reply(&options).unwrap();
    let overflow =
        matches!(reply.next(), Some(Ok(nano_runtime::Event::Overflow { policy: Overflow::Drop, removed_rows: 1.. })));
    assert!(overflow);
    reply.wait().unwrap();
}

#[test]
fn what_is_saved_can_be_read_without_a_model() {
    let folder = TempDir::new("session");
    let path = file(&folder);
    let (said, all) = saved(&path);
    let saved = SavedChat::read(&path).unwrap();
    assert_eq!((saved.model.as_str(), saved.rows + saved.pending, saved.pending), ("model", all, 1));
    let of = saved.messages.iter().map(|(m, _)| (m.role.clone(), m.content.text())).collect::<Vec<_>>();
    assert_eq!(of, said);
    assert_eq!(saved.messages.iter().map(|(_, tokens)| tokens.len()).sum::<usize>(), all);
    assert_eq!(saved.messages[0].1, tokens("<|im_start|>system\nBe brief.<|im_end|>\n"));
    assert_eq!(saved.messages[4].1, tokens("<|im_start|>assistant\n⟨bye⟩<|im_end|>"));
}

#[test]
fn the_logits_after_the_last_token_feed_what_is_pending_and_nothing_else() {
    let folder = TempDir::new("session");
    let path = file(&folder);
    saved(&path);
    let (model, log) = model();
    let (mut chat, _) = ChatHistory::load(&model, &path, ChatOptions::default()).unwrap();
    let all: Vec<u32> = (0..chat.messages().len()).flat_map(|i| chat.message_tokens(i)).collect();
    let mut fresh = Vec::new();
    model.score(&all, all.len() - 1..all.len(), |_, logits| fresh = logits.to_vec()).unwrap();
    fed(&log);
    for expected in [END, END] {
        assert_eq!(chat.logits().unwrap(), fresh);
        assert_eq!(fed(&log), [expected]);
        assert_eq!(chat.num_pending(), 0);
    }
    let mut empty = model.chat(ChatOptions::default()).unwrap();
    assert!(matches!(empty.logits(), Err(nano_runtime::Error::EmptyPrompt)));
}

#[test]
fn a_session_is_one_programs_at_a_time_and_errors_name_the_file() {
    let folder = TempDir::new("session");
    let path = file(&folder);
    let (model, _) = model();
    let (_session, mut chat, _) = open(&path, &model);
    for error in [
        Session::open(&path, &model, ChatOptions::default()).map(drop).unwrap_err(),
        chat.save(&path).unwrap_err(),
        ChatHistory::load(&model, &folder.path().join("nothing"), ChatOptions::default()).map(drop).unwrap_err(),
        SavedChat::read(&folder.write("text.session", "Hello, I am a text.")).map(drop).unwrap_err(),
    ] {
        assert!(error.to_string().starts_with(&folder.path().display().to_string()), "{error}");
    }
    let copy = folder.path().join("copy.session");
    say(&mut chat, "one");
    chat.save(&copy).unwrap();
    assert_eq!(texts(&ChatHistory::load(&model, &copy, ChatOptions::default()).unwrap().0), texts(&chat));
}

/// A message that a program made and that could not be read again does not cost the turns before it.
#[test]
fn what_could_not_be_read_again_is_not_saved() {
    let folder = TempDir::new("session");
    let path = file(&folder);
    let (model, _) = model();
    let (mut session, mut chat, _) = open(&path, &model);
    say(&mut chat, "one");
    session.commit(&mut chat).unwrap();
    let before = texts(&chat);
    for content in [
        Content::Parts(vec![Part { kind: "text".into(), ..Part::default() }]),
        Content::Parts(vec![Part { kind: "image".into(), other: deep(200), ..Part::default() }]),
    ] {
        chat.append_message(Message { role: "user".into(), content, ..Message::default() });
        let error = session.commit(&mut chat).unwrap_err().to_string();
        assert!(error.contains("robot.session") && error.contains("cannot be saved"), "{error}");
        assert!(chat.save(&folder.path().join("other")).is_err());
        chat.pop(1);
    }
    drop(session);
    assert_eq!(texts(&open(&path, &model).1), before);
}

/// Lists in lists, so many.
fn deep(levels: usize) -> serde_json::Map<String, Value> {
    let list = (0..levels).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
    serde_json::Map::from_iter([("deep".to_owned(), list)])
}
