//! Weights in the machine's own layout: blocks of 16 outputs, inside a block one record per 32 k, consecutive in k.
//!
//! A 32-bit lane is one output: line v of a record of 4-bit values holds, for output r, k = 4v…4v+3 in the low nibbles
//! of bytes 4r…4r+3 and k = 16+4v… in the high ones; a line j of 8-bit values holds k = 4j…4j+3. So a decode step
//! streams the records in order, a prefill step spreads one block over a scratch and sweeps it, and both add in the
//! same order. Outputs past the last row are zeros.
//!
//! | kind | a record (32 k) | head before some records: every eighth; Int4, Int8: those of a group |
//! | --- | --- | --- |
//! | Q8 | 16 f16 scales, 512 bytes | |
//! | Q4 | 16 f16 scales, 256 bytes | |
//! | Mxfp4 | 16 exponents, 256 bytes | |
//! | Q4Min | 16 f16 scales, 16 f16 minima, 256 bytes | |
//! | Q4K | 16 u8 scales, 16 u8 minima, 256 bytes | 16 f16 scales, 16 f16 scales of the minima |
//! | Q6K | 16 i8 scales of the first 16 k, 16 of the last, 256 bytes of nibbles, 128 of bit pairs | 16 f16 scales |
//! | Int4 | 256 bytes | 16 f16 scales, 16 f16 zero points, negated |
//! | Int8 | 512 bytes, less 128 | 16 f16 scales, 128 less 16 zero points, f16 |
//! | F32, F16, Bf16 | a record is one k: 16 values | |

mod floats;
pub mod store;
#[cfg(test)]
mod tests;

use super::lanes::{GROUP, LANES, LINE};
use super::memory::{Arena, Memory};
use crate::format::block::Mxfp4;
use crate::{Error, Format, Group, HostTensor, Result};

/// The layouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    F32,
    F16,
    Bf16,
    Q8,
    Q4,
    Mxfp4,
    Q4Min,
    Q4K,
    Q6K,
    Int4(Group),
    Int8(Group),
}

impl Kind {
    /// The layout that holds a format. `None` if the format is not native.
    pub fn of(format: Format) -> Option<Kind> {
        Some(match format {
            Format::F32 => Kind::F32,
            Format::F16 => Kind::F16,
            Format::Bf16 => Kind::Bf16,
            Format::Q8_0 => Kind::Q8,
            Format::Q4_0 => Kind::Q4,
            Format::Mxfp4 => Kind::Mxfp4,
            Format::Q4_1 => Kind::Q4Min,
            Format::Q4K => Kind::Q4K,
            Format::Q6K => Kind::Q6K,
            Format::Int4(group) => Kind::Int4(group),
            Format::Int8(group) => Kind::Int8(group),
            _ => return None,
        })
    }

    /// Whether products multiply integers.
    pub fn quantized(self) -> bool {
        !matches!(self, Kind::F32 | Kind::F16 | Kind::Bf16)
    }

    /// Bytes of a record, and of the head that some share.
    pub const fn record(self) -> (usize, usize) {
        match self {
            Kind::F32 => (64, 0),
            Kind::F16 | Kind::Bf16 => (32, 0),
            Kind::Q8 => (32 + 512, 0),
            Kind::Q4 => (32 + 256, 0),
            Kind::Mxfp4 => (16 + 256, 0),
            Kind::Q4Min => (64 + 256, 0),
            Kind::Q4K => (32 + 256, 64),
            Kind::Q6K => (32 + 384, 32),
            Kind::Int4(_) => (256, 64),
            Kind::Int8(_) => (512, 64),
        }
    }

    /// How many records share a head, as a power of two.
    #[inline(always)]
    pub const fn shared(self) -> u32 {
        match self {
            Kind::Int4(group) | Kind::Int8(group) => group as u32,
            _ => 3,
        }
    }

    /// Where record `group` of a block and its head lie.
    #[inline(always)]
    pub const fn place(self, group: usize) -> (usize, usize) {
        let (record, head) = self.record();
        if head == 0 {
            return (0, group * record);
        }
        let start = (group >> self.shared()) * ((record << self.shared()) + head);
        (start, start + head + (group & ((1 << self.shared()) - 1)) * record)
    }

