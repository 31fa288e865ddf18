//! The block program of every tiny checkpoint as text, read by eye once: `tests/programs/*.txt`. A change of a program, of
//! a table or of loading shows here. `NANO_WRITE_PROGRAMS=1` writes the files anew, to be read again.

use nano_kernels::trace::Trace;
use nano_kernels::{Backend, KvFormat, Step};
use nano_models::{Decoder, LoadOptions, Spec, open};
use std::path::Path;

fn program(path: &Path) -> String {
    let checkpoint = open(path).unwrap();
    let spec = Spec::read(&*checkpoint).unwrap();
    let mut trace = Trace::default();
    let options = LoadOptions { quantization: None, head: None, rows: 8, logits_rows: 2, threads: 1 };
    let mut decoder = Decoder::load(&*checkpoint, &mut trace, &spec, &options, &mut |_| ()).unwrap();
    let mut kv = trace.pages(spec.page_layout(1, KvFormat::F16)).unwrap();
    trace.run(&Step::default(), Some(0), &mut |trace| decoder.forward(trace, &mut kv)).unwrap();
    trace.take()
}

const NAMES: &[&str] = &[
    "plain",
    "untied",
    "bias",
    "head-dim",
    "linear",
    "llama3",
    "window",
    "mqa",
    "quantized",
    "yarn",
    "smollm3",
    "qwen2-window",
    "qwen3",
    "mixtral",
    "qwen2-moe",
    "new-qwen3-moe",
    "gemma",
    "gemma2",
    "gemma3",
    "phi2",
    "phi3",
    "phi3-long",
    "granite",
    "gpt-oss",
    "gpt-oss-mxfp4",
    "stablelm",
    "stablelm-parallel",
    "stablelm-12b",
    "olmo2",
    "olmoe",
];

#[test]
fn programs_are_as_read() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut checked = 0;
    for name in NAMES {
        for (container, path) in [("hf", ""), ("gguf", "model.gguf")] {
            let golden = tests.join("goldens/tiny").join(name).join(path);
            if !golden.exists() {
                continue;
            }
            let found = program(&golden);
            let file = tests.join(format!("programs/{name}.{container}.txt"));
            if std::env::var_os("NANO_WRITE_PROGRAMS").is_some() {
                std::fs::write(&file, &found).unwrap();
            }
            let expected = std::fs::read_to_string(&file).unwrap();
            assert_eq!(found, expected, "{}", file.display());
            checked += 1;
        }
    }
    // All but one in both containers.
    assert_eq!(checked, 2 * NAMES.len() - 1);
}
