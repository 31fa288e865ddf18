//! The functions that flags ask for.

use crate::args::FunctionArgs;
use anyhow::{Context, Result};
use nano_runtime::BotFunctions;

/// Those of `--function` and of the files of `--functions`.
pub fn asked_for(args: &FunctionArgs) -> Result<BotFunctions> {
    let names = args.function.iter().map(|name| name.trim()).filter(|name| !name.is_empty());
    let mut functions = BotFunctions::ready_made(names).context("--function")?;
    for file in &args.functions {
        let more = BotFunctions::from_file(file).context("--functions")?;
        functions = functions.merge(&more).with_context(|| format!("--functions: {}", file.display()))?;
    }
    Ok(functions)
}
