//! Loads, stores and atomic changes, each held against the bounds of what it touches and against its alignment.

use super::convert::load_param;
use super::{Decoded, Op, act};
use crate::kernel::Step;
use crate::lane::{Half, Lane};
use crate::machine::{Block, LOCAL_WINDOW, SHARED_WINDOW, Trap, Warp, lanes};
use crate::memory::{get, put};
use crate::module::width;

pub fn decode(op: &mut Op<'_, '_>) -> Decoded {
    match op.name {
        "ld" | "ldu" => load(op),
        "st" => store(op),
        "atom" | "red" => atomic(op),
        // Blocks that could see each other's stores run one after the other.
        "membar" | "fence" => {
            op.parts.clear();
            act(Box::new(|_, _, _| Ok(())))
        }
        "prefetch" | "prefetchu" | "discard" | "applypriority" => {
            op.parts.clear();
            act(Box::new(|_, _, _| Ok(())))
        }
        _ => Ok(None),
    }
}

/// Where an instruction looks for its address.
#[derive(Clone, Copy, PartialEq)]
pub enum Space {
    Global,
    Shared,
    Local,
    Generic,
}

fn space(op: &mut Op<'_, '_>) -> Space {
    match op.take_one(&["global", "const", "shared", "local"]) {
        Some("shared") => Space::Shared,
        Some("local") => Space::Local,
        Some(_) => Space::Global,
        None => Space::Generic,
    }
}

/// Drops what says how caches and the memory model are meant; here all memory is one.
fn forget_caches(op: &mut Op<'_, '_>) {
    op.ignore(&[
        "nc", "ca", "cg", "cs", "lu", "cv", "wb", "wt", "weak", "relaxed", "acquire", "release", "acq_rel", "volatile",
        "gpu", "cta", "sys", "cluster",
    ]);
    op.parts.retain(|p| !p.starts_with("L1::") && !p.starts_with("L2::"));
}

/// An address, resolved.
pub enum Found {
    Global(u64),
    Shared(usize),
    /// A place among the lane's own bytes.
    Local(usize),
}

/// What an address of a space means, if `bytes` there are aligned and there.
pub fn find(w: &Warp, b: &Block<'_>, space: Space, at: u64, bytes: usize) -> Result<Found, String> {
    if !at.is_multiple_of(bytes as u64) {
        return Err(format!("{bytes} bytes at address {at:#x}, which is no multiple of {bytes}"));
    }
    let space = match space {
        Space::Generic => match at & 0xff << 56 {
            SHARED_WINDOW => Space::Shared,
            LOCAL_WINDOW => Space::Local,
            _ => Space::Global,
        },
        other => other,
    };
    let low = at as u32 as usize;
    let within = |room: usize, name: &str| {
        let beyond = || format!("{bytes} bytes at byte {low} of {name} memory, which has {room}");
        if low + bytes <= room { Ok(low) } else { Err(beyond()) }
    };
    match space {
        Space::Shared => within(b.shared.len(), "shared").map(Found::Shared),
        Space::Local => within(w.local.len() / 32, "a thread's").map(Found::Local),
        _ => Ok(Found::Global(at)),
    }
}

