//! What goes wrong with a server, and the sentences that say so and what to do. What servers say in their own words is
//! read in `refusal`.

use crate::http::Broken;
use crate::refusal::Refusal;
use crate::server::Server;
use nano_runtime::Error;
use std::time::Duration;

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The connection: it was not made, or it broke.
    Broken(Broken),
    /// A status that is no success.
    Status { status: u16, wait: Option<Duration>, moved: Option<String>, refusal: Box<Refusal> },
    /// An error in place of an answer, or in the middle of it.
    Said(Box<Refusal>),
    /// A web page.
    Page,
    /// Something that is no JSON, or not the JSON of this interface.
    Garbage(String),
    /// The answer has no end.
    Early,
    /// The answer did not begin in time.
    NoAnswer(Duration),
    /// The answer began, and then nothing came for this long.
    Stalled(Duration),
    /// A complete answer that is none: what there was.
    Nothing(String),
}

/// Whom the sentences are about.
pub(crate) struct Site<'a> {
    pub(crate) base: &'a str,
    pub(crate) model: Option<&'a str>,
    /// The server's models, where they are known.
    pub(crate) models: &'a [String],
    pub(crate) key: Option<&'a str>,
    /// Tokens that the answer was to have at most.
    pub(crate) answer: usize,
    pub(crate) connect: Duration,
    /// `/v1` after the address leads nowhere either.
    pub(crate) tried: bool,
}

/// The wait before a request is sent again, whoever asks for it.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Letters of a server's own words that are shown.
const SHOWN: usize = 500;

impl Failure {
    /// The wait before the same request may be sent once more; `None`: it would fail again, or nobody knows.
    pub(crate) fn again(&self, usual: Duration) -> Option<Duration> {
        match self {
            Failure::Broken(Broken::Refused | Broken::Closed) => Some(usual),
            Failure::Status { status: 429 | 500 | 502 | 503 | 504, wait, refusal, .. } => {
                let wait = Some(wait.unwrap_or(usual)).filter(|wait| *wait <= LONGEST_WAIT);
                // A prompt that is too long will not get shorter, whatever the status.
                wait.filter(|_| refusal.overflow(0).is_none())
            }
            _ => None,
        }
    }

    /// The error that a user sees.
    pub(crate) fn error(&self, site: &Site<'_>) -> Error {
        let refusal = match self {
            Failure::Status { status: 400 | 413 | 422 | 500, refusal, .. } | Failure::Said(refusal) => Some(&**refusal),
            _ => None,
        };
        if let Some((needed, available)) = refusal.and_then(|refusal| refusal.overflow(site.answer)) {
            return Error::ContextFull { needed, available };
        }
        site.error(self.sentence(site))
    }

    fn sentence(&self, site: &Site<'_>) -> String {
        let where_else = || match site.tried {
            true => format!("; {}/v1 was tried too: check the address", site.base),
            false => "; check the address's path".to_owned(),
        };
        match self {
            Failure::Broken(broken) => broken_sentence(broken, site),
            Failure::Page => format!("a web page answers there, not this interface{}", where_else()),
            Failure::Status { status, moved: Some(place), .. } if (300..400).contains(status) => {
                format!("the server says that this is elsewhere, at {place}; give that address")
            }
            Failure::Status { status, wait, refusal, .. } => {
                let said = refusal.said(SHOWN);
                match status {
                    401 | 403 if site.key.is_some() => {
                        format!("the key was refused ({status}){said}; set NANO_API_KEY")
                    }
                    401 | 403 => format!("the server wants a key ({status}){said}; set NANO_API_KEY"),
                    404 if refusal.is_about_model() || !refusal.is_empty() && site.unknown_model() => {
                        format!("the model {} is unknown there{said}{}", site.model.unwrap_or("asked for"), site.list())
                    }
                    404 | 405 => {
                        format!("there is nothing of this interface at this path ({status}){said}{}", where_else())
                    }
                    429 => match wait {
                        Some(wait) => format!("the server is busy (429){said}; it asks to wait {} s", wait.as_secs()),
                        None => format!("the server is busy (429){said}; try again later"),
                    },
                    500..600 => format!("the server failed ({status}){said}"),
                    _ if site.unknown_model() && refusal.is_about_model() => {
                        format!("the server refused the request ({status}){said}{}", site.list())
                    }
                    _ => format!("the server refused the request ({status}){said}"),
                }
            }
            Failure::Said(refusal) => format!("the server failed{}", refusal.said(SHOWN)),
            Failure::Garbage(text) => format!("the answer is not what this interface gives: {}", shown(text, 200)),
            Failure::Early => "the server closed the connection before the answer was complete".to_owned(),
            Failure::NoAnswer(limit) => {
                format!(
                    "no answer began within {} s; a longer prompt on a slow machine needs more",
                    limit.as_secs_f32()
                )
            }
            Failure::Stalled(limit) => {
                format!("the answer stopped in the middle: nothing came for {} s", limit.as_secs_f32())
            }
            Failure::Nothing(what) => format!("the server gave no answer: {what}"),
        }
    }
}

impl<'a> Site<'a> {
    /// An address of which nothing else is known.
    pub(crate) fn of(base: &'a str, server: &'a Server) -> Self {
        let (key, connect) = (server.client.key(), server.timeouts.connect);
        Self { base, model: None, models: &[], key, answer: 0, connect, tried: false }
    }

    /// An error with this site's name; the key is kept out of it, whoever wrote it there.
    pub(crate) fn error(&self, problem: impl Into<String>) -> Error {
        let mut problem = problem.into();
        // What is shorter is a word that stands for no key.
        if let Some(key) = self.key.filter(|key| key.len() > 5) {
            problem = problem.replace(key, "(the key)");
        }
        Error::Engine { engine: self.base.to_owned(), problem }
    }

    fn unknown_model(&self) -> bool {
        let known = |model| self.models.iter().any(|one| one == model);
        !self.models.is_empty() && self.model.is_some_and(|model| !known(model))
    }

    /// The models that the server has.
    pub(crate) fn list(&self) -> String {
        if self.models.is_empty() {
            return String::new();
        }
        let most = 20;
        let names: Vec<&str> = self.models.iter().take(most).map(String::as_str).collect();
        let more =
            if self.models.len() > most { format!(" and {} more", self.models.len() - most) } else { String::new() };
        format!("; it has {}{more}", names.join(", "))
    }
}

fn broken_sentence(broken: &Broken, site: &Site<'_>) -> String {
    match broken {
        Broken::Refused => "nothing listens there: is the server running, and is the port right?".to_owned(),
        Broken::Closed => "the server closed the connection without an answer".to_owned(),
        Broken::NoHost => "there is no host of that name".to_owned(),
        Broken::NoConnection => {
            format!("no connection within {} s: is the host on, and the address right?", site.connect.as_secs_f32())
        }
        Broken::Tls(why) if why.contains("InvalidContentType") => {
            "the server does not speak https: take http:// in the address".to_owned()
        }
        Broken::Tls(why) => format!("no secure connection: {}", shown(why, SHOWN)),
        Broken::Other(why) => format!("the server cannot be reached: {}", shown(why, SHOWN)),
    }
}

/// A text on one line, cut where it is too long.
pub(crate) fn shown(text: &str, most: usize) -> String {
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > 4 * most {
            break;
        }
    }
    match line.char_indices().nth(most) {
        Some((end, _)) => format!("{} …", &line[..end]),
        None => line,
    }
}
