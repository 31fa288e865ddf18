//! The CPU backend: the default where there is no GPU, and the definition of every operation.
//!
//! Kernels are written once over sixteen [lanes](lanes::Lanes); scalar lanes define them, AVX2, AVX-512 and NEON lanes
//! must agree bit for bit. A row's result depends neither on the rows beside it nor on the number of threads.

mod attend;
mod check;
mod embed;
mod kv;
mod lanes;
mod linear;
mod math;
mod memory;
mod norm;
mod pack;
mod pick;
mod pool;
mod rope;
mod shift;
#[cfg(test)]
mod tests;
mod transfer;
mod watch;

pub use lanes::Isa;
pub use watch::Inputs;

use crate::format::stacked;
use crate::{After, Attend, Backend, Candidate, Error, Experts, Format, HostTensor, Linear, MAX_HEAD_DIM, MAX_TOP_K};
use crate::{Norm, PageLayout, Precision, Products, Result, Rope, Rows, Step};
use check::{check, in_pool, sees, shape, whole_page};
use pack::{Kind, Packed};
use std::cell::RefCell;
use std::sync::Arc;

/// A CPU with its threads and its standing room.
pub struct Cpu {
    isa: Isa,
    pool: pool::Pool,
    panel: linear::Panel,
    scratch: Vec<linear::Scratch>,
    choices: linear::experts::Room,
    attend: attend::Room,
    encoder: attend::all::Encoder,
    turns: rope::Turns,
    /// Where weights lie.
    arena: RefCell<memory::Arena>,
    step: Step,
    /// Pages that the current step names: one past the greatest.
    pages: usize,
    /// What was picked in the current or last run, and in the one before it.
    picked: [pick::Picked; 2],
    /// What products are given, a weight each, while it is watched.
    watch: Option<RefCell<Vec<Inputs>>>,
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
    /// Column c is for input `order[c]`.
    order: Option<Arc<[u32]>>,
    /// Its number among those that are watched.
    watched: Option<usize>,
}

impl Norm<Cpu> {
    /// As the kernels see it.
    fn view(&self) -> norm::View<'_> {
        let bias = self.bias.as_ref().map(|b| &b.data[..]);
        norm::View { kind: self.kind, weight: &self.weight.data, bias, eps: self.eps }
    }
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
            choices: Default::default(),
            attend: Default::default(),
            encoder: Default::default(),
            turns: Default::default(),
            arena: Default::default(),
            step: Step::default(),
            pages: 0,
            picked: Default::default(),
            watch: None,
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

impl Backend for Cpu {
    type Buf = Buf;
    type Weight = Weight;
    type Pages = Pages;
    type Mixture = Experts<Self>;

    fn buf(&self, rows: usize, cols: usize, _precision: Precision) -> Result<Buf> {
        let values = rows.checked_mul(cols).filter(|n| *n < isize::MAX as usize / 8);
        let values = values.ok_or(Error::Memory { what: format!("a buffer of {rows} x {cols}"), bytes: usize::MAX })?;
        Ok(Buf { cols, data: vec![0.0; values] })
    }

