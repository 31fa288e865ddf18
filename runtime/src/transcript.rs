//! What was sampled or spliced in, and the text it makes: stop tokens, stop strings and limits. Knows no cache and no step.

use crate::constrain::Masks;
use crate::sample::{Logits, Sampler};
use crate::stop::StopStrings;
use crate::{Finish, GenerateOptions, Result};
use nano_kernels::Pick;
use nano_models::{Detokenizer, Tokenizer};
use std::time::Duration;

/// The tokens and the text of one generation.
pub(crate) struct Transcript {
    tokenizer: Tokenizer,
    sampler: Sampler,
    /// What the sampled tokens must look like.
    masks: Option<Masks>,
    detokenizer: Detokenizer,
    strings: StopStrings,
    stop_tokens: Vec<u32>,
    /// Tokens that are never sampled; then the same, and those that may not come yet.
    forbidden: Vec<u32>,
    forbidden_early: Vec<u32>,
    min: usize,
    max: usize,
    tokens: Vec<u32>,
    /// How many of them were spliced in.
    spliced: usize,
    /// After each token: how long the decoded text was.
    ends: Vec<usize>,
    /// Text that may be shown.
    text: String,
}

/// What ends a generation besides its length.
#[derive(Default)]
pub(crate) struct Stops {
    pub(crate) tokens: Vec<u32>,
    pub(crate) strings: Vec<String>,
}

/// What a conversation asks of a generation besides its options.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    /// They come besides those of the model and of the options.
    pub(crate) stop_tokens: Vec<u32>,
    /// Tokens that are never sampled.
    pub(crate) forbidden: Vec<u32>,
    /// Control tokens are text, which the conversation reads.
    pub(crate) spelled: bool,
}

/// What a token led to.
#[derive(Debug)]
pub(crate) struct Added {
    /// Text to show.
    pub(crate) shown: String,
    /// What was decoded and stands: some of it may be held back still.
    pub(crate) piece: String,
    /// How the generation ends, if it does.
    pub(crate) ending: Option<Ending>,
}

/// What remains of the tokens at the end.
#[derive(Debug, PartialEq)]
pub(crate) struct Ending {
    pub(crate) finish: Finish,
    /// How many sampled tokens stay.
    pub(crate) keep: usize,
    /// The start of the token that is cut, up to the stop string.
    pub(crate) again: String,
    /// The stop token; counted by `keep`.
    pub(crate) stop_token: Option<u32>,
}

impl Transcript {
    /// `recent` are the tokens before the first one sampled. The stop strings must not be empty.
    pub(crate) fn new(
        tokenizer: &Tokenizer,
        options: &GenerateOptions,
        Stops { tokens: stop_tokens, strings }: Stops,
        masks: Option<Masks>,
        recent: &[u32],
        told: &Told,
    ) -> Self {
        let detokenizer = tokenizer.detokenizer_inside();
        let mut transcript = Self {
            tokenizer: tokenizer.clone(),
            sampler: Sampler::new(options),
            masks,
            detokenizer: if told.spelled { detokenizer.spelling_control() } else { detokenizer },
            strings: StopStrings::new(strings),
            forbidden: told.forbidden.clone(),
            forbidden_early: [&stop_tokens[..], &told.forbidden].concat(),
            stop_tokens,
            min: options.min_new_tokens,
            max: options.max_new_tokens,
            tokens: Vec::new(),
            spliced: 0,
            ends: Vec::new(),
            text: String::new(),
        };
        let start = recent.len().saturating_sub(crate::PENALTY_WINDOW);
        recent[start..].iter().for_each(|&token| transcript.saw(token));
        transcript
    }

    /// What the next sample needs to know of `vocab` logits.
    pub(crate) fn needs(&self, vocab: usize) -> Pick {
        self.sampler.needs(vocab, self.banned(), self.masks.is_some())
    }

    /// Whether a token may follow the next one, as far as the limit goes.
    pub(crate) fn wants_more(&self) -> bool {
        self.tokens.len() + 1 < self.max
    }

    fn banned(&self) -> &[u32] {
        if self.tokens.len() < self.min { &self.forbidden_early } else { &self.forbidden }
    }

    /// Samples a token, if one can come next.
    pub(crate) fn sample(&mut self, logits: Logits<'_>) -> Result<Added> {
        let early = self.tokens.len() < self.min;
        let banned: &[u32] = if early { &self.forbidden_early } else { &self.forbidden };
        let mask = match &mut self.masks {
            None => None,
            Some(masks) => {
                let mask = masks.mask()?;
                let may_end = mask.settle(&self.stop_tokens, banned);
                match mask.is_empty() {
                    false => Some(&mask.words[..]),
                    true if may_end => return Ok(self.stop(None)),
                    true => return Err(masks.dead_end()),
                }
            }
        };
        let token = self.sampler.sample(logits, banned, mask)?;
        if self.stop_tokens.contains(&token) {
            self.note(token);
            return Ok(self.stop(Some(token)));
        }
        let mut added = self.push(token);
        if let Some(masks) = &mut self.masks {
            match &mut added.ending {
                None => masks.push(token)?,
                // What is complete was not cut off.
                Some(ending) if ending.finish == Finish::Length => {
                    masks.push(token)?;
                    ending.finish = if masks.is_complete() { Finish::Stop } else { Finish::Length };
                }
                Some(_) => {}
            }
        }
        Ok(added)
    }

