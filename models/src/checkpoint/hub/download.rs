//! Moving files from the Hub into its cache with the `hf-hub` crate, and turning what may go wrong there into our
//! errors. The crate has no time limits and trusts what servers say; so its calls run on a thread of their own, which
//! is watched, and the size of each file is checked afterwards.

use super::cache::{self, Snapshot};
use super::id::is_relative;
use super::{Hub, ModelId, OnProgress};
use crate::error::printable;
use crate::{Error, Result};
use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo, Metadata};
use hf_hub::api::{Progress, RepoInfo};
use hf_hub::{Cache, Repo, RepoType};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// A connection that gives nothing for this long is given up.
const STALLED: Duration = Duration::from_secs(60);
/// Tries for one file; each goes on where the last stopped.
const TRIES: u32 = 4;
/// Pause before the second try; it doubles with each.
const PAUSE: Duration = Duration::from_millis(250);

/// One model's repository, as the Hub serves it.
pub(super) struct Session<'a> {
    id: &'a ModelId,
    blobs: PathBuf,
    cache: PathBuf,
    api: Api,
}

/// What the thread at work says.
enum Said<T> {
    Begin(u64),
    More(u64),
    End(std::result::Result<T, ApiError>),
}

/// Why a call did not give a result.
enum Failure {
    Api(ApiError),
    Stalled,
    Panicked,
}

impl<'a> Session<'a> {
    pub(super) fn new(hub: &Hub, id: &'a ModelId) -> Result<Self> {
        let mut builder = ApiBuilder::from_cache(Cache::new(hub.cache.clone()))
            .with_progress(false)
            .with_token(hub.token.clone())
            .with_user_agent("nano-models", env!("CARGO_PKG_VERSION"));
        if let Some(endpoint) = &hub.endpoint {
            builder = builder.with_endpoint(endpoint.clone());
        }
        let blobs = cache::folder(&hub.cache, id).join("blobs");
        let what = "the connection cannot be set up".to_owned();
        let api = builder.build().map_err(|e| Error::Network { id: id.to_string(), what, why: e.to_string() })?;
        Ok(Session { id, blobs, cache: hub.cache.clone(), api })
    }

    /// The repository's commit and the names of its files.
    pub(super) fn list(&self) -> Result<RepoInfo> {
        let mut tries = 1;
        loop {
            match self.call(&mut |_, _| (), |_, repo, _| repo.info()) {
                Ok(info) if cache::is_commit(&info.sha) => return Ok(info),
                Ok(info) => {
                    let why = format!("the server names the commit {:?}", printable(&info.sha));
                    return Err(self.network("its list of files", why));
                }
                Err(failure) if tries < TRIES && is_passing(&failure) => pause(&mut tries),
                Err(failure) => return Err(self.explain("its list of files", failure)),
            }
        }
    }

    /// A file of a commit in the cache, downloaded unless it is there.
    pub(super) fn file(&self, commit: &str, name: &str, progress: OnProgress<'_>) -> Result<PathBuf> {
        let path = Snapshot::of_commit(&self.cache, self.id, commit).path(name);
        if path.is_file() {
            return Ok(path);
        }
        let mut tries = 1;
        loop {
            let mut size = 0;
            let mut tell = |done: u64, total: u64| {
                size = total;
                progress(name, done, total);
            };
            let (file, blobs) = (name.to_owned(), self.blobs.clone());
            let work = move |api: &Api, repo: &ApiRepo, said| {
                prepare(&blobs, &api.metadata(&repo.url(&file))?)?;
                repo.download_with_progress(&file, Reporter(said))
            };
            match self.call(&mut tell, work) {
                Ok(path) => match check_size(&path, size)? {
                    None => return Ok(path),
                    Some(found) if tries >= TRIES => {
                        return Err(self.network(name, format!("{found} bytes came where {size} were promised")));
                    }
                    Some(_) => pause(&mut tries),
                },
                Err(failure) if tries < TRIES && is_passing(&failure) => pause(&mut tries),
                Err(failure) => return Err(self.explain(name, failure)),
            }
        }
    }

    /// Notes which commit the revision stands for, so that the next start finds it without the network.
    pub(super) fn remember(&self, commit: &str) -> Result<()> {
        let cache = Cache::new(self.cache.clone()).repo(repo(self.id));
        cache.create_ref(commit).map_err(|source| Error::Cache { path: self.cache.clone(), source })
    }

