//! The rules, each a function from sources or manifests to sentences about what breaks it.

use crate::source;

/// Where Rust source lies.
pub const FOLDERS: [&str; 6] = ["kernels", "models", "templates", "runtime", "cli", "benches"];

const LINES: usize = 450;
const MMAP: &str = "models/src/checkpoint/map.rs";
const RUNNER: &str = "runtime/src/runner.rs";
const DECODER: &str = "models/src/decoder.rs";

/// Which of the project's own crates a crate may name.
const OWN: [(&str, &[&str]); 10] = [
    ("nano-kernels", &[]),
    ("nano-emulator", &["nano-kernels"]),
    ("nano-interpreter", &["nano-kernels"]),
    ("nano-models", &["nano-kernels"]),
    ("nano-templates", &[]),
    // For its examples; cargo refuses the circle elsewhere.
    ("nano-macros", &["nano-runtime"]),
    ("nano-runtime", &["nano-kernels", "nano-macros", "nano-models", "nano-templates"]),
    ("nano-remote", &["nano-runtime"]),
    ("nano-chat", &["nano-kernels", "nano-models", "nano-templates", "nano-runtime", "nano-remote"]),
    ("nano-benches", &["nano-kernels", "nano-models", "nano-runtime"]),
];

/// Machines that stand in for a GPU: for tests alone.
const STAND_INS: [&str; 2] = ["nano-emulator", "nano-interpreter"];

/// Crates from outside that belong to some of our crates alone.
const OUTSIDE: [(&str, &[&str]); 15] = [
    ("clap", &["nano-chat"]),
    ("axum", &["nano-chat"]),
    ("tokio", &["nano-chat"]),
    ("rustyline", &["nano-chat"]),
    ("indicatif", &["nano-chat"]),
    ("anyhow", &["nano-chat", "nano-benches"]),
    ("minijinja", &["nano-templates"]),
    ("cudarc", &["nano-kernels"]),
    ("memmap2", &["nano-models", "nano-kernels"]),
    ("safetensors", &["nano-models"]),
    ("tokenizers", &["nano-models"]),
    ("hf-hub", &["nano-models"]),
    ("llguidance", &["nano-runtime"]),
    ("ureq", &["nano-models", "nano-remote"]),
    ("libc", &["nano-kernels", "nano-chat"]),
];

const ARCHITECTURES: [&str; 14] = [
    "llama", "llama2", "llama3", "mistral", "mixtral", "qwen", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "phi",
    "phi3", "smollm",
];
const CONTAINERS: [&str; 5] = ["gguf", "safetensors", "hugging face", "huggingface", "sentencepiece"];

/// One file of the workspace: its path from the root, its text, and its text without comments and literals.
pub struct SourceFile {
    path: String,
    text: String,
    code: String,
}

impl SourceFile {
    /// Reads a text as the file at `path`.
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), code: source::code(text) }
    }

    fn within(&self, folder: &str) -> bool {
        self.path.starts_with(folder)
    }

    /// Part of a library or the program, as against tests and benches.
    fn shipped(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or("").trim_end_matches(".rs");
        let test = name == "tests" || name == "testing" || name.ends_with("_tests");
        let folder = ["/testing/", "/tests/"].iter().any(|folder| self.path.contains(folder));
        self.path.contains("/src/") && !self.within("benches/") && !test && !folder
    }

    fn library(&self) -> bool {
        self.shipped() && !self.within("cli/")
    }

    fn shipped_code(&self) -> &str {
        source::without_tests(&self.code)
    }

    fn says(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path)
    }
}

/// A line of a manifest.
pub struct Dependency {
    /// The crate whose manifest it is.
    pub from: String,
    /// The crate it names.
    pub to: String,
    /// Whether that is one of ours.
    pub own: bool,
    /// Whether only its tests and benches name it.
    pub tests: bool,
}

/// Rules about single files, and about files that must exist for a rule to mean anything.
pub fn check_files(files: &[SourceFile]) -> Vec<String> {
    let rules: [fn(&SourceFile) -> Option<String>; 11] = [
        header,
        length,
        leftovers,
        unsafe_code,
        environment,
        global_state,
        terminal,
        kernels_know_numbers,
        machine_types,
        decoder_names_no_architecture,
        unwritten,
    ];
    let mut broken: Vec<String> = files.iter().flat_map(|f| rules.iter().filter_map(|rule| rule(f))).collect();
    for needed in [MMAP, RUNNER, DECODER] {
        if !files.iter().any(|f| f.path == needed) {
            broken.push(format!("{needed}: not found, though a rule names it; has it moved?"));
        }
    }
    broken
}

/// Rules about manifests.
pub fn check_dependencies(all: &[Dependency]) -> Vec<String> {
    let mut broken = Vec::new();
    for one in all {
        let (from, to) = (one.from.as_str(), one.to.as_str());
        if one.own {
            match OWN.iter().find(|(name, _)| *name == from) {
                None => broken.push(format!("{from}: a crate without an entry in the table of allowed dependencies")),
                Some(_) if one.tests && STAND_INS.contains(&to) => {}
                // A crate names itself to turn on a feature for its own tests.
                Some((_, allowed)) if from != to && !allowed.contains(&to) => {
                    broken.push(format!("{from} must not depend on {to}"))
                }
                Some(_) => {}
            }
        } else if let Some((_, owners)) = OUTSIDE.iter().find(|(name, _)| *name == to)
            && !owners.contains(&from)
        {
            broken.push(format!("{from} must not depend on {to}: only {} may", owners.join(", ")));
        }
    }
    if !all.iter().any(|d| d.own) {
        broken.push("no dependency between the project's own crates was found".to_owned());
    }
    broken
}

