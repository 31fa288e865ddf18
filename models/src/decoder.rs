//! The block program: read this first. What it runs on is a [`Backend`]; what differs between models is in its table.

use crate::load::{LoadOptions, Progress};
use crate::spec::Spec;
use crate::{Checkpoint, Result};
use nano_kernels::{After, Attend, Backend, Linear, Norm, Precision, Rope, Rows};
use std::collections::BTreeMap;

/// A model: weights in the machine's own layout, and one room of standing buffers.
pub struct Decoder<B: Backend> {
    pub(crate) embed: Linear<B>,
    pub(crate) layers: Vec<Layer<B>>,
    pub(crate) rope: Rope<B>,
    pub(crate) norm: Norm<B>,
    /// `None`: the embedding.
    pub(crate) head: Option<Linear<B>>,
    pub(crate) room: Room<B>,
    pub(crate) spec: Spec,
    pub(crate) notices: Vec<String>,
    pub(crate) formats: BTreeMap<&'static str, BTreeMap<&'static str, usize>>,
    pub(crate) step_bytes: u64,
}

/// One block.
pub(crate) struct Layer<B: Backend> {
    pub attend_norm: Norm<B>,
    pub qkv: Linear<B>,
    pub attend: Attend,
    pub out: Linear<B>,
    pub mlp_norm: Norm<B>,
    pub up: Linear<B>,
    pub after: After,
    pub down: Linear<B>,
}

/// Buffers that every step uses again.
pub(crate) struct Room<B: Backend> {
    x: B::Buf,      // rows x dim: the residual stream
    qkv: B::Buf,    // rows x (heads + 2 kv_heads) head_dim
    q: B::Buf,      // rows x heads head_dim
    a: B::Buf,      // rows x heads head_dim
    h: B::Buf,      // rows x hidden
    logits: B::Buf, // logits_rows x vocab
}

impl<B: Backend> Room<B> {
    /// Values that one row takes in all buffers but the logits.
    pub fn width(spec: &Spec) -> usize {
        spec.dim + spec.qkv() + 2 * spec.heads * spec.head_dim + spec.hidden
    }

    pub fn new(b: &B, spec: &Spec, options: &LoadOptions) -> Result<Self> {
        let heads = spec.heads * spec.head_dim;
        Ok(Room {
            x: b.buf(options.rows, spec.dim, Precision::Full)?,
            qkv: b.buf(options.rows, spec.qkv(), Precision::Half)?,
            q: b.buf(options.rows, heads, Precision::Half)?,
            a: b.buf(options.rows, heads, Precision::Half)?,
            h: b.buf(options.rows, spec.hidden, Precision::Half)?,
            logits: b.buf(options.logits_rows, spec.vocab, Precision::Full)?,
        })
    }
}

impl<B: Backend> Decoder<B> {
    /// Loads a checkpoint; `report` is called after every tensor.
    pub fn load(
        checkpoint: &dyn Checkpoint,
        backend: &mut B,
        spec: &Spec,
        options: &LoadOptions,
        report: &mut dyn FnMut(Progress),
    ) -> Result<Self> {
        crate::load::load(checkpoint, backend, spec, options, report)
    }

    /// Runs the model on the rows of the current step. To be called inside [`Backend::run`].
    pub fn forward(&mut self, b: &mut B, kv: &mut B::Pages) -> Result<(), nano_kernels::Error> {
        let room = &mut self.room;
        b.embed(&mut room.x, &self.embed.weight, 1.0, None)?;
        for (i, l) in self.layers.iter().enumerate() {
            b.linear(&mut room.qkv, &room.x, Some(&l.attend_norm), &l.qkv, After::Store, Rows::All)?;
            b.rope_store(&mut room.q, &room.qkv, kv, i, &self.rope)?;
            b.attend(&mut room.a, &room.q, kv, i, l.attend)?;
            b.linear(&mut room.x, &room.a, None, &l.out, After::Add, Rows::All)?;
            b.linear(&mut room.h, &room.x, Some(&l.mlp_norm), &l.up, l.after, Rows::All)?;
            b.linear(&mut room.x, &room.h, None, &l.down, After::Add, Rows::All)?;
        }
        let head = self.head.as_ref().unwrap_or(&self.embed);
        b.linear(&mut room.logits, &room.x, Some(&self.norm), head, After::Store, Rows::Logits)?;
        b.pick(&room.logits)
    }

    /// Rotates the keys in `slots` by `by` positions more, in every layer as its own rope does.
    pub fn shift(&self, b: &mut B, kv: &mut B::Pages, slots: &[u32], by: i32) -> Result<(), nano_kernels::Error> {
        (0..self.layers.len()).try_for_each(|i| b.shift(kv, i, &self.rope, slots, by))
    }

    /// Where `forward` leaves the logits: a row for each of the step's logits rows.
    pub fn logits(&self) -> &B::Buf {
        &self.room.logits
    }

    /// The model's numbers.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// What the user should know about how the checkpoint was loaded.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// How many tensors of each kind (embedding, head, attention, mlp) are held in each format.
    pub fn formats(&self) -> &BTreeMap<&'static str, BTreeMap<&'static str, usize>> {
        &self.formats
    }

    /// Bytes of weights that a step of one row reads.
    pub fn step_bytes(&self) -> u64 {
        self.step_bytes
    }
}
