//! What a text says of which weights matter: measured, kept, read again, used.

use nano_kernels::cpu::{Cpu, Inputs};
use nano_kernels::{Backend, KvFormat, PAGE_ROWS, Pick, Row, SequenceRows, Step};
use nano_models::testing::{TempDir, Tiny};
use nano_models::{Calibration, Decoder, ExportOptions, LoadOptions, Quantization, Spec, export, open};
use std::path::Path;

const OPTIONS: ExportOptions<'_> =
    ExportOptions { quantization: Quantization::Q4F16, head: None, calibration: None, threads: 2, replace: true };

/// Tokens with some order: each is often followed by the same.
fn tokens(vocab: usize, n: usize, seed: u64) -> Vec<u32> {
    let (mut state, mut last) = (seed, 0);
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let random = (state >> 33) as usize;
            last = if random.is_multiple_of(3) { random / 3 % (vocab / 4) } else { (last * 7 + 3) % (vocab / 4) };
            last as u32
        })
        .collect()
}

#[test]
fn what_matters_is_held_better() {
    let tiny = Tiny { dim: 128, heads: 8, hidden: 256, ..Tiny::default() };
    let from = tiny.folder(1).temp("calibration-from");
    let dir = TempDir::new("calibration");
    let checkpoint = open(from.path()).unwrap();
    let mut reports = Vec::new();
    let text = tokens(tiny.vocab_size(), 2000, 1);
    let calibration = Calibration::measure(&*checkpoint, &text, 2, &mut |done| reports.push(done)).unwrap();
    assert_eq!(reports, [1000, 2000], "after each of two blocks");
    assert_eq!(calibration.len(), 7 * tiny.layers + 1, "all but the embedding");

    let exact = dir.path().join("exact.gguf");
    export(&*checkpoint, &exact, &ExportOptions { quantization: Quantization::F32, ..OPTIONS }, &mut |_| ()).unwrap();
    // The squared error of the outputs, as far as inputs do not go together.
    let error = |path: &Path, name: &str| -> f64 {
        let values = |path: &Path| open(path).unwrap().tensor(name).unwrap().unwrap().to_f32();
        let squares = calibration.of(name).unwrap();
        let pairs = values(path).into_iter().zip(values(&exact)).enumerate();
        pairs.map(|(i, (found, exact))| (squares[i % squares.len()] * (found - exact).powi(2)) as f64).sum()
    };
    let made = [None, Some(&calibration)].map(|calibration| {
        let to = dir.path().join(format!("{}.gguf", calibration.is_some()));
        let made = export(&*checkpoint, &to, &ExportOptions { calibration, ..OPTIONS }, &mut |_| ()).unwrap();
        assert!(made.notices.is_empty());
        to
    });
    for name in ["blk.0.attn_q.weight", "blk.0.attn_output.weight", "blk.1.ffn_down.weight"] {
        let [without, with] = [&made[0], &made[1]].map(|path| error(path, name));
        assert!(with < without, "{name}: {with} calibrated, {without} without");
    }

    // Kept and read again, it does the same.
    let kept = dir.path().join("calibration.gguf");
    calibration.save(&kept).unwrap();
    let again = Calibration::open(&kept).unwrap();
    assert_eq!(again, calibration);
    assert!(kept.metadata().unwrap().len().is_multiple_of(32), "as llama.cpp wants it");

    // From a GGUF file of the model it is the same, under the same names.
    let gguf = dir.path().join("f32.gguf");
    export(&*checkpoint, &gguf, &ExportOptions { quantization: Quantization::F32, ..OPTIONS }, &mut |_| ()).unwrap();
    let from_gguf = Calibration::measure(&*open(&gguf).unwrap(), &text, 1, &mut |_| ()).unwrap();
    for name in ["blk.0.attn_q.weight", "blk.1.ffn_up.weight", "blk.1.ffn_down.weight", "output.weight"] {
        let pairs = from_gguf.of(name).unwrap().iter().zip(calibration.of(name).unwrap());
        assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() <= 1e-3 * b.abs()), "{name}");
    }
}

/// What the products of a model are given, all of it in memory.
fn watched(from: &Path, tokens: &[u32]) -> Vec<Inputs> {
    const WINDOW: usize = 512;
    let checkpoint = open(from).unwrap();
    let spec = Spec::read(&*checkpoint).unwrap().for_context(WINDOW);
    let mut cpu = Cpu::new(2).unwrap();
    cpu.watch();
    let options = LoadOptions { quantization: None, head: None, rows: WINDOW, logits_rows: WINDOW, threads: 2 };
    let mut decoder = Decoder::load(&*checkpoint, &mut cpu, &spec, &options, &mut |_| ()).unwrap();
    let pages = WINDOW / PAGE_ROWS;
    let mut kv = cpu.pages(spec.page_layout(pages, KvFormat::F32)).unwrap();
    for lot in tokens.chunks(WINDOW) {
        let row =
            |(at, token): (u32, &u32)| Row { token: *token, position: at, slot: at, sequence: 0, visible: at + 1 };
        let step = Step {
            rows: (0..).zip(lot).map(row).collect(),
            sequences: vec![SequenceRows { pages: (0..pages as u32).collect() }],
            logits: (0..lot.len() as u32).collect(),
            pick: Pick::None,
        };
        cpu.run(&step, None, &mut |b| decoder.forward(b, &mut kv)).unwrap();
    }
    cpu.watched()
}

