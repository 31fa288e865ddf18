//! Each wrapper of ptx.cuh against its plain definition: float16 by exact arithmetic, products by where the PTX ISA puts
//! each element.

mod common;

use common::{Machine, machines};
use nano_kernels::cuda::Arg;
use std::cmp::Ordering;
use std::sync::LazyLock;

/// A float16's value; infinity counts as 65536, so that rounding to it begins half a step below.
fn value(half: u16) -> f64 {
    static ALL: LazyLock<Vec<f64>> = LazyLock::new(|| (0..=0xffff).map(defined).collect());
    ALL[usize::from(half)]
}

fn defined(half: u16) -> f64 {
    let (sign, exponent, fraction) = (half >> 15, half >> 10 & 31, f64::from(half & 1023));
    let size = if exponent == 0 {
        fraction * 2f64.powi(-24)
    } else {
        (1024.0 + fraction) * 2f64.powi(i32::from(exponent) - 25)
    };
    if sign == 1 { -size } else { size }
}

/// The float16 nearest to a number of size below infinity, ties to even: `against` compares its size with a number.
fn nearest(negative: bool, against: impl Fn(f64) -> Ordering) -> u16 {
    let (mut low, mut high) = (0u16, 0x7c00u16);
    // The smallest code whose upper neighbour is farther away.
    while low < high {
        let middle = (low + high) / 2;
        let far = match against((value(middle) + value(middle + 1)) / 2.0) {
            Ordering::Less => true,
            Ordering::Equal => middle.is_multiple_of(2),
            Ordering::Greater => false,
        };
        if far { high = middle } else { low = middle + 1 }
    }
    low | u16::from(negative) << 15
}

/// The float16 nearest to a whole number of 2^-48, which every sum and product of two float16s is.
fn nearest_exact(number: i128, negative_zero: bool) -> u16 {
    let size = number.unsigned_abs();
    nearest(if number == 0 { negative_zero } else { number < 0 }, |other| size.cmp(&((other * 2f64.powi(48)) as u128)))
}

/// A finite float16 in whole 2^-24.
fn steps(half: u16) -> i128 {
    (value(half) * 2f64.powi(24)) as i128
}

fn run(machine: &Machine, kernel: &'static str, triples: &[[u32; 3]]) -> Vec<u32> {
    let n = triples.len() as u32;
    let (from, to) = (machine.put(triples.as_flattened()), machine.room(triples.len()));
    machine.run(kernel, n.div_ceil(256), 256, &[from, to, Arg::U32(n)]).unwrap();
    machine.get(to, triples.len())
}

/// Numbers that look random.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 32) as u32
    }
}

fn arches() -> [Machine; 2] {
    [Machine::new(72, 0, 1), Machine::new(80, 0, 1)]
}

fn finite(half: u16) -> bool {
    half & 0x7c00 != 0x7c00
}

#[test]
fn every_half_as_a_float() {
    let all: Vec<[u32; 3]> = (0..=0xffff).map(|h| [h, 0, 0]).collect();
    for machine in arches() {
        for (half, found) in (0..=0xffffu16).zip(run(&machine, "test_half_to_float", &all)) {
            let found = f32::from_bits(found);
            match (finite(half), half & 1023) {
                (true, _) => assert_eq!(found.to_bits(), (value(half) as f32).to_bits(), "{half:04x}"),
                (_, 0) => assert_eq!(found, if half >> 15 == 1 { f32::NEG_INFINITY } else { f32::INFINITY }),
                _ => assert!(found.is_nan(), "{half:04x}"),
            }
        }
    }
}

