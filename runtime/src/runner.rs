//! What the worker knows of the floors below: a [`Runner`] that runs steps. [`Loaded`] is the one place above the
//! kernels and models where a machine's type is named, and where it is erased. No sequence or sampling lives here.

use crate::memory::available;
use crate::{Error, Result};
use nano_kernels::cpu::Cpu;
use nano_kernels::cuda::{Cuda, Driver, Sizes, device};
use nano_kernels::{Backend, Candidate, KvFormat, NO_SLOT, PAGE_ROWS, PageLayout, Pick, Row, SequenceRows, Step};
use nano_models::{Checkpoint, Decoder, LoadOptions, PackedCache, Plan, Progress, Spec};
use std::path::PathBuf;

pub use nano_kernels::cuda::device::Report as GpuReport;

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

    /// Whether the machine chooses from logits better than whoever would read them: whether [`start`](Runner::start) is
    /// there.
    fn can_pick(&self) -> bool {
        false
    }

    /// Starts one step whose `pick` says what to choose, and may return before the machine is done. A token may be
    /// [`PREV`](nano_kernels::PREV)` + i`: what the step started before chose for its logits row `i`. Errors as of
    /// [`step`](Runner::step), which may come with what follows; a step that does not start leaves the picks as they were.
    fn start(&mut self, step: &Step) -> Result<()> {
        self.step(step).map(drop)
    }

    /// What the last step that was started (`ago` 0), or the one before it (`ago` 1), chose: `pick.count()` candidates for
    /// each of its logits rows, best first. Waits for that step only.
    fn picks(&mut self, ago: usize) -> Result<&[Candidate]> {
        let _ = ago;
        Ok(&[])
    }

    /// Copies rows of the cache from slot to slot: `to[i]` gets what `from[i]` held before.
    fn copy_rows(&mut self, from: &[u32], to: &[u32]) -> Result<()>;

    /// Rotates the keys in `slots` to positions that are `by` further on.
    fn shift(&mut self, slots: &[u32], by: i32) -> Result<()>;

    /// Bytes of a page in the form in which pages are saved.
    fn page_bytes(&self) -> usize;

    /// The first `rows` rows of a page in that form, zeros for the others; `into` is
    /// [`page_bytes`](Runner::page_bytes) long.
    fn read_page(&mut self, page: u32, rows: usize, into: &mut [u8]) -> Result<()>;

    /// Fills a page with what [`read_page`](Runner::read_page) gave.
    fn write_page(&mut self, page: u32, from: &[u8]) -> Result<()>;

    /// Bytes of weights that one step of one row reads, for rates in GB/s. 0 if unknown.
    fn bytes_per_step(&self) -> u64 {
        0
    }

    /// Kernels that the last step of one row launched. 0 where there is no such thing.
    fn launches_per_step(&self) -> u64 {
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
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Device::Auto => "auto",
            Device::Cpu => "cpu",
            Device::Cuda => "cuda",
        }
    }

    /// The device that is meant, if it is here and can be used, and what the user should know about the choice. What a GPU
    /// does not have is `lacking`: then `Auto` means the processor.
    pub(crate) fn find(self, lacking: Option<Error>) -> Result<(Machine, Option<String>)> {
        match (self, lacking) {
            (Device::Cpu, _) => Ok((Machine::Cpu, None)),
            (Device::Cuda, Some(error)) => Err(error),
            (Device::Cuda, None) => Ok((Machine::Cuda(Box::new(device::Device::open(GPU)?)), None)),
            (Device::Auto, _) if !device::has_driver() => Ok((Machine::Cpu, None)),
            (Device::Auto, Some(error)) => Ok((Machine::Cpu, Some(format!("the GPU is not used: {error}")))),
            (Device::Auto, None) => Ok(match device::Device::open(GPU) {
                Ok(gpu) => (Machine::Cuda(Box::new(gpu)), None),
                Err(error) => (Machine::Cpu, Some(format!("the GPU is not used: {error}"))),
            }),
        }
    }

    /// What the GPU is and how fast it copies, if this device is one: `Auto` is one if there is one.
    pub fn gpu_report(self) -> Result<Option<GpuReport>> {
        match self {
            Device::Cpu => Ok(None),
            Device::Auto if !device::has_driver() => Ok(None),
            Device::Auto => Ok(GpuReport::read(GPU).ok()),
            Device::Cuda => Ok(Some(GpuReport::read(GPU)?)),
        }
    }
}

