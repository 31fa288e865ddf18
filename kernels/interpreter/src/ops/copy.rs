//! Copies to shared memory that go on by themselves: what a thread does not wait for does not arrive.

use super::memory::{Found, Space, find};
use super::{Decoded, Op, act};
use crate::machine::{Copy, Trap, Warp, lanes};

pub fn decode(op: &mut Op<'_, '_>) -> Decoded {
    if op.name != "cp" || !op.take("async") {
        return Ok(None);
    }
    if op.take("commit_group") {
        return act(Box::new(|w, _, mask| {
            lanes(mask).for_each(|lane| w.closed[lane] += 1);
            Ok(())
        }));
    }
    if op.take("wait_all") {
        return act(Box::new(|w, b, mask| {
            arrive(w, &mut b.shared, mask, None);
            Ok(())
        }));
    }
    if op.take("wait_group") {
        let left = op.number(0)? as u32;
        return act(Box::new(move |w, b, mask| {
            arrive(w, &mut b.shared, mask, Some(left));
            Ok(())
        }));
    }
    copy(op)
}

/// Lets the copies of some lanes arrive: all, or all but those of the last groups.
fn arrive(w: &mut Warp, shared: &mut [u8], mask: u32, left: Option<u32>) {
    let closed = w.closed;
    w.copies.retain(|copy| {
        let covered = left.is_none_or(|left| copy.group + left < closed[copy.lane as usize]);
        let arrives = mask >> copy.lane & 1 == 1 && covered;
        if arrives {
            shared[copy.to..copy.to + copy.count].copy_from_slice(&copy.bytes[..copy.count]);
        }
        !arrives
    });
}

fn copy(op: &mut Op<'_, '_>) -> Decoded {
    let whole_lines = op.take("cg");
    if whole_lines == op.take("ca") || !op.take("shared") || !op.take("global") {
        return Err("this form is not known".to_owned());
    }
    op.parts.retain(|p| !p.starts_with("L2::"));
    let ((to, to_offset), (from, from_offset)) = (op.address(0)?, op.address(1)?);
    let count = op.number(2)? as usize;
    if !(count == 16 || !whole_lines && matches!(count, 4 | 8)) {
        return Err(format!("a copy of {count} bytes"));
    }
    let present = if op.operands.len() > 3 { Some(op.source(3)?) } else { None };
    act(Box::new(move |w, b, mask| {
        for lane in lanes(mask) {
            let trap = |why| Trap { lane: lane as u32, why };
            let at = |register: u32, offset: i64| w.registers[register as usize][lane].wrapping_add_signed(offset);
            let Found::Shared(place) = find(w, b, Space::Shared, at(to, to_offset), count).map_err(trap)? else {
                return Err(trap("the target is not shared memory".to_owned()));
            };
            let present = present.map_or(count, |p| w.registers[p as usize][lane] as u32 as usize);
            if present > count {
                return Err(trap(format!("{present} bytes are present of {count}")));
            }
            let mut bytes = [0; 16];
            if present > 0 {
                let Found::Global(source) = find(w, b, Space::Global, at(from, from_offset), count).map_err(trap)?
                else {
                    return Err(trap("the source is not device memory".to_owned()));
                };
                b.memory.read(source, &mut bytes[..present]).map_err(trap)?;
            }
            w.copies.push(Copy { lane: lane as u32, group: w.closed[lane], to: place, bytes, count });
        }
        Ok(())
    }))
}
