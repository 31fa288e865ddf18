//! One row of a checkpoint into its places in a strip, 16 rows of a plane. The layout, and the names A, B, P, g and t,
//! are those of `cuda/weights.cuh`.

use crate::cuda::weight::{Kind, TILE_COLS};
use crate::format::block::{self, blocks};
use crate::format::{Format, bf16_to_f32, f16_to_f32, f32_to_f16};

/// The greatest f16.
pub const F16_MAX: f32 = 65504.0;

/// The exponent that stands for what is no number, and that plus P which gives A = 2^15.
pub const NO_NUMBER: u8 = 0xff;
pub const GREATEST_EXPONENT: i32 = 137 + 15;

/// The planes of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plane {
    /// What differs from weight to weight.
    Quants,
    /// What groups share.
    Scales,
    /// What groups of groups share.
    Supers,
}

impl Plane {
    /// Bytes of a strip of `cols` columns.
    pub fn strip_bytes(self, kind: Kind, cols: usize) -> usize {
        let tiles = cols.div_ceil(TILE_COLS);
        match self {
            Plane::Quants => tiles * kind.quants(),
            Plane::Scales => tiles * kind.scales(),
            Plane::Supers => tiles.div_ceil(2) * kind.supers(),
        }
    }
}

/// 2^power, for powers of normal float32.
pub fn power_of_two(power: i32) -> f32 {
    f32::from_bits(((power + 127) as u32) << 23)
}

/// The value of an f16 in a block.
pub fn f16(bytes: [u8; 2]) -> f32 {
    f16_to_f32(u16::from_le_bytes(bytes))
}

/// Writes row `r` of the strip: what `plane` holds of it. `power` is P.
pub fn row(plane: Plane, format: Format, bytes: &[u8], power: i32, r: usize, out: &mut [u8]) {
    match plane {
        Plane::Quants => quants(format, bytes, r, out),
        Plane::Scales if format == Format::Mxfp4 => exponents(bytes, power, r, out),
        Plane::Scales => scales(format, bytes, power, r, out),
        Plane::Supers => supers(format, bytes, power, r, out),
    }
}

/// Tile and lane of group `j` (32 columns) of row `r`.
fn place(j: usize, r: usize) -> (usize, usize) {
    (j / 4, 4 * (r % 8) + j % 4)
}

fn quants(format: Format, bytes: &[u8], r: usize, out: &mut [u8]) {
    match format {
        Format::F16 => floats(bytes, r, out, f16),
        Format::Bf16 => floats(bytes, r, out, |b| bf16_to_f32(u16::from_le_bytes(b))),
        Format::F32 => floats(bytes, r, out, f32::from_le_bytes),
        Format::Q8_0 => {
            for (j, block) in blocks::<block::Q8_0>(bytes).iter().enumerate() {
                eights(&block.qs.map(|q| q ^ 0x80), j, r, out);
            }
        }
        Format::Int8(_) => {
            let blocks = bytes.chunks_exact(format.block_bytes()).flat_map(|block| block[4..].as_chunks().0);
            blocks.enumerate().for_each(|(j, qs)| eights(qs, j, r, out));
        }
        Format::Q4_0 => {
            blocks::<block::Q4_0>(bytes).iter().enumerate().for_each(|(j, b)| nibbles(&split(&b.qs), j, r, out));
        }
        Format::Q4_1 => {
            blocks::<block::Q4_1>(bytes).iter().enumerate().for_each(|(j, b)| nibbles(&split(&b.qs), j, r, out));
        }
        Format::Mxfp4 => {
            blocks::<block::Mxfp4>(bytes)
                .iter()
                .enumerate()
                .for_each(|(j, b)| floats_of_four(&split(&b.qs), j, r, out));
        }
        Format::Int4(_) => {
            let blocks = bytes.chunks_exact(format.block_bytes()).flat_map(|block| block[4..].as_chunks().0);
            blocks.enumerate().for_each(|(j, qs)| nibbles(&split(qs), j, r, out));
        }
        Format::Q4K => {
            for (i, block) in blocks::<block::Q4K>(bytes).iter().enumerate() {
                for (group, q) in block.qs.as_chunks::<32>().0.iter().enumerate() {
                    nibbles(&q.map(|q| q & 15), 8 * i + 2 * group, r, out);
                    nibbles(&q.map(|q| q >> 4), 8 * i + 2 * group + 1, r, out);
                }
            }
        }
        _ => {
            for (i, block) in blocks::<block::Q6K>(bytes).iter().enumerate() {
                let (low, high) = (block.ql.as_chunks::<32>().0, block.qh.as_chunks::<32>().0);
                for group in 0..8 {
                    let (part, run) = (group / 4, group % 4);
                    let low = low[2 * part + run % 2].map(|q| q >> (run / 2 * 4) & 15);
                    let high = high[part].map(|q| q >> (2 * run) & 3);
                    sixes(&low, &high, 8 * i + group, r, out);
                }
            }
        }
    }
}

