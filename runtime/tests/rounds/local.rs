//! Rounds of a conversation with a local model: the same rounds, and tokens and rows that go with the messages. The runner
//! checks that every row it uses was computed after the tokens that are before it.

use crate::common::*;
use crate::script::{assert_whole, functions, line, told};
use nano_runtime::{
    Chat, ChatHooks, ChatOptions, Error, Event, Finish, GenerateOptions, Limits, Message, Output, Overflow, Result,
    Round, RoundEvent, Template, ToolFormat,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const CALLS: &str = "So:\n<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1, \"b\": 2}}\n</tool_call>\n<tool_call>\n\
                     {\"name\": \"fail\", \"arguments\": {}}\n</tool_call>";

/// Calls after words of the user, and answers after results.
fn model(tokens_before: &[u32]) -> u32 {
    let mark = tokens("<|im_start|>assistant\n");
    let turn = (0..tokens_before.len()).rev().find(|&i| tokens_before[i..].starts_with(&mark)).expect("a turn");
    let before = &tokens_before[..turn];
    let last = before.iter().rposition(|&token| token == START).expect("a message");
    let reply = if before[last + 1..].starts_with(&bytes("tool")) { tokens("3, I think.") } else { tokens(CALLS) };
    let said = tokens_before.len() - turn - mark.len();
    reply.get(said).copied().unwrap_or(END)
}

/// What a conversation is, for comparing.
fn state(chat: &mut Chat) -> (Vec<Message>, usize, usize) {
    let history = chat.history().expect("a local model");
    (history.messages().to_vec(), history.num_tokens(), history.num_rows())
}

struct Bot {
    chat: Chat,
    log: Shared,
    /// Steps that are still to go well before one fails. More than there ever are: none fails.
    good: Arc<AtomicUsize>,
}

const ALL: usize = usize::MAX / 2;

fn bot(limits: Limits, overflow: Overflow, system: &str) -> Bot {
    let (mut fake, log) = Fake::new(limits, model);
    let good = Arc::new(AtomicUsize::new(ALL));
    let left = Arc::clone(&good);
    fake.faults = Box::new(move |_| {
        let before = left.fetch_sub(1, Ordering::Relaxed);
        if before == 0 {
            left.store(ALL, Ordering::Relaxed);
        }
        (before == 0).then_some(Fault::Error)
    });
    let chat_options = ChatOptions {
        system_prompt: Some(system.into()),
        tool_format: Some(ToolFormat::Hermes),
        overflow,
        ..ChatOptions::default()
    };
    let model = fake.model(Some(Template::builtin("chat-ml-tools").unwrap()));
    let chat = Chat::of(model.chat(chat_options).unwrap());
    let chat = chat.with_functions(functions()).with_options(GenerateOptions { max_new_tokens: 200, ..options() });
    Bot { chat, log, good }
}

fn wide() -> Limits {
    Limits { rows: 256, context: 8192, pages: 256, ..limits() }
}

/// One that has talked before.
fn begun() -> Bot {
    let mut bot = bot(wide(), Overflow::Drop, "Be brief.");
    assert_eq!(bot.chat.ask("before").unwrap(), "3, I think.");
    bot
}

fn outputs(round: Round<'_>) -> Result<Vec<Output>> {
    let mut outputs = Vec::new();
    for event in round {
        if let RoundEvent::Answer(Event::Done(output)) = event? {
            outputs.push(*output);
        }
    }
    Ok(outputs)
}

const EXCHANGE: [&str; 5] =
    ["user: go", "assistant: So: <add> <fail>", "tool: 3", "tool: error: fail: no signal", "assistant: 3, I think."];

#[test]
fn only_what_is_new_is_fed() {
    let Bot { mut chat, log, .. } = begun();
    let (_, tokens, rows) = state(&mut chat);
    log.lock().unwrap().steps.clear();
    let outputs = outputs(chat.round("go").unwrap()).unwrap();
    assert_eq!(told(&chat.messages()[6..]), EXCHANGE);
    assert_whole(chat.messages());
    let [first, second] = &outputs[..] else { panic!("{} answers", outputs.len()) };
    assert_eq!(first.stats.reused_tokens, rows);
    assert_eq!(second.stats.reused_tokens, rows + first.stats.input_tokens + first.tokens.len() - 1);
    // Nothing is fed twice: each token of the conversation that has a row now and had none before was fed once.
    let (_, now, now_rows) = state(&mut chat);
    assert_eq!(log.lock().unwrap().rows(), now_rows - rows);
    assert!(now > tokens);
}

/// A conversation goes on after something was taken back or stopped.
fn goes_on(bot: &mut Bot, what: &str) {
    let before = bot.chat.messages().len();
    assert_eq!(bot.chat.ask("go").unwrap_or_else(|error| panic!("{what}: {error}")), "3, I think.", "{what}");
    assert_eq!(told(&bot.chat.messages()[before..]), EXCHANGE, "{what}");
}

#[test]
fn dropped_after_every_event() {
    let all = begun().chat.round("go").unwrap().count();
    assert!(all > 10, "{all} events");
    let mut bot = begun();
    let before = state(&mut bot.chat);
    for k in 0..all {
        let mut round = bot.chat.round("go").unwrap();
        assert_eq!(round.by_ref().take(k).count(), k);
        drop(round);
        assert_eq!(state(&mut bot.chat), before, "dropped after {k} events");
    }
    goes_on(&mut bot, "dropped");
}

#[test]
fn stopped_after_every_event() {
    let all = begun().chat.round("go").unwrap().count();
    for k in 0..all {
        let what = format!("stopped after {k} events");
        let mut bot = begun();
        let before = state(&mut bot.chat);
        let mut round = bot.chat.round("go").unwrap();
        round.by_ref().take(k).for_each(drop);
        round.stop();
        let last = round.by_ref().last();
        drop(round);
        // The model may have come further than what was read.
        match last {
            Some(Err(Error::RoundStopped)) => assert_eq!(state(&mut bot.chat), before, "{what}"),
            Some(Ok(RoundEvent::Answer(Event::Done(output)))) => {
                let stopped = output.finish == Finish::Cancelled;
                assert!(stopped || output.text == "3, I think.", "{what}: {output:?}");
                let messages = bot.chat.messages();
                assert!(output.message.tool_calls.is_none() && messages.last() == Some(&output.message), "{what}");
                assert_whole(messages);
                let index = messages.len() - 1;
                assert_eq!(bot.chat.history().unwrap().is_cancelled(index), stopped, "{what}");
            }
            other => panic!("{what}: {other:?}"),
        }
        goes_on(&mut bot, &what);
    }
}

#[test]
fn a_step_that_fails_anywhere() {
    let steps = {
        let Bot { mut chat, log, .. } = begun();
        let before = log.lock().unwrap().steps.len();
        chat.ask("go").unwrap();
        let all = log.lock().unwrap().steps.len();
        all - before
    };
    assert!(steps > 20, "{steps} steps");
    let mut bot = begun();
    let before = state(&mut bot.chat);
    for step in 0..steps {
        bot.good.store(step, Ordering::Relaxed);
        let error = bot.chat.ask("go").expect_err("a step that fails");
        assert!(matches!(error, Error::Step(_)), "{error}");
        bot.good.store(ALL, Ordering::Relaxed);
        assert_eq!(state(&mut bot.chat).0, before.0, "step {step} failed");
    }
    goes_on(&mut bot, "failed");
}

/// What was dropped from the beginning to make room comes back with a round that is taken back.
#[test]
fn room_that_was_made_for_a_round_is_given_back_with_it() {
    let tokens = {
        let mut bot = begun();
        (0..5).for_each(|_| drop(bot.chat.ask("go").unwrap()));
        state(&mut bot.chat).1
    };
    // Six exchanges fit, and a seventh does not: its first answer or its second finds that.
    let (mut in_first, mut in_second) = (0, 0);
    for (overflow, more) in
        [(Overflow::Drop, 205), (Overflow::Shift, 205), (Overflow::Drop, 330), (Overflow::Shift, 330)]
    {
        for k in (0..).step_by(4) {
            let mut bot = bot(Limits { context: tokens + more, ..wide() }, overflow, "Be brief.");
            bot.chat.ask("before").unwrap();
            (0..5).for_each(|_| drop(bot.chat.ask("go").unwrap()));
            let (before, _, rows) = state(&mut bot.chat);
            assert_eq!(before.len(), 31);
            let mut round = bot.chat.round("more").unwrap();
            let lines: Vec<String> = round.by_ref().take(k).map(|event| line(&event)).collect();
            let ended = round.is_ended();
            drop(round);
            let made_room = lines.iter().position(|line| line.contains("Overflow"));
            if ended {
                assert!(made_room.is_some() && bot.chat.messages().len() < before.len() + 5, "{lines:?}");
                assert_whole(bot.chat.messages());
                assert_eq!(bot.chat.ask("go").unwrap(), "3, I think.");
                break;
            }
            let (messages, _, left) = state(&mut bot.chat);
            assert!(messages == before && left <= rows, "{overflow:?}: dropped after {k} events");
            if let Some(at) = made_room {
                assert!(lines[at].contains(&format!("policy: {overflow:?}")), "{lines:?}");
                if overflow == Overflow::Shift {
                    let system = bot.chat.history().unwrap().message_tokens(0).len();
                    assert!(left <= system, "{left} rows, and those behind the first {system} were moved");
                }
                in_first += usize::from(lines[at..].iter().any(|line| line.starts_with("done")));
                in_second += usize::from(lines[..at].iter().any(|line| line.starts_with("done")));
            }
        }
    }
    assert!(in_first > 1 && in_second > 1, "{in_first} and {in_second}");
}

#[test]
fn other_messages_keep_the_rows_of_those_that_stay() {
    let Bot { mut chat, log, .. } = begun();
    chat.ask("go").unwrap();
    let (messages, tokens, _) = state(&mut chat);
    assert_eq!(chat.undo().len(), 5);
    let (kept, fewer, rows) = state(&mut chat);
    assert!(kept == messages[..6] && fewer < tokens && rows >= fewer - 1);
    log.lock().unwrap().steps.clear();
    chat.round("go").unwrap().take(1).for_each(drop);
    assert!(log.lock().unwrap().steps[0].fed[0].len() < 40, "the tools and the first exchange are not fed again");
    chat.reset();
    assert_eq!(told(chat.messages()), ["system: Be brief."]);
    chat.set_system_prompt(Some("Be long.".into()));
    assert_eq!(told(chat.messages()), ["system: Be long."]);
    chat.set_system_prompt(Some("Be long.".into()));
    assert_eq!(chat.ask("go").unwrap(), "3, I think.");
}

struct Prompts;

impl ChatHooks for Prompts {
    fn prompt(&mut self, messages: &[Message]) -> Option<Vec<Message>> {
        Some(messages.to_vec())
    }
}

#[test]
fn a_prompt_of_a_hook_is_answered_aside() {
    let Bot { chat, .. } = begun();
    let mut chat = chat.with_hooks(Prompts);
    let before = told(chat.messages()).len();
    let mut round = chat.round("go").unwrap();
    drop(round.next());
    drop(round);
    assert_eq!(told(chat.messages()).len(), before);
    assert_eq!(chat.ask("go").unwrap(), "3, I think.");
    assert!(told(chat.messages()).len() > before + 1);
}
