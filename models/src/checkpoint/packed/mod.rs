//! Tensors that lie in a file as quants, scales and zero points apart, each in an order of its own, and are read as one
//! ([`Format::Int4`], [`Format::Int8`]) without loss. Which tensors these are is known to the containers.

mod groups;
mod unpack;

use super::TensorInfo;
use half::{bf16, f16};
use nano_kernels::{Format, Group, HostTensor};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// What messages call them.
const ZEROS: &str = "zero points";

/// What is wrong with a tensor.
pub(super) type Fault = String;

/// An array in a file: rows of values.
#[derive(Clone, Debug)]
pub(super) struct Array {
    pub(super) file: usize,
    pub(super) range: Range<usize>,
    pub(super) rows: usize,
    pub(super) cols: usize,
}

/// How the quants lie. Words are u32 and hold the first of their quants in the lowest bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// A row of words for each output; a word holds quants of inputs that follow each other.
    Rows,
    /// The same, transposed: a column of words for each output.
    Columns,
    /// A row of words for each input; a word holds quants of eight outputs: 0, 2, 4, 6, 1, 3, 5, 7.
    Awq,
}

/// Scales: a number for each output and group.
#[derive(Clone, Debug)]
pub(super) struct Scales {
    pub(super) array: Array,
    /// F16, Bf16 or F32.
    pub(super) format: Format,
    /// Whether a row is that of a group, not that of an output.
    pub(super) transposed: bool,
}

/// Zero points.
#[derive(Clone, Debug)]
pub(super) enum Zeros {
    /// One for all.
    Same(u16),
    /// A row of words for each group, a word for outputs that follow each other; and what is added to each.
    Columns(Array, u16),
    /// A row of words for each group, as quants lie in [`Layout::Awq`].
    Awq(Array),
    /// A column of words for each group, a word for outputs that follow each other.
    Rows(Array),
    /// A row of i8 for each output; half the range is added.
    Signed(Array),
}

/// A tensor in pieces.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    pub(super) bits: usize,
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// Inputs that share a scale.
    pub(super) per: usize,
    pub(super) layout: Layout,
    pub(super) quants: Array,
    pub(super) scales: Scales,
    pub(super) zeros: Zeros,
    /// The group of each input, in numbers of so many bytes, where they are not in order.
    pub(super) groups: Option<(Array, usize)>,
    /// The first output, where this is a part of what the arrays hold.
    pub(super) first: usize,
}

/// The bytes of its arrays.
struct From<'a> {
    quants: &'a [u8],
    scales: &'a [u8],
    zeros: &'a [u8],
}

/// About how many bytes a thread writes at a time.
const SHARE: usize = 1 << 17;

/// The files' bytes, by number.
pub(super) type Files<'a> = &'a dyn Fn(&Array) -> Result<&'a [u8], Fault>;

impl Packed {
    /// The longest group that whole groups of the file are made of.
    pub(super) fn group(per: usize, cols: usize) -> Result<Group, Fault> {
        let whole = if cols.is_multiple_of(per) { per } else { greatest_divisor(per, cols) };
        Group::dividing(whole).ok_or_else(|| {
            format!("its groups of {per} inputs in rows of {cols} are no whole number of 32, which is the least that is read")
        })
    }

    fn format(&self) -> Result<Format, Fault> {
        let group = Self::group(self.per, self.cols)?;
        Ok(if self.bits == 4 { Format::Int4(group) } else { Format::Int8(group) })
    }

    /// Groups of the file.
    pub(super) fn count(&self) -> usize {
        self.cols.div_ceil(self.per)
    }

