//! Experts for tests: their numbers, what they must add to rows, and running them on a machine.

use nano_kernels::cuda::{Cuda, Driver, Sizes};
use nano_kernels::testing::{ExactExperts, Random};
use nano_kernels::{
    Act, Backend, Experts, Format, HostTensor, NO_SLOT, Norm, NormKind, Precision, Row, SequenceRows, Step,
};
use std::borrow::Cow;

/// The most rows of a test's steps.
pub const ROWS: usize = 80;
/// What lies behind the rows of a step; f16 holds it.
const GUARD: f32 = 1234.0;

/// Experts of one layer.
#[derive(Clone)]
pub struct Mixture {
    pub dim: usize,
    pub hidden: usize,
    pub shared: Option<usize>,
    pub chosen: usize,
    pub normalize: bool,
    /// (Gate, up, down) of each expert; the shared one's last.
    pub weights: Vec<[HostTensor<'static>; 3]>,
    pub factors: Vec<f32>,
    pub act: Act,
    /// Of gates and ups, and of downs.
    pub biases: [Option<Vec<f32>>; 2],
}

impl Mixture {
    /// `count` experts of formats that `of(expert)` gives for gate, up and down.
    pub fn new(
        random: &mut Random,
        of: &dyn Fn(usize) -> [Format; 3],
        count: usize,
        [dim, hidden]: [usize; 2],
        shared: Option<usize>,
    ) -> Mixture {
        let widths: Vec<usize> = std::iter::repeat_n(hidden, count).chain(shared).collect();
        let weights = widths.iter().enumerate().map(|(expert, width)| {
            let mut tensor = |format: Format, rows, cols| {
                let bytes = random.weight(format, rows, cols);
                HostTensor::new("w", format, rows, cols, Cow::Owned(bytes)).unwrap()
            };
            let [gate, up, down] = of(expert);
            [tensor(gate, *width, dim), tensor(up, *width, dim), tensor(down, dim, *width)]
        });
        let weights = weights.collect();
        let (act, biases, factors) = (Act::Silu, [None, None], random.floats(dim));
        Mixture { dim, hidden, shared, chosen: 2, normalize: true, weights, factors, act, biases }
    }

    /// All of one format, as small as its blocks allow.
    pub fn of(random: &mut Random, format: Format, count: usize, shared: bool) -> Mixture {
        let (sizes, other) = match format.block_len() {
            1 => ([36, 24], 40),
            32 => ([96, 32], 64),
            _ => ([256, 256], 256),
        };
        let mut mixture = Mixture::new(random, &|_| [format; 3], count, sizes, shared.then_some(other));
        if format.block_len() > 32 {
            // Random weights of these are large; what is between the products must not be too large for f16.
            mixture.factors.iter_mut().for_each(|factor| *factor *= 0.02);
        }
        mixture
    }

    /// With a bias for everything: those of gates and ups large enough to meet limits.
    pub fn biased(mut self, random: &mut Random) -> Mixture {
        let count = self.count();
        let ups = random.floats(count * 2 * self.hidden).iter().map(|b| 8.0 * b).collect();
        self.biases = [Some(ups), Some(random.floats(count * self.dim))];
        self
    }

    pub fn count(&self) -> usize {
        self.weights.len() - usize::from(self.shared.is_some())
    }

    /// Random logits of which none is all, for so many rows.
    pub fn logits(&self, random: &mut Random, rows: usize) -> Vec<f32> {
        random.floats(rows * self.weights.len()).iter().map(|l| 2.0 * l).collect()
    }

