//! `attend`: softmax(scale · q · Kᵀ) · V over the cache.
//!
//! The definition works in chunks of 256 rows of the cache, counted from its start, so that a result depends neither on
//! the rows beside it nor on how a prompt was cut into steps. For one query and chunk: scores (d in order), the
//! greatest m of the visible ones, p = e^(s − m), l = Σ p (row i adds to lane i mod 16, then over lanes), o = Σ p·v
//! (rows in order). Chunks are merged in order: with n = max(m, m'), a = e^(m − n), b = e^(m' − n):
//! l = fma(l', b, l·a), o = fma(o', b, o·a). The output is o / l.

use super::kv::{Field, View};
use super::lanes::{Isa, Job, LANES, Lanes};
use super::math::exp;
use super::pool::Pool;
use crate::{Attend, KvFormat, PAGE_ROWS, Step};

/// Rows of the cache in a chunk.
const CHUNK: usize = 256;
/// Queries (rows times heads of a group) that one task takes, at most, unless one row has more.
const QUERIES: usize = 32;

/// One task: neighbouring rows of one sequence, one KV head, some chunks.
#[derive(Clone, Copy)]
struct Task {
    row: usize,
    rows: usize,
    head: usize,
    /// Chunks from..to.
    chunks: (usize, usize),
    /// Index of the first partial result, when chunks are split among tasks.
    partial: usize,
}

/// Standing room of the operation.
#[derive(Default)]
pub struct Room {
    tasks: Vec<Task>,
    /// Per thread: scores, and the running and the chunk's (m, l, o) of every query.
    threads: Vec<Vec<f32>>,
    /// Results of split chunks: (m, l, o) per query.
    partials: Vec<f32>,
}

/// The operation, over all rows of the step.
#[allow(clippy::too_many_arguments)]
pub fn attend(
    pool: &mut Pool,
    isa: Isa,
    room: &mut Room,
    out: &mut [f32],
    q: &[f32],
    view: View<'_>,
    layer: usize,
    step: &Step,
    a: Attend,
) {
    let group = a.heads / a.kv_heads;
    let state = 2 + view.geometry.width;
    let tile = (QUERIES / group).clamp(1, 8);
    let queries = tile * group;

    // Tiles of rows; where they are few, chunks are tasks of their own.
    room.tasks.clear();
    let mut partials = 0;
    let mut row = 0;
    let split = step.rows.len() * a.kv_heads < 4 * pool.threads();
    while row < step.rows.len() {
        let mut rows = 1;
        while rows < tile && step.rows.get(row + rows).is_some_and(|r| r.sequence == step.rows[row].sequence) {
            rows += 1;
        }
        let last = step.rows[row..row + rows].iter().map(|r| r.visible).max().unwrap_or(0) as usize;
        let first = a.window.map_or(0, |w| (step.rows[row].visible as usize).saturating_sub(w) / CHUNK);
        let chunks = (first, last.div_ceil(CHUNK));
        for head in 0..a.kv_heads {
            if split && chunks.1 - chunks.0 > 1 {
                for chunk in chunks.0..chunks.1 {
                    room.tasks.push(Task { row, rows, head, chunks: (chunk, chunk + 1), partial: partials });
                    partials += rows * group;
                }
            } else {
                room.tasks.push(Task { row, rows, head, chunks, partial: usize::MAX });
            }
        }
        row += rows;
    }
    room.partials.resize(room.partials.len().max(partials * state), 0.0);
    let own = queries * (CHUNK + 2 * state);
    room.threads.resize_with(room.threads.len().max(pool.threads()), Vec::new);
    for thread in &mut room.threads {
        thread.resize(thread.len().max(own), 0.0);
    }

    let shared =
        Shared { out: out.as_mut_ptr(), partials: room.partials.as_mut_ptr(), threads: room.threads.as_mut_ptr() };
    let tasks = &room.tasks;
    let job = |task: Task, thread: usize, merge: bool| {
        let shared = &shared;
        Run { task, thread, shared, q, view, layer, step, a, merge, tasks }
    };
    // SAFETY: the set is available; tasks write disjoint outputs and partial results, threads their own room.
    pool.run(tasks.len(), |i, thread| unsafe { isa.run(job(tasks[i], thread, false)) });
    if partials > 0 {
        let firsts = |t: &&Task| t.partial != usize::MAX;
        for task in tasks.iter().filter(firsts).filter(|t| t.chunks.0 == first_chunk(step, a, t.row)) {
            // SAFETY: as above, on this thread alone.
            unsafe { isa.run(job(*task, 0, true)) };
        }
    }
}

/// The first chunk that a tile starting at `row` looks at.
fn first_chunk(step: &Step, a: Attend, row: usize) -> usize {
    a.window.map_or(0, |w| (step.rows[row].visible as usize).saturating_sub(w) / CHUNK)
}

struct Shared {
    out: *mut f32,
    partials: *mut f32,
    threads: *mut Vec<f32>,
}
// SAFETY: tasks write disjoint parts.
unsafe impl Sync for Shared {}

struct Run<'a> {
    task: Task,
    thread: usize,
    shared: &'a Shared,
    q: &'a [f32],
    view: View<'a>,
    layer: usize,
    step: &'a Step,
    a: Attend,
    /// Merge the partial results of this task's tile and head, instead of computing some.
    merge: bool,
    tasks: &'a [Task],
}