    /// What is known before the data is read. Checked here: that shapes agree with each other.
    pub(super) fn check(&self) -> Result<TensorInfo, Fault> {
        let Packed { bits, rows, cols, layout, .. } = *self;
        let all = match layout {
            Layout::Rows => self.quants.rows,
            Layout::Columns => self.quants.cols,
            Layout::Awq => self.quants.cols * 8,
        };
        if !(bits == 4 || bits == 8 && layout != Layout::Awq) {
            return Err(format!("its quants have {bits} bits; 4 and 8 are read"));
        }
        let (words, count) = (32 / bits, self.count());
        let agree = |what: &str, array: &Array, size: usize, shape: (usize, usize)| {
            if (array.rows, array.cols) == shape && array.range.len() == size * shape.0 * shape.1 {
                return Ok(());
            }
            Err(format!(
                "its {what} are {} x {}, {} bytes; beside {bits}-bit quants of {} x {} in groups of {} they are {} x {}",
                array.rows,
                array.cols,
                array.range.len(),
                self.quants.rows,
                self.quants.cols,
                self.per,
                shape.0,
                shape.1
            ))
        };
        let transposed = |(a, b): (usize, usize), swap: bool| if swap { (b, a) } else { (a, b) };
        agree(
            "quants",
            &self.quants,
            4,
            match layout {
                Layout::Awq => (cols, all / 8),
                _ => transposed((all, cols / words), layout == Layout::Columns),
            },
        )?;
        let size = self.scales.format.block_bytes();
        agree("scales", &self.scales.array, size, transposed((all, count), self.scales.transposed))?;
        match &self.zeros {
            Zeros::Same(_) => {}
            Zeros::Columns(array, _) | Zeros::Awq(array) => agree(ZEROS, array, 4, (count, all.div_ceil(words)))?,
            Zeros::Rows(array) => agree(ZEROS, array, 4, (all.div_ceil(words), count))?,
            Zeros::Signed(array) => agree(ZEROS, array, 1, (all, count))?,
        }
        if let Some((array, size)) = &self.groups
            && (array.rows * array.cols != cols || array.range.len() != size * cols)
        {
            return Err(format!("its g_idx has {} numbers for {cols} inputs", array.rows * array.cols));
        }
        let format = self.format()?;
        let bytes =
            self.arrays().map(|array| array.range.len() as u128).sum::<u128>() * rows as u128 / all.max(1) as u128;
        let fits = format.row_bytes(cols).and_then(|row| row.checked_mul(rows));
        fits.ok_or_else(|| format!("its rows of {cols} values are no whole number of {format} blocks"))?;
        Ok(TensorInfo { format, rows, cols, bytes: bytes as usize })
    }

    /// All of its arrays, the quants first.
    pub(super) fn arrays(&self) -> impl Iterator<Item = &Array> {
        let zeros = match &self.zeros {
            Zeros::Same(_) => None,
            Zeros::Columns(array, _) | Zeros::Awq(array) | Zeros::Rows(array) | Zeros::Signed(array) => Some(array),
        };
        [&self.quants, &self.scales.array].into_iter().chain(zeros).chain(self.groups.as_ref().map(|(array, _)| array))
    }

