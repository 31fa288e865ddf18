//! The blocks of the quantized formats as they lie in a file: the layouts published with ggml, byte for byte.
//!
//! Each is a struct of byte arrays, so it has no padding and may lie at any address; sizes are checked against
//! [`Format`] when this is compiled. What their fields mean in float32 is told in `dequantize`.

use super::Format;

/// A block of a quantized format.
///
/// # Safety
///
/// The type is `repr(C)`, has alignment 1 and no padding, and any bytes make a valid one.
pub(crate) unsafe trait Block: Copy {
    /// The format whose blocks these are.
    const FORMAT: Format;
}

/// A row's bytes as blocks.
///
/// # Panics
///
/// If they are no whole number of blocks.
pub(crate) fn blocks<B: Block>(row: &[u8]) -> &[B] {
    assert!(
        row.len().is_multiple_of(size_of::<B>()),
        "{} bytes are no whole number of {} blocks",
        row.len(),
        B::FORMAT
    );
    // SAFETY: a `Block` may lie anywhere and consist of any bytes; the count was just checked.
    unsafe { std::slice::from_raw_parts(row.as_ptr().cast(), row.len() / size_of::<B>()) }
}

/// A row's bytes as blocks, to be written.
///
/// # Panics
///
/// If they are no whole number of blocks.
pub(crate) fn blocks_mut<B: Block>(row: &mut [u8]) -> &mut [B] {
    assert!(
        row.len().is_multiple_of(size_of::<B>()),
        "{} bytes are no whole number of {} blocks",
        row.len(),
        B::FORMAT
    );
    // SAFETY: as in `blocks`; and a `Block` has no padding, so whatever is written leaves the bytes initialised.
    unsafe { std::slice::from_raw_parts_mut(row.as_mut_ptr().cast(), row.len() / size_of::<B>()) }
}