    /// What the machine makes of rows under one program with each of `logits`, one after the other.
    pub fn run<D: Driver>(&self, driver: D, x: &[f32], logits: &[&[f32]]) -> Vec<Vec<f32>> {
        let mut cuda = Cuda::new(driver, Sizes { rows: ROWS, logits: 8, pages: 1 }).unwrap();
        let rows = x.len() / self.dim;
        let mut up: Vec<_> = self.weights.iter().map(|w| cuda.weight(&w[..2]).unwrap()).collect();
        let mut down: Vec<_> = self.weights.iter().map(|w| cuda.weight(&w[2..]).unwrap()).collect();
        let shared = self.shared.map(|_| (up.pop().unwrap(), down.pop().unwrap()));
        let Mixture { chosen, normalize, act, .. } = *self;
        let [up_bias, down_bias] = self.biases.each_ref().map(|bias| {
            bias.as_ref().map(|bias| {
                let mut buf = cuda.buf(1, bias.len(), Precision::Full).unwrap();
                cuda.write(&mut buf, bias).unwrap();
                buf
            })
        });
        let experts = Experts { up, down, shared, act, up_bias, down_bias, chosen, normalize };
        let mixture = cuda.mixture(experts).unwrap();
        let mut weight = cuda.buf(1, self.dim, Precision::Full).unwrap();
        cuda.write(&mut weight, &self.factors).unwrap();
        let norm = Norm { kind: NormKind::Rms, weight, bias: None, eps: 1e-5 };
        let width = chosen * self.hidden + self.shared.unwrap_or(0);
        let mut out = cuda.buf(ROWS, self.dim, Precision::Full).unwrap();
        let mut h = cuda.buf(ROWS, width, Precision::Half).unwrap();
        let mut router = cuda.buf(ROWS, self.weights.len(), Precision::Full).unwrap();
        let mut all = Vec::new();
        for logits in logits {
            let guarded = [x, &vec![GUARD; (ROWS - rows) * self.dim]].concat();
            cuda.write(&mut out, &guarded).unwrap();
            cuda.write(&mut h, &vec![GUARD; ROWS * width]).unwrap();
            cuda.write(&mut router, &vec![f32::NAN; ROWS * self.weights.len()]).unwrap();
            cuda.write(&mut router, logits).unwrap();
            let body = &mut |c: &mut Cuda<D>| c.experts(&mut out, &mut h, Some(&norm), &router, &mixture);
            cuda.run(&step(rows), Some(1), body).unwrap();
            let found = cuda.read(&out, ROWS).unwrap().to_vec();
            // Rows that only pad a step choose nobody, but go through the shared expert and where gates meet ups.
            let glued = self.hidden.is_multiple_of(16) && self.weights.iter().all(|w| w[0].format == w[1].format);
            let pads = rows <= 8 && (self.shared.is_some() || !glued);
            let used = if pads { rows.next_power_of_two() } else { rows };
            let beyond = &cuda.read(&h, ROWS).unwrap()[used * width..];
            assert!(found[rows * self.dim..].iter().chain(beyond).all(|g| *g == GUARD), "a store past the last row");
            all.push(found[..rows * self.dim].to_vec());
        }
        all
    }

    /// What must be added to each row.
    pub fn exact(&self, x: &[f32], logits: &[f32]) -> Vec<f64> {
        let Mixture { ref weights, ref factors, chosen, normalize, act, ref biases, .. } = *self;
        ExactExperts { weights, factors, count: self.count(), chosen, normalize, act, biases }.added(x, logits)
    }
}

/// A step of rows of one sequence.
fn step(rows: usize) -> Step {
    let row = |i| Row { token: 0, position: i as u32, slot: NO_SLOT, sequence: 0, visible: 1 };
    Step { rows: (0..rows).map(row).collect(), sequences: vec![SequenceRows::default()], ..Step::default() }
}

/// Σ(error²) / Σ(value²) of what was added to `x`.
pub fn error(found: &[f32], x: &[f32], exact: &[f64]) -> f64 {
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    let added = found.iter().zip(x).map(|(f, x)| f64::from(*f) - f64::from(*x));
    square(&mut added.zip(exact).map(|(f, e)| f - e)) / square(&mut exact.iter().copied())
}
