//! `embed`, `norm`, `softcap` and `pick`: what works on rows alone.

use super::*;
use crate::PREV;

/// A step of rows with these tokens, in which these rows want logits.
fn tokens(tokens: &[u32], logits: &[u32], pick: Pick) -> Step {
    let row = |token: &u32| Row { token: *token, position: 0, slot: NO_SLOT, sequence: 0, visible: 1 };
    Step {
        rows: tokens.iter().map(row).collect(),
        sequences: vec![SequenceRows::default()],
        logits: logits.to_vec(),
        pick,
    }
}

#[test]
fn tokens_come_from_the_table_the_shelf_and_the_run_before() {
    let mut random = Random::new(21);
    let (rows, cols) = (20, 64);
    let host = HostTensor::new("e", Format::Q8_0, rows, cols, Cow::Owned(random.weight(Format::Q8_0, rows, cols)));
    let host = host.unwrap();
    let (table, on_shelf) = (host.to_f32(), random.floats(2 * cols));
    for isa in Isa::available() {
        let mut cpu = Cpu::with_isa(1, isa).unwrap();
        let weight = cpu.weight(std::slice::from_ref(&host)).unwrap();
        let shelf = filled(&mut cpu, cols, &on_shelf);
        // Logits whose best are 7, then 19, then 3.
        let mut values = random.floats(3 * rows);
        [7, 19, 3].iter().enumerate().for_each(|(r, best)| values[r * rows + best] = 50.0);
        let logits = filled(&mut cpu, rows, &values);
        let mut x = filled(&mut cpu, cols, &vec![0.0; 6 * cols]);
        let mut run = |step: &Step, with_shelf: bool| -> Result<Vec<f32>> {
            x.data.fill(GUARD);
            cpu.run(step, None, &mut |cpu| {
                cpu.embed(&mut x, &weight, 2.5, with_shelf.then_some(&shelf))?;
                cpu.pick(&logits)
            })?;
            assert!(x.data[step.rows.len() * cols..].iter().all(|g| *g == GUARD), "a store past the last row");
            Ok(x.data[..step.rows.len() * cols].to_vec())
        };
        let scaled = |token: usize| -> Vec<f32> { table[token * cols..][..cols].iter().map(|x| x * 2.5).collect() };
        let mut word = |step: &Step, with_shelf: bool| run(step, with_shelf).unwrap_err().to_string();
        // Nothing was picked before the first run.
        assert!(word(&tokens(&[PREV], &[], Pick::None), true).contains("below 0"));
        for (token, with_shelf, most) in [(20, false, "below 20"), (22, true, "below 22"), (PREV - 1, true, "below 22")]
        {
            let error = word(&tokens(&[0, token], &[], Pick::None), with_shelf);
            assert!(error.contains("token") && error.contains(most), "{error}");
        }
        for pick in [Pick::Argmax, Pick::TopK(3)] {
            let first = run(&tokens(&[0, 21, 19, 20], &[0, 1, 3], pick), true).unwrap();
            let expected = [scaled(0), on_shelf[cols..].to_vec(), scaled(19), on_shelf[..cols].to_vec()].concat();
            assert_eq!(first, expected);
            let second = run(&tokens(&[PREV + 2, PREV, 5, PREV + 1], &[], Pick::None), false).unwrap();
            assert_eq!(second, [scaled(3), scaled(7), scaled(5), scaled(19)].concat());
            // The run before picked nothing.
            assert!(run(&tokens(&[PREV], &[], Pick::None), true).is_err());
            run(&tokens(&[1, 2], &[0, 1], pick), true).unwrap();
            let error = run(&tokens(&[PREV + 2], &[], Pick::None), true).unwrap_err().to_string();
            assert!(error.contains("below 2"), "{error}");
            assert!(run(&tokens(&[u32::MAX], &[], Pick::None), true).is_err());
        }
    }
}

