//! The current step in device memory: one upload, at addresses that never change, so that a recorded step reads the next
//! one's rows. Also its shape, which is all that a recording depends on.

use super::arena::Arena;
use super::driver::Driver;
use crate::{Error, NO_SLOT, PAGE_ROWS, Pick, Result, Step};

/// Tokens of one sequence that prefill attention takes at a time: there is a list of such tiles for each size.
pub const TILES: [usize; 3] = [16, 32, 64];
/// Steps of at most so many rows are decode steps: padded to a power of two, and recorded.
pub const DECODE_ROWS: usize = 8;

/// The sizes that steps must stay within.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Rows of a step.
    pub rows: usize,
    /// Rows of a step that want logits.
    pub logits: usize,
    /// Pages that the sequences of a step hold together.
    pub pages: usize,
}

/// All that a recorded step depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Rows, padded in a decode step.
    pub rows: u32,
    /// Rows that want logits, padded in a decode step.
    pub logits: u32,
    /// Parts into which decode attention cuts the visible rows.
    pub splits: u32,
    /// What is chosen from the logits.
    pub pick: Pick,
    /// Whether this is a decode step.
    pub decode: bool,
    /// Tiles of each of the sizes in [`TILES`]; zeros in a decode step.
    pub tiles: [u32; 3],
}

/// Device addresses of the arrays of the current step, all u32.
#[derive(Clone, Copy, Debug)]
pub struct Arrays {
    /// Tokens, one per row.
    pub token: u64,
    /// Positions, one per row.
    pub position: u64,
    /// Slots, one per row; NO_SLOT stores nothing.
    pub slot: u64,
    /// Visible rows, one per row; 0 for a row that only pads.
    pub visible: u64,
    /// Where the row's sequence begins in `pages`, one per row.
    pub table: u64,
    /// First and past-last row of the row's sequence in this step, two per row.
    pub span: u64,
    /// Rows that want logits; padded with 0.
    pub logits: u64,
    /// For each tile size: first row and number of rows of a tile, two per tile.
    pub tiles: [u64; 3],
    /// Page numbers, sequence after sequence.
    pub pages: u64,
}

/// Where the arrays lie, and the host's copies of them: two, so that one step can be filled while another is copied.
pub struct Current<D: Driver> {
    sizes: Sizes,
    arrays: Arrays,
    base: u64,
    host: [D::Host; 2],
    turn: usize,
    offsets: Offsets,
    /// Where each sequence's pages begin; kept for its memory.
    tables: Vec<u32>,
}

/// Places in 32-bit words from the start of the upload.
#[derive(Clone, Copy)]
struct Offsets {
    tiles: [usize; 3],
    logits: usize,
    pages: usize,
}

/// Arrays with a value (or two, `span`) per row, in order.
const PER_ROW: usize = 5;

impl<D: Driver> Current<D> {
    /// Takes the memory.
    pub fn new(driver: &D, arena: &mut Arena, sizes: Sizes) -> Result<Self> {
        let rows = sizes.rows.max(DECODE_ROWS);
        let mut at = (PER_ROW + 2) * rows;
        let logits = at;
        at += sizes.logits.max(DECODE_ROWS);
        let mut tiles = [0; 3];
        for place in &mut tiles {
            *place = at;
            // A tile holds at least one row.
            at += 2 * rows;
        }
        let offsets = Offsets { tiles, logits, pages: at };
        let words = at + sizes.pages.max(1);
        let base = arena.take(driver, 4 * words, "the rows of a step")?;
        let place = |word: usize| base + 4 * word as u64;
        let arrays = Arrays {
            token: place(0),
            position: place(rows),
            slot: place(2 * rows),
            visible: place(3 * rows),
            table: place(4 * rows),
            span: place(PER_ROW * rows),
            logits: place(logits),
            tiles: tiles.map(place),
            pages: place(at),
        };
        let host = [driver.host(4 * words)?, driver.host(4 * words)?];
        Ok(Current { sizes: Sizes { rows, ..sizes }, arrays, base, host, turn: 0, offsets, tables: Vec::new() })
    }

    /// The sizes that steps must stay within.
    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// Where the kernels find the step.
    pub fn arrays(&self) -> &Arrays {
        &self.arrays
    }

