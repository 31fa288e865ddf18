//! Products of many rows: the launcher of `cuda/linear_prefill.cu` and of `cuda/linear_prefill_72.cu`. It chooses what a
//! block makes, and whether the inputs are split among blocks as well.

use super::driver::{About, Arg, Driver};
use super::linear::{Output, Product, after_code};
use super::weight::{Kind, TILE_ROWS};
use super::{Cuda, Wants};
use crate::{After, Result};

/// What a block makes: so many outputs of so many rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub outputs: usize,
    pub rows: usize,
    /// Blocks per multiprocessor that make it worth while.
    wanted: usize,
}

/// For devices of capability 8 and on; of those that fit the rows, the first that fills the machine.
const SHAPES: [Shape; 5] = [
    Shape { outputs: 128, rows: 128, wanted: 1 },
    Shape { outputs: 128, rows: 64, wanted: 2 },
    Shape { outputs: 128, rows: 32, wanted: 2 },
    Shape { outputs: 64, rows: 64, wanted: 2 },
    Shape { outputs: 64, rows: 32, wanted: 2 },
];
/// For those before.
const SHAPES_72: [Shape; 2] = [Shape { outputs: 64, rows: 64, wanted: 1 }, Shape { outputs: 64, rows: 32, wanted: 2 }];

/// The last capability whose kernels are those of `linear_prefill_72.cu`.
pub(super) const LAST_OF_72: u32 = 79;
/// Tiles of 128 inputs that are worth a block of their own.
const LEAST_TILES: usize = 8;
/// The most blocks among which the inputs are split.
const MOST_SPLITS: usize = 8;

impl Shape {
    fn blocks(self, outputs: usize, rows: usize) -> usize {
        outputs.div_ceil(self.outputs) * rows.div_ceil(self.rows)
    }

    fn choose(about: &About, kind: Kind, tiles: usize, outputs: usize, rows: usize) -> Shape {
        let shapes = if about.capability > LAST_OF_72 { &SHAPES[..] } else { &SHAPES_72 };
        let most = rows.clamp(32, 128).next_power_of_two();
        let fits = |shape: &&Shape| {
            let blocks = shape.blocks(outputs, rows) * shape.splits(about, tiles, outputs, rows);
            let filled = 4 * blocks >= 3 * shape.wanted * about.multiprocessors as usize;
            (most.min(64)..=most).contains(&shape.rows) && filled && shape.shared(about, kind) <= about.shared_bytes
        };
        *shapes.iter().find(fits).unwrap_or(&shapes[shapes.len() - 1])
    }

    /// For experts, of which each has so many rows.
    pub fn of_experts(about: &About, rows: usize) -> Shape {
        let (outputs, most) = if about.capability > LAST_OF_72 { (128, 128) } else { (64, 64) };
        Shape { outputs, rows: rows.next_power_of_two().clamp(32, most), wanted: 1 }
    }

    /// Parts of the inputs: as many as fill the machine, unless they get too short.
    fn splits(self, about: &About, tiles: usize, outputs: usize, rows: usize) -> usize {
        let room = self.wanted * about.multiprocessors as usize / self.blocks(outputs, rows).max(1);
        if self.rows == 128 { 1 } else { room.min(tiles / LEAST_TILES).clamp(1, MOST_SPLITS) }
    }

    /// Bytes of weights that a block takes of each tile of 128 inputs, as they lie in shared memory: there groups that
    /// can be of any length have room for the shortest.
    fn weights(self, kind: Kind) -> usize {
        self.scales(kind) + self.outputs / TILE_ROWS * (kind.quants() + kind.supers())
    }

    fn scales(self, kind: Kind) -> usize {
        self.outputs / TILE_ROWS * (kind.scales() << kind.shift().unwrap_or(0))
    }

    /// Stages that a block has on their way or at hand, and the bytes of one.
    pub fn stages(self, kind: Kind) -> (usize, usize) {
        let tile = self.rows * 256;
        if matches!(kind, Kind::F16 | Kind::Q8 | Kind::Z8(_)) {
            // A stage is half a tile, and has all of its scales.
            let scales = self.scales(kind);
            return (3, (self.weights(kind) - scales + tile) / 2 + scales);
        }
        // Two of the larger ones leave room for another block.
        (if self.outputs == 128 && self.rows > 32 { 2 } else { 3 }, self.weights(kind) + tile)
    }

    /// Bytes of shared memory: of the stages, and, when these are done, of the sums.
    pub fn shared(self, about: &About, kind: Kind) -> u32 {
        let sums = self.rows * (self.outputs + 4) * 4;
        if about.capability <= LAST_OF_72 {
            // Two tiles of rows; the four parts of a warp have sums of their own.
            return (2 * self.rows * 256).max(4 * sums) as u32;
        }
        let (stages, bytes) = self.stages(kind);
        (stages * bytes).max(sums) as u32
    }

