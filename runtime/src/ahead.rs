//! Greedy sequences on a machine that chooses tokens itself: the next step is started, on what the machine is about to
//! choose, before the host has read it. The machine then never waits for the host. What a sequence makes of a token,
//! stops above all, is decided as ever: a row that turns out not to be wanted is computed for nothing and never counted.

use super::{Engine, call};
use crate::sample::Logits;
use crate::sequence::{Cost, Sequence};
use crate::{Error, Finish};
use nano_kernels::{Pick, Step};

/// A sequence in the step under way, with its rows there. `None`: it has ended meanwhile.
type Seat = Option<(Sequence, usize)>;

impl Engine {
    /// Runs the step that was filled for the seated sequences, each of which wants one logits row of it, and goes on
    /// with steps of the same sequences as long as they all go on and nobody else waits.
    pub(super) fn steps_ahead(&mut self, cost: Cost) {
        let grants = std::mem::take(&mut self.grants);
        let mut seats: Vec<Seat> = self.seated.drain(..).zip(grants.iter().copied()).map(Some).collect();
        self.grants = grants;
        let mut next = Step::default();
        let mut state = call(&mut *self.runner, |runner| runner.start(&self.step));
        loop {
            // Which seat each row of the next step is for.
            let ahead = match state.is_ok() && self.sequences.is_empty() && self.tasks.is_empty() {
                true => self.fill_ahead(&mut seats, &mut next),
                false => None,
            };
            let started = ahead.as_ref().map(|_| call(&mut *self.runner, |runner| runner.start(&next)));
            // A step that did not start left the picks as they were.
            let ago = usize::from(matches!(started, Some(Ok(()))));
            let picked = state.and_then(|()| {
                let picked = call(&mut *self.runner, |runner| runner.picks(ago).map(<[_]>::to_vec))?;
                let (found, expected) = (picked.len(), seats.len());
                if found == expected {
                    Ok(picked)
                } else {
                    Err(format!("{found} picks came where {expected} were wanted"))
                }
            });
            let picked = match picked {
                Ok(picked) => picked,
                Err(why) => {
                    seats.into_iter().flatten().for_each(|(s, _)| s.fail(Error::Step(why.clone())));
                    return;
                }
            };
            for (seat, picked) in seats.iter_mut().zip(picked.chunks_exact(1)) {
                let Some((mut sequence, count)) = seat.take() else { continue };
                match sequence.accept(count, Logits::Best(picked), self.limits.context) {
                    Ok(None) => *seat = Some((sequence, 1)),
                    Ok(Some(end)) => sequence.finish(end, cost),
                    Err(error) => sequence.fail(error),
                }
            }
            self.admit();
            seats.iter_mut().for_each(|seat| leave(seat, cost));
            let (Some(rows), Some(result)) = (ahead, started) else { break };
            std::mem::swap(&mut self.step, &mut next);
            state = result;
            seats = rows.into_iter().map(|seat| seats[seat].take()).collect();
            // A row that was fed on other terms than its sequence goes on is void: the sequence feeds its own.
            for (seat, row) in seats.iter_mut().zip(&self.step.rows) {
                if let Some((sequence, _)) = seat.take_if(|(sequence, _)| !sequence.follows(row.position)) {
                    self.sequences.push(sequence);
                }
            }
            if seats.iter().all(Option::is_none) {
                break;
            }
        }
        self.sequences.extend(seats.into_iter().flatten().map(|(sequence, _)| sequence));
    }

    /// Fills the step after the one under way, if every sequence can go on blindly; gives the seat of each row.
    fn fill_ahead(&self, seats: &mut [Seat], next: &mut Step) -> Option<Vec<usize>> {
        let mut rows = Vec::with_capacity(seats.len());
        next.rows.clear();
        next.logits.clear();
        next.pick = Pick::Argmax;
        for (index, seat) in seats.iter_mut().enumerate() {
            let Some((sequence, count)) = seat else { continue };
            if !sequence.can_go_ahead(*count, &self.limits) {
                return None;
            }
            sequence.fill_ahead(next, rows.len(), *count, index);
            rows.push(index);
        }
        next.sequences.truncate(rows.len());
        (!rows.is_empty()).then_some(rows)
    }
}

/// Ends a sequence that nobody reads any more or that was stopped.
fn leave(seat: &mut Seat, cost: Cost) {
    if seat.as_ref().is_some_and(|(sequence, _)| sequence.is_abandoned()) {
        *seat = None;
    } else if let Some((mut sequence, _)) = seat.take_if(|(sequence, _)| sequence.is_stopped()) {
        let end = sequence.end(Finish::Cancelled);
        sequence.finish(end, cost);
    }
}
