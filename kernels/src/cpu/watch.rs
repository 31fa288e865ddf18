//! What products are given, summed up: by this those who quantize weights tell which inputs matter.

use super::Cpu;
use super::pool::Pool;
use crate::HostTensor;
use std::cell::RefCell;

/// Sums over the rows that a weight was given, normed as it gets them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inputs {
    /// Names of the tensors that the weight is made of.
    pub names: Vec<String>,
    /// Rows.
    pub rows: u64,
    /// Σ x² of each input.
    pub squares: Vec<f32>,
}

impl Cpu {
    /// From now on sums up what products are given, for every weight that is made hereafter.
    pub fn watch(&mut self) {
        self.watch = Some(RefCell::default());
    }

    /// The sums, and no more of them.
    pub fn watched(&mut self) -> Vec<Inputs> {
        self.watch.take().map(RefCell::into_inner).unwrap_or_default()
    }
}

/// Begins the sums of a weight, and gives their number.
pub(super) fn add(all: &mut Vec<Inputs>, parts: &[HostTensor<'_>], cols: usize) -> usize {
    let names = parts.iter().map(|part| part.name.clone()).collect();
    all.push(Inputs { names, rows: 0, squares: vec![0.0; cols] });
    all.len() - 1
}

impl Inputs {
    /// Adds rows.
    pub(super) fn add(&mut self, pool: &mut Pool, x: &[f32]) {
        let cols = self.squares.len();
        self.rows += (x.len() / cols) as u64;
        pool.chunks(&mut self.squares, 64, 1, |i, sums| {
            for row in x.chunks_exact(cols) {
                sums.iter_mut().zip(&row[64 * i..]).for_each(|(sum, x)| *sum += x * x);
            }
        });
    }
}