#[test]
fn blocks_one_by_one_are_given_what_a_whole_model_is() {
    // Between them: an embedding that is scaled and tied, norms of branches, windows, several ropes, branches side by side, biases.
    for name in ["gemma3", "olmo2", "phi2", "stablelm-parallel", "qwen2", "phi3-long", "untied"] {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/tiny").join(name).join("model.gguf");
        let text = tokens(100, 700, 1);
        let calibration = Calibration::measure(&*open(&from).unwrap(), &text, 2, &mut |_| ()).unwrap();
        let mut known = 0;
        for inputs in watched(&from, &text).iter().filter(|inputs| inputs.rows > 0) {
            assert_eq!(inputs.rows, 700);
            for part in &inputs.names {
                let part = part.split(" (").next().unwrap();
                let squares = calibration.of(part).unwrap_or_else(|| panic!("{name}: nothing of {part}"));
                let pairs = squares.iter().zip(&inputs.squares);
                assert!(pairs.clone().all(|(a, b)| (a - b).abs() <= 1e-5 * b.abs()), "{name}: {part}");
                known += 1;
            }
        }
        assert!(known >= calibration.len() && known > 4, "{name}: {known} of {}", calibration.len());
    }
}

#[test]
fn a_token_beyond_the_vocabulary_is_refused() {
    let from = Tiny::default().folder(1).temp("calibration-token");
    let checkpoint = open(from.path()).unwrap();
    let error = Calibration::measure(&*checkpoint, &[1, 1 << 20], 1, &mut |_| ()).unwrap_err().to_string();
    assert!(error.contains("the text has a token 1048576"), "{error}");
}

#[test]
fn a_calibration_of_another_model_is_refused() {
    let small = Tiny::default().folder(1).temp("calibration-small");
    let large = Tiny { dim: 128, heads: 8, ..Tiny::default() }.folder(1).temp("calibration-large");
    let text = tokens(64, 512, 1);
    let calibration = Calibration::measure(&*open(small.path()).unwrap(), &text, 1, &mut |_| ()).unwrap();
    let to = small.path().join("m.gguf");
    let options = ExportOptions { calibration: Some(&calibration), ..OPTIONS };
    let error = export(&*open(large.path()).unwrap(), &to, &options, &mut |_| ()).unwrap_err().to_string();
    assert!(error.contains("has 128 inputs, and the calibration is of 64"), "{error}");
    let nothing = Calibration::default();
    let options = ExportOptions { calibration: Some(&nothing), ..OPTIONS };
    let error = export(&*open(small.path()).unwrap(), &to, &options, &mut |_| ()).unwrap_err().to_string();
    assert!(error.contains("no matrix that the calibration knows"), "{error}");
}

#[test]
fn experts_are_quantized_as_without_it() {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/tiny/qwen3-moe");
    let dir = TempDir::new("calibration-experts");
    let checkpoint = open(&from).unwrap();
    let calibration = Calibration::measure(&*checkpoint, &tokens(100, 600, 1), 2, &mut |_| ()).unwrap();
    let options = ExportOptions { calibration: Some(&calibration), ..OPTIONS };
    let made = export(&*checkpoint, &dir.path().join("m.gguf"), &options, &mut |_| ()).unwrap();
    assert!(made.notices[0].contains("says nothing of"), "{:?}", made.notices);
}

#[test]
fn damaged_files_are_refused() {
    let from = Tiny { layers: 1, ..Tiny::default() }.folder(1).temp("calibration-bad-from");
    let dir = TempDir::new("calibration-bad");
    let calibration = Calibration::measure(&*open(from.path()).unwrap(), &tokens(64, 512, 1), 1, &mut |_| ()).unwrap();
    let kept = dir.path().join("c.gguf");
    calibration.save(&kept).unwrap();
    let bytes = std::fs::read(&kept).unwrap();
    for len in [0, 3, 100, bytes.len() / 2, bytes.len() - 100] {
        let cut = dir.write("cut.gguf", &bytes[..len]);
        assert!(Calibration::open(&cut).unwrap_err().to_string().contains("cut.gguf"), "{len} bytes");
    }
    let model = dir.write("m.gguf", Tiny::default().gguf());
    let error = Calibration::open(&model).unwrap_err().to_string();
    assert!(error.contains("is no calibration"), "{error}");
    // Any byte may be another: an error or a calibration, never a panic.
    for at in (0..bytes.len()).step_by(bytes.len() / 300) {
        let mut odd = bytes.clone();
        odd[at] ^= 0x41;
        let _ = Calibration::open(&dir.write("odd.gguf", &odd));
    }
}
