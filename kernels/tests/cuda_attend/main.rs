//! The CUDA backend's attention on the emulator, against its plain definition in f64 over what the cache holds, and
//! against the CPU backend. Every machine must give the same bits twice.

mod decode;
mod encoders;
mod prefill;
mod shipped;

use nano_emulator::{Emulator, Options};
use nano_kernels::cpu::Cpu;
use nano_kernels::cuda::{Cuda, Sizes};
use nano_kernels::testing::Random;
use nano_kernels::{Attend, Backend, KvFormat, NO_SLOT, PAGE_ROWS, PageLayout, Precision, Row, SequenceRows, Step};

/// A cache, and a step that looks at it.
#[derive(Clone, Debug)]
struct Case {
    group: usize,
    kv_heads: usize,
    head_dim: usize,
    format: KvFormat,
    window: Option<usize>,
    softcap: Option<f32>,
    /// Of the heads in turn; none if there are none.
    sinks: Vec<f32>,
    precision: Precision,
    /// Of each sequence: how many rows of the cache its last row sees, and its rows in the step.
    sequences: Vec<(usize, usize)>,
    multiprocessors: u32,
}

const LAYERS: usize = 2;
const LAYER: usize = 1;
/// What results are written over.
const BEFORE: f32 = 7.0;

impl Case {
    fn new(group: usize, head_dim: usize, format: KvFormat, sequences: &[(usize, usize)]) -> Case {
        Case {
            group,
            kv_heads: 2,
            head_dim,
            format,
            window: None,
            softcap: None,
            sinks: Vec::new(),
            precision: Precision::Half,
            sequences: sequences.to_vec(),
            multiprocessors: 16,
        }
    }

    fn attend(&self) -> Attend {
        Attend {
            heads: self.group * self.kv_heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            scale: 2.0 / (self.head_dim as f32).sqrt(),
            window: self.window,
            softcap: self.softcap,
        }
    }

    /// With sinks far below, among and far above the scores. What is left of the latter is too little for f16.
    fn with_sinks(mut self) -> Case {
        self.sinks = vec![-1e30, 0.5, 80.0, -200.0, 4.0, -3.0, 1e30, 20.0, 0.0, -20.0, 2.0];
        self.precision = Precision::Full;
        self
    }

    fn sink(&self, head: usize) -> Option<f32> {
        self.sinks.get(head % self.sinks.len().max(1)).copied()
    }

    fn rows(&self) -> usize {
        self.sequences.iter().map(|(_, rows)| rows).sum()
    }

    fn layout(&self) -> PageLayout {
        let pages = self.sequences.iter().map(|(sees, _)| sees.div_ceil(PAGE_ROWS)).sum::<usize>() + 1;
        PageLayout { pages, layers: LAYERS, kv_heads: self.kv_heads, head_dim: self.head_dim, format: self.format }
    }

    /// The step; pages in an order of their own.
    fn step(&self, random: &mut Random) -> Step {
        let mut free: Vec<u32> = (0..self.layout().pages as u32).collect();
        let mut step = Step::default();
        for (sequence, (sees, rows)) in self.sequences.iter().enumerate() {
            let mut take = || free.swap_remove((random.next() % free.len() as u64) as usize);
            step.sequences.push(SequenceRows { pages: (0..sees.div_ceil(PAGE_ROWS)).map(|_| take()).collect() });
            for row in 0..*rows {
                let visible = (sees + 1 + row - rows) as u32;
                step.rows.push(Row {
                    token: 0,
                    position: visible - 1,
                    slot: NO_SLOT,
                    sequence: sequence as u32,
                    visible,
                });
            }
        }
        step
    }
}

/// A case's numbers.
struct Numbers {
    step: Step,
    /// In the form that backends share. Rows that nobody sees hold numbers too.
    pages: Vec<Vec<u8>>,
    q: Vec<f32>,
    layout: PageLayout,
}

impl Numbers {
    fn new(case: &Case, seed: u64) -> Numbers {
        let mut random = Random::new(seed);
        let step = case.step(&mut random);
        let layout = case.layout();
        let fields = LAYERS * case.kv_heads;
        let mut page = || {
            let mut bytes = Vec::new();
            for _ in 0..2 * fields {
                let values = PAGE_ROWS * case.head_dim;
                if case.format == KvFormat::Q8 {
                    let scale = |random: &mut Random| (0.3 + random.half().abs()) / 127.0;
                    (0..PAGE_ROWS).for_each(|_| bytes.extend(scale(&mut random).to_le_bytes()));
                    bytes.extend((0..values).map(|_| (random.next() % 255) as u8 ^ 0x80).map(|b| b.max(1)));
                } else {
                    (0..values).for_each(|_| bytes.extend(half::f16::from_f32(random.half()).to_le_bytes()));
                }
            }
            bytes
        };
        let pages = (0..layout.pages).map(|_| page()).collect();
        let q = (0..case.rows() * case.group * case.kv_heads * case.head_dim).map(|_| random.half()).collect();
        Numbers { step, pages, q, layout }
    }

