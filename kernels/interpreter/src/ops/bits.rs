//! Bits: logic, shifts, permutations, counts. Logic of predicates too.

use super::{Decoded, Op, act, typed, whole};
use crate::names::Operand;

pub fn decode(op: &mut Op<'_, '_>) -> Decoded {
    let known = [
        "and", "or", "xor", "not", "cnot", "lop3", "shl", "shr", "shf", "prmt", "bfe", "bfi", "brev", "clz", "popc",
        "bfind",
    ];
    if !known.contains(&op.name) {
        return Ok(None);
    }
    if op.name == "prmt" {
        return permute(op);
    }
    let kind = op.kind()?;
    let kind = kind.as_str();
    match (op.name, kind) {
        ("and" | "or" | "xor" | "not", "pred") => predicates(op),
        ("and", _) => whole!(kind, T, op.two(|a: T, b: T| a & b)),
        ("or", _) => whole!(kind, T, op.two(|a: T, b: T| a | b)),
        ("xor", _) => whole!(kind, T, op.two(|a: T, b: T| a ^ b)),
        ("not", _) => whole!(kind, T, op.one(|a: T| !a)),
        ("cnot", _) => whole!(kind, T, op.one(|a: T| T::from(a == 0))),
        ("lop3", "b32") => lop3(op),
        // Beyond the type's width everything is shifted out; by sign where there is one.
        ("shl", _) => whole!(kind, T, op.two(|a: T, by: u32| a.checked_shl(by).unwrap_or(0))),
        ("shr", _) => whole!(
            kind,
            T,
            op.two(|a: T, by: u32| { a.checked_shr(by).unwrap_or(if a < T::default() { !0 } else { 0 }) })
        ),
        ("shf", "b32") => funnel(op),
        ("bfe", _) => extract(op, kind),
        ("bfi", _) => insert(op, kind),
        ("brev", "b32") => op.one(u32::reverse_bits),
        ("brev", "b64") => op.one(u64::reverse_bits),
        ("clz", "b32") => op.one(u32::leading_zeros),
        ("clz", "b64") => op.one(u64::leading_zeros),
        ("popc", "b32") => op.one(u32::count_ones),
        ("popc", "b64") => op.one(u64::count_ones),
        ("bfind", _) => {
            let amount = op.take("shiftamt");
            typed!(kind, T in ["u32" => u32, "s32" => i32, "u64" => u64, "s64" => i64], op.one(move |a: T| {
                let a = if a < T::default() { !a } else { a };
                let zeros = a.leading_zeros();
                match (zeros == T::BITS, amount) {
                    (true, _) => u32::MAX,
                    (false, true) => zeros,
                    (false, false) => T::BITS - 1 - zeros,
                }
            }))
        }
        _ => Err(format!("type '{kind}' is not known here")),
    }
}

fn predicates(op: &mut Op<'_, '_>) -> Decoded {
    let (d, _) = op.predicate(0)?;
    let read = |operand: &Operand| match operand {
        Operand::Predicate(p, negated) => Ok((Some((*p, *negated)), 0)),
        Operand::Number(value) => Ok((None, if *value == 0 { 0 } else { u32::MAX })),
        other => Err(format!("{other:?} where a predicate is expected")),
    };
    let a = read(op.operand(1)?)?;
    let b = if op.name == "not" { (None, u32::MAX) } else { read(op.operand(2)?)? };
    let f: fn(u32, u32) -> u32 = match op.name {
        "and" => |a, b| a & b,
        "or" => |a, b| a | b,
        _ => |a, b| a ^ b,
    };
    act(Box::new(move |w, _, mask| {
        let held = |(predicate, value): (Option<_>, u32)| predicate.map_or(value, |p| w.holds(p));
        let result = f(held(a), held(b));
        w.decide(d, mask, result);
        Ok(())
    }))
}

/// Any function of three bits: bit 4 a + 2 b + c of the table is its result.
fn lop3(op: &mut Op<'_, '_>) -> Decoded {
    let table = op.number(4)?;
    let term = move |row: u32| if table >> row & 1 == 1 { u32::MAX } else { 0 };
    let terms: [u32; 8] = std::array::from_fn(|row| term(row as u32));
    op.three(move |a: u32, b: u32, c: u32| {
        let mut result = 0;
        for row in 0..8 {
            let pick = |v: u32, bit: usize| if row & bit != 0 { v } else { !v };
            result |= pick(a, 4) & pick(b, 2) & pick(c, 1) & terms[row];
        }
        result
    })
}

