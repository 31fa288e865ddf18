//! Tokenizers from tokenizer.json, with what tokenizer_config.json adds to it.

use super::added::{Added, Splitter};
use super::bpe::BpeParts;
use super::encoder::{Encoder, Ordinary, Prefix};
use super::hf_json::{AddedToken, File, ModelJson, Vocab};
use super::model::{Model, unigram, word_level};
use super::pieces::{Kind, Pieces, Step};
use super::stages::{Stages, Words};
use super::{Inner, charsmap, stop};
use crate::error::printable;
use crate::{Error, Result};
use ahash::{AHashMap, AHashSet};
use base64::Engine;
use serde::Deserialize;
use serde_json::Value;
use std::path::PathBuf;
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper};

/// The files of a Hugging Face folder that make its tokenizer.
#[derive(Clone, Debug, Default)]
pub struct HfVocab {
    /// tokenizer.json, for messages.
    pub path: PathBuf,
    /// Its bytes.
    pub json: Vec<u8>,
    /// tokenizer_config.json, if there is one.
    pub config: Option<Value>,
    /// `eos_token_id` of generation_config.json and config.json, one or many.
    pub stop: Vec<u32>,
}

/// Builds the tokenizer.
pub(super) fn build(vocab: HfVocab) -> Result<Inner> {
    let HfVocab { path, json, config, stop } = vocab;
    let bad = |why: String| Error::file(&path, printable(&why));
    let file: File = serde_json::from_slice(&json).map_err(|e| bad(format!("is not a tokenizer.json: {e}")))?;
    drop(json);
    let config = config.unwrap_or_default();

    let table = Table::new(&file, &config).map_err(bad)?;
    let (steps, strip) = decoder(&file.decoder).map_err(bad)?;
    let mut words = Words::default();
    normalizers(file.normalizer, &mut words.normalizers).map_err(bad)?;
    cutters(file.pre_tokenizer, &mut words.cutters).map_err(bad)?;
    let prefix = match () {
        () if words.only_at_start() => Prefix::Start,
        () if words.invents_space() => Prefix::Each,
        () => Prefix::Never,
    };

    let mut late: Vec<Added> = table.added.iter().filter(|t| t.normalized).cloned().collect();
    for token in &mut late {
        token.text = words.normalize(&token.text).map_err(|e| bad(format!("added token {:?}: {e}", token.text)))?;
    }
    let late = Splitter::new(late.iter()).map_err(bad)?;
    let model = model(file.model, &table).map_err(bad)?;
    let encoder =
        Encoder::new(&table.added, prefix, Ordinary::Stages(Box::new(Stages::new(words, late, model)))).map_err(bad)?;

    let first = first_of_template(&file.post_processor);
    let bos = named(&config, "bos_token").or(first).and_then(|t| table.id(t));
    let eos = named(&config, "eos_token").and_then(|t| table.id(t));
    let add_bos = config.get("add_bos_token").and_then(Value::as_bool).unwrap_or(first.is_some());
    let pieces = Pieces::new(table.tokens, steps, strip);
    let stop = stop::tokens(eos.into_iter().chain(stop), &pieces);
    let eos = eos.or(stop.first().copied());
    Ok(Inner { encoder, bos, eos, stop, add_bos: add_bos && bos.is_some(), pieces })
}

/// All tokens by id, and the added ones.
pub(super) struct Table {
    pub tokens: Vec<(Box<str>, Kind)>,
    pub added: Vec<Added>,
}

