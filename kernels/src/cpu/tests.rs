//! Whole operations: every instruction set and thread count against the scalar definition, bit for bit; the definition
//! against plain arithmetic in double precision; one row against many.

use super::*;
use crate::testing::Random;
use crate::{Act, Group, KvFormat, NO_SLOT, NormKind, PAGE_ROWS, Pairing, Pick, Row, SequenceRows};
use std::borrow::Cow;

mod attention;
mod experts;
mod order;
mod pages;
mod rows;
mod watch;

const GUARD: f32 = 12345.0;

fn step(rows: usize) -> Step {
    let row = |i: usize| Row { token: 0, position: i as u32, slot: NO_SLOT, sequence: 0, visible: i as u32 + 1 };
    Step {
        rows: (0..rows).map(row).collect(),
        sequences: vec![SequenceRows { pages: (0..rows.div_ceil(PAGE_ROWS) as u32).collect() }],
        logits: vec![],
        pick: Pick::None,
    }
}

/// A buffer with values, 1 row or more of `cols`.
fn filled(cpu: &mut Cpu, cols: usize, values: &[f32]) -> Buf {
    let mut buf = cpu.buf(values.len() / cols, cols, Precision::Full).unwrap();
    cpu.write(&mut buf, values).unwrap();
    buf
}

struct Case<'a> {
    parts: &'a [HostTensor<'a>],
    bias: Option<&'a [f32]>,
    norm: Option<(NormKind, &'a [f32])>,
    x: &'a [f32],
    rows: usize,
    after: After,
}

/// Runs a product; the output starts as 0.5 everywhere and has a guard row at its end.
fn product(isa: Isa, threads: usize, case: &Case<'_>) -> Vec<f32> {
    let mut cpu = Cpu::with_isa(threads, isa).unwrap();
    let weight = cpu.weight(case.parts).unwrap();
    let (outs, cols) = (weight.rows, weight.cols);
    let width = if let After::Glu(_) = case.after { outs / 2 } else { outs };
    let x = filled(&mut cpu, cols, case.x);
    let bias = case.bias.map(|b| filled(&mut cpu, outs, b));
    let norm =
        case.norm.map(|(kind, w)| Norm::<Cpu> { kind, weight: filled(&mut cpu, cols, w), bias: None, eps: 1e-5 });
    let mut values = vec![0.5; case.rows * width];
    values.resize((case.rows + 1) * width, GUARD);
    let mut out = filled(&mut cpu, width, &values);
    let linear = Linear { weight, bias };
    cpu.run(&step(case.rows), None, &mut |cpu| cpu.linear(&mut out, &x, norm.as_ref(), &linear, case.after, Rows::All))
        .unwrap();
    let (y, guard) = out.data.split_at(case.rows * width);
    assert!(guard.iter().all(|g| *g == GUARD), "a store past the last row");
    y.to_vec()
}

fn error(found: &[f32], exact: &[f64]) -> f64 {
    let signal: f64 = exact.iter().map(|e| e * e).sum();
    let noise: f64 = found.iter().zip(exact).map(|(f, e)| (*f as f64 - e).powi(2)).sum();
    noise / signal
}

const FORMATS: [(Format, f64); 12] = [
    (Format::F32, 1e-12),
    (Format::F16, 1e-12),
    (Format::Bf16, 1e-12),
    (Format::Q8_0, 3e-4),
    (Format::Q4_0, 3e-4),
    (Format::Q4_1, 3e-4),
    (Format::Q4K, 1e-3),
    (Format::Q6K, 3e-4),
    (Format::Int4(Group::G32), 1e-3),
    (Format::Int4(Group::G128), 1e-3),
    (Format::Int8(Group::G64), 1e-3),
    (Format::Mxfp4, 3e-4),
];

