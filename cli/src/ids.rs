//! Lists of token ids, as people and programs write them: `1,2,3`, `1 2 3`, `[1, 2, 3]`, or `@FILE` with one of these.

use anyhow::{Context, Result, bail};

/// Reads a value from the command line.
pub fn parse_arg(text: &str) -> Result<Vec<u32>> {
    match text.strip_prefix('@') {
        Some(file) => {
            let list = std::fs::read_to_string(file).with_context(|| format!("{file}: cannot be read"))?;
            parse(&list).with_context(|| file.to_owned())
        }
        None => parse(text),
    }
}

/// Reads a list.
pub fn parse(text: &str) -> Result<Vec<u32>> {
    let trimmed = text.trim();
    let bare = trimmed.strip_prefix('[').map_or(Some(trimmed), |rest| rest.strip_suffix(']'));
    let Some(bare) = bare.map(str::trim) else { bail!("a list of token ids begins with [ and does not end with ]") };
    if bare.is_empty() {
        return Ok(Vec::new());
    }
    let commas = bare.contains(',');
    let parts: Vec<&str> =
        if commas { bare.split(',').map(str::trim).collect() } else { bare.split_whitespace().collect() };
    parts
        .into_iter()
        .map(|part| part.parse().with_context(|| format!("{part:?} is no token id; write ids as in 1,2,3")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_lists() {
        for text in ["1,2,3", " 1, 2, 3\n", "[1,2,3]", "1 2\n3", "[ 1, 2, 3 ]\n"] {
            assert_eq!(parse(text).unwrap(), [1, 2, 3], "{text:?}");
        }
        assert!(parse("").unwrap().is_empty() && parse("[]").unwrap().is_empty());
        for text in ["1,,2", "a", "-1", "1;2", "[1", "4294967296", "1.5", "1, 2,"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
