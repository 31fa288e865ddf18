//! The numbers of a model as the block program needs them.

use crate::arch::Arch;
use crate::names::{self, Role};
use crate::{Checkpoint, Error, Result};
use nano_kernels::{Act, KvFormat, NormKind, PageLayout, Pairing};

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
    /// The MLP's activation.
    pub act: Act,
    /// Rotary embedding.
    pub rope: RopeSpec,
    /// Factor on q·k.
    pub attend_scale: f32,
    /// How far back every layer sees, tokens.
    pub window: Option<usize>,
    /// Whether the head is the embedding.
    pub tied: bool,
}

/// Rotary embedding.
#[derive(Clone, Debug)]
pub struct RopeSpec {
    /// Which values turn together.
    pub pairing: Pairing,
    /// Leading values of a head that turn.
    pub dims: usize,
    /// Base of the frequencies.
    pub theta: f32,
    /// How frequencies are changed for longer contexts.
    pub scaling: RopeScaling,
}

/// Scalings of rope frequencies.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// As they are.
    None,
    /// All divided by a factor.
    Linear(f32),
    /// Long wavelengths divided by a factor, short ones kept, a ramp between (Llama 3.1).
    Llama3 {
        /// The divisor.
        factor: f32,
        /// Wavelengths above original / low are divided.
        low: f32,
        /// Wavelengths below original / high are kept.
        high: f32,
        /// The context before scaling, tokens.
        original: f32,
    },
}

impl RopeSpec {
    /// dims/2 angular frequencies, radians per position.
    pub fn frequencies(&self) -> Vec<f32> {
        let plain = (0..self.dims / 2).map(|i| (self.theta as f64).powf(-(2.0 * i as f64) / self.dims as f64) as f32);
        plain
            .map(|f| match self.scaling {
                RopeScaling::None => f,
                RopeScaling::Linear(factor) => f / factor,
                RopeScaling::Llama3 { factor, low, high, original } => {
                    let wavelength = 2.0 * std::f32::consts::PI / f;
                    if wavelength > original / low {
                        f / factor
                    } else if wavelength < original / high {
                        f
                    } else {
                        let smooth = (original / wavelength - low) / (high - low);
                        (1.0 - smooth) * f / factor + smooth * f
                    }
                }
            })
            .collect()
    }
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
        let per = spec.heads % spec.kv_heads;
        check(
            per == 0,
            "num_key_value_heads",
            "attention.head_count_kv",
            format!("is {}, which does not divide the {} heads", spec.kv_heads, spec.heads),
        )?;
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

    /// The architecture's name.
    pub fn architecture(&self) -> &'static str {
        self.arch.name
    }

    /// The shape of a pool of `pages` cache pages for this model.
    pub fn page_layout(&self, pages: usize, format: KvFormat) -> PageLayout {
        PageLayout { pages, layers: self.layers, kv_heads: self.kv_heads, head_dim: self.head_dim, format }
    }

    /// Outputs of the stacked q, k and v.
    pub fn qkv(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }
}
