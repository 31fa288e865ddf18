//! Weight formats: what each looks like in a file, to float32, from float32, and which ones backends take as they are.
//!
//! Block layouts are those published with ggml (`ggml-common.h`); every one is size-asserted beside its decoder.

pub(crate) mod block;
mod book;
mod convert;
mod dequantize;
mod float;
mod quantize;
mod quantize_256;
mod quantize_32;
mod stack;
mod transcode;

pub use dequantize::dequantize_row;
pub use float::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};
pub use quantize::quantize_row;
pub(crate) use stack::stacked;

use crate::{Error, Result};
use std::borrow::Cow;
use std::sync::Arc;

/// How the bytes of a tensor are to be read. All are little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the names are the field's own
pub enum Format {
    F32,
    F16,
    Bf16,
    /// 32 values: f16 scale, 32 x i8.
    Q8_0,
    /// 32 values: f16 scale, 16 bytes of nibbles, value = d·(q − 8).
    Q4_0,
    /// 32 values: f16 scale, f16 minimum, 16 bytes of nibbles, value = d·q + m.
    Q4_1,
    /// 256 values in 8 groups of 32 with 6-bit scales and minima.
    Q4K,
    /// 256 values in 16 groups of 16 with 8-bit scales.
    Q6K,
    Q5_0,
    Q5_1,
    Q2K,
    Q3K,
    Q5K,
    Q8K,
    Iq4Nl,
    Iq4Xs,
    Iq3S,
    Iq3Xxs,
    Iq2S,
    Iq2Xs,
    Iq2Xxs,
    Iq1M,
    Iq1S,
    Tq1_0,
    Tq2_0,
    /// 32 values: an exponent e, 16 bytes of nibbles as in Q4_0 that are floats of four bits, value = 2^(e − 127)·float.
    Mxfp4,
    /// A group: f16 scale, u16 zero point, 4-bit quants, value = d·(q − zero); the nibbles of 32 values lie as in Q4_0.
    /// What checkpoints of AWQ, GPTQ and their kin are read as.
    Int4(Group),
    /// The same with a byte for each quant, from 0 to 255.
    Int8(Group),
}

/// How many values share a scale and a zero point in [`Format::Int4`] and [`Format::Int8`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Group {
    G32,
    G64,
    G128,
}

impl Group {
    /// All there are.
    pub const ALL: [Group; 3] = [Group::G32, Group::G64, Group::G128];

    /// Values in a group.
    #[allow(clippy::len_without_is_empty)] // none is
    pub const fn len(self) -> usize {
        32 << self as usize
    }

    /// The longest group that divides stretches of `len` values, so that larger groups of a file are some of these.
    /// `None` if none does.
    pub fn dividing(len: usize) -> Option<Group> {
        Group::ALL.into_iter().rev().find(|group| len > 0 && len.is_multiple_of(group.len()))
    }
}

impl Format {
    /// Values in one block.
    pub const fn block_len(self) -> usize {
        match self {
            Format::F32 | Format::F16 | Format::Bf16 => 1,
            Format::Q8_0 | Format::Q4_0 | Format::Q4_1 | Format::Q5_0 | Format::Q5_1 => 32,
            Format::Iq4Nl | Format::Mxfp4 => 32,
            Format::Q4K | Format::Q6K | Format::Q2K | Format::Q3K | Format::Q5K | Format::Q8K => 256,
            Format::Iq4Xs | Format::Iq3S | Format::Iq3Xxs | Format::Iq2S | Format::Iq2Xs | Format::Iq2Xxs => 256,
            Format::Iq1M | Format::Iq1S | Format::Tq1_0 | Format::Tq2_0 => 256,
            Format::Int4(group) | Format::Int8(group) => group.len(),
        }
    }

