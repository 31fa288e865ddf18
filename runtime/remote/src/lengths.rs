//! How long a prompt is, by asking the server: vLLM and its like count messages, llama-server writes the prompt out and
//! takes it apart.

use crate::address;
use crate::failure::Failure;
use crate::server::Server;
use nano_runtime::Value;
use serde_json::json;

/// Whom to ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Counter {
    /// Not known yet.
    #[default]
    Untried,
    /// `/tokenize` counts messages.
    Messages,
    /// `/apply-template`, then `/tokenize`.
    Template,
    /// Nobody.
    None,
}

/// Asks, and remembers in `counter` who answers. `None`: there is no answer.
pub(crate) fn ask(
    server: &Server,
    base: &str,
    model: &str,
    messages: &Value,
    tools: &[Value],
    counter: &mut Counter,
) -> Option<usize> {
    let root = address::root(base);
    let with_tools = |mut body: Value| {
        if !tools.is_empty() {
            body["tools"] = json!(tools);
        }
        body
    };
    if matches!(counter, Counter::Untried | Counter::Messages) {
        let body = with_tools(json!({"model": model, "messages": messages}));
        match server.ask(&format!("{root}/tokenize"), Some(&body)) {
            Ok(answer) => {
                if let Some(count) = answer.get("count").and_then(Value::as_u64) {
                    *counter = Counter::Messages;
                    return usize::try_from(count).ok();
                }
                if *counter == Counter::Untried {
                    *counter = Counter::Template;
                }
            }
            Err(failure) => note(counter, &failure),
        }
    }
    if *counter == Counter::Template {
        let body = with_tools(json!({"messages": messages}));
        let counted = server.ask(&format!("{root}/apply-template"), Some(&body)).and_then(|answer| {
            let prompt = answer.get("prompt").and_then(Value::as_str).unwrap_or_default();
            let body = json!({"content": prompt, "add_special": true});
            let answer = server.ask(&format!("{root}/tokenize"), Some(&body))?;
            Ok(answer.get("tokens").and_then(Value::as_array).map(Vec::len).filter(|_| !prompt.is_empty()))
        });
        return counted.unwrap_or_else(|failure| {
            note(counter, &failure);
            None
        });
    }
    None
}

/// Whoever has no such path is not asked again; what else fails may work with other messages.
fn note(counter: &mut Counter, failure: &Failure) {
    if matches!(
        failure,
        Failure::Status { status: 401 | 403 | 404 | 405 | 501, .. } | Failure::Page | Failure::Garbage(_)
    ) {
        *counter = Counter::None;
    } else if let (Counter::Untried, Failure::Status { status: 400 | 422 | 500, .. }) = (*counter, failure) {
        // It wants a text.
        *counter = Counter::Template;
    }
}
