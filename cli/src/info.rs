//! `info`: what is known of a model before its weights are read, for people or as JSON. Without a model the device is shown,
//! by `device`.

use crate::args::InfoArgs;
use crate::device;
use crate::model::{locate, megabytes, options};
use crate::out::{self, Log};
use anyhow::{Context, Result};
use nano_models::{Checkpoint, Container, RopeScaling, Spec};
use nano_runtime::{KvFormat, ModelInfo, ModelOptions};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Prints it.
pub fn run(args: &InfoArgs, log: &Log) -> Result<()> {
    let Some(model) = &args.model else { return device::run(args) };
    let path = locate(model, log)?;
    let checkpoint = nano_models::open(&path)?;
    let options = options(&args.machine, None, args.context.max_context_len);
    let info = ModelInfo::read(&path, &ModelOptions { ids_only: true, ..options })?;
    let spec = info.spec.as_ref().context("the model has no sizes")?;
    let tokenizer = checkpoint.tokenizer().inspect_err(|error| log.warn(format_args!("no tokenizer: {error}"))).ok();
    let text = |id| tokenizer.as_ref().map_or(String::new(), |t| t.token_text(Some(id)));
    let stop = info.stop_tokens.iter().map(|&id| (id, text(id))).collect();
    let about = About { info: &info, spec, kinds: kinds(&*checkpoint), checkpoint: &*checkpoint, stop, args };
    if args.json { out::json(&about.json()) } else { out::write(about.text()) }
}

/// All tensors that differ in their layer's number only.
#[derive(Debug, PartialEq, Eq)]
struct Kind {
    name: String,
    format: &'static str,
    shape: (usize, usize),
    count: usize,
    bytes: u64,
}

fn kinds(checkpoint: &dyn Checkpoint) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = Vec::new();
    let mut known: BTreeMap<(String, &'static str, (usize, usize)), usize> = BTreeMap::new();
    for name in checkpoint.names() {
        let Some(info) = checkpoint.info(name) else { continue };
        let key = (without_number(name), info.format.name(), (info.rows, info.cols));
        let at = *known.entry(key.clone()).or_insert_with(|| {
            let (name, format, shape) = key;
            kinds.push(Kind { name, format, shape, count: 0, bytes: 0 });
            kinds.len() - 1
        });
        kinds[at].count += 1;
        kinds[at].bytes += info.bytes as u64;
    }
    kinds
}

/// The name with a star for each part that is a number.
fn without_number(name: &str) -> String {
    let star = |part| if str::parse::<u32>(part).is_ok() { "*" } else { part };
    name.split('.').map(star).collect::<Vec<_>>().join(".")
}

struct About<'a> {
    info: &'a ModelInfo,
    spec: &'a Spec,
    kinds: Vec<Kind>,
    checkpoint: &'a dyn Checkpoint,
    /// Ids and spellings.
    stop: Vec<(u32, String)>,
    args: &'a InfoArgs,
}

