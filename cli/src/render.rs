//! `render`: the prompt that a chat template makes of messages. No weights are read.

use crate::args::RenderArgs;
use crate::out::{self, Log};
use anyhow::{Context, Result};
use nano_templates::{Message, Template, Vars};
use serde_json::Value;
use std::path::Path;

/// Prints the prompt, nothing added.
pub fn run(args: &RenderArgs, log: &Log) -> Result<()> {
    let path = args.model.as_ref().map(|model| crate::model::locate(model, log)).transpose()?;
    let mut vars = Vars { add_generation_prompt: !args.no_generation_prompt, ..Vars::default() };
    let named = args.chat_template.as_deref().filter(|name| *name != "auto" || path.is_none());
    let mut template = named.map(Template::resolve).transpose()?;
    if let Some(path) = &path {
        let checkpoint = nano_models::open(path)?;
        let tokenizer = checkpoint.tokenizer()?;
        vars.bos_token = tokenizer.token_text(tokenizer.bos());
        vars.eos_token = tokenizer.token_text(tokenizer.eos());
        if template.is_none() {
            let choice = nano_runtime::choose_template(&*checkpoint, &tokenizer, path)?;
            choice.notices.iter().for_each(|notice| log.warn(notice));
            template = Some(choice.template.with_context(|| {
                let known = Template::builtin_names().join(", ");
                format!(
                    "{} has no chat template: name one with --chat-template (built in: {known}; or a file)",
                    path.display()
                )
            })?);
        }
    }
    let template = template.context("--chat-template or --model is needed")?;
    let messages = Message::parse_list(&read(&args.messages)?).with_context(|| args.messages.display().to_string())?;
    if let Some(file) = &args.tools {
        let tools: Value =
            serde_json::from_str(&read(file)?).with_context(|| format!("{}: is no JSON", file.display()))?;
        anyhow::ensure!(tools.is_array(), "{}: a JSON list of tools is needed", file.display());
        vars.tools = Some(tools);
    }
    vars.extra.extend(args.var.iter().cloned());
    out::write(template.render(&messages, &vars)?)
}

/// A whole file, or stdin where it is named `-`.
fn read(path: &Path) -> Result<String> {
    if path.as_os_str() == "-" {
        return crate::tokenize::stdin_text();
    }
    std::fs::read_to_string(path).with_context(|| format!("{}: cannot be read", path.display()))
}
