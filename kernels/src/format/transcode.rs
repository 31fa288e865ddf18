//! From one quantized format to a wider one without a detour over values, where the wider one can say the same: the
//! quants are written anew under the scales they have, and nothing is lost.

use super::Format;
use super::block::{Block, Iq4Nl, Q3K, Q4_0, Q5_0, Q6K, Q8_0, Q8K, blocks, blocks_mut};
use super::dequantize::q3_k_quants;
use super::quantize::to_scale;

/// Rewrites one row.
pub(super) type Transcoder = fn(&[u8], &mut [u8]);

/// What rewrites rows of one format in another; `None` where that would not be exact. (Q8_K's scale, a float32, is
/// rounded to f16; that is all it loses.)
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
