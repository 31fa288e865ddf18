//! Chat templates: from a list of messages to the text of a prompt. A [`Template`] is one of three things: a Jinja template
//! as models publish them, one of the built-in templates, or a NanoLLM-style JSON file. This file holds what the three have
//! in common and the way to find one by name; the Jinja environment is in `jinja`, the JSON form in `nanollm`, the list of
//! built-in templates in `builtin`. Nothing here knows tokens or models.

#![forbid(unsafe_code)]

mod builtin;
mod error;
mod jinja;
mod message;
mod nanollm;

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

pub use crate::error::{Error, FieldError, Result};
pub use crate::jinja::Time;
pub use crate::message::{Content, Message, Part};

/// A chat template, ready to render. Cloning is cheap.
///
/// ```
/// use nano_templates::{Message, Template, Vars};
/// let template = Template::builtin("chat-ml").unwrap();
/// let prompt = template.render(&[Message::user("Hi")], &Vars::default())?;
/// assert_eq!(prompt, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
/// # Ok::<(), nano_templates::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Template(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    source: String,
    default_system: Option<String>,
    stop: Vec<String>,
    stop_ids: Vec<Vec<u32>>,
    form: Form,
}

#[derive(Debug)]
enum Form {
    Jinja(Box<jinja::Program>),
    NanoLlm(nanollm::Roles),
}

/// What a template may look at besides the messages.
#[derive(Debug, Clone, PartialEq)]
pub struct Vars {
    /// End with the words that make the model answer. NanoLLM-style templates always do, after a user's message.
    pub add_generation_prompt: bool,
    /// The spelling of the token that begins a text.
    pub bos_token: String,
    /// The spelling of the token that ends one.
    pub eos_token: String,
    /// Functions the model may call: a list of OpenAI tools.
    pub tools: Option<Value>,
    /// Further variables; they come last and may replace any of the above.
    pub extra: Map<String, Value>,
    /// What `strftime_now` takes for now; the local time where it is `None`.
    pub now: Option<Time>,
}

impl Default for Vars {
    fn default() -> Self {
        Self {
            add_generation_prompt: true,
            bos_token: String::new(),
            eos_token: String::new(),
            tools: None,
            extra: Map::new(),
            now: None,
        }
    }
}

impl Template {
    /// Compiles a Jinja template; `name` is for messages.
    pub fn jinja(name: &str, source: &str) -> Result<Self> {
        let program = Box::new(jinja::Program::compile(name, source)?);
        Ok(Self::new(name, source, None, Vec::new(), Form::Jinja(program)))
    }

    /// The built-in template of this name.
    pub fn builtin(name: &str) -> Option<Self> {
        let found = builtin::BUILTINS.iter().find(|b| b.name == name)?;
        let program = Box::new(jinja::Program::compile(name, found.source).ok()?);
        let stop = found.stop.iter().map(|&s| s.to_owned()).collect();
        Some(Self::new(name, found.source, found.system.map(str::to_owned), stop, Form::Jinja(program)))
    }

    /// The names of the built-in templates.
    pub fn builtin_names() -> &'static [&'static str] {
        &builtin::NAMES
    }

    /// Reads a NanoLLM-style template; `name` is used where the JSON has none, and in messages.
    pub fn nanollm(name: &str, json: &str) -> Result<Self> {
        let file = nanollm::parse(name, json)?;
        let mut template = Self::new(&file.name, json, file.system_prompt, file.stop, Form::NanoLlm(file.roles));
        if let Some(inner) = Arc::get_mut(&mut template.0) {
            inner.stop_ids = file.stop_ids;
        }
        Ok(template)
    }

    /// Finds a template: the name of a built-in one, a NanoLLM-style `.json` file, or a Jinja file.
    pub fn resolve(name_or_file: &str) -> Result<Self> {
        if let Some(template) = Self::builtin(name_or_file) {
            return Ok(template);
        }
        let path = Path::new(name_or_file);
        let source = std::fs::read_to_string(path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => {
                Error::Unknown { name: name_or_file.to_owned(), known: Self::builtin_names().join(", ") }
            }
            _ => Error::Read { path: path.to_owned(), source },
        })?;
        if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json")) {
            Self::nanollm(name_or_file, &source)
        } else {
            Self::jinja(name_or_file, &source)
        }
    }

    /// Its name: of the built-in template, of the file, or what the JSON says.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its text, as it was given.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// Strings that end a reply, besides the model's own stop tokens.
    pub fn stop(&self) -> &[String] {
        &self.0.stop
    }

    /// Sequences of token ids that end a reply: what a NanoLLM-style `stop` gives as numbers.
    pub fn stop_ids(&self) -> &[Vec<u32>] {
        &self.0.stop_ids
    }

    /// The system prompt that belongs to the template. Rendering never adds it: whoever begins a conversation does.
    pub fn default_system(&self) -> Option<&str> {
        self.0.default_system.as_deref()
    }

    /// The text of the prompt for these messages.
    pub fn render(&self, messages: &[Message], vars: &Vars) -> Result<String> {
        match &self.0.form {
            Form::Jinja(program) => program.render(messages, vars),
            Form::NanoLlm(roles) => roles.render(&self.0.name, messages),
        }
    }

    fn new(name: &str, source: &str, default_system: Option<String>, stop: Vec<String>, form: Form) -> Self {
        Self(Arc::new(Inner {
            name: name.to_owned(),
            source: source.to_owned(),
            default_system,
            stop,
            stop_ids: Vec::new(),
            form,
        }))
    }
}
