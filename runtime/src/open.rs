//! From a path to a running model: what may be asked for, what is told while it loads, and in which order it is done.

use crate::memory::fit;
use crate::runner::{Device, Limits, Machine, Wanted};
use crate::{Error, Identity, Memory, ModelInfo, NanoModel, Result};
use nano_kernels::KvFormat;
use nano_models::{Checkpoint, Control, Head, LoadOptions, Lora, PackedCache, Quantization, Spec, Tokenizer};
use nano_templates::{Choice, Clues, Template};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Sequences in one step.
const SEQUENCES: usize = 16;
/// Values in one step's logits, unless that would be less than a row for every sequence.
const LOGITS: usize = 1 << 22;
/// Conversations of full length that the cache has room for, unless told otherwise.
const CONVERSATIONS: usize = 4;

/// How to load a model.
#[derive(Clone, Debug, Default)]
pub struct ModelOptions {
    /// Quantizes weights while loading; `None` keeps the checkpoint's formats.
    pub quantization: Option<Quantization>,
    /// LoRA adapters that are merged into the weights while loading, in this order.
    pub adapters: Vec<Lora>,
    /// The format of embedding and head, where it is not to be the usual one.
    pub head: Option<Head>,
    /// Where the model runs.
    pub device: Device,
    /// Threads that compute; `None` takes as many as there are cores.
    pub threads: Option<usize>,
    /// Tokens that a conversation may hold; `None` takes the model's own maximum. Reduced to what fits into memory.
    pub max_context_len: Option<usize>,
    /// Bytes that weights and cache may take; `None` takes most of what is free.
    pub memory: Option<u64>,
    /// How keys and values are stored; `None` takes f16, or f32 under [`Quantization::F32`].
    pub kv_cache: Option<KvFormat>,
    /// Conversations of full length that the cache has room for, if memory allows; `None` takes 4.
    pub max_sequences: Option<usize>,
    /// Where packed weights are kept, so that a later start need not quantize or convert them again.
    pub packed: Option<PackedCache>,
    /// In place of the model's own chat template.
    pub template: Option<Template>,
    /// Take a checkpoint whose tokenizer is missing or broken too: its tokens are then numbers. For those who bring ids.
    pub ids_only: bool,
}

/// What is told while a model loads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadEvent {
    /// What is about to be loaded, before any weight is read. Comes first.
    Plan {
        /// Where it will run: `cpu` or `cuda`.
        device: &'static str,
        /// What it will take.
        memory: Memory,
        /// Tokens that one conversation may hold.
        context: usize,
        /// Bytes that it may take: what was granted, or most of what is free; `None` if the system does not say.
        budget: Option<u64>,
    },
    /// So many bytes of the checkpoint are loaded.
    Progress {
        /// Bytes done.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// Packed weights were kept for the next start.
    Kept {
        /// Their file.
        path: PathBuf,
        /// Its bytes.
        bytes: u64,
    },
    /// Something the user should know; a sentence.
    Notice(String),
    /// The same about the chat template, which only a conversation needs.
    Template(String),
}

impl NanoModel {
    /// Loads a model from a GGUF file or a Hugging Face folder.
    pub fn open(path: &Path, options: ModelOptions, mut progress: impl FnMut(LoadEvent)) -> Result<Self> {
        let started = Instant::now();
        let (opened, machine) = Opened::new(path, &options)?;
        let limits = opened.limits;
        let wanted = Wanted {
            checkpoint: &*opened.checkpoint,
            spec: &opened.spec,
            options: &opened.load,
            kv: opened.kv,
            limits,
            packed: options.packed.as_ref(),
        };
        progress(LoadEvent::Plan {
            device: opened.device.as_str(),
            memory: opened.memory,
            context: limits.context,
            budget: opened.budget,
        });
        opened.notices.iter().for_each(|notice| progress(LoadEvent::Notice(notice.clone())));
        // Reading a vocabulary takes about as long as reading a small model's weights.
        let (tokenizer, loaded) = std::thread::scope(|scope| {
            let tokenizer = scope.spawn(|| opened.tokenizer(&options));
            let mut report = |p: nano_models::Progress| {
                progress(LoadEvent::Progress { done: p.done_bytes, total: p.total_bytes });
            };
            let loaded = machine.load(&wanted, &mut report);
            (tokenizer.join(), loaded)
        });
        let (tokenizer, numbered) = tokenizer.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let (runner, report) = loaded?;
        let (template, chosen) = opened.template(&options, &tokenizer, path)?;
        if let Some((path, bytes)) = report.kept {
            progress(LoadEvent::Kept { path, bytes });
        }
        for notice in report.notices.iter().chain(&numbered) {
            progress(LoadEvent::Notice(notice.clone()));
        }
        chosen.into_iter().for_each(|notice| progress(LoadEvent::Template(notice)));
        let mut info = opened.info(path, &tokenizer, template.as_ref());
        info.formats = report.formats;
        info.load_time = started.elapsed().as_secs_f64();
        Self::assemble(runner, tokenizer, template, info)
    }
}

