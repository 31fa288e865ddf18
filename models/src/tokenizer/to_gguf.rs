//! A tokenizer.json as the keys of a GGUF file. GGUF names a way to cut words instead of saying it: the name is found by
//! what the tokenizer made of it does to a text, and a tokenizer that no name makes is refused.

use super::gguf::pre::names_of_cuts;
use super::hf::Table;
use super::hf_json::{File, ModelJson, Vocab};
use super::pieces::{Kind, byte_token};
use super::{Control, GgufVocab, HfVocab, Tokenizer, stop};
use crate::error::printable;
use crate::{Error, Result};
use ahash::AHashMap;

/// Types of tokens, as GGUF numbers them.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// What tells ways to cut words apart.
const SAMPLES: &[&str] = &[
    "The quick brown fox doesn't jump; WE'LL see what they've done, I'm sure. It’s 5 o'clock!",
    "numbers 1 12 123 1234 12345678 3.14159 0xFF ٣٤٥ ½ ² Ⅷ a1b22c333",
    "  two spaces   three\ttab\n\nlines\r\n  indented\n\n\n\tx = [1, 2]; // !?... --> </tag>",
    "Größe naïve café Здравствуй, мир! 你好,世界。 こんにちは 안녕하세요 مرحبا हिन्दी 😀👍🏽",
    "camelCase snake_case HTTPServer ABCdef $100 +5% <a|b> ^_^ `x` ~y~ \u{a0}z\u{3000}w",
];

impl HfVocab {
    /// The same as the keys of a GGUF file, for an embedding of `rows`: ids past the tokenizer's own become unused tokens.
    pub fn to_gguf(&self, rows: usize) -> Result<GgufVocab> {
        convert(self, rows)
    }
}

fn convert(hf: &HfVocab, rows: usize) -> Result<GgufVocab> {
    let bad = |why: String| Error::file(&hf.path, printable(&why));
    let theirs = Tokenizer::from_hf(hf.clone())?;
    let file: File = serde_json::from_slice(&hf.json).map_err(|e| bad(format!("is not a tokenizer.json: {e}")))?;
    let table = Table::new(&file, &hf.config.clone().unwrap_or_default()).map_err(bad)?;
    let (Vocab::Ids(_), Some(merges)) = (&file.model.vocab, &file.model.merges) else {
        return Err(bad("has no merges; only tokenizers of type BPE can be written as GGUF".into()));
    };
    let spm = file.model.byte_fallback.unwrap_or(false);
    let mut vocab = GgufVocab {
        path: hf.path.clone(),
        model: if spm { "llama" } else { "gpt2" }.to_owned(),
        bos: theirs.bos(),
        eos: theirs.eos(),
        stop: theirs.stop().to_vec(),
        add_bos: Some(theirs.add_bos()),
        ..GgufVocab::default()
    };
    // Of several tokens that end a turn, GGUF names one beside the end of the text. Most are known by their spelling.
    let known = |id: u32| stop::ends_turn(&theirs.token_text(Some(id)));
    vocab.eot = vocab.stop.iter().copied().find(|id| Some(*id) != vocab.eos && !known(*id));
    let unk = file.model.unk_token.as_deref();
    for id in 0..rows {
        let (text, kind) = table.tokens.get(id).map_or(("", Kind::Absent), |(text, kind)| (&**text, *kind));
        let added = table.added.iter().any(|token| token.id as usize == id);
        let kind = match kind {
            Kind::Absent => UNUSED,
            _ if spm && Some(text) == unk => UNKNOWN,
            Kind::Control => CONTROL,
            Kind::Added => USER_DEFINED,
            _ if added => USER_DEFINED,
            _ if spm && byte_token(text).is_some() => BYTE,
            _ => NORMAL,
        };
        vocab.types.push(kind);
        vocab.tokens.push(if kind == UNUSED { format!("[PAD{id}]") } else { text.to_owned() });
        if kind == UNKNOWN {
            vocab.unk = Some(id as u32);
        }
    }
    let within = |id: &u32| (*id as usize) < rows;
    vocab.stop.retain(within);
    [&mut vocab.bos, &mut vocab.eos, &mut vocab.eot].into_iter().for_each(|id| *id = id.filter(within));
    let result = match spm {
        true => pieces(&file.model, vocab, &theirs),
        false => {
            vocab.merges = merges.iter().map(|merge| format!("{} {}", merge.0, merge.1)).collect();
            words(&file, vocab, &theirs)
        }
    };
    result.map_err(bad)
}

/// A byte-level vocabulary, with the name of the way its words are cut.
fn words(file: &File, vocab: GgufVocab, theirs: &Tokenizer) -> Result<GgufVocab, String> {
    let whole = file.model.ignore_merges.unwrap_or(false);
    let said = file.pre_tokenizer.to_string();
    let mut names: Vec<(&str, bool)> = names_of_cuts(whole, &said).collect();
    // What says the same comes first: small vocabularies do not tell all ways apart.
    names.sort_by_key(|(_, same)| !same);
    let mut first = None;
    for (name, _) in &names {
        let named = GgufVocab { pre: Some((*name).to_owned()), ..vocab.clone() };
        match difference(&named, theirs)? {
            None => return Ok(named),
            Some(found) => {
                first.get_or_insert(found);
            }
        }
    }
    let names: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
    Err(format!(
        "cuts words in a way that has no name in GGUF; tried were {}; {}",
        names.join(", "),
        first.unwrap_or_default()
    ))
}

/// A vocabulary of pieces with scores: merges in their order are scores that fall.
fn pieces(model: &ModelJson, mut vocab: GgufVocab, theirs: &Tokenizer) -> Result<GgufVocab, String> {
    let mut ranks: AHashMap<String, usize> = AHashMap::new();
    for merge in model.merges.iter().flatten() {
        let next = ranks.len();
        ranks.entry(format!("{}{}", merge.0, merge.1)).or_insert(next);
    }
    let single = ranks.len();
    vocab.scores = vocab
        .tokens
        .iter()
        .zip(&vocab.types)
        .map(|(text, kind)| match *kind {
            NORMAL | USER_DEFINED => -(ranks.get(text).copied().unwrap_or(single) as f32),
            _ => 0.0,
        })
        .collect();
    vocab.pre = Some("default".to_owned());
    let mut first = None;
    for space in [true, false] {
        let spaced = GgufVocab { add_space_prefix: Some(space), ..vocab.clone() };
        match difference(&spaced, theirs)? {
            None => return Ok(spaced),
            Some(found) => {
                first.get_or_insert(found);
            }
        }
    }
    Err(format!("is no tokenizer of the kind that GGUF calls llama: {}", first.unwrap_or_default()))
}

/// The first sample of which the two make different tokens.
fn difference(vocab: &GgufVocab, theirs: &Tokenizer) -> Result<Option<String>, String> {
    let ours = Tokenizer::from_gguf(vocab.clone()).map_err(|e| e.to_string())?;
    for sample in SAMPLES {
        let tokens = |tokenizer: &Tokenizer| tokenizer.encode(sample, Control::Text).map_err(|e| e.to_string());
        let (theirs, ours) = (tokens(theirs)?, tokens(&ours)?);
        if let Some(at) = (0..theirs.len().max(ours.len())).find(|at| theirs.get(*at) != ours.get(*at)) {
            return Ok(Some(format!("{sample:?} becomes other tokens, from the {}. on", at + 1)));
        }
    }
    Ok(None)
}
