//! Which experts the rows of a step go through: the arrays that tell it, and the launches that fill them
//! (`cuda/experts.cu`). Nothing of it is known to the host.

use super::super::driver::{Arg, Driver};
use super::super::{Buf, Cuda, DECODE_ROWS};
use super::mixture::Mixture;
use crate::Result;

/// Device addresses of arrays, of 32-bit words. A choice is a row's of an expert; `count` = rows x chosen.
#[derive(Clone, Copy, Debug)]
pub struct Routes {
    /// The experts of each row.
    experts: u64,
    /// Factors of a row's choices, then of the shared expert.
    pub factors: u64,
    /// The rows of the sorted choices, and their experts.
    pub sorted_rows: u64,
    pub sorted_experts: u64,
    /// Where each row's choices are among the sorted ones.
    pub places: u64,
    /// Neighbouring choices of one expert that a block takes at a time: the kernels' `Run`.
    pub runs: u64,
    /// How many there may be.
    pub run_count: u32,
    /// Choices in each, at most.
    pub most: usize,
    /// Choices.
    pub count: u32,
}

/// Rows of a block that chooses.
const ROWS: u32 = 8;
/// Words of a `Run` of `cuda/experts.cuh`.
const RUN_WORDS: usize = 3;

impl Routes {
    /// Bytes for steps of so many rows.
    pub fn bytes(rows: usize, chosen: usize, experts: usize) -> usize {
        4 * (rows * chosen * (4 + RUN_WORDS) + rows * (chosen + 1) + RUN_WORDS * experts)
    }
}

impl<D: Driver> Cuda<D> {
    /// Chooses experts by their logits and sorts the choices into runs of at most `most`.
    pub(super) fn route(&self, logits: &Buf, m: &Mixture, n: u32, most: usize) -> Result<Routes> {
        let (rows, experts) = (n as usize, m.count);
        assert!(Routes::bytes(rows, m.chosen, experts) <= self.room.made.routes, "room was made for routes");
        let decode = rows <= DECODE_ROWS;
        let count = rows * m.chosen;
        let run_count = if decode { count } else { count / most + experts };
        let mut end = self.room.routes;
        let mut words = |n: usize| {
            let at = end;
            end += 4 * n as u64;
            at
        };
        let routes = Routes {
            experts: words(count),
            factors: words(rows * (m.chosen + 1)),
            sorted_rows: words(count),
            sorted_experts: words(count),
            places: words(count),
            runs: words(RUN_WORDS * run_count),
            run_count: run_count as u32,
            most,
            count: count as u32,
        };
        let choose = [
            Arg::Ptr(logits.at),
            Arg::U32(logits.stride as u32),
            Arg::Ptr(self.current.arrays().span),
            Arg::U32(n),
            Arg::U32(experts as u32),
            Arg::U32(m.chosen as u32),
            Arg::U32(u32::from(m.shared.is_some())),
            Arg::U32(u32::from(m.normalize)),
            Arg::Ptr(routes.experts),
            Arg::Ptr(routes.factors),
        ];
        let sorted = [routes.sorted_rows, routes.sorted_experts, routes.places, routes.runs].map(Arg::Ptr);
        let most = Arg::U32(most as u32);
        if decode {
            self.launch("experts_route", [1, 1, 1], 256, 0, &[&choose[..], &[most], &sorted].concat())?;
        } else {
            self.launch("experts_choose", [n.div_ceil(ROWS), 1, 1], 256, 0, &choose)?;
            let sort = [
                Arg::Ptr(routes.experts),
                Arg::U32(routes.count),
                Arg::U32(m.chosen as u32),
                most,
                Arg::U32(routes.run_count),
            ];
            self.launch("experts_sort", [experts as u32, 1, 1], 256, 0, &[&sort[..], &sorted].concat())?;
        }
        Ok(routes)
    }
}
