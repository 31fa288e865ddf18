//! rope_store: heads normalised, turned, and stored.

use super::{Portable, Random, SIZES, assert_near, cached, everywhere, held};
use nano_kernels::cuda::{Buf, Cuda, Driver};
use nano_kernels::{Backend, KvFormat, NO_SLOT, Norm, NormKind, PAGE_ROWS, PageLayout, Pairing, Precision, Rope};

/// A norm of heads: its numbers, for one head or for each.
struct HeadNorm {
    kind: NormKind,
    whole: bool,
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
}

const EPS: f32 = 1e-6;

impl HeadNorm {
    /// Norms head `head`, `x`, of `all`.
    fn apply(&self, x: &mut [f64], head: usize, all: &[f64]) {
        let over = if self.whole { all.to_vec() } else { x.to_vec() };
        let n = over.len() as f64;
        let mean = if self.kind == NormKind::Layer { over.iter().sum::<f64>() / n } else { 0.0 };
        let factor = 1.0 / (over.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n + EPS as f64).sqrt();
        let own = if self.weight.len() > x.len() { head * x.len() } else { 0 };
        for (i, v) in x.iter_mut().enumerate() {
            let bias = self.bias.as_ref().map_or(0.0, |b| b[own + i] as f64);
            *v = (*v - mean) * factor * self.weight[own + i] as f64 + bias;
        }
    }
}

pub fn row<D: Driver>(cuda: &mut Cuda<D>, values: &[f32]) -> Buf {
    let mut buf = cuda.buf(1, values.len(), Precision::Full).unwrap();
    cuda.write(&mut buf, values).unwrap();
    buf
}

/// Turns a head. Angles are float32 products, as everywhere; what follows is exact.
pub fn turn(x: &mut [f64], position: f32, frequencies: &[f32], factor: f64, pairing: Pairing) {
    let half = frequencies.len();
    for (p, frequency) in frequencies.iter().enumerate() {
        let angle = (position * frequency) as f64;
        let (i, j) = if pairing == Pairing::Halves { (p, p + half) } else { (2 * p, 2 * p + 1) };
        let (c, s) = (angle.cos() * factor, angle.sin() * factor);
        (x[i], x[j]) = (x[i] * c - x[j] * s, x[j] * c + x[i] * s);
    }
}

pub fn frequencies(dims: usize) -> Vec<f32> {
    (0..dims / 2).map(|i| 10000f32.powf(-2.0 * i as f32 / dims as f32)).collect()
}

struct Case {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    dims: usize,
    pairing: Pairing,
    /// No norms; root mean square; layer norms with biases, q alone; root mean square over all heads; layer norms with
    /// each head's own factors; the same over all heads, with biases.
    norms: usize,
    /// Whether qkv and q are f16.
    half: [bool; 2],
    format: KvFormat,
}

const POSITIONS: [u32; 9] = [0, 1, 77, 4095, 131071, 1000000, 8191, 3, 500];

