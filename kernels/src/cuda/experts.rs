//! Experts: rows are sorted by the experts that their logits choose, and each run of rows is a product of its own. All of
//! it is decided on the device, so grids are for the worst case, and blocks that find nothing to do leave. Launchers of
//! `cuda/experts_decode.cu`, `cuda/experts_prefill.cu` and `cuda/experts_prefill_72.cu`, and of the sum at the end.
//!
//! In a decode step a run has all rows that chose an expert, as far as a block can hold them, so that its weights are
//! read once; weights that nobody chose are not read.

mod mixture;
mod routes;

pub use mixture::Mixture;

use super::decode::{shared, warps};
use super::driver::{About, Arg, Driver};
use super::linear::{Input, InputNorm, Output, after_code};
use super::prefill::{LAST_OF_72, Shape};
use super::weight::{Kind, TILE_COLS, TILE_ROWS};
use super::{Buf, Cuda, DECODE_ROWS};
use crate::{After, Norm, Result};
use mixture::{Parts, Stack};
use routes::Routes;

/// Bytes of the room for routes, and for what all choices and the shared expert make.
pub(super) fn room_bytes(rows: usize, chosen: usize, count: usize, dim: usize) -> [usize; 2] {
    [Routes::bytes(rows, chosen, count), 4 * rows * (chosen + 1) * dim.next_multiple_of(8)]
}

