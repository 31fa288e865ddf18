//! Conversations with language models.
//!
//! A [`NanoModel`] is a loaded model with an engine thread. [`generate`](NanoModel::generate) continues tokens and
//! gives a [`Generation`], an iterator of [`Event`]s; [`chat`](NanoModel::chat) starts a [`ChatHistory`], which keeps
//! messages and a [`KvCache`] in step, so that a turn costs what is new in it. Any number of them run at once: the
//! engine puts rows of several sequences into one step, and never waits for a reader.
//!
//! ```no_run
//! use nano_runtime::{ChatOptions, Event, GenerateOptions, ModelOptions, NanoModel};
//!
//! let model = NanoModel::open("model.gguf".as_ref(), ModelOptions::default(), |_| ())?;
//! let mut chat = model.chat(ChatOptions::default())?;
//! chat.user("What is the capital of France?");
//! for event in chat.reply(&GenerateOptions::default())? {
//!     if let Event::Text(text) = event? {
//!         print!("{text}");
//!     }
//! }
//! # Ok::<(), nano_runtime::Error>(())
//! ```
//!
//! What a step computes is the business of the crates below, reached through [`Runner`]. What is deliberately not here:
//! terminals, HTTP, environment variables, and any machine's name outside of `runner`.

#![forbid(unsafe_code)]

mod board;
mod cache;
mod chat;
mod constrain;
mod edit;
mod engine;
#[cfg(test)]
mod equality_tests;
mod error;
mod functions;
mod generate;
mod info;
mod inline;
mod local;
mod memory;
mod model;
mod offered;
mod open;
mod overflow;
mod owned;
mod penalty;
mod prompt;
mod reading;
mod reply;
mod runner;
mod sample;
mod saved;
mod schedule;
mod segments;
mod sequence;
mod session;
#[cfg(test)]
mod shift_tests;
mod stats;
mod stop;
mod stream;
mod talks;
mod tools;
mod transcript;
mod worker;

pub use board::{Board, Clock, Rails, Watch};
pub use cache::KvCache;
pub use chat::{ChatHistory, ChatOptions};
pub use constrain::Constraint;
pub use edit::{Mark, Removal, Removed};
pub use engine::{Answer, AnswerSink, AnswerStream, Engine, Request, ToolChoice, answer};
pub use error::{Error, Result};
#[doc(hidden)]
pub use functions::support as macros;
pub use functions::{Argument, BotFunction, BotFunctions, CallReport, Closure, Parameter, Returned};
pub use generate::{Event, Finish, GenerateOptions, Generation, Output, Stopper};
pub use info::{Memory, ModelInfo};
pub use local::LocalEngine;
pub use model::NanoModel;
pub use open::{LoadEvent, ModelOptions, choose_template};
pub use overflow::Overflow;
pub use penalty::PENALTY_WINDOW;
pub use reply::{Reply, ReplyStream};
pub use runner::{Device, Formats, GpuReport, Limits, Runner};
pub use sample::Sampling;
pub use saved::{SavedChat, Session};
pub use session::Identity;
pub use stats::Stats;
pub use talks::{
    AfterError, Chat, ChatHooks, Conversation, EngineConversation, HistoryConversation, Round, RoundEvent,
    SharedMessages, ToolResult,
};
pub use tools::{ParserOptions, Piece, StreamParser, ToolCall, ToolFormat};

// What the signatures above speak of, so that users need no other crate.
pub use nano_kernels::KvFormat;
pub use nano_macros::{Argument, bot_function, bot_functions};
pub use nano_models::{PackedCache, Quantization, Spec, Tokenizer};
pub use nano_templates::{Choice, Content, Message, Part, Template, Time, ToolSpec, Vars};
pub use serde_json::{Map, Value};
