//! Packed weights as bytes, for files that spare the next start the packing: what their parts are, then their blocks as they
//! lie in memory. Every instruction set has the same layout, so that a file serves them all.

use super::{GROUP, Kind, LANES, Packed};
use crate::Group;
use crate::cpu::Weight;
use crate::cpu::memory::Arena;
use std::io::{Result, Write};

/// The layout's name, with a number that changes when the bytes of any kind do.
pub const LAYOUT: &str = "cpu-2";

/// Kinds by their numbers in a file.
const KINDS: [Kind; 15] = [
    Kind::F32,
    Kind::F16,
    Kind::Bf16,
    Kind::Q8,
    Kind::Q4,
    Kind::Q4Min,
    Kind::Q4K,
    Kind::Q6K,
    Kind::Int4(Group::G32),
    Kind::Int4(Group::G64),
    Kind::Int4(Group::G128),
    Kind::Int8(Group::G32),
    Kind::Int8(Group::G64),
    Kind::Int8(Group::G128),
    Kind::Mxfp4,
];

/// Bytes that one thread copies are at least so many.
const SHARE: usize = 1 << 20;

/// Writes a weight.
pub fn store(weight: &Weight, out: &mut dyn Write) -> Result<()> {
    let mut put = |number: usize| out.write_all(&(number as u64).to_le_bytes());
    put(weight.parts.len())?;
    put(weight.cols)?;
    put(usize::from(weight.order.is_some()))?;
    for part in &weight.parts {
        put(KINDS.iter().position(|kind| *kind == part.kind).unwrap_or(KINDS.len()))?;
        put(part.rows)?;
    }
    for column in weight.order.iter().flat_map(|order| order.iter()) {
        out.write_all(&column.to_le_bytes())?;
    }
    weight.parts.iter().try_for_each(|part| out.write_all(part.data.bytes()))
}

/// The weight that [`store`] wrote, copied on up to `threads` threads. `None` if these are not its bytes.
pub fn load(bytes: &[u8], threads: usize, arena: &mut Arena) -> Option<crate::Result<Weight>> {
    let mut at = 0_usize;
    let mut take = |len: usize| {
        let part = bytes.get(at..at.checked_add(len)?)?;
        at += len;
        Some(part)
    };
    let mut number = || usize::try_from(u64::from_le_bytes(take(8)?.try_into().ok()?)).ok();
    let (count, cols, ordered) = (number()?, number()?, number()?);
    if count > bytes.len() || cols > bytes.len() {
        return None;
    }
    let mut shapes = Vec::new();
    for _ in 0..count {
        let (kind, rows) = (*KINDS.get(number()?)?, number()?);
        if rows > bytes.len() || (kind.quantized() && !cols.is_multiple_of(GROUP)) {
            return None;
        }
        shapes.push((kind, rows));
    }
    let order = match ordered {
        0 => None,
        _ => {
            let columns = take(4 * cols)?.as_chunks().0.iter().map(|column| u32::from_le_bytes(*column));
            Some(columns.map(|column| ((column as usize) < cols).then_some(column)).collect::<Option<_>>()?)
        }
    };
    let mut parts = Vec::new();
    for (kind, rows) in shapes {
        let block_bytes = kind.block_bytes(cols);
        let from = take(rows.div_ceil(LANES).checked_mul(block_bytes)?)?;
        let mut data = match arena.block(from.len(), "packed weights") {
            Ok(data) => data,
            Err(error) => return Some(Err(error)),
        };
        copy(data.bytes_mut(), from, threads);
        parts.push(Packed { kind, rows, cols, block_bytes, data });
    }
    let rows = parts.iter().map(|part| part.rows).sum();
    (at == bytes.len()).then_some(Ok(Weight { parts, rows, cols, order, watched: None }))
}

/// Copies on several threads: what costs time is that the memory is new.
fn copy(to: &mut [u8], from: &[u8], threads: usize) {
    let share = from.len().div_ceil(threads.max(1)).max(SHARE);
    std::thread::scope(|scope| {
        let mut shares = to.chunks_mut(share).zip(from.chunks(share));
        let own = shares.next();
        shares.for_each(|(to, from)| drop(scope.spawn(|| to.copy_from_slice(from))));
        if let Some((to, from)) = own {
            to.copy_from_slice(from);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;
    use crate::{Backend, Format, HostTensor, cpu::Cpu};
    use std::borrow::Cow;

    fn stored(cpu: &Cpu, weight: &Weight) -> Vec<u8> {
        let mut bytes = Vec::new();
        cpu.store_weight(weight, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_was_stored_is_loaded() {
        let cpu = Cpu::new(2).unwrap();
        let mut random = Random::new(3);
        let int4 = Format::Int4(Group::G64);
        for formats in
            [vec![Format::F32], vec![Format::Q4_0, Format::Q6K, Format::Mxfp4], vec![Format::F16, int4, Format::Q8_0]]
        {
            let order: Vec<u32> = (0..256).rev().collect();
            let part = |format: &Format| {
                let bytes = random.weight(*format, 19, 256);
                let tensor = HostTensor::new("t", *format, 19, 256, Cow::Owned(bytes)).unwrap();
                if formats.len() == 3 { tensor.with_order(&order).unwrap() } else { tensor }
            };
            let weight = cpu.weight(&formats.iter().map(part).collect::<Vec<_>>()).unwrap();
            let bytes = stored(&cpu, &weight);
            let again = cpu.load_weight(&bytes).unwrap();
            assert_eq!((again.rows, again.cols, &again.order), (weight.rows, weight.cols, &weight.order));
            assert!(again.parts.iter().zip(&weight.parts).all(|(a, b)| a.data.bytes() == b.data.bytes()));
            assert_eq!(stored(&cpu, &again), bytes);
        }
    }

    #[test]
    fn other_bytes_are_refused() {
        let cpu = Cpu::new(1).unwrap();
        let bytes = Random::new(5).weight(Format::Q8_0, 16, 64);
        let host = HostTensor::new("t", Format::Q8_0, 16, 64, Cow::Owned(bytes)).unwrap();
        let bytes = stored(&cpu, &cpu.weight(&[host]).unwrap());
        assert!(cpu.load_weight(&bytes).is_ok());
        for len in [0, 7, 24, 39, bytes.len() - 1] {
            assert!(cpu.load_weight(&bytes[..len]).is_err(), "{len}");
        }
        assert!(cpu.load_weight(&[&bytes[..], &[0]].concat()).is_err());
        for at in 0..40 {
            for bit in [1, 0x80] {
                let mut bytes = bytes.clone();
                bytes[at] ^= bit;
                // Whatever comes of it, nothing panics; most is refused.
                let _ = cpu.load_weight(&bytes);
            }
        }
    }
}
