//! Byte-pair encoding by ranked merges, built without control tokens, so that no text can merge into one.

use super::merge::{Joined, Merger};
use ahash::{AHashMap, AHashSet};

/// A BPE model.
pub(super) struct Bpe {
    /// Tokens of one character, with which words start.
    chars: AHashMap<char, u32>,
    /// Two tokens to their rank and what they become.
    merges: AHashMap<(u32, u32), (u32, u32)>,
    /// All tokens, if a word that is one is taken whole.
    whole: Option<AHashMap<Box<str>, u32>>,
    bytes: Option<Box<[u32; 256]>>,
    unk: Option<u32>,
    fuse_unk: bool,
}

/// What stands in a file.
#[derive(Default)]
pub(super) struct BpeParts<'a, M> {
    /// Spellings and ids, control tokens left out.
    pub vocab: AHashMap<&'a str, u32>,
    /// Pairs of spellings, best first.
    pub merges: M,
    /// The spellings left out: a merge that names one is passed over.
    pub control: AHashSet<&'a str>,
    /// What a character becomes that is no token.
    pub unk: Option<u32>,
    /// Neighbouring unknown characters become one token.
    pub fuse_unk: bool,
    /// A character that is no token is spelled in tokens like `<0x41>`, if there are all 256 of them.
    pub byte_fallback: bool,
    /// A word that is a token is taken whole, whatever the merges say.
    pub whole_words: bool,
}

impl<'a, M: IntoIterator<Item = (&'a str, &'a str), IntoIter: ExactSizeIterator>> BpeParts<'a, M> {
    pub fn build(self) -> Result<Bpe, String> {
        let Self { vocab, merges: given, control, .. } = self;
        let given = given.into_iter();
        let mut merges = AHashMap::with_capacity(given.len());
        let mut joined = String::new();
        for (rank, (a, b)) in (0u32..).zip(given) {
            joined.clear();
            joined.extend([a, b]);
            let [a, b, ab] = [a, b, &joined].map(|text| vocab.get(text).ok_or(text));
            match (a, b, ab) {
                (Ok(&a), Ok(&b), Ok(&ab)) => {
                    merges.insert((a, b), (rank, ab));
                }
                (Err(text), ..) | (_, Err(text), _) | (.., Err(text)) if !control.contains(text) => {
                    return Err(format!("merge {rank} needs the token {text:?}, which is not in the vocabulary"));
                }
                _ => {}
            }
        }
        let byte = |b: u8| vocab.get(format!("<0x{b:02X}>").as_str()).copied();
        let bytes = self.byte_fallback.then(|| (0..=255).map(byte).collect::<Option<Vec<u32>>>()).flatten();
        let one = |text: &str| text.chars().next().filter(|c| c.len_utf8() == text.len());
        Ok(Bpe {
            chars: vocab.iter().filter_map(|(text, &id)| Some((one(text)?, id))).collect(),
            merges,
            whole: self.whole_words.then(|| vocab.iter().map(|(&text, &id)| (text.into(), id)).collect()),
            bytes: bytes.and_then(|b| b.into_boxed_slice().try_into().ok()),
            unk: self.unk,
            fuse_unk: self.fuse_unk,
        })
    }
}

impl Bpe {
    /// Appends the tokens of a word. `merger` is memory to work in.
    pub fn encode(&self, word: &str, merger: &mut Merger, out: &mut Vec<u32>) {
        if let Some(&id) = self.whole.as_ref().and_then(|whole| whole.get(word)) {
            return out.push(id);
        }
        merger.clear();
        let mut unknown = false;
        for (start, c) in word.char_indices() {
            let was_unknown = std::mem::take(&mut unknown);
            match (self.chars.get(&c), &self.bytes) {
                (Some(&id), _) => merger.push(start, c.len_utf8(), id),
                (None, Some(bytes)) => {
                    for at in start..start + c.len_utf8() {
                        merger.push(at, 1, bytes[usize::from(word.as_bytes()[at])]);
                    }
                }
                (None, None) => {
                    unknown = true;
                    if let Some(unk) = self.unk.filter(|_| !(self.fuse_unk && was_unknown)) {
                        merger.push(start, c.len_utf8(), unk);
                    }
                }
            }
        }
        merger.merge(|a, b| self.merges.get(&(a.id, b.id)).map(|&(rank, id)| Joined { rank, id }));
        out.extend(merger.stretches().map(|s| s.id));
    }
}
