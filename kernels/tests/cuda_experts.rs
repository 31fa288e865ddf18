//! Experts on the machines of the CUDA backend, held against their definition: choices by logits, dequantized weights, sums
//! in f64. Routing, launchers and kernels together.

#[path = "support/experts.rs"]
mod support;

use nano_emulator::{Emulator, Options};
use nano_interpreter::Interpreter;
use nano_kernels::cuda::device::Device;
use nano_kernels::cuda::{Cuda, Driver, Sizes};
use nano_kernels::testing::Random;
use nano_kernels::{Act, Backend, Error, Experts, Format, Group, HostTensor, Result};
use std::borrow::Cow;
use support::{Mixture, error};

const FORMATS: [Format; 9] = [
    Format::F16,
    Format::Q8_0,
    Format::Q4_0,
    Format::Q4_1,
    Format::Q4K,
    Format::Q6K,
    Format::Int4(Group::G128),
    Format::Int8(Group::G32),
    Format::Mxfp4,
];
const ARCHES: [u32; 2] = [72, 80];
/// Weights, normalised rows and what is between the products are rounded to f16.
const LIMIT: f64 = 2e-6;

fn emulator(arch: u32, seed: u64, multiprocessors: u32) -> Emulator {
    Emulator::new(Options { arch, seed, multiprocessors, ..Options::default() }).unwrap()
}

/// Runs a mixture on emulators: near the exact numbers, and the same bits in any order of threads and blocks.
fn check(what: &str, mixture: &Mixture, rows: usize, seeds: &[u64], multiprocessors: u32) -> f64 {
    let mut random = Random::new(rows as u64);
    let x = random.floats(rows * mixture.dim);
    let logits = mixture.logits(&mut random, rows);
    let exact = mixture.exact(&x, &logits);
    let mut worst = 0f64;
    for arch in ARCHES {
        let mut first: Option<Vec<f32>> = None;
        for seed in seeds {
            let machine = emulator(arch, *seed, multiprocessors);
            let found = mixture.run(machine.clone(), &x, &[&logits]).remove(0);
            machine.check().unwrap();
            let first = first.get_or_insert_with(|| found.clone());
            assert!(*first == found, "{what}, ARCH {arch}: seed {seed} differs");
        }
        let error = error(&first.unwrap(), &x, &exact);
        assert!(error < LIMIT, "{what}, ARCH {arch}, {rows} rows: error {error:e}");
        worst = worst.max(error);
    }
    worst
}

#[test]
fn every_format_for_few_rows_and_for_many() {
    let mut random = Random::new(61);
    for (i, format) in FORMATS.into_iter().enumerate() {
        let mut worst = 0f64;
        for (rows, count, chosen, shared, normalize) in
            [(1, 5, 2, false, true), (1 + i, 3, 3, true, false), (8, 4, 2, true, true), (9 + i, 6, 2, i % 2 == 0, true)]
        {
            let mut mixture = Mixture::of(&mut random, format, count, shared);
            (mixture.chosen, mixture.normalize) = (chosen, normalize);
            worst = worst.max(check(&format!("{format}, {chosen} of {count}"), &mixture, rows, &[i as u64], 4));
        }
        println!("{format}: {worst:e}");
    }
}

/// One to eight rows, as many choices as there are experts, more experts than lanes, more choices than a step has rows.
#[test]
fn shapes_of_choices() {
    let mut random = Random::new(62);
    let wide = Mixture { chosen: 33, ..Mixture::of(&mut random, Format::Q4_0, 40, true) };
    for rows in [1, 3, 8, 10] {
        check("33 of 40", &wide, rows, &[1], 4);
    }
    let mut few = Mixture::of(&mut random, Format::F16, 3, false);
    for rows in 1..9 {
        few.chosen = 1 + rows % 3;
        check("of 3", &few, rows, &[0], if rows % 2 == 0 { 40 } else { 1 });
    }
    let one = Mixture { chosen: 1, ..Mixture::of(&mut random, Format::Q8_0, 1, false) };
    // Rows of one expert in three blocks, the last of which is not full.
    for rows in [2, 3, 32, 70] {
        check("the only one", &one, rows, &[3], 4);
    }
    // More inputs than a block keeps of eight rows.
    let long = Mixture::new(&mut random, &|_| [Format::Q8_0; 3], 2, [32, 6144], None);
    check("both of 2, which are wide", &long, 8, &[2], 4);
    let many = Mixture { normalize: false, ..Mixture::of(&mut random, Format::F16, 9, true) };
    for rows in [31, 70] {
        check("2 of 9", &many, rows, &[4], 4);
    }
}