macro_rules! block {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $len:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        #[repr(C)]
        pub(crate) struct $name {
            $($(#[$field_doc])* pub $field: [u8; $len],)*
        }

        // SAFETY: `repr(C)`, and every field is an array of bytes.
        unsafe impl Block for $name {
            const FORMAT: Format = Format::$name;
        }

        const _: () = assert!(align_of::<$name>() == 1);
        const _: () = assert!(size_of::<$name>() == Format::$name.block_bytes());
    };
}

block! {
    /// 32 values `d·q`, q an i8.
    Q8_0 { d: 2, qs: 32, }
}
block! {
    /// 32 values `d·(q − 8)`; byte i holds q of i in its low and of i + 16 in its high nibble.
    Q4_0 { d: 2, qs: 16, }
}
block! {
    /// 32 values `d·q + m`, nibbles as in [`Q4_0`].
    Q4_1 { d: 2, m: 2, qs: 16, }
}
block! {
    /// 32 values `d·(q − 16)`, nibbles as in [`Q4_0`], the fifth bit of value i at bit i of `qh`.
    Q5_0 { d: 2, qh: 4, qs: 16, }
}
block! {
    /// 32 values `d·q + m`, bits as in [`Q5_0`].
    Q5_1 { d: 2, m: 2, qh: 4, qs: 16, }
}
block! {
    /// 32 values `d·LEVELS[q]`, nibbles as in [`Q4_0`].
    Iq4Nl { d: 2, qs: 16, }
}
block! {
    /// 256 values in groups of 16, `d·scale·q − dmin·minimum`: a byte of `scales` is scale (low) and minimum (high
    /// nibble); 32 bytes of `qs` hold four runs of 32 values, two bits each, the first run lowest.
    Q2K { scales: 16, qs: 64, d: 2, dmin: 2, }
}
block! {
    /// 256 values in groups of 16, `d·(scale − 32)·(q − 4)`: two bits of q as in [`Q2K`], its third at bit (run) of
    /// `hmask`; scales by [`Q3K::scales`].
    Q3K { hmask: 32, qs: 64, scales: 12, d: 2, }
}
block! {
    /// 256 values in groups of 32, `d·scale·q − dmin·minimum`: 32 bytes of `qs` hold two groups, low nibbles first;
    /// scales and minima by [`scales_minima`].
    Q4K { d: 2, dmin: 2, scales: 12, qs: 128, }
}
block! {
    /// As [`Q4K`], with a fifth bit of q at bit (group) of `qh`.
    Q5K { d: 2, dmin: 2, scales: 12, qh: 32, qs: 128, }
}
block! {
    /// 256 values in groups of 16, `d·scale·(q − 32)`, the scale an i8. Each half of 128 values is four runs of 32:
    /// nibbles in 64 bytes of `ql` (runs 0 and 1 low, 2 and 3 high), the upper two bits in 32 bytes of `qh`.
    Q6K { ql: 128, qh: 64, scales: 16, d: 2, }
}
block! {
    /// 32 values `2^(e − 128)·LEVELS[q]`, nibbles as in [`Q4_0`].
    Mxfp4 { e: 1, qs: 16, }
}
block! {
    /// 256 values in groups of 32, `d·(scale − 32)·LEVELS[q]` with the levels of [`Iq4Nl`]; 16 bytes of `qs` hold a
    /// group as in [`Q4_0`], nibbles of `scales_l` and two bits each of `scales_h` its scale.
    Iq4Xs { d: 2, scales_h: 2, scales_l: 4, qs: 128, }
}
block! {
    /// 256 values in groups of 32, four at a time from a book of 512: eight bits of an index in `qs`, the ninth in `qh`;
    /// a bit of `signs` for each value, a nibble of `scales` for each group.
    Iq3S { d: 2, qs: 64, qh: 8, signs: 32, scales: 4, }
}
block! {
    /// 256 values in groups of 32, four at a time from a book of 256, an index a byte; four bytes of `scales` hold the
    /// signs of a group, seven bits for eight values, and its scale on top.
    Iq3Xxs { d: 2, qs: 64, scales: 32, }
}
block! {
    /// 256 values in groups of 16, eight at a time from a book of 1024: eight bits of an index in `qs`, two in `qh`;
    /// signs as in [`Iq3S`], a nibble of `scales` for each group.
    Iq2S { d: 2, qs: 32, signs: 32, qh: 8, scales: 8, }
}
block! {
    /// 256 values in groups of 16, eight at a time from a book of 512: two bytes of `qs` hold an index of nine bits and
    /// seven bits of signs; a nibble of `scales` for each group.
    Iq2Xs { d: 2, qs: 64, scales: 8, }
}
block! {
    /// 256 values in groups of 32, eight at a time from a book of 256: eight bytes of `qs` hold four indices and then
    /// signs and scale as in [`Iq3Xxs`].
    Iq2Xxs { d: 2, qs: 64, }
}
block! {
    /// 256 values in groups of 16, eight at a time from a book of 2048: eight bits of an index in `qs`, three in a
    /// nibble of `qh` and above them the sign of what is added to all eight. Two bytes of `scales` hold four scales of
    /// three bits, and on top a quarter of the f16 that scales the block.
    Iq1M { qs: 32, qh: 16, scales: 8, }
}
block! {
    /// 256 values in groups of 32, eight at a time from the book of [`Iq1M`]: eight bits of an index in `qs`; two bytes
    /// of `qh` hold three more of each of the four, the group's scale, and the sign of what is added.
    Iq1S { d: 2, qs: 32, qh: 16, }
}
block! {
    /// 256 values `d·(q − 1)`, five digits of base three in a byte of `qs`, four in one of `qh`, as a fraction of 256.
    Tq1_0 { qs: 48, qh: 4, d: 2, }
}
block! {
    /// 256 values `d·(q − 1)`; 32 bytes of `qs` hold four runs of 32 values, two bits each, the first run lowest.
    Tq2_0 { qs: 64, d: 2, }
}
block! {
    /// 256 values `d·q`, q an i8; `d` is a float32. The sums of 16 quants each are of no use here.
    Q8K { d: 4, qs: 256, bsums: 32, }
}

impl Mxfp4 {
    /// What its sixteen codes stand for, doubled: sign, two bits of exponent, one of fraction.
    pub(crate) const LEVELS: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

    /// The scale of the doubled levels. (All ones, which the standard calls no number, is taken as the authors take it.)
    pub(super) fn scale(&self) -> f32 {
        Mxfp4::scale_of(self.e[0])
    }

    /// The same of an exponent that lies elsewhere.
    pub(crate) fn scale_of(e: u8) -> f32 {
        f32::from_bits(if e < 2 { 0x0020_0000 << e } else { u32::from(e - 1) << 23 })
    }
}

impl Iq1M {
    /// The f16 that scales the block, from its four quarters.
    pub(super) fn d(&self) -> [u8; 2] {
        let s = &self.scales;
        [s[1] >> 4 | s[3] & 0xf0, s[5] >> 4 | s[7] & 0xf0]
    }
}

impl Iq4Nl {
    /// What its sixteen codes stand for.
    pub(crate) const LEVELS: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
}

impl Q6K {
    /// Writes the sixteen quants of a group, q from 0 to 63, whose bits must be clear.
    #[inline(always)]
    pub(super) fn set_group(&mut self, group: usize, q: &[u8; 16]) {
        let (half, run, part) = (group / 8, group % 8 / 2, group % 2 * 16);
        let low = &mut self.ql[64 * half + run % 2 * 32 + part..][..16];
        let high = &mut self.qh[32 * half + part..][..16];
        for i in 0..16 {
            low[i] |= (q[i] & 15) << (run / 2 * 4);
            high[i] |= (q[i] >> 4) << (2 * run);
        }
    }
}

impl Q3K {
    /// The sixteen scales, from −32 to 31.
    pub(crate) fn scales(&self) -> [i8; 16] {
        std::array::from_fn(|i| {
            let low = self.scales[i % 8] >> (4 * (i / 8)) & 15;
            let high = self.scales[8 + i % 4] >> (2 * (i / 4)) & 3;
            (low | high << 4) as i8 - 32
        })
    }
}

/// The eight 6-bit scales and the eight 6-bit minima of [`Q4K`] and [`Q5K`].
pub(crate) fn scales_minima(packed: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let mut scales = [0; 8];
    let mut minima = [0; 8];
    for i in 0..4 {
        scales[i] = packed[i] & 63;
        minima[i] = packed[4 + i] & 63;
        scales[4 + i] = packed[8 + i] & 15 | (packed[i] >> 6) << 4;
        minima[4 + i] = packed[8 + i] >> 4 | (packed[4 + i] >> 6) << 4;
    }
    (scales, minima)
}

/// The inverse of [`scales_minima`]; all are below 64.
pub(super) fn pack_scales_minima(scales: &[u8; 8], minima: &[u8; 8]) -> [u8; 12] {
    let mut packed = [0; 12];
    for i in 0..4 {
        packed[i] = scales[i] | (scales[4 + i] >> 4) << 6;
        packed[4 + i] = minima[i] | (minima[4 + i] >> 4) << 6;
        packed[8 + i] = scales[4 + i] & 15 | (minima[4 + i] & 15) << 4;
    }
    packed
}
