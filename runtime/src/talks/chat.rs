//! A chat: a conversation, the functions that its model may call, and the rules of its rounds.

use super::conversation::{Conversation, EngineConversation};
use super::history::HistoryConversation;
use super::hooks::ChatHooks;
use super::round::{Progress, Round, RoundEvent};
use super::shared::SharedMessages;
use crate::{BotFunctions, ChatHistory, Engine, GenerateOptions, Result, Stopper};
use nano_templates::Message;
use std::sync::Arc;

/// Rounds of calls if nothing else is said.
const ROUNDS: usize = 8;

/// A conversation whose model calls functions in its own format.
///
/// A [`round`](Chat::round) is the user's words, an answer, the functions that it calls, all at once, and so on until an
/// answer calls none. A round that fails, or is dropped before its end, leaves the conversation as it was before it.
///
/// ```
/// use nano_runtime::{Answer, BotFunction, BotFunctions, Chat, Engine, Event, Finish, Message, Output, Request, Stats};
/// use std::sync::Arc;
///
/// /// Calls `battery` once, and then says what it was told.
/// struct Script;
///
/// impl Engine for Script {
///     fn name(&self) -> &str {
///         "script"
///     }
///     fn max_context_size(&self) -> usize {
///         4096
///     }
///     fn prompt_len(&self, messages: &[Message], _: &[serde_json::Value]) -> nano_runtime::Result<usize> {
///         Ok(messages.len())
///     }
///     fn stream(&self, request: &Request) -> nano_runtime::Result<Box<dyn Answer>> {
///         let message = match request.messages.last() {
///             Some(result) if result.role == "tool" => {
///                 Message::assistant(format!("It is at {} %.", result.content.text()))
///             }
///             _ => {
///                 let function = serde_json::json!({"name": "battery", "arguments": "{}"});
///                 let call = serde_json::json!({"id": "a1b2c3d4e", "type": "function", "function": function});
///                 Message { tool_calls: Some(vec![call]), ..Message::assistant("") }
///             }
///         };
///         let (sink, answer) = nano_runtime::answer();
///         sink.push(Ok(Event::Done(Box::new(Output::elsewhere(message, Finish::Stop, Stats::default())))));
///         Ok(Box::new(answer))
///     }
/// }
///
/// let battery = BotFunction::closure("battery", "The battery's charge in percent.", [], || 87);
/// let mut chat = Chat::new(Arc::new(Script)).with_functions(BotFunctions::new([battery])?);
/// assert_eq!(chat.ask("How full is the battery?")?, "It is at 87 %.");
/// let roles: Vec<&str> = chat.messages().iter().map(|message| message.role.as_str()).collect();
/// assert_eq!(roles, ["user", "assistant", "tool", "assistant"]);
/// # Ok::<(), nano_runtime::Error>(())
/// ```
///
/// A program that must not wait, such as a robot's control loop, [starts](Chat::start) a round and
/// [polls](Chat::poll) the chat.
pub struct Chat {
    setup: Setup,
    options: GenerateOptions,
    /// A round is under way.
    round: Option<Progress>,
    /// The conversation is marked as it was before what was appended last.
    marked: bool,
}

/// What a round works with.
pub(super) struct Setup {
    pub(super) talk: Box<dyn Conversation>,
    pub(super) functions: BotFunctions,
    pub(super) hooks: Box<dyn ChatHooks>,
    pub(super) max_rounds: Option<usize>,
    pub(super) retries: usize,
    pub(super) shared: SharedMessages,
}