/// Gates and ups of two formats, experts of several, and widths that no tile ends with.
#[test]
fn formats_may_differ() {
    use Format::{F16, Q4_0, Q4K, Q6K, Q8_0};
    let mut random = Random::new(63);
    let sizes = [256, 256];
    let mixtures = [
        Mixture::new(&mut random, &|_| [Q4K, Q4K, Q6K], 4, sizes, Some(256)),
        Mixture::new(&mut random, &|_| [Q8_0, Q4_0, F16], 4, [64, 64], None),
        Mixture::new(&mut random, &|e| [[F16, Q8_0, Q4_0][e % 3]; 3], 5, [64, 32], Some(32)),
        // Groups of two lengths under one kernel.
        Mixture::new(&mut random, &|e| [Format::Int4([Group::G32, Group::G64][e % 2]); 3], 4, [64, 64], None),
        // One whole part, or two.
        Mixture::new(&mut random, &|e| if e % 2 == 0 { [Q8_0; 3] } else { [Q4_0, Q8_0, Q4_0] }, 4, [32, 32], None),
        Mixture::new(&mut random, &|_| [F16; 3], 4, [20, 8], Some(24)),
    ];
    for (i, mixture) in mixtures.iter().enumerate() {
        for rows in [1, 4, 12] {
            check(&format!("mixture {i}"), mixture, rows, &[i as u64], 4);
        }
    }
}

/// Gates that are held below their limit, and biases that bring many of them there, by themselves and together.
#[test]
fn clamped_gates_and_biases() {
    use Format::{F16, Q4_0, Q8_0};
    let mut random = Random::new(70);
    let mut mixtures: Vec<Mixture> =
        FORMATS.iter().enumerate().map(|(i, f)| Mixture::of(&mut random, *f, 5, i % 3 == 0)).collect();
    // Gates and ups of two formats, some experts whole, widths that no tile ends with.
    mixtures.push(Mixture::new(&mut random, &|_| [Q8_0, Q4_0, F16], 4, [64, 64], None));
    mixtures.push(Mixture::new(
        &mut random,
        &|e| if e % 2 == 0 { [Q8_0; 3] } else { [Q4_0, Q8_0, Q4_0] },
        4,
        [32, 32],
        None,
    ));
    mixtures.push(Mixture::new(&mut random, &|_| [F16; 3], 4, [20, 8], Some(24)));
    for (i, mixture) in mixtures.into_iter().enumerate() {
        let mixture = mixture.biased(&mut random);
        let some = |up: bool, down: bool| {
            let [ups, downs] = mixture.biases.clone();
            [ups.filter(|_| up), downs.filter(|_| down)]
        };
        for (rows, act, biases) in [
            (1 + i % 8, Act::Clamped, some(true, true)),
            (9 + i, Act::Clamped, some(true, true)),
            (8, Act::Silu, some(i % 2 == 0, i % 2 == 1)),
            (12, [Act::Silu, Act::Clamped][i % 2], some(i % 2 == 1, i % 2 == 0)),
        ] {
            let mixture = Mixture { act, biases, ..mixture.clone() };
            check(&format!("mixture {i}, {act:?}"), &mixture, rows, &[i as u64], 4);
        }
    }
}

