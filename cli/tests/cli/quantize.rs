//! `quantize`: files that the program itself converses with, and what stops it.

use super::harness::{HELLO, Model, kill, nano, parrot, run};
use nano_models::testing::{TempDir, Tiny};
use nix::sys::signal::Signal;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A text of some hundred words.
fn text() -> String {
    "hello the world and a user said hi to the assistant. ".repeat(40)
}

#[test]
fn a_folder_becomes_a_file_that_talks() {
    let folder = parrot().temp_folder();
    let from = folder.path();
    let out = folder.path().join("small.gguf");
    let quantize = |args: &[&str]| {
        let mut command = nano(folder.path());
        command.args(["quantize", "--model", path(from), "--out", path(&out)]).args(args);
        run(command, "")
    };
    let ran = quantize(&["--quantization", "q8f16"]).succeeded();
    assert!(ran.stdout.is_empty() && ran.stderr.contains("bits per weight"), "{}", ran.stderr);
    let mut chat = nano(folder.path());
    chat.args(["--model", path(&out)]);
    assert_eq!(run(chat, "hi\n").succeeded().text(), format!("{HELLO}\n"));
    // What is there is not lost by a slip.
    quantize(&["--quantization", "f16"]).failed_with(&["small.gguf: exists already", "--force"]);
    quantize(&["--quantization", "f16", "--force"]).succeeded();
    let mut info = nano(folder.path());
    info.args(["info", "--json", "--model", path(&out)]);
    let about = run(info, "").succeeded().json();
    assert!(about["tensors"].as_array().unwrap().iter().any(|t| t["format"] == "F16"), "{about}");
    assert_eq!(about["head"], serde_json::Value::Null);
}

#[test]
fn flags_are_checked() {
    let model = Model::new(&parrot());
    let out = model.dir.path().join("out.gguf");
    let quantize = |args: &[&str]| model.run(&[&["quantize", "--out", path(&out)], args].concat(), "");
    quantize(&[]).failed_with(&["--quantization"]);
    quantize(&["--quantization", "q3"]).failed_with(&["--quantization", "q4f16, q4_0, q4_1, q4_k"]);
    quantize(&["--quantization", "q4f16", "--head", "q5"]).failed_with(&["--head", "q8, q6, q4, f16"]);
    quantize(&["--quantization", "q4f16", "--calibrate", "too short"]).failed_with(&["--calibrate", "too few"]);
    quantize(&["--quantization", "q4f16", "--calibration", "/nowhere"]).failed_with(&["/nowhere"]);
    let other = model.dir.write("other.gguf", Tiny::default().gguf());
    quantize(&["--quantization", "q4f16", "--calibration", path(&other)])
        .failed_with(&["other.gguf", "is no calibration"]);
    model.run(&["quantize", "--quantization", "q4f16"], "").failed_with(&["--out"]);
    assert!(!out.exists());
}

#[test]
fn a_calibration_is_kept() {
    let from = Tiny::default().folder(1).temp("cli-calibrate");
    let words = from.write("words.txt", text());
    let kept = from.path().join("kept.gguf");
    let quantize = |out: &str, args: &[&str]| {
        let mut command = nano(from.path());
        command.args(["quantize", "-m", path(from.path()), "-q", "q4f16"]);
        command.args(["--out", path(&from.path().join(out)), "--calibration", path(&kept)]).args(args);
        run(command, "").succeeded()
    };
    let ran = quantize("a.gguf", &["--calibrate", path(&words)]);
    assert!(ran.stderr.contains("calibrated 15 matrices"), "{}", ran.stderr);
    quantize("b.gguf", &[]);
    let read = |name: &str| std::fs::read(from.path().join(name)).unwrap();
    assert!(read("a.gguf") == read("b.gguf"));
}

#[test]
fn four_bits_are_measured_on_a_text_that_the_program_brings() {
    let from = Tiny::default().folder(1).temp("cli-sample");
    let quantize = |out: &str, args: &[&str]| {
        let mut command = nano(from.path());
        command.args(["quantize", "-m", path(from.path()), "--out", path(&from.path().join(out))]).args(args);
        run(command, "")
    };
    let ran = quantize("a.gguf", &["-q", "q4f16"]).succeeded();
    assert!(ran.stderr.contains("calibrated 15 matrices"), "{}", ran.stderr);
    let none = quantize("b.gguf", &["-q", "q4f16", "--calibrate", "none"]).succeeded();
    assert!(!none.stderr.contains("calibrated"), "{}", none.stderr);
    let exact = quantize("c.gguf", &["-q", "q8f16"]).succeeded();
    assert!(!exact.stderr.contains("calibrated"), "{}", exact.stderr);
    let read = |name: &str| std::fs::read(from.path().join(name)).unwrap();
    assert!(read("a.gguf") != read("b.gguf"));
    quantize("d.gguf", &["-q", "q4f16", "--calibrate", "none", "--calibration", "kept.gguf"])
        .failed_with(&["--calibrate none", "--calibration"]);
}

#[test]
fn a_killed_run_leaves_nothing_under_the_name() {
    let tiny = Tiny { layers: 8, dim: 512, hidden: 2048, heads: 32, ..Tiny::default() };
    let from = tiny.folder(1).temp("cli-killed");
    let dir = TempDir::new("cli-killed-out");
    let out = dir.path().join("m.gguf");
    let start = || {
        let mut command = nano(dir.path());
        command.args(["quantize", "-m", path(from.path()), "-q", "q4_k", "--calibrate", "none", "-t", "1"]);
        command.args(["--out", path(&out)]);
        command
    };
    let mut child = start().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let part = dir.path().join("m.gguf.part");
    let began = Instant::now();
    while !part.exists() && child.try_wait().unwrap().is_none() && began.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(1));
    }
    kill(child.id(), Signal::SIGKILL);
    let ended = child.wait().unwrap();
    assert!(!out.exists() || ended.success(), "only a whole file has the name");
    // The next run does not mind.
    let mut again = start();
    again.arg("--force");
    run(again, "").succeeded();
    assert!(nano_models::open(&out).is_ok() && !part.exists());
}
