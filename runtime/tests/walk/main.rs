//! Random walks over conversations: whatever happens to them, and in whatever company, a turn's prompt must be the
//! tokens that a fresh rendering of its messages gives, with replies as they were sampled. That the cache's rows are
//! those of a fresh prefill of these tokens, the runner checks at every step.

mod chance;
#[path = "../common/mod.rs"]
mod common;
mod expected;

use chance::{Random, babble, listen};
use common::*;
use expected::Expected;
use nano_runtime::{
    ChatHistory, ChatOptions, Error, Event, GenerateOptions, Limits, NanoModel, Output, Overflow, Removal, Result,
};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

const CONTEXT: usize = 400;

/// What happened, by name.
const KINDS: [&str; 17] = [
    "turns",
    "full",
    "failed",
    "dropped",
    "stopped",
    "pairs",
    "undone",
    "popped",
    "removed",
    "edited",
    "again",
    "forked",
    "rolled back",
    "appended",
    "lost",
    "overflown",
    "moved",
];

struct Walk {
    random: Random,
    chats: Vec<(ChatHistory, Expected)>,
    /// The tokens of a sequence whenever logits were asked of it.
    contexts: Arc<Mutex<Vec<Vec<u32>>>>,
    /// Steps until one fails.
    fuse: Arc<AtomicU32>,
    counts: [usize; KINDS.len()],
}

impl Walk {
    fn new(seed: u64, source: &str, pages: usize) -> Self {
        let contexts = Arc::new(Mutex::new(Vec::new()));
        let fuse = Arc::new(AtomicU32::new(u32::MAX));
        let (seen, burning) = (Arc::clone(&contexts), Arc::clone(&fuse));
        let limits = Limits { context: CONTEXT, pages, ..limits() };
        let (mut fake, _) = Fake::new(limits, move |tokens| {
            seen.lock().unwrap().push(tokens.to_vec());
            babble(tokens)
        });
        fake.faults = Box::new(move |_| match burning.load(Ordering::Relaxed) {
            u32::MAX => None,
            0 => {
                burning.store(u32::MAX, Ordering::Relaxed);
                Some(Fault::Error)
            }
            n => {
                burning.store(n - 1, Ordering::Relaxed);
                None
            }
        });
        let model = NanoModel::with_runner(Box::new(fake), tokenizer(false), template(source)).unwrap();
        let chat = |overflow| {
            let chat = model.chat(ChatOptions { overflow, ..ChatOptions::default() }).unwrap();
            (chat, Expected::default())
        };
        let chats = [Overflow::Error, Overflow::Drop, Overflow::Shift].map(chat).into_iter().collect();
        Self { random: Random(seed * 77 + 1), chats, contexts, fuse, counts: [0; KINDS.len()] }
    }

    fn count(&mut self, kind: &str) {
        self.counts[KINDS.iter().position(|k| *k == kind).expect("a kind")] += 1;
    }

    fn text(&mut self) -> String {
        let choices = ["hi", "<|im_end|>", "ho##", "Ü", "what is <s>this</s>?", "\n", "assistant"];
        let mut text = String::from("q");
        (0..self.random.below(4)).for_each(|_| text += choices[self.random.below(7) as usize]);
        if self.random.below(40) == 0 {
            text += &"x".repeat(CONTEXT);
        }
        text + "?"
    }

    fn options(&mut self) -> GenerateOptions {
        let mut options = GenerateOptions { max_new_tokens: 1 + self.random.below(30) as usize, ..options() };
        if self.random.below(3) == 0 {
            options.stop = vec![["###", "a", "world b", "##no"][self.random.below(4) as usize].into()];
        }
        if self.random.below(5) == 0 {
            options.min_new_tokens = options.max_new_tokens / 2;
        }
        if self.random.below(6) == 0 {
            options.reply_prefix = ["So", " <|im_end|>", "Ü"][self.random.below(3) as usize].into();
        }
        options
    }

