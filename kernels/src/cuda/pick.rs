//! Choosing tokens on the device: the launcher of `cuda/pick.cu`, and the results of the last two runs on the host.

use super::arena::Arena;
use super::driver::{Arg, Driver};
use super::{Buf, Cuda, shape};
use crate::{Candidate, MAX_TOP_K, Pick, Result};

/// Logits that a block takes.
const CHUNK: usize = 512 * 16;
/// The most blocks for a row: what they choose must fit the last one.
const MAX_BLOCKS: usize = CHUNK / MAX_TOP_K;
/// Rows of a launch.
const LAUNCH_ROWS: usize = 8;
/// Bytes of a row of candidates in device memory.
const ROW_BYTES: usize = MAX_TOP_K * size_of::<Candidate>();

/// Candidates of the last two runs.
pub struct Picks<D: Driver> {
    /// Device address of `rows x MAX_TOP_K` candidates.
    pub(super) at: u64,
    /// The most logits rows that there are candidates of.
    pub(super) rows: usize,
    /// Device address of what blocks chose, for the last one of their row.
    partial: u64,
    /// Device address of a counter for each row of a launch; zeros between launches.
    counters: u64,
    host: [D::Host; 2],
    /// How many rows have candidates, and how many each, by turn.
    counts: [(usize, usize); 2],
    turn: usize,
    list: Vec<Candidate>,
}

impl<D: Driver> Picks<D> {
    pub fn new(driver: &D, arena: &mut Arena, rows: usize) -> Result<Self> {
        let bytes = rows * ROW_BYTES;
        let host = [driver.host(bytes)?, driver.host(bytes)?];
        Ok(Picks {
            at: arena.take(driver, bytes, "picks")?,
            rows,
            partial: arena.take(driver, LAUNCH_ROWS * MAX_BLOCKS * MAX_TOP_K * size_of::<u64>(), "parts of picks")?,
            counters: arena.take(driver, LAUNCH_ROWS * size_of::<u32>(), "counters of picks")?,
            host,
            counts: [(0, 0); 2],
            turn: 0,
            list: Vec::new(),
        })
    }

    /// Asks for the picks of the run that was just started: the best `count` of each of its logits rows.
    pub fn fetch(&mut self, driver: &D, pick: Pick, rows: usize, marks: [usize; 2]) -> Result<()> {
        let (turn, count) = (self.turn ^ 1, pick.count());
        if rows * count > 0 {
            // Not what lies behind the last row's candidates.
            let bytes = (rows - 1) * ROW_BYTES + count * size_of::<Candidate>();
            driver.download(self.at, &mut self.host[turn], 0..bytes)?;
            driver.mark(marks[turn])?;
        }
        self.turn = turn;
        self.counts[turn] = (rows, count);
        Ok(())
    }

    /// The picks of the last run (`ago` 0) or the one before it, once they are there: row after row without gaps.
    pub fn get(&mut self, driver: &D, ago: usize, marks: [usize; 2]) -> Result<&[Candidate]> {
        if ago > 1 {
            return Err(shape("runs to look back", ago, "0 or 1"));
        }
        let turn = self.turn ^ ago;
        let (rows, count) = self.counts[turn];
        self.list.clear();
        if rows * count > 0 {
            driver.wait(marks[turn])?;
            let word = |b: &[u8]| u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            let candidate = |b: &[u8]| Candidate { id: word(b), logit: f32::from_bits(word(&b[4..])) };
            for row in self.host[turn].as_ref().chunks(ROW_BYTES).take(rows) {
                self.list.extend(row.chunks_exact(size_of::<Candidate>()).take(count).map(candidate));
            }
        }
        Ok(&self.list)
    }
}

impl<D: Driver> Cuda<D> {
    pub(super) fn launch_pick(&mut self, logits: &Buf) -> Result<()> {
        let (rows, k) = (self.shape.logits as usize, self.shape.pick.count());
        if rows == 0 || k == 0 {
            return Ok(());
        }
        assert!(rows <= logits.rows && rows <= self.picks.rows && !logits.half, "logits are float32, a row for each");
        if k > logits.cols.min(MAX_TOP_K) {
            return Err(shape("candidates of a pick", k, format!("at most {}", logits.cols.min(MAX_TOP_K))));
        }
        let blocks = logits.cols.div_ceil(CHUNK);
        if blocks > MAX_BLOCKS {
            return Err(shape("logits to pick from", logits.cols, format!("at most {}", MAX_BLOCKS * CHUNK)));
        }
        for first in (0..rows).step_by(LAUNCH_ROWS) {
            let args = [
                Arg::Ptr(logits.at + (first * logits.stride * size_of::<f32>()) as u64),
                Arg::U32(logits.stride as u32),
                Arg::U32(logits.cols as u32),
                Arg::U32(k as u32),
                Arg::Ptr(self.picks.partial),
                Arg::Ptr(self.picks.counters),
                Arg::Ptr(self.picks.at + (first * ROW_BYTES) as u64),
            ];
            let grid = [blocks as u32, LAUNCH_ROWS.min(rows - first) as u32, 1];
            match k {
                1 => self.launch("pick_argmax", grid, 512, 0, &[&args[..3], &args[4..]].concat())?,
                _ => self.launch("pick_top_k", grid, 512, 0, &args)?,
            }
        }
        Ok(())
    }
}
