//! Roles to weights: finds every tensor by name, checks its shape, brings it into a format that the backend takes, stacks
//! what is read together, and refuses what is left over. One tensor is in host memory at a time. How the parts become a
//! decoder is in `assemble.rs`.

mod alone;
pub mod experts;
mod kept;
mod notices;
mod plan;

pub use alone::{block, last_norm};
pub use plan::{Plan, plan};

use crate::assemble::{Block, Mlp, Parts, Product, Scale};
use crate::decoder::Decoder;
use crate::names::{self, Role};
use crate::shapes::{DOWN, GATED, HEAD, OUT, PLAIN, QKV, Stack, name, pieces, roles, shape};
use crate::spec::{HeadNorms, Spec};
use crate::store::{PackedCache, Shelf};
use crate::{Checkpoint, Error, Head, Quantization, Result, TensorInfo};
use nano_kernels::{Backend, Format, HostTensor, NormKind};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// How a checkpoint is loaded.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// The format of weights; `None` keeps the checkpoint's own.
    pub quantization: Option<Quantization>,
    /// The format of embedding and head, where it is not to be the usual one.
    pub head: Option<Head>,
    /// Rows in one step, at most.
    pub rows: usize,
    /// Rows in one step that want logits, at most.
    pub logits_rows: usize,
    /// Threads for conversions.
    pub threads: usize,
}

/// How far loading is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Bytes of the checkpoint's tensors that are done.
    pub done_bytes: u64,
    /// Bytes of all its tensors.
    pub total_bytes: u64,
}

/// The format in which backend `B` will hold a tensor.
fn target<B: Backend>(info: TensorInfo, options: &LoadOptions, role: Role) -> Format {
    let (quantization, head) = (options.quantization, options.head);
    let vocabulary = matches!(role, Role::Embed | Role::Head);
    // A rounded logit may choose another expert.
    let quantization = quantization.filter(|_| !matches!(role, Role::Router | Role::SharedRouter));
    B::native(match (vocabulary, head, quantization) {
        (true, head, Some(quantization)) => quantization.vocabulary(head, info.cols),
        (true, Some(head), None) => head.format(info.cols),
        (_, _, quantization) => quantization.map_or(info.format, |q| q.format(info.cols)),
    })
}

struct Loader<'a, B: Backend> {
    checkpoint: &'a dyn Checkpoint,
    backend: &'a B,
    spec: &'a Spec,
    options: &'a LoadOptions,
    used: HashSet<String>,
    /// Conversions that nobody asked for: (from, to) and how many tensors.
    converted: BTreeMap<(&'static str, &'static str), usize>,
    /// Formats of quantized tensors that were quantized again because it was asked for.
    again: BTreeSet<&'static str>,
    /// Tensors with values that are no numbers.
    broken: Vec<(String, usize)>,
    /// Tensors that became floats because those beside them have their columns in another order.
    reordered: Vec<String>,
    formats: BTreeMap<&'static str, BTreeMap<&'static str, usize>>,
    /// Bytes of weights that a step reads.
    step_bytes: u64,
    progress: Progress,
    report: &'a mut dyn FnMut(Progress),
    /// Weights that an earlier start packed.
    shelf: Shelf<'a>,
}