#[test]
fn floats_are_rounded_to_the_nearest_half() {
    let mut floats = vec![0.0f32, 65519.996, 65520.0, 1e30, f32::MAX, f32::INFINITY, f32::MIN_POSITIVE, 1e-45];
    for code in 0..0x7c00 {
        let middle = ((value(code) + value(code + 1)) / 2.0) as f32;
        floats.extend([value(code) as f32, middle, middle.next_up(), middle.next_down()]);
    }
    let mut numbers = Numbers(1);
    floats.extend((0..100_000).map(|_| f32::from_bits(numbers.next() & 0x7fff_ffff)).filter(|f| !f.is_nan()));
    let triples: Vec<[u32; 3]> = floats.iter().map(|f| [f.to_bits(), (-f).to_bits(), 0]).collect();
    for machine in arches() {
        for kernel in ["test_pack_half2", "test_float_to_half"] {
            for (float, found) in floats.iter().zip(run(&machine, kernel, &triples)) {
                let expected = nearest(false, |other| f64::from(*float).total_cmp(&other));
                assert_eq!(found, u32::from(expected) | u32::from(expected | 0x8000) << 16, "{float:e}");
            }
        }
        let nan = run(&machine, "test_pack_half2", &[[0x7fc0_0000, 0xffc0_1234, 0]])[0];
        assert_eq!(nan, 0x7fff_7fff);
    }
}

/// Pairs, ties and subnormals included; then random ones, often of like size.
fn halves() -> Vec<[u16; 3]> {
    let special: Vec<u16> = [
        0, 1, 2, 3, 0x1ff, 0x200, 0x3fe, 0x3ff, 0x400, 0x401, 0x7ff, 0x800, 0x13ff, 0x1400, 0x2bff, 0x2c00, 0x3400,
        0x3800, 0x3bff, 0x3c00, 0x3c01, 0x3dff, 0x3e00, 0x4000, 0x5800, 0x63ff, 0x6400, 0x6401, 0x7800, 0x7bfe, 0x7bff,
    ]
    .into_iter()
    .flat_map(|h| [h, h | 0x8000])
    .collect();
    let mut all = Vec::new();
    for &a in &special {
        for &b in &special {
            all.extend(special.iter().map(|&c| [a, b, c]));
        }
    }
    let mut numbers = Numbers(2);
    while all.len() < 400_000 {
        let mut next = |exponent: u32| ((numbers.next() & 0x83ff) | exponent << 10) as u16;
        let (x, y, z) = (next(0) as u32 % 31, next(0) as u32 % 31, next(0) as u32 % 31);
        let near = (x + y).saturating_sub(15).min(30);
        all.push([next(x), next(y), next(if z > 15 { near } else { z })]);
    }
    all
}

#[test]
fn half_arithmetic_rounds_once() {
    let triples = halves();
    let words: Vec<[u32; 3]> = triples
        .iter()
        .zip(triples.iter().skip(7).chain(&triples))
        .map(|(low, high)| std::array::from_fn(|i| u32::from(low[i]) | u32::from(high[i]) << 16))
        .collect();
    let negative = |h: u16| h >> 15 == 1;
    let fma = |[a, b, c]: [u16; 3]| {
        let zero = (negative(a) != negative(b)) && negative(c);
        nearest_exact(steps(a) * steps(b) + (steps(c) << 24), zero)
    };
    let product = |[a, b, _]: [u16; 3]| nearest_exact(steps(a) * steps(b), negative(a) != negative(b));
    let difference = |[a, b, _]: [u16; 3]| nearest_exact((steps(a) - steps(b)) << 24, negative(a) && !negative(b));
    let check = |machine: &Machine, kernel, plain: &dyn Fn([u16; 3]) -> u16| {
        for (word, found) in words.iter().zip(run(machine, kernel, &words)) {
            let expected: [u16; 2] = std::array::from_fn(|h| plain(word.map(|w| (w >> (16 * h)) as u16)));
            assert_eq!([found as u16, (found >> 16) as u16], expected, "{kernel} of {word:08x?}");
        }
    };
    for machine in arches() {
        check(&machine, "test_hfma2", &fma);
        check(&machine, "test_hmul2", &product);
        check(&machine, "test_hsub2", &difference);
        // Infinities and what is no number.
        let odd = run(&machine, "test_hfma2", &[[0x7c00_7c00, 0x0000_3c00, 0xfc00], [0x7e00_7bff, 0x3c00_4000, 0]]);
        assert_eq!(odd, [0x7fff_7fff, 0x7fff_7c00]);
    }
}

