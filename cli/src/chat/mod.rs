//! `chat`: turns come from `--prompt`, a pipe or a person at a terminal, and go through one [`Talk`]. Where turns come
//! from is decided here; the sources are in `lines` and `editor`, the conversation in `talk`, how it begins in `open`, slash
//! commands in `command`, `answers` and `kept`.

mod answers;
mod command;
mod editor;
mod kept;
mod lines;
mod offers;
mod open;
mod talk;

use crate::args::ChatArgs;
use crate::interrupt::Interrupts;
use crate::out::Log;
use crate::prompts::{Prompt, prompts};
use crate::style::{Style, Terminals};
use anyhow::Result;
use command::Command;
use editor::Editor;
use lines::Lines;

/// What a source of turns gives.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    User(String),
    Command(Command),
    /// Something that is no turn; the conversation goes on.
    Bad(String),
    /// Nothing more.
    End,
    /// A person pressed Ctrl-C until the program left.
    Interrupted,
}

impl Said {
    /// A line that a person typed, or that stands for one.
    fn line(text: String) -> Self {
        match Command::parse(&text) {
            Some(command) => Said::Command(command),
            None => Said::User(text),
        }
    }

    /// A text of a file of prompts, where commands may be bare words.
    fn prompt(prompt: Prompt) -> Self {
        match prompt.text.trim().to_ascii_lowercase().as_str() {
            "reset" | "clear" if prompt.from_file => Said::Command(Command::Reset),
            _ => Said::line(prompt.text),
        }
    }
}

/// Chats until the turns end. The exit status.
pub fn run(args: &ChatArgs, terminals: Terminals, interrupts: Interrupts, log: &Log) -> Result<u8> {
    let given = prompts(&args.prompt, log)?;
    let mut talk = open::open(args, terminals, interrupts.clone(), log)?;

    let style = Style::color(args.prompt_color, terminals.color_err());
    if !args.prompt.is_empty() {
        return talk.turns(given.into_iter().map(|prompt| {
            echo(&prompt.text, &style, log);
            Ok(Said::prompt(prompt))
        }));
    }
    if !terminals.stdin || args.reply.json {
        let mut lines = Lines::new(std::io::stdin().lock(), args.reply.json);
        let watched = (!args.reply.json).then_some(&style);
        return talk.turns(std::iter::from_fn(|| {
            let said = lines.next();
            if let (Some(style), Ok(Said::User(text))) = (watched, &said) {
                echo(text, style, log);
            }
            Some(said)
        }));
    }
    if terminals.stderr {
        talk.greet();
    }
    let status = if terminals.stdout && terminals.capable {
        let style = Style::color(args.prompt_color, terminals.color_out());
        let mut editor = Editor::new(style, talk.functions(), interrupts, log)?;
        talk.turns(std::iter::from_fn(|| Some(editor.next())))?
    } else {
        let mut lines = Lines::new(std::io::stdin().lock(), false);
        talk.turns(std::iter::from_fn(|| {
            log.part(&style.paint(PROMPT));
            let _at_prompt = interrupts.prompt();
            Some(lines.next())
        }))?
    };
    // A person has seen what failed; only how they left counts.
    Ok(if status == crate::interrupt::INTERRUPTED as u8 { status } else { 0 })
}

/// Invites a person to type.
const PROMPT: &str = "> ";

/// Shows a turn that nobody typed to whoever watches.
fn echo(text: &str, style: &Style, log: &Log) {
    if log.terminal {
        log.say(&style.paint(&format!("{PROMPT}{text}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_words_are_commands_in_files_only() {
        let said = |text: &str, from_file| Said::prompt(Prompt { text: text.into(), from_file });
        assert_eq!(said("Reset", true), Said::Command(Command::Reset));
        assert_eq!(said("clear", true), Said::Command(Command::Reset));
        assert_eq!(said("reset", false), Said::User("reset".into()));
        assert_eq!(said("/reset", false), Said::Command(Command::Reset));
        assert_eq!(said("reset it", true), Said::User("reset it".into()));
    }
}
