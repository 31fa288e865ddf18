//! A conversation that survives the program: run it again and it goes on where it was, without feeding anything twice.
//! `cargo run --release --example 4_session -- MODEL FILE QUESTION`

use nano_runtime::{ChatOptions, GenerateOptions, ModelOptions, NanoModel, Session};
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [path, file, question] = &args[..] else { return Err("name a model, a session file and a question".into()) };
    let model = NanoModel::open(Path::new(path), ModelOptions::default(), |_| ())?;
    let (mut session, mut chat, notices) = Session::open(Path::new(file), &model, ChatOptions::default())?;
    notices.iter().for_each(|notice| eprintln!("note: {notice}"));

    chat.user(question.as_str());
    let output = chat.reply(&GenerateOptions::default())?.wait()?;
    println!("{}", output.text);
    eprintln!("{} tokens fed, {} reused", output.stats.input_tokens, output.stats.reused_tokens);
    // From here on a power cut does not take this turn any more.
    session.commit(&mut chat)?;
    Ok(())
}
