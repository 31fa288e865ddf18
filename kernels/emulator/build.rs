//! Compiles every kernel for the processor, once as ARCH 72 and once as ARCH 80, and writes the tables of their entries.
//!
//! What an entry is, the preprocessor tells: `KERNEL` leaves a mark before the name, also where the name comes out of
//! another macro. No list of kernels is kept.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs};

/// Marks that emulator.h leaves where `KERNEL` and `__shared__` stood.
const ENTRY: &str = "emulator::Kernel<";
const SHARED: &str = "EMULATOR_SHARED";
/// Names of sources, with commas between: for whoever works on one kernel, only these are compiled.
const ONLY: &str = "NANO_EMULATOR_KERNELS";
/// Where the kernels' text begins.
const OPEN: &str = "namespace {\n";
const ARCHES: [u32; 2] = [72, 80];

fn main() {
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let out = PathBuf::from(env::var("OUT_DIR").expect("set by cargo"));
    let folders = [here.join("../cuda"), here.join("tests/cu")];
    for changed in folders.iter().chain([&here.join("cpp")]) {
        println!("cargo:rerun-if-changed={}", changed.display());
    }

    println!("cargo:rerun-if-env-changed={ONLY}");
    let only = env::var(ONLY).ok();
    let wanted = |stem: &str| only.as_ref().is_none_or(|list| list.split(',').any(|one| one == stem));

    let mut units: Vec<Unit> = Vec::new();
    let mut tables = String::from("const TABLES: &[(u32, *const Entry)] = &[\n");
    for source in folders.iter().flat_map(|folder| sources(folder)) {
        let stem = source.file_stem().and_then(|s| s.to_str()).expect("a kernel's file name");
        if !wanted(stem) {
            continue;
        }
        for arch in ARCHES {
            let unit = unit(&here, &out, &source, stem, arch);
            // Where both ARCHes see the same text, one object serves both.
            if units.last().is_none_or(|last| last.own != unit.own) {
                units.push(unit);
            }
            let table = &units.last().expect("one was pushed").table;
            writeln!(tables, "    ({arch}, &raw const {table}),").expect("a string");
        }
    }
    one_of_each_name(&units);
    let declared: String = units.iter().map(|unit| format!("    static {}: Entry;\n", unit.table)).collect();
    fs::write(out.join("tables.rs"), format!("unsafe extern \"C\" {{\n{declared}}}\n\n{tables}];\n"))
        .expect("OUT_DIR can be written to");

    cc::Build::new().objects(objects(&here, &out, &units)).compile("nano_emulator_kernels");
    let mut machine = compiler(&here, false);
    for file in ["machine.cpp", "fiber.cpp", "collective.cpp", "mma.cpp"] {
        machine.file(here.join("cpp").join(file));
    }
    machine.compile("nano_emulator_machine");
    if env::var_os("CARGO_FEATURE_ADDRESS").is_some() {
        println!("cargo:rustc-link-lib=dylib=asan");
        println!("cargo:rustc-link-lib=dylib=ubsan");
    }
    if env::var_os("CARGO_FEATURE_THREAD").is_some() {
        println!("cargo:rustc-link-lib=dylib=tsan");
    }
}

/// The compiler with what kernels and machine have in common. The machine switches stacks: no sanitizer looks into it.
fn compiler(here: &Path, kernels: bool) -> cc::Build {
    let [address, thread] = ["ADDRESS", "THREAD"].map(|f| env::var_os(format!("CARGO_FEATURE_{f}")).is_some());
    let level = match (kernels, address || thread) {
        (false, _) => 3,
        (true, false) => 2,
        (true, true) => 1,
    };
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .cpp_link_stdlib(None)
        .opt_level(level)
        .debug(false)
        .warnings(false)
        .include(here.join("cpp"))
        .include(here.join("../cuda"))
        // As a CUDA compiler has it: types are punned through pointers, and no exceptions.
        .flags(["-std=c++17", "-g1", "-fno-strict-aliasing", "-fno-exceptions", "-fno-rtti", "-fno-math-errno"])
        // The same numbers on every processor.
        .flag("-ffp-contract=off")
        .flags(["-fno-threadsafe-statics", "-ftls-model=initial-exec", "-Wno-unknown-pragmas"]);
    if address {
        build.define("EMULATOR_ADDRESS", None);
        if kernels {
            // Of undefined behaviour what a kernel could do wrong; all of it takes three times as long to compile.
            build.flag("-fsanitize=address,alignment,bounds,shift,signed-integer-overflow,integer-divide-by-zero");
            build.flags(["-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]);
        }
    }
    if thread {
        build.define("EMULATOR_THREAD", None);
        if kernels {
            build.flags(["-fsanitize=thread", "-fno-omit-frame-pointer"]);
        }
    }
    build
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<PathBuf> =
        entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "cu")).collect();
    found.sort();
    found
}

/// What the compiler is given of a source for an ARCH.
struct Unit {
    /// The name of its table of entries.
    table: String,
    text: String,
    /// The part of the text that comes from the kernels' folder.
    own: String,
    names: Vec<String>,
}

