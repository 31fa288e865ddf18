//! Room in a server's context: where a turn would not fit, the oldest exchanges go, as a model on this machine has it.

use super::talk::There;
use nano_runtime::{BotFunction, Chat, GenerateOptions, Message, Value};

/// Takes out the oldest exchanges where what follows would not fit, until half of the context is free; if the turn fails,
/// they come back. How many tokens went, about.
pub fn make(chat: &mut Chat, there: &There, options: &GenerateOptions) -> usize {
    let budget = there.engine.max_context_size().saturating_sub(options.max_new_tokens);
    let tools: Vec<Value> = chat.functions().iter().map(BotFunction::tool).collect();
    let tools_size: usize = tools.iter().map(|tool| tool.to_string().len()).sum();
    let sizes: Vec<usize> = chat.messages().iter().map(size).collect();
    let total = sizes.iter().sum::<usize>() + tools_size;
    // Tokens of less than two bytes are rare: a server need not be asked about what is far from full.
    if !there.makes_room || total / 2 <= budget {
        return 0;
    }
    // A server that cannot say it now will say it of the turn.
    let Ok(tokens) = there.engine.prompt_len(chat.messages(), &tools) else { return 0 };
    if tokens <= budget {
        return 0;
    }
    let per_byte = tokens as f64 / total.max(1) as f64;
    let surplus = ((tokens - budget / 2) as f64 / per_byte) as usize;
    let (kept, removed) = without_oldest(chat.messages(), &sizes, surplus);
    if removed > 0 {
        chat.try_messages(kept);
    }
    (removed as f64 * per_byte).ceil() as usize
}

/// The messages without so many bytes of the oldest exchanges, or all but the last one; and the bytes that went.
fn without_oldest(messages: &[Message], sizes: &[usize], surplus: usize) -> (Vec<Message>, usize) {
    let is_user = |i: usize| messages.get(i).is_some_and(|message| message.role == "user");
    let first = messages.iter().take_while(|message| message.role == "system").count();
    let mut removed = 0;
    let mut end = first;
    // Exchanges begin with the first of the user's messages in a row.
    let starts = (first + 1..messages.len()).filter(|&i| is_user(i) && !is_user(i - 1));
    for start in starts {
        if removed >= surplus {
            break;
        }
        removed += sizes[end..start].iter().sum::<usize>();
        end = start;
    }
    ([&messages[..first], &messages[end..]].concat(), removed)
}

/// Bytes of a message, with what a template adds.
fn size(message: &Message) -> usize {
    let calls: usize = message.tool_calls.iter().flatten().map(|call| call.to_string().len()).sum();
    message.content.text().len() + calls + 20
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_exchanges_go_and_the_last_one_stays() {
        let roles = ["system", "user", "assistant", "user", "user", "assistant", "tool", "assistant", "user"];
        let messages: Vec<Message> = roles.iter().map(|role| Message::new(*role, "x")).collect();
        let sizes = vec![10; messages.len()];
        let left = |surplus| {
            let (kept, removed) = without_oldest(&messages, &sizes, surplus);
            assert_eq!(kept[0].role, "system");
            (kept.len(), removed)
        };
        assert_eq!(left(0), (9, 0));
        assert_eq!((left(1), left(20)), ((7, 20), (7, 20)));
        assert_eq!(left(21), (2, 70), "calls and results go with the words that led to them");
        assert_eq!(left(1000), (2, 70));
        let one = without_oldest(&messages[..2], &sizes, 1000);
        assert_eq!((one.0.len(), one.1), (2, 0));
    }
}
