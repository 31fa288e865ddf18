//! `linear`: matrix products with fused norm, bias, activation and residual.
//!
//! The input rows are normed and, for quantized weights, turned into int8 blocks of 32 (scale: greatest magnitude / 127,
//! values rounded to even) in a standing [`Panel`]. Then every thread takes blocks of 16 outputs. One row streams the
//! records of a block; more rows spread the block over a scratch once and sweep it in tiles.
//!
//! The definition, per output, groups of 32 k in order, `acc` starting at 0:
//! `acc = fma(f32(Σ q·a), d·da, acc)`, then with a minimum `acc = fma(m, da·Σa, acc)`; Q4 takes 8·Σa off the integer
//! sum, Mxfp4, whose q are the doubled floats plus 12, 12·Σa; Q6K does it for each half of a group, with 32·Σa of that half; Int4 and Int8 take off zero point·Σa. Float
//! weights: `acc = fma(w, x, acc)`, k in order.

pub mod experts;
mod panel;
mod sweep;

pub use panel::Panel;

use super::lanes::{GROUP, Isa, Job, LANES, LINE, Lanes};
use super::pack::Packed;
use super::pool::Pool;
use super::{math, norm};
use crate::{After, Products};
use panel::{Fill, TILE_ROWS, View};
use sweep::{Spread, dot, spread, sweep};

/// What one call of `linear` works on.
pub struct Product<'a> {
    /// Parts of the weight, stacked.
    pub parts: &'a [Packed],
    /// Of the columns of all parts: column c is for input `order[c]`.
    pub order: Option<&'a [u32]>,
    /// Bias over all outputs.
    pub bias: Option<&'a [f32]>,
    /// Input rows.
    pub x: &'a [f32],
    /// Norm of the input rows.
    pub norm: Option<norm::View<'a>>,
    /// Which input row is row i; `None`: row i.
    pub pick: Option<&'a [u32]>,
    /// Rows.
    pub rows: usize,
    /// Outputs, `rows x outs`.
    pub out: &'a mut [f32],
    /// What to do with the result.
    pub after: After,
}

/// One thread's room for a block that is spread (two for a gated pair), and for a row that is brought into order.
#[derive(Default)]
pub struct Scratch {
    lines: Vec<u8>,
    scales: Vec<f32>,
    row: Vec<f32>,
}

impl Scratch {
    /// Bytes of one for blocks of `cols` inputs.
    pub fn bytes(cols: usize) -> usize {
        let groups = cols.div_ceil(GROUP);
        2 * groups * (8 * LINE + 2 * LANES * size_of::<f32>())
    }

    /// Makes room for blocks of `cols` inputs; allocates only when it must grow.
    pub fn reserve(&mut self, cols: usize) {
        let groups = cols.div_ceil(GROUP);
        if self.lines.len() < 2 * groups * 8 * LINE + LINE {
            self.lines.resize(2 * groups * 8 * LINE + LINE, 0);
            self.scales.resize(2 * groups * 2 * LANES, 0.0);
        }
    }

    /// Room for a row of `cols` values; allocates only when it must grow.
    pub fn row(&mut self, cols: usize) -> &mut [f32] {
        if self.row.len() < cols {
            self.row.resize(cols, 0.0);
        }
        &mut self.row[..cols]
    }
}

/// Bytes of panels and scratches for a model. The rows of each expert begin a tile of their own.
pub fn room_bytes(p: &Products) -> usize {
    let bytes = |rows, cols| Panel::bytes(rows, cols) + p.threads * Scratch::bytes(cols);
    let choices = p.rows * p.chosen;
    let places = choices + (TILE_ROWS - 1) * p.experts.min(choices);
    bytes(p.rows, p.cols).max(bytes(places, p.dim.max(p.hidden))).max(bytes(p.rows, p.shared))
}

