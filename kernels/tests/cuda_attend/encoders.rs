//! Steps of encoders: no cache, and rows of a sequence see each other.

use super::*;
use nano_kernels::cuda::Driver;

/// Sequences of `lengths` rows: q heads, k heads, v heads.
struct Rows {
    attend: Attend,
    qkv: Vec<f32>,
    step: Step,
    expected: Vec<f64>,
}

impl Rows {
    fn new(group: usize, kv_heads: usize, head_dim: usize, lengths: &[usize]) -> Rows {
        let heads = group * kv_heads;
        let scale = 2.0 / (head_dim as f32).sqrt();
        let attend = Attend { heads, kv_heads, head_dim, scale, window: None, softcap: None };
        let cols = (heads + 2 * kv_heads) * head_dim;
        let mut random = Random::new(3);
        let qkv: Vec<f32> = (0..lengths.iter().sum::<usize>() * cols).map(|_| random.half()).collect();
        let mut step = Step::default();
        let mut expected = Vec::new();
        let mut first = 0;
        for (sequence, length) in lengths.iter().enumerate() {
            let values = |row: usize, head: usize| &qkv[row * cols + head * head_dim..][..head_dim];
            for row in first..first + length {
                let sequence = sequence as u32;
                step.rows.push(Row { token: 0, position: 0, slot: NO_SLOT, sequence, visible: 0 });
                for head in 0..heads {
                    let of = |first_head: usize| {
                        let exact = |row| values(row, first_head + head / group).iter().map(|v| *v as f64).collect();
                        (first..first + length).map(exact).collect::<Vec<Vec<f64>>>()
                    };
                    expected.extend(attended(&attend, values(row, head), &of(heads), &of(heads + kv_heads), None));
                }
            }
            step.sequences.push(SequenceRows::default());
            first += length;
        }
        Rows { attend, qkv, step, expected }
    }

    /// Runs them. Rows past those of the step are not to be written.
    #[track_caller]
    fn check<D: Driver>(&self, cuda: &mut Cuda<D>, precision: Precision, what: &str) {
        let a = self.attend;
        let (cols, out_cols) = ((a.heads + 2 * a.kv_heads) * a.head_dim, a.heads * a.head_dim);
        let rows = self.step.rows.len().max(8);
        let mut buf = cuda.buf(rows, cols, precision).unwrap();
        let mut out = cuda.buf(rows + 1, out_cols, precision).unwrap();
        cuda.write(&mut buf, &self.qkv).unwrap();
        cuda.write(&mut out, &vec![BEFORE; (rows + 1) * out_cols]).unwrap();
        cuda.run(&self.step, None, &mut |cuda| cuda.attend_all(&mut out, &buf, a)).unwrap();
        let run = cuda.read(&out, rows + 1).unwrap();
        assert_near(run, &self.expected, a.head_dim, 1e-6, what);
        assert!(run[rows * out_cols..].iter().all(|v| *v == BEFORE), "{what}: written past the last row");
    }
}

/// On some machine.
pub fn agrees<D: Driver>(mut cuda: Cuda<D>, group: usize, kv_heads: usize, head_dim: usize, lengths: &[usize]) {
    let rows = Rows::new(group, kv_heads, head_dim, lengths);
    rows.check(&mut cuda, Precision::Half, &format!("{:?}, {lengths:?}", rows.attend));
}

#[track_caller]
fn check_all(group: usize, kv_heads: usize, head_dim: usize, lengths: &[usize], precision: Precision, wide: bool) {
    let rows = Rows::new(group, kv_heads, head_dim, lengths);
    for (arch, seed) in BOTH {
        let what = format!("ARCH {arch}, seed {seed}, {:?}, {lengths:?}", rows.attend);
        let multiprocessors = if wide { 16 } else { 1 };
        let machine = Emulator::new(Options { arch, seed, multiprocessors, ..Options::default() }).unwrap();
        let sizes = Sizes { rows: rows.step.rows.len().max(8), logits: 8, pages: 1 };
        rows.check(&mut Cuda::new(machine.clone(), sizes).unwrap(), precision, &what);
        machine.check().unwrap();
    }
}

#[test]
fn encoders_of_every_head() {
    for (i, head_dim) in [16, 20, 64, 72, 80, 96, 128, 256].into_iter().enumerate() {
        let precision = [Precision::Half, Precision::Full][i % 2];
        check_all([1, 2, 3][i % 3], 2, head_dim, &[40, 33], precision, i / 2 % 2 == 0);
    }
}

#[test]
fn encoders_of_every_length() {
    for (i, lengths) in [&[1][..], &[32], &[3, 2], &[31, 1, 65], &[5; 30], &[260]].into_iter().enumerate() {
        check_all([1, 4, 20][i % 3], 1, 64, lengths, Precision::Half, i % 2 == 0);
    }
}
