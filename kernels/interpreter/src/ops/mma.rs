//! Matrix products of a warp: which lane holds which element, by the formulas of the PTX manual, and the sums. Products
//! are exact; a sum is made in float64 and rounded once, which a device does somewhat differently.

use super::warp::everyone;
use super::{Decoded, Op};
use crate::kernel::Step;
use crate::lane::{Half, Lane};
use crate::machine::{Trap, Warp};

/// Where an element of a fragment lies: (lane, number of the element in the lane) to (row, column).
type Layout = fn(usize, usize) -> (usize, usize);

struct Shape {
    rows: usize,
    cols: usize,
    depth: usize,
    a: Layout,
    b: Layout,
    c: Layout,
    /// A product of its own for each quad-pair: which one a lane belongs to.
    product: fn(usize) -> usize,
}

/// `m16n8k16`: groups of four lanes.
const M16N8K16: Shape = Shape {
    rows: 16,
    cols: 8,
    depth: 16,
    a: |lane, i| {
        let row = if i < 2 || (4..6).contains(&i) { lane / 4 } else { lane / 4 + 8 };
        (row, lane % 4 * 2 + i % 2 + if i < 4 { 0 } else { 8 })
    },
    b: |lane, i| (lane % 4 * 2 + i % 2 + if i < 2 { 0 } else { 8 }, lane / 4),
    c: |lane, i| (lane / 4 + if i < 2 { 0 } else { 8 }, lane % 4 * 2 + i % 2),
    product: |_| 0,
};

/// `m16n8k8`: its left half.
const M16N8K8: Shape = Shape {
    rows: 16,
    cols: 8,
    depth: 8,
    a: |lane, i| (lane / 4 + if i < 2 { 0 } else { 8 }, lane % 4 * 2 + i % 2),
    b: |lane, i| (lane % 4 * 2 + i, lane / 4),
    c: |lane, i| (lane / 4 + if i < 2 { 0 } else { 8 }, lane % 4 * 2 + i % 2),
    product: |_| 0,
};

/// `m8n8k4`: four products, each of lanes 4 q .. 4 q + 3 and those 16 further.
const M8N8K4: Shape = Shape {
    rows: 8,
    cols: 8,
    depth: 4,
    a: |lane, i| (lane % 4 + if lane < 16 { 0 } else { 4 }, i),
    b: |lane, i| (i, lane % 4 + if lane < 16 { 0 } else { 4 }),
    c: |lane, i| {
        let x = (lane & 1) + (i & 2);
        (if lane < 16 { x } else { x + 4 }, (i & 4) + (lane & 2) + (i & 1))
    },
    product: |lane| lane % 16 / 4,
};

pub fn decode(op: &mut Op<'_, '_>) -> Decoded {
    if op.name != "mma" {
        return Ok(None);
    }
    let shape = match op.take_one(&["m16n8k16", "m16n8k8", "m8n8k4"]) {
        Some("m16n8k16") => &M16N8K16,
        Some("m16n8k8") => &M16N8K8,
        Some(_) => &M8N8K4,
        None => return Err("this shape is not known".to_owned()),
    };
    op.ignore(&["sync", "aligned"]);
    if op.parts != ["row", "col", "f32", "f16", "f16", "f32"] {
        return Err("only .row.col.f32.f16.f16.f32 is known".to_owned());
    }
    op.parts.clear();
    let (d, a, b, c) = (op.targets(0)?, op.sources(1)?, op.sources(2)?, op.sources(3)?);
    let products = if shape.depth == 4 { 4 } else { 1 };
    let held = |elements: usize| products * elements / 32;
    let expected = [shape.rows * shape.cols, shape.rows * shape.depth / 2, shape.depth * shape.cols / 2];
    for (registers, elements) in [(&d, expected[0]), (&a, expected[1]), (&b, expected[2]), (&c, expected[0])] {
        if registers.len() != held(elements) {
            return Err(format!("{} registers where {} are needed", registers.len(), held(elements)));
        }
    }
    let everyone = everyone(op);
    Ok(Some(Step::Together(
        everyone,
        Box::new(move |w, _, mask| {
            if mask != u32::MAX {
                return Err(Trap { lane: mask.trailing_zeros(), why: format!("only lanes {mask:#010x} are there") });
            }
            for product in 0..products {
                multiply(w, shape, product, [&d, &a, &b, &c]);
            }
            Ok(())
        }),
    )))
}

fn multiply(w: &mut Warp, shape: &Shape, product: usize, [d, a, b, c]: [&[u32]; 4]) {
    let (mut left, mut right, mut sums) = ([[0f64; 16]; 16], [[0f64; 8]; 16], [[0f64; 8]; 16]);
    let lanes = || (0..32).filter(|&lane| (shape.product)(lane) == product);
    for lane in lanes() {
        let half = |registers: &[u32], i: usize| {
            f64::from(Half::of(w.registers[registers[i / 2] as usize][lane] >> (16 * (i % 2))).0)
        };
        for i in 0..2 * a.len() {
            let (row, col) = (shape.a)(lane, i);
            left[row][col] = half(a, i);
        }
        for i in 0..2 * b.len() {
            let (row, col) = (shape.b)(lane, i);
            right[row][col] = half(b, i);
        }
        for (i, &register) in c.iter().enumerate() {
            let (row, col) = (shape.c)(lane, i);
            sums[row][col] = f64::from(f32::of(w.registers[register as usize][lane]));
        }
    }
    for row in 0..shape.rows {
        for k in 0..shape.depth {
            for col in 0..shape.cols {
                sums[row][col] += left[row][k] * right[k][col];
            }
        }
    }
    for lane in lanes() {
        for (i, &register) in d.iter().enumerate() {
            let (row, col) = (shape.c)(lane, i);
            w.registers[register as usize][lane] = (sums[row][col] as f32).bits();
        }
    }
}
