//! Products of many rows on every machine that runs kernels, held against their definition: dequantized weights, f16
//! inputs, sums in f64. The emulator runs the most cases; what a device is given is run by the interpreter.

use half::f16;
use nano_emulator::{Emulator, Options};
use nano_interpreter::Interpreter;
use nano_kernels::cuda::device::Device;
use nano_kernels::cuda::{Cuda, Driver, Sizes};
use nano_kernels::format::{dequantize_row, quantize_row};
use nano_kernels::{
    Act, After, Backend, Format, Group, HostTensor, Linear, NO_SLOT, Precision, Result, Row, Rows, SequenceRows, Step,
    testing,
};
use std::borrow::Cow;

const FORMATS: [Format; 10] = [
    Format::F16,
    Format::Q8_0,
    Format::Q4_0,
    Format::Q4_1,
    Format::Q4K,
    Format::Q6K,
    Format::Int4(Group::G32),
    Format::Int4(Group::G128),
    Format::Int8(Group::G64),
    Format::Mxfp4,
];

struct Random(u64);

impl Random {
    /// Between -1 and 1.
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn many(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.next()).collect()
    }
}

/// A product, and what to do with it. Parts: formats and outputs, one under the other.
#[derive(Clone, Debug)]
struct Case {
    parts: Vec<(Format, usize)>,
    cols: usize,
    rows: usize,
    after: After,
    bias: bool,
    out: Precision,
    /// Whether the columns of the weights lie in an order of their own.
    order: bool,
}

impl Case {
    fn new(format: Format, outputs: usize, cols: usize, rows: usize) -> Case {
        let cols = cols.next_multiple_of(format.block_len());
        let (after, out) = (After::Store, Precision::Full);
        Case { parts: vec![(format, outputs)], cols, rows, after, bias: false, out, order: false }
    }

    fn outputs(&self) -> usize {
        self.parts.iter().map(|(_, outputs)| outputs).sum()
    }
}

/// The numbers of a case.
struct Numbers {
    /// Parts as a checkpoint has them, and all weights.
    packed: Vec<Vec<u8>>,
    weights: Vec<f32>,
    x: Vec<f32>,
    bias: Vec<f32>,
    before: Vec<f32>,
}

fn numbers(case: &Case) -> Numbers {
    let mut random = Random(case.cols as u64 * 7919 + case.rows as u64 * 31 + case.outputs() as u64);
    let (mut packed, mut weights) = (Vec::new(), Vec::new());
    for (format, outputs) in &case.parts {
        let row_bytes = format.row_bytes(case.cols).unwrap();
        let mut bytes = vec![0; outputs * row_bytes];
        for row in bytes.chunks_exact_mut(row_bytes) {
            // Rows of different sizes, so that their scales differ.
            let size = 0.5 + random.next().abs();
            let values: Vec<f32> = (0..case.cols).map(|_| size * (random.next() + 0.2)).collect();
            match format {
                // Nothing here writes these.
                Format::Int4(_) | Format::Int8(_) | Format::Mxfp4 => {
                    row.copy_from_slice(&testing::Random::new(random.0).weight(*format, 1, case.cols));
                }
                _ => quantize_row(*format, &values, row).unwrap(),
            }
            let mut read = vec![0.0; case.cols];
            dequantize_row(*format, row, &mut read);
            weights.extend(ordered(case, &read));
        }
        packed.push(bytes);
    }
    let x = random.many(case.rows * case.cols).into_iter().map(|v| f16::from_f32(v).to_f32()).collect();
    let outs = if let After::Glu(_) = case.after { case.outputs() / 2 } else { case.outputs() };
    let before = (0..(case.rows + 1) * outs).map(|_| f16::from_f32(3.0 * random.next()).to_f32()).collect();
    Numbers { packed, weights, x, bias: random.many(case.outputs()), before }
}

/// Which input a column is for.
fn order(case: &Case) -> Vec<u32> {
    let cols = case.cols as u32;
    (0..cols).map(|column| if case.order { cols - 1 - (column + 5) % cols } else { column }).collect()
}

