//! How a block runs: warp after warp, each until it waits or ends; then its barriers are opened.

use crate::kernel::{Kernel, Reduction};
use crate::machine::{Block, Grid, POISON, Warp};
use crate::memory::Memory;

/// Runs blocks of a launch one after the other; keeps what they need.
pub struct Worker<'m> {
    block: Block<'m>,
    warps: Vec<Warp>,
}

impl<'m> Worker<'m> {
    /// For blocks of this kernel and launch.
    pub fn new(memory: &'m Memory, kernel: &Kernel, grid: &Grid) -> Self {
        let bytes = if grid.dynamic == 0 { kernel.shared } else { kernel.dynamic_base() + grid.dynamic as usize };
        let shared = vec![0; bytes];
        let warps = (0..grid.threads.div_ceil(32)).map(|_| Warp::new(kernel)).collect();
        Self { block: Block { memory, shared }, warps }
    }

    /// Runs one block; gives how many instructions its warps did.
    pub fn run(&mut self, kernel: &Kernel, grid: &Grid, at: [u32; 3]) -> Result<u64, String> {
        self.block.shared.fill(POISON);
        for (index, warp) in self.warps.iter_mut().enumerate() {
            warp.start(index as u32, kernel, grid, at);
        }
        loop {
            for warp in &mut self.warps {
                loop {
                    warp.run(&mut self.block, kernel).map_err(|(pc, trap)| {
                        let thread = warp.index * 32 + trap.lane;
                        let instruction = &kernel.code[pc as usize];
                        format!("{}; thread {thread} of block {at:?}, {}", trap.why, kernel.place(instruction))
                    })?;
                    if !warp.meet_again(&kernel.code) {
                        break;
                    }
                }
            }
            if self.warps.iter().all(|w| w.live == 0) {
                return Ok(self.warps.iter().map(|w| w.done).sum());
            }
            if !self.release(kernel) {
                return Err(format!("block {at:?} hangs: {}", self.stuck(kernel)));
            }
        }
    }

    /// Opens the barriers where all are that must be; whether there was one.
    fn release(&mut self, kernel: &Kernel) -> bool {
        let mut opened = false;
        for number in 0..16 {
            let (mut arrived, mut expected, mut held, mut asked) = (0, None, 0, 0);
            for warp in &self.warps {
                for (_, mask, barrier) in warp.waiting_at_barrier(&kernel.code) {
                    let first = mask.trailing_zeros() as usize;
                    if warp.registers[barrier.number as usize][first] != number {
                        continue;
                    }
                    if let Some(count) = barrier.count {
                        expected = Some(warp.registers[count as usize][first] as u32);
                        arrived += 32;
                    } else {
                        arrived += mask.count_ones();
                    }
                    if let Some(Reduction { asks, .. }) = barrier.reduction {
                        held += (warp.holds(asks) & mask).count_ones();
                        asked += mask.count_ones();
                    }
                }
            }
            let live: u32 = self.warps.iter().map(|w| w.live.count_ones()).sum();
            if arrived == 0 || arrived < expected.unwrap_or(live) {
                continue;
            }
            opened = true;
            for warp in &mut self.warps {
                for (pc, mask, barrier) in warp.waiting_at_barrier(&kernel.code) {
                    if warp.registers[barrier.number as usize][mask.trailing_zeros() as usize] != number {
                        continue;
                    }
                    match barrier.reduction {
                        Some(Reduction { kind: "popc", to, .. }) => warp.put(to, mask, &[u64::from(held); 32]),
                        Some(Reduction { kind, to, .. }) => {
                            let all = if kind == "and" { held == asked } else { held > 0 };
                            warp.decide(to, mask, if all { u32::MAX } else { 0 });
                        }
                        None => {}
                    }
                    warp.pass(pc, mask);
                }
            }
        }
        opened
    }

    fn stuck(&self, kernel: &Kernel) -> String {
        let say = |warp: u32, (pc, mask): (u32, u32)| {
            format!("lanes {mask:#010x} of warp {warp} at {}", kernel.place(&kernel.code[pc as usize]))
        };
        let all = self.warps.iter().flat_map(|w| w.places().map(move |at| say(w.index, at)));
        format!("{} wait for others that do not come", all.take(4).collect::<Vec<_>>().join(", "))
    }
}