impl Table {
    pub fn new(file: &File, config: &Value) -> Result<Self, String> {
        let vocab: Vec<(&str, u32)> = match &file.model.vocab {
            Vocab::Ids(ids) => ids.iter().map(|(text, id)| (text.as_str(), *id)).collect(),
            Vocab::Scores(scores) => scores.iter().map(|(text, _)| text.as_str()).zip(0..).collect(),
        };
        let mut given: Vec<AddedToken> = file.added_tokens.clone();
        let known: AHashSet<String> = given.iter().map(|t| t.content.clone()).collect();
        given.extend(added_by_config(config)?.into_iter().filter(|t| !known.contains(&t.content)));

        let len = vocab.iter().map(|t| t.1).chain(given.iter().map(|t| t.id)).max().map_or(0, |id| id as usize + 1);
        if len == 0 {
            return Err("the vocabulary holds no tokens".into());
        }
        // Ids may have gaps, but one absurd id must not cost memory.
        let count = vocab.len() + given.len();
        if len > 2 * count + (1 << 16) {
            return Err(format!("a token has the id {}, in a vocabulary of {count} tokens", len - 1));
        }
        let mut table = Table { tokens: vec![("".into(), Kind::Absent); len], added: Vec::new() };
        for &(text, id) in &vocab {
            table.tokens[id as usize] = (text.into(), Kind::Model);
        }
        table.add(&given, &vocab, config);
        Ok(table)
    }

    fn add(&mut self, given: &[AddedToken], vocab: &[(&str, u32)], config: &Value) {
        // Only the spellings that are asked for are looked up: building a map of all of them would take longer.
        let mut ids: AHashMap<&str, Option<u32>> = given.iter().map(|t| (t.content.as_str(), None)).collect();
        let names: Vec<&str> = special_names(config).collect();
        ids.extend(names.iter().map(|&name| (name, None)));
        for (text, id) in vocab {
            if let Some(found) = ids.get_mut(text) {
                *found = Some(*id);
            }
        }
        for t in given.iter().filter(|t| !t.content.is_empty()) {
            let in_vocab = ids.get(t.content.as_str()).copied().flatten();
            let id = in_vocab.unwrap_or(t.id);
            self.added.push(Added {
                id,
                text: t.content.clone(),
                control: t.special,
                // A control token is matched as the template spells it.
                normalized: t.normalized.unwrap_or(!t.special) && !t.special,
                single_word: t.single_word,
                lstrip: t.lstrip,
                rstrip: t.rstrip,
            });
            let kind = match (t.special, in_vocab) {
                (true, _) => Kind::Control,
                (false, Some(_)) => Kind::Model, // spelled in the model's alphabet
                (false, None) => Kind::Added,
            };
            self.tokens[id as usize] = (t.content.as_str().into(), kind);
        }
        // A special token that the configuration names is one, even if tokenizer.json does not list it.
        for name in names {
            let listed = given.iter().any(|t| t.content == name);
            if let Some(id) = ids.get(name).copied().flatten().filter(|_| !listed && !name.is_empty())
                && self.tokens[id as usize].1 != Kind::Control
            {
                self.added.push(Added::exact(id, name, true));
                self.tokens[id as usize].1 = Kind::Control;
            }
        }
    }

    fn id(&self, spelling: &str) -> Option<u32> {
        let added = self.added.iter().find(|t| t.text == spelling).map(|t| t.id);
        added.or_else(|| self.tokens.iter().position(|t| &*t.0 == spelling && t.1 != Kind::Absent).map(|id| id as u32))
    }

    fn control(&self) -> impl Iterator<Item = &Added> {
        self.added.iter().filter(|t| t.control)
    }
}

/// A special token of tokenizer_config.json: a string, or an object with its content.
fn named<'a>(config: &'a Value, key: &str) -> Option<&'a str> {
    config.get(key).and_then(content)
}

fn content(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token.get("content").and_then(Value::as_str))
}

fn special_names(config: &Value) -> impl Iterator<Item = &str> {
    let single = ["bos_token", "eos_token", "pad_token", "sep_token", "cls_token", "mask_token"];
    let more = ["additional_special_tokens", "extra_special_tokens"];
    let more = more.into_iter().filter_map(|key| config.get(key)?.as_array()).flatten().filter_map(content);
    single.into_iter().filter_map(|key| named(config, key)).chain(more)
}

