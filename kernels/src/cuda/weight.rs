//! What a packed weight is: parts of one kind each, and where their planes lie. The layout is described in
//! `cuda/weights.cuh`; `pack.rs` writes it.

use crate::{Format, Group};

/// How a part's quants and scales are laid out: the kinds of `cuda/weights.cuh`, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// float16.
    F16,
    /// 8 bits, a scale per 32.
    Q8,
    /// 4 bits less 8, a scale per 32.
    Q4,
    /// 4 bits, a scale and a minimum per 32.
    Q4M,
    /// 4 bits, 8-bit scales and minima per 32 under one pair per 256.
    Q4K,
    /// 6 bits less 32, 8-bit scales per 16 under one per 256.
    Q6K,
    /// 4 bits less a zero point, both with a scale per group.
    Z4(Group),
    /// 8 bits less a zero point.
    Z8(Group),
    /// Floats of 4 bits, an exponent per 32.
    Mx4,
}

/// Rows of a tile.
pub const TILE_ROWS: usize = 16;
/// Columns of a tile.
pub const TILE_COLS: usize = 128;

impl Kind {
    /// The kind in which a format is held; `None` if it is not held here.
    pub fn of(format: Format) -> Option<Kind> {
        Some(match format {
            Format::F16 => Kind::F16,
            Format::Q8_0 => Kind::Q8,
            Format::Q4_0 => Kind::Q4,
            Format::Q4_1 => Kind::Q4M,
            Format::Q4K => Kind::Q4K,
            Format::Q6K => Kind::Q6K,
            Format::Int4(group) => Kind::Z4(group),
            Format::Int8(group) => Kind::Z8(group),
            Format::Mxfp4 => Kind::Mx4,
            _ => return None,
        })
    }

    /// Bytes of a tile's quants.
    pub fn quants(self) -> usize {
        match self {
            Kind::F16 => 4096,
            Kind::Q8 | Kind::Z8(_) => 2048,
            Kind::Q6K => 1536,
            Kind::Q4 | Kind::Q4M | Kind::Q4K | Kind::Z4(_) | Kind::Mx4 => 1024,
        }
    }

    /// Bytes of a tile's scales.
    pub fn scales(self) -> usize {
        match self {
            Kind::F16 => 0,
            Kind::Q4M => 256,
            Kind::Mx4 => 64,
            Kind::Z4(_) | Kind::Z8(_) => 256 >> self.shift().unwrap_or(0),
            _ => 128,
        }
    }

    /// Where groups are as long as the file has them: 32 times two to this power.
    pub fn shift(self) -> Option<u32> {
        match self {
            Kind::Z4(group) | Kind::Z8(group) => Some(group as u32),
            _ => None,
        }
    }

    /// What a product is multiplied by at its end, of parts with this P.
    pub fn unscale(self, power: i32) -> f32 {
        if self == Kind::F16 { 1.0 } else { 2f32.powi(24 - power) }
    }

    /// Bytes of the supers of 16 rows x 256 columns.
    pub fn supers(self) -> usize {
        match self {
            Kind::Q4K => 64,
            Kind::Q6K => 32,
            _ => 0,
        }
    }

    /// Bytes of a strip: 16 rows of `cols` columns, all planes.
    pub fn strip_bytes(self, cols: usize) -> usize {
        let tiles = cols.div_ceil(TILE_COLS);
        tiles * (self.quants() + self.scales()) + tiles.div_ceil(2) * self.supers()
    }
}

/// A part of a weight: rows of one kind that lie in one slab.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// How it is laid out.
    pub kind: Kind,
    /// Its first output, among the whole weight's.
    pub first: usize,
    /// Its outputs.
    pub rows: usize,
    /// Its inputs.
    pub cols: usize,
    /// Device addresses of the planes.
    pub quants: u64,
    /// 0 if there are none.
    pub scales: u64,
    /// 0 if there are none.
    pub supers: u64,
    /// What a product is multiplied by at its end.
    pub unscale: f32,
}

impl Part {
    /// Tiles along the columns.
    pub fn tiles(&self) -> usize {
        self.cols.div_ceil(TILE_COLS)
    }
}

/// A matrix of packed parts.
pub struct Weight {
    pub(super) parts: Vec<Part>,
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// Outputs that may have to meet in memory: all, if the weight may be gates and ups; else 0.
    pub(super) outputs: usize,
    /// Device address of the input that each column is for; 0: column c is for input c.
    pub(super) order: u64,
    /// One part holds all rows, and each half of them is a whole number of tiles: gates and ups can be had together.
    pub(super) glued: bool,
}

/// Bytes of a weight of this format and shape; what is held in another format counts as float16.
pub fn bytes(format: Format, rows: usize, cols: usize) -> usize {
    rows.div_ceil(TILE_ROWS) * Kind::of(format).unwrap_or(Kind::F16).strip_bytes(cols)
}