impl<D: Driver> Cuda<D> {
    pub(super) fn launch_experts(
        &mut self,
        x: &mut Buf,
        h: &mut Buf,
        norm: Option<&Norm<Self>>,
        logits: &Buf,
        m: &Mixture,
    ) -> Result<()> {
        let n = self.shape.rows;
        let (rows, hidden) = (n as usize, m.down.cols);
        let width = m.shared.as_ref().map_or(0, |(_, down)| down.cols);
        assert!(x.cols == m.up.cols && x.cols == m.down.rows, "experts' weights fit the rows");
        assert!(h.cols == m.chosen * hidden + width && h.half, "experts' rows have room between the products");
        assert!(logits.cols == m.count + usize::from(m.shared.is_some()) && !logits.half, "each expert has a logit");
        assert!([&*x, &*h, logits].iter().all(|buf| rows <= buf.rows), "a step's rows fit the buffers");
        if n == 0 {
            return Ok(());
        }
        let decode = rows <= DECODE_ROWS;
        let shape = Shape::of_experts(self.driver.about(), (rows * m.chosen).div_ceil(m.count));
        let most = if decode { rows.min(m.decode_rows) } else { shape.rows };
        let routes = self.route(logits, m, n, most)?;

        let stride = x.cols.next_multiple_of(8) as u32;
        assert!(4 * (rows * (m.chosen + 1)) * stride as usize <= self.room.made.mixed, "room was made for experts");
        let y = Output { at: self.room.mixed, half: false, stride };
        let shared_y = Output { at: y.at + 4 * u64::from(routes.count) * u64::from(stride), ..y };
        let ready = self.ready(Input::of(x, norm), n)?;
        let mut sorted = Input { gather: routes.sorted_rows, ..ready };
        if !decode || m.up.orders != 0 {
            // A row for each choice, where the results will be later.
            let to = Output { half: true, ..y };
            match m.up.orders {
                0 => self.norm_rows(&sorted, &to, false, routes.count)?,
                orders => self.norm_routed(&sorted, &to, orders, routes.sorted_experts, routes.count)?,
            }
            sorted = Input { at: to.at, half: true, stride, gather: 0, norm: None, ..ready };
        }
        let between = Output { at: h.at, half: true, stride: hidden as u32 };
        self.multiply_runs(&m.up, &routes, shape, sorted, between, m.after(), decode)?;
        let mut back = between.read(hidden);
        if m.down.orders != 0 {
            let to = Output { at: self.room.activations, half: true, stride: hidden as u32 };
            self.norm_routed(&back, &to, m.down.orders, routes.sorted_experts, routes.count)?;
            back = to.read(hidden);
        }
        self.multiply_runs(&m.down, &routes, shape, back, y, After::Store, decode)?;
        if let Some((up, down)) = &m.shared {
            let at = h.at + 2 * u64::from(routes.count) * hidden as u64;
            let between = Output { at, half: true, stride: width as u32 };
            let ordered = Input { order: up.order, ..Input::of(x, norm) };
            // The rows that were ready may have made place for others.
            let input = if up.order == 0 && m.down.orders == 0 { ready } else { self.ready(ordered, n)? };
            self.multiply(up, input, between, 0, m.after(), n)?;
            let input = self.ready(Input { order: down.order, ..between.read(width) }, n)?;
            self.multiply(down, input, shared_y, 0, After::Store, n)?;
        }
        let args = [
            Arg::Ptr(y.at),
            Arg::U32(stride),
            Arg::Ptr(routes.places),
            Arg::Ptr(routes.factors),
            Arg::Ptr(if m.shared.is_some() { shared_y.at } else { 0 }),
            Arg::Ptr(self.current.arrays().span),
            Arg::U32(m.chosen as u32),
            Arg::Ptr(x.at),
            Arg::U32(u32::from(x.half)),
            Arg::U32(x.stride as u32),
            Arg::U32(x.cols as u32),
        ];
        self.launch("experts_add", [(x.cols as u32).div_ceil(1024), n, 1], 256, 0, &args)
    }
    /// The products of all runs. `input` and `out` have the rows of sorted choices, or `input` is gathered.
    #[allow(clippy::too_many_arguments)]
    fn multiply_runs(
        &self,
        stack: &Stack,
        routes: &Routes,
        shape: Shape,
        input: Input,
        to: Output,
        after: After,
        decode: bool,
    ) -> Result<()> {
        // As in `multiply`.
        let split = matches!(after, After::Glu(_)) && !stack.glued;
        let (out, store) = if split { (self.sums(stack.rows), After::Store) } else { (to, after) };
        let room = self.room.made.outputs * self.current.sizes().rows;
        assert!(!split || routes.count as usize * stack.rows <= room, "room was made for experts' gates and ups");
        for parts in &stack.layers {
            for kind in &parts.kinds {
                let product = Product { parts, kind: *kind, routes, input, out, after: store };
                if decode { self.decode_runs(&product)? } else { self.prefill_runs(&product, shape)? }
            }
        }
        if split { self.glu(out, to, stack.rows / 2, after, routes.count) } else { Ok(()) }
    }

    fn decode_runs(&self, product: &Product<'_>) -> Result<()> {
        let Product { parts, kind, routes, input, out, after } = *product;
        let about = self.driver.about();
        let items = parts.rows.div_ceil(TILE_ROWS) >> usize::from(matches!(after, After::Glu(_)));
        let (runs, tiles) = (routes.run_count as usize, (input.cols as usize).div_ceil(TILE_COLS));
        let warps = warps(about, items * runs, tiles);
        let shared = shared(tiles, routes.most, warps);
        // As in the plans of other products.
        let by_shared = about.shared_bytes as usize / (shared + 1024);
        let at_a_time = about.multiprocessors as usize * (resident_warps(about, kind) / warps).min(by_shared).max(1);
        let blocks = items.div_ceil((items * runs).div_ceil(at_a_time).max(1)).max(1);
        let [norm, norm_weight, norm_bias, eps] = InputNorm::args(input.norm);
        let args = [
            Arg::Ptr(routes.runs),
            Arg::Ptr(parts.cards),
            Arg::Ptr(input.at),
            Arg::U32(u32::from(input.half)),
            Arg::U32(input.stride),
            Arg::Ptr(input.gather),
            Arg::U32(input.cols),
            norm,
            norm_weight,
            norm_bias,
            eps,
            Arg::Ptr(out.at),
            Arg::U32(u32::from(out.half)),
            Arg::U32(out.stride),
            Arg::U32(after_code(after)),
        ];
        let grid = [blocks as u32, 1, routes.run_count];
        self.launch(decode_kernel(kind), grid, 32 * warps as u32, shared as u32, &args)
    }

