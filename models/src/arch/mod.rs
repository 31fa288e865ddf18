//! The list of architectures. Each is a table: which names it goes by, how its numbers are read, what its tensors are
//! called. None has code that runs in a step.

mod base;
mod experts;
mod gemma;
mod gpt_oss;
mod granite;
mod llama;
mod olmo;
mod phi;
mod qwen;
mod rope;
mod stablelm;

use crate::names::Name;
use crate::spec::Spec;
use crate::{Checkpoint, Config, Container, Error, Result};
use base::{act, base, has, slide};
use experts::experts;
use nano_kernels::Pairing;

/// An architecture's table.
pub struct Arch {
    /// Its name, for people.
    pub name: &'static str,
    /// The models that it stands for, for people.
    pub models: &'static str,
    /// `model_type` in config.json.
    pub hf: &'static [&'static str],
    /// `general.architecture` in GGUF.
    pub gguf: &'static [&'static str],
    /// Reads the numbers; the last argument is the number of rows of the embedding.
    pub spec: fn(&'static Arch, &dyn Checkpoint, usize) -> Result<Spec>,
    /// Names of its tensors. What is not named, its blocks do not have.
    pub names: &'static [&'static [Name]],
    /// Ends of tensor names that hold nothing a model needs.
    pub ignored: &'static [&'static str],
    /// Which values rope turns together, as stored by Hugging Face and by GGUF.
    pub pairing: (Pairing, Pairing),
}

impl Arch {
    /// The pairing in a container.
    pub fn pairing(&self, container: Container) -> Pairing {
        match container {
            Container::HuggingFace => self.pairing.0,
            Container::Gguf => self.pairing.1,
        }
    }
}

impl std::fmt::Debug for Arch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Every architecture. Adding one is a line here and a table beside this file.
pub const ALL: &[&Arch] = &[
    &llama::LLAMA,
    &llama::MISTRAL,
    &llama::MIXTRAL,
    &llama::SMOLLM3,
    &qwen::QWEN2,
    &qwen::QWEN3,
    &qwen::QWEN2_MOE,
    &qwen::QWEN3_MOE,
    &gemma::GEMMA,
    &gemma::GEMMA2,
    &gemma::GEMMA3,
    &phi::PHI2,
    &phi::PHI3,
    &gpt_oss::GPT_OSS,
    &olmo::OLMO2,
    &olmo::OLMOE,
    &granite::GRANITE,
    &stablelm::STABLELM,
];

/// The table for a checkpoint's numbers.
pub fn find(config: &Config) -> Result<&'static Arch> {
    let name = config.architecture();
    let known = |arch: &&&Arch| match config.container() {
        Container::HuggingFace => arch.hf.contains(&name),
        Container::Gguf => arch.gguf.contains(&name),
    };
    ALL.iter().find(known).copied().ok_or_else(|| {
        let known: Vec<&str> = ALL.iter().map(|arch| arch.name).collect();
        let why = format!("is \"{name}\", which is not supported; known: {}", known.join(", "));
        config.bad("model_type", "general.architecture", why)
    })
}

/// A missing tensor.
pub(crate) fn missing(checkpoint: &dyn Checkpoint, name: &str) -> Error {
    Error::tensor(checkpoint.path(), name, "is missing")
}
