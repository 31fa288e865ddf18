//! Functions that a model calls in the middle of a reply.
//!
//! This is the set of them, what is said about it in a system prompt, and how results are spliced. One function is in
//! `function`, what it takes and returns in `argument` and `schema`, the text of calls in `scanner` and `literal`,
//! threads in `running`. Those that come with the library are in `ready_made`, those that are programs in `file`. That a
//! result becomes tokens is the engine's business. Nothing here is global: a conversation has the functions that it was
//! given.

mod argument;
mod calculator;
mod command;
mod file;
mod function;
pub(crate) mod literal;
mod ready_made;
mod running;
mod scanner;
mod schema;
pub mod support;

pub use argument::{Argument, Returned};
pub use function::{BotFunction, Closure, Parameter};
pub use running::CallReport;
pub(crate) use running::Running;
pub(crate) use scanner::{Found, Scanner};

use crate::{Error, Result};
use regex::Regex;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

/// Names are part of prompts and patterns; more is a mistake.
const LONGEST_NAME: usize = 64;

/// A set of functions and how they are called. Clones are cheap, and equal to what they were made from.
///
/// ```
/// use nano_runtime::{BotFunction, BotFunctions};
///
/// let answer = BotFunction::closure("answer", "The answer to everything.", [], || 42);
/// let functions = BotFunctions::new([answer])?;
/// assert!(functions.docs().contains("answer() -> int: The answer to everything."));
/// assert_eq!(functions.call_text("answer", "").result, Ok(Some("42".into())));
/// # Ok::<(), nano_runtime::Error>(())
/// ```
#[derive(Clone)]
pub struct BotFunctions {
    list: Arc<[BotFunction]>,
    pattern: Option<Regex>,
    timeout: Duration,
    prefix: Arc<str>,
    suffix: Arc<str>,
    result_limit: usize,
    call_limit: usize,
    hanging: Arc<AtomicUsize>,
}

impl BotFunctions {
    /// A set of these functions, in this order. Their names must differ, and be names to Python too.
    pub fn new(functions: impl IntoIterator<Item = BotFunction>) -> Result<Self> {
        Self::default().with(functions)
    }

    /// This set and more functions.
    pub fn with(mut self, functions: impl IntoIterator<Item = BotFunction>) -> Result<Self> {
        let list: Vec<BotFunction> = self.list.iter().cloned().chain(functions).collect();
        for (i, function) in list.iter().enumerate() {
            let wrong = |problem: String| Error::Function { name: function.name().to_owned(), problem };
            check_name(function.name()).map_err(|why| wrong(format!("its name {why}")))?;
            if list[..i].iter().any(|earlier| earlier.name() == function.name()) {
                return Err(wrong("another one has the same name; give one of them another name".into()));
            }
            let names: Vec<&str> = function.parameter_list().iter().map(|parameter| parameter.name.as_str()).collect();
            for (i, name) in names.iter().enumerate() {
                check_name(name).map_err(|why| wrong(format!("the name of its parameter {name:?} {why}")))?;
                if names[..i].contains(name) {
                    return Err(wrong(format!("it has two parameters named {name:?}")));
                }
            }
        }
        self.pattern = pattern(&list)?;
        self.list = list.into();
        Ok(self)
    }

    /// This set and the functions of another; the settings stay those of this one.
    pub fn merge(self, other: &Self) -> Result<Self> {
        self.with(other.iter().cloned())
    }

    /// The time that a function has which states none; 5 seconds if this is not called.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// What stands before and after a result in the reply; a space and nothing if this is not called.
    pub fn with_framing(mut self, prefix: &str, suffix: &str) -> Self {
        (self.prefix, self.suffix) = (prefix.into(), suffix.into());
        self
    }

    /// Characters of a result that are spliced at most; 2000 if this is not called. A longer one is cut at a word and
    /// ends with " …".
    pub fn with_result_limit(mut self, characters: usize) -> Self {
        self.result_limit = characters;
        self
    }

    /// Calls that one reply may make; 8 if this is not called. The next one is not made, and fails with an error that the
    /// model sees; what is written after it is text.
    pub fn with_call_limit(mut self, calls: usize) -> Self {
        self.call_limit = calls;
        self
    }

    /// The time that a function has which states none.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Calls that one reply may make.
    pub fn call_limit(&self) -> usize {
        self.call_limit
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The function of that name.
    pub fn get(&self, name: &str) -> Option<&BotFunction> {
        self.list.iter().find(|function| function.name() == name)
    }

    /// The functions, in the order in which they were given.
    pub fn iter(&self) -> std::slice::Iter<'_, BotFunction> {
        self.list.iter()
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(BotFunction::name)
    }

    /// What to tell a model in its system prompt; empty if there are no functions.
    pub fn docs(&self) -> String {
        let simple = |function: &&BotFunction| function.parameter_list().iter().all(|parameter| !parameter.required);
        let Some(example) = self.iter().find(simple).or(self.list.first()) else { return String::new() };
        let line = |function: &BotFunction| {
            let description: Vec<&str> = function.description().split_whitespace().collect();
            let colon = if description.is_empty() { "" } else { ": " };
            format!("* {}{colon}{}\n", function.signature(), description.join(" "))
        };
        let required = example.parameter_list().iter().filter(|parameter| parameter.required);
        let arguments: Vec<String> =
            required.map(|one| format!("{}={}", one.name, literal::written(&schema::sample(&one.schema)))).collect();
        format!(
            "You can call the Python functions below by writing a call in your reply. The call is made at once and its \
             result is added behind it.\n\n{}\nFor example, to use {} write: {}({})",
            self.iter().map(line).collect::<String>(),
            example.name(),
            example.name(),
            arguments.join(", ")
        )
    }

