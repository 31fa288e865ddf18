//! `rope_store`: split qkv rows, normalise the heads of q and k where asked, rotate them by position, store k and v
//! into the cache.

use super::kv::{Pages, Shared};
use super::lanes::{Isa, Job, Lanes};
use super::norm;
use super::pool::Pool;
use crate::{MAX_HEAD_DIM, NO_SLOT, Pairing, Row};

/// cos and sin of every row of a step. Layers that turn alike share a table.
#[derive(Default)]
pub struct Turns {
    tables: Vec<Table>,
}

/// The turns for one set of frequencies: `[row][cos: dims/2, sin: dims/2]`.
struct Table {
    frequencies: Vec<f32>,
    factor: f32,
    values: Vec<f32>,
    /// Whether the values are those of the current step.
    fresh: bool,
}

impl Turns {
    /// A new step: what was computed is of no use any more.
    pub fn forget(&mut self) {
        self.tables.iter_mut().for_each(|table| table.fresh = false);
    }

    /// The table for these frequencies, computed once a step.
    pub fn table(&mut self, rows: &[Row], frequencies: &[f32], factor: f32) -> &[f32] {
        let known = |table: &Table| table.factor == factor && table.frequencies == frequencies;
        let at = self.tables.iter().position(known).unwrap_or_else(|| {
            self.tables.push(Table { frequencies: frequencies.into(), factor, values: Vec::new(), fresh: false });
            self.tables.len() - 1
        });
        let table = &mut self.tables[at];
        if !table.fresh {
            table.values.clear();
            rows.iter().for_each(|row| turn(&mut table.values, row.position as f32, frequencies, factor));
            table.fresh = true;
        }
        &table.values
    }
}

/// Appends the cos and sin of one position.
pub fn turn(table: &mut Vec<f32>, position: f32, frequencies: &[f32], factor: f32) {
    let angles = frequencies.iter().map(|f| position * f);
    table.extend(angles.clone().map(|a| a.cos() * factor));
    table.extend(angles.map(|a| a.sin() * factor));
}

/// The shape of the operation.
#[derive(Clone, Copy)]
pub struct Shape<'a> {
    pub pairing: Pairing,
    pub dims: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub q_norm: Option<norm::View<'a>>,
    pub k_norm: Option<norm::View<'a>>,
    pub whole_norms: bool,
}

/// The norm of the heads of a row.
#[derive(Clone, Copy)]
struct HeadNorm<'a> {
    norm: norm::View<'a>,
    /// What was found in all heads together, where that is asked.
    found: Option<(f32, f32)>,
}

impl<'a> HeadNorm<'a> {
    /// That of `heads`, the whole of q or k.
    #[inline(always)]
    unsafe fn new<L: Lanes>(norm: Option<norm::View<'a>>, whole: bool, heads: &[f32]) -> Option<HeadNorm<'a>> {
        // SAFETY: the caller vouches for the set.
        norm.map(|norm| HeadNorm { norm, found: whole.then(|| unsafe { norm::found::<L>(norm, heads) }) })
    }

    /// Norms one head.
    #[inline(always)]
    unsafe fn apply<L: Lanes>(&self, head: usize, x: &[f32], into: &mut [f32]) {
        let own =
            |values: &'a [f32]| if values.len() > x.len() { &values[head * x.len()..][..x.len()] } else { values };
        let norm = norm::View { weight: own(self.norm.weight), bias: self.norm.bias.map(own), ..self.norm };
        // SAFETY: the caller vouches for set and lengths.
        unsafe {
            let found = self.found.unwrap_or_else(|| norm::found::<L>(norm, x));
            norm::scale::<L, false>(norm, found, x, into);
        }
    }
}

/// Rotates one head in place.
#[inline(always)]
fn rotate(x: &mut [f32], turns: &[f32], pairing: Pairing, dims: usize) {
    let half = dims / 2;
    let (cos, sin) = turns.split_at(half);
    match pairing {
        Pairing::Halves => {
            let (a, b) = x[..dims].split_at_mut(half);
            for i in 0..half {
                (a[i], b[i]) = (a[i] * cos[i] - b[i] * sin[i], b[i] * cos[i] + a[i] * sin[i]);
            }
        }
        Pairing::Adjacent => {
            for (i, pair) in x[..dims].chunks_exact_mut(2).enumerate() {
                let (a, b) = (pair[0], pair[1]);
                (pair[0], pair[1]) = (a * cos[i] - b * sin[i], b * cos[i] + a * sin[i]);
            }
        }
    }
}

/// The operation, over all rows.
#[allow(clippy::too_many_arguments)]
pub fn rope_store(
    pool: &mut Pool,
    isa: Isa,
    q: &mut [f32],
    qkv: &[f32],
    pages: &mut Pages,
    layer: usize,
    rows: &[Row],
    turns: &[f32],
    shape: Shape<'_>,
) {
    let q_width = shape.heads * shape.head_dim;
    let width = q_width + 2 * shape.kv_heads * shape.head_dim;
    let pages = pages.shared();
    let one = |r: usize, q: &mut [f32]| {
        let row = &qkv[r * width..(r + 1) * width];
        let turns = &turns[r * shape.dims..(r + 1) * shape.dims];
        // SAFETY: the set is available; every row of a step has a slot of its own, which the pool holds (checked in
        // `run`).
        unsafe { isa.run(One { row, q, turns, pages: &pages, layer, slot: rows[r].slot, shape }) }
    };
    let q = &mut q[..rows.len() * q_width];
    if rows.len() < 8 {
        q.chunks_exact_mut(q_width).enumerate().for_each(|(r, q)| one(r, q));
    } else {
        pool.chunks(q, q_width, 8, one);
    }
}

/// One row.
struct One<'a> {
    row: &'a [f32],
    q: &'a mut [f32],
    turns: &'a [f32],
    pages: &'a Shared,
    layer: usize,
    slot: u32,
    shape: Shape<'a>,
}

