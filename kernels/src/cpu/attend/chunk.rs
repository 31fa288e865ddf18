//! The arithmetic of attention: one chunk of the cache for the queries of a task, and the merging of chunks.

use super::super::kv::{Element, Field};
use super::super::lanes::{LANES, Lanes};
use super::super::math::{exp, softcap};
use super::{CHUNK, Run};
use crate::PAGE_ROWS;

impl Run<'_> {
    /// (m, l, o) of one chunk for every query of the tile; l = 0 where a query sees nothing of it.
    #[inline(always)]
    pub unsafe fn chunk<L: Lanes, E: Element>(&self, chunk: usize, scores: *mut f32, into: *mut f32) {
        let queries = self.task.rows * self.group();
        let state = 2 + self.view.geometry.width;
        let start = chunk * CHUNK;
        let last = (0..self.task.rows).map(|r| self.sees(self.task.row + r).1).max().unwrap_or(0);
        let first = self.sees(self.task.row).0.max(start);
        let end = last.min(start + CHUNK);
        let pages = &self.step.sequences[self.step.rows[self.task.row].sequence as usize].pages;
        // SAFETY: pages up to `end` exist (checked in `run`); scores and states are this task's.
        unsafe {
            for page in first / PAGE_ROWS..end.div_ceil(PAGE_ROWS) {
                let field = self.view.field(pages[page], self.layer, self.task.head);
                let scores = scores.add(page * PAGE_ROWS - start);
                let mut i = 0;
                while i < queries {
                    if L::TILE == 8 && queries - i >= 8 {
                        self.scores::<L, E, 8>(field, i, scores);
                        i += 8;
                    } else if L::TILE == 8 && queries - i >= 4 {
                        self.scores::<L, E, 4>(field, i, scores);
                        i += 4;
                    } else if queries - i >= 2 {
                        self.scores::<L, E, 2>(field, i, scores);
                        i += 2;
                    } else {
                        self.scores::<L, E, 1>(field, i, scores);
                        i += 1;
                    }
                }
            }
            for i in 0..queries {
                let (from, to) = self.sees(self.query(i).0);
                let (from, to) = (from.clamp(start, end) - start, to.clamp(start, end) - start);
                let page_start = first / PAGE_ROWS * PAGE_ROWS - start;
                softmax::<L>(scores.add(i * CHUNK), page_start, from, to, end - start, into.add(i * state));
            }
            let range = (first, end);
            let mut i = 0;
            while i < queries {
                if L::TILE == 8 && queries - i >= 8 {
                    self.values::<L, E, 8>(pages, range, i, scores, into);
                    i += 8;
                } else if L::TILE == 8 && queries - i >= 4 {
                    self.values::<L, E, 4>(pages, range, i, scores, into);
                    i += 4;
                } else if queries - i >= 2 {
                    self.values::<L, E, 2>(pages, range, i, scores, into);
                    i += 2;
                } else {
                    self.values::<L, E, 1>(pages, range, i, scores, into);
                    i += 1;
                }
            }
        }
    }

    /// Scores of `N` queries with the 32 rows of a page.
    #[inline(always)]
    unsafe fn scores<L: Lanes, E: Element, const N: usize>(&self, field: Field, i: usize, scores: *mut f32) {
        // SAFETY: as the caller's.
        unsafe {
            let q: [*const f32; N] = std::array::from_fn(|n| self.query(i + n).1);
            let mut acc = [[L::splat(0.0); 2]; N];
            for d in 0..self.a.head_dim {
                let keys = field.keys.add(d * PAGE_ROWS * E::SIZE);
                let k = [E::load::<L>(keys), E::load::<L>(keys.add(LANES * E::SIZE))];
                for n in 0..N {
                    let q = L::splat(*q[n].add(d));
                    acc[n] = [L::fma(q, k[0], acc[n][0]), L::fma(q, k[1], acc[n][1])];
                }
            }
            for (n, acc) in acc.into_iter().enumerate() {
                for (half, s) in acc.into_iter().enumerate() {
                    let mut s = L::mul(s, L::splat(self.a.scale));
                    if E::SCALED {
                        s = L::mul(s, L::load(field.scales.add(half * LANES)));
                    }
                    if let Some(cap) = self.a.softcap {
                        s = softcap::<L>(s, cap);
                    }
                    L::store(scores.add((i + n) * CHUNK + half * LANES), s);
                }
            }
        }
    }

    /// o = Σ p·v for `N` queries over the rows of a chunk.
    #[inline(always)]
    unsafe fn values<L: Lanes, E: Element, const N: usize>(
        &self,
        pages: &[u32],
        (first, end): (usize, usize),
        i: usize,
        weights: *const f32,
        into: *mut f32,
    ) {
        let width = self.view.geometry.width;
        let start = first / CHUNK * CHUNK;
        let mut d = 0;
        // SAFETY: as the caller's.
        unsafe {
            while d < width {
                let two = width - d >= 2 * LANES;
                let mut acc = [[L::splat(0.0); 2]; N];
                for page in first / PAGE_ROWS..end.div_ceil(PAGE_ROWS) {
                    let field = self.view.field(pages[page], self.layer, self.task.head);
                    let rows = first.max(page * PAGE_ROWS)..end.min((page + 1) * PAGE_ROWS);
                    for row in rows {
                        let value = field.values.add((row % PAGE_ROWS * width + d) * E::SIZE);
                        let scale = if E::SCALED { *field.scales.add(PAGE_ROWS + row % PAGE_ROWS) } else { 1.0 };
                        let low = E::load::<L>(value);
                        let high = if two { E::load::<L>(value.add(LANES * E::SIZE)) } else { low };
                        for (n, acc) in acc.iter_mut().enumerate() {
                            let p = *weights.add((i + n) * CHUNK + row - start);
                            let p = L::splat(if E::SCALED { p * scale } else { p });
                            *acc = [L::fma(p, low, acc[0]), L::fma(p, high, acc[1])];
                        }
                    }
                }
                for (n, acc) in acc.into_iter().enumerate() {
                    let o = into.add((i + n) * (2 + width) + 2 + d);
                    L::store(o, acc[0]);
                    if two {
                        L::store(o.add(LANES), acc[1]);
                    }
                }
                d += if two { 2 * LANES } else { LANES };
            }
        }
    }
}

