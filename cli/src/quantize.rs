//! `quantize`: a model as one GGUF file. What it holds is decided below; here are the flags, and what is shown meanwhile.

use crate::args::QuantizeArgs;
use crate::model::{bytes_bar, checkpoint, megabytes};
use crate::out::Log;
use crate::prompts::one_line_end;
use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nano_models::{Calibration, Checkpoint, Control, ExportOptions, export};
use std::path::Path;
use std::time::Instant;

/// What `--calibrate` is given by those who want no calibration.
const NONE: &str = "none";
/// Tokens that a text must have.
const FEWEST: usize = 512;

/// Writes the file.
pub fn run(args: &QuantizeArgs, log: &Log) -> Result<()> {
    let started = Instant::now();
    let checkpoint = checkpoint(&args.model.model, log)?;
    let cores = || std::thread::available_parallelism().map_or(1, Into::into);
    let threads = args.threads.threads.unwrap_or_else(cores);
    let calibration = match (&args.calibrate, &args.calibration) {
        (None, Some(file)) => Some(Calibration::open(file)?),
        (Some(text), keep) if text != NONE => {
            let calibration = calibrate(&*checkpoint, &named(text)?, FEWEST, threads, log)?;
            keep.as_ref().map_or(Ok(()), |file| calibration.save(file))?;
            Some(calibration)
        }
        (Some(_), Some(_)) => bail!("--calibrate {NONE} measures nothing that --calibration could keep: leave out one"),
        (None, None) if args.quantization.is_coarse() => {
            Some(calibrate(&*checkpoint, Calibration::SAMPLE, 1, threads, log)?)
        }
        _ => None,
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

/// A text, or that of a file.
fn named(text: &str) -> Result<String> {
    match Path::new(text).is_file() {
        true => std::fs::read_to_string(text).with_context(|| format!("{text}: cannot be read as text")),
        false => Ok(text.to_owned()),
    }
}

/// Runs the model on a text.
fn calibrate(checkpoint: &dyn Checkpoint, text: &str, fewest: usize, threads: usize, log: &Log) -> Result<Calibration> {
    let tokens = checkpoint.tokenizer()?.encode(&one_line_end(text.to_owned()), Control::Parse)?;
    ensure!(tokens.len() >= fewest, "--calibrate: {} tokens are too few; {fewest} are needed", tokens.len());
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
