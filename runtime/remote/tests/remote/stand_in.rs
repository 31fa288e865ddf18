//! A server to test against: it looks at every header and every field of a request as strictly as any real one, writes
//! down what it does not like, and answers byte by byte what a test tells it to.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request, after it was looked at.
#[derive(Clone, Debug)]
pub struct Seen {
    /// `POST /v1/chat/completions`
    pub what: String,
    pub headers: BTreeMap<String, String>,
    pub body: Value,
}

/// What is sent back, one after the other.
#[derive(Clone, Debug)]
pub enum Reply {
    Bytes(Vec<u8>),
    /// The same again and again, until the other side closes the connection.
    Forever(Vec<u8>),
    /// A moment, so that what follows comes in a packet of its own.
    Pause,
    /// Until the other side closes the connection; it is noted that it did.
    UntilClosed,
}

type Script = dyn Fn(&Seen, usize) -> Vec<Reply> + Send + Sync;

/// What a server is like.
#[derive(Default)]
pub struct Manner {
    /// The key that it wants.
    pub key: Option<&'static str>,
    /// It leaves even the list of models to the script.
    pub bare: bool,
    /// It speaks TLS.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

/// A server on a port of its own, until it is dropped.
pub struct StandIn {
    address: SocketAddr,
    secure: bool,
    inner: Arc<Inner>,
}

struct Inner {
    script: Box<Script>,
    manner: Manner,
    seen: Mutex<Vec<Seen>>,
    complaints: Mutex<Vec<String>>,
    closed: Mutex<usize>,
    over: Mutex<bool>,
}

impl StandIn {
    /// A server whose `/v1/models` lists the model `test`, and whose other answers are the script's: it is given the
    /// request and how many came before it, those for models not counted.
    pub fn new(script: impl Fn(&Seen, usize) -> Vec<Reply> + Send + Sync + 'static) -> Self {
        Self::with(Manner::default(), script)
    }

