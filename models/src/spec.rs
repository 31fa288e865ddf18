//! The numbers of a model as the block program needs them.

use crate::arch::Arch;
use crate::names::{self, Role};
use crate::{Checkpoint, Error, Result, RopeSpec};
use nano_kernels::{Act, KvFormat, NormKind, PageLayout};

/// Sizes and options of the block program.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The architecture's table.
    pub arch: &'static Arch,
    /// Blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub dim: usize,
    /// Width of the MLP.
    pub hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Values per head.
    pub head_dim: usize,
    /// Rows of the embedding.
    pub vocab: usize,
    /// The longest context that the model was made for, tokens.
    pub context: usize,
    /// The kind of all norms.
    pub norm: NormKind,
    /// Added to the mean square.
    pub norm_eps: f32,
    /// Added to all weights of norms as they are stored: 1 where the file holds w of a factor 1 + w.
    pub norm_plus: f32,
    /// Norms of q and k.
    pub head_norms: HeadNorms,
    /// The MLP's activation.
    pub act: Act,
    /// Whether the MLP has a gate.
    pub gated: bool,
    /// Whether attention and MLP read the same rows, normalised once, instead of one after the other.
    pub parallel: bool,
    /// Factor on embeddings.
    pub embed_scale: f32,
    /// Rotary embedding.
    pub rope: RopeSpec,
    /// That of layers which have one of their own.
    pub local_rope: Option<RopeSpec>,
    /// Factor on q·k.
    pub attend_scale: f32,
    /// Scores become `cap · tanh(score / cap)`.
    pub attend_cap: Option<f32>,
    /// The experts of the layers that have some.
    pub experts: Option<ExpertSpec>,
    /// What differs from layer to layer; one for each.
    pub each: Vec<LayerSpec>,
    /// Factor on logits.
    pub logit_scale: f32,
    /// Logits become `cap · tanh(logit / cap)`.
    pub logit_cap: Option<f32>,
    /// Whether the head is the embedding.
    pub tied: bool,
}

/// Norms of q and k, before they turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadNorms {
    /// There are none.
    None,
    /// Of each head, with the same factors for all.
    Shared,
    /// Of each head, with its own factors.
    Own,
    /// Of all heads together.
    Whole,
}

/// What differs from layer to layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayerSpec {
    /// How far back it sees, tokens; `None`: to the beginning.
    pub window: Option<usize>,
    /// How it turns q and k.
    pub rope: LayerRope,
    /// Whether it has experts in place of an MLP.
    pub sparse: bool,
}

/// Sizes and options of experts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpertSpec {
    /// Experts of a layer.
    pub count: usize,
    /// Of which each token goes through so many.
    pub chosen: usize,
    /// Width of an expert.
    pub hidden: usize,
    /// Width of the expert that every token goes through; 0 if there is none.
    pub shared: usize,
    /// Whether the factors of the chosen are made to sum to 1.
    pub normalize: bool,
}

impl ExpertSpec {
    /// Logits of a token.
    pub fn logits(&self) -> usize {
        self.count + usize::from(self.shared > 0)
    }

    /// Values between the products of a token's experts.
    pub fn width(&self) -> usize {
        self.chosen * self.hidden + self.shared
    }
}

/// Which rotary embedding a layer has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LayerRope {
    /// [`Spec::rope`].
    #[default]
    Global,
    /// [`Spec::local_rope`].
    Local,
    /// None: only the order of the cache tells it what came before.
    None,
}

