//! Which files of a Hub repository make a model.

use super::id::{ModelId, is_relative};
use crate::checkpoint::gguf::split;
use crate::checkpoint::hf::{INDEX, SINGLE, TORCH_INDEX, TORCH_SINGLE, parse_index};
use crate::checkpoint::mlc;
use crate::{Error, Result};
use std::collections::BTreeSet;
use std::path::Path;

/// What is to be downloaded.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// One GGUF file, or all of its parts.
    Files(Vec<String>),
    /// A Hugging Face folder: these files in this order, then the index, then the shards it names.
    Folder { files: Vec<String>, index: Option<String> },
}

/// Most file names that a message lists.
const LISTED: usize = 40;

/// Chooses from the repository's files.
pub(super) fn choose(id: &ModelId, files: &[String]) -> Result<Choice> {
    let wrong = |why: String| Error::NoSuchModel { id: id.to_string(), why };
    let ggufs: Vec<&str> =
        files.iter().map(String::as_str).filter(|f| f.ends_with(".gguf") && is_relative(f)).collect();
    let listed = || match ggufs.len() {
        0 => "it has no .gguf files".to_owned(),
        n if n > LISTED => format!("its .gguf files are {} and {} more", ggufs[..LISTED].join(", "), n - LISTED),
        _ => format!("its .gguf files are {}", ggufs.join(", ")),
    };
    if let Some(file) = id.file() {
        if !ggufs.contains(&file) {
            return Err(wrong(format!("it has no file {file}; {}", listed())));
        }
        return with_parts(file, &ggufs).map_err(wrong);
    }
    let has = |name: &str| files.iter().any(|f| f == name);
    let weights = [(SINGLE, INDEX), (TORCH_SINGLE, TORCH_INDEX)].into_iter().find(|(one, many)| has(one) || has(many));
    if let Some((single, index)) = weights.filter(|_| has("config.json")) {
        if !has("tokenizer.json") {
            return Err(wrong("it has no tokenizer.json, without which its text cannot be read".into()));
        }
        let mut chosen: Vec<String> = files.iter().filter(|f| is_companion(f)).cloned().collect();
        if has(single) {
            chosen.push(single.to_owned());
            return Ok(Choice::Folder { files: chosen, index: None });
        }
        return Ok(Choice::Folder { files: chosen, index: Some(index.to_owned()) });
    }
    if let Some(index) = mlc::CACHES.into_iter().find(|name| has(name)).filter(|_| has(mlc::CONFIG)) {
        let files = files.iter().filter(|f| is_companion(f)).cloned().collect();
        return Ok(Choice::Folder { files, index: Some(index.to_owned()) });
    }
    // A projector for images is no model of its own.
    let models: Vec<&str> = ggufs.iter().copied().filter(|f| !f.contains("mmproj")).collect();
    let models = split::models(&models, |f| (*f).to_owned());
    match models[..] {
        [only] => with_parts(only, &ggufs).map_err(wrong),
        [] => Err(wrong(format!("it has neither config.json with {SINGLE} or {INDEX}, nor a .gguf file"))),
        _ => Err(wrong(format!("it holds several models; name one as {}:FILE; {}", id.repo(), listed()))),
    }
}

/// The shards that an index file names, sorted.
pub(super) fn shards(index: &Path) -> Result<Vec<String>> {
    let bytes = std::fs::read(index).map_err(|e| Error::io(index, "cannot be read", e))?;
    if mlc::CACHES.iter().any(|name| index.ends_with(name)) {
        let shards: BTreeSet<String> = mlc::parse_cache(index, &bytes)?.into_iter().map(|r| r.shard).collect();
        return Ok(shards.into_iter().collect());
    }
    let index = parse_index(index, &bytes)?;
    Ok(index.shards().into_iter().map(str::to_owned).collect())
}

/// The small files beside the weights.
fn is_companion(file: &str) -> bool {
    let plain = !file.contains('/') && is_relative(file);
    const WANTED: [&str; 7] = [
        "config.json",
        "generation_config.json",
        "chat_template.jinja",
        "chat_template.json",
        "quantize_config.json",
        "quant_config.json",
        mlc::CONFIG,
    ];
    let wanted = WANTED.contains(&file);
    plain && (wanted || file.starts_with("tokenizer") && file.ends_with(".json"))
}

