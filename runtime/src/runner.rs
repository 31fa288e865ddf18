//! What the worker knows of the floors below: a [`Runner`] that runs steps. [`Loaded`] is the one place above the
//! kernels and models where a machine's type is named, and where it is erased. No sequence or sampling lives here.

use crate::{Error, Result};
use nano_kernels::cpu::Cpu;
use nano_kernels::{Backend, KvFormat, Step};
use nano_models::{Checkpoint, Decoder, LoadOptions, Plan, Progress, Spec};

/// The sizes within which steps must stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rows in one step.
    pub rows: usize,
    /// Rows in one step that may want logits.
    pub logits_rows: usize,
    /// Sequences in one step.
    pub sequences: usize,
    /// Tokens in the vocabulary: the length of one row of logits.
    pub vocab: usize,
    /// Pages in the pool.
    pub pages: usize,
    /// Tokens that one sequence may hold.
    pub context: usize,
}

/// A loaded model that runs steps.
///
/// The rows of a step name slots within `limits().pages`; the caller sees to it that no two sequences share a slot.
pub trait Runner: Send {
    /// The sizes that steps must respect. They do not change.
    fn limits(&self) -> Limits;

    /// Runs one step and returns `step.logits.len() x vocab` values. An error leaves what the step's slots hold
    /// undefined, and nothing else.
    fn step(&mut self, step: &Step) -> Result<&[f32]>;

    /// Bytes of weights that one step of one row reads, for rates in GB/s. 0 if unknown.
    fn bytes_per_step(&self) -> u64 {
        0
    }
}

/// Where a model runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// The best there is.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
}

impl Device {
    /// The device that is meant, if it is here.
    pub(crate) fn find(self) -> Result<Self> {
        match self {
            Device::Auto | Device::Cpu => Ok(Device::Cpu),
            Device::Cuda => Err(Error::Device("this build has no CUDA backend: take --device cpu".into())),
        }
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Device::Auto => "auto",
            Device::Cpu => "cpu",
            Device::Cuda => "cuda",
        }
    }
}

/// The memory that a model takes on a device. Reads no weights.
pub(crate) fn plan(
    device: Device,
    checkpoint: &dyn Checkpoint,
    spec: &Spec,
    options: &LoadOptions,
    kv: KvFormat,
) -> Result<Plan> {
    match device {
        Device::Auto | Device::Cpu | Device::Cuda => {
            Ok(nano_models::plan::<Cpu>(checkpoint, spec, options, spec.page_layout(1, kv))?)
        }
    }
}

/// A model's weights, its pages and the machine that has them.
struct Loaded<B: Backend> {
    decoder: Decoder<B>,
    backend: B,
    pages: B::Pages,
    limits: Limits,
}

/// What came with the weights.
pub(crate) struct Report {
    pub(crate) notices: Vec<String>,
    /// Tensors by kind and format.
    pub(crate) formats: Formats,
}

/// How many tensors of each kind are held in each format.
pub type Formats = std::collections::BTreeMap<&'static str, std::collections::BTreeMap<&'static str, usize>>;

/// Loads the weights on a device.
pub(crate) fn load(
    device: Device,
    checkpoint: &dyn Checkpoint,
    spec: &Spec,
    options: &LoadOptions,
    kv: KvFormat,
    limits: Limits,
    report: &mut dyn FnMut(Progress),
) -> Result<(Box<dyn Runner>, Report)> {
    match device {
        Device::Auto | Device::Cpu | Device::Cuda => {
            let backend = Cpu::new(options.threads)?;
            Loaded::load(backend, checkpoint, spec, options, kv, limits, report)
        }
    }
}

impl<B: Backend> Loaded<B> {
    fn load(
        mut backend: B,
        checkpoint: &dyn Checkpoint,
        spec: &Spec,
        options: &LoadOptions,
        kv: KvFormat,
        limits: Limits,
        report: &mut dyn FnMut(Progress),
    ) -> Result<(Box<dyn Runner>, Report)> {
        let pages = backend.pages(spec.page_layout(limits.pages, kv))?;
        let decoder = Decoder::load(checkpoint, &mut backend, spec, options, report)?;
        let report = Report { notices: decoder.notices().to_vec(), formats: decoder.formats().clone() };
        Ok((Box::new(Self { decoder, backend, pages, limits }), report))
    }
}

impl<B: Backend> Runner for Loaded<B> {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn step(&mut self, step: &Step) -> Result<&[f32]> {
        let Self { decoder, backend, pages, .. } = self;
        backend.run(step, &mut |b| decoder.forward(b, pages))?;
        Ok(backend.read(decoder.logits(), step.logits.len())?)
    }

    fn bytes_per_step(&self) -> u64 {
        self.decoder.step_bytes()
    }
}
