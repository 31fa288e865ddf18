//! README's table of families and formats is what the list of architectures says, with how many checkpoints of each kind
//! were compared with their authors' code.

use nano_models::arch;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The model types of the checkpoints in a folder of goldens which have a file of this name.
fn kinds(goldens: &str, with: &str) -> Vec<String> {
    let folders = std::fs::read_dir(here("tests/goldens").join(goldens)).expect("the goldens");
    let kind = |folder: PathBuf| {
        let configs = ["config.json", "mlc-chat-config.json"];
        let config = configs.iter().find_map(|name| std::fs::read(folder.join(name)).ok())?;
        let config: Value = serde_json::from_slice(&config).expect("a configuration is JSON");
        let text = config.get("text_config").unwrap_or(&config);
        folder.join(with).exists().then(|| text["model_type"].as_str().expect("a model_type").to_owned())
    };
    folders.filter_map(|folder| kind(folder.ok()?.path())).collect()
}

#[test]
fn readme_lists_families_and_formats() {
    let (folders, gguf, quantized) = (kinds("tiny", ""), kinds("tiny", "model.gguf"), kinds("packed", ""));
    let mut table = "| models | `model_type` | folders | GGUF | quantized folders | CUDA |\n\
                     | --- | --- | --- | --- | --- | --- |\n"
        .to_owned();
    for arch in arch::ALL {
        let count = |kinds: &[String]| kinds.iter().filter(|kind| arch.hf.contains(&kind.as_str())).count();
        let told = |n: usize| if n > 0 { format!("{n} compared") } else { "read".into() };
        assert!(count(&folders) > 0, "{} was never compared with its authors' code", arch.name);
        let name = if arch.gguf.is_empty() { "llama".to_owned() } else { arch.gguf.join(", ") };
        table += &format!(
            "| {} | {} | {} | {name}: {} | {} | emulated |\n",
            arch.models,
            arch.hf.join(", "),
            told(count(&folders)),
            told(count(&gguf)),
            told(count(&quantized)),
        );
    }
    let readme = std::fs::read_to_string(here("../README.md")).expect("README.md");
    assert!(readme.contains(&table), "README.md must have this table under Models:\n{table}");
}
