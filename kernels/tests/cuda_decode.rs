//! Products of one to eight rows on the machines of the CUDA backend, held against their definition: dequantized
//! weights, inputs rounded to f16, sums in f64. Launcher, packing and kernels together.

#[path = "support/decode.rs"]
mod support;

use nano_emulator::{Emulator, Options};
use nano_interpreter::Interpreter;
use nano_kernels::cuda::device::Device;
use nano_kernels::cuda::{Cuda, Driver, Sizes};
use nano_kernels::testing::Random;
use nano_kernels::{Act, After, Backend, Format, Group, HostTensor, Linear, NormKind, Precision, Rows};
use support::{Case, Numbers, error};

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
const ARCHES: [u32; 2] = [72, 80];

/// Weights are rounded to f16 once (those of K formats, their scales too), and so are results that are stored so.
const LIMIT: f64 = 5e-7;

/// Runs a case on the emulator under some seeds: all must give the same bits, and write nothing but the result.
fn check(case: &Case, multiprocessors: u32, seeds: &[u64]) -> f64 {
    let numbers = Numbers::new(case, 1);
    let expected = numbers.expected(case);
    let mut worst = 0f64;
    for arch in ARCHES {
        let mut first: Option<Vec<f32>> = None;
        for seed in seeds {
            let machine = Emulator::new(Options { arch, seed: *seed, multiprocessors, ..Options::default() }).unwrap();
            let found = numbers.found(case, machine.clone(), if *seed == 0 { 2 } else { 1 });
            machine.check().unwrap();
            let first = first.get_or_insert(found.clone());
            assert!(*first == found, "seed {seed} differs: {case:?}");
        }
        let error = error(case, &numbers, &first.unwrap(), &expected);
        assert!(error < LIMIT, "ARCH {arch}: {error:e} {case:?}");
        worst = worst.max(error);
    }
    worst
}

/// Every format in every shape, with one to eight rows, under options that differ from case to case.
fn shapes(formats: &[Format]) {
    let shapes: [(usize, usize); 9] =
        [(1, 32), (15, 64), (16, 96), (17, 160), (40, 576), (250, 256), (17, 2304), (33, 512), (1, 8448)];
    let mut number = 0;
    for format in formats {
        let mut worst = 0f64;
        for (outputs, cols) in shapes {
            for rows in [1, 2, 3, 5, 8] {
                // Long blocks have shapes of their own.
                let cols = cols.next_multiple_of(format.block_len());
                number += 1;
                let case = Case::new(*format, outputs, cols, rows).varied(number);
                worst = worst.max(check(&case, [1, 4, 40][number as usize % 3], &[number % 2]));
            }
        }
        println!("{format}: {worst:e}");
    }
}

#[test]
fn shapes_of_floats() {
    shapes(&FORMATS[..1]);
}

#[test]
fn shapes_of_quants() {
    shapes(&FORMATS[1..]);
}

#[test]
fn what_comes_before_and_after() {
    for norm in [None, Some((NormKind::Rms, false)), Some((NormKind::Layer, false)), Some((NormKind::Layer, true))] {
        for x in [Precision::Full, Precision::Half] {
            for gather in [false, true] {
                let case = Case { norm, x, gather, ..Case::new(Format::Q4_0, 33, 160, 1) };
                check(&case, 4, &[0]);
            }
        }
    }
    for act in [Act::Silu, Act::Gelu, Act::GeluTanh, Act::Clamped] {
        for after in [After::Store, After::Add, After::Act(act), After::Glu(act)] {
            for out in [Precision::Full, Precision::Half] {
                for bias in [false, true] {
                    let case = Case { after, out, bias, ..Case::new(Format::Q8_0, 96, 64, 3) };
                    check(&case, 4, &[0]);
                }
            }
        }
    }
}

/// As experts' routers: few outputs.
#[test]
fn routers() {
    for (format, rows) in [(Format::F16, 1), (Format::F16, 4), (Format::Q8_0, 8)] {
        for multiprocessors in [1, 16] {
            let norm = Some((NormKind::Rms, false));
            let case = Case { norm, x: Precision::Full, bias: true, ..Case::new(format, 32, 2880, rows) };
            check(&case, multiprocessors, &[0]);
        }
    }
}

