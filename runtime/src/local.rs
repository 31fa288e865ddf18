//! The engine of a model on this machine. It is given whole conversations and feeds what is new in them: it keeps those that
//! it answered last, and goes on with the one whose tokens the next request begins with, or with a copy of it.

use crate::chat::{Before, ChatHistory};
use crate::engine::{Answer, Engine, Request};
use crate::prompt::Fed;
use crate::stream::lock;
use crate::{ChatOptions, Error, Event, NanoModel, Overflow, ReplyStream, Result, Stopper, Value};
use nano_kernels::PAGE_ROWS;
use nano_templates::Message;
use std::sync::{Arc, Mutex};

/// Conversations kept, unless [`LocalEngine::with_kept`] says otherwise.
const KEPT: usize = 4;

/// A model on this machine as an [`Engine`]. Clones share what is kept.
///
/// A request that goes on with a conversation that was answered lately costs what is new in it; one that departs from it
/// shares the rows of what both have in common. What is kept gives way when pages are needed.
#[derive(Clone)]
pub struct LocalEngine(Arc<Shared>);

struct Shared {
    model: NanoModel,
    /// What a conversation is begun with.
    blank: Mutex<ChatHistory>,
    /// Conversations that nobody waits for, the one answered last at the end.
    kept: Mutex<Vec<ChatHistory>>,
    most: usize,
}

impl LocalEngine {
    /// An engine with the template and the variables of these options. What they say of prompts, functions and tools is
    /// what requests say; a conversation that is too long is an error, as requests are not to be changed unseen.
    pub fn new(model: &NanoModel, options: ChatOptions) -> Result<Self> {
        let mut blank = model.chat(ChatOptions {
            system_prompt: None,
            overflow: Overflow::Error,
            functions: Default::default(),
            tools: Vec::new(),
            ..options
        })?;
        blank.from_json(Value::Array(Vec::new()))?;
        let (model, blank, kept) = (model.clone(), Mutex::new(blank), Mutex::default());
        Ok(Self(Arc::new(Shared { model, blank, kept, most: KEPT })))
    }

    /// Keeps so many conversations besides those under way; 4 if this is not called.
    pub fn with_kept(self, conversations: usize) -> Self {
        let Shared { model, blank, .. } = &*self.0;
        let blank = Mutex::new(lock(blank).with_cache(None));
        Self(Arc::new(Shared { model: model.clone(), blank, kept: Mutex::default(), most: conversations }))
    }

    /// The model.
    pub fn model(&self) -> &NanoModel {
        &self.0.model
    }

    /// Conversations that are kept now.
    pub fn kept(&self) -> usize {
        lock(&self.0.kept).len()
    }
}

impl Shared {
    /// A conversation with nothing fed that has these messages and tools.
    fn blank(&self, messages: &[Message], tools: &[Value]) -> Result<ChatHistory> {
        let mut blank = lock(&self.blank);
        blank.set_tools(tools.to_vec())?;
        let mut chat = blank.with_cache(None);
        chat.put_messages(messages.to_vec());
        Ok(chat)
    }

    /// A conversation to answer this prompt with: one that is not kept any more (`true`), a copy of one, or a new one.
    fn take(&self, blank: ChatHistory, prompt: &str) -> (ChatHistory, bool) {
        let mut kept = lock(&self.kept);
        let fed = |chat: &ChatHistory| chat.fed(prompt);
        let best = kept.iter().map(fed).enumerate().max_by_key(|(_, fed)| fed.tokens);
        match best {
            Some((index, Fed { tokens: 1.., whole: true })) => (kept.remove(index), true),
            Some((index, Fed { tokens: 1.., .. })) => (kept[index].fork(), false),
            _ => (blank, false),
        }
    }

