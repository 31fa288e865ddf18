//! What products are given, summed up.

use super::*;

#[test]
fn what_products_are_given_is_summed() {
    let mut random = Random::new(31);
    let (rows, cols) = (5, 96);
    let (x, w, factors) = (random.floats(rows * cols), random.floats(3 * cols), random.floats(cols));
    let part = |name: &str| {
        let bytes: Vec<u8> = w.iter().flat_map(|v| v.to_le_bytes()).collect();
        HostTensor::new(name, Format::F32, 3, cols, Cow::Owned(bytes)).unwrap()
    };
    let parts = [part("q"), part("k")];
    let run = |threads: usize, watch: bool| {
        let mut cpu = Cpu::new(threads).unwrap();
        if watch {
            cpu.watch();
        }
        let linear = Linear { weight: cpu.weight(&parts).unwrap(), bias: None };
        let x = filled(&mut cpu, cols, &x);
        let weight = filled(&mut cpu, cols, &factors);
        let norm = Norm::<Cpu> { kind: NormKind::Rms, weight, bias: None, eps: 1e-5 };
        let mut out = filled(&mut cpu, 6, &vec![0.0; rows * 6]);
        for norm in [None, Some(&norm)] {
            let mut body = |cpu: &mut Cpu| cpu.linear(&mut out, &x, norm, &linear, After::Store, Rows::All);
            cpu.run(&step(rows), None, &mut body).unwrap();
        }
        (cpu.watched(), out.data)
    };
    let (watched, out) = run(2, true);
    let [inputs] = &watched[..] else { panic!("one weight") };
    assert_eq!((&inputs.names[..], inputs.rows), (&["q".to_owned(), "k".to_owned()][..], 2 * rows as u64));
    let normed = |row: &[f32]| -> Vec<f64> {
        let mean = row.iter().map(|x| (*x as f64).powi(2)).sum::<f64>() / cols as f64;
        row.iter().zip(&factors).map(|(x, w)| *x as f64 / (mean + 1e-5).sqrt() * *w as f64).collect()
    };
    let plain = |row: &[f32]| -> Vec<f64> { row.iter().map(|x| *x as f64).collect() };
    assert_eq!(inputs.squares.len(), cols);
    for (i, found) in inputs.squares.iter().enumerate() {
        let given = x.chunks_exact(cols).flat_map(|row| [plain(row), normed(row)]);
        let expected: f64 = given.map(|x| x[i] * x[i]).sum();
        assert!((*found as f64 - expected).abs() < 1e-4 * expected.max(1.0), "{i}: {found}, {expected}");
    }
    // Nobody computes otherwise for being watched.
    let (nothing, unwatched) = run(1, false);
    assert!(nothing.is_empty() && unwatched == out);
}
