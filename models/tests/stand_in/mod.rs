//! A stand-in for the Hub: a small HTTP server on the loopback that serves one repository and keeps a list of what it
//! was asked. It answers as the Hub does (file lists, ranges, tags, commits), or misbehaves as told.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// The commit that the stand-in's only revision stands for.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A request that was made.
#[derive(Clone, Debug)]
pub struct Request {
    /// The path.
    pub path: String,
    /// First and, if stated, last byte asked for.
    pub range: Option<(u64, Option<u64>)>,
}

/// How the server behaves.
#[derive(Clone, Debug)]
pub struct Behaviour {
    repo: String,
    revision: String,
    files: BTreeMap<String, Vec<u8>>,
    cut_after: Option<usize>,
    cuts: u32,
    ignore_ranges: bool,
    etag: Option<String>,
    token: Option<String>,
    status: Option<u16>,
}

/// A running server. It stops when dropped.
pub struct StandIn {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    requests: Arc<Mutex<Vec<Request>>>,
    thread: Option<JoinHandle<()>>,
}

impl StandIn {
    #[allow(clippy::new_ret_no_self)] // begins a description, which `start` turns into a server
    pub fn new(repo: &str) -> Behaviour {
        Behaviour {
            repo: repo.to_owned(),
            revision: "main".to_owned(),
            files: BTreeMap::new(),
            cut_after: None,
            cuts: 0,
            ignore_ranges: false,
            etag: None,
            token: None,
            status: None,
        }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for a connection.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Behaviour {
    pub fn file(mut self, name: &str, content: &[u8]) -> Self {
        self.files.insert(name.to_owned(), content.to_vec());
        self
    }

    /// Breaks off the first `times` downloads after so many bytes.
    pub fn cut_after(mut self, bytes: usize, times: u32) -> Self {
        (self.cut_after, self.cuts) = (Some(bytes), times);
        self
    }

    /// Sends whole files whatever is asked.
    pub fn ignoring_ranges(mut self) -> Self {
        self.ignore_ranges = true;
        self
    }

    pub fn etag(mut self, etag: &str) -> Self {
        self.etag = Some(etag.to_owned());
        self
    }

    /// Refuses whoever does not show this token.
    pub fn token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// Answers everything with this status.
    pub fn status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    pub fn revision(mut self, revision: &str) -> Self {
        self.revision = revision.to_owned();
        self
    }

    pub fn start(self) -> StandIn {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (stopped, log) = (Arc::clone(&stop), Arc::clone(&requests));
        let thread = std::thread::spawn(move || {
            let cuts = AtomicU32::new(0);
            for connection in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                if let Ok(connection) = connection {
                    // A client that breaks off is no fault of the server.
                    let _ = self.serve(&connection, &log, &cuts);
                }
            }
        });
        StandIn { address, stop, requests, thread: Some(thread) }
    }

    /// Answers one request and closes.
    fn serve(&self, connection: &TcpStream, log: &Mutex<Vec<Request>>, cuts: &AtomicU32) -> std::io::Result<()> {
        let patience = Some(Duration::from_secs(5));
        connection.set_read_timeout(patience)?;
        connection.set_write_timeout(patience)?;
        let mut lines = BufReader::new(connection).lines();
        let first = lines.next().transpose()?.unwrap_or_default();
        let Some(path) = first.split(' ').nth(1).map(str::to_owned) else { return Ok(()) };
        let (mut range, mut token) = (None, None);
        for line in lines {
            let line = line?;
            if line.is_empty() {
                break;
            }
            let Some((name, value)) = line.split_once(": ") else { continue };
            match name.to_ascii_lowercase().as_str() {
                "range" => range = parse_range(value),
                "authorization" => token = value.strip_prefix("Bearer ").map(str::to_owned),
                _ => {}
            }
        }
        log.lock().unwrap().push(Request { path: path.clone(), range });
        if let Some(status) = self.status {
            return respond(connection, status, "", b"");
        }
        if self.token.is_some() && self.token != token {
            return respond(connection, 401, "", b"");
        }
        let revision = self.revision.replace('/', "%2F");
        if path == format!("/api/models/{}/revision/{revision}", self.repo) {
            let siblings: Vec<_> = self.files.keys().map(|f| serde_json::json!({"rfilename": f})).collect();
            let body = serde_json::json!({"sha": COMMIT, "siblings": siblings}).to_string();
            return respond(connection, 200, "Content-Type: application/json\r\n", body.as_bytes());
        }
        let name = path.strip_prefix(&format!("/{}/resolve/{revision}/", self.repo));
        match name.and_then(|name| Some((name, self.files.get(name)?))) {
            Some((name, content)) => self.send(connection, name, content, range, cuts),
            None => respond(connection, 404, "", b""),
        }
    }

    fn send(
        &self,
        mut connection: &TcpStream,
        name: &str,
        content: &[u8],
        range: Option<(u64, Option<u64>)>,
        cuts: &AtomicU32,
    ) -> std::io::Result<()> {
        let etag = self.etag.clone().unwrap_or_else(|| format!("etag-{}", name.replace(['.', '/'], "-")));
        let headers = format!("ETag: \"{etag}\"\r\nX-Repo-Commit: {COMMIT}\r\n");
        let (from, to) = range.unwrap_or((0, None));
        let looking = range == Some((0, Some(0)));
        if self.ignore_ranges && !looking {
            return respond(connection, 200, &headers, content);
        }
        let from = from as usize;
        if from >= content.len() {
            return respond(connection, 416, &headers, b"");
        }
        let to = to.map_or(content.len(), |to| (to as usize + 1).min(content.len()));
        let headers = format!("{headers}Content-Range: bytes {from}-{}/{}\r\n", to - 1, content.len());
        let body = &content[from..to];
        match self.cut_after {
            Some(n) if !looking && body.len() > n && cuts.fetch_add(1, Ordering::SeqCst) < self.cuts => {
                let head =
                    format!("HTTP/1.1 206 X\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
                connection.write_all(head.as_bytes())?;
                connection.write_all(&body[..n])
            }
            _ => respond(connection, 206, &headers, body),
        }
    }
}

fn respond(mut connection: &TcpStream, status: u16, headers: &str, body: &[u8]) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    connection.write_all(head.as_bytes())?;
    connection.write_all(body)
}

fn parse_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (from, to) = value.strip_prefix("bytes=")?.split_once('-')?;
    Some((from.parse().ok()?, to.parse().ok()))
}
