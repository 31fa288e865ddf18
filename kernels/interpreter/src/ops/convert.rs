//! Moves, conversions between types, and between address spaces.

use super::{Decoded, Op, act, typed};
use crate::float::flush;
use crate::kernel::Step;
use crate::lane::{Half, Lane, Pair};
use crate::module::{Place, width};
use crate::names::{Fill, Operand, generic};

pub fn decode(op: &mut Op<'_, '_>) -> Decoded {
    match op.name {
        "mov" => mov(op),
        "cvta" => cvta(op),
        "cvt" => cvt(op),
        "isspacep" => isspacep(op),
        _ => Ok(None),
    }
}

fn mov(op: &mut Op<'_, '_>) -> Decoded {
    let kind = op.kind()?;
    if kind == "pred" {
        let (d, _) = op.predicate(0)?;
        return match op.operand(1)?.clone() {
            Operand::Predicate(p, negated) => act(Box::new(move |w, _, mask| {
                let held = w.holds((p, negated));
                w.decide(d, mask, held);
                Ok(())
            })),
            Operand::Number(value) => act(Box::new(move |w, _, mask| {
                w.decide(d, mask, if value == 0 { 0 } else { u32::MAX });
                Ok(())
            })),
            other => Err(format!("{other:?} where a predicate is expected")),
        };
    }
    let bits = 8 * width(&kind).ok_or_else(|| format!("type '{kind}' is not known here"))?;
    if matches!(op.operand(1)?, Operand::List(_)) {
        let (d, parts) = (op.target(0)?, op.sources(1)?);
        let each = bits / parts.len().max(1);
        let low = if each >= 64 { u64::MAX } else { (1 << each) - 1 };
        return act(Box::new(move |w, _, mask| {
            let part = |at: usize, lane: usize| (w.registers[parts[at] as usize][lane] & low) << (at * each);
            let result = std::array::from_fn(|lane| (0..parts.len()).map(|at| part(at, lane)).sum());
            w.put(d, mask, &result);
            Ok(())
        }));
    }
    if matches!(op.operand(0)?, Operand::List(_)) {
        let (parts, a) = (op.targets(0)?, op.source(1)?);
        let each = bits / parts.len().max(1);
        let low = if each >= 64 { u64::MAX } else { (1 << each) - 1 };
        return act(Box::new(move |w, _, mask| {
            let from = w.registers[a as usize];
            for (at, &part) in parts.iter().enumerate() {
                w.put(part, mask, &from.map(|v| v >> (at * each) & low));
            }
            Ok(())
        }));
    }
    match bits {
        16 => op.one(|a: u16| a),
        32 => op.one(|a: u32| a),
        _ => op.one(|a: u64| a),
    }
}

fn place(op: &mut Op<'_, '_>) -> Result<Place, String> {
    match op.take_one(&["global", "const", "shared", "local"]) {
        Some("shared") => Ok(Place::Shared),
        Some("local") => Ok(Place::Local),
        Some(_) => Ok(Place::Global),
        None => Err("an address space is missing".to_owned()),
    }
}

fn cvta(op: &mut Op<'_, '_>) -> Decoded {
    let kind = op.kind()?;
    if kind != "u64" {
        return Err(format!("type '{kind}' is not known here"));
    }
    let to = op.take("to");
    let window = generic(place(op)?, 0);
    if to { op.one(move |a: u64| a.wrapping_sub(window)) } else { op.one(move |a: u64| a.wrapping_add(window)) }
}

fn isspacep(op: &mut Op<'_, '_>) -> Decoded {
    let window = generic(place(op)?, 0) >> 56;
    let ((p, _), a) = (op.predicate(0)?, op.source(1)?);
    act(Box::new(move |w, _, mask| {
        let a = &w.registers[a as usize];
        let is = |at: u64| if window == 0 { at >> 56 < 0xf0 } else { at >> 56 == window };
        let result = (0..32).map(|lane| u32::from(is(a[lane])) << lane).sum();
        w.decide(p, mask, result);
        Ok(())
    }))
}

/// How a float becomes a whole number.
fn rounding(op: &mut Op<'_, '_>) -> Option<fn(f64) -> f64> {
    Some(match op.take_one(&["rni", "rzi", "rmi", "rpi"])? {
        "rni" => f64::round_ties_even,
        "rzi" => f64::trunc,
        "rmi" => f64::floor,
        _ => f64::ceil,
    })
}

fn cvt(op: &mut Op<'_, '_>) -> Decoded {
    let from = op.kind()?;
    let to = op.kind()?;
    let (from, to) = (from.as_str(), to.as_str());
    let (whole_from, whole_to) = (!from.starts_with('f'), !to.starts_with('f'));
    let (clamps, rounds) = (op.take("sat"), rounding(op));
    if to == "f16x2" && from == "f32" && op.take("rn") {
        let relu = op.take("relu");
        let keep = move |v: f32| if relu { v.max(0.0) } else { v };
        // The first source becomes the high half.
        return op.two(move |high: f32, low: f32| Pair(Half(keep(low)), Half(keep(high))));
    }
    match (whole_from, whole_to) {
        (true, true) => between_whole(op, to, from, clamps),
        (true, false) => {
            op.take("rn");
            from_whole(op, to, from, clamps)
        }
        (false, true) => {
            let round = rounds.ok_or_else(|| "a rounding to whole numbers is needed".to_owned())?;
            let flushes = op.take("ftz");
            let value = float_reader(from)?;
            typed!(to, T in [
                "u8" => u8, "s8" => i8, "u16" => u16, "s16" => i16, "u32" => u32, "s32" => i32, "u64" => u64, "s64" => i64,
            ], op.one(move |a: u64| {
                let a = value(a);
                let a = if flushes { f64::from(flush(a as f32)) } else { a };
                // Beyond the type's range: its end. NaN: 0.
                round(a) as T
            }))
        }
        (false, false) => between_floats(op, to, from, clamps, rounds),
    }
}

