//! `experts`: against plain arithmetic, equal on every machine, and the same for a row alone.

use super::*;
use crate::testing::ExactExperts;

pub struct Mixture {
    format: Format,
    pub dim: usize,
    hidden: usize,
    shared: Option<usize>,
    chosen: usize,
    normalize: bool,
    /// (Gate, up, down) of each expert; the shared one's last.
    pub weights: Vec<[HostTensor<'static>; 3]>,
    factors: Vec<f32>,
    act: Act,
    biases: [Option<Vec<f32>>; 2],
}

impl Mixture {
    pub fn new(random: &mut Random, format: Format, count: usize, hidden: usize, shared: Option<usize>) -> Mixture {
        let dim = if format.block_len() > 1 { 256 } else { 40 };
        let widths: Vec<usize> = std::iter::repeat_n(hidden, count).chain(shared).collect();
        let mut tensor = |rows, cols| {
            let bytes = random.weight(format, rows, cols);
            HostTensor::new("w", format, rows, cols, Cow::Owned(bytes)).unwrap()
        };
        let weights = widths.iter().map(|w| [tensor(*w, dim), tensor(*w, dim), tensor(dim, *w)]).collect();
        let factors = random.floats(dim);
        let (act, biases) = (Act::Silu, [None, None]);
        Mixture { format, dim, hidden, shared, chosen: 2, normalize: true, weights, factors, act, biases }
    }

    /// With biases, and gates that are clamped: the numbers are so large that some are.
    fn clamped(mut self, random: &mut Random) -> Mixture {
        self.act = Act::Clamped;
        self.biases = [2 * self.hidden, self.dim]
            .map(|each| Some(random.floats(self.count() * each).iter().map(|b| 5.0 * b).collect()));
        self
    }

    fn count(&self) -> usize {
        self.weights.len() - usize::from(self.shared.is_some())
    }

    pub fn run(&self, isa: Isa, threads: usize, x: &[f32], logits: &[f32]) -> Vec<f32> {
        let mut cpu = Cpu::with_isa(threads, isa).unwrap();
        let rows = x.len() / self.dim;
        let mut up: Vec<Weight> = self.weights.iter().map(|w| cpu.weight(&w[..2]).unwrap()).collect();
        let mut down: Vec<Weight> = self.weights.iter().map(|w| cpu.weight(&w[2..]).unwrap()).collect();
        let shared = self.shared.map(|_| (up.pop().unwrap(), down.pop().unwrap()));
        let bias = self.biases.each_ref().map(|bias| bias.as_ref().map(|bias| filled(&mut cpu, bias.len(), bias)));
        let Mixture { act, chosen, normalize, .. } = *self;
        let [up_bias, down_bias] = bias;
        let experts = Experts { up, down, shared, act, up_bias, down_bias, chosen, normalize };
        let width = self.chosen * self.hidden + self.shared.unwrap_or(0);
        let guarded = |values: &[f32], cols: usize| [values, &vec![GUARD; cols]].concat();
        let norm =
            Norm { kind: NormKind::Rms, weight: filled(&mut cpu, self.dim, &self.factors), bias: None, eps: 1e-5 };
        let logits = filled(&mut cpu, self.weights.len(), logits);
        let mut h = filled(&mut cpu, width, &guarded(&vec![0.0; rows * width], width));
        let mut out = filled(&mut cpu, self.dim, &guarded(x, self.dim));
        cpu.run(&step(rows), None, &mut |cpu| cpu.experts(&mut out, &mut h, Some(&norm), &logits, &experts)).unwrap();
        let guards = out.data[rows * self.dim..].iter().chain(&h.data[rows * width..]);
        assert!(guards.into_iter().all(|g| *g == GUARD), "a store past the last row");
        out.data[..rows * self.dim].to_vec()
    }

