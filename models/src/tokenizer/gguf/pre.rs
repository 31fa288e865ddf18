//! How texts are cut into words before byte-level BPE, by the names that llama.cpp has for it. The patterns are those of the
//! models' authors.

use tokenizers::pre_tokenizers::{byte_level::ByteLevel, digits::Digits, split::Split, split::SplitPattern};
use tokenizers::{PreTokenizerWrapper, SplitDelimiterBehavior};

/// How a text is cut into words before BPE.
pub struct Pre {
    /// llama.cpp's names for it.
    names: &'static [&'static str],
    cuts: &'static [Cut],
    /// A word that is a token is taken whole, whatever the merges say.
    pub whole_words: bool,
    /// Whether plain text starts with the beginning-of-sequence token, if the file does not say.
    pub add_bos: bool,
}

/// The way of a name.
pub fn find(name: &str) -> Option<&'static Pre> {
    PRE.iter().find(|pre| pre.names.contains(&name))
}

/// All names.
pub fn names() -> impl Iterator<Item = &'static str> {
    PRE.iter().flat_map(|pre| pre.names).copied()
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
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const PUNCTUATION: &str = r"[\p{P}\$\+<=>\^~\|]+";

const PRE: &[Pre] = &[
    Pre {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral"],
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
    Pre { names: &["qwen35"], cuts: &[Cut::Pattern(QWEN35)], whole_words: false, add_bos: false },
    Pre { names: &["tekken"], cuts: &[Cut::Pattern(TEKKEN)], whole_words: true, add_bos: true },
    Pre { names: &["gpt-4o", "llama4"], cuts: &[Cut::Pattern(GPT4O)], whole_words: false, add_bos: false },
    Pre {
        names: &["default"],
        cuts: &[Cut::Pattern(PUNCTUATION), Cut::Gpt2, Cut::Pattern(r"\p{N}+"), Cut::Pattern("[0-9][0-9][0-9]")],
        whole_words: false,
        add_bos: false,
    },
];

/// llama.cpp's names for ways to cut words, one each, of those that take whole words or do not; and whether `said`, the
/// JSON of a pre-tokenizer, says just that way. The least likely come last.
pub fn names_of_cuts(whole_words: bool, said: &str) -> impl Iterator<Item = (&'static str, bool)> {
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
    /// The stages that do it.
    pub fn cutters(&self) -> tokenizers::Result<Vec<PreTokenizerWrapper>> {
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