/// Reads a float's value, exactly.
fn float_reader(from: &str) -> Result<fn(u64) -> f64, String> {
    match from {
        "f16" => Ok(|a| f64::from(Half::of(a).0)),
        "f32" => Ok(|a| f64::from(f32::of(a))),
        "f64" => Ok(f64::of),
        other => Err(format!("type '{other}' is not known here")),
    }
}

fn between_whole(op: &mut Op<'_, '_>, to: &str, from: &str, clamps: bool) -> Decoded {
    macro_rules! pairs {
        ($f:ty) => {
            typed!(to, T in [
                "u8" | "b8" => u8, "s8" => i8, "u16" | "b16" => u16, "s16" => i16, "u32" | "b32" => u32, "s32" => i32,
                "u64" | "b64" => u64, "s64" => i64,
            ], if clamps {
                op.one(|a: $f| i128::from(a).clamp(T::MIN.into(), T::MAX.into()) as T)
            } else {
                op.one(|a: $f| a as T)
            })
        };
    }
    match from {
        "u8" | "b8" => pairs!(u8),
        "s8" => pairs!(i8),
        "u16" | "b16" => pairs!(u16),
        "s16" => pairs!(i16),
        "u32" | "b32" => pairs!(u32),
        "s32" => pairs!(i32),
        "u64" | "b64" => pairs!(u64),
        "s64" => pairs!(i64),
        other => Err(format!("type '{other}' is not known here")),
    }
}

fn from_whole(op: &mut Op<'_, '_>, to: &str, from: &str, clamps: bool) -> Decoded {
    if clamps {
        return Err("'.sat' is not known here".to_owned());
    }
    typed!(from, T in [
        "u8" => u8, "s8" => i8, "u16" => u16, "s16" => i16, "u32" => u32, "s32" => i32, "u64" => u64, "s64" => i64,
    ], match to {
        "f32" => op.one(|a: T| a as f32),
        "f64" => op.one(|a: T| a as f64),
        // What float32 does not hold exactly is infinite.
        "f16" => op.one(|a: T| Half(a as f32)),
        other => Err(format!("type '{other}' is not known here")),
    })
}

fn between_floats(op: &mut Op<'_, '_>, to: &str, from: &str, clamps: bool, rounds: Option<fn(f64) -> f64>) -> Decoded {
    op.take("rn");
    let flushes = op.take("ftz");
    if rounds.is_none() && !clamps && !flushes {
        match (to, from) {
            ("f32", "f16") => return op.one(|a: Half| a.0),
            ("f16", "f32") => return op.one(|a: f32| Half(a)),
            ("f64", "f32") => return op.one(|a: f32| f64::from(a)),
            ("f32", "f64") => return op.one(|a: f64| a as f32),
            ("f16", "f16") => return op.one(|a: u16| a),
            ("f32", "f32") => return op.one(|a: u32| a),
            ("f64", "f64") => return op.one(|a: u64| a),
            _ => {}
        }
    }
    if to == "f16" && from == "f64" {
        return Err("float64 to float16 is not known".to_owned());
    }
    let value = float_reader(from)?;
    let change = move |a: u64| {
        let a = value(a);
        let a = if flushes { f64::from(flush(a as f32)) } else { a };
        let a = rounds.map_or(a, |round| round(a));
        match (clamps, a > 0.0) {
            (false, _) => a,
            (true, true) => a.min(1.0),
            // NaN and -0 as well.
            (true, false) => 0.0,
        }
    };
    match to {
        "f16" => op.one(move |a: u64| Half(change(a) as f32)),
        "f32" => op.one(move |a: u64| if flushes { flush(change(a) as f32) } else { change(a) as f32 }),
        "f64" => op.one(change),
        other => Err(format!("type '{other}' is not known here")),
    }
}

/// `ld.param`: a parameter's bytes, which are there from the start.
pub fn load_param(op: &mut Op<'_, '_>, bytes: usize, signed: bool) -> Decoded {
    let to = op.targets(0)?;
    let &Operand::Param(at) = op.operand(1)? else {
        return Err("the address of a parameter is not its name".to_owned());
    };
    let from: Vec<u32> = (0..to.len()).map(|i| op.names.filled(Fill::Param(at + i * bytes, bytes))).collect();
    let shift = 64 - 8 * bytes as u32;
    Ok(Some(Step::Do(Box::new(move |w, _, mask| {
        for (&to, &from) in to.iter().zip(&from) {
            let extend = |v: u64| if signed { ((v << shift) as i64 >> shift) as u64 } else { v };
            let values = w.registers[from as usize].map(extend);
            w.put(to, mask, &values);
        }
        Ok(())
    }))))
}
