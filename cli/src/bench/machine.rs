//! What this machine can do without a model: its name, how fast its cores read memory, how much memory the process took.

use anyhow::{Context, Result};
use std::hint::black_box;
use std::sync::Barrier;
use std::time::Instant;

/// Much more than any cache, unless little memory is free.
const BUFFER: usize = 512 << 20;
const PASSES: usize = 5;
/// Counters that do not wait for each other.
const LANES: usize = 32;

/// GB (10⁹ bytes) that so many threads read per second from a large buffer: the median of several passes.
pub fn read_bandwidth(threads: usize) -> Result<f64> {
    let free = free_memory().unwrap_or(4 * BUFFER as u64) as usize;
    let words = BUFFER.min(free / 4) / 8 / threads * threads;
    let mut buffer: Vec<u64> = Vec::new();
    buffer.try_reserve_exact(words).context("memory for the bandwidth measurement cannot be had")?;
    buffer.resize(words, 1);
    let mut passes: Vec<f64> = (0..=PASSES).map(|_| pass(&buffer, threads)).collect();
    passes.remove(0);
    passes.sort_by(f64::total_cmp);
    Ok(passes[passes.len() / 2])
}

fn pass(buffer: &[u64], threads: usize) -> f64 {
    let barrier = Barrier::new(threads);
    let spans: Vec<(Instant, Instant)> = std::thread::scope(|scope| {
        let chunks = buffer.chunks((buffer.len() / threads).max(1)).take(threads);
        let read = |chunk| {
            barrier.wait();
            let start = Instant::now();
            black_box(sum(chunk));
            (start, Instant::now())
        };
        let readers: Vec<_> = chunks.map(|chunk| scope.spawn(move || read(chunk))).collect();
        readers.into_iter().filter_map(|reader| reader.join().ok()).collect()
    });
    let start = spans.iter().map(|span| span.0).min();
    let end = spans.iter().map(|span| span.1).max();
    let seconds = start.zip(end).map_or(f64::INFINITY, |(start, end)| (end - start).as_secs_f64());
    (buffer.len() * 8) as f64 / seconds.max(1e-9) / 1e9
}

fn sum(words: &[u64]) -> u64 {
    let mut sums = [0_u64; LANES];
    for lanes in words.chunks_exact(LANES) {
        for (sum, word) in sums.iter_mut().zip(lanes) {
            *sum = sum.wrapping_add(*word);
        }
    }
    sums.iter().fold(0, |all, sum| all.wrapping_add(*sum))
}

/// The most memory that this process has had in RAM; 0 where the system does not say.
pub fn peak_rss() -> u64 {
    status("/proc/self/status", "VmHWM:").unwrap_or(0)
}

/// Memory that programs can still take, where the system tells.
pub fn free_memory() -> Option<u64> {
    status("/proc/meminfo", "MemAvailable:")
}

/// The processor's name.
pub fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

/// A number of kibibytes from a file of the proc file system, in bytes.
fn status(file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let kib = text.lines().find_map(|line| line.strip_prefix(name))?.trim().strip_suffix("kB")?;
    kib.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read() {
        assert_eq!(sum(&[1; 64 * LANES]), 64 * LANES as u64);
        let rate = pass(&vec![1; 1 << 16], 2);
        assert!(rate > 0.0 && rate.is_finite());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_system_tells_the_peak() {
        assert!(peak_rss() > 1 << 20);
    }
}