    fn weight(&self, parts: &[HostTensor<'_>]) -> Result<Weight> {
        let cols = parts.first().map_or(0, |part| part.cols);
        if let Some(odd) = parts.iter().find(|part| part.cols != cols || part.rows == 0) {
            let found = format!("{} x {}", odd.rows, odd.cols);
            return Err(shape(&format!("tensor {}", odd.name), found, format!("{cols} columns")));
        }
        let order = stacked(parts)?;
        let watched = self.watch.as_ref().map(|watch| watch::add(&mut watch.borrow_mut(), parts, cols));
        let mut arena = self.arena.borrow_mut();
        let parts: Vec<Packed> =
            parts.iter().map(|part| Packed::new(part, self.pool.threads(), &mut arena)).collect::<Result<_>>()?;
        let rows = parts.iter().map(|part| part.rows).sum();
        Ok(Weight { parts, rows, cols, order, watched })
    }

    const LAYOUT: Option<&'static str> = Some(pack::store::LAYOUT);

    fn store_weight(&self, weight: &Weight, out: &mut dyn std::io::Write) -> std::io::Result<()> {
        pack::store::store(weight, out)
    }

    fn load_weight(&self, bytes: &[u8]) -> Result<Weight> {
        let weight = pack::store::load(bytes, self.pool.threads(), &mut self.arena.borrow_mut());
        weight.unwrap_or_else(|| {
            Err(shape("a packed weight", format!("{} other bytes", bytes.len()), "one of this machine's"))
        })
    }

    fn weight_bytes(format: Format, rows: usize, cols: usize) -> usize {
        let kind = Kind::of(format.native()).unwrap_or(Kind::F32);
        rows.div_ceil(lanes::LANES) * kind.block_bytes(cols)
    }

    fn room_bytes(products: &Products) -> usize {
        linear::room_bytes(products)
    }

    fn mixture(&self, experts: Experts<Self>) -> Result<Experts<Self>> {
        Ok(experts)
    }

    fn pages(&self, layout: PageLayout) -> Result<Pages> {
        if layout.head_dim > MAX_HEAD_DIM {
            return Err(shape("head_dim", layout.head_dim, format!("at most {MAX_HEAD_DIM}")));
        }
        Ok(Pages(kv::Pages::new(layout)?))
    }

    fn page_bytes(layout: &PageLayout) -> usize {
        layout.page_bytes()
    }

    fn write(&mut self, buf: &mut Buf, values: &[f32]) -> Result<()> {
        let Some(into) = buf.data.get_mut(..values.len()) else {
            return Err(shape("values for a buffer", values.len(), format!("at most {}", buf.data.len())));
        };
        into.copy_from_slice(values);
        Ok(())
    }

    fn run(&mut self, step: &Step, _program: Option<u32>, body: &mut dyn FnMut(&mut Self) -> Result<()>) -> Result<()> {
        self.pages = check(step)?;
        self.step.clone_from(step);
        self.turns.forget();
        self.picked.swap(0, 1);
        self.picked[0].all.clear();
        body(self)
    }

    fn read<'a>(&'a mut self, buf: &'a Buf, rows: usize) -> Result<&'a [f32]> {
        buf.data.get(..rows * buf.cols).ok_or_else(|| shape("rows to read", rows, buf.data.len() / buf.cols.max(1)))
    }

    fn picks(&mut self, ago: usize) -> Result<&[Candidate]> {
        match self.picked.get(ago) {
            Some(picked) => Ok(&picked.all),
            None => Err(shape("runs to look back", ago, "0 or 1")),
        }
    }

    fn embed(&mut self, x: &mut Buf, table: &Weight, scale: f32, shelf: Option<&Buf>) -> Result<()> {
        assert!(x.cols == table.cols && shelf.is_none_or(|s| s.cols == table.cols), "rows fit the table");
        assert!(x.data.len() >= self.step.rows.len() * x.cols, "rows fit the buffer");
        let shelf = shelf.map_or(&[][..], |s| &s.data);
        let room = self.scratch[0].row(table.cols);
        embed::embed(&mut x.data, table, scale, shelf, &self.step.rows, &self.picked[1], room)
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
            order: w.weight.order.as_deref(),
            bias: w.bias.as_ref().map(|b| &b.data[..]),
            x: &x.data,
            norm: norm.map(Norm::view),
            pick,
            rows,
            out: &mut out.data,
            after,
        };
        linear::linear(&mut self.pool, self.isa, &mut self.panel, &mut self.scratch, product);
        if let (Some(watch), Some(weight)) = (&self.watch, w.weight.watched) {
            watch.borrow_mut()[weight].add(&mut self.pool, &self.panel.floats()[..rows * x.cols]);
        }
        Ok(())
    }

