//! The heart of byte-pair encoding: a word starts as characters, and of all neighbours that may join, the best do, the
//! leftmost of equals, until none may. `bpe` and `spm` say who may join whom.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

/// A stretch of a word. Stretches form a list in text order; one that was joined to its left neighbour has no length.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    start: u32,
    len: u32,
    /// Whatever the rule knows it by, a token's id for one.
    pub id: u32,
    left: u32,
    right: u32,
}

impl Stretch {
    /// Where it lies in the word.
    pub fn range(&self) -> Range<usize> {
        self.start as usize..(self.start + self.len) as usize
    }
}

/// Bytes that a text may have at most, so that places in it can be kept small.
pub(super) const LONGEST_TEXT: usize = u32::MAX as usize;

/// No neighbour.
const END: u32 = u32::MAX;

/// How well two neighbours join (less is better), and what they become.
pub(super) struct Joined {
    pub rank: u32,
    pub id: u32,
}

/// A word being merged. One can serve many words: its memory is kept.
#[derive(Default)]
pub(super) struct Merger {
    list: Vec<Stretch>,
    pairs: BinaryHeap<Reverse<Pair>>,
}

/// Two neighbours that may join. Sorts by rank, then from left to right.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Pair {
    rank: u32,
    left: u32,
    right: u32,
    /// Bytes of both. If they are not that long any more, the pair is stale.
    len: u32,
    /// What they become.
    id: u32,
}

impl Merger {
    /// Forgets the last word.
    pub fn clear(&mut self) {
        self.list.clear();
        self.pairs.clear();
    }

    /// Appends a first stretch: a character.
    pub fn push(&mut self, start: usize, len: usize, id: u32) {
        let (start, len) = (start as u32, len as u32); // `LONGEST_TEXT`
        let at = self.list.len() as u32;
        if let Some(last) = self.list.last_mut() {
            last.right = at;
        }
        self.list.push(Stretch { start, len, id, left: at.checked_sub(1).unwrap_or(END), right: END });
    }

    /// Joins neighbours as `rule` allows.
    pub fn merge(&mut self, mut rule: impl FnMut(&Stretch, &Stretch) -> Option<Joined>) {
        for right in 1..self.list.len() as u32 {
            self.consider(right - 1, right, &mut rule);
        }
        while let Some(Reverse(Pair { left, right, len, id, .. })) = self.pairs.pop() {
            let (a, b) = (self.list[left as usize], self.list[right as usize]);
            if a.len == 0 || b.len == 0 || a.len + b.len != len {
                continue;
            }
            self.list[left as usize] = Stretch { len, id, right: b.right, ..a };
            self.list[right as usize].len = 0;
            if let Some(next) = self.list.get_mut(b.right as usize) {
                next.left = left;
            }
            self.consider(a.left, left, &mut rule);
            self.consider(left, b.right, &mut rule);
        }
    }

    /// The stretches that are left, in text order.
    pub fn stretches(&self) -> impl Iterator<Item = &Stretch> {
        self.list.iter().filter(|s| s.len != 0)
    }

    fn consider(&mut self, left: u32, right: u32, rule: &mut impl FnMut(&Stretch, &Stretch) -> Option<Joined>) {
        let (Some(a), Some(b)) = (self.list.get(left as usize), self.list.get(right as usize)) else { return };
        if let Some(Joined { rank, id }) = rule(a, b) {
            self.pairs.push(Reverse(Pair { rank, left, right, len: a.len + b.len, id }));
        }
    }
}
