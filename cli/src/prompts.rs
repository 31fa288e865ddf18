//! Texts that may be given as files: prompts and system prompts. A file counts only if it exists and has one of the
//! endings; everything else is text as it stands.

use crate::out::Log;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::Path;

/// No prompt is longer; a file that is does not hold prompts.
const LONGEST: u64 = 256 << 20;

/// One turn that was given in advance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    pub text: String,
    /// From a file, where the bare words `reset` and `clear` are commands.
    pub from_file: bool,
}

/// The prompts of all `--prompt` flags, in order.
pub fn prompts(values: &[String], log: &Log) -> Result<Vec<Prompt>> {
    let mut out = Vec::new();
    for value in values {
        match texts(value, log)? {
            Some(texts) => out.extend(texts.into_iter().map(|text| Prompt { text, from_file: true })),
            None => out.push(Prompt { text: value.clone(), from_file: false }),
        }
    }
    Ok(out)
}

/// The text of `--system-prompt`: as it stands, or of a file; several texts of a file are joined by spaces.
pub fn system_prompt(value: &str, log: &Log) -> Result<String> {
    Ok(texts(value, log)?.map_or_else(|| value.to_owned(), |texts| texts.join(" ")))
}

/// The texts in a file of prompts. `None`: the value is no such file.
fn texts(value: &str, log: &Log) -> Result<Option<Vec<String>>> {
    let path = Path::new(value);
    let ending = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
    let json = match ending.as_deref() {
        Some("txt") => false,
        Some("json") => true,
        _ => return Ok(None),
    };
    let Ok(meta) = std::fs::metadata(path) else {
        if !value.contains(char::is_whitespace) {
            log.note(format_args!("there is no file {value}: it is taken as text"));
        }
        return Ok(None);
    };
    if meta.len() > LONGEST {
        bail!("{value}: {} bytes are too many for a file of prompts", meta.len());
    }
    let bytes = std::fs::read(path).with_context(|| format!("{value}: cannot be read"))?;
    let Ok(text) = String::from_utf8(bytes) else { bail!("{value}: is not UTF-8 text") };
    if json { from_json(&text).map(Some).with_context(|| value.to_owned()) } else { Ok(Some(vec![one_line_end(text)])) }
}

/// Takes off the line end that editors put after a text.
pub fn one_line_end(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}

fn from_json(text: &str) -> Result<Vec<String>> {
    const FORM: &str = r#"a JSON array of strings or of {"text": …} is needed"#;
    let value: Value = serde_json::from_str(text).context(FORM)?;
    let Value::Array(entries) = value else { bail!("the file holds no array: {FORM}") };
    let texts = entries.iter().enumerate().map(|(i, entry)| {
        let text = entry.as_str().or_else(|| entry.get("text").and_then(Value::as_str));
        text.map(str::to_owned).with_context(|| format!("entry {i} has no text: {FORM}"))
    });
    texts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::LogLevel;
    use crate::style::Terminals;
    use nano_models::testing::TempDir;

    fn log() -> Log {
        Log::new(LogLevel::Critical, Terminals::look())
    }

    fn texts_of(values: &[&str]) -> Vec<(String, bool)> {
        let values: Vec<String> = values.iter().map(|v| (*v).to_owned()).collect();
        prompts(&values, &log()).unwrap().into_iter().map(|p| (p.text, p.from_file)).collect()
    }

    #[test]
    fn text_and_files() {
        let dir = TempDir::new("prompts");
        let txt = dir.write("One.TXT", "two\nlines\r\n");
        let json = dir.write("list.json", r#"["a", {"text": "b", "num_tokens": 3}, "reset"]"#);
        let other = dir.write("notes.md", "not read");
        let (txt, json, other) = (txt.to_str().unwrap(), json.to_str().unwrap(), other.to_str().unwrap());
        let file = |text: &str| (text.to_owned(), true);
        assert_eq!(
            texts_of(&["hi", txt, json, other, "/nowhere.txt"]),
            [
                ("hi".to_owned(), false),
                file("two\nlines"),
                file("a"),
                file("b"),
                file("reset"),
                (other.to_owned(), false),
                ("/nowhere.txt".to_owned(), false)
            ]
        );
        assert_eq!(system_prompt(json, &log()).unwrap(), "a b reset");
        assert_eq!(system_prompt("Be brief.", &log()).unwrap(), "Be brief.");
    }

    #[test]
    fn bad_files_are_named() {
        let dir = TempDir::new("prompts");
        for (content, word) in [("{}", "no array"), ("[1]", "entry 0"), ("[", "EOF"), ("[{\"txt\": 1}]", "entry 0")] {
            let path = dir.write("bad.json", content);
            let error = format!("{:#}", prompts(&[path.to_str().unwrap().to_owned()], &log()).unwrap_err());
            assert!(error.contains("bad.json") && error.contains(word), "{error}");
        }
        let path = dir.write("bad.txt", [0xff, 0xfe]);
        assert!(prompts(&[path.to_str().unwrap().to_owned()], &log()).is_err());
        assert!(prompts(&[dir.path().to_str().unwrap().to_owned()], &log()).is_ok(), "a folder is no file of prompts");
    }
}