    /// Reads it. Also says how many scales had to be rounded.
    pub(super) fn read<'a>(&self, name: &str, files: Files<'a>) -> Result<(HostTensor<'static>, usize), Fault> {
        let format = self.format()?;
        let order = match &self.groups {
            None => None,
            Some((array, size)) => groups::read(files(array)?, *size, self.count(), self.per, format.block_len())?,
        };
        let block = (format.block_len(), format.block_bytes());
        let row_bytes = format.row_bytes(self.cols).unwrap_or_default();
        let mut bytes = vec![0; row_bytes * self.rows];
        let zeros = match &self.zeros {
            Zeros::Same(_) => &[][..],
            Zeros::Columns(array, _) | Zeros::Awq(array) | Zeros::Rows(array) | Zeros::Signed(array) => files(array)?,
        };
        let from = From { quants: files(&self.quants)?, scales: files(&self.scales.array)?, zeros };
        let rounded = self.unpack(&from, order.as_ref(), block, &mut bytes)?;
        let wrong = |e: nano_kernels::Error| e.to_string();
        let tensor = HostTensor::new(name, format, self.rows, self.cols, Cow::Owned(bytes)).map_err(wrong)?;
        let tensor = match order {
            Some(order) => tensor.with_order(&order.inputs).map_err(wrong)?,
            None => tensor,
        };
        Ok((tensor, rounded))
    }

    /// Writes all blocks, each of so many values and bytes, on as many threads as are worth it. Says how many scales are
    /// no f16 and had to be rounded.
    fn unpack(
        &self,
        from: &From<'_>,
        order: Option<&groups::Order>,
        (len, size): (usize, usize),
        out: &mut [u8],
    ) -> Result<usize, Fault> {
        let row = self.cols / len * size;
        let share = (SHARE / row).next_multiple_of(unpack::TILE).max(unpack::TILE) * row;
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(out.len().div_ceil(share));
        let shares = Mutex::new(out.chunks_mut(share).enumerate());
        let work = || -> Result<usize, Fault> {
            let mut rounded = 0;
            loop {
                let next = shares.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((i, out)) = next else { return Ok(rounded) };
                let first = self.first + i * (share / row);
                unpack::quants(self, first, from.quants, order, (len, size), out);
                rounded += self.heads(first, from, order, (len, size), out)?;
            }
        };
        std::thread::scope(|scope| {
            let spawn = |_| std::thread::Builder::new().name("unpack".into()).spawn_scoped(scope, work).ok();
            // Where no thread can be had, there are fewer: this one does what is left.
            let others: Vec<_> = (1..threads).map_while(spawn).collect();
            let mine = work();
            others
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| Err("could not be unpacked".into())))
                .chain([mine])
                .sum()
        })
    }

    /// Writes scales and zero points of outputs from `first` on. Says how many scales had to be rounded.
    fn heads(
        &self,
        first: usize,
        from: &From<'_>,
        order: Option<&groups::Order>,
        (len, size): (usize, usize),
        out: &mut [u8],
    ) -> Result<usize, Fault> {
        let count = self.count();
        let stride = if self.scales.transposed { (1, self.scales.array.cols) } else { (count, 1) };
        let blocks = self.cols / len;
        let mut rounded = 0;
        // By tiles, so that what lies transposed is read by whole lines.
        for (tile, out) in out.chunks_mut(unpack::TILE * blocks * size).enumerate() {
            let outputs = out.len() / (blocks * size);
            for block in 0..blocks {
                let group = order.map_or(block * len / self.per, |order| order.groups[block]);
                for i in 0..outputs {
                    let output = first + tile * unpack::TILE + i;
                    let (scale, exact) = self.scale(from.scales, output * stride.0 + group * stride.1)?;
                    let zero = self.zero(from.zeros, output, group, count);
                    let at = (i * blocks + block) * size;
                    out[at..at + 2].copy_from_slice(&scale.to_le_bytes());
                    out[at + 2..at + 4].copy_from_slice(&zero.to_le_bytes());
                    rounded += usize::from(!exact);
                }
            }
        }
        Ok(rounded)
    }

    /// A scale as f16, and whether it is the very same.
    fn scale(&self, bytes: &[u8], at: usize) -> Result<(u16, bool), Fault> {
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let value = match self.scales.format {
            Format::F16 => return Ok((half(2 * at), true)),
            Format::Bf16 => bf16::from_bits(half(2 * at)).to_f32(),
            _ => f32::from_le_bytes([bytes[4 * at], bytes[4 * at + 1], bytes[4 * at + 2], bytes[4 * at + 3]]),
        };
        let scale = f16::from_f32(value);
        if value.is_finite() && !scale.is_finite() {
            return Err(format!("its scale {value:e} is larger than any float16, in which scales are held"));
        }
        Ok((scale.to_bits(), scale.to_f32() == value || value.is_nan()))
    }

    fn zero(&self, bytes: &[u8], output: usize, group: usize, count: usize) -> u16 {
        let words = 32 / self.bits;
        let nibble = |word: usize, i: usize| {
            let word =
                u32::from_le_bytes([bytes[4 * word], bytes[4 * word + 1], bytes[4 * word + 2], bytes[4 * word + 3]]);
            ((word >> (i * self.bits)) & ((1 << self.bits) - 1)) as u16
        };
        match &self.zeros {
            Zeros::Same(zero) => *zero,
            Zeros::Columns(array, plus) => plus + nibble(group * array.cols + output / words, output % words),
            Zeros::Awq(array) => nibble(group * array.cols + output / 8, unpack::awq_place(output % 8)),
            Zeros::Rows(_) => nibble(output / words * count + group, output % words),
            Zeros::Signed(_) => (i16::from(bytes[output * count + group] as i8) + (1 << (self.bits - 1))).max(0) as u16,
        }
    }
}

fn greatest_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_divisor(b, a % b) }
}
