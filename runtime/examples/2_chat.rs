//! A conversation: each line of the standard input is a turn, and only what is new in it is fed to the model.
//! `cargo run --release --example 2_chat -- MODEL`

use nano_runtime::{ChatOptions, Event, GenerateOptions, ModelOptions, NanoModel, Sampling};
use std::io::Write;
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("name a GGUF file or a Hugging Face folder")?;
    let model = NanoModel::open(Path::new(&path), ModelOptions::default(), |_| ())?;
    let system_prompt = Some("You are a helpful assistant. Answer in one sentence.".into());
    let mut chat = model.chat(ChatOptions { system_prompt, ..ChatOptions::default() })?;
    let options = GenerateOptions { sampling: Some(Sampling::default()), seed: Some(1), ..GenerateOptions::default() };

    for line in std::io::stdin().lines() {
        chat.user(line?);
        // The reply joins the conversation when its last event is read.
        for event in chat.reply(&options)? {
            match event? {
                Event::Text(text) => {
                    print!("{text}");
                    std::io::stdout().flush()?;
                }
                Event::Done(output) => {
                    println!();
                    eprintln!("{} tokens fed, {} reused", output.stats.input_tokens, output.stats.reused_tokens);
                }
            }
        }
    }
    Ok(())
}
