//! What tests of forced answers share: a vocabulary of bytes, words and marks, and texts that a constraint lets through it.

use super::ToolFormat;
use crate::constrain::{Masks, Vocabulary};
use crate::{Constraint, ToolChoice};
use nano_models::{GgufVocab, Tokenizer};
use serde_json::Value;
use std::sync::Arc;

/// What formats write around calls.
pub(super) const MARKS: &[&str] = &[
    "<tool_call>",
    "</tool_call>",
    "<think>",
    "</think>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "[THINK]",
    "[/THINK]",
    "<|python_tag|>",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁sep｜>",
    "<|channel|>",
    "<|message|>",
    "<|constrain|>",
    "<|start|>",
    "<|end|>",
    "<|call|>",
    "<start_function_call>",
    "<end_function_call>",
    "<escape>",
    "<|tool_call>",
    "<tool_call|>",
    "<|\"|>",
    "<channel|>",
    "<|tool_call|>",
    "<|/tool_call|>",
];
/// Words that end something, which a walk over letters would hardly find.
// A vocabulary of this kind must have a merge.
const ENDS: &[&str] = &["~~", "\n</parameter>\n", "</parameter>\n", "</function>", "\"}", "\"]", ", \"", "null"];
const EOS: u32 = 256;

/// Which marks are control tokens.
fn tokenizer(marks: &[&str]) -> Tokenizer {
    let mut hidden = 0;
    let byte: Vec<char> = (0..=255u8)
        .map(|b| match b {
            33..=126 | 161..=172 | 174..=255 => char::from(b),
            _ => {
                hidden += 1;
                char::from_u32(255 + hidden).unwrap()
            }
        })
        .collect();
    let spell = |text: &str| text.bytes().map(|b| byte[usize::from(b)]).collect::<String>();
    let mut tokens: Vec<String> = byte.iter().map(char::to_string).collect();
    tokens.push("</s>".into());
    tokens.extend(marks.iter().map(|mark| (*mark).to_owned()));
    let types = [vec![1; 256], vec![3; 1 + marks.len()], vec![1; ENDS.len()]].concat();
    tokens.extend(ENDS.iter().map(|word| spell(word)));
    Tokenizer::from_gguf(GgufVocab {
        model: "gpt2".into(),
        pre: Some("gpt-2".into()),
        tokens,
        types,
        merges: vec!["~ ~".into()],
        eos: Some(EOS),
        stop: vec![EOS],
        ..GgufVocab::default()
    })
    .unwrap()
}

/// A vocabulary, and the control tokens in it.
pub(super) struct Speech {
    marks: Vec<&'static str>,
    tokenizer: Tokenizer,
    vocabulary: Result<Arc<Vocabulary>, String>,
}

impl Speech {
    pub(super) fn new(marks: &[&'static str]) -> Self {
        let tokenizer = tokenizer(marks);
        let vocabulary = Vocabulary::new(&tokenizer, tokenizer.len()).map(Arc::new);
        Self { marks: marks.to_vec(), tokenizer, vocabulary }
    }

    pub(super) fn token(&self, text: &str) -> Option<u32> {
        self.marks.iter().position(|mark| *mark == text).map(|at| EOS + 1 + at as u32)
    }

    pub(super) fn forced(&self, format: ToolFormat, tools: &[Value], choice: &ToolChoice, inside: bool) -> Constraint {
        format.forced(tools, choice, inside, |text| self.token(text)).unwrap()
    }

    fn masks(&self, constraint: &Constraint) -> Masks {
        Masks::new(constraint, &self.vocabulary).unwrap_or_else(|error| panic!("{error}\n{constraint:?}"))
    }

    fn encode(&self, text: &str) -> Vec<u32> {
        let mut tokens = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let mark = self.marks.iter().find(|mark| rest.starts_with(**mark));
            tokens.push(mark.and_then(|mark| self.token(mark)).unwrap_or(u32::from(rest.as_bytes()[0])));
            rest = match mark {
                Some(mark) => &rest[mark.len()..],
                None => {
                    let length = rest.chars().next().unwrap().len_utf8();
                    tokens.extend(rest.as_bytes()[1..length].iter().map(|&b| u32::from(b)));
                    &rest[length..]
                }
            };
        }
        tokens
    }

    /// The tokens that can come first.
    pub(super) fn first(&self, constraint: &Constraint) -> Vec<u32> {
        allowed(&mut self.masks(constraint))
    }

    /// How far a text can be said, and whether it may end there.
    pub(super) fn admits(&self, constraint: &Constraint, text: &str) -> (String, bool) {
        let mut masks = self.masks(constraint);
        let mut said = Vec::new();
        for token in self.encode(text) {
            if masks.is_complete() || !allowed(&mut masks).contains(&token) {
                return (self.spelled(&said), false);
            }
            masks.push(token).unwrap();
            said.push(token);
        }
        let end = masks.is_complete() || allowed(&mut masks).contains(&EOS);
        (self.spelled(&said), end)
    }

    pub(super) fn spelled(&self, tokens: &[u32]) -> String {
        let bytes: Vec<u8> = tokens.iter().flat_map(|&token| self.tokenizer.piece(token).unwrap()).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// An answer drawn at random, in which after a while all that ends something comes first.
    pub(super) fn walk(&self, constraint: &Constraint, seed: u64) -> String {
        let mut masks = self.masks(constraint);
        let mut said = Vec::new();
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut draw = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as usize % below
        };
        let long = 40 + draw(200);
        while !masks.is_complete() {
            let choice = allowed(&mut masks);
            assert!(!choice.is_empty(), "after {:?}", self.spelled(&said));
            let ends = |token: &u32| *token >= EOS || b"\"}]>\n".contains(&(*token as u8));
            let ending: Vec<u32> = choice.iter().copied().filter(ends).collect();
            let hurry = said.len() > long;
            let token = match ending.last() {
                Some(_) if ending.contains(&EOS) && (hurry || draw(3) == 0) => EOS,
                Some(&last) if hurry => {
                    if draw(2) == 0 {
                        last
                    } else {
                        ending[draw(ending.len())]
                    }
                }
                Some(_) if draw(4) == 0 => ending[draw(ending.len())],
                _ => choice[draw(choice.len())],
            };
            if token == EOS {
                break;
            }
            masks.push(token).unwrap();
            said.push(token);
            assert!(said.len() < 3000, "no end of {:?}", self.spelled(&said));
        }
        self.spelled(&said)
    }
}

fn allowed(masks: &mut Masks) -> Vec<u32> {
    let mask = masks.mask().unwrap();
    mask.settle(&[EOS], &[]);
    let bits = mask.words.iter().enumerate().flat_map(|(at, word)| (0..32).map(move |bit| (at, *word, bit)));
    bits.filter(|(_, word, bit)| word >> bit & 1 == 1).map(|(at, _, bit)| at as u32 * 32 + bit).collect()
}