/// Float rows: eight values are one word.
fn floats<const N: usize>(bytes: &[u8], r: usize, out: &mut [u8], value: impl Fn([u8; N]) -> f32) {
    for (c, values) in bytes.chunks(8 * N).enumerate() {
        let (tile, lane) = place(c / 4, r);
        let at = tile * Kind::F16.quants() + ((r / 8 * 4 + c % 4) * 32 + lane) * 16;
        for (value_bytes, out) in values.as_chunks().0.iter().zip(out[at..at + 16].as_chunks_mut().0) {
            *out = f32_to_f16(value(*value_bytes).clamp(-F16_MAX, F16_MAX)).to_le_bytes();
        }
    }
}

/// The nibbles of a block of 32 in order of k.
fn split(qs: &[u8; 16]) -> [u8; 32] {
    std::array::from_fn(|k| if k < 16 { qs[k] & 15 } else { qs[k - 16] >> 4 })
}

/// Eight values below 16 as a word: its nibbles are k {0,4,2,6,1,5,3,7}.
fn word(q: &[u8; 8]) -> [u8; 4] {
    [q[0] | q[4] << 4, q[2] | q[6] << 4, q[1] | q[5] << 4, q[3] | q[7] << 4]
}

fn words(q: &[u8; 32], out: &mut [u8]) {
    for (q, out) in q.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
        *out = word(q);
    }
}

fn eights(q: &[u8; 32], j: usize, r: usize, out: &mut [u8]) {
    let (tile, lane) = place(j, r);
    for (c, q) in q.as_chunks::<16>().0.iter().enumerate() {
        let at = tile * Kind::Q8.quants() + ((r / 8 * 2 + c) * 32 + lane) * 16;
        out[at..at + 16].copy_from_slice(q);
    }
}

fn nibbles(q: &[u8; 32], j: usize, r: usize, out: &mut [u8]) {
    let (tile, lane) = place(j, r);
    let at = tile * Kind::Q4.quants() + (r / 8 * 32 + lane) * 16;
    words(q, &mut out[at..at + 16]);
}

fn floats_of_four(q: &[u8; 32], j: usize, r: usize, out: &mut [u8]) {
    const PLACES: [(u32, u32); 4] = [(9, 15), (6, 12), (3, 14), (0, 13)];
    let (tile, lane) = place(j, r);
    let at = tile * Kind::Mx4.quants() + (r / 8 * 32 + lane) * 16;
    for (q, out) in q.as_chunks::<8>().0.iter().zip(out[at..at + 16].as_chunks_mut::<4>().0) {
        let bits = q.iter().enumerate().map(|(k, q)| {
            let ((magnitude, sign), q) = (PLACES[k / 2], u32::from(*q));
            ((q & 7) << magnitude | (q >> 3) << sign) << (k % 2 * 16)
        });
        *out = bits.fold(0, |word, bits| word | bits).to_le_bytes();
    }
}

fn sixes(low: &[u8; 32], high: &[u8; 32], j: usize, r: usize, out: &mut [u8]) {
    let (tile, lane) = place(j, r);
    let out = &mut out[tile * Kind::Q6K.quants()..][..Kind::Q6K.quants()];
    let (lows, highs) = out.split_at_mut(1024);
    words(low, &mut lows[(r / 8 * 32 + lane) * 16..][..16]);
    let pairs = |q: &[u8; 8], first: usize| q[first] | q[first + 2] << 2 | q[first + 4] << 4 | q[first + 6] << 6;
    for (i, q) in high.as_chunks::<8>().0.iter().enumerate() {
        let at = (r / 8 * 32 + lane) * 8 + i / 2 * 4 + i % 2;
        highs[at] = pairs(q, 0);
        highs[at + 2] = pairs(q, 1);
    }
}

