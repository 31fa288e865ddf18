//! Two engines: one talks with the user, and calls a function that has the other one read a long text and sum it up. The
//! first never sees more than the summary. `cargo run --release --example 8_sub_chat -- MODEL [READER] [QUESTION]`

use nano_runtime::{
    BotFunction, BotFunctions, Chat, ChatOptions, Engine, LocalEngine, ModelOptions, NanoModel, SharedMessages,
};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// An engine may as well be a server: `nano_remote::RemoteEngine` is one too.
fn engine(path: &str) -> nano_runtime::Result<Arc<dyn Engine>> {
    let model = NanoModel::open(Path::new(path), ModelOptions::default(), |_| ())?;
    Ok(Arc::new(LocalEngine::new(&model, ChatOptions::default())?))
}

/// What the robot did today, in more words than anybody wants to hear.
fn log() -> String {
    let minute = |i: u32| format!("{:02}:{:02} drove {} m, battery {} %\n", 8 + i / 60, i % 60, i % 7, 100 - i / 4);
    (0..30).map(minute).collect()
}

/// A function that knows the conversation it is called in, and has another model answer.
fn diary(messages: SharedMessages, reader: Arc<dyn Engine>) -> BotFunction {
    let summary = move || -> Result<String, String> {
        // The copy: what was said so far in words, without calls and their results.
        let said = messages.get();
        let words = said.iter().filter(|message| ["user", "assistant"].contains(&message.role.as_str()));
        let words = words.filter(|message| message.tool_calls.is_none()).cloned();
        let mut chat = Chat::new(Arc::clone(&reader))
            .with_system_prompt("You help another assistant. Answer in one sentence.")
            .with_messages(words);
        let question = format!("Sum up what in this log matters for the question above:\n{}", log());
        chat.ask(question).map_err(|error| error.to_string())
    };
    let summary = BotFunction::closure("diary", "Tells in short what happened today.", [], summary);
    // A model takes longer than what functions usually have.
    summary.with_timeout(Duration::from_secs(120))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("name a GGUF file or a Hugging Face folder")?;
    let talker = engine(&path)?;
    let reader = args.next().map_or_else(|| Ok(Arc::clone(&talker)), |path| engine(&path))?;
    let question = args.next().unwrap_or_else(|| "What did you do today?".into());

    let chat = Chat::new(talker);
    let diary = diary(chat.shared_messages(), reader);
    let mut chat = chat.with_functions(BotFunctions::new([diary])?);
    println!("{}", chat.ask(question)?);
    for message in chat.messages().iter().filter(|message| message.role == "tool") {
        println!("({} characters of log were summed up: {})", log().len(), message.content.text());
    }
    Ok(())
}
