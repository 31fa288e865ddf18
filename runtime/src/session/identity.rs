//! What a session belongs to: a model's weights and everything else that decides what is in its pages.

use crate::ModelInfo;
use nano_kernels::KvFormat;
use nano_models::{LoadOptions, Quantization};
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
        quantization: String,
        kv: KvFormat,
        template: Option<&Template>,
    ) -> Self {
        Self {
            model: info.name.clone(),
            weights,
            quantization,
            kv_format: match kv {
                KvFormat::F32 => "f32",
                KvFormat::F16 => "f16",
                KvFormat::Q8 => "q8",
            }
            .to_owned(),
            template: template.map_or_else(|| "none".to_owned(), described),
        }
    }

    /// How weights are quantized while loading, in words.
    pub(crate) fn quantization(load: &LoadOptions) -> String {
        let all = load.quantization.map_or("none", Quantization::name);
        load.head.map_or_else(|| all.to_owned(), |head| format!("{all} and head {}", head.name()))
    }

    /// The same with another template.
    pub(crate) fn with_template(self, template: &Template) -> Self {
        Self { template: described(template), ..self }
    }

    /// What differs from `there`, which a file says it belongs to, as in "the weights and the KV cache's format (f16
    /// there, q8 here)"; `None` if nothing does.
    pub fn difference(&self, there: &Identity) -> Option<String> {
        let mut parts = Vec::new();
        let mut compare = |what: &str, differs: bool, there: &str, here: &str| match differs {
            false => (),
            true if there == here => parts.push(what.to_owned()),
            true => parts.push(format!("{what} ({there} there, {here} here)")),
        };
        compare("the weights", self.weights != there.weights, &there.model, &self.model);
        let mut plain = |what, there: &str, here: &str| compare(what, there != here, there, here);
        plain("the quantization", &there.quantization, &self.quantization);
        plain("the KV cache's format", &there.kv_format, &self.kv_format);
        let name = |template: &str| template.rsplit_once(' ').map_or(template, |(name, _)| name).to_owned();
        compare("the chat template", self.template != there.template, &name(&there.template), &name(&self.template));
        let last = parts.pop()?;
        Some(if parts.is_empty() { last } else { format!("{} and {last}", parts.join(", ")) })
    }
}

fn described(template: &Template) -> String {
    format!("{} {:016x}", template.name(), xxhash_rust::xxh3::xxh3_64(template.source().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        let template = Template::builtin(Template::builtin_names()[0]);
        let info = ModelInfo { name: "small".into(), ..ModelInfo::default() };
        Identity::new(&info, "abc".into(), "q4f16".into(), KvFormat::F16, template.as_ref())
    }

    #[test]
    fn what_differs_is_named() {
        let there = identity();
        assert_eq!(there.difference(&there.clone()), None);
        assert_eq!(Identity { model: "renamed".into(), ..identity() }.difference(&there), None);
        let here = Identity { weights: "abd".into(), ..identity() };
        assert_eq!(here.difference(&there).unwrap(), "the weights");
        let here = Identity { model: "large".into(), kv_format: "q8".into(), ..here };
        assert_eq!(
            here.difference(&there).unwrap(),
            "the weights (small there, large here) and the KV cache's format (f16 there, q8 here)"
        );
        let here = Identity { quantization: "none".into(), template: "none".into(), ..here };
        let all = here.difference(&there).unwrap();
        for part in ["the weights (", ", the quantization (q4f16 there, none here), the KV", " and the chat template ("]
        {
            assert!(all.contains(part), "{all}");
        }
    }

    #[test]
    fn a_template_is_told_by_its_source() {
        let info = ModelInfo::default();
        let of = |source| {
            let template = Template::jinja("the model's own", source).unwrap();
            Identity::new(&info, String::new(), "none".into(), KvFormat::Q8, Some(&template))
        };
        let one = of("{{ messages[0].content }}");
        assert_eq!(one, of("{{ messages[0].content }}"));
        assert_eq!(one.difference(&of("{{ messages[1].content }}")).unwrap(), "the chat template");
        assert_eq!((one.kv_format.as_str(), one.quantization.as_str()), ("q8", "none"));
    }

    #[test]
    fn it_survives_a_file() {
        let json = serde_json::to_string(&identity()).unwrap();
        assert_eq!(serde_json::from_str::<Identity>(&json).unwrap(), identity());
    }
}
