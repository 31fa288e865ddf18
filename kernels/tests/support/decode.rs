//! Products of a few rows for tests: their numbers, what they must give, and running them on a machine.

use half::f16;
use nano_kernels::cuda::{Arg, Cuda, Driver, Launch, Sizes};
use nano_kernels::testing::{Random, exact_act, exact_gated};
use nano_kernels::{
    Act, After, Backend, Format, HostTensor, Linear, NO_SLOT, Norm, NormKind, Precision, Row, Rows, SequenceRows, Step,
};
use std::borrow::Cow;

/// A product: weights stacked, and what is done before and after.
#[derive(Clone, Debug)]
pub struct Case {
    /// Formats and their outputs.
    pub parts: Vec<(Format, usize)>,
    pub cols: usize,
    /// Rows of the product.
    pub rows: usize,
    /// With a bias or without.
    pub norm: Option<(NormKind, bool)>,
    pub x: Precision,
    pub out: Precision,
    pub after: After,
    pub bias: bool,
    /// Whether the rows are some of a step's, in the order of `Step::logits`.
    pub gather: bool,
    /// Whether the weights' columns lie in an order of their own.
    pub order: bool,
}

impl Case {
    pub fn new(format: Format, outputs: usize, cols: usize, rows: usize) -> Case {
        Case {
            parts: vec![(format, outputs)],
            cols,
            rows,
            norm: None,
            x: Precision::Half,
            out: Precision::Full,
            after: After::Store,
            bias: false,
            gather: false,
            order: false,
        }
    }

    /// The case with options that differ from number to number.
    pub fn varied(mut self, number: u64) -> Case {
        let mut random = Random::new(number);
        let mut draw = |n: u64| random.next() % n;
        self.norm = [None, Some((NormKind::Rms, false)), Some((NormKind::Layer, true))][draw(3) as usize];
        self.x = [Precision::Full, Precision::Half][draw(2) as usize];
        self.out = [Precision::Full, Precision::Half][draw(2) as usize];
        let outputs = self.outputs();
        let act = [Act::Silu, Act::Gelu, Act::GeluTanh, Act::Clamped][draw(4) as usize];
        self.after = [After::Store, After::Add, After::Act(act), After::Glu(act)][draw(4) as usize];
        // The room for gates and ups of odd sizes is made for weights that are stacked of both.
        if matches!(self.after, After::Glu(_)) && (self.parts.len() == 1 && !outputs.is_multiple_of(32)) {
            self.parts = vec![self.parts[0], self.parts[0]];
        }
        self.bias = draw(2) == 0;
        self.gather = draw(2) == 0;
        self.order = draw(4) == 0;
        self
    }

    pub fn outputs(&self) -> usize {
        self.parts.iter().map(|(_, outputs)| outputs).sum()
    }

    /// Columns of the result.
    pub fn outs(&self) -> usize {
        if let After::Glu(_) = self.after { self.outputs() / 2 } else { self.outputs() }
    }

    /// Rows of the input.
    fn inputs(&self) -> usize {
        if self.gather { 12 } else { self.rows }
    }

    /// The row of the input from which row `n` is made.
    fn input(&self, n: usize) -> usize {
        if self.gather { n + n / 2 } else { n }
    }

    pub fn step(&self) -> Step {
        let row = |i| Row { token: 0, position: i as u32, slot: NO_SLOT, sequence: 0, visible: 0 };
        Step {
            rows: (0..self.inputs()).map(row).collect(),
            sequences: vec![SequenceRows::default()],
            logits: if self.gather { (0..self.rows).map(|n| self.input(n) as u32).collect() } else { Vec::new() },
            ..Step::default()
        }
    }
}

/// The numbers of a case.
pub struct Numbers {
    weights: Vec<Vec<u8>>,
    x: Vec<f32>,
    norm: [Vec<f32>; 2],
    bias: Vec<f32>,
    before: Vec<f32>,
}

/// Large enough to be missed.
const EPS: f32 = 0.25;
/// Rows of the result, of which some are not to be written.
const ROWS: usize = 9;

impl Numbers {
    pub fn new(case: &Case, seed: u64) -> Numbers {
        let mut random = Random::new(seed);
        let rounded = |values: Vec<f32>| values.into_iter().map(|v| f16::from_f32(v).to_f32()).collect::<Vec<_>>();
        let weights = case.parts.iter().map(|(format, rows)| random.weight(*format, *rows, case.cols)).collect();
        // Beside a mean, so that layer norms have something to take out.
        let x = random.floats(case.inputs() * case.cols).into_iter().map(|v| v + 0.3).collect();
        Numbers {
            weights,
            x: if case.x == Precision::Half { rounded(x) } else { x },
            norm: [random.floats(case.cols), random.floats(case.cols)],
            bias: random.floats(case.outputs()),
            before: rounded(random.floats(ROWS * case.outs())),
        }
    }

