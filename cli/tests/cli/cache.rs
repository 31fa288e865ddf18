//! `cache`: what is listed and removed of the packed weights, and where they are looked for.

use crate::harness::{nano, run};
use nano_models::testing::TempDir;
use std::path::Path;

fn cache(home: &Path, args: &[&str]) -> crate::harness::Ran {
    let mut program = nano(home);
    program.arg("cache").args(args);
    run(program, "")
}

#[test]
fn without_packed_weights_the_list_is_empty() {
    let home = TempDir::new("cache-none");
    let list = cache(home.path(), &["list"]).succeeded();
    assert_eq!(list.text().lines().count(), 1, "{list:?}");
    assert!(list.stderr.contains(".cache/huggingface/nano-packed"), "{list:?}");
    assert_eq!(cache(home.path(), &["list", "--json"]).succeeded().json(), serde_json::json!([]));
    cache(home.path(), &["prune", "--all"]).succeeded();
    let usage = cache(home.path(), &["prune"]);
    assert!(usage.code != Some(0) && usage.stderr.contains("--max-size"), "{usage:?}");
}

#[test]
fn they_are_removed_until_the_rest_is_small_enough() {
    let home = TempDir::new("cache-prune");
    let packed = ".cache/huggingface/nano-packed";
    let old = home.write(&format!("{packed}/old.packed"), [0; 3000]);
    let time = std::time::SystemTime::now() - std::time::Duration::from_secs(7300);
    std::fs::File::options().append(true).open(&old).unwrap().set_modified(time).unwrap();
    let new = home.write(&format!("{packed}/new.packed"), [0; 2000]);
    let other = home.write(&format!("{packed}/notes.txt"), "mine");
    let list = cache(home.path(), &["list"]).succeeded().text();
    let lines: Vec<&str> = list.lines().collect();
    assert!(lines.len() == 3 && lines[1].contains("2.0 kB") && lines[2].contains("2 hours ago"), "{list}");
    assert!(lines[2].contains("(damaged)"), "{list}");
    cache(home.path(), &["prune", "--max-size", "4K"]).succeeded();
    assert!(!old.exists() && new.exists() && other.exists());
    let gone = cache(home.path(), &["prune", "--all"]).succeeded();
    assert!(!new.exists() && other.exists() && gone.stderr.contains("removed 1 model"), "{gone:?}");
}

#[test]
fn the_environment_says_where() {
    let home = TempDir::new("cache-env");
    let file = home.write("elsewhere/a.packed", "x");
    let mut program = nano(home.path());
    program.args(["cache", "list", "--json"]).env("NANO_PACKED_CACHE", home.path().join("elsewhere"));
    let list = run(program, "").succeeded().json();
    assert_eq!(list[0]["path"].as_str(), file.to_str());
}