#[test]
fn stacks_of_several_formats() {
    use Format::{Int4, Q4_0, Q4K, Q6K, Q8_0};
    let stacks: [&[(Format, usize)]; 5] = [
        &[(Q4K, 48), (Q4K, 16), (Q6K, 16)],
        &[(Q4K, 40), (Q6K, 40)],
        &[(Q8_0, 32), (Q8_0, 32)],
        &[(Q4_0, 24), (Q4_0, 24)],
        &[(Int4(Group::G64), 40), (Int4(Group::G128), 40)],
    ];
    for parts in stacks {
        for rows in [1, 2] {
            let gates = parts.len() == 2;
            for after in [After::Store, After::Add, After::Glu(Act::Silu)].into_iter().take(if gates { 3 } else { 2 }) {
                let case = Case { parts: parts.to_vec(), after, bias: true, ..Case::new(Q4K, 0, 512, rows) };
                check(&case, 4, &[0]);
            }
        }
    }
}

#[test]
fn inputs_that_are_split_among_blocks() {
    for (format, outputs, cols, rows) in [
        // Few outputs and many inputs; then more inputs than a block keeps.
        (Format::Q4_0, 32, 8192, 1),
        (Format::Q6K, 17, 4096, 2),
        (Format::F16, 64, 2336, 8),
        (Format::Q4K, 32, 16640, 1),
        (Format::Int4(Group::G128), 32, 8192, 1),
    ] {
        for after in [After::Add, After::Glu(Act::Silu)] {
            let case = Case { after, bias: true, ..Case::new(format, outputs, cols, rows) };
            let glued = outputs % 32 == 0 || after == After::Add;
            if glued {
                let norm = (rows == 1).then_some((NormKind::Rms, false));
                check(&Case { norm, ..case }, 16, &[0, 1, 2]);
            }
        }
    }
}

#[test]
fn any_order_of_threads_gives_the_same() {
    for format in FORMATS {
        let case = Case::new(format, 64, 768, 2);
        check(&Case { after: After::Glu(Act::Gelu), ..case.clone() }, 1, &[0, 1, 2, 3]);
        check(&Case { norm: Some((NormKind::Layer, true)), rows: 1, ..case }, 1, &[0, 4, 5]);
    }
}

#[test]
fn columns_in_an_order_of_their_own() {
    let norms = [None, Some((NormKind::Rms, false)), Some((NormKind::Layer, true))];
    for (number, norm) in norms.into_iter().cycle().take(12).enumerate() {
        let format = [Format::Int4(Group::G128), Format::Int8(Group::G32), Format::F16][number / 4];
        let cols = if number == 8 { 37 } else { 384 };
        let x = [Precision::Full, Precision::Half][number % 2];
        let case = Case { norm, x, gather: number % 4 > 1, order: true, ..Case::new(format, 40, cols, 1 + number % 3) };
        check(&Case { bias: true, ..case }, 4, &[0]);
    }
}

#[test]
fn inputs_beyond_f16_become_its_greatest() {
    let case = Case { x: Precision::Full, ..Case::new(Format::Q4_0, 40, 160, 2) };
    let numbers = Numbers::new(&case, 2).with_large_inputs();
    for arch in ARCHES {
        let machine = Emulator::new(Options { arch, ..Options::default() }).unwrap();
        let found = numbers.found(&case, machine, 1);
        let error = error(&case, &numbers, &found, &numbers.expected(&case));
        assert!(error < LIMIT, "ARCH {arch}: {error:e}");
    }
}

/// The backend normalises several rows before it multiplies them; the kernel can do so itself.
#[test]
fn norms_of_several_rows_within_the_product() {
    for (arch, rows, layer) in [(72, 3, true), (80, 8, true), (80, 5, false)] {
        let kind = if layer { NormKind::Layer } else { NormKind::Rms };
        let case = Case { norm: Some((kind, layer)), x: Precision::Full, ..Case::new(Format::F16, 16, 200, rows) };
        let numbers = Numbers::new(&case, 3);
        let machine = Emulator::new(Options { arch, ..Options::default() }).unwrap();
        let found = numbers.launched(&case, &machine);
        machine.check().unwrap();
        let error = error(&case, &numbers, &found, &numbers.expected(&case));
        assert!(found.len() == 16 * rows && error < LIMIT, "ARCH {arch}, {rows} rows: {error:e}");
    }
}