    /// Threads of a block: a warp makes 64 x 32, 32 x 32, or 16 x 32.
    pub fn threads(self, about: &About) -> u32 {
        let warp = if about.capability <= LAST_OF_72 { 16 } else { self.outputs / 2 };
        (self.outputs / warp * self.rows) as u32
    }

    fn kernel(self, about: &About, kind: Kind) -> &'static str {
        if about.capability <= LAST_OF_72 {
            return match kind {
                Kind::F16 => "linear_prefill_72_f16",
                Kind::Q8 => "linear_prefill_72_q8",
                Kind::Q4 => "linear_prefill_72_q4",
                Kind::Q4M => "linear_prefill_72_q4m",
                Kind::Q4K => "linear_prefill_72_q4k",
                Kind::Q6K => "linear_prefill_72_q6k",
                Kind::Z4(_) => "linear_prefill_72_z4",
                Kind::Z8(_) => "linear_prefill_72_z8",
                Kind::Mx4 => "linear_prefill_72_mx4",
            };
        }
        match (kind, self.outputs) {
            (Kind::F16, 128) => "linear_prefill_f16_wide",
            (Kind::Q8, 128) => "linear_prefill_q8_wide",
            (Kind::Q4, 128) => "linear_prefill_q4_wide",
            (Kind::Q4M, 128) => "linear_prefill_q4m_wide",
            (Kind::Q4K, 128) => "linear_prefill_q4k_wide",
            (Kind::Q6K, 128) => "linear_prefill_q6k_wide",
            (Kind::Z4(_), 128) => "linear_prefill_z4_wide",
            (Kind::Z8(_), 128) => "linear_prefill_z8_wide",
            (Kind::Mx4, 128) => "linear_prefill_mx4_wide",
            (Kind::F16, _) => "linear_prefill_f16_narrow",
            (Kind::Q8, _) => "linear_prefill_q8_narrow",
            (Kind::Q4, _) => "linear_prefill_q4_narrow",
            (Kind::Q4M, _) => "linear_prefill_q4m_narrow",
            (Kind::Q4K, _) => "linear_prefill_q4k_narrow",
            (Kind::Q6K, _) => "linear_prefill_q6k_narrow",
            (Kind::Z4(_), _) => "linear_prefill_z4_narrow",
            (Kind::Z8(_), _) => "linear_prefill_z8_narrow",
            (Kind::Mx4, _) => "linear_prefill_mx4_narrow",
        }
    }
}

impl<D: Driver> Cuda<D> {
    /// The room that products of split inputs need, whatever their sizes.
    pub(super) fn prefill_wants(&self) -> Wants {
        let about = self.driver.about();
        let largest = SHAPES.iter().map(|s| s.wanted * s.outputs * s.rows.min(64)).max().unwrap_or(0);
        Wants { partial: about.multiprocessors as usize * largest * 4, ..Wants::default() }
    }