    /// The reply is as the model, or what it must look like, has it end.
    fn stop(&mut self, token: Option<u32>) -> Added {
        let shown = self.text.len();
        let ending = Some(self.close(Finish::Stop, token));
        Added { shown: self.text[shown..].to_owned(), piece: String::new(), ending }
    }

    /// Whether nothing more can be sampled.
    pub(crate) fn is_complete(&self) -> bool {
        self.masks.as_ref().is_some_and(Masks::is_complete)
    }

    /// What masks took: all, and the one that took longest.
    pub(crate) fn mask_times(&self) -> (Duration, Duration) {
        self.masks.as_ref().map_or((Duration::ZERO, Duration::ZERO), Masks::times)
    }

    /// Adds text that is not the model's. Returns it as far as it may be shown, its tokens, and how the generation ends,
    /// if it does: at a stop string or the limit.
    pub(crate) fn splice(&mut self, text: &str) -> Result<(String, Vec<u32>, Option<Ending>)> {
        let hidden = self.tokenizer.hide_control(text);
        let tokens = match self.tokens.last() {
            Some(&last) => self.tokenizer.encode_after(last, &hidden)?,
            None => self.tokenizer.encode_next(&hidden)?,
        };
        let before = self.tokens.len();
        let mut shown = String::new();
        let mut ending = None;
        for token in tokens {
            let added = self.push(token);
            shown += &added.shown;
            ending = added.ending;
            if ending.is_some() {
                break;
            }
        }
        self.spliced += self.tokens.len() - before;
        Ok((shown, self.tokens[before..].to_vec(), ending))
    }

    /// Adds a token that is text.
    fn push(&mut self, token: u32) -> Added {
        self.note(token);
        let (shown, start) = (self.text.len(), self.decoded());
        let mut piece = self.detokenizer.push(token);
        let ending = if self.add(&piece) {
            Some(self.cut())
        } else if self.tokens.len() == self.max {
            Some(self.close(Finish::Length, None))
        } else {
            None
        };
        if ending.is_some() {
            // Text that a stop string cut away does not stand.
            piece.truncate(self.text.len().saturating_sub(start));
        }
        Added { shown: self.text[shown..].to_owned(), piece, ending }
    }

    fn note(&mut self, token: u32) {
        self.saw(token);
        self.tokens.push(token);
        self.ends.push(self.decoded());
    }

    /// Ends the text from outside; returns what is left to show.
    pub(crate) fn end(&mut self, finish: Finish) -> (String, Ending) {
        let shown = self.text.len();
        let ending = self.close(finish, None);
        (self.text[shown..].to_owned(), ending)
    }

    /// Releases what was held back, unless the last bytes complete a stop string.
    fn close(&mut self, finish: Finish, stop_token: Option<u32>) -> Ending {
        let tail = self.detokenizer.finish();
        if self.add(&tail) {
            return self.cut();
        }
        self.text += &self.strings.release();
        Ending { finish, keep: self.tokens.len(), again: String::new(), stop_token }
    }

    pub(crate) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Tokens that the model did not sample.
    pub(crate) fn spliced(&self) -> usize {
        self.spliced
    }

    pub(crate) fn into_parts(self) -> (String, Vec<u32>) {
        (self.text, self.tokens)
    }

    fn saw(&mut self, token: u32) {
        if !self.tokenizer.is_control(token) {
            self.sampler.saw(token);
        }
    }

    fn decoded(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Adds decoded text of the last token; true if a stop string is complete.
    fn add(&mut self, piece: &str) -> bool {
        if let Some(end) = self.ends.last_mut() {
            *end += piece.len();
        }
        if self.tokens.len() <= self.min {
            self.text += piece;
            return false;
        }
        let scan = self.strings.push(piece);
        self.text += &scan.free;
        scan.hit
    }

    /// A stop string begins where the text ends: keep the tokens before the one that holds its first byte.
    fn cut(&self) -> Ending {
        let end = self.text.len();
        let mut keep = self.ends.partition_point(|&e| e <= end);
        let start = |keep: usize| if keep == 0 { 0 } else { self.ends[keep - 1] };
        let from = start(keep);
        // Tokens that gave no text of their own hold the first bytes of the character that follows.
        while keep > 0 && start(keep - 1) == from && !self.tokenizer.is_control(self.tokens[keep - 1]) {
            keep -= 1;
        }
        Ending { finish: Finish::Stop, keep, again: self.text[from..].to_owned(), stop_token: None }
    }
}
