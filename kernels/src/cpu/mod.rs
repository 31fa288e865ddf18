//! The CPU backend: the default where there is no GPU, and the definition of every operation.
//!
//! Kernels are written once over sixteen [lanes](lanes::Lanes); scalar lanes define them, AVX2, AVX-512 and NEON lanes
//! must agree bit for bit. A row's result depends neither on the rows beside it nor on the number of threads.

mod attend;
mod kv;
mod lanes;
mod linear;
mod math;
mod memory;
mod norm;
mod pack;
mod pool;
mod rope;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use lanes::Isa;

use crate::{After, Attend, Backend, Error, Format, HostTensor, Linear, MAX_HEAD_DIM, NO_SLOT, Norm, PAGE_ROWS};
use crate::{PageLayout, Result, Rope, Rows, Step};
use pack::{Kind, Packed};
use std::cell::RefCell;

/// A CPU with its threads and its standing room.
pub struct Cpu {
    isa: Isa,
    pool: pool::Pool,
    panel: linear::Panel,
    scratch: Vec<linear::Scratch>,
    attend: attend::Room,
    turns: rope::Turns,
    /// Where weights lie.
    arena: RefCell<memory::Arena>,
    step: Step,
    /// Pages that the current step names: one past the greatest.
    pages: usize,
}

/// A buffer of float32 rows.
pub struct Buf {
    cols: usize,
    data: Vec<f32>,
}

/// A matrix of packed parts.
pub struct Weight {
    parts: Vec<Packed>,
    rows: usize,
    cols: usize,
}

/// The pool of cache pages.
pub struct Pages(kv::Pages);

impl Cpu {
    /// A backend with `threads` threads (the caller's among them) on the machine's best instruction set.
    pub fn new(threads: usize) -> Result<Cpu> {
        Cpu::with_isa(threads, Isa::best())
    }

    /// A backend on a given instruction set, which must be [available](Isa::available).
    pub fn with_isa(threads: usize, isa: Isa) -> Result<Cpu> {
        if !Isa::available().contains(&isa) {
            return Err(Error::Unsupported(format!("this CPU has no {}", isa.name())));
        }
        let pool = pool::Pool::new(threads).map_err(|why| {
            Error::Unsupported(format!("{threads} threads cannot be started ({why}); lower --threads"))
        })?;
        let mut scratch = Vec::new();
        scratch.resize_with(pool.threads(), Default::default);
        Ok(Cpu {
            isa,
            pool,
            panel: Default::default(),
            scratch,
            attend: Default::default(),
            turns: Default::default(),
            arena: Default::default(),
            step: Step::default(),
            pages: 0,
        })
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The number of threads.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }
}

fn shape(what: &str, found: impl ToString, expected: impl ToString) -> Error {
    Error::Shape { what: what.to_string(), found: found.to_string(), expected: expected.to_string() }
}

impl Backend for Cpu {
    type Buf = Buf;
    type Weight = Weight;
    type Pages = Pages;

    fn buf(&self, rows: usize, cols: usize) -> Result<Buf> {
        let values = rows.checked_mul(cols).filter(|n| *n < isize::MAX as usize / 8);
        let values = values.ok_or(Error::Memory { what: format!("a buffer of {rows} x {cols}"), bytes: usize::MAX })?;
        Ok(Buf { cols, data: vec![0.0; values] })
    }