    /// The input is f16, in order and normalised.
    pub(super) fn prefill(&self, product: &Product<'_>) -> Result<()> {
        let Product { part, input, out, bias, after, rows } = *product;
        let about = self.driver.about();
        let (tiles, n) = (part.tiles(), rows as usize);
        let shape = Shape::choose(about, part.kind, tiles, part.rows, n);
        let stride = part.rows.next_multiple_of(8);
        let mut splits = shape.splits(about, tiles, part.rows, n);
        if splits * n * stride * 4 > self.room.made.partial {
            splits = 1;
        }
        let whole = splits == 1;
        // Parts of the inputs give float32 sums; what is to be done with these is done when they are added up.
        let parts = Output { at: self.room.partial, half: false, stride: stride as u32 };
        let (to, bias_now, first, after_now, unscale) = match whole {
            true => (out, bias, part.first as u32, after, part.unscale),
            false => (parts, 0, 0, After::Store, 1.0),
        };
        // Blocks that run at a time read the weights of `at_a_time / band` blocks and the rows of `band`: fewest bytes
        // when both are as many.
        let at_a_time = shape.wanted * about.multiprocessors as usize;
        let band = (at_a_time * shape.weights(part.kind) / (shape.rows * 256)).isqrt().max(1);
        let blocks = (part.rows.div_ceil(shape.outputs), n.div_ceil(shape.rows));
        let bands = blocks.1.div_ceil(band);
        let grid = [blocks.1.div_ceil(bands) as u32, (blocks.0 * splits) as u32, bands as u32];
        let mut args = [Arg::U32(0); 18];
        let known = [
            Arg::Ptr(part.quants),
            Arg::Ptr(part.scales),
            Arg::Ptr(part.supers),
            Arg::Ptr(input.at),
            Arg::Ptr(to.at),
            Arg::Ptr(bias_now),
            Arg::U32(part.rows as u32),
            Arg::U32(part.cols as u32),
            Arg::U32(input.stride),
            Arg::U32(rows),
            Arg::U32(to.stride),
            Arg::U32(u32::from(to.half)),
            Arg::U32(first),
            Arg::U32(after_code(after_now)),
            Arg::U32(splits as u32),
            Arg::F32(unscale),
            Arg::U32(shape.stages(part.kind).0 as u32),
        ];
        // The kernels of 7.2 have no stages to count; those of kinds whose groups are of any length are told how long.
        let known = if about.capability <= LAST_OF_72 { &known[..known.len() - 1] } else { &known[..] };
        args[..known.len()].copy_from_slice(known);
        args[known.len()] = Arg::U32(part.kind.shift().unwrap_or(0));
        let args = &args[..known.len() + usize::from(part.kind.shift().is_some())];
        let (kernel, threads) = (shape.kernel(about, part.kind), shape.threads(about));
        self.launch(kernel, grid, threads, shape.shared(about, part.kind), args)?;
        if whole {
            return Ok(());
        }
        let width = if let After::Glu(_) = after { part.rows / 2 } else { part.rows };
        let args = [
            Arg::Ptr(self.room.partial),
            Arg::U32(splits as u32),
            Arg::U32(stride as u32),
            Arg::Ptr(out.at),
            Arg::Ptr(bias),
            Arg::U32(part.rows as u32),
            Arg::U32(out.stride),
            Arg::U32(u32::from(out.half)),
            Arg::U32(part.first as u32),
            Arg::U32(after_code(after)),
            Arg::F32(part.unscale),
        ];
        self.launch("linear_prefill_sum", [(width as u32).div_ceil(256), rows, 1], 256, 0, &args)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Group;

    const KINDS: [Kind; 9] = [
        Kind::F16,
        Kind::Q8,
        Kind::Q4,
        Kind::Q4M,
        Kind::Q4K,
        Kind::Q6K,
        Kind::Z4(Group::G128),
        Kind::Z8(Group::G32),
        Kind::Mx4,
    ];

    fn about(capability: u32, multiprocessors: u32, shared_kb: u32) -> About {
        About {
            name: String::new(),
            capability,
            multiprocessors,
            shared_bytes: shared_kb << 10,
            integrated: false,
            memory: 0,
            driver: 0,
        }
    }

    /// Outputs and rows of a block, and parts of the inputs.
    fn chosen(about: &About, outputs: usize, cols: usize, rows: usize) -> (usize, usize, usize) {
        let tiles = cols.div_ceil(128);
        let shape = Shape::choose(about, Kind::Q4, tiles, outputs, rows);
        (shape.outputs, shape.rows, shape.splits(about, tiles, outputs, rows))
    }

    #[test]
    fn shapes() {
        let h200 = about(90, 132, 227);
        assert_eq!(chosen(&h200, 14336, 4096, 512), (128, 128, 1));
        assert_eq!(chosen(&h200, 4096, 4096, 512), (128, 128, 1));
        assert_eq!(chosen(&h200, 4096, 4096, 64), (64, 64, 4));
        assert_eq!(chosen(&h200, 14336, 4096, 16), (128, 32, 2));
        assert_eq!(chosen(&h200, 576, 576, 200), (64, 32, 1));
        let orin = about(87, 16, 163);
        assert_eq!(chosen(&orin, 4096, 4096, 512), (128, 128, 1));
        assert_eq!(chosen(&orin, 4096, 4096, 48), (128, 64, 1));
        assert_eq!(chosen(&orin, 4096, 4096, 9), (128, 32, 1));
        assert_eq!(chosen(&orin, 576, 576, 200), (64, 64, 1));
        let xavier = about(72, 8, 96);
        assert_eq!(chosen(&xavier, 4096, 4096, 512), (64, 64, 1));
        assert_eq!(chosen(&xavier, 4096, 4096, 9), (64, 32, 1));
        assert_eq!(chosen(&xavier, 256, 4096, 9), (64, 32, 4));
        // The machines of tests/cuda_prefill.rs.
        for (multiprocessors, outputs, rows, expected) in [
            (1, 136, 65, (128, 128)),
            (1, 250, 50, (128, 64)),
            (1, 250, 17, (128, 32)),
            (2, 250, 50, (64, 64)),
            (48, 40, 65, (64, 32)),
        ] {
            let (m, n, _) = chosen(&about(87, multiprocessors, 163), outputs, 160, rows);
            assert_eq!((m, n), expected, "{outputs} outputs, {rows} rows");
        }
    }

    /// No shape asks for more than the devices with the least have: 99 KB from capability 8 on.
    #[test]
    fn shared_memory() {
        for kind in KINDS {
            SHAPES.iter().for_each(|s| assert!(s.shared(&about(86, 1, 99), kind) <= 99 << 10, "{s:?} {kind:?}"));
            SHAPES_72.iter().for_each(|s| assert!(s.shared(&about(72, 1, 96), kind) <= 96 << 10, "{s:?} {kind:?}"));
        }
    }
}