    /// Calls a function with arguments by name and waits for it, in no reply.
    pub fn call_now(&self, name: &str, arguments: Map<String, Value>) -> CallReport {
        self.start(self.call_of(name, arguments), || ()).wait()
    }

    /// Calls a function with arguments as text and waits for it: a JSON object, or what would stand between the
    /// parentheses of a call. A function that takes one text takes anything else as that text.
    pub fn call_text(&self, name: &str, arguments: &str) -> CallReport {
        let literals = |function: &BotFunction| match serde_json::from_str(arguments) {
            Ok(Value::Object(map)) => function.check(&map).map(|()| map),
            _ => match (literal::arguments(arguments), only_text(function.parameters())) {
                (Ok(literals), _) => function.bind(literals),
                (Err(_), Some(text)) => Ok(Map::from_iter([(text.to_owned(), arguments.into())])),
                (Err(problem), None) => Err(function.says(&problem.to_string())),
            },
        };
        let arguments = self.get(name).map_or_else(|| Err(self.unknown(name)), literals);
        self.start(Found { name: name.to_owned(), arguments, end: 0 }, || ()).wait()
    }

    /// A call that stands in no reply.
    pub(crate) fn call_of(&self, name: &str, arguments: Map<String, Value>) -> Found {
        let known = self.get(name).map_or_else(|| Err(self.unknown(name)), |function| function.check(&arguments));
        Found { name: name.to_owned(), arguments: known.map(|()| arguments), end: 0 }
    }

    /// What a call adds to the reply: its result or error, framed and cut. `None`: nothing.
    pub fn spliced(&self, report: &CallReport) -> Option<String> {
        let text = match &report.result {
            Ok(text) => cut(text.as_deref().filter(|text| !text.is_empty())?, self.result_limit),
            Err(why) => format!("(error: {})", cut(why, self.result_limit)),
        };
        Some(format!("{}{text}{}", self.prefix, self.suffix))
    }

    /// What a model is told of a call that stands in no reply: its result or error, cut.
    pub(crate) fn told(&self, report: &CallReport) -> String {
        match &report.result {
            Ok(None) => "done".to_owned(),
            Ok(Some(text)) => cut(text, self.result_limit),
            Err(why) => format!("error: {}", cut(why, self.result_limit)),
        }
    }

    /// A sentence about a function that is not here.
    fn unknown(&self, name: &str) -> String {
        let known: Vec<&str> = self.names().collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        format!("there is no function {name}; there is {known}")
    }
}

impl Default for BotFunctions {
    fn default() -> Self {
        Self {
            list: Arc::default(),
            pattern: None,
            timeout: function::TIMEOUT,
            prefix: " ".into(),
            suffix: "".into(),
            result_limit: 2000,
            call_limit: 8,
            hanging: Arc::default(),
        }
    }
}

/// The same functions with the same settings.
impl PartialEq for BotFunctions {
    fn eq(&self, other: &Self) -> bool {
        let settings =
            |one: &Self| (one.timeout, one.prefix.clone(), one.suffix.clone(), one.result_limit, one.call_limit);
        self.list == other.list && settings(self) == settings(other)
    }
}

impl std::fmt::Debug for BotFunctions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for &'a BotFunctions {
    type Item = &'a BotFunction;
    type IntoIter = std::slice::Iter<'a, BotFunction>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// What is wrong with a name, as a phrase.
fn check_name(name: &str) -> std::result::Result<(), &'static str> {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(part) {
        return Err("must be made of the letters a to z, digits and _, and not begin with a digit");
    }
    if name.len() > LONGEST_NAME { Err("has more than 64 characters") } else { Ok(()) }
}

/// A name as a whole word, directly before a parenthesis that ends the text.
fn pattern(list: &[BotFunction]) -> Result<Option<Regex>> {
    let Some(last) = list.last() else { return Ok(None) };
    let names: Vec<&str> = list.iter().map(BotFunction::name).collect();
    let pattern = Regex::new(&format!(r"\b(?:{})\($", names.join("|")));
    let problem = "there are too many functions before it".to_owned();
    pattern.map(Some).map_err(|_| Error::Function { name: last.name().to_owned(), problem })
}

/// A text of so many characters at most. Ends at a word, if that does not cost most of it.
fn cut(text: &str, limit: usize) -> String {
    let Some((end, _)) = text.char_indices().nth(limit) else { return text.to_owned() };
    const MARK: &str = " …";
    let room = text.char_indices().nth(limit.saturating_sub(MARK.chars().count())).map_or(end, |(at, _)| at);
    let at_word = text[room..].starts_with(char::is_whitespace);
    let word = text[..room].rfind(char::is_whitespace).filter(|at| !at_word && 2 * *at >= room);
    let kept = word.unwrap_or(room);
    format!("{}{MARK}", text[..kept].trim_end())
}

/// The name of a function's parameter, if it has one and that is a text.
fn only_text(parameters: &Value) -> Option<&str> {
    let mut properties = parameters.get("properties")?.as_object()?.iter();
    let (Some((name, schema)), None) = (properties.next(), properties.next()) else { return None };
    (schema.get("type")? == "string").then_some(name.as_str())
}

#[cfg(test)]
#[path = "set_tests.rs"]
mod tests;
