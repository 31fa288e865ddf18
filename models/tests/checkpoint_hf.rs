//! Hugging Face folders that are wrong, each in one way: one clear error that names the file and what is wrong with it.

use nano_models::open;
use nano_models::testing::{Folder, TestTensor, Tiny, safetensors};
use serde_json::{Value, json};

/// The error of a folder, without the folder's own path.
fn error(folder: Folder) -> String {
    let dir = folder.temp("hf");
    match open(dir.path()) {
        Ok(_) => panic!("the folder was accepted"),
        Err(e) => e
            .to_string()
            .replace(&format!("{}/", dir.path().display()), "")
            .replace(&dir.path().display().to_string(), "DIR"),
    }
}

fn base() -> Folder {
    Folder::default().json("config.json", &json!({"model_type": "llama"}))
}

fn tensor(name: &str) -> TestTensor {
    TestTensor::f32(name, &[2, 2], &[0.0; 4])
}

fn with_header(header: &str, data: usize) -> Folder {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    base().file("model.safetensors", bytes)
}

#[test]
fn wrong_config() {
    for (content, says) in [
        ("", "config.json: is empty"),
        ("{", "config.json: is not valid JSON: EOF"),
        ("[]", "config.json: is a list; an object is needed"),
        ("{}", "config.json: model_type is missing"),
        (r#"{"model_type": 3}"#, "config.json: model_type is 3; a text is needed"),
        (&format!("{{\"model_type\":{}", "[".repeat(10_000)), "config.json: is not valid JSON: recursion limit"),
    ] {
        let error = error(base().file("config.json", content).weights(&[tensor("a")], 1));
        assert!(error.starts_with(says), "{error}");
    }
}

#[test]
fn missing_weights() {
    assert_eq!(
        error(base()),
        "DIR: holds config.json and no weights (model.safetensors or model.safetensors.index.json)"
    );
    let error = error(base().file("consolidated.00.pth", "x"));
    assert!(error.ends_with("; consolidated.00.pth is there, which is not read"), "{error}");
}

#[test]
fn wrong_safetensors() {
    let entry = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"t":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    for (header, data, says) in [
        (entry("I64", "[2]", "[0,16]"), 16, "tensor t: its dtype I64 is not supported; supported are F32 F16 BF16"),
        (entry("F8_E4M3", "[16]", "[0,16]"), 16, "tensor t: its dtype F8_E4M3 is not supported"),
        (entry("NEW", "[2]", "[0,16]"), 16, "tensor t: its dtype NEW is not supported"),
        (entry("F32", "[-1]", "[0,16]"), 16, "tensor t: its entry in the header is wrong"),
        (r#"{"t":{}}"#.to_owned(), 0, "tensor t: its entry in the header states no dtype"),
        (entry("F32", "[4]", "[0,16]"), 8, "tensor t: its data ends at byte 16 of 8; the file is cut short"),
        (entry("F32", "[4]", "[0,16]"), 20, "has 20 bytes of data where its header lists 16"),
        (entry("F32", "[5]", "[0,16]"), 16, "its header is wrong"),
        (entry("F32", "[0]", "[0,0]"), 0, "tensor t: its shape 0 has no values"),
        (entry("F32", "[4]", "[8,24]"), 24, "its header is wrong"),
        ("{".to_owned(), 0, "its header is not valid JSON"),
    ] {
        let error = error(with_header(&header, data));
        assert!(error.starts_with("model.safetensors: ") && error.contains(says), "{header}: {error}");
    }
    for (bytes, says) in [
        (&b""[..], "is empty"),
        (b"abc", "cut short"),
        (b"\x20\0\0\0\0\0\0\0{", "cut short"),
        (&[0xff; 64], "its first bytes are no header"),
        (b"PK\x03\x04aaaaaaaaaaaa", "looks like a PyTorch file"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS pointer"),
        (b"GGUF\x03\0\0\0aaaa", "it is a GGUF file"),
    ] {
        let error = error(base().file("model.safetensors", bytes));
        assert!(error.starts_with("model.safetensors: ") && error.contains(says), "{error}");
    }
}

#[test]
fn safetensors_cut_at_every_byte() {
    let whole = safetensors(&[tensor("a"), tensor("b")]);
    for end in 0..whole.len() {
        let error = error(base().file("model.safetensors", &whole[..end]));
        assert!(error.starts_with("model.safetensors: "), "{end}: {error}");
    }
}

#[test]
fn wrong_index() {
    const INDEX: &str = "model.safetensors.index.json";
    let map = |map: Value| json!({"weight_map": map}).to_string();
    for (content, says) in [
        (String::new(), "is not valid JSON"),
        ("{}".to_owned(), "weight_map is missing"),
        (map(json!([])), "weight_map is missing or no object"),
        (map(json!({})), "weight_map is empty"),
        (map(json!({"a": 3})), "tensor a: its shard is 3; a file name is needed"),
        (map(json!({"a": "../x"})), "tensor a: its shard \"../x\" is no plain file name"),
        (map(json!({"a": "/x"})), "tensor a: its shard \"/x\" is no plain file name"),
        (map(json!({"a": "x", "b": "y", "c": "one"})), "2 of its shards are not in the folder, x first"),
        (map(json!({"a": "one", "z": "one"})), "tensor z: is listed in shard one and is not there"),
    ] {
        let folder = base().file("one", safetensors(&[tensor("a")])).file(INDEX, content);
        let error = error(folder);
        assert!(error.starts_with(INDEX) && error.contains(says), "{error}");
    }
    let twice = base()
        .file("one", safetensors(&[tensor("a"), tensor("x")]))
        .file("two", safetensors(&[tensor("b"), tensor("x")]));
    let unlisted = twice.clone().file(INDEX, map(json!({"a": "one", "b": "two"})));
    assert!(error(unlisted).contains("tensor x: is in another shard too"));
    let dir = twice.file(INDEX, map(json!({"a": "one", "b": "two", "x": "two"}))).temp("twice");
    assert_eq!(open(dir.path()).unwrap().names(), ["a", "b", "x"]);
}

#[test]
fn missing_and_wrong_tokenizers() {
    let message = |folder: Folder| open(folder.temp("hf").path()).unwrap().tokenizer().err().unwrap().to_string();
    assert!(message(base().weights(&[tensor("a")], 1)).contains("has no tokenizer.json"));
    let broken = Tiny::default().folder(1).file("tokenizer.json", "{");
    assert!(message(broken).contains("tokenizer.json: "));
    let config = Tiny::default().folder(1).file("tokenizer_config.json", "{");
    assert!(message(config).contains("tokenizer_config.json: is not valid JSON"));
}
