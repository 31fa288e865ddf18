//! Ordinary text to tokens in the stages of tokenizer.json: normalize, cut at added tokens that are matched in normalized
//! text, cut into words, and give each word to the model.

use super::added::Splitter;
use super::merge::Merger;
use super::model::Model;
use tokenizers::normalizer::Range;
use tokenizers::pre_tokenizers::metaspace::PrependScheme;
use tokenizers::{
    NormalizedString, Normalizer, NormalizerWrapper, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
    PreTokenizerWrapper, Token,
};

/// The stages, for text with and without an invented space at its start.
pub(super) struct Stages {
    start: Words,
    /// `None` where both are the same.
    inside: Option<Words>,
    /// Added tokens that are matched in normalized text.
    normalized: Option<Splitter>,
    model: Model,
}

/// What makes words of a text.
#[derive(Clone, Default)]
pub(super) struct Words {
    pub normalizers: Vec<NormalizerWrapper>,
    pub cutters: Vec<PreTokenizerWrapper>,
}

impl Stages {
    pub fn new(words: Words, normalized: Option<Splitter>, model: Model) -> Self {
        let inside = words.invents_space().then(|| words.without_space());
        Self { start: words, inside, normalized, model }
    }

    pub fn encode(&self, text: &str, prefix: bool, out: &mut Vec<u32>) -> tokenizers::Result<()> {
        let words = if prefix { &self.start } else { self.inside.as_ref().unwrap_or(&self.start) };
        let mut pieces = PreTokenizedString::from(text);
        for normalizer in &words.normalizers {
            pieces.normalize(|s| normalizer.normalize(s))?;
        }
        if let Some(splitter) = &self.normalized {
            pieces.split(|_, s| split(splitter, &s))?;
        }
        for cutter in &words.cutters {
            cutter.pre_tokenize(&mut pieces)?;
        }
        let mut merger = Merger::default();
        for (word, _, tokens) in pieces.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            match tokens {
                Some(tokens) => out.extend(tokens.iter().map(|t| t.id)),
                None => self.model.tokenize(word, &mut merger, out)?,
            }
        }
        Ok(())
    }
}

impl Words {
    pub fn normalize(&self, text: &str) -> tokenizers::Result<String> {
        let mut text = NormalizedString::from(text);
        self.normalizers.iter().try_for_each(|n| n.normalize(&mut text))?;
        Ok(text.get().to_owned())
    }

    /// Whether a space is invented only at the very start of a text.
    pub fn only_at_start(&self) -> bool {
        matches!(self.cutters.first(), Some(PreTokenizerWrapper::Metaspace(m)) if m.prepend_scheme == PrependScheme::First)
            && !self.normalizers.iter().any(|n| matches!(n, NormalizerWrapper::Prepend(_)))
    }

    /// Whether a space is invented at the start of a text. A stage behind a first cut sees words, not the text; the space
    /// that it puts before each word is no invention.
    pub fn invents_space(&self) -> bool {
        self.normalizers.iter().any(|n| matches!(n, NormalizerWrapper::Prepend(_)))
            || match self.cutters.first() {
                Some(PreTokenizerWrapper::Metaspace(m)) => m.prepend_scheme != PrependScheme::Never,
                Some(PreTokenizerWrapper::ByteLevel(b)) => b.add_prefix_space,
                _ => false,
            }
    }

    fn without_space(&self) -> Self {
        let mut words = self.clone();
        words.normalizers.retain(|n| !matches!(n, NormalizerWrapper::Prepend(_)));
        match words.cutters.first_mut() {
            Some(PreTokenizerWrapper::Metaspace(m)) => m.prepend_scheme = PrependScheme::Never,
            Some(PreTokenizerWrapper::ByteLevel(b)) => b.add_prefix_space = false,
            _ => {}
        }
        words
    }
}

fn split(
    splitter: &Splitter,
    text: &NormalizedString,
) -> tokenizers::Result<Vec<(NormalizedString, Option<Vec<Token>>)>> {
    let cut = |(range, id): (std::ops::Range<usize>, Option<u32>)| {
        let piece = text.slice(Range::Normalized(range)).ok_or("an added token was found inside a character")?;
        Ok((piece, id.map(|id| vec![Token::new(id, String::new(), (0, 0))])))
    };
    splitter.split(text.get()).into_iter().map(cut).collect()
}