fn header(file: &SourceFile) -> Option<String> {
    (!file.text.starts_with("//! ")).then(|| file.says(1, "does not start with a //! paragraph"))
}

fn length(file: &SourceFile) -> Option<String> {
    let lines = file.text.lines().count();
    (lines >= LINES).then(|| file.says(lines, &format!("{lines} lines; keep files under {LINES}")))
}

fn leftovers(file: &SourceFile) -> Option<String> {
    first(&file.code, &["todo!", "dbg!", "unimplemented!"])
        .map(|(line, what)| file.says(line, &format!("{what} left behind")))
}

fn unwritten(file: &SourceFile) -> Option<String> {
    first(&file.text, &["TODO", "FIXME", "XXX"])
        .map(|(line, what)| file.says(line, &format!("{what} left behind")))
        .filter(|_| !file.within("cli/tests/structure/"))
}

fn unsafe_code(file: &SourceFile) -> Option<String> {
    if file.within("kernels/") || file.path == MMAP {
        return None;
    }
    let line = source::line_of(&file.code, "unsafe")?;
    Some(file.says(line, &format!("unsafe outside kernels and {MMAP}")))
}

fn environment(file: &SourceFile) -> Option<String> {
    let named = ["cli/", "models/src/checkpoint/hub", "kernels/src/cuda/device/nvrtc.rs"];
    if !file.shipped() || named.iter().any(|n| file.within(n)) {
        return None;
    }
    let reads = ["env::var", "env::vars", "env::var_os", "env::vars_os", "env::set_var", "env::remove_var"];
    let (line, what) = first(file.shipped_code(), &reads)?;
    Some(file.says(line, &format!("{what}: environment variables are read in cli only")))
}

fn global_state(file: &SourceFile) -> Option<String> {
    if !file.library() {
        return None;
    }
    let code = file.shipped_code();
    let cells = ["Mutex", "RwLock", "Atomic", "RefCell", "Cell<", "UnsafeCell"];
    for (number, line) in code.lines().enumerate() {
        let item = line.trim_start().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
        let changes =
            item.starts_with("static mut ") || item.starts_with("static ") && cells.iter().any(|c| item.contains(c));
        if changes || item.starts_with("thread_local!") {
            return Some(file.says(number + 1, "global mutable state"));
        }
    }
    None
}

fn terminal(file: &SourceFile) -> Option<String> {
    if !file.library() {
        return None;
    }
    let words = ["println!", "print!", "eprintln!", "eprint!", "stdin()", "stdout()", "stderr()", "TcpListener"];
    let (line, what) = first(file.shipped_code(), &words)?;
    Some(file.says(line, &format!("{what}: only cli knows terminals and serves")))
}

fn kernels_know_numbers(file: &SourceFile) -> Option<String> {
    if !file.within("kernels/src/") {
        return None;
    }
    let text = file.text.to_lowercase();
    if let Some((line, what)) = first(&text, &ARCHITECTURES).or_else(|| first(&text, &CONTAINERS)) {
        return Some(file.says(line, &format!("'{what}': kernels name no model and no container")));
    }
    let (line, what) = first(&file.code.to_lowercase(), &["tokenizer", "chat", "vocabulary"])?;
    Some(file.says(line, &format!("'{what}': kernels know no text")))
}

/// Above models a machine's type is named in one file, so that adding a machine touches that file only.
fn machine_types(file: &SourceFile) -> Option<String> {
    let above = file.within("runtime/src/") || file.within("cli/src/") || file.within("templates/src/");
    if !above || file.path == RUNNER || !file.shipped() {
        return None;
    }
    let code = file.shipped_code();
    let paths =
        ["cpu::", "cuda::", "nano_kernels::cpu", "nano_kernels::cuda", "nano_kernels::Cpu", "nano_kernels::Cuda"];
    let grouped = code.match_indices("nano_kernels::{").find_map(|(at, _)| {
        let group = &code[at..at + code[at..].find(';').unwrap_or(code.len() - at)];
        let (line, _) = first(group, &["cpu", "cuda", "Cpu", "Cuda"])?;
        Some(code[..at].matches('\n').count() + line)
    });
    let line = first(code, &paths).map(|(line, _)| line).or(grouped)?;
    Some(file.says(line, &format!("a machine's type is named above models in {RUNNER} only")))
}

fn decoder_names_no_architecture(file: &SourceFile) -> Option<String> {
    if file.path != DECODER {
        return None;
    }
    let (line, what) = first(&file.text.to_lowercase(), &ARCHITECTURES)?;
    Some(file.says(line, &format!("'{what}': an architecture is a table; the block program names none")))
}

fn first(text: &str, words: &[&'static str]) -> Option<(usize, &'static str)> {
    words.iter().filter_map(|&word| Some((source::line_of(text, word)?, word))).min()
}