#[test]
fn norms_are_stored_or_added() {
    let mut random = Random::new(22);
    for (rows, cols) in [(1, 1), (3, 17), (9, 64), (40, 577)] {
        let (x, weight, bias) = (random.floats(rows * cols), random.floats(cols), random.floats(cols));
        for (kind, biased) in [(NormKind::Rms, false), (NormKind::Layer, true), (NormKind::Layer, false)] {
            for after in [After::Store, After::Add] {
                let run = |isa, threads| {
                    let mut cpu = Cpu::with_isa(threads, isa).unwrap();
                    let input = filled(&mut cpu, cols, &x);
                    let mut values = vec![0.25; rows * cols];
                    values.resize((rows + 1) * cols, GUARD);
                    let mut out = filled(&mut cpu, cols, &values);
                    let bias = biased.then(|| filled(&mut cpu, cols, &bias));
                    let norm = Norm { kind, weight: filled(&mut cpu, cols, &weight), bias, eps: 1e-5 };
                    cpu.run(&step(rows), None, &mut |cpu| cpu.norm(&mut out, &input, &norm, after)).unwrap();
                    let (y, guard) = out.data.split_at(rows * cols);
                    assert!(guard.iter().all(|g| *g == GUARD), "a store past the last row");
                    y.to_vec()
                };
                let scalar = run(Isa::Scalar, 1);
                for (x, y) in x.chunks_exact(cols).zip(scalar.chunks_exact(cols)) {
                    let total: f64 = x.iter().map(|x| *x as f64).sum();
                    let mean = if kind == NormKind::Rms { 0.0 } else { total / cols as f64 };
                    let var = x.iter().map(|x| (*x as f64 - mean).powi(2)).sum::<f64>() / cols as f64;
                    for i in 0..cols {
                        let b = if biased { bias[i] as f64 } else { 0.0 };
                        let exact = (x[i] as f64 - mean) / (var + 1e-5).sqrt() * weight[i] as f64 + b;
                        let exact = exact + if after == After::Add { 0.25 } else { 0.0 };
                        assert!((y[i] as f64 - exact).abs() < 1e-5 * exact.abs().max(1.0), "{kind:?} {after:?}");
                    }
                }
                for isa in Isa::available() {
                    for threads in [1, 2, 3] {
                        assert_eq!(run(isa, threads), scalar, "{} {kind:?} {after:?} {rows} x {cols}", isa.name());
                    }
                }
            }
        }
    }
}

#[test]
fn caps_hold_on_the_logits_rows_alone() {
    let mut random = Random::new(23);
    let (cols, cap) = (3001, 2.0);
    let x: Vec<f32> = random.floats(3 * cols).iter().map(|x| x * 3.0).collect();
    let run = |isa, threads| {
        let mut cpu = Cpu::with_isa(threads, isa).unwrap();
        let mut y = filled(&mut cpu, cols, &x);
        let step = tokens(&[0; 5], &[1, 4], Pick::None);
        cpu.run(&step, None, &mut |cpu| cpu.softcap(&mut y, cap)).unwrap();
        y.data
    };
    let scalar = run(Isa::Scalar, 1);
    for (x, y) in x.iter().zip(&scalar[..2 * cols]) {
        let exact = cap as f64 * (*x as f64 / cap as f64).tanh();
        assert!((*y as f64 - exact).abs() <= 5e-7 * exact.abs(), "{x}: {y}, not {exact}");
    }
    assert_eq!(scalar[2 * cols..], x[2 * cols..]);
    for isa in Isa::available() {
        for threads in [1, 2, 3] {
            assert_eq!(run(isa, threads), scalar, "{} {threads} threads", isa.name());
        }
    }
}

/// The first `k` of all values, sorted by value, then by id.
fn sorted(row: &[f32], k: usize) -> Vec<(u32, f32)> {
    let number = |x: &f32| if x.is_nan() { f32::INFINITY } else { *x };
    let mut all: Vec<(u32, f32)> = row.iter().enumerate().map(|(i, x)| (i as u32, number(x))).collect();
    all.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap().then(a.0.cmp(&b.0)));
    all.truncate(k);
    all
}

/// What is picked from rows of logits.
fn picked(isa: Isa, threads: usize, cols: usize, values: &[f32], pick: Pick) -> Result<Vec<(u32, f32)>> {
    let mut cpu = Cpu::with_isa(threads, isa).unwrap();
    let logits = filled(&mut cpu, cols, values);
    let rows: Vec<u32> = (0..(values.len() / cols) as u32).collect();
    cpu.run(&tokens(&vec![0; rows.len()], &rows, pick), None, &mut |cpu| cpu.pick(&logits))?;
    Ok(cpu.picks(0)?.iter().map(|c| (c.id, c.logit)).collect())
}

