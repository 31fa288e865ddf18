//! `chat`: turns come from `--prompt`, a pipe or a person at a terminal, and go through one [`Session`]. Where turns come
//! from is decided here; the sources are in `lines` and `editor`, slash commands in `command`.

mod command;
mod editor;
mod lines;

use crate::args::ChatArgs;
use crate::interrupt::Interrupts;
use crate::out::Log;
use crate::prompts::{Prompt, prompts, system_prompt};
use crate::show::{Show, stats_rows, table};
use crate::style::{Style, Terminals};
use anyhow::Result;
use command::Command;
use editor::Editor;
use lines::Lines;
use nano_runtime::{ChatHistory, ChatOptions, Finish, GenerateOptions, Reply, Stats, Template};

/// What a source of turns gives.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    User(String),
    Command(Command),
    /// Something that is no turn; the session goes on.
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
    let options = args.generate.options();
    options.check()?;
    let given = prompts(&args.prompt, log)?;
    let system_prompt = args.system_prompt.as_deref().map(|value| system_prompt(value, log)).transpose()?;
    let named = Some(args.chat_template.as_str()).filter(|name| *name != "auto");
    let template = named.map(Template::resolve).transpose()?;
    let context = args.context.max_context_len;
    let model = crate::model::open_for_chat(&args.load, args.threads.threads, context, template, log)?;
    let history = model.chat(ChatOptions { system_prompt, ..ChatOptions::default() })?;
    let show = Show::new(&args.reply, args.reply_color, terminals, interrupts.clone(), log.clone());
    let mut session = Session { history, options, show, log: log.clone(), last: None, failed: false };

    let style = Style::color(args.prompt_color, terminals.color_err());
    if !args.prompt.is_empty() {
        return session.turns(given.into_iter().map(|prompt| {
            echo(&prompt.text, &style, log);
            Ok(Said::prompt(prompt))
        }));
    }
    if !terminals.stdin || args.reply.json {
        let mut lines = Lines::new(std::io::stdin().lock(), args.reply.json);
        let watched = (!args.reply.json).then_some(&style);
        return session.turns(std::iter::from_fn(|| {
            let said = lines.next();
            if let (Some(style), Ok(Said::User(text))) = (watched, &said) {
                echo(text, style, log);
            }
            Some(said)
        }));
    }
    let status = if terminals.stdout && terminals.capable {
        session.greet(terminals);
        let mut editor = Editor::new(Style::color(args.prompt_color, terminals.color_out()), interrupts, log)?;
        session.turns(std::iter::from_fn(|| Some(editor.next())))?
    } else {
        session.greet(terminals);
        let mut lines = Lines::new(std::io::stdin().lock(), false);
        session.turns(std::iter::from_fn(|| {
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

/// A conversation, and how it is shown.
struct Session {
    history: ChatHistory,
    options: GenerateOptions,
    show: Show,
    log: Log,
    /// How the last reply went.
    last: Option<(Stats, Finish)>,
    /// A turn failed.
    failed: bool,
}

impl Session {
    /// Takes turns until there are no more. The exit status.
    fn turns(&mut self, source: impl Iterator<Item = Result<Said>>) -> Result<u8> {
        for said in source {
            match said? {
                Said::User(text) => self.turn(text)?,
                Said::Command(Command::Exit) | Said::End => break,
                Said::Command(command) => self.command(command)?,
                Said::Bad(why) => self.fail(&why)?,
                Said::Interrupted => return Ok(crate::interrupt::INTERRUPTED as u8),
            }
        }
        Ok(u8::from(self.failed))
    }

    fn turn(&mut self, text: String) -> Result<()> {
        self.history.user(text);
        let Self { history, options, show, .. } = self;
        match show.reply(|| history.reply(options), Reply::stopper)? {
            Ok(output) => self.last = Some((output.stats, output.finish)),
            Err(_) => self.failed = true,
        }
        Ok(())
    }

    fn fail(&mut self, why: &str) -> Result<()> {
        self.failed = true;
        self.show.error(&why)
    }

    fn command(&mut self, command: Command) -> Result<()> {
        let log = &self.log;
        match command {
            Command::Reset => {
                self.history.reset();
                self.last = None;
                log.say_dim("(a new conversation)");
            }
            Command::Help => log.say(command::HELP),
            Command::Stats => log.say(&self.stats()),
            Command::System(None) => match self.history.system_prompt() {
                Some(text) => log.say(&text),
                None => log.say_dim("(there is no system prompt; /system TEXT sets one)"),
            },
            Command::System(Some(text)) => {
                self.history.set_system_prompt(Some(text));
                self.last = None;
                log.say_dim("(a new system prompt; the conversation starts over)");
            }
            Command::Template => {
                let template = self.history.template();
                log.say(&format!("{}:\n{}", template.name(), template.source().trim_end()));
            }
            Command::Unknown(name) => self.fail(&format!("there is no command {name}; /help lists the commands"))?,
            Command::Exit => {}
        }
        Ok(())
    }

    fn stats(&self) -> String {
        let Some((stats, finish)) = &self.last else { return "(no reply yet)".into() };
        let mut rows = stats_rows(stats, *finish);
        let context = self.history.model().info().context;
        rows.push(("context", format!("{} of {context} tokens", self.history.num_tokens())));
        table(&rows)
    }

    fn greet(&self, terminals: Terminals) {
        if terminals.stderr {
            let info = self.history.model().info();
            self.log.say_dim(&format!("{}, {} tokens of context; /help lists commands", info.name, info.context));
        }
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
