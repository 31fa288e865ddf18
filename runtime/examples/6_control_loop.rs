//! A robot's control loop at 50 Hz that talks: it looks for events in each cycle, never waits for the model, and stops a
//! reply within a token when something comes up. `cargo run --release --example 6_control_loop -- MODEL`

use nano_runtime::{ChatOptions, Event, GenerateOptions, ModelOptions, NanoModel, ReplyStream};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

const CYCLE: Duration = Duration::from_millis(20);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("name a GGUF file or a Hugging Face folder")?;
    // One core is left to the loop.
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().saturating_sub(1).max(1));
    let model =
        NanoModel::open(Path::new(&path), ModelOptions { threads: Some(threads), ..Default::default() }, |_| ())?;
    let mut chat = model.chat(ChatOptions::default())?;
    let options = GenerateOptions { max_new_tokens: 64, ..GenerateOptions::default() };
    let mut heard = vec!["And what else?", "What do you see?"];
    let mut reply: Option<ReplyStream> = None;
    let (mut late, mut worst) = (0, Duration::ZERO);

    for cycle in 0..150 {
        let started = Instant::now();
        steer(cycle);
        // Somebody spoke: the reply begins, and the loop goes on.
        if reply.is_none() {
            let Some(words) = heard.pop() else { break };
            println!("\n> {words}");
            chat.user(words);
            reply = Some(chat.generate(&options)?);
        }
        if let Some(stream) = &mut reply {
            while let Some(event) = stream.poll() {
                if let Event::Text(text) = event? {
                    print!("{text}");
                    std::io::stdout().flush()?;
                }
            }
            // An obstacle: what was said so far stays in the conversation, marked as cancelled.
            if cycle == 100 {
                stream.stop();
            }
            if stream.is_ended() {
                reply.take().map(|stream| chat.append_reply(stream).map(drop)).transpose()?;
            }
        }
        let busy = started.elapsed();
        worst = worst.max(busy);
        late += usize::from(busy > CYCLE);
        std::thread::sleep(CYCLE.saturating_sub(busy));
    }
    println!("\n{late} cycles were late");
    eprintln!("the longest took {:.1} ms; {} messages", worst.as_secs_f64() * 1e3, chat.messages().len());
    Ok(())
}

/// Where a robot would read its sensors and set its motors.
fn steer(_cycle: u32) {}