    /// What is added to each row.
    pub fn exact(&self, x: &[f32], logits: &[f32]) -> Vec<f64> {
        let Mixture { ref weights, ref factors, chosen, normalize, act, ref biases, .. } = *self;
        ExactExperts { weights, factors, count: self.count(), chosen, normalize, act, biases }.added(x, logits)
    }
}

#[test]
fn experts_are_near_the_exact_ones_and_equal_on_every_machine() {
    let mut random = Random::new(31);
    for (format, limit) in FORMATS {
        let quantized = format.block_len() > 1;
        let (hidden, other) = if quantized { (256, 512) } else { (24, 37) };
        for (n, (rows, count, chosen, shared, normalize)) in [
            (1, 5, 2, None, true),
            (2, 3, 3, Some(other), false),
            (9, 2, 1, None, false),
            (21, 7, 3, Some(other), true),
        ]
        .into_iter()
        .enumerate()
        {
            let mut mixture = Mixture::new(&mut random, format, count, hidden, shared);
            (mixture.chosen, mixture.normalize) = (chosen, normalize);
            if n % 3 == 0 {
                mixture = mixture.clamped(&mut random);
            }
            let (dim, width) = (mixture.dim, mixture.weights.len());
            let x = random.floats(rows * dim);
            // Small enough numbers that no single expert is all.
            let logits: Vec<f32> = random.floats(rows * width).iter().map(|l| 2.0 * l).collect();
            let what = format!("{} {rows} rows, {chosen} of {count}", mixture.format);
            let scalar = mixture.run(Isa::Scalar, 1, &x, &logits);
            let exact = mixture.exact(&x, &logits);
            let added: Vec<f32> = scalar.iter().zip(&x).map(|(y, x)| y - x).collect();
            let e = error(&added, &exact);
            // Two products deep; what is added was rounded with what was there.
            assert!(e < (8.0 * limit).max(1e-10), "{what}: error {e:e}");
            for isa in Isa::available() {
                for threads in [1, 2, 3] {
                    let y = mixture.run(isa, threads, &x, &logits);
                    assert!(y == scalar, "{what}: {} with {threads} threads differs", isa.name());
                }
            }
            // However a prompt is cut, the same bits.
            for cut in [1, rows / 2] {
                let (mut y, mut from) = (Vec::new(), 0);
                while from < rows {
                    let to = rows.min(from + cut.max(1));
                    y.extend(mixture.run(Isa::best(), 2, &x[from * dim..to * dim], &logits[from * width..to * width]));
                    from = to;
                }
                assert!(y == scalar, "{what}: {cut} rows at a time differ");
            }
        }
    }
}

#[test]
fn of_equal_experts_the_first_are_chosen_and_the_others_are_not_read() {
    let mut random = Random::new(32);
    let mut mixture = Mixture::new(&mut random, Format::F32, 20, 16, None);
    let nan = f32::NAN.to_le_bytes().repeat(16 * mixture.dim);
    for (i, weights) in mixture.weights.iter_mut().enumerate() {
        if ![3, 17].contains(&i) {
            weights.iter_mut().for_each(|w| w.bytes = Cow::Owned(nan.clone()));
        }
    }
    let x = random.floats(3 * mixture.dim);
    let mut row = [-1.0; 20];
    [3, 17, 18, 19].iter().for_each(|i| row[*i] = 4.0);
    for isa in Isa::available() {
        let y = mixture.run(isa, 2, &x, &row.repeat(3));
        assert!(y.iter().all(|y| y.is_finite()), "{}", isa.name());
        assert!(y.iter().zip(&x).any(|(y, x)| y != x));
    }
    // A row whose logits are broken shows it, and only that row.
    let mut logits = row.repeat(3);
    logits[20..40].fill(f32::NAN);
    let y = mixture.run(Isa::best(), 2, &x, &logits);
    let broken: Vec<bool> = y.chunks_exact(mixture.dim).map(|row| row.iter().any(|y| y.is_nan())).collect();
    assert_eq!(broken, [false, true, false]);
}
