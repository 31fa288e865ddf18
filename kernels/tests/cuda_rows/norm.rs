//! norm, softcap, the rows that products read, and gates of products in parts.

use super::{ByHand, Random, assert_near, everywhere, held, step};
use nano_kernels::cuda::{Arg, Buf, Cuda, Driver};
use nano_kernels::testing::exact_gated;
use nano_kernels::{Act, After, Backend, Norm, NormKind, Precision};

/// The definition; the last value is how much rounding may move a result.
fn definition(x: &[f32], kind: Option<NormKind>, weight: &[f32], bias: Option<&[f32]>, eps: f64) -> Vec<(f64, f64)> {
    let n = x.len() as f64;
    let mean = if kind == Some(NormKind::Layer) { x.iter().map(|v| *v as f64).sum::<f64>() / n } else { 0.0 };
    let square = x.iter().map(|v| (*v as f64 - mean).powi(2)).sum::<f64>() / n;
    let factor = if kind.is_some() { 1.0 / (square + eps).sqrt() } else { 1.0 };
    (0..x.len())
        .map(|i| {
            let y = (x[i] as f64 - mean) * factor * if kind.is_some() { weight[i] as f64 } else { 1.0 };
            let size = (x[i].abs() as f64 + mean.abs()) * factor * weight[i].abs() as f64;
            let b = bias.map_or(0.0, |b| b[i] as f64);
            (y + b, 2e-6 * size + 2e-7 * b.abs() + 1e-7)
        })
        .collect()
}

fn precision(half: bool) -> Precision {
    if half { Precision::Half } else { Precision::Full }
}

fn row<D: Driver>(cuda: &mut Cuda<D>, values: &[f32]) -> Buf {
    let mut buf = cuda.buf(1, values.len(), Precision::Full).unwrap();
    cuda.write(&mut buf, values).unwrap();
    buf
}

fn norms<D: Driver>(cuda: &mut Cuda<D>) -> Vec<f32> {
    let mut random = Random::new(1);
    let mut seen = Vec::new();
    for (case, cols) in [8, 20, 64, 100, 577, 1024, 2048, 5000].into_iter().enumerate() {
        // 3 rows are padded to 4, 9 are not.
        let n = if case % 2 == 0 { 3 } else { 9 };
        let padded = if n == 3 { 4 } else { 9 };
        for variant in 0..6 {
            let (x_half, out_half) = (variant % 2 == 0, variant / 2 % 2 == 0);
            let kind = if variant % 3 == 0 { NormKind::Rms } else { NormKind::Layer };
            let after = if variant % 3 == 1 { After::Add } else { After::Store };
            // Layer norms must not lose a spread to a large mean.
            let values: Vec<f32> = random.floats((padded + 1) * cols).iter().map(|v| 5.0 + 2.0 * v).collect();
            let x = held(&values, x_half);
            let mut weight = random.floats(cols);
            weight[cols / 2] = 1e6;
            let bias = (variant > 2).then(|| random.floats(cols));
            let before = held(&random.floats((padded + 1) * cols), out_half);
            let norm = Norm { kind, weight: row(cuda, &weight), bias: bias.as_ref().map(|b| row(cuda, b)), eps: 1e-5 };
            let mut x_buf = cuda.buf(padded + 1, cols, precision(x_half)).unwrap();
            let mut out = cuda.buf(padded + 1, cols, precision(out_half)).unwrap();
            cuda.write(&mut x_buf, &values).unwrap();
            cuda.write(&mut out, &before).unwrap();
            cuda.run(&step(&vec![0; n]), None, &mut |b| b.norm(&mut out, &x_buf, &norm, after)).unwrap();
            let found = cuda.read(&out, padded + 1).unwrap().to_vec();
            for r in 0..n {
                let exact = definition(&x[r * cols..][..cols], Some(kind), &weight, bias.as_deref(), 1e-5);
                for (c, (exact, error)) in exact.into_iter().enumerate() {
                    let old = if after == After::Add { before[r * cols + c] as f64 } else { 0.0 };
                    let what = format!("{cols} columns, variant {variant}, row {r}, column {c}");
                    // The last sums round as well.
                    let error = error + 2e-7 * (exact.abs() + old.abs());
                    assert_near(found[r * cols + c], exact + old, error, out_half, &what);
                }
            }
            assert_eq!(found[padded * cols..], before[padded * cols..], "rows past the step");
            seen.extend(found);
        }
    }
    seen
}

#[test]
fn norms_are_their_definition() {
    everywhere!(norms);
}

