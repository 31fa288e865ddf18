//! Tokenizers from the vocabulary of a GGUF file. llama.cpp defines what its keys mean.

pub(super) mod pre;

use super::added::Added;
use super::bpe::BpeParts;
use super::encoder::{Encoder, Ordinary, Prefix};
use super::model::{self, Model};
use super::pieces::{Kind, Pieces, Step, byte_token};
use super::spm::{Entry, Spm};
use super::stages::{Stages, Words};
use super::{Inner, charsmap, stop};
use crate::error::printable;
use crate::{Error, Result};
use ahash::AHashMap;
use pre::Pre;
use std::path::PathBuf;
use tokenizers::normalizers::prepend::Prepend;
use tokenizers::normalizers::replace::{Replace, ReplacePattern};

/// The `tokenizer.ggml.*` keys of a GGUF file.
#[derive(Clone, Debug, Default)]
pub struct GgufVocab {
    /// The file, for messages.
    pub path: PathBuf,
    /// `model`: `gpt2` (byte-level BPE), `llama` (SentencePiece's BPE) or `t5` (its Unigram).
    pub model: String,
    /// `pre`: how text is cut before BPE.
    pub pre: Option<String>,
    /// `tokens`: the spellings, by id.
    pub tokens: Vec<String>,
    /// `token_type`, by id; may be empty.
    pub types: Vec<i32>,
    /// `scores`, by id; may be empty for BPE.
    pub scores: Vec<f32>,
    /// `merges`, best first.
    pub merges: Vec<String>,
    /// `bos_token_id`
    pub bos: Option<u32>,
    /// `eos_token_id`
    pub eos: Option<u32>,
    /// `eot_token_id`
    pub eot: Option<u32>,
    /// `unknown_token_id`
    pub unk: Option<u32>,
    /// Every `*_token_id` that ends a turn.
    pub stop: Vec<u32>,
    /// `add_bos_token`
    pub add_bos: Option<bool>,
    /// `add_space_prefix`
    pub add_space_prefix: Option<bool>,
    /// `remove_extra_whitespaces`
    pub remove_extra_whitespaces: Option<bool>,
    /// `precompiled_charsmap`: what SentencePiece does to characters first; may be empty.
    pub charsmap: Vec<u8>,
}

const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// Builds the tokenizer.
pub(super) fn build(mut vocab: GgufVocab) -> Result<Inner> {
    let spm = match vocab.model.as_str() {
        "gpt2" => false,
        "llama" | "t5" => true,
        other => {
            let why = format!("is {:?}; known are gpt2, llama and t5", printable(other));
            return Err(vocab.error("tokenizer.ggml.model", why));
        }
    };
    let unigram = vocab.model == "t5";
    if spm && !unigram {
        // The defaults of a SentencePiece vocabulary are fixed.
        let default = |id: u32| Some(id).filter(|&id| (id as usize) < vocab.tokens.len());
        (vocab.unk, vocab.bos, vocab.eos) =
            (vocab.unk.or(default(0)), vocab.bos.or(default(1)), vocab.eos.or(default(2)));
    }
    vocab.check()?;
    let kinds: Vec<Kind> = (0..vocab.tokens.len()).map(|id| vocab.kind(id)).collect();
    let added: Vec<Added> = (0u32..)
        .zip(vocab.tokens.iter().zip(&kinds))
        .filter(|(_, (_, kind))| matches!(kind, Kind::Added | Kind::Control))
        .map(|(id, (text, kind))| Added::exact(id, text, *kind == Kind::Control))
        .collect();

    let space = spm && vocab.add_space_prefix.unwrap_or(true);
    let (ordinary, steps, mut add_bos) = if spm {
        let steps = vec![Step::Replace("\u{2581}".into(), " ".into()), Step::ByteFallback];
        match unigram {
            true => (Ordinary::Stages(Box::new(vocab.unigram(&kinds, space)?)), steps, false),
            false => (Ordinary::Spm(vocab.spm(&kinds)?), steps, true),
        }
    } else {
        let pre = vocab.pre()?;
        let words = Words {
            normalizers: vec![],
            cutters: pre.cutters().map_err(|e| vocab.error("tokenizer.ggml.pre", e.to_string()))?,
        };
        let model = vocab.bpe(&kinds, pre.whole_words)?;
        (Ordinary::Stages(Box::new(Stages::new(words, None, model))), vec![Step::ByteLevel], pre.add_bos)
    };
    if let Some(given) = vocab.add_bos {
        add_bos = given;
    }
    let prefix = if space { Prefix::Each } else { Prefix::Never };
    let encoder = Encoder::new(&added, prefix, ordinary).map_err(|e| vocab.error("tokenizer.ggml.tokens", e))?;

    let GgufVocab { tokens, bos, eos, eot, stop, .. } = vocab;
    let tokens = tokens.into_iter().map(String::into_boxed_str).zip(kinds).collect();
    let pieces = Pieces::new(tokens, steps, space.then_some((' ', 1)));
    let stop = stop::tokens(eos.into_iter().chain(eot).chain(stop), &pieces);
    Ok(Inner { encoder, bos, eos, stop, add_bos: add_bos && bos.is_some(), pieces })
}

