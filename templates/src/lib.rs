//! Chat templates: from a list of messages to the text of a prompt. A [`Template`] is one of three things: a Jinja template
//! as models publish them, one of the built-in templates, or a NanoLLM-style JSON file. This file holds what the three have
//! in common and the way to find one by name; the Jinja environment is in `jinja`, the JSON form in `nanollm`, the list of
//! built-in templates in `builtin`, which one suits a model in `choose`, how each wants calls in `calls`. Nothing here knows tokens or reads models.

#![forbid(unsafe_code)]

mod builtin;
mod calls;
mod choose;
mod error;
mod jinja;
mod message;
mod nanollm;

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

pub use crate::calls::Knows;
pub use crate::choose::{Choice, Clues, choose};
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
    tool_call: Option<String>,
    tool_spec: Option<ToolSpec>,
    form: Form,
}

/// How a model is told of functions, and how it calls them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolSpec {
    /// Objects of the OpenAI API; a call is one JSON object between marks.
    OpenAi,
    /// Signatures and calls as Python writes them, inside the text.
    Python,
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
        Ok(Inner::new(name, source, Form::Jinja(program)).into())
    }

    /// The built-in template of this name.
    ///
    /// They feed what NanoLLM fed: for the first turn the prompt, for the next what stands between the end of the reply
    /// (its stop token included) and the next one. They differ where NanoLLM was wrong:
    ///
    /// * chat-ml, chat-ml-tools, nous-obsidian, tiny-llama and stablelm-zephyr begin the second feed with the line feed
    ///   that ends a reply's turn. NanoLLM has it in its tables, for all but tiny-llama, and never fed it; the models'
    ///   authors write it.
    /// * gemma ends a reply with `<end_of_turn>` once. NanoLLM began each feed with it, also after a model that had just
    ///   said it, and stopped at `<eos>` alone, which these models do not say: what ends a turn is known from the
    ///   vocabulary here.
    /// * gemma takes a system prompt, which NanoLLM refused: it begins the first message of the user, as the authors of
    ///   Gemma 3 have it. The other templates without one refuse it with an error that says so.
    /// * llama-3.1 writes no line feed after what a function returned: Meta's format has none.
    /// * chat-ml-tools closes the turn in which the model calls a function. NanoLLM left it open.
    /// * bunny asks for a reply with `ASSISTANT: `. NanoLLM's table held that back for the reply, which is never fed.
    /// * Two messages of one role in a row are two turns, and one instruction of two lines in llama-2. NanoLLM glued
    ///   their texts together.
    /// * What a user types is text. NanoLLM fed spellings of control tokens in it as control tokens (this is the
    ///   tokenizer's work, not the template's).
    ///
    /// No template but llama-2, llama-3, llama-3.1, gemma, mistral and openvla writes the token that begins a text: a
    /// conversation adds it where the tokenizer wants it.
    pub fn builtin(name: &str) -> Option<Self> {
        let found = builtin::BUILTINS.iter().find(|b| b.name == name)?;
        let program = Box::new(jinja::Program::compile(name, found.source).ok()?);
        let mut inner = Inner::new(name, found.source, Form::Jinja(program));
        inner.default_system = found.system.map(str::to_owned);
        inner.stop = found.stop.iter().map(|&s| s.to_owned()).collect();
        inner.tool_call = found.tool_call.map(str::to_owned);
        Some(inner.into())
    }

    /// The names of the built-in templates.
    pub fn builtin_names() -> &'static [&'static str] {
        &builtin::NAMES
    }

    /// What a built-in template is for, in a few words.
    pub fn builtin_about(name: &str) -> Option<&'static str> {
        builtin::BUILTINS.iter().find(|b| b.name == name).map(|b| b.about)
    }

    /// Reads a NanoLLM-style template; `name` is its file, whose stem is the template's name where the JSON has none.
    ///
    /// The keys: `user` with `${MESSAGE}` in it, and likewise `system`, `first` (the user's first message), `bot`,
    /// `tool_response` and roles of one's own; `system_prompt`, the default for `system`; `stop`, a string, a token id,
    /// or a list of strings, ids and lists of ids; `tool_call`, a regular expression whose first group is a call, and
    /// `tool_spec`, `openai` or `python`; `name`. Everything is optional except `user`.
    pub fn nanollm(name: &str, json: &str) -> Result<Self> {
        let file = nanollm::parse(name, json)?;
        let mut inner = Inner::new(&file.name, json, Form::NanoLlm(file.roles));
        inner.default_system = file.system_prompt;
        inner.stop = file.stop;
        inner.stop_ids = file.stop_ids;
        inner.tool_call = file.tool_call;
        inner.tool_spec = file.tool_spec;
        Ok(inner.into())
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

    /// The regular expression that finds a call in a reply: its first group is the call's JSON. A dot in it stands for
    /// line feeds too.
    pub fn tool_call(&self) -> Option<&str> {
        self.0.tool_call.as_deref()
    }

    /// How functions are told and called: what a NanoLLM-style file says, or OpenAI's way where there is a
    /// [`tool_call`](Template::tool_call).
    pub fn tool_spec(&self) -> Option<ToolSpec> {
        self.0.tool_spec.or(self.0.tool_call.is_some().then_some(ToolSpec::OpenAi))
    }

    /// What it writes of tools, given these variables.
    pub fn knows_tools(&self, vars: &Vars) -> Knows {
        calls::knows(self, vars)
    }

    /// The text of the prompt for these messages. An assistant's calls and reasoning are put as this template wants them:
    /// arguments as objects or as text, under its own name for reasoning, and so on.
    pub fn render(&self, messages: &[Message], vars: &Vars) -> Result<String> {
        match &self.0.form {
            Form::Jinja(program) => program.render(messages, vars),
            Form::NanoLlm(roles) => roles.render(&self.0.name, messages),
        }
    }
}

impl Inner {
    fn new(name: &str, source: &str, form: Form) -> Self {
        Self {
            name: name.to_owned(),
            source: source.to_owned(),
            default_system: None,
            stop: Vec::new(),
            stop_ids: Vec::new(),
            tool_call: None,
            tool_spec: None,
            form,
        }
    }
}

impl From<Inner> for Template {
    fn from(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }
}
