//! What can go wrong between a list of messages and a prompt. Every message names the template or the file, what was found
//! there and, where there is something to do, what to do. How each case is detected lives beside the code that detects it.

use std::path::PathBuf;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a template could not be read or rendered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Neither a built-in template nor a file.
    #[error(
        "no chat template is called {name:?} and no such file exists; the built-in templates are {known}, \
         anything else must be a Jinja file or a NanoLLM-style .json file"
    )]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// The built-in names, separated by commas.
        known: String,
    },

    /// The file of a template could not be read.
    #[error("cannot read the chat template {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },

    /// The text is not a Jinja template.
    #[error("syntax error in the chat template {name:?}, line {line}: {why}")]
    Syntax {
        /// The template.
        name: String,
        /// The line, counted from one.
        line: usize,
        /// What the parser found.
        why: String,
    },

    /// The template called `raise_exception`: it does not accept these messages.
    #[error("the chat template {name:?} does not accept these messages: {message}")]
    Raised {
        /// The template.
        name: String,
        /// The template's own words.
        message: String,
    },

    /// An expression of the template failed.
    #[error("the chat template {name:?} failed in line {line}: {why}")]
    Render {
        /// The template.
        name: String,
        /// The line, counted from one; zero if it is not known.
        line: usize,
        /// What failed.
        why: String,
    },

    /// The template ran too long, called itself too deeply or wrote too much.
    #[error("the chat template {name:?} was stopped: {why}")]
    Limit {
        /// The template.
        name: String,
        /// The limit it hit.
        why: String,
    },

    /// A NanoLLM-style template is not what it should be.
    #[error("the chat template {name:?}: {why}")]
    Json {
        /// The file or name of the template.
        name: String,
        /// The key and what is wrong with it.
        why: String,
    },

    /// A NanoLLM-style template has nothing to say about a message's role.
    #[error(
        "the chat template {name:?} has no key {key:?}, which message {index} (role {role:?}) needs; it has {known}"
    )]
    Role {
        /// The template.
        name: String,
        /// Position of the message, counted from zero.
        index: usize,
        /// The message's role.
        role: String,
        /// The key that was looked up.
        key: String,
        /// The keys it has, separated by commas.
        known: String,
    },

    /// A NanoLLM-style template cannot show a part of a message that is no text.
    #[error("the chat template {name:?} takes text only, but message {index} has a part of type {kind:?}")]
    Part {
        /// The template.
        name: String,
        /// Position of the message, counted from zero.
        index: usize,
        /// The `type` of the part.
        kind: String,
    },

    /// The messages are not JSON at all, or not a list.
    #[error("the messages are not a JSON list of messages: {why}")]
    Messages {
        /// What was found.
        why: String,
    },

    /// One message does not have the shape of an OpenAI message.
    #[error("messages[{index}].{}", .field)]
    Message {
        /// Position of the message, counted from zero.
        index: usize,
        /// The field and what is wrong with it.
        field: FieldError,
    },
}

/// A field of a message and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: expected {expected}, found {found}")]
pub struct FieldError {
    /// The field inside the message, for example `content[1].text`.
    pub path: String,
    /// What should be there.
    pub expected: &'static str,
    /// What is there.
    pub found: String,
}
