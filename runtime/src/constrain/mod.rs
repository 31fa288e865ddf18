//! What a reply must look like: a JSON schema, a regular expression or a grammar, and which tokens it lets follow. The
//! grammar work is llguidance's; it is given the bytes of the vocabulary once per model ([`Vocabulary`]). Masks, and the
//! thread that computes them while steps run, are in `masks`; what a schema may ask for is in `schema`; how refusals are
//! put is in `reason`. Not here: what becomes of logits (`sample`), and what was written (`transcript`).

mod masks;
mod reason;
mod schema;

pub(crate) use masks::Masks;

use crate::{Error, Result};
use llguidance::ParserFactory;
use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenizerEnv};
use nano_models::Tokenizer;
use serde_json::Value;
use std::sync::Arc;

/// What a reply must look like. Whatever the model would rather say, only tokens are drawn that can still lead there, and
/// the reply ends when nothing can follow. A reply that is cut off earlier, by its length for instance, is the beginning
/// of such a text.
///
/// The reply's prefix and the results of functions do not count: the constraint holds for what the model writes. A call
/// in the middle of a reply must be something that the constraint lets the model write.
#[derive(Clone, Debug, PartialEq)]
pub enum Constraint {
    /// JSON that fits a schema. Keys come in the schema's order, and white space between values is at most one space, or
    /// a line break and what indents the next line. What cannot be enforced is refused; nothing is left out silently.
    JsonSchema(Value),
    /// A regular expression that the whole text matches, in the syntax of the regex crate, without look-around.
    Regex(String),
    /// A context-free grammar in llguidance's form of Lark, whose first rule is `start`. Control tokens are written by
    /// name, as in `<|tool_call|>`, or by number, as in `<[42]>`.
    Grammar(String),
}

/// Bytes of a grammar and of a regular expression: the work for some grows with the square of their length.
const MAX_GRAMMAR: usize = 64 << 10;
const MAX_REGEX: usize = 16 << 10;
/// How deep brackets may nest in them: what reads them goes as deep.
const MAX_NESTING: usize = 250;

impl Constraint {
    /// What it is, in sentences.
    fn kind(&self) -> &'static str {
        match self {
            Constraint::JsonSchema(_) => "JSON schema",
            Constraint::Regex(_) => "regular expression",
            Constraint::Grammar(_) => "grammar",
        }
    }

    fn error(&self, problem: impl Into<String>) -> Error {
        Error::Constraint { kind: self.kind(), problem: problem.into() }
    }

    /// Looks for what can be refused without a vocabulary.
    pub(crate) fn check(&self) -> Result<()> {
        match self {
            Constraint::JsonSchema(schema) => schema::check(schema),
            Constraint::Regex(regex) => check_text(regex, MAX_REGEX),
            Constraint::Grammar(grammar) => check_text(grammar, MAX_GRAMMAR),
        }
        .map_err(|problem| self.error(problem))
    }

    fn grammar(&self) -> TopLevelGrammar {
        match self {
            Constraint::JsonSchema(schema) => {
                TopLevelGrammar::from_json_schema(schema::with_white_space(schema, schema::WHITE_SPACE))
            }
            Constraint::Regex(regex) => TopLevelGrammar::from_regex(regex),
            Constraint::Grammar(grammar) => TopLevelGrammar::from_lark(grammar.clone()),
        }
    }
}

/// A schema as it stands in a grammar of a call, behind `%json`: nobody reads its layout, so that none is drawn.
pub(crate) fn embedded(schema: &Value) -> Value {
    schema::with_white_space(schema, schema::ONE_SPACE)
}

fn check_text(text: &str, most: usize) -> std::result::Result<(), String> {
    if text.len() > most {
        return Err(format!("it has {} bytes, and may have at most {most}", text.len()));
    }
    let mut open: usize = 0;
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        if open > MAX_NESTING {
            return Err(format!("its brackets nest more than {MAX_NESTING} deep"));
        }
    }
    Ok(())
}

/// A model's tokens as grammars see them. It takes a tenth of a second to make and 400 bytes a token to keep, so
/// that a model makes one, when it is first needed.
pub(crate) struct Vocabulary {
    factory: ParserFactory,
    /// A token that no model has: it stands for the end of the text.
    end: u32,
}

/// A byte that no text has. Before a name it makes that of a control token.
const MARK: u8 = TokTrie::SPECIAL_TOKEN_MARKER;
/// The longest token that may be drawn; runs of spaces come near it.
const LONGEST: usize = 1000;
/// More states of a pattern would take hundreds of megabytes.
const MAX_STATES: usize = 50_000;

impl Vocabulary {
    /// `len` is the length of a row of logits: tokens that the tokenizer does not have are never drawn.
    pub(crate) fn new(tokenizer: &Tokenizer, len: usize) -> std::result::Result<Self, String> {
        let mut words: Vec<Vec<u8>> = (0..len as u32).map(|id| word(tokenizer, id)).collect();
        words.push(vec![MARK, MARK]);
        let end = len as u32;
        let env: TokEnv = Arc::new(Words(TokTrie::from(&TokRxInfo::new(end + 1, end), &words)));
        let mut factory = ParserFactory::new(
            &env,
            InferenceCapabilities::default(),
            &llguidance::earley::SlicedBiasComputer::general_slices(),
        )
        .map_err(|error| reason::problem(&error.to_string()))?;
        // It would write to stderr.
        factory.quiet();
        let limits = factory.limits_mut();
        limits.verbose_errors = false;
        limits.max_lexer_states = MAX_STATES;
        Ok(Self { factory, end })
    }
}

/// What a grammar sees of a token: its bytes; its name, marked, if it is a control token or ends replies; nothing, if
/// it cannot be part of a text.
fn word(tokenizer: &Tokenizer, id: u32) -> Vec<u8> {
    let Some(bytes) = tokenizer.piece(id).filter(|bytes| !bytes.contains(&MARK) && bytes.len() <= LONGEST) else {
        return Vec::new();
    };
    let control = tokenizer.is_control(id) || tokenizer.stop().contains(&id);
    let mark = (control && !bytes.is_empty()).then_some(MARK);
    mark.into_iter().chain(bytes).collect()
}

/// The tokens, for llguidance. It never asks how the tokenizer would split a text.
struct Words(TokTrie);

impl TokenizerEnv for Words {
    fn tok_trie(&self) -> &TokTrie {
        &self.0
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<u32> {
        self.0.greedy_tokenize(bytes)
    }

    fn tokenize_is_canonical(&self) -> bool {
        false
    }
}

#[cfg(test)]
#[path = "measure_tests.rs"]
mod measure;
