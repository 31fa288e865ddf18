//! The whole border between the mathematics and a machine.

use crate::{
    After, Attend, Candidate, Error, Experts, Format, HostTensor, Linear, Norm, PageLayout, Precision, Products,
    Result, Rope, Rows, Step,
};
use std::io::Write;

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
    /// Experts of a layer, ready to be run.
    type Mixture: Send;

    /// What the bytes that [`store_weight`](Backend::store_weight) writes are called, with a number that changes when they do;
    /// `None` where weights are not stored.
    const LAYOUT: Option<&'static str> = None;

    // At load.

    /// The format in which this machine holds weights of `format`: what [`weight`](Backend::weight) takes.
    fn native(format: Format) -> Format {
        format.native()
    }
    /// A buffer of zeros.
    fn buf(&self, rows: usize, cols: usize, precision: Precision) -> Result<Self::Buf>;
    /// A matrix made of `parts`, stacked along their rows in the given order. All parts have the same number of
    /// columns; each may have a format of its own, which must be native. Repacks into the machine's layout.
    fn weight(&self, parts: &[HostTensor<'_>]) -> Result<Self::Weight>;
    /// Bytes that [`weight`](Backend::weight) would hold for a part of this format and shape.
    fn weight_bytes(format: Format, rows: usize, cols: usize) -> usize;
    /// Experts as [`experts`](Backend::experts) takes them.
    fn mixture(&self, experts: Experts<Self>) -> Result<Self::Mixture>;
    /// Writes a weight as it lies in memory, so that [`load_weight`](Backend::load_weight) need not repack it.
    fn store_weight(&self, _weight: &Self::Weight, _out: &mut dyn Write) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
    /// The weight that [`store_weight`](Backend::store_weight) wrote on a machine of the same [`LAYOUT`](Backend::LAYOUT); an
    /// error if these are not its bytes.
    fn load_weight(&self, _bytes: &[u8]) -> Result<Self::Weight> {
        Err(Error::Unsupported("packed weights cannot be loaded on this machine".into()))
    }
    /// A pool of pages. Memory may be taken as pages are first written.
    fn pages(&self, layout: PageLayout) -> Result<Self::Pages>;
    /// Bytes that one page of such a pool takes, over all layers.
    fn page_bytes(layout: &PageLayout) -> usize;
    /// Bytes that such a buffer takes.
    fn buf_bytes(rows: usize, cols: usize, _precision: Precision) -> usize {
        4 * rows * cols
    }
    /// Bytes of standing room that this machine takes besides for a model's products, once for the largest. What depends
    /// on how many processors it has does not count.
    fn room_bytes(_products: &Products) -> usize {
        0
    }
    /// Fills the first `values.len() / cols` rows of a buffer.
    fn write(&mut self, buf: &mut Self::Buf, values: &[f32]) -> Result<()>;

    /// Whether this machine takes memory from the system's, as GPUs of boards do: what is read once should then not stay
    /// in the system's cache of files.
    fn shares_memory(&self) -> bool {
        false
    }

    // Around a step.

    /// Makes `step` the current one and runs `body` once, or replays its recording. `program` names what the body
    /// does: bodies of one program do the same operations on the same buffers, so that a backend may record the first
    /// and replay it for steps of the same shape. `None` is never recorded. May return before the machine is done.
    fn run(&mut self, step: &Step, program: Option<u32>, body: &mut dyn FnMut(&mut Self) -> Result<()>) -> Result<()>;
    /// The first `rows` rows of a buffer, after waiting for the machine.
    fn read<'a>(&'a mut self, buf: &'a Self::Buf, rows: usize) -> Result<&'a [f32]>;
    /// What [`pick`](Backend::pick) chose in the last run (`ago` 0) or the one before it (`ago` 1), after waiting for
    /// that run only: `Step::pick.count()` candidates for each of the step's logits rows, best first.
    fn picks(&mut self, ago: usize) -> Result<&[Candidate]>;

    // Operations, inside `run`.

    /// `x[r] = scale · table[token of row r]`. A token [`PREV`](crate::PREV)` + i` is the best candidate of logits row
    /// `i` of the run before; other tokens past the table are rows of `shelf`, unscaled: token − table rows is the row.
    fn embed(&mut self, x: &mut Self::Buf, table: &Self::Weight, scale: f32, shelf: Option<&Self::Buf>) -> Result<()>;
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
    /// `x += Σ factor · down(act(gate(norm(x))) · up(norm(x)))`, biases added to each product, over the experts of the greatest `logits` of each row, of
    /// equals the first, and the shared expert. `h` is room for what is between the products: as many rows, `chosen`
    /// times the experts' width and that of the shared one wide. Weights of experts that no row chose are not read.
    fn experts(
        &mut self,
        x: &mut Self::Buf,
        h: &mut Self::Buf,
        norm: Option<&Norm<Self>>,
        logits: &Self::Buf,
        mixture: &Self::Mixture,
    ) -> Result<()>;
    /// `out after= norm(x)`; `after` is `Store` or `Add`.
    fn norm(&mut self, out: &mut Self::Buf, x: &Self::Buf, norm: &Norm<Self>, after: After) -> Result<()>;
    /// `x = cap · tanh(x / cap)`, on the logits rows.
    fn softcap(&mut self, x: &mut Self::Buf, cap: f32) -> Result<()>;
    /// Splits `qkv` rows, normalises q and k where the rope has norms, by heads or whole, rotates q and k; q goes to `q`, k and
    /// v into the slots of layer `layer`.
    fn rope_store(
        &mut self,
        q: &mut Self::Buf,
        qkv: &Self::Buf,
        kv: &mut Self::Pages,
        layer: usize,
        rope: &Rope<Self>,
    ) -> Result<()>;
    /// `out[r] = softmax(scale · q[r] · Kᵀ) · V` over the visible rows of the row's sequence, head by head. `sinks` has a score
    /// for each query head that counts in the softmax and has no value: what it draws is lost.
    fn attend(
        &mut self,
        out: &mut Self::Buf,
        q: &Self::Buf,
        kv: &Self::Pages,
        layer: usize,
        attend: Attend,
        sinks: Option<&Self::Buf>,
    ) -> Result<()>;
    /// Attention of encoders: every row sees all rows of its own sequence in this step; no cache, no rope. `qkv` rows
    /// are split as by [`rope_store`](Backend::rope_store); `window` must be `None`.
    fn attend_all(&mut self, out: &mut Self::Buf, qkv: &Self::Buf, attend: Attend) -> Result<()>;
    /// Chooses candidates from the logits rows as the step's [`Pick`](crate::Pick) says; equal values by lowest id. A NaN
    /// counts as infinity, so that a broken row shows in its best candidate.
    /// Ends the body of a run.
    fn pick(&mut self, logits: &Self::Buf) -> Result<()>;

    // Between steps, on pages.

    /// Rotates the stored keys of `slots` by `by` positions more, in one layer. The angle only, not the rope's factor.
    fn shift(&mut self, kv: &mut Self::Pages, layer: usize, rope: &Rope<Self>, slots: &[u32], by: i32) -> Result<()>;
    /// Copies rows from slot to slot, in every layer: `to[i]` gets what `from[i]` held before any was written.
    fn copy_rows(&mut self, kv: &mut Self::Pages, from: &[u32], to: &[u32]) -> Result<()>;
    /// One page in a form that all backends share: for each layer and KV head, 32 rows of keys, then 32 rows of
    /// values, each `head_dim` values in the pool's format; Q8 has the 32 scales (float32) of the keys before the keys
    /// and those of the values before the values. Little-endian; [`PageLayout::portable_bytes`] long.
    fn read_page(&mut self, kv: &Self::Pages, page: u32, into: &mut [u8]) -> Result<()>;
    /// Fills a page with what [`read_page`](Backend::read_page) gave.
    fn write_page(&mut self, kv: &mut Self::Pages, page: u32, from: &[u8]) -> Result<()>;
}
