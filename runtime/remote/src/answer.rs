//! An answer under way: sends the request, again where that is allowed, and reads what streams back into events, on a
//! thread of its own.

use crate::delta::Assembly;
use crate::failure::{Failure, Site};
use crate::http::{Arrival, Broken, Waited};
use crate::server::{Without, head, refusal};
use crate::sse::{Body, Said};
use crate::{Shared, Timeouts};
use nano_runtime::{AnswerSink, Event, Message, Output, Value};
use std::time::{Duration, Instant};

/// How long to wait for counts after the model has said that it is done.
const AFTER_END: Duration = Duration::from_secs(3);

/// What an answer is made from.
pub(crate) struct Asked {
    pub(crate) messages: Vec<Message>,
    pub(crate) tools: Vec<Value>,
    pub(crate) body: String,
    /// Tokens that it may have.
    pub(crate) most: usize,
    /// How long its prompt may be.
    pub(crate) guess: usize,
}

/// Makes the answer, to its end.
pub(crate) fn make(shared: &Shared, asked: &Asked, sink: &AnswerSink) {
    let over = || sink.is_over();
    let started = Instant::now();
    let made = shared.server.retrying(&over, || attempt(shared, asked, sink));
    let end = match made {
        Ok(output) => Ok(Event::Done(Box::new(output))),
        Err(Without::Over) => Ok(Event::Done(Box::new(Assembly::new(started, 0).cancel()))),
        Err(Without::Failed(failure)) => {
            let site = Site { answer: asked.most, ..shared.site() };
            Err(failure.error(&site))
        }
    };
    sink.push(end);
}

/// One request. What fails may be tried again until the model has said something.
fn attempt(shared: &Shared, asked: &Asked, sink: &AnswerSink) -> Result<Output, (Without, bool)> {
    let over = || sink.is_over();
    let (server, url) = (&shared.server, format!("{}/chat/completions", shared.base));
    let mut reading = Reading { assembly: Assembly::new(Instant::now(), asked.guess), body: Body::default() };
    let exchange = server
        .client
        .start(url, Some(asked.body.clone()))
        .map_err(|broken| (Without::Failed(Failure::Broken(broken)), false))?;
    let head = head(&exchange, server.timeouts, &over).map_err(|without| (without, true))?;
    if !(200..300).contains(&head.status) {
        return Err((refusal(&exchange, head, &over), true));
    }
    loop {
        let quiet = reading.patience(server.timeouts);
        let went_on = match exchange.next(Instant::now() + quiet, &over) {
            Waited::Over => return Ok(reading.assembly.cancel()),
            Waited::Late => reading.late(quiet),
            Waited::Came(Arrival::Bytes(bytes)) => reading.bytes(&bytes, sink),
            Waited::Came(Arrival::Broken(broken)) => reading.closed(broken, sink),
            Waited::Came(Arrival::End | Arrival::Head(_)) => reading.closed(Broken::Closed, sink),
        };
        match went_on {
            Ok(false) => {}
            Ok(true) => {
                return finish(shared, asked, sink, reading.assembly).map_err(|why| (Without::Failed(why), false));
            }
            Err(failure) => return Err((Without::Failed(failure), !reading.assembly.has_begun())),
        }
    }
}

/// A body that is being read. What goes on says whether the answer is complete.
struct Reading {
    assembly: Assembly,
    body: Body,
}

impl Reading {
    /// How long nothing may come.
    fn patience(&self, timeouts: Timeouts) -> Duration {
        match &self.assembly {
            one if one.has_finished() => AFTER_END.min(timeouts.between_bytes),
            one if one.has_begun() => timeouts.between_bytes,
            _ => timeouts.first_byte,
        }
    }

    fn late(&self, quiet: Duration) -> Result<bool, Failure> {
        match &self.assembly {
            one if one.has_finished() => Ok(true),
            one if one.has_begun() => Err(Failure::Stalled(quiet)),
            _ => Err(Failure::NoAnswer(quiet)),
        }
    }

    fn bytes(&mut self, bytes: &[u8], sink: &AnswerSink) -> Result<bool, Failure> {
        let mut said = Vec::new();
        self.body.push(bytes, &mut said);
        self.take(said, sink)
    }

    /// Servers may close without a word once the model is done; before, something is missing.
    fn closed(&mut self, how: Broken, sink: &AnswerSink) -> Result<bool, Failure> {
        let mut said = Vec::new();
        self.body.end(&mut said);
        if self.take(said, sink)? || self.assembly.has_finished() {
            return Ok(true);
        }
        Err(if self.assembly.has_begun() { Failure::Early } else { Failure::Broken(how) })
    }

    fn take(&mut self, said: Vec<Said>, sink: &AnswerSink) -> Result<bool, Failure> {
        let mut events = Vec::new();
        let mut taken = Ok(false);
        for one in said {
            taken = match one {
                Said::Value(value, announced) => self.assembly.take(&value, announced, &mut events).map(|()| false),
                Said::Done => Ok(true),
                Said::Garbage(text) => Err(Failure::Garbage(text)),
                Said::Page => Err(Failure::Page),
            };
            if !matches!(taken, Ok(false)) {
                break;
            }
        }
        events.into_iter().for_each(|event| sink.push(Ok(event)));
        taken
    }
}

fn finish(shared: &Shared, asked: &Asked, sink: &AnswerSink, assembly: Assembly) -> Result<Output, Failure> {
    let (usage, field) = (assembly.usage(), assembly.reasoning_field());
    let mut events = Vec::new();
    let output = assembly.finish(&mut events)?;
    events.into_iter().for_each(|event| sink.push(Ok(event)));
    shared.learn(asked, &output.message, usage, field);
    Ok(output)
}
