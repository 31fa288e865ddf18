//! A matrix in pieces, made here number by number: what each way of packing it says is written as plainly as can be.

use nano_models::testing::RawTensor;

/// Quants, scales and zero points of a matrix.
pub struct Weights {
    pub bits: usize,
    pub rows: usize,
    pub cols: usize,
    pub per: usize,
    /// The group of each input.
    pub groups: Vec<usize>,
    /// Row by row.
    pub quants: Vec<u32>,
    pub zeros: Vec<u32>,
    /// f16.
    pub scales: Vec<u16>,
}

/// Numbers without an order, the same everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % n
    }
}

impl Weights {
    /// `zero`: the least zero point and how many there are.
    pub fn new(seed: u64, bits: usize, (rows, cols): (usize, usize), per: usize, zero: (usize, usize)) -> Self {
        let mut random = Random(seed);
        let count = cols.div_ceil(per);
        let quants = (0..rows * cols).map(|_| random.below(1 << bits) as u32).collect();
        let zeros = (0..rows * count).map(|_| (zero.0 + random.below(zero.1)) as u32).collect();
        // Between 2 to -11 and 2 to -8.
        let scales = (0..rows * count).map(|_| (4 << 10) + random.below(3 << 10) as u16).collect();
        Weights { bits, rows, cols, per, groups: (0..cols).map(|k| k / per).collect(), quants, zeros, scales }
    }

    /// With inputs in groups by chance, as many in each as before.
    pub fn shuffled(mut self) -> Self {
        let mut random = Random(7);
        for k in (1..self.cols).rev() {
            self.groups.swap(k, random.below(k + 1));
        }
        self
    }

    fn count(&self) -> usize {
        self.cols.div_ceil(self.per)
    }

    /// Scale times quant less zero point.
    pub fn values(&self) -> Vec<f32> {
        let value = |i: usize| {
            let at = i / self.cols * self.count() + self.groups[i % self.cols];
            let scale = half(self.scales[at]);
            scale * (self.quants[i] as f32 - self.zeros[at] as f32)
        };
        (0..self.rows * self.cols).map(value).collect()
    }

    fn quant(&self, n: usize, k: usize) -> u32 {
        self.quants[n * self.cols + k]
    }

    fn zero(&self, n: usize, g: usize) -> u32 {
        self.zeros[n * self.count() + g]
    }

    fn words(&self, dims: [usize; 2], field: impl Fn(usize, usize, usize) -> u32) -> Vec<u8> {
        let mut out = Vec::new();
        for i in 0..dims[0] {
            for j in 0..dims[1] {
                let word = (0..32 / self.bits).fold(0, |word, n| word | field(i, j, n) << (n * self.bits));
                out.extend(word.to_le_bytes());
            }
        }
        out
    }

    fn tensor(name: &str, dtype: &'static str, dims: [usize; 2], bytes: Vec<u8>) -> RawTensor {
        RawTensor { name: name.into(), dtype, dims: dims.to_vec(), bytes }
    }

    fn scales(&self, name: &str, transposed: bool) -> RawTensor {
        let (rows, count) = (self.rows, self.count());
        let bytes = |order: &mut dyn Iterator<Item = usize>| order.flat_map(|i| self.scales[i].to_le_bytes()).collect();
        match transposed {
            true => {
                let mut order = (0..rows * count).map(|i| i % rows * count + i / rows);
                Self::tensor(name, "F16", [count, rows], bytes(&mut order))
            }
            false => Self::tensor(name, "F16", [rows, count], bytes(&mut (0..rows * count))),
        }
    }

    fn g_idx(&self, name: &str) -> RawTensor {
        let bytes = self.groups.iter().flat_map(|g| (*g as i32).to_le_bytes()).collect();
        RawTensor { name: name.into(), dtype: "I32", dims: vec![self.cols], bytes }
    }

    /// AWQ's GEMM order.
    pub fn awq(&self, stem: &str) -> Vec<RawTensor> {
        const ORDER: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];
        let (quants, zeros) = ([self.cols, self.rows / 8], [self.count(), self.rows / 8]);
        vec![
            Self::tensor(
                &format!("{stem}.qweight"),
                "I32",
                quants,
                self.words(quants, |k, w, i| self.quant(8 * w + ORDER[i], k)),
            ),
            Self::tensor(
                &format!("{stem}.qzeros"),
                "I32",
                zeros,
                self.words(zeros, |g, w, i| self.zero(8 * w + ORDER[i], g)),
            ),
            self.scales(&format!("{stem}.scales"), true),
        ]
    }

    /// GPTQ's; `less` is taken from zero points.
    pub fn gptq(&self, stem: &str, less: u32) -> Vec<RawTensor> {
        let in_word = 32 / self.bits;
        let (quants, zeros) = ([self.cols / in_word, self.rows], [self.count(), self.rows / in_word]);
        vec![
            Self::tensor(
                &format!("{stem}.qweight"),
                "I32",
                quants,
                self.words(quants, |w, n, i| self.quant(n, w * in_word + i)),
            ),
            Self::tensor(
                &format!("{stem}.qzeros"),
                "I32",
                zeros,
                self.words(zeros, |g, w, i| self.zero(w * in_word + i, g) - less),
            ),
            self.scales(&format!("{stem}.scales"), true),
            self.g_idx(&format!("{stem}.g_idx")),
        ]
    }

    /// compressed-tensors'; without zero points where `symmetric`.
    pub fn compressed(&self, stem: &str, symmetric: bool) -> Vec<RawTensor> {
        let in_word = 32 / self.bits;
        let (quants, zeros) = ([self.rows, self.cols / in_word], [self.rows.div_ceil(in_word), self.count()]);
        let shape = [self.rows, self.cols].iter().flat_map(|n| (*n as i64).to_le_bytes()).collect();
        let mut out = vec![
            Self::tensor(
                &format!("{stem}.weight_packed"),
                "I32",
                quants,
                self.words(quants, |n, w, i| self.quant(n, w * in_word + i)),
            ),
            self.scales(&format!("{stem}.weight_scale"), false),
            RawTensor { name: format!("{stem}.weight_shape"), dtype: "I64", dims: vec![2], bytes: shape },
        ];
        if !symmetric {
            let zero = |w: usize, g: usize, i: usize| match w * in_word + i {
                n if n < self.rows => self.zero(n, g),
                _ => 0,
            };
            out.push(Self::tensor(&format!("{stem}.weight_zero_point"), "I32", zeros, self.words(zeros, zero)));
        }
        if self.groups.windows(2).any(|pair| pair[0] > pair[1]) {
            out.push(self.g_idx(&format!("{stem}.weight_g_idx")));
        }
        out
    }
}

/// An f16 that is no subnormal.
fn half(bits: u16) -> f32 {
    let bits = u32::from(bits);
    f32::from_bits((bits & 0x7fff) << 13) * 2f32.powi(112)
}
