//! A runner with a scripted next token, so that tests can say exactly what is fed and what comes out. The runner checks
//! every step it is given.

#![allow(dead_code)] // each test file uses a part

pub mod talk;
mod vocabulary;

use nano_kernels::{Candidate, PAGE_ROWS, PREV, Pick, Step};
use nano_runtime::{Error, GenerateOptions, Limits, NanoModel, Result, Runner, Template};
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
pub use vocabulary::*;

/// What a step was asked.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The tokens fed, sequence by sequence.
    pub fed: Vec<Vec<u32>>,
    pub logits: usize,
    pub pick: Pick,
}

#[derive(Default)]
pub struct Log {
    pub steps: Vec<Seen>,
    /// Rows copied, and pages read.
    pub copied: usize,
    pub read: usize,
    /// The runner was dropped.
    pub dropped: bool,
}

impl Log {
    pub fn rows(&self) -> usize {
        self.steps.iter().flat_map(|s| &s.fed).map(Vec::len).sum()
    }

    /// All tokens fed, in order.
    pub fn fed(&self) -> Vec<u32> {
        self.steps.iter().flat_map(|s| s.fed.concat()).collect()
    }
}

pub type Shared = Arc<Mutex<Log>>;

/// What the runner should do in a step, besides what it should.
pub enum Fault {
    Error,
    Panic,
    NaN,
    Short,
}

/// The next token after these.
pub type Script = Box<dyn FnMut(&[u32]) -> u32 + Send>;
pub type Faults = Box<dyn FnMut(&[Vec<u32>]) -> Option<Fault> + Send>;

pub struct Fake {
    pub limits: Limits,
    pub script: Script,
    pub faults: Faults,
    pub before: Box<dyn FnMut() + Send>,
    /// Chooses from its logits itself.
    pub picks: bool,
    /// Rows that were fed before their token was known.
    pub ahead: Arc<AtomicUsize>,
    /// How many copies of rows are still to fail.
    pub bad_copies: Arc<AtomicUsize>,
    /// The cache.
    slots: Vec<Option<Slot>>,
    log: Shared,
    logits: Vec<f32>,
    /// Of the last step and of the one before it.
    picked: [Vec<Candidate>; 2],
}

/// A row of the cache.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Slot {
    token: u32,
    position: u32,
    /// Of the token and all before it as they were when the row was written. `None`: the row was moved, and whatever is
    /// before it now is what belongs there.
    hash: Option<u64>,
}

pub fn limits() -> Limits {
    Limits { rows: 32, logits_rows: 8, sequences: 4, vocab: CUT as usize + 1, pages: 64, context: 1024 }
}

impl Fake {
    pub fn new(limits: Limits, script: impl FnMut(&[u32]) -> u32 + Send + 'static) -> (Self, Shared) {
        let log = Shared::default();
        let fake = Self {
            limits,
            script: Box::new(script),
            faults: Box::new(|_| None),
            before: Box::new(|| ()),
            picks: false,
            ahead: Arc::default(),
            bad_copies: Arc::default(),
            slots: vec![None; limits.pages * PAGE_ROWS],
            log: Arc::clone(&log),
            logits: Vec::new(),
            picked: Default::default(),
        };
        (fake, log)
    }

    pub fn model(self, template: Option<Template>) -> NanoModel {
        NanoModel::with_runner(Box::new(self), tokenizer(false), template).unwrap()
    }

    fn check(&self, step: &Step) {
        let limits = self.limits;
        assert!(!step.rows.is_empty() && step.rows.len() <= limits.rows, "{} rows", step.rows.len());
        assert!(step.logits.len() <= limits.logits_rows && step.sequences.len() <= limits.sequences);
        assert!(step.logits.is_sorted_by(|a, b| a < b));
        assert!(step.pick == Pick::None || self.picks && (1..=64).contains(&step.pick.count()), "{:?}", step.pick);
        // Pages may be shared, but not those that are written to.
        let pages: Vec<u32> = step.sequences.iter().flat_map(|s| s.pages.clone()).collect();
        for page in step.rows.iter().map(|row| row.slot / PAGE_ROWS as u32).collect::<HashSet<_>>() {
            assert_eq!(pages.iter().filter(|&&p| p == page).count(), 1, "a page that is written to has two owners");
        }
        for pair in step.rows.windows(2) {
            let [a, b] = pair else { unreachable!() };
            assert!(b.sequence == a.sequence && b.position == a.position + 1 || b.sequence == a.sequence + 1);
        }
        for row in &step.rows {
            assert_eq!(row.visible, row.position + 1);
            assert_eq!(row.slot, slot(&step.sequences[row.sequence as usize].pages, row.position));
            assert!((row.token as usize) < limits.vocab && (row.position as usize) < limits.context);
        }
    }

