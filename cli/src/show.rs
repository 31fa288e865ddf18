//! A reply as it comes: text on stdout, or events as JSON lines; statistics after it. Chat and completion share this.

use crate::args::ReplyArgs;
use crate::interrupt::{DuringReply, Interrupts};
use crate::out::{self, Log};
use crate::paint::{Kind, Painter};
use crate::stats::{Numbers, line};
use crate::style::{Color, Style, Terminals};
use anyhow::Result;
use nano_runtime::{BotFunctions, CallReport, Event, Output, Overflow, Stopper};
use serde::Serialize;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// How replies are shown, and the signals that stop them.
pub struct Show {
    json: bool,
    streaming: bool,
    stats: bool,
    styles: Styles,
    /// stdout is a terminal.
    terminal: bool,
    functions: BotFunctions,
    pub interrupts: Interrupts,
    pub log: Log,
}

/// How each kind of text looks.
struct Styles {
    said: Style,
    call: Style,
    result: Style,
    failure: Style,
    mark: Style,
}

/// A line of JSON output.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Line<'a> {
    Text { text: &'a str },
    Call(Call<'a>),
    Overflow { policy: &'static str, removed_rows: usize },
    Done { finish: &'static str, stats: Numbers },
    Command { command: &'a str, text: &'a str },
    Error { message: String },
}

#[derive(Serialize)]
struct Call<'a> {
    name: &'a str,
    arguments: &'a Map<String, Value>,
    /// The text, or null where the function returns nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    returned: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<&'a str>,
    seconds: f64,
}

impl Show {
    /// How replies look in which these functions may be called.
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
            // Whoever wants replies plain wants calls plain.
            styles: Styles::beside(said, color != Color::NONE && terminals.color_out()),
            terminal: terminals.stdout,
            functions: functions.clone(),
            interrupts,
            log,
        }
    }

    /// Starts a reply and shows it until it ends: then [`end`](Show::end) says how it went. The inner error is the
    /// reply's, the outer one that of stdout. Until the last value is dropped an interrupt is the reply's.
    pub fn reply<R>(
        &self,
        start: impl FnOnce() -> nano_runtime::Result<R>,
        stopper: impl FnOnce(&R) -> Stopper,
    ) -> Result<(nano_runtime::Result<Output>, DuringReply)>
    where
        R: Iterator<Item = nano_runtime::Result<Event>>,
    {
        let during = self.interrupts.reply();
        let outcome = match start() {
            Ok(events) => {
                during.attach(stopper(&events));
                self.events(events)?
            }
            Err(error) => Err(error),
        };
        Ok((outcome, during))
    }

    /// Says how a reply went, and ends the program if it was told to end meanwhile.
    pub fn end(&self, outcome: &nano_runtime::Result<Output>, during: DuringReply) -> Result<()> {
        match outcome {
            Ok(output) => self.done(output)?,
            Err(error) => self.error(error)?,
        }
        during.done();
        Ok(())
    }

    /// Tells that something failed which does not end the program.
    pub fn error(&self, error: &dyn std::fmt::Display) -> Result<()> {
        self.log.error(error);
        if self.json { json_error(&error.to_string()) } else { Ok(()) }
    }

    /// Tells that something went wrong which the reply does not depend on.
    pub fn warn(&self, text: &dyn std::fmt::Display) -> Result<()> {
        self.log.warn(text);
        if self.json { json_error(&text.to_string()) } else { Ok(()) }
    }

    /// Answers a command that asked for something.
    pub fn answer(&self, command: &str, text: &str) -> Result<()> {
        if self.json {
            return out::json(&Line::Command { command, text });
        }
        self.log.say(&harmless(text));
        Ok(())
    }

    /// Tells what came of a call that stands in no reply.
    pub fn call(&self, report: &CallReport) -> Result<()> {
        if self.json {
            return self.call_event(report);
        }
        match &report.result {
            Ok(Some(text)) => self.log.say(&harmless(text)),
            Ok(None) => self.log.say_dim("(done; it returns nothing)"),
            Err(why) => self.log.error(harmless(why)),
        }
        Ok(())
    }

    fn events(
        &self,
        events: impl Iterator<Item = nano_runtime::Result<Event>>,
    ) -> Result<nano_runtime::Result<Output>> {
        let mut text = Text { show: self, painter: Painter::new(&self.functions), held: String::new(), shown: false };
        for event in events {
            match event {
                Ok(Event::Text(more)) => text.add(&more)?,
                Ok(Event::Call(report)) => {
                    text.call(&report)?;
                    if self.json {
                        self.call_event(&report)?;
                    }
                    self.log.debug(format_args!("{} was called and took {:.3} s", report.name, report.seconds));
                }
                Ok(Event::Overflow { policy, removed_rows }) => self.overflow(policy, removed_rows)?,
                Ok(Event::Done(output)) => {
                    text.end()?;
                    return Ok(Ok(*output));
                }
                Ok(_) => {}
                Err(error) => {
                    text.fail()?;
                    return Ok(Err(error));
                }
            }
        }
        Ok(Err(nano_runtime::Error::Stopped))
    }

    fn call_event(&self, report: &CallReport) -> Result<()> {
        let CallReport { name, arguments, result, seconds } = report;
        out::json(&Line::Call(Call {
            name,
            arguments,
            returned: result.as_ref().ok().map(Option::as_deref),
            failed: result.as_ref().err().map(String::as_str),
            seconds: *seconds,
        }))
    }

    fn overflow(&self, policy: Overflow, removed_rows: usize) -> Result<()> {
        let policy = policy.as_str();
        if self.json {
            return out::json(&Line::Overflow { policy, removed_rows });
        }
        self.log.note_dim(format_args!(
            "(the context was full: the oldest exchanges were removed, {removed_rows} tokens; --overflow {policy})"
        ));
        Ok(())
    }

    fn done(&self, output: &Output) -> Result<()> {
        let Output { finish, stats, .. } = output;
        if self.json {
            return out::json(&Line::Done { finish: finish.as_str(), stats: Numbers::of(stats) });
        }
        out::write("\n")?;
        if self.stats {
            self.log.say_dim(&line(stats, *finish));
        }
        Ok(())
    }
}

