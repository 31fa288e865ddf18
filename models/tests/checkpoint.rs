//! Checkpoints that are right: what the readers say of files whose content is known. The GGUF files and the values
//! expected of them were made with the `gguf` Python package (scripts/golden_gguf.py).

use nano_models::checkpoint::{from_bytes, gguf};
use nano_models::testing::{Folder, GgufWriter, Parrot, TempDir, TestTensor, Tiny};
use nano_models::{Checkpoint, Config, Container, Error, open};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/gguf").join(name)
}

#[test]
fn tensors_as_the_gguf_package_wrote_them() {
    for name in ["tensors", "aligned64"] {
        let checkpoint = open(&golden(&format!("{name}.gguf"))).unwrap();
        let expected: Value = serde_json::from_slice(&std::fs::read(golden(&format!("{name}.json"))).unwrap()).unwrap();
        let expected = expected.as_object().unwrap();
        let mut names: Vec<&str> = expected.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(checkpoint.names(), names);
        assert_eq!(names.len(), 19);
        for (name, e) in expected {
            let info = checkpoint.info(name).unwrap();
            let tensor = checkpoint.tensor(name).unwrap().unwrap();
            assert_eq!(info.format.name(), e["format"], "{name}");
            assert_eq!(
                (info.rows as u64, info.cols as u64),
                (e["rows"].as_u64().unwrap(), e["cols"].as_u64().unwrap()),
                "{name}"
            );
            assert_eq!((tensor.rows, tensor.cols, tensor.format), (info.rows, info.cols, info.format), "{name}");
            assert_eq!(info.bytes, tensor.bytes.len(), "{name}");
            let hex: String = tensor.bytes.iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(hex, e["hex"].as_str().unwrap(), "{name}");
            checkpoint.release(name);
            assert_eq!(
                checkpoint.tensor(name).unwrap().unwrap().bytes,
                tensor.bytes,
                "{name}: released bytes can be read"
            );
        }
    }
}

#[test]
fn every_type_of_metadata() {
    let checkpoint = open(&golden("metadata.gguf")).unwrap();
    let c = checkpoint.config();
    assert_eq!((c.architecture(), c.container()), ("llama", Container::Gguf));
    assert_eq!(c.usize("num_hidden_layers", "block_count").unwrap(), 3);
    assert_eq!(c.opt_f32("rope_theta", "rope.freq_base").unwrap(), Some(500000.0));

    let header = gguf::parse(Path::new("x"), &std::fs::read(golden("metadata.gguf")).unwrap()).unwrap();
    let value = |key: &str| header.values.get(key).unwrap().clone();
    use gguf::Value as V;
    assert_eq!(value("t.u8"), V::Unsigned(200));
    assert_eq!(value("t.i8"), V::Signed(-100));
    assert_eq!(value("t.u16"), V::Unsigned(60000));
    assert_eq!(value("t.i16"), V::Signed(-30000));
    assert_eq!(value("t.u32"), V::Unsigned(4_000_000_000));
    assert_eq!(value("t.i32"), V::Signed(-2_000_000_000));
    assert_eq!(value("t.u64"), V::Unsigned(1 << 60));
    assert_eq!(value("t.i64"), V::Signed(-(1 << 60)));
    assert_eq!(value("t.f32"), V::Float(f64::from(0.1f32)));
    assert_eq!(value("t.f64"), V::Float(0.1));
    assert_eq!((value("t.yes"), value("t.no")), (V::Bool(true), V::Bool(false)));
    assert_eq!(value("t.text"), V::Text("grüße 👋\n".into()));
    let V::Array(texts) = value("t.texts") else { panic!("a list is expected") };
    assert_eq!((texts.kind, texts.len), (gguf::Kind::Text, 3));
}

