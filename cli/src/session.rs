//! `session`: what a conversation's file holds, without a model.

use crate::args::SessionArgs;
use crate::listing::{Entry, counted, listing};
use crate::out::{self, Log};
use anyhow::Result;
use nano_runtime::SavedChat;
use serde_json::json;

/// Prints messages, tokens and counts.
pub fn run(args: &SessionArgs, log: &Log) -> Result<()> {
    let SavedChat { model, messages, rows, pending, notices } = SavedChat::read(&args.file)?;
    notices.iter().for_each(|notice| log.warn(notice));
    if args.json {
        let message = |(message, tokens): &(nano_runtime::Message, Vec<u32>)| {
            let mut fields = json!({"role": message.role, "text": message.content.text(), "tokens": tokens});
            if let Some(calls) = &message.tool_calls {
                fields["tool_calls"] = json!(calls);
            }
            fields
        };
        let messages: Vec<_> = messages.iter().map(message).collect();
        return out::json(&json!({"model": model, "messages": messages, "rows": rows, "pending": pending}));
    }
    let entries: Vec<Entry> =
        messages.iter().map(|(message, tokens)| Entry::new(message, tokens.len(), false)).collect();
    let count = counted(entries.len(), "message");
    out::write(format!("{model}: {count}, {} tokens: {rows} rows, {pending} pending\n", rows + pending))?;
    if entries.is_empty() { Ok(()) } else { out::write(format!("{}\n", listing(&entries))) }
}