    fn experts(
        &mut self,
        x: &mut Buf,
        h: &mut Buf,
        norm: Option<&Norm<Self>>,
        logits: &Buf,
        e: &Experts<Self>,
    ) -> Result<()> {
        let (rows, count, shared) = (self.step.rows.len(), e.up.len(), e.shared.as_ref());
        let fits = |up: &Weight, down: &Weight| {
            let [gate, value] = &up.parts[..] else { return false };
            let ends = (up.cols, down.rows, down.parts.len()) == (x.cols, x.cols, 1);
            ends && gate.rows == down.cols && value.rows == down.cols
        };
        let hidden = e.down.first().map_or(0, |down| down.cols);
        let width = e.chosen * hidden + shared.map_or(0, |(_, down)| down.cols);
        assert!((1..=count.min(MAX_TOP_K)).contains(&e.chosen), "no more experts are chosen than there are");
        assert!(
            e.down.len() == count && e.up.iter().zip(&e.down).all(|(up, down)| fits(up, down)),
            "experts are whole"
        );
        assert!(e.down.iter().all(|down| down.cols == hidden), "experts are of one width");
        assert!(shared.is_none_or(|(up, down)| fits(up, down)), "the shared expert is whole");
        let bias = |bias: &Option<Buf>, each: usize| bias.as_ref().is_none_or(|b| b.data.len() == count * each);
        assert!(bias(&e.up_bias, 2 * hidden) && bias(&e.down_bias, x.cols), "experts' biases fit");
        assert!(logits.cols == count + usize::from(shared.is_some()), "each expert has a logit");
        assert!(norm.is_none_or(|n| n.weight.data.len() == x.cols) && h.cols == width, "experts' buffers fit");
        assert!([&*x, &*h, logits].iter().all(|buf| buf.data.len() >= rows * buf.cols), "rows fit the buffers");
        let mixture = linear::experts::Mixture {
            x: &mut x.data[..rows * x.cols],
            norm: norm.map(Norm::view),
            h: &mut h.data[..rows * width],
            logits: &logits.data,
            rows,
            up: &e.up,
            down: &e.down,
            shared: shared.map(|(up, down)| (up, down)),
            chosen: e.chosen,
            normalize: e.normalize,
            act: e.act,
            biases: [&e.up_bias, &e.down_bias].map(|bias| bias.as_ref().map(|bias| &bias.data[..])),
        };
        let Cpu { isa, pool, panel, scratch, choices, .. } = self;
        let mut machine = linear::experts::Machine { pool, isa: *isa, panel, scratch };
        linear::experts::experts(&mut machine, choices, mixture);
        Ok(())
    }

    fn norm(&mut self, out: &mut Buf, x: &Buf, norm: &Norm<Self>, after: After) -> Result<()> {
        assert!(matches!(after, After::Store | After::Add), "a norm is stored or added");
        assert!(out.cols == x.cols && norm.weight.data.len() == x.cols, "a norm has one factor per column");
        let values = self.step.rows.len() * x.cols;
        let (out, add) = (&mut out.data[..values], after == After::Add);
        norm::rows(&mut self.pool, self.isa, norm.view(), &x.data[..values], out, add);
        Ok(())
    }

    fn softcap(&mut self, x: &mut Buf, cap: f32) -> Result<()> {
        let isa = self.isa;
        let x = &mut x.data[..self.step.logits.len() * x.cols];
        // SAFETY: the set is available.
        self.pool.chunks(x, 4096, 1, |_, x| unsafe { isa.run(math::Softcap { x, cap }) });
        Ok(())
    }

    fn rope_store(&mut self, q: &mut Buf, qkv: &Buf, kv: &mut Pages, layer: usize, rope: &Rope<Self>) -> Result<()> {
        let shape = rope::Shape {
            pairing: rope.pairing,
            dims: rope.dims,
            heads: rope.heads,
            kv_heads: rope.kv_heads,
            head_dim: rope.head_dim,
            q_norm: rope.q_norm.as_ref().map(Norm::view),
            k_norm: rope.k_norm.as_ref().map(Norm::view),
            whole_norms: rope.whole_norms,
        };
        let fits = |norm: Option<norm::View<'_>>, heads: usize| {
            let fits = |len: usize| len == heads * rope.head_dim || (len == rope.head_dim && !rope.whole_norms);
            norm.is_none_or(|n| fits(n.weight.len()) && n.bias.is_none_or(|b| b.len() == n.weight.len()))
        };
        assert!(fits(shape.q_norm, rope.heads) && fits(shape.k_norm, rope.kv_heads), "a norm has one factor per value");
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

