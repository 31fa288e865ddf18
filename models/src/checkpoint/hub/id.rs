//! How a model is named on the command line: a path, or a Hub id. A path that exists always wins.

use crate::checkpoint::normal;
use crate::{Error, Result};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where a model is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A file or folder of this machine.
    Path(PathBuf),
    /// A model of the Hub.
    Hub(ModelId),
}

impl FromStr for Location {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let path = Path::new(text);
        if !text.is_empty() && path.exists() {
            return Ok(Location::Path(normal(path)));
        }
        if looks_like_path(text) {
            return Err(Error::NotFound { path: path.to_path_buf() });
        }
        text.parse().map(Location::Hub)
    }
}

/// Whether nobody would write a Hub id like this.
fn looks_like_path(text: &str) -> bool {
    let starts = ["/", "./", "../", "~", "\\"].iter().any(|p| text.starts_with(p)) || text == "." || text == "..";
    let plain_file =
        !text.contains(':') && [".gguf", ".safetensors", ".json", ".bin"].iter().any(|e| text.ends_with(e));
    starts || plain_file || text.ends_with('/') || text.matches('/').count() > 1 && !text.contains([':', '@'])
}

/// A model of the Hub: `org/name`, optionally a revision and one file of it: `org/name@revision:file.gguf`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelId {
    repo: String,
    revision: Option<String>,
    file: Option<String>,
}

impl ModelId {
    /// `org/name`.
    pub fn repo(&self) -> &str {
        &self.repo
    }

    /// The branch, tag or commit. "main" unless stated.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    /// The one file that is meant, if stated.
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repo)?;
        if let Some(revision) = &self.revision {
            write!(f, "@{revision}")?;
        }
        if let Some(file) = &self.file {
            write!(f, ":{file}")?;
        }
        Ok(())
    }
}

impl FromStr for ModelId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: &str| Error::ModelId { text: crate::error::printable(text), why: why.into() };
        let (repo, rest) = text.split_at(text.find(['@', ':']).unwrap_or(text.len()));
        let Some((org, name)) = repo.split_once('/') else {
            return Err(wrong("no such file or folder, and no organisation before the name"));
        };
        if !is_name(org) || !is_name(name) {
            return Err(wrong("no such file or folder, and no Hub id: names are letters, digits, '.', '_' and '-'"));
        }
        let mut id = ModelId { repo: repo.to_owned(), revision: None, file: None };
        // Revision and file may stand in either order; neither holds the other's mark.
        let mut rest = rest;
        while let Some(mark) = rest.chars().next() {
            let tail = &rest[1..];
            let (part, next) = tail.split_at(tail.find(['@', ':']).unwrap_or(tail.len()));
            let slot = if mark == '@' { &mut id.revision } else { &mut id.file };
            if !is_relative(part) || slot.replace(part.to_owned()).is_some() {
                return Err(wrong(if mark == '@' { "the revision is wrong" } else { "the file is wrong" }));
            }
            rest = next;
        }
        if id.file.as_deref().is_some_and(|f| !f.ends_with(".gguf")) {
            return Err(wrong("the file after ':' must be a .gguf file"));
        }
        Ok(id)
    }
}

/// A part of a Hub id. It also becomes a folder's name in the cache.
fn is_name(name: &str) -> bool {
    const LONGEST: usize = 96;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty()
        && name.len() <= LONGEST
        && name.chars().all(allowed)
        && !name.starts_with(['.', '-'])
        && !name.ends_with(['.', '-'])
        && !name.contains("..")
        && !name.contains("--")
}

/// A relative path of plain parts: it cannot lead out of the folder it is joined to.
pub(super) fn is_relative(path: &str) -> bool {
    let allowed = |c: char| !c.is_control() && !c.is_whitespace() && !matches!(c, '\\' | ':' | '?' | '#' | '%');
    path.chars().all(allowed) && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_and_shown() {
        for (text, repo, revision, file) in [
            ("org/name", "org/name", "main", None),
            ("o-1/n_2.x:a/b-Q4_0.gguf", "o-1/n_2.x", "main", Some("a/b-Q4_0.gguf")),
            ("org/name@refs/pr/1", "org/name", "refs/pr/1", None),
            ("org/name@v1:f.gguf", "org/name", "v1", Some("f.gguf")),
        ] {
            let id: ModelId = text.parse().unwrap();
            assert_eq!((id.repo(), id.revision(), id.file()), (repo, revision, file), "{text}");
            assert_eq!(id.to_string(), text);
        }
        let id: ModelId = "org/name:f.gguf@v1".parse().unwrap();
        assert_eq!(id.to_string(), "org/name@v1:f.gguf");
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in [
            "",
            "name",
            "/",
            "a/",
            "/b",
            "a/b/c",
            "a b/c",
            "../x",
            "a/..",
            "a/b--c",
            "a/b@",
            "a/b:",
            "a/b:x.bin",
            "a/b:../x.gguf",
            "a/b@../../x",
            "a/b@v@w",
            "a/b:/x.gguf",
            "a/é",
            "a/b:x y.gguf",
            "a/-b",
            "a/b@x%2e",
        ] {
            assert!(text.parse::<ModelId>().is_err(), "{text:?}");
        }
        assert!(format!("{}/b", "a".repeat(97)).parse::<ModelId>().is_err());
    }

    #[test]
    fn paths_win_and_are_told_apart() {
        let folder = std::env::temp_dir();
        let with_slash = format!("{}/", folder.display());
        assert_eq!(with_slash.parse::<Location>().unwrap(), Location::Path(normal(&folder)));
        for text in ["./org/name", "/org/name", "models/x.gguf", "a/b/c", "org/name/", "~/x"] {
            assert!(matches!(text.parse::<Location>(), Err(Error::NotFound { .. })), "{text}");
        }
        assert!(matches!("org/name".parse::<Location>(), Ok(Location::Hub(_))));
        assert!(matches!("org/name:sub/x.gguf".parse::<Location>(), Ok(Location::Hub(_))));
        assert!(matches!("nothing".parse::<Location>(), Err(Error::ModelId { .. })));
    }
}
