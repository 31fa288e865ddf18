//! The messages of a chat, where functions that it calls can see them: for chats beside a chat.

use crate::stream::lock;
use nano_templates::Message;
use std::sync::{Arc, Mutex};

/// The messages of a chat, for functions that it calls: as they were when it was asked for the answer that calls them.
/// Clones see the same.
///
/// ```
/// use nano_runtime::{BotFunction, BotFunctions, Chat, Engine};
/// use std::sync::Arc;
///
/// fn chat(engine: Arc<dyn Engine>) -> nano_runtime::Result<Chat> {
///     let chat = Chat::new(engine);
///     let messages = chat.shared_messages();
///     let count = BotFunction::closure("turns", "How often the user spoke.", [], move || {
///         messages.get().iter().filter(|message| message.role == "user").count() as u64
///     });
///     Ok(chat.with_functions(BotFunctions::new([count])?))
/// }
/// ```
#[derive(Clone, Debug, Default)]
pub struct SharedMessages(Arc<Mutex<Arc<[Message]>>>);

impl SharedMessages {
    /// The messages. Each call in them has its result.
    pub fn get(&self) -> Arc<[Message]> {
        Arc::clone(&lock(&self.0))
    }

    /// Nothing is copied while nobody else holds them.
    pub(super) fn set(&self, messages: &[Message]) {
        if Arc::strong_count(&self.0) > 1 {
            *lock(&self.0) = messages.into();
        }
    }
}
