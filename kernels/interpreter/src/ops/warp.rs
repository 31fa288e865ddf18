//! Where a thread goes on, barriers, and what the lanes of a warp do together.

use super::{Decoded, Op, act};
use crate::kernel::{Act, Barrier, Reduction, Step};
use crate::machine::{Trap, Warp, lanes};
use crate::names::{Fill, Operand};

/// What a lane gets from one that does not take part.
const ABSENT: u64 = 0xdead_beef;

pub fn decode(op: &mut Op<'_, '_>) -> Decoded {
    match op.name {
        "bra" => {
            op.take("uni");
            match op.operand(0)? {
                Operand::Target(target) => Ok(Some(Step::Branch(*target))),
                other => Err(format!("{other:?} where a label is expected")),
            }
        }
        "brx" => {
            op.ignore(&["idx", "uni"]);
            let index = op.source(0)?;
            match op.operand(1)? {
                Operand::Targets(targets) => Ok(Some(Step::Table(index, targets.clone()))),
                other => Err(format!("{other:?} where a list of labels is expected")),
            }
        }
        "ret" | "exit" => {
            op.take("uni");
            Ok(Some(Step::Exit))
        }
        "trap" => act(Box::new(|_, _, mask| {
            Err(Trap { lane: mask.trailing_zeros(), why: "the kernel asks to be stopped".to_owned() })
        })),
        "nanosleep" => {
            op.take("u32");
            act(Box::new(|_, _, _| Ok(())))
        }
        "bar" | "barrier" => barrier(op),
        "activemask" => {
            op.take("b32");
            let d = op.target(0)?;
            act(Box::new(move |w, _, mask| {
                w.put(d, mask, &[u64::from(mask); 32]);
                Ok(())
            }))
        }
        "shfl" => shuffle(op),
        "vote" => vote(op),
        "match" => match_any(op),
        "redux" => redux(op),
        _ => Ok(None),
    }
}

fn together(members: u32, act: Act) -> Decoded {
    Ok(Some(Step::Together(members, act)))
}

fn barrier(op: &mut Op<'_, '_>) -> Decoded {
    if op.take("warp") && op.take("sync") {
        let members = op.source(0)?;
        return together(members, Box::new(|_, _, _| Ok(())));
    }
    op.ignore(&["cta", "aligned"]);
    if op.take("sync") {
        let number = op.source(0)?;
        let count = if op.operands.len() > 1 { Some(op.source(1)?) } else { None };
        return Ok(Some(Step::Barrier(Barrier { number, count, reduction: None })));
    }
    if !op.take("red") {
        return Err("this form is not known".to_owned());
    }
    let kind = op.take_one(&["popc", "and", "or"]).ok_or_else(|| "a reduction is missing".to_owned())?;
    op.kind()?;
    let to = match op.operand(0)? {
        Operand::Predicate(p, _) => *p,
        _ => op.target(0)?,
    };
    let number = op.source(1)?;
    let last = op.operands.len() - 1;
    let count = if last > 2 { Some(op.source(2)?) } else { None };
    let reduction = Some(Reduction { kind, asks: op.predicate(last)?, to });
    Ok(Some(Step::Barrier(Barrier { number, count, reduction })))
}

/// Values from other lanes. `c` holds a clamp and a mask that cuts the warp into segments.
fn shuffle(op: &mut Op<'_, '_>) -> Decoded {
    op.take("sync");
    op.take("b32");
    let mode = op.take_one(&["up", "down", "bfly", "idx"]).ok_or_else(|| "a mode is missing".to_owned())?;
    let (d, p) = match op.operand(0)?.clone() {
        Operand::Both(d, p) => match *p {
            Operand::Predicate(p, _) => (op.target_of(&d)?, Some(p)),
            other => return Err(format!("{other:?} where a predicate is expected")),
        },
        _ => (op.target(0)?, None),
    };
    let (a, b, c, members) = (op.source(1)?, op.source(2)?, op.source(3)?, op.source(4)?);
    together(
        members,
        Box::new(move |w, _, mask| {
            let a = w.registers[a as usize];
            let (mut result, mut valid) = ([0; 32], 0);
            for lane in lanes(mask) {
                let (by, c) = (w.registers[b as usize][lane] as i32 & 31, w.registers[c as usize][lane] as i32);
                let (clamp, segment, own) = (c & 31, c >> 8 & 31, lane as i32);
                let last = own & segment | clamp & !segment & 31;
                let (from, inside) = match mode {
                    "up" => (own - by, own - by >= last),
                    "down" => (own + by, own + by <= last),
                    "bfly" => (own ^ by, own ^ by <= last),
                    _ => {
                        let from = own & segment | by & !segment & 31;
                        (from, from <= last)
                    }
                };
                let from = if inside { from } else { own };
                result[lane] = if mask >> from & 1 == 1 { a[from as usize] } else { ABSENT };
                valid |= u32::from(inside) << lane;
            }
            w.put(d, mask, &result);
            if let Some(p) = p {
                w.decide(p, mask, valid);
            }
            Ok(())
        }),
    )
}