    /// Bytes in one block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Format::F32 => 4,
            Format::F16 | Format::Bf16 => 2,
            Format::Q8_0 => 34,
            Format::Q4_0 | Format::Iq4Nl => 18,
            Format::Q4_1 => 20,
            Format::Q5_0 => 22,
            Format::Q5_1 => 24,
            Format::Q2K => 84,
            Format::Q3K => 110,
            Format::Q4K => 144,
            Format::Q5K => 176,
            Format::Q6K => 210,
            Format::Q8K => 292,
            Format::Iq4Xs => 136,
            Format::Iq3S => 110,
            Format::Iq3Xxs => 98,
            Format::Iq2S => 82,
            Format::Iq2Xs => 74,
            Format::Iq2Xxs => 66,
            Format::Iq1M => 56,
            Format::Iq1S => 50,
            Format::Tq1_0 => 54,
            Format::Tq2_0 => 66,
            Format::Mxfp4 => 17,
            Format::Int4(group) => 4 + group.len() / 2,
            Format::Int8(group) => 4 + group.len(),
        }
    }

    /// The field's spelling.
    pub const fn name(self) -> &'static str {
        match self {
            Format::F32 => "F32",
            Format::F16 => "F16",
            Format::Bf16 => "BF16",
            Format::Q8_0 => "Q8_0",
            Format::Q4_0 => "Q4_0",
            Format::Q4_1 => "Q4_1",
            Format::Q4K => "Q4_K",
            Format::Q6K => "Q6_K",
            Format::Q5_0 => "Q5_0",
            Format::Q5_1 => "Q5_1",
            Format::Q2K => "Q2_K",
            Format::Q3K => "Q3_K",
            Format::Q5K => "Q5_K",
            Format::Q8K => "Q8_K",
            Format::Iq4Nl => "IQ4_NL",
            Format::Iq4Xs => "IQ4_XS",
            Format::Iq3S => "IQ3_S",
            Format::Iq3Xxs => "IQ3_XXS",
            Format::Iq2S => "IQ2_S",
            Format::Iq2Xs => "IQ2_XS",
            Format::Iq2Xxs => "IQ2_XXS",
            Format::Iq1M => "IQ1_M",
            Format::Iq1S => "IQ1_S",
            Format::Tq1_0 => "TQ1_0",
            Format::Tq2_0 => "TQ2_0",
            Format::Mxfp4 => "MXFP4",
            Format::Int4(Group::G32) => "INT4-G32",
            Format::Int4(Group::G64) => "INT4-G64",
            Format::Int4(Group::G128) => "INT4-G128",
            Format::Int8(Group::G32) => "INT8-G32",
            Format::Int8(Group::G64) => "INT8-G64",
            Format::Int8(Group::G128) => "INT8-G128",
        }
    }

    /// The format in which backends hold it: itself where it is native, else the nearest wider native one.
    ///
    /// What the conversions cost, Σ(error²) / Σ(value²) over random blocks, beside what is lost when normal weights
    /// are given five bits in groups of 32 (1.2e-3) or two in groups of 16 (6.5e-2), even under exact scales:
    ///
    /// | from | Q8_0 | Q6_K | Q4_K | Q4_1 |
    /// |---|---|---|---|---|
    /// | Q5_0 | **0** | 3.4e-5 | 2.7e-3 | 2.6e-3 |
    /// | IQ4_NL | **0** | 1.8e-4 | 2.8e-3 | 2.7e-3 |
    /// | Q5_1 | **1.4e-5** | 5.4e-5 | 2.7e-3 | 2.6e-3 |
    /// | Q5_K | **1.4e-5** | 1.5e-4 | 1.2e-3 | 1.1e-3 |
    /// | Q8_K | **3.6e-8** | 1.6e-4 | 2.8e-3 | 2.8e-3 |
    /// | Q3_K | 2.1e-5 | **0** | 2.4e-3 | 2.3e-3 |
    /// | Q2_K | 1.4e-5 | **7.0e-5** | 1.0e-3 | 9.8e-4 |
    /// | IQ4_XS | **3.7e-8** | 1.8e-4 | 2.7e-3 | 2.7e-3 |
    /// | IQ3_S | 2.6e-5 | **0** | 3.5e-4 | 2.4e-4 |
    /// | IQ3_XXS | 1.8e-5 | **0** | 5.0e-4 | 3.9e-4 |
    /// | IQ2_S | 2.3e-5 | **8.8e-5** | 2.7e-3 | 2.6e-3 |
    /// | IQ2_XS | 2.3e-5 | **8.7e-5** | 2.7e-3 | 2.6e-3 |
    /// | IQ2_XXS | 1.8e-5 | **9.9e-5** | 5.7e-4 | 5.1e-4 |
    /// | IQ1_M | 9.5e-6 | **0** | 2.1e-3 | 2.0e-3 |
    /// | IQ1_S | 2.6e-6 | **0** | 9.4e-5 | 1.2e-7 |
    ///
    /// Q3_K lies in Q6_K as it is. Q2_K does not fit the groups of Q4_K, twice as long as its own; in Q6_K its groups
    /// stay apart, and what that adds to its own error is a thousandth; so it is with IQ2. IQ3 and IQ1 lie in Q6_K as they
    /// are (IQ1 but for scales that become denormal), TQ1_0 and TQ2_0 in Q4_0.
    pub const fn native(self) -> Format {
        match self {
            Format::Q5_0 | Format::Q5_1 | Format::Q5K | Format::Q8K => Format::Q8_0,
            Format::Iq4Nl | Format::Iq4Xs => Format::Q8_0,
            Format::Q2K | Format::Q3K | Format::Iq3S | Format::Iq3Xxs => Format::Q6K,
            Format::Iq2S | Format::Iq2Xs | Format::Iq2Xxs | Format::Iq1M | Format::Iq1S => Format::Q6K,
            Format::Tq1_0 | Format::Tq2_0 => Format::Q4_0,
            f => f,
        }
    }

    /// Bytes of a row of `cols` values. `None` if `cols` is no whole number of blocks, or the count overflows.
    pub fn row_bytes(self, cols: usize) -> Option<usize> {
        if !cols.is_multiple_of(self.block_len()) {
            return None;
        }
        (cols / self.block_len()).checked_mul(self.block_bytes())
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A matrix of a checkpoint, in host memory: `rows` (outputs) of `cols` (inputs) values, row after row.
/// A vector is one row.
#[derive(Clone, Debug)]
pub struct HostTensor<'a> {
    /// Its name in the file, for messages.
    pub name: String,
    /// How `bytes` are to be read.
    pub format: Format,
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// The data, `rows * format.row_bytes(cols)` bytes.
    pub bytes: Cow<'a, [u8]>,
    /// Where columns do not lie in the order of the inputs: column `c` is for input `order[c]`. GPTQ with `desc_act`
    /// groups its inputs by importance.
    pub order: Option<Arc<[u32]>>,
}

