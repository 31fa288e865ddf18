//! Instructions on floats, against plain definitions.

mod run;

use run::{apply, rows};

/// Rows whose low 32 bits make for interesting floats.
fn floats() -> Vec<[u64; 3]> {
    let corners =
        [0.0f32, -0.0, 1.0, -1.5, 0.5, 2.5, 3.5, -2.5, 1e-40, -1e-41, 65504.0, 65520.0, 1e30, 5.9e-8, 300.7, -129.2];
    let special = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 2147483648.0, -2147483648.0, 4294967296.0, 1e19];
    let all: Vec<u64> = corners.iter().chain(&special).map(|v| u64::from(v.to_bits())).collect();
    let mut found: Vec<[u64; 3]> = Vec::new();
    for (i, &a) in all.iter().enumerate() {
        for (j, &b) in all.iter().enumerate() {
            found.push([a, b, all[(i * 7 + j) % all.len()]]);
        }
    }
    // Random numbers of moderate size as well, for those without a pattern seldom are.
    found.extend(rows(300).iter().map(|row| row.map(|v| v & 0x87ff_ffff | 0x3c00_0000)));
    found
}

fn value(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}

fn same(found: f32, expected: f32) -> bool {
    found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan()
}

fn check(opcode: &str, sources: usize, f: impl Fn(f32, f32, f32) -> f32) {
    let rows = floats();
    for (row, found) in rows.iter().zip(run::apply32(opcode, sources, &rows)) {
        let [a, b, c] = row.map(value);
        let (found, expected) = (f32::from_bits(found), f(a, b, c));
        assert!(same(found, expected), "{opcode} {a:e} {b:e} {c:e}: {found:e}, {expected:e}");
    }
}

/// The nearest float32 to what float64 gives, but for `ulps`.
fn check_near(opcode: &str, ulps: f64, f: impl Fn(f64) -> f64) {
    let rows = floats();
    for (row, found) in rows.iter().zip(run::apply32(opcode, 1, &rows)) {
        let (a, found) = (value(row[0]), f32::from_bits(found));
        let expected = f(f64::from(a));
        if expected.is_nan() || expected.abs() > f32::MAX.into() || expected.abs() < f32::MIN_POSITIVE.into() {
            assert!(
                same(found, expected as f32) || found == 0.0 && expected.abs() < 1e-37,
                "{opcode} {a:e}: {found:e}"
            );
            continue;
        }
        let error = (f64::from(found) - expected).abs() / expected.abs();
        assert!(error <= ulps * 2f64.powi(-24), "{opcode} {a:e}: {found:e}, {expected:e}");
    }
}

#[test]
fn arithmetic_is_rounded_once() {
    check("add.f32", 2, |a, b, _| a + b);
    check("sub.rn.f32", 2, |a, b, _| a - b);
    check("mul.f32", 2, |a, b, _| a * b);
    check("div.rn.f32", 2, |a, b, _| a / b);
    check("div.full.f32", 2, |a, b, _| a / b);
    check("fma.rn.f32", 3, f32::mul_add);
    check("sqrt.rn.f32", 1, |a, _, _| a.sqrt());
    check("rcp.rn.f32", 1, |a, _, _| a.recip());
    check("abs.f32", 1, |a, _, _| a.abs());
    check("neg.f32", 1, |a, _, _| -a);
    check("copysign.f32", 2, |a, b, _| b.copysign(a));
    check("add.sat.f32", 2, |a, b, _| if a + b > 0.0 { (a + b).min(1.0) } else { 0.0 });
    let flush = |v: f32| if v.is_subnormal() { 0f32.copysign(v) } else { v };
    check("mul.ftz.f32", 2, |a, b, _| flush(flush(a) * flush(b)));
    check("fma.rn.ftz.f32", 3, |a, b, c| flush(flush(a).mul_add(flush(b), flush(c))));
}

#[test]
fn extremes_prefer_numbers_and_order_zeros() {
    let order = |v: f32| (v, !v.is_sign_negative());
    check("min.f32", 2, |a, b, _| match (a.is_nan(), b.is_nan()) {
        (true, _) => b,
        (_, true) => a,
        _ => {
            if order(a) < order(b) {
                a
            } else {
                b
            }
        }
    });
    check("max.f32", 2, |a, b, _| match (a.is_nan(), b.is_nan()) {
        (true, _) => b,
        (_, true) => a,
        _ => {
            if order(a) > order(b) {
                a
            } else {
                b
            }
        }
    });
}

