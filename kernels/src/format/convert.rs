//! What is done to whole tensors in host memory: to float32, to another format, and the search for values that are no
//! numbers. How single rows are read and written is told in `dequantize`, `quantize` and `transcode`.

use super::block::{Block, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0, Q8K, blocks};
use super::block::{Iq1M, Iq1S, Iq2S, Iq2Xs, Iq2Xxs, Iq3S, Iq3Xxs, Iq4Nl, Iq4Xs, Mxfp4, Tq1_0, Tq2_0};
use super::quantize::{Encoder, WeightedEncoder, encoder, weighted_encoder};
use super::transcode::{Transcoder, transcoder};
use super::{Format, HostTensor, dequantize_row};
use crate::{Error, Result};
use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// About how many values a thread takes at a time: enough to be worth the asking, few enough that all end together.
const SHARE: usize = 1 << 18;

impl<'a> HostTensor<'a> {
    /// All values as float32, row after row, in the order of the inputs.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.rows * self.cols];
        if !out.is_empty() {
            dequantize_row(self.format, &self.bytes, &mut out);
        }
        if let Some(order) = &self.order {
            let mut row = Vec::new();
            out.chunks_exact_mut(self.cols).for_each(|values| in_order(order, values, &mut row));
        }
        out
    }

    /// The same matrix in another format, on up to `threads` threads, this one among them. The result does not depend on
    /// their number.
    ///
    /// `to` is one that [`quantize_row`](super::quantize_row) writes. Where `to` can hold the very same values (Q4_0,
    /// Q5_0, IQ4_NL and MXFP4 in Q8_0, Q3_K, IQ3 and IQ1 in Q6_K, TQ in Q4_0, all in F32) it does. In its own format the tensor is not copied, if borrowed.
    /// Beside the result each thread needs memory for one row. Columns of another format lie in the order of the inputs.
    pub fn convert(&self, to: Format, threads: usize) -> Result<HostTensor<'a>> {
        if to == self.format {
            return Ok(self.clone());
        }
        let rows = match transcoder(self.format, to) {
            Some(transcoder) => Rows::Transcode(transcoder),
            None => Rows::Values(self.format, self.order.as_deref(), encoder(to)?),
        };
        self.rewrite(to, threads, rows)
    }

    /// [`convert`](HostTensor::convert) to a format of blocks in which the error of an input counts as `weights` say, one
    /// for each. Where they cannot be used (none is above 0, or the format has no scales to choose) it is `convert`.
    pub fn convert_weighted(&self, to: Format, weights: &[f32], threads: usize) -> Result<HostTensor<'a>> {
        if weights.len() != self.cols {
            return Err(Error::Shape {
                what: format!("weights for the columns of tensor {}", self.name),
                found: weights.len().to_string(),
                expected: self.cols.to_string(),
            });
        }
        let mean = weights.iter().sum::<f32>() / self.cols.max(1) as f32;
        let usable = to != self.format && mean > 0.0 && mean.is_finite() && transcoder(self.format, to).is_none();
        let Some(encoder) = weighted_encoder(to).filter(|_| usable) else { return self.convert(to, threads) };
        // An input that was never seen may be one day.
        let weights: Vec<f32> = weights.iter().map(|w| (w / mean).max(1e-4)).collect();
        self.rewrite(to, threads, Rows::Weighted(self.format, self.order.as_deref(), encoder, &weights))
    }

    fn rewrite(&self, to: Format, threads: usize, rows: Rows<'_>) -> Result<HostTensor<'a>> {
        let Some(row_bytes) = to.row_bytes(self.cols) else {
            return Err(Error::RowBlocks {
                name: self.name.clone(),
                format: to.name(),
                cols: self.cols,
                block: to.block_len(),
            });
        };
        let mut bytes = vec![0; row_bytes * self.rows];
        if !bytes.is_empty() {
            let share = (SHARE / self.cols).max(1);
            let shares =
                Mutex::new(bytes.chunks_mut(share * row_bytes).zip(self.bytes.chunks(share * self.row_bytes())));
            let work = || {
                let mut values = Vec::new();
                loop {
                    let next = shares.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some((out, from)) = next else { return };
                    for (out, from) in out.chunks_exact_mut(row_bytes).zip(from.chunks_exact(self.row_bytes())) {
                        rows.rewrite(from, out, self.cols, &mut values);
                    }
                }
            };
            thread::scope(|scope| {
                for _ in 1..threads.min(self.rows.div_ceil(share)) {
                    // Where no thread can be had, there are fewer: this one does what is left.
                    if thread::Builder::new().name("convert".into()).spawn_scoped(scope, work).is_err() {
                        break;
                    }
                }
                work();
            });
        }
        HostTensor::new(self.name.clone(), to, self.rows, self.cols, Cow::Owned(bytes))
    }

    /// How many values are NaN or infinite: of floats those that are, of blocks all whose scale or minimum is. Weights
    /// like these come of a broken training or a broken file, and one of them turns every output into NaN. Looked for on
    /// up to `threads` threads.
    pub fn non_finite(&self, threads: usize) -> usize {
        let share = self.bytes.len().div_ceil(threads.max(1)).max(SHARE).next_multiple_of(self.format.block_bytes());
        thread::scope(|scope| {
            let mut shares = self.bytes.chunks(share);
            let own = shares.next();
            let others: Vec<_> = shares.map(|share| scope.spawn(|| broken(self.format, share))).collect();
            let own = own.map_or(0, |share| broken(self.format, share));
            // A count cannot panic.
            others.into_iter().map(|other| other.join().unwrap_or(0)).sum::<usize>() + own
        })
    }
}