    fn step(&mut self) {
        match self.random.below(24) {
            0 => self.reset(),
            1 => self.system(),
            2 => self.drop_midway(),
            3 => self.stop_midway(),
            4 => self.two_at_once(),
            5..=7 => {
                let steps = self.random.below(6) as u32;
                self.fuse.store(steps, Ordering::Relaxed);
                self.turn();
                self.fuse.store(u32::MAX, Ordering::Relaxed);
            }
            8..=14 => self.change(),
            15 => self.regenerate(),
            16 => self.append(),
            _ => self.turn(),
        }
        self.check();
    }

    /// Messages are as expected, and their tokens are those of the conversation.
    fn check(&self) {
        for (chat, expected) in &self.chats {
            assert_eq!(chat.messages().len(), expected.messages.len());
            let tokens: Vec<u32> = (0..chat.messages().len()).flat_map(|i| chat.message_tokens(i)).collect();
            assert_eq!((tokens.len(), chat.num_rows() + chat.num_pending()), (chat.num_tokens(), chat.num_tokens()));
            // The rows of the messages are all rows, in order.
            let rows: Vec<usize> = (0..chat.messages().len()).flat_map(|i| chat.message_rows(i)).collect();
            assert!(rows.into_iter().eq(0..chat.num_rows()));
            // A stop token that the template may not write stays at the end for now.
            let mut tokens = tokens;
            tokens.pop_if(|last| *last == EOS);
            let all = expected.all();
            assert!(all.starts_with(&tokens) || tokens.starts_with(&all), "{tokens:?}\n{all:?}");
            for (i, message) in expected.messages.iter().enumerate() {
                let mut own = chat.message_tokens(i);
                own.pop_if(|last| *last == EOS);
                assert!(own.is_empty() || message.is_in(&own), "message {i}: {message:?} in {own:?}");
            }
        }
    }

    fn pick(&mut self) -> usize {
        self.random.below(3) as usize
    }

    fn turn(&mut self) {
        let (i, text, options) = (self.pick(), self.text(), self.options());
        self.contexts.lock().unwrap().clear();
        let (chat, expected) = &mut self.chats[i];
        chat.user(text.as_str());
        let mut next = expected.clone();
        next.push("user", &text);
        let result = chat.reply(&options).and_then(|reply| listen(reply, &mut next));
        self.note(i, result, next, &options);
    }

    /// Compares what was fed with what should have been, and goes on from there.
    fn note(&mut self, i: usize, result: Result<(Output, bool)>, mut next: Expected, options: &GenerateOptions) {
        match result {
            Ok((output, overflown)) => {
                self.count(if overflown { "overflown" } else { "turns" });
                let room = options.max_new_tokens.min(CONTEXT / 2);
                assert!(overflown || next.prompt(options).len() + room <= CONTEXT || i > 0);
                let fed = self.contexts.lock().unwrap().first().cloned();
                assert_eq!(fed, Some(next.prompt(options)), "the prompt");
                next.reply(&output, options);
                self.chats[i].1 = next;
            }
            Err(Error::ContextFull { .. }) => {
                self.count("full");
                assert!(next.prompt(options).len() + options.max_new_tokens > CONTEXT);
                self.chats[i].0.reset();
                self.chats[i].1.reset();
            }
            Err(Error::Step(_) | Error::PoolFull { .. }) => self.count("failed"),
            Err(other) => panic!("{other}"),
        }
    }

    fn reset(&mut self) {
        let i = self.pick();
        let (chat, expected) = &mut self.chats[i];
        chat.reset();
        expected.reset();
    }

    fn system(&mut self) {
        let i = self.pick();
        let system = Some(self.text()).filter(|t| t.len() < 50);
        let (chat, expected) = &mut self.chats[i];
        if chat.system_prompt() != system {
            chat.set_system_prompt(system.clone());
            *expected = Expected::new(system.as_deref());
        }
    }