impl GgufVocab {
    fn error(&self, key: &str, why: impl Into<String>) -> Error {
        Error::key(&self.path, key, why)
    }

    fn check(&self) -> Result<()> {
        let len = self.tokens.len();
        if len == 0 {
            return Err(self.error("tokenizer.ggml.tokens", "holds no tokens"));
        }
        if u32::try_from(len).is_err() {
            return Err(self.error("tokenizer.ggml.tokens", format!("holds {len} tokens; 4294967295 is the most")));
        }
        for (key, found) in
            [("tokenizer.ggml.token_type", self.types.len()), ("tokenizer.ggml.scores", self.scores.len())]
        {
            if found != 0 && found != len {
                return Err(self.error(key, format!("holds {found} values for {len} tokens")));
            }
        }
        let stop = self.stop.iter().map(|&id| ("a *_token_id that ends a turn", Some(id)));
        let named = [
            ("bos_token_id", self.bos),
            ("eos_token_id", self.eos),
            ("eot_token_id", self.eot),
            ("unknown_token_id", self.unk),
        ];
        for (key, id) in named.into_iter().chain(stop) {
            if let Some(id) = id.filter(|&id| id as usize >= len) {
                return Err(
                    self.error(&format!("tokenizer.ggml.{key}"), format!("is {id}; the vocabulary has {len} tokens"))
                );
            }
        }
        Ok(())
    }

    /// What token `id` is. Where types are missing or wrong, a spelling that is known to end a turn is believed.
    fn kind(&self, id: usize) -> Kind {
        let text = &self.tokens[id];
        let named = |token: Option<u32>| token.is_some_and(|t| t as usize == id);
        match self.types.get(id) {
            _ if text.is_empty() => Kind::Absent,
            _ if stop::ends_turn(text) => Kind::Control,
            Some(&(CONTROL | UNKNOWN)) => Kind::Control,
            Some(&USER_DEFINED) => Kind::Added,
            Some(&BYTE) => byte_token(text).map_or(Kind::Model, Kind::Byte),
            Some(_) => Kind::Model,
            None if named(self.bos) || named(self.eos) || named(self.eot) || named(self.unk) => Kind::Control,
            None if self.model == "llama" => byte_token(text).map_or(Kind::Model, Kind::Byte),
            None => Kind::Model,
        }
    }