    /// The same with inputs that f16 cannot hold.
    pub fn with_large_inputs(mut self) -> Numbers {
        self.x.iter_mut().step_by(29).for_each(|v| *v *= 1e5);
        self
    }

    fn tensors(&self, case: &Case) -> Vec<HostTensor<'_>> {
        let parts = case.parts.iter().zip(&self.weights);
        let mut order: Vec<u32> = (0..case.cols as u32).collect();
        let mut random = Random::new(case.cols as u64);
        if case.order {
            (1..case.cols).for_each(|i| order.swap(i, random.below(i + 1)));
        }
        let tensor = |format, rows, bytes| {
            let tensor = HostTensor::new("w", format, rows, case.cols, Cow::Borrowed(bytes)).unwrap();
            tensor.with_order(&order).unwrap()
        };
        parts.map(|((format, rows), bytes)| tensor(*format, *rows, bytes.as_slice())).collect()
    }

    /// What the product must give, by its definition: weights as the formats say, inputs rounded to f16. Beside it the
    /// power of results, Σ(size²), as it would be if the terms of sums had random signs.
    pub fn expected(&self, case: &Case) -> (Vec<f64>, f64) {
        let weights: Vec<f32> = self.tensors(case).iter().flat_map(HostTensor::to_f32).collect();
        let mut out: Vec<f64> = self.before.iter().map(|v| f64::from(*v)).collect();
        let (outs, mut power) = (case.outs(), 0.0);
        for n in 0..case.rows {
            let x = normalised(case, &self.norm, &self.x[case.input(n) * case.cols..][..case.cols]);
            let sums = weights.chunks_exact(case.cols).zip(&self.bias).map(|(w, bias)| {
                let terms = w.iter().zip(&x).map(|(w, x)| f64::from(*w) * x);
                let bias = if case.bias { f64::from(*bias) } else { 0.0 };
                (terms.clone().sum::<f64>() + bias, terms.map(|t| t * t).sum::<f64>())
            });
            let sums: Vec<(f64, f64)> = sums.collect();
            for (j, out) in out[n * outs..(n + 1) * outs].iter_mut().enumerate() {
                let (sum, size) = sums[j];
                let (up, up_size) = if let After::Glu(_) = case.after { sums[outs + j] } else { (1.0, 1.0) };
                power += size * up_size;
                *out = match case.after {
                    After::Store => sum,
                    After::Add => *out + sum,
                    After::Act(act) => exact_act(act, sum),
                    After::Glu(act) => exact_gated(act, sum, up),
                };
                // What f16 cannot hold becomes the most that it can.
                let most = if case.out == Precision::Half { 65504.0 } else { f64::MAX };
                *out = out.clamp(-most, most);
            }
        }
        (out, power)
    }

    /// What the machine gives, the rows that it should have left alone among it; after running it `runs` times from the
    /// same start, which must not differ.
    pub fn found<D: Driver>(&self, case: &Case, driver: D, runs: usize) -> Vec<f32> {
        let mut cuda = Cuda::new(driver, Sizes { rows: 12, logits: 8, pages: 1 }).unwrap();
        let weight = cuda.weight(&self.tensors(case)).unwrap();
        let mut parameters = |values: &[f32]| {
            let mut buf = cuda.buf(1, values.len(), Precision::Full).unwrap();
            cuda.write(&mut buf, values).unwrap();
            buf
        };
        let bias = case.bias.then(|| parameters(&self.bias));
        let norm = case.norm.map(|(kind, with_bias)| Norm {
            kind,
            weight: parameters(&self.norm[0]),
            bias: with_bias.then(|| parameters(&self.norm[1])),
            eps: EPS,
        });
        let linear = Linear { weight, bias };
        let mut x = cuda.buf(12, case.cols, case.x).unwrap();
        cuda.write(&mut x, &self.x).unwrap();
        let mut out = cuda.buf(12, case.outs(), case.out).unwrap();
        let rows = if case.gather { Rows::Logits } else { Rows::All };
        let mut first: Option<Vec<f32>> = None;
        for run in 0..runs {
            cuda.write(&mut out, &self.before).unwrap();
            // The same recording all the time.
            cuda.run(&case.step(), Some(7), &mut |c| c.linear(&mut out, &x, norm.as_ref(), &linear, case.after, rows))
                .unwrap();
            let found = cuda.read(&out, ROWS).unwrap();
            match &first {
                Some(first) => assert!(*first == found, "run {run} differs: {case:?}"),
                None => first = Some(found.to_vec()),
            }
        }
        first.unwrap()
    }
}

