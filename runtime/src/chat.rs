//! A conversation: messages for people, segments and a cache for the model, and a turn that moves all three together or
//! not at all. How messages become a prompt is in `prompt`, what may be done to a history besides talking in `edit`, what
//! happens when the context is full in `overflow`, a reply under way in `reply`.

use crate::cache::KvCache;
use crate::offered::Offered;
use crate::overflow::Overflow;
use crate::reply::{Plan, Reply, ReplyStream};
use crate::segments::{Segment, Segments, common_prefix};
use crate::{BotFunctions, Error, Event, GenerateOptions, NanoModel, Result, ToolFormat, Value};
use nano_models::Tokenizer;
use nano_templates::{Message, Template, Vars};
use std::sync::Arc;
use std::time::Instant;

/// How to start a conversation.
#[derive(Clone, Debug)]
pub struct ChatOptions {
    /// What the model is told first; `None` takes the template's own default, if it has one.
    pub system_prompt: Option<String>,
    /// In place of the model's template.
    pub template: Option<Template>,
    /// What the template may look at besides the messages. The spellings of the model's tokens are filled in where
    /// they are empty.
    pub vars: Vars,
    /// What to do when a turn does not fit into the context.
    pub overflow: Overflow,
    /// Functions that the model may call in the middle of a reply.
    pub functions: BotFunctions,
    /// Tools that the model may call between replies: see [`ChatHistory::set_tools`]. Functions for the middle of a reply
    /// are looked for in all that the model writes, calls of tools included: offer a function in one way or the other.
    pub tools: Vec<Value>,
    /// How the model writes calls and reasoning, in place of what its template or vocabulary says.
    pub tool_format: Option<ToolFormat>,
    /// Tell the model about its functions: at the end of the system prompt or, where the template knows none, before
    /// the user's first words.
    pub describe_functions: bool,
}

impl Default for ChatOptions {
    fn default() -> Self {
        Self {
            system_prompt: None,
            template: None,
            vars: Vars::default(),
            overflow: Overflow::default(),
            functions: BotFunctions::default(),
            tools: Vec::new(),
            tool_format: None,
            describe_functions: true,
        }
    }
}

/// A conversation with a model.
///
/// A turn is [`user`](ChatHistory::user) and then [`reply`](ChatHistory::reply). Only what the cache does not hold is
/// fed to the model, and the tokens of replies are kept as they were sampled. A turn that fails leaves the
/// conversation as it was before the user's message.
///
/// Every message owns a stretch of the conversation's tokens, from the first that the template wrote for it; together
/// they are all of them. All but the last few have a row in the cache: those [pending](ChatHistory::num_pending) get
/// one when something follows them. Whatever is done to a history, the next reply is computed from the rows that a
/// fresh conversation of the same tokens would have ([`Removal::Shift`](crate::Removal::Shift) is the named exception).
///
/// Text of messages is text: spellings of control tokens in it do not become control tokens.
pub struct ChatHistory {
    pub(crate) model: NanoModel,
    pub(crate) template: Template,
    pub(crate) vars: Vars,
    /// Stops of the template: those that are single tokens, and the others.
    pub(crate) stop_tokens: Vec<u32>,
    pub(crate) stop_strings: Vec<String>,
    pub(crate) overflow: Overflow,
    pub(crate) functions: BotFunctions,
    pub(crate) describe_functions: bool,
    /// What is said of the functions before the user's first words, where the template knows no system prompt.
    pub(crate) preface: Option<String>,
    /// What the model may call between replies, and how replies are read.
    pub(crate) offered: Offered,
    /// The format that was asked for.
    pub(crate) format: Option<ToolFormat>,
    pub(crate) refuses_system: bool,
    pub(crate) state: State,
    /// Holds a beginning of the segments' tokens. Absent while a reply has it.
    pub(crate) cache: Option<KvCache>,
    /// A reply under way: what an end that is none goes back to, and how many rows there were.
    pub(crate) open: Option<(Before, usize)>,
    /// Names the last reply begun.
    pub(crate) turn: Arc<()>,
}

/// All that a conversation is besides its rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) messages: Vec<Message>,
    /// For each message, what is known of it besides.
    pub(crate) said: Vec<Said>,
    pub(crate) segments: Segments,
    /// For each message that was fed, the number of its first token.
    pub(crate) starts: Vec<usize>,
    /// Messages that a turn which fails does not take back: all but those appended for it.
    pub(crate) settled: usize,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    /// A reply, as it was sampled.
    pub(crate) reply: Option<Segment>,
    /// It was stopped before its end.
    pub(crate) cancelled: bool,
}

/// What a turn goes back to if it fails.
pub(crate) enum Before {
    /// The messages up to the last answer.
    Answer,
    All(Box<State>),
}