/// The GPU that is used: the first that the driver shows, as `CUDA_VISIBLE_DEVICES` has it.
const GPU: usize = 0;
/// What a GPU takes beside weights, pages and buffers: staging memory, rests of slabs, room for partial results.
const GPU_EXTRA: u64 = 64 << 20;

/// A machine that was found, before it has anything loaded.
pub(crate) enum Machine {
    Cpu,
    Cuda(Box<device::Device>),
}

impl Machine {
    /// The device that it is.
    pub(crate) fn device(&self) -> Device {
        match self {
            Machine::Cpu => Device::Cpu,
            Machine::Cuda(_) => Device::Cuda,
        }
    }

    /// Its name, where it has one.
    pub(crate) fn name(&self) -> Option<String> {
        match self {
            Machine::Cpu => None,
            Machine::Cuda(gpu) => Some(gpu.about().name.clone()),
        }
    }

    /// Rows of a step: long prompts are fed in chunks of this size.
    pub(crate) fn rows(&self) -> usize {
        match self {
            Machine::Cpu => 256,
            Machine::Cuda(_) => 512,
        }
    }

    /// Bytes that a model may take unless told otherwise: what is free, less a part that is left to others.
    pub(crate) fn budget(&self) -> Result<Option<u64>> {
        Ok(match self {
            Machine::Cpu => available().map(|free| free / 10 * 9),
            // The cache is taken whole when a model is loaded, on a board from what the processor has as well.
            Machine::Cuda(gpu) if gpu.about().integrated => Some(gpu.free_bytes()? / 4 * 3),
            Machine::Cuda(gpu) => Some(gpu.free_bytes()? / 10 * 9),
        })
    }

    /// The memory that a model takes here with so many conversations. Reads no weights.
    pub(crate) fn plan(
        &self,
        checkpoint: &dyn Checkpoint,
        spec: &Spec,
        options: &LoadOptions,
        kv: KvFormat,
        sequences: usize,
    ) -> Result<Plan> {
        let layout = spec.page_layout(1, kv);
        match self {
            Machine::Cpu => {
                // Rows of logits cost memory when they are first written: one for each conversation.
                let logits_rows = options.logits_rows.min(sequences);
                Ok(nano_models::plan::<Cpu>(checkpoint, spec, &LoadOptions { logits_rows, ..*options }, layout)?)
            }
            Machine::Cuda(_) => {
                let mut plan = nano_models::plan::<Cuda<device::Device>>(checkpoint, spec, options, layout)?;
                plan.workspace_bytes += GPU_EXTRA;
                Ok(plan)
            }
        }
    }

    /// Loads a model's weights.
    pub(crate) fn load(
        self,
        wanted: &Wanted<'_>,
        report: &mut dyn FnMut(Progress),
    ) -> Result<(Box<dyn Runner>, Report)> {
        match self {
            Machine::Cpu => {
                let loaded = Loaded::load(Cpu::new(wanted.options.threads)?, wanted, report)?;
                Ok(loaded.boxed())
            }
            Machine::Cuda(gpu) => {
                let Limits { rows, logits_rows: logits, sequences, context, .. } = wanted.limits;
                let sizes = Sizes { rows, logits, pages: sequences * context.div_ceil(PAGE_ROWS) };
                let cuda = Cuda::new(*gpu, sizes)?;
                let mut loaded = Loaded::load(cuda, wanted, report)?;
                loaded.can_pick = true;
                loaded.launches = |cuda| cuda.driver().launches();
                // What is taken and recorded with the first step, or fails in it, is had now.
                loaded.start(&idle_step())?;
                loaded.picks(0)?;
                Ok(loaded.boxed())
            }
        }
    }
}

/// What is to be loaded, and how.
pub(crate) struct Wanted<'a> {
    pub(crate) checkpoint: &'a dyn Checkpoint,
    pub(crate) spec: &'a Spec,
    pub(crate) options: &'a LoadOptions,
    pub(crate) kv: KvFormat,
    pub(crate) limits: Limits,
    /// Where packed weights are kept.
    pub(crate) packed: Option<&'a PackedCache>,
}

