//! From `--model` to something that runs: a path or a Hub id becomes a path, downloads and loading show their progress.

use crate::args::{LoadArgs, MachineArgs};
use crate::out::Log;
use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nano_models::Checkpoint;
use nano_models::hub::{Hub, Location};
use nano_runtime::{LoadEvent, ModelOptions, NanoModel};
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// Loading that is over sooner shows no bar.
const PATIENCE: Duration = Duration::from_millis(300);
/// How long nothing may be said before the first news.
const SILENCE: Duration = Duration::from_secs(2);

/// The file or folder of a model, downloaded where that is needed.
pub fn locate(model: &str, log: &Log) -> Result<PathBuf> {
    let id = match model.parse()? {
        Location::Path(path) => return Ok(path),
        Location::Hub(id) => id,
    };
    let mut file = String::new();
    let mut bar = ProgressBar::hidden();
    let path = Hub::from_env().fetch(&id, &mut |name, done, total| {
        if name != file {
            bar.finish_and_clear();
            file = name.to_owned();
            bar = bytes_bar(name, total, log);
            if !log.terminal {
                log.note(format_args!("downloading {name} ({})", megabytes(total)));
            }
        }
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    log.debug(format_args!("{id} is {}", path.display()));
    Ok(path)
}

/// A model's files, without its weights in memory.
pub fn checkpoint(model: &str, log: &Log) -> Result<Box<dyn Checkpoint>> {
    Ok(nano_models::open(&locate(model, log)?)?)
}

/// How to load, as the flags say it.
pub fn options(args: &MachineArgs, threads: Option<usize>, context: Option<usize>) -> ModelOptions {
    ModelOptions {
        quantization: args.quantization,
        head: args.head,
        adapters: args.lora.clone(),
        device: args.device,
        threads,
        max_context_len: context,
        memory: args.memory,
        kv_cache: args.kv_cache,
        packed: if args.no_packed_cache { None } else { crate::cache::packed() },
        // This program holds one conversation at a time.
        max_sequences: Some(1),
        ..ModelOptions::default()
    }
}

/// Loads a model.
pub fn open(args: &LoadArgs, threads: Option<usize>, context: Option<usize>, log: &Log) -> Result<NanoModel> {
    open_with(&args.model.model, options(&args.machine, threads, context), false, log)
}

/// As [`open`], to converse: with a chat template among the options, or the one that suits the model.
pub fn open_for_chat(model: &str, options: ModelOptions, log: &Log) -> Result<NanoModel> {
    open_with(model, options, true, log)
}

/// As [`open`], for commands that speak of token ids alone: a checkpoint without a tokenizer will do.
pub fn open_for_ids(args: &LoadArgs, threads: Option<usize>, context: Option<usize>, log: &Log) -> Result<NanoModel> {
    let options = ModelOptions { ids_only: true, ..options(&args.machine, threads, context) };
    open_with(&args.model.model, options, false, log)
}

fn open_with(model: &str, options: ModelOptions, chat: bool, log: &Log) -> Result<NanoModel> {
    let path = locate(model, log)?;
    let started = Instant::now();
    let mut bar: Option<ProgressBar> = None;
    let mut waiting = Some(wait_aloud(log.clone()));
    let told = |event| {
        // Something is told: there is nothing to wait for any more.
        waiting = None;
        tell(event, chat, started, &mut bar, log);
    };
    let model = NanoModel::open(&path, options, told);
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let model = model?;
    log.debug(format_args!("{} loaded in {:.3} s", path.display(), started.elapsed().as_secs_f64()));
    Ok(model)
}

/// Says what may take so long, unless the sender that it returns is dropped soon.
fn wait_aloud(log: Log) -> Sender<()> {
    let (waiting, over) = channel();
    std::thread::spawn(move || {
        if over.recv_timeout(SILENCE) == Err(RecvTimeoutError::Timeout) {
            log.note("still preparing: the first start on a GPU compiles its kernels, which may take a minute");
        }
    });
    waiting
}

/// Tells what happens while a model loads.
fn tell(event: LoadEvent, chat: bool, started: Instant, bar: &mut Option<ProgressBar>, log: &Log) {
    match event {
        LoadEvent::Progress { done, total } if bar.is_some() || started.elapsed() > PATIENCE => {
            bar.get_or_insert_with(|| bytes_bar("loading", total, log)).set_position(done);
        }
        LoadEvent::Progress { .. } => {}
        LoadEvent::Plan { device, memory, context, budget } => {
            let [total, weights, buffers] =
                [memory.total_bytes, memory.weights_bytes, memory.workspace_bytes].map(megabytes);
            let cache = megabytes(memory.total_bytes - memory.weights_bytes - memory.workspace_bytes);
            let of = budget.map_or_else(String::new, |bytes| format!(" of {}", megabytes(bytes)));
            let plan = format!(
                "{device}: {total}{of}: {weights} weights, {cache} keys and values of {context} tokens, {buffers} buffers"
            );
            // A GPU takes all of it at once, and on a board from everybody.
            if device == "cuda" { log.note(plan) } else { log.debug(plan) }
        }
        LoadEvent::Kept { path, bytes } => {
            let text =
                format!("{} of packed weights are kept for the next start: {}", megabytes(bytes), path.display());
            bar.as_ref().map_or_else(|| log.note(&text), |bar| bar.suspend(|| log.note(&text)));
        }
        LoadEvent::Template(text) if !chat => log.debug(text),
        LoadEvent::Notice(text) | LoadEvent::Template(text) => match bar {
            Some(bar) => bar.suspend(|| log.warn(text)),
            None => log.warn(text),
        },
    }
}

/// An amount for people: decimal, as disks and downloads are counted.
pub fn megabytes(bytes: u64) -> String {
    match bytes {
        ..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

/// Shown on a terminal only.
pub fn bytes_bar(name: &str, total: u64, log: &Log) -> ProgressBar {
    if !log.terminal {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{msg} [{bar:30}] {decimal_bytes} of {decimal_total_bytes}, {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style.progress_chars("=> "));
    bar.set_message(name.to_owned());
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts() {
        assert_eq!(megabytes(500), "0.5 kB");
        assert_eq!(megabytes(91_700_000), "91.7 MB");
        assert_eq!(megabytes(8_030_000_000), "8.03 GB");
    }
}
