//! The whole border between the mathematics and a machine.

use crate::{After, Attend, HostTensor, Linear, Norm, PageLayout, Result, Rope, Rows, Step};

/// A machine that can run the block program.
///
/// Operations read and write buffers that already exist and take nothing that changes from step to step: that lives
/// in the [`Step`] given to [`run`](Backend::run). So the body of `run` can be recorded once and replayed. Buffers are
/// float32 to the caller, `rows x cols`; a backend may hold them otherwise. Shapes are checked when a model is loaded;
/// a shape that does not fit here is a bug and may panic.
pub trait Backend: Send + Sized + 'static {
    /// A standing buffer, rows x cols.
    type Buf: Send;
    /// A matrix in the machine's own layout.
    type Weight: Send;
    /// The pool of cache pages.
    type Pages: Send;

    // At load.

    /// A buffer of zeros.
    fn buf(&self, rows: usize, cols: usize) -> Result<Self::Buf>;
    /// A matrix made of `parts`, stacked along their rows in the given order. All parts have the same number of
    /// columns; each may have a format of its own, which must be native. Repacks into the machine's layout.
    fn weight(&self, parts: &[HostTensor<'_>]) -> Result<Self::Weight>;
    /// Bytes that [`weight`](Backend::weight) would hold for a part of this format and shape.
    fn weight_bytes(format: crate::Format, rows: usize, cols: usize) -> usize;
    /// A pool of pages. Memory is taken as pages are first written.
    fn pages(&self, layout: PageLayout) -> Result<Self::Pages>;
    /// Fills the first `values.len() / cols` rows of a buffer.
    fn write(&mut self, buf: &mut Self::Buf, values: &[f32]) -> Result<()>;

    // Around a step.

    /// Makes `step` the current one and runs `body` once (or replays its recording).
    fn run(&mut self, step: &Step, body: &mut dyn FnMut(&mut Self) -> Result<()>) -> Result<()>;
    /// The first `rows` rows of a buffer, after waiting for the machine. The one wait of a step.
    fn read<'a>(&'a mut self, buf: &'a Self::Buf, rows: usize) -> Result<&'a [f32]>;

    // Operations, inside `run`.

    /// `x[r] = scale · table[token of row r]`
    fn embed(&mut self, x: &mut Self::Buf, table: &Self::Weight, scale: f32) -> Result<()>;
    /// `out after= W · norm(x) + b`
    fn linear(
        &mut self,
        out: &mut Self::Buf,
        x: &Self::Buf,
        norm: Option<&Norm<Self>>,
        w: &Linear<Self>,
        after: After,
        rows: Rows,
    ) -> Result<()>;
    /// Splits `qkv` rows, rotates q and k; q goes to `q`, k and v into the slots of layer `layer`.
    fn rope_store(
        &mut self,
        q: &mut Self::Buf,
        qkv: &Self::Buf,
        kv: &mut Self::Pages,
        layer: usize,
        rope: &Rope<Self>,
    ) -> Result<()>;
    /// `out[r] = softmax(scale · q[r] · Kᵀ) · V` over the visible rows of the row's sequence, head by head.
    fn attend(
        &mut self,
        out: &mut Self::Buf,
        q: &Self::Buf,
        kv: &Self::Pages,
        layer: usize,
        attend: Attend,
    ) -> Result<()>;
}
