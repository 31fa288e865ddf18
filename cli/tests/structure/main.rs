//! The house rules of ARCHITECTURE.md that a program can check, over the sources and manifests of the whole workspace:
//! the walk and the verdict. The rules themselves are in `rules.rs`, the reading of Rust source in `source.rs`.

mod planted;
mod rules;
mod source;

use rules::{Dependency, SourceFile};
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn the_project_keeps_its_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("cli/ lies in the workspace").to_path_buf();
    let mut files = Vec::new();
    for name in rules::FOLDERS {
        walk(&root, &root.join(name), &mut files);
    }
    assert!(files.len() > 40, "only {} source files found below {}", files.len(), root.display());
    let mut broken = rules::check_files(&files);
    broken.extend(rules::check_dependencies(&dependencies(&root)));
    assert!(broken.is_empty(), "{} broken rules:\n{}", broken.len(), broken.join("\n"));
}

fn walk(root: &Path, folder: &Path, files: &mut Vec<SourceFile>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut paths: Vec<PathBuf> = entries.map(|e| e.expect("a readable folder").path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            if path.file_name().is_some_and(|n| n != "target") {
                walk(root, &path, files);
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            let name = path.strip_prefix(root).expect("below the root").to_string_lossy().replace('\\', "/");
            let text = std::fs::read_to_string(&path).expect("source in UTF-8");
            files.push(SourceFile::new(&name, &text));
        }
    }
}

/// What each crate of the workspace says it depends on, as cargo reads the manifests.
fn dependencies(root: &Path) -> Vec<Dependency> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root)
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON from cargo metadata");
    let text = |value: &serde_json::Value| value.as_str().expect("a string").to_owned();
    let mut found = Vec::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let list = package["dependencies"].as_array().expect("dependencies");
        for one in list {
            found.push(Dependency {
                from: text(&package["name"]),
                to: text(&one["name"]),
                own: one["path"].is_string(),
                tests: one["kind"] == "dev",
            });
        }
    }
    found
}
