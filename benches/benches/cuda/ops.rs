//! Single operations: decode products, prefill products, experts, attention over a long cache. Weights change from launch to
//! launch, so that no cache holds them.

use super::{Peaks, Scale, bytes_line, line};
use nano_benches::{middle, step};
use nano_kernels::cuda::{Cuda, Driver, Sizes};
use nano_kernels::{
    Act, After, Attend, Backend, Experts, Format, Group, HostTensor, KvFormat, Linear, PAGE_ROWS, PageLayout,
    Precision, Result, Rows, Step,
};
use std::borrow::Cow;
use std::time::Instant;

/// Bytes that copies of a weight take together, at least: more than any cache.
const SPREAD: usize = 512 << 20;

fn tensor(format: Format, rows: usize, cols: usize) -> Result<HostTensor<'static>> {
    let mut bytes = vec![0x11; format.row_bytes(cols).unwrap_or(0) * rows];
    if let Format::Int4(_) | Format::Int8(_) = format {
        bytes.chunks_exact_mut(format.block_bytes()).for_each(|block| block[2..4].copy_from_slice(&[8, 0]));
    }
    HostTensor::new("w", format, rows, cols, Cow::Owned(bytes))
}

/// Median seconds of `body` run as one recorded (or eager) step.
fn timed<D: Driver>(
    cuda: &mut Cuda<D>,
    step: &Step,
    program: Option<u32>,
    reps: usize,
    body: &mut dyn FnMut(&mut Cuda<D>) -> Result<()>,
) -> Result<f64> {
    let mut times = Vec::new();
    for i in 0..reps + 2 {
        cuda.driver().finish()?;
        let start = Instant::now();
        cuda.run(step, program, body)?;
        cuda.driver().finish()?;
        if i > 1 {
            times.push(start.elapsed().as_secs_f64());
        }
    }
    Ok(middle(times))
}

fn products<D: Driver>(open: &dyn Fn() -> Result<D>, peaks: &Peaks, scale: Scale) -> Result<()> {
    let device = scale == Scale::Device;
    let shapes: &[(usize, usize)] =
        if device { &[(4096, 4096), (6144, 4096), (28672, 4096), (4096, 14336), (2048, 2048)] } else { &[(64, 256)] };
    for (format, name) in [
        (Format::Q4_0, "q4"),
        (Format::Mxfp4, "mxfp4"),
        (Format::Q4K, "q4k"),
        (Format::Q6K, "q6k"),
        (Format::Q8_0, "q8"),
        (Format::F16, "f16"),
        (Format::Int4(Group::G128), "int4-g128"),
        (Format::Int8(Group::G128), "int8-g128"),
    ] {
        for &(outs, cols) in shapes {
            if device && format != Format::Q4_0 && (outs, cols) != (4096, 4096) {
                continue;
            }
            let mut cuda = Cuda::new(open()?, Sizes { rows: 2048, logits: 8, pages: 8 })?;
            let bytes = Cuda::<D>::weight_bytes(format, outs, cols);
            let copies = if device { SPREAD.div_ceil(bytes).min(64) } else { 2 };
            let host = tensor(format, outs, cols)?;
            let weights = (0..copies)
                .map(|_| Ok(Linear { weight: cuda.weight(std::slice::from_ref(&host))?, bias: None }))
                .collect::<Result<Vec<Linear<Cuda<D>>>>>()?;
            for rows in if device { vec![1, 4, 8, 32, 512, 2048] } else { vec![1, 16] } {
                if rows > 8 && format != Format::Q4_0 && rows != 512 {
                    continue;
                }
                let x = cuda.buf(rows, cols, Precision::Half)?;
                let mut out = cuda.buf(rows, outs, Precision::Half)?;
                let some = if rows > 8 { copies.min(8) } else { copies };
                // Recorded under a number of its own, since buffers differ.
                let program = (rows <= 8).then_some(rows as u32);
                let seconds = timed(&mut cuda, &step(rows, rows), program, 9, &mut |cuda| {
                    weights[..some].iter().try_for_each(|w| cuda.linear(&mut out, &x, None, w, After::Store, Rows::All))
                })? / some as f64;
                let what = format!("product {name} {outs}x{cols}, {rows} rows");
                if rows <= 8 {
                    bytes_line(&what, &format!("{:.1} us, ", seconds * 1e6), bytes as f64, seconds, peaks);
                } else {
                    let rate = 2.0 * (rows * outs * cols) as f64 / seconds;
                    let share = format!("{:.1} % of mma", 100.0 * rate / peaks.mma.max(1.0));
                    line(&what, &format!("{:.1} us, {:.1} TFLOP/s", seconds * 1e6, rate * 1e-12), &share);
                }
            }
        }
    }
    Ok(())
}

