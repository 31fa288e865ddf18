//! The block program: read this first. What it runs on is a [`Backend`]; what differs between models is in its table.

use crate::load::{LoadOptions, Progress};
use crate::spec::Spec;
use crate::{Checkpoint, PackedCache, Result};
use nano_kernels::{After, Attend, Backend, Linear, Norm, Precision, Rope, Rows};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A model: weights in the machine's own layout, and one room of standing buffers.
pub struct Decoder<B: Backend> {
    pub(crate) embed: Linear<B>,
    pub(crate) layers: Vec<Layer<B>>,
    pub(crate) norm: Norm<B>,
    /// `None`: the embedding.
    pub(crate) head: Option<Linear<B>>,
    pub(crate) room: Room<B>,
    pub(crate) spec: Spec,
    pub(crate) notices: Vec<String>,
    pub(crate) formats: BTreeMap<&'static str, BTreeMap<&'static str, usize>>,
    pub(crate) step_bytes: u64,
    pub(crate) kept: Option<(PathBuf, u64)>,
}

/// One block.
pub(crate) struct Layer<B: Backend> {
    pub attend_norm: Option<Norm<B>>,
    pub qkv: Linear<B>,
    pub rope: Rope<B>,
    pub attend: Attend,
    /// Scores of what has no value, one for each head.
    pub sinks: Option<B::Buf>,
    pub out: Linear<B>,
    /// Of what attention adds.
    pub attend_post: Option<Norm<B>>,
    /// `None`: the MLP reads what attention reads.
    pub mlp_norm: Option<Norm<B>>,
    pub mlp: Mlp<B>,
    /// Of what the MLP adds.
    pub mlp_post: Option<Norm<B>>,
}

/// The second half of a block.
pub(crate) enum Mlp<B: Backend> {
    Dense { up: Linear<B>, after: After, down: Linear<B> },
    Sparse { router: Linear<B>, experts: B::Mixture },
}

/// Buffers that every step uses again.
pub(crate) struct Room<B: Backend> {
    pub x: B::Buf, // rows x dim: the residual stream
    qkv: B::Buf,   // rows x (heads + 2 kv_heads) head_dim
    q: B::Buf,     // rows x heads head_dim
    a: B::Buf,     // rows x heads head_dim
    h: B::Buf,     // rows x hidden
    sparse: Option<Sparse<B>>,
    y: Option<B::Buf>, // rows x dim: what is normalised before it is added
    logits: B::Buf,    // logits_rows x vocab
}

/// Those of layers with experts.
struct Sparse<B: Backend> {
    logits: B::Buf, // rows x logits of experts
    h: B::Buf,      // rows x what is between the products of a row's experts
}

impl<B: Backend> Room<B> {
    /// Bytes that they will take.
    pub fn bytes(spec: &Spec, options: &LoadOptions) -> usize {
        let heads = spec.heads * spec.head_dim;
        let post = if spec.post_norms() { spec.dim } else { 0 };
        let (logits, width) = spec.experts.map_or((0, 0), |e| (e.logits(), e.width()));
        let of = |rows, cols: &[usize], p| cols.iter().map(|cols| B::buf_bytes(rows, *cols, p)).sum::<usize>();
        of(options.rows, &[spec.dim, logits, post], Precision::Full)
            + of(options.rows, &[spec.qkv(), heads, heads, spec.dense_hidden(), width], Precision::Half)
            + of(options.logits_rows, &[spec.vocab], Precision::Full)
    }

    pub fn new(b: &B, spec: &Spec, options: &LoadOptions) -> Result<Self> {
        let heads = spec.heads * spec.head_dim;
        Ok(Room {
            x: b.buf(options.rows, spec.dim, Precision::Full)?,
            qkv: b.buf(options.rows, spec.qkv(), Precision::Half)?,
            q: b.buf(options.rows, heads, Precision::Half)?,
            a: b.buf(options.rows, heads, Precision::Half)?,
            h: b.buf(options.rows, spec.dense_hidden(), Precision::Half)?,
            sparse: match &spec.experts {
                Some(e) => Some(Sparse {
                    logits: b.buf(options.rows, e.logits(), Precision::Full)?,
                    h: b.buf(options.rows, e.width(), Precision::Half)?,
                }),
                None => None,
            },
            y: spec.post_norms().then(|| b.buf(options.rows, spec.dim, Precision::Full)).transpose()?,
            logits: b.buf(options.logits_rows, spec.vocab, Precision::Full)?,
        })
    }

