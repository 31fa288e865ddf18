//! From any format to float32, in the order of operations of the published ggml block layouts, so that every value is
//! the same bit for bit. The way back is `quantize`.

use super::block::{Iq1M, Iq1S, Iq2S, Iq2Xs, Iq2Xxs, Iq3S, Iq3Xxs, Iq4Nl, Iq4Xs, Mxfp4, Tq1_0, Tq2_0};
use super::block::{Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0, Q8K, blocks, scales_minima};
use super::book::book_values;
use super::float::{bf16_to_f32, f16_to_f32};
use super::{Format, block::Block};

/// The values of one row (or of any whole number of blocks).
///
/// # Panics
///
/// If `row` is not as long as `out` takes in this format: [`Format::row_bytes`] of `out.len()`.
pub fn dequantize_row(format: Format, row: &[u8], out: &mut [f32]) {
    assert_eq!(Some(row.len()), format.row_bytes(out.len()), "bytes of {} values as {format}", out.len());
    match format {
        Format::F32 => each(row, out, f32::from_le_bytes),
        Format::F16 => each(row, out, |b| f16_to_f32(u16::from_le_bytes(b))),
        Format::Bf16 => each(row, out, |b| bf16_to_f32(u16::from_le_bytes(b))),
        Format::Q8_0 => each_block(row, out, q8_0),
        Format::Q4_0 => each_block(row, out, q4_0),
        Format::Q4_1 => each_block(row, out, q4_1),
        Format::Q5_0 => each_block(row, out, q5_0),
        Format::Q5_1 => each_block(row, out, q5_1),
        Format::Iq4Nl => each_block(row, out, iq4_nl),
        Format::Q2K => each_block(row, out, q2_k),
        Format::Q3K => each_block(row, out, q3_k),
        Format::Q4K => each_block(row, out, q4_k),
        Format::Q5K => each_block(row, out, q5_k),
        Format::Q6K => each_block(row, out, q6_k),
        Format::Q8K => each_block(row, out, q8_k),
        Format::Iq4Xs => each_block(row, out, book_values::<Iq4Xs>),
        Format::Iq3S => each_block(row, out, book_values::<Iq3S>),
        Format::Iq3Xxs => each_block(row, out, book_values::<Iq3Xxs>),
        Format::Iq2S => each_block(row, out, book_values::<Iq2S>),
        Format::Iq2Xs => each_block(row, out, book_values::<Iq2Xs>),
        Format::Iq2Xxs => each_block(row, out, book_values::<Iq2Xxs>),
        Format::Iq1M => each_block(row, out, book_values::<Iq1M>),
        Format::Iq1S => each_block(row, out, book_values::<Iq1S>),
        Format::Tq1_0 => each_block(row, out, book_values::<Tq1_0>),
        Format::Tq2_0 => each_block(row, out, book_values::<Tq2_0>),
        Format::Mxfp4 => each_block(row, out, mxfp4),
        Format::Int4(_) | Format::Int8(_) => each_group(format, row, out),
    }
}

fn each<const N: usize>(row: &[u8], out: &mut [f32], value: impl Fn([u8; N]) -> f32) {
    for (bytes, out) in row.as_chunks().0.iter().zip(out) {
        *out = value(*bytes);
    }
}

fn each_block<B: Block, const N: usize>(row: &[u8], out: &mut [f32], decode: impl Fn(&B, &mut [f32; N])) {
    const { assert!(N == B::FORMAT.block_len()) };
    for (block, out) in blocks(row).iter().zip(out.as_chunks_mut().0) {
        decode(block, out);
    }
}

/// The groups of Int4 and Int8. Every product is exact: eleven bits by nine.
fn each_group(format: Format, row: &[u8], out: &mut [f32]) {
    let groups = row.chunks_exact(format.block_bytes()).zip(out.chunks_exact_mut(format.block_len()));
    for (block, out) in groups {
        let (d, zero) = (f16([block[0], block[1]]), i32::from(u16::from_le_bytes([block[2], block[3]])));
        let value = |q: u8| d * (i32::from(q) - zero) as f32;
        match format {
            Format::Int8(_) => out.iter_mut().zip(&block[4..]).for_each(|(out, q)| *out = value(*q)),
            _ => {
                for (out, qs) in out.as_chunks_mut().0.iter_mut().zip(block[4..].as_chunks().0) {
                    nibbles(qs, out, |_, q| value(q));
                }
            }
        }
    }
}

fn f16(bytes: [u8; 2]) -> f32 {
    f16_to_f32(u16::from_le_bytes(bytes))
}

fn q8_0(block: &Q8_0, out: &mut [f32; 32]) {
    let d = f16(block.d);
    for (out, q) in out.iter_mut().zip(block.qs) {
        *out = d * f32::from(q as i8);
    }
}

/// Value `i` from the nibble `i`, for the formats of 32.
fn nibbles(qs: &[u8; 16], out: &mut [f32; 32], value: impl Fn(usize, u8) -> f32) {
    for (i, q) in qs.iter().enumerate() {
        out[i] = value(i, q & 15);
        out[i + 16] = value(i + 16, q >> 4);
    }
}

fn q4_0(block: &Q4_0, out: &mut [f32; 32]) {
    let d = f16(block.d);
    nibbles(&block.qs, out, |_, q| d * f32::from(q as i8 - 8));
}

