//! Every wrapper of `cuda/ptx.cuh` on every machine that runs kernels: the emulator, the interpreter of the shipped PTX, and
//! a device where there is one. The expected values are written from the instructions' definitions.

use half::f16;
use nano_emulator::{Emulator, Options};
use nano_interpreter::Interpreter;
use nano_kernels::Result;
use nano_kernels::cuda::device::Device;
use nano_kernels::cuda::{Arg, Driver, Launch};

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// Launches a kernel of (in, out[, n]) and gives what it wrote.
fn launch<D: Driver>(
    d: &D,
    kernel: &'static str,
    blocks: u32,
    threads: u32,
    input: &[u32],
    out: usize,
    n: Option<u32>,
) -> Vec<u32> {
    let bytes: Vec<u8> = input.iter().flat_map(|w| w.to_le_bytes()).collect();
    let (from, to) = (d.alloc(bytes.len(), "input").unwrap(), d.alloc(4 * out, "output").unwrap());
    let mut host = d.host(bytes.len().max(4 * out)).unwrap();
    host.as_mut()[..bytes.len()].copy_from_slice(&bytes);
    d.upload(from, &host, 0..bytes.len()).unwrap();
    let mut args = vec![Arg::Ptr(from), Arg::Ptr(to)];
    args.extend(n.map(Arg::U32));
    d.launch(Launch { kernel, grid: [blocks, 1, 1], threads, shared: 0, args: &args }).unwrap();
    d.finish().unwrap();
    d.download(to, &mut host, 0..4 * out).unwrap();
    d.finish().unwrap();
    words(&host.as_ref()[..4 * out])
}

fn halves(word: u32) -> [f64; 2] {
    [word as u16, (word >> 16) as u16].map(|bits| f16::from_bits(bits).to_f64())
}

fn pair(values: [f64; 2]) -> u32 {
    let [low, high] = values.map(|v| u32::from(f16::from_f64(v).to_bits()));
    low | high << 16
}

/// The same bits, or both not a number.
fn same_halves(found: u32, expected: u32) -> bool {
    halves(found)
        .iter()
        .zip(halves(expected))
        .zip([0, 16])
        .all(|((f, e), shift)| (f.is_nan() && e.is_nan()) || (found >> shift) as u16 == (expected >> shift) as u16)
}

