//! What servers say when they refuse: the same few things in several shapes of JSON, or in plain text.

use crate::failure::shown;
use nano_runtime::Value;

/// A server's own words.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Refusal {
    message: String,
    /// Its name for the kind of error.
    code: String,
    /// Tokens of the prompt, and of the context.
    tokens: Option<(usize, usize)>,
}

impl Refusal {
    /// Reads the body of an answer that is no success.
    pub(crate) fn of_body(body: &[u8]) -> Self {
        match serde_json::from_slice(body) {
            Ok(value) => Self::of(&value),
            Err(_) => Self { message: String::from_utf8_lossy(body).into_owned(), ..Self::default() },
        }
    }

    /// Reads `{"error": {"message": …}}`, `{"error": "…"}`, `{"message": …}`, `{"detail": …}`, and lists of these.
    pub(crate) fn of(value: &Value) -> Self {
        if let Some(first) = value.as_array().and_then(|list| list.first()) {
            return Self::of(first);
        }
        let inner = value.get("error").filter(|error| !error.is_null()).unwrap_or(value);
        let text = |name: &str| inner.get(name).and_then(Value::as_str).map(str::to_owned);
        let message = match inner {
            Value::String(text) => Some(text.clone()),
            _ => text("message").or_else(|| text("error")).or_else(|| inner.get("detail").map(detail)),
        };
        let number = |name: &str| inner.get(name).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        Self {
            message: message.unwrap_or_else(|| inner.to_string()),
            code: text("code").or_else(|| text("type")).unwrap_or_default(),
            tokens: number("n_prompt_tokens").zip(number("n_ctx")),
        }
    }

    /// Whether a value of the stream is one.
    pub(crate) fn is_in(value: &Value) -> bool {
        value.get("error").is_some_and(|error| !error.is_null())
            || value.get("object").and_then(Value::as_str) == Some("error")
            || value.get("detail").is_some() && value.get("choices").is_none()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.message.trim().is_empty()
    }

    /// The words, after a colon.
    pub(crate) fn said(&self, most: usize) -> String {
        if self.is_empty() { String::new() } else { format!(": {}", shown(&self.message, most)) }
    }

    pub(crate) fn is_about_model(&self) -> bool {
        let text = self.message.to_lowercase();
        self.code == "model_not_found" || text.replace("/models", "").contains("model")
    }

    /// Tokens that were asked for and tokens that there are, if the prompt was too long and the server says how long.
    /// `answer` is how many tokens the answer was to have: some count the prompt only.
    pub(crate) fn overflow(&self, answer: usize) -> Option<(usize, usize)> {
        if let Some((prompt, context)) = self.tokens {
            return Some((prompt.saturating_add(answer), context));
        }
        let text = self.message.to_lowercase();
        let marks = ["context length", "context size", "context window", "context_length"];
        let mark = marks.iter().find_map(|mark| text.find(mark));
        if mark.is_none() && self.code != "context_length_exceeded" {
            return None;
        }
        let after = |words: &[&str]| words.iter().find_map(|word| number_after(&text, word));
        let available = after(&["context length is", "context size (", "context size of", "context window of"])?;
        let prompt = number_before(&text, "input tokens").or_else(|| number_before(&text, "in the messages"));
        let prompt = prompt.or_else(|| after(&["request ("])).map(|tokens| tokens.saturating_add(answer));
        let needed = after(&["you requested"]).into_iter().chain(prompt).max()?;
        (needed > available).then_some((needed, available))
    }
}

/// What FastAPI says: a text, or a list of what is wrong where.
fn detail(value: &Value) -> String {
    let one = |entry: &Value| {
        let place = entry.get("loc").and_then(Value::as_array).into_iter().flatten();
        let place: Vec<String> = place.map(|part| part.as_str().map_or(part.to_string(), str::to_owned)).collect();
        let message = entry.get("msg").and_then(Value::as_str)?;
        Some(format!("{}: {message}", place.join(".")))
    };
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) if list.iter().all(|entry| one(entry).is_some()) => {
            list.iter().filter_map(one).collect::<Vec<_>>().join("; ")
        }
        Value::Object(_) => Refusal::of(value).message,
        other => other.to_string(),
    }
}

fn number_after(text: &str, words: &str) -> Option<usize> {
    let rest = text[text.find(words)? + words.len()..].trim_start();
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

fn number_before(text: &str, words: &str) -> Option<usize> {
    let rest = text[..text.find(words)?].trim_end();
    let start = rest.rfind(|c: char| !c.is_ascii_digit()).map_or(0, |at| at + 1);
    rest.get(start..)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn shapes() {
        for body in [
            json!({"error": {"message": "m", "type": "t", "code": null}}),
            json!({"error": "m"}),
            json!({"message": "m", "object": "error"}),
            json!({"detail": "m"}),
            json!({"detail": {"error": "m"}}),
            json!([{"error": {"message": "m"}}]),
        ] {
            assert_eq!(Refusal::of_body(body.to_string().as_bytes()).said(9), ": m", "{body}");
        }
        let list = json!({"detail": [{"loc": ["body", "stop", 0], "msg": "too long", "type": "x"}]});
        assert_eq!(Refusal::of(&list).said(99), ": body.stop.0: too long");
        assert_eq!(Refusal::of_body(b" out of\n memory \x1b[0m").said(99), ": out of memory [0m");
        assert_eq!(Refusal::of_body(b"").said(9), "");
        assert_eq!(Refusal::of_body("é".repeat(20).as_bytes()).said(3), ": ééé …");
        assert_eq!(Refusal::of(&json!({"odd": 1})).said(99), ": {\"odd\":1}");
    }

    #[test]
    fn overflows() {
        let said = |message: &str| Refusal { message: message.into(), ..Refusal::default() }.overflow(100);
        let found = [
            "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (4900 in the messages, \
             100 in the completion). Please reduce the length of the messages or completion.",
            "This model's maximum context length is 4096 tokens. However, your request has 4900 input tokens.",
            "'max_tokens' or 'max_completion_tokens' is too large: 100. This model's maximum context length is 4096 tokens \
             and your request has 4900 input tokens (100 > 4096 - 4900).",
            "request (4900 tokens) exceeds the available context size (4096 tokens), try increasing it",
        ];
        for message in found {
            assert_eq!(said(message), Some((5000, 4096)), "{message}");
        }
        for message in
            ["the context length is too small", "there are 5000 errors", "maximum context length is x tokens"]
        {
            assert_eq!(said(message), None, "{message}");
        }
        let counted = json!({"error": {"code": 400, "message": "m", "type": "exceed_context_size_error",
            "n_prompt_tokens": 4900, "n_ctx": 4096}});
        assert_eq!(Refusal::of(&counted).overflow(100), Some((5000, 4096)));
    }
}
