//! Each rule is shown a violation and must see it, and something close to one that it must let pass.

use crate::rules::{Dependency, SourceFile, check_dependencies, check_files};

fn broken(path: &str, body: &str) -> Vec<String> {
    let needed = ["models/src/checkpoint/map.rs", "runtime/src/runner.rs", "models/src/decoder.rs"];
    let mut files = vec![SourceFile::new(path, &format!("//! A file.\n\n{body}\n"))];
    files.extend(needed.iter().filter(|n| **n != path).map(|n| SourceFile::new(n, "//! A file.\n")));
    check_files(&files)
}

#[track_caller]
fn refused(path: &str, body: &str, why: &str) {
    let found = broken(path, body);
    assert!(found.iter().any(|f| f.contains(why) && f.starts_with(path)), "{path} with {body:?} gave {found:?}");
}

#[track_caller]
fn allowed(path: &str, body: &str) {
    assert_eq!(broken(path, body), Vec::<String>::new(), "{path} with {body:?}");
}

#[test]
fn headers_and_lengths() {
    let none = check_files(&[SourceFile::new("cli/src/main.rs", "fn main() {}\n")]);
    assert!(none.iter().any(|f| f.contains("//! paragraph")), "{none:?}");
    refused("cli/src/a.rs", &"// line\n".repeat(460), "keep files under");
    allowed("cli/src/a.rs", &"// line\n".repeat(400));
}

#[test]
fn leftovers() {
    for body in
        ["fn f() { todo!() }", "fn f() { dbg!(1); }", "fn f() { unimplemented!() }", "// TODO later", "// FIXME"]
    {
        refused("runtime/src/a.rs", body, "left behind");
    }
    allowed("runtime/src/a.rs", "// the method todo!() is not used here\nfn f() { let to_do = \"todo!\"; }");
}

#[test]
fn unsafe_code() {
    refused("runtime/src/a.rs", "fn f() { unsafe { g() } }", "unsafe outside");
    refused("models/src/checkpoint/hf.rs", "unsafe fn f() {}", "unsafe outside");
    refused("cli/tests/a.rs", "fn f() { unsafe { g() } }", "unsafe outside");
    allowed("kernels/src/cpu/a.rs", "fn f() { unsafe { g() } }");
    allowed("models/src/checkpoint/map.rs", "fn f() { unsafe { g() } }");
    allowed("runtime/src/a.rs", "#![forbid(unsafe_code)]\n// unsafe\nconst A: &str = \"unsafe\";");
}

#[test]
fn environment() {
    refused("runtime/src/a.rs", "fn f() { std::env::var(\"A\"); }", "cli only");
    refused("kernels/src/cpu/pool.rs", "use std::env;\nfn f() { env::var_os(\"A\"); }", "cli only");
    refused("kernels/src/cuda/device/mod.rs", "fn f() { std::env::var(\"A\"); }", "cli only");
    allowed("cli/src/a.rs", "fn f() { std::env::var(\"A\"); }");
    allowed("kernels/src/cuda/device/nvrtc.rs", "fn f() { std::env::var(\"A\"); }");
    allowed("models/src/checkpoint/hub/mod.rs", "fn f() { std::env::var(\"A\"); }");
    allowed("models/tests/a.rs", "fn f() { std::env::var(\"A\"); }");
    allowed("runtime/src/a.rs", "#[cfg(test)]\nmod tests {\n    fn f() { std::env::var(\"A\"); }\n}");
    refused("runtime/src/a.rs", "#[cfg(test)]\nuse a;\nfn f() { std::env::var(\"A\"); }", "cli only");
}

#[test]
fn global_state_and_terminals() {
    refused("kernels/src/a.rs", "static mut N: u32 = 0;", "global mutable state");
    refused("models/src/a.rs", "pub static N: AtomicU32 = AtomicU32::new(0);", "global mutable state");
    refused("runtime/src/a.rs", "thread_local! {}", "global mutable state");
    allowed("models/src/a.rs", "static NAMES: [&str; 1] = [\"Mutex\"];\nstruct S { n: Mutex<u32> }");
    refused("models/src/a.rs", "fn f() { eprintln!(\"x\"); }", "only cli knows terminals");
    refused("runtime/src/a.rs", "fn f() { io::stdout().flush(); }", "only cli knows terminals");
    allowed("cli/src/a.rs", "fn f() { println!(\"x\"); }");
}

#[test]
fn kernels_know_numbers() {
    refused("kernels/src/a.rs", "fn f() {} // as Llama does", "name no model");
    refused("kernels/src/a.rs", "struct Gguf;", "no container");
    refused("kernels/src/a.rs", "fn tokenizer() {}", "know no text");
    allowed("kernels/src/a.rs", "// tokenizers are not here\nfn swiglu() {}");
    allowed("kernels/tests/a.rs", "const GOLDEN: &str = \"made with the gguf package\";");
}

#[test]
fn machine_types() {
    refused("runtime/src/model.rs", "use nano_kernels::cpu::Cpu;", "a machine's type");
    refused("cli/src/info.rs", "use nano_kernels::{Backend,\n    cpu::Cpu};", "a machine's type");
    refused("cli/src/info.rs", "use nano_kernels::{Backend, cpu};", "a machine's type");
    allowed("runtime/src/runner.rs", "use nano_kernels::cpu::Cpu;");
    allowed("runtime/src/model.rs", "fn f() { let d = Device::Cpu; }\nuse nano_kernels::{Step, KvFormat};");
    refused("models/src/decoder.rs", "fn f(a: Llama) {} // llama", "names none");
    allowed("models/src/decoder.rs", "fn f() {}");
}

#[test]
fn rules_that_lost_their_file() {
    let found = check_files(&[SourceFile::new("cli/src/main.rs", "//! A file.\n")]);
    assert_eq!(found.iter().filter(|f| f.contains("has it moved")).count(), 3, "{found:?}");
}

#[test]
fn dependencies() {
    let check = |from: &str, to: &str, own: bool| {
        let fine = Dependency { from: "nano-chat".into(), to: "nano-runtime".into(), own: true, tests: false };
        check_dependencies(&[fine, Dependency { from: from.into(), to: to.into(), own, tests: false }])
    };
    for (from, to) in [
        ("nano-kernels", "nano-models"),
        ("nano-templates", "nano-models"),
        ("nano-models", "nano-templates"),
        ("nano-models", "nano-runtime"),
        ("nano-runtime", "nano-chat"),
        ("nano-kernels", "nano-emulator"),
        ("nano-runtime", "nano-remote"),
        ("nano-remote", "nano-models"),
        ("nano-new", "nano-kernels"),
    ] {
        assert_eq!(check(from, to, true).len(), 1, "{from} -> {to}");
    }
    for (from, to) in [
        ("nano-runtime", "clap"),
        ("nano-chat", "minijinja"),
        ("nano-models", "cudarc"),
        ("nano-runtime", "tokio"),
        ("nano-runtime", "ureq"),
    ] {
        assert_eq!(check(from, to, false).len(), 1, "{from} -> {to}");
    }
    assert!(check("nano-runtime", "nano-kernels", true).is_empty());
    assert!(check("nano-chat", "clap", false).is_empty());
    assert_eq!(check_dependencies(&[]).len(), 1);
}