/// A GGUF file, with all other parts of its model where it is one.
fn with_parts(file: &str, ggufs: &[&str]) -> std::result::Result<Choice, String> {
    let parts = split::names(file).unwrap_or_else(|| vec![file.to_owned()]);
    match parts.iter().find(|part| !ggufs.contains(&part.as_str())) {
        Some(absent) => Err(format!("{file} is one of {} parts, and it has no {absent}", parts.len())),
        None => Ok(Choice::Files(parts)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(id: &str, files: &[&str]) -> std::result::Result<Choice, String> {
        let files: Vec<String> = files.iter().map(|f| (*f).to_owned()).collect();
        choose(&id.parse().unwrap(), &files).map_err(|e| e.to_string())
    }

    #[test]
    fn gguf_repositories() {
        assert_eq!(plan("o/n", &["README.md", "m.gguf", "mmproj-m.gguf"]), Ok(Choice::Files(vec!["m.gguf".into()])));
        assert_eq!(plan("o/n:b.gguf", &["a.gguf", "b.gguf"]), Ok(Choice::Files(vec!["b.gguf".into()])));
        let several = plan("o/n", &["a.gguf", "b.gguf"]).unwrap_err();
        assert!(several.contains("o/n:FILE") && several.contains("a.gguf, b.gguf"), "{several}");
        let none = plan("o/n:c.gguf", &["a.gguf"]).unwrap_err();
        assert!(none.contains("no file c.gguf") && none.contains("a.gguf"), "{none}");
        let parts = ["q/a-00001-of-00002.gguf", "q/a-00002-of-00002.gguf"].map(str::to_owned);
        let files = [&parts[1], "x.txt", &parts[0]];
        assert_eq!(plan("o/n", &files), Ok(Choice::Files(parts.to_vec())));
        assert_eq!(plan("o/n:q/a-00002-of-00002.gguf", &files), Ok(Choice::Files(parts.to_vec())));
        let absent = plan("o/n", &["a-00001-of-00002.gguf"]).unwrap_err();
        assert!(absent.contains("one of 2 parts, and it has no a-00002-of-00002.gguf"), "{absent}");
        assert!(plan("o/n", &["tf_model.h5", "config.json"]).unwrap_err().contains("neither"));
        assert!(plan("o/n", &["../x.gguf"]).is_err());
    }

    #[test]
    fn folders() {
        let chosen = ["tokenizer.json", "config.json", "pytorch_model.bin"].map(str::to_owned).to_vec();
        assert_eq!(
            plan("o/n", &["tokenizer.json", "config.json", "pytorch_model.bin"]),
            Ok(Choice::Folder { files: chosen, index: None })
        );
        let files = [
            "tokenizer.json",
            "model.safetensors",
            "config.json",
            "onnx/config.json",
            "x.bin",
            "tokenizer_config.json",
        ];
        let chosen = ["tokenizer.json", "config.json", "tokenizer_config.json", "model.safetensors"].map(str::to_owned);
        assert_eq!(plan("o/n", &files), Ok(Choice::Folder { files: chosen.to_vec(), index: None }));
        let files =
            ["model.safetensors.index.json", "tokenizer.json", "config.json", "model-00001-of-00002.safetensors"];
        let index = Some("model.safetensors.index.json".to_owned());
        let chosen = ["tokenizer.json", "config.json"].map(str::to_owned).to_vec();
        assert_eq!(plan("o/n", &files), Ok(Choice::Folder { files: chosen, index }));
        let files = ["params_shard_0.bin", "mlc-chat-config.json", "tokenizer.json", "tensor-cache.json"];
        let chosen = ["mlc-chat-config.json", "tokenizer.json"].map(str::to_owned).to_vec();
        assert_eq!(
            plan("o/n", &files),
            Ok(Choice::Folder { files: chosen, index: Some("tensor-cache.json".to_owned()) })
        );
        assert!(plan("o/n", &["config.json", "model.safetensors"]).unwrap_err().contains("no tokenizer.json"));
    }
}
