//! Comparisons into predicates, and choices by them.

use super::{Decoded, Op, act, typed};
use crate::float::flush;
use crate::kernel::Act;
use crate::lane::{Half, Lane, Pair};
use crate::machine::Warp;
use crate::names::Operand;
use std::cmp::Ordering::{self, Equal, Greater, Less};

pub fn decode(op: &mut Op<'_, '_>) -> Decoded {
    match op.name {
        "setp" => setp(op),
        "set" => set(op),
        "selp" => {
            let kind = op.kind()?;
            if !matches!(kind.get(1..), Some("16" | "32" | "64")) {
                return Err(format!("type '{kind}' is not known here"));
            }
            let (d, a, b, p) = (op.target(0)?, op.source(1)?, op.source(2)?, op.predicate(3)?);
            act(Box::new(move |w, _, mask| {
                let held = w.holds(p);
                let (a, b) = (&w.registers[a as usize], &w.registers[b as usize]);
                let result = std::array::from_fn(|lane| if held >> lane & 1 == 1 { a[lane] } else { b[lane] });
                w.put(d, mask, &result);
                Ok(())
            }))
        }
        "slct" => {
            let by = op.kind()?;
            op.kind()?;
            op.take("ftz");
            match by.as_str() {
                "s32" => op.three(|a: u64, b: u64, c: i32| if c >= 0 { a } else { b }),
                "f32" => op.three(|a: u64, b: u64, c: f32| if c >= 0.0 { a } else { b }),
                other => Err(format!("type '{other}' is not known here")),
            }
        }
        "testp" => testp(op),
        _ => Ok(None),
    }
}

/// Whether a comparison holds for an order; `None` is unordered.
type Holds = fn(Option<Ordering>) -> bool;

/// By name; what the unordered and the unsigned variants are called too.
fn holds(name: &str) -> Option<Holds> {
    Some(match name {
        "eq" => |o| o == Some(Equal),
        "ne" => |o| matches!(o, Some(Less | Greater)),
        "lt" | "lo" => |o| o == Some(Less),
        "le" | "ls" => |o| matches!(o, Some(Less | Equal)),
        "gt" | "hi" => |o| o == Some(Greater),
        "ge" | "hs" => |o| matches!(o, Some(Greater | Equal)),
        "equ" => |o| matches!(o, None | Some(Equal)),
        "neu" => |o| o != Some(Equal),
        "ltu" => |o| matches!(o, None | Some(Less)),
        "leu" => |o| o != Some(Greater),
        "gtu" => |o| matches!(o, None | Some(Greater)),
        "geu" => |o| o != Some(Less),
        "num" => |o| o.is_some(),
        "nan" => |o| o.is_none(),
        _ => return None,
    })
}

/// Lanes where two registers compare so.
type Compared = Box<dyn Fn(&Warp) -> u32 + Send + Sync>;

fn compared<T: Lane + PartialOrd>(a: u32, b: u32, holds: Holds) -> Compared {
    Box::new(move |w| {
        let (a, b) = (&w.registers[a as usize], &w.registers[b as usize]);
        let one = |lane: usize| u32::from(holds(T::of(a[lane]).partial_cmp(&T::of(b[lane])))) << lane;
        (0..32).map(one).sum()
    })
}

fn comparison(op: &mut Op<'_, '_>, kind: &str) -> Result<(Compared, Option<Combined>), String> {
    if op.parts.is_empty() {
        return Err("a comparison is missing".to_owned());
    }
    let name = op.parts.remove(0);
    let holds = holds(name).ok_or_else(|| format!("comparison '.{name}' is not known"))?;
    let (a, b) = (op.source(1)?, op.source(2)?);
    let combined = match op.take_one(&["and", "or", "xor"]) {
        Some(how) => Some((how_to_combine(how), op.predicate(3)?)),
        None => None,
    };
    if op.take("ftz") && kind == "f32" {
        let flushed = move |w: &Warp| {
            let (a, b) = (&w.registers[a as usize], &w.registers[b as usize]);
            let of = |bits: u64| flush(f32::of(bits));
            (0..32).map(|lane| u32::from(holds(of(a[lane]).partial_cmp(&of(b[lane])))) << lane).sum()
        };
        return Ok((Box::new(flushed), combined));
    }
    let compared = typed!(kind, T in [
        "u16" | "b16" => u16, "s16" => i16, "u32" | "b32" => u32, "s32" => i32, "u64" | "b64" => u64, "s64" => i64,
        "f16" => Half, "f32" => f32, "f64" => f64,
    ], Ok(compared::<T>(a, b, holds)))?;
    Ok((compared, combined))
}