/// A row of weights in the order of the inputs.
fn ordered(case: &Case, columns: &[f32]) -> Vec<f32> {
    let mut row = vec![0.0; case.cols];
    order(case).iter().zip(columns).for_each(|(input, value)| row[*input as usize] = *value);
    row
}

/// Row by row, what the product must give, and what is not to be touched after it.
fn expected(case: &Case, numbers: &Numbers) -> Vec<f64> {
    let outputs = case.outputs();
    let outs = if let After::Glu(_) = case.after { outputs / 2 } else { outputs };
    let mut all: Vec<f64> = numbers.before.iter().map(|v| *v as f64).collect();
    for (n, x) in numbers.x.chunks_exact(case.cols).enumerate() {
        let sums: Vec<f64> = numbers
            .weights
            .chunks_exact(case.cols)
            .zip(&numbers.bias)
            .map(|(w, bias)| {
                let sum: f64 = w.iter().zip(x).map(|(w, x)| *w as f64 * *x as f64).sum();
                sum + if case.bias { *bias as f64 } else { 0.0 }
            })
            .collect();
        for (j, to) in all[n * outs..(n + 1) * outs].iter_mut().enumerate() {
            *to = match case.after {
                After::Store => sums[j],
                After::Add => *to + sums[j],
                After::Act(a) => testing::exact_act(a, sums[j]),
                After::Glu(a) => testing::exact_gated(a, sums[j], sums[outs + j]),
            };
        }
    }
    all
}

fn step(rows: usize) -> Step {
    let row = |i| Row { token: 0, position: i as u32, slot: NO_SLOT, sequence: 0, visible: 0 };
    Step { rows: (0..rows).map(row).collect(), sequences: vec![SequenceRows::default()], ..Step::default() }
}

/// What the machine gives for the first `rows` rows; and the row behind the case's last, which is not to be touched.
fn found<D: Driver>(driver: D, case: &Case, numbers: &Numbers, rows: usize) -> Vec<f32> {
    let mut cuda = Cuda::new(driver, Sizes { rows: case.rows, logits: 1, pages: 1 }).unwrap();
    let tensors: Vec<HostTensor> = case
        .parts
        .iter()
        .zip(&numbers.packed)
        .map(|((format, outputs), bytes)| {
            let tensor = HostTensor::new("w", *format, *outputs, case.cols, Cow::Borrowed(bytes)).unwrap();
            tensor.with_order(&order(case)).unwrap()
        })
        .collect();
    let weight = cuda.weight(&tensors).unwrap();
    let bias = case.bias.then(|| {
        let mut bias = cuda.buf(1, case.outputs(), Precision::Full).unwrap();
        cuda.write(&mut bias, &numbers.bias).unwrap();
        bias
    });
    let outs = numbers.before.len() / (case.rows + 1);
    let mut x = cuda.buf(case.rows, case.cols, Precision::Half).unwrap();
    let mut out = cuda.buf(case.rows + 1, outs, case.out).unwrap();
    cuda.write(&mut x, &numbers.x).unwrap();
    cuda.write(&mut out, &numbers.before).unwrap();
    let linear = Linear { weight, bias };
    cuda.run(&step(rows), None, &mut |c| c.linear(&mut out, &x, None, &linear, case.after, Rows::All)).unwrap();
    cuda.read(&out, case.rows + 1).unwrap().to_vec()
}

fn check(what: &str, case: &Case, found: &[f32], expected: &[f64]) {
    let square = expected.iter().map(|v| v * v).sum::<f64>();
    let rms = (square / expected.len() as f64).sqrt();
    let mut off = 0.0;
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        let difference = *f as f64 - e;
        assert!(difference.abs() <= 4e-3 * rms + 1e-3 * e.abs(), "{what}: {case:?}: {f} for {e} at {i}");
        off += difference * difference;
    }
    assert!(off <= 1e-6 * square, "{what}: {case:?}: NMSE {:e}", off / square);
}

