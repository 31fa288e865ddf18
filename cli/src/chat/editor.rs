//! A person at a terminal: line editing, history kept in a file, several lines, completion.

use super::offers::offers;
use super::{PROMPT, Said};
use crate::interrupt::{HOW_TO_LEAVE, Interrupts};
use crate::out::Log;
use crate::style::Style;
use anyhow::{Context, Result};
use nano_runtime::BotFunctions;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Cmd, CompletionType, Config, Helper, KeyCode, KeyEvent, Modifiers};
use std::borrow::Cow;
use std::path::PathBuf;

/// Lines that the history file keeps.
const HISTORY: usize = 1000;

/// Reads turns from a terminal.
pub struct Editor {
    editor: rustyline::Editor<Manners, FileHistory>,
    /// Where the history is kept. `None`: it is not.
    file: Option<PathBuf>,
    interrupts: Interrupts,
    log: Log,
}

impl Editor {
    pub fn new(style: Style, functions: &BotFunctions, interrupts: Interrupts, log: &Log) -> Result<Self> {
        let config = Config::builder().max_history_size(HISTORY).and_then(|c| c.history_ignore_dups(true));
        let config = config.context("line editing")?.history_ignore_space(true);
        let config = config.completion_type(CompletionType::List).build();
        let mut editor = rustyline::Editor::with_config(config).context("the terminal cannot be used")?;
        editor.set_helper(Some(Manners { style, functions: functions.names().map(str::to_owned).collect() }));
        // Alt-Enter, as terminals send it; Ctrl-J alone is what a line typed ahead ends with.
        for key in [KeyEvent(KeyCode::Enter, Modifiers::ALT), KeyEvent::alt('\n')] {
            editor.bind_sequence(key, Cmd::Newline);
        }
        interrupts.mark_pastes(true);
        let mut this = Self { editor, file: history_file(), interrupts, log: log.clone() };
        this.load_history();
        Ok(this)
    }

    /// The next turn. Blank lines are none.
    pub fn next(&mut self) -> Result<Said> {
        loop {
            let at_prompt = self.interrupts.prompt();
            let line = self.editor.readline(PROMPT);
            drop(at_prompt);
            // The editor switched that off: what is pasted during a reply is one message too.
            self.interrupts.mark_pastes(true);
            match line {
                Ok(line) if line.trim().is_empty() => {}
                Ok(line) => {
                    self.remember(&line);
                    return Ok(Said::line(line.replace("\\\n", "\n")));
                }
                Err(ReadlineError::Eof) => return Ok(Said::End),
                Err(ReadlineError::Interrupted) if self.interrupts.pressed_at_prompt() => return Ok(Said::Interrupted),
                Err(ReadlineError::Interrupted) => self.log.say_dim(HOW_TO_LEAVE),
                Err(error) => return Err(error).context("the terminal cannot be read"),
            }
        }
    }

    fn load_history(&mut self) {
        let Some(file) = &self.file else {
            self.log.debug("no history is kept: neither XDG_STATE_HOME nor HOME is set");
            return;
        };
        let made = file.parent().map_or(Ok(()), std::fs::create_dir_all);
        match made.map_err(ReadlineError::Io).and_then(|()| self.editor.load_history(file)) {
            Ok(()) => {}
            Err(ReadlineError::Io(e)) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => self.give_up(&error),
        }
    }

    fn remember(&mut self, line: &str) {
        let added = self.editor.add_history_entry(line);
        // Appended line by line, so that what one session wrote is not lost to another or to a crash.
        if let (Ok(true), Some(file)) = (added, &self.file)
            && let Err(error) = self.editor.append_history(file)
        {
            self.give_up(&error);
        }
    }

    fn give_up(&mut self, error: &ReadlineError) {
        if let Some(file) = self.file.take() {
            self.log.debug(format_args!("{}: no history is kept: {error}", file.display()));
        }
    }
}

impl Drop for Editor {
    fn drop(&mut self) {
        self.interrupts.mark_pastes(false);
    }
}

/// In the folder for what programs remember.
fn history_file() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(state.join("nano-chat").join("history"))
}

/// How the prompt looks, when a line is complete, what the tab key offers.
struct Manners {
    style: Style,
    functions: Vec<String>,
}

impl Helper for Manners {}

impl Hinter for Manners {
    type Hint = String;
}

impl Highlighter for Manners {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _default: bool) -> Cow<'b, str> {
        Cow::Owned(self.style.paint(prompt))
    }
}

impl Validator for Manners {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let goes_on = context.input().ends_with('\\');
        Ok(if goes_on { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}

impl Completer for Manners {
    type Candidate = String;

    fn complete(&self, line: &str, pos: usize, _: &rustyline::Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(offers(&line[..pos], &self.functions))
    }
}
