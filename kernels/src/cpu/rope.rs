//! `rope_store`: split qkv rows, rotate q and k by position, store k and v into the cache.

use super::kv::Pages;
use super::lanes::{Isa, Job, Lanes};
use super::pool::Pool;
use crate::{MAX_HEAD_DIM, NO_SLOT, Pairing, Row};

/// cos and sin of every row of a step, for one set of frequencies: `[row][cos: dims/2, sin: dims/2]`.
#[derive(Default)]
pub struct Turns {
    values: Vec<f32>,
    /// Which frequencies these are for.
    of: Option<*const f32>,
}

// SAFETY: the pointer is compared, never followed.
unsafe impl Send for Turns {}

impl Turns {
    /// A new step: what was computed is of no use any more.
    pub fn forget(&mut self) {
        self.of = None;
    }

    /// The table for these frequencies, computed once a step.
    pub fn table(&mut self, rows: &[Row], frequencies: &[f32], factor: f32) -> &[f32] {
        if self.of != Some(frequencies.as_ptr()) {
            self.values.clear();
            for row in rows {
                let angles = frequencies.iter().map(|f| row.position as f32 * f);
                self.values.extend(angles.clone().map(|a| a.cos() * factor));
                self.values.extend(angles.map(|a| a.sin() * factor));
            }
            self.of = Some(frequencies.as_ptr());
        }
        &self.values
    }
}

/// The shape of the operation.
#[derive(Clone, Copy)]
pub struct Shape {
    pub pairing: Pairing,
    pub dims: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
}

/// Rotates one head in place.
fn rotate(x: &mut [f32], turns: &[f32], shape: Shape) {
    let half = shape.dims / 2;
    let (cos, sin) = turns.split_at(half);
    match shape.pairing {
        Pairing::Halves => {
            let (a, b) = x[..shape.dims].split_at_mut(half);
            for i in 0..half {
                (a[i], b[i]) = (a[i] * cos[i] - b[i] * sin[i], b[i] * cos[i] + a[i] * sin[i]);
            }
        }
        Pairing::Adjacent => {
            for (i, pair) in x[..shape.dims].chunks_exact_mut(2).enumerate() {
                let (a, b) = (pair[0], pair[1]);
                (pair[0], pair[1]) = (a * cos[i] - b * sin[i], b * cos[i] + a * sin[i]);
            }
        }
    }
}

struct Out(*mut f32);
// SAFETY: every thread writes rows of its own.
unsafe impl Sync for Out {}

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
    shape: Shape,
) {
    let Shape { dims, heads, kv_heads, head_dim, .. } = shape;
    let (q_width, kv_width) = (heads * head_dim, kv_heads * head_dim);
    let width = q_width + 2 * kv_width;
    let q = Out(q.as_mut_ptr());
    let pages = pages.shared();
    let one = |r: usize| {
        let q = &q;
        let row = &qkv[r * width..(r + 1) * width];
        let turns = &turns[r * dims..(r + 1) * dims];
        // SAFETY: rows are disjoint, and `q` has as many as the step.
        let out = unsafe { std::slice::from_raw_parts_mut(q.0.add(r * q_width), q_width) };
        out.copy_from_slice(&row[..q_width]);
        for head in out.chunks_exact_mut(head_dim) {
            rotate(head, turns, shape);
        }
        if rows[r].slot == NO_SLOT {
            return;
        }
        let mut key = [0.0; MAX_HEAD_DIM];
        for head in 0..kv_heads {
            let key = &mut key[..head_dim];
            key.copy_from_slice(&row[q_width + head * head_dim..][..head_dim]);
            rotate(key, turns, shape);
            let value = &row[q_width + kv_width + head * head_dim..][..head_dim];
            // SAFETY: every row of a step has a slot of its own, which the pool holds (checked in `run`).
            unsafe {
                let place = pages.place(rows[r].slot, layer, head);
                isa.run(Store { place, key, value });
            }
        }
    };
    if rows.len() < 8 {
        (0..rows.len()).for_each(one);
    } else {
        pool.run(rows.len().div_ceil(8), |task, _| (task * 8..rows.len().min(task * 8 + 8)).for_each(one));
    }
}

struct Store<'a> {
    place: super::kv::Place,
    key: &'a [f32],
    value: &'a [f32],
}

impl Job for Store<'_> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        // SAFETY: the place is this row's own.
        unsafe { self.place.store::<L>(self.key, self.value) }
    }
}
