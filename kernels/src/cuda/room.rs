//! Room that operations share, sized by all that they have said they need before the first step.

use super::driver::Driver;
use super::experts::room_bytes;
use super::{Cuda, DECODE_ROWS};
use crate::{Products, Result};

/// What operations need beside their operands; taken before the first step that could need it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// What it was made for.
    pub made: Wants,
    /// f16 rows x cols: activations as products read them.
    pub activations: u64,
    /// Products that could not be finished in one launch: float32, rows x outputs.
    pub products: u64,
    /// Partial results of split attention and split products.
    pub partial: u64,
    /// Zeros; each operation that counts blocks leaves them zero.
    pub counters: u64,
    /// Which experts rows go through, and in which order: see `experts.rs`.
    pub routes: u64,
    /// What experts make of their rows.
    pub mixed: u64,
}

/// The sizes that [`Room`] must have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// Inputs of the widest product.
    pub cols: usize,
    /// Outputs of the widest product whose parts need float32 in between.
    pub outputs: usize,
    /// Bytes of partial results.
    pub partial: usize,
    /// Counters.
    pub counters: usize,
    /// Bytes of routes.
    pub routes: usize,
    /// Bytes of what experts make.
    pub mixed: usize,
}

impl Wants {
    pub fn or(self, other: Wants) -> Wants {
        Wants {
            cols: self.cols.max(other.cols),
            outputs: self.outputs.max(other.outputs),
            partial: self.partial.max(other.partial),
            counters: self.counters.max(other.counters),
            routes: self.routes.max(other.routes),
            mixed: self.mixed.max(other.mixed),
        }
    }
}

/// Bytes of the room for a model's products: as [`Cuda::make_room`] makes it where gates and ups are of one format, but for
/// partial results.
pub fn bytes(p: &Products) -> usize {
    let rows = p.rows.max(DECODE_ROWS);
    let cols = p.cols.max(p.dim).max(p.hidden).max(p.shared);
    let [routes, mixed] = if p.experts == 0 { [0; 2] } else { room_bytes(rows, p.chosen, p.experts, p.dim) };
    2 * rows * cols.next_multiple_of(8) + routes + mixed
}

impl<D: Driver> Cuda<D> {
    /// Remembers what an operation will need.
    pub(super) fn want(&self, wants: Wants) {
        self.wants.set(self.wants.get().or(wants));
    }

    /// Makes room for what operations have said they need. What was too small stays taken: this happens while loading.
    pub(super) fn make_room(&mut self) -> Result<()> {
        let wants = self.wants.get();
        if self.room.made == wants {
            return Ok(());
        }
        // Recordings hold the addresses of the room they were made in.
        self.driver.finish()?;
        self.graphs.clear();
        let rows = self.current.sizes().rows;
        let Room { made, activations, products, partial, counters, routes, mixed } = self.room;
        let larger = |at: u64, before: usize, now: usize, bytes: usize, what: &str| {
            if now > before { self.take(bytes, what) } else { Ok(at) }
        };
        let (wide, tall) = (2 * rows * wants.cols.next_multiple_of(8), 4 * rows * wants.outputs.next_multiple_of(8));
        self.room = Room {
            made: wants,
            activations: larger(activations, made.cols, wants.cols, wide, "activations")?,
            products: larger(products, made.outputs, wants.outputs, tall, "products")?,
            partial: larger(partial, made.partial, wants.partial, wants.partial, "partial results")?,
            counters: larger(counters, made.counters, wants.counters, 4 * wants.counters, "counters")?,
            routes: larger(routes, made.routes, wants.routes, wants.routes, "choices of experts")?,
            mixed: larger(mixed, made.mixed, wants.mixed, wants.mixed, "what experts make")?,
        };
        Ok(())
    }
}
