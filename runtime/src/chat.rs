//! A conversation: messages for people, segments and a cache for the model, and a turn that moves all three together or
//! not at all.

use crate::segments::{Segments, common_prefix, encode_start};
use crate::{Error, GenerateOptions, KvCache, NanoModel, Reply, Result};
use nano_models::Tokenizer;
use nano_templates::{Content, Message, Template, Vars};
use serde_json::Value;
use std::time::Instant;

/// How to start a conversation.
#[derive(Clone, Debug, Default)]
pub struct ChatOptions {
    /// What the model is told first; `None` takes the template's own default, if it has one.
    pub system_prompt: Option<String>,
    /// In place of the model's template.
    pub template: Option<Template>,
    /// What the template may look at besides the messages. The spellings of the model's tokens are filled in where
    /// they are empty.
    pub vars: Vars,
}

/// A conversation with a model.
///
/// A turn is [`user`](ChatHistory::user) and then [`reply`](ChatHistory::reply). Only what the cache does not hold is
/// fed to the model, and the tokens of replies are kept as they were sampled. A turn that fails leaves the
/// conversation as it was before the user's message.
///
/// Text of messages is text: spellings of control tokens in it do not become control tokens.
pub struct ChatHistory {
    model: NanoModel,
    template: Template,
    vars: Vars,
    /// Stops of the template: those that are single tokens, and the others.
    stop_tokens: Vec<u32>,
    stop_strings: Vec<String>,
    messages: Vec<Message>,
    segments: Segments,
    /// Holds a beginning of the segments' tokens. Absent only while a reply has it.
    cache: Option<KvCache>,
    /// Indices of replies that were stopped.
    cancelled: Vec<usize>,
}

impl ChatHistory {
    pub(crate) fn new(model: NanoModel, options: ChatOptions) -> Result<Self> {
        let ChatOptions { system_prompt, template, mut vars } = options;
        let Some(template) = template.or_else(|| model.template().cloned()) else {
            let known = Template::builtin_names().join(", ");
            return Err(Error::NoTemplate { model: model.info().name.clone(), known });
        };
        let tokenizer = model.tokenizer();
        vars.add_generation_prompt = true;
        for (text, token) in [(&mut vars.bos_token, tokenizer.bos()), (&mut vars.eos_token, tokenizer.eos())] {
            if text.is_empty() {
                *text = tokenizer.token_text(token);
            }
        }
        let (mut stop_tokens, mut stop_strings) = (Vec::new(), template.stop().to_vec());
        for ids in template.stop_ids() {
            match ids[..] {
                [] => {}
                [token] => stop_tokens.push(token),
                _ => stop_strings.push(tokenizer.decode(ids)?),
            }
        }
        stop_strings.retain(|stop| !stop.is_empty());
        let system = system_prompt.or_else(|| template.default_system().map(str::to_owned));
        let messages = system.map(Message::system).into_iter().collect();
        let cache = Some(model.cache());
        Ok(Self {
            model,
            template,
            vars,
            stop_tokens,
            stop_strings,
            messages,
            segments: Segments::default(),
            cache,
            cancelled: Vec::new(),
        })
    }

    /// Appends a message of the user.
    pub fn user(&mut self, text: impl Into<String>) {
        self.append("user", text);
    }

    /// Appends a message of any role that the template knows.
    pub fn append(&mut self, role: impl Into<String>, text: impl Into<String>) {
        self.append_message(Message::new(role, text));
    }

    /// Appends a message.
    pub fn append_message(&mut self, message: Message) {
        self.messages.push(message);
    }

