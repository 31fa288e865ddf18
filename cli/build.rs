//! Tells the program which commit it was built from, for `--version`. Not a git checkout, or no git: "unknown".

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let commit = git(&["rev-parse", "--short=12", "HEAD"]);
    println!("cargo::rustc-env=NANO_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
    // HEAD changes when another branch is checked out, its log with every commit, and the branch where there is no log.
    for file in ["HEAD", "logs/HEAD"].map(str::to_owned).into_iter().chain(git(&["symbolic-ref", "HEAD"])) {
        if let Some(path) = git(&["rev-parse", "--git-path", &file]).filter(|p| Path::new(p).exists()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
