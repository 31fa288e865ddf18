//! Rotation and storing of keys and values: launchers of `cuda/rope_store.cu` and `cuda/shift.cu`.

use super::driver::{Arg, Driver};
use super::linear::{InputNorm, input_norm};
use super::norm::check_norm;
use super::pages::Seen;
use super::{Buf, Cuda, Pages};
use crate::{MAX_HEAD_DIM, Norm, Pairing, Result, Rope};

/// Heads of a row that a block takes.
const BLOCK_HEADS: u32 = 4;
/// Rows of a launch between steps: what a grid can have.
const MOST_ROWS: usize = 65535;

fn check<D: Driver>(rope: &Rope<Cuda<D>>, kv: &Pages, layer: usize) {
    let layout = &kv.layout;
    assert!(layout.kv_heads == rope.kv_heads && layout.head_dim == rope.head_dim && layer < layout.layers);
    assert!(rope.head_dim <= MAX_HEAD_DIM && rope.dims <= rope.head_dim && rope.dims.is_multiple_of(2));
    assert!(rope.frequencies.cols * 2 == rope.dims && !rope.frequencies.half, "a float32 frequency per turning pair");
}

/// How kernels are told which pairs turn, and how fast.
fn turns<D: Driver>(rope: &Rope<Cuda<D>>) -> [Arg; 3] {
    let adjacent = u32::from(rope.pairing == Pairing::Adjacent);
    [Arg::Ptr(rope.frequencies.at), Arg::U32(rope.dims as u32), Arg::U32(adjacent)]
}

/// How `rope_store` is told of a norm: in its kind, whether its parameters are each head's own and whether it is taken
/// over all heads.
fn norm_args<D: Driver>(rope: &Rope<Cuda<D>>, norm: &Option<Norm<Cuda<D>>>, heads: usize) -> [Arg; 4] {
    let Some(norm) = norm else { return InputNorm::args(None) };
    let own = norm.weight.cols != rope.head_dim;
    check_norm(norm, if own || rope.whole_norms { heads * rope.head_dim } else { rope.head_dim });
    let norm = input_norm(norm);
    let [_, weight, bias, eps] = InputNorm::args(Some(norm));
    let kind = if norm.layer { 2 } else { 1 };
    [Arg::U32(kind | u32::from(own) << 2 | u32::from(rope.whole_norms) << 3), weight, bias, eps]
}

impl<D: Driver> Cuda<D> {
    pub(super) fn launch_rope_store(
        &mut self,
        q: &mut Buf,
        qkv: &Buf,
        kv: &mut Pages,
        layer: usize,
        rope: &Rope<Self>,
    ) -> Result<()> {
        check(rope, kv, layer);
        let Rope { heads, kv_heads, head_dim, .. } = *rope;
        assert!(q.cols == heads * head_dim && qkv.cols == q.cols + 2 * kv_heads * head_dim, "heads fit the buffers");
        let rows = self.shape.rows;
        assert!(rows as usize <= q.rows.min(qkv.rows), "a step's rows fit the buffers");
        if rows == 0 {
            return Ok(());
        }
        let arrays = self.current.arrays();
        let norms = [(&rope.q_norm, heads), (&rope.k_norm, kv_heads)].map(|(norm, heads)| norm_args(rope, norm, heads));
        let args = [
            &[Arg::Ptr(qkv.at), Arg::U32(u32::from(qkv.half)), Arg::U32(qkv.stride as u32)][..],
            &[Arg::Ptr(q.at), Arg::U32(u32::from(q.half)), Arg::U32(q.stride as u32)],
            &[Arg::Ptr(arrays.position), Arg::Ptr(arrays.slot)],
            &turns(rope),
            &[Arg::F32(rope.factor), Arg::U32(heads as u32), Arg::U32(kv_heads as u32), Arg::U32(head_dim as u32)],
            &norms[0],
            &norms[1],
            &kv.args(),
            &[Arg::U32(kv.layout.pages as u32), Arg::U32((layer * kv_heads) as u32), kv.q8()],
        ]
        .concat();
        let items = (heads + 2 * kv_heads) as u32;
        self.launch("rope_store", [items.div_ceil(BLOCK_HEADS), rows, 1], 32 * BLOCK_HEADS, 0, &args)
    }

    pub(super) fn launch_shift(
        &mut self,
        kv: &mut Pages,
        layer: usize,
        rope: &Rope<Self>,
        slots: &[u32],
        by: i32,
    ) -> Result<()> {
        check(rope, kv, layer);
        kv.holds(slots)?;
        if by == 0 || rope.dims == 0 {
            return Ok(());
        }
        // A slot that is named again turns again, in a launch of its own: threads of one launch know no order.
        let mut slots = slots.to_vec();
        while !slots.is_empty() {
            let mut seen = Seen::new(&kv.layout);
            let (now, again): (Vec<u32>, Vec<u32>) = slots.into_iter().partition(|slot| seen.first(*slot));
            for slots in now.chunks(MOST_ROWS) {
                let list = self.upload_slots(kv, slots, &[])?.from;
                let heads = rope.kv_heads as u32;
                let args = [
                    &[Arg::Ptr(list), Arg::F32(by as f32)][..],
                    &turns(rope),
                    &[Arg::U32(heads), Arg::U32(rope.head_dim as u32)],
                    &kv.args(),
                    &[Arg::U32((layer * rope.kv_heads) as u32), kv.q8()],
                ]
                .concat();
                let grid = [heads.div_ceil(BLOCK_HEADS), slots.len() as u32, 1];
                self.launch("shift_keys", grid, 32 * BLOCK_HEADS, 0, &args)?;
            }
            slots = again;
        }
        Ok(())
    }
}
