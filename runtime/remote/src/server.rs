//! A server: requests to it that are answered at once, and how patient to be. Streamed answers are read in `answer`.

use crate::failure::{Failure, LONGEST_WAIT};
use crate::http::{Arrival, Client, Exchange, Head, Waited, pause};
use crate::refusal::Refusal;
use crate::{RemoteOptions, Timeouts};
use nano_runtime::Value;
use std::time::{Duration, Instant};

/// Bytes that an answer that is not streamed may have.
const LONGEST: usize = 16 << 20;
/// The time that the rest of a refusal may take: it is only words.
const REFUSAL: Duration = Duration::from_secs(5);

/// Whom requests go to.
pub(crate) struct Server {
    pub(crate) client: Client,
    pub(crate) timeouts: Timeouts,
    pub(crate) retries: usize,
    pub(crate) backoff: Duration,
}

/// Why a request has no answer.
pub(crate) enum Without {
    Failed(Failure),
    /// Nobody wants one any more.
    Over,
}

impl Server {
    pub(crate) fn new(options: &RemoteOptions) -> Result<Self, String> {
        let timeouts = options.timeouts.bounded();
        let client = Client::new(options, timeouts.connect)?;
        Ok(Self { client, timeouts, retries: options.retries, backoff: options.backoff })
    }

    /// Tries as often as it may. `attempt` says in what it fails whether it may be tried again.
    pub(crate) fn retrying<T>(
        &self,
        over: &dyn Fn() -> bool,
        mut attempt: impl FnMut() -> Result<T, (Without, bool)>,
    ) -> Result<T, Without> {
        let mut usual = self.backoff.min(LONGEST_WAIT);
        let mut left = self.retries;
        loop {
            let failure = match attempt() {
                Ok(value) => return Ok(value),
                Err((Without::Failed(failure), true)) => failure,
                Err((without, _)) => return Err(without),
            };
            let Some(wait) = failure.again(usual).filter(|_| left > 0) else { return Err(Without::Failed(failure)) };
            if !pause(wait, over) {
                return Err(Without::Over);
            }
            left -= 1;
            usual = usual.saturating_mul(2).min(LONGEST_WAIT);
        }
    }

    /// Waits for an answer of JSON. `GET` where there is no body.
    pub(crate) fn ask(&self, url: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let never = || false;
        let exchange = self.client.start(url.to_owned(), body.map(Value::to_string)).map_err(Failure::Broken)?;
        // Such an answer is ready at once; a long prompt's is not among them.
        let quiet = self.timeouts.between_bytes;
        let timeouts = Timeouts { first_byte: quiet, ..self.timeouts };
        let whole = head(&exchange, timeouts, &never).and_then(|head| Ok((head, rest(&exchange, quiet, &never)?)));
        let (head, bytes) = whole.map_err(|without| match without {
            Without::Failed(failure) => failure,
            Without::Over => Failure::Early,
        })?;
        if !(200..300).contains(&head.status) {
            return Err(refused(head, &bytes));
        }
        if is_page(&bytes) {
            return Err(Failure::Page);
        }
        let text = || String::from_utf8_lossy(&bytes).into_owned();
        serde_json::from_slice(&bytes).map_err(|_| Failure::Garbage(text()))
    }
}

/// Waits for the head of an answer.
pub(crate) fn head(exchange: &Exchange, timeouts: Timeouts, over: &dyn Fn() -> bool) -> Result<Head, Without> {
    match exchange.next(Instant::now() + timeouts.connect + timeouts.first_byte, over) {
        Waited::Came(Arrival::Head(head)) => Ok(head),
        Waited::Came(Arrival::Broken(broken)) => Err(Without::Failed(Failure::Broken(broken))),
        Waited::Came(Arrival::Bytes(_) | Arrival::End) => Err(Without::Failed(Failure::Early)),
        Waited::Over => Err(Without::Over),
        Waited::Late => Err(Without::Failed(Failure::NoAnswer(timeouts.first_byte))),
    }
}

/// What a head that is no success means, with what comes after it.
pub(crate) fn refusal(exchange: &Exchange, head: Head, over: &dyn Fn() -> bool) -> Without {
    match rest(exchange, REFUSAL, over) {
        Ok(bytes) => Without::Failed(refused(head, &bytes)),
        Err(Without::Over) => Without::Over,
        // Its status says enough.
        Err(Without::Failed(_)) => Without::Failed(refused(head, b"")),
    }
}

fn rest(exchange: &Exchange, quiet: Duration, over: &dyn Fn() -> bool) -> Result<Vec<u8>, Without> {
    let mut all = Vec::new();
    loop {
        match exchange.next(Instant::now() + quiet, over) {
            Waited::Came(Arrival::Bytes(bytes)) => all.extend(bytes),
            Waited::Came(Arrival::End) => return Ok(all),
            Waited::Came(Arrival::Head(_) | Arrival::Broken(_)) => return Err(Without::Failed(Failure::Early)),
            Waited::Over => return Err(Without::Over),
            Waited::Late => return Err(Without::Failed(Failure::Stalled(quiet))),
        }
        if all.len() > LONGEST {
            return Err(Without::Failed(Failure::Garbage(format!("more than {LONGEST} bytes"))));
        }
    }
}

fn refused(head: Head, bytes: &[u8]) -> Failure {
    let Head { status, wait, moved } = head;
    if is_page(bytes) && !(300..400).contains(&status) && ![401, 403, 429].contains(&status) && status < 500 {
        return Failure::Page;
    }
    let refusal = if is_page(bytes) { Refusal::default() } else { Refusal::of_body(bytes) };
    Failure::Status { status, wait, moved, refusal: Box::new(refusal) }
}

fn is_page(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(b"<")
}
