//! Float arithmetic, rounded to the nearest even. The approximate functions are computed in float64 and rounded once,
//! which is nearer than a device is.

use super::{Decoded, Op};
use crate::float::{flush, fma16, fma32, max32, min32};
use crate::lane::{Half, Pair};

pub fn decode(op: &mut Op<'_, '_>) -> Decoded {
    let names = [
        "add", "sub", "mul", "fma", "mad", "div", "rcp", "sqrt", "rsqrt", "min", "max", "abs", "neg", "sin", "cos",
        "lg2", "ex2", "tanh", "copysign",
    ];
    let last = op.parts.last().copied().unwrap_or("");
    if !last.starts_with('f') || !names.contains(&op.name) {
        return Ok(None);
    }
    let kind = op.kind()?;
    op.ignore(&["rn", "approx", "full"]);
    match kind.as_str() {
        "f32" => single(op),
        "f64" => double(op),
        "f16" => half(op),
        "f16x2" => pair(op),
        other => Err(format!("type '{other}' is not known here")),
    }
}

fn single(op: &mut Op<'_, '_>) -> Decoded {
    let (flushes, clamps) = (op.take("ftz"), op.take("sat"));
    let into = move |v: f32| if flushes { flush(v) } else { v };
    let out = move |v: f32| {
        let v = into(v);
        if clamps { clamp(v) } else { v }
    };
    macro_rules! plain {
        (1, $f:expr) => {
            if flushes || clamps { op.one(move |a: f32| out($f(into(a)))) } else { op.one($f) }
        };
        (2, $f:expr) => {
            if flushes || clamps { op.two(move |a: f32, b: f32| out($f(into(a), into(b)))) } else { op.two($f) }
        };
    }
    match op.name {
        "add" => plain!(2, |a: f32, b: f32| a + b),
        "sub" => plain!(2, |a: f32, b: f32| a - b),
        "mul" => plain!(2, |a: f32, b: f32| a * b),
        "div" => plain!(2, |a: f32, b: f32| a / b),
        "min" => plain!(2, min32),
        "max" => plain!(2, max32),
        "copysign" => plain!(2, |a: f32, b: f32| b.copysign(a)),
        "fma" | "mad" if flushes || clamps => {
            op.three(move |a: f32, b: f32, c: f32| out(fma32(into(a), into(b), into(c))))
        }
        "fma" | "mad" => op.three(fma32),
        "rcp" => plain!(1, |a: f32| 1.0 / a),
        "abs" => plain!(1, f32::abs),
        "neg" => plain!(1, |a: f32| -a),
        "sqrt" => plain!(1, f32::sqrt),
        "rsqrt" => plain!(1, |a: f32| (1.0 / f64::from(a).sqrt()) as f32),
        "sin" => plain!(1, |a: f32| f64::from(a).sin() as f32),
        "cos" => plain!(1, |a: f32| f64::from(a).cos() as f32),
        "lg2" => plain!(1, |a: f32| f64::from(a).log2() as f32),
        "ex2" => plain!(1, |a: f32| f64::from(a).exp2() as f32),
        "tanh" => plain!(1, |a: f32| f64::from(a).tanh() as f32),
        _ => Ok(None),
    }
}

/// Into 0 to 1; NaN and -0 become 0.
fn clamp(value: f32) -> f32 {
    if value > 0.0 { value.min(1.0) } else { 0.0 }
}

fn double(op: &mut Op<'_, '_>) -> Decoded {
    match op.name {
        "add" => op.two(|a: f64, b: f64| a + b),
        "sub" => op.two(|a: f64, b: f64| a - b),
        "mul" => op.two(|a: f64, b: f64| a * b),
        "div" => op.two(|a: f64, b: f64| a / b),
        "min" => op.two(f64::min),
        "max" => op.two(f64::max),
        "copysign" => op.two(|a: f64, b: f64| b.copysign(a)),
        "fma" | "mad" => op.three(f64::mul_add),
        "rcp" => op.one(|a: f64| 1.0 / a),
        "abs" => op.one(f64::abs),
        "neg" => op.one(|a: f64| -a),
        "sqrt" => op.one(f64::sqrt),
        "rsqrt" => op.one(|a: f64| 1.0 / a.sqrt()),
        _ => Ok(None),
    }
}

/// A function of two halves by its name.
fn of_two(name: &str) -> Option<fn(f32, f32) -> f32> {
    Some(match name {
        "add" => |a, b| a + b,
        "sub" => |a, b| a - b,
        "mul" => |a, b| a * b,
        "min" => min32,
        "max" => max32,
        _ => return None,
    })
}

fn half(op: &mut Op<'_, '_>) -> Decoded {
    if let Some(f) = of_two(op.name) {
        return op.two(move |a: Half, b: Half| Half(f(a.0, b.0)));
    }
    match op.name {
        "fma" => op.three(|a: Half, b: Half, c: Half| Half(fma16(a.0, b.0, c.0))),
        "abs" => op.one(|a: u16| a & 0x7fff),
        "neg" => op.one(|a: u16| a ^ 0x8000),
        "ex2" => op.one(|a: Half| Half(a.0.exp2())),
        "tanh" => op.one(|a: Half| Half(a.0.tanh())),
        _ => Ok(None),
    }
}

fn pair(op: &mut Op<'_, '_>) -> Decoded {
    let both = |f: fn(f32, f32) -> f32| move |a: Half, b: Half| Half(f(a.0, b.0));
    match op.name {
        // The frequent ones by themselves, so that they are compiled as loops over lanes.
        "mul" => op.two(|a: Pair, b: Pair| Pair(Half(a.0.0 * b.0.0), Half(a.1.0 * b.1.0))),
        "fma" => {
            let fma = |a: Half, b: Half, c: Half| Half(fma16(a.0, b.0, c.0));
            op.three(move |a: Pair, b: Pair, c: Pair| Pair(fma(a.0, b.0, c.0), fma(a.1, b.1, c.1)))
        }
        "abs" => op.one(|a: u32| a & 0x7fff_7fff),
        "neg" => op.one(|a: u32| a ^ 0x8000_8000),
        "ex2" => op.one(|a: Pair| Pair(Half(a.0.0.exp2()), Half(a.1.0.exp2()))),
        "tanh" => op.one(|a: Pair| Pair(Half(a.0.0.tanh()), Half(a.1.0.tanh()))),
        name => match of_two(name) {
            Some(f) => op.two(move |a: Pair, b: Pair| Pair(both(f)(a.0, b.0), both(f)(a.1, b.1))),
            None => Ok(None),
        },
    }
}
