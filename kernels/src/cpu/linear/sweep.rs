//! The arithmetic of products: one row against the records of a block as stored, or a tile of rows against a block that was
//! spread over a scratch. Both follow the definition at the head of `linear`, so they agree bit for bit.

use super::super::lanes::{E2M1_MIDDLE, GROUP, LANES, LINE, Lanes};
use super::super::pack::{Kind, Packed};
use super::panel::View;

/// A block in scratch: 8 lines a group, and 16 scales with 16 minima (Q6K: scales of both halves; Int4, Int8: zero points,
/// negated) as f32.
#[derive(Clone, Copy)]
pub struct Spread {
    pub lines: *mut u8,
    pub scales: *mut f32,
}

/// The scales of a record as f32: (of the products, of the offsets or of the second half, or zero points).
#[inline(always)]
unsafe fn scales<L: Lanes>(kind: Kind, head: *const u8, record: *const u8) -> (L::F, L::F) {
    // SAFETY: the record and its head are whole.
    unsafe {
        let none = L::splat(0.0);
        match kind {
            Kind::Q4Min => (L::load_f16(record.cast()), L::load_f16(record.add(32).cast())),
            Kind::Q4K => {
                let d = L::mul(L::load_f16(head.cast()), L::load_u8(record));
                let m = L::mul(L::load_f16(head.add(32).cast()), L::load_u8(record.add(LANES)));
                (d, L::sub(none, m))
            }
            Kind::Q6K => {
                let d = L::load_f16(head.cast());
                (L::mul(d, L::load_i8(record.cast())), L::mul(d, L::load_i8(record.add(LANES).cast())))
            }
            Kind::Int4(_) | Kind::Int8(_) => (L::load_f16(head.cast()), L::load_f16(head.add(32).cast())),
            Kind::Mxfp4 => (L::load_e8m0(record), none),
            _ => (L::load_f16(record.cast()), none),
        }
    }
}

/// Bytes of scales at the front of a record.
#[inline(always)]
fn front(kind: Kind) -> usize {
    match kind {
        Kind::Q4Min => 64,
        Kind::Mxfp4 => 16,
        Kind::Int4(_) | Kind::Int8(_) => 0,
        _ => 32,
    }
}

#[inline(always)]
pub unsafe fn spread<L: Lanes>(part: &Packed, block: usize, into: Spread) {
    let kind = part.kind;
    if !kind.quantized() {
        return;
    }
    let bytes = part.block(block).as_ptr();
    // SAFETY: the scratch has room for every group.
    unsafe {
        for group in 0..part.groups() {
            let (head, record) = kind.place(group);
            let (first, second) = scales::<L>(kind, bytes.add(head), bytes.add(record));
            let to = into.scales.add(group * 2 * LANES);
            L::store(to, first);
            L::store(to.add(LANES), second);
            let (q, lines) = (bytes.add(record + front(kind)), into.lines.add(group * 8 * LINE));
            match kind {
                Kind::Q8 | Kind::Int8(_) => L::spread8(q, lines),
                Kind::Q6K => L::spread6(q, lines),
                Kind::Mxfp4 => L::spread_e2m1(q, lines),
                _ => L::spread4(q, lines),
            }
        }
    }
}

/// `R` rows times a block.
#[inline(always)]
pub unsafe fn sweep<L: Lanes, const R: usize>(
    part: &Packed,
    block: usize,
    spread: Spread,
    view: &View,
    row: usize,
    rows: usize,
) -> [L::F; R] {
    // SAFETY: the panel's last tile is whole; float rows past the end are read from the last one.
    unsafe {
        match part.kind {
            Kind::Q8 => sweep_int::<L, 8, R>(part, spread, view, row, false, 0),
            Kind::Q4 => sweep_int::<L, 4, R>(part, spread, view, row, false, 8),
            Kind::Mxfp4 => sweep_int::<L, 5, R>(part, spread, view, row, false, E2M1_MIDDLE),
            Kind::Q4Min | Kind::Q4K => sweep_int::<L, 4, R>(part, spread, view, row, true, 0),
            Kind::Q6K => sweep_halves::<L, R>(part, spread, view, row),
            Kind::Int4(_) => sweep_zeros::<L, 4, R>(part, spread, view, row),
            Kind::Int8(_) => sweep_zeros::<L, 8, R>(part, spread, view, row),
            Kind::F32 => sweep_float::<L, R>(part, block, view, row, rows, |p| L::load(p.cast()), 64),
            Kind::F16 => sweep_float::<L, R>(part, block, view, row, rows, |p| L::load_f16(p.cast()), 32),
            Kind::Bf16 => sweep_float::<L, R>(part, block, view, row, rows, |p| L::load_bf16(p.cast()), 32),
        }
    }
}

