//! Random numbers and weights, for tests here and (feature `testing`) of what is built on this crate.

use crate::{Act, Format, HostTensor};
use half::f16;

/// SplitMix64: small, and the same everywhere.
pub struct Random(u64);

impl Random {
    /// The numbers of this seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// Any 64 bits.
    #[allow(clippy::should_implement_trait)] // it never ends
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// About normal, standard deviation 1.
    pub fn float(&mut self) -> f32 {
        let sum: f32 = (0..4).map(|_| (self.next() >> 40) as f32 / (1 << 24) as f32 - 0.5).sum();
        sum * 3f32.sqrt()
    }

    /// The same, as float16 has it.
    pub fn half(&mut self) -> f32 {
        f16::from_f32(self.float()).to_f32()
    }

    /// So many of the first kind.
    pub fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.float()).collect()
    }

    /// The numbers below `n`, in any order.
    pub fn order(&mut self, n: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..n as u32).collect();
        (1..n).for_each(|i| order.swap(i, self.below(i + 1)));
        order
    }

    /// The bytes of a random matrix: any quants, scales about 0.01.
    pub fn weight(&mut self, format: Format, rows: usize, cols: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..rows * cols / format.block_len() {
            let start = bytes.len();
            match format {
                Format::F32 => bytes.extend((self.float() * 0.05).to_le_bytes()),
                Format::F16 => bytes.extend(f16::from_f32(self.float() * 0.05).to_le_bytes()),
                Format::Bf16 => bytes.extend(half::bf16::from_f32(self.float() * 0.05).to_le_bytes()),
                _ => bytes.extend((0..format.block_bytes()).map(|_| self.next() as u8)),
            }
            let scales: &[usize] = match format {
                Format::Q8_0 | Format::Q4_0 | Format::Int4(_) | Format::Int8(_) => &[0],
                Format::Q4_1 | Format::Q4K => &[0, 2],
                Format::Q6K => &[208],
                _ => &[],
            };
            for at in scales {
                let scale = f16::from_f32(self.float() * 0.01).to_le_bytes();
                bytes[start + at..start + at + 2].copy_from_slice(&scale);
            }
            if format == Format::Mxfp4 {
                bytes[start] = 117 + self.below(6) as u8;
            }
            if let Format::Int4(_) | Format::Int8(_) = format {
                let zeros = 1 + (1 << (8 * (format.block_bytes() - 4) / format.block_len()));
                bytes[start + 2..start + 4].copy_from_slice(&(self.below(zeros) as u16).to_le_bytes());
            }
        }
        bytes
    }
}

/// An activation, in float64.
pub fn exact_act(act: Act, x: f64) -> f64 {
    match act {
        Act::Silu => x / (1.0 + (-x).exp()),
        Act::Gelu => 0.5 * x * (1.0 + exact_erf(x / 2f64.sqrt())),
        Act::GeluTanh => {
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            0.5 * x * (1.0 + u.tanh())
        }
        Act::Clamped => x.min(7.0) / (1.0 + (-1.702 * x.min(7.0)).exp()),
    }
}

/// What a gate makes of what it multiplies, in float64.
pub fn exact_gated(act: Act, gate: f64, up: f64) -> f64 {
    let up = if act == Act::Clamped { up.clamp(-7.0, 7.0) + 1.0 } else { up };
    exact_act(act, gate) * up
}

/// The error function, by its series and continued fraction.
fn exact_erf(x: f64) -> f64 {
    if x.abs() < 3.0 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    } else {
        let f = (1..100).rev().fold(0.0, |f, n| f64::from(n) / 2.0 / (x.abs() + f));
        let tail = (-x * x).exp() / ((x.abs() + f) * std::f64::consts::PI.sqrt());
        x.signum() * (1.0 - tail)
    }
}

/// Experts by plain arithmetic.
pub struct ExactExperts<'a> {
    /// Gate, up and down of each; one past `count` is for every row, by its logit's sigmoid.
    pub weights: &'a [[HostTensor<'static>; 3]],
    /// Of the rows' norm, root mean square with an eps of 1e-5.
    pub factors: &'a [f32],
    /// Experts of which the greatest `chosen` are taken.
    pub count: usize,
    /// How many.
    pub chosen: usize,
    /// Whether their shares of the softmax are made to sum to 1.
    pub normalize: bool,
    /// Of the gates.
    pub act: Act,
    /// Of gates and ups, and of downs, of all of `count`.
    pub biases: &'a [Option<Vec<f32>>; 2],
}

impl ExactExperts<'_> {
    /// What they add to each row, in float64.
    pub fn added(&self, x: &[f32], logits: &[f32]) -> Vec<f64> {
        exact_experts(self, x, logits)
    }
}

fn exact_experts(e: &ExactExperts<'_>, x: &[f32], logits: &[f32]) -> Vec<f64> {
    let ExactExperts { factors, count, chosen, normalize, .. } = *e;
    let dim = factors.len();
    let weights = e.weights;
    let weights: Vec<[Vec<f32>; 3]> = weights.iter().map(|w| w.each_ref().map(HostTensor::to_f32)).collect();
    let product = |w: &[f32], x: &[f64]| -> Vec<f64> {
        w.chunks_exact(x.len()).map(|w| w.iter().zip(x).map(|(w, x)| *w as f64 * x).sum()).collect()
    };
    let mut added = Vec::new();
    for (x, logits) in x.chunks_exact(dim).zip(logits.chunks_exact(weights.len())) {
        let square = x.iter().map(|x| (*x as f64).powi(2)).sum::<f64>() / dim as f64;
        let scale = 1.0 / (square + 1e-5).sqrt();
        let x: Vec<f64> = x.iter().zip(factors).map(|(x, w)| *x as f64 * scale * *w as f64).collect();
        let (own, last) = logits.split_at(count);
        let all: f64 = own.iter().map(|l| (*l as f64).exp()).sum();
        let mut shares: Vec<(usize, f64)> = own.iter().map(|l| (*l as f64).exp() / all).enumerate().collect();
        shares.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap().then(a.0.cmp(&b.0)));
        shares.truncate(chosen);
        if normalize {
            let sum: f64 = shares.iter().map(|(_, share)| share).sum();
            shares.iter_mut().for_each(|(_, share)| *share /= sum);
        }
        shares.extend(last.iter().map(|l| (count, 1.0 / (1.0 + (-*l as f64).exp()))));
        let mut y = vec![0.0; dim];
        for (expert, share) in shares {
            let [gate, up, down] = &weights[expert];
            let biased = |mut y: Vec<f64>, which: usize, place: usize| {
                if let Some(bias) = e.biases[which].as_ref().filter(|_| expert < count) {
                    y.iter_mut().zip(&bias[place..]).for_each(|(y, b)| *y += f64::from(*b));
                }
                y
            };
            let hidden = gate.len() / dim;
            let gate = biased(product(gate, &x), 0, 2 * expert * hidden);
            let up = biased(product(up, &x), 0, (2 * expert + 1) * hidden);
            let h: Vec<f64> = gate.iter().zip(&up).map(|(g, u)| exact_gated(e.act, *g, *u)).collect();
            let down = biased(product(down, &h), 1, expert * dim);
            y.iter_mut().zip(down).for_each(|(y, d)| *y += share * d);
        }
        added.extend(y);
    }
    added
}