    /// A row of the cache: its key (0) or value (1).
    fn stored(&self, page: u32, head: usize, which: usize, row: usize) -> Vec<f64> {
        let PageLayout { head_dim, format, kv_heads, .. } = self.layout;
        let bytes = &self.pages[page as usize];
        let field = bytes.len() / (LAYERS * kv_heads);
        let part = &bytes[(LAYER * kv_heads + head) * field..][which * field / 2..][..field / 2];
        if format == KvFormat::F16 {
            let value = |b: &[u8]| half::f16::from_le_bytes([b[0], b[1]]).to_f64();
            return part[row * head_dim * 2..][..head_dim * 2].chunks_exact(2).map(value).collect();
        }
        let scale = f32::from_le_bytes(part[row * 4..][..4].try_into().unwrap());
        part[4 * PAGE_ROWS + row * head_dim..][..head_dim].iter().map(|b| *b as i8 as f64 * scale as f64).collect()
    }

    fn expected(&self, case: &Case) -> Vec<f64> {
        let a = case.attend();
        let mut out = Vec::new();
        let mut cache = Vec::new();
        for (i, row) in self.step.rows.iter().enumerate() {
            let pages = &self.step.sequences[row.sequence as usize].pages;
            if i == 0 || row.sequence != self.step.rows[i - 1].sequence {
                cache = (0..case.kv_heads)
                    .map(|head| {
                        let of = |which| {
                            let rows = (0..pages.len() * PAGE_ROWS).map(move |i| (pages[i / PAGE_ROWS], i % PAGE_ROWS));
                            rows.map(|(page, row)| self.stored(page, head, which, row)).collect::<Vec<_>>()
                        };
                        (of(0), of(1))
                    })
                    .collect();
            }
            let visible = row.visible as usize;
            let sees = a.window.map_or(0, |window| visible.saturating_sub(window))..visible;
            for head in 0..a.heads {
                let q = &self.q[(i * a.heads + head) * a.head_dim..][..a.head_dim];
                let (keys, values) = &cache[head / case.group];
                out.extend(attended(&a, q, &keys[sees.clone()], &values[sees.clone()], case.sink(head)));
            }
        }
        out
    }
}

/// The definition. Who sees nothing gets zeros.
fn attended(a: &Attend, q: &[f32], keys: &[Vec<f64>], values: &[Vec<f64>], sink: Option<f32>) -> Vec<f64> {
    let score = |key: &Vec<f64>| {
        let s = key.iter().zip(q).map(|(k, q)| k * *q as f64).sum::<f64>() * a.scale as f64;
        a.softcap.map_or(s, |cap| cap as f64 * (s / cap as f64).tanh())
    };
    let scores: Vec<f64> = keys.iter().map(score).collect();
    let most = scores.iter().fold(f64::NEG_INFINITY, |m, s| m.max(*s));
    let weights: Vec<f64> = scores.iter().map(|s| (s - most).exp()).collect();
    let sum = weights.iter().sum::<f64>() + sink.map_or(0.0, |sink| (sink as f64 - most).exp());
    let dim = |d: usize| values.iter().zip(&weights).map(|(v, w)| v[d] * w / sum).sum::<f64>();
    (0..a.head_dim).map(|d| if keys.is_empty() { 0.0 } else { dim(d) }).collect()
}

/// What a backend makes of a case, `times` times; rows beyond the step's last too.
fn found<B: Backend>(backend: &mut B, case: &Case, numbers: &Numbers, times: usize) -> Vec<Vec<f32>> {
    let a = case.attend();
    let cols = a.heads * a.head_dim;
    let rows = case.rows();
    let mut pages = backend.pages(numbers.layout).unwrap();
    for (i, page) in numbers.pages.iter().enumerate() {
        backend.write_page(&mut pages, i as u32, page).unwrap();
    }
    let mut q = backend.buf(rows.max(8), cols, case.precision).unwrap();
    let mut out = backend.buf(rows.max(8) + 1, cols, case.precision).unwrap();
    backend.write(&mut q, &numbers.q).unwrap();
    let sinks: Option<Vec<f32>> = (0..a.heads).map(|head| case.sink(head)).collect();
    let sinks = sinks.map(|sinks| {
        let mut buf = backend.buf(1, a.heads, Precision::Full).unwrap();
        backend.write(&mut buf, &sinks).unwrap();
        buf
    });
    let run = |_| {
        backend.write(&mut out, &vec![BEFORE; (rows.max(8) + 1) * cols]).unwrap();
        backend.run(&numbers.step, Some(3), &mut |b| b.attend(&mut out, &q, &pages, LAYER, a, sinks.as_ref())).unwrap();
        backend.read(&out, rows.max(8) + 1).unwrap().to_vec()
    };
    (0..times).map(run).collect()
}