impl Styles {
    /// The styles that go with that of the model's words.
    fn beside(said: Style, wanted: bool) -> Self {
        let cyan = Style::code("36", wanted);
        let color = if said == cyan { "35" } else { "36" };
        Self {
            said,
            call: Style::code(color, wanted),
            result: Style::code(&format!("1;{color}"), wanted),
            failure: Style::code("31", wanted),
            mark: Style::dim(wanted),
        }
    }

    fn paint(&self, kind: Kind, text: &str) -> String {
        let style = match kind {
            Kind::Said => &self.said,
            Kind::Call => &self.call,
            Kind::Result => &self.result,
            Kind::Failure => &self.failure,
            Kind::Mark => &self.mark,
        };
        style.paint(&harmless(text))
    }
}

/// The text of one reply on its way to stdout.
struct Text<'a> {
    show: &'a Show,
    painter: Painter,
    /// What is shown at the end, where nothing is streamed.
    held: String,
    shown: bool,
}

impl Text<'_> {
    fn add(&mut self, text: &str) -> Result<()> {
        let Show { json, terminal, streaming, .. } = *self.show;
        if json && streaming {
            return out::json(&Line::Text { text });
        }
        if terminal && !json {
            let parts = self.painter.text(text);
            return self.paint(parts);
        }
        self.write(text)
    }

    fn call(&mut self, report: &CallReport) -> Result<()> {
        let parts = self.painter.call(report);
        if self.show.terminal && !self.show.json { self.paint(parts) } else { Ok(()) }
    }

    fn paint(&mut self, parts: Vec<(Kind, String)>) -> Result<()> {
        let painted: String = parts.iter().map(|(kind, text)| self.show.styles.paint(*kind, text)).collect();
        self.write(&painted)
    }

    fn write(&mut self, text: &str) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        if !self.show.streaming {
            self.held.push_str(text);
            return Ok(());
        }
        self.shown = true;
        out::write(text)
    }

    fn end(&mut self) -> Result<()> {
        let parts = self.painter.end();
        self.paint(parts)?;
        match self.held.as_str() {
            "" => Ok(()),
            text if self.show.json => out::json(&Line::Text { text }),
            text => out::write(text),
        }
    }

    /// What was shown of a reply that failed becomes a line of its own.
    fn fail(&mut self) -> Result<()> {
        if self.shown { out::write("\n") } else { Ok(()) }
    }
}

