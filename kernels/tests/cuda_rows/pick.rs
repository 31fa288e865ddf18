//! pick: greatest logits, ties, what is no number; and what becomes of picks on the host.

use super::{Random, emulated, everywhere, step};
use nano_kernels::cuda::{Cuda, Driver};
use nano_kernels::{Backend, Candidate, Pick, Precision, Step};

/// The definition: a stable sort by value.
fn definition(row: &[f32], k: usize) -> Vec<Candidate> {
    let value = |x: f32| if x.is_nan() { f32::INFINITY } else { x };
    let mut all: Vec<Candidate> =
        row.iter().enumerate().map(|(id, x)| Candidate { id: id as u32, logit: value(*x) }).collect();
    all.sort_by(|a, b| b.logit.partial_cmp(&a.logit).unwrap());
    all.truncate(k);
    all
}

/// Rows of every kind.
fn logits(random: &mut Random, kind: usize, cols: usize) -> Vec<f32> {
    let mut row = random.floats(cols);
    match kind {
        0 => row.iter_mut().for_each(|x| *x *= 1e-3),
        // Few different values: ties everywhere, also of 0 and -0.
        1 => row.iter_mut().for_each(|x| *x = (*x * 1.4).round() * 0.5),
        2 => row.iter_mut().step_by(2).for_each(|x| *x = f32::NAN),
        3 => row.fill(f32::NAN),
        4 => row.fill(-0.0),
        5 => {
            row.fill(f32::NEG_INFINITY);
            row[cols / 2] = -3e38;
            row[cols - 1] = f32::NAN;
        }
        6 => row[cols - 1] = f32::INFINITY,
        _ => row.iter_mut().enumerate().for_each(|(i, x)| *x = -(i as f32)),
    }
    row
}

fn check<D: Driver>(cuda: &mut Cuda<D>, cols: usize, rows: usize, picks: &[Pick], first: usize) -> Vec<f32> {
    let mut random = Random::new(cols as u64);
    let values: Vec<f32> = (0..rows).flat_map(|r| logits(&mut random, (r + first) % 8, cols)).collect();
    let mut buf = cuda.buf(rows.next_power_of_two(), cols, Precision::Full).unwrap();
    cuda.write(&mut buf, &values).unwrap();
    let mut seen = Vec::new();
    for pick in picks {
        let step = Step { logits: (0..rows as u32).collect(), pick: *pick, ..step(&vec![0; rows]) };
        cuda.run(&step, None, &mut |b| b.pick(&buf)).unwrap();
        let found = cuda.picks(0).unwrap().to_vec();
        let expected: Vec<Candidate> = values.chunks(cols).flat_map(|row| definition(row, pick.count())).collect();
        assert_eq!(found, expected, "{pick:?} of {cols}");
        seen.extend(found.iter().flat_map(|c| [c.id as f32, c.logit]));
    }
    seen
}

#[test]
fn the_greatest_logits_are_picked() {
    everywhere!(|cuda| {
        let mut seen = Vec::new();
        for cols in [1usize, 17, 64, 100, 8193] {
            let k = |k: u32| Pick::TopK(k.min(cols as u32));
            seen.extend(check(cuda, cols, 8, &[Pick::Argmax, Pick::None, k(1), k(2), k(40), k(64)], 0));
        }
        // More rows than a launch takes.
        seen.extend(check(cuda, 20, 21, &[Pick::Argmax, Pick::TopK(5)], 0));
        seen.extend(check(cuda, 32000, 3, &[Pick::Argmax, Pick::TopK(64)], 1));
        seen
    });
}

#[test]
fn large_vocabularies_are_picked_from() {
    emulated(|cuda| {
        let mut seen = check(cuda, 151936, 1, &[Pick::Argmax, Pick::TopK(64)], 1);
        seen.extend(check(cuda, 262144, 1, &[Pick::Argmax, Pick::TopK(20)], 0));
        seen
    });
}

fn two_runs<D: Driver>(cuda: &mut Cuda<D>) -> Vec<f32> {
    let mut random = Random::new(9);
    let mut buf = cuda.buf(4, 50, Precision::Full).unwrap();
    let mut runs = Vec::new();
    // Recorded at the first, replayed afterwards.
    for (i, rows) in [2u32, 2, 1, 2].into_iter().enumerate() {
        let values = random.floats(4 * 50);
        cuda.write(&mut buf, &values).unwrap();
        let pick = if i == 3 { Pick::Argmax } else { Pick::TopK(3) };
        let step = Step { logits: (0..rows).collect(), pick, ..step(&[0, 0]) };
        cuda.run(&step, Some(1), &mut |b| b.pick(&buf)).unwrap();
        let expected: Vec<Candidate> =
            values.chunks(50).take(rows as usize).flat_map(|row| definition(row, pick.count())).collect();
        runs.push(expected);
        assert_eq!(cuda.picks(0).unwrap(), runs[i]);
        if i > 0 {
            assert_eq!(cuda.picks(1).unwrap(), runs[i - 1]);
        }
    }
    assert_eq!(cuda.recordings(), 3);
    assert!(cuda.picks(2).is_err());
    Vec::new()
}

#[test]
fn picks_of_two_runs_are_kept() {
    everywhere!(two_runs);
}

#[test]
fn more_candidates_than_logits_are_an_error() {
    everywhere!(|cuda| {
        let buf = cuda.buf(1, 3, Precision::Full).unwrap();
        let step = Step { logits: vec![0], pick: Pick::TopK(4), ..step(&[0]) };
        let error = cuda.run(&step, None, &mut |b| b.pick(&buf)).unwrap_err().to_string();
        assert_eq!(error, "candidates of a pick: 4 where at most 3 is needed");
        Vec::new()
    });
}