fn q4_1(block: &Q4_1, out: &mut [f32; 32]) {
    let (d, m) = (f16(block.d), f16(block.m));
    nibbles(&block.qs, out, |_, q| d * f32::from(q) + m);
}

fn q5_0(block: &Q5_0, out: &mut [f32; 32]) {
    let d = f16(block.d);
    let high = u32::from_le_bytes(block.qh);
    nibbles(&block.qs, out, |i, q| d * f32::from((q | ((high >> i & 1) as u8) << 4) as i8 - 16));
}

fn q5_1(block: &Q5_1, out: &mut [f32; 32]) {
    let (d, m) = (f16(block.d), f16(block.m));
    let high = u32::from_le_bytes(block.qh);
    nibbles(&block.qs, out, |i, q| d * f32::from(q | ((high >> i & 1) as u8) << 4) + m);
}

fn iq4_nl(block: &Iq4Nl, out: &mut [f32; 32]) {
    let d = f16(block.d);
    nibbles(&block.qs, out, |_, q| d * f32::from(Iq4Nl::LEVELS[usize::from(q)]));
}

fn mxfp4(block: &Mxfp4, out: &mut [f32; 32]) {
    let d = block.scale();
    nibbles(&block.qs, out, |_, q| d * f32::from(Mxfp4::LEVELS[usize::from(q)]));
}

fn q2_k(block: &Q2K, out: &mut [f32; 256]) {
    let (d, dmin) = (f16(block.d), f16(block.dmin));
    for (group, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = d * f32::from(block.scales[group] & 15);
        let minimum = dmin * f32::from(block.scales[group] >> 4);
        let (bytes, shift) = two_bits(&block.qs, group);
        for (out, q) in out.iter_mut().zip(bytes) {
            *out = scale * f32::from(q >> shift & 3) - minimum;
        }
    }
}

/// Where the two bits of the values of a group of 16 lie, in Q2_K and Q3_K: which bytes, and how far up.
fn two_bits(qs: &[u8; 64], group: usize) -> (&[u8], usize) {
    let from = group / 8 * 32 + group % 2 * 16;
    (&qs[from..from + 16], group % 8 / 2 * 2)
}

fn q3_k(block: &Q3K, out: &mut [f32; 256]) {
    let d = f16(block.d);
    let scales = block.scales();
    for (group, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = d * f32::from(scales[group]);
        for (out, q) in out.iter_mut().zip(q3_k_quants(block, group)) {
            *out = scale * f32::from(q);
        }
    }
}

/// The sixteen quants of one group of Q3_K, from −4 to 3.
pub(super) fn q3_k_quants(block: &Q3K, group: usize) -> [i8; 16] {
    let (bytes, shift) = two_bits(&block.qs, group);
    let high = &block.hmask[group % 2 * 16..][..16];
    std::array::from_fn(|i| {
        let low = (bytes[i] >> shift & 3) as i8;
        let high = (high[i] >> (group / 2) & 1) as i8;
        low + 4 * high - 4
    })
}

fn q4_k(block: &Q4K, out: &mut [f32; 256]) {
    let (d, dmin) = (f16(block.d), f16(block.dmin));
    let (scales, minima) = scales_minima(&block.scales);
    for (group, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let scale = d * f32::from(scales[group]);
        let minimum = dmin * f32::from(minima[group]);
        let bytes = &block.qs[group / 2 * 32..][..32];
        let shift = group % 2 * 4;
        for (out, q) in out.iter_mut().zip(bytes) {
            *out = scale * f32::from(q >> shift & 15) - minimum;
        }
    }
}

fn q5_k(block: &Q5K, out: &mut [f32; 256]) {
    let (d, dmin) = (f16(block.d), f16(block.dmin));
    let (scales, minima) = scales_minima(&block.scales);
    for (group, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let scale = d * f32::from(scales[group]);
        let minimum = dmin * f32::from(minima[group]);
        let bytes = &block.qs[group / 2 * 32..][..32];
        let shift = group % 2 * 4;
        for ((out, q), high) in out.iter_mut().zip(bytes).zip(block.qh) {
            *out = scale * f32::from(q >> shift & 15 | (high >> group & 1) << 4) - minimum;
        }
    }
}

fn q6_k(block: &Q6K, out: &mut [f32; 256]) {
    let d = f16(block.d);
    for (group, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = d * f32::from(block.scales[group] as i8);
        // The run of 32 within its half, and the 16 within the run.
        let (half, run, part) = (group / 8, group % 8 / 2, group % 2 * 16);
        let low = &block.ql[64 * half + run % 2 * 32 + part..][..16];
        let high = &block.qh[32 * half + part..][..16];
        for ((out, low), high) in out.iter_mut().zip(low).zip(high) {
            let q = low >> (run / 2 * 4) & 15 | (high >> (2 * run) & 3) << 4;
            *out = scale * f32::from(q as i8 - 32);
        }
    }
}

fn q8_k(block: &Q8K, out: &mut [f32; 256]) {
    let d = f32::from_le_bytes(block.d);
    for (out, q) in out.iter_mut().zip(block.qs) {
        *out = d * f32::from(q as i8);
    }
}
