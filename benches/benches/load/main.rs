//! How long loading takes beside what it cannot do without: reading the file, and quantizing, on as many cores.
//!
//! `cargo bench -p nano-benches --bench load [-- FOLDER [ROUNDS]]`: a llama of 270 million float16 values is written to FOLDER,
//! which is kept, or to a temporary one; a folder that is there already is taken as it is.

mod folder;

use nano_benches::middle;
use nano_kernels::cpu::Cpu;
use nano_kernels::{Format, HostTensor};
use nano_models::testing::TempDir;
use nano_models::{Checkpoint, Decoder, LoadOptions, Quantization, Spec};
use std::borrow::Cow;
use std::error::Error;
use std::fs::File;
use std::hint::black_box;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let rounds = args.get(1).map_or(Ok(5), |rounds| rounds.parse())?;
    let temporary = TempDir::new("bench-load");
    let folder = args.first().map_or_else(|| temporary.path().to_path_buf(), PathBuf::from);
    if !folder.join(folder::WEIGHTS).is_file() {
        folder::write(&folder)?;
    }
    let checkpoint = nano_models::open(&folder)?;
    let most = std::thread::available_parallelism().map_or(1, usize::from);
    for quantization in [None, Some(Quantization::Q8F16), Some(Quantization::Q4F16)] {
        for threads in if most > 1 { vec![1, most] } else { vec![1] } {
            measure(&*checkpoint, &folder, quantization, threads, rounds)?;
        }
    }
    Ok(())
}

/// Loads in turn with what the floor is made of, so that a busy machine slows both. On one thread the core's own seconds are
/// compared too, which others do not lengthen.
fn measure(
    checkpoint: &dyn Checkpoint,
    folder: &Path,
    quantization: Option<Quantization>,
    threads: usize,
    rounds: usize,
) -> Result<(), Box<dyn Error>> {
    let (mut floors, mut loads, mut shares, mut own) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..=rounds {
        let (read, quantize) = (read(&folder.join(folder::WEIGHTS))?, quantize(checkpoint, quantization)?);
        let [floor, core] = [0, 1].map(|clock| (read[clock] + quantize[clock]) / threads as f64);
        let load = load(checkpoint, quantization, threads)?;
        if round > 0 {
            floors.push(floor);
            loads.push(load[0]);
            shares.push(floor / load[0]);
            own.push(core / load[1]);
        }
    }
    let name = quantization.map_or("as it is", Quantization::name);
    let (least, most) = shares.iter().fold((f64::MAX, 0.0_f64), |(a, b), s| (a.min(*s), b.max(*s)));
    let own =
        if threads == 1 { format!(", of the core's own time {:.0}%", 100.0 * middle(own)) } else { String::new() };
    println!(
        "{name:8} {threads}T  floor {:.3} s, load {:.3} s: {:.0}% [{:.0}-{:.0}]{own}",
        middle(floors),
        middle(loads),
        100.0 * middle(shares),
        100.0 * least,
        100.0 * most
    );
    Ok(())
}

/// Seconds on the wall, and those that a core has worked for this thread.
type Seconds = [f64; 2];

/// What some work takes.
fn time<T>(work: impl FnOnce() -> Result<T, Box<dyn Error>>) -> Result<(T, Seconds), Box<dyn Error>> {
    let busy = || -> Result<f64, Box<dyn Error>> {
        let table = std::fs::read_to_string("/proc/thread-self/schedstat")?;
        Ok(table.split(' ').next().unwrap_or_default().parse::<f64>()? * 1e-9)
    };
    let (start, before) = (Instant::now(), busy()?);
    let made = work()?;
    Ok((made, [start.elapsed().as_secs_f64(), busy()? - before]))
}

/// What one core needs to read a file from the system's cache.
fn read(path: &Path) -> Result<Seconds, Box<dyn Error>> {
    let mut file = File::open(path)?;
    let mut piece = vec![0; 1 << 20];
    let (_, seconds) = time(|| {
        while file.read(&mut piece)? > 0 {
            black_box(&piece);
        }
        Ok(())
    })?;
    Ok(seconds)
}

/// What one core would need to quantize all matrices, told by a part of them: values in memory, nothing packed.
fn quantize(checkpoint: &dyn Checkpoint, quantization: Option<Quantization>) -> Result<Seconds, Box<dyn Error>> {
    const ROWS: usize = 4096;
    let mut all = [0.0; 2];
    let Some(quantization) = quantization else { return Ok(all) };
    let mut rates = std::collections::HashMap::new();
    for name in checkpoint.names() {
        let Some(tensor) = checkpoint.tensor(name)?.filter(|tensor| tensor.rows > 1) else { continue };
        let to = match tensor.rows {
            folder::VOCAB => quantization.vocabulary(None, tensor.cols),
            _ => quantization.format(tensor.cols),
        };
        if let std::collections::hash_map::Entry::Vacant(rate) = rates.entry(to) {
            let rows = ROWS.min(tensor.rows);
            let bytes = tensor.slice_rows(0, rows).bytes.into_owned();
            let part = HostTensor::new("part", tensor.format, rows, tensor.cols, Cow::Owned(bytes))?;
            let (made, seconds) = time(|| Ok(part.convert(to, 1)?))?;
            black_box(made);
            rate.insert(seconds.map(|seconds| seconds / (rows * tensor.cols) as f64));
        }
        let rate = rates.get(&to).copied().unwrap_or_default();
        all = [0, 1].map(|clock| all[clock] + rate[clock] * (tensor.rows * tensor.cols) as f64);
    }
    Ok(all)
}

/// What loading takes.
fn load(
    checkpoint: &dyn Checkpoint,
    quantization: Option<Quantization>,
    threads: usize,
) -> Result<Seconds, Box<dyn Error>> {
    let spec = Spec::read(checkpoint)?;
    let options = LoadOptions { quantization, head: None, rows: 256, logits_rows: 16, threads };
    let (_, seconds) = time(|| {
        let mut cpu = Cpu::new(threads)?;
        Ok(Decoder::load(checkpoint, &mut cpu, &spec, &options, &mut |_| ())?)
    })?;
    Ok(seconds)
}

/// What the folder's values are.
const FORMAT: Format = Format::F16;
