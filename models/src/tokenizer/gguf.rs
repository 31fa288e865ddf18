//! Tokenizers from the vocabulary of a GGUF file. llama.cpp defines what its keys mean.

use super::added::Added;
use super::bpe::BpeParts;
use super::encoder::{Encoder, Ordinary, Prefix};
use super::model::Model;
use super::pieces::{Kind, Pieces, Step, byte_token};
use super::spm::{Entry, Spm};
use super::stages::{Stages, Words};
use super::{Inner, stop};
use crate::error::printable;
use crate::{Error, Result};
use ahash::AHashMap;
use std::path::PathBuf;
use tokenizers::pre_tokenizers::{byte_level::ByteLevel, digits::Digits, split::Split, split::SplitPattern};
use tokenizers::{PreTokenizerWrapper, SplitDelimiterBehavior};

/// The `tokenizer.ggml.*` keys of a GGUF file.
#[derive(Clone, Debug, Default)]
pub struct GgufVocab {
    /// The file, for messages.
    pub path: PathBuf,
    /// `model`: `gpt2` (byte-level BPE) or `llama` (SentencePiece).
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
        "llama" => true,
        other => {
            let why = format!("is {:?}; known are gpt2 and llama", printable(other));
            return Err(vocab.error("tokenizer.ggml.model", why));
        }
    };
    if spm {
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
        (Ordinary::Spm(vocab.spm(&kinds)?), steps, true)
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

    fn spm(&self, kinds: &[Kind]) -> Result<Spm> {
        if self.scores.is_empty() {
            return Err(self.error("tokenizer.ggml.scores", "is missing; a llama vocabulary needs it"));
        }
        if let Some(id) = self.scores.iter().position(|s| s.is_nan()) {
            return Err(self.error("tokenizer.ggml.scores", format!("holds no number at {id}")));
        }
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
        PRE.iter().find(|pre| pre.names.contains(&name)).ok_or_else(|| {
            let known: Vec<_> = PRE.iter().flat_map(|pre| pre.names).copied().collect();
            self.error("tokenizer.ggml.pre", format!("is {:?}; known are {}", printable(name), known.join(", ")))
        })
    }
}

/// How a text is cut into words before BPE.
struct Pre {
    /// llama.cpp's names for it.
    names: &'static [&'static str],
    cuts: &'static [Cut],
    /// A word that is a token is taken whole, whatever the merges say.
    whole_words: bool,
    /// Whether plain text starts with the beginning-of-sequence token, if the file does not say.
    add_bos: bool,
}

enum Cut {
    /// Each digit on its own (every character of Unicode's N).
    Digits,
    /// GPT-2's words.
    Gpt2,
    /// What a pattern matches, and what lies between.
    Pattern(&'static str),
}

const LLAMA3: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const PUNCTUATION: &str = r"[\p{P}\$\+<=>\^~\|]+";

const PRE: &[Pre] = &[
    Pre {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3"],
        cuts: &[Cut::Pattern(LLAMA3)],
        whole_words: true,
        add_bos: true,
    },
    Pre { names: &["smaug-bpe", "dbrx"], cuts: &[Cut::Pattern(LLAMA3)], whole_words: false, add_bos: false },
    Pre {
        names: &["smollm", "starcoder", "refact", "command-r"],
        cuts: &[Cut::Digits, Cut::Gpt2],
        whole_words: false,
        add_bos: false,
    },
    Pre { names: &["gpt-2", "phi-2", "olmo", "mpt"], cuts: &[Cut::Gpt2], whole_words: false, add_bos: false },
    Pre {
        names: &["qwen2", "stablelm2", "deepseek-r1-qwen"],
        cuts: &[Cut::Pattern(QWEN2)],
        whole_words: false,
        add_bos: false,
    },
    Pre {
        names: &["default"],
        cuts: &[Cut::Pattern(PUNCTUATION), Cut::Gpt2, Cut::Pattern(r"\p{N}+"), Cut::Pattern("[0-9][0-9][0-9]")],
        whole_words: false,
        add_bos: false,
    },
];

/// llama.cpp's names for ways to cut words, one each, of those that take whole words or do not; and whether `said`, the
/// JSON of a pre-tokenizer, says just that way. The least likely come last.
pub(super) fn names_of_cuts(whole_words: bool, said: &str) -> impl Iterator<Item = (&'static str, bool)> {
    let matching = PRE.iter().filter(move |pre| pre.whole_words == whole_words);
    matching.filter_map(move |pre| Some((*pre.names.first()?, pre.cuts.iter().all(|cut| cut.is_in(said)))))
}

impl Cut {
    /// Whether the JSON of a pre-tokenizer says this. Contractions, which come first in a pattern, are spelled in two ways.
    fn is_in(&self, said: &str) -> bool {
        match self {
            Cut::Digits => said.contains("\"Digits\""),
            Cut::Gpt2 => {
                said.contains("\"use_regex\":true") || said.contains("\"ByteLevel\"") && !said.contains("use_regex")
            }
            Cut::Pattern(pattern) => {
                let rest = pattern.split_once(")|").map_or(*pattern, |(_, rest)| rest);
                serde_json::to_string(rest).is_ok_and(|json| said.contains(json.trim_matches('"')))
            }
        }
    }
}

impl Pre {
    fn cutters(&self) -> tokenizers::Result<Vec<PreTokenizerWrapper>> {
        const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
        let pattern = |p: &str| {
            Split::new(SplitPattern::Regex(p.into()), SplitDelimiterBehavior::Isolated, false)
                .map(PreTokenizerWrapper::Split)
        };
        let cuts = self.cuts.iter().map(|cut| match cut {
            Cut::Digits => Ok(PreTokenizerWrapper::Digits(Digits::new(true))),
            Cut::Gpt2 => pattern(GPT2),
            Cut::Pattern(p) => pattern(p),
        });
        cuts.chain([Ok(PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, false, false)))]).collect()
    }
}