/// Experts whose columns lie in an order of their own, those of gates and ups or those of downs, beside some whose do not.
#[test]
fn columns_have_orders() {
    let mut random = Random::new(71);
    for (i, which) in [[true, true], [true, false], [false, true]].into_iter().enumerate() {
        let mut mixture = Mixture::new(&mut random, &|_| [Format::Int4(Group::G32); 3], 4, [64, 96], Some(64));
        for [gate, up, down] in mixture.weights.iter_mut().skip(1) {
            let [inputs, between] = [&*gate, down].map(|tensor| random.order(tensor.cols));
            for (tensor, order, wanted) in
                [(gate, &inputs, which[0]), (up, &inputs, which[0]), (down, &between, which[1])]
            {
                if wanted {
                    *tensor = tensor.clone().with_order(order).unwrap();
                }
            }
        }
        for rows in [1, 3, 8, 12] {
            check(&format!("orders {which:?}"), &mixture, rows, &[i as u64], 4);
        }
    }
}

/// Threads, blocks and copies in other orders give the same bits.
#[test]
fn orders() {
    let mut random = Random::new(64);
    for format in [Format::F16, Format::Q4_1] {
        let mixture = Mixture::of(&mut random, format, 6, true);
        for rows in [1, 6, 20] {
            check("orders", &mixture, rows, &[0, 1, 2, 3], 4);
        }
    }
}

/// A row gets the same bits wherever it stands among the same rows.
#[test]
fn places_do_not_matter() {
    let mut random = Random::new(65);
    let mixture = Mixture::of(&mut random, Format::Q4_0, 5, true);
    for rows in [5, 40] {
        let x = random.floats(rows * mixture.dim);
        let logits = mixture.logits(&mut random, rows);
        let turned = |values: &[f32]| -> Vec<f32> {
            values.chunks_exact(values.len() / rows).rev().flatten().copied().collect()
        };
        for arch in ARCHES {
            let found = mixture.run(emulator(arch, 0, 4), &x, &[&logits]).remove(0);
            let other = mixture.run(emulator(arch, 7, 4), &turned(&x), &[&turned(&logits)]).remove(0);
            assert!(turned(&other) == found, "ARCH {arch}, {rows} rows");
        }
    }
}

/// What is recorded chooses anew each time.
#[test]
fn replays_choose_again() {
    let mut random = Random::new(66);
    let mixture = Mixture::of(&mut random, Format::Q8_0, 8, true);
    for rows in [1, 3, 8, 20] {
        let x = random.floats(rows * mixture.dim);
        let logits: Vec<Vec<f32>> = (0..3).map(|_| mixture.logits(&mut random, rows)).collect();
        let all: Vec<&[f32]> = logits.iter().map(Vec::as_slice).collect();
        let found = mixture.run(emulator(80, 0, 4), &x, &all);
        for (logits, found) in logits.iter().zip(found) {
            let error = error(&found, &x, &mixture.exact(&x, logits));
            assert!(error < LIMIT, "{rows} rows: error {error:e}");
        }
    }
}

/// Rows go to the last experts first and to the first ones then: runs of the former would undo what the latter make.
#[test]
fn nothing_is_left_of_the_step_before() {
    let mut random = Random::new(69);
    let mixture = Mixture::of(&mut random, Format::Q8_0, 8, false);
    for rows in [8, 70] {
        let x = random.floats(rows * mixture.dim);
        let all: Vec<Vec<f32>> =
            [6, 0].iter().map(|first| (0..8 * rows).map(|i| f32::from(i % 8 / 2 * 2 == *first)).collect()).collect();
        let found = mixture.run(emulator(80, 0, 4), &x, &[&all[0], &all[1], &all[0]]);
        for (logits, found) in [&all[0], &all[1], &all[0]].into_iter().zip(found) {
            let error = error(&found, &x, &mixture.exact(&x, logits));
            assert!(error < LIMIT, "{rows} rows: error {error:e}");
        }
    }
}

