//! `bench`: how fast a model reads prompts and writes text on this machine, beside how fast the machine reads memory (or a
//! GPU copies), and what that takes of power where a board measures it.
//! The runs are here, the machine's own numbers in `machine`, how results look in `report`.

pub mod machine;
mod report;

use crate::args::BenchArgs;
use crate::device::ROOT;
use crate::model::open_for_ids;
use crate::out::Log;
use anyhow::{Context, Result, ensure};
use nano_runtime::{GenerateOptions, NanoModel, Output, Rails};
use report::{Gpu, Report, Spread, Test};
use std::path::Path;
use std::time::Instant;

/// Length of the prompt behind the time to the first token.
const FIRST_PROMPT: usize = 16;

/// Measures and prints.
pub fn run(args: &BenchArgs, log: &Log, started: Instant) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.clone().unwrap_or_else(|| vec![cores]);
    let [prompts, news] = [&args.prompt_tokens, &args.new_tokens].map(|list| list.iter().copied().filter(|&n| n > 0));
    let tests: Vec<(Kind, usize)> = prompts.map(|n| (Kind::Prompt, n)).chain(news.map(|n| (Kind::Decode, n))).collect();
    ensure!(!tests.is_empty(), "there is nothing to measure: -p and -n leave out all tests");
    let longest = tests.iter().map(|&(_, n)| n + 1).max().unwrap_or(1).max(FIRST_PROMPT + 1);

    // Before the model takes the memory.
    let gpu = args.load.machine.device.gpu_report()?;
    let rails = Rails::find(Path::new(ROOT));
    let mut report: Option<Report> = None;
    for threads in threads {
        let begun = if report.is_none() { started } else { Instant::now() };
        let model = open_for_ids(&args.load, Some(threads), Some(longest), log)?;
        let gpu = gpu.as_ref().filter(|_| model.info().gpu.is_some());
        let room = model.info().context;
        ensure!(room >= longest, "the context holds {room} tokens and the tests need {longest}: take shorter ones");
        let bench = Bench { ids: random_ids(&model, longest)?, model: &model };
        bench.run(Kind::Prompt, FIRST_PROMPT)?;
        let first_token_s = begun.elapsed().as_secs_f64();
        let mut results = Vec::new();
        for &(kind, tokens) in &tests {
            log.debug(format_args!("{}{tokens}, {threads} threads", kind.name()));
            bench.run(kind, tokens)?;
            let watch = rails.clone().map(Rails::watch);
            let runs = (0..args.repetitions).map(|_| bench.run(kind, tokens)).collect::<Result<Vec<_>>>()?;
            let joules = watch.and_then(|watch| watch.joules()).filter(|joules| *joules > 0.0);
            results.push((kind, tokens, runs, joules));
        }
        let report = report.get_or_insert_with(|| Report {
            model: model.info().name.clone(),
            device: format!(
                "{}: {}",
                model.info().device,
                gpu.map_or_else(machine::processor, |g| g.about.name.clone())
            ),
            results: Vec::new(),
            load_s: model.info().load_time,
            first_token_s,
            // Before the bandwidth is measured: that takes memory of its own.
            peak_rss_bytes: machine::peak_rss(),
            bandwidth: Vec::new(),
            gpu: None,
        });
        let bandwidth = match gpu {
            Some(gpu) => {
                let launches = results.iter().flat_map(|(_, _, runs, _)| runs).map(|run| run.step_launches).max();
                report.gpu = Some(Gpu { copy_gb_s: gpu.copy_gb_s, launches_per_token: launches.unwrap_or(0) });
                gpu.copy_gb_s
            }
            None => {
                let rate = machine::read_bandwidth(threads)?;
                report.bandwidth.push((threads, rate));
                rate
            }
        };
        for (kind, tokens, runs, joules) in results {
            let tok_s = Spread::of(runs.iter().map(|run| run.rate(tokens)).collect());
            let gb_s = tok_s.median * bench.bytes_per_token(kind, tokens, &runs[0]) / 1e9;
            let bandwidth_pct = 100.0 * gb_s / bandwidth;
            let test = format!("{}{tokens}", kind.name());
            let tok_j = joules.map(|joules| (tokens * runs.len()) as f64 / joules);
            report.results.push(Test { test, threads, tok_s, gb_s, bandwidth_pct, tok_j });
        }
        if gpu.is_some() {
            // The GPU computes, however many threads there are.
            break;
        }
    }
    report.context("there is nothing to measure")?.print(args.json)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A prompt is fed.
    Prompt,
    /// Tokens are generated one after the other.
    Decode,
}

impl Kind {
    /// As llama-bench has it.
    fn name(self) -> &'static str {
        match self {
            Kind::Prompt => "pp",
            Kind::Decode => "tg",
        }
    }
}

struct Bench<'a> {
    model: &'a NanoModel,
    /// Prompts are beginnings of this.
    ids: Vec<u32>,
}

/// One repetition.
struct Run {
    seconds: f64,
    /// Bytes of weights that one step reads.
    step_bytes: f64,
    /// Kernels that one step of one token launches.
    step_launches: u64,
}

impl Run {
    fn rate(&self, tokens: usize) -> f64 {
        tokens as f64 / self.seconds.max(1e-9)
    }
}

impl Bench<'_> {
    /// A prompt of `tokens` and one token generated; or one token of prompt, and `tokens` generated in as many steps.
    fn run(&self, kind: Kind, tokens: usize) -> Result<Run> {
        let (fed, new) = if kind == Kind::Prompt { (tokens, 1) } else { (1, tokens) };
        let options = GenerateOptions { max_new_tokens: new, ignore_eos: true, ..GenerateOptions::default() };
        let generation = self.model.generate(self.ids[..fed].to_vec(), self.model.cache(), &options);
        let Output { stats, .. } = generation.wait()?;
        // The first token generated comes of the prompt's step; each other one has a step of its own.
        let seconds = stats.prefill_time + if kind == Kind::Decode { stats.decode_time } else { 0.0 };
        Ok(Run { seconds, step_bytes: stats.bytes_per_token as f64, step_launches: stats.launches_per_token })
    }

    /// Weights, once per step, and the keys and values that lie before the token.
    fn bytes_per_token(&self, kind: Kind, tokens: usize, run: &Run) -> f64 {
        let kv = self.model.info().memory.kv_bytes_per_1k as f64 / 1024.0;
        match kind {
            Kind::Decode => run.step_bytes + kv * tokens as f64 / 2.0,
            Kind::Prompt => {
                let steps = tokens.div_ceil(self.model.limits().rows.max(1)) as f64;
                // A step reads what earlier steps wrote, once for all of its rows.
                (run.step_bytes * steps + kv * tokens as f64 * (steps - 1.0) / 2.0) / tokens as f64
            }
        }
    }
}

/// Tokens that are no control tokens, the same every time.
fn random_ids(model: &NanoModel, count: usize) -> Result<Vec<u32>> {
    let tokenizer = model.tokenizer();
    let vocab = model.limits().vocab.min(tokenizer.len()) as u32;
    let plain: Vec<u32> = (0..vocab).filter(|&id| tokenizer.piece(id).is_some() && !tokenizer.is_control(id)).collect();
    ensure!(!plain.is_empty(), "the vocabulary has no ordinary tokens");
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        plain[(state % plain.len() as u64) as usize]
    };
    Ok((0..count).map(|_| next()).collect())
}