/// A step that touches no sequence.
fn idle_step() -> Step {
    Step {
        rows: vec![Row { token: 0, position: 0, slot: NO_SLOT, sequence: 0, visible: 0 }],
        sequences: vec![SequenceRows::default()],
        logits: vec![0],
        pick: Pick::Argmax,
    }
}

/// A model's weights, its pages and the machine that has them.
struct Loaded<B: Backend> {
    decoder: Decoder<B>,
    backend: B,
    pages: B::Pages,
    layout: PageLayout,
    limits: Limits,
    can_pick: bool,
    /// Kernels that the machine has launched so far.
    launches: fn(&B) -> u64,
    /// Those of the last step of one row.
    step_launches: u64,
}

/// What came with the weights.
pub(crate) struct Report {
    pub(crate) notices: Vec<String>,
    /// Tensors by kind and format.
    pub(crate) formats: Formats,
    /// The file of packed weights that was written, and its bytes.
    pub(crate) kept: Option<(PathBuf, u64)>,
}

/// How many tensors of each kind are held in each format.
pub type Formats = std::collections::BTreeMap<&'static str, std::collections::BTreeMap<&'static str, usize>>;

impl<B: Backend> Loaded<B> {
    fn load(mut backend: B, wanted: &Wanted<'_>, report: &mut dyn FnMut(Progress)) -> Result<Self> {
        let Wanted { checkpoint, spec, options, kv, limits, packed } = *wanted;
        let layout = spec.page_layout(limits.pages, kv);
        let pages = backend.pages(layout)?;
        let decoder = Decoder::load_packed(checkpoint, &mut backend, spec, options, packed, report)?;
        Ok(Self { decoder, backend, pages, layout, limits, can_pick: false, launches: |_| 0, step_launches: 0 })
    }

    fn boxed(self) -> (Box<dyn Runner>, Report) {
        let Loaded { decoder, .. } = &self;
        let kept = decoder.kept().map(|(path, bytes)| (path.to_path_buf(), bytes));
        let report = Report { notices: decoder.notices().to_vec(), formats: decoder.formats().clone(), kept };
        (Box::new(self), report)
    }

    fn run(&mut self, step: &Step) -> Result<()> {
        let before = (self.launches)(&self.backend);
        let Self { decoder, backend, pages, .. } = self;
        backend.run(step, Some(0), &mut |b| decoder.forward(b, pages))?;
        if step.rows.len() == 1 {
            self.step_launches = (self.launches)(&self.backend) - before;
        }
        Ok(())
    }
}

impl<B: Backend> Runner for Loaded<B> {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn step(&mut self, step: &Step) -> Result<&[f32]> {
        self.run(step)?;
        Ok(self.backend.read(self.decoder.logits(), step.logits.len())?)
    }

    fn can_pick(&self) -> bool {
        self.can_pick
    }

    fn start(&mut self, step: &Step) -> Result<()> {
        self.run(step)
    }

    fn picks(&mut self, ago: usize) -> Result<&[Candidate]> {
        Ok(self.backend.picks(ago)?)
    }

    fn copy_rows(&mut self, from: &[u32], to: &[u32]) -> Result<()> {
        Ok(self.backend.copy_rows(&mut self.pages, from, to)?)
    }

    fn shift(&mut self, slots: &[u32], by: i32) -> Result<()> {
        Ok(self.decoder.shift(&mut self.backend, &mut self.pages, slots, by)?)
    }

    fn page_bytes(&self) -> usize {
        self.layout.portable_bytes()
    }

    fn read_page(&mut self, page: u32, rows: usize, into: &mut [u8]) -> Result<()> {
        self.backend.read_page(&self.pages, page, into)?;
        self.layout.clear_rows(into, rows);
        Ok(())
    }

    fn write_page(&mut self, page: u32, from: &[u8]) -> Result<()> {
        Ok(self.backend.write_page(&mut self.pages, page, from)?)
    }

    fn bytes_per_step(&self) -> u64 {
        self.decoder.step_bytes()
    }

    fn launches_per_step(&self) -> u64 {
        self.step_launches
    }
}
