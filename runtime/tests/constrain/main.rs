//! Replies that must look like something, on a scripted runner that would rather say something else, and on real models.

#[path = "../common/mod.rs"]
mod common;

mod drawn;
mod ends;
mod fits;
mod refused;
mod schemas;
mod smollm2;

use common::*;
use nano_runtime::{Constraint, GenerateOptions, NanoModel, Output, Result};

fn regex(text: &str) -> GenerateOptions {
    GenerateOptions { constraint: Some(Constraint::Regex(text.into())), ..options() }
}

fn grammar(text: &str) -> GenerateOptions {
    GenerateOptions { constraint: Some(Constraint::Grammar(text.into())), ..options() }
}

/// A model that would say `reply` after a prompt of one token.
fn wishes(reply: &str) -> (NanoModel, Shared) {
    let (fake, log) = Fake::new(limits(), says(1, tokens(reply)));
    (fake.model(template(CHATML)), log)
}

/// What comes of it under these options.
fn written(reply: &str, options: &GenerateOptions) -> Result<Output> {
    let (model, _) = wishes(reply);
    model.generate(tokens("x"), model.cache(), options).wait()
}

fn text(reply: &str, options: &GenerateOptions) -> String {
    written(reply, options).unwrap().text
}