/// What `prepare` launches: rows gathered, normalised or not, as f16 with zeros up to whole eight.
fn gathered<D: Driver>(cuda: &mut Cuda<D>) -> Vec<f32> {
    let hand = ByHand(cuda.driver());
    let mut random = Random::new(2);
    let mut seen = Vec::new();
    for cols in [1usize, 8, 20, 100, 1030] {
        for variant in 0..4 {
            let (rows, stride, end) = (6, (cols + 15) / 8 * 8, cols.next_multiple_of(8));
            let kind = [None, Some(NormKind::Rms), Some(NormKind::Layer), None][variant];
            let half = variant % 2 == 1;
            let mut values = held(&random.floats(rows * stride), half);
            values[3 * stride] = if half { 65504.0 } else { 1e6 };
            // What lies between the columns must not be seen.
            (0..rows).for_each(|r| values[r * stride + cols..(r + 1) * stride].fill(9.0));
            let mut weight = random.floats(end);
            weight[cols..].fill(0.0);
            let gather = [3u32, 0, 5, 3];
            let x = if half { hand.halves(&values) } else { hand.floats(&values) };
            let weight_at = if kind.is_some() { hand.floats(&weight) } else { 0 };
            let gather_at = hand.upload(&gather.iter().flat_map(|g| g.to_le_bytes()).collect::<Vec<_>>());
            let out = hand.halves(&vec![7.0; 5 * end]);
            let args = [
                Arg::Ptr(x),
                Arg::U32(u32::from(half)),
                Arg::U32(stride as u32),
                Arg::Ptr(gather_at),
                Arg::U32(cols as u32),
                Arg::U32([0, 1, 2, 0][variant]),
                Arg::Ptr(weight_at),
                Arg::Ptr(0),
                Arg::F32(1e-6),
                Arg::Ptr(out),
                Arg::U32(1),
                Arg::U32(end as u32),
                Arg::U32(0),
            ];
            hand.launch("norm_rows", [4, 1, 1], 256, &args);
            let found = hand.download_halves(out, 5 * end);
            for (n, from) in gather.into_iter().enumerate() {
                let row = &values[from as usize * stride..][..cols];
                for (c, (exact, error)) in definition(row, kind, &weight, None, 1e-6).into_iter().enumerate() {
                    let error = if kind.is_some() { error } else { 0.0 };
                    assert_near(
                        found[n * end + c],
                        exact,
                        error,
                        true,
                        &format!("{cols} columns, {kind:?}, column {c}"),
                    );
                }
                assert!(found[n * end + cols..][..end - cols].iter().all(|v| *v == 0.0), "zeros between rows");
            }
            assert!(found[4 * end..].iter().all(|v| *v == 7.0), "the row after the last");
            seen.extend(found);
        }
    }
    seen
}

#[test]
fn rows_are_gathered_and_rounded_for_products() {
    everywhere!(gathered);
}

fn softcaps<D: Driver>(cuda: &mut Cuda<D>) -> Vec<f32> {
    let mut random = Random::new(3);
    let mut seen = Vec::new();
    for (cols, cap, half) in [(8, 30.0, false), (1001, 50.0, false), (3000, 30.0, true)] {
        let mut values: Vec<f32> = random.floats(5 * cols).iter().map(|v| v * v * v * 30.0).collect();
        values[..8].copy_from_slice(&[0.0, -0.0, 1e-6, -1e-4, 1e30, -1e30, 7.4, -7.6]);
        let mut x = cuda.buf(5, cols, precision(half)).unwrap();
        cuda.write(&mut x, &values).unwrap();
        let values = held(&values, half);
        let step = nano_kernels::Step { logits: vec![0, 2, 3], ..step(&[0; 9]) };
        cuda.run(&step, None, &mut |b| b.softcap(&mut x, cap)).unwrap();
        let found = cuda.read(&x, 5).unwrap().to_vec();
        for (i, v) in values.iter().enumerate() {
            if i < 3 * cols {
                let exact = cap as f64 * (*v as f64 / cap as f64).tanh();
                assert_near(found[i], exact, 5e-7 * exact.abs(), half, &format!("softcap of {v} at {cap}"));
            } else {
                assert_eq!(found[i], *v, "rows past the logits");
            }
        }
        seen.extend(found);
    }
    seen
}

#[test]
fn softcaps_are_their_definition() {
    everywhere!(softcaps);
}

fn gates<D: Driver>(cuda: &mut Cuda<D>) -> Vec<f32> {
    let hand = ByHand(cuda.driver());
    let mut random = Random::new(4);
    let mut seen = Vec::new();
    for (outs, half) in [(7usize, false), (300, true), (300, false)] {
        for (number, act) in [Act::Silu, Act::Gelu, Act::GeluTanh, Act::Clamped].into_iter().enumerate() {
            let (rows, y_stride, stride) = (2usize, (2 * outs).next_multiple_of(8), outs.next_multiple_of(8));
            let mut y: Vec<f32> = random.floats(rows * y_stride).iter().map(|v| v * 10.0).collect();
            y[..7].copy_from_slice(&[0.0, -90.0, 90.0, -1e30, 1e10, -20.0, 1e-5]);
            y[outs..outs + 7].fill(1.0);
            // What is no number shows.
            (y[y_stride], y[y_stride + outs + 1]) = (f32::NAN, f32::NAN);
            let y_at = hand.floats(&y);
            let out = if half { hand.halves(&vec![7.0; 2 * stride]) } else { hand.floats(&vec![7.0; 2 * stride]) };
            let numbers =
                [y_stride as u32, stride as u32, u32::from(half), outs as u32, 3 | (number as u32) << 8].map(Arg::U32);
            let args = [Arg::Ptr(y_at), numbers[0], Arg::Ptr(out), numbers[1], numbers[2], numbers[3], numbers[4]];
            hand.launch("glu", [outs.div_ceil(256) as u32, 2, 1], 256, &args);
            let found = match half {
                true => hand.download_halves(out, 2 * stride),
                false => {
                    let bytes = hand.download(out, 8 * stride);
                    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
                }
            };
            for (n, j) in (0..rows).flat_map(|n| (0..outs).map(move |j| (n, j))) {
                let (gate, up) = (y[n * y_stride + j] as f64, y[n * y_stride + outs + j] as f64);
                if gate.is_nan() || up.is_nan() {
                    assert!(found[n * stride + j].is_nan(), "{act:?} of {gate}, by {up}");
                    continue;
                }
                let exact = exact_gated(act, gate, up);
                let error = if act == Act::Gelu { 5e-7 * (gate * up).abs() } else { 4e-6 * exact.abs() };
                let what = format!("{act:?} of {gate}, by {up}");
                assert_near(found[n * stride + j], exact, error + 1e-7 * up.abs(), half, &what);
            }
            assert!(found[outs..stride].iter().all(|v| *v == 7.0), "what lies past the columns");
            seen.extend(found);
        }
    }
    seen
}

#[test]
fn gates_are_their_definition() {
    everywhere!(gates);
}
