//! What the program says: results on stdout, everything else on stderr. A closed stdout is no error but the wish that the
//! program end; a closed stderr is nothing at all.

use crate::args::LogLevel;
use crate::style::{Style, Terminals};
use anyhow::{Context, Result};
use serde::Serialize;
use std::fmt::Display;
use std::io::{self, Write};

/// Whoever reads stdout has left. It travels like an error to `main`, which ends without a word.
#[derive(Debug)]
pub struct Closed;

impl Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("stdout is closed")
    }
}

impl std::error::Error for Closed {}

/// Writes bytes to stdout and sees to it that they arrive now.
pub fn write(bytes: impl AsRef<[u8]>) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes.as_ref()).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Err(Closed.into()),
        result => result.context("stdout cannot be written"),
    }
}

/// Writes a value as one line of JSON.
pub fn json(value: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    write(line)
}

/// What is told on stderr.
#[derive(Clone, Debug)]
pub struct Log {
    level: LogLevel,
    /// Colours on stderr.
    color: bool,
    /// stderr is a terminal.
    pub terminal: bool,
}

impl Log {
    pub fn new(level: LogLevel, terminals: Terminals) -> Self {
        Self { level, color: terminals.color_err(), terminal: terminals.stderr }
    }

    /// Something that only somebody who looks for a fault wants to know.
    pub fn debug(&self, text: impl Display) {
        self.tell(LogLevel::Debug, &Style::dim(self.color).paint(&text.to_string()));
    }

    /// Something good to know.
    pub fn note(&self, text: impl Display) {
        self.tell(LogLevel::Info, &format!("{} {text}", Style::bold(36, self.color).paint("note:")));
    }

    /// Something that may be wrong.
    pub fn warn(&self, text: impl Display) {
        self.tell(LogLevel::Warning, &format!("{} {text}", Style::bold(33, self.color).paint("warning:")));
    }

    /// What was asked for cannot be done. Always told.
    pub fn error(&self, text: impl Display) {
        self.say(&format!("{} {text}", Style::bold(31, self.color).paint("error:")));
    }

    /// An answer to something the user typed. Always told.
    pub fn say(&self, text: &str) {
        // Nobody is left to be told that stderr is closed.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// The same, quieter than the rest.
    pub fn say_dim(&self, text: &str) {
        self.say(&Style::dim(self.color).paint(text));
    }

    /// Something good to know that goes with what is being said.
    pub fn note_dim(&self, text: impl Display) {
        self.tell(LogLevel::Info, &Style::dim(self.color).paint(&text.to_string()));
    }

    /// Text that is not a line by itself, such as a prompt.
    pub fn part(&self, text: &str) {
        let mut stderr = io::stderr().lock();
        let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
    }

    /// Whether messages of this level are told.
    pub fn tells(&self, level: LogLevel) -> bool {
        level >= self.level
    }

    /// Colours on stderr.
    pub fn colored(&self) -> bool {
        self.color
    }

    fn tell(&self, level: LogLevel, line: &str) {
        if self.tells(level) {
            self.say(line);
        }
    }
}
