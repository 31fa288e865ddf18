//! One HTTP request and what comes back, made on a thread of its own: whoever waits for it can go at any moment, and
//! then the connection is closed. What bytes mean is not known here.

use crate::RemoteOptions;
use std::io::Read;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Proxy, Timeout};

/// How often whoever waits is asked whether it still wants to.
const GLANCE: Duration = Duration::from_millis(25);
/// Arrivals that may wait to be read before the connection is left to fill.
const AHEAD: usize = 64;

/// Makes requests. Each has a connection of its own, so that none meets one that the server has closed meanwhile.
#[derive(Clone)]
pub(crate) struct Client {
    config: ureq::config::Config,
    key: Option<String>,
}

impl Client {
    /// The error is a sentence's end.
    pub(crate) fn new(options: &RemoteOptions, connect: Duration) -> Result<Self, String> {
        let proxy = options.proxy.as_deref().map(proxy).transpose()?;
        let mut tls = TlsConfig::builder();
        if let Some(path) = &options.certificates {
            let says = |why: &dyn std::fmt::Display| format!("the certificates in {}: {why}", path.display());
            let pem = std::fs::read(path).map_err(|why| says(&why))?;
            let items: Result<Vec<_>, _> = parse_pem(&pem).collect();
            let items = items.map_err(|why| says(&why))?;
            let certificate = |item| if let PemItem::Certificate(one) = item { Some(one) } else { None };
            let certificates: Vec<_> = items.into_iter().filter_map(certificate).collect();
            if certificates.is_empty() {
                return Err(says(&"there are none in PEM form"));
            }
            tls = tls.root_certs(RootCerts::from(certificates));
        }
        let key = options.key.as_deref().map(str::trim).filter(|key| !key.is_empty()).map(str::to_owned);
        if key.as_deref().is_some_and(|key| !key.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err("the key holds characters that no key has".to_owned());
        }
        let connect = Some(connect);
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_idle_connections(0)
            .proxy(proxy)
            .tls_config(tls.build())
            .timeout_resolve(connect)
            .timeout_connect(connect)
            .user_agent(concat!("nano-remote/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .build();
        Ok(Self { config, key })
    }

    /// The key, so that it can be kept out of what is shown.
    pub(crate) fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Starts a request: `GET`, or `POST` with a body in JSON.
    pub(crate) fn start(&self, url: String, body: Option<String>) -> Result<Exchange, Broken> {
        let agent = Agent::new_with_config(self.config.clone());
        let (sender, arrivals) = sync_channel(AHEAD);
        let (own, authorization) = (agent.clone(), self.key.as_ref().map(|key| format!("Bearer {key}")));
        thread::Builder::new()
            .name("nano-remote-http".to_owned())
            .spawn(move || {
                let end = match exchange(&own, &url, authorization.as_deref(), body, &sender) {
                    Ok(()) => Arrival::End,
                    Err(why) => Arrival::Broken(why),
                };
                // Nobody may wait any more.
                let _ = sender.send(end);
            })
            .map_err(|why| Broken::Other(format!("no thread could be started: {why}")))?;
        Ok(Exchange { agent, arrivals })
    }
}

/// A request under way. Dropping it closes the connection.
pub(crate) struct Exchange {
    agent: Agent,
    arrivals: Receiver<Arrival>,
}

/// What came.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// Comes first.
    Head(Head),
    /// A part of the body.
    Bytes(Vec<u8>),
    /// The body was complete, as far as the protocol can tell.
    End,
    /// Nothing more comes.
    Broken(Broken),
}

/// What comes before the body.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// How long the server asks to wait before the request is sent again.
    pub(crate) wait: Option<Duration>,
    /// Where it says that the page is.
    pub(crate) moved: Option<String>,
}

/// Why nothing more comes.
#[derive(Debug)]
pub(crate) enum Broken {
    /// Nothing listens there.
    Refused,
    /// The connection was closed by the other side.
    Closed,
    /// There is no host of that name.
    NoHost,
    /// No connection in time.
    NoConnection,
    /// No secure connection: why not.
    Tls(String),
    /// Anything else: what.
    Other(String),
}

