//! Where a program looks into the rounds of a chat, and what it may change there.

use crate::{CallReport, ToolCall};
use nano_templates::Message;

/// What a chat asks of the program that holds it. Every method has a default that changes nothing.
///
/// Hooks run on the thread that reads the round, between two of its events; nothing else of the round goes on meanwhile,
/// but functions that were started do.
///
/// ```
/// use nano_runtime::{CallReport, ChatHooks, ToolCall};
///
/// /// Lets nobody drive, and writes down what failed.
/// #[derive(Default)]
/// struct Careful {
///     failed: Vec<String>,
/// }
///
/// impl ChatHooks for Careful {
///     fn before_call(&mut self, call: &ToolCall) -> Option<Result<Option<String>, String>> {
///         (call.name == "drive").then(|| Err("driving is not allowed now".into()))
///     }
///
///     fn after_call(&mut self, report: &mut CallReport) {
///         self.failed.extend(report.result.as_ref().err().cloned());
///     }
/// }
/// ```
pub trait ChatHooks: Send {
    /// What the model is asked with in place of the conversation: a shorter one, one with a note about the time. The
    /// conversation stays what it is. Asked before every answer.
    fn prompt(&mut self, messages: &[Message]) -> Option<Vec<Message>> {
        let _ = messages;
        None
    }

    /// A message is about to join the conversation: the user's, or the result of a call.
    fn add(&mut self, message: &mut Message) {
        let _ = message;
    }

    /// An answer joined the conversation, with the calls that it makes. It may yet be taken back with its round.
    fn answered(&mut self, message: &Message) {
        let _ = message;
    }

    /// A function is about to be called. What this returns, a result or an error, stands in for the call, which is not
    /// made: for permissions and for tests.
    fn before_call(&mut self, call: &ToolCall) -> Option<Result<Option<String>, String>> {
        let _ = call;
        None
    }

    /// A call came to its end, or was refused. Whether it failed is decided after this.
    fn after_call(&mut self, report: &mut CallReport) {
        let _ = report;
    }

    /// A call failed. `attempt` counts the answers in a row with calls that failed: it is 1 for the first. `None` leaves
    /// it to [`Chat::with_retry_attempts`](crate::Chat::with_retry_attempts). Where several calls of an answer failed,
    /// one that is to be tried again outweighs those that are not.
    fn on_error(&mut self, report: &CallReport, attempt: usize) -> Option<AfterError> {
        let _ = (report, attempt);
        None
    }
}

/// No hooks.
impl ChatHooks for () {}

/// What follows a call that failed. In each case but the last the model is told why it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterError {
    /// The model goes on, and may call again.
    Retry,
    /// The model gives its last answer of the round, without calls.
    LastAnswer,
    /// The round ends with [`Error::Call`](crate::Error::Call), and is taken back.
    Fail,
}
