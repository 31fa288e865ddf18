//! The rows of a conversation's cache against a fresh prefill, on a small model with real arithmetic: whatever happens
//! to conversations, and in whatever company, the logits of a turn are bit for bit those of its tokens fed at once.

use crate::runner::{Limits, Machine, Wanted};
use crate::{
    ChatHistory, ChatOptions, Error, GenerateOptions, ModelInfo, NanoModel, Overflow, Removal, Result, Runner, Sampling,
};
use nano_kernels::{KvFormat, PAGE_ROWS, Step};
use nano_models::testing::{TempDir, Tiny};
use nano_models::{Checkpoint, LoadOptions, Spec};
use nano_templates::Template;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

const LIMITS: Limits = Limits { rows: 24, logits_rows: 4, sequences: 4, vocab: 0, pages: 24, context: 256 };

fn load(checkpoint: &dyn Checkpoint, threads: usize, kv: KvFormat) -> Box<dyn Runner> {
    let spec = Spec::read(checkpoint).unwrap();
    let limits = Limits { vocab: spec.vocab, ..LIMITS };
    let options =
        LoadOptions { quantization: None, head: None, rows: limits.rows, logits_rows: limits.logits_rows, threads };
    let wanted = Wanted { checkpoint, spec: &spec, options: &options, kv, limits, packed: None };
    Machine::Cpu.load(&wanted, &mut |_| ()).unwrap().0
}

/// Tokens, and the logits after the last of them.
type Seen = Arc<Mutex<Vec<(Vec<u32>, Vec<f32>)>>>;

/// Notes the tokens behind every row of logits, as the cache's slots hold them, and fails when told to.
struct Recorder {
    inner: Box<dyn Runner>,
    vocab: usize,
    tokens: HashMap<u32, u32>,
    /// The tokens behind pages that were saved.
    pages: HashMap<Vec<u8>, Vec<u32>>,
    seen: Seen,
    fail: Arc<Mutex<Option<u32>>>,
}

impl Runner for Recorder {
    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    fn step(&mut self, step: &Step) -> Result<&[f32]> {
        self.tokens.extend(step.rows.iter().map(|row| (row.slot, row.token)));
        let logits = self.inner.step(step)?;
        let mut fail = self.fail.lock().unwrap();
        match &mut *fail {
            Some(0) => {
                *fail = None;
                return Err(Error::Device("as told".into()));
            }
            Some(steps) => *steps -= 1,
            None => {}
        }
        for (&row, logits) in step.logits.iter().zip(logits.chunks_exact(self.vocab)) {
            let row = &step.rows[row as usize];
            let pages = &step.sequences[row.sequence as usize].pages;
            let slot = |i: usize| pages[i / PAGE_ROWS] * PAGE_ROWS as u32 + (i % PAGE_ROWS) as u32;
            let tokens = (0..row.visible as usize).map(|i| self.tokens[&slot(i)]).collect();
            self.seen.lock().unwrap().push((tokens, logits.to_vec()));
        }
        Ok(logits)
    }

    fn copy_rows(&mut self, from: &[u32], to: &[u32]) -> Result<()> {
        let tokens: Vec<u32> = from.iter().map(|slot| self.tokens[slot]).collect();
        self.tokens.extend(to.iter().copied().zip(tokens));
        self.inner.copy_rows(from, to)
    }

    fn shift(&mut self, slots: &[u32], by: i32) -> Result<()> {
        self.inner.shift(slots, by)
    }

    fn page_bytes(&self) -> usize {
        self.inner.page_bytes()
    }

    fn read_page(&mut self, page: u32, rows: usize, into: &mut [u8]) -> Result<()> {
        self.inner.read_page(page, rows, into)?;
        let slots = page * PAGE_ROWS as u32..page * PAGE_ROWS as u32 + rows as u32;
        self.pages.insert(into.to_vec(), slots.map(|slot| self.tokens[&slot]).collect());
        Ok(())
    }

    fn write_page(&mut self, page: u32, from: &[u8]) -> Result<()> {
        self.tokens.extend((page * PAGE_ROWS as u32..).zip(self.pages[from].iter().copied()));
        self.inner.write_page(page, from)
    }
}

struct Walk {
    random: u64,
    chats: Vec<ChatHistory>,
    seen: Seen,
    fail: Arc<Mutex<Option<u32>>>,
    folder: TempDir,
}

impl Walk {
    fn below(&mut self, n: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % n
    }

    fn options(&mut self) -> GenerateOptions {
        let sampling = Sampling { temperature: 1.5, ..Sampling::default() };
        GenerateOptions {
            max_new_tokens: 1 + self.below(20) as usize,
            sampling: Some(sampling),
            seed: Some(self.below(1 << 20)),
            stop: vec!["a".into()],
            ..GenerateOptions::default()
        }
    }

    fn text(&mut self) -> String {
        let words = ["hello", " world", "the", " <|im_end|>", "ü", "?"];
        (0..1 + self.below(8)).map(|_| words[self.below(6) as usize]).collect()
    }