/// An error as an event.
pub fn json_error(message: &str) -> Result<()> {
    out::json(&Line::Error { message: message.to_owned() })
}

/// Takes away what could steer a terminal: a model may say anything.
pub fn harmless(text: &str) -> Cow<'_, str> {
    let harmful = |c: char| c.is_control() && c != '\n' && c != '\t';
    if text.contains(harmful) { text.replace(harmful, "\u{fffd}").into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nano_runtime::{Finish, Stats};

    fn json(line: &Line<'_>) -> Value {
        serde_json::from_str(&serde_json::to_string(line).unwrap()).unwrap()
    }

    #[test]
    fn events_are_lines_of_json() {
        let text = serde_json::to_string(&Line::Text { text: "a\n\"b\"" }).unwrap();
        assert_eq!(text, r#"{"event":"text","text":"a\n\"b\""}"#);
        let error = serde_json::to_string(&Line::Error { message: "no".into() }).unwrap();
        assert_eq!(error, r#"{"event":"error","message":"no"}"#);
        let overflow = serde_json::to_string(&Line::Overflow { policy: "drop", removed_rows: 3 }).unwrap();
        assert_eq!(overflow, r#"{"event":"overflow","policy":"drop","removed_rows":3}"#);
        let stats =
            Stats { input_tokens: 3, output_tokens: 2, prefill_time: 0.5, decode_time: 0.25, ..Stats::default() };
        let done = json(&Line::Done { finish: Finish::Stop.as_str(), stats: Numbers::of(&stats) });
        assert_eq!((&done["event"], &done["finish"]), (&"done".into(), &"stop".into()));
        assert_eq!(done["stats"]["prefill_rate"], 6.0);
        assert_eq!(done["stats"]["decode_rate"], 4.0);
    }

    #[test]
    fn calls_are_events() {
        let arguments = Map::from_iter([("to".to_owned(), Value::from(1))]);
        let call = |returned, failed| {
            let call = Call { name: "go", arguments: &arguments, returned, failed, seconds: 0.5 };
            serde_json::to_string(&Line::Call(call)).unwrap()
        };
        let start = r#"{"event":"call","name":"go","arguments":{"to":1},"#;
        assert_eq!(call(Some(Some("far")), None), format!("{start}\"returned\":\"far\",\"seconds\":0.5}}"));
        assert_eq!(call(Some(None), None), format!("{start}\"returned\":null,\"seconds\":0.5}}"));
        assert_eq!(call(None, Some("no")), format!("{start}\"failed\":\"no\",\"seconds\":0.5}}"));
    }

    #[test]
    fn calls_stand_out() {
        let paint = |said, wanted| Styles::beside(Style::code(said, wanted), wanted).paint(Kind::Call, "f()");
        assert_eq!(paint("32", true), "\x1b[36mf()\x1b[0m");
        assert_eq!(paint("36", true), "\x1b[35mf()\x1b[0m");
        assert_eq!(paint("36", false), "f()");
    }

    #[test]
    fn a_model_cannot_steer_the_terminal() {
        assert_eq!(harmless("a\tb\nc é"), "a\tb\nc é");
        assert_eq!(harmless("\x1b[2Jx\x07\u{9b}"), "\u{fffd}[2Jx\u{fffd}\u{fffd}");
    }
}
