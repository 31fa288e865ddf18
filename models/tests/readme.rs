//! README's table of families is what the list of architectures says, and each was checked against its authors' code.

use nano_models::arch;
use std::path::{Path, PathBuf};

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The tiny checkpoints, by `model_type`.
fn checkpoints() -> Vec<String> {
    let folders = std::fs::read_dir(here("tests/goldens/tiny")).expect("the goldens");
    let config = |folder: PathBuf| std::fs::read(folder.join("config.json")).ok();
    let configs = folders.filter_map(|folder| config(folder.ok()?.path()));
    let kind = |config: Vec<u8>| {
        let config: serde_json::Value = serde_json::from_slice(&config).expect("config.json is JSON");
        let text = config.get("text_config").unwrap_or(&config);
        text["model_type"].as_str().expect("a model_type").to_owned()
    };
    configs.map(kind).collect()
}

#[test]
fn readme_lists_the_families() {
    let checkpoints = checkpoints();
    let mut table = "| models | `model_type` | GGUF | checkpoints compared |\n| --- | --- | --- | --- |\n".to_owned();
    for arch in arch::ALL {
        let compared = checkpoints.iter().filter(|kind| arch.hf.contains(&kind.as_str())).count();
        assert!(compared > 0, "{} was never compared with its authors' code", arch.name);
        let gguf = if arch.gguf.is_empty() { "llama".to_owned() } else { arch.gguf.join(", ") };
        let hf = arch.hf.join(", ");
        table += &format!("| {} | {hf} | {gguf} | {compared} |\n", arch.models);
    }
    let readme = std::fs::read_to_string(here("../README.md")).expect("README.md");
    assert!(readme.contains(&table), "README.md must have this table under Models:\n{table}");
}
