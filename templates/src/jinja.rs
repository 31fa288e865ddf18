//! The environment that published chat templates expect: Jinja2 as transformers sets it up (blocks trimmed, no escaping,
//! `raise_exception`, `strftime_now`, loop controls, `generation` blocks) with Python's values: how they print, slice, add
//! and become JSON. minijinja parses and runs; what it does differently is rewritten before it parses (`source`), or
//! replaced by functions of our own (`operators`, `methods`, `filters`). A template is a stranger's program, so its steps,
//! depth and output are limited.

mod filters;
mod lexer;
mod methods;
mod operators;
mod python;
mod source;
mod strings;
mod time;

use std::error::Error as _;
use std::sync::OnceLock;

use minijinja::value::{Rest, ValueKind};
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, Value};

pub use self::time::Time;

use crate::Vars;
use crate::calls::{self, Form};
use crate::error::{Error, Result};
use crate::message::Message;

/// Steps of one rendering. Published templates take up to two hundred for a message.
const MAX_STEPS: u64 = 5_000_000;
/// Bytes of one prompt.
const MAX_OUTPUT: usize = 64 << 20;
/// The longest template. The longest published one has 40 kB.
const MAX_SOURCE: usize = 1 << 20;

/// A compiled Jinja template.
pub(crate) struct Program {
    env: Environment<'static>,
    name: String,
    /// How it wants messages without calls, and those with calls: found when the first come.
    plain: Form,
    form: OnceLock<Form>,
}

impl Program {
    /// Compiles `source`; `name` is for messages.
    pub(crate) fn compile(name: &str, source: &str) -> Result<Self> {
        if source.len() > MAX_SOURCE {
            let why = format!("it has {} bytes, more than the {MAX_SOURCE} a template may have", source.len());
            return Err(Error::Limit { name: name.to_owned(), why });
        }
        let mut env = Environment::new();
        env.set_trim_blocks(true);
        env.set_lstrip_blocks(true);
        env.set_auto_escape_callback(|_| AutoEscape::None);
        env.set_undefined_behavior(UndefinedBehavior::Lenient);
        env.set_fuel(Some(MAX_STEPS));
        env.set_debug(false);
        env.set_formatter(|out, state, value| {
            if let Some(text) = value.as_str() {
                operators::charge(state, text.len())?;
                return out.write_str(text).map_err(minijinja::Error::from);
            }
            let text = python::to_str(value)?;
            operators::charge(state, text.len())?;
            out.write_str(&text).map_err(minijinja::Error::from)
        });
        env.set_unknown_method_callback(methods::call);
        env.add_function("raise_exception", raise_exception);
        env.add_function("strftime_now", time::strftime_now);
        operators::install(&mut env);
        filters::install(&mut env);
        let (plain, form) = (Form::of(source), OnceLock::new());
        Self { env, name: name.to_owned(), plain, form }.with_template(source)
    }

    fn with_template(mut self, source: &str) -> Result<Self> {
        let source = source::rewrite(source).map_err(|why| Error::Limit { name: self.name.clone(), why })?;
        match self.env.add_template_owned(self.name.clone(), source) {
            Ok(()) => Ok(self),
            Err(e) => Err(Error::Syntax {
                line: e.line().unwrap_or(0),
                why: e.detail().map_or_else(|| e.kind().to_string(), str::to_owned),
                name: self.name,
            }),
        }
    }

    /// The text of the prompt.
    pub(crate) fn render(&self, messages: &[Message], vars: &Vars) -> Result<String> {
        let calls = messages.iter().any(|message| message.tool_calls.is_some());
        let form = if calls { *self.form.get_or_init(|| self.find_form()) } else { self.plain };
        self.render_as(form, messages, vars)
    }

    fn find_form(&self) -> Form {
        let vars = Vars { tools: Some(calls::tools()), ..Vars::default() };
        Form::find(self.plain, |form, messages| self.render_as(form, messages, &vars))
    }