    /// Runs the rows of the current step through a block, whose keys and values are those of layer `i` of the pages.
    pub fn block(
        &mut self,
        b: &mut B,
        spec: &Spec,
        l: &Layer<B>,
        kv: &mut B::Pages,
        i: usize,
    ) -> Result<(), nano_kernels::Error> {
        let mlp_norm = l.mlp_norm.as_ref().or(l.attend_norm.as_ref());
        b.linear(&mut self.qkv, &self.x, l.attend_norm.as_ref(), &l.qkv, After::Store, Rows::All)?;
        b.rope_store(&mut self.q, &self.qkv, kv, i, &l.rope)?;
        b.attend(&mut self.a, &self.q, kv, i, l.attend, l.sinks.as_ref())?;
        if let (true, Mlp::Dense { up, after, .. }) = (spec.parallel, &l.mlp) {
            b.linear(&mut self.h, &self.x, mlp_norm, up, *after, Rows::All)?;
        }
        add(b, &mut self.x, &mut self.y, &l.out, &self.a, l.attend_post.as_ref())?;
        match (&l.mlp, &mut self.sparse) {
            (Mlp::Dense { up, after, down }, _) => {
                if !spec.parallel {
                    b.linear(&mut self.h, &self.x, mlp_norm, up, *after, Rows::All)?;
                }
                add(b, &mut self.x, &mut self.y, down, &self.h, l.mlp_post.as_ref())?;
            }
            (Mlp::Sparse { router, experts }, Some(Sparse { logits, h })) => {
                b.linear(logits, &self.x, mlp_norm, router, After::Store, Rows::All)?;
                b.experts(&mut self.x, h, mlp_norm, logits, experts)?;
            }
            (Mlp::Sparse { .. }, None) => unreachable!("a model with experts has room for them"),
        }
        Ok(())
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
        Self::load_packed(checkpoint, backend, spec, options, None, report)
    }

    /// As [`load`](Decoder::load), with weights that an earlier load packed, or kept for the next.
    pub fn load_packed(
        checkpoint: &dyn Checkpoint,
        backend: &mut B,
        spec: &Spec,
        options: &LoadOptions,
        cache: Option<&PackedCache>,
        report: &mut dyn FnMut(Progress),
    ) -> Result<Self> {
        crate::load::load(checkpoint, backend, spec, options, cache, report)
    }

    /// Runs the model on the rows of the current step. To be called inside [`Backend::run`].
    pub fn forward(&mut self, b: &mut B, kv: &mut B::Pages) -> Result<(), nano_kernels::Error> {
        let Self { spec, room, .. } = self;
        b.embed(&mut room.x, &self.embed.weight, spec.embed_scale, None)?;
        for (i, l) in self.layers.iter().enumerate() {
            room.block(b, spec, l, kv, i)?;
        }
        let head = self.head.as_ref().unwrap_or(&self.embed);
        b.linear(&mut room.logits, &room.x, Some(&self.norm), head, After::Store, Rows::Logits)?;
        if let Some(cap) = spec.logit_cap {
            b.softcap(&mut room.logits, cap)?;
        }
        b.pick(&room.logits)
    }

    /// Rotates the keys in `slots` by `by` positions more, in every layer as its own rope does.
    pub fn shift(&self, b: &mut B, kv: &mut B::Pages, slots: &[u32], by: i32) -> Result<(), nano_kernels::Error> {
        self.layers.iter().enumerate().try_for_each(|(i, l)| b.shift(kv, i, &l.rope, slots, by))
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

    /// The file of packed weights that was written for the next load, and its bytes.
    pub fn kept(&self) -> Option<(&Path, u64)> {
        self.kept.as_ref().map(|(path, bytes)| (path.as_path(), *bytes))
    }

    /// Bytes of weights that a step of one row reads.
    pub fn step_bytes(&self) -> u64 {
        self.step_bytes
    }
}

/// `x += norm(W · from)`
fn add<B: Backend>(
    b: &mut B,
    x: &mut B::Buf,
    y: &mut Option<B::Buf>,
    w: &Linear<B>,
    from: &B::Buf,
    norm: Option<&Norm<B>>,
) -> Result<(), nano_kernels::Error> {
    match (norm, y) {
        (Some(norm), Some(y)) => {
            b.linear(y, from, None, w, After::Store, Rows::All)?;
            b.norm(x, y, norm, After::Add)
        }
        _ => b.linear(x, from, None, w, After::Add, Rows::All),
    }
}
