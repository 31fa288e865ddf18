//! Penalties on tokens that were used lately.

use crate::GenerateOptions;
use std::collections::VecDeque;

/// How many of the last tokens penalties look at, prompt and output together.
pub const PENALTY_WINDOW: usize = 256;

/// The tokens of the window with their counts, kept up to date token by token.
pub(crate) struct Penalties {
    repetition: f32,
    presence: f32,
    frequency: f32,
    window: VecDeque<u32>,
    counts: Vec<(u32, u32)>,
}

impl Penalties {
    /// `None` if the options ask for none.
    pub(crate) fn new(options: &GenerateOptions) -> Option<Self> {
        let GenerateOptions { repetition_penalty: repetition, presence_penalty: presence, .. } = *options;
        let frequency = options.frequency_penalty;
        if (repetition, presence, frequency) == (1.0, 0.0, 0.0) {
            return None;
        }
        let window = VecDeque::with_capacity(PENALTY_WINDOW);
        Some(Self { repetition, presence, frequency, window, counts: Vec::with_capacity(PENALTY_WINDOW) })
    }

    /// Moves the window on by one token.
    pub(crate) fn push(&mut self, token: u32) {
        if self.window.len() == PENALTY_WINDOW
            && let Some(old) = self.window.pop_front()
            && let Some(at) = self.counts.iter().position(|&(t, _)| t == old)
        {
            self.counts[at].1 -= 1;
            if self.counts[at].1 == 0 {
                self.counts.swap_remove(at);
            }
        }
        self.window.push_back(token);
        match self.counts.iter_mut().find(|(t, _)| *t == token) {
            Some((_, count)) => *count += 1,
            None => self.counts.push((token, 1)),
        }
    }

    pub(crate) fn apply(&self, logits: &mut [f32]) {
        for &(token, count) in &self.counts {
            let Some(logit) = logits.get_mut(token as usize) else { continue };
            *logit = if *logit > 0.0 { *logit / self.repetition } else { *logit * self.repetition };
            *logit -= self.presence + self.frequency * count as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_penalty_by_its_formula() {
        let options = GenerateOptions {
            repetition_penalty: 2.0,
            presence_penalty: 0.5,
            frequency_penalty: 0.25,
            ..GenerateOptions::default()
        };
        let mut penalties = Penalties::new(&options).unwrap();
        [0, 0, 2].into_iter().for_each(|t| penalties.push(t));
        let mut logits = [4.0, 4.0, -1.0];
        penalties.apply(&mut logits);
        assert_eq!(logits, [4.0 / 2.0 - 0.5 - 2.0 * 0.25, 4.0, -2.0 - 0.5 - 0.25]);
        assert!(Penalties::new(&GenerateOptions::default()).is_none());
    }

    #[test]
    fn the_window_forgets() {
        let options = GenerateOptions { presence_penalty: 1.0, ..GenerateOptions::default() };
        let mut penalties = Penalties::new(&options).unwrap();
        penalties.push(1);
        (0..PENALTY_WINDOW).for_each(|_| penalties.push(0));
        let mut logits = [0.0, 0.0];
        penalties.apply(&mut logits);
        assert_eq!(logits, [-1.0, 0.0]);
    }
}
