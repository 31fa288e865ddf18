//! Conversations on the scripted runner, for tests that look at what each turn feeds.

use super::{Fake, Shared, bytes, limits, options, parrot, template, tokens};
use nano_runtime::{ChatHistory, ChatOptions, GenerateOptions, Limits, NanoModel, Output, Result};

/// A conversation with a model that gives these replies, one after the other.
pub fn chat_with(limits: Limits, source: &str, replies: &[&str], system: Option<&str>) -> (ChatHistory, Shared) {
    let (fake, log) = Fake::new(limits, parrot(replies.iter().map(|r| tokens(r)).collect()));
    (open(&fake.model(template(source)), system), log)
}

pub fn chat(source: &str, replies: &[&str]) -> (ChatHistory, Shared) {
    chat_with(limits(), source, replies, None)
}

pub fn open(model: &NanoModel, system: Option<&str>) -> ChatHistory {
    model.chat(ChatOptions { system_prompt: system.map(str::to_owned), ..ChatOptions::default() }).unwrap()
}

pub fn say(chat: &mut ChatHistory, text: &str) -> Output {
    ask(chat, text, &options()).unwrap()
}

pub fn ask(chat: &mut ChatHistory, text: &str, options: &GenerateOptions) -> Result<Output> {
    chat.user(text);
    chat.reply(options)?.wait()
}

/// The tokens fed since the last call.
pub fn fed(log: &Shared) -> Vec<u32> {
    let mut log = log.lock().unwrap();
    let fed = log.fed();
    log.steps.clear();
    fed
}

/// Who said what.
pub fn texts(chat: &ChatHistory) -> Vec<(String, String)> {
    chat.messages().iter().map(|m| (m.role.clone(), m.content.text())).collect()
}

/// All tokens of a conversation, message by message.
pub fn all(chat: &ChatHistory) -> Vec<u32> {
    (0..chat.messages().len()).flat_map(|i| chat.message_tokens(i)).collect()
}

/// The tokens of a user's turn in ChatML, up to where the reply begins.
pub fn user(text: &str) -> Vec<u32> {
    [tokens("<|im_start|>user\n"), bytes(text), tokens("<|im_end|>\n<|im_start|>assistant\n")].concat()
}
