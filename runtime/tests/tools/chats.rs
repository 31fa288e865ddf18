//! Rounds of a chat on a model: over the local engine, which is given all messages each time, and over a conversation that
//! keeps its own rows. Both feed only what is new.

use crate::model;
use nano_runtime::{
    BotFunction, BotFunctions, Chat, ChatHooks, ChatOptions, Event, LocalEngine, Message, Output, RoundEvent, Template,
};
use std::sync::Arc;

const CALLS: &str = "<tool_call>\n{\"name\":\"add\",\"arguments\":{\"a\":1,\"b\":2}}\n</tool_call>\n<tool_call>\n\
                     {\"name\":\"add\",\"arguments\":{\"a\":3,\"b\":4}}\n</tool_call><|im_end|>";

fn functions() -> BotFunctions {
    BotFunctions::new([BotFunction::closure("add", "Adds.", ["a", "b"], |a: i64, b: i64| a + b)]).unwrap()
}

/// The answers of a round and the results in it.
fn round(chat: &mut Chat, text: &str) -> (Vec<Output>, Vec<String>) {
    let (mut answers, mut results) = (Vec::new(), Vec::new());
    for event in chat.round(text).unwrap() {
        match event.unwrap() {
            RoundEvent::Answer(Event::Done(output)) => answers.push(*output),
            RoundEvent::Result(result) => results.push(result.message.content.text()),
            _ => {}
        }
    }
    (answers, results)
}

fn both() -> [(&'static str, Chat); 2] {
    ["engine", "history"].map(|name| {
        let (model, _) =
            model(Template::builtin("chat-ml-tools").unwrap(), &[CALLS, "3 and 7.<|im_end|>", "Yes.<|im_end|>"]);
        let chat = match name {
            "engine" => Chat::new(Arc::new(LocalEngine::new(&model, ChatOptions::default()).unwrap())),
            _ => Chat::of(model.chat(ChatOptions::default()).unwrap()),
        };
        (name, chat.with_system_prompt("Be brief.").with_functions(functions()))
    })
}

#[test]
fn a_round_feeds_what_is_new() {
    for (name, mut chat) in both() {
        let (answers, results) = round(&mut chat, "Add.");
        assert_eq!(results, ["3", "7"], "{name}");
        let [call, answer] = &answers[..] else { panic!("{name}: {answers:?}") };
        assert_eq!((call.text.as_str(), answer.text.as_str()), ("", "3 and 7."), "{name}");
        // All of the first prompt and of the calls; the token that ended them has no row yet.
        let rows = |output: &Output| output.stats.reused_tokens + output.stats.input_tokens + output.tokens.len() - 1;
        assert_eq!(answer.stats.reused_tokens, rows(call), "{name}");
        let (answers, _) = round(&mut chat, "Right?");
        assert_eq!(answers[0].stats.reused_tokens, rows(answer), "{name}");
        let roles: Vec<&str> = chat.messages().iter().map(|message| message.role.as_str()).collect();
        assert_eq!(roles, ["system", "user", "assistant", "tool", "tool", "assistant", "user", "assistant"], "{name}");
    }
}

#[test]
fn a_hook_says_what_is_fed_and_the_messages_stay() {
    struct Short;
    impl ChatHooks for Short {
        fn prompt(&mut self, messages: &[Message]) -> Option<Vec<Message>> {
            Some(messages[messages.len() - 1..].to_vec())
        }
    }
    for (name, _) in both() {
        let (model, log) = model(Template::builtin("chat-ml-tools").unwrap(), &["One.<|im_end|>", "Two.<|im_end|>"]);
        let chat = match name {
            "engine" => Chat::new(Arc::new(LocalEngine::new(&model, ChatOptions::default()).unwrap())),
            _ => Chat::of(model.chat(ChatOptions::default()).unwrap()),
        };
        let mut chat = chat.with_system_prompt("Be brief.").with_hooks(Short);
        assert_eq!(chat.ask("First").unwrap(), "One.", "{name}");
        crate::common::talk::fed(&log);
        assert_eq!(chat.ask("Second").unwrap(), "Two.", "{name}");
        let fed = crate::marks::decode(&crate::common::talk::fed(&log));
        assert!(fed.contains("Second") && !fed.contains("First") && !fed.contains("brief"), "{name}: {fed}");
        assert_eq!(chat.messages().len(), 5, "{name}");
    }
}
