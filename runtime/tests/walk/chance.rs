//! What a walk draws from, what its model says, and how its replies are read.

use crate::common::*;
use crate::expected::Expected;
use nano_runtime::{Error, Event, Output, Overflow, Reply, Result};

pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// A next token that looks random and depends on all tokens: letters, words, control tokens, and an end now and then.
pub fn babble(tokens: &[u32]) -> u32 {
    let hash = tokens.iter().fold(7u64, |h, &t| (h ^ u64::from(t)).wrapping_mul(0x100_0000_01B3).rotate_left(23));
    match hash % 32 {
        0..=1 => END,
        2 => EOS,
        3 => START,
        // The words after these are calls.
        4..=15 => 260 + (hash >> 8) as u32 % 13,
        _ => [b'a', b' ', b'#', b'\n', b'z', b'.'][(hash >> 8) as usize % 6].into(),
    }
}

/// Reads a reply to its end; the flag tells whether messages went.
pub fn listen(reply: Reply<'_>, next: &mut Expected) -> Result<(Output, bool)> {
    let mut overflown = false;
    for event in reply {
        match event? {
            Event::Overflow { policy, .. } => {
                assert_ne!(policy, Overflow::Error);
                overflown = true;
                next.dropped = true;
            }
            Event::Done(output) => return Ok((*output, overflown)),
            _ => {}
        }
    }
    Err(Error::Stopped)
}
