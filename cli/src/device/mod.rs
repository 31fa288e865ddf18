//! A device without a model: what it is, what it has, how fast its memory is. Behind `info` without `--model`.

use crate::args::InfoArgs;
use crate::bench::machine;
use crate::model::megabytes;
use crate::out;
use anyhow::Result;
use nano_runtime::{Board, GpuReport};
use serde_json::{Value, json};
use std::path::Path;

/// The whole file system.
pub const ROOT: &str = "/";

/// Prints what is known of the device that was asked for.
pub fn run(args: &InfoArgs) -> Result<()> {
    let board = Board::read(Path::new(ROOT));
    let about = match args.machine.device.gpu_report()? {
        Some(gpu) => About::Gpu(gpu),
        None => About::Cpu(Cpu::look()?),
    };
    if args.json { out::json(&about.json(board.as_ref())) } else { out::write(about.text(board.as_ref())) }
}

enum About {
    Gpu(GpuReport),
    Cpu(Cpu),
}

struct Cpu {
    name: String,
    threads: usize,
    free: Option<u64>,
    read_gb_s: f64,
}

impl Cpu {
    fn look() -> Result<Self> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let read_gb_s = machine::read_bandwidth(threads)?;
        Ok(Self { name: machine::processor(), threads, free: machine::free_memory(), read_gb_s })
    }
}

impl About {
    fn json(&self, board: Option<&Board>) -> Value {
        let mut value = match self {
            About::Gpu(gpu) => json!({
                "device": "cuda",
                "name": gpu.about.name,
                "compute_capability": capability(gpu),
                "multiprocessors": gpu.about.multiprocessors,
                "integrated": gpu.about.integrated,
                "memory": {"total_bytes": gpu.about.memory, "free_bytes": gpu.free},
                "driver_cuda": driver(gpu),
                "shared_bytes_per_block": gpu.about.shared_bytes,
                "l2_bytes": gpu.l2_bytes,
                "clock_mhz": gpu.clock_mhz,
                "memory_clock_mhz": gpu.memory_clock_mhz,
                "memory_bus_bits": gpu.bus_bits,
                "copy_gb_s": gpu.copy_gb_s,
            }),
            About::Cpu(cpu) => json!({
                "device": "cpu",
                "name": cpu.name,
                "threads": cpu.threads,
                "memory": {"free_bytes": cpu.free},
                "read_gb_s": cpu.read_gb_s,
            }),
        };
        if let Some(board) = board {
            value["board"] = json!(board);
        }
        value
    }

    fn text(&self, board: Option<&Board>) -> String {
        let mut lines: Vec<(&str, String)> = match self {
            About::Gpu(gpu) => {
                let memory = if gpu.about.integrated { "shared with the processor" } else { "its own" };
                let (total, free) = (megabytes(gpu.about.memory), megabytes(gpu.free));
                let shared = megabytes(gpu.about.shared_bytes.into());
                vec![
                    ("device", format!("cuda, {}", gpu.about.name)),
                    ("capability", format!("{}, {} multiprocessors", capability(gpu), gpu.about.multiprocessors)),
                    ("memory", format!("{total}, {free} free, {memory}")),
                    ("", format!("{:.1} GB/s read and written by copies", gpu.copy_gb_s)),
                    ("", format!("{} L2, {shared} shared per block", megabytes(gpu.l2_bytes))),
                    (
                        "clocks",
                        format!(
                            "{:.0} MHz, memory {:.0} MHz, {} bits",
                            gpu.clock_mhz, gpu.memory_clock_mhz, gpu.bus_bits
                        ),
                    ),
                    ("driver", format!("for CUDA {}", driver(gpu))),
                ]
            }
            About::Cpu(cpu) => vec![
                ("device", format!("cpu, {}", cpu.name)),
                ("threads", cpu.threads.to_string()),
                ("memory", format!("{} free", cpu.free.map_or_else(|| "unknown".into(), megabytes))),
                ("", format!("{:.1} GB/s read by {} threads", cpu.read_gb_s, cpu.threads)),
            ],
        };
        lines.extend(board.map(Board::lines).unwrap_or_default());
        lines.iter().map(|(name, value)| format!("{name:<14}{value}\n")).collect()
    }
}

fn capability(gpu: &GpuReport) -> String {
    format!("{}.{}", gpu.about.capability / 10, gpu.about.capability % 10)
}

fn driver(gpu: &GpuReport) -> String {
    format!("{}.{}", gpu.about.driver / 1000, gpu.about.driver % 1000 / 10)
}