/// Runs a product on all threads of the pool.
pub fn linear(pool: &mut Pool, isa: Isa, panel: &mut Panel, scratch: &mut [Scratch], p: Product<'_>) {
    let cols = p.parts[0].cols;
    panel.reserve(p.rows, cols);
    for s in scratch.iter_mut() {
        s.reserve(cols);
    }
    let view = panel.view(cols);
    let quantize = p.parts.iter().any(|part| part.kind.quantized());
    let rooms = Rooms(scratch.as_mut_ptr());
    let fill = |row: usize, thread: usize| {
        let from = p.pick.map_or(row, |pick| pick[row] as usize);
        let x = &p.x[from * cols..(from + 1) * cols];
        // SAFETY: the set is available; the panel has room for `rows` rows, and every row is written by one thread, whose
        // scratch is its own.
        unsafe {
            let order = p.order.map(|order| (order, (*rooms.at(thread)).row(cols)));
            isa.run(Fill { view, row, x, norm: p.norm, order, quantize })
        }
    };
    // Rows that pad the last tile are swept with the others; what they hold is never stored, but must be finite work.
    if p.rows * cols < 4096 {
        (0..p.rows).for_each(|row| fill(row, 0));
    } else {
        pool.run(p.rows, fill);
    }

    let outs: usize = match p.after {
        After::Glu(_) => p.parts[0].rows,
        _ => p.parts.iter().map(|part| part.rows).sum(),
    };
    let blocks: usize = match p.after {
        After::Glu(_) => p.parts[0].blocks(),
        _ => p.parts.iter().map(Packed::blocks).sum(),
    };
    let out = Out(p.out.as_mut_ptr());
    // Enough tasks that threads finish together, few enough that taking one costs nothing.
    let per_task = (blocks / (pool.threads() * 8)).clamp(1, 64);
    let (parts, bias, rows, after) = (p.parts, p.bias, p.rows, p.after);
    pool.run(blocks.div_ceil(per_task), |task, thread| {
        for block in task * per_task..blocks.min((task + 1) * per_task) {
            let (part, first, block) = locate(parts, block);
            let job = Block {
                view,
                part,
                gated: matches!(after, After::Glu(_)).then(|| &parts[1]),
                block,
                bias,
                first,
                out: &out,
                outs,
                to: None,
                rows,
                after,
                // SAFETY: `thread` is below the number of scratches and its own.
                scratch: unsafe { &mut *rooms.at(thread) },
            };
            // SAFETY: the set is available; shapes were checked when the weight and the buffers were made.
            unsafe { isa.run(job) }
        }
    });
}

/// The part that holds a block, the number of its first output, and the block's number within it.
fn locate(parts: &[Packed], mut block: usize) -> (&Packed, usize, usize) {
    let mut first = 0;
    let mut parts = parts.iter();
    let mut part = parts.next().expect("a weight has a part");
    while block >= part.blocks() {
        block -= part.blocks();
        first += part.rows;
        part = parts.next().expect("block numbers stay below the weight's");
    }
    (part, first, block)
}

struct Out(*mut f32);
// SAFETY: every thread writes outputs of its own blocks.
unsafe impl Sync for Out {}
impl Out {
    /// The output from a later value on.
    fn after(&self, values: usize) -> Out {
        Out(self.0.wrapping_add(values))
    }
}

struct Rooms(*mut Scratch);
// SAFETY: every thread takes the scratch of its own number.
unsafe impl Sync for Rooms {}
impl Rooms {
    fn at(&self, thread: usize) -> *mut Scratch {
        // SAFETY: `linear` gives one scratch per thread.
        unsafe { self.0.add(thread) }
    }
}

/// One block of 16 outputs (and its partner under a gate), for all rows.
struct Block<'a> {
    view: View,
    part: &'a Packed,
    gated: Option<&'a Packed>,
    block: usize,
    bias: Option<&'a [f32]>,
    /// Number of the part's first output.
    first: usize,
    out: &'a Out,
    /// Columns of the output.
    outs: usize,
    /// Under `After::Add`: to which rows of the output the rows are added, and times what; `None`: to their own.
    to: Option<&'a [experts::Choice]>,
    rows: usize,
    after: After,
    scratch: &'a mut Scratch,
}