fn added_by_config(config: &Value) -> Result<Vec<AddedToken>, String> {
    let Some(tokens) = config.get("added_tokens_decoder").and_then(Value::as_object) else { return Ok(Vec::new()) };
    let read = |(id, token): (&String, &Value)| {
        let id =
            id.parse().map_err(|_| format!("tokenizer_config.json: added_tokens_decoder: {id:?} is no token id"))?;
        let token = AddedToken::deserialize(token)
            .map_err(|e| format!("tokenizer_config.json: added_tokens_decoder: {id}: {e}"))?;
        Ok(AddedToken { id, ..token })
    };
    tokens.iter().map(read).collect()
}

/// The token that the post-processor puts before a text.
fn first_of_template(processor: &Value) -> Option<&str> {
    match processor.get("type")?.as_str()? {
        "TemplateProcessing" => processor.get("single")?.get(0)?.get("SpecialToken")?.get("id")?.as_str(),
        "Sequence" => processor.get("processors")?.as_array()?.iter().find_map(first_of_template),
        _ => None,
    }
}

fn model(json: ModelJson, table: &Table) -> Result<Model, String> {
    let kind = match (&json.kind, &json.vocab, &json.merges) {
        (Some(kind), ..) => kind.as_str(),
        (None, Vocab::Scores(_), _) => "Unigram",
        (None, _, Some(_)) => "BPE",
        (None, ..) => "WordLevel",
    };
    let unk = json.unk_token.as_deref();
    let control: AHashSet<&str> = table.control().map(|t| t.text.as_str()).filter(|&t| Some(t) != unk).collect();
    match (kind, json.vocab) {
        ("BPE", Vocab::Ids(ids)) => {
            let merges = json.merges.as_ref().ok_or("the BPE model has no merges")?;
            if [&json.continuing_subword_prefix, &json.end_of_word_suffix].into_iter().flatten().any(|s| !s.is_empty())
            {
                return Err("the BPE model marks parts of words by a prefix or suffix, which is not supported".into());
            }
            let vocab: AHashMap<&str, u32> =
                ids.iter().map(|(text, id)| (text.as_str(), *id)).filter(|(text, _)| !control.contains(text)).collect();
            let unk = match unk {
                Some(unk) => {
                    Some(*vocab.get(unk).ok_or_else(|| format!("the unknown token {unk:?} is not in the vocabulary"))?)
                }
                None => None,
            };
            let parts = BpeParts {
                vocab,
                merges: merges.iter().map(|m| (m.0.as_str(), m.1.as_str())),
                control,
                unk,
                fuse_unk: json.fuse_unk.unwrap_or(false),
                byte_fallback: json.byte_fallback.unwrap_or(false),
                whole_words: json.ignore_merges.unwrap_or(false),
            };
            parts.build().map(Model::Bpe)
        }
        ("Unigram", Vocab::Scores(scores)) => {
            unigram(scores, json.unk_id, json.byte_fallback.unwrap_or(false), table.control().map(|t| t.id))
        }
        ("WordLevel", Vocab::Ids(ids)) => {
            let vocab = ids.into_iter().filter(|(text, _)| !control.contains(text.as_str())).collect();
            word_level(vocab, json.unk_token.unwrap_or_default())
        }
        ("BPE" | "Unigram" | "WordLevel", _) => Err(format!("the {kind} model's vocabulary is that of another type")),
        _ => Err(format!("the model is of type {kind:?}; known are BPE, Unigram and WordLevel")),
    }
}

fn kind_of<'a>(part: &'a Value, what: &str) -> Result<&'a str, String> {
    part.get("type").and_then(Value::as_str).ok_or_else(|| format!("{what} has no type"))
}

/// The members of a `Sequence`.
fn members(mut part: Value, key: &str, what: &str) -> Result<Vec<Value>, String> {
    match part.get_mut(key).map(Value::take) {
        Some(Value::Array(members)) => Ok(members),
        _ => Err(format!("{what} is a Sequence without a list {key:?}")),
    }
}