#[test]
fn lists_of_gguf() {
    let bytes = GgufWriter::new("llama")
        .value("llama.sizes", vec![1, 2, 3])
        .value("llama.minus", vec![-1])
        .value("llama.floats", vec![0.5f32, -1.5])
        .value("llama.texts", vec!["a".to_owned(), String::new(), "größer".to_owned()])
        .bytes();
    let checkpoint = from_bytes(Path::new("m.gguf"), bytes).unwrap();
    let c = checkpoint.config();
    assert_eq!(c.opt_usizes("", "sizes").unwrap(), Some(vec![1, 2, 3]));
    assert_eq!(c.opt_f32s("", "sizes").unwrap(), Some(vec![1.0, 2.0, 3.0]));
    assert_eq!(c.opt_f32s("", "floats").unwrap(), Some(vec![0.5, -1.5]));
    assert_eq!(c.opt_strs("", "texts").unwrap().unwrap(), ["a", "", "größer"]);
    let error = c.opt_usizes("", "minus").unwrap_err().to_string();
    assert_eq!(error, "m.gguf: llama.minus holds -1; a list of whole numbers of 0 or more is needed");
    let error = c.usize("", "sizes").unwrap_err().to_string();
    assert_eq!(error, "m.gguf: llama.sizes is a list; a whole number of 0 or more is needed");
    assert_eq!(c.opt_usizes("x", "").unwrap(), None);
}

fn config(json: Value) -> Config {
    Config::from_json(Path::new("m/config.json"), json).unwrap()
}

#[test]
fn lookups_in_config_json() {
    let c = config(json!({
        "model_type": "llama", "hidden_size": 64, "rope_parameters": {"rope_theta": 1e4, "factor": null},
        "sliding_window": null, "tie_word_embeddings": true, "dtype": "bfloat16", "layer_types": ["full", "sliding"],
        "minus": -1, "half": 0.5, "floats": [1, 2.5], "mixed": [1, "a"]
    }));
    assert_eq!((c.architecture(), c.container()), ("llama", Container::HuggingFace));
    assert_eq!(c.usize("hidden_size", "embedding_length").unwrap(), 64);
    assert_eq!(c.opt_f32("rope_parameters.rope_theta", "").unwrap(), Some(10000.0));
    assert_eq!(c.opt_f32("rope_theta|rope_parameters.rope_theta", "rope.freq_base").unwrap(), Some(10000.0));
    assert_eq!(c.opt_f32("rope_parameters.factor", "").unwrap(), None);
    assert_eq!(c.opt_usize("sliding_window", "").unwrap(), None);
    assert!(!c.has("sliding_window", "") && c.has("dtype", ""));
    assert_eq!(c.opt_bool("tie_word_embeddings", "").unwrap(), Some(true));
    assert_eq!(c.opt_str("torch_dtype|dtype", "").unwrap(), Some("bfloat16"));
    assert_eq!(c.opt_strs("layer_types", "").unwrap().unwrap(), ["full", "sliding"]);
    assert_eq!(c.opt_f32s("floats", "").unwrap(), Some(vec![1.0, 2.5]));
    assert_eq!(c.opt_usize("", "block_count").unwrap(), None);

    let message = |e: Error| e.to_string();
    assert_eq!(c.usize("num_layers|n_layer", "").map_err(message), Err("m/config.json: num_layers is missing".into()));
    let wrong = "a whole number of 0 or more is needed";
    assert_eq!(
        c.usize("dtype", "").map_err(message),
        Err(format!("m/config.json: dtype is the text \"bfloat16\"; {wrong}"))
    );
    assert_eq!(c.usize("minus", "").map_err(message), Err(format!("m/config.json: minus is -1; {wrong}")));
    assert_eq!(c.usize("half", "").map_err(message), Err(format!("m/config.json: half is 0.5; {wrong}")));
    assert!(c.opt_f32("rope_parameters", "").is_err());
    let mixed = c.opt_f32s("mixed", "").map_err(message);
    assert_eq!(mixed, Err("m/config.json: mixed holds the text \"a\"; a list of numbers is needed".into()));
    assert!(matches!(Config::from_json(Path::new("c"), json!([])), Err(Error::File { .. })));
    assert!(matches!(Config::from_json(Path::new("c"), json!({})), Err(Error::MissingKey { .. })));
}