    fn attend(
        &mut self,
        out: &mut Buf,
        q: &Buf,
        kv: &Pages,
        layer: usize,
        a: Attend,
        sinks: Option<&Buf>,
    ) -> Result<()> {
        let layout = &kv.0.layout;
        assert!(layout.kv_heads == a.kv_heads && layout.head_dim == a.head_dim && layer < layout.layers);
        assert!(a.heads.is_multiple_of(a.kv_heads) && q.cols == a.heads * a.head_dim && out.cols == q.cols);
        assert!(out.data.len() >= self.step.rows.len() * out.cols, "rows fit the buffers");
        assert!(sinks.is_none_or(|sinks| sinks.data.len() == a.heads), "each head has a sink");
        sees(&self.step)?;
        assert!(self.pages <= layout.pages, "a step's pages lie in the pool");
        let view = kv.0.view();
        let queries = attend::Queries { q: &q.data, stride: q.cols, sinks: sinks.map(|sinks| &sinks.data[..]) };
        attend::attend(&mut self.pool, self.isa, &mut self.attend, &mut out.data, queries, view, layer, &self.step, a);
        Ok(())
    }

    fn attend_all(&mut self, out: &mut Buf, qkv: &Buf, a: Attend) -> Result<()> {
        assert!(a.window.is_none() && a.head_dim <= MAX_HEAD_DIM && a.heads.is_multiple_of(a.kv_heads));
        assert!(out.cols == a.heads * a.head_dim && qkv.cols == out.cols + 2 * a.kv_heads * a.head_dim);
        assert!(out.data.len() >= self.step.rows.len() * out.cols, "rows fit the buffers");
        let (encoder, room) = (&mut self.encoder, &mut self.attend);
        attend::all::attend_all(&mut self.pool, self.isa, encoder, room, &mut out.data, &qkv.data, &self.step, a)
    }

    fn pick(&mut self, logits: &Buf) -> Result<()> {
        let k = self.step.pick.count();
        if k > MAX_TOP_K || k > logits.cols {
            return Err(shape("candidates of a pick", k, format!("at most {}", logits.cols.min(MAX_TOP_K))));
        }
        let rows = self.step.logits.len();
        let into = &mut self.picked[0];
        into.each = k;
        into.all.resize(rows * k, Candidate::default());
        let isa = self.isa;
        self.pool.chunks(&mut into.all, k, 1, |r, into| {
            let row = &logits.data[r * logits.cols..(r + 1) * logits.cols];
            // SAFETY: the set is available.
            unsafe { isa.run(pick::Best { row, into }) }
        });
        Ok(())
    }

    fn shift(&mut self, kv: &mut Pages, layer: usize, rope: &Rope<Self>, slots: &[u32], by: i32) -> Result<()> {
        let layout = &kv.0.layout;
        assert!(layout.kv_heads == rope.kv_heads && layout.head_dim == rope.head_dim && layer < layout.layers);
        assert!(rope.dims <= rope.head_dim && rope.frequencies.data.len() * 2 == rope.dims);
        in_pool(layout, slots)?;
        if by != 0 && rope.dims > 0 {
            let mut turns = Vec::new();
            rope::turn(&mut turns, by as f32, &rope.frequencies.data, 1.0);
            shift::shift(&mut self.pool, self.isa, &mut kv.0, layer, slots, &turns, rope.pairing);
        }
        Ok(())
    }

    fn copy_rows(&mut self, kv: &mut Pages, from: &[u32], to: &[u32]) -> Result<()> {
        if from.len() != to.len() {
            return Err(shape("slots to copy to", to.len(), format!("{}, as many as slots to copy from", from.len())));
        }
        in_pool(&kv.0.layout, from)?;
        in_pool(&kv.0.layout, to)?;
        transfer::copy_rows(&mut self.pool, &mut kv.0, from, to);
        Ok(())
    }

    fn read_page(&mut self, kv: &Pages, page: u32, into: &mut [u8]) -> Result<()> {
        whole_page(&kv.0.layout, page, into.len())?;
        transfer::read_page(&kv.0, page as usize, into);
        Ok(())
    }

    fn write_page(&mut self, kv: &mut Pages, page: u32, from: &[u8]) -> Result<()> {
        whole_page(&kv.0.layout, page, from.len())?;
        transfer::write_page(&mut kv.0, page as usize, from);
        Ok(())
    }
}