    /// Lets kept conversations go, the oldest first, until so many tokens have room besides what is held.
    fn make_room(&self, tokens: usize) {
        let mut kept = lock(&self.kept);
        while self.model.cache().free_pages() < tokens.div_ceil(PAGE_ROWS) && !kept.is_empty() {
            kept.remove(0);
        }
    }

    /// Keeps a conversation that something was fed to.
    fn keep(&self, chat: ChatHistory) {
        let mut kept = lock(&self.kept);
        if self.most > 0 && chat.num_rows() > 0 {
            kept.push(chat);
        }
        if kept.len() > self.most {
            kept.remove(0);
        }
    }
}

impl Engine for LocalEngine {
    fn name(&self) -> &str {
        &self.0.model.info().name
    }

    fn max_context_size(&self) -> usize {
        self.0.model.limits().context
    }

    fn prompt_len(&self, messages: &[Message], tools: &[Value]) -> Result<usize> {
        if messages.is_empty() {
            return Err(Error::NoMessage);
        }
        let blank = self.0.blank(messages, tools)?;
        let (prompt, _) = blank.follow(&blank.state.segments)?;
        Ok(prompt.segments.len())
    }

    fn stream(&self, request: &Request) -> Result<Box<dyn Answer>> {
        let Request { messages, tools, options } = request;
        let blank = self.0.blank(messages, tools)?;
        let text = blank.render(messages, true)?;
        let (mut chat, taken) = self.0.take(blank, &text);
        chat.set_tools(tools.clone())?;
        let before = Before::All(Box::new(chat.state.clone()));
        chat.put_messages(messages.clone());
        let context = self.max_context_size();
        // What cannot be a prompt is an error further down: nothing has to go for it.
        if let Ok((prompt, _)) = chat.next_prompt()
            && prompt.segments.len() < context
        {
            let new = prompt.segments.len() - prompt.kept;
            self.0.make_room(new + options.max_new_tokens.min(context) + PAGE_ROWS);
        }
        let reply = match chat.begin(options, before) {
            Ok(reply) => reply,
            Err(error) => {
                // Of a copy, the original is there.
                if taken {
                    self.0.keep(chat);
                }
                return Err(error);
            }
        };
        let stopper = reply.stopper();
        Ok(Box::new(LocalAnswer { engine: Arc::clone(&self.0), under_way: Some((chat, reply)), stopper }))
    }

    fn close(&self) {
        lock(&self.0.kept).clear();
    }
}

/// An answer under way. Dropped before its end, it is stopped, and its conversation is kept as far as it came.
struct LocalAnswer {
    engine: Arc<Shared>,
    /// Absent after the end.
    under_way: Option<(ChatHistory, ReplyStream)>,
    stopper: Stopper,
}

impl LocalAnswer {
    fn note(&mut self, event: Result<Event>) -> Result<Event> {
        if matches!(event, Ok(Event::Done(_)) | Err(_)) {
            self.end();
        }
        event
    }

    /// Keeps the conversation: with its answer, or as it was before one that failed.
    fn end(&mut self) {
        if let Some((mut chat, reply)) = self.under_way.take() {
            // An error was told, or takes the turn back.
            let _ = chat.append_reply(reply);
            self.engine.keep(chat);
        }
    }
}

impl Iterator for LocalAnswer {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Result<Event>> {
        let event = self.under_way.as_mut()?.1.next().unwrap_or(Err(Error::Stopped));
        Some(self.note(event))
    }
}

impl Answer for LocalAnswer {
    fn poll(&mut self) -> Option<Result<Event>> {
        let event = self.under_way.as_mut()?.1.poll()?;
        Some(self.note(event))
    }

    fn is_ended(&self) -> bool {
        self.under_way.is_none()
    }

    fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }
}

impl Drop for LocalAnswer {
    fn drop(&mut self) {
        self.stopper.stop();
        self.end();
    }
}

impl std::fmt::Debug for LocalEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalEngine").field("model", &self.0.model).field("kept", &self.kept()).finish()
    }
}
