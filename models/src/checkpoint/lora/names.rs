//! Adapters speak of modules as transformers names them. Here these names lead to a checkpoint's tensors, in either
//! container.

use crate::names::Role;
use crate::{Checkpoint, Container, Result, arch};
use nano_kernels::Pairing;
use std::collections::HashMap;

/// A tensor of the base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// As the base calls it.
    pub name: String,
    /// Heads, where this container has their rows in pairs and transformers in halves.
    pub heads: Option<usize>,
}

/// From transformers' names of weights and biases to those of a checkpoint.
pub struct Names {
    /// `None`: they are the same.
    map: Option<HashMap<String, Target>>,
}

impl Names {
    /// The names of a checkpoint.
    pub fn of(base: &dyn Checkpoint) -> Result<Names> {
        if base.container() == Container::HuggingFace {
            return Ok(Names { map: None });
        }
        let config = base.config();
        let arch = arch::find(config)?;
        let layers = config.usize("num_hidden_layers", "block_count")?.min(1 << 12);
        let heads = config.usize("num_attention_heads", "attention.head_count")?;
        let kv_heads = config.opt_usize("num_key_value_heads", "attention.head_count_kv")?.unwrap_or(heads);
        let turned = arch.pairing.0 == Pairing::Halves && arch.pairing.1 == Pairing::Adjacent;
        let mut map = HashMap::new();
        for (role, hf, gguf) in arch.names.iter().copied().flatten().filter(|(_, hf, gguf)| hf.len() * gguf.len() > 0) {
            let heads = match role {
                Role::Q if turned => Some(heads),
                Role::K if turned => Some(kv_heads),
                _ => None,
            };
            for layer in 0..if hf.contains("{}") { layers } else { 1 } {
                for part in ["weight", "bias"] {
                    let full = |stem: &str| format!("{}.{part}", stem.replace("{}", &layer.to_string()));
                    let name = full(gguf);
                    if base.info(&name).is_some() {
                        map.insert(full(hf), Target { name, heads });
                    }
                }
            }
        }
        Ok(Names { map: Some(map) })
    }

    /// The tensor that transformers calls `name`.
    pub fn find(&self, name: &str) -> Option<Target> {
        match &self.map {
            None => Some(Target { name: name.to_owned(), heads: None }),
            Some(map) => map.get(name).cloned(),
        }
    }
}
