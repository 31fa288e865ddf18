//! The Hub's cache folder, as all its clients lay it out: `models--org--name/refs/REVISION` holds a commit,
//! `snapshots/COMMIT/FILE` links to the file's data. Only reading is here.

use super::id::ModelId;
use super::plan;
use crate::checkpoint::gguf::split;
use crate::checkpoint::hf::{INDEX, SINGLE, TORCH_INDEX, TORCH_SINGLE};
use crate::checkpoint::{file_name, files_ending, mlc};
use std::path::{Path, PathBuf};

/// The folder of one model in the cache.
pub(super) fn folder(cache: &Path, id: &ModelId) -> PathBuf {
    cache.join(format!("models--{}", id.repo().replace('/', "--")))
}

/// Whether a text may be a commit's name, and so a folder's.
pub(super) fn is_commit(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}

/// The files of one revision that are in the cache.
pub(super) struct Snapshot {
    path: PathBuf,
}

impl Snapshot {
    /// The snapshot that the revision names: through its ref, or as a commit.
    pub(super) fn find(cache: &Path, id: &ModelId) -> Option<Self> {
        /// A commit is forty hex digits; anything much longer is no ref.
        const LONGEST_REF: u64 = 256;
        let folder = folder(cache, id);
        let reference = folder.join("refs").join(id.revision());
        let commit = match std::fs::metadata(&reference) {
            Ok(meta) if meta.is_file() && meta.len() <= LONGEST_REF => std::fs::read_to_string(&reference).ok()?,
            _ => id.revision().to_owned(),
        };
        let commit = commit.trim();
        let found = is_commit(commit).then(|| Snapshot::of_commit(cache, id, commit))?;
        found.path.is_dir().then_some(found)
    }

    /// The snapshot of a commit, whether it exists or not.
    pub(super) fn of_commit(cache: &Path, id: &ModelId, commit: &str) -> Self {
        Snapshot { path: folder(cache, id).join("snapshots").join(commit) }
    }

    /// Where a file of the snapshot is, if it is there.
    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.path.join(file)
    }

    /// The file or folder to open, if all of the model is here.
    pub(super) fn complete(&self, id: &ModelId) -> Option<PathBuf> {
        if let Some(file) = id.file() {
            return self.has_parts(file).then(|| self.path(file));
        }
        let has_config = self.has("config.json") || self.has(mlc::CONFIG);
        if has_config && self.has("tokenizer.json") && self.has_weights() {
            return Some(self.path.clone());
        }
        match &split::models(&files_ending(&self.path, ".gguf").ok()?, |p| file_name(p))[..] {
            [only] if self.has_parts(&file_name(only)) => Some(only.clone()),
            _ => None,
        }
    }

    fn has(&self, file: &str) -> bool {
        self.path(file).is_file()
    }

    /// Whether a GGUF file is here, with all other parts of its model where it is one.
    fn has_parts(&self, file: &str) -> bool {
        self.has(file) && split::names(file).is_none_or(|parts| parts.iter().all(|part| self.has(part)))
    }

    fn has_weights(&self) -> bool {
        // Weights are downloaded last, so with them everything else that the model has is here too.
        let shards = |index: &str| plan::shards(&self.path.join(index)).is_ok_and(|s| s.iter().all(|s| self.has(s)));
        [SINGLE, TORCH_SINGLE].iter().any(|single| self.has(single))
            || [INDEX, TORCH_INDEX].into_iter().chain(mlc::CACHES).any(shards)
    }
}