    /// The tokens of a sequence up to a position, from its pages alone, and their hash; every row must be what a fresh
    /// prefill of them would have written.
    fn tokens(&self, pages: &[u32], visible: u32) -> (Vec<u32>, u64) {
        let mut hash = 0;
        let tokens = (0..visible).map(|position| {
            let row = self.slots[slot(pages, position) as usize].expect("a row was never written");
            hash = mix(hash, row.token);
            assert_eq!(row.position, position, "a row was computed for another position");
            assert!(row.hash.is_none_or(|found| found == hash), "row {position} was computed after other tokens");
            row.token
        });
        (tokens.collect(), hash)
    }
}

fn slot(pages: &[u32], position: u32) -> u32 {
    pages[position as usize / PAGE_ROWS] * PAGE_ROWS as u32 + position % PAGE_ROWS as u32
}

fn mix(hash: u64, token: u32) -> u64 {
    (hash ^ u64::from(token).wrapping_add(0x9E37_79B9_7F4A_7C15)).wrapping_mul(0x2545_F491_4F6C_DD1D).rotate_left(31)
}

impl Runner for Fake {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn step(&mut self, step: &Step) -> Result<&[f32]> {
        (self.before)();
        self.check(step);
        let mut fed = vec![Vec::new(); step.sequences.len()];
        for row in &step.rows {
            let pages = &step.sequences[row.sequence as usize].pages;
            let before = match row.position.checked_sub(1) {
                None => 0,
                Some(last) => {
                    let row = self.slots[slot(pages, last) as usize].expect("the row before was never written");
                    row.hash.unwrap_or_else(|| self.tokens(pages, last + 1).1)
                }
            };
            let hash = Some(mix(before, row.token));
            self.slots[row.slot as usize] = Some(Slot { token: row.token, position: row.position, hash });
            fed[row.sequence as usize].push(row.token);
        }
        self.log.lock().unwrap().steps.push(Seen { fed: fed.clone(), logits: step.logits.len(), pick: step.pick });
        let fault = (self.faults)(&fed);
        match fault {
            Some(Fault::Error) => return Err(Error::Device("the fan fell off".into())),
            Some(Fault::Panic) => panic!("the fan fell off"),
            _ => {}
        }
        self.logits.clear();
        for &row in &step.logits {
            let row = &step.rows[row as usize];
            let (tokens, _) = self.tokens(&step.sequences[row.sequence as usize].pages, row.visible);
            let next = (self.script)(&tokens) as usize;
            let start = self.logits.len();
            self.logits.resize(start + self.limits.vocab, 0.0);
            self.logits[start + next] = 1.0;
        }
        match fault {
            Some(Fault::NaN) => self.logits.fill(f32::NAN),
            Some(Fault::Short) => self.logits.truncate(1),
            _ => {}
        }
        Ok(&self.logits)
    }

    fn can_pick(&self) -> bool {
        self.picks
    }