/// Loads a model. `report` is called after every tensor. Packed weights are taken from `cache` and kept there, where that is
/// worth it.
pub fn load<B: Backend>(
    checkpoint: &dyn Checkpoint,
    backend: &mut B,
    spec: &Spec,
    options: &LoadOptions,
    cache: Option<&PackedCache>,
    report: &mut dyn FnMut(Progress),
) -> Result<Decoder<B>> {
    let shelf = Shelf::open::<B>(cache, checkpoint, spec, options)?;
    let mut loader = Loader::new(checkpoint, &*backend, spec, options, shelf, report);
    let embed = loader.weight(&[Role::Embed], 0)?;
    let head = if spec.tied {
        loader.ignore(Role::Head);
        None
    } else {
        loader.step_bytes = 0; // Of an embedding of its own, a step reads one row.
        Some(loader.linear(&[Role::Head], 0)?)
    };
    let norm = loader.needed_norm(Role::Norm, 0)?;
    let factors = loader.vector(Role::RopeFactors, 0, "weight", false)?;
    let blocks = (0..spec.layers).map(|layer| loader.block(layer)).collect::<Result<_>>()?;
    let mut notices = loader.finish()?;
    notices.extend(spec.rope.notice());
    let (step_bytes, formats, shelf) = (loader.step_bytes, loader.formats, loader.shelf);
    let parts = Parts { embed, head, norm, factors, blocks };
    let (told, kept) = shelf.finish(&parts.weights(), &*backend);
    notices.extend(told);
    let decoder = parts.assemble(backend, spec, options, notices, formats, step_bytes)?;
    Ok(Decoder { kept, ..decoder })
}

impl<'a, B: Backend> Loader<'a, B> {
    fn new(
        checkpoint: &'a dyn Checkpoint,
        backend: &'a B,
        spec: &'a Spec,
        options: &'a LoadOptions,
        shelf: Shelf<'a>,
        report: &'a mut dyn FnMut(Progress),
    ) -> Self {
        let bytes = checkpoint.names().iter().filter_map(|n| checkpoint.info(n)).map(|i| i.bytes as u64).sum();
        Loader {
            checkpoint,
            backend,
            spec,
            options,
            used: HashSet::new(),
            converted: BTreeMap::new(),
            again: BTreeSet::new(),
            broken: Vec::new(),
            reordered: Vec::new(),
            formats: BTreeMap::new(),
            step_bytes: 0,
            progress: Progress { done_bytes: 0, total_bytes: bytes },
            report,
            shelf,
        }
    }

    fn name(&self, role: Role, layer: usize, part: &str) -> Option<String> {
        name(self.checkpoint, self.spec, role, layer, part)
    }

