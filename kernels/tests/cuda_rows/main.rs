//! The CUDA backend's operations on rows and cache, product and attention aside: each against its plain definition in
//! f64. Tests run on the emulator, for both ARCHes, in order and shuffled, and most of them on the PTX that ships.

mod embed;
mod moves;
mod norm;
mod pick;
mod rope;
mod routes;

use nano_emulator::{Emulator, Options};
use nano_interpreter::Interpreter;
use nano_kernels::cuda::device::Device;
use nano_kernels::cuda::{Arg, Cuda, Driver, Launch, Sizes};
use nano_kernels::testing::Random;
use nano_kernels::{KvFormat, NO_SLOT, PAGE_ROWS, PageLayout, Row, SequenceRows, Step};

const SIZES: Sizes = Sizes { rows: 40, logits: 24, pages: 400 };

/// Runs a test on both stand-ins; under `NANO_TEST_DEVICE` (`scripts/gpu-check`) on a device instead.
macro_rules! everywhere {
    ($test:expr) => {{
        if std::env::var_os("NANO_TEST_DEVICE").is_some() {
            crate::on_a_device($test);
        } else {
            crate::emulated($test);
            crate::shipped($test);
        }
    }};
}
use everywhere;

/// Runs a test on the kernels' source; what it gives must be the same in any order, and for both ARCHes.
fn emulated(test: impl Fn(&mut Cuda<Emulator>) -> Vec<f32>) {
    let mut first: Option<Vec<u32>> = None;
    for (arch, seed) in [(72, 0), (80, 0), (80, 5), (72, 23)] {
        let machine = Emulator::new(Options { arch, seed, ..Options::default() }).unwrap();
        let mut cuda = Cuda::new(machine.clone(), SIZES).unwrap();
        let found: Vec<u32> = test(&mut cuda).into_iter().map(f32::to_bits).collect();
        machine.check().unwrap();
        let first = first.get_or_insert_with(|| found.clone());
        assert!(*first == found, "ARCH {arch}, seed {seed}: other bits than on the first machine");
    }
}

/// Runs a test on the PTX that ships. A compiler joins multiplications and additions: bits may be others.
fn shipped(test: impl Fn(&mut Cuda<Interpreter>) -> Vec<f32>) {
    for capability in [72, 87] {
        let mut cuda = Cuda::new(Interpreter::new(capability).unwrap(), SIZES).unwrap();
        test(&mut cuda);
    }
}

/// Runs a test on a device, which must be there.
fn on_a_device(test: impl Fn(&mut Cuda<Device>) -> Vec<f32>) {
    test(&mut Cuda::new(Device::open(0).unwrap(), SIZES).unwrap());
}

/// What a buffer holds after these values were written to it.
fn held(values: &[f32], half: bool) -> Vec<f32> {
    let f16 = |v: f32| half::f16::from_f32(v.clamp(-65504.0, 65504.0)).to_f32();
    if half { values.iter().map(|v| f16(*v)).collect() } else { values.to_vec() }
}

/// That `found` is `exact` but for `error` and, where it is f16, its rounding and its limits.
#[track_caller]
fn assert_near(found: f32, exact: f64, error: f64, half: bool, what: &str) {
    let (exact, step) = match half {
        true => (exact.clamp(-65504.0, 65504.0), exact.abs().min(65504.0) / 2048.0 + 3e-8),
        false => (exact, 0.0),
    };
    let off = (found as f64 - exact).abs();
    assert!(off <= error + step, "{what}: {found} where {exact} is right");
}

/// A step of rows that only have tokens: no cache.
fn step(tokens: &[u32]) -> Step {
    let row = |token: &u32| Row { token: *token, position: 0, slot: NO_SLOT, sequence: 0, visible: 1 };
    Step { rows: tokens.iter().map(row).collect(), sequences: vec![SequenceRows::default()], ..Step::default() }
}

/// A step of rows with these positions and slots of one sequence.
fn cached(rows: &[(u32, u32)], pages: usize) -> Step {
    let row =
        |(position, slot): &(u32, u32)| Row { token: 0, position: *position, slot: *slot, sequence: 0, visible: 1 };
    let sequences = vec![SequenceRows { pages: (0..pages as u32).collect() }];
    Step { rows: rows.iter().map(row).collect(), sequences, ..Step::default() }
}

/// Places of values and scales in a page's shared form.
struct Portable(PageLayout);

impl Portable {
    fn field(&self, index: usize) -> usize {
        index * self.0.portable_bytes() / (self.0.layers * self.0.kv_heads)
    }

