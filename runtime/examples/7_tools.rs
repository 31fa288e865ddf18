//! Functions that the model calls in its own format: it answers, all calls of the answer are made at once, it is told what
//! they returned, and so on until an answer calls none.
//! `cargo run --release --example 7_tools -- MODEL [QUESTION]`

use nano_runtime::{
    CallReport, Chat, ChatHooks, ChatOptions, Event, ModelOptions, NanoModel, RoundEvent, ToolCall, Value,
    bot_function, bot_functions,
};
use std::io::Write;
use std::path::Path;

/// Returns the charge of the battery in percent.
#[bot_function]
fn battery() -> u8 {
    87
}

/// Drives ahead.
#[bot_function]
fn drive(
    /// How far, in metres.
    metres: f64,
) -> Result<String, String> {
    // The model is told of errors, and may try again.
    if metres <= 2.0 { Ok(format!("drove {metres} m")) } else { Err("there is an obstacle after 2 m".into()) }
}

/// Looks at calls before they are made, and at what came of them.
struct Safety;

impl ChatHooks for Safety {
    fn before_call(&mut self, call: &ToolCall) -> Option<Result<Option<String>, String>> {
        let backwards = call.arguments.get("metres").and_then(Value::as_f64).is_some_and(|metres| metres < 0.0);
        backwards.then(|| Err("driving backwards is not allowed".into()))
    }

    fn after_call(&mut self, report: &mut CallReport) {
        eprintln!("[{} took {:.0} ms]", report.name, report.seconds * 1e3);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("name a GGUF file or a Hugging Face folder")?;
    let question = args.next().unwrap_or_else(|| "How full is your battery?".into());
    let model = NanoModel::open(Path::new(&path), ModelOptions::default(), |_| ())?;

    // The model is told of the functions by its template, or in words where that knows none.
    let mut chat = Chat::of(model.chat(ChatOptions::default())?)
        .with_functions(bot_functions![battery, drive])
        .with_hooks(Safety)
        .with_max_function_rounds(Some(4));
    for event in chat.round(question)? {
        match event? {
            RoundEvent::Answer(Event::Text(text)) => {
                print!("{text}");
                std::io::stdout().flush()?;
            }
            RoundEvent::Answer(Event::Reasoning(text)) => eprint!("{text}"),
            RoundEvent::Answer(Event::ToolCall(call)) => {
                println!("[{} {}]", call.name, Value::Object(call.arguments));
            }
            RoundEvent::Result(result) => println!("[{}: {}]", result.report.name, result.message.content.text()),
            RoundEvent::Notice(text) => println!("[{text}]"),
            // Only what is new in the conversation was fed for this answer.
            RoundEvent::Answer(Event::Done(output)) => {
                eprintln!("\n({} tokens fed, {} reused)", output.stats.input_tokens, output.stats.reused_tokens);
            }
            _ => {}
        }
    }
    println!();
    Ok(())
}
