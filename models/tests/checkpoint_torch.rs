//! Folders whose weights are in PyTorch's own format, against files made by it (`scripts/golden_torch.py`), and files
//! that are to be refused: one clear error that names the file, and the tensor where there is one.

use nano_models::checkpoint::hf::parse_torch;
use nano_models::open;
use nano_models::testing::Folder;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn golden(name: &str) -> Vec<u8> {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/torch").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn base() -> Folder {
    Folder::default().json("config.json", &json!({"model_type": "llama"}))
}

/// The error of a folder with such weights, from the file's name on.
fn error(bytes: &[u8]) -> String {
    parse_torch(Path::new("pytorch_model.bin"), bytes).map(|t| t.len()).unwrap_err().to_string()
}

#[test]
fn tensors_are_what_pytorch_wrote() {
    let expected: Value = serde_json::from_slice(&golden("tensors.json")).unwrap();
    let index = json!({"weight_map": {"f32": "pytorch_model-00001-of-00001.bin"}});
    let one = base().file("pytorch_model.bin", golden("tensors.bin"));
    let many = base()
        .file("pytorch_model-00001-of-00001.bin", golden("tensors.bin"))
        .json("pytorch_model.bin.index.json", &index);
    for folder in [one, many] {
        let dir = folder.temp("torch");
        let checkpoint = open(dir.path()).unwrap();
        let expected = expected.as_object().unwrap();
        assert_eq!(checkpoint.names().len(), expected.len());
        for (name, expected) in expected {
            let tensor = checkpoint.tensor(name).unwrap().unwrap_or_else(|| panic!("{name}"));
            let list = |key: &str| expected[key].as_array().unwrap().clone();
            let values: Vec<f32> = list("values").iter().map(|v| v.as_f64().unwrap() as f32).collect();
            let dims: Vec<usize> = list("dims").iter().map(|v| v.as_u64().unwrap() as usize).collect();
            assert_eq!(
                (tensor.rows, tensor.cols),
                (values.len() / dims.last().unwrap(), *dims.last().unwrap()),
                "{name}"
            );
            assert_eq!(tensor.to_f32(), values, "{name}");
        }
    }
}

#[test]
fn safetensors_come_first() {
    let tensor = nano_models::testing::TestTensor::f32("only", &[1, 1], &[1.0]);
    let dir = base().file("pytorch_model.bin", golden("code.bin")).weights(&[tensor], 1).temp("torch");
    assert_eq!(open(dir.path()).unwrap().names(), ["only"]);
}

#[test]
fn whatever_is_no_tensor_is_refused_by_name() {
    let compressed = {
        let mut bytes = golden("tensors.bin");
        let at = bytes.windows(4).rposition(|w| w == b"PK\x01\x02").unwrap();
        bytes[at + 10] = 8;
        bytes
    };
    // 2 x 4 values in a storage of 8, of which the first is now said to be value 1.
    let mut beyond = include_bytes!("../fuzz/regressions/torch/good").to_vec();
    let at = beyond.windows(3).position(|w| w == b"tQ\x8a").unwrap() + 4;
    beyond[at] = 1;
    for (bytes, says) in [
        (beyond, "pytorch_model.bin: tensor a: its 32 bytes from value 1 on reach beyond its storage of 32"),
        (golden("code.bin"), "pytorch_model.bin: its pickle asks for the code posix.system; only tensors are read"),
        (golden("number.bin"), "pytorch_model.bin: holds \"epoch\", which is no tensor"),
        (golden("old.bin"), "pytorch_model.bin: is in the format that PyTorch wrote before 1.6"),
        (
            golden("int64.bin"),
            "pytorch_model.bin: tensor ids: its values are a LongStorage; supported are FloatStorage",
        ),
        (golden("transposed.bin"), "pytorch_model.bin: tensor w: its strides [1, 2] are not those of rows of [2, 3]"),
        (compressed, "compressed, which PyTorch does not do"),
        (b"version https://git-lfs".to_vec(), "pytorch_model.bin: is not a PyTorch file"),
        (Vec::new(), "pytorch_model.bin: is not a PyTorch file"),
    ] {
        let error = error(&bytes);
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn cut_at_every_byte() {
    let whole = golden("tensors.bin");
    assert!(parse_torch(Path::new("m.bin"), &whole).is_ok());
    for end in 0..whole.len() {
        let error = error(&whole[..end]);
        assert!(error.starts_with("pytorch_model.bin: "), "{end}: {error}");
    }
}