    fn drop_midway(&mut self) {
        let (i, text, options, read) = (self.pick(), self.text(), self.options(), self.random.below(8));
        let (chat, expected) = &mut self.chats[i];
        chat.user(text);
        let Ok(mut reply) = chat.reply(&options) else { return };
        for _ in 0..read {
            if let Some(Ok(Event::Done(_))) | None = reply.next() {
                // It came to its end, and counts: as if it had been reset there.
                drop(reply);
                chat.reset();
                expected.reset();
                return;
            }
        }
        drop(reply);
        self.count("dropped");
    }

    fn stop_midway(&mut self) {
        let (i, text, read) = (self.pick(), self.text(), self.random.below(8));
        let options = GenerateOptions { max_new_tokens: 100, ..options() };
        let (chat, expected) = &mut self.chats[i];
        chat.user(text.as_str());
        let mut next = expected.clone();
        next.push("user", &text);
        let Ok(mut reply) = chat.reply(&options) else { return };
        let mut done = None;
        for _ in 0..read {
            match reply.next() {
                Some(Ok(Event::Text(_))) => {}
                Some(Ok(Event::Overflow { .. })) => next.dropped = true,
                Some(Ok(Event::Done(output))) => {
                    done = Some(*output);
                    break;
                }
                _ => return,
            }
        }
        let output = done.unwrap_or_else(|| {
            reply.stop();
            listen(reply, &mut next).unwrap().0
        });
        next.reply(&output, &options);
        *expected = next;
        self.count("stopped");
    }

    fn two_at_once(&mut self) {
        let (texts, options) = ([self.text(), self.text()], [self.options(), self.options()]);
        let [(a, first), (b, second), _] = &mut self.chats[..] else { unreachable!() };
        a.user(texts[0].as_str());
        b.user(texts[1].as_str());
        let mut nexts = [first.clone(), second.clone()];
        nexts.iter_mut().zip(&texts).for_each(|(next, text)| next.push("user", text));
        let (one, other) = (a.reply(&options[0]), b.reply(&options[1]));
        let results = [one, other].map(|reply| reply.ok());
        let mut went = 0;
        for (((reply, expected), mut next), options) in
            results.into_iter().zip([first, second]).zip(nexts).zip(&options).rev()
        {
            if let Some(Ok((output, _))) = reply.map(|reply| listen(reply, &mut next)) {
                next.reply(&output, options);
                *expected = next;
                went += 1;
            }
        }
        (0..went).for_each(|_| self.count("pairs"));
    }

    /// Does something to a history besides talking.
    fn change(&mut self) {
        let (i, text, what) = (self.pick(), self.text(), self.random.below(8));
        let other = (i + 1) % 3;
        let messages = self.chats[i].1.messages.len();
        let a = self.random.below(messages as u64 + 1) as usize;
        let b = a + self.random.below((messages - a) as u64 + 1) as usize;
        let (chat, expected) = &mut self.chats[i];
        let mut moved = false;
        match what {
            0 => {
                let undone = chat.undo().len();
                let from = expected.messages.iter().rposition(|m| m.role == "user");
                let asks = |&i: &usize| i > 0 && expected.messages[i - 1].role == "user";
                let from = from.map(|mut from| {
                    while asks(&from) {
                        from -= 1;
                    }
                    from
                });
                assert_eq!(undone, from.map_or(0, |from| messages - from));
                expected.messages.truncate(messages - undone);
                self.count("undone");
            }
            1 => {
                assert_eq!(chat.pop(b - a).len(), b - a);
                expected.messages.truncate(messages - (b - a));
                self.count("popped");
            }
            2 | 3 => {
                let had: usize = (a..b).map(|i| chat.message_tokens(i).len()).sum();
                let how = if what == 2 { Removal::Exact } else { Removal::Shift };
                let removed = chat.remove(a..b, how).unwrap();
                assert!(removed.rows <= had && (removed.how == how || removed.how == Removal::Exact));
                moved = removed.how == Removal::Shift && b < messages;
                expected.messages.drain(a..b);
                self.count("removed");
            }
            4 if a < messages => {
                chat.edit(a, text.as_str()).unwrap();
                expected.edit(a, &text);
                self.count("edited");
            }
            5 => {
                let fork = (chat.fork(), expected.clone());
                self.chats[other] = fork;
                self.count("forked");
            }
            6 => {
                let (mark, before) = (chat.mark(), expected.clone());
                self.turn();
                let (chat, expected) = &mut self.chats[i];
                chat.rollback(mark).unwrap();
                *expected = before;
                self.count("rolled back");
            }
            _ => {
                assert!(chat.edit(messages, text.as_str()).is_err());
                assert!(chat.remove(a..messages + 1, Removal::Exact).is_err());
            }
        }
        if moved {
            self.count("moved");
        }
    }

