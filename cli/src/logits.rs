//! `logits`: what a model thinks of given tokens, for tests against other implementations.

use crate::args::LogitsArgs;
use crate::ids;
use crate::out::{self, Log};
use anyhow::{Context, Result, bail, ensure};
use nano_runtime::{ChatHistory, ChatOptions, GenerateOptions, ModelOptions, NanoModel, Template};
use serde::Serialize;
use serde::ser::SerializeMap;
use serde_json::Value;
use std::path::Path;

/// Prints one object, or one per name of a batch.
pub fn run(args: &LogitsArgs, log: &Log) -> Result<()> {
    if let Some(path) = &args.session {
        return out::json(&saved(path, args, log)?);
    }
    let (batch, named) = match (&args.tokens, &args.tokens_file) {
        (Some(tokens), _) => (vec![(String::new(), ids::parse_arg(tokens).context("--tokens")?)], false),
        (None, Some(file)) => {
            let text = std::fs::read_to_string(file).with_context(|| format!("{}: cannot be read", file.display()))?;
            (read_batch(&text).with_context(|| file.display().to_string())?, true)
        }
        (None, None) => bail!("--tokens or --tokens-file is needed"),
    };
    for (name, tokens) in &batch {
        let what = if named { format!("{name:?}: ") } else { String::new() };
        ensure!(!tokens.is_empty(), "{what}the list of tokens is empty");
    }
    let Some(longest) = batch.iter().map(|(_, tokens)| tokens.len()).max() else { bail!("the batch is empty") };
    let needed = longest + args.generate;
    let model = crate::model::open_for_ids(&args.load, args.threads.threads, Some(needed), log)?;
    let room = model.info().context;
    ensure!(room >= needed, "the context holds {room} tokens and {needed} are needed: take fewer, or raise --memory");
    let mut answers = Answers(Vec::new());
    for (name, tokens) in batch {
        let answer = answer(&model, tokens, args);
        answers.0.push((name.clone(), if named { answer.with_context(|| format!("{name:?}"))? } else { answer? }));
    }
    match &answers.0[..] {
        [(_, answer)] if !named => out::json(answer),
        _ => out::json(&answers),
    }
}

/// What one list of tokens gives.
#[derive(Serialize)]
struct Answer {
    input_ids: Vec<u32>,
    logits: Vec<f32>,
    tokens: Vec<u32>,
    /// Null where the tokens' own logits were not computed.
    nll_sum: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pos_argmax: Option<Vec<u32>>,
}

/// An object in the order of the batch.
struct Answers(Vec<(String, Answer)>);

impl Serialize for Answers {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, answer) in &self.0 {
            map.serialize_entry(name, answer)?;
        }
        map.end()
    }
}

fn answer(model: &NanoModel, input_ids: Vec<u32>, args: &LogitsArgs) -> Result<Answer> {
    let (mut logits, mut nll_sum, mut pos_argmax) = (Vec::new(), 0.0, Vec::new());
    model.score(&input_ids, 0..input_ids.len(), |row, values| {
        pos_argmax.push(argmax(values));
        match input_ids.get(row + 1) {
            Some(&next) => nll_sum += nll(values, next),
            None => logits = values.to_vec(),
        }
    })?;
    let tokens = match args.generate {
        0 => Vec::new(),
        n => {
            let options = GenerateOptions { max_new_tokens: n, ignore_eos: true, ..GenerateOptions::default() };
            model.generate(input_ids.clone(), model.cache(), &options).wait()?.tokens
        }
    };
    Ok(Answer { input_ids, logits, tokens, nll_sum: Some(nll_sum), pos_argmax: args.all.then_some(pos_argmax) })
}

/// What a saved conversation gives, from the rows that were saved with it.
fn saved(path: &Path, args: &LogitsArgs, log: &Log) -> Result<Answer> {
    let template = args.chat_template.as_deref().map(Template::resolve).transpose()?;
    let options = ModelOptions { template, ..crate::model::options(&args.load.machine, args.threads.threads, None) };
    let model = crate::model::open_for_chat(&args.load.model.model, options, log)?;
    let (mut history, notices) = ChatHistory::load(&model, path, ChatOptions::default())?;
    notices.iter().for_each(|notice| log.warn(notice));
    let input_ids: Vec<u32> = (0..history.messages().len()).flat_map(|i| history.message_tokens(i)).collect();
    ensure!(!input_ids.is_empty(), "{}: no token of its conversation is known to this model", path.display());
    let logits = history.logits()?;
    Ok(Answer { input_ids, logits, tokens: Vec::new(), nll_sum: None, pos_argmax: None })
}

/// The negative natural logarithm of a token's probability.
pub fn nll(logits: &[f32], token: u32) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max) as f64;
    let sum: f64 = logits.iter().map(|&l| (l as f64 - most).exp()).sum();
    most + sum.ln() - logits[token as usize] as f64
}

/// The most likely token; of equals the lowest id.
fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (token, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = token;
        }
    }
    best as u32
}

fn read_batch(text: &str) -> Result<Vec<(String, Vec<u32>)>> {
    const FORM: &str = "a JSON object {name: [ids], …} is needed";
    let value: Value = serde_json::from_str(text).context(FORM)?;
    let Value::Object(entries) = value else { bail!("the file holds no object: {FORM}") };
    let lists = entries.into_iter().map(|(name, value)| match serde_json::from_value(value) {
        Ok(ids) => Ok((name, ids)),
        Err(error) => bail!("{name:?} is no list of ids ({error}): {FORM}"),
    });
    lists.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn likelihoods() {
        // Two tokens, one e times as likely as the other.
        let p = std::f64::consts::E / (1.0 + std::f64::consts::E);
        assert!((nll(&[1.0, 0.0], 0) + p.ln()).abs() < 1e-12);
        assert!((nll(&[1e30, -1e30], 0)).abs() < 1e-12);
        assert_eq!(argmax(&[0.5, 2.0, 2.0]), 1);
    }

    #[test]
    fn floats_are_short_and_exact() {
        let answer = Answer {
            input_ids: vec![1],
            logits: vec![0.1, -1.5e-7],
            tokens: vec![],
            nll_sum: Some(0.5),
            pos_argmax: None,
        };
        let text = serde_json::to_string(&Answers(vec![("b".into(), answer)])).unwrap();
        assert_eq!(text, r#"{"b":{"input_ids":[1],"logits":[0.1,-1.5e-7],"tokens":[],"nll_sum":0.5}}"#);
    }

    #[test]
    fn batches() {
        let batch = read_batch(r#"{"z": [1, 2], "a": [3]}"#).unwrap();
        assert_eq!(batch, [("z".into(), vec![1, 2]), ("a".into(), vec![3])]);
        for bad in ["[1]", "{", r#"{"a": "x"}"#, r#"{"a": [-1]}"#, r#"{"a": [1.5]}"#] {
            assert!(read_batch(bad).is_err(), "{bad}");
        }
    }
}