fn normalised(case: &Case, [weight, bias]: &[Vec<f32>; 2], x: &[f32]) -> Vec<f64> {
    let n = case.cols as f64;
    let x: Vec<f64> = x.iter().map(|v| f64::from(*v)).collect();
    let mean = match case.norm {
        Some((NormKind::Layer, _)) => x.iter().sum::<f64>() / n,
        _ => 0.0,
    };
    let factor = 1.0 / (x.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n + f64::from(EPS)).sqrt();
    let values = x.iter().zip(weight).zip(bias).map(|((x, w), b)| match case.norm {
        Some((_, with_bias)) => (x - mean) * factor * f64::from(*w) + if with_bias { f64::from(*b) } else { 0.0 },
        None => *x,
    });
    values.map(|v| f16::from_f64(v.clamp(-65504.0, 65504.0)).to_f64()).collect()
}

/// Σ(error²) / Σ(value²) of the rows of the product; the others must be what they were. A few results may happen to
/// be small beside what they are sums of: then it is the power that counts.
pub fn error(case: &Case, numbers: &Numbers, found: &[f32], (expected, power): &(Vec<f64>, f64)) -> f64 {
    let written = case.outs() * case.rows.next_power_of_two();
    let beyond = written.min(found.len())..found.len();
    assert_eq!(found[beyond.clone()], numbers.before[beyond], "rows beyond the product: {case:?}");
    let n = case.outs() * case.rows;
    let errors: f64 = found[..n].iter().zip(expected).map(|(f, e)| (f64::from(*f) - e).powi(2)).sum();
    errors / expected[..n].iter().map(|v| v * v).sum::<f64>().max(*power)
}

impl Numbers {
    /// The first rows of one product of 16 float outputs of at most 256 columns, straight from the kernel.
    pub fn launched<D: Driver>(&self, case: &Case, driver: &D) -> Vec<f32> {
        let put = |bytes: &[u8]| {
            let at = driver.alloc(bytes.len(), "numbers").unwrap();
            let mut host = driver.host(bytes.len()).unwrap();
            host.as_mut().copy_from_slice(bytes);
            driver.upload(at, &host, 0..bytes.len()).unwrap();
            driver.finish().unwrap();
            at
        };
        let floats = |values: &[f32], stride: usize| {
            let mut bytes = Vec::new();
            for row in values.chunks(case.cols) {
                bytes.extend(row.iter().flat_map(|v| v.to_le_bytes()));
                bytes.resize(bytes.len() + 4 * (stride - row.len()), 0);
            }
            put(&bytes)
        };
        // Tiles of float16 as `cuda/weights.cuh` has them.
        let mut planes = vec![0; 2 * 4096];
        for (at, value) in self.weights[0].chunks_exact(2).enumerate() {
            let (row, k) = (at / case.cols, at % case.cols);
            let (lane, word) = (4 * (row % 8) + k % 128 / 32, row / 8 * 4 + k % 32 / 8);
            let to = k / 128 * 4096 + (word * 32 + lane) * 16 + k % 8 * 2;
            planes[to..to + 2].copy_from_slice(value);
        }
        let stride = case.cols.next_multiple_of(8);
        let out = driver.alloc(4 * 16 * case.rows, "results").unwrap();
        let (kind, with_bias) = case.norm.unwrap();
        let args = [
            Arg::Ptr(put(&planes)),
            Arg::Ptr(0),
            Arg::Ptr(0),
            Arg::F32(1.0),
            Arg::U32(16),
            Arg::Ptr(floats(&self.x, stride)),
            Arg::U32(0),
            Arg::U32(stride as u32),
            Arg::Ptr(0),
            Arg::U32(case.cols as u32),
            Arg::U32(case.rows as u32),
            Arg::U32(if kind == NormKind::Layer { 2 } else { 1 }),
            Arg::Ptr(floats(&self.norm[0], stride)),
            Arg::Ptr(if with_bias { floats(&self.norm[1], stride) } else { 0 }),
            Arg::F32(EPS),
            Arg::Ptr(out),
            Arg::U32(0),
            Arg::U32(16),
            Arg::U32(0),
            Arg::Ptr(0),
            Arg::U32(0),
            Arg::U32(2),
            Arg::Ptr(0),
            Arg::Ptr(0),
        ];
        let shared = (2 * case.rows * 256 + 2 * 4 * case.rows * 80) as u32;
        driver
            .launch(Launch { kernel: "linear_decode_f16", grid: [1, 1, 1], threads: 128, shared, args: &args })
            .unwrap();
        let mut host = driver.host(4 * 16 * case.rows).unwrap();
        driver.download(out, &mut host, 0..4 * 16 * case.rows).unwrap();
        driver.finish().unwrap();
        host.as_ref().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }
}
