//! From a row of logits to a token. One sampler belongs to one sequence, so what it draws depends on nothing else.

use crate::penalty::Penalties;
use crate::{Error, GenerateOptions, Result};
use nano_kernels::{Candidate as Picked, MAX_TOP_K, Pick};

/// How to draw a token. The steps are taken in this order: the constraint, penalties, temperature, `top_k`, `top_p`,
/// `min_p`.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 is greedy.
    pub temperature: f32,
    /// Keeps the k most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the fewest tokens whose probabilities add up to this; 1 keeps all.
    pub top_p: f32,
    /// Keeps tokens at least this fraction as likely as the most likely one; 0 keeps all.
    pub min_p: f32,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 0.7, top_k: 40, top_p: 0.95, min_p: 0.0 }
    }
}

/// What is known of the logits after a token.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Logits<'a> {
    /// All of them, row after row.
    All(&'a [f32]),
    /// The greatest of each row, best first, row after row; equal ones by lowest id.
    Best(&'a [Picked]),
}

impl<'a> Logits<'a> {
    pub(crate) fn is_empty(self) -> bool {
        match self {
            Logits::All(values) => values.is_empty(),
            Logits::Best(picked) => picked.is_empty(),
        }
    }

    /// All of them, or nothing if only the greatest are known.
    pub(crate) fn all(self) -> &'a [f32] {
        match self {
            Logits::All(values) => values,
            Logits::Best(_) => &[],
        }
    }
}

/// Draws tokens; allocates at its first draws only.
pub(crate) struct Sampler {
    sampling: Option<Sampling>,
    penalties: Option<Penalties>,
    random: Random,
    changed: Vec<f32>,
    candidates: Vec<Candidate>,
}

impl Sampler {
    pub(crate) fn new(options: &GenerateOptions) -> Self {
        let sampling = options.sampling.clone().filter(|s| s.temperature > 0.0 && s.top_k != 1);
        let random = Random(options.seed.unwrap_or_else(random_seed));
        let penalties = Penalties::new(options);
        Self { sampling, penalties, random, changed: Vec::new(), candidates: Vec::new() }
    }

    /// Notes a token that penalties should know.
    pub(crate) fn saw(&mut self, token: u32) {
        if let Some(penalties) = &mut self.penalties {
            penalties.push(token);
        }
    }

    /// What [`sample`](Self::sample) needs to know of a row of `vocab` logits: with the greatest so many it draws the very
    /// token that it would with all.
    pub(crate) fn needs(&self, vocab: usize, banned: &[u32], masked: bool) -> Pick {
        if self.penalties.is_some() || !banned.is_empty() || masked {
            return Pick::None;
        }
        match &self.sampling {
            None => Pick::Argmax,
            Some(s) if (1..=MAX_TOP_K.min(vocab - 1)).contains(&s.top_k) => Pick::TopK(s.top_k as u32),
            Some(_) => Pick::None,
        }
    }

    /// Draws a token that is none of `banned`, of those whose bits are set in `mask`.
    pub(crate) fn sample(&mut self, logits: Logits<'_>, banned: &[u32], mask: Option<&[u32]>) -> Result<u32> {
        match logits {
            Logits::All(logits) => self.sample_all(logits, banned, mask),
            Logits::Best(picked) => self.sample_best(picked),
        }
    }

    fn sample_best(&mut self, picked: &[Picked]) -> Result<u32> {
        // What is no number counts as the greatest.
        let best = picked.first().copied().unwrap_or(Picked { id: 0, logit: f32::NAN });
        if !best.logit.is_finite() {
            return Err(Error::Logits { token: best.id as usize, found: best.logit });
        }
        let Some(sampling) = &self.sampling else { return Ok(best.id) };
        self.candidates.clear();
        let possible = picked.iter().take(sampling.top_k).filter(|p| p.logit > f32::NEG_INFINITY);
        self.candidates.extend(possible.map(|p| Candidate { value: p.logit, token: p.id }));
        weigh(&mut self.candidates, best.logit, sampling);
        Ok(draw(&self.candidates, self.random.unit()))
    }

    fn sample_all(&mut self, logits: &[f32], banned: &[u32], mask: Option<&[u32]>) -> Result<u32> {
        let logits = if self.penalties.is_some() || !banned.is_empty() || mask.is_some() {
            self.changed.clear();
            match mask {
                Some(mask) => masked(&mut self.changed, logits, mask),
                None => self.changed.extend_from_slice(logits),
            }
            if let Some(penalties) = &self.penalties {
                penalties.apply(&mut self.changed);
            }
            for &token in banned {
                if let Some(logit) = self.changed.get_mut(token as usize) {
                    *logit = f32::NEG_INFINITY;
                }
            }
            &self.changed
        } else {
            logits
        };
        let best = argmax(logits)?;
        let Some(sampling) = &self.sampling else { return Ok(best as u32) };
        select(&mut self.candidates, logits, logits[best], sampling);
        Ok(draw(&self.candidates, self.random.unit()))
    }
}

/// Copies the logits whose bits are set; there are none for the others.
fn masked(into: &mut Vec<f32>, logits: &[f32], mask: &[u32]) {
    into.resize(logits.len(), f32::NEG_INFINITY);
    for ((into, logits), &word) in into.chunks_mut(32).zip(logits.chunks(32)).zip(mask) {
        match word {
            0 => {}
            u32::MAX => into.copy_from_slice(logits),
            _ => {
                let bits = into.iter_mut().zip(logits).enumerate();
                bits.filter(|(bit, _)| word >> bit & 1 == 1).for_each(|(_, (into, &logit))| *into = logit);
            }
        }
    }
}