#[test]
fn approximate_functions_are_near() {
    check_near("ex2.approx.ftz.f32", 1.0, f64::exp2);
    check_near("lg2.approx.f32", 1.0, f64::log2);
    check_near("rsqrt.approx.f32", 1.0, |a| 1.0 / a.sqrt());
    check_near("rcp.approx.ftz.f32", 1.0, |a| 1.0 / a);
    check_near("sin.approx.f32", 1.0, f64::sin);
    check_near("cos.approx.f32", 1.0, f64::cos);
    check_near("tanh.approx.f32", 1.0, f64::tanh);
}

#[test]
fn comparisons_know_the_unordered() {
    type Compare = fn(f32, f32) -> bool;
    let all: [(&str, Compare); 10] = [
        ("lt", |a, b| a < b),
        ("ge", |a, b| a >= b),
        ("eq", |a, b| a == b),
        ("ne", |a, b| a != b && !a.is_nan() && !b.is_nan()),
        ("neu", |a, b| a != b),
        ("equ", |a, b| a == b || a.is_nan() || b.is_nan()),
        ("ltu", |a, b| a < b || a.is_nan() || b.is_nan()),
        ("geu", |a, b| a >= b || a.is_nan() || b.is_nan()),
        ("num", |a, b| !a.is_nan() && !b.is_nan()),
        ("nan", |a, b| a.is_nan() || b.is_nan()),
    ];
    let rows = floats();
    for (name, f) in all {
        let body =
            format!("mov.b32 %f1, %r1;\nmov.b32 %f2, %r2;\nsetp.{name}.f32 %p1, %f1, %f2;\nselp.u64 %d0, 1, 0, %p1;");
        for (row, found) in rows.iter().zip(apply(&body, &rows)) {
            let (a, b) = (value(row[0]), value(row[1]));
            assert_eq!(found == 1, f(a, b), "{name} {a:e} {b:e}");
        }
    }
    let body = "testp.subnormal.f32 %p1, %r1;\ntestp.finite.f32 %p2, %r1;\nselp.u64 %d1, 1, 0, %p1;\nselp.u64 %d2, 2, 0, %p2;\n\
                or.b64 %d0, %d1, %d2;";
    for (row, found) in rows.iter().zip(apply(body, &rows)) {
        let a = value(row[0]);
        assert_eq!(found, u64::from(a.is_subnormal()) + 2 * u64::from(a.is_finite()), "{a:e}");
    }
}

#[test]
fn conversions() {
    let rows = floats();
    let check = |body: &str, f: &dyn Fn(f32) -> u64| {
        for (row, found) in rows.iter().zip(apply(body, &rows)) {
            let a = value(row[0]);
            assert_eq!(found, f(a), "{body} {a:e}");
        }
    };
    let clamp = |a: f64, low: f64, high: f64| if a.is_nan() { 0.0 } else { a.clamp(low, high) };
    let s32 = move |a: f64| clamp(a, -2147483648.0, 2147483647.0) as i64 as u64;
    check("cvt.rzi.s32.f32 %r0, %r1;\ncvt.s64.s32 %d0, %r0;", &|a| s32(f64::from(a).trunc()));
    check("cvt.rni.s32.f32 %r0, %r1;\ncvt.s64.s32 %d0, %r0;", &|a| s32(f64::from(a).round_ties_even()));
    check("cvt.rmi.s32.f32 %r0, %r1;\ncvt.s64.s32 %d0, %r0;", &|a| s32(f64::from(a).floor()));
    check("cvt.rpi.s32.f32 %r0, %r1;\ncvt.s64.s32 %d0, %r0;", &|a| s32(f64::from(a).ceil()));
    check("cvt.rni.s8.f32 %r0, %r1;\ncvt.s64.s32 %d0, %r0;", &|a| {
        clamp(f64::from(a).round_ties_even(), -128.0, 127.0) as i64 as u64
    });
    check("cvt.rzi.u64.f32 %d0, %r1;", &|a| a as u64);
    check("cvt.rni.f32.f32 %f1, %r1;\nmov.b32 %r0, %f1;\nabs.s32 %r0, %r0;\ncvt.u64.u32 %d0, %r0;", &|a| {
        let rounded = a.round_ties_even();
        u64::from((rounded.to_bits() as i32).unsigned_abs())
    });
    check("cvt.f64.f32 %g1, %r1;\nmov.b64 %d0, %g1;", &|a| f64::from(a).to_bits());
    check("cvt.sat.f32.f32 %r0, %r1;\ncvt.u64.u32 %d0, %r0;", &|a| {
        u64::from((if a > 0.0 { a.min(1.0) } else { 0.0 }).to_bits())
    });
    for (row, found) in
        rows.iter().zip(apply("cvt.rn.f32.s32 %f1, %r1;\nmov.b32 %r0, %f1;\ncvt.u64.u32 %d0, %r0;", &rows))
    {
        assert_eq!(found as u32, (row[0] as i32 as f32).to_bits());
    }
    for (row, found) in rows.iter().zip(apply("cvt.rn.f32.u64 %r0, %d1;\ncvt.u64.u32 %d0, %r0;", &rows)) {
        assert_eq!(found as u32, (row[0] as f32).to_bits());
    }
}

