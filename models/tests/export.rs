//! Checkpoints written as GGUF: what comes back computes what its authors' code computes, and says what llama.cpp's
//! converter would have said.

mod session;

use nano_models::checkpoint::gguf::{Metadata, Value};
use nano_models::testing::{TempDir, Tiny};
use nano_models::{ExportOptions, Exported, Head, Quantization, Result, export, open};
use serde_json::{Value as Json, json};
use session::{Session, floats, ids};
use std::path::{Path, PathBuf};

const OPTIONS: ExportOptions<'_> =
    ExportOptions { quantization: Quantization::F32, head: None, calibration: None, threads: 2, replace: false };

/// What GGUF cannot say, and what the error names.
const UNSAID: [(&str, &str); 5] = [
    ("gemma3-images", "the factor on scores"),
    ("ministral", "the window of each layer"),
    ("new-gemma3", "the window of each layer"),
    ("qwen2-moe-mixed", "only some of its layers"),
    ("qwen2-window", "the window of each layer"),
];

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/tiny")
}

fn write(from: &Path, to: &Path, options: ExportOptions<'_>) -> Result<Exported> {
    export(&*open(from)?, to, &options, &mut |_| ())
}

fn expected(name: &str) -> Json {
    serde_json::from_slice(&std::fs::read(goldens().join(name).join("expected.json")).unwrap()).unwrap()
}

/// The logits after the tokens of a case, and what they should be.
fn logits(path: &Path, case: &Json) -> (Vec<f32>, Vec<f32>) {
    let mut session = Session::open(path, None, 2);
    (session.feed(&ids(&case["tokens"])).pop().unwrap(), floats(&case["logits"]))
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn what_comes_back_computes_the_same() {
    let dir = TempDir::new("export");
    let mut written = 0;
    for entry in std::fs::read_dir(goldens()).unwrap() {
        let folder = entry.unwrap().path();
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let expected = expected(&name);
        let case = expected["cases"].as_array().unwrap().last().unwrap();
        let limit = 1e-3 * case["logits_std"].as_f64().unwrap() as f32;
        let gguf = Some(folder.join("model.gguf")).filter(|path| path.exists());
        for (container, from) in [("folder", Some(folder.clone())), ("gguf", gguf)] {
            let Some(from) = from else { continue };
            let to = dir.path().join(format!("{name}-{container}.gguf"));
            match (write(&from, &to, OPTIONS), UNSAID.iter().find(|(unsaid, _)| *unsaid == name)) {
                (Err(error), Some((_, what))) => {
                    assert!(
                        error.to_string().contains(&format!("cannot be written as GGUF: {what}")),
                        "{name}: {error}"
                    );
                    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), written, "{name} leaves nothing");
                    continue;
                }
                (result, unsaid) => {
                    result.unwrap_or_else(|e| panic!("{name} ({container}): {e}"));
                    assert!(unsaid.is_none(), "{name} can be written");
                }
            }
            written += 1;
            if expected["context"].is_u64() {
                continue; // made for another context than its own
            }
            let (found, expected) = logits(&to, case);
            let worst = found.iter().zip(&expected).map(|(f, e)| (f - e).abs()).fold(0.0, f32::max);
            assert!(worst <= limit, "{name} ({container}): off by {worst:e}, limit {limit:e}");
        }
    }
    assert!(written > 60, "{written} files");
}

#[test]
fn smaller_formats_are_near() {
    let dir = TempDir::new("export-small");
    let formats = [
        (Quantization::F16, 0.99999),
        (Quantization::Bf16, 0.9999),
        (Quantization::Q8F16, 0.999),
        (Quantization::Q4_1, 0.95),
        (Quantization::Q4F16, 0.9),
        (Quantization::Q4K, 0.95),
    ];
    for (quantization, least) in formats {
        for name in ["qwen3", "llama3", "qwen3-moe"] {
            let to = dir.path().join(format!("{name}-{}.gguf", quantization.name()));
            let made = write(&goldens().join(name), &to, ExportOptions { quantization, ..OPTIONS }).unwrap();
            let found = open(&to).unwrap();
            let info = found.info("blk.0.attn_q.weight").unwrap();
            assert_eq!(info.format, quantization.format(info.cols), "{name}");
            assert_eq!(found.info("blk.0.attn_norm.weight").unwrap().format, nano_kernels::Format::F32);
            assert_eq!(made.bytes, to.metadata().unwrap().len());
            let expected = expected(name);
            let (found, expected) = logits(&to, &expected["cases"][0]);
            let near = cosine(&found, &expected);
            assert!(near >= least, "{name} as {}: {near}", quantization.name());
        }
    }
}