fn normalizers(part: Value, out: &mut Vec<NormalizerWrapper>) -> Result<(), String> {
    let what = "the normalizer";
    if part.is_null() {
        return Ok(());
    }
    match kind_of(&part, what)? {
        "Sequence" => members(part, "normalizers", what)?.into_iter().try_for_each(|m| normalizers(m, out))?,
        "Precompiled" => {
            let map = part.get("precompiled_charsmap").and_then(Value::as_str);
            let map = map.and_then(|text| base64::prelude::BASE64_STANDARD.decode(text).ok());
            let map = map.ok_or_else(|| format!("{what} has no precompiled_charsmap in base64"))?;
            out.push(charsmap::charsmap(&map).map_err(|why| format!("{what}: precompiled_charsmap {why}"))?);
        }
        _ => out.push(serde_json::from_value(part).map_err(|e| format!("{what}: {e}"))?),
    }
    Ok(())
}

fn cutters(part: Value, out: &mut Vec<PreTokenizerWrapper>) -> Result<(), String> {
    let what = "the pre_tokenizer";
    if part.is_null() {
        return Ok(());
    }
    match kind_of(&part, what)? {
        "Sequence" => members(part, "pretokenizers", what)?.into_iter().try_for_each(|m| cutters(m, out))?,
        _ => match serde_json::from_value(part).map_err(|e| format!("{what}: {e}"))? {
            PreTokenizerWrapper::FixedLength(fixed) if fixed.length == 0 => {
                return Err(format!("{what} cuts words of length 0"));
            }
            cutter => out.push(cutter),
        },
    }
    Ok(())
}

/// What a decoder does to each token, and to the start of a text.
type Decoding = (Vec<Step>, Option<(char, usize)>);

fn decoder(part: &Value) -> Result<Decoding, String> {
    let mut out = (Vec::new(), None);
    if part.is_null() {
        out.0.push(Step::Spaced);
    } else {
        decode_step(part, &mut out, &mut false)?;
    }
    Ok(out)
}

fn decode_step(part: &Value, out: &mut Decoding, fused: &mut bool) -> Result<(), String> {
    let what = "the decoder";
    let text = |key: &str| part.get(key).and_then(Value::as_str).ok_or_else(|| format!("{what} has no text {key:?}"));
    match kind_of(part, what)? {
        "Sequence" => {
            for member in members(part.clone(), "decoders", what)? {
                decode_step(&member, out, fused)?;
            }
        }
        "ByteLevel" => out.0.push(Step::ByteLevel),
        "ByteFallback" => out.0.push(Step::ByteFallback),
        "Fuse" => *fused = true,
        "Replace" => {
            let from = part.pointer("/pattern/String").and_then(Value::as_str).filter(|p| !p.is_empty());
            let from = from.ok_or("the decoder replaces a pattern; only a text can be replaced")?;
            out.0.push(Step::Replace(from.into(), text("content")?.into()));
        }
        "Strip" => {
            let number = |key: &str| part.get(key).and_then(Value::as_u64).unwrap_or(0) as usize;
            let c = text("content")?.chars().next().ok_or("the decoder strips no character")?;
            match (number("start"), number("stop")) {
                (_, stop) if stop > 0 => {
                    return Err("the decoder strips characters from the end; only from the start is possible".into());
                }
                (start, _) if *fused => out.1 = Some((c, start)),
                (start, _) => out.0.push(Step::Strip(c, start)),
            }
        }
        "Metaspace" => {
            out.0.push(Step::Replace(text("replacement")?.into(), " ".into()));
            let never = text("prepend_scheme").is_ok_and(|s| s == "never")
                || part.get("add_prefix_space") == Some(&Value::Bool(false));
            out.1 = (!never).then_some((' ', 1));
        }
        other => {
            return Err(format!(
                "the decoder is of type {other:?}; known are ByteLevel, ByteFallback, Fuse, Metaspace, Replace, Sequence and Strip"
            ));
        }
    }
    Ok(())
}