/// The value of a float16, by definition.
fn half(bits: u64) -> f64 {
    let (exponent, mantissa) = ((bits >> 10 & 31) as i32, (bits & 1023) as f64);
    let value = match exponent {
        0 => mantissa * 2f64.powi(-24),
        31 => {
            if mantissa == 0.0 {
                f64::INFINITY
            } else {
                f64::NAN
            }
        }
        _ => (1024.0 + mantissa) * 2f64.powi(exponent - 25),
    };
    if bits & 0x8000 != 0 { -value } else { value }
}

/// Whether a float16 is the one nearest to an exact value, even if two are.
fn is_nearest(found: u64, exact: f64) -> bool {
    if exact.is_nan() {
        return half(found).is_nan();
    }
    if exact.abs() >= 65520.0 {
        return half(found) == f64::INFINITY.copysign(exact);
    }
    let distance = |bits: u64| (half(bits) - exact).abs();
    let neighbours = [found.wrapping_sub(1), found + 1].into_iter().filter(|n| half(*n).is_finite());
    half(found).is_finite()
        && neighbours
            .into_iter()
            .all(|n| distance(found) < distance(n) || distance(found) == distance(n) && found & 1 == 0)
}

#[test]
fn halves() {
    // Every float16 once, beside others.
    let rows: Vec<[u64; 3]> = (0..65536u64).map(|a| [a, (a * 40503) & 0xffff, (a * 30011 + 77) & 0xffff]).collect();
    for (row, found) in rows.iter().zip(apply("cvt.f32.f16 %f1, %h1;\nmov.b32 %r0, %f1;\ncvt.u64.u32 %d0, %r0;", &rows))
    {
        assert!(same(value(found), half(row[0]) as f32), "{:#x}", row[0]);
    }
    let low = |body: &str| apply(&format!("{body}\ncvt.u64.u16 %d0, %h0;"), &rows);
    let high = |opcode: &str, sources: usize| {
        let list = &", %r1, %r2, %r3"[..5 * sources];
        let set = "mov.b32 %r1, {%h4, %h1};\nmov.b32 %r2, {%h4, %h2};\nmov.b32 %r3, {%h4, %h3};";
        low(&format!("mov.u16 %h4, 0x3c00;\n{set}\n{opcode} %r0{list};\nmov.b32 {{%h5, %h0}}, %r0;"))
    };
    type Exact = fn(f64, f64, f64) -> f64;
    let checks: [(Vec<u64>, Exact); 6] = [
        (low("add.f16 %h0, %h1, %h2;"), |a, b, _| a + b),
        (low("fma.rn.f16 %h0, %h1, %h2, %h3;"), |a, b, c| a * b + c),
        (high("mul.rn.f16x2", 2), |a, b, _| a * b),
        (high("sub.f16x2", 2), |a, b, _| a - b),
        (high("fma.rn.f16x2", 3), |a, b, c| a * b + c),
        (low("cvt.f32.f16 %f1, %h1;\nmul.f32 %f1, %f1, 0f3EAAAAAB;\ncvt.rn.f16.f32 %h0, %f1;"), |a, _, _| {
            f64::from(a as f32 * f32::from_bits(0x3EAAAAAB))
        }),
    ];
    for (which, (found, f)) in checks.iter().enumerate() {
        for (row, &found) in rows.iter().zip(found) {
            let [a, b, c] = row.map(half);
            assert!(is_nearest(found, f(a, b, c)), "{which}: {a} {b} {c}: {found:#x}, {}", f(a, b, c));
        }
    }
}