#[test]
fn tiny_is_the_same_model_in_both_containers() {
    let tiny = Tiny { bias: true, ..Tiny::default() };
    let gguf = from_bytes(Path::new("tiny.gguf"), tiny.gguf()).unwrap();
    for shards in [1, 3] {
        let dir = tiny.folder(shards).temp("tiny");
        let hf = open(dir.path()).unwrap();
        assert_eq!(hf.container(), Container::HuggingFace);
        assert_eq!(hf.names().len(), gguf.names().len());
        for (a, b) in [
            ("model.embed_tokens.weight", "token_embd.weight"),
            ("model.layers.1.mlp.up_proj.weight", "blk.1.ffn_up.weight"),
        ] {
            assert_eq!(hf.tensor(a).unwrap().unwrap().bytes, gguf.tensor(b).unwrap().unwrap().bytes, "{a}");
        }
        // The rows of q stand in another order in GGUF: the first pair of a head is its rows 0 and half.
        let (q, other) = ("model.layers.0.self_attn.q_proj.weight", "blk.0.attn_q.weight");
        let (q, other) = (hf.tensor(q).unwrap().unwrap(), gguf.tensor(other).unwrap().unwrap());
        assert_eq!((q.row(0), q.row(8), q.row(1)), (other.row(0), other.row(1), other.row(2)));
        for (hf_key, gguf_key) in [("hidden_size", "embedding_length"), ("head_dim", "attention.key_length")] {
            assert_eq!(hf.config().usize(hf_key, gguf_key).unwrap(), gguf.config().usize(hf_key, gguf_key).unwrap());
        }
        assert_eq!(hf.chat_template().unwrap(), gguf.chat_template().unwrap());
        assert!(hf.chat_template().unwrap().unwrap().contains("<|im_start|>"));
        let text = "user hello world ünï <|im_end|>";
        use nano_models::Control::Parse;
        let ids = hf.tokenizer().unwrap().encode(text, Parse).unwrap();
        assert_eq!(ids, gguf.tokenizer().unwrap().encode(text, Parse).unwrap());
        assert_eq!(hf.tokenizer().unwrap().decode(&ids).unwrap(), text);
        for name in hf.names() {
            hf.release(name);
        }
    }
}

#[test]
fn parrots_know_their_lines() {
    let parrot = Parrot::new(&[&["Hello", " there", "!"], &["Bye", "."]]).words(&["word"]);
    let gguf = from_bytes(Path::new("parrot.gguf"), parrot.gguf()).unwrap();
    let dir = parrot.temp_folder();
    let hf = open(dir.path()).unwrap();
    for checkpoint in [&gguf, &hf] {
        let tokenizer = checkpoint.tokenizer().unwrap();
        assert_eq!(tokenizer.decode(&parrot.ids(0)).unwrap(), "Hello there!");
        assert_eq!(tokenizer.encode("Hello there!", nano_models::Control::Parse).unwrap(), parrot.ids(0));
        assert_eq!(tokenizer.encode("word", nano_models::Control::Parse).unwrap(), [parrot.id("word").unwrap()]);
        assert!(tokenizer.stop().contains(&parrot.id("<|im_end|>").unwrap()));
        assert_eq!(says(checkpoint.as_ref(), parrot.id("<|reply0|>").unwrap()), parrot.ids(0));
        assert_eq!(says(checkpoint.as_ref(), parrot.id("<|reply1|>").unwrap()), parrot.ids(1));
        assert_eq!(says(checkpoint.as_ref(), parrot.id("\n").unwrap()), parrot.ids(0));
        assert_eq!(checkpoint.chat_template().unwrap(), Some(parrot.template()));
    }
}

/// What greedy decoding says after a token, since the layer adds nothing: the head's row that likes its embedding most.
fn says(checkpoint: &dyn Checkpoint, after: u32) -> Vec<u32> {
    let either = |a: &str, b: &str| checkpoint.tensor(a).unwrap().or(checkpoint.tensor(b).unwrap()).unwrap();
    let embed = either("token_embd.weight", "model.embed_tokens.weight");
    let head = either("output.weight", "lm_head.weight");
    let value = |row: &[u8], i: usize| f32::from_le_bytes(row[4 * i..4 * i + 4].try_into().unwrap());
    let ends = checkpoint.tokenizer().unwrap().stop().to_vec();
    let mut out = Vec::new();
    let mut token = after as usize;
    loop {
        let hot = (0..embed.cols).find(|i| value(embed.row(token), *i) == 1.0).unwrap();
        let liked: Vec<usize> = (0..head.rows).filter(|r| value(head.row(*r), hot) > 0.0).collect();
        assert_eq!(liked.len(), 1);
        token = liked[0];
        if ends.contains(&(token as u32)) {
            return out;
        }
        out.push(token as u32);
    }
}

#[test]
#[should_panic(expected = "each token before one other")]
fn parrots_refuse_what_they_cannot_say() {
    Parrot::new(&[&["a", " b", "a", " c"]]).gguf();
}