#[inline(always)]
unsafe fn sweep_int<L: Lanes, const BITS: u32, const R: usize>(
    part: &Packed,
    spread: Spread,
    view: &View,
    row: usize,
    minimum: bool,
    middle: i32,
) -> [L::F; R] {
    // SAFETY: as sweep.
    unsafe {
        let mut acc = [L::splat(0.0); R];
        for group in 0..part.groups() {
            let at = view.at(row, group);
            let lines = spread.lines.add(group * 8 * LINE);
            let sums = view.sums.add(at);
            let isum = L::tile::<BITS, 8, R>(lines, view.values.add(at * GROUP), sums);
            let scale = L::load(spread.scales.add(group * 2 * LANES));
            for r in 0..R {
                let isum = if middle == 0 { isum[r] } else { L::sub_int(isum[r], L::int(middle * *sums.add(r))) };
                let scale = L::mul(scale, L::splat(*view.scales.add(at + r)));
                acc[r] = L::fma(L::float(isum), scale, acc[r]);
            }
            if minimum {
                let m = L::load(spread.scales.add(group * 2 * LANES + LANES));
                for (r, acc) in acc.iter_mut().enumerate() {
                    *acc = L::fma(m, L::splat(*view.offsets.add(at + r)), *acc);
                }
            }
        }
        acc
    }
}

#[inline(always)]
unsafe fn sweep_zeros<L: Lanes, const BITS: u32, const R: usize>(
    part: &Packed,
    spread: Spread,
    view: &View,
    row: usize,
) -> [L::F; R] {
    // SAFETY: as sweep.
    unsafe {
        let mut acc = [L::splat(0.0); R];
        for group in 0..part.groups() {
            let at = view.at(row, group);
            let lines = spread.lines.add(group * 8 * LINE);
            let sums = view.sums.add(at);
            let isum = L::tile::<BITS, 8, R>(lines, view.values.add(at * GROUP), sums);
            let scales = spread.scales.add(group * 2 * LANES);
            let (scale, zero) = (L::load(scales), L::load(scales.add(LANES)));
            for r in 0..R {
                let isum = less::<L>(isum[r], zero, *sums.add(r));
                acc[r] = L::fma(isum, L::mul(scale, L::splat(*view.scales.add(at + r))), acc[r]);
            }
        }
        acc
    }
}

/// Σ q·a less the zero points times Σa; `zero` is negated. All are integers below 2²⁴, so float32 has them exactly.
#[inline(always)]
unsafe fn less<L: Lanes>(isum: L::I, zero: L::F, sum: i32) -> L::F {
    // SAFETY: the caller vouches for the set.
    unsafe { L::fma(zero, L::splat(sum as f32), L::float(isum)) }
}

#[inline(always)]
unsafe fn sweep_halves<L: Lanes, const R: usize>(part: &Packed, spread: Spread, view: &View, row: usize) -> [L::F; R] {
    // SAFETY: as sweep.
    unsafe {
        let mut acc = [L::splat(0.0); R];
        for group in 0..part.groups() {
            let at = view.at(row, group);
            for half in 0..2 {
                let lines = spread.lines.add((group * 8 + 4 * half) * LINE);
                let values = view.values.add(at * GROUP + LANES * half);
                let isum = L::tile::<6, 4, R>(lines, values, view.sums.add(at));
                let scale = L::load(spread.scales.add((group * 2 + half) * LANES));
                for r in 0..R {
                    let isum = L::sub_int(isum[r], L::int(32 * half_sum(view, at + r, half)));
                    let scale = L::mul(scale, L::splat(*view.scales.add(at + r)));
                    acc[r] = L::fma(L::float(isum), scale, acc[r]);
                }
            }
        }
        acc
    }
}

#[inline(always)]
unsafe fn half_sum(view: &View, at: usize, half: usize) -> i32 {
    // SAFETY: `at` lies in the panel.
    unsafe {
        let first = *view.firsts.add(at);
        if half == 0 { first } else { *view.sums.add(at) - first }
    }
}

#[inline(always)]
unsafe fn sweep_float<L: Lanes, const R: usize>(
    part: &Packed,
    block: usize,
    view: &View,
    row: usize,
    rows: usize,
    load: impl Fn(*const u8) -> L::F,
    record: usize,
) -> [L::F; R] {
    // SAFETY: rows past the end read the last row's values.
    unsafe {
        let w = part.block(block).as_ptr();
        let x: [*const f32; R] =
            std::array::from_fn(|r| view.floats.add((row + r).min(rows - 1) * view.cols).cast_const());
        let mut acc = [L::splat(0.0); R];
        for k in 0..part.cols {
            let w = load(w.add(k * record));
            for r in 0..R {
                acc[r] = L::fma(w, L::splat(*x[r].add(k)), acc[r]);
            }
        }
        acc
    }
}

