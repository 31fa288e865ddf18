//! `tokenize` and `detokenize`. Only the tokenizer is read, no weights.

use crate::args::{DetokenizeArgs, TokenizeArgs};
use crate::ids;
use crate::out::{self, Log};
use anyhow::{Result, bail};
use nano_models::{Control, Tokenizer};
use std::io::Read;

/// Prints the ids of a text.
pub fn tokenize(args: &TokenizeArgs, log: &Log) -> Result<()> {
    let tokenizer = crate::model::checkpoint(&args.model.model, log)?.tokenizer()?;
    let text = match &args.text {
        Some(text) => text.clone(),
        None => stdin_text()?,
    };
    let mut tokens = Vec::new();
    if args.bos {
        match tokenizer.bos() {
            Some(bos) => tokens.push(bos),
            None => bail!("--bos: the model has no beginning-of-sequence token"),
        }
    }
    tokens.extend(tokenizer.encode(&text, if args.special { Control::Parse } else { Control::Text })?);
    out::json(&tokens)
}

/// Prints the text of ids.
pub fn detokenize(args: &DetokenizeArgs, log: &Log) -> Result<()> {
    let tokenizer = crate::model::checkpoint(&args.model.model, log)?.tokenizer()?;
    let ids = match &args.ids {
        Some(ids) => ids::parse_arg(ids)?,
        None => ids::parse(&stdin_text()?)?,
    };
    out::write(bytes(&tokenizer, &ids)?)
}

/// All of stdin, which must be UTF-8.
pub fn stdin_text() -> Result<String> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes)?;
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        let line = e.as_bytes()[..at].iter().filter(|&&b| b == b'\n').count() + 1;
        anyhow::anyhow!("stdin, line {line}: the text is not UTF-8 (byte {at} of the input)")
    })
}

/// The exact bytes of tokens, whole characters or not.
fn bytes(tokenizer: &Tokenizer, ids: &[u32]) -> Result<Vec<u8>> {
    let text = tokenizer.decode(ids)?;
    if !text.contains(char::REPLACEMENT_CHARACTER) {
        return Ok(text.into_bytes());
    }
    let pieces: Vec<u8> = ids.iter().filter_map(|&id| tokenizer.piece(id)).flatten().collect();
    // Some tokenizers invent a space at the start of a text, which is not part of it.
    let invented = pieces.starts_with(b" ") && !text.starts_with(' ');
    Ok(pieces[usize::from(invented)..].to_vec())
}
