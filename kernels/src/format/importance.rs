//! Which inputs of a matrix matter, from what it was given: the error of a weight counts as the mean square of its input,
//! and where products of inputs are known too, what rounding one weight does to the outputs is made up for by the weights
//! after it (Frantar et al., "GPTQ", 2022).

use super::Format;
use super::block::{Q4_0, Q4_1, blocks_mut};
use super::quantize::{clamp, code, round};
use super::quantize_32::{pack, q4_0_fit, q4_1_fit};

/// Added to the diagonal, as a share of its mean: inputs that hardly vary must not be made up for by large weights.
const DAMPING: f64 = 0.01;

/// What is known of the inputs of a matrix.
#[derive(Clone, Debug)]
pub struct Importance {
    /// For each input.
    pub(super) weights: Vec<f32>,
    pub(super) feedback: Option<Feedback>,
}

/// How the error of a weight is shared out among those after it in its stretch.
#[derive(Clone, Debug)]
pub(super) struct Feedback {
    stretch: usize,
    /// For each stretch the upper triangular U for which UᵀU is the inverse of the products, row after row.
    upper: Vec<f32>,
    /// 1 / U², of the diagonal: by how much an error counts when those after it make up for it.
    left: Vec<f32>,
}

impl Importance {
    /// From mean squares, or anything in proportion to them.
    pub fn of_squares(squares: Vec<f32>) -> Self {
        Importance { weights: squares, feedback: None }
    }

    /// From Σ x·xᵀ over stretches of inputs, `stretch x stretch` each, of which the part up to the diagonal is read.
    ///
    /// # Panics
    ///
    /// If they are not whole.
    pub fn of_products(stretch: usize, products: &[f32]) -> Self {
        assert!(stretch > 0 && products.len().is_multiple_of(stretch * stretch), "products are of whole stretches");
        let parts = products.chunks_exact(stretch * stretch);
        let weights = parts.clone().flat_map(|part| (0..stretch).map(|i| part[i * stretch + i])).collect();
        let upper: Option<Vec<Vec<f32>>> = parts.map(|part| upper(stretch, part)).collect();
        let feedback = upper.map(|upper| {
            let upper = upper.concat();
            let left = (0..upper.len() / stretch).map(|i| upper[i * stretch + i % stretch].powi(-2)).collect();
            Feedback { stretch, upper, left }
        });
        Importance { weights, feedback: feedback.filter(|_| stretch.is_multiple_of(32)) }
    }

    /// Inputs.
    pub fn len(&self) -> usize {
        self.weights.len()
    }

    /// Whether it is about no input.
    pub fn is_empty(&self) -> bool {
        self.weights.is_empty()
    }
}

/// U of one stretch; `None` if the products are none.
fn upper(n: usize, products: &[f32]) -> Option<Vec<f32>> {
    let at = |i: usize, j: usize| products[i.max(j) * n + i.min(j)] as f64;
    let mean = (0..n).map(|i| at(i, i)).sum::<f64>() / n as f64;
    if !(mean > 0.0 && mean.is_finite()) {
        return None;
    }
    // From the last row on, products = R·Rᵀ with an upper triangular R; then U is its inverse.
    let mut r = vec![0.0_f64; n * n];
    for j in (0..n).rev() {
        for i in (0..=j).rev() {
            let dot: f64 = (j + 1..n).map(|k| r[i * n + k] * r[j * n + k]).sum();
            let value = at(i, j) - dot;
            if i == j {
                let value = value + DAMPING * mean;
                if !(value > 0.0 && value.is_finite()) {
                    return None;
                }
                r[j * n + j] = value.sqrt();
            } else {
                r[i * n + j] = value / r[j * n + j];
            }
        }
    }
    let mut u = vec![0.0_f64; n * n];
    let mut row = vec![0.0_f64; n];
    for i in (0..n).rev() {
        // Row i of U: U·R = 1.
        row.fill(0.0);
        row[i] = 1.0;
        for j in i..n {
            let value = row[j] / r[j * n + j];
            u[i * n + j] = value;
            for k in j + 1..n {
                row[k] -= value * r[j * n + k];
            }
        }
    }
    Some(u.into_iter().map(|x| x as f32).collect())
}

impl Feedback {
    /// Whether rows of a format can be written so.
    pub fn writes(format: Format) -> bool {
        matches!(format, Format::Q4_0 | Format::Q4_1)
    }

    /// Writes a row; its values are used up.
    pub fn write(&self, format: Format, values: &mut [f32], out: &mut [u8]) {
        values.iter_mut().filter(|x| !x.is_finite()).for_each(|x| *x = 0.0);
        for block in 0..values.len() / 32 {
            let group: &[f32; 32] = values[32 * block..].first_chunk().expect("whole groups");
            let left = &self.left[32 * block..][..32];
            if format == Format::Q4_0 {
                let (d, scale) = q4_0_fit(group, left);
                let codes = self.round(values, block, |x, inverse| clamp(x * inverse, -8.0, 7.0), scale, 0.0);
                blocks_mut::<Q4_0>(out)[block] = Q4_0 { d: d.to_le_bytes(), qs: pack(&codes.map(|q| code(q + 8.0))) };
            } else {
                let ((d, scale), (m, minimum)) = q4_1_fit(group, left);
                let codes = self.round(values, block, |x, inverse| clamp(x * inverse, 0.0, 15.0), scale, minimum);
                blocks_mut::<Q4_1>(out)[block] =
                    Q4_1 { d: d.to_le_bytes(), m: m.to_le_bytes(), qs: pack(&codes.map(code)) };
            }
        }
    }

    /// Rounds a group value by value; those after it in its stretch make up for each error.
    fn round(
        &self,
        values: &mut [f32],
        block: usize,
        limit: impl Fn(f32, f32) -> f32,
        scale: f32,
        minimum: f32,
    ) -> [f32; 32] {
        let inverse = if scale != 0.0 { 1.0 / scale } else { 0.0 };
        std::array::from_fn(|i| {
            let at = 32 * block + i;
            let (row, end) = (at % self.stretch, at + self.stretch - at % self.stretch);
            let q = round(limit(values[at] - minimum, inverse));
            let u = &self.upper[at * self.stretch..][row..self.stretch];
            let error = (values[at] - (scale * q + minimum)) / u[0];
            values[at + 1..end].iter_mut().zip(&u[1..]).for_each(|(x, u)| *x -= error * u);
            q
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upper_is_a_root_of_the_inverse() {
        const N: usize = 32;
        let mut state = 7_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        let rows: Vec<f32> = (0..100 * N).map(|_| random()).collect();
        let mut products = vec![0.0; N * N];
        for row in rows.chunks_exact(N) {
            for i in 0..N {
                (0..N).for_each(|j| products[i * N + j] += row[i] * row[j]);
            }
        }
        let u = upper(N, &products).expect("they are products");
        let mean = (0..N).map(|i| products[i * N + i]).sum::<f32>() / N as f32;
        (0..N).for_each(|i| products[i * N + i] += DAMPING as f32 * mean);
        // (UᵀU)·products = 1
        for i in 0..N {
            for j in 0..N {
                let inverse = |k: usize| (0..=i.min(k)).map(|l| u[l * N + i] * u[l * N + k]).sum::<f32>();
                let one: f32 = (0..N).map(|k| inverse(k) * products[k * N + j]).sum();
                let expected = if i == j { 1.0 } else { 0.0 };
                assert!((one - expected).abs() < 1e-3, "{i} {j}: {one}");
            }
        }
        assert!(upper(N, &[0.0; N * N]).is_none());
        assert!(upper(N, &[f32::NAN; N * N]).is_none());
    }
}