    fn step(&mut self) {
        let (chat, text, options) = (self.below(2) as usize, self.text(), self.options());
        match self.below(10) {
            0 => self.chats[chat].reset(),
            1 => {
                self.chats[chat].set_system_prompt(Some(text));
            }
            2 => {
                self.chats[chat].user(text);
                if let Ok(mut reply) = self.chats[chat].reply(&options) {
                    reply.next();
                }
            }
            3 => {
                *self.fail.lock().unwrap() = Some(self.below(6) as u32);
                self.turn(chat, text, &options);
                *self.fail.lock().unwrap() = None;
            }
            4..=5 => {
                let other = self.text();
                let [a, b] = &mut self.chats[..] else { unreachable!() };
                a.user(text);
                b.user(other);
                let (one, two) = (a.reply(&options), b.reply(&options));
                let results = [one.map(|r| r.wait()), two.map(|r| r.wait())];
                for (chat, result) in self.chats.iter_mut().zip(results) {
                    if matches!(result, Err(Error::ContextFull { .. })) {
                        chat.reset();
                    }
                }
            }
            _ => self.turn(chat, text, &options),
        }
        self.change(chat);
    }

    /// Does something to a history.
    fn change(&mut self, chat: usize) {
        let (message, text, options) = (self.below(6) as usize, self.text(), self.options());
        let what = self.below(20);
        let history = &mut self.chats[chat];
        let message = message.min(history.messages().len());
        match what {
            0 => drop(history.undo()),
            1 => drop(history.pop(message)),
            2 => assert_eq!(history.remove(message.min(1)..message, Removal::Exact).unwrap().how, Removal::Exact),
            3 => assert_eq!(history.edit(message, text).is_ok(), message < history.messages().len()),
            4 => self.chats[1 - chat] = self.chats[chat].fork(),
            5 => drop(history.regenerate(&options).map(|reply| reply.wait())),
            6 => {
                let mark = history.mark();
                self.turn(chat, text, &options);
                self.chats[chat].rollback(mark).unwrap();
            }
            7 => {
                history.user(text);
                if let Ok(mut stream) = history.generate(&options) {
                    stream.next();
                    history.append_reply(stream).unwrap();
                }
            }
            8 => {
                let path = self.folder.path().join("walk.session");
                history.save(&path).unwrap();
                let (model, rows) = (history.model().clone(), history.num_rows());
                let (loaded, notices) = ChatHistory::load(&model, &path, ChatOptions::default()).unwrap();
                assert!(notices.is_empty() || notices[0].contains("the cache is full"), "{notices:?}");
                assert!(loaded.num_rows() == rows || !notices.is_empty());
                self.chats[chat] = loaded;
            }
            _ => {}
        }
    }

    fn turn(&mut self, chat: usize, text: String, options: &GenerateOptions) {
        let chat = &mut self.chats[chat];
        chat.user(text);
        match chat.reply(options).and_then(|reply| reply.wait()) {
            Ok(_) | Err(Error::Step(_) | Error::PoolFull { .. }) => {}
            Err(Error::ContextFull { .. }) => chat.reset(),
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn incremental_equals_fresh() {
    let folder = TempDir::new("equality");
    let checkpoint = nano_models::open(&folder.write("tiny.gguf", Tiny::default().gguf())).unwrap();
    for (kv, seed) in [(KvFormat::F32, 1), (KvFormat::F16, 2), (KvFormat::Q8, 3)] {
        let inner = load(&*checkpoint, 2, kv);
        let (vocab, seen, fail) = (inner.limits().vocab, Seen::default(), Arc::default());
        let (noted, told) = (Arc::clone(&seen), Arc::clone(&fail));
        let runner = Recorder { inner, vocab, tokens: HashMap::new(), pages: HashMap::new(), seen: noted, fail: told };
        let tokenizer = checkpoint.tokenizer().unwrap();
        let template = Template::builtin("chat-ml");
        let model = NanoModel::assemble(Box::new(runner), tokenizer.clone(), template, ModelInfo::default()).unwrap();
        let overflow = [Overflow::Drop, Overflow::Error];
        let chat = |overflow| model.chat(ChatOptions { overflow, ..ChatOptions::default() }).unwrap();
        let chats = overflow.map(chat).into_iter().collect();
        let mut walk = Walk { random: seed, chats, seen, fail, folder: TempDir::new("walk") };
        (0..350).for_each(|_| walk.step());

        // The same model with one thread, which sees every sequence alone and in chunks of its own.
        let fresh = NanoModel::assemble(load(&*checkpoint, 1, kv), tokenizer, None, ModelInfo::default()).unwrap();
        let seen = walk.seen.lock().unwrap();
        assert!(seen.len() > 200, "{}", seen.len());
        for (tokens, logits) in seen.iter().step_by(7) {
            let last = tokens.len() - 1;
            fresh
                .score(tokens, last..tokens.len(), |_, found| assert_eq!(found, logits, "{kv:?}: {tokens:?}"))
                .unwrap();
        }
    }
}
