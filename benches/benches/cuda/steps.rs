//! Whole steps of synthetic models: tokens one by one behind a context, replayed and eager, and prompts.

use super::synthetic::{B1, B8, M135, Shape, Synthetic, TOY};
use super::{Peaks, Scale, bytes_line, line};
use nano_benches::middle;
use nano_kernels::cuda::{Cuda, Driver, Sizes};
use nano_kernels::{Backend, Format, KvFormat, PAGE_ROWS, PREV, Pick, Result, Row, SequenceRows, Step};
use nano_models::{Decoder, LoadOptions, Spec};
use std::time::Instant;

type Failure = Box<dyn std::error::Error>;

struct Model<D: Driver> {
    cuda: Cuda<D>,
    decoder: Decoder<Cuda<D>>,
    kv: <Cuda<D> as Backend>::Pages,
    pages: usize,
    load_s: f64,
}

impl<D: Driver> Model<D> {
    fn load(driver: D, shape: Shape, context: usize, record: bool) -> std::result::Result<Self, Failure> {
        let checkpoint = Synthetic::new(shape, Format::Q4_0, Format::Q8_0)?;
        let spec = Spec::read(&checkpoint)?;
        let rows = 2048.min(context);
        let pages = context.div_ceil(PAGE_ROWS) + 1;
        let mut cuda = Cuda::new(driver, Sizes { rows, logits: 8, pages })?;
        if !record {
            cuda = cuda.without_recording();
        }
        let started = Instant::now();
        let options = LoadOptions { quantization: None, head: None, rows, logits_rows: 8, threads: 8 };
        let decoder = Decoder::load(&checkpoint, &mut cuda, &spec, &options, &mut |_| ())?;
        cuda.driver().finish()?;
        let load_s = started.elapsed().as_secs_f64();
        let kv = cuda.pages(spec.page_layout(pages, KvFormat::F16))?;
        Ok(Model { cuda, decoder, kv, pages, load_s })
    }

    fn step(&mut self, from: usize, tokens: &[u32], pick: Pick) -> Result<()> {
        let row = |(i, token): (usize, &u32)| {
            let at = (from + i) as u32;
            Row { token: *token, position: at, slot: at, sequence: 0, visible: at + 1 }
        };
        let step = Step {
            rows: tokens.iter().enumerate().map(row).collect(),
            sequences: vec![SequenceRows { pages: (0..self.pages as u32).collect() }],
            logits: vec![tokens.len() as u32 - 1],
            pick,
        };
        let Model { cuda, decoder, kv, .. } = self;
        cuda.run(&step, Some(0), &mut |b| decoder.forward(b, kv))
    }

    /// Seconds per token of `n` greedy tokens, each waited for before the next is asked for.
    fn decode(&mut self, from: usize, n: usize) -> Result<f64> {
        let mut times = Vec::new();
        let mut token = 1;
        for i in 0..n {
            let start = Instant::now();
            self.step(from + i, &[token], Pick::Argmax)?;
            token = self.cuda.picks(0)?[0].id;
            times.push(start.elapsed().as_secs_f64());
        }
        Ok(middle(times))
    }

    /// Seconds per token when the next step is asked for before the last one's token is read.
    fn ahead(&mut self, from: usize, n: usize) -> Result<f64> {
        self.step(from, &[1], Pick::Argmax)?;
        self.cuda.picks(0)?;
        let start = Instant::now();
        for i in 1..=n {
            self.step(from + i, &[PREV], Pick::Argmax)?;
            self.cuda.picks(1)?;
        }
        self.cuda.driver().finish()?;
        Ok(start.elapsed().as_secs_f64() / n as f64)
    }

    fn prefill(&mut self, rows: usize) -> Result<f64> {
        let tokens: Vec<u32> = (0..rows as u32).collect();
        let mut times = Vec::new();
        for i in 0..6 {
            self.cuda.driver().finish()?;
            let start = Instant::now();
            self.step(0, &tokens, Pick::Argmax)?;
            self.cuda.picks(0)?;
            if i > 0 {
                times.push(start.elapsed().as_secs_f64());
            }
        }
        Ok(middle(times))
    }
}

/// All models.
pub fn all<D: Driver>(open: &dyn Fn() -> Result<D>, peaks: &Peaks, scale: Scale) -> std::result::Result<(), Failure> {
    let (shapes, context, n, prompts): (Vec<Shape>, usize, usize, Vec<usize>) = match scale {
        Scale::Device => (vec![M135, B1, B8], 4096, 100, vec![512, 2048]),
        Scale::Toy => (vec![TOY], 128, 3, vec![40]),
    };
    for shape in shapes {
        let mut model = Model::load(open()?, shape, context, true)?;
        let name = format!("{} q4f16", shape.name);
        line(&format!("{name}: load"), &format!("{:.2} s", model.load_s), "");
        let from = if scale == Scale::Device { 512 } else { 32 };
        let weights = model.decoder.step_bytes() as f64;
        model.decode(from, 10.min(n))?;
        let replayed = model.decode(from, n)?;
        let rate = |seconds: f64| format!("{:.0} tok/s, ", 1.0 / seconds);
        bytes_line(&format!("{name}: decode at {from}, replayed"), &rate(replayed), weights, replayed, peaks);
        let ahead = model.ahead(from, n)?;
        bytes_line(&format!("{name}: decode at {from}, one step ahead"), &rate(ahead), weights, ahead, peaks);
        for rows in &prompts {
            let seconds = model.prefill(*rows)?;
            // Two operations per weight and row; the head for one row only.
            let inner = shape.layers
                * (shape.dim * shape.dim * 2
                    + 2 * shape.dim * shape.dim * shape.kv_heads / shape.heads
                    + 3 * shape.dim * shape.hidden);
            let flops = 2.0 * inner as f64 * *rows as f64 / seconds;
            let share = format!("{:.1} % of mma", 100.0 * flops / peaks.mma.max(1.0));
            line(
                &format!("{name}: prompt of {rows}"),
                &format!("{:.0} tok/s, {:.1} TFLOP/s", *rows as f64 / seconds, flops * 1e-12),
                &share,
            );
        }
        drop(model);
        let mut eager = Model::load(open()?, shape, context, false)?;
        eager.decode(from, 10.min(n))?;
        let alone = eager.decode(from, n)?;
        line(
            &format!("{name}: decode at {from}, eager"),
            &rate(alone),
            &format!("replay is {:.2} x as fast", alone / replayed),
        );
    }
    Ok(())
}
