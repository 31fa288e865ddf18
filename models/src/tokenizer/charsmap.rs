//! SentencePiece's compiled map of characters, checked before it is given to the tokenizers crate, which trusts it.
//!
//! The bytes are a length, a trie of that many bytes, and texts that end in NUL. A unit of the trie is 32 bits: bit 31 marks a value
//! (where in the texts); else the low 8 are its label, bit 8 says that a value follows, and the rest is an offset to its children.

use tokenizers::NormalizerWrapper;
use tokenizers::normalizers::Precompiled;

const VALUE: u32 = 1 << 31;

/// The map as a normalizer.
pub fn charsmap(bytes: &[u8]) -> Result<NormalizerWrapper, String> {
    check(bytes).map_err(|why| format!("is damaged: {why}"))?;
    Precompiled::from(bytes).map(NormalizerWrapper::Precompiled).map_err(|e| e.to_string())
}

/// Follows every unit as far as any text could.
fn check(bytes: &[u8]) -> Result<(), String> {
    let (length, rest) = bytes.split_first_chunk().ok_or("it has no trie")?;
    let length = u32::from_le_bytes(*length) as usize;
    let (trie, texts) = rest.split_at_checked(length).ok_or("its trie is cut off")?;
    let (units, []) = trie.as_chunks::<4>() else { return Err("its trie is no whole number of units".into()) };
    if units.is_empty() {
        return Err("it has no trie".into());
    }
    let texts = std::str::from_utf8(texts).map_err(|_| "its texts are not UTF-8")?;
    let unit =
        |at: usize| units.get(at).map(|unit| u32::from_le_bytes(*unit)).ok_or("its trie leads outside of itself");
    for at in 0..units.len() {
        let here = unit(at)?;
        // The root is never matched, only its children are.
        if here & VALUE != 0 && at != 0 {
            continue;
        }
        let children = at ^ (here as usize >> 10) << ((here & 1 << 9) >> 6);
        unit(children | 0xff)?;
        if here & 1 << 8 != 0 && at != 0 {
            let value = (unit(children)? & !VALUE) as usize;
            if !texts.is_char_boundary(value) {
                return Err("its trie leads outside of its texts".into());
            }
        }
    }
    Ok(())
}
