//! A random walk of three conversations whose model calls functions all the time, with errors and cancels among them:
//! every reply must be what a plain reading of the rules gives, and every function called as often as it was written.

use crate::common::*;
use crate::setup::{functions, made};
use nano_runtime::{ChatHistory, ChatOptions, Error, Event, Finish, GenerateOptions, Output, Reply, Result};
use regex::Regex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const CALLS_A_REPLY: usize = 5;

/// A next token that depends on all before it: calls, letters, and an end now and then.
fn babble(tokens: &[u32]) -> u32 {
    let hash = tokens.iter().fold(7u64, |h, &t| (h ^ u64::from(t)).wrapping_mul(0x100_0000_01B3).rotate_left(23));
    let words = ["time()", "time() ok", " step()", "time()step()", "add(1, 2)", "time()###", "###time()", " world"];
    match hash % 16 {
        0 => END,
        1..=7 => word(words[(hash >> 8) as usize % words.len()]),
        _ => b"X #\n.-"[(hash >> 8) as usize % 6].into(),
    }
}

/// What a reply should be.
#[derive(Debug, Default)]
struct Expected {
    text: String,
    /// What a stop string cuts among it.
    raw: String,
    tokens: Vec<u32>,
    calls: Vec<&'static str>,
    spliced: usize,
}

/// Plays a reply through, one token after the other.
fn play(prompt: &[u32], max: usize, stop: &str) -> Expected {
    let pattern = Regex::new(r"\b(time\(\)|step\(\)|add\(1, 2\))").unwrap();
    let mut reply = Expected::default();
    // What the model wrote since the last result, and how much of it was looked at.
    let (mut own, mut scanned) = (String::new(), 0);
    loop {
        let token = babble(&[prompt, &reply.tokens].concat());
        reply.tokens.push(token);
        let piece = match token {
            END => return reply,
            260.. => WORDS[token as usize - 260].to_owned(),
            byte => char::from(byte as u8).to_string(),
        };
        let before = reply.text.len();
        reply.text += &piece;
        reply.raw += &piece;
        own += &piece;
        let cut = reply.text.find(stop);
        reply.text.truncate(cut.unwrap_or(usize::MAX).min(reply.text.len()));
        let lost = before + piece.len() - reply.text.len();
        let found = pattern.find_iter(&own[..own.len().saturating_sub(lost)]).filter(|call| call.end() > scanned);
        let names =
            found.map(|call| if call.as_str().starts_with('t') { "time" } else { &call.as_str()[..call.len().min(3)] });
        let names: Vec<&'static str> =
            names.map(|name| ["time", "step", "add"].into_iter().find(|n| n.starts_with(name)).unwrap()).collect();
        scanned = own.len();
        let mut results = Vec::new();
        for name in names.into_iter().take((CALLS_A_REPLY + 1).saturating_sub(reply.calls.len())) {
            reply.calls.push(name);
            results.push(match name {
                _ if reply.calls.len() > CALLS_A_REPLY => {
                    format!(" (error: {name} was not called: a reply may make 5 calls)")
                }
                "time" => " 12:00".into(),
                "add" => " 3".into(),
                _ => String::new(),
            });
        }
        if cut.is_some() || reply.tokens.len() == max {
            return reply;
        }
        for result in results.iter().filter(|result| !result.is_empty()) {
            // It ends a word of its own.
            own = "0".into();
            scanned = 1;
            for byte in result.bytes() {
                reply.tokens.push(byte.into());
                reply.spliced += 1;
                reply.text.push(byte.into());
                reply.raw.push(byte.into());
                if let Some(cut) = reply.text.find(stop) {
                    reply.text.truncate(cut);
                    return reply;
                }
                if reply.tokens.len() == max {
                    return reply;
                }
            }
        }
    }
}

struct Walk {
    random: u64,
    chats: Vec<ChatHistory>,
    /// Steps until one fails.
    fuse: Arc<AtomicU32>,
    counts: [usize; 5],
}

/// A turn that is to be made.
struct Turn {
    options: GenerateOptions,
    calls: crate::setup::Calls,
    expected: Expected,
}

/// What a reader saw.
#[derive(Default)]
struct Seen {
    text: String,
    names: Vec<String>,
    done: Option<Output>,
    error: Option<Error>,
}

impl Walk {
    fn new(seed: u64, picks: bool) -> Self {
        let fuse = Arc::new(AtomicU32::new(u32::MAX));
        let burning = Arc::clone(&fuse);
        let (mut fake, _) = Fake::new(limits(), babble);
        fake.picks = picks;
        fake.faults = Box::new(move |_| match burning.fetch_sub(1, Ordering::Relaxed) {
            0 => Some(Fault::Error),
            _ => None,
        });
        let model = fake.model(template(CHATML));
        let chats = (0..3).map(|_| model.chat(ChatOptions::default()).unwrap()).collect();
        Self { random: seed * 77 + 1, chats, fuse, counts: [0; 5] }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % n
    }

    fn turn(&mut self, chat: usize) -> Turn {
        let text = ["go", "time()", "what is add(1, 2)?", "Ü"][self.below(4) as usize];
        let (functions, calls) = functions();
        let stop = ["###", ": ", "2:0", "X#", "()s", "ok"][self.below(6) as usize];
        let max_new_tokens = 1 + self.below(60) as usize;
        let functions = functions.with_call_limit(CALLS_A_REPLY);
        let options = GenerateOptions { max_new_tokens, stop: vec![stop.into()], functions, ..options() };
        let chat = &mut self.chats[chat];
        let mut prompt = all(chat);
        prompt.extend(match &prompt[..] {
            [] | [.., END, 10] => vec![],
            [.., END] => bytes("\n"),
            _ => tokens("<|im_end|>\n"),
        });
        prompt.extend(
            [tokens("<|im_start|>user\n"), bytes(text), tokens("<|im_end|>\n<|im_start|>assistant\n")].concat(),
        );
        chat.user(text);
        Turn { expected: play(&prompt, max_new_tokens, stop), options, calls }
    }

