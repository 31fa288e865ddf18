//! How many rows each sequence gets in the next step. Pure arithmetic: knows no cache and no token.

use crate::Limits;

/// The rows that a sequence could feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Demand {
    /// All of them; at least one.
    pub(crate) rows: usize,
    /// How many leading ones want no logits.
    pub(crate) silent: usize,
}

/// How many sequences one step can serve, each with a row and its logits.
pub(crate) fn seats(limits: &Limits) -> usize {
    limits.rows.min(limits.logits_rows).min(limits.sequences)
}

/// Shares a step among sequences, of which there are no more than [`seats`]. Every one gets a row, so a decoding
/// sequence, which wants one, always gets what it wants; prefills share the room that is left, evenly, and what one
/// does not need goes to the others.
pub(crate) fn share(demands: &[Demand], limits: &Limits, grants: &mut Vec<usize>) {
    grants.clear();
    grants.resize(demands.len(), 1);
    let mut rows_left = limits.rows - demands.len();
    let mut logits_left = limits.logits_rows - demands.len();
    // Small wishes first: what they leave is shared by the larger ones.
    let mut order: Vec<usize> = (0..demands.len()).filter(|&i| demands[i].rows > 1).collect();
    order.sort_by_key(|&i| demands[i].rows);
    for (served, &i) in order.iter().enumerate() {
        let Demand { rows, silent } = demands[i];
        let share = rows_left / (order.len() - served);
        let more = share.min(rows - 1).min(silent + logits_left);
        grants[i] += more;
        rows_left -= more;
        logits_left -= grants[i].saturating_sub(silent).saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DECODE: Demand = Demand { rows: 1, silent: 0 };

    fn prefill(rows: usize) -> Demand {
        Demand { rows, silent: rows - 1 }
    }

    fn grants(demands: &[Demand], rows: usize, logits_rows: usize) -> Vec<usize> {
        let mut grants = Vec::new();
        let limits = Limits { rows, logits_rows, sequences: demands.len(), vocab: 1, pages: 1, context: 1 };
        assert!(demands.len() <= seats(&limits));
        share(demands, &limits, &mut grants);
        let logits: usize = demands.iter().zip(&grants).map(|(d, g)| g.saturating_sub(d.silent)).sum();
        assert!(grants.iter().sum::<usize>() <= rows && logits <= logits_rows, "{demands:?}: {grants:?}");
        assert!(demands.iter().zip(&grants).all(|(d, &g)| g >= 1 && g <= d.rows), "{demands:?}: {grants:?}");
        grants
    }

    #[test]
    fn decoding_sequences_come_first_and_prefills_share_the_rest() {
        assert_eq!(grants(&[DECODE, prefill(100), DECODE], 32, 4), [1, 30, 1]);
        assert_eq!(grants(&[prefill(100), prefill(100)], 32, 4), [16, 16]);
        assert_eq!(grants(&[prefill(100), prefill(3), prefill(20)], 32, 4), [15, 3, 14]);
        assert_eq!(grants(&[prefill(5)], 32, 4), [5]);
    }

    #[test]
    fn rows_that_want_logits_are_counted() {
        let score = Demand { rows: 10, silent: 2 };
        assert_eq!(grants(&[score], 32, 4), [6]);
        assert_eq!(grants(&[DECODE, score], 32, 4), [1, 5]);
        assert_eq!(grants(&[DECODE, score], 4, 4), [1, 3]);
        assert_eq!(grants(&[Demand { rows: 10, silent: 10 }], 32, 1), [10]);
    }

    #[test]
    fn limits_hold_whatever_is_asked() {
        for n in 0..500usize {
            let seats = 1 + n % 4;
            let demands: Vec<Demand> = (0..seats)
                .map(|i| {
                    let rows = 1 + (n * 7 + i * 13) % 40;
                    Demand { rows, silent: (n * 3 + i) % (rows + 1) }
                })
                .collect();
            grants(&demands, seats + n % 30, seats + n % 5);
        }
    }
}
