//! Products of one to eight rows: the launcher of `cuda/linear_decode.cu`. It decides how many warps share an item (16
//! outputs, or 16 gates and their ups), how many blocks there are, and whether they split the inputs too.

use super::driver::{About, Arg, Driver};
use super::linear::{InputNorm, Product, after_code};
use super::weight::{Kind, Part, TILE_ROWS};
use super::{Cuda, DECODE_ROWS, Wants};
use crate::{After, Result};

/// Bytes of activations that a block keeps, at most: with the warps' sums it stays below 48 KB.
const MOST_X: usize = 32 << 10;
/// Tiles that a warp holds.
const DEPTH: usize = 2;
/// Floats that a row of 16 sums takes.
const SUM_STRIDE: usize = 20;
/// Tiles of 128 inputs that are worth a block of their own.
const LEAST_TILES: usize = 16;
/// Warps per multiprocessor below which more warps per item are better than fuller ones.
const FEW_WARPS: usize = 16;

/// How a product is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    /// Warps of a block.
    warps: usize,
    /// Blocks that share the items.
    blocks: usize,
    /// Parts of the inputs.
    splits: usize,
    /// Tiles of inputs in each part but the last.
    k_tiles: usize,
    /// Bytes of shared memory.
    shared: usize,
}

impl Plan {
    fn new(about: &About, part: &Part, rows: usize, glu: bool) -> Plan {
        let (tiles, multiprocessors) = (part.tiles(), about.multiprocessors as usize);
        let items = part.rows.div_ceil(TILE_ROWS) >> usize::from(glu);
        // Few outputs: the inputs are split until there are two blocks for each multiprocessor.
        let fill = (2 * multiprocessors / items.max(1)).min(tiles / LEAST_TILES);
        let splits = fill.max((tiles * rows * 256).div_ceil(MOST_X)).max(1);
        let k_tiles = tiles.div_ceil(splits).max(1);
        let splits = tiles.div_ceil(k_tiles).max(1);
        let warps = warps(about, items * splits, k_tiles);
        let shared = shared(k_tiles, rows, warps);
        // All blocks run at a time, and all make as many items, as far as that can be.
        let by_shared = about.shared_bytes as usize / (shared + 1024);
        let at_a_time = multiprocessors * (resident_warps(about, part.kind) / warps).min(by_shared).max(1);
        let each = (items * splits).div_ceil(at_a_time).max(1);
        Plan { warps, blocks: items.div_ceil(each).max(1), splits, k_tiles, shared }
    }

    /// Bytes of partial results.
    fn partial(&self, part: &Part, rows: usize) -> usize {
        let sums = part.rows.next_multiple_of(TILE_ROWS) * rows;
        if self.splits > 1 { 4 * self.splits * sums } else { 0 }
    }
}

/// Warps that share an item, of so many at a time.
pub(super) fn warps(about: &About, items: usize, k_tiles: usize) -> usize {
    // The part of the warps' registers for weights that holds some, if an item is shared by so many.
    let full = |warps: usize| k_tiles as f32 / (warps * k_tiles.div_ceil(warps).next_multiple_of(DEPTH)) as f32;
    let few = items * 4 < FEW_WARPS * about.multiprocessors as usize;
    if few || full(8) >= full(4) { 8 } else { 4 }
}

/// Bytes of shared memory of a block: rows of activations, and twice the warps' sums.
pub(super) fn shared(k_tiles: usize, rows: usize, warps: usize) -> usize {
    k_tiles * rows * 256 + 2 * warps * rows * SUM_STRIDE * 4
}

/// Warps for which a multiprocessor has registers; `Resident` of `cuda/linear_decode.cuh`.
fn resident_warps(about: &About, kind: Kind) -> usize {
    if matches!(kind, Kind::F16 | Kind::Z8(_)) || about.capability < 80 { 16 } else { 24 }
}

fn kernel(kind: Kind) -> &'static str {
    match kind {
        Kind::F16 => "linear_decode_f16",
        Kind::Q8 => "linear_decode_q8",
        Kind::Q4 => "linear_decode_q4",
        Kind::Q4M => "linear_decode_q4m",
        Kind::Q4K => "linear_decode_q4k",
        Kind::Q6K => "linear_decode_q6k",
        Kind::Z4(_) => "linear_decode_z4",
        Kind::Z8(_) => "linear_decode_z8",
        Kind::Mx4 => "linear_decode_mx4",
    }
}

impl<D: Driver> Cuda<D> {
    /// The room that products with a part can need.
    pub(super) fn decode_wants(&self, part: &Part) -> Wants {
        let plans = (1..=DECODE_ROWS).flat_map(|rows| [false, true].map(|glu| (rows, glu)));
        let bytes = |(rows, glu)| Plan::new(self.driver.about(), part, rows, glu).partial(part, rows);
        let partial = plans.map(bytes).max().unwrap_or(0);
        let counters = if partial > 0 { part.rows.div_ceil(TILE_ROWS) } else { 0 };
        Wants { partial, counters, ..Wants::default() }
    }

    pub(super) fn decode(&self, product: &Product<'_>) -> Result<()> {
        let Product { part, input, out, bias, after, rows } = *product;
        let plan = Plan::new(self.driver.about(), part, rows as usize, matches!(after, After::Glu(_)));
        let made = self.room.made;
        assert!(
            plan.partial(part, rows as usize) <= made.partial
                && (plan.splits == 1 || part.rows.div_ceil(TILE_ROWS) <= made.counters),
            "room was made for a split product"
        );
        let [norm, norm_weight, norm_bias, eps] = InputNorm::args(input.norm);
        let args = [
            Arg::Ptr(part.quants),
            Arg::Ptr(part.scales),
            Arg::Ptr(part.supers),
            Arg::F32(part.unscale),
            Arg::U32(part.rows as u32),
            Arg::Ptr(input.at),
            Arg::U32(u32::from(input.half)),
            Arg::U32(input.stride),
            Arg::Ptr(input.gather),
            Arg::U32(part.cols as u32),
            Arg::U32(rows),
            norm,
            norm_weight,
            norm_bias,
            eps,
            Arg::Ptr(out.at),
            Arg::U32(u32::from(out.half)),
            Arg::U32(out.stride),
            Arg::U32(part.first as u32),
            Arg::Ptr(bias),
            Arg::U32(after_code(after)),
            Arg::U32(plan.k_tiles as u32),
            Arg::Ptr(self.room.partial),
            Arg::Ptr(self.room.counters),
            Arg::U32(part.kind.shift().unwrap_or(0)),
        ];
        // Only kernels of kinds whose groups are as long as the file has them are told how long.
        let args = if part.kind.shift().is_some() { &args[..] } else { &args[..args.len() - 1] };
        let grid = [plan.blocks as u32, plan.splits as u32, 1];
        self.launch(kernel(part.kind), grid, 32 * plan.warps as u32, plan.shared as u32, args)
    }
}
