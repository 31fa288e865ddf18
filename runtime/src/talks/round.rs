//! A round: the user's words, an answer, the calls it makes, the next answer, until one makes none. How it goes on, and
//! how it ends so that the conversation is whole, whatever happened in it.

use super::calls::{Batch, Call, calls_of};
use super::chat::{Chat, Setup};
use super::hooks::AfterError;
use crate::stream::Bell;
use crate::{CallReport, Error, Event, Finish, GenerateOptions, Output, Result, Stopper, ToolChoice};
use nano_templates::Message;
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::Arc;

/// One thing that happened in a round.
#[derive(Debug)]
#[non_exhaustive]
pub enum RoundEvent {
    /// Of an answer. Its [`Event::Done`] ends the answer; the round goes on if the answer makes calls.
    Answer(Event),
    /// A call of the answer came to its end. Results come in the order of the calls.
    Result(Box<ToolResult>),
    /// A sentence for the user: why the next answer is the round's last.
    Notice(String),
}

/// What came of a call, and what the model is told of it.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolResult {
    /// The call's id; empty if it has none.
    pub id: String,
    /// The result, whole.
    pub report: CallReport,
    /// The message that joined the conversation: the result, cut to the limit of the functions, or why there is none.
    pub message: Message,
}

/// A round under way: an iterator of events that holds its chat.
///
/// It ends in one of two ways. Its last answer is done: then everything that was said in it has joined the conversation.
/// Or an error is its last event: then nothing of it stays, the user's message included.
///
/// If it is [stopped](Round::stop) while an answer is under way that has made no call so far, that answer is the last: it
/// stays as far as it has come, as [`Finish::Cancelled`](crate::Finish::Cancelled), and with it all that came before it in
/// the round. A stop at any other time, from the first call of an answer until the next answer begins, ends it with
/// [`Error::RoundStopped`].
///
/// Dropping it before its end takes it back; after [`stop`](Round::stop) it is as if it had been read to its end. Functions
/// that run then are left alone, and nobody hears what they return.
pub struct Round<'a> {
    chat: &'a mut Chat,
    stopper: Stopper,
}

impl<'a> Round<'a> {
    pub(super) fn new(chat: &'a mut Chat, stopper: Stopper) -> Self {
        Self { chat, stopper }
    }

    /// The next event, if one is there: never waits, neither for the model nor for functions. `None` while there is none,
    /// and after the end.
    pub fn poll(&mut self) -> Option<Result<RoundEvent>> {
        self.chat.poll()
    }

    /// Whether the last event was read.
    pub fn is_ended(&self) -> bool {
        !self.chat.is_busy()
    }

    /// Asks for an early end.
    pub fn stop(&self) {
        self.stopper.stop();
    }

    /// A handle that stops the round from another thread, whatever is under way in it.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// The conversation, with what joined it in this round so far.
    pub fn messages(&self) -> &[Message] {
        self.chat.messages()
    }

    /// Waits for the end, and gives the last answer.
    pub fn wait(mut self) -> Result<Output> {
        let mut last = None;
        for event in &mut self {
            if let RoundEvent::Answer(Event::Done(output)) = event? {
                last = Some(*output);
            }
        }
        last.ok_or(Error::Stopped)
    }
}

impl Iterator for Round<'_> {
    type Item = Result<RoundEvent>;

    fn next(&mut self) -> Option<Result<RoundEvent>> {
        self.chat.next_event()
    }
}

impl Drop for Round<'_> {
    fn drop(&mut self) {
        if self.stopper.is_stopped() {
            while self.chat.next_event().is_some() {}
        } else {
            self.chat.give_up();
        }
    }
}

/// How far a round has come.
pub(super) struct Progress {
    options: GenerateOptions,
    tools: Vec<Value>,
    stopper: Stopper,
    /// Rings when a function is done, and when the round is stopped.
    bell: Arc<Bell>,
    stage: Stage,
    notices: VecDeque<String>,
    /// Answers that made calls.
    rounds: usize,
    /// Of these, the last ones with calls that failed.
    failures: usize,
    /// What follows the calls under way, if one of them has failed.
    after: Option<AfterError>,
}

enum Stage {
    Answer,
    /// An answer made calls. They are begun when somebody asks what comes next.
    Called(Vec<Call>),
    Calls(Batch),
    Over,
}

impl Progress {
    /// Asks for the first answer.
    pub(super) fn begin(setup: &mut Setup, options: &GenerateOptions) -> Result<Self> {
        let bell = Arc::new(Bell::default());
        let mut progress = Self {
            options: options.clone(),
            tools: setup.functions.iter().map(crate::BotFunction::tool).collect(),
            stopper: Stopper::new(Arc::clone(&bell)),
            bell,
            stage: Stage::Over,
            notices: VecDeque::new(),
            rounds: 0,
            failures: 0,
            after: None,
        };
        if setup.max_rounds == Some(0) {
            progress.options.tool_choice = ToolChoice::None;
        }
        progress.ask(setup)?;
        Ok(progress)
    }

