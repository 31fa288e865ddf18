//! A conversation in the terminal's or a pipe's hands: turns, how they are shown, and the file that follows them. What
//! commands do is in `answers`.

use super::Said;
use super::command::Command;
use crate::listing::counted;
use crate::out::Log;
use crate::show::{Show, Step, Turn};
use crate::stats::Total;
use anyhow::Result;
use nano_runtime::{BotFunctions, ChatHistory, ChatOptions, Finish, GenerateOptions, NanoModel, Reply, Session};
use std::path::Path;

/// A conversation, and how it is shown.
pub struct Talk {
    pub(super) history: ChatHistory,
    /// With which another conversation is begun.
    pub(super) chat: ChatOptions,
    options: GenerateOptions,
    pub(super) show: Show,
    pub(super) log: Log,
    /// Where each turn is saved.
    pub(super) session: Option<Session>,
    /// How the last reply went.
    pub(super) last: Option<(Total, Finish)>,
    /// A turn or a command failed.
    pub(super) failed: bool,
}

impl Talk {
    /// Begins a conversation, or goes on with that of a session.
    pub fn start(
        model: &NanoModel,
        chat: ChatOptions,
        options: GenerateOptions,
        show: Show,
        session: Option<&Path>,
    ) -> Result<Self> {
        let log = show.log.clone();
        let (session, history) = match session {
            None => (None, model.chat(chat.clone())?),
            Some(path) => {
                let (session, history, notices) = Session::open(path, model, chat.clone())?;
                notices.iter().for_each(|notice| log.warn(notice));
                (Some(session), history)
            }
        };
        let talk = Self { history, chat, options, show, log, session, last: None, failed: false };
        talk.compare_system_prompt();
        Ok(talk)
    }

    /// The functions that may be called.
    pub fn functions(&self) -> &BotFunctions {
        self.history.functions()
    }

    /// Takes turns until there are no more. The exit status.
    pub fn turns(&mut self, source: impl Iterator<Item = Result<Said>>) -> Result<u8> {
        for said in source {
            match said? {
                Said::User(text) => {
                    self.history.user(text);
                    self.reply(|history, options| history.reply(options))?;
                }
                Said::Command(Command::Exit) | Said::End => break,
                Said::Command(command) => self.command(command)?,
                Said::Bad(why) => self.fail(&why)?,
                Said::Interrupted => return Ok(crate::interrupt::INTERRUPTED as u8),
            }
        }
        Ok(u8::from(self.failed))
    }

    /// Shows a reply. It is saved before its end is told, so that whoever was told may end the program. Whether it
    /// joined the conversation.
    pub(super) fn reply(
        &mut self,
        start: impl for<'a> FnOnce(&'a mut ChatHistory, &GenerateOptions) -> nano_runtime::Result<Reply<'a>>,
    ) -> Result<bool> {
        let Self { history, options, show, .. } = self;
        let (outcome, during) = show.turn(|| {
            let reply = start(history, options)?;
            let stopper = reply.stopper();
            Ok((reply.map(|event| event.map(Step::Answer)), stopper))
        })?;
        match &outcome {
            Ok(Turn { total, finish, .. }) => {
                self.last = Some((*total, *finish));
                self.keep()?;
            }
            Err(_) => self.failed = true,
        }
        self.show.end(&outcome, during)?;
        Ok(outcome.is_ok())
    }

    /// Saves the conversation where that is asked for. A program that reads events is told that it could not be saved: it
    /// takes what it was told is done for saved.
    pub(super) fn keep(&mut self) -> Result<()> {
        if let Some(session) = &mut self.session
            && let Err(error) = session.commit(&mut self.history)
        {
            self.show.warn(&format_args!("{error}; the conversation goes on unsaved"))?;
        }
        Ok(())
    }

    pub(super) fn fail(&mut self, why: &dyn std::fmt::Display) -> Result<()> {
        self.failed = true;
        self.show.error(&why)
    }

    /// Tells a person what they talk to.
    pub fn greet(&self) {
        let info = self.history.model().info();
        self.log.say_dim(&format!("{}, {} tokens of context; /help lists commands", info.name, info.context));
        let said = self.history.messages().iter().filter(|message| message.role != "system").count();
        if let Some(session) = self.session.as_ref().filter(|_| said > 0) {
            let path = session.path().display();
            self.log.say_dim(&format!("{path}: going on after {}; /history lists them", counted(said, "message")));
        }
    }

    /// A conversation that is gone on with keeps the system prompt that it has.
    fn compare_system_prompt(&self) {
        if self.session.is_some() && !self.history.messages().is_empty() {
            let asked = self.history.model().chat(self.chat.clone()).ok();
            let asked = asked.and_then(|chat| chat.system_prompt());
            if (self.chat.system_prompt.is_some() || !self.chat.functions.is_empty())
                && asked != self.history.system_prompt()
            {
                self.log.note("the session keeps the system prompt that it was begun with; /system TEXT sets another");
            }
        }
    }
}
