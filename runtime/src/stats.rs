//! What a generation took, under NanoLLM's names.

/// Counts and times of one generation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stats {
    /// Tokens of the prompt that were fed: those that the cache did not hold yet.
    pub input_tokens: usize,
    /// Tokens of the sequence that the cache held already.
    pub reused_tokens: usize,
    /// Tokens of the reply: those sampled, a stop token included, and those spliced in.
    pub output_tokens: usize,
    /// Tokens of function results among them.
    pub spliced_tokens: usize,
    /// Functions called in the middle of the reply.
    pub function_calls: usize,
    /// Seconds that the reply waited for them.
    pub function_time: f64,
    /// Seconds from the start of the first step with rows of the prompt to the first sampled token.
    pub prefill_time: f64,
    /// Seconds from the first sampled token to the last, less the time that was spent waiting for functions.
    pub decode_time: f64,
    /// Seconds from the request to the first sampled token: waiting and tokenizing included.
    pub first_token_time: f64,
    /// Seconds spent on finding out which tokens a constraint allows; most of it while steps ran.
    pub mask_time: f64,
    /// The most that it took for one token.
    pub worst_mask_time: f64,
    /// Bytes of weights that a decode step reads.
    pub bytes_per_token: u64,
    /// Kernels that a decode step launches on a GPU; 0 elsewhere.
    pub launches_per_token: u64,
}

impl Stats {
    /// Prompt tokens fed per second.
    pub fn prefill_rate(&self) -> f64 {
        rate(self.input_tokens as f64, self.prefill_time)
    }

    /// Tokens sampled per second after the first, which belongs to the prefill.
    pub fn decode_rate(&self) -> f64 {
        rate(self.output_tokens.saturating_sub(1 + self.spliced_tokens) as f64, self.decode_time)
    }

    /// Weights read per second while decoding, in GB (10⁹ bytes).
    pub fn gb_s(&self) -> f64 {
        self.decode_rate() * self.bytes_per_token as f64 / 1e9
    }
}

fn rate(count: f64, seconds: f64) -> f64 {
    if seconds > 0.0 { count / seconds } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        let stats = Stats {
            input_tokens: 100,
            output_tokens: 11,
            prefill_time: 0.5,
            decode_time: 2.0,
            bytes_per_token: 2_000_000_000,
            ..Stats::default()
        };
        assert_eq!((stats.prefill_rate(), stats.decode_rate(), stats.gb_s()), (200.0, 5.0, 10.0));
        assert_eq!(Stats::default().decode_rate(), 0.0);
    }
}
