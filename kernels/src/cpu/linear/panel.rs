//! Input rows made ready for products: normed, brought into the order of the columns, and for quantized weights turned
//! into int8 blocks of 32.

use super::super::lanes::{GROUP, Job, LANES, Lanes};
use super::super::norm;

/// Rows in a tile of the panel.
pub const TILE_ROWS: usize = 8;

/// Input rows made ready for products. Tiles of eight rows: `values[tile][group][8][32]`, the rest `[tile][group][8]`.
#[derive(Default)]
pub struct Panel {
    /// Normed rows, row after row.
    floats: Vec<f32>,
    values: Vec<i8>,
    scales: Vec<f32>,
    /// scale · Σ values
    offsets: Vec<f32>,
    sums: Vec<i32>,
    /// Σ of the first 16 values.
    firsts: Vec<i32>,
}

impl Panel {
    /// Bytes of one for `rows` rows of `cols` values.
    pub fn bytes(rows: usize, cols: usize) -> usize {
        let tiles = rows.next_multiple_of(TILE_ROWS);
        tiles * (cols * size_of::<f32>() + cols.div_ceil(GROUP) * (GROUP + 4 * size_of::<f32>()))
    }

    /// Makes room for `rows` rows of `cols` values; allocates only when it must grow.
    pub fn reserve(&mut self, rows: usize, cols: usize) {
        let tiles = rows.div_ceil(TILE_ROWS) * TILE_ROWS;
        let groups = tiles * cols.div_ceil(GROUP);
        if self.floats.len() < tiles * cols {
            self.floats.resize(tiles * cols, 0.0);
        }
        if self.scales.len() < groups {
            self.values.resize(groups * GROUP, 0);
            self.scales.resize(groups, 0.0);
            self.offsets.resize(groups, 0.0);
            self.sums.resize(groups, 0);
            self.firsts.resize(groups, 0);
        }
    }

    /// The rows as they were given, normed.
    pub fn floats(&self) -> &[f32] {
        &self.floats
    }

    /// Views for threads, over rows of `cols` values.
    pub fn view(&mut self, cols: usize) -> View {
        View {
            floats: self.floats.as_mut_ptr(),
            values: self.values.as_mut_ptr(),
            scales: self.scales.as_mut_ptr(),
            offsets: self.offsets.as_mut_ptr(),
            sums: self.sums.as_mut_ptr(),
            firsts: self.firsts.as_mut_ptr(),
            cols,
        }
    }
}

/// Raw views of a panel, for the threads.
#[derive(Clone, Copy)]
pub struct View {
    pub floats: *mut f32,
    pub values: *mut i8,
    pub scales: *mut f32,
    pub offsets: *mut f32,
    pub sums: *mut i32,
    pub firsts: *mut i32,
    pub cols: usize,
}

// SAFETY: threads write disjoint rows while the panel is filled and only read afterwards.
unsafe impl Sync for View {}

impl View {
    /// The same panel without its first `tile` tiles.
    pub fn past(self, tile: usize) -> View {
        let at = self.at(tile * TILE_ROWS, 0);
        View {
            floats: self.floats.wrapping_add(tile * TILE_ROWS * self.cols),
            values: self.values.wrapping_add(at * GROUP),
            scales: self.scales.wrapping_add(at),
            offsets: self.offsets.wrapping_add(at),
            sums: self.sums.wrapping_add(at),
            firsts: self.firsts.wrapping_add(at),
            cols: self.cols,
        }
    }

    /// Index of (row, group) in the per-group arrays.
    #[inline(always)]
    pub fn at(&self, row: usize, group: usize) -> usize {
        (row / TILE_ROWS * (self.cols / GROUP) + group) * TILE_ROWS + row % TILE_ROWS
    }
}

/// Norms one row into the panel, orders and quantizes it.
pub struct Fill<'a> {
    pub view: View,
    pub row: usize,
    pub x: &'a [f32],
    pub norm: Option<norm::View<'a>>,
    /// Which value belongs to each column, and room for a row.
    pub order: Option<(&'a [u32], &'a mut [f32])>,
    pub quantize: bool,
}

impl Job for Fill<'_> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let View { floats, values, scales, offsets, sums, firsts, cols } = self.view;
        // SAFETY: the row lies in the panel; it is this thread's.
        unsafe {
            let row = std::slice::from_raw_parts_mut(floats.add(self.row * cols), cols);
            let gather = |order: &[u32], from: &[f32], row: &mut [f32]| {
                row.iter_mut().zip(order).for_each(|(value, input)| *value = from[*input as usize]);
            };
            match (self.norm, self.order) {
                (Some(norm), None) => norm::row::<L, false>(norm, self.x, row),
                (None, None) => row.copy_from_slice(self.x),
                (None, Some((order, _))) => gather(order, self.x, row),
                (Some(norm), Some((order, normed))) => {
                    norm::row::<L, false>(norm, self.x, normed);
                    gather(order, normed, row);
                }
            }
            if !self.quantize {
                return;
            }
            for group in 0..cols / GROUP {
                let x = row.as_ptr().add(group * GROUP);
                let (low, high) = (L::load(x), L::load(x.add(LANES)));
                let most = L::greatest(L::max(L::abs(low), L::abs(high)));
                let scale = most / 127.0;
                let inverse = L::splat(if most > 0.0 { 127.0 / most } else { 0.0 });
                let at = self.view.at(self.row, group);
                let q = values.add(at * GROUP);
                L::store_i8(q, L::mul(low, inverse));
                L::store_i8(q.add(LANES), L::mul(high, inverse));
                let (sum, first) = L::sums_i8(q);
                *scales.add(at) = scale;
                *offsets.add(at) = scale * sum as f32;
                *sums.add(at) = sum;
                *firsts.add(at) = first;
            }
        }
    }
}
