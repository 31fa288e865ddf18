//! Routing of experts: who is sorted where, and how runs are cut. That products of experts are right does not tell: a run
//! that is longer than what a block takes may still be right, by luck.

use super::{ByHand, Random, everywhere};
use nano_kernels::cuda::{Arg, Cuda, Driver};

/// The choices of a step's rows.
struct Choices {
    /// Experts, and how many each row chose.
    count: u32,
    chosen: usize,
    /// Of each row, in order; `count` of rows that only pad.
    experts: Vec<u32>,
}

/// What routing made of them.
struct Found {
    sorted_rows: Vec<u32>,
    sorted_experts: Vec<u32>,
    places: Vec<u32>,
    /// Expert, first choice, choices.
    runs: Vec<[u32; 3]>,
}

impl Found {
    /// Fetches the arrays, in the order in which they lie at `at`.
    fn fetch<D: Driver>(hand: &ByHand<D>, at: [u64; 4], choices: usize, runs: usize) -> Found {
        let words = |at: u64, n: usize| -> Vec<u32> {
            let bytes = hand.download(at, 4 * n);
            bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
        };
        let [sorted_rows, sorted_experts, places] = [at[0], at[1], at[2]].map(|at| words(at, choices));
        let runs = words(at[3], 3 * runs).chunks_exact(3).map(|run| [run[0], run[1], run[2]]).collect();
        Found { sorted_rows, sorted_experts, places, runs }
    }

    /// Every choice has a place, those of an expert stand together in the order of rows, and each is in one run, of which
    /// there are no more than must be.
    fn check(&self, choices: &Choices, most: usize, what: &str) {
        let mut order: Vec<usize> = (0..choices.experts.len()).collect();
        order.sort_by_key(|i| choices.experts[*i]);
        for (place, choice) in order.iter().enumerate() {
            assert_eq!(self.places[*choice], place as u32, "{what}: the place of choice {choice}");
            assert_eq!(self.sorted_rows[place], (choice / choices.chosen) as u32, "{what}: the row at {place}");
            assert_eq!(self.sorted_experts[place], choices.experts[*choice], "{what}: the expert at {place}");
        }
        let mut expected = Vec::new();
        for expert in 0..choices.count {
            let first = order.partition_point(|i| choices.experts[*i] < expert);
            let end = order.partition_point(|i| choices.experts[*i] <= expert);
            let from = (first..end).step_by(most);
            expected.extend(from.map(|from| [expert, from as u32, most.min(end - from) as u32]));
        }
        let mut runs: Vec<[u32; 3]> = self.runs.iter().filter(|run| run[2] > 0).copied().collect();
        runs.sort();
        assert_eq!(runs, expected, "{what}: runs of at most {most}");
    }
}

/// Device memory that is no zeros before.
fn room<D: Driver>(hand: &ByHand<D>, words: usize) -> u64 {
    hand.upload(&vec![0x55; 4 * words])
}

/// The experts of greatest logits, in order.
fn chosen_of(logits: &[f32], chosen: usize) -> Vec<u32> {
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    ids.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]));
    ids.truncate(chosen);
    ids.sort();
    ids
}

/// Steps of a few rows, of which the last ones may only pad.
fn few<D: Driver>(cuda: &mut Cuda<D>) -> Vec<f32> {
    let hand = ByHand(cuda.driver());
    let mut random = Random::new(11);
    for (rows, padding, count, chosen) in [(8, 0, 1, 1), (8, 0, 3, 2), (5, 3, 4, 4), (1, 0, 5, 2), (7, 1, 40, 33)] {
        for most in [1, 2, 3, 7, 8] {
            let all = rows + padding;
            // All like the first experts, and some others as well.
            let logits: Vec<f32> = (0..all * count).map(|i| 6.0 / (1 + i % count) as f32 + random.float()).collect();
            let choices = Choices {
                count: count as u32,
                chosen,
                experts: (0..all)
                    .flat_map(|n| match n < rows {
                        true => chosen_of(&logits[n * count..][..count], chosen),
                        false => vec![count as u32; chosen],
                    })
                    .collect(),
            };
            let n = all * chosen;
            let spans: Vec<u8> = (0..all).flat_map(|n| [0, u32::from(n < rows)]).flat_map(u32::to_le_bytes).collect();
            let (experts, factors) = (room(&hand, n), room(&hand, all * (chosen + 1)));
            let to = [n, n, n, 3 * n].map(|words| room(&hand, words));
            let mut args = vec![Arg::Ptr(hand.floats(&logits)), Arg::U32(count as u32), Arg::Ptr(hand.upload(&spans))];
            args.extend([all as u32, count as u32, chosen as u32, 0, 1].map(Arg::U32));
            args.extend([Arg::Ptr(experts), Arg::Ptr(factors), Arg::U32(most as u32)]);
            args.extend(to.map(Arg::Ptr));
            hand.launch("experts_route", [1, 1, 1], 256, &args);
            let what = format!("{rows} rows, {chosen} of {count}");
            Found::fetch(&hand, to, n, n).check(&choices, most, &what);
        }
    }
    Vec::new()
}

/// Steps of many rows.
fn many<D: Driver>(cuda: &mut Cuda<D>) -> Vec<f32> {
    let hand = ByHand(cuda.driver());
    let mut random = Random::new(12);
    for (rows, count, chosen) in [(70, 1, 1), (9, 4, 2), (150, 8, 2), (300, 3, 3), (40, 32, 4)] {
        for most in [1, 32, 64, 128] {
            let experts: Vec<u32> = (0..rows)
                .flat_map(|_| {
                    let likes: Vec<f32> = (0..count).map(|e| 3.0 / (1 + e) as f32 + random.float()).collect();
                    chosen_of(&likes, chosen)
                })
                .collect();
            let n = rows * chosen;
            let run_count = n / most + count;
            let bytes: Vec<u8> = experts.iter().flat_map(|e| e.to_le_bytes()).collect();
            let to = [n, n, n, 3 * run_count].map(|words| room(&hand, words));
            let mut args = vec![Arg::Ptr(hand.upload(&bytes))];
            args.extend([n as u32, chosen as u32, most as u32, run_count as u32].map(Arg::U32));
            args.extend(to.map(Arg::Ptr));
            hand.launch("experts_sort", [count as u32, 1, 1], 256, &args);
            let choices = Choices { count: count as u32, chosen, experts };
            let what = format!("{rows} rows, {chosen} of {count}");
            Found::fetch(&hand, to, n, run_count).check(&choices, most, &what);
        }
    }
    Vec::new()
}

#[test]
fn runs_of_few_rows() {
    everywhere!(few);
}

#[test]
fn runs_of_many_rows() {
    everywhere!(many);
}
