//! Roles to weights: finds every tensor by name, checks its shape, brings it into a format that the backend takes, stacks
//! what is read together, and refuses what is left over. One tensor is in host memory at a time.

use crate::decoder::{Decoder, Layer, Room};
use crate::names::{self, Role};
use crate::spec::Spec;
use crate::{Checkpoint, Error, Quantization, Result, TensorInfo};
use nano_kernels::{After, Attend, Backend, Format, HostTensor, Linear, Norm, PAGE_ROWS, Precision, Rope};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// How a checkpoint is loaded.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// The format of weights; `None` keeps the checkpoint's own.
    pub quantization: Option<Quantization>,
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

/// The memory that a model will take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Bytes of packed weights.
    pub weights_bytes: u64,
    /// Bytes that one page of the cache takes.
    pub page_bytes: u64,
    /// Bytes of buffers.
    pub workspace_bytes: u64,
}

impl Plan {
    /// Bytes of cache for `rows` tokens.
    pub fn kv_bytes(&self, rows: usize) -> u64 {
        rows.div_ceil(PAGE_ROWS) as u64 * self.page_bytes
    }
}

/// Matrices of a layer that are stacked and read together.
const STACKS: [&[Role]; 4] = [&[Role::Q, Role::K, Role::V], &[Role::Out], &[Role::Gate, Role::Up], &[Role::Down]];

/// Rows and columns that a role's weight must have.
fn shape(spec: &Spec, role: Role) -> (usize, usize) {
    let (q, kv) = (spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim);
    match role {
        Role::Embed | Role::Head => (spec.vocab, spec.dim),
        Role::Norm | Role::AttendNorm | Role::MlpNorm => (1, spec.dim),
        Role::RopeFactors => (1, spec.rope.dims / 2),
        Role::Q => (q, spec.dim),
        Role::K | Role::V => (kv, spec.dim),
        Role::Out => (spec.dim, q),
        Role::Gate | Role::Up => (spec.hidden, spec.dim),
        Role::Down => (spec.dim, spec.hidden),
    }
}

/// The format in which backend `B` will hold a tensor.
fn target<B: Backend>(info: TensorInfo, quantization: Option<Quantization>, role: Role) -> Format {
    let vocabulary = matches!(role, Role::Embed | Role::Head);
    B::native(quantization.map_or(info.format, |q| q.format(info.cols, vocabulary)))
}

/// The memory that `checkpoint` will take on backend `B`. Reads no tensor data.
pub fn plan<B: Backend>(
    checkpoint: &dyn Checkpoint,
    spec: &Spec,
    options: &LoadOptions,
    pages: nano_kernels::PageLayout,
) -> Result<Plan> {
    let mut weights = 0;
    let mut add = |role: Role, layer: usize| -> Result<()> {
        let name = names::name(spec.arch.names, checkpoint.container(), role, layer, "weight").unwrap_or_default();
        let info = checkpoint.info(&name).ok_or_else(|| crate::arch::missing(checkpoint, &name))?;
        weights += B::weight_bytes(target::<B>(info, options.quantization, role), info.rows, info.cols) as u64;
        Ok(())
    };
    add(Role::Embed, 0)?;
    if !spec.tied {
        add(Role::Head, 0)?;
    }
    for layer in 0..spec.layers {
        STACKS.iter().flat_map(|stack| stack.iter()).try_for_each(|role| add(*role, layer))?;
    }
    let buffers = options.rows * Room::<B>::width(spec) + options.logits_rows * spec.vocab;
    Ok(Plan { weights_bytes: weights, page_bytes: B::page_bytes(&pages) as u64, workspace_bytes: 4 * buffers as u64 })
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
    formats: BTreeMap<&'static str, BTreeMap<&'static str, usize>>,
    /// Bytes of weights that a step reads.
    step_bytes: u64,
    progress: Progress,
    report: &'a mut dyn FnMut(Progress),
}