    pub(super) fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Whether there is nothing more to come.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over) && self.notices.is_empty()
    }

    /// The next event. `None`: there is none now, or no more.
    pub(super) fn next(&mut self, setup: &mut Setup, wait: bool) -> Result<Option<RoundEvent>> {
        loop {
            if let Some(notice) = self.notices.pop_front() {
                return Ok(Some(RoundEvent::Notice(notice)));
            }
            match &mut self.stage {
                Stage::Over => return Ok(None),
                Stage::Answer => {
                    let event = match if wait { setup.talk.next() } else { setup.talk.poll() } {
                        Some(event) => event?,
                        None if wait => return Err(Error::Stopped),
                        None => return Ok(None),
                    };
                    if let Event::Done(output) = &event {
                        self.answered(output, setup);
                    }
                    return Ok(Some(RoundEvent::Answer(event)));
                }
                Stage::Called(_) | Stage::Calls(_) if self.stopper.is_stopped() => return Err(Error::RoundStopped),
                Stage::Called(calls) => {
                    let off = self.options.tool_choice == ToolChoice::None;
                    self.stage = Stage::Calls(Batch::start(std::mem::take(calls), off, setup, &self.bell));
                }
                Stage::Calls(batch) => match batch.next() {
                    Some((id, report)) => return self.result(id, report, setup).map(Some),
                    None if batch.is_empty() => self.go_on(setup)?,
                    None if wait => batch.wait(&self.bell),
                    None => return Ok(None),
                },
            }
        }
    }

    fn ask(&mut self, setup: &mut Setup) -> Result<()> {
        let messages = setup.talk.messages();
        setup.shared.set(messages);
        let prompt = setup.hooks.prompt(messages);
        setup.talk.begin(prompt, &self.tools, &self.options)?;
        if let Some(answer) = setup.talk.stopper() {
            self.stopper.pass_on(answer);
        }
        self.stage = Stage::Answer;
        Ok(())
    }

    fn answered(&mut self, output: &Output, setup: &mut Setup) {
        setup.hooks.answered(&output.message);
        let calls = calls_of(&output.message);
        self.stage = if calls.is_empty() { Stage::Over } else { Stage::Called(calls) };
        if output.finish == Finish::Cancelled {
            self.stopper.stop();
        }
    }

    fn result(&mut self, id: Option<String>, mut report: CallReport, setup: &mut Setup) -> Result<RoundEvent> {
        setup.hooks.after_call(&mut report);
        if let Err(problem) = &report.result {
            let attempt = self.failures + 1;
            let usual = if attempt <= setup.retries { AfterError::Retry } else { AfterError::LastAnswer };
            match setup.hooks.on_error(&report, attempt).unwrap_or(usual) {
                AfterError::Fail => return Err(Error::Call { problem: problem.clone() }),
                AfterError::LastAnswer => self.after = self.after.or(Some(AfterError::LastAnswer)),
                AfterError::Retry => self.after = Some(AfterError::Retry),
            }
        }
        let mut message = Message::new("tool", setup.functions.told(&report));
        (message.name, message.tool_call_id) = (Some(report.name.clone()), id.clone());
        setup.hooks.add(&mut message);
        setup.talk.append_message(message.clone());
        let id = id.unwrap_or_default();
        Ok(RoundEvent::Result(Box::new(ToolResult { id, report, message })))
    }

    /// All results are there: the next answer, unless this one made calls that it could not make.
    fn go_on(&mut self, setup: &mut Setup) -> Result<()> {
        self.rounds += 1;
        let after = self.after.take();
        self.failures = if after.is_some() { self.failures + 1 } else { 0 };
        if self.options.tool_choice == ToolChoice::None {
            self.notices.push_back("the model called functions where it should not: the round ends here".into());
            self.stage = Stage::Over;
            return Ok(());
        }
        let why = if after == Some(AfterError::LastAnswer) {
            Some("calls failed too often".to_owned())
        } else {
            setup
                .max_rounds
                .filter(|&most| self.rounds >= most)
                .map(|most| format!("there were {most} rounds of calls"))
        };
        self.options.tool_choice = ToolChoice::Auto;
        if let Some(why) = why {
            self.options.tool_choice = ToolChoice::None;
            self.notices.push_back(format!("{why}: the model answers without calling"));
        }
        self.ask(setup)
    }
}

impl std::fmt::Debug for Round<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Round").field("ended", &self.is_ended()).finish_non_exhaustive()
    }
}
