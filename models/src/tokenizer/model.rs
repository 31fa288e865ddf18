//! The models that tell a word's tokens, each without control tokens, so that no text can become one. (A vocabulary with
//! scores and no words is in `spm`.)

use super::bpe::Bpe;
use super::merge::Merger;
use tokenizers::Model as _;
use tokenizers::models::bpe::Vocab;
use tokenizers::models::unigram::Unigram;
use tokenizers::models::wordlevel::WordLevel;

/// A word to tokens.
pub(super) enum Model {
    Bpe(Bpe),
    Unigram(Unigram),
    WordLevel(WordLevel),
}

impl Model {
    /// Appends the tokens of a word. `merger` is memory to work in.
    pub fn tokenize(&self, word: &str, merger: &mut Merger, out: &mut Vec<u32>) -> tokenizers::Result<()> {
        let tokens = match self {
            Model::Bpe(m) => {
                m.encode(word, merger, out);
                return Ok(());
            }
            Model::WordLevel(m) => m.tokenize(word),
            Model::Unigram(m) if word.contains(UNREACHABLE) => m.tokenize(&word.replace(UNREACHABLE, "")),
            Model::Unigram(m) => m.tokenize(word),
        }?;
        out.extend(tokens.iter().map(|t| t.id));
        Ok(())
    }
}

/// A noncharacter that makes a spelling one that no text has: it is taken out of what a Unigram model is given.
const UNREACHABLE: char = '\u{FDD0}';

/// A Unigram model; `control` are the ids that no text may become. They keep their place, since ids are positions.
pub(super) fn unigram(
    mut pieces: Vec<(String, f64)>,
    unk: Option<usize>,
    byte_fallback: bool,
    control: impl Iterator<Item = u32>,
) -> Result<Model, String> {
    for id in control {
        if let Some((piece, _)) = pieces.get_mut(id as usize) {
            piece.insert(0, UNREACHABLE);
        }
    }
    Unigram::from(pieces, unk, byte_fallback).map(Model::Unigram).map_err(|e| e.to_string())
}

/// A model of whole words.
pub(super) fn word_level(vocab: Vocab, unk: String) -> Result<Model, String> {
    WordLevel::builder().vocab(vocab).unk_token(unk).build().map(Model::WordLevel).map_err(|e| e.to_string())
}