impl ModelInfo {
    /// What [`NanoModel::open`] would load, without loading weights.
    pub fn read(path: &Path, options: &ModelOptions) -> Result<Self> {
        let (opened, _) = Opened::new(path, options)?;
        let (tokenizer, _) = opened.tokenizer(options)?;
        let (template, _) = opened.template(options, &tokenizer, path)?;
        Ok(opened.info(path, &tokenizer, template.as_ref()))
    }
}

/// A checkpoint whose weights are not read yet, and what was decided about it.
struct Opened {
    checkpoint: Box<dyn Checkpoint>,
    /// The checkpoint's fingerprint.
    weights: String,
    spec: Spec,
    device: Device,
    gpu: Option<String>,
    load: LoadOptions,
    kv: KvFormat,
    limits: Limits,
    memory: Memory,
    budget: Option<u64>,
    notices: Vec<String>,
}

impl Opened {
    /// The checkpoint's tokenizer, or numbers where that will do, and why.
    fn tokenizer(&self, options: &ModelOptions) -> Result<(Tokenizer, Option<String>)> {
        match self.checkpoint.tokenizer() {
            Ok(tokenizer) => Ok((tokenizer, None)),
            Err(error) if options.ids_only => {
                Ok((Tokenizer::numbered(self.spec.vocab)?, Some(format!("tokens are numbers here: {error}"))))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn new(path: &Path, options: &ModelOptions) -> Result<(Self, Machine)> {
        check(options)?;
        let (machine, notice) = options.device.find(float32(options))?;
        let checkpoint = nano_models::merge(nano_models::open(path)?, &options.adapters)?;
        let spec = Spec::read(&*checkpoint)?;
        // Before loading, which gives back what this brings into memory.
        let weights = nano_models::fingerprint(&*checkpoint)?;
        let threads = options.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into));
        let logits_rows = (LOGITS / spec.vocab.max(1)).clamp(SEQUENCES, 4 * SEQUENCES);
        let rows = machine.rows();
        let load = LoadOptions { quantization: options.quantization, head: options.head, rows, logits_rows, threads };
        let exact = options.quantization == Some(Quantization::F32);
        let kv = options.kv_cache.unwrap_or(if exact { KvFormat::F32 } else { KvFormat::F16 });
        let sequences = options.max_sequences.unwrap_or(CONVERSATIONS);
        let plan = machine.plan(&*checkpoint, &spec, &load, kv, sequences)?;

        let granted = match options.memory {
            Some(bytes) => Some(bytes),
            None => machine.budget()?,
        };
        let budget = granted.unwrap_or(u64::MAX);
        let wanted = options.max_context_len.unwrap_or(spec.context);
        let fit = fit(&plan, wanted, sequences, budget).map_err(|needed| Error::Memory {
            model: name(path),
            needed,
            weights: plan.weights_bytes,
            budget,
            device: machine.device().as_str(),
        })?;
        let mut notices = Vec::from_iter(notice);
        if fit.context < wanted {
            let (context, weights) = (fit.context, plan.weights_bytes);
            notices.push(format!(
                "the context is {context} tokens instead of {wanted}: that is what fits into {budget} bytes of memory \
                 beside {weights} bytes of weights"
            ));
        }
        if fit.context > spec.context {
            notices.push(format!(
                "the context is {} tokens and the model was made for {}: expect nonsense beyond that",
                fit.context, spec.context
            ));
        }
        let spec = spec.for_context(fit.context);
        // Sessions saved under other frequencies hold keys that do not fit.
        let weights = spec.rope.choice().map_or(weights.clone(), |choice| format!("{weights}-{choice}"));
        let limits = Limits {
            rows,
            logits_rows,
            sequences: SEQUENCES,
            vocab: spec.vocab,
            pages: fit.pages,
            context: fit.context,
        };
        let memory = Memory::new(&plan, fit.context);
        let (device, gpu) = (machine.device(), machine.name());
        Ok((
            Self { checkpoint, weights, spec, device, gpu, load, kv, limits, memory, budget: granted, notices },
            machine,
        ))
    }

    /// The template that was asked for, or the one that suits the model, and what to tell. That there is none is no
    /// reason not to load: only a conversation needs one.
    fn template(
        &self,
        options: &ModelOptions,
        tokenizer: &Tokenizer,
        path: &Path,
    ) -> Result<(Option<Template>, Vec<String>)> {
        if let Some(template) = &options.template {
            return Ok((Some(template.clone()), Vec::new()));
        }
        let Choice { template, notices } = choose_template(&*self.checkpoint, tokenizer, path)?;
        Ok((template, notices))
    }

    fn info(&self, path: &Path, tokenizer: &Tokenizer, template: Option<&Template>) -> ModelInfo {
        let info = ModelInfo {
            name: name(path),
            spec: Some(self.spec.clone()),
            device: self.device.as_str(),
            gpu: self.gpu.clone(),
            threads: self.load.threads,
            context: self.limits.context,
            kv_format: Some(self.kv),
            memory: self.memory,
            template: template.map(|t| t.name().to_owned()),
            stop_tokens: tokenizer.stop().to_vec(),
            ..ModelInfo::default()
        };
        let weights = self.weights.clone();
        let identity = Identity::new(&info, weights, Identity::quantization(&self.load), self.kv, template);
        ModelInfo { identity: Some(identity), ..info }
    }
}

/// The chat template that suits a model which was opened at `path`: its own, or the built-in one that its vocabulary or
/// its names speak for.
pub fn choose_template(checkpoint: &dyn Checkpoint, tokenizer: &Tokenizer, path: &Path) -> Result<Choice> {
    let own = checkpoint.chat_template()?;
    let config = checkpoint.config();
    let file = hub_name(path).unwrap_or_else(|| name(path));
    // What is no text says nothing.
    let title = config.opt_str("_name_or_path", "general.name").ok().flatten();
    // A spelling that the tokenizer takes for one token where it reads control tokens.
    let has = |spelling: &str| match tokenizer.encode(spelling, Control::Parse).as_deref() {
        Ok(&[token]) => tokenizer.token_text(Some(token)) == spelling,
        _ => false,
    };
    let names: Vec<&str> = std::iter::once(file.as_str()).chain(title).collect();
    let clues = Clues { names: &names, architecture: config.architecture(), own: own.as_deref(), has: &has };
    Ok(nano_templates::choose(&clues))
}

/// The name of a model whose folder is named after a commit, as the Hub's cache keeps it.
fn hub_name(path: &Path) -> Option<String> {
    let snapshots = path.parent().filter(|p| p.ends_with("snapshots") && path.is_dir())?;
    let folder = snapshots.parent()?.file_name()?.to_string_lossy();
    Some(folder.strip_prefix("models--")?.rsplit("--").next()?.to_owned())
}

/// What was asked for that only the processor computes.
fn float32(options: &ModelOptions) -> Option<Error> {
    let need = "a GPU computes in float16; take f16, or --device cpu";
    let option = |name| Error::Option { name, found: "f32".into(), need };
    let weights = options.quantization == Some(Quantization::F32);
    let cache = options.kv_cache == Some(KvFormat::F32);
    weights.then(|| option("quantization")).or_else(|| cache.then(|| option("kv_cache")))
}

fn check(options: &ModelOptions) -> Result<()> {
    for (name, value) in [
        ("threads", options.threads),
        ("max_context_len", options.max_context_len),
        ("max_sequences", options.max_sequences),
    ] {
        if value == Some(0) {
            return Err(Error::Option { name, found: "0".into(), need: "it must be 1 or more" });
        }
    }
    Ok(())
}

/// The last part of a path, without the ending of a file.
fn name(path: &Path) -> String {
    let part = if path.is_dir() { path.file_name() } else { path.file_stem() };
    part.map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}