fn machine(case: &Case, arch: u32, seed: u64) -> (Emulator, Cuda<Emulator>) {
    let options = Options { arch, seed, multiprocessors: case.multiprocessors, ..Options::default() };
    let machine = Emulator::new(options).unwrap();
    let cuda = Cuda::new(machine.clone(), sizes(case)).unwrap();
    (machine, cuda)
}

fn sizes(case: &Case) -> Sizes {
    Sizes { rows: case.rows().max(8), logits: 8, pages: case.layout().pages }
}

/// The greatest error of a head's result, squared and relative.
#[track_caller]
fn assert_near(found: &[f32], expected: &[f64], head_dim: usize, most: f64, what: &str) {
    for (i, (found, expected)) in found.chunks_exact(head_dim).zip(expected.chunks_exact(head_dim)).enumerate() {
        let off: f64 = found.iter().zip(expected).map(|(f, e)| (*f as f64 - e).powi(2)).sum();
        let size: f64 = expected.iter().map(|e| e * e).sum();
        assert!(off <= most * size, "{what}: head {i}: {found:?} where {expected:?} is right");
    }
}

/// The first run has no splits yet; the second and third are alike.
#[track_caller]
fn check(case: &Case, arches: &[(u32, u64)]) {
    let numbers = Numbers::new(case, 5);
    let expected = numbers.expected(case);
    for (arch, seed) in arches {
        let what = format!("ARCH {arch}, seed {seed}, {case:?}");
        let (machine, mut cuda) = machine(case, *arch, *seed);
        let runs = found(&mut cuda, case, &numbers, 3);
        machine.check().unwrap();
        for run in &runs {
            assert_near(run, &expected, case.head_dim, 1e-6, &what);
            let padded = if case.rows() <= 8 { case.rows().next_power_of_two() } else { case.rows() };
            let cols = expected.len() / case.rows();
            assert!(run[expected.len()..padded * cols].iter().all(|v| *v == 0.0), "{what}: rows that only pad");
            assert!(run[padded * cols..].iter().all(|v| *v == BEFORE), "{what}: written past the last row");
        }
        assert!(runs[1] == runs[2], "{what}: other bits the second time");
    }
}

const BOTH: [(u32, u64); 3] = [(72, 0), (80, 0), (80, 3)];
const FORMATS: [KvFormat; 2] = [KvFormat::F16, KvFormat::Q8];

/// Values whose scales differ by powers of ten from row to row, and values that f16 could not hold.
#[test]
fn scales_of_every_size() {
    let exponents: [fn(usize) -> i32; 2] = [|i| (i % 9) as i32 - 8, |i| (i % 3) as i32 - 9];
    for (rows, exponent) in [(1, exponents[0]), (30, exponents[0]), (1, exponents[1]), (30, exponents[1])] {
        let mut case = Case::new(2, 64, KvFormat::Q8, &[(100, rows)]);
        (case.kv_heads, case.precision) = (1, Precision::Full);
        let mut numbers = Numbers::new(&case, 6);
        for (p, page) in numbers.pages.iter_mut().enumerate() {
            let half = page.len() / (2 * LAYERS);
            for row in 0..PAGE_ROWS {
                let scale = 10f32.powi(exponent(row + p));
                page[3 * half + row * 4..][..4].copy_from_slice(&scale.to_le_bytes());
            }
        }
        let expected = numbers.expected(&case);
        for (arch, seed) in BOTH {
            let (_, mut cuda) = machine(&case, arch, seed);
            let run = found(&mut cuda, &case, &numbers, 1).remove(0);
            assert_near(&run, &expected, case.head_dim, 1e-6, &format!("ARCH {arch}, {rows} rows"));
        }
    }
}

/// The CPU backend does the same.
#[test]
fn the_cpu_agrees() {
    for format in FORMATS {
        let mut case = Case::new(3, 20, format, &[(300, 1), (45, 12), (64, 2)]);
        case.window = Some(90);
        case.softcap = Some(5.0);
        for case in [case.clone(), case.with_sinks()] {
            let numbers = Numbers::new(&case, 8);
            let runs = found(&mut Cpu::new(2).unwrap(), &case, &numbers, 1);
            assert_near(&runs[0], &numbers.expected(&case), case.head_dim, 1e-9, "the CPU");
            check(&case, &BOTH);
        }
    }
}

/// What sees nothing gets nothing, whatever the sinks.
#[test]
fn rows_that_see_nothing() {
    for (format, rows) in [(KvFormat::F16, 2), (KvFormat::Q8, 20)] {
        for case in [Case::new(3, 64, format, &[(40, rows)]), Case::new(4, 64, format, &[(40, rows)]).with_sinks()] {
            let mut numbers = Numbers::new(&case, 10);
            numbers.step.rows[rows - 2].visible = 0;
            let expected = numbers.expected(&case);
            for (arch, seed) in BOTH {
                let (_, mut cuda) = machine(&case, arch, seed);
                let run = found(&mut cuda, &case, &numbers, 1).remove(0);
                assert_near(&run, &expected, case.head_dim, 1e-6, &format!("ARCH {arch}, {rows} rows"));
            }
        }
    }
}