impl ChatHistory {
    pub(crate) fn new(model: NanoModel, options: ChatOptions) -> Result<Self> {
        let ChatOptions {
            system_prompt,
            template,
            mut vars,
            overflow,
            functions,
            mut tools,
            tool_format,
            describe_functions,
        } = options;
        let Some(template) = template.or_else(|| model.template().cloned()) else {
            let known = Template::builtin_names().join(", ");
            return Err(Error::NoTemplate { model: model.info().name.clone(), known });
        };
        let tokenizer = model.tokenizer();
        vars.add_generation_prompt = true;
        if let (Some(Value::Array(list)), true) = (&mut vars.tools, tools.is_empty()) {
            tools = std::mem::take(list);
        }
        vars.tools = None;
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
        let cache = Some(model.cache());
        let refuses_system = Self::refuses_system(&template, &vars);
        let mut history = Self {
            model,
            template,
            vars,
            stop_tokens,
            stop_strings,
            overflow,
            functions,
            describe_functions,
            preface: None,
            offered: Offered::default(),
            format: tool_format,
            refuses_system,
            state: State::default(),
            cache,
            open: None,
            turn: Arc::default(),
        };
        history.offered = history.offer(tools)?;
        history.start_over(system);
        Ok(history)
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
        self.settle();
        self.state.push(message);
    }

