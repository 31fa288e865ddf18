//! Slash commands: how a line becomes one. What they do is in `answers`.

use nano_runtime::Removal;
use std::ops::Range;
use std::path::PathBuf;

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
    Undo,
    Retry,
    Edit(String),
    Remove(Range<usize>, Removal),
    History,
    Save(PathBuf),
    Load(PathBuf),
    Functions,
    /// A function's name, and its arguments as text.
    Call(String, String),
    Session,
    /// As it was typed.
    Unknown(String),
    /// One that cannot be done as it was typed: a sentence that says why.
    Wrong(&'static str),
}

/// What may follow a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    Nothing,
    Text,
    File,
    Function,
}

/// Names for completion, and what follows each.
pub const NAMES: [(&str, Takes); 17] = [
    ("/reset", Takes::Nothing),
    ("/clear", Takes::Nothing),
    ("/help", Takes::Nothing),
    ("/exit", Takes::Nothing),
    ("/stats", Takes::Nothing),
    ("/system", Takes::Text),
    ("/template", Takes::Nothing),
    ("/undo", Takes::Nothing),
    ("/retry", Takes::Nothing),
    ("/edit", Takes::Text),
    ("/remove", Takes::Text),
    ("/history", Takes::Nothing),
    ("/save", Takes::File),
    ("/load", Takes::File),
    ("/functions", Takes::Nothing),
    ("/call", Takes::Function),
    ("/session", Takes::Nothing),
];

/// The answer to `/help`.
pub const HELP: &str = "\
/undo            take back the last exchange
/retry           answer the last message again
/edit TEXT       put TEXT in place of your last message, and answer that
/history         list the messages, numbered from 0, with their tokens
/remove A..B     take out messages A to B-1; what follows them is fed again, or
                 moved up with /remove A..B shift, which may leave traces
/reset           start a new conversation; the system prompt stays (also /clear)
/system TEXT     start a new one with another system prompt; alone: show it
/save FILE       save the conversation with all that was computed, or with
                 --engine its messages as JSON
/load FILE       go on with a saved conversation
/session         where each turn is saved, and how much of it is computed
/functions       list the functions that the model may call, in whatever way
/call NAME ARGS  call one now: /call f 1, unit='m' or /call f {\"unit\": \"m\"}
/stats           numbers of the last turn
/template        show the chat template
/help            show this
/exit            leave (also Ctrl-D)

Alt-Enter, or \\ at the end of a line, goes on in the next line. Pasted lines
are one message, which Enter sends. Tab completes commands, files and functions.
Ctrl-R searches what you typed before. Ctrl-C stops a reply and keeps what was
said; while tools are called, the turn is taken back.";

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
        let file = |command: fn(PathBuf) -> Command, form| match rest {
            "" => Command::Wrong(form),
            path => command(at_home(path)),
        };
        Some(match word.to_ascii_lowercase().as_str() {
            "help" | "?" => Command::Help,
            "system" => Command::System(Some(rest.to_owned()).filter(|text| !text.is_empty())),
            "edit" if rest.is_empty() => Command::Wrong("/edit needs the new text: /edit TEXT"),
            "edit" => Command::Edit(rest.to_owned()),
            "remove" => removal(rest).unwrap_or(Command::Wrong(REMOVE)),
            "save" => file(Command::Save, "/save needs a file: /save FILE"),
            "load" => file(Command::Load, "/load needs a file: /load FILE"),
            "call" => call(rest),
            _ if !rest.is_empty() => Command::Unknown(line.to_owned()),
            "reset" | "clear" => Command::Reset,
            "exit" | "quit" => Command::Exit,
            "stats" => Command::Stats,
            "template" => Command::Template,
            "undo" => Command::Undo,
            "retry" => Command::Retry,
            "history" => Command::History,
            "functions" => Command::Functions,
            "session" => Command::Session,
            _ => Command::Unknown(line.to_owned()),
        })
    }
}

const REMOVE: &str = "/remove needs numbers of messages as /history shows them: /remove 1..3 takes out 1 and 2, \
    /remove 1..3 shift does it without feeding the rest again";