    /// One to three conversations at once, read in turns; some are stopped, some dropped, sometimes a step fails.
    fn step(&mut self) {
        let which: Vec<usize> = (0..3).filter(|_| self.below(2) == 0).collect();
        which.iter().for_each(|&i| self.tidy(i));
        let before: Vec<_> = which.iter().map(|&i| (self.chats[i].messages().len(), all(&self.chats[i]))).collect();
        let turns: Vec<Turn> = which.iter().map(|&i| self.turn(i)).collect();
        let ends: Vec<u64> = which.iter().map(|_| self.below(40)).collect();
        if self.below(4) == 0 {
            let steps = self.below(40) as u32;
            self.fuse.store(steps, Ordering::Relaxed);
        }
        let chats = self.chats.iter_mut().enumerate().filter(|(i, _)| which.contains(i)).map(|(_, chat)| chat);
        let replies = chats.zip(&turns).map(|(chat, turn)| chat.reply(&turn.options).unwrap()).map(Some).collect();
        let seen = read(replies, &ends);
        self.fuse.store(u32::MAX, Ordering::Relaxed);
        for ((((i, turn), seen), (messages, tokens)), end) in
            which.into_iter().zip(turns).zip(seen).zip(before).zip(ends)
        {
            let chat = &self.chats[i];
            let Some(output) = seen.done else {
                // Dropped, or failed: as it was.
                assert!(seen.error.is_none_or(|error| error.to_string().contains("the fan fell off")));
                assert_eq!((chat.messages().len(), all(chat)), (messages, tokens));
                self.counts[0] += 1;
                continue;
            };
            let Expected { text, raw, tokens, calls, spliced } = turn.expected;
            let made: Vec<String> =
                made(&turn.calls).iter().map(|call| call[..call.find('(').unwrap()].to_owned()).collect();
            assert_eq!((&seen.text, &chat.messages().last().unwrap().content.text()), (&output.text, &output.text));
            // A reply that has met its end may be stopped while its last function runs.
            let short = (8..16).contains(&end) && seen.names.len() < calls.len();
            if output.finish == Finish::Cancelled || short {
                assert!(tokens.starts_with(&output.tokens) && raw.starts_with(&seen.text), "{raw}\n{}", seen.text);
                assert!(seen.names.len() <= calls.len() && made.len() >= seen.names.len().min(CALLS_A_REPLY));
                self.counts[1] += 1;
                continue;
            }
            assert_eq!((&seen.text, &output.tokens, &seen.names[..]), (&text, &tokens, &owned(&calls)[..]));
            assert_eq!(made, owned(&calls[..calls.len().min(CALLS_A_REPLY)]));
            let stats = output.stats;
            assert_eq!((stats.spliced_tokens, stats.function_calls), (spliced, made.len()));
            self.counts[2] += 1;
            self.counts[3] += calls.len();
            self.counts[4] += spliced;
        }
    }

    /// Makes room, and does something else now and then.
    fn tidy(&mut self, i: usize) {
        match self.below(8) {
            _ if self.chats[i].num_tokens() > 700 => self.chats[i].reset(),
            0 => drop(self.chats[i].undo()),
            1 => drop(self.chats[i].pop(1)),
            2 => self.chats[i] = self.chats[(i + 1) % 3].fork(),
            _ => {}
        }
        if self.chats[i].messages().last().is_some_and(|message| message.role == "user") {
            self.chats[i].pop(1);
        }
    }
}

/// All tokens of a conversation.
fn all(chat: &ChatHistory) -> Vec<u32> {
    (0..chat.messages().len()).flat_map(|i| chat.message_tokens(i)).collect()
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Reads replies in turns. One whose number is below 8 is dropped after so many events, one below 16 stopped.
fn read(mut replies: Vec<Option<Reply<'_>>>, ends: &[u64]) -> Vec<Seen> {
    let mut seen: Vec<Seen> = replies.iter().map(|_| Seen::default()).collect();
    for round in 0.. {
        if replies.iter().all(Option::is_none) {
            break;
        }
        for ((slot, seen), &end) in replies.iter_mut().zip(&mut seen).zip(ends) {
            if end < 8 && round == end {
                *slot = None;
            }
            let Some(reply) = slot else { continue };
            if (8..16).contains(&end) && round == end - 8 {
                reply.stop();
            }
            let event: Option<Result<Event>> = reply.next();
            match event.unwrap() {
                Ok(Event::Text(text)) => seen.text += &text,
                Ok(Event::Call(report)) => seen.names.push(report.name),
                Ok(Event::Done(output)) => {
                    seen.done = Some(*output);
                    *slot = None;
                }
                Err(error) => {
                    seen.error = Some(error);
                    *slot = None;
                }
                Ok(other) => panic!("{other:?}"),
            }
        }
    }
    seen
}

#[test]
fn conversations_that_call_all_the_time() {
    let mut total = [0; 5];
    for (seed, picks) in [(1, false), (2, true), (3, false), (4, true)] {
        let mut walk = Walk::new(seed, picks);
        (0..200).for_each(|_| walk.step());
        total.iter_mut().zip(walk.counts).for_each(|(total, count)| *total += count);
    }
    let [dropped, stopped, ended, calls, spliced] = total;
    assert!(dropped > 100 && stopped > 5 && ended > 300 && calls > 500 && spliced > 2000, "{total:?}");
}
