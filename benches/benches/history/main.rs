//! What a conversation costs besides the model: the text of a reply, its calls, a turn on a long history, a fork, a round of tools. All of it
//! runs on a machine that computes nothing, with the tokenizer of a model if one is named, whose decode step is then
//! measured for comparison.
//!
//! `cargo bench -p nano-benches --bench history [-- [MODEL] [replies] [turns] [forks] [reading] [rounds]]`

mod idle;
mod tools;

use idle::Idle;
use nano_benches::{median, middle};
use nano_models::Control;
use nano_models::testing::Parrot;
use nano_runtime::{
    BotFunction, BotFunctions, ChatHistory, ChatOptions, Device, Event, GenerateOptions, Limits, ModelOptions,
    NanoModel, Template, Tokenizer,
};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

const PROSE: &str = " The robot looks around, sees a chair on its left and a table on its right, and says so; then it goes on \
                     to the door (which is open), and waits there for a while. Nobody comes.";
const LIMITS: Limits =
    Limits { rows: 512, logits_rows: 8, sequences: 4, vocab: 1 << 20, pages: 2048, context: 1 << 15 };
/// Rows of history, more or less, before the turn that is timed.
const HISTORIES: [usize; 6] = [0, 250, 500, 1000, 2000, 4000];

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    const PARTS: [&str; 5] = ["replies", "turns", "forks", "reading", "rounds"];
    let args = std::env::args().skip(1).filter(|arg| !arg.starts_with('-'));
    let (parts, paths): (Vec<String>, Vec<String>) = args.partition(|arg| PARTS.contains(&arg.as_str()));
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|wanted| wanted == part);
    let path = paths.first().map(PathBuf::from);
    let step = path.as_deref().map(decode_step).transpose()?;
    let bench = Bench { tokenizer: tokenizer(path.as_deref())?, step };
    match step {
        Some(step) => println!("a decode step of this model on 2 threads: {:.2} ms", step * 1e3),
        None => println!("no model was named: nothing to compare with"),
    }
    if wanted("replies") {
        bench.replies()?;
    }
    if wanted("turns") {
        bench.turns()?;
    }
    if wanted("forks") {
        bench.forks()?;
    }
    if wanted("reading") {
        bench.reading()?;
    }
    if wanted("rounds") {
        bench.rounds()?;
    }
    Ok(())
}

struct Bench {
    tokenizer: Tokenizer,
    /// Seconds.
    step: Option<f64>,
}

impl Bench {
    /// A model that says a text over and over, and the count of rows copied.
    fn model(&self, says: &str) -> Result<(NanoModel, Arc<AtomicUsize>)> {
        let (idle, copied) = Idle::new(LIMITS, self.tokenizer.encode(says, Control::Text)?);
        Ok((NanoModel::with_runner(idle, self.tokenizer.clone(), Template::builtin("chat-ml"))?, copied))
    }

    /// Seconds beside a decode step.
    fn share(&self, seconds: f64) -> String {
        self.step.map_or_else(String::new, |step| format!(" ({:.2}% of a step)", seconds / step * 100.0))
    }

    /// The time of a token of replies of several lengths.
    fn replies(&self) -> Result<()> {
        println!("\na token of a reply, everything but the model, in microseconds");
        let literal = format!("say('{}')", PROSE.repeat(2000).replace('\'', ""));
        let calls = format!("{}time(){}", PROSE, PROSE);
        let cases = [
            ("text", PROSE.to_owned(), false),
            ("text, functions looked for", PROSE.to_owned(), true),
            ("a call every 60 words, called", calls, true),
            ("one long argument of a call", literal, true),
        ];
        println!("{:32} {:>9} {:>9} {:>9}", "", "1k", "4k", "16k");
        for (name, says, functions) in cases {
            let (model, _) = self.model(&says)?;
            let mut line = format!("{name:32}");
            let (mut last, mut calls) = (0.0, String::new());
            for tokens in [1_000, 4_000, 16_000] {
                let functions = if functions { self::functions()? } else { BotFunctions::default() };
                let options = GenerateOptions { max_new_tokens: tokens, functions, ..GenerateOptions::default() };
                // Both threads have work: what counts is how long the engine takes.
                let mut waits = Vec::new();
                let time = median(9, || {
                    let output = model.generate(vec![0], model.cache(), &options).wait().unwrap();
                    assert_eq!(output.tokens.len(), tokens);
                    let stats = output.stats;
                    waits.push(stats.function_time / stats.function_calls.max(1) as f64);
                });
                let wait = middle(waits);
                if wait > 0.0 {
                    calls += &format!(" {:.0}", wait * 1e6);
                }
                last = time / tokens as f64;
                line += &format!(" {:9.2}", last * 1e6);
            }
            println!("{line}{}", self.share(last));
            if !calls.is_empty() {
                println!("{:32} a call waited for:{calls}", "");
            }
        }
        Ok(())
    }

