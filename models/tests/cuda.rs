//! Whole tiny models on the CUDA backend: emulated kernels, the shipped PTX, and a device where there is one, all by the
//! same list. Logits must be those of the models' authors; recorded steps give the bits of steps that run as they are.

mod session;

use nano_emulator::{Emulator, Options};
use nano_interpreter::Interpreter;
use nano_kernels::cuda::device::Device;
use nano_kernels::cuda::{Cuda, Driver, Sizes};
use nano_kernels::{Backend, KvFormat, PREV, Pick, Step};
use nano_models::{Decoder, LoadOptions, Quantization, Spec, open, plan};
use serde_json::Value;
use session::{ROWS, Session, argmax, floats, ids};
use std::path::{Path, PathBuf};

const SIZES: Sizes = Sizes { rows: ROWS, logits: ROWS, pages: ROWS / 32 };

/// Cargo says where the crate is; whoever runs this program elsewhere says it in cargo's stead.
fn goldens() -> PathBuf {
    let root = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&root).join("tests/goldens/tiny")
}

fn folder(name: &str) -> PathBuf {
    goldens().join(name)
}

fn expected(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap()
}

/// Weights and activations are f16 here: what that costs, as a share of the logits' standard deviation.
const TOLERANCE: f32 = 0.02;

fn near(what: &str, found: &[f32], expected: &[f32], deviation: f32, share: f32) {
    let worst = found.iter().zip(expected).map(|(f, e)| (f - e).abs()).fold(0.0, f32::max);
    assert!(
        found.len() == expected.len() && worst <= share * deviation,
        "{what}: off by {} deviations",
        worst / deviation
    );
}

/// The authors' logits, at once and token by token; greedy tokens as far as the margins allow.
fn logits<D: Driver>(name: &str, steps: usize, open: &dyn Fn() -> D) {
    logits_of(&folder(name), Some(Quantization::F16), steps, open);
}

fn logits_of<D: Driver>(folder: &Path, quantization: Option<Quantization>, steps: usize, open: &dyn Fn() -> D) {
    let (name, expected) = (folder.display(), expected(folder));
    let cuda = Cuda::new(open(), SIZES).unwrap();
    let mut session = Session::on(cuda, folder, quantization, KvFormat::F16);
    for case in expected["cases"].as_array().unwrap() {
        let tokens = ids(&case["tokens"]);
        let deviation = case["logits_std"].as_f64().unwrap() as f32;
        session.fed = 0;
        let rows = session.feed(&tokens);
        near(
            &format!("{name}, {} tokens at once", tokens.len()),
            rows.last().unwrap(),
            &floats(&case["logits"]),
            deviation,
            TOLERANCE,
        );
        session.fed = 0;
        let from = tokens.len().saturating_sub(steps);
        if from > 0 {
            session.feed(&tokens[..from]);
        }
        for i in from..tokens.len() {
            let row = session.feed(&tokens[i..i + 1]).pop().unwrap();
            near(&format!("{name}, token {i} alone"), &row, &rows[i], deviation, TOLERANCE);
        }
    }
}

/// A recorded step is the step: the same bits, for tokens one by one, with what was picked on the device fed again.
fn recordings<D: Driver>(name: &str, quantization: Option<Quantization>, kv: KvFormat, open: &dyn Fn() -> D) {
    let prompt = ids(&expected(&folder(name))["cases"][4]["tokens"]);
    let mut eager = Session::on(Cuda::new(open(), SIZES).unwrap().without_recording(), &folder(name), quantization, kv);
    let mut recorded = Session::on(Cuda::new(open(), SIZES).unwrap(), &folder(name), quantization, kv);
    let mut next = argmax(eager.feed(&prompt).last().unwrap());
    assert_eq!(argmax(recorded.feed(&prompt).last().unwrap()), next);
    let recordings = recorded.backend.recordings();
    let mut said = Vec::new();
    for i in 0..6 {
        let (one, other) = (eager.feed(&[next]), recorded.feed(&[next]));
        assert!(one == other, "{name}: step {i} differs when replayed");
        said.push(next);
        next = argmax(&one[0]);
    }
    assert_eq!(recorded.backend.recordings(), recordings + 1, "one shape, one recording");
    assert_eq!(eager.backend.recordings(), 0);

    // The same tokens again, each fed as what the step before picked; the picks are read one step late.
    let mut picked = Session::on(Cuda::new(open(), SIZES).unwrap(), &folder(name), quantization, kv);
    picked.feed(&prompt);
    picked.step(&[said[0]], Pick::Argmax);
    for i in 1..said.len() {
        picked.step(&[PREV], Pick::Argmax);
        let picks = picked.backend.picks(1).unwrap();
        assert_eq!((picks.len(), picks[0].id), (1, said[i]), "{name}: pick {i}");
    }
    assert_eq!(picked.backend.picks(0).unwrap()[0].id, next, "{name}: the last pick");
}