    fn regenerate(&mut self) {
        let (i, options) = (self.pick(), self.options());
        self.contexts.lock().unwrap().clear();
        if self.random.below(3) == 0 {
            self.fuse.store(self.random.below(4) as u32, Ordering::Relaxed);
        }
        let (chat, expected) = &mut self.chats[i];
        let Some(asked) = expected.messages.iter().rposition(|m| m.role == "user") else {
            assert!(matches!(chat.regenerate(&options), Err(Error::NoMessage)));
            self.fuse.store(u32::MAX, Ordering::Relaxed);
            return;
        };
        let mut next = expected.clone();
        next.messages.truncate(asked + 1);
        let result = chat.regenerate(&options).and_then(|reply| listen(reply, &mut next));
        self.fuse.store(u32::MAX, Ordering::Relaxed);
        self.note(i, result, next, &options);
        self.count("again");
    }

    /// A reply whose conversation is free meanwhile: appended at some point, or lost.
    fn append(&mut self) {
        let (i, text, options, read) = (self.pick(), self.text(), self.options(), self.random.below(6));
        let (chat, expected) = &mut self.chats[i];
        chat.user(text.as_str());
        let mut next = expected.clone();
        next.push("user", &text);
        let Ok(mut stream) = chat.generate(&options) else { return };
        if read == 0 {
            drop(stream);
            // Whatever is done next takes the turn back.
            chat.pop(0);
            return self.count("lost");
        }
        let mut done = None;
        for event in stream.by_ref() {
            match event {
                Ok(Event::Overflow { .. }) => next.dropped = true,
                Ok(Event::Done(output)) => done = Some(*output),
                Ok(_) => {}
                Err(error) => assert!(matches!(error, Error::PoolFull { .. }), "{error}"),
            }
        }
        let Some(output) = done else {
            assert!(matches!(chat.append_reply(stream), Err(Error::FailedReply)));
            return self.count("failed");
        };
        if read == 1 {
            chat.append("user", "and?");
            assert!(matches!(chat.append_reply(stream), Err(Error::StaleReply)));
            chat.pop(1);
            return self.count("lost");
        }
        assert_eq!(chat.append_reply(stream).unwrap().content.text(), output.text);
        next.reply(&output, &options);
        *expected = next;
        self.count("appended");
    }
}

fn walk(source: &str) {
    let mut total = [0; KINDS.len()];
    for (seed, pages) in [(1, 60), (2, 60), (3, 30), (4, 22)] {
        let mut walk = Walk::new(seed, source, pages);
        (0..600).for_each(|_| walk.step());
        total.iter_mut().zip(walk.counts).for_each(|(t, c)| *t += c);
    }
    let counts: Vec<_> = KINDS.into_iter().zip(total).collect();
    assert!(total.iter().all(|&count| count > 5), "every kind of thing was done: {counts:?}");
}

#[test]
fn over_a_plain_template() {
    walk(CHATML);
}

#[test]
fn over_a_template_that_strips() {
    walk(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}\
          {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    );
}