fn check<D: Driver>(cuda: &mut Cuda<D>, case: &Case, number: usize) -> Vec<f32> {
    let Case { heads, kv_heads, head_dim, dims, pairing, norms, half, format } = *case;
    let mut random = Random::new(number as u64);
    let layout = PageLayout { pages: 3, layers: 2, kv_heads, head_dim, format };
    // Slabs of a page each, or two.
    let slab = if number.is_multiple_of(2) { 1 } else { 2 * Cuda::<D>::page_bytes(&layout) };
    let mut kv = cuda.pages_in_slabs(layout, slab).unwrap();
    let factor = if number.is_multiple_of(3) { 1.25 } else { 1.0 };
    let whole = norms == 3 || norms == 5;
    let mut norm = |of: bool, heads: usize| {
        let kind = if norms == 1 || norms == 3 { NormKind::Rms } else { NormKind::Layer };
        let count = if norms > 2 { heads * head_dim } else { head_dim };
        let bias = (norms == 2 || norms == 5).then(|| random.floats(count));
        of.then(|| HeadNorm { kind, whole, weight: random.floats(count), bias })
    };
    let (q_norm, k_norm) = (norm(norms > 0, heads), norm(norms > 0 && norms != 2, kv_heads));
    let mut on_device = |norm: &Option<HeadNorm>| {
        norm.as_ref().map(|norm| Norm {
            kind: norm.kind,
            weight: row(cuda, &norm.weight),
            bias: norm.bias.as_ref().map(|b| row(cuda, b)),
            eps: EPS,
        })
    };
    let (q_own, k_own) = (on_device(&q_norm), on_device(&k_norm));
    let frequencies = frequencies(dims);
    let frequencies_buf = row(cuda, &frequencies);
    let rope = Rope {
        pairing,
        dims,
        frequencies: frequencies_buf,
        factor,
        heads,
        kv_heads,
        head_dim,
        q_norm: q_own,
        k_norm: k_own,
        whole_norms: whole,
    };
    let n: usize = [1, 3, 9][number / 3 % 3];
    let rows = n.next_power_of_two().max(9) + 1;
    let (q_cols, cols) = (heads * head_dim, (heads + 2 * kv_heads) * head_dim);
    let mut values = random.floats(rows * cols);
    values[0] = 1e6; // saturates
    values[q_cols + kv_heads * head_dim..][..head_dim].fill(0.0); // a value of zeros
    let precision = |half| if half { Precision::Half } else { Precision::Full };
    let mut qkv = cuda.buf(rows, cols, precision(half[0])).unwrap();
    cuda.write(&mut qkv, &values).unwrap();
    let values = held(&values, half[0]);
    let mut q = cuda.buf(rows, q_cols, precision(half[1])).unwrap();
    cuda.write(&mut q, &vec![7.0; rows * q_cols]).unwrap();
    // Slots here and there; one row has none, one has one that no pool has.
    let slot = |r: usize| match r {
        2 => NO_SLOT,
        4 => 3 * PAGE_ROWS as u32,
        r => ((r * 37 + number) % (3 * PAGE_ROWS)) as u32,
    };
    let step = cached(&(0..n).map(|r| (POSITIONS[(r + number) % 9], slot(r))).collect::<Vec<_>>(), 3);
    let layer = number % 2;
    cuda.run(&step, None, &mut |b| b.rope_store(&mut q, &qkv, &mut kv, layer, &rope)).unwrap();

    let found = cuda.read(&q, rows).unwrap().to_vec();
    let pages: Vec<Vec<u8>> = (0..3)
        .map(|page| {
            let mut bytes = vec![1; layout.portable_bytes()];
            cuda.read_page(&kv, page, &mut bytes).unwrap();
            bytes
        })
        .collect();
    let portable = Portable(layout);
    let mut stored = 0;
    for (r, of) in step.rows.iter().enumerate() {
        let some = |from: usize, count: usize| values[r * cols + from..][..count].iter().map(|v| *v as f64);
        // Head `head` of the `count` that begin at `from`.
        let part = |from: usize, head: usize, count: usize, norm: &Option<HeadNorm>, turned: bool| -> Vec<f64> {
            let mut x: Vec<f64> = some(from + head * head_dim, head_dim).collect();
            let all: Vec<f64> = some(from, count * head_dim).collect();
            norm.iter().for_each(|norm| norm.apply(&mut x, head, &all));
            if turned {
                turn(&mut x, of.position as f32, &frequencies, factor as f64, pairing);
            }
            x
        };
        let most = |x: &[f64]| x.iter().fold(0f64, |m, v| m.max(v.abs()));
        for head in 0..heads {
            let exact = part(0, head, heads, &q_norm, true);
            for (e, exact_value) in exact.iter().enumerate() {
                let what = format!("case {number}: q, row {r}, head {head}, dim {e}, position {}", of.position);
                let at = r * q_cols + head * head_dim + e;
                assert_near(found[at], *exact_value, 3e-6 * most(&exact).max(1e-3), half[1], &what);
            }
        }
        if of.slot as usize >= 3 * PAGE_ROWS {
            continue;
        }
        stored += 1;
        let (page, row) = (of.slot as usize / PAGE_ROWS, of.slot as usize % PAGE_ROWS);
        for (head, which) in (0..kv_heads).flat_map(|head| [(head, 0), (head, 1)]) {
            let from = q_cols + which * kv_heads * head_dim;
            let exact = part(from, head, kv_heads, if which == 0 { &k_norm } else { &None }, which == 0);
            let (values, scale) = portable.values(&pages[page], layer * kv_heads + head, which, row);
            let what = format!("case {number}: {}, row {r}, head {head}", ["key", "value"][which]);
            if format == KvFormat::Q8 {
                let right = most(&exact) / 127.0;
                assert!((scale as f64 - right).abs() <= 4e-6 * right, "{what}: scale {scale}, not {right}");
            }
            for (e, (value, exact_value)) in values.iter().zip(&exact).enumerate() {
                let error = 3e-6 * most(&exact) + 0.5001 * scale as f64;
                assert_near(*value, *exact_value, error, format == KvFormat::F16, &format!("{what}, dim {e}"));
            }
        }
    }
    // Nothing else was written: as many rows as were stored are there, in this layer alone.
    for index in 0..2 * kv_heads {
        let rows = (0..3 * PAGE_ROWS).filter(|slot| {
            let (values, _) = portable.values(&pages[slot / PAGE_ROWS], index, 0, slot % PAGE_ROWS);
            values.iter().any(|v| *v != 0.0)
        });
        assert_eq!(
            rows.count(),
            if index / kv_heads == layer { stored } else { 0 },
            "case {number}: rows of field {index}"
        );
    }
    let padded = if n <= 8 { n.next_power_of_two() } else { n };
    assert!(found[padded * q_cols..].iter().all(|v| *v == 7.0), "case {number}: rows past the step");
    let mut seen = found;
    seen.extend(pages.concat().iter().map(|b| *b as f32));
    seen
}

