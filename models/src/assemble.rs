//! A decoder from its parts: what `load.rs` found, with the options that the table asks for.

use crate::decoder::{self, Decoder, Layer, Room};
use crate::spec::{HeadNorms, LayerRope, Spec};
use crate::{LoadOptions, Result, RopeSpec};
use nano_kernels::{After, Attend, Backend, Experts, Linear, Norm, Precision, Rope};
use std::collections::BTreeMap;

/// What was loaded: matrices in the machine's layout, vectors still on the host.
pub struct Parts<B: Backend> {
    pub embed: B::Weight,
    pub head: Option<Product<B>>,
    pub norm: Scale,
    /// Divisors of the rope frequencies.
    pub factors: Option<Vec<f32>>,
    pub blocks: Vec<Block<B>>,
}

/// A block's.
pub struct Block<B: Backend> {
    pub attend_norm: Option<Scale>,
    pub qkv: Product<B>,
    pub q_norm: Option<Scale>,
    pub k_norm: Option<Scale>,
    /// A score for each head.
    pub sinks: Option<Vec<f32>>,
    pub out: Product<B>,
    pub attend_post: Option<Scale>,
    pub mlp_norm: Option<Scale>,
    pub mlp: Mlp<B>,
    pub mlp_post: Option<Scale>,
}

/// A block's second half.
pub enum Mlp<B: Backend> {
    Dense {
        up: Product<B>,
        down: Product<B>,
    },
    Sparse {
        router: Product<B>,
        /// Of each expert.
        up: Vec<B::Weight>,
        down: Vec<B::Weight>,
        shared: Option<(B::Weight, B::Weight)>,
        /// Of gates and ups, and of downs: those of all experts, one after the other.
        biases: [Option<Vec<f32>>; 2],
    },
}

/// A matrix with its bias.
pub struct Product<B: Backend> {
    pub weight: B::Weight,
    pub bias: Option<Vec<f32>>,
}

/// A norm's parameters.
pub struct Scale {
    pub weight: Vec<f32>,
    pub bias: Option<Vec<f32>>,
}

impl<B: Backend> Parts<B> {
    /// All matrices, in the order in which they were loaded.
    pub fn weights(&self) -> Vec<&B::Weight> {
        let mut all = vec![&self.embed];
        all.extend(self.head.iter().map(|head| &head.weight));
        for block in &self.blocks {
            all.extend([&block.qkv.weight, &block.out.weight]);
            match &block.mlp {
                Mlp::Dense { up, down } => all.extend([&up.weight, &down.weight]),
                Mlp::Sparse { router, up, down, shared, .. } => {
                    all.push(&router.weight);
                    all.extend(up.iter().zip(down).flat_map(|(up, down)| [up, down]));
                    all.extend(shared.iter().flat_map(|(up, down)| [up, down]));
                }
            }
        }
        all
    }

    /// Puts them together.
    pub fn assemble(
        mut self,
        backend: &mut B,
        spec: &Spec,
        options: &LoadOptions,
        notices: Vec<String>,
        formats: BTreeMap<&'static str, BTreeMap<&'static str, usize>>,
        step_bytes: u64,
    ) -> Result<Decoder<B>> {
        // A factor on what the head reads is one on logits.
        self.norm.weight.iter_mut().chain(self.norm.bias.iter_mut().flatten()).for_each(|w| *w *= spec.logit_scale);
        let mut assembler = Assembler { backend, spec, factors: self.factors };
        let blocks = self.blocks.into_iter().enumerate();
        let layers = blocks.map(|(layer, block)| assembler.layer(layer, block)).collect::<Result<_>>()?;
        let norm = assembler.norm(self.norm)?;
        let head = self.head.map(|head| assembler.linear(head)).transpose()?;
        Ok(Decoder {
            embed: Linear { weight: self.embed, bias: None },
            layers,
            norm,
            head,
            room: Room::new(backend, spec, options)?,
            spec: spec.clone(),
            notices,
            formats,
            step_bytes,
            kept: None,
        })
    }
}

/// One block alone.
pub fn layer<B: Backend>(
    backend: &mut B,
    spec: &Spec,
    factors: Option<Vec<f32>>,
    layer: usize,
    block: Block<B>,
) -> Result<Layer<B>> {
    Assembler { backend, spec, factors }.layer(layer, block)
}

