//! `quantize`: a model as one GGUF file. What it holds is decided below; here are the flags, and what is shown meanwhile.

use crate::args::QuantizeArgs;
use crate::model::{bytes_bar, checkpoint, megabytes};
use crate::out::Log;
use anyhow::Result;
use indicatif::ProgressBar;
use nano_models::{ExportOptions, export};
use std::time::Instant;

/// Writes the file.
pub fn run(args: &QuantizeArgs, log: &Log) -> Result<()> {
    let started = Instant::now();
    let checkpoint = checkpoint(&args.model.model, log)?;
    let cores = || std::thread::available_parallelism().map_or(1, Into::into);
    let threads = args.threads.threads.unwrap_or_else(cores);
    let options = ExportOptions { quantization: args.quantization, head: args.head, threads, replace: args.force };
    let mut bar: Option<ProgressBar> = None;
    let made = export(&*checkpoint, &args.out, &options, &mut |progress| {
        let bar = bar.get_or_insert_with(|| bytes_bar("quantizing", progress.total_bytes, log));
        bar.set_position(progress.done_bytes);
    });
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let made = made?;
    made.notices.iter().for_each(|notice| log.warn(notice));
    log.note(format_args!(
        "{}: {}, {:.2} bits per weight, in {:.1} s",
        args.out.display(),
        megabytes(made.bytes),
        made.bits_per_weight,
        started.elapsed().as_secs_f64()
    ));
    Ok(())
}