    /// The tokens that text may become, each once.
    fn texts<'a>(&'a self, kinds: &'a [Kind]) -> impl Iterator<Item = (u32, &'a str)> {
        let all = (0u32..).zip(self.tokens.iter().map(String::as_str)).zip(kinds);
        all.filter(|(_, kind)| matches!(kind, Kind::Model | Kind::Added)).map(|(token, _)| token)
    }

    fn twice(&self, text: &str, id: u32) -> Error {
        let first = self.tokens.iter().position(|t| t == text).unwrap_or(0);
        self.error("tokenizer.ggml.tokens", format!("holds {:?} twice, as {first} and {id}", printable(text)))
    }

    /// That every token has a score.
    fn scored(&self) -> Result<()> {
        const KEY: &str = "tokenizer.ggml.scores";
        if self.scores.is_empty() {
            return Err(self.error(KEY, format!("is missing; a {} vocabulary needs it", self.model)));
        }
        let wrong = self.scores.iter().position(|s| s.is_nan());
        wrong.map_or(Ok(()), |id| Err(self.error(KEY, format!("holds no number at {id}"))))
    }

    fn spm(&self, kinds: &[Kind]) -> Result<Spm> {
        self.scored()?;
        let mut tokens = AHashMap::with_capacity(self.tokens.len());
        for (id, text) in self.texts(kinds) {
            let unused = self.types.get(id as usize) == Some(&UNUSED);
            let entry = Entry::new(id, self.scores[id as usize], unused);
            if tokens.insert(text.into(), entry).is_some() {
                return Err(self.twice(text, id));
            }
        }
        let mut bytes = [None; 256];
        for (id, kind) in (0u32..).zip(kinds) {
            if let Kind::Byte(byte) = kind {
                bytes[usize::from(*byte)] = Some(id);
            }
        }
        let bytes: Option<Vec<u32>> = bytes.into_iter().collect();
        let bytes = bytes.and_then(|b| Box::try_from(b.into_boxed_slice()).ok());
        Ok(Spm::new(tokens, bytes, self.unk, self.remove_extra_whitespaces.unwrap_or(false)))
    }

    fn bpe(&self, kinds: &[Kind], whole_words: bool) -> Result<Model> {
        let key = "tokenizer.ggml.merges";
        if self.merges.is_empty() {
            return Err(self.error(key, "is missing or empty; a gpt2 vocabulary needs it"));
        }
        let mut vocab = AHashMap::with_capacity(self.tokens.len());
        for (id, text) in self.texts(kinds) {
            if vocab.insert(text, id).is_some() {
                return Err(self.twice(text, id));
            }
        }
        let control =
            self.tokens.iter().zip(kinds).filter(|(_, k)| **k == Kind::Control).map(|(t, _)| t.as_str()).collect();
        let mut merges = Vec::with_capacity(self.merges.len());
        for (rank, merge) in self.merges.iter().enumerate() {
            // A part may itself begin with a space, in vocabularies that are not byte-level throughout.
            let first = merge.chars().next().map_or(0, char::len_utf8);
            let Some(space) = merge[first..].find(' ') else {
                let why = format!("holds {:?} at {rank}; two tokens with a space between are needed", printable(merge));
                return Err(self.error(key, why));
            };
            let (a, b) = merge.split_at(first + space);
            merges.push((a, &b[1..]));
        }
        let parts = BpeParts { vocab, merges, control, whole_words, ..BpeParts::default() };
        parts.build().map(Model::Bpe).map_err(|why| self.error(key, format!("cannot be used: {}", printable(&why))))
    }

    fn pre(&self) -> Result<&'static Pre> {
        let name = self.pre.as_deref().unwrap_or("default");
        pre::find(name).ok_or_else(|| {
            let known = pre::names().collect::<Vec<_>>().join(", ");
            self.error("tokenizer.ggml.pre", format!("is {:?}; known are {known}", printable(name)))
        })
    }

    /// SentencePiece's other model, which takes the likeliest cut of a whole text.
    fn unigram(&self, kinds: &[Kind], space: bool) -> Result<Stages> {
        self.scored()?;
        let mut normalizers = Vec::new();
        if !self.charsmap.is_empty() {
            let map = charsmap::charsmap(&self.charsmap);
            normalizers.push(map.map_err(|why| self.error("tokenizer.ggml.precompiled_charsmap", why))?);
        }
        let collapse = self.remove_extra_whitespaces.unwrap_or(false);
        let mut replace = |pattern: &str, content: &str| {
            let replace = Replace::new(ReplacePattern::Regex(pattern.into()), content);
            replace
                .map(|replace| normalizers.push(replace.into()))
                .map_err(|e| self.error("tokenizer.ggml.model", e.to_string()))
        };
        if collapse {
            replace("^ +", "")?;
            replace(" {2,}", " ")?;
        }
        replace(" ", "\u{2581}")?;
        if collapse {
            // Last, so that it also cuts off a space that the text itself wrote as U+2581.
            replace("\u{2581}+$", "")?;
        }
        if space {
            normalizers.push(Prepend::new("\u{2581}".into()).into());
        }
        let words = Words { normalizers, cutters: vec![] };
        let pieces = self.tokens.iter().cloned().zip(self.scores.iter().map(|s| f64::from(*s))).collect();
        let hidden =
            (0u32..).zip(kinds).filter(|(_, kind)| !matches!(kind, Kind::Model | Kind::Added)).map(|(id, _)| id);
        let model = model::unigram(pieces, self.unk.map(|id| id as usize), false, hidden);
        Ok(Stages::new(words, None, model.map_err(|why| self.error("tokenizer.ggml.tokens", printable(&why)))?))
    }
}
