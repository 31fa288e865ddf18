//! What calls of tools cost besides the model: reading a reply for calls and reasoning, and the rounds.

use super::{Bench, HISTORIES, LIMITS, PROSE, Result, chat_with};
use crate::idle::Idle;
use nano_benches::{median, middle};
use nano_models::Control;
use nano_runtime::{
    ChatOptions, Event, GenerateOptions, Message, NanoModel, ParserOptions, StreamParser, Template, ToolFormat, Value,
};
use std::hint::black_box;
use std::time::Instant;

const CALL: &str =
    "<tool_call>\n{\"name\": \"drive\", \"arguments\": {\"speed\": 0.5, \"where\": \"to the door\"}}\n</tool_call>";
/// Bytes that a token has, more or less.
const TOKEN: usize = 4;

fn tools() -> Vec<Value> {
    let properties = r#"{"speed": {"type": "number"}, "where": {"type": "string"}}"#;
    let parameters = format!(r#"{{"type": "object", "properties": {properties}, "required": ["speed"]}}"#);
    let tool = format!(r#"[{{"type": "function", "function": {{"name": "drive", "parameters": {parameters}}}}}]"#);
    serde_json::from_str(&tool).expect("a tool is JSON")
}

impl Bench {
    /// The time that reading takes, by itself and in a conversation.
    pub fn reading(&self) -> Result<()> {
        println!("\nreading a reply for calls and reasoning, in microseconds a token of {TOKEN} bytes");
        println!("{:32} {:>9} {:>9}", "", "1k", "16k");
        let marks = "<tool <too [TOOL {\"a\" <|pyth `` << ".repeat(8);
        let thought = format!("<think>\n{PROSE}");
        let cases = [
            ("prose", PROSE.to_owned()),
            ("a call every 60 words", format!("{PROSE}\n{CALL}\n")),
            ("beginnings of marks", marks),
            ("reasoning", thought),
        ];
        for (name, text) in cases {
            let mut line = format!("{name:32}");
            let mut worst = 0.0;
            for tokens in [1_000, 16_000] {
                let text: String = text.chars().cycle().filter(char::is_ascii).take(tokens * TOKEN).collect();
                let mut slowest: (f64, &str) = (0.0, "");
                for format in ToolFormat::ALL {
                    let time = median(5, || {
                        let schemas = [("drive".to_owned(), tools()[0]["function"]["parameters"].clone())];
                        let schemas = std::sync::Arc::new(schemas.into_iter().collect());
                        let options = ParserOptions { schemas, ..ParserOptions::default() };
                        let mut parser = StreamParser::new(*format, options);
                        for piece in text.as_bytes().chunks(TOKEN) {
                            black_box(parser.push(std::str::from_utf8(piece).unwrap_or("?")));
                        }
                        black_box(parser.finish());
                    });
                    if time > slowest.0 {
                        slowest = (time, format.name());
                    }
                }
                worst = slowest.0 / tokens as f64;
                line += &format!(" {:9.3}", worst * 1e6);
            }
            println!("{line}{}, the slowest of all formats", self.share(worst));
        }
        Ok(())
    }

    /// The time of a round after a history: a call of about 40 tokens, its result of 20 words, the first token after it.
    pub fn rounds(&self) -> Result<()> {
        println!("\na round of a call after a history, everything but the model, in milliseconds");
        println!("{:>8} {:>12} {:>8} {:>8} {:>8}", "rows", "first token", "call", "fed", "reused");
        for rows in HISTORIES {
            let (mut idle, _) = Idle::new(LIMITS, self.tokenizer.encode(PROSE, Control::Text)?);
            let script = idle.script();
            let template = Template::builtin("chat-ml-tools");
            let model = NanoModel::with_runner(idle, self.tokenizer.clone(), template)?;
            let mut chat = chat_with(&model, rows, ChatOptions { tools: tools(), ..ChatOptions::default() })?;
            let stop = self.tokenizer.stop().first().copied().ok_or("the model has no stop token")?;
            let call: Vec<u32> = self.tokenizer.encode(CALL, Control::Parse)?.into_iter().chain([stop]).collect();
            let options = GenerateOptions { max_new_tokens: 200, ..GenerateOptions::default() };
            let one = GenerateOptions { max_new_tokens: 1, ..GenerateOptions::default() };
            let (mut first, mut fed, mut reused) = (Vec::new(), 0, 0);
            for _ in 0..100 {
                let mark = chat.mark();
                script.lock().map_err(|_| "poisoned")?.extend(&call);
                chat.user("Go on.");
                let output = chat.reply(&options)?.wait()?;
                let calls = output.message.tool_calls.ok_or("the call was not read")?;
                let start = Instant::now();
                chat.append_message(Message {
                    tool_call_id: calls[0]["id"].as_str().map(str::to_owned),
                    name: Some("drive".into()),
                    ..Message::new("tool", &PROSE[..100])
                });
                let mut reply = chat.reply(&one)?;
                let Some(Ok(Event::Text(_))) = reply.next() else { return Err("a reply without text".into()) };
                first.push(start.elapsed().as_secs_f64());
                let stats = reply.wait()?.stats;
                (fed, reused) = (stats.input_tokens, stats.reused_tokens);
                chat.rollback(mark)?;
            }
            let (time, call) = (middle(first), call.len());
            println!("{:8} {:12.3} {call:8} {fed:8} {reused:8}{}", chat.num_rows(), time * 1e3, self.share(time));
        }
        Ok(())
    }
}