    fn start(&mut self, step: &Step) -> Result<()> {
        let mut step = step.clone();
        for row in step.rows.iter_mut().filter(|row| row.token & PREV != 0) {
            row.token = self.picked[0][(row.token - PREV) as usize].id;
            self.ahead.fetch_add(1, Ordering::Relaxed);
        }
        self.step(&step)?;
        self.picked.swap(0, 1);
        self.picked[0].clear();
        let count = step.pick.count();
        for row in self.logits.chunks_exact(self.limits.vocab) {
            let number = |logit: f32| if logit.is_nan() { f32::INFINITY } else { logit };
            let all = row.iter().zip(0..).map(|(&logit, id)| Candidate { id, logit: number(logit) });
            let mut all: Vec<Candidate> = all.collect();
            all.sort_by(|a, b| b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id)));
            self.picked[0].extend(&all[..count]);
        }
        Ok(())
    }

    fn picks(&mut self, ago: usize) -> Result<&[Candidate]> {
        Ok(&self.picked[ago])
    }

    fn copy_rows(&mut self, from: &[u32], to: &[u32]) -> Result<()> {
        assert_eq!(from.len(), to.len());
        if self.bad_copies.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            return Err(Error::Device("the fan fell off".into()));
        }
        let rows: Vec<_> = from.iter().map(|&slot| self.slots[slot as usize]).collect();
        to.iter().zip(rows).for_each(|(&slot, row)| self.slots[slot as usize] = row);
        self.log.lock().unwrap().copied += to.len();
        Ok(())
    }

    fn shift(&mut self, slots: &[u32], by: i32) -> Result<()> {
        for &slot in slots {
            let row = self.slots[slot as usize].as_mut().expect("a row that is moved was written");
            row.position = row.position.checked_add_signed(by).expect("a position");
            row.hash = None;
        }
        Ok(())
    }

    fn page_bytes(&self) -> usize {
        PAGE_ROWS * 17
    }

    fn read_page(&mut self, page: u32, rows: usize, into: &mut [u8]) -> Result<()> {
        let slots = &self.slots[page as usize * PAGE_ROWS..][..rows];
        into.fill(0);
        for (bytes, slot) in into.chunks_exact_mut(17).zip(slots) {
            if let Some(Slot { token, position, hash }) = slot {
                bytes[0] = 1 + u8::from(hash.is_some());
                bytes[1..5].copy_from_slice(&token.to_le_bytes());
                bytes[5..9].copy_from_slice(&position.to_le_bytes());
                bytes[9..].copy_from_slice(&hash.unwrap_or(0).to_le_bytes());
            }
        }
        self.log.lock().unwrap().read += 1;
        Ok(())
    }

    fn write_page(&mut self, page: u32, from: &[u8]) -> Result<()> {
        let slots = &mut self.slots[page as usize * PAGE_ROWS..][..PAGE_ROWS];
        for (bytes, slot) in from.chunks_exact(17).zip(slots) {
            let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            let hash = (bytes[0] == 2).then(|| u64::from_le_bytes(bytes[9..].try_into().unwrap()));
            *slot = (bytes[0] > 0).then(|| Slot { token: number(1), position: number(5), hash });
        }
        Ok(())
    }

    fn bytes_per_step(&self) -> u64 {
        1_000
    }

    fn launches_per_step(&self) -> u64 {
        if self.picks { 7 } else { 0 }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        // A test that panicked holds no lock that matters.
        self.log.lock().unwrap_or_else(|e| e.into_inner()).dropped = true;
    }
}

/// The door before a runner's first step.
pub struct Gate {
    reached: Receiver<()>,
    open: Sender<()>,
}

impl Gate {
    /// Waits until the first step has begun.
    pub fn reached(&self) {
        self.reached.recv().unwrap();
    }

    /// Lets the first step and all others go on.
    pub fn open(self) {
        self.open.send(()).unwrap();
    }
}

/// Makes a runner wait in its first step.
pub fn gated(mut fake: Fake) -> (Fake, Gate) {
    let ((here, reached), (open, opened)) = (channel(), channel());
    let mut shut = true;
    fake.before = Box::new(move || {
        if std::mem::take(&mut shut) {
            let _ = here.send(());
            let _ = opened.recv();
        }
    });
    (fake, Gate { reached, open })
}

/// Says `reply` after a prompt of `prompt` tokens, then the end-of-sequence token for ever.
pub fn says(prompt: usize, reply: Vec<u32>) -> impl FnMut(&[u32]) -> u32 + Send {
    move |tokens| reply.get(tokens.len() - prompt).copied().unwrap_or(EOS)
}

/// Says `replies[i]` in the turn of the assistant number i, then the token that ends a turn.
pub fn parrot(replies: Vec<Vec<u32>>) -> impl FnMut(&[u32]) -> u32 + Send {
    let mark = tokens("<|im_start|>assistant\n");
    move |tokens| {
        let turns: Vec<usize> = (0..tokens.len()).filter(|&i| tokens[i..].starts_with(&mark)).collect();
        let said = tokens.len() - turns.last().expect("an assistant's turn") - mark.len();
        replies.get(turns.len() - 1).and_then(|r| r.get(said)).copied().unwrap_or(END)
    }
}

pub fn options() -> GenerateOptions {
    GenerateOptions::default()
}
