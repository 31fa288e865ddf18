//! Rounds and what is done to conversations besides: sessions, forks, marks, undo, removals, other templates' ways.

use crate::common::options;
use crate::{ask, drive, model, reply, result};
use nano_models::testing::TempDir;
use nano_runtime::{ChatHistory, ChatOptions, Removal, Session, Template};

const CALL: &str = "Well.\n<tool_call>\n{\"name\":\"drive\",\"arguments\":{\"speed\":1}}\n</tool_call><|im_end|>";

fn template() -> Template {
    Template::builtin("chat-ml-tools").unwrap()
}

fn tools() -> ChatOptions {
    ChatOptions { tools: vec![drive()], ..ChatOptions::default() }
}

fn round(chat: &mut ChatHistory) {
    let (_, output) = ask(chat, "Go.");
    chat.append_message(result(&output.message, 0, "ok"));
    reply(chat, &options());
}

#[test]
fn a_session_goes_on_after_a_round_with_all_its_rows() {
    let folder = TempDir::new("tools");
    let path = folder.path().join("robot.session");
    let (first, _) = model(template(), &[CALL, "Done.<|im_end|>"]);
    let (mut session, mut chat, _) = Session::open(&path, &first, tools()).unwrap();
    round(&mut chat);
    session.commit(&mut chat).unwrap();
    let (messages, rows) = (chat.messages().to_vec(), chat.num_rows());
    drop((session, chat, first));
    let (second, _) = model(template(), &["Yes.<|im_end|>"]);
    let (_session, mut chat, notices) = Session::open(&path, &second, tools()).unwrap();
    assert!(notices.is_empty(), "{notices:?}");
    assert_eq!(chat.messages(), messages);
    let (_, output) = ask(&mut chat, "And now?");
    assert_eq!(output.stats.reused_tokens, rows);
}

#[test]
fn a_session_begun_without_tools_is_fed_again_with_them() {
    let folder = TempDir::new("tools");
    let path = folder.path().join("robot.session");
    let (first, _) = model(template(), &["Hi.<|im_end|>"]);
    let (mut session, mut chat, _) = Session::open(&path, &first, ChatOptions::default()).unwrap();
    ask(&mut chat, "Hello.");
    session.commit(&mut chat).unwrap();
    drop((session, chat, first));
    let (second, _) = model(template(), &[CALL]);
    let (_session, mut chat, _) = Session::open(&path, &second, tools()).unwrap();
    let (lines, output) = ask(&mut chat, "Go.");
    assert_eq!(lines.last().unwrap(), r#"call call00000 drive {"speed":1}"#);
    assert!(output.stats.input_tokens > output.stats.reused_tokens, "{:?}", output.stats);
}

#[test]
fn a_round_is_undone_whole_and_forks_and_marks_hold_it() {
    let (model, _) =
        model(template(), &[CALL, "Done.<|im_end|>", "One.<|im_end|>", "Two.<|im_end|>", "Three.<|im_end|>"]);
    let mut chat = model.chat(tools()).unwrap();
    round(&mut chat);
    let rows = chat.num_rows();
    let mut fork = chat.fork();
    let mark = chat.mark();
    for (chat, says) in [(&mut fork, "One."), (&mut chat, "Two.")] {
        let (lines, output) = ask(chat, "And now?");
        assert_eq!((lines[0].as_str(), output.stats.reused_tokens), (format!("text {says}").as_str(), rows));
    }
    chat.rollback(mark).unwrap();
    assert_eq!(ask(&mut chat, "Again.").1.stats.reused_tokens, rows);
    assert_eq!(chat.undo().len(), 2);
    // The user's words, the call, its result, the answer.
    assert_eq!(chat.undo().len(), 4);
    assert_eq!(chat.messages().len(), 1);
}

#[test]
fn a_round_that_is_removed_by_a_shift_leaves_the_rest_where_it_can() {
    let (model, _) = model(template(), &["Hi.<|im_end|>", CALL, "Done.<|im_end|>", "Bye.<|im_end|>", "Yes.<|im_end|>"]);
    let mut chat = model.chat(tools()).unwrap();
    ask(&mut chat, "Hello.");
    round(&mut chat);
    ask(&mut chat, "Bye.");
    let rows = chat.num_rows();
    let tokens: usize = (3..7).map(|message| chat.message_tokens(message).len()).sum();
    let removed = chat.remove(3..7, Removal::Shift).unwrap();
    assert_eq!((removed.how, removed.rows), (Removal::Shift, tokens));
    assert_eq!(chat.num_rows(), rows - tokens);
    assert_eq!(ask(&mut chat, "And?").1.stats.reused_tokens, rows - tokens);
}

#[test]
fn what_is_read_back_from_json_is_called_again_under_the_next_number() {
    let (model, _) = model(template(), &[CALL, "Done.<|im_end|>", CALL]);
    let mut chat = model.chat(tools()).unwrap();
    round(&mut chat);
    let messages = chat.to_json();
    assert_eq!(messages[2]["tool_calls"][0]["function"]["arguments"], r#"{"speed":1}"#);
    chat.from_json(messages).unwrap();
    let (lines, _) = ask(&mut chat, "Go on.");
    assert_eq!(lines, ["text Well.", r#"call call00001 drive {"speed":1}"#]);
}

#[test]
fn a_call_has_a_number_of_its_own_where_the_oldest_are_gone() {
    let (model, _) = model(template(), &[CALL, "Done.<|im_end|>", CALL, "Done.<|im_end|>", CALL]);
    let mut chat = model.chat(tools()).unwrap();
    round(&mut chat);
    round(&mut chat);
    chat.remove(1..5, Removal::Exact).unwrap();
    assert_eq!(chat.messages()[2].tool_calls.as_ref().unwrap()[0]["id"], "call00001");
    let (lines, _) = ask(&mut chat, "Go on.");
    assert_eq!(lines, ["text Well.", r#"call call00002 drive {"speed":1}"#]);
}
