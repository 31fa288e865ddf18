//! Models by Hub id: looked up in the standard Hub cache first, downloaded into it where they are not complete. Which
//! files make a model is decided in `plan`; moving one of them is `download`. A model that is complete never touches
//! the network.

mod cache;
mod download;
mod id;
mod plan;

pub use id::{Location, ModelId};

use crate::{Error, Result};
use cache::Snapshot;
use std::path::{Path, PathBuf};

/// How the Hub and its cache are reached.
#[derive(Clone, Debug)]
pub struct Hub {
    /// The cache folder, which other programs share.
    pub cache: PathBuf,
    /// The Hub's address, where it is not the usual one.
    pub endpoint: Option<String>,
    /// An access token, for models that ask for one.
    pub token: Option<String>,
    /// Never use the network.
    pub offline: bool,
}

/// What is told while a file is downloaded: its name, the bytes that are here, the bytes it has.
pub type OnProgress<'a> = &'a mut dyn FnMut(&str, u64, u64);

impl Hub {
    /// As the environment says: HF_HUB_CACHE or HF_HOME (or XDG_CACHE_HOME) for the cache, HF_ENDPOINT, HF_TOKEN (or
    /// the usual token file), HF_HUB_OFFLINE.
    pub fn from_env() -> Self {
        Self::from_vars(|name| std::env::var(name).ok())
    }

    fn from_vars(var: impl Fn(&str) -> Option<String>) -> Self {
        let var = |name: &str| var(name).filter(|value| !value.trim().is_empty());
        let user_cache = || match var("XDG_CACHE_HOME") {
            Some(cache) => PathBuf::from(cache),
            None => std::env::home_dir().unwrap_or_default().join(".cache"),
        };
        let home = var("HF_HOME").map_or_else(|| user_cache().join("huggingface"), PathBuf::from);
        let cache = var("HF_HUB_CACHE")
            .or_else(|| var("HUGGINGFACE_HUB_CACHE"))
            .map_or_else(|| home.join("hub"), PathBuf::from);
        let token_file = var("HF_TOKEN_PATH").map_or_else(|| home.join("token"), PathBuf::from);
        let token = var("HF_TOKEN").or_else(|| std::fs::read_to_string(token_file).ok());
        let token = token.map(|t| t.trim().to_owned()).filter(|t| !t.is_empty());
        let truth = |value: String| matches!(value.trim().to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on");
        Hub {
            cache: std::path::absolute(&cache).unwrap_or(cache),
            endpoint: var("HF_ENDPOINT").map(|e| e.trim().trim_end_matches('/').to_owned()),
            token,
            offline: var("HF_HUB_OFFLINE").is_some_and(truth),
        }
    }

    /// The model's file or folder in the cache, downloaded as far as it is not there.
    pub fn fetch(&self, id: &ModelId, progress: OnProgress<'_>) -> Result<PathBuf> {
        if let Some(path) = self.cached(id) {
            return Ok(path);
        }
        if self.offline {
            return Err(Error::Offline { id: id.to_string(), cache: self.cache.clone() });
        }
        self.check_writable(id)?;
        let session = download::Session::new(self, id)?;
        let info = session.list()?;
        let files: Vec<String> = info.siblings.into_iter().map(|s| s.rfilename).collect();
        let mut get = |file: &str| session.file(&info.sha, file, progress);
        match plan::choose(id, &files)? {
            plan::Choice::Files(files) => {
                for file in &files {
                    get(file)?;
                }
            }
            plan::Choice::Folder { files, index } => {
                for file in &files {
                    get(file)?;
                }
                if let Some(index) = index {
                    let path = get(&index)?;
                    for shard in plan::shards(&path)? {
                        get(&shard)?;
                    }
                }
            }
        }
        session.remember(&info.sha)?;
        self.cached(id).ok_or_else(|| Error::NoSuchModel {
            id: id.to_string(),
            why: "it changed while it was downloaded; run this again".into(),
        })
    }

    /// The model's file or folder, if it is complete in the cache.
    pub fn cached(&self, id: &ModelId) -> Option<PathBuf> {
        Snapshot::find(&self.cache, id)?.complete(id)
    }

    /// Asks before the network is used, so that a folder that cannot be written is not found out gigabytes later.
    fn check_writable(&self, id: &ModelId) -> Result<()> {
        let fault = |path: &Path, source| Error::Cache { path: path.to_path_buf(), source };
        let folder = cache::folder(&self.cache, id).join("blobs");
        std::fs::create_dir_all(&folder).map_err(|e| fault(&self.cache, e))?;
        let probe = folder.join(format!("write-test-{}", std::process::id()));
        std::fs::write(&probe, b"").map_err(|e| fault(&self.cache, e))?;
        std::fs::remove_file(&probe).map_err(|e| fault(&self.cache, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(vars: &[(&str, &str)]) -> Hub {
        Hub::from_vars(|name| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn environment() {
        let h = hub(&[("HF_HOME", "/h"), ("HF_TOKEN", " t\n"), ("HF_ENDPOINT", "http://x/"), ("HF_HUB_OFFLINE", "ON")]);
        assert_eq!(h.cache, Path::new("/h/hub"));
        assert_eq!(h.token.as_deref(), Some("t"));
        assert_eq!(h.endpoint.as_deref(), Some("http://x"));
        assert!(h.offline);
        assert_eq!(hub(&[("XDG_CACHE_HOME", "/c")]).cache, Path::new("/c/huggingface/hub"));
        let h = hub(&[("HF_HOME", "/h"), ("HF_HUB_CACHE", "/k"), ("HF_HUB_OFFLINE", "0")]);
        assert_eq!(h.cache, Path::new("/k"));
        assert!(!h.offline && h.token.is_none() && h.endpoint.is_none());
    }

    #[test]
    fn token_file() {
        let folder = std::env::temp_dir().join(format!("nano-token-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("token"), "abc\n").unwrap();
        let home = folder.to_str().unwrap();
        assert_eq!(hub(&[("HF_HOME", home)]).token.as_deref(), Some("abc"));
        assert_eq!(hub(&[("HF_HOME", home), ("HF_TOKEN", "x")]).token.as_deref(), Some("x"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
