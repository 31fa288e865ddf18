//! A turn as it comes: answers on stdout as text, or events as JSON lines; statistics after it. Chat and completion share
//! this. Where the text goes and how it looks is in `page` and `styles`, the lines of JSON are in `events`.

mod events;
mod page;
mod styles;

pub use page::written;
pub use styles::harmless;

use crate::args::ReplyArgs;
use crate::interrupt::{DuringReply, Interrupts};
use crate::out::{self, Log};
use crate::stats::{Total, line};
use crate::style::{Color, Style, Terminals};
use anyhow::Result;
use events::{Call, Line};
use nano_runtime::{BotFunctions, CallReport, Error, Event, Finish, Output, Overflow, RoundEvent, Stopper};
use page::Page;
use styles::Styles;

/// How turns are shown, and the signals that stop them.
pub struct Show {
    json: bool,
    streaming: bool,
    stats: bool,
    reasoning: bool,
    styles: Styles,
    /// stdout is a terminal.
    terminal: bool,
    functions: BotFunctions,
    pub interrupts: Interrupts,
    pub log: Log,
}

/// A turn that came to its end.
pub struct Turn {
    pub total: Total,
    pub finish: Finish,
    /// The last answer.
    last: Box<Output>,
}

impl Show {
    /// How replies look in the middle of which these functions may be called.
    pub fn new(
        args: &ReplyArgs,
        color: Color,
        terminals: Terminals,
        functions: &BotFunctions,
        interrupts: Interrupts,
        log: Log,
    ) -> Self {
        let said = Style::color(color, terminals.color_out());
        Self {
            json: args.json,
            streaming: !args.disable_streaming,
            stats: !args.disable_stats,
            reasoning: true,
            // Whoever wants replies plain wants calls plain.
            styles: Styles::beside(said, color != Color::NONE && terminals.color_out()),
            terminal: terminals.stdout,
            functions: functions.clone(),
            interrupts,
            log,
        }
    }

    /// With or without what models think.
    pub fn with_reasoning(mut self, reasoning: bool) -> Self {
        self.reasoning = reasoning;
        self
    }

    /// Starts a turn and shows it until it ends: then [`end`](Show::end) says how it went. The inner error is the
    /// turn's, the outer one that of stdout. Until the last value is dropped an interrupt is the turn's.
    pub fn turn<R>(
        &self,
        start: impl FnOnce() -> nano_runtime::Result<(R, Stopper)>,
    ) -> Result<(nano_runtime::Result<Turn>, DuringReply)>
    where
        R: Iterator<Item = nano_runtime::Result<RoundEvent>>,
    {
        let during = self.interrupts.reply();
        let outcome = match start() {
            Ok((steps, stopper)) => {
                during.attach(stopper);
                self.steps(steps)?
            }
            Err(error) => Err(error),
        };
        Ok((outcome, during))
    }

    /// Says how a turn went, and ends the program if it was told to end meanwhile.
    pub fn end(&self, outcome: &nano_runtime::Result<Turn>, during: DuringReply) -> Result<()> {
        match outcome {
            Ok(turn) => self.done(turn)?,
            Err(Error::RoundStopped) if !self.json => {
                if self.terminal {
                    // Behind what the key left there.
                    out::write("\n")?;
                }
                self.log.say_dim("(interrupted while functions were called: the turn was taken back)");
            }
            Err(error) => self.error(error)?,
        }
        during.done();
        Ok(())
    }

    /// Tells that something failed which does not end the program.
    pub fn error(&self, error: &dyn std::fmt::Display) -> Result<()> {
        self.log.error(harmless(&error.to_string()));
        if self.json { Line::error(error).write() } else { Ok(()) }
    }

    /// Tells that something went wrong which the reply does not depend on.
    pub fn warn(&self, text: &dyn std::fmt::Display) -> Result<()> {
        self.log.warn(text);
        if self.json { Line::error(text).write() } else { Ok(()) }
    }

    /// Answers a command that asked for something.
    pub fn answer(&self, command: &str, text: &str) -> Result<()> {
        if self.json {
            return Line::Command { command, text }.write();
        }
        self.log.say(&harmless(text));
        Ok(())
    }

    /// Tells what came of a call that stands in no reply.
    pub fn call(&self, report: &CallReport) -> Result<()> {
        if self.json {
            return Line::Call(Call::from(report)).write();
        }
        match &report.result {
            Ok(Some(text)) => self.log.say(&harmless(text)),
            Ok(None) => self.log.say_dim("(done; it returns nothing)"),
            Err(why) => self.log.error(harmless(why)),
        }
        Ok(())
    }

    fn steps(
        &self,
        steps: impl Iterator<Item = nano_runtime::Result<RoundEvent>>,
    ) -> Result<nano_runtime::Result<Turn>> {
        let mut page = Page::new(self);
        let mut total = Total::default();
        let mut last: Option<Box<Output>> = None;
        for step in steps {
            match step {
                Ok(RoundEvent::Answer(Event::Done(output))) => {
                    page.end_answer()?;
                    total.answered(&output.stats);
                    let calls = calls(&output);
                    if calls > 0 && self.json {
                        Line::done(&output, calls).write()?;
                    }
                    last = Some(output);
                }
                Ok(RoundEvent::Answer(event)) => self.event(&mut page, event)?,
                Ok(RoundEvent::Result(result)) => {
                    total.called(&result.report);
                    page.result(&result.id, &result.report)?;
                }
                Ok(RoundEvent::Notice(text)) => self.log.note_dim(format_args!("({text})")),
                Ok(_) => {}
                Err(error) => {
                    page.fail()?;
                    return Ok(Err(error));
                }
            }
        }
        Ok(last.map(|last| Turn { total, finish: last.finish, last }).ok_or(Error::Stopped))
    }

    fn event(&self, page: &mut Page<'_>, event: Event) -> Result<()> {
        match event {
            Event::Text(text) => page.text(&text),
            Event::Reasoning(text) => page.reasoning(&text),
            Event::ToolCall(call) => page.tool_call(&call),
            Event::Call(report) => {
                self.log.debug(format_args!("{} was called and took {:.3} s", report.name, report.seconds));
                page.call(&report)
            }
            Event::Overflow { policy, removed_rows } => self.overflow(policy, removed_rows),
            _ => Ok(()),
        }
    }

    fn overflow(&self, policy: Overflow, removed: usize) -> Result<()> {
        if self.json {
            return Line::overflow(policy, removed).write();
        }
        self.log.note_dim(format_args!(
            "(the context was full: the oldest exchanges were removed, {removed} tokens; --overflow {})",
            policy.as_str()
        ));
        Ok(())
    }

    fn done(&self, turn: &Turn) -> Result<()> {
        if self.json {
            // Whatever it called: no other answer follows it.
            return Line::done(&turn.last, 0).write();
        }
        // Calls end their lines themselves.
        if calls(&turn.last) == 0 {
            out::write("\n")?;
        }
        if self.stats {
            self.log.say_dim(&line(&turn.total, turn.finish));
        }
        Ok(())
    }
}

/// Calls of tools in an answer.
fn calls(output: &Output) -> usize {
    output.message.tool_calls.as_ref().map_or(0, Vec::len)
}

/// An error as an event.
pub fn json_error(message: &str) -> Result<()> {
    Line::error(message).write()
}