/// What waiting came to.
pub(crate) enum Waited {
    Came(Arrival),
    /// Nobody wants it any more.
    Over,
    /// Nothing came in time.
    Late,
}

impl Exchange {
    /// Waits for what comes next, until `end` or until nobody wants it.
    pub(crate) fn next(&self, end: Instant, over: &dyn Fn() -> bool) -> Waited {
        loop {
            if over() {
                return Waited::Over;
            }
            let left = end.saturating_duration_since(Instant::now());
            match self.arrivals.recv_timeout(left.min(GLANCE)) {
                Ok(arrival) => return Waited::Came(arrival),
                Err(RecvTimeoutError::Disconnected) => return Waited::Came(Arrival::Broken(Broken::Closed)),
                Err(RecvTimeoutError::Timeout) if left.is_zero() => return Waited::Late,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.agent.clone().shutdown();
    }
}

/// Waits, unless nobody wants that; says whether it waited to the end.
pub(crate) fn pause(time: Duration, over: &dyn Fn() -> bool) -> bool {
    let end = Instant::now() + time;
    loop {
        if over() {
            return false;
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        thread::sleep(left.min(GLANCE));
    }
}

fn exchange(
    agent: &Agent,
    url: &str,
    authorization: Option<&str>,
    body: Option<String>,
    sender: &SyncSender<Arrival>,
) -> Result<(), Broken> {
    let response = match body {
        None => {
            let mut request = agent.get(url).header("Accept", "application/json");
            if let Some(authorization) = authorization {
                request = request.header("Authorization", authorization);
            }
            request.call()
        }
        Some(body) => {
            let mut request = agent.post(url).header("Accept", "text/event-stream, application/json");
            if let Some(authorization) = authorization {
                request = request.header("Authorization", authorization);
            }
            request.header("Content-Type", "application/json").send(body)
        }
    };
    let response = response.map_err(Broken::from)?;
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let wait = header("retry-after").and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
    let head = Head { status: response.status().as_u16(), wait, moved: header("location") };
    if sender.send(Arrival::Head(head)).is_err() {
        return Ok(());
    }
    let mut reader = response.into_body().into_reader();
    let mut buffer = [0; 16 << 10];
    loop {
        let count = reader.read(&mut buffer).map_err(|why| match ureq::Error::from(why) {
            error @ (ureq::Error::Protocol(_) | ureq::Error::Rustls(_)) => Broken::from(error),
            // An end in the middle of a chunk has several names.
            _ => Broken::Closed,
        })?;
        if count == 0 || sender.send(Arrival::Bytes(buffer[..count].to_vec())).is_err() {
            return Ok(());
        }
    }
}

impl From<ureq::Error> for Broken {
    fn from(error: ureq::Error) -> Self {
        use std::io::ErrorKind;
        match error {
            ureq::Error::Io(error) => match error.kind() {
                ErrorKind::ConnectionRefused => Broken::Refused,
                ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::BrokenPipe
                | ErrorKind::UnexpectedEof => Broken::Closed,
                // What rustls finds wrong comes as this.
                ErrorKind::InvalidData => Broken::Tls(error.to_string()),
                _ => Broken::Other(error.to_string()),
            },
            ureq::Error::HostNotFound => Broken::NoHost,
            ureq::Error::Timeout(Timeout::Connect | Timeout::Resolve) => Broken::NoConnection,
            ureq::Error::Rustls(error) => Broken::Tls(error.to_string()),
            ureq::Error::Tls(what) => Broken::Tls(what.to_owned()),
            other => Broken::Other(other.to_string()),
        }
    }
}

fn proxy(url: &str) -> Result<Proxy, String> {
    // The address is not repeated: it may hold a password.
    let unusable = || "the proxy's address cannot be used; it looks like http://host:3128".to_owned();
    let proxy = Proxy::new(url.trim()).map_err(|_| unusable())?;
    let known = matches!(proxy.protocol(), ureq::ProxyProtocol::Http | ureq::ProxyProtocol::Https);
    if known { Ok(proxy) } else { Err("the proxy is no HTTP proxy, and no other can be used".to_owned()) }
}
