//! Matrices of experts that a file holds woven together: one tensor for all experts of a layer, in which gates and ups lie
//! in turns. Read as one expert's matrix at a time. Which tensors these are is known to the containers.

use super::TensorInfo;
use nano_kernels::{Format, HostTensor};
use std::borrow::Cow;
use std::ops::Range;

/// Bytes of a file, by its number.
pub(super) type Place = (usize, Range<usize>);

/// One expert's matrix, or its bias: a matrix of one input.
#[derive(Clone, Debug)]
pub(super) struct Woven {
    /// Outputs.
    pub(super) rows: usize,
    /// Inputs.
    pub(super) cols: usize,
    /// Of so many outputs of the file that follow each other, one is this matrix's.
    pub(super) step: usize,
    /// Which one.
    pub(super) first: usize,
    /// Where this expert's part lies.
    pub(super) data: Data,
}

/// How an expert's part lies.
#[derive(Clone, Debug)]
pub(super) enum Data {
    /// MXFP4: a row of blocks for each output, and as many scales. Byte i of a block holds values 2 i and 2 i + 1.
    Blocks { blocks: Place, scales: Place },
    /// A row of values for each input.
    Values(Format, Place),
}

/// Outputs that are gathered side by side.
const TILE: usize = 64;

impl Woven {
    /// Its format and shape.
    pub(super) fn info(&self) -> TensorInfo {
        let format = match &self.data {
            Data::Blocks { .. } => Format::Mxfp4,
            Data::Values(format, _) => *format,
        };
        let (rows, cols) = if self.cols == 1 { (1, self.rows) } else { (self.rows, self.cols) };
        TensorInfo { format, rows, cols, bytes: format.row_bytes(cols).unwrap_or_default() * rows }
    }

    /// Where its bytes lie, with those of what it is woven with.
    pub(super) fn places(&self) -> impl Iterator<Item = &Place> {
        let (first, second) = match &self.data {
            Data::Blocks { blocks, scales } => (blocks, Some(scales)),
            Data::Values(_, values) => (values, None),
        };
        [first].into_iter().chain(second)
    }

    /// Reads it; `None` if its bytes lie outside the files.
    pub(super) fn read<'a>(
        &self,
        name: &str,
        files: impl Fn(&Place) -> Option<&'a [u8]>,
    ) -> Option<Result<HostTensor<'static>, nano_kernels::Error>> {
        let TensorInfo { format, rows, cols, bytes } = self.info();
        let mut out = vec![0; bytes];
        match &self.data {
            Data::Blocks { blocks, scales } => self.blocks(files(blocks)?, files(scales)?, &mut out),
            Data::Values(_, values) if format == Format::F32 => self.values::<4>(files(values)?, &mut out),
            Data::Values(_, values) => self.values::<2>(files(values)?, &mut out),
        }
        Some(HostTensor::new(name, format, rows, cols, Cow::Owned(out)))
    }

    /// Blocks as [`Format::Mxfp4`] has them: the scale first; byte i holds values i and i + 16.
    fn blocks(&self, blocks: &[u8], scales: &[u8], out: &mut [u8]) {
        const LOW: u64 = 0x0f0f_0f0f_0f0f_0f0f;
        let (blocks, out) = (blocks.as_chunks::<16>().0, out.as_chunks_mut::<17>().0);
        let count = self.cols / 32;
        for (row, out) in out.chunks_exact_mut(count).enumerate() {
            let at = (self.first + row * self.step) * count;
            for ((out, block), scale) in out.iter_mut().zip(&blocks[at..at + count]).zip(&scales[at..at + count]) {
                let [begin, end] = [0, 8].map(|at| u64::from_le_bytes(std::array::from_fn(|i| block[at + i])));
                let even = (begin & LOW | (end & LOW) << 4).to_le_bytes();
                let odd = (begin >> 4 & LOW | end & !LOW).to_le_bytes();
                *out = std::array::from_fn(|i| match i {
                    0 => *scale,
                    i if i % 2 == 1 => even[i / 2],
                    i => odd[i / 2 - 1],
                });
            }
        }
    }

    /// Values of so many bytes, turned around.
    fn values<const N: usize>(&self, from: &[u8], out: &mut [u8]) {
        let (from, out) = (from.as_chunks::<N>().0, out.as_chunks_mut::<N>().0);
        // By tiles, so that what lies across is read by whole lines.
        for tile in (0..self.rows).step_by(TILE) {
            for (input, line) in from.chunks_exact(self.rows * self.step).enumerate() {
                for row in tile..self.rows.min(tile + TILE) {
                    out[row * self.cols + input] = line[self.first + row * self.step];
                }
            }
        }
    }
}
