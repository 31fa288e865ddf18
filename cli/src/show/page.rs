//! The text of a turn on its way to stdout. A terminal gets all of it, each kind in its own look: what the model thinks,
//! says and calls, and what calls gave, in lines of their own. A pipe gets the answers. A program gets events.

use super::Show;
use super::events::{Call, Line};
use crate::out;
use crate::paint::{Kind, Painter};
use anyhow::Result;
use nano_runtime::{CallReport, ToolCall};
use serde_json::{Map, Value};

/// Lines of a result that are shown to people, and characters of each; and characters of a call.
const LINES: usize = 2;
const WIDTH: usize = 120;
const CALL: usize = 240;

/// A turn's text.
pub struct Page<'a> {
    show: &'a Show,
    painter: Painter,
    /// What is shown at the end, where nothing is streamed; before a call, where that is an event.
    held: String,
    /// Thoughts that wait in the same way, where they are events.
    held_thoughts: String,
    /// What was shown last does not end its line.
    in_line: bool,
    /// What was shown last is a thought.
    thinking: bool,
    /// Calls of this answer, and of the one before it, whose results come.
    calls: usize,
    called: usize,
}

impl<'a> Page<'a> {
    pub fn new(show: &'a Show) -> Self {
        Self {
            show,
            painter: Painter::new(&show.functions),
            held: String::new(),
            held_thoughts: String::new(),
            in_line: false,
            thinking: false,
            calls: 0,
            called: 0,
        }
    }

    /// The model says something.
    pub fn text(&mut self, text: &str) -> Result<()> {
        if self.thinking {
            self.thinking = false;
            self.end_line()?;
        }
        if self.show.json && self.show.streaming {
            return Line::Text { text }.write();
        }
        if self.in_terminal() {
            let parts = self.painter.text(text);
            return self.paint(parts);
        }
        self.write(text, text)
    }

    /// The model thinks.
    pub fn reasoning(&mut self, text: &str) -> Result<()> {
        if !self.show.reasoning || text.is_empty() {
            return Ok(());
        }
        if self.show.json {
            if self.show.streaming {
                return Line::Reasoning { text }.write();
            }
            self.held_thoughts.push_str(text);
        } else if self.in_terminal() {
            if !self.thinking {
                self.end_line()?;
                self.thinking = true;
            }
            self.write(text, &self.show.styles.paint(Kind::Thought, text))?;
        }
        Ok(())
    }

    /// The model called a function in the middle of the text.
    pub fn call(&mut self, report: &CallReport) -> Result<()> {
        let parts = self.painter.call(report);
        if self.show.json {
            self.release()?;
            return Line::Call(Call::from(report)).write();
        }
        if self.in_terminal() { self.paint(parts) } else { Ok(()) }
    }

    /// The model calls a tool.
    pub fn tool_call(&mut self, call: &ToolCall) -> Result<()> {
        self.calls += 1;
        if self.show.json {
            self.release()?;
            return Line::tool_call(call).write();
        }
        self.line(Kind::Call, &cut(&written(&call.name, &call.arguments), CALL))
    }

    /// A tool was called.
    pub fn result(&mut self, id: &str, report: &CallReport) -> Result<()> {
        let CallReport { name, result, seconds, .. } = report;
        self.show.log.debug(format_args!("{name} was called and took {seconds:.3} s"));
        if self.show.json {
            return Line::ToolResult { id, call: Call::from(report) }.write();
        }
        let of = if self.called > 1 { format!("{name} ") } else { String::new() };
        let (kind, text) = match result {
            Ok(Some(text)) if !text.trim().is_empty() => (Kind::Result, brief(text)),
            Ok(_) => (Kind::Mark, "✓".to_owned()),
            Err(why) => (Kind::Failure, brief(why)),
        };
        self.line(kind, &format!("  {of}→ {text}"))?;
        self.release()
    }

    /// An answer is complete.
    pub fn end_answer(&mut self) -> Result<()> {
        self.called = std::mem::take(&mut self.calls);
        let parts = self.painter.end();
        if !self.show.json {
            self.paint(parts)?;
        }
        self.release()
    }

    /// What was shown of a turn that failed becomes a line of its own.
    pub fn fail(&mut self) -> Result<()> {
        if self.in_line && self.show.streaming && !self.show.json { out::write("\n") } else { Ok(()) }
    }

    fn line(&mut self, kind: Kind, text: &str) -> Result<()> {
        if !self.in_terminal() {
            // Whoever reads a pipe waits for the answer; whoever watches sees what it waits for.
            self.end_line()?;
            self.show.log.note_dim(super::harmless(text));
            return Ok(());
        }
        let parts = self.painter.end();
        self.paint(parts)?;
        self.thinking = false;
        self.end_line()?;
        self.write("\n", &format!("{}\n", self.show.styles.paint(kind, text)))
    }

    fn in_terminal(&self) -> bool {
        self.show.terminal && !self.show.json
    }

    fn paint(&mut self, parts: Vec<(Kind, String)>) -> Result<()> {
        for (kind, text) in parts {
            self.write(&text, &self.show.styles.paint(kind, &text))?;
        }
        Ok(())
    }

    fn end_line(&mut self) -> Result<()> {
        if self.in_line { self.write("\n", "\n") } else { Ok(()) }
    }

    /// Shows a text, as it looks.
    fn write(&mut self, text: &str, look: &str) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        self.in_line = !text.ends_with('\n');
        if !self.show.streaming {
            self.held.push_str(look);
            return Ok(());
        }
        out::write(look)
    }

    /// Shows what is held.
    fn release(&mut self) -> Result<()> {
        let thoughts = std::mem::take(&mut self.held_thoughts);
        if !thoughts.is_empty() {
            Line::Reasoning { text: &thoughts }.write()?;
        }
        match std::mem::take(&mut self.held).as_str() {
            "" => Ok(()),
            text if self.show.json => Line::Text { text }.write(),
            text => out::write(text),
        }
    }
}

/// A call as a person reads it.
pub fn written(name: &str, arguments: &Map<String, Value>) -> String {
    let arguments: Vec<String> = arguments.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{name}({})", arguments.join(", "))
}

/// The beginning of a result.
fn brief(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let shown = lines.iter().take(LINES).map(|line| cut(line, WIDTH)).collect::<Vec<_>>().join("\n    ");
    if lines.len() > LINES { format!("{shown} …") } else { shown }
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", text[..end].trim_end()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn calls_as_people_read_them() {
        let Value::Object(arguments) = json!({"cell": 2, "unit": "m", "list": [1]}) else { panic!() };
        assert_eq!(written("battery", &arguments), r#"battery(cell=2, unit="m", list=[1])"#);
        assert_eq!(written("battery", &Map::new()), "battery()");
    }

    #[test]
    fn results_are_cut() {
        assert_eq!(brief("42\n"), "42");
        assert_eq!(brief("a\n\nb"), "a\n    b");
        assert_eq!(brief("a\nb\nc"), "a\n    b …");
        assert_eq!(brief(&"x".repeat(500)), format!("{}…", "x".repeat(120)));
    }
}