impl Job for Block<'_> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        // SAFETY: the caller of the job vouches for set and shapes.
        unsafe {
            if self.rows == 1 {
                let y = dot::<L>(self.part, self.block, &self.view);
                let up = self.gated.map(|part| dot::<L>(part, self.block, &self.view));
                self.finish::<L>(0, y, up);
                return;
            }
            let groups = self.part.cols / GROUP;
            let lines = self.scratch.lines.as_mut_ptr();
            let lines = lines.add(lines.align_offset(LINE));
            let scales = self.scratch.scales.as_mut_ptr();
            let one = Spread { lines, scales };
            let two = Spread { lines: lines.add(groups * 8 * LINE), scales: scales.add(groups * 2 * LANES) };
            spread::<L>(self.part, self.block, one);
            if let Some(part) = self.gated {
                spread::<L>(part, self.block, two);
            }
            let mut row = 0;
            while row < self.rows {
                let left = self.rows - row;
                if L::TILE == 8 && left > 4 {
                    self.tile::<L, 8>(row, one, two);
                    row += 8;
                } else if left > 2 {
                    self.tile::<L, 4>(row, one, two);
                    row += 4;
                } else {
                    self.tile::<L, 2>(row, one, two);
                    row += 2;
                }
            }
        }
    }
}

impl Block<'_> {
    #[inline(always)]
    unsafe fn tile<L: Lanes, const R: usize>(&self, row: usize, one: Spread, two: Spread) {
        // SAFETY: rows row..row + R lie in one tile of the panel, which is filled up to a whole tile.
        unsafe {
            let y = sweep::<L, R>(self.part, self.block, one, &self.view, row, self.rows);
            let up = self.gated.map(|part| sweep::<L, R>(part, self.block, two, &self.view, row, self.rows));
            for r in 0..R.min(self.rows - row) {
                self.finish::<L>(row + r, y[r], up.map(|up| up[r]));
            }
        }
    }

    /// Bias, activation or residual, and the store of up to 16 outputs of one row.
    #[inline(always)]
    unsafe fn finish<L: Lanes>(&self, row: usize, y: L::F, up: Option<L::F>) {
        let from = self.first + self.block * LANES;
        let valid = LANES.min(self.part.rows - self.block * LANES);
        // SAFETY: `valid` outputs from `from` on exist in every row and in the bias; other lanes go through arrays.
        unsafe {
            let biased = |y: L::F, from: usize| match self.bias {
                Some(bias) => L::add(y, load_some::<L>(bias.as_ptr().add(from), valid)),
                None => y,
            };
            let y = biased(y, from);
            if let Some(to) = self.to {
                let out = self.out.0.add(to[row].row as usize * self.outs + from);
                let sum = L::fma(L::splat(to[row].factor), y, load_some::<L>(out, valid));
                return store_some::<L>(out, sum, valid);
            }
            let out = self.out.0.add(row * self.outs + from);
            let y = match (self.after, up) {
                (After::Store, _) => y,
                (After::Add, _) => L::add(load_some::<L>(out, valid), y),
                (After::Act(act), _) => math::act::<L>(act, y),
                (After::Glu(act), Some(up)) => math::gated::<L>(act, y, biased(up, self.outs + from)),
                (After::Glu(_), None) => y,
            };
            store_some::<L>(out, y, valid);
        }
    }
}

#[inline(always)]
unsafe fn load_some<L: Lanes>(p: *const f32, valid: usize) -> L::F {
    // SAFETY: the caller vouches for `valid` values.
    unsafe {
        if valid == LANES {
            return L::load(p);
        }
        let mut lanes = [0.0; LANES];
        std::ptr::copy_nonoverlapping(p, lanes.as_mut_ptr(), valid);
        L::load(lanes.as_ptr())
    }
}

#[inline(always)]
unsafe fn store_some<L: Lanes>(p: *mut f32, x: L::F, valid: usize) {
    // SAFETY: the caller vouches for `valid` values.
    unsafe {
        if valid == LANES {
            return L::store(p, x);
        }
        let mut lanes = [0.0; LANES];
        L::store(lanes.as_mut_ptr(), x);
        std::ptr::copy_nonoverlapping(lanes.as_ptr(), p, valid);
    }
}