    /// The input is f16 and normalised, in the order of choices.
    fn prefill_runs(&self, product: &Product<'_>, shape: Shape) -> Result<()> {
        let Product { parts, kind, routes, input, out, after } = *product;
        let about = self.driver.about();
        let args = [
            Arg::Ptr(routes.runs),
            Arg::Ptr(parts.cards),
            Arg::Ptr(input.at),
            Arg::Ptr(out.at),
            Arg::U32(input.cols),
            Arg::U32(input.stride),
            Arg::U32(out.stride),
            Arg::U32(u32::from(out.half)),
            Arg::U32(after_code(after)),
            Arg::U32(shape.stages(kind).0 as u32),
        ];
        // As in `prefill`.
        let args = if about.capability <= LAST_OF_72 { &args[..args.len() - 1] } else { &args[..] };
        let grid = [parts.rows.div_ceil(shape.outputs) as u32, routes.run_count, 1];
        self.launch(prefill_kernel(about, kind), grid, shape.threads(about), shape.shared(about, kind), args)
    }
}

/// The products of all runs with one part of their experts, where it is of one kind.
#[derive(Clone, Copy)]
struct Product<'a> {
    parts: &'a Parts,
    kind: Kind,
    routes: &'a Routes,
    input: Input,
    out: Output,
    after: After,
}

/// Warps for which a multiprocessor has registers; `RunsResident` of `cuda/experts_decode.cu`.
fn resident_warps(about: &About, kind: Kind) -> usize {
    match (about.capability < 80, kind) {
        (true, Kind::F16) => 8,
        (false, Kind::Q4 | Kind::Q4M) => 24,
        _ => 16,
    }
}

fn decode_kernel(kind: Kind) -> &'static str {
    match kind {
        Kind::F16 => "experts_decode_f16",
        Kind::Q8 => "experts_decode_q8",
        Kind::Q4 => "experts_decode_q4",
        Kind::Q4M => "experts_decode_q4m",
        Kind::Q4K => "experts_decode_q4k",
        Kind::Q6K => "experts_decode_q6k",
        Kind::Z4(_) => "experts_decode_z4",
        Kind::Z8(_) => "experts_decode_z8",
        Kind::Mx4 => "experts_decode_mx4",
    }
}

fn prefill_kernel(about: &About, kind: Kind) -> &'static str {
    match (kind, about.capability <= LAST_OF_72) {
        (Kind::F16, false) => "experts_prefill_f16",
        (Kind::Q8, false) => "experts_prefill_q8",
        (Kind::Q4, false) => "experts_prefill_q4",
        (Kind::Q4M, false) => "experts_prefill_q4m",
        (Kind::Q4K, false) => "experts_prefill_q4k",
        (Kind::Q6K, false) => "experts_prefill_q6k",
        (Kind::Z4(_), false) => "experts_prefill_z4",
        (Kind::Z8(_), false) => "experts_prefill_z8",
        (Kind::Mx4, false) => "experts_prefill_mx4",
        (Kind::F16, true) => "experts_prefill_72_f16",
        (Kind::Q8, true) => "experts_prefill_72_q8",
        (Kind::Q4, true) => "experts_prefill_72_q4",
        (Kind::Q4M, true) => "experts_prefill_72_q4m",
        (Kind::Q4K, true) => "experts_prefill_72_q4k",
        (Kind::Q6K, true) => "experts_prefill_72_q6k",
        (Kind::Z4(_), true) => "experts_prefill_72_z4",
        (Kind::Z8(_), true) => "experts_prefill_72_z8",
        (Kind::Mx4, true) => "experts_prefill_72_mx4",
    }
}
