//! What slash commands do. Those that ask are answered (with `--json` by an event), those that act say so on stderr;
//! what cannot be done is an error, and the conversation goes on. Files are in `kept`.

use super::command::{Command, HELP};
use super::talk::Talk;
use crate::listing::{Entry, counted, listing, short};
use crate::stats::{rows, table};
use anyhow::Result;
use nano_runtime::{CallReport, Chat, Content, Error, Message, Removal};
use std::ops::Range;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// How often a call looks whether it is to be left alone.
const GLANCE: Duration = Duration::from_millis(20);

impl Talk {
    /// Does what a command says.
    pub(super) fn command(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Reset => {
                match self.chat.history() {
                    // It keeps the rows of what comes first.
                    Some(history) => history.reset(),
                    None => self.chat.reset(),
                }
                self.changed("(a new conversation)")?;
            }
            Command::Undo => self.undo()?,
            Command::Retry => self.answer_again(|_| {}, &Error::NoMessage)?,
            Command::Edit(text) => {
                let edit = |message: &mut Message| message.content = Content::Text(text);
                self.answer_again(edit, &"there is no message of yours to edit")?;
            }
            Command::Remove(range, how) => self.remove(range, how)?,
            Command::System(Some(text)) => match self.set_system_prompt(text) {
                true => self.changed("(a new system prompt; the conversation starts over)")?,
                false => self.log.say_dim("(that is the system prompt already; the conversation goes on)"),
            },
            Command::System(None) => match self.system_prompt() {
                Some(text) => self.show.answer("/system", &text)?,
                None => self.show.answer("/system", "(there is no system prompt; /system TEXT sets one)")?,
            },
            Command::Save(path) => self.save(&path)?,
            Command::Load(path) => self.load(&path)?,
            Command::Call(name, arguments) => self.call(name, arguments)?,
            Command::Help => self.show.answer("/help", HELP)?,
            Command::Stats => {
                let table = self.stats();
                self.show.answer("/stats", &table)?;
            }
            Command::Template => self.template()?,
            Command::History => {
                let list = self.list();
                self.show.answer("/history", &list)?;
            }
            Command::Functions => self.show.answer("/functions", &self.list_functions())?,
            Command::Session => self.where_saved()?,
            Command::Unknown(name) => self.fail(&format!("there is no command {name}; /help lists the commands"))?,
            Command::Wrong(why) => self.fail(&why)?,
            Command::Exit => {}
        }
        Ok(())
    }

    /// The conversation is another one than at the last reply.
    pub(super) fn changed(&mut self, what: &str) -> Result<()> {
        self.last = None;
        self.keep()?;
        self.log.say_dim(what);
        Ok(())
    }

    fn undo(&mut self) -> Result<()> {
        let taken = self.chat.undo();
        match taken.iter().find(|message| message.role == "user") {
            None => self.fail(&"there is no exchange to take back"),
            Some(message) => self.changed(&format!("(taken back: {})", short(&message.content.text()))),
        }
    }

    /// Answers the user's last message again, as it is then; what followed it goes. What fails leaves all as it was.
    fn answer_again(&mut self, edit: impl FnOnce(&mut Message), none: &dyn std::fmt::Display) -> Result<()> {
        let mut messages = self.chat.messages().to_vec();
        let Some(last) = messages.iter().rposition(|message| message.role == "user") else { return self.fail(none) };
        messages.truncate(last + 1);
        edit(&mut messages[last]);
        self.chat.try_messages(messages);
        self.turn(Chat::answer)
    }

    fn remove(&mut self, range: Range<usize>, how: Removal) -> Result<()> {
        let (count, len) = (range.len(), self.chat.messages().len());
        // Where nothing follows, the ways are one.
        let followed = range.end < len;
        let Some(history) = self.chat.history() else {
            if how == Removal::Shift {
                return self.fail(&"/remove shift moves what a model on this machine has computed; leave out shift");
            }
            if range.end > len {
                return self.fail(&Error::NoSuchMessage { index: range.start.max(len), messages: len });
            }
            let mut messages = self.chat.messages().to_vec();
            messages.drain(range);
            self.chat.set_messages(messages);
            return self.changed(&format!("(removed: {})", counted(count, "message")));
        };
        match history.remove(range, how) {
            Err(error) => self.fail(&error),
            Ok(removed) => {
                let exactly = how == Removal::Shift && removed.how == Removal::Exact && followed;
                let why = if exactly { "; a shift was not possible, the rest is fed again" } else { "" };
                self.changed(&format!("(removed: {}, {} tokens{why})", counted(count, "message"), removed.rows))
            }
        }
    }

    fn system_prompt(&self) -> Option<String> {
        let first = self.chat.messages().first().filter(|message| message.role == "system");
        first.map(|message| message.content.text())
    }

    /// Whether it is another one.
    fn set_system_prompt(&mut self, text: String) -> bool {
        if let Some(history) = self.chat.history() {
            return history.set_system_prompt(Some(text));
        }
        let another = self.system_prompt().as_ref() != Some(&text);
        if another {
            self.chat.set_system_prompt(Some(text));
        }
        another
    }

    /// Calls a function and tells what came of it. An interrupt leaves it alone.
    fn call(&mut self, name: String, arguments: String) -> Result<()> {
        let during = self.show.interrupts.reply();
        let functions = self.functions.clone();
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

    fn stats(&mut self) -> String {
        let Some((total, finish)) = &self.last else { return "(no reply yet)".into() };
        let mut rows = rows(total, *finish);
        let tokens = self.chat.history().map_or(total.tokens, |history| history.num_tokens());
        let of = self.place.context().map_or_else(String::new, |context| format!(" of {context}"));
        rows.push(("context", format!("{tokens}{of} tokens")));
        table(&rows)
    }

    fn list(&mut self) -> String {
        let entries: Vec<Entry> = match self.chat.history() {
            Some(history) => {
                let entry =
                    |(i, message)| Entry::new(message, history.message_tokens(i).len(), history.is_cancelled(i));
                history.messages().iter().enumerate().map(entry).collect()
            }
            None => self.chat.messages().iter().map(Entry::of).collect(),
        };
        if entries.is_empty() { "(no messages yet)".into() } else { listing(&entries) }
    }

    fn list_functions(&self) -> String {
        let lines = self.functions.iter().flat_map(|function| {
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

    fn template(&mut self) -> Result<()> {
        let Some(history) = self.chat.history() else {
            return self.fail(
                &"/template needs a model on this machine: the server writes the prompt, by a template of its own",
            );
        };
        let template = history.template();
        let text = format!("{}:\n{}", template.name(), template.source().trim_end());
        self.show.answer("/template", &text)
    }
}
