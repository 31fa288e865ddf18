//! Slash commands: how a line becomes one. What they do is the session's business.

/// A slash command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Reset,
    Help,
    Exit,
    Stats,
    /// With a text a new system prompt, without one a question.
    System(Option<String>),
    Template,
    /// As it was typed.
    Unknown(String),
}

/// Names for completion.
pub const NAMES: [&str; 7] = ["/reset", "/clear", "/help", "/exit", "/stats", "/system", "/template"];

/// The answer to `/help`.
pub const HELP: &str = "\
/reset           start a new conversation; the system prompt stays (also /clear)
/system TEXT     start a new conversation with another system prompt; without TEXT, show it
/stats           numbers of the last reply
/template        show the chat template
/help            show this
/exit            leave (also Ctrl-D)
A line that ends with \\ goes on in the next one. Ctrl-C stops a reply and keeps the conversation.";

impl Command {
    /// The command in a line, if it looks like one: a slash and a word. A path such as /usr/bin does not.
    pub fn parse(line: &str) -> Option<Self> {
        let line = line.trim();
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let word = name.strip_prefix('/')?;
        if word != "?" && (word.is_empty() || !word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-'))
        {
            return None;
        }
        let rest = rest.trim();
        Some(match word.to_ascii_lowercase().as_str() {
            "reset" | "clear" if rest.is_empty() => Command::Reset,
            "help" | "?" => Command::Help,
            "exit" | "quit" if rest.is_empty() => Command::Exit,
            "stats" if rest.is_empty() => Command::Stats,
            "system" => Command::System(Some(rest.to_owned()).filter(|text| !text.is_empty())),
            "template" if rest.is_empty() => Command::Template,
            _ => Command::Unknown(line.to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_commands() {
        for (line, command) in [
            ("/reset", Command::Reset),
            (" /CLEAR ", Command::Reset),
            ("/exit", Command::Exit),
            ("/?", Command::Help),
            ("/help me", Command::Help),
            ("/system  Be brief. ", Command::System(Some("Be brief.".into()))),
            ("/system Two\nlines", Command::System(Some("Two\nlines".into()))),
            ("/system", Command::System(None)),
            ("/frobnicate now", Command::Unknown("/frobnicate now".into())),
            ("/reset now", Command::Unknown("/reset now".into())),
        ] {
            assert_eq!(Command::parse(line), Some(command), "{line:?}");
        }
        for line in ["", "hello", "/", "// x", "/usr/bin is a folder", "a /reset", "/5%", "reset"] {
            assert_eq!(Command::parse(line), None, "{line:?}");
        }
    }

    #[test]
    fn all_names_are_known_and_helped() {
        for name in NAMES {
            assert!(!matches!(Command::parse(name), None | Some(Command::Unknown(_))), "{name}");
            assert!(HELP.contains(name), "{name}");
        }
    }
}