    /// Runs `work` on a thread of its own and passes on what it reports. A thread that says nothing for too long is
    /// left.
    fn call<T: Send + 'static>(
        &self,
        progress: &mut dyn FnMut(u64, u64),
        work: impl FnOnce(&Api, &ApiRepo, Sender<Said<T>>) -> std::result::Result<T, ApiError> + Send + 'static,
    ) -> std::result::Result<T, Failure> {
        let api = self.api.clone();
        let repo = api.repo(repo(self.id));
        let (sender, receiver) = channel();
        let thread = std::thread::Builder::new().name("download".into()).spawn(move || {
            let result = work(&api, &repo, sender.clone());
            // The other side has left if it lost patience.
            let _ = sender.send(Said::End(result));
        });
        thread.map_err(|e| Failure::Api(ApiError::IoError(e)))?;
        let (mut done, mut total) = (0, 0);
        loop {
            match receiver.recv_timeout(STALLED) {
                Ok(Said::Begin(size)) => (done, total) = (0, size),
                Ok(Said::More(bytes)) => done += bytes,
                Ok(Said::End(result)) => return result.map_err(Failure::Api),
                Err(RecvTimeoutError::Timeout) => return Err(Failure::Stalled),
                Err(RecvTimeoutError::Disconnected) => return Err(Failure::Panicked),
            }
            progress(done.min(total), total);
        }
    }

    fn network(&self, what: &str, why: String) -> Error {
        Error::Network { id: self.id.to_string(), what: what.to_owned(), why }
    }

    fn explain(&self, what: &str, failure: Failure) -> Error {
        let id = self.id.to_string();
        let network = |why: String| self.network(what, why);
        let error = match failure {
            Failure::Stalled => return network(format!("nothing came for {} seconds", STALLED.as_secs())),
            Failure::Panicked => return network("the server's answer could not be used".into()),
            Failure::Api(error) => error,
        };
        match (status(&error), &error) {
            (Some(status @ 401), _) => Error::Denied {
                id,
                status,
                hint: "there is no such model, or it is private or gated: check the name, and set HF_TOKEN to a token \
                       that may read it",
            },
            (Some(status @ 403), _) => Error::Denied {
                id,
                status,
                hint: "it is gated: accept its terms on its page, and set HF_TOKEN to a token of that account",
            },
            (Some(404), _) => {
                Error::NoSuchModel { id, why: format!("the Hub has no such model, revision or file ({what})") }
            }
            (Some(status), _) => network(format!("the server answered {status}")),
            (None, ApiError::LockAcquisition(path)) => {
                network(format!("another process is downloading it (it holds {})", path.display()))
            }
            (None, ApiError::IoError(e)) if is_disk(e) => {
                Error::Cache { path: self.cache.clone(), source: std::io::Error::new(e.kind(), e.to_string()) }
            }
            (None, error) => network(error.to_string()),
        }
    }
}

fn repo(id: &ModelId) -> Repo {
    Repo::with_revision(id.repo().to_owned(), RepoType::Model, id.revision().to_owned())
}

/// Looks at what the server says of a file before it becomes a path or a range: a name must stay inside the cache, and
/// a partial file that is as long as the whole cannot be continued.
fn prepare(blobs: &Path, file: &Metadata) -> std::result::Result<(), ApiError> {
    if !is_relative(file.etag()) {
        return Err(ApiError::InvalidHeader("etag"));
    }
    if !cache::is_commit(file.commit_hash()) {
        return Err(ApiError::InvalidHeader("x-repo-commit"));
    }
    let partial = blobs.join(file.etag()).with_extension("part");
    match std::fs::metadata(&partial) {
        Ok(meta) if meta.len() >= file.size() as u64 => Ok(std::fs::remove_file(&partial)?),
        _ => Ok(()),
    }
}

/// Passes the crate's reports on to the thread that waits.
struct Reporter<T>(Sender<Said<T>>);

impl<T> Progress for Reporter<T> {
    fn init(&mut self, size: usize, _: &str) {
        let _ = self.0.send(Said::Begin(size as u64));
    }

    fn update(&mut self, size: usize) {
        let _ = self.0.send(Said::More(size as u64));
    }

    fn finish(&mut self) {}
}

/// The length of a file that did not come whole. It is made a partial file again, or removed if it is too long.
fn check_size(path: &Path, size: u64) -> Result<Option<u64>> {
    let fault = |e| Error::io(path, "cannot be examined", e);
    let found = std::fs::metadata(path).map_err(fault)?.len();
    if found == size {
        return Ok(None);
    }
    let blob = std::fs::canonicalize(path).map_err(fault)?;
    std::fs::remove_file(path).map_err(fault)?;
    // Where links cannot be made, the file itself stood there.
    if blob.exists() && found < size {
        std::fs::rename(&blob, blob.with_extension("part")).map_err(fault)?;
    } else if blob.exists() {
        std::fs::remove_file(&blob).map_err(fault)?;
    }
    Ok(Some(found))
}

/// The HTTP status of an error, if a server answered.
fn status(error: &ApiError) -> Option<u16> {
    match error {
        ApiError::RequestError(e) => match **e {
            ureq::Error::StatusCode(status) => Some(status),
            _ => None,
        },
        _ => None,
    }
}

/// Whether the same request may succeed a moment later.
fn is_passing(failure: &Failure) -> bool {
    match failure {
        Failure::Api(ApiError::IoError(e)) => !is_disk(e),
        Failure::Api(error @ ApiError::RequestError(_)) => match status(error) {
            Some(status) => status == 429 || status >= 500,
            // A name that is not found and a refused connection stay so: say it at once.
            None => {
                let refused = |e: &ureq::Error| match e {
                    ureq::Error::Io(e) => e.kind() == std::io::ErrorKind::ConnectionRefused,
                    ureq::Error::HostNotFound | ureq::Error::ConnectionFailed | ureq::Error::BadUri(_) => true,
                    _ => false,
                };
                !matches!(error, ApiError::RequestError(e) if refused(e))
            }
        },
        _ => false,
    }
}

/// Whether an error of reading or writing is the disk's and not the network's.
fn is_disk(error: &std::io::Error) -> bool {
    use std::io::ErrorKind as K;
    matches!(
        error.kind(),
        K::StorageFull
            | K::QuotaExceeded
            | K::ReadOnlyFilesystem
            | K::PermissionDenied
            | K::NotADirectory
            | K::NotFound
            | K::FileTooLarge
    )
}

fn pause(tries: &mut u32) {
    std::thread::sleep(PAUSE * (1 << (*tries - 1)));
    *tries += 1;
}
