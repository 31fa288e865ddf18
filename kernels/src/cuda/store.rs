//! Packed weights as bytes, for files that spare the next start the packing: what a weight's parts are, then their planes as
//! they lie in device memory (`cuda/weights.cuh`).

use super::driver::Driver;
use super::pack::Plane;
use super::weight::{Kind, Part, TILE_ROWS, Weight};
use super::{Cuda, SLAB_BYTES, Wants};
use crate::{Group, Result};
use std::io::{self, Write};

/// The layout's name, with a number that changes when the bytes of any kind do.
pub const LAYOUT: &str = "cuda-2";

/// Kinds by their numbers in a file.
const KINDS: [Kind; 13] = [
    Kind::F16,
    Kind::Q8,
    Kind::Q4,
    Kind::Q4M,
    Kind::Q4K,
    Kind::Q6K,
    Kind::Z4(Group::G32),
    Kind::Z4(Group::G64),
    Kind::Z4(Group::G128),
    Kind::Z8(Group::G32),
    Kind::Z8(Group::G64),
    Kind::Z8(Group::G128),
    Kind::Mx4,
];
const PLANES: [Plane; 3] = [Plane::Quants, Plane::Scales, Plane::Supers];

/// Bytes of a part's plane.
fn plane_bytes(kind: Kind, rows: usize, cols: usize, plane: Plane) -> Option<usize> {
    rows.div_ceil(TILE_ROWS).checked_mul(plane.strip_bytes(kind, cols)).filter(|bytes| *bytes <= SLAB_BYTES)
}

impl<D: Driver> Cuda<D> {
    /// Writes a weight.
    pub(super) fn store(&self, weight: &Weight, out: &mut dyn Write) -> io::Result<()> {
        let flags = [weight.parts.len(), weight.cols, weight.outputs, usize::from(weight.order != 0)];
        flags.into_iter().try_for_each(|number| out.write_all(&(number as u64).to_le_bytes()))?;
        for part in &weight.parts {
            let kind = KINDS.iter().position(|kind| *kind == part.kind).unwrap_or(KINDS.len());
            for number in [kind as u64, part.rows as u64, u64::from(part.unscale.to_bits())] {
                out.write_all(&number.to_le_bytes())?;
            }
        }
        if weight.order != 0 {
            self.copy_out(weight.order, 4 * weight.cols, out)?;
        }
        for part in &weight.parts {
            for (plane, at) in PLANES.into_iter().zip([part.quants, part.scales, part.supers]) {
                self.copy_out(at, plane_bytes(part.kind, part.rows, part.cols, plane).unwrap_or(0), out)?;
            }
        }
        Ok(())
    }

    fn copy_out(&self, from: u64, bytes: usize, out: &mut dyn Write) -> io::Result<()> {
        let mut written = Ok(());
        let fetched = self.fetch(from, bytes, 1, &mut |piece| {
            if written.is_ok() {
                written = out.write_all(piece);
            }
        });
        fetched.map_err(io::Error::other).and(written)
    }

    /// The weight that [`store`](Cuda::store) wrote. `None` if these are not its bytes.
    pub(super) fn load(&self, bytes: &[u8]) -> Option<Result<Weight>> {
        let mut at = 0_usize;
        let mut take = |len: usize| {
            let part = bytes.get(at..at.checked_add(len)?)?;
            at += len;
            Some(part)
        };
        let mut number = || usize::try_from(u64::from_le_bytes(take(8)?.try_into().ok()?)).ok();
        let (count, cols, outputs, ordered) = (number()?, number()?, number()?, number()?);
        if [count, cols, outputs].iter().any(|number| *number > bytes.len()) {
            return None;
        }
        let mut shapes = Vec::new();
        for _ in 0..count {
            let (kind, rows, unscale) = (*KINDS.get(number()?)?, number()?, number()?);
            shapes.push((kind, rows, f32::from_bits(u32::try_from(unscale).ok()?)));
        }
        let order = if ordered == 0 { &[][..] } else { take(4 * cols)? };
        if order.as_chunks().0.iter().any(|input| u32::from_le_bytes(*input) as usize >= cols) {
            return None;
        }
        let mut parts = Vec::new();
        for (kind, rows, unscale) in shapes {
            let mut planes = [&[][..]; 3];
            for (plane, bytes) in PLANES.into_iter().zip(&mut planes) {
                *bytes = take(plane_bytes(kind, rows, cols, plane)?)?;
            }
            parts.push((kind, rows, unscale, planes));
        }
        (at == bytes.len()).then(|| self.copy_in(cols, outputs, order, &parts))
    }

    fn copy_in(
        &self,
        cols: usize,
        outputs: usize,
        order: &[u8],
        parts: &[(Kind, usize, f32, [&[u8]; 3])],
    ) -> Result<Weight> {
        let upload = |bytes: &[u8]| -> Result<u64> {
            if bytes.is_empty() {
                return Ok(0);
            }
            let to = self.take(bytes.len(), "packed weights")?;
            self.stream(to, bytes.len(), 1, &mut |start, out| out.copy_from_slice(&bytes[start..start + out.len()]))?;
            Ok(to)
        };
        let mut weight = Weight { parts: Vec::new(), rows: 0, cols, outputs, order: upload(order)?, glued: false };
        for (kind, rows, unscale, planes) in parts {
            let [quants, scales, supers] = [upload(planes[0])?, upload(planes[1])?, upload(planes[2])?];
            let (kind, rows, unscale) = (*kind, *rows, *unscale);
            weight.parts.push(Part { kind, first: weight.rows, rows, cols, quants, scales, supers, unscale });
            weight.rows += rows;
        }
        self.settle(&mut weight);
        Ok(weight)
    }

    /// What follows from a weight's parts, and what operations on it will need.
    pub(super) fn settle(&self, weight: &mut Weight) {
        weight.glued = weight.parts.len() == 1 && weight.rows.is_multiple_of(2 * TILE_ROWS);
        let outputs = if weight.glued { 0 } else { weight.outputs };
        self.want(Wants { cols: weight.cols, outputs, ..self.prefill_wants() });
        weight.parts.iter().for_each(|part| self.want(self.decode_wants(part)));
    }
}
