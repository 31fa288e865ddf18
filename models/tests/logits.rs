//! Tiny checkpoints, made by the models' authors' code: logits, greedy tokens and sums of negative log likelihoods must
//! be theirs, from both containers, fed at once and step by step.

use nano_kernels::cpu::Cpu;
use nano_kernels::{Backend, KvFormat, PAGE_ROWS, Row, SequenceRows, Step};
use nano_models::{Decoder, LoadOptions, Quantization, Spec, open};
use serde_json::Value;
use std::path::{Path, PathBuf};

const ROWS: usize = 512;

fn goldens() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/tiny");
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    found.sort();
    assert!(found.len() >= 12, "the goldens are there");
    found
}

/// A model with a cache of one sequence.
struct Session {
    cpu: Cpu,
    decoder: Decoder<Cpu>,
    kv: <Cpu as Backend>::Pages,
    fed: usize,
}

impl Session {
    fn open(path: &Path, quantization: Option<Quantization>, threads: usize) -> Session {
        let checkpoint = open(path).unwrap();
        let spec = Spec::read(&*checkpoint).unwrap();
        let mut cpu = Cpu::new(threads).unwrap();
        let options = LoadOptions { quantization, rows: ROWS, logits_rows: ROWS, threads };
        let decoder = Decoder::load(&*checkpoint, &mut cpu, &spec, &options, &mut |_| ()).unwrap();
        let kv = cpu.pages(spec.page_layout(ROWS / PAGE_ROWS, KvFormat::F32)).unwrap();
        Session { cpu, decoder, kv, fed: 0 }
    }

    /// Feeds tokens in one step; logits after each.
    fn feed(&mut self, tokens: &[u32]) -> Vec<Vec<f32>> {
        let row = |(i, token): (usize, &u32)| {
            let at = (self.fed + i) as u32;
            Row { token: *token, position: at, slot: at, sequence: 0, visible: at + 1 }
        };
        let step = Step {
            rows: tokens.iter().enumerate().map(row).collect(),
            sequences: vec![SequenceRows { pages: (0..(ROWS / PAGE_ROWS) as u32).collect() }],
            logits: (0..tokens.len() as u32).collect(),
        };
        let Session { cpu, decoder, kv, .. } = self;
        cpu.run(&step, &mut |cpu| decoder.forward(cpu, kv)).unwrap();
        self.fed += tokens.len();
        let vocab = self.decoder.spec().vocab;
        let logits = self.cpu.read(self.decoder.logits(), tokens.len()).unwrap();
        logits.chunks_exact(vocab).map(<[f32]>::to_vec).collect()
    }
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (i, x) in logits.iter().enumerate() {
        if *x > logits[best] {
            best = i;
        }
    }
    best as u32
}

fn nll(logits: &[f32], next: u32) -> f64 {
    let most = logits.iter().cloned().fold(f32::MIN, f32::max) as f64;
    let sum: f64 = logits.iter().map(|x| (*x as f64 - most).exp()).sum();
    most + sum.ln() - logits[next as usize] as f64
}

/// Checks one case; the tolerance is a share of the logits' standard deviation.
fn check(what: &str, session: &mut Session, case: &Value, tolerance: f32) {
    session.fed = 0;
    let tokens = ids(&case["tokens"]);
    let rows = session.feed(&tokens);
    let limit = tolerance * case["logits_std"].as_f64().unwrap() as f32;
    let near = |found: &[f32], expected: &Value, when: &str| {
        let expected = floats(expected);
        assert_eq!(found.len(), expected.len());
        let worst = found.iter().zip(&expected).map(|(f, e)| (f - e).abs()).fold(0.0, f32::max);
        assert!(worst <= limit, "{what} {} tokens {when}: off by {worst:e}, limit {limit:e}", tokens.len());
    };
    near(rows.last().unwrap(), &case["logits"], "at once");
    let found: Vec<u32> = rows.iter().map(|row| argmax(row)).collect();
    assert_eq!(found, ids(&case["pos_argmax"]), "{what}: argmax after each of {} tokens", tokens.len());
    let sum: f64 = rows.iter().zip(&tokens[1..]).map(|(row, next)| nll(row, *next)).sum();
    let expected = case["nll_sum"].as_f64().unwrap();
    assert!((sum - expected).abs() <= 1e-3 * expected.max(1.0), "{what}: nll {sum}, not {expected}");

    let mut next = argmax(rows.last().unwrap());
    let mut said = Vec::new();
    for expected in ids(&case["greedy"]["tokens"]) {
        assert_eq!(next, expected, "{what}: greedy token {}", said.len());
        said.push(next);
        let row = session.feed(&[next]).pop().unwrap();
        next = argmax(&row);
        if said.len() == 32 {
            near(&row, &case["greedy"]["logits"], "after 32 greedy tokens");
        }
    }

    // Step by step, the same bits.
    session.fed = 0;
    for (i, token) in tokens.iter().enumerate() {
        let row = session.feed(&[*token]).pop().unwrap();
        assert!(row == rows[i], "{what}: row {i} of {} differs when fed alone", tokens.len());
    }
}

#[test]
fn tiny_checkpoints_give_their_authors_logits() {
    for folder in goldens() {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let expected: Value = serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap();
        for (container, path) in [("folder", folder.clone()), ("GGUF", folder.join("model.gguf"))] {
            let what = format!("{name} ({container})");
            let mut session = Session::open(&path, Some(Quantization::F32), 2);
            for case in expected["cases"].as_array().unwrap() {
                check(&what, &mut session, case, 1e-3);
            }
        }
    }
}