#[test]
fn words_and_bytes() {
    let mut numbers = Numbers(3);
    let triples: Vec<[u32; 3]> = (0..20_000).map(|_| std::array::from_fn(|_| numbers.next())).collect();
    let prmt = |[a, b, selector]: [u32; 3]| {
        let bytes = [a.to_le_bytes(), b.to_le_bytes()].concat();
        u32::from_le_bytes(std::array::from_fn(|i| {
            let pick = selector >> (4 * i) & 15;
            let byte = bytes[pick as usize & 7];
            if pick < 8 { byte } else { ((byte as i8) >> 7) as u8 }
        }))
    };
    let dp4a = |[a, b, c]: [u32; 3]| {
        let signed = |w: u32| w.to_le_bytes().map(|b| i32::from(b as i8));
        signed(a).iter().zip(signed(b)).fold(c as i32, |sum, (x, y)| sum.wrapping_add(x * y)) as u32
    };
    let funnel = |[a, b, c]: [u32; 3]| {
        let both = u64::from(b) << 32 | u64::from(a);
        let (left, right) = ((both << (c & 31) >> 32) as u32, (both >> (c & 31)) as u32);
        left.wrapping_mul(3).wrapping_add(right)
    };
    let bits = |[a, b, c]: [u32; 3]| {
        let high = ((u64::from(b) * u64::from(c)) >> 32) as u32;
        let signed = ((i64::from(b as i32) * i64::from(c as i32)) >> 32) as u32;
        let first = if c == 0 { 0 } else { c.trailing_zeros() + 1 };
        let counts = a.count_ones() + b.leading_zeros() * 64 + first * 4096;
        a.reverse_bits() ^ high.wrapping_mul(7).wrapping_add(signed.wrapping_mul(5)).wrapping_add(counts)
    };
    let float2int = |[a, _, _]: [u32; 3]| f32::from_bits(a).round_ties_even() as i32 as u32;
    type Plain<'a> = &'a dyn Fn([u32; 3]) -> u32;
    let kernels: [(&'static str, Plain<'_>); 6] = [
        ("test_prmt", &prmt),
        ("test_and_or", &|[a, b, c]| a & b | c),
        ("test_dp4a", &dp4a),
        ("test_funnel", &funnel),
        ("test_bits", &bits),
        ("test_float2int", &float2int),
    ];
    for machine in arches() {
        for (kernel, plain) in kernels {
            for (triple, found) in triples.iter().zip(run(&machine, kernel, &triples)) {
                assert_eq!(found, plain(*triple), "{kernel} of {triple:08x?}");
            }
        }
    }
}

#[test]
fn powers_of_two() {
    let mut numbers = Numbers(4);
    let mut inputs: Vec<f32> = (0..10_000).map(|_| (numbers.next() as f32 / 2f32.powi(32) - 0.5) * 300.0).collect();
    inputs.extend([0.0, -0.0, 1.0, -1.0, -126.0, -126.5, -200.0, 128.0, 1e-40, f32::INFINITY, f32::NEG_INFINITY]);
    let triples: Vec<[u32; 3]> = inputs.iter().map(|x| [x.to_bits(), 0, 0]).collect();
    for machine in arches() {
        for (x, found) in inputs.iter().zip(run(&machine, "test_exp2_fast", &triples)) {
            let (expected, found) = (f64::from(*x).exp2(), f64::from(f32::from_bits(found)));
            if expected < f64::from(f32::MIN_POSITIVE) {
                assert_eq!(found, 0.0, "2^{x}");
            } else if expected > f64::from(f32::MAX) {
                assert_eq!(found, f64::INFINITY, "2^{x}");
            } else {
                assert!((found / expected - 1.0).abs() < 3e-7, "2^{x}: {found}");
            }
        }
    }
}

