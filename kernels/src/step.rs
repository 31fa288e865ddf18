//! All that changes from one step to the next, so that it can be uploaded in one piece.

/// Rows in a page of the cache.
pub const PAGE_ROWS: usize = 32;

/// A slot that writes nothing.
pub const NO_SLOT: u32 = u32::MAX;

/// A token `PREV + i` is the best candidate of logits row `i` of the run before, which had a [`Pick`].
pub const PREV: u32 = 1 << 31;

/// What is chosen from a row of logits on the machine itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Pick {
    /// Nothing: the logits are read.
    #[default]
    None,
    /// The greatest.
    Argmax,
    /// The greatest so many, at most [`MAX_TOP_K`].
    TopK(u32),
}

/// The most candidates that [`Pick::TopK`] takes.
pub const MAX_TOP_K: usize = 64;

impl Pick {
    /// Candidates per row.
    pub fn count(self) -> usize {
        match self {
            Pick::None => 0,
            Pick::Argmax => 1,
            Pick::TopK(k) => k as usize,
        }
    }
}

/// A token and its logit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct Candidate {
    /// The token's id.
    pub id: u32,
    /// Its logit.
    pub logit: f32,
}

/// One row of a step: one token of one sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The token's id.
    pub token: u32,
    /// Its position, for rotation.
    pub position: u32,
    /// Where its key and value go: page · PAGE_ROWS + row in the page; [`NO_SLOT`] stores nothing.
    pub slot: u32,
    /// Index into [`Step::sequences`].
    pub sequence: u32,
    /// How many rows of its sequence it may see, itself included.
    pub visible: u32,
}

/// One sequence's part in a step.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SequenceRows {
    /// The pages of its cache, in order; row `i` lies in page `pages[i / PAGE_ROWS]`.
    pub pages: Vec<u32>,
}

/// A step: rows of one or more sequences, and which of them want logits.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// The rows. Rows of one sequence stand together, in order of position.
    pub rows: Vec<Row>,
    /// The sequences that the rows belong to.
    pub sequences: Vec<SequenceRows>,
    /// Indices of rows that want logits, ascending.
    pub logits: Vec<u32>,
    /// What is chosen from the logits on the machine.
    pub pick: Pick,
}

impl Step {
    /// Empties the step and keeps its memory.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.sequences.clear();
        self.logits.clear();
        self.pick = Pick::None;
    }
}

// By hand, so that `clone_from` keeps the memory of what it overwrites: a step is copied once per token.
impl Clone for SequenceRows {
    fn clone(&self) -> Self {
        SequenceRows { pages: self.pages.clone() }
    }
    fn clone_from(&mut self, from: &Self) {
        self.pages.clone_from(&from.pages);
    }
}

impl Clone for Step {
    fn clone(&self) -> Self {
        Step {
            rows: self.rows.clone(),
            sequences: self.sequences.clone(),
            logits: self.logits.clone(),
            pick: self.pick,
        }
    }
    fn clone_from(&mut self, from: &Self) {
        self.rows.clone_from(&from.rows);
        self.sequences.clone_from(&from.sequences);
        self.logits.clone_from(&from.logits);
        self.pick = from.pick;
    }
}