/// One row times a block, from the records as stored.
#[inline(always)]
pub unsafe fn dot<L: Lanes>(part: &Packed, block: usize, view: &View) -> L::F {
    // SAFETY: as sweep, for row 0.
    unsafe {
        match part.kind {
            Kind::F32 => sweep_float::<L, 1>(part, block, view, 0, 1, |p| L::load(p.cast()), 64)[0],
            Kind::F16 => sweep_float::<L, 1>(part, block, view, 0, 1, |p| L::load_f16(p.cast()), 32)[0],
            Kind::Bf16 => sweep_float::<L, 1>(part, block, view, 0, 1, |p| L::load_bf16(p.cast()), 32)[0],
            Kind::Q8 => dot_int::<L>(Kind::Q8, part, block, view),
            Kind::Q4 => dot_int::<L>(Kind::Q4, part, block, view),
            Kind::Mxfp4 => dot_int::<L>(Kind::Mxfp4, part, block, view),
            Kind::Q4Min => dot_int::<L>(Kind::Q4Min, part, block, view),
            Kind::Q4K => dot_int::<L>(Kind::Q4K, part, block, view),
            Kind::Q6K => dot_int::<L>(Kind::Q6K, part, block, view),
            Kind::Int4(group) => dot_int::<L>(Kind::Int4(group), part, block, view),
            Kind::Int8(group) => dot_int::<L>(Kind::Int8(group), part, block, view),
        }
    }
}

/// Bytes ahead of their use at which records are asked for: a few hundred nanoseconds of streaming.
const AHEAD: usize = 4096;

#[inline(always)]
unsafe fn dot_int<L: Lanes>(kind: Kind, part: &Packed, block: usize, view: &View) -> L::F {
    // SAFETY: as sweep, for row 0; prefetches never fault.
    unsafe {
        let bytes = part.block(block).as_ptr();
        let (record_bytes, _) = kind.record();
        let mut acc = L::splat(0.0);
        for group in 0..part.groups() {
            let (head, record) = kind.place(group);
            let (head, record) = (bytes.add(head), bytes.add(record));
            for line in 0..record_bytes.div_ceil(LINE) {
                L::prefetch(record.wrapping_add(AHEAD + line * LINE));
            }
            let at = view.at(0, group);
            let a = view.values.add(at * GROUP).cast_const();
            let (sum, da) = (*view.sums.add(at), *view.scales.add(at));
            let (first, second) = scales::<L>(kind, head, record);
            let q = record.add(front(kind));
            match kind {
                Kind::Q8 => acc = L::fma(L::float(L::dot8(q, a, sum)), L::mul(first, L::splat(da)), acc),
                Kind::Q6K => {
                    let mut lines = [0; 8 * LINE];
                    L::spread6(q, lines.as_mut_ptr());
                    for (half, scale) in [first, second].into_iter().enumerate() {
                        let lines = lines.as_ptr().add(4 * half * LINE);
                        let [isum] = L::tile::<6, 4, 1>(lines, a.add(LANES * half), std::ptr::null());
                        let isum = L::sub_int(isum, L::int(32 * half_sum(view, at, half)));
                        acc = L::fma(L::float(isum), L::mul(scale, L::splat(da)), acc);
                    }
                }
                Kind::Int4(_) | Kind::Int8(_) => {
                    let isum = if let Kind::Int4(_) = kind { L::dot4(q, a) } else { L::dot8(q, a, sum) };
                    acc = L::fma(less::<L>(isum, second, sum), L::mul(first, L::splat(da)), acc);
                }
                Kind::Mxfp4 => {
                    let isum = L::sub_int(L::dot_e2m1(q, a), L::int(E2M1_MIDDLE * sum));
                    acc = L::fma(L::float(isum), L::mul(first, L::splat(da)), acc);
                }
                _ => {
                    let mut isum = L::dot4(q, a);
                    if kind == Kind::Q4 {
                        isum = L::sub_int(isum, L::int(8 * sum));
                    }
                    acc = L::fma(L::float(isum), L::mul(first, L::splat(da)), acc);
                    if kind != Kind::Q4 {
                        acc = L::fma(second, L::splat(*view.offsets.add(at)), acc);
                    }
                }
            }
        }
        acc
    }
}