/// A value as text, lists too.
fn text(metadata: &Metadata, value: &Value) -> String {
    match value {
        Value::Array(array) => format!("{:?}", metadata.values(array).map(|v| v.unwrap()).collect::<Vec<_>>()),
        Value::Float(x) => format!("{:.6e}", x),
        other => format!("{other:?}"),
    }
}

#[test]
fn metadata_are_the_converters() {
    let dir = TempDir::new("export-keys");
    // What says which formats there are, and how large the model is in words.
    let other = ["general.file_type", "general.size_label", "general.basename", "general.finetune"];
    let mut compared = 0;
    for entry in std::fs::read_dir(goldens()).unwrap() {
        let folder = entry.unwrap().path();
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        if !folder.join("model.gguf").exists() {
            continue;
        }
        let to = dir.path().join(format!("{name}.gguf"));
        write(&folder, &to, OPTIONS).unwrap();
        let [theirs, ours] = [&folder.join("model.gguf"), &to].map(|path| open(path).unwrap());
        let [theirs_of, ours_of] = [&theirs, &ours].map(|file| file.config().metadata().unwrap());
        for key in theirs_of.keys().filter(|key| !other.contains(key)) {
            let Some(value) = ours_of.get(key) else {
                // Of a scaling that there is not.
                assert!(
                    key.ends_with("rope.scaling.original_context_length") && name.contains("phi3"),
                    "{name}: no {key}"
                );
                continue;
            };
            let theirs = text(theirs_of, theirs_of.get(key).unwrap());
            // Of this one the converter writes its own.
            if (name.as_str(), key) != ("olmoe", "olmoe.attention.layer_norm_rms_epsilon") {
                assert_eq!(text(ours_of, value), theirs, "{name}: {key}");
            }
            compared += 1;
        }
        assert_eq!(ours.names(), theirs.names(), "{name}");
        for tensor in theirs.names() {
            let [ours, theirs] = [&ours, &theirs].map(|file| file.info(tensor).unwrap());
            assert_eq!((ours.rows, ours.cols), (theirs.rows, theirs.cols), "{name}: {tensor}");
        }
    }
    assert!(compared > 600, "{compared} values");
}

#[test]
fn a_gguf_keeps_what_it_says() {
    let dir = TempDir::new("export-copy");
    let from = goldens().join("stablelm/model.gguf");
    let to = dir.path().join("copy.gguf");
    write(&from, &to, ExportOptions { quantization: Quantization::Q8F16, ..OPTIONS }).unwrap();
    let [theirs, ours] = [&from, &to].map(|path| open(path).unwrap());
    let [theirs, ours] = [&theirs, &ours].map(|file| file.config().metadata().unwrap());
    for key in theirs.keys().filter(|key| *key != "general.file_type") {
        assert_eq!(text(ours, ours.get(key).unwrap()), text(theirs, theirs.get(key).unwrap()), "{key}");
    }
    assert_eq!(ours.get("general.file_type"), Some(&Value::Unsigned(7)));
}