/// Rows of which each has a single one give weights: s (q - z) as f16 has it, whatever the zero point, and floats of four
/// bits, whatever their exponent.
fn rounded_once<D: Driver>(driver: D) {
    let mut random = Random::new(9);
    let mut cuda = Cuda::new(driver, Sizes { rows: 12, logits: 8, pages: 1 }).unwrap();
    for format in [Format::Int4(Group::G32), Format::Int4(Group::G128), Format::Int8(Group::G64), Format::Mxfp4] {
        let (outputs, cols) = (40, 256);
        let mut bytes = random.weight(format, outputs, cols);
        // Far from the ends of what f16 can hold.
        let mut factor = 4096.0;
        if format == Format::Mxfp4 {
            // The greatest exponent of a part decides; f16 has the least of these as denormals, or not at all.
            let exponents = bytes.chunks_exact_mut(format.block_bytes()).map(|block| &mut block[0]);
            exponents.for_each(|e| *e = 100 + random.below(40) as u8);
            bytes[0] = 140;
            factor = 2f32.powi(128 - 140);
        }
        let tensor = HostTensor::new("w", format, outputs, cols, bytes.into()).unwrap();
        let values = tensor.to_f32();
        let linear = Linear { weight: cuda.weight(&[tensor]).unwrap(), bias: None };
        let mut x = cuda.buf(8, cols, Precision::Half).unwrap();
        let mut out = cuda.buf(8, outputs, Precision::Full).unwrap();
        let case = Case::new(format, outputs, cols, 8);
        for first in (0..cols).step_by(13) {
            let column = |row: usize| (first + 31 * row) % cols;
            let ones: Vec<f32> = (0..8 * cols).map(|i| f32::from(i % cols == column(i / cols))).collect();
            cuda.write(&mut x, &ones).unwrap();
            cuda.run(&case.step(), None, &mut |c| c.linear(&mut out, &x, None, &linear, After::Store, Rows::All))
                .unwrap();
            let found = cuda.read(&out, 8).unwrap();
            for (i, found) in found.iter().enumerate() {
                let value = values[i % outputs * cols + column(i / outputs)];
                let rounded = half::f16::from_f32(value * factor).to_f32() / factor;
                assert_eq!(*found, rounded, "{format}: {value} of column {}", column(i / outputs));
            }
        }
    }
}

#[test]
fn weights_are_rounded_once() {
    for arch in ARCHES {
        rounded_once(Emulator::new(Options { arch, ..Options::default() }).unwrap());
    }
    for capability in [72, 87] {
        rounded_once(Interpreter::new(capability).unwrap());
    }
}

/// Cases on a machine that does not come from the kernels' source: every kernel, in a few shapes.
fn agrees<D: Driver>(open: impl Fn() -> D) {
    for format in FORMATS {
        let case = |outputs, cols, rows| Case::new(format, outputs, cols, rows);
        let norm = Some((NormKind::Rms, false));
        for case in [
            Case { norm, x: Precision::Full, bias: true, ..case(40, 768, 1) },
            Case { after: After::Glu(Act::Silu), out: Precision::Half, ..case(64, 512, 8) },
            Case { after: After::Glu(Act::Clamped), bias: true, ..case(32, 256, 2) },
            Case { after: After::Add, gather: true, x: Precision::Full, ..case(17, 256, 3) },
            Case { norm, order: true, ..case(32, 512, 1) },
            // More inputs than a block keeps.
            Case { norm: Some((NormKind::Layer, true)), after: After::Act(Act::Gelu), ..case(16, 2304, 8) },
        ] {
            let numbers = Numbers::new(&case, 5);
            let error = error(&case, &numbers, &numbers.found(&case, open(), 2), &numbers.expected(&case));
            assert!(error < LIMIT, "{error:e} {case:?}");
        }
    }
}

#[test]
fn the_interpreter_of_the_shipped_ptx_agrees() {
    for capability in [72, 87] {
        agrees(|| Interpreter::new(capability).unwrap());
    }
}

#[test]
fn the_device_agrees() {
    match Device::open(0) {
        Ok(device) => {
            rounded_once(device);
            agrees(|| Device::open(0).unwrap());
        }
        Err(error) => println!("skipped: no CUDA device ({error})"),
    }
}
