//! The tiny checkpoints on the CUDA backend: emulated, and on a device where there is one.

use crate::goldens::{CASES, errors, golden};
use crate::session::{ROWS, Session};
use nano_emulator::{Emulator, Options};
use nano_kernels::KvFormat;
use nano_kernels::cuda::device::Device;
use nano_kernels::cuda::{Cuda, Driver, Sizes};

const SIZES: Sizes = Sizes { rows: ROWS, logits: ROWS, pages: ROWS / 32 };

/// Weights and activations are f16, and float parts of a stack are, too.
fn near<D: Driver>(name: &str, longest: usize, driver: D) {
    let (folder, expected) = golden(name);
    let mut session = Session::on(Cuda::new(driver, SIZES).unwrap(), &folder, None, KvFormat::F16);
    let found = errors(name, &mut session, &expected, None, longest);
    assert!(found < 1e-5, "{name}: {found:e}");
}

#[test]
fn emulated_kernels_come_near() {
    for (arch, names) in
        [(80, &["awq-symmetric", "awq-experts", "gptq-v2", "gptq-experts", "mlc-0"][..]), (72, &["gptq-order"])]
    {
        for name in names {
            near(name, 33, Emulator::new(Options { arch, ..Options::default() }).unwrap());
        }
    }
}

#[test]
fn the_device_comes_near() {
    match Device::open(0) {
        Ok(_) => {
            CASES.iter().for_each(|(name, _)| near(name, usize::MAX, Device::open(0).unwrap()));
        }
        Err(error) => println!("skipped: no CUDA device ({error})"),
    }
}
