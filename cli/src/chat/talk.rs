//! A conversation in the terminal's or a pipe's hands: turns, how they are shown, and the file that follows them. It goes
//! through one [`Chat`], wherever the model is; what differs is in [`Place`]. What commands do is in `answers`.

use super::Said;
use super::command::Command;
use crate::listing::counted;
use crate::out::Log;
use crate::show::{Show, Turn, harmless};
use crate::stats::Total;
use anyhow::Result;
use nano_runtime::{
    BotFunctions, Chat, ChatHistory, ChatOptions, Finish, GenerateOptions, Message, NanoModel, Round, Session,
};
use std::path::Path;

/// A conversation, and how it is shown.
pub struct Talk {
    pub(super) chat: Chat,
    pub(super) place: Place,
    /// The functions that may be called, in whatever way.
    pub(super) functions: BotFunctions,
    options: GenerateOptions,
    pub(super) show: Show,
    pub(super) log: Log,
    /// How the last turn went.
    pub(super) last: Option<(Total, Finish)>,
    /// A turn or a command failed.
    pub(super) failed: bool,
}

/// Where the model is.
pub enum Place {
    Here(Box<Here>),
    There {
        /// The model and the server, for people.
        about: String,
        /// Tokens of the context, where they are known.
        context: Option<usize>,
    },
}

/// What comes with a model on this machine.
pub struct Here {
    pub model: NanoModel,
    /// With which another conversation is begun.
    pub chat: ChatOptions,
    /// Where each turn is saved.
    pub session: Option<Session>,
}

impl Place {
    /// Tokens of the context, where they are known.
    pub fn context(&self) -> Option<usize> {
        match self {
            Place::Here(here) => Some(here.model.info().context),
            Place::There { context, .. } => *context,
        }
    }
}

impl Here {
    /// A new conversation, or that of a session. The notices are the session's.
    pub fn open(
        model: NanoModel,
        chat: ChatOptions,
        session: Option<&Path>,
    ) -> nano_runtime::Result<(Self, ChatHistory, Vec<String>)> {
        let (session, history, notices) = match session {
            None => (None, model.chat(chat.clone())?, Vec::new()),
            Some(path) => {
                let (session, history, notices) = Session::open(path, &model, chat.clone())?;
                (Some(session), history, notices)
            }
        };
        Ok((Self { model, chat, session }, history, notices))
    }

    /// Whether a session's system prompt is another one than was asked for: a conversation that is gone on with keeps the
    /// one it has.
    pub fn keeps_system_prompt(&self, history: &ChatHistory) -> bool {
        if self.session.is_none() || history.messages().is_empty() {
            return false;
        }
        let asked = self.model.chat(self.chat.clone()).ok().and_then(|chat| chat.system_prompt());
        (self.chat.system_prompt.is_some() || !self.chat.functions.is_empty()) && asked != history.system_prompt()
    }
}

impl Talk {
    pub fn new(chat: Chat, place: Place, functions: BotFunctions, options: GenerateOptions, show: Show) -> Self {
        let log = show.log.clone();
        Self { chat, place, functions, options, show, log, last: None, failed: false }
    }

    /// The functions that may be called.
    pub fn functions(&self) -> &BotFunctions {
        &self.functions
    }

    /// Takes turns until there are no more. The exit status.
    pub fn turns(&mut self, source: impl Iterator<Item = Result<Said>>) -> Result<u8> {
        for said in source {
            match said? {
                Said::User(text) => {
                    self.chat.append_message(Message::user(text));
                    self.turn(Chat::answer)?;
                }
                Said::Command(Command::Exit) | Said::End => break,
                Said::Command(command) => self.command(command)?,
                Said::Bad(why) => self.fail(&why)?,
                Said::Interrupted => return Ok(crate::interrupt::INTERRUPTED as u8),
            }
        }
        Ok(u8::from(self.failed))
    }

    /// Shows a turn. It is saved before its end is told, so that whoever was told may end the program.
    pub(super) fn turn(
        &mut self,
        start: impl for<'a> FnOnce(&'a mut Chat, &GenerateOptions) -> nano_runtime::Result<Round<'a>>,
    ) -> Result<()> {
        let Self { chat, options, show, .. } = self;
        let (outcome, during) = show.turn(|| {
            let round = start(chat, options)?;
            let stopper = round.stopper();
            Ok((round, stopper))
        })?;
        match &outcome {
            Ok(Turn { total, finish, .. }) => {
                self.last = Some((*total, *finish));
                self.keep()?;
            }
            // Whoever stops a turn knows that it has no answer.
            Err(nano_runtime::Error::RoundStopped) => {}
            Err(_) => self.failed = true,
        }
        self.show.end(&outcome, during)
    }

    /// Saves the conversation where that is asked for. A program that reads events is told that it could not be saved: it
    /// takes what it was told is done for saved.
    pub(super) fn keep(&mut self) -> Result<()> {
        if let Place::Here(here) = &mut self.place
            && let Some(session) = &mut here.session
            && let Some(history) = self.chat.history()
            && let Err(error) = session.commit(history)
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
        let about = match &self.place {
            Place::Here(here) => &here.model.info().name,
            Place::There { about, .. } => about,
        };
        let context = self.place.context().map_or_else(String::new, |tokens| format!(", {tokens} tokens of context"));
        self.log.say_dim(&format!("{}{context}; /help lists commands", harmless(about)));
        let said = self.chat.messages().iter().filter(|message| message.role != "system").count();
        if let Place::Here(here) = &self.place
            && let Some(session) = here.session.as_ref().filter(|_| said > 0)
        {
            let path = session.path().display();
            self.log.say_dim(&format!("{path}: going on after {}; /history lists them", counted(said, "message")));
        }
    }
}