    /// Bytes of a block of 16 outputs with `cols` inputs.
    pub fn block_bytes(self, cols: usize) -> usize {
        let (record, head) = self.record();
        let heads = (cols / GROUP).div_ceil(1 << self.shared());
        if self.quantized() { cols / GROUP * record + heads * head } else { cols * record }
    }
}

/// One part of a weight, packed.
pub struct Packed {
    pub kind: Kind,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// Bytes of a block.
    pub block_bytes: usize,
    data: Memory,
}

impl Packed {
    /// Packs a matrix, on up to `threads` threads.
    pub fn new(host: &HostTensor<'_>, threads: usize, arena: &mut Arena) -> Result<Packed> {
        let Some(kind) = Kind::of(host.format) else {
            return Err(Error::Unsupported(format!(
                "tensor {}: format {} must be converted to {} before it is packed",
                host.name,
                host.format,
                host.format.native()
            )));
        };
        let block_bytes = kind.block_bytes(host.cols);
        let blocks = host.rows.div_ceil(LANES);
        let mut data = arena.block(blocks * block_bytes, &format!("tensor {}", host.name))?;
        let per_thread = blocks.div_ceil(threads.max(1)).max(1);
        std::thread::scope(|scope| {
            let mut parts = data.bytes_mut().chunks_mut((per_thread * block_bytes).max(1)).enumerate();
            let first = parts.next();
            for (i, part) in parts {
                scope.spawn(move || pack_blocks(kind, host, i * per_thread, part));
            }
            if let Some((_, part)) = first {
                pack_blocks(kind, host, 0, part);
            }
        });
        Ok(Packed { kind, rows: host.rows, cols: host.cols, block_bytes, data })
    }

    /// Blocks of 16 outputs.
    pub fn blocks(&self) -> usize {
        self.rows.div_ceil(LANES)
    }

    /// Records in a block (for float kinds: values of k).
    pub fn groups(&self) -> usize {
        self.cols / GROUP
    }

    /// A block's bytes.
    pub fn block(&self, block: usize) -> &[u8] {
        &self.data.bytes()[block * self.block_bytes..(block + 1) * self.block_bytes]
    }

    /// One row's values as float32: what the packed numbers stand for.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        let lane = row % LANES;
        let block = self.block(row / LANES);
        if !self.kind.quantized() {
            let (record, _) = self.kind.record();
            for (k, out) in out.iter_mut().enumerate() {
                let at = k * record + lane * record / LANES;
                *out = match self.kind {
                    Kind::F32 => f32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]),
                    Kind::F16 => f16_at(block, at),
                    _ => half::bf16::from_le_bytes([block[at], block[at + 1]]).to_f32(),
                };
            }
            return;
        }
        let (record, _) = self.kind.record();
        for (group, out) in out.chunks_exact_mut(GROUP).enumerate() {
            let (head, at) = self.kind.place(group);
            let (heads, bytes) = (&block[head..], &block[at..at + record]);
            let nibble = |q: &[u8], k: usize| {
                let byte = q[k % 16 / 4 * LINE + 4 * lane + k % 4];
                if k < 16 { byte & 15 } else { byte >> 4 }
            };
            match self.kind {
                Kind::Q8 => {
                    let d = f16_at(bytes, 2 * lane);
                    for (k, out) in out.iter_mut().enumerate() {
                        *out = d * bytes[32 + k / 4 * LINE + 4 * lane + k % 4] as i8 as f32;
                    }
                }
                Kind::Q4 => {
                    let d = f16_at(bytes, 2 * lane);
                    for (k, out) in out.iter_mut().enumerate() {
                        *out = d * (nibble(&bytes[32..], k) as f32 - 8.0);
                    }
                }
                Kind::Mxfp4 => {
                    let d = Mxfp4::scale_of(bytes[lane]);
                    for (k, out) in out.iter_mut().enumerate() {
                        *out = d * f32::from(Mxfp4::LEVELS[nibble(&bytes[16..], k) as usize]);
                    }
                }
                Kind::Q4Min => {
                    let (d, m) = (f16_at(bytes, 2 * lane), f16_at(bytes, 32 + 2 * lane));
                    for (k, out) in out.iter_mut().enumerate() {
                        *out = d * nibble(&bytes[64..], k) as f32 + m;
                    }
                }
                Kind::Q4K => {
                    let d = f16_at(heads, 2 * lane) * bytes[lane] as f32;
                    let m = f16_at(heads, 32 + 2 * lane) * bytes[16 + lane] as f32;
                    for (k, out) in out.iter_mut().enumerate() {
                        *out = d * nibble(&bytes[32..], k) as f32 - m;
                    }
                }
                Kind::Int4(_) | Kind::Int8(_) => {
                    let (d, zero) = (f16_at(heads, 2 * lane), f16_at(heads, 32 + 2 * lane));
                    let byte = |k: usize| bytes[k / 4 * LINE + 4 * lane + k % 4] as i8 as f32;
                    for (k, out) in out.iter_mut().enumerate() {
                        *out = d * (if record == 256 { nibble(bytes, k) as f32 } else { byte(k) } + zero);
                    }
                }
                _ => {
                    let d = f16_at(heads, 2 * lane);
                    for (k, out) in out.iter_mut().enumerate() {
                        let scale = d * bytes[k / 16 * 16 + lane] as i8 as f32;
                        let line = k / 4;
                        let pairs = bytes[32 + (4 + line / 4) * LINE + 4 * lane + k % 4] >> (2 * (line % 4)) & 3;
                        *out = scale * ((nibble(&bytes[32..], k) | pairs << 4) as f32 - 32.0);
                    }
                }
            }
        }
    }
}