impl Chat {
    /// A new conversation, answered by an engine.
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        Self::over(EngineConversation::new(engine))
    }

    /// A conversation with a local model. It goes on where it is, and only what is new is fed to the model.
    pub fn of(history: ChatHistory) -> Self {
        Self::over(HistoryConversation::new(history))
    }

    /// Any conversation.
    pub fn over(conversation: impl Conversation + 'static) -> Self {
        let setup = Setup {
            talk: Box::new(conversation),
            functions: BotFunctions::default(),
            hooks: Box::new(()),
            max_rounds: Some(ROUNDS),
            retries: 1,
            shared: SharedMessages::default(),
        };
        Self { setup, options: GenerateOptions::default(), round: None, marked: false }
    }

    /// Starts over with this system prompt.
    pub fn with_system_prompt(mut self, text: impl Into<String>) -> Self {
        self.set_system_prompt(Some(text.into()));
        self
    }

    /// Appends messages, such as a part of another conversation. They stay, whatever becomes of rounds.
    pub fn with_messages(mut self, messages: impl IntoIterator<Item = Message>) -> Self {
        let messages = self.messages().iter().cloned().chain(messages).collect();
        self.set_messages(messages);
        self
    }

    /// The functions that the model may call.
    pub fn with_functions(mut self, functions: BotFunctions) -> Self {
        self.set_functions(functions);
        self
    }

    /// What looks into the rounds.
    pub fn with_hooks(mut self, hooks: impl ChatHooks + 'static) -> Self {
        self.setup.hooks = Box::new(hooks);
        self
    }

    /// Answers of a round that may make calls; 8 if this is not called, any number with `None`. After as many, the model is
    /// asked for one last answer without calls.
    pub fn with_max_function_rounds(mut self, most: Option<usize>) -> Self {
        self.setup.max_rounds = most;
        self
    }

    /// Times in a row that the model may try again after calls that failed; 1 if this is not called. Then it is asked for
    /// one last answer without calls. It is told why calls failed in any case.
    pub fn with_retry_attempts(mut self, attempts: usize) -> Self {
        self.setup.retries = attempts;
        self
    }

    /// How to answer, where a round says nothing else.
    pub fn with_options(mut self, options: GenerateOptions) -> Self {
        self.options = options;
        self
    }

    /// Begins a round with what the user says.
    pub fn round(&mut self, text: impl Into<String>) -> Result<Round<'_>> {
        self.start(text)?;
        self.under_way()
    }

    /// Begins a round on what was [appended](Chat::append_message), with options of its own. A choice of tools
    /// ([`ToolChoice`](crate::ToolChoice)) that forces a call does so in the round's first answer.
    pub fn answer(&mut self, options: &GenerateOptions) -> Result<Round<'_>> {
        self.start_answer(options)?;
        self.under_way()
    }

    /// Waits for a whole round, and gives the text of its last answer.
    pub fn ask(&mut self, text: impl Into<String>) -> Result<String> {
        Ok(self.round(text)?.wait()?.text)
    }

    /// Begins a round, which is read with [`poll`](Chat::poll) or [`next_event`](Chat::next_event): for programs that do
    /// not want to hold a [`Round`] beside the chat. Otherwise it is one. Whatever else is done to the chat before its end
    /// takes it back.
    ///
    /// ```no_run
    /// use nano_runtime::{Chat, Event, RoundEvent};
    ///
    /// /// What a robot does in each cycle of its control loop, besides steering.
    /// fn talk(chat: &mut Chat, heard: Option<String>, obstacle: bool) -> nano_runtime::Result<()> {
    ///     if let Some(words) = heard.filter(|_| !chat.is_busy()) {
    ///         chat.start(words)?;
    ///     }
    ///     if let Some(stopper) = chat.stopper().filter(|_| obstacle) {
    ///         stopper.stop();
    ///     }
    ///     while let Some(event) = chat.poll() {
    ///         if let RoundEvent::Answer(Event::Text(text)) = event? {
    ///             print!("{text}");
    ///         }
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub fn start(&mut self, text: impl Into<String>) -> Result<()> {
        self.append_message(Message::user(text));
        let options = self.options.clone();
        self.start_answer(&options)
    }

    /// The same on what was appended, with options of its own.
    pub fn start_answer(&mut self, options: &GenerateOptions) -> Result<()> {
        if self.round.is_some() {
            self.give_up();
        }
        self.mark();
        let begun = Progress::begin(&mut self.setup, options);
        match begun {
            Ok(progress) => self.round = Some(progress),
            Err(error) => {
                self.give_up();
                return Err(error);
            }
        }
        Ok(())
    }

    /// The next event of the round, if one is there: never waits, neither for the model nor for functions.
    pub fn poll(&mut self) -> Option<Result<RoundEvent>> {
        self.advance(false)
    }

    /// Waits for the next event of the round. `None`: no round is under way.
    pub fn next_event(&mut self) -> Option<Result<RoundEvent>> {
        self.advance(true)
    }

    /// Whether a round is under way.
    pub fn is_busy(&self) -> bool {
        self.round.is_some()
    }

    /// A handle that stops the round under way from another thread, as [`Round::stop`] does.
    pub fn stopper(&self) -> Option<Stopper> {
        self.round.as_ref().map(Progress::stopper)
    }

    /// Takes back the round under way, and what was appended for one.
    pub fn give_up(&mut self) {
        self.round = None;
        if std::mem::take(&mut self.marked) {
            self.setup.talk.take_back();
        }
    }

    /// The messages, the system prompt among them.
    pub fn messages(&self) -> &[Message] {
        self.setup.talk.messages()
    }

    /// The messages, for functions that this chat calls.
    pub fn shared_messages(&self) -> SharedMessages {
        self.setup.shared.clone()
    }

    /// Appends a message, for the round that follows it: it is taken back if that round is.
    pub fn append_message(&mut self, mut message: Message) {
        self.end_round();
        self.mark();
        self.setup.hooks.add(&mut message);
        self.setup.talk.append_message(message);
    }

    /// Puts other messages in place of those there are.
    pub fn set_messages(&mut self, messages: Vec<Message>) {
        self.end_round();
        self.setup.talk.set_messages(messages);
        self.marked = false;
    }

    /// The same for the round that follows: those there were come back if that round is taken back.
    pub fn try_messages(&mut self, messages: Vec<Message>) {
        self.end_round();
        self.mark();
        self.setup.talk.set_messages(messages);
    }

    /// Starts over with another system prompt, or none.
    pub fn set_system_prompt(&mut self, text: Option<String>) {
        self.end_round();
        match self.setup.talk.history() {
            Some(history) => {
                history.set_system_prompt(text);
                history.reset();
            }
            None => self.setup.talk.set_messages(text.map(Message::system).into_iter().collect()),
        }
        self.marked = false;
    }

    /// Starts over with the system prompt alone.
    pub fn reset(&mut self) {
        let system = self.messages().iter().take_while(|message| message.role == "system").cloned().collect();
        self.set_messages(system);
    }

    /// Takes back the last exchange: the user's last message and all that follows it, which it gives back.
    pub fn undo(&mut self) -> Vec<Message> {
        self.end_round();
        let mut messages = self.messages().to_vec();
        let Some(last) = messages.iter().rposition(|message| message.role == "user") else { return Vec::new() };
        let first = messages[..last].iter().rposition(|message| message.role != "user").map_or(0, |index| index + 1);
        let undone = messages.split_off(first);
        self.set_messages(messages);
        undone
    }

    /// The functions that the model may call.
    pub fn functions(&self) -> &BotFunctions {
        &self.setup.functions
    }

    /// Offers other functions, from the next round on.
    pub fn set_functions(&mut self, functions: BotFunctions) {
        self.end_round();
        self.setup.functions = functions;
    }

    /// How to answer, where a round says nothing else.
    pub fn options(&self) -> &GenerateOptions {
        &self.options
    }

    /// The same, to be changed. A round under way goes on as it began.
    pub fn options_mut(&mut self) -> &mut GenerateOptions {
        &mut self.options
    }

    /// What the chat talks through.
    pub fn conversation(&self) -> &dyn Conversation {
        &*self.setup.talk
    }

    /// The conversation with a local model, if that is what the chat talks through. A round under way is taken back.
    pub fn history(&mut self) -> Option<&mut ChatHistory> {
        self.end_round();
        self.marked = false;
        self.setup.talk.history()
    }

    fn under_way(&mut self) -> Result<Round<'_>> {
        let stopper = self.stopper().ok_or(crate::Error::Stopped)?;
        Ok(Round::new(self, stopper))
    }

    fn mark(&mut self) {
        if !std::mem::replace(&mut self.marked, true) {
            self.setup.talk.mark();
        }
    }

    fn end_round(&mut self) {
        if self.round.is_some() {
            self.give_up();
        }
    }

    fn advance(&mut self, wait: bool) -> Option<Result<RoundEvent>> {
        let progress = self.round.as_mut()?;
        match progress.next(&mut self.setup, wait) {
            Ok(event) => {
                if progress.is_over() {
                    self.round = None;
                    self.marked = false;
                }
                event.map(Ok)
            }
            Err(error) => {
                self.give_up();
                Some(Err(error))
            }
        }
    }
}

impl std::fmt::Debug for Chat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = f.debug_struct("Chat");
        out.field("messages", &self.messages()).field("functions", self.functions()).finish_non_exhaustive()
    }
}
