//! What a session belongs to: a model's weights and everything else that decides what is in its pages.

use crate::ModelInfo;
use nano_kernels::KvFormat;
use nano_models::Quantization;
use nano_templates::Template;
use serde::{Deserialize, Serialize};

/// A model as it was loaded, told from others: rows that one computed are of use to another only if nothing differs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The model's name. Files may be renamed: it is for people, and is not compared.
    pub model: String,
    /// A fingerprint of the checkpoint.
    pub weights: String,
    /// How the weights were quantized while loading, or `none`.
    pub quantization: String,
    /// How keys and values are stored: `f32`, `f16` or `q8`.
    pub kv_format: String,
    /// The chat template's name and a fingerprint of its source, or `none`.
    pub template: String,
}

impl Identity {
    pub(crate) fn new(
        info: &ModelInfo,
        weights: String,
        quantization: Option<Quantization>,
        kv: KvFormat,
        template: Option<&Template>,
    ) -> Self {
        Self {
            model: info.name.clone(),
            weights,
            quantization: quantization.map_or("none", Quantization::name).to_owned(),
            kv_format: match kv {
                KvFormat::F32 => "f32",
                KvFormat::F16 => "f16",
                KvFormat::Q8 => "q8",
            }
            .to_owned(),
            template: template.map_or_else(|| "none".to_owned(), described),
        }
    }

    /// The same with another template.
    pub(crate) fn with_template(self, template: &Template) -> Self {
        Self { template: described(template), ..self }
    }

    /// What differs from `there`, which a file says it belongs to, as in "the weights and the KV cache's format (f16
    /// there, q8 here)"; `None` if nothing does.
    pub fn difference(&self, there: &Identity) -> Option<String> {
        let mut parts = Vec::new();
        if self.weights != there.weights {
            parts.push(match self.model == there.model {
                true => "the weights".to_owned(),
                false => format!("the weights ({} there, {} here)", there.model, self.model),
            });
        }
        let mut compare = |what, there: &str, here: &str| {
            if there != here {
                parts.push(format!("{what} ({there} there, {here} here)"));
            }
        };
        compare("the quantization", &there.quantization, &self.quantization);
        compare("the KV cache's format", &there.kv_format, &self.kv_format);
        compare("the chat template", &there.template, &self.template);
        let last = parts.pop()?;
        Some(if parts.is_empty() { last } else { format!("{} and {last}", parts.join(", ")) })
    }
}

fn described(template: &Template) -> String {
    format!("{} {:016x}", template.name(), xxhash_rust::xxh3::xxh3_64(template.source().as_bytes()))
}