impl Spec {
    /// Reads the numbers of a checkpoint by its architecture's table, and checks that they make a model.
    pub fn read(checkpoint: &dyn Checkpoint) -> Result<Spec> {
        let arch = crate::arch::find(checkpoint.config())?;
        let embed = names::name(arch.names, checkpoint.container(), Role::Embed, 0, "weight").unwrap_or_default();
        let Some(info) = checkpoint.info(&embed) else {
            return Err(Error::tensor(checkpoint.path(), &embed, "is missing"));
        };
        let spec = (arch.spec)(arch, checkpoint, info.rows)?;
        let config = checkpoint.config();
        let check =
            |ok: bool, hf: &str, gguf: &str, why: String| if ok { Ok(()) } else { Err(config.bad(hf, gguf, why)) };
        for (n, most, hf, gguf) in [
            (spec.layers, 1 << 12, "num_hidden_layers", "block_count"),
            (spec.dim, 1 << 20, "hidden_size", "embedding_length"),
            (spec.hidden, 1 << 22, "intermediate_size", "feed_forward_length"),
            (spec.heads, 1 << 14, "num_attention_heads", "attention.head_count"),
            (spec.kv_heads, 1 << 14, "num_key_value_heads", "attention.head_count_kv"),
            (spec.head_dim, nano_kernels::MAX_HEAD_DIM, "head_dim", "attention.key_length"),
            (spec.context, 1 << 31, "max_position_embeddings", "context_length"),
        ] {
            check((1..=most).contains(&n), hf, gguf, format!("is {n}; 1 to {most} is needed"))?;
        }
        if let Some(e) = &spec.experts {
            const WIDTH: (&str, &str) = ("moe_intermediate_size", "expert_feed_forward_length");
            for (n, least, most, (hf, gguf)) in [
                (e.count, 1, 1 << 12, ("num_experts|num_local_experts", "expert_count")),
                (e.chosen, 1, e.count.min(nano_kernels::MAX_TOP_K), ("num_experts_per_tok", "expert_used_count")),
                (e.hidden, 1, 1 << 22, WIDTH),
                (e.shared, 0, 1 << 22, ("shared_expert_intermediate_size", "expert_shared_feed_forward_length")),
            ] {
                check((least..=most).contains(&n), hf, gguf, format!("is {n}; {least} to {most} is needed"))?;
            }
        }
        let per = spec.heads % spec.kv_heads;
        check(
            per == 0,
            "num_key_value_heads",
            "attention.head_count_kv",
            format!("is {}, which does not divide the {} heads", spec.kv_heads, spec.heads),
        )?;
        if let Some(scale) =
            [spec.attend_scale, spec.embed_scale, spec.logit_scale, spec.norm_eps].iter().find(|x| !x.is_finite())
        {
            return Err(Error::file(config.file(), format!("makes a factor of {scale}; a finite one is needed")));
        }
        let dims = spec.rope.dims;
        check(
            dims.is_multiple_of(2) && dims <= spec.head_dim,
            "head_dim",
            "rope.dimension_count",
            format!("makes {dims} values turn; an even number up to {} is needed", spec.head_dim),
        )?;
        check(
            spec.rope.theta > 0.0,
            "rope_theta",
            "rope.freq_base",
            format!("is {}; a positive number is needed", spec.rope.theta),
        )?;
        check(
            spec.norm_eps >= 0.0,
            "rms_norm_eps",
            "attention.layer_norm_rms_epsilon",
            format!("is {}; it cannot be negative", spec.norm_eps),
        )?;
        Ok(spec)
    }

    /// The same for conversations of up to `tokens`: scalings of rope that depend on it are chosen by it.
    pub fn for_context(mut self, tokens: usize) -> Self {
        [Some(&mut self.rope), self.local_rope.as_mut()].into_iter().flatten().for_each(|rope| rope.context = tokens);
        self
    }

    /// The window of the layers that have one, tokens, and how many have one.
    pub fn window(&self) -> Option<(usize, usize)> {
        let mut windows = self.each.iter().filter_map(|layer| layer.window);
        windows.next().map(|window| (window, 1 + windows.count()))
    }

    /// The rotary embedding of a layer.
    pub fn rope_of(&self, layer: usize) -> Option<&RopeSpec> {
        match self.each[layer].rope {
            LayerRope::Global => Some(&self.rope),
            LayerRope::Local => Some(self.local_rope.as_ref().unwrap_or(&self.rope)),
            LayerRope::None => None,
        }
    }

    /// The architecture's name.
    pub fn architecture(&self) -> &'static str {
        self.arch.name
    }

    /// The shape of a pool of `pages` cache pages for this model.
    pub fn page_layout(&self, pages: usize, format: KvFormat) -> PageLayout {
        PageLayout { pages, layers: self.layers, kv_heads: self.kv_heads, head_dim: self.head_dim, format }
    }

    /// Whether what branches add is normalised.
    pub(crate) fn post_norms(&self) -> bool {
        names::has(self.arch.names, Role::AttendPost)
    }

    /// Width of the MLPs of layers without experts; 0 if all have some.
    pub(crate) fn dense_hidden(&self) -> usize {
        if self.each.iter().all(|layer| layer.sparse) { 0 } else { self.hidden }
    }

    /// Outputs of the stacked q, k and v.
    pub fn qkv(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }
}