#[test]
fn heads_are_turned_and_stored() {
    let shapes = [
        (16, 16),
        (20, 20),
        (20, 8),
        (64, 64),
        (64, 16),
        (80, 80),
        (80, 32),
        (128, 128),
        (256, 256),
        (256, 64),
        (48, 0),
        (96, 94),
    ];
    let mut cases = Vec::new();
    for (i, (head_dim, dims)) in shapes.into_iter().enumerate() {
        for format in [KvFormat::F16, KvFormat::Q8] {
            let number = cases.len();
            cases.push(Case {
                heads: [4, 3, 6][i % 3],
                kv_heads: [2, 3, 1][i % 3],
                head_dim,
                dims,
                pairing: if (number / 2) % 2 == 0 { Pairing::Halves } else { Pairing::Adjacent },
                norms: number % 6,
                half: [number % 4 < 2, number % 5 > 1],
                format,
            });
        }
    }
    everywhere!(|cuda| cases.iter().enumerate().flat_map(|(number, case)| check(cuda, case, number)).collect());
}

/// Where nothing turns and nothing is normalised, the bytes are those of the CPU.
#[test]
fn what_is_stored_as_it_is_equals_the_cpu() {
    let cpu_pages = |format, values: &[f32]| {
        let mut cpu = nano_kernels::cpu::Cpu::new(1).unwrap();
        store(&mut cpu, format, values)
    };
    for format in [KvFormat::F16, KvFormat::Q8] {
        let values: Vec<f32> = Random::new(11).floats(9 * 4 * 72).iter().map(|v| v * v * v * 1e-4).collect();
        let expected = cpu_pages(format, &values);
        everywhere!(|cuda| {
            assert!(store(cuda, format, &values) == expected, "{format:?}");
            Vec::new()
        });
    }
}

fn store<B: Backend>(b: &mut B, format: KvFormat, values: &[f32]) -> Vec<u8> {
    let layout = PageLayout { pages: 2, layers: 1, kv_heads: 1, head_dim: 72, format };
    let mut kv = b.pages(layout).unwrap();
    let frequencies = b.buf(1, 0, Precision::Full).unwrap();
    let rope = Rope {
        pairing: Pairing::Halves,
        dims: 0,
        frequencies,
        factor: 1.0,
        heads: 2,
        kv_heads: 1,
        head_dim: 72,
        q_norm: None,
        k_norm: None,
        whole_norms: false,
    };
    let mut qkv = b.buf(SIZES.rows, 4 * 72, Precision::Full).unwrap();
    let mut q = b.buf(SIZES.rows, 2 * 72, Precision::Full).unwrap();
    b.write(&mut qkv, values).unwrap();
    let step = cached(&(0..9).map(|r| (r, 7 * r)).collect::<Vec<_>>(), 2);
    b.run(&step, None, &mut |b| b.rope_store(&mut q, &qkv, &mut kv, 0, &rope)).unwrap();
    let mut pages = vec![0; 2 * layout.portable_bytes()];
    for (page, bytes) in pages.chunks_exact_mut(layout.portable_bytes()).enumerate() {
        b.read_page(&kv, page as u32, bytes).unwrap();
    }
    pages
}