impl Job for One<'_> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Shape { pairing, dims, heads, kv_heads, head_dim, q_norm, k_norm, whole_norms } = self.shape;
        let (q, kv) = self.row.split_at(heads * head_dim);
        let (k, v) = kv.split_at(kv_heads * head_dim);
        // SAFETY: the set is there.
        let q_norm = unsafe { HeadNorm::new::<L>(q_norm, whole_norms, q) };
        for (i, (x, head)) in q.chunks_exact(head_dim).zip(self.q.chunks_exact_mut(head_dim)).enumerate() {
            // SAFETY: equal lengths; the set is there.
            unsafe { copy::<L>(q_norm, i, x, head) };
            rotate(head, self.turns, pairing, dims);
        }
        if self.slot == NO_SLOT {
            return;
        }
        // SAFETY: the set is there.
        let k_norm = unsafe { HeadNorm::new::<L>(k_norm, whole_norms, k) };
        let mut key = [0.0; MAX_HEAD_DIM];
        let key = &mut key[..head_dim];
        for (head, (x, value)) in k.chunks_exact(head_dim).zip(v.chunks_exact(head_dim)).enumerate() {
            // SAFETY: equal lengths; the place is this row's own.
            unsafe {
                copy::<L>(k_norm, head, x, key);
                rotate(key, self.turns, pairing, dims);
                self.pages.place(self.slot, self.layer, head).store::<L>(key, value);
            }
        }
    }
}

/// A head, normalised where asked.
#[inline(always)]
unsafe fn copy<L: Lanes>(norm: Option<HeadNorm<'_>>, head: usize, x: &[f32], into: &mut [f32]) {
    match norm {
        // SAFETY: the caller vouches for set and lengths.
        Some(norm) => unsafe { norm.apply::<L>(head, x, into) },
        None => into.copy_from_slice(x),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_kept_for_a_step() {
        let row = |position| Row { token: 0, position, slot: 0, sequence: 0, visible: 1 };
        let mut turns = Turns::default();
        let table =
            |turns: &mut Turns, position, frequency, factor| turns.table(&[row(position)], &[frequency], factor)[1];
        let sin = |turns: &mut Turns| {
            [(0.5, 1.0), (0.25, 1.0), (0.5, 2.0)].map(|(frequency, factor)| table(turns, 2, frequency, factor))
        };
        let expected = [1f32.sin(), 0.5f32.sin(), 2.0 * 1f32.sin()];
        assert_eq!((sin(&mut turns), sin(&mut turns)), (expected, expected));
        assert_eq!((table(&mut turns, 4, 0.5, 1.0), turns.tables.len()), (1f32.sin(), 3), "the step's own");
        turns.forget();
        assert_eq!((table(&mut turns, 4, 0.5, 1.0), turns.tables.len()), (2f32.sin(), 3));
    }
}