fn by_words<D: Driver>(d: &D) {
    let mut seed = 5u64;
    let mut next = || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 32) as u32
    };
    let mut input = Vec::new();
    // Quants as subnormals times large scales, as weights are made.
    for u in 0..256u32 {
        let scale = u32::from(f16::from_f32(65504.0 - 251.0 * u as f32).to_bits()) * 0x10001;
        input.extend([u | (255 - u) << 16, scale, 0x8008_8008]);
    }
    // Halves of every kind, infinities and what is no number among them; then words that are usual float32.
    (0..600).for_each(|_| input.extend([next(), next(), next()]));
    (0..168)
        .for_each(|_| input.extend([next() % 0x0C00_0000 + 0x3C00_0000, next() % 0x0C00_0000 + 0x3800_0000, next()]));
    let n = input.len() / 3;
    let out = launch(d, "conform_words", n.div_ceil(128) as u32, 128, &input, 16 * n, Some(n as u32));
    for (i, (x, y)) in input.chunks_exact(3).zip(out.chunks_exact(16)).enumerate() {
        let (a, b, c) = (x[0], x[1], x[2]);
        let [ha, hb, hc] = [a, b, c].map(halves);
        let both = |f: &dyn Fn(usize) -> f64| pair([f(0), f(1)]);
        let byte = |word: u32, at: u32| word >> (8 * at) & 255;
        let at = |select: u32| if select < 4 { byte(a, select) } else { byte(b, select - 4) };
        assert!(same_halves(y[0], both(&|j| ha[j] * hb[j] + hc[j])), "hfma2 {a:08x} {b:08x} {c:08x}: {:08x}", y[0]);
        assert!(same_halves(y[1], both(&|j| ha[j] * hb[j])), "hmul2 {a:08x} {b:08x}: {:08x}", y[1]);
        assert!(same_halves(y[2], both(&|j| ha[j] - hb[j])), "hsub2 {a:08x} {b:08x}: {:08x}", y[2]);
        let selected = (0..4).map(|j| at(c >> (4 * j) & 7) << (8 * j)).sum::<u32>();
        assert_eq!(y[3], selected, "prmt {a:08x} {b:08x} {c:08x}");
        assert_eq!(y[4], a & b | c, "and_or");
        let dot: i32 = (0..4).map(|j| byte(a, j) as u8 as i8 as i32 * (byte(b, j) as u8 as i8 as i32)).sum();
        assert_eq!(y[5] as i32, dot.wrapping_add(c as i32), "dp4a");
        let (x, power) = (f32::from_bits(a), f32::from_bits(y[6]));
        let exact = (x as f64).exp2();
        if x.is_nan() {
            assert!(power.is_nan());
        } else if (1e-37..1e38).contains(&exact) {
            assert!((power as f64 / exact - 1.0).abs() < 1e-6, "2^{x}: {power}");
        }
        let single = f32::from_bits(y[7]);
        assert!(single as f64 == ha[0] || (single.is_nan() && ha[0].is_nan()), "half_to_float");
        assert!(same_halves(y[8], pair([f32::from_bits(b) as f64, 0.0])), "float_to_half {b:08x}: {:04x}", y[8]);
        let packed = pair([f32::from_bits(a) as f64, f32::from_bits(b) as f64]);
        assert!(same_halves(y[9], packed), "pack_half2 {a:08x} {b:08x}: {:08x}", y[9]);
        assert_eq!((y[10], y[11]), ((a & 0xffff) * 0x10001, (a >> 16) * 0x10001), "half_twice");
        assert_eq!(y[12], input[i / 2] >> (16 * (i % 2)) & 0xffff, "load2");
        assert_eq!(y[13], input[i], "load4");
        let word = |k: usize| input[k];
        let two = 2 * (i / 2);
        assert_eq!(y[14], word(two) ^ word(two + 1).wrapping_mul(3), "load8");
        let four = 4 * (i / 4);
        let mixed = (0..4).fold(0, |m, k| m ^ word(four + k).wrapping_mul(2 * k as u32 + 1));
        assert_eq!(y[15], mixed, "load16");
    }
}

fn by_warp<D: Driver>(d: &D) {
    let values: Vec<f32> = (0..32).map(|i| ((i * 37) % 32) as f32 - 11.5).collect();
    let input: Vec<u32> = values.iter().map(|v| v.to_bits()).collect();
    let out: Vec<f32> = launch(d, "conform_warp", 1, 32, &input, 128, None).into_iter().map(f32::from_bits).collect();
    for lane in 0..32 {
        assert_eq!(out[lane], values.iter().sum::<f32>(), "sum");
        assert_eq!(out[32 + lane], 19.5, "maximum");
        assert_eq!(out[64 + lane], values[if lane + 3 < 32 { lane + 3 } else { lane }], "shuffle down");
        assert_eq!(out[96 + lane], values[lane * 5 % 32], "shuffle");
    }
}

/// Small numbers, so that sums are exact in any order; with subnormals among the factors.
fn factor(i: usize) -> f32 {
    let sign = if i.is_multiple_of(3) { -1.0 } else { 1.0 };
    sign * if i.is_multiple_of(5) { (i % 15) as f32 * 2f32.powi(-24) } else { (i % 7) as f32 / 8.0 }
}

fn packed(values: [f32; 2]) -> u32 {
    pair(values.map(f64::from))
}

/// d (16 x 8) += a (16 x 16) b (16 x 8), from the published places of the elements.
fn by_mma<D: Driver>(d: &D) {
    let a = |row: usize, k: usize| factor(row * 16 + k);
    let b = |k: usize, col: usize| if (k + col).is_multiple_of(4) { 0.5 } else { ((k * 8 + col) % 5) as f32 };
    let c = |row: usize, col: usize| (row * 8 + col) as f32;
    let mut input = Vec::new();
    for lane in 0..32 {
        let (g, t) = (lane / 4, lane % 4);
        for i in 0..4 {
            let (row, k) = (g + 8 * (i % 2), 2 * t + 8 * (i / 2));
            input.push(packed([a(row, k), a(row, k + 1)]));
        }
        for i in 0..2 {
            let k = 2 * t + 8 * i;
            input.push(packed([b(k, g), b(k + 1, g)]));
        }
        for i in 0..4 {
            input.push(c(g + 8 * (i / 2), 2 * t + i % 2).to_bits());
        }
    }
    let out = launch(d, "conform_mma_m16n8k16", 1, 32, &input, 128, None);
    for lane in 0..32 {
        for i in 0..4 {
            let (row, col) = (lane / 4 + 8 * (i / 2), 2 * (lane % 4) + i % 2);
            let sum: f64 = (0..16).map(|k| a(row, k) as f64 * b(k, col) as f64).sum::<f64>() + c(row, col) as f64;
            let found = f32::from_bits(out[4 * lane + i]) as f64;
            // Tensor cores cut sums off instead of rounding them.
            assert!((found - sum).abs() <= 4e-6 * sum.abs().max(1.0), "mma ({row}, {col}): {found} for {sum}");
        }
    }
}