/// Of equal logits the first are chosen, and what nobody chose is not read: it is no number.
fn ties<D: Driver>(open: &dyn Fn() -> D) {
    let mut random = Random::new(67);
    let mut mixture = Mixture::of(&mut random, Format::F16, 20, false);
    let [dim, hidden] = [mixture.dim, mixture.hidden];
    let nan = half::f16::NAN.to_le_bytes().repeat(hidden * dim);
    for (i, weights) in mixture.weights.iter_mut().enumerate() {
        if ![3, 17].contains(&i) {
            weights.iter_mut().for_each(|w| w.bytes = Cow::Owned(nan.clone()));
        }
    }
    let mut row = [-1.0; 20];
    [3, 17, 18, 19].iter().for_each(|i| row[*i] = 4.0);
    for rows in [1, 3, 70] {
        let x = random.floats(rows * dim);
        let mut logits = row.repeat(rows);
        // A row whose logits are broken shows it, and only that row.
        let mut broken = logits.clone();
        broken[20 * (rows - 1) + 5] = f32::NAN;
        for logits in [&mut logits, &mut broken] {
            let found = mixture.run(open(), &x, &[logits]).remove(0);
            for (n, (y, x)) in found.chunks_exact(dim).zip(x.chunks_exact(dim)).enumerate() {
                let expected = logits[20 * n..20 * n + 20].iter().any(|l| l.is_nan());
                assert!(y.iter().all(|y| y.is_nan() == expected), "row {n} of {rows}");
                assert!(y.iter().zip(x).any(|(y, x)| y != x), "row {n} of {rows}");
            }
        }
        // Of signs of zero none is greater.
        let zero = |i: usize| match i % 20 {
            3 | 18 => 0.0,
            17 => -0.0,
            _ => -5.0,
        };
        let zeros: Vec<f32> = (0..20 * rows).map(zero).collect();
        let found = mixture.run(open(), &x, &[&zeros]).remove(0);
        assert!(found.iter().all(|y| y.is_finite()), "{rows} rows");
    }
}

#[test]
fn ties_on_emulators() {
    ARCHES.iter().for_each(|arch| ties(&|| emulator(*arch, 9, 4)));
}

/// Every kernel twice, once with biases and the other activation, and the routing of few and of many rows.
fn few_cases<D: Driver>(what: &str, open: &dyn Fn() -> Result<D>) {
    let mut random = Random::new(68);
    for format in FORMATS {
        let plain = Mixture::of(&mut random, format, 4, format == Format::Q4_0);
        let biased = Mixture { act: Act::Clamped, ..plain.clone().biased(&mut random) };
        for (rows, mixture) in [(2, &plain), (9, &plain), (3, &biased), (10, &biased)] {
            let x = random.floats(rows * mixture.dim);
            let logits = mixture.logits(&mut random, rows);
            let found = mixture.run(open().unwrap(), &x, &[&logits]).remove(0);
            let error = error(&found, &x, &mixture.exact(&x, &logits));
            assert!(error < LIMIT, "{what}, {format}, {rows} rows: error {error:e}");
        }
    }
    ties(&|| open().unwrap());
}

#[test]
fn the_interpreter_of_the_shipped_ptx_agrees() {
    for capability in [72, 87] {
        few_cases(&format!("PTX on sm_{capability}"), &|| Interpreter::new(capability));
    }
}

#[test]
fn the_device_agrees() {
    match Device::open(0) {
        Ok(device) => {
            drop(device);
            few_cases("device", &|| Device::open(0));
        }
        Err(error) => println!("skipped: no CUDA device ({error})"),
    }
}

#[test]
fn widths_that_kernels_do_not_take_are_refused() {
    let cuda = Cuda::new(emulator(80, 0, 4), Sizes { rows: 8, logits: 1, pages: 1 }).unwrap();
    let tensor = |rows: usize, cols: usize| {
        HostTensor::new("w", Format::F16, rows, cols, Cow::Owned(vec![0; 2 * rows * cols])).unwrap()
    };
    for (dim, hidden, word) in [(16, 20, "multiple of 8"), (50_000, 8, "50000 inputs")] {
        let up = cuda.weight(&[tensor(hidden, dim), tensor(hidden, dim)]).unwrap();
        let down = cuda.weight(&[tensor(dim, hidden)]).unwrap();
        let experts = Experts {
            up: vec![up],
            down: vec![down],
            shared: None,
            act: Act::Silu,
            up_bias: None,
            down_bias: None,
            chosen: 1,
            normalize: true,
        };
        let Err(Error::Unsupported(why)) = cuda.mixture(experts) else { panic!("{hidden} x {dim} is taken") };
        assert!(why.contains(word) && why.contains("--device cpu"), "{why}");
    }
}