fn f16_at(bytes: &[u8], at: usize) -> f32 {
    half::f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// Packs the blocks from `first` on that `out` has room for.
fn pack_blocks(kind: Kind, host: &HostTensor<'_>, first: usize, out: &mut [u8]) {
    let block_bytes = kind.block_bytes(host.cols);
    for (i, out) in out.chunks_exact_mut(block_bytes.max(1)).enumerate() {
        let from = (first + i) * LANES;
        let rows = from..host.rows.min(from + LANES);
        match kind {
            Kind::F32 => floats::interleave::<4>(&rows.map(|row| host.row(row)).collect::<Vec<_>>(), out),
            Kind::F16 | Kind::Bf16 => floats::interleave::<2>(&rows.map(|row| host.row(row)).collect::<Vec<_>>(), out),
            _ => rows.enumerate().for_each(|(lane, row)| pack_row(kind, host.row(row), lane, out)),
        }
    }
}

/// Moves one row of a quantized kind into its lane of a block.
fn pack_row(kind: Kind, row: &[u8], lane: usize, out: &mut [u8]) {
    let ((record, head), shared) = (kind.record(), 1 << kind.shared());
    let two = 2 * lane..2 * lane + 2;
    match kind {
        Kind::F32 | Kind::F16 | Kind::Bf16 => {}
        Kind::Q8 => {
            for (block, out) in row.chunks_exact(34).zip(out.chunks_exact_mut(record)) {
                out[two.clone()].copy_from_slice(&block[..2]);
                place(&block[2..], lane, &mut out[32..]);
            }
        }
        Kind::Q4 => {
            for (block, out) in row.chunks_exact(18).zip(out.chunks_exact_mut(record)) {
                out[two.clone()].copy_from_slice(&block[..2]);
                place(&block[2..], lane, &mut out[32..]);
            }
        }
        Kind::Mxfp4 => {
            for (block, out) in row.chunks_exact(17).zip(out.chunks_exact_mut(record)) {
                out[lane] = block[0];
                place(&block[1..], lane, &mut out[16..]);
            }
        }
        Kind::Q4Min => {
            for (block, out) in row.chunks_exact(20).zip(out.chunks_exact_mut(record)) {
                out[two.clone()].copy_from_slice(&block[..2]);
                out[32..][two.clone()].copy_from_slice(&block[2..4]);
                place(&block[4..], lane, &mut out[64..]);
            }
        }
        Kind::Q4K => {
            for (block, out) in row.chunks_exact(144).zip(out.chunks_exact_mut(head + shared * record)) {
                let (heads, records) = out.split_at_mut(head);
                heads[two.clone()].copy_from_slice(&block[..2]);
                heads[32..][two.clone()].copy_from_slice(&block[2..4]);
                for (group, out) in records.chunks_exact_mut(record).enumerate() {
                    (out[lane], out[16 + lane]) = scale_and_minimum(&block[4..16], group);
                    let q = &block[16 + group / 2 * 32..][..32];
                    let nibble = |k: usize| if group % 2 == 0 { q[k] & 15 } else { q[k] >> 4 };
                    let bytes: [u8; 16] = std::array::from_fn(|j| nibble(j) | nibble(16 + j) << 4);
                    place(&bytes, lane, &mut out[32..]);
                }
            }
        }
        Kind::Q6K => {
            for (block, out) in row.chunks_exact(210).zip(out.chunks_exact_mut(head + shared * record)) {
                let (low, high, scales, d) = (&block[..128], &block[128..192], &block[192..208], &block[208..]);
                let (heads, records) = out.split_at_mut(head);
                heads[two.clone()].copy_from_slice(d);
                for (group, out) in records.chunks_exact_mut(record).enumerate() {
                    out[lane] = scales[2 * group];
                    out[16 + lane] = scales[2 * group + 1];
                    let (half, quarter) = (group / 4, group % 4);
                    let low = &low[64 * half + 32 * (quarter % 2)..][..32];
                    let nibble = |k: usize| if quarter < 2 { low[k] & 15 } else { low[k] >> 4 };
                    let bytes: [u8; 16] = std::array::from_fn(|j| nibble(j) | nibble(16 + j) << 4);
                    place(&bytes, lane, &mut out[32..]);
                    // Bit pairs: byte i of line h gathers k = 16h + i, 16h + 4 + i, …
                    let pair = |k: usize| high[32 * half + k] >> (2 * quarter) & 3;
                    let gather = |h: usize, i: usize| (0..4).fold(0, |b, p| b | pair(16 * h + 4 * p + i) << (2 * p));
                    let pairs: [u8; 8] = std::array::from_fn(|j| gather(j / 4, j % 4));
                    place(&pairs, lane, &mut out[32 + 256..]);
                }
            }
        }
        Kind::Int4(group) | Kind::Int8(group) => {
            let bits = record / 64;
            let groups = row.chunks_exact(4 + group.len() * bits / 8).zip(out.chunks_exact_mut(head + shared * record));
            for (block, out) in groups {
                let (heads, records) = out.split_at_mut(head);
                let zero = u16::from_le_bytes([block[2], block[3]]) as f32;
                heads[two.clone()].copy_from_slice(&block[..2]);
                let zero = if bits == 8 { 128.0 - zero } else { -zero };
                heads[32..][two.clone()].copy_from_slice(&half::f16::from_f32(zero).to_le_bytes());
                for (quants, out) in block[4..].chunks_exact(4 * bits).zip(records.chunks_exact_mut(record)) {
                    place(quants, lane, out);
                    if bits == 8 {
                        // Signed, as the products of 8-bit weights have them.
                        let own = out.chunks_exact_mut(LINE).flat_map(|line| &mut line[4 * lane..4 * lane + 4]);
                        own.for_each(|byte| *byte ^= 0x80);
                    }
                }
            }
        }
    }
}

/// Word v of `bytes` to the lane's place in line v.
fn place(bytes: &[u8], lane: usize, lines: &mut [u8]) {
    for (word, line) in bytes.chunks_exact(4).zip(lines.chunks_exact_mut(LINE)) {
        line[4 * lane..4 * lane + 4].copy_from_slice(word);
    }
}

/// The 6-bit scale and minimum of group `j` from the 12 bytes that eight groups share.
fn scale_and_minimum(packed: &[u8], j: usize) -> (u8, u8) {
    if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        (packed[j + 4] & 15 | packed[j - 4] >> 6 << 4, packed[j + 4] >> 4 | packed[j] >> 6 << 4)
    }
}