#[test]
fn loads_of_every_size() {
    let words: Vec<u32> = (0..256u32).map(|i| i.wrapping_mul(0x9e37_79b9)).collect();
    for machine in arches() {
        let (from, to) = (machine.put(&words), machine.room(256 * 8));
        machine.run("test_loads", 1, 256, &[from, to, Arg::U32(256)]).unwrap();
        for (i, found) in machine.get(to, 256 * 8).chunks(8).enumerate() {
            let half = words[i / 2] >> (16 * (i % 2)) & 0xffff;
            assert_eq!(found[..2], [half, words[i]]);
            assert_eq!(found[2..4], words[i / 2 * 2..][..2]);
            assert_eq!(found[4..], words[i / 4 * 4..][..4]);
        }
    }
}

/// Small whole numbers, so that no sum is rounded; as float16.
fn small(numbers: &mut Numbers) -> (f32, u32) {
    let number = (numbers.next() % 33) as f32 - 16.0;
    (number, u32::from(nearest(number < 0.0, |other| f64::from(number.abs()).total_cmp(&other))))
}

#[test]
fn products_of_16_8_16() {
    let mut numbers = Numbers(5);
    for _ in 0..20 {
        let a: [[_; 16]; 16] = std::array::from_fn(|_| std::array::from_fn(|_| small(&mut numbers)));
        let b: [[_; 8]; 16] = std::array::from_fn(|_| std::array::from_fn(|_| small(&mut numbers)));
        let c: [[f32; 8]; 16] = std::array::from_fn(|_| std::array::from_fn(|_| small(&mut numbers).0 / 4.0));
        // Lane 4 g + t: its words of A are rows g and g + 8, columns 2 t and 2 t + 8; of B rows 2 t and 2 t + 8, column g.
        let mut words = Vec::new();
        for lane in 0..32 {
            let (g, t) = (lane / 4, lane % 4);
            for (row, col) in [(g, 2 * t), (g + 8, 2 * t), (g, 2 * t + 8), (g + 8, 2 * t + 8)] {
                words.push(a[row][col].1 | a[row][col + 1].1 << 16);
            }
            for row in [2 * t, 2 * t + 8] {
                words.push(b[row][g].1 | b[row + 1][g].1 << 16);
            }
            words.extend([c[g][2 * t], c[g][2 * t + 1], c[g + 8][2 * t], c[g + 8][2 * t + 1]].map(f32::to_bits));
        }
        let machine = Machine::new(80, 0, 1);
        let (from, to) = (machine.put(&words), machine.room(128));
        machine.run("test_mma", 1, 32, &[from, to]).unwrap();
        for (at, found) in machine.get(to, 128).iter().enumerate() {
            let (lane, i) = (at / 4, at % 4);
            let (row, col) = (lane / 4 + 8 * (i / 2), lane % 4 * 2 + i % 2);
            let expected = (0..16).fold(c[row][col], |sum, k| sum + a[row][k].0 * b[k][col].0);
            assert_eq!(f32::from_bits(*found), expected, "row {row} column {col}");
        }
    }
}

