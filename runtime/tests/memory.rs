//! What is planned before a model is loaded, beside what its process then takes: the peak of what it has in RAM, less what
//! it had before. Pages of files count as long as they are mapped, as they do for the system.
#![cfg(target_os = "linux")]

use nano_models::testing::{TempDir, Tiny};
use nano_runtime::{Device, GenerateOptions, Memory, ModelInfo, ModelOptions, NanoModel, Quantization};
use std::path::Path;
use std::process::Command;

/// Tokens of a prompt, more than a step takes; with the one that is generated they fill the context.
const PROMPT: usize = 287;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

fn options(quantization: Option<Quantization>) -> ModelOptions {
    ModelOptions {
        quantization,
        device: Device::Cpu,
        threads: Some(2),
        max_context_len: Some(PROMPT + 1),
        max_sequences: Some(1),
        ..ModelOptions::default()
    }
}

fn quantization(name: &str) -> Option<Quantization> {
    (name != "none").then(|| name.parse().unwrap())
}

/// Bytes, from the system's table about this process.
fn status(entry: &str) -> u64 {
    let table = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = table.lines().find_map(|line| line.strip_prefix(entry)).unwrap_or_else(|| panic!("no {entry}"));
    KIB * line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap()
}

/// Not a test: the process that is measured.
#[test]
#[ignore = "run by the test below"]
fn child() {
    let Ok(model) = std::env::var("NANO_MEMORY_MODEL") else { return };
    let (name, path) = model.split_once(' ').unwrap();
    let run = |path: &Path| {
        let model = NanoModel::open(path, options(quantization(name)), |_| ()).unwrap();
        let loaded = status("VmHWM:");
        let options = GenerateOptions { max_new_tokens: 1, ..GenerateOptions::default() };
        model.generate(vec![1; PROMPT], model.cache(), &options).wait().unwrap();
        loaded
    };
    // The program's own pages come with its first use.
    let small = TempDir::new("plan-small");
    run(&small.write("model.gguf", Tiny { context: 512, ..Tiny::default() }.gguf()));
    let before = status("VmRSS:");
    let loaded = run(Path::new(path)) - before;
    println!("taken {loaded} {}", status("VmHWM:") - before);
}

/// The peak while loading, and that with a full context.
fn taken(name: &str, path: &Path) -> (u64, u64) {
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.args(["--exact", "child", "--ignored", "--nocapture"]);
    let output = program.env("NANO_MEMORY_MODEL", format!("{name} {}", path.display())).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers = text.lines().find_map(|line| line.strip_prefix("taken ")?.split_once(' '));
    let (loaded, all) = numbers.unwrap_or_else(|| panic!("{output:?}"));
    (loaded.parse().unwrap(), all.parse().unwrap())
}

#[test]
fn the_plan_is_what_is_taken() {
    let tiny = Tiny {
        layers: 6,
        dim: 512,
        hidden: 2048,
        heads: 8,
        kv_heads: 8,
        head_dim: 64,
        context: 512,
        ..Tiny::default()
    };
    let largest = (4 * tiny.hidden * tiny.dim) as u64;
    let gguf = TempDir::new("plan-gguf");
    let file = gguf.write("model.gguf", tiny.gguf());
    let folder = tiny.folder(2).temp("plan-folder");
    for (name, path) in [("none", file.as_path()), ("q4f16", &file), ("q8f16", folder.path())] {
        let memory: Memory = ModelInfo::read(path, &options(quantization(name))).unwrap().memory;
        let planned = memory.peak_bytes();
        let (loaded, all) = taken(name, path);
        let about = format!("{name} {}: {loaded} while loading, {all} in all, of {memory:?}", path.display());
        assert!(all.abs_diff(planned) * 20 <= planned, "{about}");
        let kv = memory.total_bytes - memory.weights_bytes - memory.workspace_bytes;
        assert!(loaded <= memory.weights_bytes + kv + largest + 60 * MIB, "{about}");
        // The same more closely. Besides there are the tokenizer, rests of huge pages, and what the system maps of a file
        // around the tensor that is read.
        assert!(loaded <= memory.loading_bytes + 12 * MIB, "{about}");
    }
}
