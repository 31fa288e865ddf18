//! `perplexity`, in llama.cpp's convention: windows that do not overlap, each begun anew (its first token replaced by the
//! beginning-of-sequence token, if the vocabulary wants one), and only the second half of each scored, where every token
//! has at least half a window before it.

use crate::args::PerplexityArgs;
use crate::logits::nll;
use crate::out::{self, Log};
use crate::prompts::one_line_end;
use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nano_models::Control;
use serde_json::json;

/// Prints `ppl`, `nll_sum`, `tokens`, and `window_nll_sums`: two models that read the same text are compared by windows.
pub fn run(args: &PerplexityArgs, log: &Log) -> Result<()> {
    let file = args.file.display();
    let bytes = std::fs::read(&args.file).with_context(|| format!("{file}: cannot be read"))?;
    let Ok(text) = String::from_utf8(bytes) else { bail!("{file}: is not UTF-8 text") };
    ensure!(!text.is_empty(), "{file}: is empty");
    let window = args.context;
    let model = crate::model::open(&args.load, args.threads.threads, Some(window), log)?;
    let longest = model.info().context;
    ensure!(longest >= window, "--context is {window} and the model's context holds {longest} tokens: take fewer");
    let tokenizer = model.tokenizer();
    let bos = tokenizer.bos().filter(|_| tokenizer.add_bos());
    let mut tokens: Vec<u32> = bos.into_iter().collect();
    tokens.extend(tokenizer.encode(&one_line_end(text), Control::Text)?);
    ensure!(
        tokens.len() >= 2 * window,
        "{file}: {} tokens are too few: at least two windows of --context {window} are needed",
        tokens.len()
    );
    let bar = ProgressBar::with_draw_target(Some((tokens.len() / window) as u64), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{pos} of {len} windows, perplexity {msg}, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let (mut nll_sum, mut count, mut windows) = (0.0, 0_usize, Vec::new());
    for chunk in tokens.chunks_exact(window) {
        let mut chunk = chunk.to_vec();
        if let Some(bos) = bos {
            chunk[0] = bos;
        }
        let mut of_window = 0.0;
        model.score(&chunk, scored(window), |row, logits| {
            of_window += nll(logits, chunk[row + 1]);
            count += 1;
        })?;
        nll_sum += of_window;
        windows.push(of_window);
        bar.inc(1);
        bar.set_message(format!("{:.4}", (nll_sum / count as f64).exp()));
    }
    bar.finish_and_clear();
    let ppl = (nll_sum / count as f64).exp();
    out::json(&json!({"ppl": ppl, "nll_sum": nll_sum, "tokens": count, "window_nll_sums": windows}))
}

/// The rows of a window whose next token is scored.
fn scored(window: usize) -> std::ops::Range<usize> {
    window / 2..window - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_half_is_scored() {
        assert_eq!(scored(512), 256..511);
        assert_eq!(scored(512).len(), 255);
        assert_eq!(scored(3), 1..2);
    }
}
