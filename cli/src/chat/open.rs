//! From flags to a conversation: with a model that is loaded, or with one behind a server. What does not go together is
//! found before anything is loaded or asked.

use super::talk::{Here, Place, Talk};
use crate::args::ChatArgs;
use crate::constraint::{self, Asked};
use crate::interrupt::Interrupts;
use crate::out::Log;
use crate::prompts::system_prompt;
use crate::show::Show;
use crate::style::Terminals;
use anyhow::{Result, bail, ensure};
use nano_runtime::{
    BotFunction, BotFunctions, Chat, ChatOptions, Engine, EngineConversation, GenerateOptions, ModelOptions, Overflow,
    Template, ToolChoice, Vars,
};
use std::sync::Arc;

/// Rounds of calls of tools in a turn, unless flags say something else.
const ROUNDS: usize = 8;

/// A conversation, as the flags have it.
pub fn open(args: &ChatArgs, terminals: Terminals, interrupts: Interrupts, log: &Log) -> Result<Talk> {
    let mut options = args.generate.options();
    options.reply_prefix = args.reply_prefix.clone();
    options.check()?;
    let asked = constraint::asked_for(&args.constraint)?;
    let system_prompt = args.system_prompt.as_deref().map(|value| system_prompt(value, log)).transpose()?;
    let functions = crate::functions::asked_for(&args.functions)?;
    let (tools, inline) = match offers_tools(args, &functions)? {
        true => (functions.clone(), BotFunctions::default()),
        false => (BotFunctions::default(), functions.clone()),
    };
    options.tool_choice = args.functions.tool_choice.clone().unwrap_or_default();
    let show = Show::new(&args.reply, args.reply_color, terminals, &inline, interrupts, log.clone())
        .with_reasoning(!args.no_reasoning);
    let (chat, place) = match &args.answerer.engine {
        Some(url) => there(url, args, system_prompt, asked, &mut options, log)?,
        None => {
            let tools = tools.iter().map(BotFunction::tool).collect();
            let chat = ChatOptions { system_prompt, functions: inline, tools, ..ChatOptions::default() };
            here(args, chat, asked, &mut options, log)?
        }
    };
    let rounds = args.functions.max_function_rounds.unwrap_or(ROUNDS);
    let chat = chat.with_functions(tools).with_max_function_rounds(Some(rounds));
    Ok(Talk::new(chat, place, functions, options, show))
}

/// Whether functions are offered as tools.
fn offers_tools(args: &ChatArgs, functions: &BotFunctions) -> Result<bool> {
    let flags = &args.functions;
    let tools = flags.tools || args.answerer.engine.is_some();
    ensure!(
        !flags.tools || !functions.is_empty(),
        "--tools: there is nothing to offer; name --function or --functions"
    );
    if !tools {
        ensure!(flags.tool_choice.is_none(), "--tool-choice needs --tools, or --engine");
        ensure!(flags.max_function_rounds.is_none(), "--max-function-rounds needs --tools, or --engine");
    }
    let known = || functions.names().collect::<Vec<_>>().join(", ");
    match &flags.tool_choice {
        Some(ToolChoice::Required) if functions.is_empty() => {
            bail!("--tool-choice required: there is nothing to call; name --function or --functions")
        }
        Some(ToolChoice::Named(name)) if functions.get(name).is_none() => {
            bail!("--tool-choice {name}: it must be auto, none, required or a function; the functions are: {}", known())
        }
        _ => Ok(tools),
    }
}

fn here(
    args: &ChatArgs,
    chat: ChatOptions,
    asked: Option<Asked>,
    options: &mut GenerateOptions,
    log: &Log,
) -> Result<(Chat, Place)> {
    let named = Some(args.chat_template.as_str()).filter(|name| *name != "auto");
    let template = named.map(Template::resolve).transpose()?;
    let held = crate::model::options(&args.answerer.machine, args.threads.threads, args.context.max_context_len);
    let name = args.answerer.model.as_deref().unwrap_or_default();
    let model = crate::model::open_for_chat(name, ModelOptions { template, ..held }, log)?;
    options.constraint = asked.map(|asked| asked.check(&model)).transpose()?;
    let vars = Vars { extra: args.var.iter().cloned().collect(), ..Vars::default() };
    let chat = ChatOptions { overflow: args.overflow, vars, tool_format: args.functions.tool_format, ..chat };
    let (here, history, notices) = Here::open(model, chat, args.session.as_deref())?;
    notices.iter().for_each(|notice| log.warn(notice));
    if here.keeps_system_prompt(&history) {
        log.note("the session keeps the system prompt that it was begun with; /system TEXT sets another");
    }
    Ok((Chat::of(history), Place::Here(Box::new(here))))
}

fn there(
    url: &str,
    args: &ChatArgs,
    system_prompt: Option<String>,
    asked: Option<Asked>,
    options: &mut GenerateOptions,
    log: &Log,
) -> Result<(Chat, Place)> {
    ensure!(
        args.overflow != Overflow::Shift,
        "--overflow shift moves what a model on this machine has computed; it does not go with --engine"
    );
    options.constraint = asked.map(Asked::unchecked).transpose()?;
    let engine = crate::engine::open(url, args.answerer.model.as_deref(), args.context.max_context_len, log)?;
    let context = engine.knows_context_size().then(|| engine.max_context_size());
    let about = format!("{} at {}", engine.name(), engine.url());
    // What nobody told is no reason to leave out what was said.
    let overflow = if context.is_some() { args.overflow } else { Overflow::Error };
    let chat = Chat::over(EngineConversation::new(Arc::new(engine)).with_overflow(overflow));
    Ok((system_prompt.into_iter().fold(chat, Chat::with_system_prompt), Place::There { about, context }))
}