    fn parts(&self) -> (usize, usize) {
        if self.0.format == KvFormat::Q8 { (1, 4 * PAGE_ROWS) } else { (2, 0) }
    }

    /// Where a row's key (0) or value (1) begins, and its scale.
    fn row(&self, index: usize, which: usize, row: usize) -> (usize, usize) {
        let (size, scales) = self.parts();
        let start = self.field(index) + which * (scales + PAGE_ROWS * self.0.head_dim * size);
        (start + scales + row * self.0.head_dim * size, start + 4 * row)
    }

    /// A row's key or value as numbers, and its scale (0 for f16).
    fn values(&self, page: &[u8], index: usize, which: usize, row: usize) -> (Vec<f32>, f32) {
        let (at, scale) = self.row(index, which, row);
        let dims = self.0.head_dim;
        if self.0.format == KvFormat::F16 {
            let half = |b: &[u8]| half::f16::from_le_bytes([b[0], b[1]]).to_f32();
            return (page[at..at + 2 * dims].chunks_exact(2).map(half).collect(), 0.0);
        }
        let scale = f32::from_le_bytes(page[scale..scale + 4].try_into().unwrap());
        (page[at..at + dims].iter().map(|b| *b as i8 as f32 * scale).collect(), scale)
    }

    /// Copies a row of all layers and heads.
    fn copy(&self, from: (&[u8], usize), to: (&mut [u8], usize)) {
        let (size, scales) = self.parts();
        for index in 0..self.0.layers * self.0.kv_heads {
            for which in 0..2 {
                let ((a, a_scale), (b, b_scale)) = (self.row(index, which, from.1), self.row(index, which, to.1));
                let n = self.0.head_dim * size;
                to.0[b..b + n].copy_from_slice(&from.0[a..a + n]);
                if scales > 0 {
                    to.0[b_scale..b_scale + 4].copy_from_slice(&from.0[a_scale..a_scale + 4]);
                }
            }
        }
    }

    /// A page of rows with any values, as machines could have written them.
    fn random(&self, random: &mut Random) -> Vec<u8> {
        let mut page = vec![0; self.0.portable_bytes()];
        for index in 0..self.0.layers * self.0.kv_heads {
            for (which, row) in (0..2).flat_map(|which| (0..PAGE_ROWS).map(move |row| (which, row))) {
                let (at, scale) = self.row(index, which, row);
                let values = random.floats(self.0.head_dim);
                if self.0.format == KvFormat::F16 {
                    let bytes = values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes());
                    page[at..].iter_mut().zip(bytes).for_each(|(to, b)| *to = b);
                    continue;
                }
                let most = values.iter().fold(0f32, |m, v| m.max(v.abs()));
                page[scale..scale + 4].copy_from_slice(&(most / 127.0).to_le_bytes());
                let bytes = values.iter().map(|v| (v * 127.0 / most).round() as i8 as u8);
                page[at..].iter_mut().zip(bytes).for_each(|(to, b)| *to = b);
            }
        }
        page
    }
}

/// A launch by hand, for what the backend's own operations reach only through others.
struct ByHand<'a, D: Driver>(&'a D);

impl<D: Driver> ByHand<'_, D> {
    fn upload(&self, bytes: &[u8]) -> u64 {
        let at = self.0.alloc(bytes.len(), "a test's input").unwrap();
        let mut host = self.0.host(bytes.len()).unwrap();
        host.as_mut().copy_from_slice(bytes);
        self.0.upload(at, &host, 0..bytes.len()).unwrap();
        self.0.finish().unwrap();
        at
    }

    fn floats(&self, values: &[f32]) -> u64 {
        self.upload(&values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())
    }

    fn halves(&self, values: &[f32]) -> u64 {
        self.upload(&values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect::<Vec<_>>())
    }

    fn launch(&self, kernel: &'static str, grid: [u32; 3], threads: u32, args: &[Arg]) {
        self.0.launch(Launch { kernel, grid, threads, shared: 0, args }).unwrap();
    }

    fn download(&self, at: u64, bytes: usize) -> Vec<u8> {
        let mut host = self.0.host(bytes).unwrap();
        self.0.download(at, &mut host, 0..bytes).unwrap();
        self.0.finish().unwrap();
        host.as_ref().to_vec()
    }

    fn download_halves(&self, at: u64, n: usize) -> Vec<f32> {
        self.download(at, 2 * n).chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
    }
}