    /// Uploads a step and gives its shape.
    pub fn set(&mut self, driver: &D, step: &Step, marks: [usize; 2], fill: &Fill) -> Result<Shape> {
        self.check(step)?;
        self.turn ^= 1;
        let mark = marks[self.turn];
        driver.wait(mark)?; // the copy before the last one has been made
        let rows = self.sizes.rows;
        let decode = step.rows.len() <= DECODE_ROWS && step.logits.len() <= DECODE_ROWS;
        let padded = |n: usize| if decode && n > 0 { n.next_power_of_two() } else { n };
        let mut shape = Shape {
            rows: padded(step.rows.len()) as u32,
            logits: padded(step.logits.len()) as u32,
            splits: 1,
            pick: step.pick,
            decode,
            tiles: [0; 3],
        };
        let mut words = Words(self.host[self.turn].as_mut());
        let tables = &mut self.tables;
        tables.clear();
        let mut used = 0;
        for sequence in &step.sequences {
            tables.push(used as u32);
            for (i, page) in sequence.pages.iter().enumerate() {
                words.set(self.offsets.pages + used + i, *page);
            }
            used += sequence.pages.len();
        }
        let mut start = 0;
        let mut longest = 0;
        for (i, row) in step.rows.iter().enumerate() {
            if i > 0 && row.sequence != step.rows[i - 1].sequence {
                start = i;
            }
            longest = longest.max(row.visible);
            words.set(i, row.token);
            words.set(rows + i, row.position);
            words.set(2 * rows + i, row.slot);
            words.set(3 * rows + i, row.visible);
            words.set(4 * rows + i, tables[row.sequence as usize]);
            words.set(PER_ROW * rows + 2 * i, start as u32);
            // The end of a run is known when the run ends.
            let end = step.rows.get(i + 1).is_none_or(|next| next.sequence != row.sequence);
            if end {
                (start..=i).for_each(|j| words.set(PER_ROW * rows + 2 * j + 1, i as u32 + 1));
                if !decode {
                    for (k, size) in TILES.iter().enumerate() {
                        for first in (start..=i).step_by(*size) {
                            let place = self.offsets.tiles[k] + 2 * shape.tiles[k] as usize;
                            words.set(place, first as u32);
                            words.set(place + 1, (*size).min(i + 1 - first) as u32);
                            shape.tiles[k] += 1;
                        }
                    }
                }
            }
        }
        for i in step.rows.len()..shape.rows as usize {
            words.set(i, 0);
            words.set(rows + i, 0);
            words.set(2 * rows + i, NO_SLOT);
            words.set(3 * rows + i, 0);
            words.set(4 * rows + i, 0);
            words.set(PER_ROW * rows + 2 * i, 0);
            words.set(PER_ROW * rows + 2 * i + 1, 0);
        }
        for i in 0..shape.logits as usize {
            words.set(self.offsets.logits + i, step.logits.get(i).copied().unwrap_or(0));
        }
        shape.splits = fill.splits(shape.rows, longest);
        let bytes = 4 * (self.offsets.pages + used);
        driver.upload(self.base, &self.host[self.turn], 0..bytes)?;
        driver.mark(mark)?;
        Ok(shape)
    }

    fn check(&self, step: &Step) -> Result<()> {
        let limit = |what: &str, found: usize, most: usize| {
            if found <= most {
                return Ok(());
            }
            let (found, expected) = (found.to_string(), format!("at most {most}"));
            Err(Error::Shape { what: what.to_string(), found, expected })
        };
        limit("rows of a step", step.rows.len(), self.sizes.rows)?;
        limit("logits rows of a step", step.logits.len(), self.sizes.logits.max(DECODE_ROWS))?;
        let pages = step.sequences.iter().map(|s| s.pages.len()).sum();
        limit("pages of a step's sequences", pages, self.sizes.pages)?;
        limit("candidates of a pick", step.pick.count(), crate::MAX_TOP_K)?;
        for (i, row) in step.rows.iter().enumerate() {
            limit("a row's sequence", row.sequence as usize + 1, step.sequences.len())?;
            if i > 0 && row.sequence < step.rows[i - 1].sequence {
                limit("a row's sequence (rows of a sequence stand together)", row.sequence as usize + 1, 0)?;
            }
            let pages = step.sequences[row.sequence as usize].pages.len();
            // Encoders have no pages, and look at no cache.
            if pages > 0 || row.slot != NO_SLOT {
                limit("a row's visible rows", row.visible as usize, pages * PAGE_ROWS)?;
            }
        }
        let last = step.logits.last().map_or(0, |last| *last as usize + 1);
        limit("a logits row", last, step.rows.len())
    }
}

/// What decides how far decode attention is split.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fill {
    /// Blocks that one row makes without splits: KV heads.
    pub blocks: u32,
    /// Blocks that fill the machine.
    pub wanted: u32,
}

/// The most parts into which decode attention cuts the visible rows.
pub const MAX_SPLITS: u32 = 64;

impl Fill {
    /// Parts of at least eight pages, one for each warp of a block, and no more than fill the machine: a power of two, so
    /// that few shapes are recorded.
    fn splits(&self, rows: u32, longest: u32) -> u32 {
        let pages = longest.div_ceil(PAGE_ROWS as u32);
        let room = self.wanted / (self.blocks * rows).max(1);
        let most = pages.div_ceil(8).min(room).clamp(1, MAX_SPLITS);
        1 << most.ilog2()
    }
}

/// 32-bit words in host memory.
struct Words<'a>(&'a mut [u8]);

impl Words<'_> {
    fn set(&mut self, word: usize, value: u32) {
        self.0[4 * word..4 * word + 4].copy_from_slice(&value.to_le_bytes());
    }
}
