//! Matrix products: which kernel a product gets, part by part. A few rows go to the decode kernels, which read each
//! weight once at the speed of memory; more rows to the tiles of prefill. The kernels' launchers are in `decode.rs` and
//! `prefill.rs`.

use super::driver::{Arg, Driver};
use super::weight::{Part, Weight};
use super::{Buf, Cuda, DECODE_ROWS};
use crate::{Act, After, Linear, Norm, NormKind, Result, Rows};

/// Where a product's rows come from: row `n` is row `gather[n]` (or `n`, if `gather` is 0) of a buffer.
#[derive(Clone, Copy, Debug)]
pub struct Input {
    /// Device address of row 0; float32 or f16.
    pub at: u64,
    /// Whether it holds f16.
    pub half: bool,
    /// Values from row to row.
    pub stride: u32,
    /// Values of a row; what lies between them and the stride is zero.
    pub cols: u32,
    /// Device address of row indices, or 0.
    pub gather: u64,
    /// Applied to each row first.
    pub norm: Option<InputNorm>,
    /// Device address of the value that each column takes then, or 0. Only `prepare` goes by it.
    pub order: u64,
}

impl Input {
    /// Rows of a buffer.
    pub(super) fn of<D: Driver>(x: &Buf, norm: Option<&Norm<Cuda<D>>>) -> Input {
        let (stride, cols) = (x.stride as u32, x.cols as u32);
        Input { at: x.at, half: x.half, stride, cols, gather: 0, norm: norm.map(input_norm), order: 0 }
    }
}

/// A normalisation of input rows.
#[derive(Clone, Copy, Debug)]
pub struct InputNorm {
    /// Layer normalisation takes the mean out, the other kind does not.
    pub layer: bool,
    /// Device address of float32 factors.
    pub weight: u64,
    /// Device address of float32 summands, or 0.
    pub bias: u64,
    /// Added to the mean square.
    pub eps: f32,
}

/// Where a product's rows go.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// Device address of row 0; float32 or f16.
    pub at: u64,
    /// Whether it holds f16.
    pub half: bool,
    /// Values from row to row.
    pub stride: u32,
}

impl Output {
    /// Rows of a buffer.
    pub(super) fn of(buf: &Buf) -> Output {
        Output { at: buf.at, half: buf.half, stride: buf.stride as u32 }
    }

    /// The same rows for the next product; `cols` is a multiple of 8 or followed by zeros.
    pub(super) fn read(self, cols: usize) -> Input {
        Input { at: self.at, half: self.half, stride: self.stride, cols: cols as u32, gather: 0, norm: None, order: 0 }
    }
}

/// A product of one part, as a launcher takes it: `out[n][first + j] after= (W · norm(x[n]))[j] + bias[first + j]`.
/// Under `After::Glu` the part's rows are gates, then as many ups; out has half as many columns.
#[derive(Clone, Copy, Debug)]
pub struct Product<'a> {
    /// The weights.
    pub part: &'a Part,
    /// The activations.
    pub input: Input,
    /// The results.
    pub out: Output,
    /// Device address of float32 summands of the whole weight (its first part's first), or 0.
    pub bias: u64,
    /// What is done with the sums.
    pub after: After,
    /// Rows.
    pub rows: u32,
}

/// How kernels are told of an [`After`]: what in the low byte, which activation in the next.
pub fn after_code(after: After) -> u32 {
    let act = |act: Act| match act {
        Act::Silu => 0,
        Act::Gelu => 1 << 8,
        Act::GeluTanh => 2 << 8,
        Act::Clamped => 3 << 8,
    };
    match after {
        After::Store => 0,
        After::Add => 1,
        After::Act(a) => 2 | act(a),
        After::Glu(a) => 3 | act(a),
    }
}

pub(super) fn input_norm<D: Driver>(norm: &Norm<Cuda<D>>) -> InputNorm {
    InputNorm {
        layer: norm.kind == NormKind::Layer,
        weight: norm.weight.at,
        bias: norm.bias.as_ref().map_or(0, |bias| bias.at),
        eps: norm.eps,
    }
}

impl<D: Driver> Cuda<D> {
    pub(super) fn launch_linear(
        &mut self,
        out: &mut Buf,
        x: &Buf,
        norm: Option<&Norm<Self>>,
        w: &Linear<Self>,
        after: After,
        rows: Rows,
    ) -> Result<()> {
        let outs = if let After::Glu(_) = after { w.weight.rows / 2 } else { w.weight.rows };
        assert!(x.cols == w.weight.cols && out.cols == outs, "a product's buffers fit its weight");
        let (n, gather) = self.rows(rows);
        if n == 0 {
            return Ok(());
        }
        assert!(n as usize <= out.rows && self.shape.rows as usize <= x.rows, "a step's rows fit the buffers");
        let input = self.ready(Input { gather, order: w.weight.order, ..Input::of(x, norm) }, n)?;
        let bias = w.bias.as_ref().map_or(0, |bias| bias.at);
        self.multiply(&w.weight, input, Output::of(out), bias, after, n)
    }

    /// `input` as products of so many rows read it.
    pub(super) fn ready(&self, input: Input, n: u32) -> Result<Input> {
        // Prefill wants f16 rows that are normalised already; so do several decode rows, whose norm every block would
        // make again. Columns are brought into an order of the weight's own nowhere else.
        let decode = n as usize <= DECODE_ROWS;
        let plain = (decode || (input.half && input.gather == 0)) && (n == 1 || input.norm.is_none());
        if plain && input.order == 0 {
            return Ok(input);
        }
        self.prepare(&input, n)?;
        let stride = input.cols.next_multiple_of(8);
        Ok(Input { at: self.room.activations, half: true, stride, gather: 0, norm: None, order: 0, ..input })
    }

    /// The products of all parts with `n` rows that are ready.
    pub(super) fn multiply(
        &self,
        weight: &Weight,
        input: Input,
        to: Output,
        bias: u64,
        after: After,
        n: u32,
    ) -> Result<()> {
        let whole = weight.parts.len() == 1 && weight.glued;
        let split = matches!(after, After::Glu(_)) && !whole;
        assert!(!split || weight.rows <= self.room.made.outputs, "room was made for gates and ups");
        // Gates and ups of different formats: all products first, then the gates.
        let (between, store) = match split {
            true => (self.sums(weight.rows), After::Store),
            false => (to, after),
        };
        for part in &weight.parts {
            let product = Product { part, input, out: between, bias, after: store, rows: n };
            if n as usize <= DECODE_ROWS { self.decode(&product)? } else { self.prefill(&product)? }
        }
        if split { self.glu(between, to, weight.rows / 2, after, n) } else { Ok(()) }
    }

    /// The room for products that are not finished in one launch.
    pub(super) fn sums(&self, outputs: usize) -> Output {
        Output { at: self.room.products, half: false, stride: outputs.next_multiple_of(8) as u32 }
    }

    /// Makes `outs` values of each row's gates and ups.
    pub(super) fn glu(&self, from: Output, to: Output, outs: usize, after: After, rows: u32) -> Result<()> {
        let args = [
            Arg::Ptr(from.at),
            Arg::U32(from.stride),
            Arg::Ptr(to.at),
            Arg::U32(to.stride),
            Arg::U32(u32::from(to.half)),
            Arg::U32(outs as u32),
            Arg::U32(after_code(after)),
        ];
        self.launch("glu", [(outs as u32).div_ceil(256), rows, 1], 256, 0, &args)
    }
}
