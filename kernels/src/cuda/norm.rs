//! Operations on rows alone: normalisation, softcap, and the activations that products read. Launchers of `cuda/norm.cu`
//! and `cuda/softcap.cu`.

use super::driver::{Arg, Driver};
use super::linear::{Input, InputNorm, Output, input_norm};
use super::{Buf, Cuda};
use crate::{After, Norm, Result};

impl InputNorm {
    /// How kernels are told of a norm: its kind, its parameters, its eps. `None` normalises nothing.
    pub(super) fn args(norm: Option<InputNorm>) -> [Arg; 4] {
        let kind = norm.map_or(0, |norm| if norm.layer { 2 } else { 1 });
        let norm = norm.unwrap_or(InputNorm { layer: false, weight: 0, bias: 0, eps: 0.0 });
        [Arg::U32(kind), Arg::Ptr(norm.weight), Arg::Ptr(norm.bias), Arg::F32(norm.eps)]
    }
}

/// What a norm's parameters must be, for rows of `cols`.
pub(super) fn check_norm<D: Driver>(norm: &Norm<Cuda<D>>, cols: usize) {
    let fits = |buf: &Buf| buf.cols == cols && !buf.half;
    assert!(fits(&norm.weight) && norm.bias.as_ref().is_none_or(fits), "a norm has one float32 factor per column");
}

impl<D: Driver> Cuda<D> {
    pub(super) fn launch_norm(&mut self, out: &mut Buf, x: &Buf, norm: &Norm<Self>, after: After) -> Result<()> {
        assert!(matches!(after, After::Store | After::Add), "a norm is stored or added");
        assert!(out.cols == x.cols, "a norm's buffers have the same columns");
        check_norm(norm, x.cols);
        let rows = self.shape.rows;
        assert!(rows as usize <= out.rows.min(x.rows), "a step's rows fit the buffers");
        let norm = Some(input_norm(norm));
        let (stride, cols) = (x.stride as u32, x.cols as u32);
        let input = Input { at: x.at, half: x.half, stride, cols, gather: 0, norm, order: 0 };
        let to = Output { at: out.at, half: out.half, stride: out.stride as u32 };
        self.norm_rows(&input, &to, after == After::Add, rows)
    }

    pub(super) fn launch_softcap(&mut self, x: &mut Buf, cap: f32) -> Result<()> {
        let rows = self.shape.logits;
        assert!(rows as usize <= x.rows, "a step's logits rows fit the buffer");
        if rows == 0 {
            return Ok(());
        }
        let (half, stride, cols) = (u32::from(x.half), x.stride as u32, x.cols as u32);
        let args = [Arg::Ptr(x.at), Arg::U32(half), Arg::U32(stride), Arg::U32(cols), Arg::F32(cap)];
        self.launch("softcap", [cols.div_ceil(4 * 256), rows, 1], 256, 0, &args)
    }

    /// `rows` rows of `input`, gathered, normalised and brought into order, as f16 into the room for activations (stride:
    /// cols rounded up to whole 8; zeros beyond cols).
    pub(super) fn prepare(&self, input: &Input, rows: u32) -> Result<()> {
        let out = Output { at: self.room.activations, half: true, stride: input.cols.next_multiple_of(8) };
        self.norm_rows(input, &out, false, rows)
    }

    /// The same for rows of sorted choices, each brought into the order of its expert. `orders`: addresses of these, or zeros.
    pub(super) fn norm_routed(&self, input: &Input, out: &Output, orders: u64, experts: u64, rows: u32) -> Result<()> {
        let more = [Arg::Ptr(orders), Arg::Ptr(experts)];
        let args = [&norm_args(input, out, false)[..], &more].concat();
        if rows == 0 { Ok(()) } else { self.launch("norm_rows_routed", [rows, 1, 1], 256, 0, &args) }
    }

    /// `rows` rows of `input`, gathered and normalised, into `out` or added to it.
    pub(super) fn norm_rows(&self, input: &Input, out: &Output, add: bool, rows: u32) -> Result<()> {
        if rows == 0 {
            return Ok(());
        }
        let args = norm_args(input, out, add);
        match input.order {
            0 => self.launch("norm_rows", [rows, 1, 1], 256, 0, &args),
            order => {
                let args = [&args[..], &[Arg::Ptr(order)]].concat();
                self.launch("norm_rows_ordered", [rows, 1, 1], 256, 0, &args)
            }
        }
    }
}

/// What all kernels of `cuda/norm.cu` are told first.
fn norm_args(input: &Input, out: &Output, add: bool) -> [Arg; 13] {
    let [kind, weight, bias, eps] = InputNorm::args(input.norm);
    [
        Arg::Ptr(input.at),
        Arg::U32(u32::from(input.half)),
        Arg::U32(input.stride),
        Arg::Ptr(input.gather),
        Arg::U32(input.cols),
        kind,
        weight,
        bias,
        eps,
        Arg::Ptr(out.at),
        Arg::U32(u32::from(out.half)),
        Arg::U32(out.stride),
        Arg::U32(u32::from(add)),
    ]
}