    /// The time of a turn that is the same after any history.
    fn turns(&self) -> Result<()> {
        println!("\na turn of 20 words after a history, everything but the model, in milliseconds");
        println!("{:>8} {:>9} {:>12} {:>10} {:>8}", "rows", "messages", "first token", "commit", "fed");
        let (model, _) = self.model(PROSE)?;
        for rows in HISTORIES {
            let mut chat = chat(&model, rows)?;
            let one = GenerateOptions { max_new_tokens: 1, ..GenerateOptions::default() };
            let (mut first, mut commit, mut fed) = (Vec::new(), Vec::new(), 0);
            for _ in 0..200 {
                let mark = chat.mark();
                let start = Instant::now();
                chat.user(&PROSE[..100]);
                let mut reply = chat.reply(&one)?;
                let Some(Ok(Event::Text(_))) = reply.next() else { return Err("a reply without text".into()) };
                first.push(start.elapsed().as_secs_f64());
                let start = Instant::now();
                fed = reply.wait()?.stats.input_tokens;
                commit.push(start.elapsed().as_secs_f64());
                chat.rollback(mark)?;
            }
            let (first, commit) = (middle(first), middle(commit));
            let (rows, messages) = (chat.num_rows(), chat.messages().len());
            println!("{rows:8} {messages:9} {:12.3} {:10.3} {fed:8}{}", first * 1e3, commit * 1e3, self.share(first));
        }
        Ok(())
    }

    fn forks(&self) -> Result<()> {
        println!("\na fork, and its first turn");
        let (model, copied) = self.model(PROSE)?;
        for rows in [1000, 4000] {
            let mut chat = chat(&model, rows)?;
            let time = median(21, || drop(chat.fork()));
            copied.store(0, Ordering::Relaxed);
            let mut fork = chat.fork();
            let before = copied.load(Ordering::Relaxed);
            fork.user("Go on.");
            fork.reply(&GenerateOptions { max_new_tokens: 1, ..GenerateOptions::default() })?.wait()?;
            let after = copied.load(Ordering::Relaxed);
            let rows = chat.num_rows();
            println!(
                "{rows:8} rows: {:.3} ms, {before} rows copied; with the first turn {after}, those of the last page",
                time * 1e3
            );
        }
        Ok(())
    }
}

/// A conversation of so many rows: questions of 10 words, answers of 80 tokens.
fn chat(model: &NanoModel, rows: usize) -> Result<ChatHistory> {
    chat_with(model, rows, ChatOptions::default())
}

fn chat_with(model: &NanoModel, rows: usize, options: ChatOptions) -> Result<ChatHistory> {
    let mut chat = model.chat(ChatOptions { system_prompt: Some("You are a robot.".into()), ..options })?;
    while chat.num_rows() < rows {
        chat.user(&PROSE[..60]);
        chat.reply(&GenerateOptions { max_new_tokens: 80, ..GenerateOptions::default() })?.wait()?;
    }
    Ok(chat)
}

fn functions() -> Result<BotFunctions> {
    let time = BotFunction::closure("time", "The time.", [], || "12:00");
    let say = BotFunction::closure("say", "Says.", ["text"], |_: String| ());
    Ok(BotFunctions::new([time, say])?.with_call_limit(usize::MAX))
}

/// The model's tokenizer, or one that knows the words of the text.
fn tokenizer(path: Option<&Path>) -> Result<Tokenizer> {
    if let Some(path) = path {
        return Ok(nano_models::open(path)?.tokenizer()?);
    }
    let words: Vec<&str> = PROSE.split_inclusive(' ').collect();
    let (_folder, path) = Parrot::new(&[&["."]]).words(&words).temp_gguf();
    Ok(nano_models::open(&path)?.tokenizer()?)
}

/// Seconds of a decode step.
fn decode_step(path: &Path) -> Result<f64> {
    let options = ModelOptions { device: Device::Cpu, threads: Some(2), ..ModelOptions::default() };
    let model = NanoModel::open(path, options, |_| ())?;
    let options = GenerateOptions { max_new_tokens: 129, ignore_eos: true, ..GenerateOptions::default() };
    let mut times = Vec::new();
    for _ in 0..5 {
        let output = model.complete("The robot", &options)?.wait()?;
        times.push(1.0 / output.stats.decode_rate());
    }
    Ok(middle(times))
}
