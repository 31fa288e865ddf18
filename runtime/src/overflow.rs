//! What happens when a turn does not fit into the context.

use crate::chat::{Before, ChatHistory};
use crate::edit::Removal;
use crate::segments::Prompt;
use crate::{Error, Event, Result};
use std::ops::Range;

/// What to do when the messages and the room for a reply exceed the context.
///
/// The room is [`max_new_tokens`](crate::GenerateOptions::max_new_tokens), but no more than half of the context. Whole
/// exchanges are removed, from the oldest on: a message of the user and all that follows it up to the next one, calls and
/// their results included. The system prompt stays, and so does the exchange that is to be answered; if these alone do
/// not fit, it is [`ContextFull`](Error::ContextFull). A reply that meets the end of the context nevertheless ends there,
/// as [`Finish::Context`](crate::Finish::Context), and the conversation goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Overflow {
    /// [`ContextFull`](Error::ContextFull), before anything is fed.
    Error,
    /// Removes exchanges until half of the context is free. The rest is fed again.
    #[default]
    Drop,
    /// Removes the same exchanges without feeding the rest again: see [`Removal::Shift`]. Where the template writes the
    /// rest in another way without them, it is as [`Overflow::Drop`].
    Shift,
}

impl Overflow {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Error, Self::Drop, Self::Shift];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Drop => "drop",
            Self::Shift => "shift",
        }
    }
}

impl ChatHistory {
    /// Makes room for a reply to a prompt, of which `prefix` tokens are given already. The event tells what was done.
    pub(crate) fn make_room(
        &mut self,
        next: &mut (Prompt, String),
        prefix: usize,
        max_new_tokens: usize,
    ) -> Result<Option<Event>> {
        let available = self.model.limits().context;
        let room = max_new_tokens.min(available / 2).max(1);
        let needed = next.0.segments.len() + prefix;
        if needed + room <= available {
            return Ok(None);
        }
        if self.overflow == Overflow::Error {
            return Err(Error::ContextFull { needed: needed + room, available });
        }
        let full = |needed| Err(Error::ContextFull { needed, available });
        let exchanges = self.exchanges();
        let starts = self.starts(&mut next.0, &next.1, Vec::new());
        let (Some(&first), Some(&last)) = (exchanges.first(), exchanges.last()) else { return full(needed + 1) };
        // A short reply is better than none.
        let least = needed - (starts[last] - starts[first]) + 1;
        if least > available {
            return full(least);
        }
        let goal = available / 2;
        let enough = exchanges.iter().find(|&&end| needed - (starts[end] - starts[first]) <= goal);
        let kept = *enough.unwrap_or(&last);
        if kept == first {
            return Ok(None);
        }
        let event = self.drop_messages(first..kept)?;
        *next = self.next_prompt()?;
        let needed = next.0.segments.len() + prefix;
        // A template may write the rest at greater length without the others.
        if needed < available { Ok(Some(event)) } else { full(needed + 1) }
    }

    fn drop_messages(&mut self, messages: Range<usize>) -> Result<Event> {
        self.keep_before();
        let kept = self.state.starts.get(messages.start).copied().unwrap_or(0);
        let how = if self.overflow == Overflow::Shift { Removal::Shift } else { Removal::Exact };
        let removed = self.take_out(messages, how)?;
        if let Some((_, rows)) = &mut self.open {
            // Rows that moved up are not those that a turn which fails brings back, even where their tokens are.
            *rows = kept.min(*rows);
        }
        let policy = if removed.how == Removal::Shift { Overflow::Shift } else { Overflow::Drop };
        Ok(Event::Overflow { policy, removed_rows: removed.rows })
    }

    /// The first message of each exchange.
    fn exchanges(&self) -> Vec<usize> {
        let messages = &self.state.messages;
        let first = messages.iter().take_while(|m| m.role == "system").count();
        let asks = |index: usize| messages[index].role == "user";
        (first..messages.len()).filter(|&i| i == first || asks(i) && !asks(i - 1)).collect()
    }

    /// Sees to it that a turn that fails brings back what is about to be removed.
    fn keep_before(&mut self) {
        if let Some((before @ Before::Answer, _)) = &mut self.open {
            let mut state = self.state.clone();
            state.truncate_turn();
            *before = Before::All(Box::new(state));
        }
    }
}