fn read_bytes(from: &[u8], size: usize) -> u64 {
    from[..size].iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

/// Type, number of elements, whether values carry a sign.
fn shape(op: &mut Op<'_, '_>) -> Result<(usize, usize, bool), String> {
    let kind = op.kind()?;
    let size = width(&kind).ok_or_else(|| format!("type '{kind}' is not known here"))?;
    let count = match op.take_one(&["v2", "v4"]) {
        Some("v2") => 2,
        Some(_) => 4,
        None => 1,
    };
    Ok((size, count, kind.starts_with('s')))
}

fn load(op: &mut Op<'_, '_>) -> Decoded {
    let (size, count, signed) = shape(op)?;
    if op.take("param") {
        return load_param(op, size, signed);
    }
    let space = space(op);
    forget_caches(op);
    let to = op.targets(0)?;
    let (base, offset) = op.address(1)?;
    if to.len() != count {
        return Err(format!("{} registers for {count} values", to.len()));
    }
    let shift = 64 - 8 * size as u32;
    let extend = move |v: u64| if signed { ((v << shift) as i64 >> shift) as u64 } else { v };
    act(Box::new(move |w, b, mask| {
        for lane in lanes(mask) {
            let at = w.registers[base as usize][lane].wrapping_add_signed(offset);
            let trap = |why| Trap { lane: lane as u32, why };
            match find(w, b, space, at, size * count).map_err(trap)? {
                Found::Global(at) => {
                    let (words, from) = b.memory.span(at, size * count).map_err(trap)?;
                    for (i, &to) in to.iter().enumerate() {
                        w.registers[to as usize][lane] = extend(get(words, from + i * size, size));
                    }
                }
                Found::Shared(at) => {
                    for (i, &to) in to.iter().enumerate() {
                        w.registers[to as usize][lane] = extend(read_bytes(&b.shared[at + i * size..], size));
                    }
                }
                Found::Local(at) => {
                    let at = at + lane * (w.local.len() / 32);
                    for (i, &to) in to.iter().enumerate() {
                        w.registers[to as usize][lane] = extend(read_bytes(&w.local[at + i * size..], size));
                    }
                }
            }
        }
        Ok(())
    }))
}

fn store(op: &mut Op<'_, '_>) -> Decoded {
    let (size, count, _) = shape(op)?;
    let space = space(op);
    forget_caches(op);
    let (base, offset) = op.address(0)?;
    let from = op.sources(1)?;
    if from.len() != count {
        return Err(format!("{} registers for {count} values", from.len()));
    }
    act(Box::new(move |w, b, mask| {
        for lane in lanes(mask) {
            let at = w.registers[base as usize][lane].wrapping_add_signed(offset);
            let trap = |why| Trap { lane: lane as u32, why };
            let found = find(w, b, space, at, size * count).map_err(trap)?;
            for (i, &from) in from.iter().enumerate() {
                let value = w.registers[from as usize][lane];
                match found {
                    Found::Global(at) => {
                        let (words, to) = b.memory.span(at, size * count).map_err(trap)?;
                        put(words, to + i * size, size, value);
                    }
                    Found::Shared(at) => {
                        b.shared[at + i * size..][..size].copy_from_slice(&value.to_le_bytes()[..size]);
                    }
                    Found::Local(at) => {
                        let at = at + lane * (w.local.len() / 32);
                        w.local[at + i * size..][..size].copy_from_slice(&value.to_le_bytes()[..size]);
                    }
                }
            }
        }
        Ok(())
    }))
}

/// What becomes of the old value, given one or two sources.
type Change = fn(u64, u64, u64) -> u64;

fn change(name: &str, kind: &str) -> Option<Change> {
    macro_rules! by {
        ($t:ty, $f:expr) => {
            |old, b, _| Lane::bits($f(<$t>::of(old), <$t>::of(b)))
        };
    }
    Some(match (name, kind) {
        ("exch", "b32" | "b64") => |_, b, _| b,
        ("cas", "b32") => |old, b, c| if old as u32 == b as u32 { c } else { old },
        ("cas", "b64") => |old, b, c| if old == b { c } else { old },
        ("and", "b32" | "b64") => |old, b, _| old & b,
        ("or", "b32" | "b64") => |old, b, _| old | b,
        ("xor", "b32" | "b64") => |old, b, _| old ^ b,
        ("add", "u32" | "s32") => by!(u32, u32::wrapping_add),
        ("add", "u64") => by!(u64, u64::wrapping_add),
        ("add", "f32") => by!(f32, |a: f32, b: f32| a + b),
        ("add", "f64") => by!(f64, |a: f64, b: f64| a + b),
        ("add", "f16") => by!(Half, |a: Half, b: Half| Half(a.0 + b.0)),
        ("inc", "u32") => by!(u32, |old: u32, b: u32| if old >= b { 0 } else { old + 1 }),
        ("dec", "u32") => by!(u32, |old: u32, b: u32| if old == 0 || old > b { b } else { old - 1 }),
        ("min", "u32") => by!(u32, std::cmp::min),
        ("min", "s32") => by!(i32, std::cmp::min),
        ("min", "u64") => by!(u64, std::cmp::min),
        ("min", "s64") => by!(i64, std::cmp::min),
        ("max", "u32") => by!(u32, std::cmp::max),
        ("max", "s32") => by!(i32, std::cmp::max),
        ("max", "u64") => by!(u64, std::cmp::max),
        ("max", "s64") => by!(i64, std::cmp::max),
        _ => return None,
    })
}

/// Lanes change memory in their order.
fn atomic(op: &mut Op<'_, '_>) -> Decoded {
    let kind = op.kind()?;
    let size = width(&kind).ok_or_else(|| format!("type '{kind}' is not known here"))?;
    op.take("noftz");
    let name = op.parts.pop().unwrap_or("");
    let change = change(name, &kind).ok_or_else(|| format!("'.{name}.{kind}' is not known"))?;
    let space = space(op);
    forget_caches(op);
    let first = usize::from(op.name == "atom");
    let to = if op.name == "atom" { op.target(0)? } else { op.names.fresh() };
    let (base, offset) = op.address(first)?;
    let b_source = op.source(first + 1)?;
    let c_source = if name == "cas" { op.source(first + 2)? } else { b_source };
    Ok(Some(Step::Do(Box::new(move |w, b, mask| {
        for lane in lanes(mask) {
            let at = w.registers[base as usize][lane].wrapping_add_signed(offset);
            let trap = |why| Trap { lane: lane as u32, why };
            let (x, y) = (w.registers[b_source as usize][lane], w.registers[c_source as usize][lane]);
            let old = match find(w, b, space, at, size).map_err(trap)? {
                Found::Global(at) => b.memory.update(at, size, |old| change(old, x, y)).map_err(trap)?,
                Found::Shared(at) => {
                    let old = read_bytes(&b.shared[at..], size);
                    b.shared[at..at + size].copy_from_slice(&change(old, x, y).to_le_bytes()[..size]);
                    old
                }
                Found::Local(_) => return Err(trap("an atomic change of a thread's own memory".to_owned())),
            };
            w.registers[to as usize][lane] = old;
        }
        Ok(())
    }))))
}
