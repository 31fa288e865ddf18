//! The formats of 256 that take their quants from code books, or that are small integers under one scale in another
//! packing: IQ1 to IQ4_XS, TQ. All are read as one thing, integers under integer factors; their layouts are in `block`.

use super::block::{Block, Iq1M, Iq1S, Iq2S, Iq2Xs, Iq2Xxs, Iq3S, Iq3Xxs, Iq4Nl, Iq4Xs, Tq1_0, Tq2_0};
use super::float::f16_to_f32;

/// A block taken apart: value i is `scale · UNIT · factors[i / 16] · quants[i]`. All of these products are exact in
/// float32, so any order of them gives the authors' values bit for bit.
pub(super) struct Read {
    pub(super) factors: [i8; 16],
    pub(super) quants: [i8; 256],
}

/// A block that is read so.
pub(super) trait Book: Block {
    /// A power of two.
    const UNIT: f32;

    /// The block's own scale, an f16.
    fn scale(&self) -> [u8; 2];

    /// Its integers.
    fn read(&self) -> Read;
}

/// The values of a block.
pub(super) fn book_values<B: Book>(block: &B, out: &mut [f32; 256]) {
    let d = f16_to_f32(u16::from_le_bytes(block.scale())) * B::UNIT;
    let read = block.read();
    for (i, out) in out.iter_mut().enumerate() {
        *out = d * f32::from(read.factors[i / 16]) * f32::from(read.quants[i]);
    }
}

/// The published books, one after another; an entry is two bytes, its first value lowest.
static BOOKS: &[u8; 2 * 4608] = include_bytes!("books.bin");

/// Where the books begin.
const IQ2_XXS: usize = 0;
const IQ2_XS: usize = IQ2_XXS + 256;
const IQ2_S: usize = IQ2_XS + 512;
const IQ3_XXS: usize = IQ2_S + 1024;
const IQ3_S: usize = IQ3_XXS + 256;
const IQ1: usize = IQ3_S + 512;

/// What two bits of an entry stand for in IQ2, and three in IQ3_XXS (halved) and IQ3_S.
const IQ2_LEVELS: [i8; 4] = [8, 25, 43, 0];
const IQ3_XXS_LEVELS: [i8; 8] = [2, 6, 10, 14, 18, 22, 26, 31];
const IQ3_S_LEVELS: [i8; 8] = [1, 3, 5, 7, 9, 11, 13, 15];

fn entry(book: usize, index: usize) -> u16 {
    let at = 2 * (book + index);
    u16::from_le_bytes([BOOKS[at], BOOKS[at + 1]])
}

/// Eight values of IQ2, negative where `signs` has a bit.
fn iq2(book: usize, index: usize, signs: u8) -> [i8; 8] {
    let entry = entry(book, index);
    std::array::from_fn(|i| signed(IQ2_LEVELS[usize::from(entry >> (2 * i) & 3)], signs >> i))
}

/// Eight values of IQ3, of two entries.
fn iq3(book: usize, indices: [usize; 2], signs: u8, levels: &[i8; 8]) -> [i8; 8] {
    let entries = indices.map(|index| entry(book, index));
    std::array::from_fn(|i| signed(levels[usize::from(entries[i / 4] >> (4 * (i % 4)) & 7)], signs >> i))
}

/// Eight values of IQ1, −1, 0 or 1 with an eighth added or taken away, in eighths.
fn iq1(index: usize, less: bool) -> [i8; 8] {
    let entry = entry(IQ1, index);
    let shift = if less { -1 } else { 1 };
    std::array::from_fn(|i| 8 * ((entry >> (2 * i) & 3) as i8 - 1) + shift)
}

fn signed(level: i8, sign: u8) -> i8 {
    if sign & 1 == 1 { -level } else { level }
}

/// Seven bits of signs with the eighth that makes their number even.
fn even(signs: u32) -> u8 {
    let signs = (signs & 127) as u8;
    signs | ((signs.count_ones() & 1) as u8) << 7
}

fn nibble(bytes: &[u8], i: usize) -> u8 {
    bytes[i / 2] >> (i % 2 * 4) & 15
}

fn u16_at(bytes: &[u8], i: usize) -> u16 {
    u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]])
}

fn u32_at(bytes: &[u8], i: usize) -> u32 {
    u32::from(u16_at(bytes, 2 * i)) | u32::from(u16_at(bytes, 2 * i + 1)) << 16
}

/// All quants from those of each run of eight.
fn eights(run: impl Fn(usize) -> [i8; 8]) -> [i8; 256] {
    let mut out = [0; 256];
    for (k, out) in out.as_chunks_mut().0.iter_mut().enumerate() {
        *out = run(k);
    }
    out
}

/// The odd factor that a scale's bits stand for.
fn odd(bits: u8) -> i8 {
    2 * bits as i8 + 1
}

impl Book for Iq4Xs {
    const UNIT: f32 = 1.0;

    fn scale(&self) -> [u8; 2] {
        self.d
    }

    fn read(&self) -> Read {
        let high = u16::from_le_bytes(self.scales_h);
        let factors = std::array::from_fn(|half| {
            let group = half / 2;
            let high = (high >> (2 * group) & 3) as u8;
            (nibble(&self.scales_l, group) | high << 4) as i8 - 32
        });
        let quants = std::array::from_fn(|i| {
            let (group, i) = (i / 32, i % 32);
            let q = self.qs[16 * group + i % 16] >> (i / 16 * 4) & 15;
            Iq4Nl::LEVELS[usize::from(q)]
        });
        Read { factors, quants }
    }
}