    fn render_as(&self, form: Form, messages: &[Message], vars: &Vars) -> Result<String> {
        let mut context = serde_json::Map::new();
        context.insert("messages".into(), form.messages(messages));
        // As in transformers, these two are defined even where there are none.
        context.insert("tools".into(), vars.tools.clone().unwrap_or_default());
        context.insert("documents".into(), serde_json::Value::Null);
        context.insert("add_generation_prompt".into(), vars.add_generation_prompt.into());
        context.insert("bos_token".into(), vars.bos_token.clone().into());
        context.insert("eos_token".into(), vars.eos_token.clone().into());
        context.extend(vars.extra.clone());

        let mut env = self.env.clone();
        time::set_now(&mut env, vars.now);
        let template = env.get_template(&self.name).map_err(|e| self.failure(&e))?;
        let mut out = Limited(Vec::new());
        template.render_captured_to(context, &mut out).map_err(|e| self.failure(&e))?;
        // The engine writes whole strings, so this is UTF-8.
        Ok(String::from_utf8(out.0).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
    }

    fn failure(&self, error: &minijinja::Error) -> Error {
        let name = self.name.clone();
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(e) = cause {
            if let Some(Raised(message)) = e.downcast_ref() {
                return Error::Raised { name, message: message.clone() };
            }
            if let Some(TooMuch(why)) = e.downcast_ref() {
                return Error::Limit { name, why: why.clone() };
            }
            if let Some(e) = e.downcast_ref::<std::io::Error>() {
                return Error::Limit { name, why: e.to_string() };
            }
            cause = e.source();
        }
        // The engine wraps what happens inside calls; the innermost error says what and where.
        let mut inner = error;
        while let Some(e) = inner.source().and_then(|e| e.downcast_ref()) {
            inner = e;
        }
        let why = inner.detail().map_or_else(|| inner.kind().to_string(), str::to_owned);
        if inner.kind() == ErrorKind::OutOfFuel {
            return Error::Limit { name, why: format!("it did not end within {MAX_STEPS} steps") };
        }
        if why.contains("recursion limit") {
            return Error::Limit { name, why: "it calls itself too deeply".to_owned() };
        }
        let why = if inner.kind() == ErrorKind::UndefinedError && inner.detail().is_none() {
            "a value that is looked into is undefined".to_owned()
        } else {
            why
        };
        Error::Render { name, line: inner.line().unwrap_or(0), why }
    }
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A value as Python's `json.dumps` writes it.
pub(crate) fn dumps(value: &serde_json::Value) -> String {
    let style = python::JsonStyle::default();
    style.dumps(&Value::from_serialize(value)).unwrap_or_else(|_| value.to_string())
}

/// What `raise_exception` was called with.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

/// A limit that was passed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct TooMuch(String);

fn raise_exception(arguments: Rest<Value>) -> std::result::Result<Value, minijinja::Error> {
    let message = match arguments.first() {
        Some(message) => python::to_str(message)?,
        None => String::new(),
    };
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Raised(message)))
}

/// The error that ends a rendering which passed a limit.
fn too_much(why: impl Into<String>) -> minijinja::Error {
    let why = why.into();
    minijinja::Error::new(ErrorKind::InvalidOperation, why.clone()).with_source(TooMuch(why))
}

/// An operation that these values do not support.
fn invalid(why: impl Into<String>) -> minijinja::Error {
    minijinja::Error::new(ErrorKind::InvalidOperation, why.into())
}

/// The type of a value in Python's words, for messages.
fn type_name(value: &Value) -> &'static str {
    match value.kind() {
        ValueKind::Undefined => "undefined",
        ValueKind::None => "None",
        ValueKind::Bool => "bool",
        ValueKind::Number if value.is_integer() => "int",
        ValueKind::Number => "float",
        ValueKind::String => "str",
        ValueKind::Bytes => "bytes",
        ValueKind::Seq | ValueKind::Iterable => "list",
        ValueKind::Map => "dict",
        _ => "object",
    }
}

/// A writer that refuses to grow past what a prompt may have.
struct Limited(Vec<u8>);

impl std::io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT {
            return Err(std::io::Error::other(format!("it wrote more than {} MiB", MAX_OUTPUT >> 20)));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