/// Loads a model. `report` is called after every tensor.
pub fn load<B: Backend>(
    checkpoint: &dyn Checkpoint,
    backend: &mut B,
    spec: &Spec,
    options: &LoadOptions,
    report: &mut dyn FnMut(Progress),
) -> Result<Decoder<B>> {
    let bytes = checkpoint.names().iter().filter_map(|n| checkpoint.info(n)).map(|i| i.bytes as u64).sum();
    let mut loader = Loader {
        checkpoint,
        backend: &*backend,
        spec,
        options,
        used: HashSet::new(),
        converted: BTreeMap::new(),
        again: BTreeSet::new(),
        broken: Vec::new(),
        formats: BTreeMap::new(),
        step_bytes: 0,
        progress: Progress { done_bytes: 0, total_bytes: bytes },
        report,
    };
    let embed = loader.weight(&[Role::Embed], 0)?;
    let head = if spec.tied {
        loader.ignore(Role::Head);
        None
    } else {
        loader.step_bytes = 0; // Of an embedding of its own, a step reads one row.
        Some(loader.linear(&[Role::Head], 0)?)
    };
    let mut vectors = Vec::new();
    let norm = loader.vector(Role::Norm, 0, "weight", true)?;
    let factors = loader.vector(Role::RopeFactors, 0, "weight", false)?;
    let mut layers = Vec::new();
    for layer in 0..spec.layers {
        let attend_norm = loader.vector(Role::AttendNorm, layer, "weight", true)?;
        let mlp_norm = loader.vector(Role::MlpNorm, layer, "weight", true)?;
        vectors.push((attend_norm, mlp_norm));
        let [qkv, out, up, down] = STACKS.map(|roles| loader.linear(roles, layer));
        layers.push((qkv?, out?, up?, down?));
    }
    let notices = loader.finish()?;
    let (step_bytes, formats) = (loader.step_bytes, std::mem::take(&mut loader.formats));

    let mut filled = |values: &[f32]| -> Result<B::Buf> {
        let mut buf = backend.buf(1, values.len(), Precision::Full)?;
        backend.write(&mut buf, values)?;
        Ok(buf)
    };
    let mut norm_of = |weight: &Option<Vec<f32>>| -> Result<Norm<B>> {
        let weight = filled(weight.as_deref().unwrap_or_default())?;
        Ok(Norm { kind: spec.norm, weight, bias: None, eps: spec.norm_eps })
    };
    let norm = norm_of(&norm)?;
    let norms = vectors.iter().map(|(a, m)| Ok((norm_of(a)?, norm_of(m)?))).collect::<Result<Vec<_>>>()?;
    let mut frequencies = spec.rope.frequencies();
    if let Some(factors) = factors {
        frequencies.iter_mut().zip(factors).for_each(|(f, factor)| *f /= factor);
    }
    let rope = Rope {
        pairing: spec.rope.pairing,
        dims: spec.rope.dims,
        frequencies: filled(&frequencies)?,
        factor: 1.0,
        heads: spec.heads,
        kv_heads: spec.kv_heads,
        head_dim: spec.head_dim,
        q_norm: None,
        k_norm: None,
    };
    let attend = Attend {
        heads: spec.heads,
        kv_heads: spec.kv_heads,
        head_dim: spec.head_dim,
        scale: spec.attend_scale,
        window: spec.window,
        softcap: None,
    };
    let mut biased = |(weight, bias): (B::Weight, Option<Vec<f32>>)| -> Result<Linear<B>> {
        Ok(Linear { weight, bias: bias.map(|b| filled(&b)).transpose()? })
    };
    let layers = layers.into_iter().zip(norms).map(|((qkv, out, up, down), (attend_norm, mlp_norm))| {
        Ok(Layer {
            attend_norm,
            qkv: biased(qkv)?,
            attend,
            out: biased(out)?,
            mlp_norm,
            up: biased(up)?,
            after: After::Glu(spec.act),
            down: biased(down)?,
        })
    });
    Ok(Decoder {
        layers: layers.collect::<Result<_>>()?,
        head: head.map(&mut biased).transpose()?,
        embed: Linear { weight: embed, bias: None },
        rope,
        norm,
        room: Room::new(backend, spec, options)?,
        spec: spec.clone(),
        notices,
        formats,
        step_bytes,
    })
}

