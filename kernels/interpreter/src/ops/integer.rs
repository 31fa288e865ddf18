//! Arithmetic of whole numbers. It wraps; where PTX leaves a result open (division by zero), all bits are set.

use super::{Decoded, Op, typed, whole};

pub fn decode(op: &mut Op<'_, '_>) -> Decoded {
    let last = op.parts.last().copied().unwrap_or("");
    let is_whole = last.starts_with(['s', 'u', 'b']);
    if op.name == "dp4a" || op.name == "dp2a" {
        return dot(op);
    }
    if !is_whole {
        return Ok(None);
    }
    match op.name {
        "add" | "sub" | "mul" | "mul24" | "mad" | "div" | "rem" | "min" | "max" | "abs" | "neg" | "sad" => {}
        _ => return Ok(None),
    }
    let kind = op.kind()?;
    let kind = kind.as_str();
    let saturates = kind == "s32" && op.take("sat");
    match op.name {
        "add" if saturates => op.two(i32::saturating_add),
        "sub" if saturates => op.two(i32::saturating_sub),
        "add" => whole!(kind, T, op.two(T::wrapping_add)),
        "sub" => whole!(kind, T, op.two(T::wrapping_sub)),
        "mul" | "mad" => product(op, kind),
        "div" => whole!(kind, T, op.two(|a: T, b: T| if b == 0 { !0 } else { a.wrapping_div(b) })),
        "rem" => whole!(kind, T, op.two(|a: T, b: T| if b == 0 { !0 } else { a.wrapping_rem(b) })),
        "min" => whole!(kind, T, op.two(|a: T, b: T| a.min(b))),
        "max" => whole!(kind, T, op.two(|a: T, b: T| a.max(b))),
        "abs" => typed!(kind, T in ["s16" => i16, "s32" => i32, "s64" => i64], op.one(T::wrapping_abs)),
        "neg" => typed!(kind, T in ["s16" => i16, "s32" => i32, "s64" => i64], op.one(T::wrapping_neg)),
        "sad" => whole!(kind, T, op.three(|a: T, b: T, c: T| a.max(b).wrapping_sub(a.min(b)).wrapping_add(c))),
        _ => Ok(None),
    }
}

fn product(op: &mut Op<'_, '_>, kind: &str) -> Decoded {
    let adds = op.name == "mad";
    if op.take("wide") {
        macro_rules! wide {
            ($narrow:ty, $wide:ty) => {{
                let product = |a: $narrow, b: $narrow| <$wide>::from(a).wrapping_mul(<$wide>::from(b));
                if adds { op.three(move |a, b, c: $wide| product(a, b).wrapping_add(c)) } else { op.two(product) }
            }};
        }
        return match kind {
            "u16" => wide!(u16, u32),
            "s16" => wide!(i16, i32),
            "u32" => wide!(u32, u64),
            "s32" => wide!(i32, i64),
            other => Err(format!("type '{other}' is not known here")),
        };
    }
    if op.take("hi") {
        return whole!(kind, T, {
            let high = |a: T, b: T| (i128::from(a).wrapping_mul(i128::from(b)) >> T::BITS) as T;
            if adds { op.three(move |a, b, c: T| high(a, b).wrapping_add(c)) } else { op.two(high) }
        });
    }
    if !op.take("lo") {
        return Err("neither .lo, .hi nor .wide".to_owned());
    }
    if adds {
        whole!(kind, T, op.three(|a: T, b: T, c: T| a.wrapping_mul(b).wrapping_add(c)))
    } else {
        whole!(kind, T, op.two(T::wrapping_mul))
    }
}

/// dp4a and dp2a: products of parts, summed; both types say how parts are extended.
fn dot(op: &mut Op<'_, '_>) -> Decoded {
    let of = |kind: &str| match kind {
        "s32" => Ok(true),
        "u32" => Ok(false),
        other => Err(format!("type '{other}' is not known here")),
    };
    let (b_signed, a_signed) = (of(&op.kind()?)?, of(&op.kind()?)?);
    let part = |word: u32, at: u32, bits: u32, signed: bool| {
        let top = word << (32 - bits * (at + 1));
        if signed { (top as i32 >> (32 - bits)) as i64 } else { i64::from(top >> (32 - bits)) }
    };
    if op.name == "dp4a" {
        return op.three(move |a: u32, b: u32, c: u32| {
            let sum: i64 = (0..4).map(|i| part(a, i, 8, a_signed) * part(b, i, 8, b_signed)).sum();
            c.wrapping_add(sum as u32)
        });
    }
    let from = if op.take("hi") { 2 } else { 0 };
    op.take("lo");
    op.three(move |a: u32, b: u32, c: u32| {
        let sum: i64 = (0..2).map(|i| part(a, i, 16, a_signed) * part(b, from + i, 8, b_signed)).sum();
        c.wrapping_add(sum as u32)
    })
}