/// One case on a machine made anew by `open`, in order and shuffled, twice each: right, and always the same bits.
fn try_case<D: Driver>(what: &str, open: &dyn Fn(u64) -> Result<D>, seeds: &[u64], case: &Case) {
    let numbers = numbers(case);
    let expected = expected(case, &numbers);
    let mut first: Option<Vec<f32>> = None;
    for seed in seeds {
        let values = found(open(*seed).unwrap(), case, &numbers, case.rows);
        check(&format!("{what}, seed {seed}"), case, &values, &expected);
        // The row behind the last is as it was.
        let outs = numbers.before.len() / (case.rows + 1);
        assert_eq!(values[case.rows * outs..], numbers.before[case.rows * outs..], "{what}: {case:?}: past the end");
        let first = first.get_or_insert_with(|| values.clone());
        assert!(first.iter().zip(&values).all(|(a, b)| a.to_bits() == b.to_bits()), "{what}: {case:?}: seed {seed}");
    }
}

/// Machines of both ARCHes. How many multiprocessors they have decides on the shape of blocks, together with the sizes
/// of a product: see the tests in `src/cuda/prefill.rs`.
fn emulators(multiprocessors: u32, run: impl Fn(&str, &dyn Fn(u64) -> Result<Emulator>)) {
    for arch in [72, 80] {
        let open = |seed| Emulator::new(Options { arch, seed, multiprocessors, threads: 2, ..Options::default() });
        run(&format!("sm_{arch} x {multiprocessors}"), &open);
    }
}

/// Odd ends of outputs, columns and rows in blocks of every shape: half tiles, one tile, many, split inputs.
#[test]
fn formats_and_shapes() {
    let shapes: [(u32, &[[usize; 3]]); 4] = [
        (1, &[[136, 160, 65], [250, 32, 130], [136, 96, 50], [136, 288, 9], [250, 32, 17]]),
        (2, &[[250, 160, 33]]),
        // Three blocks of rows in two bands.
        (5, &[[16, 32, 70]]),
        (48, &[[1, 96, 9], [17, 160, 16], [40, 2080, 17], [16, 32, 65]]),
    ];
    for (multiprocessors, shapes) in shapes {
        emulators(multiprocessors, |what, open| {
            for format in FORMATS {
                for [outputs, cols, rows] in shapes {
                    try_case(what, open, &[0], &Case::new(format, *outputs, *cols, *rows));
                }
            }
        });
    }
}

/// What is done with the sums, with and without bias, into both kinds of buffer, at once and added up from parts.
#[test]
fn ends() {
    let afters = [
        After::Add,
        After::Act(Act::Gelu),
        After::Act(Act::Silu),
        After::Glu(Act::Silu),
        After::Glu(Act::GeluTanh),
        After::Glu(Act::Clamped),
    ];
    for (multiprocessors, cols, rows) in [(1, 64, 70), (48, 2048, 10)] {
        emulators(multiprocessors, |what, open| {
            for (i, after) in afters.into_iter().enumerate() {
                for out in [Precision::Full, Precision::Half] {
                    let format = FORMATS[1 + i % 3];
                    // Gates and ups in one kernel: whole tiles of each.
                    let outputs = if let After::Glu(_) = after { 96 } else { 50 };
                    let bias = i % 2 == 0 || out == Precision::Half;
                    try_case(what, open, &[0], &Case { after, out, bias, ..Case::new(format, outputs, cols, rows) });
                }
            }
            // Gates and ups that do not end with a tile.
            let parts = vec![(Format::Q4_0, 36); 2];
            let glu = Case { parts, after: After::Glu(Act::Silu), bias: true, ..Case::new(Format::Q4_0, 0, 96, 12) };
            try_case(what, open, &[0], &glu);
            // A router.
            try_case(what, open, &[0], &Case { bias: true, ..Case::new(Format::F16, 32, 2880, 12) });
        });
    }
}

