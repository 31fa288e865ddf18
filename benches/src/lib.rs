//! What the benches share: a timer that reports medians, and a step for single operations.

use nano_kernels::{NO_SLOT, PAGE_ROWS, Pick, Row, SequenceRows, Step};
use std::time::Instant;

/// Median seconds of `reps` calls, after one that is not counted.
pub fn median(reps: usize, mut f: impl FnMut()) -> f64 {
    f();
    let times: Vec<f64> = (0..reps.max(1))
        .map(|_| {
            let start = Instant::now();
            f();
            start.elapsed().as_secs_f64()
        })
        .collect();
    middle(times)
}

/// The median of some times; there must be one.
pub fn middle(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// A step of the last `rows` rows of one sequence that has `context`: nothing is stored, no logits are wanted.
pub fn step(rows: usize, context: usize) -> Step {
    let row =
        |i: usize| Row { token: 0, position: 0, slot: NO_SLOT, sequence: 0, visible: (context - rows + i + 1) as u32 };
    Step {
        rows: (0..rows).map(row).collect(),
        sequences: vec![SequenceRows { pages: (0..context.div_ceil(PAGE_ROWS) as u32).collect() }],
        logits: vec![],
        pick: Pick::None,
    }
}
