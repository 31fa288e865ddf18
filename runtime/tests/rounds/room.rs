//! Conversations that exceed the context of an engine: what is still sent, and when.

use crate::script::*;
use nano_runtime::{Chat, EngineConversation, GenerateOptions, Message, Overflow};
use std::sync::Arc;
use std::sync::atomic::Ordering;

const SYSTEM: &str = "Be brief.";

/// A chat of this context, with exchanges of 200 letters each. Every letter is a token.
fn chat(context: usize, exchanges: usize, overflow: Overflow) -> (Chat, Arc<Script>) {
    let script = Script::with_context(context);
    let conversation = EngineConversation::new(script.clone()).with_overflow(overflow);
    let words = |index: usize, of: char| format!("{index}{}", of.to_string().repeat(99));
    let said = (0..exchanges).flat_map(|i| [Message::user(words(i, 'q')), Message::assistant(words(i, 'a'))]);
    let options = GenerateOptions { max_new_tokens: 50, ..GenerateOptions::default() };
    (Chat::over(conversation).with_system_prompt(SYSTEM).with_messages(said).with_options(options), script)
}

/// The first letters of what was sent.
fn sent(script: &Script) -> Vec<String> {
    let [request] = &script.asked()[..] else { panic!("one request") };
    request.messages.iter().map(|message| message.content.text().chars().take(2).collect()).collect()
}

fn ask(chat: &mut Chat, script: &Script) -> Vec<String> {
    script.says([vec![Text("ok")]]);
    lines(chat.round("go").unwrap())
}

#[test]
fn the_oldest_exchanges_are_not_sent_any_more() {
    let (mut chat, script) = chat(1000, 6, Overflow::Drop);
    let lines = ask(&mut chat, &script);
    // 1211 tokens; after four exchanges there are 411, less than half.
    assert_eq!(lines, ["Answer(Overflow { policy: Drop, removed_rows: 800 })", "text ok", "done stop"]);
    assert_eq!(sent(&script), ["Be", "4q", "4a", "5q", "5a", "go"]);
    assert_eq!(chat.messages().len(), 1 + 12 + 2, "the list of messages is whole");
    // There is room now: what is sent begins as before, so that it need not be read again.
    assert_eq!(ask(&mut chat, &script), ["text ok", "done stop"]);
    assert_eq!(sent(&script), ["Be", "4q", "4a", "5q", "5a", "go", "ok", "go"]);
}

#[test]
fn what_fits_is_sent_whole() {
    // 1211 tokens and room for 50.
    for (context, whole) in [(1261, true), (1260, false)] {
        let (mut chat, script) = chat(context, 6, Overflow::Drop);
        ask(&mut chat, &script);
        assert_eq!(sent(&script).len() == 14, whole, "{context}");
    }
    // Where there is room for certain nothing is counted.
    for (context, counted) in [(20_000, 0), (1300, 1)] {
        let (mut chat, script) = chat(context, 6, Overflow::Drop);
        ask(&mut chat, &script);
        assert_eq!(script.counted.load(Ordering::Relaxed), counted);
    }
    let (mut chat, script) = chat(1000, 6, Overflow::Error);
    ask(&mut chat, &script);
    assert_eq!(sent(&script).len(), 14, "the engine is to refuse it");
}

#[test]
fn the_last_exchange_is_always_sent() {
    let (mut chat, script) = chat(1000, 6, Overflow::Drop);
    script.says([vec![Text("ok")]]);
    chat.ask("x".repeat(2000)).unwrap();
    assert_eq!(sent(&script), ["Be", "xx"]);
    chat.reset();
    script.says([vec![Text("ok")]]);
    chat.ask("x".repeat(2000)).unwrap();
    assert_eq!(sent(&script), ["Be", "xx"]);
}

#[test]
fn calls_and_results_go_with_their_exchange() {
    let (chat, script) = chat(1000, 0, Overflow::Drop);
    let mut chat = chat.with_functions(functions());
    let long = Box::leak(format!("{{\"text\": \"{}\"}}", "e".repeat(350)).into_boxed_str());
    for _ in 0..2 {
        script.says([vec![Call("echo", long)], vec![Text("ok")]]);
        chat.ask("go").unwrap();
    }
    script.asked();
    // The second answer of this round finds that there is no room: its own exchange stays whole.
    script.says([vec![Call("echo", long)], vec![Text("ok")]]);
    let lines = lines(chat.round("on").unwrap());
    assert_eq!(lines.iter().filter(|line| line.contains("Overflow")).count(), 1, "{lines:?}");
    let sent: Vec<Vec<String>> = script.asked().iter().map(|request| told(&request.messages)).collect();
    assert_eq!(sent[0].len(), 1 + 8 + 1);
    assert_eq!(sent[1][1..3], ["user: on", "assistant:  <echo>"]);
    assert_whole(chat.messages());
}

#[test]
fn a_round_that_is_taken_back_sends_again_what_was_sent_before_it() {
    let (mut chat, script) = chat(1000, 4, Overflow::Drop);
    let before = chat.messages().to_vec();
    script.says([vec![Fail]]);
    assert!(chat.ask("x".repeat(250)).is_err());
    assert_eq!(sent(&script), ["Be", "3q", "3a", "xx"]);
    assert_eq!(chat.messages(), before);
    ask(&mut chat, &script);
    assert_eq!(sent(&script).len(), 10);
}

#[test]
fn no_more_is_asked_for_than_there_is_room_for() {
    // 211 tokens are sent, and what an estimate may be wrong by is left free.
    for (most, asked) in [(50, 50), (500, 500), (900, 699), (5000, 699)] {
        let (chat, script) = chat(1000, 1, Overflow::Drop);
        let mut chat = chat.with_options(GenerateOptions { max_new_tokens: most, ..GenerateOptions::default() });
        ask(&mut chat, &script);
        assert_eq!(script.asked()[0].options.max_new_tokens, asked, "{most}");
    }
}
