//! What can go wrong between a file and a model. Each message names the file, tensor or key, what was found there, and
//! what to do where that is known. Nothing here decides; the readers do.

use std::path::{Path, PathBuf};

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Errors of files, downloads, tokenizers and loading.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // ---- files -------------------------------------------------------------------------------------------------
    /// There is nothing at this path.
    #[error("{}: no such file or folder", .path.display())]
    NotFound {
        /// The path asked for.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("{}: {doing}: {source}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was being done, as in "cannot be opened".
        doing: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file or folder is not what it should be.
    #[error("{}: {why}", .path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What was found, and what would do.
        why: String,
    },
    /// A tensor's entry or data is wrong.
    #[error("{}: tensor {name}: {why}", .path.display())]
    Tensor {
        /// The file or folder.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// What was found, and what would do.
        why: String,
    },
    /// A number or option of the model is not in its file.
    #[error("{}: {key} is missing", .path.display())]
    MissingKey {
        /// The file.
        path: PathBuf,
        /// The key looked for, as this container spells it.
        key: String,
    },
    /// A number or option of the model has the wrong type or value.
    #[error("{}: {key} {why}", .path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The key, as this container spells it.
        key: String,
        /// What was found and what is needed, as in "is a string; a number is needed".
        why: String,
    },

    // ---- the Hub -----------------------------------------------------------------------------------------------
    /// A text that is no Hub id.
    #[error("{text:?}: {why}; a model of the Hub is written org/name, org/name:file.gguf or org/name@revision")]
    ModelId {
        /// What was given.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// The Hub does not show this model to us.
    #[error("{id}: the Hub refused it (status {status}): {hint}")]
    Denied {
        /// The model asked for.
        id: String,
        /// 401 or 403.
        status: u16,
        /// What to do.
        hint: &'static str,
    },
    /// The Hub has no such model, revision or file.
    #[error("{id}: {why}")]
    NoSuchModel {
        /// The model asked for.
        id: String,
        /// What is missing, and what there is.
        why: String,
    },
    /// The Hub cannot be reached, or a download broke off.
    #[error("{id}: {what}: {why}; check the network and run this again (a download goes on where it stopped)")]
    Network {
        /// The model asked for.
        id: String,
        /// What was being fetched.
        what: String,
        /// What went wrong.
        why: String,
    },
    /// The model is not in the cache and the network is off limits.
    #[error("{id}: not complete in the cache folder {} and HF_HUB_OFFLINE is set; unset it to download", .cache.display())]
    Offline {
        /// The model asked for.
        id: String,
        /// The cache folder.
        cache: PathBuf,
    },
    /// The cache folder cannot be used.
    #[error("{}: the cache folder cannot be written: {source}; set HF_HOME or HF_HUB_CACHE to a folder that can", .path.display())]
    Cache {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },

    // ---- text --------------------------------------------------------------------------------------------------
    /// A text that the tokenizer cannot turn into tokens.
    #[error("the text cannot be tokenized: {why}")]
    Encode {
        /// What the tokenizer's model said.
        why: String,
    },
    /// A token id that the vocabulary does not have.
    #[error("token id {id} is not in the vocabulary, which ends at {}", .len - 1)]
    TokenId {
        /// The id.
        id: u32,
        /// How many ids there are.
        len: usize,
    },

    // ---- numbers -----------------------------------------------------------------------------------------------
    /// An error of the floor below.
    #[error(transparent)]
    Kernels(#[from] nano_kernels::Error),
}

impl Error {
    pub(crate) fn io(path: &Path, doing: &'static str, source: std::io::Error) -> Self {
        if source.kind() == std::io::ErrorKind::NotFound {
            return Error::NotFound { path: path.to_path_buf() };
        }
        Error::Io { path: path.to_path_buf(), doing, source }
    }

    pub(crate) fn file(path: &Path, why: impl Into<String>) -> Self {
        Error::File { path: path.to_path_buf(), why: why.into() }
    }

    pub(crate) fn tensor(path: &Path, name: &str, why: impl Into<String>) -> Self {
        Error::Tensor { path: path.to_path_buf(), name: printable(name), why: why.into() }
    }

    pub(crate) fn key(path: &Path, key: &str, why: impl Into<String>) -> Self {
        Error::Key { path: path.to_path_buf(), key: printable(key), why: why.into() }
    }
}

/// A name from a file as it may stand in a message: no control characters, and not endless.
pub(crate) fn printable(name: &str) -> String {
    const LONGEST: usize = 120;
    let mut out = String::new();
    for (n, c) in name.chars().enumerate() {
        if n == LONGEST {
            out.push('…');
            break;
        }
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}
