//! An engine behind a server that speaks the OpenAI interface: vLLM, TensorRT-LLM, llama-server, ollama and their like.
//!
//! A [`RemoteEngine`] is used as any other [`Engine`]; whoever outgrows one machine keeps the program.
//!
//! ```no_run
//! use nano_remote::{RemoteEngine, RemoteOptions};
//! use nano_runtime::{Engine, Message, Request};
//!
//! let engine = RemoteEngine::open(RemoteOptions::new("http://host:8000/v1"))?;
//! let request = Request { messages: vec![Message::user("Hello!")], ..Request::default() };
//! println!("{}", engine.predict(&request)?.text);
//! # Ok::<(), nano_runtime::Error>(())
//! ```
//!
//! A request is sent again, after a while, only if no server was there, or if it was busy, failed or closed the
//! connection, and never after the answer has begun: nothing is said twice. Each answer has a thread and a connection
//! of its own. Stopping or dropping an answer closes the connection within a moment, so that the server can stop too.
//!
//! Not here: terminals, environment variables (proxies and keys are options), and what is done with calls of tools.

#![forbid(unsafe_code)]

mod address;
mod answer;
mod body;
mod calls;
mod count;
mod delta;
mod failure;
mod http;
mod lengths;
mod models;
mod options;
mod refusal;
mod server;
mod sse;

pub use options::{RemoteOptions, Timeouts};

use crate::answer::Asked;
use crate::body::Manner;
use crate::count::Counts;
use crate::delta::Usage;
use crate::failure::Site;
use crate::lengths::Counter;
use crate::models::Found;
use crate::server::Server;
use nano_runtime::{Answer, Engine, Error, Message, Request, Result, Value, answer};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// A model on a server.
///
/// The [`Stats`](nano_runtime::Stats) of its answers hold the server's counts; where it does not count, tokens of the
/// prompt are estimated and those of the answer are the pieces that it came in. Times are measured here, and hold the
/// network's.
pub struct RemoteEngine {
    shared: Arc<Shared>,
}

/// What the engine and the threads of its answers have in common.
struct Shared {
    server: Server,
    base: String,
    model: String,
    models: Vec<String>,
    context: usize,
    context_is_guessed: bool,
    llama: bool,
    learned: Mutex<Learned>,
}

/// What answers have told of the server.
#[derive(Default)]
struct Learned {
    counts: Counts,
    counter: Counter,
    reasoning: Option<&'static str>,
}

impl RemoteEngine {
    /// Asks the server for its models and takes the one that is named, or the only one. Where the address leads
    /// nowhere, it is tried with `/v1` as well.
    pub fn open(options: RemoteOptions) -> Result<Self> {
        let refuse = |problem| Error::Engine { engine: options.url.trim().to_owned(), problem };
        let base = address::normal(&options.url).map_err(|problem| Error::Engine {
            // It may hold a password.
            engine: "the engine's address".to_owned(),
            problem,
        })?;
        let server = Server::new(&options).map_err(refuse)?;
        let Found { base, model, models, context, context_is_guessed, llama } = models::find(&server, &options, &base)?;
        let learned = Mutex::default();
        let shared = Shared { server, base, model, models, context, context_is_guessed, llama, learned };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The address that was found, as in `http://host:8000/v1`.
    pub fn url(&self) -> &str {
        &self.shared.base
    }

    /// Whether somebody said how much context there is: the server, or the options.
    pub fn knows_context_size(&self) -> bool {
        !self.shared.context_is_guessed
    }

    /// The models that the server has; none if it has no list.
    pub fn models(&self) -> &[String] {
        &self.shared.models
    }
}

impl std::fmt::Debug for RemoteEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Shared { base, model, context, .. } = &*self.shared;
        f.debug_struct("RemoteEngine")
            .field("url", base)
            .field("model", model)
            .field("context", context)
            .finish_non_exhaustive()
    }
}

impl Engine for RemoteEngine {
    fn name(&self) -> &str {
        &self.shared.model
    }

    fn max_context_size(&self) -> usize {
        self.shared.context
    }

    /// Exact where the server counts (vLLM, llama-server), else an estimate, which is exact for what it has answered.
    fn prompt_len(&self, messages: &[Message], tools: &[Value]) -> Result<usize> {
        let Shared { server, base, model, .. } = &*self.shared;
        let (mut counter, reasoning) = {
            let learned = self.shared.learned();
            (learned.counter, learned.reasoning)
        };
        if counter != Counter::None {
            let list = body::messages(messages, reasoning);
            let found = lengths::ask(server, base, model, &list, tools, &mut counter);
            self.shared.learned().counter = counter;
            if let Some(count) = found {
                return Ok(count);
            }
        }
        Ok(self.shared.learned().counts.estimate(messages, tools))
    }

    fn estimated_len(&self, messages: &[Message], tools: &[Value]) -> Result<usize> {
        let learned = self.shared.learned();
        if learned.counts.is_empty() {
            // The server's answers say nothing of lengths.
            drop(learned);
            return self.prompt_len(messages, tools);
        }
        Ok(learned.counts.estimate(messages, tools))
    }

    fn stream(&self, request: &Request) -> Result<Box<dyn Answer>> {
        let shared = &self.shared;
        body::check(request, |problem| shared.site().error(problem))?;
        let manner = Manner {
            model: &shared.model,
            context: Some(shared.context).filter(|_| !shared.context_is_guessed),
            reasoning: shared.learned().reasoning,
            repetition: if shared.llama { "repeat_penalty" } else { "repetition_penalty" },
        };
        let asked = Asked {
            body: body::body(request, &manner).to_string(),
            messages: request.messages.clone(),
            tools: request.tools.clone(),
            most: request.options.max_new_tokens,
            guess: shared.learned().counts.estimate(&request.messages, &request.tools),
        };
        let (sink, stream) = answer();
        let own = Arc::clone(shared);
        thread::Builder::new()
            .name("nano-remote".to_owned())
            .spawn(move || answer::make(&own, &asked, &sink))
            .map_err(|why| shared.site().error(format!("no thread could be started: {why}")))?;
        Ok(Box::new(stream))
    }
}

impl Shared {
    fn learned(&self) -> MutexGuard<'_, Learned> {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn site(&self) -> Site<'_> {
        Site { model: Some(&self.model), models: &self.models, ..Site::of(&self.base, &self.server) }
    }

    fn learn(&self, asked: &Asked, answer: &Message, usage: Option<Usage>, reasoning: Option<&'static str>) {
        let mut learned = self.learned();
        if let Some(usage) = usage {
            learned.counts.note(&asked.messages, &asked.tools, answer, usage);
        }
        learned.reasoning = reasoning.or(learned.reasoning);
    }
}
