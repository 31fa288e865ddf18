//! A conversation as a list: a line for each message.

use crate::show::harmless;
use nano_runtime::Message;

/// Characters of a message that are shown.
const SHOWN: usize = 60;

/// What is shown of one message.
pub struct Entry {
    pub role: String,
    pub text: String,
    /// None where they are not known yet.
    pub tokens: Option<usize>,
    pub cancelled: bool,
}

impl Entry {
    /// A message with its tokens; none are those of a message that was not fed yet.
    pub fn new(message: &Message, tokens: usize, cancelled: bool) -> Self {
        Self {
            role: message.role.clone(),
            text: message.content.text(),
            tokens: Some(tokens).filter(|&n| n > 0),
            cancelled,
        }
    }
}

/// One line a message: number, role, the beginning of its text, tokens.
pub fn listing(entries: &[Entry]) -> String {
    let role = entries.iter().map(|entry| entry.role.chars().count()).max().unwrap_or(0);
    let number = entries.len().to_string().len();
    let line = |(i, entry): (usize, &Entry)| {
        let tokens = entry.tokens.map_or_else(|| "not fed yet".to_owned(), |n| format!("{n} tokens"));
        let cancelled = if entry.cancelled { ", interrupted" } else { "" };
        let shown = harmless(&entry.role);
        format!("{i:>number$}  {shown:<role$}  {}  ({tokens}{cancelled})", short(&entry.text))
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

    #[test]
    fn a_line_a_message() {
        let entry = |role: &str, text: &str, tokens, cancelled| Entry {
            role: role.into(),
            text: text.into(),
            tokens,
            cancelled,
        };
        let list = [
            entry("user", "two\n lines\x1b", Some(5), false),
            entry("assistant", &"word ".repeat(20), Some(12), true),
            entry("user", "", None, false),
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
}
