//! Text to tokens and back. [`Tokenizer`] is the whole door: it is built from a tokenizer.json or from the vocabulary of
//! a GGUF file, and hides which of the two it was. Not here: chat templates (another crate renders them) and where the
//! files come from (`checkpoint`).
//!
//! Control tokens come from a template alone. A template loses the borders of what a user wrote, so
//! [`Tokenizer::hide_control`] breaks the spellings of control tokens in a user's text before it is rendered, and
//! [`Tokenizer::encode`] mends them after the rendered text was split at the control tokens that the template itself
//! wrote (`control` says how).

mod added;
mod bpe;
mod charsmap;
mod control;
mod detokenize;
mod encoder;
mod gguf;
mod hf;
mod hf_json;
mod merge;
mod model;
mod pieces;
mod spm;
mod stages;
mod stop;
mod to_gguf;

pub use detokenize::Detokenizer;
pub use gguf::GgufVocab;
pub use hf::HfVocab;

use crate::{Error, Result};
use encoder::{Before, Encoder};
use pieces::{Kind, Pieces};
use std::sync::Arc;

/// What to do with spellings of control tokens in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// They become control tokens: for text that a template rendered.
    Parse,
    /// They are ordinary text: for what a user wrote.
    Text,
}

/// A model's tokenizer. Cheap to clone, and shared between threads.
#[derive(Clone)]
pub struct Tokenizer(Arc<Inner>);

struct Inner {
    encoder: Encoder,
    pieces: Pieces,
    bos: Option<u32>,
    eos: Option<u32>,
    stop: Vec<u32>,
    add_bos: bool,
}

impl Tokenizer {
    /// Builds the tokenizer of a GGUF file.
    pub fn from_gguf(vocab: GgufVocab) -> Result<Self> {
        Ok(Self(Arc::new(gguf::build(vocab)?)))
    }

    /// Builds the tokenizer of a Hugging Face folder.
    pub fn from_hf(vocab: HfVocab) -> Result<Self> {
        Ok(Self(Arc::new(hf::build(vocab)?)))
    }

    /// A stand-in for a checkpoint that has no tokenizer: `len` tokens whose texts are their numbers, for those who bring
    /// ids and want ids.
    pub fn numbered(len: usize) -> Result<Self> {
        let tokens = (0..len).map(|id| format!("[{id}]")).collect();
        // The kind of vocabulary that needs nothing but its tokens.
        Self::from_gguf(GgufVocab { model: "llama".to_owned(), tokens, scores: vec![0.0; len], ..GgufVocab::default() })
    }

    /// The tokens of a whole text. A beginning-of-sequence token is never added: see [`Tokenizer::add_bos`].
    pub fn encode(&self, text: &str, control: Control) -> Result<Vec<u32>> {
        self.0.encoder.encode(text, control, Before::Nothing)
    }

    /// The tokens of a text that goes on where other text ended: no space is invented at its start, as some tokenizers
    /// do at the start of a text. Control tokens are parsed.
    pub fn encode_next(&self, text: &str) -> Result<Vec<u32>> {
        self.0.encoder.encode(text, Control::Parse, Before::Text)
    }

    /// The tokens of a text that follows the token `last`. After ordinary text this is [`Tokenizer::encode_next`]; after
    /// a control token it is what the whole text would have given there, which for some tokenizers begins with a space.
    pub fn encode_after(&self, last: u32, text: &str) -> Result<Vec<u32>> {
        let before = match self.0.pieces.kind(last) {
            Kind::Control | Kind::Added => Before::Token,
            _ => Before::Text,
        };
        self.0.encoder.encode(text, Control::Parse, before)
    }

    /// Breaks the spellings of control tokens in a user's text, so that [`Control::Parse`] reads them as ordinary text
    /// once a template has put the text into a prompt. The text itself comes out of the tokenizer unchanged.
    pub fn hide_control(&self, text: &str) -> String {
        self.0.encoder.hide_control(text)
    }

    /// Undoes [`Tokenizer::hide_control`].
    pub fn show_control(text: &str) -> String {
        control::show(text).into_owned()
    }

    /// The text of tokens, control tokens shown by their spelling. Bytes that are no UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let pieces = &self.0.pieces;
        let mut bytes = Vec::new();
        for (i, &id) in ids.iter().enumerate() {
            if id as usize >= pieces.len() {
                return Err(Error::TokenId { id, len: pieces.len() });
            }
            pieces.write(id, i == 0, &mut bytes);
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The bytes of one token as it stands inside a text (not at its start). A control token gives its spelling.
    pub fn piece(&self, id: u32) -> Option<Vec<u8>> {
        let pieces = &self.0.pieces;
        (pieces.kind(id) != Kind::Absent).then(|| {
            let mut bytes = Vec::new();
            pieces.write(id, false, &mut bytes);
            bytes
        })
    }

    /// Whether a token is a control token: `special` in a tokenizer.json, type 3 (or unknown, type 2) in a GGUF file.
    pub fn is_control(&self, id: u32) -> bool {
        self.0.pieces.kind(id) == Kind::Control
    }

    /// The beginning-of-sequence token.
    pub fn bos(&self) -> Option<u32> {
        self.0.bos
    }

    /// The end-of-sequence token.
    pub fn eos(&self) -> Option<u32> {
        self.0.eos
    }

    /// The tokens that end a turn, each once.
    pub fn stop(&self) -> &[u32] {
        &self.0.stop
    }

    /// Whether the model wants [`Tokenizer::bos`] before a plain text. Templates write it themselves.
    pub fn add_bos(&self) -> bool {
        self.0.add_bos
    }

    /// One more than the highest id.
    #[allow(clippy::len_without_is_empty)] // a tokenizer without tokens cannot be built
    pub fn len(&self) -> usize {
        self.0.pieces.len()
    }

    /// The spelling of a token, as templates want it for `bos_token` and `eos_token`; empty for none.
    pub fn token_text(&self, id: Option<u32>) -> String {
        id.and_then(|id| self.0.pieces.spelling(id)).unwrap_or_default().to_owned()
    }

    /// Turns tokens into text one at a time, for a text that starts with them.
    pub fn detokenizer(&self) -> Detokenizer {
        Detokenizer::new(self.clone(), true)
    }

    /// Turns tokens into text one at a time, for tokens that continue a text: a space at their start is kept.
    pub fn detokenizer_inside(&self) -> Detokenizer {
        Detokenizer::new(self.clone(), false)
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("len", &self.len())
            .field("bos", &self.0.bos)
            .field("stop", &self.0.stop)
            .finish()
    }
}
