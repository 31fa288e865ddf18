//! A reply as it comes: text on stdout, or events as JSON lines; statistics after it. Chat and completion share this.

use crate::args::ReplyArgs;
use crate::interrupt::Interrupts;
use crate::out::{self, Log};
use crate::style::{Color, Style, Terminals};
use anyhow::Result;
use nano_runtime::{Event, Finish, Output, Stats, Stopper};
use serde::Serialize;
use std::borrow::Cow;

/// How replies are shown, and the signals that stop them.
pub struct Show {
    json: bool,
    streaming: bool,
    stats: bool,
    style: Style,
    /// stdout is a terminal.
    terminal: bool,
    interrupts: Interrupts,
    pub log: Log,
}

/// A line of JSON output.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Line<'a> {
    Text { text: &'a str },
    Done { finish: &'static str, stats: Numbers },
    Error { message: String },
}

/// Statistics under NanoLLM's names.
#[derive(Serialize)]
struct Numbers {
    input_tokens: usize,
    reused_tokens: usize,
    output_tokens: usize,
    prefill_time: f64,
    prefill_rate: f64,
    decode_time: f64,
    decode_rate: f64,
    first_token_time: f64,
    gb_s: f64,
}

impl Show {
    pub fn new(args: &ReplyArgs, color: Color, terminals: Terminals, interrupts: Interrupts, log: Log) -> Self {
        Self {
            json: args.json,
            streaming: !args.disable_streaming,
            stats: !args.disable_stats,
            style: Style::color(color, terminals.color_out()),
            terminal: terminals.stdout,
            interrupts,
            log,
        }
    }

    /// Starts a reply, shows it until it ends, and says how it went. The inner error is the reply's, the outer one that of
    /// stdout.
    pub fn reply<R>(
        &self,
        start: impl FnOnce() -> nano_runtime::Result<R>,
        stopper: impl FnOnce(&R) -> Stopper,
    ) -> Result<nano_runtime::Result<Output>>
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
        match &outcome {
            Ok(output) => self.done(output)?,
            Err(error) => self.error(error)?,
        }
        during.done();
        Ok(outcome)
    }

    /// Tells that something failed which does not end the program.
    pub fn error(&self, error: &dyn std::fmt::Display) -> Result<()> {
        self.log.error(error);
        if self.json { json_error(&error.to_string()) } else { Ok(()) }
    }

    fn events(
        &self,
        events: impl Iterator<Item = nano_runtime::Result<Event>>,
    ) -> Result<nano_runtime::Result<Output>> {
        let mut started = false;
        for event in events {
            match event {
                Ok(Event::Text(text)) if self.streaming => {
                    started = true;
                    self.text(&text)?;
                }
                Ok(Event::Done(output)) => {
                    if !self.streaming && !output.text.is_empty() {
                        self.text(&output.text)?;
                    }
                    return Ok(Ok(*output));
                }
                Ok(_) => {}
                Err(error) => {
                    // What was shown of it becomes a line of its own.
                    if started && !self.json {
                        out::write("\n")?;
                    }
                    return Ok(Err(error));
                }
            }
        }
        Ok(Err(nano_runtime::Error::Stopped))
    }

    fn text(&self, text: &str) -> Result<()> {
        if self.json {
            out::json(&Line::Text { text })
        } else if self.terminal {
            out::write(self.style.paint(&harmless(text)))
        } else {
            out::write(text)
        }
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

impl Numbers {
    fn of(stats: &Stats) -> Self {
        Self {
            input_tokens: stats.input_tokens,
            reused_tokens: stats.reused_tokens,
            output_tokens: stats.output_tokens,
            prefill_time: stats.prefill_time,
            prefill_rate: stats.prefill_rate(),
            decode_time: stats.decode_time,
            decode_rate: stats.decode_rate(),
            first_token_time: stats.first_token_time,
            gb_s: stats.gb_s(),
        }
    }
}

/// An error as an event.
pub fn json_error(message: &str) -> Result<()> {
    out::json(&Line::Error { message: message.to_owned() })
}

/// Takes away what could steer a terminal: a model may say anything.
fn harmless(text: &str) -> Cow<'_, str> {
    let harmful = |c: char| c.is_control() && c != '\n' && c != '\t';
    if text.contains(harmful) { text.replace(harmful, "\u{fffd}").into() } else { text.into() }
}

/// Statistics in one line.
fn line(stats: &Stats, finish: Finish) -> String {
    let reused = if stats.reused_tokens > 0 { format!(" ({} reused)", stats.reused_tokens) } else { String::new() };
    let mut line = format!(
        "{} tokens in{reused}, {} out · first after {:.2} s · prefill {:.0} tok/s · decode {:.1} tok/s, {:.1} GB/s",
        stats.input_tokens,
        stats.output_tokens,
        stats.first_token_time,
        stats.prefill_rate(),
        stats.decode_rate(),
        stats.gb_s()
    );
    line.push_str(match finish {
        Finish::Stop => "",
        Finish::Length => " · cut off by --max-new-tokens",
        Finish::Cancelled => " · interrupted",
        Finish::Context => " · the context is full, /reset starts over",
    });
    line
}

/// Statistics as a table, one name a row.
pub fn table(rows: &[(&str, String)]) -> String {
    let width = |of: &dyn Fn(&(&str, String)) -> usize| rows.iter().map(of).max().unwrap_or(0);
    let (names, values) = (width(&|r| r.0.chars().count()), width(&|r| r.1.chars().count()));
    let rule =
        |left, middle, right| format!("{left}{}{middle}{}{right}", "─".repeat(names + 2), "─".repeat(values + 2));
    let mut lines = vec![rule('┌', '┬', '┐')];
    lines.extend(rows.iter().map(|(name, value)| format!("│ {name:<names$} │ {value:>values$} │")));
    lines.push(rule('└', '┴', '┘'));
    lines.join("\n")
}

/// The rows of `/stats`.
pub fn stats_rows(stats: &Stats, finish: Finish) -> Vec<(&'static str, String)> {
    let seconds = |s: f64| format!("{s:.3} s");
    let rate = |r: f64| format!("{r:.1} tok/s");
    vec![
        ("input_tokens", stats.input_tokens.to_string()),
        ("reused_tokens", stats.reused_tokens.to_string()),
        ("output_tokens", stats.output_tokens.to_string()),
        ("prefill_time", seconds(stats.prefill_time)),
        ("prefill_rate", rate(stats.prefill_rate())),
        ("decode_time", seconds(stats.decode_time)),
        ("decode_rate", rate(stats.decode_rate())),
        ("first_token_time", seconds(stats.first_token_time)),
        ("gb_s", format!("{:.2} GB/s", stats.gb_s())),
        ("finish", finish.as_str().to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_lines_of_json() {
        let text = serde_json::to_string(&Line::Text { text: "a\n\"b\"" }).unwrap();
        assert_eq!(text, r#"{"event":"text","text":"a\n\"b\""}"#);
        let error = serde_json::to_string(&Line::Error { message: "no".into() }).unwrap();
        assert_eq!(error, r#"{"event":"error","message":"no"}"#);
        let stats =
            Stats { input_tokens: 3, output_tokens: 2, prefill_time: 0.5, decode_time: 0.25, ..Stats::default() };
        let done = Line::Done { finish: Finish::Stop.as_str(), stats: Numbers::of(&stats) };
        let done: serde_json::Value = serde_json::from_str(&serde_json::to_string(&done).unwrap()).unwrap();
        assert_eq!((&done["event"], &done["finish"]), (&"done".into(), &"stop".into()));
        assert_eq!(done["stats"]["prefill_rate"], 6.0);
        assert_eq!(done["stats"]["decode_rate"], 4.0);
    }

    #[test]
    fn a_model_cannot_steer_the_terminal() {
        assert_eq!(harmless("a\tb\nc é"), "a\tb\nc é");
        assert_eq!(harmless("\x1b[2Jx\x07\u{9b}"), "\u{fffd}[2Jx\u{fffd}\u{fffd}");
    }

    #[test]
    fn a_table_is_straight() {
        let table = table(&[("a", "1".into()), ("long", "22.5 s".into())]);
        let widths: Vec<usize> = table.lines().map(|l| l.chars().count()).collect();
        assert_eq!(widths, [17; 4]);
        assert!(table.contains("│ a    │      1 │"), "{table}");
    }

    #[test]
    fn the_line_says_why_a_reply_ended() {
        assert!(line(&Stats::default(), Finish::Length).ends_with("--max-new-tokens"));
        assert!(line(&Stats::default(), Finish::Stop).ends_with("GB/s"));
    }
}
