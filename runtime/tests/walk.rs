//! Random walks over conversations: whatever happens to them, and in whatever company, a turn's prompt must be the
//! tokens that a fresh rendering of its messages gives, with replies as they were sampled. That the cache's rows are
//! those of a fresh prefill of these tokens, the runner checks at every step.

mod common;

use common::*;
use nano_runtime::{ChatHistory, ChatOptions, Error, Event, Finish, GenerateOptions, Limits, NanoModel, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// A next token that looks random and depends on all tokens: letters, words, control tokens, and an end now and then.
fn babble(tokens: &[u32]) -> u32 {
    let hash = tokens.iter().fold(7u64, |h, &t| (h ^ u64::from(t)).wrapping_mul(0x100_0000_01B3).rotate_left(23));
    match hash % 32 {
        0..=1 => END,
        2 => EOS,
        3 => START,
        4..=15 => 260 + (hash >> 8) as u32 % WORDS.len() as u32,
        _ => [b'a', b' ', b'#', b'\n', b'z', b'.'][(hash >> 8) as usize % 6].into(),
    }
}

/// What a conversation should be: the tokens of the messages, replies as they were sampled.
#[derive(Clone, Default)]
struct Model {
    system: Option<String>,
    turns: Vec<(String, Vec<u32>)>,
}

impl Model {
    fn prompt(&self, user: &str) -> Vec<u32> {
        let mut all = Vec::new();
        let mut message = |role: &str, body: Vec<u32>| {
            all.push(START);
            all.extend(bytes(role));
            all.extend(bytes("\n"));
            all.extend(body);
            all.extend([END, u32::from(b'\n')]);
        };
        if let Some(system) = &self.system {
            message("system", bytes(system));
        }
        for (user, reply) in &self.turns {
            message("user", bytes(user));
            message("assistant", reply.clone());
        }
        message("user", bytes(user));
        all.extend(tokens("<|im_start|>assistant\n"));
        all
    }
}

/// The tokens that should stay of a reply.
fn kept(output: &Output) -> Vec<u32> {
    let mut tokens = output.tokens.clone();
    if output.stop_token.is_some() {
        tokens.pop();
        return tokens;
    }
    if output.finish != Finish::Stop {
        return tokens;
    }
    // A stop string: whole tokens as long as their text is shown, then the text that is left.
    let mut left = output.text.as_str();
    let whole = tokens.iter().take_while(|&&token| {
        let text = match token {
            256..=259 => String::new(),
            260.. => WORDS[token as usize - 260].to_owned(),
            byte => char::from(byte as u8).to_string(),
        };
        let rest = left.strip_prefix(&text);
        left = rest.unwrap_or(left);
        rest.is_some()
    });
    let whole = whole.count();
    let mut kept = tokens[..whole].to_vec();
    kept.extend(bytes(left));
    kept
}

struct Walk {
    random: Random,
    chats: Vec<(ChatHistory, Model)>,
    /// The tokens of a sequence whenever logits were asked of it.
    contexts: Arc<Mutex<Vec<Vec<u32>>>>,
    /// Steps until one fails.
    fuse: Arc<AtomicU32>,
    counts: [usize; 6],
}

impl Walk {
    fn new(seed: u64, source: &str) -> Self {
        let contexts = Arc::new(Mutex::new(Vec::new()));
        let fuse = Arc::new(AtomicU32::new(u32::MAX));
        let (seen, burning) = (Arc::clone(&contexts), Arc::clone(&fuse));
        let limits = Limits { context: 400, pages: 40, ..limits() };
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
        let chats = (0..3).map(|_| (model.chat(ChatOptions::default()).unwrap(), Model::default())).collect();
        Self { random: Random(seed * 77 + 1), chats, contexts, fuse, counts: [0; 6] }
    }

    fn text(&mut self) -> String {
        let choices = ["hi", "<|im_end|>", "ho##", "Ü", "what is <s>this</s>?", "\n", "assistant"];
        let mut text = String::from("q");
        (0..self.random.below(4)).for_each(|_| text += choices[self.random.below(7) as usize]);
        if self.random.below(30) == 0 {
            text += &"x".repeat(400);
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
        options
    }

    fn step(&mut self) {
        match self.random.below(12) {
            0 => self.reset(),
            1 => self.system(),
            2 => self.drop_midway(),
            3 => self.stop_midway(),
            4 => self.two_at_once(),
            5..=6 => {
                let steps = self.random.below(6) as u32;
                self.fuse.store(steps, Ordering::Relaxed);
                self.turn();
                self.fuse.store(u32::MAX, Ordering::Relaxed);
            }
            _ => self.turn(),
        }
        for (chat, model) in &self.chats {
            let said: usize = model.turns.len() * 2 + usize::from(model.system.is_some());
            assert_eq!(chat.messages().len(), said);
            assert!(chat.num_rows() <= chat.num_tokens());
        }
    }

    fn pick(&mut self) -> usize {
        self.random.below(3) as usize
    }

    fn turn(&mut self) {
        let (i, text, options) = (self.pick(), self.text(), self.options());
        self.contexts.lock().unwrap().clear();
        let (chat, model) = &mut self.chats[i];
        chat.user(text.as_str());
        let result = chat.reply(&options).and_then(|reply| reply.wait());
        match result {
            Ok(output) => {
                self.counts[0] += 1;
                let contexts = self.contexts.lock().unwrap();
                assert_eq!(contexts[0], model.prompt(&text), "the prompt");
                model.turns.push((text, kept(&output)));
            }
            Err(Error::ContextFull { .. }) => {
                self.counts[1] += 1;
                assert!(model.prompt(&text).len() > 400);
                chat.reset();
                model.turns.clear();
            }
            Err(Error::Step(_)) => self.counts[2] += 1,
            Err(other) => panic!("{other}"),
        }
    }

    fn reset(&mut self) {
        let i = self.pick();
        let (chat, model) = &mut self.chats[i];
        chat.reset();
        model.turns.clear();
    }

    fn system(&mut self) {
        let i = self.pick();
        let system = Some(self.text()).filter(|t| t.len() < 50);
        let (chat, model) = &mut self.chats[i];
        if model.system != system {
            chat.set_system_prompt(system.clone());
            *model = Model { system, turns: Vec::new() };
        }
    }

    fn drop_midway(&mut self) {
        let (i, text, options, read) = (self.pick(), self.text(), self.options(), self.random.below(8));
        let (chat, _) = &mut self.chats[i];
        chat.user(text);
        let Ok(mut reply) = chat.reply(&options) else { return };
        for _ in 0..read {
            if let Some(Ok(Event::Done(_))) | None = reply.next() {
                // It came to its end, and counts: as if it had been stopped there.
                drop(reply);
                chat.reset();
                self.chats[i].1.turns.clear();
                return;
            }
        }
        self.counts[3] += 1;
    }

    fn stop_midway(&mut self) {
        let (i, text, read) = (self.pick(), self.text(), self.random.below(8));
        let (chat, model) = &mut self.chats[i];
        chat.user(text.as_str());
        let Ok(mut reply) = chat.reply(&GenerateOptions { max_new_tokens: 300, ..options() }) else { return };
        let mut done = None;
        for _ in 0..read {
            match reply.next() {
                Some(Ok(Event::Text(_))) => {}
                Some(Ok(Event::Done(output))) => {
                    done = Some(*output);
                    break;
                }
                _ => return,
            }
        }
        let output = done.unwrap_or_else(|| {
            reply.stop();
            reply.wait().unwrap()
        });
        self.counts[4] += 1;
        model.turns.push((text, kept(&output)));
    }

    fn two_at_once(&mut self) {
        let (texts, options) = ([self.text(), self.text()], [self.options(), self.options()]);
        let [(a, first), (b, second), _] = &mut self.chats[..] else { unreachable!() };
        a.user(texts[0].as_str());
        b.user(texts[1].as_str());
        let (one, other) = (a.reply(&options[0]), b.reply(&options[1]));
        for ((reply, model), text) in [(other, second), (one, first)].into_iter().zip(texts.into_iter().rev()) {
            if let Ok(output) = reply.and_then(|r| r.wait()) {
                self.counts[5] += 1;
                model.turns.push((text, kept(&output)));
            }
        }
    }
}

fn walk(source: &str) {
    let mut total = [0; 6];
    for seed in 1..=4 {
        let mut walk = Walk::new(seed, source);
        (0..300).for_each(|_| walk.step());
        total.iter_mut().zip(walk.counts).for_each(|(t, c)| *t += c);
    }
    assert!(total.iter().all(|&count| count > 10), "every kind of turn was taken: {total:?}");
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
