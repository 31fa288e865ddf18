//! Weights of a checkpoint into the planes that the kernels read (`cuda/weights.cuh`), strip by strip through the
//! staging memory. How a strip is laid out is in `pack/strip.rs`.

mod strip;
#[cfg(test)]
mod tests;

use super::driver::Driver;
use super::weight::{Kind, Part, TILE_ROWS, Weight};
use super::{Cuda, SLAB_BYTES, STAGING_BYTES, shape};
use crate::format::{Format, block, stacked};
use crate::{Error, HostTensor, Result};
use std::num::NonZero;
use std::thread;
pub use strip::Plane;
use strip::{F16_MAX, f16, power_of_two};

/// A single tensor with more rows than gates and ups have together is a vocabulary.
const MOST_GATES: usize = 1 << 16;
/// Fewer bytes than this are not worth a thread.
const SHARE_BYTES: usize = 256 << 10;

impl<D: Driver> Cuda<D> {
    /// Packs matrices that are stacked along their rows.
    pub(super) fn pack(&self, tensors: &[HostTensor<'_>]) -> Result<Weight> {
        let cols = tensors.first().map_or(0, |t| t.cols);
        let mut weight = Weight { parts: Vec::new(), rows: 0, cols, outputs: 0, order: 0, glued: false };
        let order = stacked(tensors)?;
        for source in sources(tensors)? {
            let strips = source.rows.div_ceil(TILE_ROWS);
            let most = SLAB_BYTES / source.strip_bytes(Plane::Quants);
            for from in (0..strips).step_by(most) {
                let strips = most.min(strips - from);
                let plane = |plane| self.pack_plane(&source, plane, from, strips);
                let rows = (strips * TILE_ROWS).min(source.rows - from * TILE_ROWS);
                weight.parts.push(Part {
                    kind: source.kind,
                    first: weight.rows,
                    rows,
                    cols: source.cols,
                    quants: plane(Plane::Quants)?,
                    scales: plane(Plane::Scales)?,
                    supers: plane(Plane::Supers)?,
                    unscale: source.kind.unscale(source.power),
                });
                weight.rows += rows;
            }
        }
        if let Some(order) = order {
            weight.order = self.take(4 * order.len(), &format!("tensor {}: its order of columns", tensors[0].name))?;
            self.stream(weight.order, 4 * order.len(), 4, &mut |start, out| {
                out.as_chunks_mut()
                    .0
                    .iter_mut()
                    .zip(&order[start / 4..])
                    .for_each(|(to, input)| *to = input.to_le_bytes());
            })?;
        }
        // Gates and ups that one kernel cannot see together meet in memory.
        let mut rows = 0;
        let halves = tensors.iter().any(|tensor| {
            rows += tensor.rows;
            2 * rows == weight.rows
        });
        let halves = halves || (tensors.len() == 1 && weight.rows.is_multiple_of(2) && weight.rows <= MOST_GATES);
        weight.outputs = if halves { weight.rows } else { 0 };
        self.settle(&mut weight);
        Ok(weight)
    }

    /// Takes memory for a plane of some strips, and fills it; 0 if the kind has no such plane.
    fn pack_plane(&self, source: &Source<'_>, plane: Plane, from: usize, strips: usize) -> Result<u64> {
        let unit = source.strip_bytes(plane);
        if unit == 0 {
            return Ok(0);
        }
        let name = || format!("tensor {}", source.tensors[0].name);
        if unit > STAGING_BYTES {
            let most = format!("at most {}", source.cols * STAGING_BYTES / unit);
            return Err(shape(&format!("{}: columns", name()), source.cols, most));
        }
        let to = self.take(strips * unit, &name())?;
        self.stream(to, strips * unit, unit, &mut |start, out| source.fill(plane, from + start / unit, out))?;
        Ok(to)
    }
}

/// What becomes one part, or several if it is too large for one: tensors that lie under one another in whole strips.
struct Source<'a> {
    kind: Kind,
    tensors: Vec<&'a HostTensor<'a>>,
    rows: usize,
    cols: usize,
    /// P of `cuda/weights.cuh`.
    power: i32,
}

