//! `experts`: every row through the few experts that its logits choose. Rows are sorted by expert, so that an expert's
//! weights are read once a step, and those of experts that nobody chose not at all.
//!
//! The definition, per row: its experts are those of the greatest logits, of equals the first ones. An expert's factor is
//! exp(logit − greatest) over the sum of these, in order, of all logits or of the chosen ones, greatest first. Then
//! `x = fma(factor, down + bias, x)` for the row's experts in order of their numbers, last for the shared one, whose factor is
//! 1 / (1 + exp(−logit)). Products are those of `linear`.

use super::panel::{Fill, Panel, TILE_ROWS, View};
use super::{Block, Out, Rooms, Scratch};
use crate::cpu::Weight;
use crate::cpu::lanes::{Isa, Job, LANES, Lanes};
use crate::cpu::pool::Pool;
use crate::cpu::{math, norm, pick};
use crate::{Act, After, Candidate, MAX_TOP_K};

/// What one call works on.
pub struct Mixture<'a> {
    /// The residual stream, `rows x dim`: read first, added to last.
    pub x: &'a mut [f32],
    /// Norm of the rows that experts read.
    pub norm: Option<norm::View<'a>>,
    /// Room for what is between the products of an expert, `rows x (chosen · hidden + shared hidden)`.
    pub h: &'a mut [f32],
    /// Logits of the experts, then that of the shared one.
    pub logits: &'a [f32],
    /// Rows.
    pub rows: usize,
    /// Gate and up of each expert.
    pub up: &'a [Weight],
    /// Down of each expert.
    pub down: &'a [Weight],
    /// Gate and up, and down, of an expert for every row.
    pub shared: Option<(&'a Weight, &'a Weight)>,
    /// Experts that a row goes through.
    pub chosen: usize,
    /// Whether the factors of a row's experts sum to 1.
    pub normalize: bool,
    /// The gates' activation.
    pub act: Act,
    /// Of gates and ups, and of downs, for all experts one after the other.
    pub biases: [Option<&'a [f32]>; 2],
}

/// A row that goes through an expert.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choice {
    expert: u32,
    /// Of the step.
    pub row: u32,
    /// Of the panel.
    place: u32,
    /// What the expert's output is multiplied by.
    pub factor: f32,
}

/// An expert with the rows that chose it.
#[derive(Clone, Copy)]
struct Run {
    expert: usize,
    /// The first of its choices.
    first: usize,
    rows: usize,
    /// Its first row in the panel, at the start of a tile.
    place: usize,
}

/// Who goes where, in one step.
#[derive(Default)]
struct Choices {
    all: Vec<Choice>,
    runs: Vec<Run>,
    /// Rows of the panel.
    places: usize,
}

/// Standing room for choices: of experts that are chosen, and of the shared one.
#[derive(Default)]
pub struct Room {
    own: Choices,
    shared: Choices,
}

/// The machine's threads and what they work in.
pub struct Machine<'a> {
    pub pool: &'a mut Pool,
    pub isa: Isa,
    pub panel: &'a mut Panel,
    pub scratch: &'a mut [Scratch],
}

/// Runs a mixture on all threads of the pool.
pub fn experts(machine: &mut Machine<'_>, room: &mut Room, m: Mixture<'_>) {
    let (isa, count, chosen) = (machine.isa, m.up.len(), m.chosen);
    let width = count + usize::from(m.shared.is_some());
    let hidden = m.down[0].cols;
    let (own, shared) = m.h.split_at_mut(m.rows * chosen * hidden);
    room.own.all.resize(m.rows * chosen, Choice::default());
    machine.pool.chunks(&mut room.own.all, chosen, 8, |row, into| {
        choose(isa, row, &m.logits[row * width..][..count], m.normalize, into);
    });
    room.own.sort();
    let group = Group { up: m.up, down: m.down, act: m.act, biases: m.biases };
    group.up(machine, &room.own, m.x, m.norm, own);
    if let Some((up, down)) = m.shared {
        // It reads what the others have not added to yet.
        room.shared.all.resize(m.rows, Choice::default());
        for (row, choice) in room.shared.all.iter_mut().enumerate() {
            let mut e = [-m.logits[row * width + count]];
            exp(isa, 0.0, &mut e);
            *choice = Choice { expert: 0, row: row as u32, place: 0, factor: 1.0 / (1.0 + e[0]) };
        }
        room.shared.sort();
        let alone =
            Group { up: std::slice::from_ref(up), down: std::slice::from_ref(down), act: m.act, biases: [None; 2] };
        alone.up(machine, &room.shared, m.x, m.norm, shared);
        group.down(machine, &room.own, own, m.x);
        alone.down(machine, &room.shared, shared, m.x);
    } else {
        group.down(machine, &room.own, own, m.x);
    }
}

