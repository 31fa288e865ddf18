//! Functions that the model calls in the middle of a reply: the result becomes part of the text, and the model goes on
//! from there. `cargo run --release --example 3_functions -- MODEL [QUESTION]`

use nano_runtime::{
    BotFunction, BotFunctions, ChatOptions, Event, GenerateOptions, ModelOptions, NanoModel, bot_function,
    bot_functions,
};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Returns the charge of the battery in percent.
#[bot_function]
fn battery() -> u8 {
    87
}

/// Returns the distance to the nearest obstacle, in metres.
#[bot_function]
fn distance(
    /// Where to look: front, left or right.
    side: Option<String>,
) -> Result<f32, String> {
    match side.as_deref().unwrap_or("front") {
        "front" => Ok(0.75),
        "left" | "right" => Ok(2.5),
        other => Err(format!("there is no sensor at the {other}")),
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("name a GGUF file or a Hugging Face folder")?;
    let question = args.next().unwrap_or_else(|| "How full is your battery?".into());
    let model = NanoModel::open(Path::new(&path), ModelOptions::default(), |_| ())?;

    // What needs something of the program's own is a closure.
    let driven = Arc::new(AtomicU32::new(0));
    let odometer = Arc::clone(&driven);
    let drive = BotFunction::closure("drive", "Drives so many metres.", ["metres"], move |metres: u32| {
        odometer.fetch_add(metres, Ordering::Relaxed);
    });
    let functions = bot_functions![battery, distance].with([drive])?.merge(&BotFunctions::ready_made(["time"])?)?;

    // The conversation tells the model about its functions, at the end of the system prompt.
    let mut chat = model.chat(ChatOptions { functions, ..ChatOptions::default() })?;
    chat.user(question);
    for event in chat.reply(&GenerateOptions::default())? {
        match event? {
            Event::Text(text) => {
                print!("{text}");
                std::io::stdout().flush()?;
            }
            Event::Call(call) => eprintln!("[{} -> {:?}]", call.name, call.result),
            Event::Done(output) => println!("\n({} calls)", output.stats.function_calls),
            _ => {}
        }
    }
    println!("driven: {} m", driven.load(Ordering::Relaxed));
    Ok(())
}
