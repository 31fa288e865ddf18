//! A conversation with a local model as chats see it: its messages go with tokens and rows, and what is taken back is
//! taken back in all three.

use super::conversation::Conversation;
use crate::chat::{Before, State};
use crate::{ChatHistory, Error, Event, GenerateOptions, Overflow, ReplyStream, Result, Stopper};
use nano_templates::Message;
use serde_json::Value;

/// A [`ChatHistory`] for a [`Chat`](crate::Chat): only what is new in a round is fed to the model. The tools that it offers
/// become those of the chat.
pub struct HistoryConversation {
    history: ChatHistory,
    answer: Option<ReplyStream>,
    /// The conversation that the answer is made in, where a hook says what is asked in place of the messages.
    aside: Option<ChatHistory>,
    marked: Option<Marked>,
}

/// What a conversation was.
struct Marked {
    state: State,
    /// Rows that are still as they were, as far as is known.
    rows: usize,
}

impl HistoryConversation {
    /// The conversation goes on where it is.
    pub fn new(history: ChatHistory) -> Self {
        Self { history, answer: None, aside: None, marked: None }
    }

    /// The conversation itself. An answer under way is given up.
    pub fn into_history(mut self) -> ChatHistory {
        self.give_up();
        self.history
    }

    /// Ends the answer, and keeps what rows it left.
    fn give_up(&mut self) {
        if let Some(stream) = self.answer.take()
            && self.aside.take().is_none()
        {
            self.history.roll_back(Some(stream.into_cache()));
        }
    }

    fn note(&mut self, event: Result<Event>) -> Result<Event> {
        match &event {
            Ok(Event::Done(output)) if self.aside.take().is_some() => {
                self.answer = None;
                self.history.append_message(output.message.clone());
                self.history.state.settled = self.history.messages().len();
            }
            Err(_) if self.aside.take().is_some() => self.answer = None,
            Ok(Event::Overflow { policy: Overflow::Shift, .. }) => self.rows_moved(),
            Ok(Event::Done(_)) | Err(_) => {
                if let Some(stream) = self.answer.take() {
                    let joined = self.history.append_reply(stream).map(drop);
                    if event.is_ok() {
                        joined?;
                    }
                }
            }
            Ok(_) => {}
        }
        event
    }

    /// Rows that moved up are not those that were there before, even where their tokens are.
    fn rows_moved(&mut self) {
        let Some(Marked { state, rows }) = &mut self.marked else { return };
        let first = state.messages.iter().take_while(|m| m.role == "system").count();
        *rows = state.starts.get(first).map_or(0, |&start| start.min(*rows));
    }
}

impl Conversation for HistoryConversation {
    fn messages(&self) -> &[Message] {
        self.history.messages()
    }

    fn append_message(&mut self, message: Message) {
        self.give_up();
        self.history.append_message(message);
    }

    fn set_messages(&mut self, messages: Vec<Message>) {
        self.give_up();
        let alike = self.history.messages().iter().zip(&messages).take_while(|(old, new)| old == new).count();
        self.history.pop(self.history.messages().len() - alike);
        messages.into_iter().skip(alike).for_each(|message| self.history.append_message(message));
        self.history.state.settled = self.history.messages().len();
    }

    fn mark(&mut self) {
        self.give_up();
        self.marked = Some(Marked { state: self.history.state.clone(), rows: self.history.num_rows() });
    }

    fn take_back(&mut self) {
        self.give_up();
        if let Some(Marked { state, rows }) = &self.marked {
            self.history.open = Some((Before::All(Box::new(state.clone())), *rows));
            self.history.roll_back(None);
        }
    }

    fn begin(&mut self, prompt: Option<Vec<Message>>, tools: &[Value], options: &GenerateOptions) -> Result<()> {
        self.give_up();
        if self.history.tools() != tools {
            self.history.set_tools(tools.to_vec())?;
        }
        self.answer = Some(match prompt {
            None => self.history.generate(options)?,
            Some(prompt) => {
                let mut aside = self.history.fork();
                aside.put_messages(prompt);
                let answer = aside.generate(options)?;
                self.aside = Some(aside);
                answer
            }
        });
        Ok(())
    }

    fn next(&mut self) -> Option<Result<Event>> {
        let event = self.answer.as_mut()?.next().unwrap_or(Err(Error::Stopped));
        Some(self.note(event))
    }

    fn poll(&mut self) -> Option<Result<Event>> {
        let event = self.answer.as_mut()?.poll()?;
        Some(self.note(event))
    }

    fn stopper(&self) -> Option<Stopper> {
        self.answer.as_ref().map(ReplyStream::stopper)
    }

    fn history(&mut self) -> Option<&mut ChatHistory> {
        self.give_up();
        Some(&mut self.history)
    }
}

impl std::fmt::Debug for HistoryConversation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HistoryConversation").field("history", &self.history).finish_non_exhaustive()
    }
}