/// The index of the largest value; of equals the lowest.
fn argmax(logits: &[f32]) -> Result<usize> {
    // Eight running maxima, so that the pass over 200,000 values is done in vector registers.
    let mut lanes = [f32::NEG_INFINITY; 8];
    let mut broken = false;
    let (chunks, rest) = logits.as_chunks::<8>();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            broken |= value.is_nan();
            *lane = if value > *lane { value } else { *lane };
        }
    }
    for &value in rest {
        broken |= value.is_nan();
        lanes[0] = if value > lanes[0] { value } else { lanes[0] };
    }
    let max = lanes.into_iter().fold(f32::NEG_INFINITY, f32::max);
    if broken || !max.is_finite() {
        let token = logits.iter().position(|l| l.is_nan() || *l == f32::INFINITY).unwrap_or(0);
        return Err(Error::Logits { token, found: logits.get(token).copied().unwrap_or(f32::NAN) });
    }
    Ok(logits.iter().position(|&l| l == max).unwrap_or(0))
}

/// A token that may be drawn, with its logit at first and its weight later.
#[derive(Clone, Copy)]
struct Candidate {
    value: f32,
    token: u32,
}

impl Candidate {
    /// The likelier first, of equals the lower id. Both zeros are equal.
    fn order(&self, other: &Self) -> std::cmp::Ordering {
        (other.value + 0.0).total_cmp(&(self.value + 0.0)).then(self.token.cmp(&other.token))
    }
}

/// Leaves the tokens that may be drawn in `into`, with weights that need not add up to 1.
fn select(into: &mut Vec<Candidate>, logits: &[f32], max: f32, sampling: &Sampling) {
    into.clear();
    if sampling.top_k > 0 && sampling.top_k < logits.len() {
        top_k(into, logits, sampling.top_k);
    } else {
        let all = logits.iter().zip(0..).map(|(&value, token)| Candidate { value, token });
        into.extend(all.filter(|c| c.value > f32::NEG_INFINITY));
    }
    weigh(into, max, sampling);
}

/// Makes logits weights, and drops what is too unlikely.
fn weigh(into: &mut Vec<Candidate>, max: f32, sampling: &Sampling) {
    for candidate in into.iter_mut() {
        candidate.value = ((candidate.value - max) / sampling.temperature).exp();
    }
    if sampling.top_p < 1.0 {
        top_p(into, sampling.top_p);
    }
    if sampling.min_p > 0.0 {
        // The most likely token has weight 1.
        into.retain(|c| c.value >= sampling.min_p);
    }
}

/// Gathers the k largest logits in one pass: what exceeds the k-th best of a while ago is put aside, and cut back to k
/// whenever too much is.
fn top_k(into: &mut Vec<Candidate>, logits: &[f32], k: usize) {
    let most = k + k.max(256);
    let mut floor = f32::NEG_INFINITY;
    for (&value, token) in logits.iter().zip(0..) {
        if value > floor {
            into.push(Candidate { value, token });
            if into.len() == most {
                into.select_nth_unstable_by(k - 1, Candidate::order);
                into.truncate(k);
                floor = into[k - 1].value;
            }
        }
    }
    if into.len() > k {
        into.select_nth_unstable_by(k - 1, Candidate::order);
        into.truncate(k);
    }
    into.sort_unstable_by(Candidate::order);
}

/// Keeps the likeliest candidates whose weights reach a fraction of the whole; sorts only as many as that takes.
fn top_p(candidates: &mut Vec<Candidate>, fraction: f32) {
    let whole: f64 = candidates.iter().map(|c| f64::from(c.value)).sum();
    let wanted = whole * f64::from(fraction);
    let (mut sorted, mut step, mut sum) = (0, 256, 0.0);
    while sorted < candidates.len() {
        let end = candidates.len().min(sorted + step);
        if end < candidates.len() {
            candidates[sorted..].select_nth_unstable_by(end - sorted - 1, Candidate::order);
        }
        candidates[sorted..end].sort_unstable_by(Candidate::order);
        for at in sorted..end {
            sum += f64::from(candidates[at].value);
            if sum >= wanted {
                return candidates.truncate(at + 1);
            }
        }
        (sorted, step) = (end, step * 4);
    }
}

/// The candidate at `unit` (from 0 to below 1) of the way through the weights.
fn draw(candidates: &[Candidate], unit: f64) -> u32 {
    let whole: f64 = candidates.iter().map(|c| f64::from(c.value)).sum();
    let mut left = unit * whole;
    for candidate in candidates {
        left -= f64::from(candidate.value);
        if left < 0.0 {
            return candidate.token;
        }
    }
    candidates.last().map_or(0, |c| c.token)
}

/// SplitMix64 (Steele, Lea and Flood, 2014): the state grows by a constant, and is mixed on its way out. One draw per
/// sampled token.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 to below 1, in steps of 2⁻⁵³.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A seed that differs from call to call, from the keys that the standard library draws for its hash maps.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0u8)
}

#[cfg(test)]
#[path = "sample_tests.rs"]
mod tests;