impl About<'_> {
    fn json(&self) -> Value {
        let Self { info, spec, .. } = self;
        let tensors = self.kinds.iter().map(|k| {
            json!({"kind": k.name, "format": k.format, "shape": [k.shape.0, k.shape.1], "count": k.count, "bytes": k.bytes})
        });
        json!({
            "name": info.name,
            "path": self.checkpoint.path(),
            "container": container(self.checkpoint),
            "architecture": spec.architecture(),
            "layers": spec.layers,
            "dim": spec.dim,
            "hidden": spec.hidden,
            "heads": spec.heads,
            "kv_heads": spec.kv_heads,
            "head_dim": spec.head_dim,
            "vocab": spec.vocab,
            "context": spec.context,
            "window": spec.window().map(|(tokens, _)| tokens),
            "window_layers": spec.window().map_or(0, |(_, layers)| layers),
            "experts": spec.experts.map(|e| json!({
                "count": e.count,
                "per_token": e.chosen,
                "hidden": e.hidden,
                "shared": e.shared,
                "layers": spec.each.iter().filter(|layer| layer.sparse).count(),
            })),
            "tied": spec.tied,
            "rope": {"theta": spec.rope.theta, "dims": spec.rope.dims, "scaling": scaling(&spec.rope.scaling)},
            "tensors": tensors.collect::<Vec<_>>(),
            "quantized": self.checkpoint.quantized(),
            "quantization": self.args.machine.quantization.map(|q| q.name()),
            "head": self.head(),
            "template": info.template,
            "stop_tokens": self.stop.iter().map(|(id, text)| json!({"id": id, "text": text})).collect::<Vec<_>>(),
            "device": info.device,
            "gpu": info.gpu,
            "threads": info.threads,
            "kv_cache": info.kv_format.map(kv_name),
            "memory": {
                "weights_bytes": info.memory.weights_bytes,
                "kv_bytes_per_1k": info.memory.kv_bytes_per_1k,
                "workspace_bytes": info.memory.workspace_bytes,
                "loading_bytes": info.memory.loading_bytes,
                "peak_bytes": info.memory.peak_bytes(),
                "total_bytes": info.memory.total_bytes,
                "context": info.context,
            },
        })
    }

    fn text(&self) -> String {
        let Self { info, spec, .. } = self;
        let mut lines: Vec<(&str, String)> = vec![
            ("model", format!("{} ({}, {})", info.name, container(self.checkpoint), self.checkpoint.path().display())),
            ("architecture", spec.architecture().to_owned()),
            ("layers", spec.layers.to_string()),
            ("width", format!("{}, in the MLP {}", spec.dim, spec.hidden)),
            ("heads", format!("{} of {} values, {} for keys and values", spec.heads, spec.head_dim, spec.kv_heads)),
            (
                "vocabulary",
                format!("{} tokens{}", spec.vocab, if spec.tied { ", the head is the embedding" } else { "" }),
            ),
            ("rope", format!("base {}, scaling {}", spec.rope.theta, scaling(&spec.rope.scaling))),
        ];
        lines.extend(self.checkpoint.quantized().map(|how| ("quantized", how.to_owned())));
        if let Some((window, layers)) = spec.window() {
            lines.push(("window", format!("{window} tokens{}", part(layers, spec.layers))));
        }
        if let Some(e) = &spec.experts {
            let layers = spec.each.iter().filter(|layer| layer.sparse).count();
            let shared = if e.shared > 0 { format!(", one of {} for every token", e.shared) } else { String::new() };
            let part = part(layers, spec.layers);
            let all = format!("{} of width {}, {} for each token{shared}{part}", e.count, e.hidden, e.chosen);
            lines.push(("experts", all));
        }
        let stop: Vec<String> = self.stop.iter().map(|(id, text)| format!("{text} ({id})")).collect();
        lines.push(("template", info.template.clone().unwrap_or_else(|| "none".into())));
        lines.push(("stop tokens", if stop.is_empty() { "none".into() } else { stop.join(", ") }));
        lines.extend(self.tensor_lines());
        let memory = &info.memory;
        let total = format!("{} with {} tokens of context", megabytes(memory.total_bytes), info.context);
        lines.push(("memory", format!("{total}, of {} that the model was made for", spec.context)));
        lines.push(("", format!("{} weights{}", megabytes(memory.weights_bytes), self.quantized())));
        if let Some(head) = self.head() {
            lines.push(("", format!("embedding and head as {head}")));
        }
        let kv = info.kv_format.map_or("", kv_name);
        lines.push(("", format!("{} keys and values per 1024 tokens ({kv})", megabytes(memory.kv_bytes_per_1k))));
        lines.push(("", format!("{} buffers", megabytes(memory.workspace_bytes))));
        let loading = megabytes(memory.loading_bytes);
        lines.push(("", format!("{loading} at most while loading, with what is mapped of files meanwhile")));
        lines.push(match &info.gpu {
            Some(gpu) => ("device", format!("{}, {gpu}", info.device)),
            None => ("device", format!("{}, {} threads", info.device, info.threads)),
        });
        lines.iter().map(|(name, value)| format!("{name:<14}{value}\n")).collect()
    }

    fn tensor_lines(&self) -> impl Iterator<Item = (&'static str, String)> {
        let names = self.kinds.iter().map(|k| k.name.len()).max().unwrap_or(0);
        let titles = std::iter::once("tensors").chain(std::iter::repeat(""));
        titles.zip(&self.kinds).map(move |(title, kind)| {
            let Kind { name, format, shape: (rows, cols), count, bytes } = kind;
            (title, format!("{name:<names$}  {format:<9}  {count:>4} x [{rows} x {cols}], {}", megabytes(*bytes)))
        })
    }

    /// The format that embedding and head get, if it is not their own.
    fn head(&self) -> Option<&'static str> {
        let machine = &self.args.machine;
        let format = match machine.quantization {
            Some(quantization) => Some(quantization.vocabulary(machine.head, self.spec.dim)),
            None => machine.head.map(|head| head.format(self.spec.dim)),
        };
        format.map(|format| format.name())
    }

    fn quantized(&self) -> String {
        self.args.machine.quantization.map_or_else(String::new, |q| format!(" as {}", q.name()))
    }
}

fn container(checkpoint: &dyn Checkpoint) -> &'static str {
    match checkpoint.container() {
        Container::Gguf => "GGUF",
        Container::HuggingFace => "Hugging Face",
    }
}

/// In how many layers something is, where it is not in all.
fn part(layers: usize, of: usize) -> String {
    match layers {
        n if n == of => String::new(),
        1 => " in 1 layer".into(),
        n => format!(" in {n} layers"),
    }
}

fn scaling(scaling: &RopeScaling) -> String {
    let factor = scaling.factor().map_or(String::new(), |factor| format!(", factor {factor}"));
    format!("{}{factor}", scaling.name())
}

fn kv_name(format: KvFormat) -> &'static str {
    match format {
        KvFormat::F32 => "f32",
        KvFormat::F16 => "f16",
        KvFormat::Q8 => "q8",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_forget_the_layer() {
        assert_eq!(without_number("blk.12.attn_q.weight"), "blk.*.attn_q.weight");
        assert_eq!(without_number("model.layers.3.mlp.up_proj.weight"), "model.layers.*.mlp.up_proj.weight");
        assert_eq!(without_number("output.weight"), "output.weight");
    }
}
