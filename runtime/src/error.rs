//! What can go wrong on this floor, in sentences that say what was found and what to do.

use std::path::{Path, PathBuf};

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;

/// Errors of models, generations and conversations.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A checkpoint, tokenizer or decoder failed.
    #[error(transparent)]
    Model(#[from] nano_models::Error),
    /// A backend failed outside a step.
    #[error(transparent)]
    Kernel(#[from] nano_kernels::Error),
    /// A chat template failed.
    #[error(transparent)]
    Template(#[from] nano_templates::Error),
    /// There is no template to chat with.
    #[error(
        "{model} has no chat template: name one with --chat-template (built in: {known}; or a Jinja or JSON file), \
         or use plain completion"
    )]
    NoTemplate {
        /// The model's name.
        model: String,
        /// The built-in templates, separated by commas.
        known: String,
    },
    /// An option cannot be used as it is.
    #[error("{name} is {found}: {need}")]
    Option {
        /// The option's name.
        name: &'static str,
        /// What was given.
        found: String,
        /// What would do.
        need: &'static str,
    },
    /// Nothing to generate from.
    #[error("nothing to continue: the prompt and the cache are both empty")]
    EmptyPrompt,
    /// A reply was asked for before anything was said.
    #[error("the conversation has no message to reply to: append one first")]
    NoMessage,
    /// A message that is not there.
    #[error("there is no message {index}: the conversation has {messages}, numbered from 0")]
    NoSuchMessage {
        /// The index asked for.
        index: usize,
        /// Messages in the conversation.
        messages: usize,
    },
    /// A reply that was to join a conversation in which it has no place any more.
    #[error(
        "this reply is not the one that the conversation waits for: it was begun by another one, or the conversation was \
         changed since; append a reply before anything else is done"
    )]
    StaleReply,
    /// A conversation was to be saved while its reply is under way elsewhere.
    #[error("a reply of this conversation is under way: append it or drop it, and then save")]
    ReplyUnderWay,
    /// A reply that failed was to join a conversation. The turn was taken back.
    #[error("the reply failed, as its last event said; the turn was taken back")]
    FailedReply,
    /// A token that the model does not have.
    #[error("token {token} is not in the vocabulary of {vocab}")]
    Token {
        /// The token's id.
        token: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// The tokens do not fit into the context. Nothing was fed.
    #[error(
        "the context is full: {needed} tokens are needed, room for the reply included, and it holds {available}; shorten \
         the text, start over with a reset, lower --max-new-tokens, or raise --max-context-len"
    )]
    ContextFull {
        /// Tokens that the sequence would have.
        needed: usize,
        /// Tokens that the context holds.
        available: usize,
    },
    /// The cache's pages are all taken, and no sequence in flight would give some back.
    #[error(
        "the cache is full: {needed} more pages of 32 tokens are needed and {free} of {pages} are free; end or reset \
         another conversation, or raise --memory"
    )]
    PoolFull {
        /// Pages needed.
        needed: usize,
        /// Pages free.
        free: usize,
        /// Pages in all.
        pages: usize,
    },
    /// A cache was used with a model that did not make it.
    #[error("this cache belongs to another model: make one with NanoModel::cache")]
    ForeignCache,
    /// Weights, or weights and the smallest cache, do not fit into memory.
    #[error(
        "{model} needs {needed} bytes of memory ({weights} for weights) and {budget} may be used on {device}: take a \
         smaller model, --quantization q4f16 or another --device, or raise --memory"
    )]
    Memory {
        /// The model's name.
        model: String,
        /// Bytes needed at least.
        needed: u64,
        /// Bytes of weights among them.
        weights: u64,
        /// Bytes that may be used.
        budget: u64,
        /// Where it was to run.
        device: &'static str,
    },
    /// A device that is not here.
    #[error("{0}")]
    Device(String),
    /// Logits that are no numbers.
    #[error("the model's logits are not finite ({found} at token {token}): the weights are damaged or out of range")]
    Logits {
        /// The first token with such a value.
        token: usize,
        /// The value.
        found: f32,
    },
    /// A constraint that cannot be enforced. Unless the reply had begun, nothing was fed.
    #[error("the {kind} cannot be enforced: {problem}")]
    Constraint {
        /// What it is: `JSON schema`, `regular expression` or `grammar`.
        kind: &'static str,
        /// What cannot be enforced, and why.
        problem: String,
    },
    /// A function that cannot be offered to a model.
    #[error("the function {name} cannot be used: {problem}")]
    Function {
        /// Its name.
        name: String,
        /// Why not.
        problem: String,
    },
    /// A session file is not what it should be, or not where it should be.
    #[error("{}: {why}", .path.display())]
    Session {
        /// The file or folder.
        path: PathBuf,
        /// What was found, and what would do.
        why: String,
    },
    /// The operating system refused something about a session file.
    #[error("{}: {doing}: {source}", .path.display())]
    SessionIo {
        /// The file or folder.
        path: PathBuf,
        /// What was being done, as in "cannot be written".
        doing: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A session file is open elsewhere.
    #[error("{}: this session is open elsewhere; close it there, or take another file", .path.display())]
    SessionInUse {
        /// The file.
        path: PathBuf,
    },
    /// A page of a session file cannot be used. Its rows can be computed again.
    #[error("{}: page {page}, at byte {offset}, {why}", .path.display())]
    SessionPage {
        /// The file.
        path: PathBuf,
        /// The page's index in the conversation.
        page: usize,
        /// Where it lies.
        offset: u64,
        /// What is wrong, as in "is damaged".
        why: String,
    },
    /// An engine elsewhere failed.
    #[error("{engine}: {problem}")]
    Engine {
        /// Where it is, as in its address.
        engine: String,
        /// What happened, and what to do.
        problem: String,
    },
    /// A call failed, and the program's hooks gave up the round that made it.
    #[error("a call failed, and the round was taken back: {problem}")]
    Call {
        /// What happened: it names the function.
        problem: String,
    },
    /// A round was stopped where nothing of it can stay.
    #[error("the round was stopped while functions were called, and was taken back")]
    RoundStopped,
    /// A file of functions that cannot be used.
    #[error("the functions file {} cannot be used: {problem}", path.display())]
    FunctionsFile {
        /// The file.
        path: PathBuf,
        /// The entry, the field, what is wrong.
        problem: String,
    },
    /// A step failed; the sequences in it were rolled back.
    #[error("the engine failed in a step: {0}")]
    Step(String),
    /// The engine's thread is gone.
    #[error("the engine has stopped")]
    Stopped,
}

impl Error {
    pub(crate) fn session(path: &Path, why: impl Into<String>) -> Self {
        Error::Session { path: path.to_path_buf(), why: why.into() }
    }

    pub(crate) fn session_io(path: &Path, doing: &'static str, source: std::io::Error) -> Self {
        Error::SessionIo { path: path.to_path_buf(), doing, source }
    }
}