/// Chooses a row's experts and their factors.
fn choose(isa: Isa, row: usize, logits: &[f32], normalize: bool, into: &mut [Choice]) {
    let mut best = [Candidate::default(); MAX_TOP_K];
    let best = &mut best[..into.len()];
    // SAFETY: the set is available.
    unsafe { isa.run(pick::Best { row: logits, into: best }) };
    let greatest = best[0].logit;
    let mut factors = [0.0; MAX_TOP_K];
    let factors = &mut factors[..into.len()];
    for (factor, best) in factors.iter_mut().zip(&*best) {
        *factor = logits[best.id as usize];
    }
    exp(isa, greatest, factors);
    let mut sum = 0.0;
    if normalize {
        factors.iter().for_each(|factor| sum += factor);
    } else {
        for logits in logits.chunks(LANES) {
            let mut some = [0.0; LANES];
            let some = &mut some[..logits.len()];
            some.copy_from_slice(logits);
            exp(isa, greatest, some);
            some.iter().for_each(|e| sum += *e);
        }
    }
    for ((choice, best), factor) in into.iter_mut().zip(best).zip(factors) {
        *choice = Choice { expert: best.id, row: row as u32, place: 0, factor: *factor / sum };
    }
}

/// `x = e^(x − less)`
fn exp(isa: Isa, less: f32, x: &mut [f32]) {
    struct Exp<'a>(&'a mut [f32; LANES], f32);
    impl Job for Exp<'_> {
        type Out = ();
        #[inline(always)]
        unsafe fn run<L: Lanes>(self) {
            // SAFETY: sixteen values.
            unsafe {
                let x = L::sub(L::load(self.0.as_ptr()), L::splat(self.1));
                L::store(self.0.as_mut_ptr(), math::exp::<L>(x));
            }
        }
    }
    for x in x.chunks_mut(LANES) {
        let mut lanes = [0.0; LANES];
        lanes[..x.len()].copy_from_slice(x);
        // SAFETY: the set is available.
        unsafe { isa.run(Exp(&mut lanes, less)) };
        x.copy_from_slice(&lanes[..x.len()]);
    }
}

impl Choices {
    /// Sorts the choices by expert, then by row, and gives each run of an expert whole tiles of the panel.
    fn sort(&mut self) {
        self.all.sort_unstable_by_key(|choice| (choice.expert, choice.row));
        self.runs.clear();
        self.places = 0;
        let mut first = 0;
        for run in self.all.chunk_by_mut(|a, b| a.expert == b.expert) {
            let (rows, place) = (run.len(), self.places);
            run.iter_mut().enumerate().for_each(|(i, choice)| choice.place = (place + i) as u32);
            self.runs.push(Run { expert: run[0].expert as usize, first, rows, place });
            first += rows;
            self.places += rows.next_multiple_of(TILE_ROWS);
        }
    }
}

/// Experts of one width.
struct Group<'a> {
    up: &'a [Weight],
    down: &'a [Weight],
    act: Act,
    biases: [Option<&'a [f32]>; 2],
}

