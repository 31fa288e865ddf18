//! Continues a text with a base model, without a chat template:
//! `cargo run --release --example 1_generate -- MODEL "Once upon a time"`

use nano_runtime::{Event, GenerateOptions, ModelOptions, NanoModel};
use std::io::Write;
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("name a GGUF file or a Hugging Face folder")?;
    let text = args.next().unwrap_or_else(|| "Once upon a time".into());

    let model = NanoModel::open(Path::new(&path), ModelOptions::default(), |_| ())?;
    print!("{text}");
    for event in model.complete(&text, &GenerateOptions::default())? {
        match event? {
            Event::Text(text) => {
                print!("{text}");
                std::io::stdout().flush()?;
            }
            Event::Done(output) => {
                let stats = output.stats;
                println!();
                eprintln!("{} tokens at {:.1} tokens/s", stats.output_tokens, stats.decode_rate());
            }
        }
    }
    Ok(())
}