/// How many values of these blocks are no numbers.
fn broken(format: Format, bytes: &[u8]) -> usize {
    match format {
        Format::F32 => count(bytes, |b| u32::from_le_bytes(b) & 0x7f80_0000 == 0x7f80_0000),
        Format::F16 => count(bytes, f16),
        Format::Bf16 => count(bytes, |b| u16::from_le_bytes(b) & 0x7f80 == 0x7f80),
        Format::Q8_0 => count_blocks(bytes, |b: &Q8_0| f16(b.d)),
        Format::Q4_0 => count_blocks(bytes, |b: &Q4_0| f16(b.d)),
        Format::Q4_1 => count_blocks(bytes, |b: &Q4_1| f16(b.d) | f16(b.m)),
        Format::Q5_0 => count_blocks(bytes, |b: &Q5_0| f16(b.d)),
        Format::Q5_1 => count_blocks(bytes, |b: &Q5_1| f16(b.d) | f16(b.m)),
        Format::Iq4Nl => count_blocks(bytes, |b: &Iq4Nl| f16(b.d)),
        Format::Q2K => count_blocks(bytes, |b: &Q2K| f16(b.d) | f16(b.dmin)),
        Format::Q3K => count_blocks(bytes, |b: &Q3K| f16(b.d)),
        Format::Q4K => count_blocks(bytes, |b: &Q4K| f16(b.d) | f16(b.dmin)),
        Format::Q5K => count_blocks(bytes, |b: &Q5K| f16(b.d) | f16(b.dmin)),
        Format::Q6K => count_blocks(bytes, |b: &Q6K| f16(b.d)),
        Format::Q8K => count_blocks(bytes, |b: &Q8K| !f32::from_le_bytes(b.d).is_finite()),
        Format::Iq4Xs => count_blocks(bytes, |b: &Iq4Xs| f16(b.d)),
        Format::Iq3S => count_blocks(bytes, |b: &Iq3S| f16(b.d)),
        Format::Iq3Xxs => count_blocks(bytes, |b: &Iq3Xxs| f16(b.d)),
        Format::Iq2S => count_blocks(bytes, |b: &Iq2S| f16(b.d)),
        Format::Iq2Xs => count_blocks(bytes, |b: &Iq2Xs| f16(b.d)),
        Format::Iq2Xxs => count_blocks(bytes, |b: &Iq2Xxs| f16(b.d)),
        Format::Iq1M => count_blocks(bytes, |b: &Iq1M| f16(b.d())),
        Format::Iq1S => count_blocks(bytes, |b: &Iq1S| f16(b.d)),
        Format::Tq1_0 => count_blocks(bytes, |b: &Tq1_0| f16(b.d)),
        Format::Tq2_0 => count_blocks(bytes, |b: &Tq2_0| f16(b.d)),
        // Its scales are finite; under the largest, its levels are not.
        Format::Mxfp4 => count_blocks(bytes, |b: &Mxfp4| !(12.0 * b.scale()).is_finite()),
        Format::Int4(group) | Format::Int8(group) => {
            let blocks = bytes.chunks_exact(format.block_bytes());
            blocks.filter(|b| f16([b[0], b[1]])).count() * group.len()
        }
    }
}

