//! The list of architectures. Each is a table: which names it goes by, how its numbers are read, what its tensors are
//! called. None has code that runs in a step.

mod llama;

use crate::names::Name;
use crate::spec::Spec;
use crate::{Checkpoint, Config, Container, Error, Result};
use nano_kernels::Pairing;

/// An architecture's table.
pub struct Arch {
    /// Its name, for people.
    pub name: &'static str,
    /// `model_type` in config.json.
    pub hf: &'static [&'static str],
    /// `general.architecture` in GGUF.
    pub gguf: &'static [&'static str],
    /// Reads the numbers; the last argument is the number of rows of the embedding.
    pub spec: fn(&'static Arch, &dyn Checkpoint, usize) -> Result<Spec>,
    /// Names of its tensors.
    pub names: &'static [Name],
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
pub const ALL: &[&Arch] = &[&llama::LLAMA, &llama::MISTRAL];

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

/// An activation by the names that config.json gives it.
pub fn act(config: &Config, hf: &str) -> Result<nano_kernels::Act> {
    use nano_kernels::Act;
    Ok(match config.opt_str(hf, "")?.unwrap_or("silu") {
        "silu" | "swish" => Act::Silu,
        "gelu" => Act::Gelu,
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Act::GeluTanh,
        other => {
            let why = format!("is \"{other}\"; known: silu, swish, gelu, gelu_new, gelu_pytorch_tanh, gelu_fast");
            return Err(config.bad(hf, "", why));
        }
    })
}

/// The scaling of rope frequencies, by the old and new spellings of config.json and by GGUF's keys.
pub fn rope_scaling(config: &Config) -> Result<crate::spec::RopeScaling> {
    use crate::spec::RopeScaling;
    const KIND: (&str, &str) = (
        "rope_scaling.rope_type|rope_scaling.type|rope_parameters.rope_type|rope_parameters.type",
        "rope.scaling.type",
    );
    let number = |hf: &str, gguf: &str| -> Result<f32> {
        let old = format!("rope_scaling.{hf}|rope_parameters.{hf}");
        let value = config.f32(&old, gguf)?;
        if value > 0.0 {
            Ok(value)
        } else {
            Err(config.bad(&old, gguf, format!("is {value}; a positive number is needed")))
        }
    };
    Ok(match config.opt_str(KIND.0, KIND.1)? {
        None if config.has("", "rope.scale_linear") => RopeScaling::Linear(number("", "rope.scale_linear")?),
        None | Some("default" | "none") => RopeScaling::None,
        Some("linear") => RopeScaling::Linear(number("factor", "rope.scaling.factor")?),
        Some("llama3") if config.container() == Container::HuggingFace => {
            let (low, high) = (number("low_freq_factor", "")?, number("high_freq_factor", "")?);
            if low >= high {
                return Err(config.bad(
                    "rope_scaling.low_freq_factor|rope_parameters.low_freq_factor",
                    "",
                    format!("is {low}; less than high_freq_factor ({high}) is needed"),
                ));
            }
            let original = number("original_max_position_embeddings", "")?;
            RopeScaling::Llama3 { factor: number("factor", "")?, low, high, original }
        }
        Some(other) => {
            return Err(config.bad(
                KIND.0,
                KIND.1,
                format!("is \"{other}\", which is not supported; known: linear, llama3"),
            ));
        }
    })
}

/// A missing tensor.
pub(crate) fn missing(checkpoint: &dyn Checkpoint, name: &str) -> Error {
    Error::tensor(checkpoint.path(), name, "is missing")
}