#[test]
fn picks_are_the_greatest_and_of_equals_the_first() {
    let mut random = Random::new(24);
    let (nan, low) = (f32::NAN, f32::NEG_INFINITY);
    for cols in [64, 65, 100, 129, 4099] {
        let mut rows = vec![
            random.floats(cols),
            // Few different values: ties everywhere.
            (0..cols).map(|_| (random.next() % 3) as f32).collect(),
            vec![nan; cols],
            vec![low; cols],
            (0..cols).map(|i| i as f32).collect(),
            (0..cols).map(|i| -(i as f32)).collect(),
            (0..cols).map(|i| if i % 2 == 0 { -0.0 } else { 0.0 }).collect(),
            (0..cols).map(|_| if random.next().is_multiple_of(2) { nan } else { random.float() }).collect(),
            (0..cols).map(|i| if i + 3 < cols { nan } else { low }).collect(),
        ];
        // The greatest at every place that a vector, a glance and the end could hide.
        for at in [0, 15, 16, 62, 63, cols / 2, cols - 2, cols - 1] {
            let mut row = random.floats(cols);
            row[at] = f32::INFINITY;
            rows.push(row);
        }
        for pick in [Pick::Argmax, Pick::TopK(1), Pick::TopK(2), Pick::TopK(40), Pick::TopK(64)] {
            let expected: Vec<(u32, f32)> = rows.iter().flat_map(|row| sorted(row, pick.count())).collect();
            for isa in Isa::available() {
                for threads in [1, 2, 3] {
                    let found = picked(isa, threads, cols, &rows.concat(), pick).unwrap();
                    assert_eq!(found, expected, "{} {pick:?} of {cols}", isa.name());
                }
            }
        }
    }
}

#[test]
fn picks_of_sizes_that_do_not_fit_are_refused_or_empty() {
    let row = [3.0, 1.0, 2.0];
    for pick in [Pick::TopK(4), Pick::TopK(u32::MAX)] {
        let error = picked(Isa::best(), 1, 3, &row, pick).unwrap_err().to_string();
        assert!(error.contains("at most 3"), "{error}");
    }
    let error = picked(Isa::best(), 1, 100, &[0.0; 100], Pick::TopK(65)).unwrap_err().to_string();
    assert!(error.contains("at most 64"), "{error}");
    assert_eq!(picked(Isa::best(), 1, 3, &row, Pick::TopK(3)).unwrap(), [(0, 3.0), (2, 2.0), (1, 1.0)]);
    assert!(picked(Isa::best(), 1, 3, &row, Pick::TopK(0)).unwrap().is_empty());
    assert!(picked(Isa::best(), 1, 3, &row, Pick::None).unwrap().is_empty());
    assert!(picked(Isa::best(), 2, 3, &[], Pick::Argmax).unwrap().is_empty());
}

#[test]
fn picks_are_kept_for_one_run_more() {
    let mut cpu = Cpu::new(2).unwrap();
    let best = |cpu: &mut Cpu, at: usize, pick| {
        let mut values = [0.0; 70];
        values[at] = 1.0;
        let logits = filled(cpu, 70, &values);
        cpu.run(&tokens(&[0], &[0], pick), None, &mut |cpu| cpu.pick(&logits)).unwrap();
        [0, 1].map(|ago| cpu.picks(ago).unwrap().iter().map(|c| c.id).collect::<Vec<_>>())
    };
    assert_eq!(best(&mut cpu, 5, Pick::Argmax), [vec![5], vec![]]);
    assert_eq!(best(&mut cpu, 9, Pick::TopK(2)), [vec![9, 0], vec![5]]);
    assert_eq!(best(&mut cpu, 8, Pick::None), [vec![], vec![9, 0]]);
    assert_eq!(best(&mut cpu, 7, Pick::Argmax), [vec![7], vec![]]);
    assert_eq!(best(&mut cpu, 6, Pick::Argmax), [vec![6], vec![7]]);
    // A step that is refused forgets nothing; one that does not pick has picked nothing.
    let mut refused = tokens(&[0], &[1], Pick::Argmax);
    assert!(cpu.run(&refused, None, &mut |_| Ok(())).is_err());
    assert_eq!(cpu.picks(0).unwrap()[0].id, 6);
    refused.logits.clear();
    cpu.run(&refused, None, &mut |_| Ok(())).unwrap();
    assert_eq!((cpu.picks(0).unwrap().len(), cpu.picks(1).unwrap()[0].id), (0, 6));
    assert!(cpu.picks(2).is_err());
}
