//! What a conversation should be: messages with the tokens of their bodies, replies as they were sampled.

use crate::CONTEXT;
use crate::common::*;
use nano_runtime::{Finish, GenerateOptions, Output};

#[derive(Clone, Debug)]
pub struct Message {
    pub role: &'static str,
    body: Vec<u32>,
}

impl Message {
    fn tokens(&self) -> Vec<u32> {
        [&[START], &bytes(self.role)[..], &bytes("\n"), &self.body, &[END, u32::from(b'\n')]].concat()
    }

    /// Whether some tokens may be this message's: its own, as far as they go.
    pub fn is_in(&self, own: &[u32]) -> bool {
        self.tokens().starts_with(own) || own.starts_with(&self.tokens()[..self.tokens().len() - 2])
    }
}

#[derive(Clone, Debug, Default)]
pub struct Expected {
    pub messages: Vec<Message>,
    /// Messages went for want of room; which, is worked out when the prompt is.
    pub dropped: bool,
}

impl Expected {
    pub fn new(system: Option<&str>) -> Self {
        let mut new = Self::default();
        if let Some(text) = system {
            new.push("system", text);
        }
        new
    }

    pub fn push(&mut self, role: &'static str, text: &str) {
        self.messages.push(Message { role, body: bytes(text) });
    }

    pub fn reply(&mut self, output: &Output, options: &GenerateOptions) {
        self.prompt(options);
        let body = kept(output, options);
        self.messages.push(Message { role: "assistant", body });
    }

    pub fn edit(&mut self, message: usize, text: &str) {
        self.messages[message].body = bytes(text);
    }

    pub fn reset(&mut self) {
        let system = self.messages.iter().take_while(|m| m.role == "system").count();
        self.messages.truncate(system);
    }

    /// All messages' tokens.
    pub fn all(&self) -> Vec<u32> {
        self.messages.iter().flat_map(Message::tokens).collect()
    }

    /// The tokens before the first that is sampled, once messages went that had to.
    pub fn prompt(&mut self, options: &GenerateOptions) -> Vec<u32> {
        if std::mem::take(&mut self.dropped) {
            self.overflow(options);
        }
        let mut all = self.all();
        all.extend(tokens("<|im_start|>assistant\n"));
        all.extend(bytes(&options.reply_prefix));
        all
    }

    /// Takes away the oldest exchanges until half of the context is free.
    fn overflow(&mut self, options: &GenerateOptions) {
        let system = self.messages.iter().take_while(|m| m.role == "system").count();
        loop {
            // An exchange ends before a user who speaks after somebody else.
            let next = (system + 1..self.messages.len())
                .find(|&i| self.messages[i].role == "user" && self.messages[i - 1].role != "user");
            match next {
                Some(next) if self.prompt(options).len() > CONTEXT / 2 => drop(self.messages.drain(system..next)),
                _ => return,
            }
        }
    }
}

/// The tokens that should stay of a reply.
fn kept(output: &Output, options: &GenerateOptions) -> Vec<u32> {
    let prefix = bytes(&options.reply_prefix);
    let mut tokens = output.tokens.clone();
    let mut left = output.text.strip_prefix(&options.reply_prefix).expect("the reply's prefix");
    if output.stop_token.is_some() {
        tokens.pop();
    } else if output.finish == Finish::Stop {
        // A stop string: whole tokens as long as their text is shown, then the text that is left.
        let whole = tokens.iter().take_while(|&&token| {
            let text = match token {
                256..=259 => String::new(),
                260.. => WORDS[token as usize - 260].to_owned(),
                byte => char::from(byte as u8).to_string(),
            };
            let rest = left.strip_prefix(&text);
            left = rest.unwrap_or(left);
            rest.is_some()
        });
        let whole = whole.count();
        tokens.truncate(whole);
        tokens.extend(bytes(left));
    }
    [prefix, tokens].concat()
}