#[test]
fn products_are_near_the_exact_ones_and_equal_on_every_machine() {
    let mut random = Random::new(11);
    for (format, limit) in FORMATS {
        let cols = if format.block_len() > 32 { 2 * format.block_len() } else { 96 };
        for (rows, outs) in [(1, [40, 24]), (2, [16, 16]), (3, [7, 16]), (6, [40, 40]), (21, [33, 33])] {
            let tensor = |random: &mut Random, n| {
                HostTensor::new("w", format, n, cols, Cow::Owned(random.weight(format, n, cols))).unwrap()
            };
            let parts = [tensor(&mut random, outs[0]), tensor(&mut random, outs[1])];
            let all = outs[0] + outs[1];
            let (x, bias) = (random.floats(rows * cols), random.floats(all));
            let factors = random.floats(cols);
            let mut afters = vec![After::Store, After::Add, After::Act(Act::Silu)];
            if outs[0] == outs[1] {
                afters.push(After::Glu(Act::GeluTanh));
            }
            for (i, after) in afters.into_iter().enumerate() {
                let norm = (i % 2 == 1).then_some((NormKind::Rms, &factors[..]));
                let case = Case { parts: &parts, bias: (i != 0).then_some(&bias), norm, x: &x, rows, after };
                let scalar = product(Isa::Scalar, 1, &case);
                for isa in Isa::available() {
                    for threads in [1, 2] {
                        let y = product(isa, threads, &case);
                        assert_eq!(y, scalar, "{} {threads} threads {format} {rows} rows {after:?}", isa.name());
                    }
                }
                let exact = exact_product(&case, cols, all);
                let e = error(&scalar, &exact);
                assert!(e < limit, "{format} {rows} rows {after:?}: error {e:e}");
                // One row at a time gives the same bits.
                for r in 0..rows {
                    let alone = Case { x: &x[r * cols..(r + 1) * cols], rows: 1, ..case };
                    let width = scalar.len() / rows;
                    assert_eq!(product(Isa::best(), 2, &alone), scalar[r * width..(r + 1) * width], "{format} row {r}");
                }
            }
        }
    }
}

fn exact_product(case: &Case<'_>, cols: usize, all: usize) -> Vec<f64> {
    let weights: Vec<f32> = case.parts.iter().flat_map(|p| p.to_f32()).collect();
    let mut exact = Vec::new();
    for x in case.x.chunks_exact(cols) {
        let square = x.iter().map(|x| (*x as f64).powi(2)).sum::<f64>() / cols as f64;
        let x: Vec<f64> = match case.norm {
            Some((_, w)) => x.iter().zip(w).map(|(x, w)| *x as f64 / (square + 1e-5).sqrt() * *w as f64).collect(),
            None => x.iter().map(|x| *x as f64).collect(),
        };
        let y: Vec<f64> = (0..all)
            .map(|o| {
                let dot: f64 = x.iter().zip(&weights[o * cols..]).map(|(x, w)| x * *w as f64).sum();
                dot + case.bias.map_or(0.0, |b| b[o] as f64)
            })
            .collect();
        match case.after {
            After::Store => exact.extend(y),
            After::Add => exact.extend(y.iter().map(|y| y + 0.5)),
            After::Act(_) => exact.extend(y.iter().map(|y| y / (1.0 + (-y).exp()))),
            After::Glu(_) => exact.extend((0..all / 2).map(|o| {
                let u = (2.0 / std::f64::consts::PI).sqrt() * (y[o] + 0.044715 * y[o].powi(3));
                0.5 * y[o] * (1.0 + u.tanh()) * y[all / 2 + o]
            })),
        }
    }
    exact
}

