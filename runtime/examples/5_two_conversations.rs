//! Two conversations on one model at once: the engine puts rows of both into each step.
//! `cargo run --release --example 5_two_conversations -- MODEL`

use nano_runtime::{ChatOptions, GenerateOptions, ModelOptions, NanoModel};
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("name a GGUF file or a Hugging Face folder")?;
    let model = NanoModel::open(Path::new(&path), ModelOptions::default(), |_| ())?;
    let mut poet =
        model.chat(ChatOptions { system_prompt: Some("You are a poet.".into()), ..ChatOptions::default() })?;
    let mut cook =
        model.chat(ChatOptions { system_prompt: Some("You are a cook.".into()), ..ChatOptions::default() })?;
    let options = GenerateOptions { max_new_tokens: 48, ..GenerateOptions::default() };

    for question in ["What do you do in the morning?", "And in the evening?"] {
        poet.user(question);
        cook.user(question);
        // Both replies are under way before the first is read.
        let (poem, dish) = (poet.reply(&options)?, cook.reply(&options)?);
        println!("Poet: {}\nCook: {}\n", poem.wait()?.text, dish.wait()?.text);
    }
    Ok(())
}
