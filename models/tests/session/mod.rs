//! What tests of whole models share: a model with a cache of one sequence, and readers of expected numbers.

use nano_kernels::cpu::Cpu;
use nano_kernels::{Backend, KvFormat, PAGE_ROWS, Pick, Row, SequenceRows, Step};
use nano_models::{Checkpoint, Decoder, LoadOptions, PackedCache, Quantization, Spec, open};
use serde_json::Value;
use std::path::Path;

/// Rows that a session holds.
pub const ROWS: usize = 1024;

/// A model with a cache of one sequence.
pub struct Session<B: Backend = Cpu> {
    pub backend: B,
    pub decoder: Decoder<B>,
    kv: B::Pages,
    pub fed: usize,
}

impl Session {
    #[allow(dead_code)] // each test file uses a part
    pub fn open(path: &Path, quantization: Option<Quantization>, threads: usize) -> Session {
        Session::on(Cpu::new(threads).unwrap(), path, quantization, KvFormat::F32)
    }
}

impl<B: Backend> Session<B> {
    pub fn on(backend: B, path: &Path, quantization: Option<Quantization>, kv: KvFormat) -> Session<B> {
        Session::of(backend, &*open(path).unwrap(), quantization, kv)
    }

    pub fn of(backend: B, checkpoint: &dyn Checkpoint, quantization: Option<Quantization>, kv: KvFormat) -> Session<B> {
        Session::packed(backend, checkpoint, quantization, kv, None)
    }

    pub fn packed(
        mut backend: B,
        checkpoint: &dyn Checkpoint,
        quantization: Option<Quantization>,
        kv: KvFormat,
        cache: Option<&PackedCache>,
    ) -> Session<B> {
        let spec = for_its_context(Spec::read(checkpoint).unwrap(), checkpoint.path());
        let options = LoadOptions { quantization, head: None, rows: ROWS, logits_rows: ROWS, threads: 2 };
        let decoder = Decoder::load_packed(checkpoint, &mut backend, &spec, &options, cache, &mut |_| ()).unwrap();
        let kv = backend.pages(spec.page_layout(ROWS / PAGE_ROWS, kv)).unwrap();
        Session { backend, decoder, kv, fed: 0 }
    }

    /// Feeds tokens in one step; logits after each.
    pub fn feed(&mut self, tokens: &[u32]) -> Vec<Vec<f32>> {
        self.step(tokens, Pick::None);
        let vocab = self.decoder.spec().vocab;
        let logits = self.backend.read(self.decoder.logits(), tokens.len()).unwrap();
        logits.chunks_exact(vocab).map(<[f32]>::to_vec).collect()
    }

    /// Runs a step and reads nothing.
    pub fn step(&mut self, tokens: &[u32], pick: Pick) {
        let row = |(i, token): (usize, &u32)| {
            let at = (self.fed + i) as u32;
            Row { token: *token, position: at, slot: at, sequence: 0, visible: at + 1 }
        };
        let step = Step {
            rows: tokens.iter().enumerate().map(row).collect(),
            sequences: vec![SequenceRows { pages: (0..(ROWS / PAGE_ROWS) as u32).collect() }],
            logits: (0..tokens.len() as u32).collect(),
            pick,
        };
        let Session { backend, decoder, kv, .. } = self;
        backend.run(&step, Some(0), &mut |b| decoder.forward(b, kv)).unwrap();
        self.fed += tokens.len();
    }
}

/// A golden may say which context it was made for.
fn for_its_context(spec: Spec, path: &Path) -> Spec {
    let folder = if path.is_dir() { Some(path) } else { path.parent() };
    let expected = folder.and_then(|folder| std::fs::read(folder.join("expected.json")).ok());
    let expected: Value = expected.map_or(Value::Null, |bytes| serde_json::from_slice(&bytes).unwrap());
    match expected["context"].as_u64() {
        Some(context) => spec.for_context(context as usize),
        None => spec,
    }
}

#[allow(dead_code)]
pub fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

#[allow(dead_code)]
pub fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

#[allow(dead_code)]
pub fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (i, x) in logits.iter().enumerate() {
        if *x > logits[best] {
            best = i;
        }
    }
    best as u32
}

#[allow(dead_code)]
pub fn nll(logits: &[f32], next: u32) -> f64 {
    let most = logits.iter().cloned().fold(f32::MIN, f32::max) as f64;
    let sum: f64 = logits.iter().map(|x| (*x as f64 - most).exp()).sum();
    most + sum.ln() - logits[next as usize] as f64
}