    /// A tensor of a checked shape, marked as used.
    fn take(&mut self, name: &str, (rows, cols): (usize, usize)) -> Result<Option<HostTensor<'a>>> {
        let checkpoint: &'a dyn Checkpoint = self.checkpoint;
        let Some(tensor) = checkpoint.tensor(name)? else { return Ok(None) };
        if (tensor.rows, tensor.cols) != (rows, cols) {
            let why = format!("is {} x {}; the model's sizes make it {rows} x {cols}", tensor.rows, tensor.cols);
            return Err(Error::tensor(self.checkpoint.path(), name, why));
        }
        let broken = tensor.non_finite(self.options.threads);
        if broken > 0 {
            self.broken.push((name.to_string(), broken));
        }
        self.used.insert(name.to_string());
        Ok(Some(tensor))
    }

    /// Lets the system have a tensor's memory back, and tells how far loading is.
    fn done(&mut self, name: &str) {
        match self.backend.shares_memory() {
            true => self.checkpoint.evict(name),
            false => self.checkpoint.release(name),
        }
        self.progress.done_bytes += self.checkpoint.info(name).map_or(0, |info| info.bytes as u64);
        (self.report)(self.progress);
    }

    /// A role that this model does not need although a checkpoint may have it.
    fn ignore(&mut self, role: Role) {
        self.used.extend(self.name(role, 0, "weight"));
    }

    /// The parts of a block.
    fn block(&mut self, layer: usize) -> Result<Block<B>> {
        let attend_norm = self.norm(Role::AttendNorm, layer)?;
        let [q_norm, k_norm] = [self.head_norm(Role::QNorm, layer)?, self.head_norm(Role::KNorm, layer)?];
        let sinks = self.vector(Role::Sinks, layer, "weight", true)?;
        let attend_post = self.norm(Role::AttendPost, layer)?;
        let mlp_norm = if self.spec.parallel { None } else { self.norm(Role::MlpNorm, layer)? };
        let mlp_post = self.norm(Role::MlpPost, layer)?;
        let (qkv, out) = (self.stack(QKV, layer)?, self.stack(OUT, layer)?);
        let mlp = match self.spec.each[layer].sparse {
            true => self.experts(layer)?,
            false => Mlp::Dense {
                up: self.stack(if self.spec.gated { GATED } else { PLAIN }, layer)?,
                down: self.stack(DOWN, layer)?,
            },
        };
        Ok(Block { attend_norm, qkv, q_norm, k_norm, sinks, out, attend_post, mlp_norm, mlp, mlp_post })
    }

    fn stack(&mut self, stack: Stack, layer: usize) -> Result<Product<B>> {
        self.linear(&roles(self.checkpoint, self.spec, stack, layer), layer)
    }

    /// A norm's parameters; `None` if the table names no such norm.
    fn norm(&mut self, role: Role, layer: usize) -> Result<Option<Scale>> {
        if !names::has(self.spec.arch.names, role) {
            return Ok(None);
        }
        self.needed_norm(role, layer).map(Some)
    }

    /// A norm of q or k; some files have one tensor for each head.
    fn head_norm(&mut self, role: Role, layer: usize) -> Result<Option<Scale>> {
        let name = self.name(role, layer, "weight").unwrap_or_default();
        match self.spec.head_norms {
            HeadNorms::None => return Ok(None),
            HeadNorms::Own if name.contains(HEAD) => {}
            _ => return self.needed_norm(role, layer).map(Some),
        }
        let (heads, head_dim) = shape(self.spec, role);
        let mut weight = Vec::new();
        for head in 0..heads {
            let name = name.replace(HEAD, &head.to_string());
            let values = self.take(&name, (1, head_dim))?.map(|tensor| tensor.to_f32());
            weight.extend(values.ok_or_else(|| crate::arch::missing(self.checkpoint, &name))?);
            self.done(&name);
        }
        Ok(Some(Scale { weight, bias: None }))
    }

    fn needed_norm(&mut self, role: Role, layer: usize) -> Result<Scale> {
        let mut weight = self.vector(role, layer, "weight", true)?.unwrap_or_default();
        weight.iter_mut().for_each(|w| *w += self.spec.norm_plus);
        let bias = match self.spec.norm {
            NormKind::Rms => None,
            NormKind::Layer => {
                let needed = !matches!(role, Role::QNorm | Role::KNorm);
                self.vector(role, layer, "bias", needed)?
            }
        };
        Ok(Scale { weight, bias })
    }

    /// A vector as float32.
    fn vector(&mut self, role: Role, layer: usize, part: &str, needed: bool) -> Result<Option<Vec<f32>>> {
        let shape = match shape(self.spec, role) {
            (rows, _) if rows > 1 && part == "bias" => (1, rows),
            shape => shape,
        };
        let Some(name) = self.name(role, layer, part) else { return Ok(None) };
        let values = self.take(&name, shape)?.map(|tensor| tensor.to_f32());
        match values {
            Some(values) => {
                self.done(&name);
                Ok(Some(values))
            }
            None if needed => Err(crate::arch::missing(self.checkpoint, &name)),
            None => Ok(None),
        }
    }

    /// Stacked matrices with their stacked biases; where only some have a bias, the others' are zeros.
    fn linear(&mut self, roles: &[Role], layer: usize) -> Result<Product<B>> {
        let weight = self.weight(roles, layer)?;
        let mut bias = Vec::new();
        let mut any = false;
        for role in roles {
            let part = self.vector(*role, layer, "bias", false)?;
            any |= part.is_some();
            bias.extend(part.unwrap_or_else(|| vec![0.0; shape(self.spec, *role).0]));
        }
        Ok(Product { weight, bias: any.then_some(bias) })
    }

    /// Stacked matrices in the backend's layout.
    fn weight(&mut self, roles: &[Role], layer: usize) -> Result<B::Weight> {
        let name = |role: &Role| self.name(*role, layer, "weight").unwrap_or_default();
        let names: Vec<String> = roles.iter().map(name).collect();
        let key = names.join(" ");
        if let Some(weight) = self.kept(&key) {
            for (role, name) in roles.iter().zip(&names) {
                self.pass(*role, name)?;
                self.done(name);
            }
            return Ok(weight);
        }
        let before = self.found();
        let mut parts = Vec::new();
        for (role, name) in roles.iter().zip(&names) {
            let tensor = self.take(name, shape(self.spec, *role))?;
            let tensor = tensor.ok_or_else(|| crate::arch::missing(self.checkpoint, name))?;
            let info = TensorInfo { format: tensor.format, rows: tensor.rows, cols: tensor.cols, bytes: 0 };
            let to = self.note(info, *role);
            parts.extend(split(self.converted(tensor, to, name)?, pieces(*role)));
        }
        let parts = self.in_one_order(parts)?;
        self.step_bytes += parts.iter().map(|p| B::weight_bytes(p.format, p.rows, p.cols) as u64).sum::<u64>();
        let weight = self.backend.weight(&parts)?;
        drop(parts);
        names.iter().for_each(|name| self.done(name));
        self.made(key, before);
        Ok(weight)
    }

    /// A tensor in the format in which it will be held. Once it is another, the file's bytes are needed no more.
    fn converted(&self, tensor: HostTensor<'a>, to: Format, name: &str) -> Result<HostTensor<'a>> {
        if to == tensor.format {
            return Ok(tensor);
        }
        let tensor = tensor.convert(to, self.options.threads)?;
        self.checkpoint.release(name);
        Ok(tensor)
    }

    /// Parts of a stack whose columns lie in different orders come into that of the inputs, as floats: what is stacked
    /// reads the same inputs.
    fn in_one_order(&mut self, mut parts: Vec<HostTensor<'a>>) -> Result<Vec<HostTensor<'a>>> {
        if parts.iter().any(|part| part.order != parts[0].order) {
            for part in parts.iter_mut().filter(|part| part.order.is_some()) {
                *part = part.convert(B::native(Format::F32), self.options.threads)?;
                self.reordered.push(part.name.clone());
            }
        }
        Ok(parts)
    }

    /// The format in which a tensor will be held, noted for those who ask.
    fn note(&mut self, info: TensorInfo, role: Role) -> Format {
        let to = target::<B>(info, self.options, role);
        let quantized = |format: Format| format.block_len() > 1;
        let asked = self.options.quantization.is_some()
            || self.options.head.is_some() && matches!(role, Role::Embed | Role::Head);
        if !asked && to != info.format {
            *self.converted.entry((info.format.name(), to.name())).or_default() += 1;
        } else if to != info.format && quantized(to) && quantized(info.format) {
            self.again.insert(info.format.name());
        }
        *self.formats.entry(kind(role)).or_default().entry(to.name()).or_default() += 1;
        to
    }
}

/// A matrix cut into `pieces` of as many rows.
fn split(tensor: HostTensor<'_>, pieces: usize) -> Vec<HostTensor<'_>> {
    if pieces == 1 {
        return vec![tensor];
    }
    (0..pieces).map(|i| piece(&tensor, i, pieces)).collect()
}

/// One of `pieces` of a matrix.
fn piece<'a>(tensor: &HostTensor<'a>, i: usize, pieces: usize) -> HostTensor<'a> {
    let (rows, bytes) = (tensor.rows / pieces, tensor.bytes.len() / pieces);
    let bytes = match &tensor.bytes {
        Cow::Borrowed(all) => Cow::Borrowed(&all[i * bytes..(i + 1) * bytes]),
        Cow::Owned(all) => Cow::Owned(all[i * bytes..(i + 1) * bytes].to_vec()),
    };
    HostTensor {
        name: format!("{} ({}/{pieces})", tensor.name, i + 1),
        rows,
        bytes,
        order: tensor.order.clone(),
        ..*tensor
    }
}

/// What a tensor is called in a summary.
fn kind(role: Role) -> &'static str {
    match role {
        Role::Embed => "embedding",
        Role::Head => "head",
        Role::Qkv | Role::Q | Role::K | Role::V | Role::Out => "attention",
        _ => "mlp",
    }
}
