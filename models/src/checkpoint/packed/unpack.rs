//! Quants from the order of a file into that of [`Format::Int4`](nano_kernels::Format::Int4) and `Int8`: blocks with room
//! for scale and zero point, the nibbles of 32 values in 16 bytes, value j below value 16 + j.

use super::groups::Order;
use super::{Layout, Packed};

/// Outputs that are unpacked together: as many as lie in a line of the processor's cache.
pub(super) const TILE: usize = 64;
/// Bytes of a block before its quants.
const HEAD: usize = 4;

/// Where in a word of AWQ's output `i` of eight lies.
pub(super) const fn awq_place(i: usize) -> usize {
    [0, 4, 1, 5, 2, 6, 3, 7][i]
}

/// Writes the quants of outputs from `first` on into blocks of `len` values and `size` bytes.
pub(super) fn quants(
    packed: &Packed,
    first: usize,
    bytes: &[u8],
    order: Option<&Order>,
    (len, size): (usize, usize),
    out: &mut [u8],
) {
    let words = bytes.as_chunks::<4>().0;
    let blocks = packed.cols / len;
    let parts = (len / 32).trailing_zeros();
    let place = Place { parts, size, bytes: if packed.bits == 4 { 16 } else { 32 }, row: blocks * size };
    // What lies in rows is read row by row.
    let outputs = if packed.layout == Layout::Rows { 1 } else { TILE };
    for (tile, out) in out.chunks_mut(outputs * place.row).enumerate() {
        let first = first + tile * outputs;
        match order {
            Some(order) => reordered(packed, words, first, &order.inputs, &place, out),
            None => match (packed.layout, packed.bits) {
                (Layout::Awq, _) => awq(packed, words, first, &place, out),
                (_, 4) => nibbles(packed, words, first, &place, out),
                _ => octets(packed, words, first, &place, out),
            },
        }
    }
}

/// Where 32 values lie in the blocks.
struct Place {
    /// How many times 32 values a block has, as a power of two.
    parts: u32,
    /// Bytes of a block.
    size: usize,
    /// Bytes of 32 quants.
    bytes: usize,
    /// Bytes of an output.
    row: usize,
}

impl Place {
    /// The bytes of values 32 s and on of output `i` of a tile.
    fn of<'a>(&self, out: &'a mut [u8], i: usize, s: usize) -> &'a mut [u8] {
        let (block, part) = (s >> self.parts, s & ((1 << self.parts) - 1));
        let at = i * self.row + block * self.size + HEAD + part * self.bytes;
        &mut out[at..at + self.bytes]
    }
}

/// Word `i` of an output, and how far apart they are.
fn step(packed: &Packed, output: usize) -> (usize, usize) {
    match packed.layout {
        Layout::Rows => (output * packed.quants.cols, 1),
        _ => (output, packed.quants.cols),
    }
}

/// The eight nibbles of a word as bytes.
fn spread(word: [u8; 4]) -> u64 {
    let word = u64::from(u32::from_le_bytes(word));
    let word = (word | word << 16) & 0x0000_ffff_0000_ffff;
    let word = (word | word << 8) & 0x00ff_00ff_00ff_00ff;
    (word | word << 4) & 0x0f0f_0f0f_0f0f_0f0f
}

/// The words of 32 inputs are taken from all outputs of a tile before the next, so that lines are read whole.
fn nibbles(packed: &Packed, words: &[[u8; 4]], first: usize, place: &Place, out: &mut [u8]) {
    for s in 0..packed.cols / 32 {
        for i in 0..out.len() / place.row {
            let (from, by) = step(packed, first + i);
            let word = |n: usize| spread(words[from + (4 * s + n) * by]);
            let to = place.of(out, i, s);
            to[..8].copy_from_slice(&(word(0) | word(2) << 4).to_le_bytes());
            to[8..].copy_from_slice(&(word(1) | word(3) << 4).to_le_bytes());
        }
    }
}

fn octets(packed: &Packed, words: &[[u8; 4]], first: usize, place: &Place, out: &mut [u8]) {
    for s in 0..packed.cols / 32 {
        for i in 0..out.len() / place.row {
            let (from, by) = step(packed, first + i);
            for (n, to) in place.of(out, i, s).as_chunks_mut().0.iter_mut().enumerate() {
                *to = words[from + (8 * s + n) * by];
            }
        }
    }
}

/// Two words, of inputs j and 16 + j, give a byte for each of eight outputs: those in even places, then those in odd.
fn awq(packed: &Packed, words: &[[u8; 4]], first: usize, place: &Place, out: &mut [u8]) {
    const LOW: u32 = 0x0f0f_0f0f;
    let outputs = out.len() / place.row;
    for s in 0..packed.cols / 32 {
        for i in (0..outputs).step_by(8) {
            let word =
                |input: usize| u32::from_le_bytes(words[(32 * s + input) * packed.quants.cols + (first + i) / 8]);
            let mut eight = [[0; 16]; 8];
            for j in 0..16 {
                let (below, above) = (word(j), word(16 + j));
                let even = (below & LOW | (above & LOW) << 4).to_le_bytes();
                let odd = (below >> 4 & LOW | above & !LOW).to_le_bytes();
                for n in 0..4 {
                    eight[AT_EVEN[n]][j] = even[n];
                    eight[AT_ODD[n]][j] = odd[n];
                }
            }
            for (n, bytes) in eight.iter().enumerate() {
                place.of(out, i + n, s).copy_from_slice(bytes);
            }
        }
    }
}

/// The outputs in the even and in the odd places of a word.
const AT_EVEN: [usize; 4] = at(0);
const AT_ODD: [usize; 4] = at(1);

const fn at(odd: usize) -> [usize; 4] {
    let mut out = [0; 4];
    let mut i = 0;
    while i < 8 {
        let place = awq_place(i);
        if place % 2 == odd {
            out[place / 2] = i;
        }
        i += 1;
    }
    out
}

/// Columns in an order of their own: each output's quants as bytes first.
fn reordered(packed: &Packed, words: &[[u8; 4]], first: usize, inputs: &[u32], place: &Place, out: &mut [u8]) {
    let cols = packed.cols;
    let outputs = out.len() / place.row;
    let mut all = vec![0; outputs * cols];
    let in_word = 32 / packed.bits;
    for n in 0..cols / in_word {
        for i in 0..outputs {
            let (from, by) = step(packed, first + i);
            let word = words[from + n * by];
            let to = &mut all[i * cols + n * in_word..][..in_word];
            match packed.bits {
                4 => to.copy_from_slice(&spread(word).to_le_bytes()),
                _ => to.copy_from_slice(&word),
            }
        }
    }
    for (i, all) in all.chunks_exact(cols).enumerate() {
        for (s, inputs) in inputs.chunks_exact(32).enumerate() {
            let value = |n: usize| all[inputs[n] as usize];
            for (n, to) in place.of(out, i, s).iter_mut().enumerate() {
                *to = if packed.bits == 4 { value(n) | value(16 + n) << 4 } else { value(n) };
            }
        }
    }
}