/// Experts, as a layer has them whose rows go through a few of many. Steps of a few rows go through others each time.
fn experts<D: Driver>(open: &dyn Fn() -> Result<D>, peaks: &Peaks, scale: Scale) -> Result<()> {
    let device = scale == Scale::Device;
    let (dim, hidden, count, chosen) = if device { (2048, 768, 128, 8) } else { (64, 32, 4, 2) };
    let (layers, turns) = if device { (2, count / chosen) } else { (1, 2) };
    for (format, name) in [(Format::Q4_0, "q4"), (Format::Mxfp4, "mxfp4"), (Format::Q8_0, "q8")] {
        let mut cuda = Cuda::new(open()?, Sizes { rows: 512, logits: 8, pages: 8 })?;
        let (wide, tall) = (tensor(format, hidden, dim)?, tensor(format, dim, hidden)?);
        let layer = |_| {
            let up = (0..count).map(|_| cuda.weight(&[wide.clone(), wide.clone()])).collect::<Result<_>>()?;
            let down = (0..count).map(|_| cuda.weight(std::slice::from_ref(&tall))).collect::<Result<_>>()?;
            cuda.mixture(Experts {
                up,
                down,
                shared: None,
                act: Act::Silu,
                up_bias: None,
                down_bias: None,
                chosen,
                normalize: true,
            })
        };
        let layers = (0..layers).map(layer).collect::<Result<Vec<_>>>()?;
        let bytes = Cuda::<D>::weight_bytes(format, 2 * hidden, dim) + Cuda::<D>::weight_bytes(format, dim, hidden);
        for rows in if device { vec![1, 8, 512] } else { vec![1, 16] } {
            // Row r of turn i goes through the experts from chosen (i + r) on.
            let logit = |turn: usize, row: usize, expert: usize| {
                let first = chosen * (turn + row) % count;
                if (expert + count - first) % count < chosen { 1.0 } else { 0.0 }
            };
            let mut logits = Vec::new();
            for turn in 0..turns {
                let mut buf = cuda.buf(rows, count, Precision::Full)?;
                let values: Vec<f32> = (0..rows * count).map(|i| logit(turn, i / count, i % count)).collect();
                cuda.write(&mut buf, &values)?;
                logits.push(buf);
            }
            let mut x = cuda.buf(rows, dim, Precision::Full)?;
            let mut h = cuda.buf(rows, chosen * hidden, Precision::Half)?;
            let program = (rows <= 8).then_some(rows as u32);
            let seconds = timed(&mut cuda, &step(rows, rows), program, 9, &mut |cuda| {
                let mut all = logits.iter().flat_map(|logits| layers.iter().map(move |layer| (logits, layer)));
                all.try_for_each(|(logits, layer)| cuda.experts(&mut x, &mut h, None, logits, layer))
            })? / (layers.len() * turns) as f64;
            let what = format!("experts {name} {chosen} of {count}, {dim} through {hidden}, {rows} rows");
            if rows <= 8 {
                let read = (rows * chosen).min(count) * bytes;
                bytes_line(&what, &format!("{:.1} us, ", seconds * 1e6), read as f64, seconds, peaks);
            } else {
                let rate = 6.0 * (rows * chosen * hidden * dim) as f64 / seconds;
                let share = format!("{:.1} % of mma", 100.0 * rate / peaks.mma.max(1.0));
                line(&what, &format!("{:.1} us, {:.1} TFLOP/s", seconds * 1e6, rate * 1e-12), &share);
            }
        }
    }
    Ok(())
}

fn attention<D: Driver>(open: &dyn Fn() -> Result<D>, peaks: &Peaks, scale: Scale) -> Result<()> {
    let contexts = if scale == Scale::Device { vec![512, 4096, 16384, 65536] } else { vec![100] };
    let (heads, kv_heads, head_dim) = if scale == Scale::Device { (32, 8, 128) } else { (4, 2, 32) };
    for format in [KvFormat::F16, KvFormat::Q8] {
        for &context in &contexts {
            let pages = context / PAGE_ROWS + 1;
            let mut cuda = Cuda::new(open()?, Sizes { rows: 512, logits: 8, pages })?;
            // Enough layers that no cache holds them all.
            let layers = if scale == Scale::Device { (SPREAD / (context * 4096)).clamp(2, 64) } else { 2 };
            let layout = PageLayout { pages, layers, kv_heads, head_dim, format };
            let kv = cuda.pages(layout)?;
            let a = Attend { heads, kv_heads, head_dim, scale: 0.088, window: None, softcap: None };
            for rows in [1, 512] {
                if rows > context || (rows > 1 && scale == Scale::Toy) {
                    continue;
                }
                let q = cuda.buf(rows, heads * head_dim, Precision::Half)?;
                let mut out = cuda.buf(rows, heads * head_dim, Precision::Half)?;
                let some = if rows > 1 { layers.min(4) } else { layers };
                let program = (rows == 1).then_some(1);
                let seconds = timed(&mut cuda, &step(rows, context), program, 9, &mut |cuda| {
                    (0..some).try_for_each(|layer| cuda.attend(&mut out, &q, &kv, layer, a, None))
                })? / some as f64;
                let what = format!("attention {format:?}, {rows} rows of {heads} heads, context {context}");
                if rows == 1 {
                    let bytes = pages as f64 * Cuda::<D>::page_bytes(&layout) as f64 / layers as f64;
                    bytes_line(&what, &format!("{:.1} us, ", seconds * 1e6), bytes, seconds, peaks);
                } else {
                    let seen = context as f64 - rows as f64 / 2.0;
                    let rate = 4.0 * rows as f64 * seen * (heads * head_dim) as f64 / seconds;
                    let share = format!("{:.1} % of mma", 100.0 * rate / peaks.mma.max(1.0));
                    line(&what, &format!("{:.1} us, {:.1} TFLOP/s", seconds * 1e6, rate * 1e-12), &share);
                }
            }
        }
    }
    Ok(())
}

/// All of them.
pub fn all<D: Driver>(open: &dyn Fn() -> Result<D>, peaks: &Peaks, scale: Scale) -> Result<()> {
    products(open, peaks, scale)?;
    experts(open, peaks, scale)?;
    attention(open, peaks, scale)
}