fn vote(op: &mut Op<'_, '_>) -> Decoded {
    op.take("sync");
    let mode = op.take_one(&["all", "any", "uni", "ballot"]).ok_or_else(|| "a mode is missing".to_owned())?;
    op.kind()?;
    let (asked, members) = (op.operand(1)?.clone(), op.source(2)?);
    let held: Box<dyn Fn(&Warp) -> u32 + Send + Sync> = match asked {
        Operand::Predicate(p, negated) => Box::new(move |w| w.holds((p, negated))),
        Operand::Number(value) => Box::new(move |_| if value == 0 { 0 } else { u32::MAX }),
        other => return Err(format!("{other:?} where a predicate is expected")),
    };
    if mode == "ballot" {
        let d = op.target(0)?;
        return together(
            members,
            Box::new(move |w, _, mask| {
                let held = held(w) & mask;
                w.put(d, mask, &[u64::from(held); 32]);
                Ok(())
            }),
        );
    }
    let (d, _) = op.predicate(0)?;
    together(
        members,
        Box::new(move |w, _, mask| {
            let held = held(w) & mask;
            let answer = match mode {
                "all" => held == mask,
                "any" => held != 0,
                _ => held == 0 || held == mask,
            };
            w.decide(d, mask, if answer { u32::MAX } else { 0 });
            Ok(())
        }),
    )
}

/// Which lanes have the same value.
fn match_any(op: &mut Op<'_, '_>) -> Decoded {
    op.take("sync");
    if !op.take("any") {
        return Err("only .any is known".to_owned());
    }
    op.kind()?;
    let (d, a, members) = (op.target(0)?, op.source(1)?, op.source(2)?);
    together(
        members,
        Box::new(move |w, _, mask| {
            let a = w.registers[a as usize];
            let same = |lane: usize| lanes(mask).filter(|&other| a[other] == a[lane]).map(|other| 1u64 << other).sum();
            w.put(d, mask, &std::array::from_fn(same));
            Ok(())
        }),
    )
}

fn redux(op: &mut Op<'_, '_>) -> Decoded {
    op.take("sync");
    let kind = op.kind()?;
    let name = op.parts.pop().unwrap_or("");
    let join: fn(u32, u32) -> u32 = match (name, kind.as_str()) {
        ("add", "u32" | "s32") => u32::wrapping_add,
        ("min", "u32") => u32::min,
        ("max", "u32") => u32::max,
        ("min", "s32") => |a, b| (a as i32).min(b as i32) as u32,
        ("max", "s32") => |a, b| (a as i32).max(b as i32) as u32,
        ("and", "b32") => |a, b| a & b,
        ("or", "b32") => |a, b| a | b,
        ("xor", "b32") => |a, b| a ^ b,
        _ => return Err(format!("'.{name}.{kind}' is not known")),
    };
    let (d, a, members) = (op.target(0)?, op.source(1)?, op.source(2)?);
    together(
        members,
        Box::new(move |w, _, mask| {
            let a = w.registers[a as usize];
            let all = lanes(mask).map(|lane| a[lane] as u32).reduce(join).unwrap_or(0);
            w.put(d, mask, &[u64::from(all); 32]);
            Ok(())
        }),
    )
}

/// All lanes, as the members of something that a whole warp does.
pub fn everyone(op: &mut Op<'_, '_>) -> u32 {
    op.names.filled(Fill::Value(u64::from(u32::MAX)))
}