#[test]
fn folders_with_one_gguf_and_trailing_slashes() {
    let dir = TempDir::new("one-gguf");
    let file = dir.write("model.gguf", Tiny::default().gguf());
    let slashed = PathBuf::from(format!("{}//", dir.path().display()));
    assert_eq!(open(&slashed).unwrap().path(), file);
    // A config.json beside it, as many GGUF repositories have, changes nothing.
    dir.write("config.json", "{}");
    assert_eq!(open(dir.path()).unwrap().container(), Container::Gguf);
    std::fs::remove_file(dir.path().join("config.json")).unwrap();
    dir.write("other.gguf", "");
    let error = open(dir.path()).err().unwrap().to_string();
    assert!(error.contains("several models; name one of model.gguf, other.gguf"), "{error}");

    let dir = Tiny::default().folder(1).temp("slash");
    let slashed = PathBuf::from(format!("{}/", dir.path().display()));
    assert_eq!(open(&slashed).unwrap().path(), dir.path());
}

#[test]
fn chat_templates_of_folders() {
    let template = |folder: Folder| {
        let dir = folder.temp("template");
        open(dir.path()).unwrap().chat_template().map_err(|e| e.to_string())
    };
    let base = Tiny::default().folder(1);
    let config = |template: Value| base.clone().json("tokenizer_config.json", &json!({"chat_template": template}));
    let named = |names: &[&str]| {
        Value::from(names.iter().map(|n| json!({"name": n, "template": format!("T {n}")})).collect::<Vec<_>>())
    };
    assert_eq!(template(config(json!("one"))), Ok(Some("one".into())));
    assert_eq!(template(config(Value::Null)), Ok(None));
    assert_eq!(template(config(named(&["tool_use", "default"]))), Ok(Some("T default".into())));
    assert_eq!(template(config(named(&["rag"]))), Ok(Some("T rag".into())));
    assert!(template(config(named(&["a", "b"]))).unwrap_err().contains("no \"default\" among a, b"));
    assert!(template(config(json!(7))).unwrap_err().contains("chat_template is neither"));
    assert_eq!(template(config(json!("one")).file("chat_template.jinja", "two")), Ok(Some("two".into())));
    let json = config(Value::Null).json("chat_template.json", &json!({"chat_template": "three"}));
    assert_eq!(template(json), Ok(Some("three".into())));
    assert!(template(config(json!("one")).file("chat_template.jinja", [0xff])).unwrap_err().contains("not UTF-8"));
}

#[test]
fn stop_tokens_of_folders() {
    let base = Tiny::default().folder(1);
    let dir = base.json("generation_config.json", &json!({"eos_token_id": [257, 258, 257]})).temp("stop");
    // Both files count; the tokenizer may know more by their spelling.
    let stop = open(dir.path()).unwrap().tokenizer().unwrap().stop().to_vec();
    assert_eq!([257, 258].map(|id| stop.iter().filter(|s| **s == id).count()), [1, 1]);
    dir.write("generation_config.json", r#"{"eos_token_id": "x"}"#);
    let error = open(dir.path()).unwrap().tokenizer().err().unwrap().to_string();
    assert!(error.contains("generation_config.json: eos_token_id holds \"x\""), "{error}");
}

#[test]
fn halves_and_floats_of_safetensors() {
    use nano_kernels::Format;
    let of = |name: &str, format: Format, bytes: &[u8]| TestTensor {
        name: name.into(),
        format,
        dims: vec![1, 2],
        bytes: bytes.into(),
    };
    let tensors = [
        of("f16", Format::F16, &[1, 2, 3, 4]),
        of("bf16", Format::Bf16, &[5, 6, 7, 8]),
        of("f32", Format::F32, &[9; 8]),
    ];
    let dir = Folder::default().json("config.json", &json!({"model_type": "x"})).weights(&tensors, 1).temp("dtypes");
    let checkpoint = open(dir.path()).unwrap();
    for t in &tensors {
        let found = checkpoint.tensor(&t.name).unwrap().unwrap();
        assert_eq!((found.format, found.rows, found.cols, &found.bytes[..]), (t.format, 1, 2, &t.bytes[..]));
    }
    assert!(checkpoint.tensor("none").unwrap().is_none());
}