/// What f16 cannot hold becomes the most that it can.
#[test]
fn large_results() {
    emulators(1, |what, open| {
        let case = Case { out: Precision::Half, ..Case::new(Format::Q8_0, 40, 64, 9) };
        let mut numbers = numbers(&case);
        // Scales of f16, times 2^14.
        for block in numbers.packed[0].chunks_exact_mut(34) {
            let scale = f16::from_le_bytes([block[0], block[1]]) * f16::from_f32(16384.0);
            block[..2].copy_from_slice(&scale.to_le_bytes());
        }
        numbers.weights.iter_mut().for_each(|w| *w *= 16384.0);
        let exact = expected(&case, &numbers);
        let limited: Vec<f64> = exact.iter().map(|v| v.clamp(-65504.0, 65504.0)).collect();
        assert!(exact.iter().filter(|v| v.abs() > 65504.0).count() > 20);
        check(what, &case, &found(open(0).unwrap(), &case, &numbers, 9), &limited);
    });
}

/// Parts of several formats under one another, at outputs that no tile begins at.
#[test]
fn parts() {
    emulators(2, |what, open| {
        let parts = vec![(Format::Q4K, 24), (Format::Q6K, 9), (Format::Q8_0, 70), (Format::F16, 5)];
        try_case(what, open, &[0], &Case { parts, bias: true, ..Case::new(Format::Q4K, 0, 256, 11) });
    });
}

/// Columns that lie in an order of the weight's own.
#[test]
fn columns() {
    emulators(2, |what, open| {
        for format in [Format::Int4(Group::G128), Format::Int8(Group::G32), Format::F16] {
            try_case(what, open, &[0], &Case { order: true, ..Case::new(format, 40, 256, 11) });
        }
    });
}

/// Threads, blocks and copies in other orders give the same bits.
#[test]
fn orders() {
    for (multiprocessors, outputs, cols, rows) in [(1, 40, 400, 70), (48, 20, 2048, 20)] {
        emulators(multiprocessors, |what, open| {
            for format in [Format::F16, Format::Q6K] {
                let case = Case { bias: true, ..Case::new(format, outputs, cols, rows) };
                try_case(what, open, &[0, 1, 2, 2], &case);
            }
        });
    }
}

/// A row has the same product alone, in a decode step, as among many.
#[test]
fn decode_agrees() {
    emulators(1, |what, open| {
        for format in FORMATS {
            let case = Case::new(format, 48, 512, 9);
            let numbers = numbers(&case);
            let many = found(open(0).unwrap(), &case, &numbers, 9);
            for rows in [1, 5] {
                let few = found(open(0).unwrap(), &case, &numbers, rows);
                let many: Vec<f64> = many[..rows * 48].iter().map(|v| *v as f64).collect();
                check(&format!("{what}, {rows} rows alone"), &case, &few[..rows * 48], &many);
            }
        }
    });
}

/// Every kernel, and every shape of block on a machine of four multiprocessors.
fn few_cases<D: Driver>(what: &str, open: &dyn Fn(u64) -> Result<D>) {
    for format in FORMATS {
        for [outputs, cols, rows] in [[250, 32, 130], [17, 160, 9]] {
            try_case(what, open, &[0], &Case { bias: true, ..Case::new(format, outputs, cols, rows) });
        }
    }
    for (outputs, cols, rows, after) in [
        (700, 288, 9, After::Store),
        (700, 32, 40, After::Add),
        (330, 32, 40, After::Store),
        (32, 2048, 9, After::Glu(Act::Silu)),
        (160, 32, 40, After::Glu(Act::Clamped)),
        (32, 2048, 12, After::Glu(Act::Clamped)),
    ] {
        let case = Case { after, out: Precision::Half, ..Case::new(Format::Q4_0, outputs, cols, rows) };
        try_case(what, open, &[0], &case);
    }
    let case = Case::new(Format::Int4(Group::G64), 330, 192, 40);
    try_case(what, open, &[0], &Case { order: true, ..case });
}

#[test]
fn the_interpreter_of_the_shipped_ptx_agrees() {
    for capability in [72, 87] {
        few_cases(&format!("PTX on sm_{capability}"), &|_| Interpreter::new(capability));
    }
}

#[test]
fn the_device_agrees() {
    match Device::open(0) {
        Ok(device) => {
            drop(device);
            few_cases("device", &|_| Device::open(0));
        }
        Err(error) => println!("skipped: no CUDA device ({error})"),
    }
}
