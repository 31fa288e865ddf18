//! What products are given, summed up: by this those who quantize weights tell which inputs matter.

use super::pool::Pool;

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