#[test]
fn the_head_has_a_format_of_its_own() {
    let dir = TempDir::new("export-head");
    let tiny = Tiny { dim: 256, heads: 16, ..Tiny::default() };
    let from = tiny.folder(1).temp("export-head-from");
    for (quantization, head, embedding, matrix) in [
        (Quantization::Q4F16, None, "Q8_0", "Q4_0"),
        (Quantization::Q4F16, Some(Head::Q6), "Q6_K", "Q4_0"),
        (Quantization::Q4F16, Some(Head::Q4), "Q4_0", "Q4_0"),
        (Quantization::Q8F16, Some(Head::F16), "F16", "Q8_0"),
        (Quantization::Q4K, None, "Q6_K", "Q4_K"),
        (Quantization::Q6K, None, "Q6_K", "Q6_K"),
    ] {
        let to = dir.path().join(format!("{}-{head:?}.gguf", quantization.name()));
        write(from.path(), &to, ExportOptions { quantization, head, ..OPTIONS }).unwrap();
        let found = open(&to).unwrap();
        let format = |name: &str| found.info(name).unwrap().format.name();
        assert_eq!((format("token_embd.weight"), format("output.weight")), (embedding, embedding));
        assert_eq!(format("blk.1.ffn_gate.weight"), matrix);
    }
}

#[test]
fn a_file_that_is_there_is_kept() {
    let dir = TempDir::new("export-there");
    let from = goldens().join("plain");
    let to = dir.write("m.gguf", "precious");
    let error = write(&from, &to, OPTIONS).unwrap_err().to_string();
    assert!(error.contains("m.gguf: exists already"), "{error}");
    assert_eq!(std::fs::read(&to).unwrap(), b"precious");
    write(&from, &to, ExportOptions { replace: true, ..OPTIONS }).unwrap();
    open(&to).unwrap();
}

#[test]
fn what_a_killed_run_left_is_written_over() {
    let dir = TempDir::new("export-killed");
    let to = dir.path().join("m.gguf");
    dir.write("m.gguf.part", vec![7; 10_000_000]);
    write(&goldens().join("plain"), &to, OPTIONS).unwrap();
    let other = dir.path().join("other.gguf");
    write(&goldens().join("plain"), &other, OPTIONS).unwrap();
    assert!(std::fs::read(&to).unwrap() == std::fs::read(&other).unwrap(), "nothing of it is left");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn until_it_is_whole_it_has_another_name() {
    let dir = TempDir::new("export-whole");
    let to = dir.path().join("m.gguf");
    let checkpoint = open(&goldens().join("plain")).unwrap();
    let mut reports = 0;
    let mut report = |progress: nano_models::Progress| {
        assert!(!to.exists() && to.with_extension("gguf.part").exists());
        // Another program finds it locked.
        let error = write(&goldens().join("plain"), &to, OPTIONS).unwrap_err().to_string();
        assert!(error.contains("is being written by another program"), "{error}");
        reports += 1;
        assert!(progress.done_bytes <= progress.total_bytes);
    };
    export(&*checkpoint, &to, &OPTIONS, &mut report).unwrap();
    assert!(to.exists() && reports > 10);
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_named() {
    let dir = TempDir::new("export-full");
    let to = dir.path().join("m.gguf");
    std::os::unix::fs::symlink("/dev/full", dir.path().join("m.gguf.part")).unwrap();
    let error = write(&goldens().join("plain"), &to, OPTIONS).unwrap_err().to_string();
    assert!(error.contains("m.gguf.part: cannot be written: No space left"), "{error}");
    assert!(!to.exists());
    let error = write(&goldens().join("plain"), &dir.path().join("no/m.gguf"), OPTIONS).unwrap_err().to_string();
    assert!(error.contains("no/m.gguf.part"), "{error}");
}

#[test]
fn what_cannot_be_written_is_said() {
    let dir = TempDir::new("export-bad");
    let to = dir.path().join("m.gguf");
    let tiny = Tiny::default();
    let refused = |folder: nano_models::testing::Folder, why: &str| {
        let from = folder.temp("export-bad-from");
        let error = write(from.path(), &to, OPTIONS).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left");
    };
    let words = json!({"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}});
    refused(tiny.folder(1).json("tokenizer.json", &words), "tokenizer.json: has no merges");
    let mut folder = tiny.folder(1);
    folder.files.retain(|(name, _)| name != "tokenizer.json");
    refused(folder, "has no tokenizer.json");
    let folder = tiny.folder(1);
    let config = &folder.files.iter().find(|(name, _)| name == "config.json").unwrap().1;
    let mut config: Json = serde_json::from_slice(config).unwrap();
    config["intermediate_size"] = 32.into();
    refused(folder.json("config.json", &config), "the model's sizes make it");
}