    /// Generates the answer to what was appended.
    ///
    /// Read the events to the end, or [`stop`](Reply::stop) it: then the answer joins the conversation. An error, or
    /// dropping the reply before its end, takes back what was appended for it.
    pub fn reply(&mut self, options: &GenerateOptions) -> Result<Reply<'_>> {
        let stream = self.generate(options)?;
        Ok(Reply::new(self, stream))
    }

    /// Starts the answer to what was appended, as [`reply`](ChatHistory::reply) does, but leaves the conversation free:
    /// for programs that hold both and look for events now and then. The answer joins the conversation by
    /// [`append_reply`](ChatHistory::append_reply). Whatever else is done to the conversation before takes the turn back.
    pub fn generate(&mut self, options: &GenerateOptions) -> Result<ReplyStream> {
        self.settle();
        self.begin(options, Before::Answer)
    }

    /// Lets an answer join the conversation, at its end or as far as it has come: an answer that is still going is
    /// stopped. An answer that failed takes the turn back.
    pub fn append_reply(&mut self, stream: ReplyStream) -> Result<&Message> {
        let current = self.open.is_some() && Arc::ptr_eq(stream.turn(), &self.turn);
        if !current {
            return Err(Error::StaleReply);
        }
        let (plan, ended) = stream.into_parts();
        match ended {
            Ok(ended) => {
                self.open = None;
                self.commit(plan, ended);
                self.state.messages.last().ok_or(Error::NoMessage)
            }
            Err((error, cache)) => {
                self.roll_back(Some(cache));
                Err(*error)
            }
        }
    }

    /// Starts over with the system prompt alone, whose rows stay in the cache.
    pub fn reset(&mut self) {
        self.settle();
        let kept = self.state.messages.iter().take_while(|m| m.role == "system").count();
        self.state.truncate(kept);
        let held = self.cache.as_ref().map_or_else(Vec::new, |cache| cache.tokens().to_vec());
        // What any first message of a user is preceded by. A template that cannot say keeps nothing.
        let rows = match (self.probe("a"), self.probe("B")) {
            (Ok(one), Ok(other)) if kept > 0 => common_prefix(&one, &other).min(common_prefix(&one, &held)),
            _ => 0,
        };
        self.cut(rows);
        self.state.segments = Segments::torn(held[..rows].to_vec());
        self.state.starts = if rows > 0 { vec![0] } else { Vec::new() };
        self.check();
    }

    /// The system prompt, if there is one: all of it, with what it says of functions.
    pub fn system_prompt(&self) -> Option<String> {
        self.state.messages.first().filter(|m| m.role == "system").map(|m| m.content.text())
    }

    /// Starts over with another system prompt, or none; the description of functions, if there is one, stays. If it is
    /// the one there is, the conversation goes on as it was. Whether it started over.
    pub fn set_system_prompt(&mut self, text: Option<String>) -> bool {
        self.settle();
        let same = self.system_prompt()
            == if self.preface.is_some() { text.clone() } else { self.with_functions(text.clone()) };
        if !same {
            self.start_over(text);
        }
        !same
    }

    /// The messages, the system prompt among them.
    pub fn messages(&self) -> &[Message] {
        &self.state.messages
    }

    /// Whether a message is a reply that was stopped before its end.
    pub fn is_cancelled(&self, message: usize) -> bool {
        self.state.said.get(message).is_some_and(|said| said.cancelled)
    }

    /// The template in use.
    pub fn template(&self) -> &Template {
        &self.template
    }

    /// The functions that the model may call.
    pub fn functions(&self) -> &BotFunctions {
        &self.functions
    }

    /// What happens when a turn does not fit into the context.
    pub fn overflow(&self) -> Overflow {
        self.overflow
    }

    /// Changes that.
    pub fn set_overflow(&mut self, overflow: Overflow) {
        self.overflow = overflow;
    }

    /// The model.
    pub fn model(&self) -> &NanoModel {
        &self.model
    }

    /// The text that [`reply`](ChatHistory::reply) would continue.
    pub fn prompt(&self) -> Result<String> {
        Ok(Tokenizer::show_control(&self.render(&self.state.messages, true)?))
    }

    fn start_over(&mut self, system: Option<String>) {
        self.state = State::default();
        self.preface = None;
        let described = self.with_functions(system.clone());
        let system = if described != system && self.refuses_system {
            self.preface = Some(self.functions.docs());
            system
        } else {
            described
        };
        if let Some(text) = system {
            self.state.push(Message::system(text));
            self.state.settled = 1;
        }
        self.cut(0);
    }

    /// Starts a reply. An error goes back to `before`.
    pub(crate) fn begin(&mut self, options: &GenerateOptions, before: Before) -> Result<ReplyStream> {
        let asked = Instant::now();
        self.turn = Arc::default();
        self.open = Some((before, self.num_rows()));
        let mut options = options.clone();
        match self.plan(&mut options) {
            Ok((plan, event)) => Ok(self.stream(plan, event, options, asked)),
            Err(error) => {
                self.roll_back(None);
                Err(error)
            }
        }
    }

    /// What is to be fed, with room made for it.
    fn plan(&mut self, options: &mut GenerateOptions) -> Result<(Plan, Option<Event>)> {
        options.check()?;
        let mut next = self.next_prompt()?;
        let tokenizer = self.model.tokenizer();
        let prefix = match next.0.segments.tokens().last() {
            Some(&last) => tokenizer.encode_after(last, &tokenizer.hide_control(&options.reply_prefix))?,
            None => return Err(Error::EmptyPrompt),
        };
        let event = self.make_room(&mut next, prefix.len(), options.max_new_tokens)?;
        let (prompt, text) = next;
        let (told, reading) = self.read_reply(&text, options)?;
        Ok((Plan { prompt, text, prefix, prefix_text: options.reply_prefix.clone(), told, reading }, event))
    }

    fn stream(
        &mut self,
        mut plan: Plan,
        event: Option<Event>,
        mut options: GenerateOptions,
        asked: Instant,
    ) -> ReplyStream {
        let tokens = plan.tokens();
        let mut cache = self.cache.take().unwrap_or_else(|| self.model.cache());
        cache.truncate(common_prefix(cache.tokens(), &tokens));
        if options.functions.is_empty() {
            options.functions = self.functions.clone();
        }
        if !options.ignore_eos {
            options.stop.extend(self.stops().cloned());
            plan.told.stop_tokens.clone_from(&self.stop_tokens);
        }
        let feed = tokens[cache.len()..].to_vec();
        let generation = self.model.0.generate(feed, cache, &options, &plan.told, asked);
        ReplyStream::new(generation, self.model.clone(), plan, Arc::clone(&self.turn), event)
    }

    /// Whether somebody holds a reply that could still join.
    pub(crate) fn is_waiting(&self) -> bool {
        self.open.is_some() && Arc::strong_count(&self.turn) > 1
    }

    /// Takes back a turn whose reply nobody has any more.
    pub(crate) fn settle(&mut self) {
        if self.open.is_some() {
            self.roll_back(None);
        }
    }

    /// Ends a turn as if it had not been. `None`: its cache is lost, or it never had one.
    pub(crate) fn roll_back(&mut self, cache: Option<KvCache>) {
        let (before, rows) = self.open.take().unwrap_or((Before::Answer, usize::MAX));
        match before {
            Before::All(state) => self.state = *state,
            Before::Answer => self.state.truncate_turn(),
        }
        let mut cache = cache.or_else(|| self.cache.take()).unwrap_or_else(|| self.model.cache());
        cache.truncate(common_prefix(cache.tokens(), &self.state.segments.tokens()).min(rows));
        self.cache = Some(cache);
        self.check();
    }

    pub(crate) fn cut(&mut self, rows: usize) {
        self.cache.get_or_insert_with(|| self.model.cache()).truncate(rows);
    }
}

impl std::fmt::Debug for ChatHistory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (messages, tokens, rows) = (&self.state.messages, self.num_tokens(), self.num_rows());
        let mut out = f.debug_struct("ChatHistory");
        out.field("messages", messages).field("tokens", &tokens).field("rows", &rows).finish_non_exhaustive()
    }
}

impl State {
    pub(crate) fn push(&mut self, message: Message) {
        self.messages.push(message);
        self.said.push(Said::default());
    }

    /// Takes back what was appended for a turn.
    pub(crate) fn truncate_turn(&mut self) {
        self.truncate(self.settled);
    }

    /// Keeps the first `len` messages, and no tokens of others.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.messages.truncate(len);
        self.said.truncate(len);
        self.settled = self.settled.min(len);
        if let Some(&start) = self.starts.get(len) {
            self.segments.truncate(start);
            self.starts.truncate(len);
        }
    }
}
