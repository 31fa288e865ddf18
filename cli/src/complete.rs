//! `complete`: plain continuation of texts, without a template.

use crate::args::CompleteArgs;
use crate::constraint;
use crate::interrupt::Interrupts;
use crate::out::Log;
use crate::prompts::{Prompt, one_line_end, prompts};
use crate::show::Show;
use crate::style::{Style, Terminals};
use anyhow::{Result, ensure};
use nano_runtime::RoundEvent;

/// Continues every prompt by itself. The exit status.
pub fn run(args: &CompleteArgs, terminals: Terminals, interrupts: Interrupts, log: &Log) -> Result<u8> {
    let mut options = args.generate.options();
    options.check()?;
    let asked = constraint::asked_for(&args.constraint)?;
    let mut texts = prompts(&args.prompt, log)?;
    if args.prompt.is_empty() {
        ensure!(!terminals.stdin, "there is nothing to continue: give --prompt TEXT, or the text on stdin");
        texts.push(Prompt { text: one_line_end(crate::tokenize::stdin_text()?), from_file: false });
    }
    let model = crate::model::open(&args.load, args.threads.threads, args.context.max_context_len, log)?;
    options.constraint = asked.map(|asked| asked.check(&model)).transpose()?;
    let show = Show::new(&args.reply, args.reply_color, terminals, &options.functions, interrupts, log.clone());
    let mut failed = false;
    for Prompt { text, .. } in texts {
        if terminals.stdout && terminals.stderr && !args.reply.json {
            log.part(&Style::dim(log.colored()).paint(&text));
        }
        let (outcome, during) = show.turn(|| {
            let reply = model.complete(&text, &options)?;
            let stopper = reply.stopper();
            Ok((reply.map(|event| event.map(RoundEvent::Answer)), stopper))
        })?;
        show.end(&outcome, during)?;
        failed |= outcome.is_err();
    }
    Ok(u8::from(failed))
}
