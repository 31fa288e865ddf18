//! `nano-chat`: reads the command line, runs one command, and turns what came of it into an exit status. Replies and
//! results go to stdout, everything else to stderr.

#![forbid(unsafe_code)]

mod args;
mod bench;
mod cache;
mod chat;
mod complete;
mod constraint;
mod device;
mod engine;
mod functions;
mod ids;
mod info;
mod interrupt;
mod listing;
mod logits;
mod model;
mod out;
mod paint;
mod perplexity;
mod prompts;
mod quantize;
mod render;
mod session;
mod show;
mod stats;
mod style;
mod templates;
mod tokenize;

use anyhow::Result;
use args::{Command, LogLevel};
use interrupt::Interrupts;
use out::{Closed, Log};
use std::process::ExitCode;
use std::time::Instant;
use style::Terminals;

fn main() -> ExitCode {
    let started = Instant::now();
    let command = match args::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(error) => {
            // Help goes to stdout, which may be closed.
            let _ = error.print();
            return ExitCode::from(error.exit_code() as u8);
        }
    };
    let terminals = Terminals::look();
    let log = Log::new(level(&command), terminals);
    match run(&command, terminals, &log, started) {
        Ok(status) => ExitCode::from(status),
        Err(error) if error.is::<Closed>() => ExitCode::SUCCESS,
        Err(error) => {
            let message = format!("{error:#}");
            log.error(&message);
            if speaks_json(&command) {
                // If that cannot be written either, stderr has it.
                let _ = show::json_error(&message);
            }
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command, terminals: Terminals, log: &Log, started: Instant) -> Result<u8> {
    let interrupts = Interrupts::watch()?;
    match command {
        Command::Chat(args) => return chat::run(args, terminals, interrupts, log),
        Command::Complete(args) => return complete::run(args, terminals, interrupts, log),
        Command::Info(args) => info::run(args, log),
        Command::Tokenize(args) => tokenize::tokenize(args, log),
        Command::Detokenize(args) => tokenize::detokenize(args, log),
        Command::Render(args) => render::run(args, log),
        Command::Templates(args) => templates::run(args),
        Command::Logits(args) => logits::run(args, log),
        Command::Session(args) => session::run(args, log),
        Command::Perplexity(args) => perplexity::run(args, log),
        Command::Quantize(args) => quantize::run(args, log),
        Command::Cache(args) => cache::run(args, log),
        Command::Bench(args) => bench::run(args, log, started),
    }?;
    Ok(0)
}

fn level(command: &Command) -> LogLevel {
    let log = match command {
        Command::Chat(args) => &args.log,
        Command::Complete(args) => &args.log,
        Command::Info(args) => &args.log,
        Command::Tokenize(args) => &args.log,
        Command::Detokenize(args) => &args.log,
        Command::Render(args) => &args.log,
        Command::Templates(args) => &args.log,
        Command::Logits(args) => &args.log,
        Command::Session(args) => &args.log,
        Command::Perplexity(args) => &args.log,
        Command::Quantize(args) => &args.log,
        Command::Cache(args) => args.action.log(),
        Command::Bench(args) => &args.log,
    };
    log.level()
}

/// Whether stdout carries events.
fn speaks_json(command: &Command) -> bool {
    match command {
        Command::Chat(args) => args.reply.json,
        Command::Complete(args) => args.reply.json,
        _ => false,
    }
}