fn emulator(arch: u32, seed: u64) -> Emulator {
    Emulator::new(Options { arch, seed, ..Options::default() }).unwrap()
}

/// Those of tools that quantize (`tests/packed`), multiplied as they are: groups of every length with zero points, columns
/// in orders of their own.
fn packed<D: Driver>(names: &[&str], open: &dyn Fn() -> D) {
    names.iter().for_each(|name| logits_of(&goldens().join("../packed").join(name), None, 1, open));
}

/// Every tiny checkpoint.
fn all() -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(goldens()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| !name.starts_with("gpt-oss"));
    names.sort();
    assert!(names.len() >= 12, "the goldens are there");
    names
}

#[test]
fn emulated_kernels_give_the_authors_logits() {
    for name in all() {
        logits(&name, 2, &|| emulator(80, 0));
    }
    for name in ["plain", "bias", "mqa", "window", "odd-rows", "olmo2", "phi2", "qwen2-moe-mixed"] {
        logits(name, 2, &|| emulator(72, 0));
    }
}

#[test]
fn packed_checkpoints_give_the_authors_logits() {
    packed(&["awq", "awq-128", "gptq-order", "gptq-8", "compressed-order", "mlc-1"], &|| emulator(80, 0));
    packed(&["awq-symmetric", "gptq-order", "gptq-v2"], &|| emulator(72, 0));
    packed(&["gptq-order", "gptq-8"], &|| Interpreter::new(87).unwrap());
}

#[test]
fn emulated_recordings_are_the_steps() {
    recordings("plain", Some(Quantization::F16), KvFormat::F16, &|| emulator(80, 7));
    recordings("quantized", None, KvFormat::Q8, &|| emulator(72, 8));
    recordings("qwen3-moe", Some(Quantization::F16), KvFormat::F16, &|| emulator(80, 9));
}

#[test]
fn the_shipped_ptx_gives_the_authors_logits() {
    for capability in [87, 72] {
        for name in ["plain", "window", "olmo2", "gemma2", "qwen2-moe"] {
            logits(name, 1, &|| Interpreter::new(capability).unwrap());
        }
    }
}

#[test]
fn the_device_gives_the_authors_logits() {
    match Device::open(0) {
        Ok(device) => {
            drop(device);
            all().iter().for_each(|name| logits(name, 2, &|| Device::open(0).unwrap()));
            recordings("plain", Some(Quantization::F16), KvFormat::F16, &|| Device::open(0).unwrap());
            recordings("quantized", None, KvFormat::Q8, &|| Device::open(0).unwrap());
            packed(&["awq-128", "gptq-order", "gptq-8", "mlc-1"], &|| Device::open(0).unwrap());
            recordings("qwen3-moe", Some(Quantization::F16), KvFormat::F16, &|| Device::open(0).unwrap());
        }
        Err(error) => println!("skipped: no CUDA device ({error})"),
    }
}

/// What the plan says of more rows is what they take.
#[test]
fn the_plan_counts_the_room() {
    for name in ["plain", "qwen3-moe", "qwen2-moe", "gemma2"] {
        let checkpoint = open(&folder(name)).unwrap();
        let spec = Spec::read(&*checkpoint).unwrap();
        let [few, many] = [100, 900].map(|rows| {
            let quantization = Some(Quantization::F16);
            let options = LoadOptions { quantization, head: None, rows, logits_rows: 8, threads: 1 };
            // Every piece is a slab of its own here.
            let machine = Interpreter::new(87).unwrap();
            let mut cuda = Cuda::new(machine, Sizes { rows, logits: 8, pages: 1 }).unwrap();
            let before = cuda.device_bytes();
            let decoder = Decoder::load(&*checkpoint, &mut cuda, &spec, &options, &mut |_| ()).unwrap();
            // The first step takes what products need.
            cuda.run(&Step::default(), None, &mut |_| Ok(())).unwrap();
            drop(decoder);
            let layout = spec.page_layout(1, KvFormat::F16);
            let plan = plan::<Cuda<Interpreter>>(&*checkpoint, &spec, &options, layout).unwrap();
            [(cuda.device_bytes() - before) as f64, plan.workspace_bytes as f64]
        });
        // So short a vocabulary, if no two strips share it, might be gates and ups: there is room for that, too.
        let head = (4 * 800 * spec.vocab.next_multiple_of(8)) as f64;
        let [taken, planned] = [many[0] - few[0] - head, many[1] - few[1]];
        assert!((taken / planned - 1.0).abs() < 0.05, "{name}: {taken} bytes for 800 rows where {planned} are planned");
    }
}
