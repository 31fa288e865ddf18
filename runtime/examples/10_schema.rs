//! Words become data: the reply is held to a JSON schema, so that it can be used as it is.
//! `cargo run --release --example 10_schema -- MODEL [WORDS]`

use nano_runtime::{ChatOptions, Constraint, Finish, GenerateOptions, ModelOptions, NanoModel, Value};
use std::path::Path;

const SCHEMA: &str = r#"{
    "type": "object",
    "properties": {
        "action": {"enum": ["drive", "turn", "stop"]},
        "amount": {"type": "number", "minimum": 0, "maximum": 360}
    },
    "required": ["action", "amount"],
    "additionalProperties": false
}"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("name a GGUF file or a Hugging Face folder")?;
    let words = args.next().unwrap_or_else(|| "Please go ahead by two metres.".into());
    let model = NanoModel::open(Path::new(&path), ModelOptions::default(), |_| ())?;

    let constraint = Constraint::JsonSchema(serde_json::from_str(SCHEMA)?);
    // A schema that cannot be enforced with this model's tokens is refused here, before anything is asked.
    model.check_constraint(&constraint)?;
    let system_prompt = Some("Say what the robot is told to do, as JSON.".to_owned());
    let mut chat = model.chat(ChatOptions { system_prompt, ..ChatOptions::default() })?;
    chat.user(words);
    let output = chat.reply(&GenerateOptions { constraint: Some(constraint), ..GenerateOptions::default() })?.wait()?;
    if output.finish != Finish::Stop {
        // Only a reply that was cut off is not whole.
        return Err(format!("the reply ended early: {}", output.text).into());
    }
    let command: Value = serde_json::from_str(&output.text)?;
    println!("{} by {}", command["action"], command["amount"]);
    eprintln!(
        "({:.3} ms for masks, the worst token took {:.3} ms)",
        output.stats.mask_time * 1e3,
        output.stats.worst_mask_time * 1e3
    );
    Ok(())
}
