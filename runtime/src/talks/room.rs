//! What of a conversation is sent to an engine whose context it exceeds: the system prompt and the latest exchanges.

use crate::{Engine, GenerateOptions};
use nano_templates::Message;
use serde_json::Value;

/// Tokens that a template writes for a message besides its text, and for all of them together: never more than this.
const FRAME: usize = 32;
const FRAMES: usize = 1024;

/// The messages without those before `start`, but for the system prompt.
pub(super) fn from(messages: &[Message], start: usize) -> Vec<Message> {
    let system = messages.iter().take_while(|message| message.role == "system").count();
    messages[..system].iter().chain(&messages[start.max(system).min(messages.len())..]).cloned().collect()
}

/// From which message on to send them so that there is room for the answer, and how many tokens that spares; `None` if
/// what is sent now fits. What does not fit even with the last exchange alone is for the engine to refuse: lengths may be
/// estimates.
pub(super) fn make(
    engine: &dyn Engine,
    messages: &[Message],
    start: usize,
    tools: &[Value],
    options: &GenerateOptions,
) -> Option<(usize, usize)> {
    let available = engine.max_context_size();
    let room = options.max_new_tokens.min(available / 2).max(1);
    if at_most(messages, tools).saturating_add(room) <= available {
        return None;
    }
    // A list that has no length, as a template may refuse it, is too long.
    let tokens = |start| engine.estimated_len(&from(messages, start), tools).unwrap_or(usize::MAX);
    let needed = tokens(start);
    if needed == usize::MAX || needed.saturating_add(room) <= available {
        return None;
    }
    let begins = |&index: &usize| messages[index].role == "user" && messages[index - 1].role != "user";
    let system = messages.iter().take_while(|message| message.role == "system").count();
    let exchanges: Vec<usize> = (start.max(system) + 1..messages.len()).filter(begins).collect();
    let enough = exchanges.partition_point(|&start| tokens(start) > available / 2);
    let start = *exchanges.get(enough).or(exchanges.last())?;
    Some((start, needed.saturating_sub(tokens(start))))
}

/// Tokens that an answer may have: a server may refuse a request for more than there is room for.
pub(super) fn limit(engine: &dyn Engine, messages: &[Message], tools: &[Value], most: usize) -> usize {
    let available = engine.max_context_size();
    let half = (available / 2).max(1);
    if most <= half {
        return most;
    }
    // Lengths may be estimates.
    let needed = engine.estimated_len(messages, tools).map_or(available, |len| len.saturating_add(len / 8 + 64));
    most.min(available.saturating_sub(needed).max(half))
}

/// Tokens that they make at most: none is less than a byte. Spares counting where there is room for certain.
fn at_most(messages: &[Message], tools: &[Value]) -> usize {
    let json = |values: &[Value]| values.iter().map(|value| value.to_string().len()).sum::<usize>();
    let of = |message: &Message| {
        let reasoning = message.reasoning_content.as_ref().map_or(0, String::len);
        message.content.text().len() + reasoning + 2 * json(message.tool_calls.as_deref().unwrap_or_default()) + FRAME
    };
    messages.iter().map(of).sum::<usize>() + 2 * json(tools) + FRAMES
}
