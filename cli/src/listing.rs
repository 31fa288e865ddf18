//! A conversation as a list: a line for each message.

use crate::show::{harmless, written};
use nano_runtime::Message;

/// Characters of a message that are shown.
const SHOWN: usize = 60;

/// What is shown of one message.
pub struct Entry {
    pub role: String,
    pub text: String,
    pub fed: Fed,
    pub cancelled: bool,
}

/// What is known of a message's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fed {
    /// How many there are.
    Tokens(usize),
    /// There will be some.
    NotYet,
    /// A server knows.
    Elsewhere,
}

impl Entry {
    /// A message with its tokens; none are those of a message that was not fed yet.
    pub fn new(message: &Message, tokens: usize, cancelled: bool) -> Self {
        let fed = if tokens > 0 { Fed::Tokens(tokens) } else { Fed::NotYet };
        Self { fed, cancelled, ..Self::of(message) }
    }

    /// A message whose tokens nobody here has seen.
    pub fn of(message: &Message) -> Self {
        let mut text = message.content.text();
        for call in message.tool_calls.iter().flatten() {
            let function = call.get("function").unwrap_or(call);
            let name = function["name"].as_str().unwrap_or_default();
            let arguments = function["arguments"].as_str().unwrap_or_default();
            let arguments = serde_json::from_str(arguments).unwrap_or_default();
            text = format!("{text} {}", written(name, &arguments));
        }
        Self { role: message.role.clone(), text, fed: Fed::Elsewhere, cancelled: false }
    }
}

/// One line a message: number, role, the beginning of its text, tokens.
pub fn listing(entries: &[Entry]) -> String {
    let role = entries.iter().map(|entry| entry.role.chars().count()).max().unwrap_or(0);
    let number = entries.len().to_string().len();
    let line = |(i, entry): (usize, &Entry)| {
        let cancelled = if entry.cancelled { ", interrupted" } else { "" };
        let fed = match entry.fed {
            Fed::Tokens(n) => format!("  ({n} tokens{cancelled})"),
            Fed::NotYet => format!("  (not fed yet{cancelled})"),
            Fed::Elsewhere => String::new(),
        };
        let shown = harmless(&entry.role);
        format!("{i:>number$}  {shown:<role$}  {}{fed}", short(&entry.text))
    };
    entries.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")
}

/// So many of a thing.
pub fn counted(count: usize, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

/// The beginning of a text, in one line.
pub fn short(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = harmless(&line);
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", line[..end].trim_end()),
        None => line.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_a_message() {
        let entry =
            |role: &str, text: &str, fed, cancelled| Entry { role: role.into(), text: text.into(), fed, cancelled };
        let list = [
            entry("user", "two\n lines\x1b", Fed::Tokens(5), false),
            entry("assistant", &"word ".repeat(20), Fed::Tokens(12), true),
            entry("user", "", Fed::NotYet, false),
        ];
        let long = "word ".repeat(12);
        assert_eq!(
            listing(&list),
            format!(
                "0  user       two lines\u{fffd}  (5 tokens)\n1  assistant  {}…  (12 tokens, interrupted)\n\
                 2  user         (not fed yet)",
                long.trim_end()
            )
        );
    }

    #[test]
    fn calls_are_what_a_message_says() {
        let call = json!({"id": "abc", "function": {"name": "battery", "arguments": "{\"cell\":2}"}});
        let message = Message { tool_calls: Some(vec![call]), ..Message::assistant("Let me look.") };
        assert_eq!(listing(&[Entry::of(&message)]), "0  assistant  Let me look. battery(cell=2)");
    }
}