impl Book for Iq3S {
    const UNIT: f32 = 1.0;

    fn scale(&self) -> [u8; 2] {
        self.d
    }

    fn read(&self) -> Read {
        let index = |k: usize| usize::from(self.qs[k]) | usize::from(self.qh[k / 8] >> (k % 8) & 1) << 8;
        Read {
            factors: std::array::from_fn(|half| odd(nibble(&self.scales, half / 2))),
            quants: eights(|k| iq3(IQ3_S, [index(2 * k), index(2 * k + 1)], self.signs[k], &IQ3_S_LEVELS)),
        }
    }
}

impl Book for Iq3Xxs {
    const UNIT: f32 = 0.5;

    fn scale(&self) -> [u8; 2] {
        self.d
    }

    fn read(&self) -> Read {
        let group = |g: usize| u32_at(&self.scales, g);
        let index = |k: usize| usize::from(self.qs[k]);
        Read {
            factors: std::array::from_fn(|half| odd((group(half / 2) >> 28) as u8)),
            quants: eights(|k| {
                let signs = even(group(k / 4) >> (7 * (k % 4)));
                iq3(IQ3_XXS, [index(2 * k), index(2 * k + 1)], signs, &IQ3_XXS_LEVELS)
            }),
        }
    }
}

impl Book for Iq2S {
    const UNIT: f32 = 0.125;

    fn scale(&self) -> [u8; 2] {
        self.d
    }

    fn read(&self) -> Read {
        let index = |k: usize| usize::from(self.qs[k]) | usize::from(self.qh[k / 4] >> (2 * (k % 4)) & 3) << 8;
        Read {
            factors: std::array::from_fn(|group| odd(nibble(&self.scales, group))),
            quants: eights(|k| iq2(IQ2_S, index(k), self.signs[k])),
        }
    }
}

impl Book for Iq2Xs {
    const UNIT: f32 = 0.125;

    fn scale(&self) -> [u8; 2] {
        self.d
    }

    fn read(&self) -> Read {
        Read {
            factors: std::array::from_fn(|group| odd(nibble(&self.scales, group))),
            quants: eights(|k| {
                let q = u16_at(&self.qs, k);
                iq2(IQ2_XS, usize::from(q & 511), even(u32::from(q >> 9)))
            }),
        }
    }
}

impl Book for Iq2Xxs {
    const UNIT: f32 = 0.125;

    fn scale(&self) -> [u8; 2] {
        self.d
    }

    fn read(&self) -> Read {
        let group = |g: usize| u32_at(&self.qs, 2 * g + 1);
        Read {
            factors: std::array::from_fn(|half| odd((group(half / 2) >> 28) as u8)),
            quants: eights(|k| {
                let index = usize::from(self.qs[k / 4 * 8 + k % 4]);
                iq2(IQ2_XXS, index, even(group(k / 4) >> (7 * (k % 4))))
            }),
        }
    }
}

impl Book for Iq1M {
    const UNIT: f32 = 0.125;

    fn scale(&self) -> [u8; 2] {
        self.d()
    }

    fn read(&self) -> Read {
        Read {
            factors: std::array::from_fn(|group| odd((u16_at(&self.scales, group / 4) >> (3 * (group % 4)) & 7) as u8)),
            quants: eights(|k| {
                let high = nibble(&self.qh, k);
                iq1(usize::from(self.qs[k]) | usize::from(high & 7) << 8, high & 8 != 0)
            }),
        }
    }
}

impl Book for Iq1S {
    const UNIT: f32 = 0.125;

    fn scale(&self) -> [u8; 2] {
        self.d
    }

    fn read(&self) -> Read {
        let group = |g: usize| u16_at(&self.qh, g);
        Read {
            factors: std::array::from_fn(|half| odd((group(half / 2) >> 12 & 7) as u8)),
            quants: eights(|k| {
                let high = usize::from(group(k / 4) >> (3 * (k % 4)) & 7);
                iq1(usize::from(self.qs[k]) | high << 8, group(k / 4) >> 15 == 1)
            }),
        }
    }
}

impl Book for Tq1_0 {
    const UNIT: f32 = 1.0;

    fn scale(&self) -> [u8; 2] {
        self.d
    }

    fn read(&self) -> Read {
        /// Moves a digit to the top.
        const POWERS: [u8; 5] = [1, 3, 9, 27, 81];
        let digit = |byte: u8, n: usize| ((u16::from(byte.wrapping_mul(POWERS[n])) * 3) >> 8) as i8 - 1;
        Read {
            factors: [1; 16],
            quants: std::array::from_fn(|i| match i {
                0..160 => digit(self.qs[i % 32], i / 32),
                160..240 => digit(self.qs[32 + i % 16], (i - 160) / 16),
                _ => digit(self.qh[i % 4], (i - 240) / 4),
            }),
        }
    }
}

impl Book for Tq2_0 {
    const UNIT: f32 = 1.0;

    fn scale(&self) -> [u8; 2] {
        self.d
    }

    fn read(&self) -> Read {
        Read {
            factors: [1; 16],
            quants: std::array::from_fn(|i| (self.qs[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3) as i8 - 1),
        }
    }
}