/// f16 `index` of `out`.
fn set(out: &mut [u8], index: usize, value: f32) {
    out[2 * index..2 * index + 2].copy_from_slice(&f32_to_f16(value).to_le_bytes());
}

fn scales(format: Format, bytes: &[u8], power: i32, r: usize, out: &mut [u8]) {
    let (a, b) = (power_of_two(power), power_of_two(power - 24));
    let half = r / 8;
    let one = |j: usize, d: [u8; 2], out: &mut [u8]| {
        let (tile, lane) = place(j, r);
        set(out, tile * 64 + lane * 2 + half, f16(d) * a);
    };
    let bytes_of = |j: usize, pair: [u8; 2], out: &mut [u8]| {
        let (tile, lane) = place(j, r);
        let at = tile * 128 + lane * 4 + half * 2;
        out[at..at + 2].copy_from_slice(&pair);
    };
    match format {
        Format::Q8_0 => blocks::<block::Q8_0>(bytes).iter().enumerate().for_each(|(j, block)| one(j, block.d, out)),
        Format::Q4_0 => blocks::<block::Q4_0>(bytes).iter().enumerate().for_each(|(j, block)| one(j, block.d, out)),
        Format::Q4_1 => {
            for (j, block) in blocks::<block::Q4_1>(bytes).iter().enumerate() {
                let (tile, lane) = place(j, r);
                let at = tile * 128 + lane * 4 + half * 2;
                set(out, at, f16(block.d) * a);
                set(out, at + 1, f16(block.m) * b);
            }
        }
        Format::Int4(group) | Format::Int8(group) => {
            for (i, block) in bytes.chunks_exact(format.block_bytes()).enumerate() {
                let (tile, lane) = place(i << group as usize, r);
                let at = ((tile * 128) >> group as usize) + (lane >> group as usize) * 4 + half * 2;
                set(out, at, f16([block[0], block[1]]) * b);
                set(out, at + 1, 1024.0 + f32::from(u16::from_le_bytes([block[2], block[3]])));
            }
        }
        Format::Q4K => {
            for (i, block) in blocks::<block::Q4K>(bytes).iter().enumerate() {
                let (scales, minima) = block::scales_minima(&block.scales);
                (0..8).for_each(|group| bytes_of(8 * i + group, [scales[group], minima[group]], out));
            }
        }
        _ => {
            for (i, block) in blocks::<block::Q6K>(bytes).iter().enumerate() {
                for (group, pair) in block.scales.as_chunks::<2>().0.iter().enumerate() {
                    bytes_of(8 * i + group, pair.map(|scale| scale ^ 0x80), out);
                }
            }
        }
    }
}

/// The upper bytes of A. What is too small for one is 0.
fn exponents(bytes: &[u8], power: i32, r: usize, out: &mut [u8]) {
    for (j, block) in blocks::<block::Mxfp4>(bytes).iter().enumerate() {
        let (tile, lane) = place(j, r);
        let a = match block.e {
            [NO_NUMBER] => f32::NAN,
            [e] => power_of_two((15 + i32::from(e) + power - GREATEST_EXPONENT).max(-126)),
        };
        out[tile * Kind::Mx4.scales() + lane * 2 + r / 8] = f32_to_f16(a).to_le_bytes()[1];
    }
}

fn supers(format: Format, bytes: &[u8], power: i32, r: usize, out: &mut [u8]) {
    let a = power_of_two(power);
    if format == Format::Q4K {
        for (i, block) in blocks::<block::Q4K>(bytes).iter().enumerate() {
            set(out, 32 * i + 2 * r, f16(block.d) * a);
            set(out, 32 * i + 2 * r + 1, -f16(block.dmin) * power_of_two(power - 16));
        }
    } else {
        for (i, block) in blocks::<block::Q6K>(bytes).iter().enumerate() {
            set(out, 16 * i + r, f16(block.d) * a);
        }
    }
}