impl Job for Run<'_> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        // SAFETY: as the operation's.
        unsafe {
            match self.view.geometry.format {
                _ if self.merge => self.merge::<L>(),
                KvFormat::F32 => self.compute::<L, F32>(),
                KvFormat::F16 => self.compute::<L, F16>(),
                KvFormat::Q8 => self.compute::<L, Q8>(),
            }
        }
    }
}

impl Run<'_> {
    fn group(&self) -> usize {
        self.a.heads / self.a.kv_heads
    }

    /// Query `i` of the tile: its row and its values.
    #[inline(always)]
    fn query(&self, i: usize) -> (usize, *const f32) {
        let (row, head) = (self.task.row + i / self.group(), self.task.head * self.group() + i % self.group());
        let at = (row * self.a.heads + head) * self.a.head_dim;
        (row, self.q[at..at + self.a.head_dim].as_ptr())
    }

    /// The rows of the cache that a row of the step sees.
    #[inline(always)]
    fn sees(&self, row: usize) -> (usize, usize) {
        let visible = self.step.rows[row].visible as usize;
        (self.a.window.map_or(0, |w| visible.saturating_sub(w)), visible)
    }

    #[inline(always)]
    unsafe fn compute<L: Lanes, E: Element>(&self) {
        let width = self.view.geometry.width;
        let state = 2 + width;
        let queries = self.task.rows * self.group();
        // SAFETY: `attend` made room for this thread and these partials.
        unsafe {
            let own = (*self.shared.threads.add(self.thread)).as_mut_ptr();
            let running = own.add(queries * CHUNK);
            let fresh = running.add(queries * state);
            for i in 0..queries {
                *running.add(i * state + 1) = 0.0;
            }
            for chunk in self.task.chunks.0..self.task.chunks.1 {
                let into = if self.task.partial == usize::MAX {
                    fresh
                } else {
                    self.shared.partials.add(self.task.partial * state)
                };
                self.chunk::<L, E>(chunk, own, into);
                if self.task.partial == usize::MAX {
                    for i in 0..queries {
                        merge::<L>(running.add(i * state), fresh.add(i * state), width);
                    }
                }
            }
            if self.task.partial == usize::MAX {
                self.write::<L>(running);
            }
        }
    }

    /// Merges partial results, which lie chunk after chunk, into the first and writes the outputs.
    #[inline(always)]
    unsafe fn merge<L: Lanes>(&self) {
        let width = self.view.geometry.width;
        let state = 2 + width;
        let same = |t: &&Task| t.row == self.task.row && t.head == self.task.head && t.partial > self.task.partial;
        // SAFETY: partial results of this tile and head.
        unsafe {
            let running = self.shared.partials.add(self.task.partial * state);
            for task in self.tasks.iter().filter(same) {
                let next = self.shared.partials.add(task.partial * state);
                for i in 0..self.task.rows * self.group() {
                    merge::<L>(running.add(i * state), next.add(i * state), width);
                }
            }
            self.write::<L>(running);
        }
    }

    /// o / l to the output rows.
    #[inline(always)]
    unsafe fn write<L: Lanes>(&self, running: *const f32) {
        let width = self.view.geometry.width;
        let head_dim = self.a.head_dim;
        for i in 0..self.task.rows * self.group() {
            let (row, head) = (self.task.row + i / self.group(), self.task.head * self.group() + i % self.group());
            // SAFETY: this tile's own outputs.
            unsafe {
                let out = self.shared.out.add((row * self.a.heads + head) * head_dim);
                let running = running.add(i * (2 + width));
                let sum = *running.add(1);
                let inverse = L::splat(if sum > 0.0 || sum.is_nan() { 1.0 / sum } else { 0.0 });
                for d in (0..width).step_by(LANES) {
                    let mut y = [0.0; LANES];
                    L::store(y.as_mut_ptr(), L::mul(L::load(running.add(2 + d)), inverse));
                    std::ptr::copy_nonoverlapping(y.as_ptr(), out.add(d), LANES.min(head_dim - d));
                }
            }
        }
    }

    /// (m, l, o) of one chunk for every query of the tile; l = 0 where a query sees nothing of it.
    #[inline(always)]
    unsafe fn chunk<L: Lanes, E: Element>(&self, chunk: usize, scores: *mut f32, into: *mut f32) {
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
                    if L::TILE == 8 && queries - i >= 4 {
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
                if L::TILE == 8 && queries - i >= 4 {
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
unsafe fn merge<L: Lanes>(running: *mut f32, next: *const f32, width: usize) {
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

/// How a cache stores values.
trait Element {
    /// Bytes of a value.
    const SIZE: usize;
    /// Whether rows have a scale.
    const SCALED: bool;
    unsafe fn load<L: Lanes>(p: *const u8) -> L::F;
}

struct F32;
impl Element for F32 {
    const SIZE: usize = 4;
    const SCALED: bool = false;
    #[inline(always)]
    unsafe fn load<L: Lanes>(p: *const u8) -> L::F {
        // SAFETY: as the caller's.
        unsafe { L::load(p.cast()) }
    }
}

struct F16;
impl Element for F16 {
    const SIZE: usize = 2;
    const SCALED: bool = false;
    #[inline(always)]
    unsafe fn load<L: Lanes>(p: *const u8) -> L::F {
        // SAFETY: as the caller's.
        unsafe { L::load_f16(p.cast()) }
    }
}

struct Q8;
impl Element for Q8 {
    const SIZE: usize = 1;
    const SCALED: bool = true;
    #[inline(always)]
    unsafe fn load<L: Lanes>(p: *const u8) -> L::F {
        // SAFETY: as the caller's.
        unsafe { L::load_i8(p.cast()) }
    }
}