/// One row at a time, the direct way or over its values.
enum Rows<'a> {
    Transcode(Transcoder),
    Values(Format, Option<&'a [u32]>, Encoder),
    Weighted(Format, Option<&'a [u32]>, WeightedEncoder, &'a [f32]),
}

impl Rows<'_> {
    fn rewrite(&self, from: &[u8], to: &mut [u8], cols: usize, values: &mut Vec<f32>) {
        match self {
            Rows::Transcode(transcode) => transcode(from, to),
            Rows::Values(format, order, encode) => {
                read(*format, *order, from, cols, values);
                encode(values, to);
            }
            Rows::Weighted(format, order, encode, weights) => {
                read(*format, *order, from, cols, values);
                encode(values, weights, to);
            }
        }
    }
}

/// A row's values, in the order of the inputs.
fn read(format: Format, order: Option<&[u32]>, from: &[u8], cols: usize, values: &mut Vec<f32>) {
    values.resize(cols, 0.0);
    dequantize_row(format, from, values);
    if let Some(order) = order {
        in_order(order, values, &mut Vec::new());
    }
}

/// Brings a row's values from the order of columns into that of the inputs.
fn in_order(order: &[u32], values: &mut [f32], columns: &mut Vec<f32>) {
    columns.clear();
    columns.extend_from_slice(values);
    order.iter().zip(columns).for_each(|(input, value)| values[*input as usize] = *value);
}

/// Whether an f16 is NaN or infinite.
fn f16(bytes: [u8; 2]) -> bool {
    u16::from_le_bytes(bytes) & 0x7c00 == 0x7c00
}

fn count<const N: usize>(bytes: &[u8], bad: impl Fn([u8; N]) -> bool) -> usize {
    // By parts, whose counts fit into as few bits as the values have: four times as many at once.
    let parts = bytes.as_chunks::<N>().0.chunks(1 << 14);
    parts.map(|part| usize::from(part.iter().map(|b| u16::from(bad(*b))).sum::<u16>())).sum()
}

fn count_blocks<B: Block>(bytes: &[u8], bad: impl Fn(&B) -> bool) -> usize {
    blocks(bytes).iter().filter(|b| bad(b)).count() * B::FORMAT.block_len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Group;

    #[test]
    fn a_group_has_an_integer_zero_point() {
        // Scale 0.5, zero 3; value i is quant i % 16 of each 32.
        let mut bytes = vec![0x00, 0x38, 3, 0];
        bytes.extend((0..32).map(|i| (i % 16) | (i % 16) << 4));
        let tensor = HostTensor::new("t", Format::Int4(Group::G64), 1, 64, Cow::Owned(bytes)).unwrap();
        let expected: Vec<f32> = (0..64).map(|i| 0.5 * ((i % 16) as f32 - 3.0)).collect();
        assert_eq!(tensor.to_f32(), expected);
    }

    #[test]
    fn columns_come_back_into_the_order_of_the_inputs() {
        let mut bytes = vec![0x00, 0x3c, 0, 1];
        bytes.extend(0..32);
        let tensor = HostTensor::new("t", Format::Int8(Group::G32), 1, 32, Cow::Owned(bytes)).unwrap();
        let order: Vec<u32> = (0..32).map(|column| (column * 5 + 7) % 32).collect();
        let tensor = tensor.with_order(&order).unwrap();
        let values = tensor.to_f32();
        for (column, input) in order.iter().enumerate() {
            assert_eq!(values[*input as usize], column as f32 - 256.0);
        }
        let converted = tensor.convert(Format::F32, 1).unwrap();
        assert!(converted.order.is_none());
        assert_eq!(converted.to_f32(), values);
        assert!(tensor.clone().with_order(&[0; 32]).is_err(), "an input twice");
        assert!(tensor.with_order(&order[1..]).is_err(), "a column without an input");
    }
}