/// `A..B`, `A..=B` or `A`, and a way.
fn removal(text: &str) -> Option<Command> {
    let mut words = text.split_whitespace();
    let range = words.next()?;
    let how = match words.next() {
        None | Some("exact") => Removal::Exact,
        Some("shift") => Removal::Shift,
        Some(_) => return None,
    };
    let number = |text: &str| text.parse::<usize>().ok();
    let range = match (range.split_once("..="), range.split_once("..")) {
        (Some((first, last)), _) => number(first)?..number(last)?.checked_add(1)?,
        (None, Some((first, end))) => number(first)?..number(end)?,
        (None, None) => number(range)?..number(range)?.checked_add(1)?,
    };
    (words.next().is_none() && !range.is_empty()).then_some(Command::Remove(range, how))
}

/// `NAME ARGS`, or a call as a model writes it.
fn call(text: &str) -> Command {
    let end = text.find(|c: char| c.is_whitespace() || c == '(').unwrap_or(text.len());
    let (name, arguments) = text.split_at(end);
    if name.is_empty() {
        return Command::Wrong("/call needs a function: /call NAME, or /call NAME ARGUMENTS");
    }
    let inner = arguments.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
    Command::Call(name.to_owned(), inner.unwrap_or(arguments).trim().to_owned())
}

/// A path as shells read it.
pub fn at_home(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_commands() {
        let call = |name: &str, arguments: &str| Command::Call(name.into(), arguments.into());
        for (line, command) in [
            ("/reset", Command::Reset),
            (" /CLEAR ", Command::Reset),
            ("/exit", Command::Exit),
            ("/?", Command::Help),
            ("/help me", Command::Help),
            ("/system  Be brief. ", Command::System(Some("Be brief.".into()))),
            ("/system Two\nlines", Command::System(Some("Two\nlines".into()))),
            ("/system", Command::System(None)),
            ("/edit Two\nlines", Command::Edit("Two\nlines".into())),
            ("/remove 1..3", Command::Remove(1..3, Removal::Exact)),
            ("/remove 1..=3  shift", Command::Remove(1..4, Removal::Shift)),
            ("/remove 2 exact", Command::Remove(2..3, Removal::Exact)),
            ("/save my file", Command::Save("my file".into())),
            ("/load ./a", Command::Load("./a".into())),
            ("/call time", call("time", "")),
            ("/call time()", call("time", "")),
            ("/call go 1, far=True", call("go", "1, far=True")),
            ("/call go (1, 2)", call("go", "(1, 2)")),
            ("/call go({'a': ')'})", call("go", "{'a': ')'}")),
            ("/call go {\"to\": 1}", call("go", "{\"to\": 1}")),
            ("/frobnicate now", Command::Unknown("/frobnicate now".into())),
            ("/reset now", Command::Unknown("/reset now".into())),
            ("/undo 2", Command::Unknown("/undo 2".into())),
        ] {
            assert_eq!(Command::parse(line), Some(command), "{line:?}");
        }
        for line in ["", "hello", "/", "// x", "/usr/bin is a folder", "a /reset", "/5%", "reset"] {
            assert_eq!(Command::parse(line), None, "{line:?}");
        }
    }

    #[test]
    fn what_cannot_be_done_says_how_it_can() {
        for line in ["/edit", "/save", "/load ", "/call", "/call (1)", "/remove", "/remove a..b", "/remove 3..1"] {
            let name = line.split_whitespace().next().unwrap();
            assert!(matches!(Command::parse(line), Some(Command::Wrong(why)) if why.contains(name)), "{line:?}");
        }
        for line in ["/remove 1..2 x", "/remove 1..2 shift x", "/remove 1..99999999999999999999", "/remove -1..2"] {
            assert_eq!(Command::parse(line), Some(Command::Wrong(REMOVE)), "{line:?}");
        }
    }

    #[test]
    fn all_names_are_known_and_helped() {
        for (name, _) in NAMES {
            assert!(!matches!(Command::parse(name), None | Some(Command::Unknown(_))), "{name}");
            assert!(HELP.contains(name), "{name}");
        }
        assert!(HELP.lines().all(|line| line.chars().count() <= 80));
    }
}
