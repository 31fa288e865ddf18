//! From one quantized format to a wider one without a detour over values, where the wider one can say the same: the
//! quants are written anew under the scales they have, and nothing is lost.

use super::Format;
use super::block::{
    Block, Iq1M, Iq1S, Iq3S, Iq3Xxs, Iq4Nl, Iq4Xs, Mxfp4, Q3K, Q4_0, Q5_0, Q6K, Q8_0, Q8K, Tq1_0, Tq2_0,
};
use super::block::{blocks, blocks_mut};
use super::book::Book;
use super::dequantize::q3_k_quants;
use super::float::f16_to_f32;
use super::quantize::to_scale;

/// Rewrites one row.
pub(super) type Transcoder = fn(&[u8], &mut [u8]);

/// What rewrites rows of one format in another; `None` where that would not be exact, but for the
/// rounding of a scale to f16: of Q8_K's, a float32, of IQ4_XS's, a product, and where one becomes a denormal.
pub(super) fn transcoder(from: Format, to: Format) -> Option<Transcoder> {
    Some(match (from, to) {
        (Format::Q4_0, Format::Q8_0) => {
            |row, out| each(row, out, |b: &Q4_0| [q8_0(b.d, nibbles(&b.qs, |_, q| q as i8 - 8))])
        }
        (Format::Q5_0, Format::Q8_0) => |row, out| each(row, out, q5_0),
        (Format::Iq4Nl, Format::Q8_0) => {
            |row, out| each(row, out, |b: &Iq4Nl| [q8_0(b.d, nibbles(&b.qs, |_, q| Iq4Nl::LEVELS[usize::from(q)]))])
        }
        (Format::Q8K, Format::Q8_0) => |row, out| each(row, out, q8_k),
        (Format::Q3K, Format::Q6K) => |row, out| each(row, out, q3_k),
        (Format::Mxfp4, Format::Q8_0) => |row, out| each(row, out, mxfp4),
        (Format::Iq4Xs, Format::Q8_0) => |row, out| each(row, out, iq4_xs),
        (Format::Iq3S, Format::Q6K) => |row, out| each(row, out, book_q6_k::<Iq3S>),
        (Format::Iq3Xxs, Format::Q6K) => |row, out| each(row, out, book_q6_k::<Iq3Xxs>),
        (Format::Iq1M, Format::Q6K) => |row, out| each(row, out, book_q6_k::<Iq1M>),
        (Format::Iq1S, Format::Q6K) => |row, out| each(row, out, book_q6_k::<Iq1S>),
        (Format::Tq1_0, Format::Q4_0) => |row, out| each(row, out, book_q4_0::<Tq1_0>),
        (Format::Tq2_0, Format::Q4_0) => |row, out| each(row, out, book_q4_0::<Tq2_0>),
        _ => return None,
    })
}

fn each<A: Block, B: Block, const N: usize>(row: &[u8], out: &mut [u8], rewrite: impl Fn(&A) -> [B; N]) {
    const { assert!(A::FORMAT.block_len() == N * B::FORMAT.block_len()) };
    for (block, out) in blocks(row).iter().zip(blocks_mut(out).as_chunks_mut().0) {
        *out = rewrite(block);
    }
}

fn q8_0(d: [u8; 2], qs: [i8; 32]) -> Q8_0 {
    Q8_0 { d, qs: qs.map(|q| q as u8) }
}

fn nibbles(qs: &[u8; 16], quant: impl Fn(usize, u8) -> i8) -> [i8; 32] {
    std::array::from_fn(|i| quant(i, qs[i % 16] >> (i / 16 * 4) & 15))
}

fn q5_0(block: &Q5_0) -> [Q8_0; 1] {
    let high = u32::from_le_bytes(block.qh);
    [q8_0(block.d, nibbles(&block.qs, |i, q| (q | ((high >> i & 1) as u8) << 4) as i8 - 16))]
}

fn q8_k(block: &Q8K) -> [Q8_0; 8] {
    let (d, _) = to_scale(f32::from_le_bytes(block.d));
    std::array::from_fn(|g| Q8_0 { d: d.to_le_bytes(), qs: std::array::from_fn(|i| block.qs[32 * g + i]) })
}

fn q3_k(block: &Q3K) -> [Q6K; 1] {
    let mut out = Q6K { ql: [0; 128], qh: [0; 64], scales: block.scales().map(|s| s as u8), d: block.d };
    for group in 0..16 {
        out.set_group(group, &q3_k_quants(block, group).map(|q| (q + 32) as u8));
    }
    [out]
}

fn mxfp4(block: &Mxfp4) -> [Q8_0; 1] {
    // Powers of two, of which f16 has those from 2^-24 to 2^15.
    let (d, _) = to_scale(block.scale());
    [q8_0(d.to_le_bytes(), nibbles(&block.qs, |_, q| Mxfp4::LEVELS[usize::from(q)]))]
}

fn iq4_xs(block: &Iq4Xs) -> [Q8_0; 8] {
    let read = block.read();
    std::array::from_fn(|g| {
        let (d, _) = to_scale(f16_to_f32(u16::from_le_bytes(block.d)) * f32::from(read.factors[2 * g]));
        q8_0(d.to_le_bytes(), std::array::from_fn(|i| read.quants[32 * g + i]))
    })
}

/// For books whose quants lie from -32 to 31.
fn book_q6_k<B: Book>(block: &B) -> [Q6K; 1] {
    let read = block.read();
    let (d, _) = to_scale(f16_to_f32(u16::from_le_bytes(block.scale())) * B::UNIT);
    let scales = read.factors.map(|f| f as u8);
    let mut out = Q6K { ql: [0; 128], qh: [0; 64], scales, d: d.to_le_bytes() };
    for (g, group) in read.quants.as_chunks::<16>().0.iter().enumerate() {
        out.set_group(g, &group.map(|q| (q + 32) as u8));
    }
    [out]
}

/// For books whose quants lie from -8 to 7 and whose factors are all 1.
fn book_q4_0<B: Book>(block: &B) -> [Q4_0; 8] {
    let quants = block.read().quants.map(|q| (q + 8) as u8);
    std::array::from_fn(|g| {
        let qs = std::array::from_fn(|i| quants[32 * g + i] | quants[32 * g + 16 + i] << 4);
        Q4_0 { d: block.scale(), qs }
    })
}
