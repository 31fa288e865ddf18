//! `pick`: the greatest values of a row of logits, greatest first, equal ones by lowest id. NaN counts as
//! ∞, so that who reads the best sees that the row is broken.

use super::lanes::{Job, LANES, Lanes};
use crate::Candidate;

/// Candidates of a run's logits rows.
#[derive(Default)]
pub struct Picked {
    pub all: Vec<Candidate>,
    /// Candidates per row.
    pub each: usize,
}

impl Picked {
    /// Logits rows that were picked from.
    pub fn rows(&self) -> usize {
        self.all.len() / self.each.max(1)
    }

    /// The best of a logits row.
    pub fn best(&self, row: usize) -> Option<Candidate> {
        if row < self.rows() { self.all.get(row * self.each).copied() } else { None }
    }
}

/// Values that are looked at together: rarely is one of them among the greatest.
const GLANCE: usize = 4 * LANES;

/// Fills `into` from one row, which has at least as many values.
pub struct Best<'a> {
    pub row: &'a [f32],
    pub into: &'a mut [Candidate],
}

impl Job for Best<'_> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Best { row, into } = self;
        let k = into.len();
        if k == 0 {
            return;
        }
        let (first, rest) = row.split_at(k);
        for (id, x) in first.iter().enumerate() {
            insert(&mut into[..id + 1], id, *x);
        }
        for (n, values) in rest.chunks(GLANCE).enumerate() {
            // SAFETY: four vectors of 16.
            let promising = values.len() < GLANCE
                || unsafe { greatest::<L>(values) } > into[k - 1].logit
                || values.iter().any(|x| x.is_nan());
            if promising {
                for (i, x) in values.iter().enumerate() {
                    if number(*x) > into[k - 1].logit {
                        insert(into, k + n * GLANCE + i, *x);
                    }
                }
            }
        }
    }
}

/// A value as it counts.
#[inline(always)]
fn number(x: f32) -> f32 {
    if x.is_nan() { f32::INFINITY } else { x }
}

/// Puts a value into the place of the last, then where it belongs: behind those that are as great.
#[inline(always)]
fn insert(into: &mut [Candidate], id: usize, x: f32) {
    let logit = number(x);
    let mut at = into.len() - 1;
    while at > 0 && into[at - 1].logit < logit {
        into[at] = into[at - 1];
        at -= 1;
    }
    into[at] = Candidate { id: id as u32, logit };
}

/// The greatest of 64 values; −∞ if all are NaN.
#[inline(always)]
unsafe fn greatest<L: Lanes>(x: &[f32]) -> f32 {
    // SAFETY: the caller vouches for 64 values.
    unsafe {
        let mut most = L::splat(f32::NEG_INFINITY);
        for at in (0..GLANCE).step_by(LANES) {
            // Of a NaN and a number, max gives the second.
            most = L::max(L::load(x.as_ptr().add(at)), most);
        }
        L::greatest(most)
    }
}