/// One norm alone.
pub fn norm<B: Backend>(backend: &mut B, spec: &Spec, scale: Scale) -> Result<Norm<B>> {
    Assembler { backend, spec, factors: None }.norm(scale)
}

struct Assembler<'a, B> {
    backend: &'a mut B,
    spec: &'a Spec,
    factors: Option<Vec<f32>>,
}

impl<B: Backend> Assembler<'_, B> {
    fn layer(&mut self, layer: usize, block: Block<B>) -> Result<Layer<B>> {
        let spec = self.spec;
        Ok(Layer {
            attend_norm: self.opt_norm(block.attend_norm)?,
            qkv: self.linear(block.qkv)?,
            rope: self.rope(layer, block.q_norm, block.k_norm)?,
            attend: Attend {
                heads: spec.heads,
                kv_heads: spec.kv_heads,
                head_dim: spec.head_dim,
                scale: spec.attend_scale,
                window: spec.each[layer].window,
                softcap: spec.attend_cap,
            },
            sinks: self.opt_filled(block.sinks)?,
            out: self.linear(block.out)?,
            attend_post: self.opt_norm(block.attend_post)?,
            mlp_norm: self.opt_norm(block.mlp_norm)?,
            mlp: self.mlp(block.mlp)?,
            mlp_post: self.opt_norm(block.mlp_post)?,
        })
    }

    fn mlp(&mut self, mlp: Mlp<B>) -> Result<decoder::Mlp<B>> {
        let act = self.spec.act;
        Ok(match mlp {
            Mlp::Dense { up, down } => decoder::Mlp::Dense {
                up: self.linear(up)?,
                after: if self.spec.gated { After::Glu(act) } else { After::Act(act) },
                down: self.linear(down)?,
            },
            Mlp::Sparse { router, up, down, shared, biases: [up_bias, down_bias] } => {
                let e = self.spec.experts.unwrap_or_default();
                let (chosen, normalize) = (e.chosen, e.normalize);
                let (up_bias, down_bias) = (self.opt_filled(up_bias)?, self.opt_filled(down_bias)?);
                let experts = Experts { up, down, shared, act, up_bias, down_bias, chosen, normalize };
                decoder::Mlp::Sparse { router: self.linear(router)?, experts: self.backend.mixture(experts)? }
            }
        })
    }

    fn rope(&mut self, layer: usize, q_norm: Option<Scale>, k_norm: Option<Scale>) -> Result<Rope<B>> {
        let spec = self.spec;
        let rope = spec.rope_of(layer);
        let mut frequencies = rope.map(RopeSpec::frequencies).unwrap_or_default();
        if let (Some(factors), LayerRope::Global) = (&self.factors, spec.each[layer].rope) {
            frequencies.iter_mut().zip(factors).for_each(|(f, factor)| *f /= factor);
        }
        Ok(Rope {
            pairing: spec.rope.pairing,
            dims: rope.map_or(0, |rope| rope.dims),
            frequencies: self.filled(&frequencies)?,
            factor: rope.map_or(1.0, RopeSpec::attention),
            heads: spec.heads,
            kv_heads: spec.kv_heads,
            head_dim: spec.head_dim,
            q_norm: self.opt_norm(q_norm)?,
            k_norm: self.opt_norm(k_norm)?,
            whole_norms: spec.head_norms == HeadNorms::Whole,
        })
    }

    fn opt_norm(&mut self, scale: Option<Scale>) -> Result<Option<Norm<B>>> {
        scale.map(|scale| self.norm(scale)).transpose()
    }

    fn norm(&mut self, scale: Scale) -> Result<Norm<B>> {
        let bias = self.opt_filled(scale.bias)?;
        Ok(Norm { kind: self.spec.norm, weight: self.filled(&scale.weight)?, bias, eps: self.spec.norm_eps })
    }

    fn linear(&mut self, product: Product<B>) -> Result<Linear<B>> {
        let bias = self.opt_filled(product.bias)?;
        Ok(Linear { weight: product.weight, bias })
    }

    fn opt_filled(&mut self, values: Option<Vec<f32>>) -> Result<Option<B::Buf>> {
        values.map(|values| self.filled(&values)).transpose()
    }

    /// A row of values on the machine.
    fn filled(&mut self, values: &[f32]) -> Result<B::Buf> {
        let mut buf = self.backend.buf(1, values.len(), Precision::Full)?;
        self.backend.write(&mut buf, values)?;
        Ok(buf)
    }
}