#[test]
fn saturating_inputs_stay_exact() {
    // Extreme quants against extreme activations: 16-bit sums must not overflow.
    let zeros = [Format::Int4(Group::G32), Format::Int8(Group::G128)];
    for format in [Format::Q8_0, Format::Q4_0, Format::Mxfp4, Format::Q4_1, Format::Q6K].into_iter().chain(zeros) {
        let cols = 256;
        let mut bytes = vec![0x80; 16 * format.row_bytes(cols).unwrap()];
        if format != Format::Q8_0 {
            bytes.fill(0xff);
        }
        for block in bytes.chunks_exact_mut(format.block_bytes()) {
            let scales: &[usize] = match format {
                Format::Q4_1 => &[0, 2],
                Format::Q6K => &[208],
                _ => &[0],
            };
            for at in scales {
                block[*at..at + 2].copy_from_slice(&half::f16::from_f32(1.0).to_le_bytes());
            }
            match format {
                Format::Int4(_) | Format::Int8(_) => block[2..4].fill(0),
                // 6, the greatest.
                Format::Mxfp4 => {
                    block.fill(0x77);
                    block[0] = 127;
                }
                _ => {}
            }
        }
        let part = [HostTensor::new("w", format, 16, cols, Cow::Owned(bytes)).unwrap()];
        for sign in [1.0, -1.0] {
            for rows in [1, 8] {
                let x = vec![sign * 127.0; rows * cols];
                let case = Case { parts: &part, bias: None, norm: None, x: &x, rows, after: After::Store };
                let expected: f32 = part[0].to_f32()[..cols].iter().map(|w| w * sign * 127.0).sum();
                for isa in Isa::available() {
                    let y = product(isa, 1, &case);
                    assert!(y.iter().all(|y| *y == expected), "{} {format}: {} not {expected}", isa.name(), y[0]);
                }
            }
        }
    }
}

#[test]
fn every_exponent_of_mxfp4_is_exact() {
    // Row e has exponent e and each of the sixteen floats, twice.
    let bytes = (0..=255).flat_map(|e| std::iter::once(e).chain((0..16).map(|i| i | (15 - i) << 4))).collect();
    let part = [HostTensor::new("w", Format::Mxfp4, 256, 32, Cow::Owned(bytes)).unwrap()];
    let weights = part[0].to_f32();
    for column in 0..32 {
        for rows in [1, 8] {
            // Activations whose scale is 1 and whose other values are 0.
            let x: Vec<f32> = (0..rows * 32).map(|i| if i % 32 == column { 127.0 } else { 0.0 }).collect();
            let case = Case { parts: &part, bias: None, norm: None, x: &x, rows, after: After::Store };
            for isa in Isa::available() {
                let y = product(isa, 1, &case);
                for (e, (y, w)) in y.iter().zip(weights.chunks_exact(32)).enumerate() {
                    assert_eq!(*y, w[column] * 127.0, "{} exponent {e} column {column}", isa.name());
                }
            }
        }
    }
}

#[test]
fn steps_that_are_not_whole_are_refused() {
    let mut cpu = Cpu::new(1).unwrap();
    let layout = PageLayout { pages: 1, layers: 1, kv_heads: 1, head_dim: 4, format: KvFormat::F32 };
    let a = Attend { heads: 1, kv_heads: 1, head_dim: 4, scale: 1.0, window: None, softcap: None };
    let kv = cpu.pages(layout).unwrap();
    let (q, mut out) = (filled(&mut cpu, 4, &[1.0; 12]), filled(&mut cpu, 4, &[1.0; 12]));
    let mut bad = |change: &dyn Fn(&mut Step), word: &str| {
        let mut step = step(3);
        change(&mut step);
        let error = cpu.run(&step, None, &mut |cpu| cpu.attend(&mut out, &q, &kv, 0, a, None)).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    };
    bad(&|s| s.rows[1].sequence = 4, "sequence");
    bad(&|s| s.rows[0].sequence = 1, "sequence");
    bad(&|s| s.rows[1].visible = 0, "visible");
    bad(&|s| s.rows[2].visible = 33, "visible");
    bad(&|s| s.sequences[0].pages.clear(), "visible");
    bad(&|s| s.logits = vec![3], "logits");
    bad(&|s| s.logits = vec![7, 1], "logits");
    // Encoders have no cache: without pages a step runs as long as nobody looks into the cache.
    let mut encoder = step(3);
    encoder.sequences[0].pages.clear();
    cpu.run(&encoder, None, &mut |_| Ok(())).unwrap();
}