impl Group<'_> {
    /// `h[i] = act(gate(norm(x))) · up(norm(x))` for choice i.
    fn up(&self, m: &mut Machine<'_>, choices: &Choices, x: &[f32], norm: Option<norm::View<'_>>, h: &mut [f32]) {
        let hidden = self.down[0].cols;
        let view = fill(m, choices, self.up, |_, row, cols| (&x[row * cols..][..cols], norm));
        let blocks = self.up[0].parts[0].blocks();
        let all = choices.runs.len() * blocks;
        // As in `linear`.
        let per_task = (all / (m.pool.threads() * 8)).clamp(1, 64);
        let (isa, out, rooms) = (m.isa, Out(h.as_mut_ptr()), Rooms(m.scratch.as_mut_ptr()));
        m.pool.run(all.div_ceil(per_task), |task, thread| {
            for n in task * per_task..all.min((task + 1) * per_task) {
                let run = choices.runs[n / blocks];
                let parts = &self.up[run.expert].parts;
                let job = Block {
                    view: view.past(run.place / TILE_ROWS),
                    part: &parts[0],
                    gated: Some(&parts[1]),
                    block: n % blocks,
                    bias: self.biases[0].map(|bias| &bias[run.expert * 2 * hidden..][..2 * hidden]),
                    first: 0,
                    out: &out.after(run.first * hidden),
                    outs: hidden,
                    to: None,
                    rows: run.rows,
                    after: After::Glu(self.act),
                    // SAFETY: as in `linear`.
                    scratch: unsafe { &mut *rooms.at(thread) },
                };
                // SAFETY: the set is available; shapes were checked; each choice has a row of `h` of its own.
                unsafe { isa.run(job) }
            }
        });
    }

    /// `x = fma(factor, down(h[i]), x)` for the choices of each row, in order of experts: a thread takes the same outputs of
    /// all of them.
    fn down(&self, m: &mut Machine<'_>, choices: &Choices, h: &[f32], x: &mut [f32]) {
        let view = fill(m, choices, self.down, |i, _, cols| (&h[i * cols..][..cols], None));
        let dim = self.down[0].rows;
        let blocks = self.down[0].parts[0].blocks();
        let (isa, out, rooms) = (m.isa, Out(x.as_mut_ptr()), Rooms(m.scratch.as_mut_ptr()));
        m.pool.run(blocks, |block, thread| {
            for run in &choices.runs {
                let job = Block {
                    view: view.past(run.place / TILE_ROWS),
                    part: &self.down[run.expert].parts[0],
                    gated: None,
                    block,
                    bias: self.biases[1].map(|bias| &bias[run.expert * dim..][..dim]),
                    first: 0,
                    out: &out,
                    outs: dim,
                    to: Some(&choices.all[run.first..run.first + run.rows]),
                    rows: run.rows,
                    after: After::Add,
                    // SAFETY: as in `linear`.
                    scratch: unsafe { &mut *rooms.at(thread) },
                };
                // SAFETY: the set is available; shapes were checked; outputs of a block are one task's.
                unsafe { isa.run(job) }
            }
        });
    }
}

/// Makes the choices' rows ready for products; `of` gives the row of a choice by the choice's number, the step's row and
/// the number of columns.
fn fill<'a>(
    m: &mut Machine<'_>,
    choices: &Choices,
    weights: &[Weight],
    of: impl Fn(usize, usize, usize) -> (&'a [f32], Option<norm::View<'a>>) + Sync,
) -> View {
    let cols = weights[0].cols;
    m.panel.reserve(choices.places, cols);
    m.scratch.iter_mut().for_each(|scratch| scratch.reserve(cols));
    let view = m.panel.view(cols);
    let quantize = weights.iter().flat_map(|weight| &weight.parts).any(|part| part.kind.quantized());
    let (isa, rooms) = (m.isa, Rooms(m.scratch.as_mut_ptr()));
    let fill = |i: usize, thread: usize| {
        let choice = &choices.all[i];
        let (x, norm) = of(i, choice.row as usize, cols);
        // SAFETY: the set is available; the panel has room for every place, and no two choices have the same; a thread's
        // scratch is its own.
        unsafe {
            let order = weights[choice.expert as usize].order.as_deref();
            let order = order.map(|order| (order, (*rooms.at(thread)).row(cols)));
            isa.run(Fill { view, row: choice.place as usize, x, norm, order, quantize })
        }
    };
    if choices.all.len() * cols < 4096 {
        (0..choices.all.len()).for_each(|i| fill(i, 0));
    } else {
        m.pool.run(choices.all.len(), fill);
    }
    view
}
