//! Models in several GGUF files, `NAME-00001-of-0000N.gguf`: the first has all metadata, each has some of the tensors.
//! Their names, and what each says of itself, are told here; nothing is read.

use super::value::{Fault, Value};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

type Values = BTreeMap<String, Value>;

/// Most parts of a model. The largest published models have a few dozen.
const MAX_PARTS: u64 = 4096;

/// The names of all parts of the model whose part this is, by its name; `None` if the name is of no part.
pub(in crate::checkpoint) fn names(file: &str) -> Option<Vec<String>> {
    let number = |text: &str| match text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit()) {
        true => text.parse::<u64>().ok(),
        false => None,
    };
    let (rest, count) = file.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (stem, at) = rest.rsplit_once('-')?;
    let (at, count) = (number(at)?, number(count)?);
    let fits = (1..=MAX_PARTS).contains(&count) && (1..=count).contains(&at);
    fits.then(|| (1..=count).map(|i| format!("{stem}-{i:05}-of-{count:05}.gguf")).collect())
}

/// Of files some of which may be parts, one for each model.
pub(in crate::checkpoint) fn models<T: Clone>(files: &[T], name: impl Fn(&T) -> String) -> Vec<T> {
    let mut seen = Vec::new();
    let mut out = Vec::new();
    for file in files {
        let name = name(file);
        let model = names(&name).and_then(|parts| parts.into_iter().next()).unwrap_or(name);
        if !seen.contains(&model) {
            seen.push(model);
            out.push(file.clone());
        }
    }
    out
}

/// A number of the metadata; 0 where there is none, as in files that are whole.
fn number(values: &Values, key: &str) -> std::result::Result<u64, Fault> {
    match values.get(key) {
        None => Ok(0),
        Some(Value::Unsigned(n)) => Ok(*n),
        Some(Value::Signed(n)) if *n >= 0 => Ok(*n as u64),
        Some(_) => Err("is no number from 0 on".into()),
    }
}

/// How many parts the model has that this file belongs to: 1 if it is whole.
pub(super) fn count(path: &Path, values: &Values) -> Result<u64> {
    let key = "split.count";
    match number(values, key).map_err(|why| Error::key(path, key, why))? {
        0 => Ok(1),
        n if n <= MAX_PARTS => Ok(n),
        n => Err(Error::key(path, key, format!("is {n}; at most {MAX_PARTS} parts are read"))),
    }
}

/// How many tensors all parts have together, if the file says so.
pub(super) fn tensors(path: &Path, values: &Values) -> Result<Option<u64>> {
    let key = "split.tensors.count";
    let found = number(values, key).map_err(|why| Error::key(path, key, why))?;
    Ok((found != 0).then_some(found))
}

/// All parts of a model of `count` parts, by the path of one of them. They are all there.
pub(super) fn paths(path: &Path, count: u64) -> Result<Vec<PathBuf>> {
    let file = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let Some(names) = names(&file).filter(|names| names.len() as u64 == count) else {
        let why = format!(
            "is one of {count} parts of a model, and its name does not end in -00001-of-{count:05}.gguf or the like, \
             by which the others are found; give it the name it had"
        );
        return Err(Error::file(path, why));
    };
    let paths: Vec<PathBuf> = names.iter().map(|name| path.with_file_name(name)).collect();
    let absent: Vec<&String> = names.iter().zip(&paths).filter(|(_, p)| !p.is_file()).map(|(name, _)| name).collect();
    if let Some(first) = absent.first() {
        let why = format!(
            "is one of {count} parts of a model, of which {} are not beside it, {first} first; download them",
            absent.len()
        );
        return Err(Error::file(path, why));
    }
    Ok(paths)
}

/// Checks that a part is the one that its name says.
pub(super) fn check(path: &Path, values: &Values, at: usize, count: u64) -> Result<()> {
    let found = number(values, "split.no").map_err(|why| Error::key(path, "split.no", why))?;
    if self::count(path, values)? != count || found != at as u64 {
        let parts = self::count(path, values)?;
        let why = format!(
            "says that it is part {} of {parts}, and by its name it is part {} of {count}; download it again",
            found.saturating_add(1),
            at + 1
        );
        return Err(Error::file(path, why));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_parts() {
        let parts = names("a-of-b-00002-of-00003.gguf").unwrap();
        assert_eq!(parts.len(), 3);
        assert_eq!(parts[0], "a-of-b-00001-of-00003.gguf");
        for none in ["m.gguf", "m-00000-of-00003.gguf", "m-00004-of-00003.gguf", "m-1-of-3.gguf", "m-00001-of-00003"] {
            assert_eq!(names(none), None, "{none}");
        }
        assert_eq!(names("m-00001-of-99999.gguf"), None);
        let files = ["a-00001-of-00002.gguf", "a-00002-of-00002.gguf", "b.gguf", "b-00001-of-00001.gguf"];
        assert_eq!(models(&files, |f| (*f).to_owned()), [files[0], files[2], files[3]]);
    }
}
