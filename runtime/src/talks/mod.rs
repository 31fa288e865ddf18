//! Chats that call functions: rounds of answers and calls, over any engine or over a conversation with a local model.
//!
//! A [`Chat`] holds a [`Conversation`], functions and hooks. What it talks through is in `conversation` and `history`, the
//! rounds are in `round` and `calls`, what a program may change about them in `hooks`. How a model writes calls is not
//! known here, and neither is what a function does. Engines are in `engine`; what is sent to one whose context is exceeded is
//! in `room`.

mod calls;
mod chat;
mod conversation;
mod history;
mod hooks;
mod room;
mod round;
mod shared;

pub use chat::Chat;
pub use conversation::{Conversation, EngineConversation};
pub use history::HistoryConversation;
pub use hooks::{AfterError, ChatHooks};
pub use round::{Round, RoundEvent, ToolResult};
pub use shared::SharedMessages;
