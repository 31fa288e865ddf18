//! `quantize`: a model as one GGUF file. What it holds is decided below; here are the flags, and what is shown meanwhile.

use crate::args::QuantizeArgs;
use crate::model::{bytes_bar, checkpoint, megabytes};
use crate::out::Log;
use crate::prompts::one_line_end;
use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nano_models::{Calibration, Checkpoint, Control, ExportOptions, export};
use std::path::Path;
use std::time::Instant;

/// Writes the file.
pub fn run(args: &QuantizeArgs, log: &Log) -> Result<()> {
    let started = Instant::now();
    let checkpoint = checkpoint(&args.model.model, log)?;
    let cores = || std::thread::available_parallelism().map_or(1, Into::into);
    let threads = args.threads.threads.unwrap_or_else(cores);
    let calibration = match (&args.calibrate, &args.calibration) {
        (Some(text), keep) => {
            let calibration = calibrate(&*checkpoint, text, threads, log)?;
            keep.as_ref().map_or(Ok(()), |file| calibration.save(file))?;
            Some(calibration)
        }
        (None, Some(file)) => Some(Calibration::open(file)?),
        (None, None) => None,
    };
    let options = ExportOptions {
        quantization: args.quantization,
        head: args.head,
        calibration: calibration.as_ref(),
        threads,
        replace: args.force,
    };
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

/// Runs the model on a text, or on that of a file.
fn calibrate(checkpoint: &dyn Checkpoint, text: &str, threads: usize, log: &Log) -> Result<Calibration> {
    const FEWEST: usize = 512;
    let text = match Path::new(text).is_file() {
        true => std::fs::read_to_string(text).with_context(|| format!("{text}: cannot be read as text"))?,
        false => text.to_owned(),
    };
    let tokens = checkpoint.tokenizer()?.encode(&one_line_end(text), Control::Parse)?;
    ensure!(tokens.len() >= FEWEST, "--calibrate: {} tokens are too few; {FEWEST} are needed", tokens.len());
    let target = if log.terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(tokens.len() as u64), target);
    let style = ProgressStyle::with_template("calibrating [{bar:30}] {pos} of {len} tokens, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
    let calibration = Calibration::measure(checkpoint, &tokens, threads, &mut |done| bar.set_position(done as u64));
    bar.finish_and_clear();
    let calibration = calibration?;
    log.note(format_args!("calibrated {} matrices on {} tokens", calibration.len(), tokens.len()));
    Ok(calibration)
}