    pub fn with(manner: Manner, script: impl Fn(&Seen, usize) -> Vec<Reply> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let secure = manner.tls.is_some();
        let inner = Arc::new(Inner {
            script: Box::new(script),
            manner,
            seen: Mutex::default(),
            complaints: Mutex::default(),
            closed: Mutex::default(),
            over: Mutex::default(),
        });
        let own = Arc::clone(&inner);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if *own.over.lock().unwrap() {
                    break;
                }
                let own = Arc::clone(&own);
                std::thread::spawn(move || own.accept(stream));
            }
        });
        Self { address, secure, inner }
    }

    pub fn url(&self) -> String {
        format!("{}/v1", self.root())
    }

    /// Where its own paths are.
    pub fn root(&self) -> String {
        format!("{}://{}", if self.secure { "https" } else { "http" }, self.address)
    }

    /// What came, models left out.
    pub fn seen(&self) -> Vec<Seen> {
        self.inner.seen.lock().unwrap().clone()
    }

    /// Waits until that many answers were cut off by the other side.
    pub fn wait_until_closed(&self, count: usize) {
        for _ in 0..1000 {
            if *self.inner.closed.lock().unwrap() >= count {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the connection was not closed");
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        *self.inner.over.lock().unwrap() = true;
        let _ = TcpStream::connect(self.address);
        let complaints = self.inner.complaints.lock().unwrap();
        if !std::thread::panicking() {
            assert!(complaints.is_empty(), "the requests were not as they should be: {complaints:?}");
        }
    }
}

impl Inner {
    fn accept(&self, stream: TcpStream) {
        stream.set_nodelay(true).expect("an option");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("an option");
        match &self.manner.tls {
            None => self.serve(stream),
            Some(config) => {
                let connection = rustls::ServerConnection::new(Arc::clone(config)).expect("a configuration");
                self.serve(rustls::StreamOwned::new(connection, stream));
            }
        }
    }

    fn serve<S: Read + Write>(&self, stream: S) {
        let mut stream = BufReader::new(stream);
        let Some(mut seen) = read(&mut stream) else {
            // As servers do that are spoken to in another protocol. Whoever went has no use for it.
            let _ = stream.get_mut().write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            return;
        };
        if seen.what.starts_with("CONNECT ") {
            // A proxy whose far end is this server.
            self.seen.lock().unwrap().push(seen);
            if stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\n\r\n").is_err() {
                return;
            }
            let Some(tunnelled) = read(&mut stream) else { return };
            seen = tunnelled;
        }
        let found = self.look(&seen);
        let replies = if !found.is_empty() {
            let message = found.join("; ");
            self.complaints.lock().unwrap().extend(found);
            json_reply(400, &json!({"error": {"message": message}}))
        } else if seen.what == "GET /v1/models" && !self.manner.bare && self.key_fits(&seen) {
            json_reply(
                200,
                &json!({"object": "list", "data": [{"id": "test", "object": "model", "max_model_len": 2048}]}),
            )
        } else {
            let count = {
                let mut all = self.seen.lock().unwrap();
                all.push(seen.clone());
                all.iter().filter(|one| one.what == seen.what).count() - 1
            };
            (self.script)(&seen, count)
        };
        self.reply(stream.get_mut(), replies);
    }

    fn reply(&self, stream: &mut (impl Read + Write), replies: Vec<Reply>) {
        for reply in replies {
            match reply {
                Reply::Bytes(bytes) => {
                    // What is not flushed waits for more, with TLS.
                    if stream.write_all(&bytes).and_then(|()| stream.flush()).is_err() {
                        *self.closed.lock().unwrap() += 1;
                        return;
                    }
                }
                Reply::Forever(bytes) => {
                    while stream.write_all(&bytes).is_ok() {}
                    *self.closed.lock().unwrap() += 1;
                }
                Reply::Pause => std::thread::sleep(Duration::from_micros(300)),
                Reply::UntilClosed => {
                    use std::io::ErrorKind::{ConnectionReset, UnexpectedEof};
                    let gone = match stream.read(&mut [0]) {
                        Ok(count) => count == 0,
                        Err(why) => [ConnectionReset, UnexpectedEof].contains(&why.kind()),
                    };
                    *self.closed.lock().unwrap() += usize::from(gone);
                }
            }
        }
    }

    fn key_fits(&self, seen: &Seen) -> bool {
        let wanted = self.manner.key.map(|key| format!("Bearer {key}"));
        wanted.is_none() || seen.headers.get("authorization") == wanted.as_ref()
    }

    /// What is wrong with a request.
    fn look(&self, seen: &Seen) -> Vec<String> {
        let mut found = Vec::new();
        let header = |name: &str| seen.headers.get(name).map_or("", String::as_str);
        let mut demand = |fits: bool, what: &str| {
            if !fits {
                found.push(format!("{}: {what}", seen.what));
            }
        };
        demand(!header("host").is_empty(), "no host");
        demand(header("user-agent").starts_with("nano-remote/"), "another user agent");
        demand(header("accept-encoding") == "identity", "an encoding was asked for");
        demand(header("accept").contains("application/json"), "no JSON is accepted");
        demand(self.manner.key.is_some() || header("authorization").is_empty(), "a key that nobody asked for");
        if seen.what.starts_with("POST") {
            demand(header("content-type") == "application/json", "the content type");
            demand(seen.body.is_object(), "the body is no object");
        }
        if seen.what.ends_with("/chat/completions") {
            demand(header("accept").contains("text/event-stream"), "no events are accepted");
            found.extend(crate::strict::look(&seen.body));
        }
        found
    }
}

fn read(reader: &mut impl BufRead) -> Option<Seen> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
    let what = line.trim_end().strip_suffix(" HTTP/1.1")?.to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").map_or(0, |text| text.parse().expect("a length"));
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).expect("JSON") };
    Some(Seen { what, headers, body })
}

/// An answer at once.
pub fn plain_reply(status: u16, headers: &str, body: &str) -> Vec<Reply> {
    let head = format!("HTTP/1.1 {status} So\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    vec![Reply::Bytes((head + body).into_bytes())]
}

/// One of JSON.
pub fn json_reply(status: u16, body: &Value) -> Vec<Reply> {
    plain_reply(status, "Content-Type: application/json\r\n", &body.to_string())
}

/// The head of a stream that ends when the connection does.
pub const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nConnection: close\r\n\r\n";

/// A stream of these lines.
pub fn stream_reply(body: &str) -> Vec<Reply> {
    vec![Reply::Bytes(format!("{HEAD}{body}").into_bytes())]
}

/// Values as events, and the end.
pub fn events(values: &[Value]) -> String {
    let mut text: String = values.iter().map(|value| format!("data: {value}\n\n")).collect();
    text += "data: [DONE]\n\n";
    text
}

/// A value of a stream with a delta.
pub fn delta(delta: Value) -> Value {
    json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "test",
        "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": null}]})
}

/// A value of a stream with the end.
pub fn finish(reason: &str) -> Value {
    json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "test",
        "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
}

/// The value with the counts.
pub fn usage(prompt: usize, cached: usize, answer: usize) -> Value {
    json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "test", "choices": [],
        "usage": {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer,
            "prompt_tokens_details": {"cached_tokens": cached}}})
}