fn funnel(op: &mut Op<'_, '_>) -> Decoded {
    let (left, clamps) = (op.take("l"), op.take("clamp"));
    if left == op.take("r") || clamps == op.take("wrap") {
        return Err("a direction and .clamp or .wrap are needed".to_owned());
    }
    op.three(move |low: u32, high: u32, by: u32| {
        let by = if clamps { by.min(32) } else { by & 31 };
        let both = u64::from(high) << 32 | u64::from(low);
        if left { (both << by >> 32) as u32 } else { (both >> by) as u32 }
    })
}

/// Bytes chosen from the eight of a and b, by a selector or by one of the modes.
fn permute(op: &mut Op<'_, '_>) -> Decoded {
    op.take("b32");
    let mode = op.take_one(&["f4e", "b4e", "rc8", "ecl", "ecr", "rc16"]);
    // In a mode, the byte numbers for a selector of 0, 1, 2, 3; lowest byte first.
    let table: Option<[[u32; 4]; 4]> = mode.map(|mode| match mode {
        "f4e" => [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5], [3, 4, 5, 6]],
        "b4e" => [[0, 7, 6, 5], [1, 0, 7, 6], [2, 1, 0, 7], [3, 2, 1, 0]],
        "rc8" => [[0; 4], [1; 4], [2; 4], [3; 4]],
        "ecl" => [[0, 1, 2, 3], [1, 1, 2, 3], [2, 2, 2, 3], [3, 3, 3, 3]],
        "ecr" => [[0, 0, 0, 0], [0, 1, 1, 1], [0, 1, 2, 2], [0, 1, 2, 3]],
        _ => [[0, 1, 0, 1], [2, 3, 2, 3], [0, 1, 0, 1], [2, 3, 2, 3]],
    });
    op.three(move |a: u32, b: u32, c: u32| {
        let both = u64::from(b) << 32 | u64::from(a);
        let mut result = 0;
        for at in 0..4 {
            let choice = table.map_or(c >> (4 * at) & 15, |t| t[(c & 3) as usize][at as usize]);
            let byte = (both >> (8 * (choice & 7))) as u8;
            // With the fourth bit set, the byte's sign all over.
            let byte = if choice & 8 == 0 { byte } else { (byte as i8 >> 7) as u8 };
            result |= u32::from(byte) << (8 * at);
        }
        result
    })
}

fn extract(op: &mut Op<'_, '_>, kind: &str) -> Decoded {
    typed!(kind, T in ["u32" => u32, "s32" => i32, "u64" => u64, "s64" => i64], op.three(|a: T, at: u32, count: u32| {
        let (at, count) = (at & 255, count & 255);
        let sign = T::MIN != 0 && count > 0 && a >> (at + count - 1).min(T::BITS - 1) & 1 == 1;
        let bits = a.checked_shr(at).unwrap_or(if a < T::default() { !0 } else { 0 });
        let low = (1 as T).checked_shl(count).map_or(!0, |v| v.wrapping_sub(1));
        if sign { bits & low | !low } else { bits & low }
    }))
}

fn insert(op: &mut Op<'_, '_>, kind: &str) -> Decoded {
    let (at, count) = (op.source(3)?, op.source(4)?);
    macro_rules! insert {
        ($t:ty) => {{
            let (d, a, b) = (op.target(0)?, op.source(1)?, op.source(2)?);
            act(Box::new(move |w, _, mask| {
                let read = |register: u32, lane: usize| w.registers[register as usize][lane];
                let result = std::array::from_fn(|lane| {
                    let (at, count) = (read(at, lane) as u32 & 255, read(count, lane) as u32 & 255);
                    let low = (1 as $t).checked_shl(count).map_or(!0, |v| v.wrapping_sub(1));
                    let place = low.checked_shl(at).unwrap_or(0);
                    let moved = (read(a, lane) as $t).checked_shl(at).unwrap_or(0);
                    u64::from(moved & place | read(b, lane) as $t & !place)
                });
                w.put(d, mask, &result);
                Ok(())
            }))
        }};
    }
    match kind {
        "b32" => insert!(u32),
        "b64" => insert!(u64),
        other => Err(format!("type '{other}' is not known here")),
    }
}
