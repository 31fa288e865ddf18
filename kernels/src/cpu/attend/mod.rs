//! `attend`: softmax(scale · q · Kᵀ) · V over the cache; [`all`] is the same over the rows of a step.
//!
//! The definition works in chunks of 256 rows of the cache, counted from its start, so that a result depends neither on
//! the rows beside it nor on how a prompt was cut into steps. For one query and chunk: scores (d in order), the
//! greatest m of the visible ones, p = e^(s − m), l = Σ p (row i adds to lane i mod 16, then over lanes), o = Σ p·v
//! (rows in order). Chunks are merged in order: with n = max(m, m'), a = e^(m − n), b = e^(m' − n):
//! l = fma(l', b, l·a), o = fma(o', b, o·a). The output is o / l; with a sink s
//! and n = max(m, s), e^(m − n) / (l·e^(m − n) + e^(s − n)) times o.

pub mod all;
mod chunk;

use super::kv::{Element, F16, F32, Q8, View};
use super::lanes::{Isa, Job, LANES, Lanes};
use super::math::exp;
use super::pool::Pool;
use crate::{Attend, KvFormat, Step};
use chunk::merge;

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

/// What asks: row r's queries start at `q[r · stride]`.
#[derive(Clone, Copy)]
pub struct Queries<'a> {
    pub q: &'a [f32],
    pub stride: usize,
    /// A score for each head that has no value.
    pub sinks: Option<&'a [f32]>,
}

/// The operation, over all rows of the step.
#[allow(clippy::too_many_arguments)]
pub fn attend(
    pool: &mut Pool,
    isa: Isa,
    room: &mut Room,
    out: &mut [f32],
    queries: Queries<'_>,
    view: View<'_>,
    layer: usize,
    step: &Step,
    a: Attend,
) {
    let group = a.heads / a.kv_heads;
    let state = 2 + view.geometry.width;
    let tile = (QUERIES / group).clamp(1, 8);

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
    let own = tile * group * (CHUNK + 2 * state);
    room.threads.resize_with(room.threads.len().max(pool.threads()), Vec::new);
    for thread in &mut room.threads {
        thread.resize(thread.len().max(own), 0.0);
    }

    let shared =
        Shared { out: out.as_mut_ptr(), partials: room.partials.as_mut_ptr(), threads: room.threads.as_mut_ptr() };
    let tasks = &room.tasks;
    let job = |task: Task, thread: usize, merge: bool| {
        let shared = &shared;
        Run { task, thread, shared, queries, view, layer, step, a, merge, tasks }
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
    queries: Queries<'a>,
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
        let at = row * self.queries.stride + head * self.a.head_dim;
        (row, self.queries.q[at..at + self.a.head_dim].as_ptr())
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
                let (most, sum) = (*running, *running.add(1));
                let inverse = match self.queries.sinks {
                    Some(sinks) => drained::<L>(most, sum, sinks[head]),
                    None => L::splat(if sum > 0.0 || sum.is_nan() { 1.0 / sum } else { 0.0 }),
                };
                for d in (0..width).step_by(LANES) {
                    let mut y = [0.0; LANES];
                    L::store(y.as_mut_ptr(), L::mul(L::load(running.add(2 + d)), inverse));
                    std::ptr::copy_nonoverlapping(y.as_ptr(), out.add(d), LANES.min(head_dim - d));
                }
            }
        }
    }
}

/// The factor on what was seen, whose greatest score was `most` and whose weights sum to `sum`, beside a sink.
#[inline(always)]
unsafe fn drained<L: Lanes>(most: f32, sum: f32, sink: f32) -> L::F {
    // SAFETY: as the caller's.
    unsafe {
        if sum == 0.0 {
            return L::splat(0.0);
        }
        let greatest = most.max(sink);
        let e = |s: f32| exp::<L>(L::sub(L::splat(s), L::splat(greatest)));
        let seen = e(most);
        L::div(seen, L::fma(L::splat(sum), seen, e(sink)))
    }
}
