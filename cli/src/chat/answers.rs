//! What slash commands do. Those that ask are answered (with `--json` by an event), those that act say so on stderr;
//! what cannot be done is an error, and the conversation goes on.

use super::command::{Command, HELP};
use super::talk::Talk;
use crate::listing::{Entry, counted, listing, short};
use crate::stats::{rows, table};
use anyhow::Result;
use nano_runtime::{CallReport, ChatHistory, Removal};
use std::ops::Range;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// How often a call looks whether it is to be left alone.
const GLANCE: Duration = Duration::from_millis(20);

impl Talk {
    /// Does what a command says.
    pub(super) fn command(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Reset => {
                self.history.reset();
                self.changed("(a new conversation)")?;
            }
            Command::Undo => self.undo()?,
            Command::Retry => {
                self.reply(ChatHistory::regenerate)?;
            }
            Command::Edit(text) => self.edit(text)?,
            Command::Remove(range, how) => self.remove(range, how)?,
            Command::System(Some(text)) => match self.history.set_system_prompt(Some(text)) {
                true => self.changed("(a new system prompt; the conversation starts over)")?,
                false => self.log.say_dim("(that is the system prompt already; the conversation goes on)"),
            },
            Command::System(None) => match self.history.system_prompt() {
                Some(text) => self.show.answer("/system", &text)?,
                None => self.show.answer("/system", "(there is no system prompt; /system TEXT sets one)")?,
            },
            Command::Save(path) => self.save(&path)?,
            Command::Load(path) => self.load(&path)?,
            Command::Call(name, arguments) => self.call(name, arguments)?,
            Command::Help => self.show.answer("/help", HELP)?,
            Command::Stats => self.show.answer("/stats", &self.stats())?,
            Command::Template => {
                let template = self.history.template();
                let text = format!("{}:\n{}", template.name(), template.source().trim_end());
                self.show.answer("/template", &text)?;
            }
            Command::History => self.show.answer("/history", &self.list())?,
            Command::Functions => self.show.answer("/functions", &self.list_functions())?,
            Command::Session => self.show.answer("/session", &self.where_saved())?,
            Command::Unknown(name) => self.fail(&format!("there is no command {name}; /help lists the commands"))?,
            Command::Wrong(why) => self.fail(&why)?,
            Command::Exit => {}
        }
        Ok(())
    }

    /// The conversation is another one than at the last reply.
    fn changed(&mut self, what: &str) -> Result<()> {
        self.last = None;
        self.keep()?;
        self.log.say_dim(what);
        Ok(())
    }

    fn undo(&mut self) -> Result<()> {
        let taken = self.history.undo();
        match taken.iter().find(|message| message.role == "user") {
            None => self.fail(&"there is no exchange to take back"),
            Some(message) => self.changed(&format!("(taken back: {})", short(&message.content.text()))),
        }
    }

    /// Puts a text in place of the user's last message, whose answer goes. What fails leaves both.
    fn edit(&mut self, text: String) -> Result<()> {
        let Some(last) = self.history.messages().iter().rposition(|message| message.role == "user") else {
            return self.fail(&"there is no message of yours to edit");
        };
        let before = self.history.messages()[last].content.text();
        if let Err(error) = self.history.edit(last, text) {
            return self.fail(&error);
        }
        if !self.reply(ChatHistory::regenerate)?
            && let Err(error) = self.history.edit(last, before)
        {
            self.fail(&error)?;
        }
        Ok(())
    }

    fn remove(&mut self, range: Range<usize>, how: Removal) -> Result<()> {
        let count = range.len();
        // Where nothing follows, the ways are one.
        let followed = range.end < self.history.messages().len();
        match self.history.remove(range, how) {
            Err(error) => self.fail(&error),
            Ok(removed) => {
                let exactly = how == Removal::Shift && removed.how == Removal::Exact && followed;
                let why = if exactly { "; a shift was not possible, the rest is fed again" } else { "" };
                self.changed(&format!("(removed: {}, {} tokens{why})", counted(count, "message"), removed.rows))
            }
        }
    }

    fn save(&mut self, path: &Path) -> Result<()> {
        if self.session.as_ref().is_some_and(|session| session.path() == path) {
            return self.fail(&format_args!("{}: the conversation is saved there after each turn", path.display()));
        }
        match self.history.save(path) {
            Err(error) => self.fail(&error),
            Ok(()) => {
                self.log.say_dim(&format!("(saved: {})", path.display()));
                Ok(())
            }
        }
    }

    fn load(&mut self, path: &Path) -> Result<()> {
        match ChatHistory::load(self.history.model(), path, self.chat.clone()) {
            Err(error) => self.fail(&error),
            Ok((history, notices)) => {
                notices.iter().for_each(|notice| self.log.warn(notice));
                self.history = history;
                let (messages, tokens) = (self.history.messages().len(), self.history.num_tokens());
                self.changed(&format!(
                    "(loaded: {}, {tokens} tokens; /history lists them)",
                    counted(messages, "message")
                ))
            }
        }
    }

    /// Calls a function and tells what came of it. An interrupt leaves it alone.
    fn call(&mut self, name: String, arguments: String) -> Result<()> {
        let during = self.show.interrupts.reply();
        let functions = self.history.functions().clone();
        let (tell, told) = channel::<CallReport>();
        let called = name.clone();
        let call = move || {
            // Nobody may be left to be told.
            let _ = tell.send(functions.call_text(&called, &arguments));
        };
        if let Err(error) = std::thread::Builder::new().name("call".into()).spawn(call) {
            return self.fail(&format_args!("{name}: no thread can be started: {error}"));
        }
        let report = loop {
            match told.recv_timeout(GLANCE) {
                Ok(report) => break Some(report),
                Err(RecvTimeoutError::Timeout) if !during.is_stopped() => {}
                Err(_) => break None,
            }
        };
        match &report {
            Some(report) => {
                self.failed |= report.result.is_err();
                self.show.call(report)?;
            }
            None => self.fail(&format_args!("{name}: its result is not waited for"))?,
        }
        during.done();
        Ok(())
    }

    fn stats(&self) -> String {
        let Some((total, finish)) = &self.last else { return "(no reply yet)".into() };
        let mut rows = rows(total, *finish);
        let context = self.history.model().info().context;
        rows.push(("context", format!("{} of {context} tokens", self.history.num_tokens())));
        table(&rows)
    }

    fn list(&self) -> String {
        let messages = self.history.messages().iter().enumerate();
        let entry =
            |(i, message)| Entry::new(message, self.history.message_tokens(i).len(), self.history.is_cancelled(i));
        let entries: Vec<Entry> = messages.map(entry).collect();
        if entries.is_empty() { "(no messages yet)".into() } else { listing(&entries) }
    }

    fn list_functions(&self) -> String {
        let lines = self.functions().iter().flat_map(|function| {
            let description = function.description().lines().map(|line| format!("    {}", line.trim()));
            std::iter::once(function.signature()).chain(description)
        });
        match lines.collect::<Vec<_>>().join("\n") {
            none if none.is_empty() => {
                "(there are no functions; --function NAME and --functions FILE give some)".into()
            }
            lines => lines,
        }
    }

    fn where_saved(&self) -> String {
        let history = &self.history;
        let counts = format!(
            "{}, {} tokens: {} rows computed, {} pending",
            counted(history.messages().len(), "message"),
            history.num_tokens(),
            history.num_rows(),
            history.num_pending()
        );
        let Some(session) = &self.session else {
            return format!("{counts}\n(not saved; --session FILE saves each turn, /save FILE does it now)");
        };
        let size = std::fs::metadata(session.path())
            .map_or_else(|error| format!("cannot be read: {error}"), |meta| crate::model::megabytes(meta.len()));
        format!("{counts}\n{}: {size}", session.path().display())
    }
}