    fn weight(&self, parts: &[HostTensor<'_>]) -> Result<Weight> {
        let cols = parts.first().map_or(0, |part| part.cols);
        if let Some(odd) = parts.iter().find(|part| part.cols != cols || part.rows == 0) {
            return Err(shape(
                &format!("tensor {}", odd.name),
                format!("{} x {}", odd.rows, odd.cols),
                format!("{cols} columns"),
            ));
        }
        let mut arena = self.arena.borrow_mut();
        let parts: Vec<Packed> =
            parts.iter().map(|part| Packed::new(part, self.pool.threads(), &mut arena)).collect::<Result<_>>()?;
        let rows = parts.iter().map(|part| part.rows).sum();
        Ok(Weight { parts, rows, cols })
    }

    fn weight_bytes(format: Format, rows: usize, cols: usize) -> usize {
        let kind = Kind::of(format.native()).unwrap_or(Kind::F32);
        rows.div_ceil(lanes::LANES) * kind.block_bytes(cols)
    }

    fn pages(&self, layout: PageLayout) -> Result<Pages> {
        if layout.head_dim > MAX_HEAD_DIM {
            return Err(shape("head_dim", layout.head_dim, format!("at most {MAX_HEAD_DIM}")));
        }
        Ok(Pages(kv::Pages::new(layout)?))
    }

    fn write(&mut self, buf: &mut Buf, values: &[f32]) -> Result<()> {
        let Some(into) = buf.data.get_mut(..values.len()) else {
            return Err(shape("values for a buffer", values.len(), format!("at most {}", buf.data.len())));
        };
        into.copy_from_slice(values);
        Ok(())
    }

    fn run(&mut self, step: &Step, body: &mut dyn FnMut(&mut Self) -> Result<()>) -> Result<()> {
        self.pages = check(step)?;
        self.step.clone_from(step);
        self.turns.forget();
        body(self)
    }

    fn read<'a>(&'a mut self, buf: &'a Buf, rows: usize) -> Result<&'a [f32]> {
        buf.data.get(..rows * buf.cols).ok_or_else(|| shape("rows to read", rows, buf.data.len() / buf.cols.max(1)))
    }

    fn embed(&mut self, x: &mut Buf, table: &Weight, scale: f32) -> Result<()> {
        let part = &table.parts[0];
        for (row, x) in self.step.rows.iter().zip(x.data.chunks_exact_mut(table.cols)) {
            if row.token as usize >= table.rows {
                return Err(shape("a token's id", row.token, format!("below {}", table.rows)));
            }
            part.row(row.token as usize, x);
            if scale != 1.0 {
                x.iter_mut().for_each(|x| *x *= scale);
            }
        }
        Ok(())
    }

    fn linear(
        &mut self,
        out: &mut Buf,
        x: &Buf,
        norm: Option<&Norm<Self>>,
        w: &Linear<Self>,
        after: After,
        rows: Rows,
    ) -> Result<()> {
        let parts = &w.weight.parts;
        let outs = if let After::Glu(_) = after { w.weight.rows / 2 } else { w.weight.rows };
        let (pick, rows) = match rows {
            Rows::All => (None, self.step.rows.len()),
            Rows::Logits => (Some(&self.step.logits[..]), self.step.logits.len()),
        };
        if let After::Glu(_) = after {
            assert!(parts.len() == 2 && parts[0].rows == parts[1].rows, "a gated product has two equal parts");
        }
        assert!(x.cols == w.weight.cols && out.cols == outs, "a product's buffers fit its weight");
        assert!(out.data.len() >= rows * outs && x.data.len() >= self.step.rows.len() * x.cols, "rows fit the buffers");
        assert!(w.bias.as_ref().is_none_or(|b| b.data.len() == w.weight.rows), "a bias has one value per output");
        assert!(norm.is_none_or(|n| n.weight.data.len() == x.cols), "a norm has one factor per column");
        let product = linear::Product {
            parts,
            bias: w.bias.as_ref().map(|b| &b.data[..]),
            x: &x.data,
            norm: norm.map(|n| norm::View {
                kind: n.kind,
                weight: &n.weight.data,
                bias: n.bias.as_ref().map(|b| &b.data[..]),
                eps: n.eps,
            }),
            pick,
            rows,
            out: &mut out.data,
            after,
        };
        linear::linear(&mut self.pool, self.isa, &mut self.panel, &mut self.scratch, product);
        Ok(())
    }

    fn rope_store(&mut self, q: &mut Buf, qkv: &Buf, kv: &mut Pages, layer: usize, rope: &Rope<Self>) -> Result<()> {
        let shape = rope::Shape {
            pairing: rope.pairing,
            dims: rope.dims,
            heads: rope.heads,
            kv_heads: rope.kv_heads,
            head_dim: rope.head_dim,
        };
        let layout = &kv.0.layout;
        assert!(layout.kv_heads == rope.kv_heads && layout.head_dim == rope.head_dim && layer < layout.layers);
        assert!(q.cols == rope.heads * rope.head_dim && qkv.cols == q.cols + 2 * rope.kv_heads * rope.head_dim);
        assert!(rope.dims <= rope.head_dim && rope.frequencies.data.len() * 2 == rope.dims);
        assert!(self.pages <= layout.pages, "a step's pages lie in the pool");
        let rows = &self.step.rows;
        let turns = self.turns.table(rows, &rope.frequencies.data, rope.factor);
        rope::rope_store(&mut self.pool, self.isa, &mut q.data, &qkv.data, &mut kv.0, layer, rows, turns, shape);
        Ok(())
    }

    fn attend(&mut self, out: &mut Buf, q: &Buf, kv: &Pages, layer: usize, a: Attend) -> Result<()> {
        let layout = &kv.0.layout;
        assert!(layout.kv_heads == a.kv_heads && layout.head_dim == a.head_dim && layer < layout.layers);
        assert!(a.heads.is_multiple_of(a.kv_heads) && q.cols == a.heads * a.head_dim && out.cols == q.cols);
        assert!(self.pages <= layout.pages, "a step's pages lie in the pool");
        let view = kv.0.view();
        let room = &mut self.attend;
        attend::attend(&mut self.pool, self.isa, room, &mut out.data, &q.data, view, layer, &self.step, a);
        Ok(())
    }
}

/// Checks that a step is whole; gives one past the greatest page it names.
fn check(step: &Step) -> Result<usize> {
    let mut pages = 0;
    for sequence in &step.sequences {
        pages = sequence.pages.iter().fold(pages, |n, page| n.max(*page as usize + 1));
    }
    let mut last = 0;
    for row in &step.rows {
        let Some(sequence) = step.sequences.get(row.sequence as usize) else {
            return Err(shape("a row's sequence", row.sequence, format!("below {}", step.sequences.len())));
        };
        if row.sequence < last {
            return Err(shape("a row's sequence", row.sequence, "rows of a sequence that stand together"));
        }
        last = row.sequence;
        let most = sequence.pages.len() * PAGE_ROWS;
        if row.visible == 0 || row.visible as usize > most {
            return Err(shape("a row's visible rows", row.visible, format!("1 to {most}, which the pages hold")));
        }
        if row.slot != NO_SLOT {
            pages = pages.max(row.slot as usize / PAGE_ROWS + 1);
        }
    }
    match step.logits.last() {
        Some(last) if *last as usize >= step.rows.len() => Err(shape("a logits row", last, step.rows.len())),
        _ => Ok(pages),
    }
}