#[test]
fn products_of_8_8_4() {
    let mut numbers = Numbers(6);
    for _ in 0..20 {
        let a: [[[_; 4]; 8]; 4] =
            std::array::from_fn(|_| std::array::from_fn(|_| std::array::from_fn(|_| small(&mut numbers))));
        let b: [[[_; 8]; 4]; 4] =
            std::array::from_fn(|_| std::array::from_fn(|_| std::array::from_fn(|_| small(&mut numbers))));
        let c: [[[f32; 8]; 8]; 4] =
            std::array::from_fn(|_| std::array::from_fn(|_| std::array::from_fn(|_| small(&mut numbers).0)));
        // Product q belongs to lanes 4 q.. 4 q + 3 and those 16 further on; the latter have rows, and columns of B, from
        // 4 on. A lane's sums are two rows by two columns, of which the second pair lies four further right.
        let sums = |lane: usize| {
            let (q, lower) = (lane / 4 % 4, lane / 16 * 4);
            let at = |i: usize| (q, lower + lane % 2 + i / 2 % 2 * 2, i / 4 * 4 + lane / 2 % 2 * 2 + i % 2);
            std::array::from_fn::<_, 8, _>(at)
        };
        let mut words = Vec::new();
        for lane in 0..32 {
            let (q, own) = (lane / 4 % 4, lane / 16 * 4 + lane % 4);
            words.extend([0, 2].map(|k| a[q][own][k].1 | a[q][own][k + 1].1 << 16));
            words.extend([0, 2].map(|k| b[q][k][own].1 | b[q][k + 1][own].1 << 16));
            words.extend(sums(lane).map(|(q, row, col)| c[q][row][col].to_bits()));
        }
        let machine = Machine::new(72, 0, 1);
        let (from, to) = (machine.put(&words), machine.room(256));
        machine.run("test_mma", 1, 32, &[from, to]).unwrap();
        for (lane, found) in machine.get(to, 256).chunks(8).enumerate() {
            for (found, (q, row, col)) in found.iter().zip(sums(lane)) {
                let expected = (0..4).fold(c[q][row][col], |sum, k| sum + a[q][row][k].0 * b[q][k][col].0);
                assert_eq!(f32::from_bits(*found), expected, "product {q} row {row} column {col}");
            }
        }
    }
}

#[test]
fn products_keep_subnormals() {
    // 1023 * 2^-24 times 1, and times itself: far below float16's range, within float32's.
    for (b, expected) in [(0x3c00u32, 1023.0 * 2f32.powi(-24)), (0x03ff, 1023.0 * 1023.0 * 2f32.powi(-48))] {
        for (arch, words) in [(80, 10), (72, 12)] {
            let (a_words, b_words) = if arch == 80 { (0..1, 4..5) } else { (0..1, 2..3) };
            let mut input = vec![0u32; words * 32];
            for lane in input.chunks_mut(words) {
                lane[a_words.clone()].fill(0x03ff);
                lane[b_words.clone()].fill(b);
            }
            let machine = Machine::new(arch, 0, 1);
            let (from, to) = (machine.put(&input), machine.room(256));
            machine.run("test_mma", 1, 32, &[from, to]).unwrap();
            let found = f32::from_bits(machine.get(to, 1)[0]);
            // On 80 each of four lanes' words holds a k of its own; on 72 there is one.
            assert_eq!(found, expected * if arch == 80 { 4.0 } else { 1.0 });
        }
    }
}

#[test]
fn waits_cover_their_groups() {
    let from: Vec<u32> = (0..512).collect();
    for (kernel, there) in [("test_wait_0", 4), ("test_wait_1", 3), ("test_wait_3", 1), ("test_wait_4", 0)] {
        for machine in machines().filter(|m| m.0.kernels().contains(&"test_wait_0")) {
            let (input, to) = (machine.put(&from), machine.room(128));
            machine.run(kernel, 1, 32, &[input, to]).unwrap();
            for (at, found) in (0u32..).zip(machine.get(to, 128)) {
                let copied = if at % 32 % 3 == 0 { 0 } else { at * 4 + 1 };
                // What is not waited for may be there early, under seeds.
                assert!(found == copied || at / 32 >= there && found == u32::MAX, "{kernel}: {at} is {found}");
            }
        }
        let machine = Machine::new(80, 0, 1);
        let (input, to) = (machine.put(&from), machine.room(128));
        machine.run(kernel, 1, 32, &[input, to]).unwrap();
        assert!(machine.get(to, 128)[there as usize * 32..].iter().all(|&w| w == u32::MAX));
    }
    let machine = Machine::new(80, 0, 1);
    let (input, to) = (machine.put(&from), machine.room(32));
    machine.run("test_wait_open", 1, 32, &[input, to]).unwrap();
    assert!(machine.get(to, 32).iter().all(|&w| w == u32::MAX));
}