/// Preprocesses a source and adds the table of its entries. All in a nameless namespace: both ARCHes of a kernel end up
/// in one program.
fn unit(here: &Path, out: &Path, source: &Path, stem: &str, arch: u32) -> Unit {
    let source = source.canonicalize().expect("a source that was just listed");
    let probe = out.join(format!("{stem}.cpp"));
    let text = format!("#include \"emulator.h\"\n{OPEN}#include \"{}\"\n}}\n", source.display());
    fs::write(&probe, text).expect("OUT_DIR can be written to");
    let mut build = compiler(here, true);
    build.define("NANO_EMULATE", None).define("ARCH", arch.to_string().as_str());
    let expanded = String::from_utf8(build.file(&probe).expand()).expect("sources are UTF-8");
    let entries = entries(&expanded);

    let table = format!("emulator_entries_{arch}_{stem}");
    let mut text = with_shared(&expanded);
    writeln!(text, "extern \"C\" const emulator::Entry {table}[] = {{").expect("a string");
    for (name, threads) in &entries {
        writeln!(text, "    emulator::entry<&{name}>(\"{name}\", {threads}),").expect("a string");
    }
    text.push_str("    {},\n};\n");
    let own = expanded.split_once(OPEN).expect("the text that was just written").1.to_owned();
    Unit { table, text, own, names: entries.into_iter().map(|(name, _)| name).collect() }
}

fn one_of_each_name(units: &[Unit]) {
    let mut owners = BTreeMap::new();
    for unit in units {
        let file = unit.table.trim_start_matches("emulator_entries_");
        for name in &unit.names {
            let (arch, stem) = file.split_once('_').expect("as it was put together");
            if let Some(other) = owners.insert((arch, name), stem) {
                panic!("kernel {name} is in {other}.cu and in {stem}.cu");
            }
        }
    }
}

/// Compiles what has changed since the last time: the name of an object tells what it was made of.
fn objects(here: &Path, out: &Path, units: &[Unit]) -> Vec<PathBuf> {
    let folder = out.join("units");
    fs::create_dir_all(&folder).expect("OUT_DIR can be written to");
    let build = compiler(here, true);
    let flags = format!("{:?}", build.get_compiler());
    let mut kept = Vec::new();
    let mut missing = Vec::new();
    for Unit { table, text, .. } in units {
        let mut hasher = DefaultHasher::new();
        (&flags, text).hash(&mut hasher);
        let source = folder.join(format!("{table}.{:016x}.ii", hasher.finish()));
        let object = source.with_extension("o");
        if !object.exists() {
            fs::write(&source, text).expect("OUT_DIR can be written to");
            missing.push((source, object.clone()));
        }
        kept.push(object);
    }
    // One by one, so that those that are done stay done when another fails.
    let next = AtomicUsize::new(0);
    let jobs = env::var("NUM_JOBS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    std::thread::scope(|scope| {
        for _ in 0..missing.len().min(jobs) {
            scope.spawn(|| {
                while let Some((source, object)) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let made = build.clone().file(source).compile_intermediates();
                    fs::rename(&made[0], object).expect("OUT_DIR can be written to");
                    fs::remove_file(source).expect("OUT_DIR can be written to");
                }
            });
        }
    });
    for old in fs::read_dir(&folder).expect("a folder that was just made").flatten().map(|e| e.path()) {
        if !kept.contains(&old) {
            fs::remove_file(old).expect("OUT_DIR can be written to");
        }
    }
    kept
}

/// Name and launch bound of each entry of a preprocessed source.
fn entries(expanded: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (at, _) in expanded.match_indices(ENTRY) {
        let rest = &expanded[at + ENTRY.len()..];
        let Some((threads, rest)) = rest.split_once("> ") else { continue };
        let Some((name, _)) = rest.split_once('(') else { continue };
        found.push((plain(name).trim().to_owned(), plain(threads)));
    }
    found
}

/// Declarations of shared arrays become references into the block's shared memory, so that it is poisoned, counted, and
/// guarded like the dynamic part.
fn with_shared(expanded: &str) -> String {
    let mut text = String::with_capacity(expanded.len());
    let mut rest = expanded;
    while let Some((before, after)) = rest.split_once(SHARED) {
        let (declaration, after) = after.split_once(';').expect("a declaration ends with a semicolon");
        text.push_str(before);
        let plain = plain(declaration);
        let mut kind = None;
        for declarator in split_list(without_alignment(&plain)) {
            let dimensions = declarator.find('[').unwrap_or(declarator.len());
            let (head, dimensions) = declarator.split_at(dimensions);
            let head = head.trim();
            let name_at = head.rfind(|c: char| !(c.is_alphanumeric() || c == '_')).map_or(0, |at| at + 1);
            let (own_kind, name) = head.split_at(name_at);
            let kind = *kind.get_or_insert(own_kind.trim());
            write!(
                text,
                "typedef {kind} {name}_shared{dimensions}; {name}_shared& {name} = \
                 emulator::shared<{name}_shared>([]() -> const void* {{ static char key; return &key; }}()); "
            )
            .expect("a string");
        }
        text.extend(declaration.matches('\n'));
        rest = after;
    }
    text + rest
}

/// A shared array is aligned to more than any asks for.
fn without_alignment(declaration: &str) -> &str {
    let declaration = declaration.trim();
    let Some(rest) = declaration.strip_prefix("alignas") else { return declaration };
    rest.split_once(')').map_or(rest, |(_, rest)| without_alignment(rest))
}

/// Splits at commas that are in no bracket.
fn split_list(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' | '<' | '{' => depth += 1,
            ')' | ']' | '>' | '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// On one line, without the preprocessor's notes on lines.
fn plain(text: &str) -> String {
    text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join(" ")
}