impl<B: Backend> Loader<'_, B> {
    fn name(&self, role: Role, layer: usize, part: &str) -> Option<String> {
        names::name(self.spec.arch.names, self.checkpoint.container(), role, layer, part)
    }

    /// A tensor of a checked shape, marked as used.
    fn take(&mut self, name: &str, (rows, cols): (usize, usize)) -> Result<Option<HostTensor<'_>>> {
        let Some(tensor) = self.checkpoint.tensor(name)? else { return Ok(None) };
        if (tensor.rows, tensor.cols) != (rows, cols) {
            let why = format!("is {} x {}; the model's sizes make it {rows} x {cols}", tensor.rows, tensor.cols);
            return Err(Error::tensor(self.checkpoint.path(), name, why));
        }
        let broken = tensor.non_finite();
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

    /// A vector as float32.
    fn vector(&mut self, role: Role, layer: usize, part: &str, needed: bool) -> Result<Option<Vec<f32>>> {
        let shape = match part {
            "bias" => (1, shape(self.spec, role).0),
            _ => shape(self.spec, role),
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
    fn linear(&mut self, roles: &[Role], layer: usize) -> Result<(B::Weight, Option<Vec<f32>>)> {
        let weight = self.weight(roles, layer)?;
        let mut bias = Vec::new();
        let mut any = false;
        for role in roles {
            let part = self.vector(*role, layer, "bias", false)?;
            any |= part.is_some();
            bias.extend(part.unwrap_or_else(|| vec![0.0; shape(self.spec, *role).0]));
        }
        Ok((weight, any.then_some(bias)))
    }

    /// Stacked matrices in the backend's layout.
    fn weight(&mut self, roles: &[Role], layer: usize) -> Result<B::Weight> {
        let mut names = Vec::new();
        for role in roles {
            let name = self.name(*role, layer, "weight").unwrap_or_default();
            let found = self.take(&name, shape(self.spec, *role))?.is_some();
            if !found {
                return Err(crate::arch::missing(self.checkpoint, &name));
            }
            names.push(name);
        }
        let mut parts = Vec::new();
        for (role, name) in roles.iter().zip(&names) {
            let tensor = self.checkpoint.tensor(name)?.ok_or_else(|| crate::arch::missing(self.checkpoint, name))?;
            let info = TensorInfo { format: tensor.format, rows: tensor.rows, cols: tensor.cols, bytes: 0 };
            let to = target::<B>(info, self.options.quantization, *role);
            let quantized = |format: Format| format.block_len() > 1;
            if self.options.quantization.is_none() && to != tensor.format {
                *self.converted.entry((tensor.format.name(), to.name())).or_default() += 1;
            } else if to != tensor.format && quantized(to) && quantized(tensor.format) {
                self.again.insert(tensor.format.name());
            }
            *self.formats.entry(kind(*role)).or_default().entry(to.name()).or_default() += 1;
            self.step_bytes += B::weight_bytes(to, tensor.rows, tensor.cols) as u64;
            parts.push(if to == tensor.format { tensor } else { tensor.convert(to, self.options.threads)? });
        }
        let weight = self.backend.weight(&parts)?;
        drop(parts);
        names.iter().for_each(|name| self.done(name));
        Ok(weight)
    }

    /// Refuses tensors that nobody used, and puts into words what the user should know.
    fn finish(&self) -> Result<Vec<String>> {
        let arch = self.spec.arch;
        let ignored = |name: &str| arch.ignored.iter().any(|end| name.ends_with(end));
        let left: Vec<&str> =
            self.checkpoint.names().into_iter().filter(|n| !self.used.contains(*n) && !ignored(n)).collect();
        if let Some(first) = left.first() {
            let more =
                if left.len() > 1 { format!(" (and {} more such tensors)", left.len() - 1) } else { String::new() };
            let why = format!("is not used by architecture {}{more}: this is another kind of model", arch.name);
            return Err(Error::tensor(self.checkpoint.path(), first, why));
        }
        let mut notices: Vec<String> = self
            .converted
            .iter()
            .map(|((from, to), n)| format!("{n} tensors of format {from} were converted to {to}"))
            .collect();
        if let Some(asked) = self.options.quantization.filter(|_| !self.again.is_empty()) {
            let formats: Vec<&str> = self.again.iter().copied().collect();
            notices.push(format!(
                "the checkpoint is quantized already ({}): quantizing it again to {} loses quality; without --quantization it is kept as it is",
                formats.join(", "),
                asked.name()
            ));
        }
        if let Some((name, n)) = self.broken.first() {
            let more = if self.broken.len() > 1 {
                format!(" and {} other tensors", self.broken.len() - 1)
            } else {
                String::new()
            };
            notices
                .push(format!("tensor {name} has {n} values that are not finite numbers{more}: the file is damaged"));
        }
        Ok(notices)
    }
}

/// What a tensor is called in a summary.
fn kind(role: Role) -> &'static str {
    match role {
        Role::Embed => "embedding",
        Role::Head => "head",
        Role::Q | Role::K | Role::V | Role::Out => "attention",
        _ => "mlp",
    }
}