impl<'a> HostTensor<'a> {
    /// A tensor whose byte count has been checked against its shape.
    pub fn new(
        name: impl Into<String>,
        format: Format,
        rows: usize,
        cols: usize,
        bytes: Cow<'a, [u8]>,
    ) -> Result<Self> {
        let name = name.into();
        let Some(row) = format.row_bytes(cols) else {
            return Err(Error::RowBlocks { name, format: format.name(), cols, block: format.block_len() });
        };
        if row.checked_mul(rows) != Some(bytes.len()) {
            let expected = row.saturating_mul(rows);
            return Err(Error::TensorBytes { name, format: format.name(), rows, cols, found: bytes.len(), expected });
        }
        Ok(HostTensor { name, format, rows, cols, bytes, order: None })
    }

    /// The same with columns in an order of their own, each input once. The order of the inputs itself is none.
    pub fn with_order(mut self, order: &[u32]) -> Result<Self> {
        let mut seen = vec![false; self.cols];
        let once = |input: &u32| seen.get_mut(*input as usize).is_some_and(|seen| !std::mem::replace(seen, true));
        if order.len() != self.cols || !order.iter().all(once) {
            return Err(Error::Shape {
                what: format!("tensor {}: its order of columns", self.name),
                found: format!("{} numbers", order.len()),
                expected: format!("each of 0 to {} once", self.cols.saturating_sub(1)),
            });
        }
        let plain = order.iter().enumerate().all(|(column, input)| column == *input as usize);
        self.order = (!plain).then(|| order.into());
        Ok(self)
    }

    /// Bytes of one row.
    pub fn row_bytes(&self) -> usize {
        self.bytes.len().checked_div(self.rows).unwrap_or(0)
    }

    /// One row's bytes.
    pub fn row(&self, row: usize) -> &[u8] {
        let n = self.row_bytes();
        &self.bytes[row * n..(row + 1) * n]
    }

    /// Rows `from..to` as a tensor of their own, borrowed from this one.
    pub fn slice_rows(&self, from: usize, to: usize) -> HostTensor<'_> {
        let n = self.row_bytes();
        HostTensor {
            name: self.name.clone(),
            format: self.format,
            rows: to - from,
            cols: self.cols,
            bytes: Cow::Borrowed(&self.bytes[from * n..to * n]),
            order: self.order.clone(),
        }
    }
}