    /// Generates the answer to what was appended.
    ///
    /// Read the events to the end, or [`stop`](Reply::stop) it: then the answer joins the conversation. An error, or
    /// dropping the reply before its end, takes back what was appended since the last answer.
    pub fn reply(&mut self, options: &GenerateOptions) -> Result<Reply<'_>> {
        let asked = Instant::now();
        let next = match self.next_prompt() {
            Ok(next) => next,
            Err(error) => {
                self.take_back();
                return Err(error);
            }
        };
        let tokens = next.tokens();
        let mut cache = self.cache.take().unwrap_or_else(|| self.model.cache());
        let rows = cache.len();
        cache.truncate(common_prefix(cache.tokens(), &tokens));
        let mut options = options.clone();
        let mut stop_tokens: &[u32] = &[];
        if !options.ignore_eos {
            options.stop.extend_from_slice(&self.stop_strings);
            stop_tokens = &self.stop_tokens;
        }
        let feed = tokens[cache.len()..].to_vec();
        let generation = self.model.0.generate(feed, cache, &options, stop_tokens, asked);
        Ok(Reply::new(self, generation, next, tokens, rows))
    }

    /// Starts over with the system prompt alone, whose rows stay in the cache.
    pub fn reset(&mut self) {
        self.messages.truncate(self.turn_start(0));
        self.cancelled.clear();
        let cache = self.cache.get_or_insert_with(|| self.model.cache());
        let held = cache.tokens().to_vec();
        // What any first message of a user is preceded by. A template that cannot say keeps nothing.
        let kept = match (self.probe("a"), self.probe("B")) {
            (Ok(one), Ok(other)) => common_prefix(&one, &other).min(common_prefix(&one, &held)),
            _ => 0,
        };
        self.cut(kept);
        self.segments = Segments::torn(held[..kept].to_vec());
    }

    /// What the model is told first.
    pub fn system_prompt(&self) -> Option<String> {
        self.messages.first().filter(|m| m.role == "system").map(|m| m.content.text())
    }

    /// Starts over with another system prompt, or none. Does nothing if it is the one there is.
    pub fn set_system_prompt(&mut self, text: Option<String>) {
        if self.system_prompt() == text {
            return;
        }
        self.messages = text.map(Message::system).into_iter().collect();
        self.cancelled.clear();
        self.segments = Segments::default();
        self.cut(0);
    }

    /// The messages, the system prompt among them.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Whether a message is a reply that was stopped before its end.
    pub fn is_cancelled(&self, message: usize) -> bool {
        self.cancelled.contains(&message)
    }

    /// Tokens of the conversation so far: those of messages that were replied to, and of the replies.
    pub fn num_tokens(&self) -> usize {
        self.segments.tokens().len()
    }

    /// Tokens that have a row in the cache. The last token sampled gets one when something follows it.
    pub fn num_rows(&self) -> usize {
        self.cache.as_ref().map_or(0, KvCache::len)
    }

    /// The template in use.
    pub fn template(&self) -> &Template {
        &self.template
    }

    /// The model.
    pub fn model(&self) -> &NanoModel {
        &self.model
    }

    /// The text that [`reply`](ChatHistory::reply) would continue.
    pub fn prompt(&self) -> Result<String> {
        Ok(Tokenizer::show_control(&self.render(&self.messages)?))
    }

    /// Ends a turn well.
    pub(crate) fn commit(&mut self, segments: Segments, cache: KvCache, text: String, cancelled: bool) {
        self.segments = segments;
        self.cache = Some(cache);
        if cancelled {
            self.cancelled.push(self.messages.len());
        }
        self.messages.push(Message::assistant(text));
        self.check();
    }

    /// Ends a turn as if it had not been: there were `rows` rows before it.
    pub(crate) fn roll_back(&mut self, mut cache: KvCache, rows: usize) {
        cache.truncate(common_prefix(cache.tokens(), &self.segments.tokens()).min(rows));
        self.cache = Some(cache);
        self.take_back();
        self.check();
    }

    /// Every row is that of a token of the conversation, in order.
    fn check(&self) {
        debug_assert!(self.cache.as_ref().is_none_or(|c| self.segments.tokens().starts_with(c.tokens())));
    }

    fn take_back(&mut self) {
        let last_reply = self.messages.iter().rposition(|m| m.role == "assistant");
        self.messages.truncate(self.turn_start(last_reply.map_or(0, |i| i + 1)));
    }

    /// The first message at or after `from` that is no system prompt at the start.
    fn turn_start(&self, from: usize) -> usize {
        from.max(self.messages.iter().take_while(|m| m.role == "system").count())
    }

    fn cut(&mut self, rows: usize) {
        if let Some(cache) = &mut self.cache {
            cache.truncate(rows);
        }
    }

    fn next_prompt(&self) -> Result<Segments> {
        if self.messages.last().is_none_or(|m| m.role == "assistant") {
            return Err(Error::NoMessage);
        }
        let next = self.segments.follow(&self.render(&self.messages)?, self.model.tokenizer())?;
        let (needed, available) = (next.tokens().len(), self.model.limits().context);
        if needed > available { Err(Error::ContextFull { needed, available }) } else { Ok(next) }
    }

    /// The prompt for a conversation of the system prompt and one message.
    fn probe(&self, text: &str) -> Result<Vec<u32>> {
        let mut messages = self.messages.clone();
        messages.push(Message::user(text));
        encode_start(&self.render(&messages)?, self.model.tokenizer())
    }

    fn render(&self, messages: &[Message]) -> Result<String> {
        let hidden: Vec<Message> = messages.iter().map(|m| self.hide(m)).collect();
        Ok(self.template.render(&hidden, &self.vars)?)
    }

    /// The message with all spellings of control tokens in its texts hidden.
    fn hide(&self, message: &Message) -> Message {
        let tokenizer = self.model.tokenizer();
        let hide = |text: &mut String| *text = tokenizer.hide_control(text);
        let mut message = message.clone();
        match &mut message.content {
            Content::Text(text) => hide(text),
            Content::Parts(parts) => parts.iter_mut().flat_map(|p| &mut p.text).for_each(hide),
            Content::None | Content::Absent => {}
        }
        message.name.iter_mut().chain(&mut message.reasoning_content).for_each(hide);
        let values = message.tool_calls.iter_mut().flatten().chain(message.other.values_mut());
        values.for_each(|value| hide_strings(value, &hide));
        message
    }
}

/// Hides in all strings of a value.
fn hide_strings(value: &mut Value, hide: &impl Fn(&mut String)) {
    match value {
        Value::String(text) => hide(text),
        Value::Array(values) => values.iter_mut().for_each(|v| hide_strings(v, hide)),
        Value::Object(fields) => fields.values_mut().for_each(|v| hide_strings(v, hide)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