/// d (8 x 8) += a (8 x 4) b (4 x 8) in each quad-pair, from the published places of the elements.
fn by_mma_72<D: Driver>(d: &D) {
    let a = |quad: usize, row: usize, k: usize| factor(quad * 32 + row * 4 + k);
    let b = |quad: usize, k: usize, col: usize| ((quad + k * 8 + col) % 5) as f32 - 1.5;
    let c = |quad: usize, row: usize, col: usize| (quad * 64 + row * 8 + col) as f32;
    let place = |lane: usize, i: usize| {
        let row = (lane & 1) + (i & 2) + if lane < 16 { 0 } else { 4 };
        (row, (i & 4) + (lane & 2) + (i & 1))
    };
    let mut input = Vec::new();
    for lane in 0..32 {
        let (quad, line) = (lane % 16 / 4, lane % 4 + if lane < 16 { 0 } else { 4 });
        (0..2).for_each(|i| input.push(packed([a(quad, line, 2 * i), a(quad, line, 2 * i + 1)])));
        (0..2).for_each(|i| input.push(packed([b(quad, 2 * i, line), b(quad, 2 * i + 1, line)])));
        (0..8).for_each(|i| {
            let (row, col) = place(lane, i);
            input.push(c(quad, row, col).to_bits());
        });
    }
    let out = launch(d, "conform_mma_m8n8k4", 1, 32, &input, 256, None);
    for lane in 0..32 {
        let quad = lane % 16 / 4;
        for i in 0..8 {
            let (row, col) = place(lane, i);
            let sum: f64 = (0..4).map(|k| a(quad, row, k) as f64 * b(quad, k, col) as f64).sum::<f64>();
            let sum = sum + c(quad, row, col) as f64;
            let found = f32::from_bits(out[8 * lane + i]) as f64;
            assert!((found - sum).abs() <= 4e-6 * sum.abs().max(1.0), "mma {quad} ({row}, {col}): {found} for {sum}");
        }
    }
}

fn by_copies<D: Driver>(d: &D) {
    let input: Vec<u32> = (0..512u32).map(|i| i.wrapping_mul(2654435761) | 1).collect();
    let out = launch(d, "conform_copies", 1, 64, &input, 512, None);
    for thread in 0..128 {
        // A thread reads what its neighbour copied.
        let from = thread ^ 1;
        let expected = if from % 2 == 0 { &input[4 * from..4 * from + 4] } else { &[0; 4][..] };
        assert_eq!(&out[4 * thread..4 * thread + 4], expected, "copy {thread}");
    }
}

fn all<D: Driver>(open: impl Fn() -> Result<D>) {
    let d = open().unwrap();
    by_words(&d);
    by_warp(&d);
    if d.about().capability >= 80 {
        by_mma(&d);
        by_copies(&d);
    } else {
        by_mma_72(&d);
    }
}

#[test]
fn the_emulator_conforms() {
    for arch in [80, 72] {
        for seed in 0..3 {
            all(|| Emulator::new(Options { arch, seed, ..Options::default() }));
        }
    }
}

#[test]
fn the_interpreter_conforms() {
    for capability in [87, 72] {
        all(|| Interpreter::new(capability));
    }
}

#[test]
fn the_device_conforms() {
    match Device::open(0) {
        Ok(device) => {
            drop(device);
            all(|| Device::open(0));
        }
        Err(error) => println!("skipped: no CUDA device ({error})"),
    }
}
