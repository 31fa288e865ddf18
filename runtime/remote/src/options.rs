//! What a remote engine is opened with. Environment variables are read by whoever fills this in.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Where the server is, and how patient to be with it.
#[derive(Clone, PartialEq, Eq)]
pub struct RemoteOptions {
    /// The address up to what all paths have in common, as in `http://host:8000/v1`. `http://` and `/v1` may be
    /// missing.
    pub url: String,
    /// The server's name for the model. `None` takes the only one it has.
    pub model: Option<String>,
    /// The key, sent as `Authorization: Bearer`. It is never shown.
    pub key: Option<String>,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// How often a request is sent again that found no server, or one that is busy, fails or closes the connection.
    /// Never after the answer has begun.
    pub retries: usize,
    /// The wait before the first of these; it doubles each time, up to a minute. What a busy server asks for comes
    /// first.
    pub backoff: Duration,
    /// Tokens of prompt and answer together. `None` takes what the server says, or else 4096.
    pub context: Option<usize>,
    /// The address of an HTTP proxy.
    pub proxy: Option<String>,
    /// A PEM file of certificates that vouch for the server, in place of those that browsers trust.
    pub certificates: Option<PathBuf>,
}

/// How long to wait for a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For the connection, looking up the name included.
    pub connect: Duration,
    /// For the first piece of an answer: a slow machine may read a long prompt meanwhile.
    pub first_byte: Duration,
    /// For anything at all, once the answer has begun.
    pub between_bytes: Duration,
}

impl RemoteOptions {
    /// All else as usual: three retries after 0.5, 1 and 2 seconds, no key, no proxy.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            model: None,
            key: None,
            timeouts: Timeouts::default(),
            retries: 3,
            backoff: Duration::from_millis(500),
            context: None,
            proxy: None,
            certificates: None,
        }
    }
}

impl Timeouts {
    /// The same, but none so long that a clock does not reach its end.
    pub(crate) fn bounded(self) -> Self {
        let bounded = |time: Duration| time.min(Duration::from_secs(366 * 24 * 3600));
        let Self { connect, first_byte, between_bytes } = self;
        let (connect, first_byte, between_bytes) = (bounded(connect), bounded(first_byte), bounded(between_bytes));
        Self { connect, first_byte, between_bytes }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(300),
            between_bytes: Duration::from_secs(60),
        }
    }
}

/// Without the key, and without the proxy, whose address may hold a password.
impl fmt::Debug for RemoteOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, model, key, timeouts, retries, backoff, context, proxy, certificates } = self;
        let hidden = |text: &Option<String>| text.as_ref().map(|_| "hidden");
        f.debug_struct("RemoteOptions")
            .field("url", url)
            .field("model", model)
            .field("key", &hidden(key))
            .field("timeouts", timeouts)
            .field("retries", retries)
            .field("backoff", backoff)
            .field("context", context)
            .field("proxy", &hidden(proxy))
            .field("certificates", certificates)
            .finish()
    }
}