/// Neighbours of one kind become one source where the upper one ends with a whole strip.
fn sources<'a>(tensors: &'a [HostTensor<'a>]) -> Result<Vec<Source<'a>>> {
    let mut sources: Vec<Source<'a>> = Vec::new();
    for tensor in tensors.iter().filter(|t| t.rows > 0) {
        let kind = match tensor.format {
            Format::F32 | Format::Bf16 => Some(Kind::F16),
            format => Kind::of(format),
        };
        let Some(kind) = kind else {
            return Err(Error::Unsupported(format!(
                "tensor {}: format {} must be converted to {} before it is packed",
                tensor.name,
                tensor.format,
                tensor.format.native()
            )));
        };
        if tensor.cols != tensors[0].cols || tensor.cols == 0 {
            return Err(shape(&format!("tensor {}: columns", tensor.name), tensor.cols, tensors[0].cols.max(1)));
        }
        match sources.last_mut() {
            Some(last) if last.kind == kind && last.rows.is_multiple_of(TILE_ROWS) => {
                last.tensors.push(tensor);
                last.rows += tensor.rows;
            }
            _ => sources.push(Source { kind, tensors: vec![tensor], rows: tensor.rows, cols: tensor.cols, power: 0 }),
        }
    }
    for source in &mut sources {
        let power = |tensor: &&HostTensor<'_>| power(source.kind, greatest(source.kind, tensor));
        source.power = source.tensors.iter().map(power).min().unwrap_or(0);
    }
    Ok(sources)
}

impl Source<'_> {
    fn strip_bytes(&self, plane: Plane) -> usize {
        plane.strip_bytes(self.kind, self.cols)
    }

    /// Fills whole strips of a plane, `first` and those after it.
    fn fill(&self, plane: Plane, first: usize, out: &mut [u8]) {
        let unit = self.strip_bytes(plane);
        let share = out.len().div_ceil(threads(out.len())).next_multiple_of(unit);
        thread::scope(|scope| {
            let strips = |from: usize, out: &mut [u8]| {
                out.chunks_exact_mut(unit).enumerate().for_each(|(i, out)| self.strip(plane, from + i, out));
            };
            let mut shares = out.chunks_mut(share).enumerate();
            let own = shares.next();
            for (i, share_out) in shares {
                scope.spawn(move || strips(first + i * (share / unit), share_out));
            }
            if let Some((_, out)) = own {
                strips(first, out);
            }
        });
    }

    fn strip(&self, plane: Plane, strip: usize, out: &mut [u8]) {
        out.fill(0);
        let mut from = strip * TILE_ROWS;
        for tensor in &self.tensors {
            if from < tensor.rows {
                for row in from..tensor.rows.min(from + TILE_ROWS) {
                    strip::row(plane, tensor.format, tensor.row(row), self.power, row - from, out);
                }
                return;
            }
            from -= tensor.rows;
        }
    }
}

/// Threads for so many bytes.
fn threads(bytes: usize) -> usize {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    cores.min(bytes / SHARE_BYTES).clamp(1, 16)
}

/// The greatest number that must stay within f16 when multiplied by 2^P, of Mx4 the greatest exponent; what is no number
/// does not count.
fn greatest(kind: Kind, tensor: &HostTensor<'_>) -> f32 {
    if kind == Kind::F16 {
        return 0.0;
    }
    let rows = tensor.rows.div_ceil(threads(tensor.bytes.len()));
    let of = |bytes: &[u8]| -> f32 {
        match tensor.format {
            Format::Q8_0 => most(block::blocks::<block::Q8_0>(bytes), |b| [f16(b.d), 0.0]),
            Format::Q4_0 => most(block::blocks::<block::Q4_0>(bytes), |b| [f16(b.d), 0.0]),
            // B = m 2^(P - 24), of which half is left for what is added to it.
            Format::Q4_1 => most(block::blocks::<block::Q4_1>(bytes), |b| [f16(b.d), f16(b.m) * power_of_two(-23)]),
            // A scale of 0 must not meet an infinite super, so it counts as 1.
            Format::Q4K => most(block::blocks::<block::Q4K>(bytes), |b| {
                let scale = block::scales_minima(&b.scales).0.into_iter().fold(1, u8::max);
                [f16(b.d) * f32::from(scale), f16(b.dmin) * power_of_two(-16)]
            }),
            // A = d 2^(P - 24), and what it is multiplied by is at most so large.
            Format::Int4(_) | Format::Int8(_) => {
                let factor = power_of_two(if let Format::Int4(_) = tensor.format { 4 - 24 } else { 8 - 24 });
                let blocks: Vec<_> = bytes.chunks_exact(tensor.format.block_bytes()).collect();
                most(&blocks, |b| [f16([b[0], b[1]]) * factor, 0.0])
            }
            Format::Mxfp4 => most(block::blocks::<block::Mxfp4>(bytes), |b| match b.e {
                [strip::NO_NUMBER] => [0.0; 2],
                [e] => [f32::from(e), 0.0],
            }),
            _ => most(block::blocks::<block::Q6K>(bytes), |b| {
                let scale = b.scales.into_iter().fold(1, |most, s| (s as i8).unsigned_abs().max(most));
                [f16(b.d) * f32::from(scale), 0.0]
            }),
        }
    };
    thread::scope(|scope| {
        let mut shares = tensor.bytes.chunks((rows * tensor.row_bytes()).max(1));
        let own = shares.next();
        let others: Vec<_> = shares.map(|share| scope.spawn(move || of(share))).collect();
        let own = own.map_or(0.0, of);
        // A thread that panicked has said so; what it would have found is then of no use to anyone.
        others.into_iter().map(|other| other.join().unwrap_or(0.0)).fold(own, f32::max)
    })
}

fn most<B>(blocks: &[B], values: impl Fn(&B) -> [f32; 2]) -> f32 {
    let finite = |v: f32| if v.is_finite() { v.abs() } else { 0.0 };
    blocks.iter().flat_map(values).fold(0.0, |most, value| finite(value).max(most))
}

/// The greatest power of two by which `greatest` stays within f16.
fn power(kind: Kind, greatest: f32) -> i32 {
    if kind == Kind::Mx4 {
        // What takes it out again is a normal float32, also where all exponents are the least.
        return strip::GREATEST_EXPONENT - greatest.max(2.0) as i32;
    }
    if greatest == 0.0 {
        return POWERS.1;
    }
    let mut power = ((F16_MAX / greatest).log2().ceil() as i32).clamp(POWERS.0, POWERS.1);
    while power > POWERS.0 && greatest * power_of_two(power) > F16_MAX {
        power -= 1;
    }
    power
}

/// The least and the most that P can be, but for Mx4. A scale in f16 is at least 2^-24 and, with its factor, below 2^23.
const POWERS: (i32, i32) = (-8, 40);
