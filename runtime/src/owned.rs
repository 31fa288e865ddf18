//! Which tokens and which rows of the cache are whose: every message owns a stretch of the conversation's tokens, and
//! together they own all.

use crate::cache::KvCache;
use crate::chat::{ChatHistory, State};
use crate::segments::{Prompt, common_text};
use std::ops::Range;

impl ChatHistory {
    /// The tokens of a message: those that the template writes for it among them. Empty for a message that was not
    /// fed yet, and for one that does not exist.
    pub fn message_tokens(&self, message: usize) -> Vec<u32> {
        self.state.segments.tokens()[self.owned(message)].to_vec()
    }

    /// The rows of the cache that a message has: those of its tokens that were fed. Empty where there are none.
    pub fn message_rows(&self, message: usize) -> Range<usize> {
        let (tokens, rows) = (self.owned(message), self.num_rows());
        tokens.start.min(rows)..tokens.end.min(rows)
    }

    /// The numbers of a message's tokens.
    fn owned(&self, message: usize) -> Range<usize> {
        let (starts, all) = (&self.state.starts, self.num_tokens());
        let start = |message: usize| starts.get(message).copied().unwrap_or(all);
        start(message)..start(message + 1)
    }

    /// Tokens of the conversation so far: those of messages that were replied to, and of the replies.
    pub fn num_tokens(&self) -> usize {
        self.state.segments.len()
    }

    /// Tokens that have a row in the cache.
    pub fn num_rows(&self) -> usize {
        self.cache.as_ref().map_or(0, KvCache::len)
    }

    /// Tokens that have none: the last one sampled, and what a failed turn or an edit left to be fed again.
    pub fn num_pending(&self) -> usize {
        self.num_tokens() - self.num_rows()
    }

    /// Notes where each message of a prompt begins that is to be replied to, and where the reply begins.
    pub(crate) fn find_starts(&mut self, prompt: &mut Prompt, text: &str) {
        let mut known = std::mem::take(&mut self.state.starts);
        // Those within what was taken over stay.
        known.truncate(known.iter().take_while(|&&start| start < prompt.kept).count());
        self.state.starts = self.starts(prompt, text, known);
    }

    /// Where each message of a prompt begins, and what comes after the last: the numbers of their first tokens, of
    /// which some are known. A message begins where the prompt differs from what the messages before it give by
    /// themselves.
    pub(crate) fn starts(&self, prompt: &mut Prompt, text: &str, known: Vec<usize>) -> Vec<usize> {
        let messages = &self.state.messages;
        let mut starts = known;
        let mut at = 0;
        for index in starts.len()..=messages.len() {
            if index > 0 {
                let before = self.render(&messages[..index], false).unwrap_or_default();
                at = at.max(common_text(text, &before));
            }
            let least = starts.last().copied().unwrap_or(0);
            // A tokenizer that fails here would have failed before.
            let start = prompt.token_at(at, self.model.tokenizer()).unwrap_or(least);
            starts.push(start.max(least));
        }
        starts
    }

    /// The cache's rows are those of the conversation's first tokens, and messages own all of these.
    pub(crate) fn check(&self) {
        if cfg!(debug_assertions) {
            let State { messages, said, segments, starts, settled } = &self.state;
            let tokens = segments.tokens();
            debug_assert_eq!(tokens.len(), segments.len());
            debug_assert!(self.cache.as_ref().is_none_or(|cache| tokens.starts_with(cache.tokens())));
            debug_assert!(messages.len() == said.len() && *settled <= messages.len());
            debug_assert!(starts.len() <= messages.len() && starts.is_sorted());
            debug_assert!(starts.last().is_none_or(|&last| last <= tokens.len()));
            debug_assert_eq!(starts.first().copied().unwrap_or(tokens.len()), 0, "the first message begins it all");
        }
    }
}
