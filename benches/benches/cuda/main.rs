//! The CUDA backend on this machine's GPU: its peaks, then single operations, then whole steps of synthetic models, as a
//! Markdown table. Rates of decode are beside the device's own measured copy bandwidth, rates of prefill beside its
//! measured f16 mma rate.
//!
//! `cargo bench -p nano-benches --bench cuda [-- --device N] [--emulate]`; `--emulate` runs toy shapes on the emulator, to
//! see that the bench itself works: its times mean nothing.

mod ops;
mod steps;
mod synthetic;

use nano_benches::middle;
use nano_kernels::Result;
use nano_kernels::cuda::device::Device;
use nano_kernels::cuda::{Arg, Driver, Launch};
use std::time::Instant;

/// What everything is compared with.
pub struct Peaks {
    /// Bytes per second that a copy within the device reads and writes, together.
    pub copy: f64,
    /// f16 operations per second of mma.m16n8k16 with float32 sums; 0 where there is none.
    pub mma: f64,
}

/// How much is done.
#[derive(Clone, Copy, PartialEq)]
pub enum Scale {
    /// Shapes of real models.
    Device,
    /// What an emulator does in seconds.
    Toy,
}

/// One line of the table.
pub fn line(what: &str, result: &str, share: &str) {
    println!("| {what} | {result} | {share} |");
}

/// A rate of bytes, and its share of the copy bandwidth.
pub fn bytes_line(what: &str, extra: &str, bytes: f64, seconds: f64, peaks: &Peaks) {
    let rate = bytes / seconds;
    line(what, &format!("{extra}{:.0} GB/s", rate * 1e-9), &format!("{:.1} % of copy", 100.0 * rate / peaks.copy));
}

fn peaks<D: Driver>(driver: &D, scale: Scale) -> Result<Peaks> {
    let (bytes, copies, rounds) = if scale == Scale::Device { (256 << 20, 8, 4096) } else { (1 << 16, 2, 2) };
    let (from, to) = (driver.alloc(bytes, "bandwidth")?, driver.alloc(bytes, "bandwidth")?);
    let timed = |call: &mut dyn FnMut() -> Result<()>| -> Result<f64> {
        let mut times = Vec::new();
        for _ in 0..7 {
            driver.finish()?;
            let start = Instant::now();
            call()?;
            driver.finish()?;
            times.push(start.elapsed().as_secs_f64());
        }
        Ok(middle(times))
    };
    let seconds = timed(&mut || (0..copies).try_for_each(|_| driver.copy(from, to, bytes)))?;
    let copy = 2.0 * (bytes * copies) as f64 / seconds;
    let mut mma = 0.0;
    if driver.about().capability >= 80 {
        let blocks = 8 * driver.about().multiprocessors;
        let args = [Arg::Ptr(to), Arg::U32(rounds)];
        let launch = Launch { kernel: "mma_rate", grid: [blocks, 1, 1], threads: 256, shared: 0, args: &args };
        let seconds = timed(&mut || driver.launch(launch))?;
        mma = f64::from(blocks) * 8.0 * f64::from(rounds) * 8.0 * 4096.0 / seconds;
    }
    Ok(Peaks { copy, mma })
}

fn all<D: Driver>(open: &dyn Fn() -> Result<D>, scale: Scale) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let driver = open()?;
    let about = driver.about().clone();
    println!(
        "| {} (capability {}, {} multiprocessors, driver {}) | | |",
        about.name, about.capability, about.multiprocessors, about.driver
    );
    println!("| --- | --- | --- |");
    let peaks = peaks(&driver, scale)?;
    drop(driver);
    line("copy within the device, read and written", &format!("{:.0} GB/s", peaks.copy * 1e-9), "");
    line("mma.m16n8k16, f16 to float32", &format!("{:.1} TFLOP/s", peaks.mma * 1e-12), "");
    ops::all(open, &peaks, scale)?;
    steps::all(open, &peaks, scale)?;
    Ok(())
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if args.iter().any(|a| a == "--emulate") {
        let options = nano_emulator::Options::default();
        return all(&|| nano_emulator::Emulator::new(options.clone()), Scale::Toy);
    }
    let ordinal = match args.iter().position(|a| a == "--device") {
        Some(i) => args.get(i + 1).ok_or("--device needs a number")?.parse()?,
        None => 0,
    };
    match Device::open(ordinal) {
        Ok(device) => drop(device),
        Err(error) => {
            println!("skipped: no CUDA device ({error})");
            return Ok(());
        }
    }
    all(&|| Device::open(ordinal), Scale::Device)
}