type Combined = (fn(u32, u32) -> u32, (u32, bool));

fn how_to_combine(how: &str) -> fn(u32, u32) -> u32 {
    match how {
        "and" => |a, b| a & b,
        "or" => |a, b| a | b,
        _ => |a, b| a ^ b,
    }
}

fn setp(op: &mut Op<'_, '_>) -> Decoded {
    let kind = op.kind()?;
    let pair = kind == "f16x2";
    let (p, q) = match op.operand(0)? {
        Operand::Both(p, q) => (one_predicate(p)?, one_predicate(q)?),
        one => (one_predicate(one)?, None),
    };
    if pair {
        return setp_pair(op, p, q);
    }
    let (compare, combined) = comparison(op, &kind)?;
    let act: Act = match (combined, p, q) {
        (None, Some(p), None) => Box::new(move |w, _, mask| {
            let result = compare(w);
            w.decide(p, mask, result);
            Ok(())
        }),
        _ => Box::new(move |w, _, mask| {
            let result = compare(w);
            // The second predicate gets the negated comparison, combined likewise.
            for (to, result) in [(p, result), (q, !result)] {
                let result = combined.map_or(result, |(f, with)| f(result, w.holds(with)));
                if let Some(to) = to {
                    w.decide(to, mask, result);
                }
            }
            Ok(())
        }),
    };
    super::act(act)
}

fn one_predicate(operand: &Operand) -> Result<Option<u32>, String> {
    match operand {
        Operand::Predicate(p, false) => Ok(Some(*p)),
        Operand::Nothing => Ok(None),
        other => Err(format!("{other:?} where a predicate is expected")),
    }
}

/// Both halves compared, each into a predicate of its own.
fn setp_pair(op: &mut Op<'_, '_>, p: Option<u32>, q: Option<u32>) -> Decoded {
    let name = op.parts.remove(0);
    let holds = holds(name).ok_or_else(|| format!("comparison '.{name}' is not known"))?;
    let (a, b) = (op.source(1)?, op.source(2)?);
    act(Box::new(move |w, _, mask| {
        let pair = |register: u32, lane: usize| Pair::of(w.registers[register as usize][lane]);
        let (mut low, mut high) = (0, 0);
        for lane in 0..32 {
            let (a, b) = (pair(a, lane), pair(b, lane));
            low |= u32::from(holds(a.0.partial_cmp(&b.0))) << lane;
            high |= u32::from(holds(a.1.partial_cmp(&b.1))) << lane;
        }
        for (to, result) in [(p, low), (q, high)] {
            if let Some(to) = to {
                w.decide(to, mask, result);
            }
        }
        Ok(())
    }))
}

/// Into a register: all bits, or 1.0 if it is a float.
fn set(op: &mut Op<'_, '_>) -> Decoded {
    let kind = op.kind()?;
    let to = op.kind()?;
    let yes = match to.as_str() {
        "u32" | "s32" => u64::from(u32::MAX),
        "f32" => 1f32.bits(),
        other => return Err(format!("type '{other}' is not known here")),
    };
    let (compare, combined) = comparison(op, &kind)?;
    let d = op.target(0)?;
    act(Box::new(move |w, _, mask| {
        let result = compare(w);
        let result = combined.map_or(result, |(f, with)| f(result, w.holds(with)));
        w.put(d, mask, &std::array::from_fn(|lane| if result >> lane & 1 == 1 { yes } else { 0 }));
        Ok(())
    }))
}

fn testp(op: &mut Op<'_, '_>) -> Decoded {
    let kind = op.kind()?;
    if kind != "f32" {
        return Err(format!("type '{kind}' is not known here"));
    }
    let name = op.parts.pop().unwrap_or("");
    let test: fn(f32) -> bool = match name {
        "finite" => f32::is_finite,
        "infinite" => f32::is_infinite,
        "number" => |v| !v.is_nan(),
        "notanumber" => f32::is_nan,
        "normal" => f32::is_normal,
        "subnormal" => f32::is_subnormal,
        other => return Err(format!("test '.{other}' is not known")),
    };
    let ((p, _), a) = (op.predicate(0)?, op.source(1)?);
    act(Box::new(move |w, _, mask| {
        let a = &w.registers[a as usize];
        let result = (0..32).map(|lane| u32::from(test(f32::of(a[lane]))) << lane).sum();
        w.decide(p, mask, result);
        Ok(())
    }))
}
