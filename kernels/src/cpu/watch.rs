//! What products are given, summed up: by this those who quantize weights tell which inputs matter, and which go together.

use super::pool::Pool;

/// Sums over the rows that a weight was given, normed as it gets them.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// Names of the tensors that the weight is made of.
    pub names: Vec<String>,
    /// Rows.
    pub rows: u64,
    /// Inputs.
    pub cols: usize,
    /// Inputs in a stretch: products of inputs of one stretch are summed.
    pub stretch: usize,
    /// Σ x·xᵀ of each stretch, one after the other: `stretch x stretch`, of which the part up to the diagonal is filled.
    pub products: Vec<f32>,
}

impl Inputs {
    /// Σ x² of each input.
    pub fn squares(&self) -> impl Iterator<Item = f32> {
        (0..self.cols).map(|i| self.products[i * self.stretch + i % self.stretch])
    }

    /// Adds rows.
    pub(super) fn add(&mut self, pool: &mut Pool, x: &[f32]) {
        let (cols, stretch) = (self.cols, self.stretch);
        self.rows += (x.len() / cols) as u64;
        if self.products.is_empty() {
            self.products = vec![0.0; cols * stretch];
        }
        pool.chunks(&mut self.products, stretch, 8, |i, sums| {
            let (from, i) = (i / stretch * stretch, i % stretch);
            for row in x.chunks_exact(cols) {
                let part = &row[from..=from + i];
                let by = part[i];
                sums.iter_mut().zip(part).for_each(|(sum, x)| *sum += by * x);
            }
        });
    }
}

/// Into stretches of how many inputs `cols` are cut: equal ones, whole groups of 32, none longer than `most` if that can be.
pub(super) fn stretch(cols: usize, most: usize) -> usize {
    let lengths = (1..=most / 32).rev().map(|groups| groups * 32);
    lengths.into_iter().find(|len| cols.is_multiple_of(*len)).unwrap_or(1)
}