/// Turns scores into weights in place: rows from..to count, the rest of begin..end becomes 0. Writes (m, l) to `into`.
#[inline(always)]
unsafe fn softmax<L: Lanes>(s: *mut f32, begin: usize, from: usize, to: usize, end: usize, into: *mut f32) {
    let end = end.next_multiple_of(LANES);
    // SAFETY: whole vectors of the chunk's scores, which lie at multiples of 16.
    unsafe {
        for i in (begin..from).chain(to..end) {
            *s.add(i) = f32::NEG_INFINITY;
        }
        let mut most = L::splat(f32::NEG_INFINITY);
        for i in (begin..end).step_by(LANES) {
            most = L::max(most, L::load(s.add(i)));
        }
        let most = L::greatest(most);
        *into = most;
        let mut sum = L::splat(0.0);
        if from < to {
            for i in (begin..end).step_by(LANES) {
                let p = exp::<L>(L::sub(L::load(s.add(i)), L::splat(most)));
                L::store(s.add(i), p);
            }
            for i in (begin..from).chain(to..end) {
                *s.add(i) = 0.0;
            }
            for i in (begin..end).step_by(LANES) {
                sum = L::add(sum, L::load(s.add(i)));
            }
        } else {
            for i in begin..end {
                *s.add(i) = 0.0;
            }
        }
        *into.add(1) = L::sum(sum);
    }
}

/// Merges a later result (m, l, o) into a running one.
#[inline(always)]
pub unsafe fn merge<L: Lanes>(running: *mut f32, next: *const f32, width: usize) {
    // SAFETY: both hold 2 + width values.
    unsafe {
        let (l, l_next) = (*running.add(1), *next.add(1));
        if l_next == 0.0 {
            return;
        }
        if l == 0.0 {
            std::ptr::copy_nonoverlapping(next, running, 2 + width);
            return;
        }
        let (m, m_next) = (*running, *next);
        let most = if m > m_next { m } else { m_next };
        let a = exp::<L>(L::splat(m - most));
        let b = exp::<L>(L::splat(m_next - most));
        let mut lanes = [0.0; LANES];
        L::store(lanes.as_mut_ptr(), L::fma(L::splat(l_next), b, L::mul(L::splat(l), a)));
        *running = most;
        *running.add(1) = lanes[0];
        for d in (2..2 + width).step_by(LANES) {
            let o = L::fma(L::load(next.add(d)), b, L::mul(L::load(running.add(d)), a));
            L::store(running.add(d), o);
        }
    }
}
