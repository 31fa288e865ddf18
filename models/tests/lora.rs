//! LoRA adapters merged while loading: logits of transformers with PEFT's own merging, onto both containers; and what is
//! refused.

mod session;

use nano_kernels::KvFormat;
use nano_kernels::cpu::Cpu;
use nano_models::{Checkpoint, Lora, Quantization, fingerprint, merge, open};
use serde_json::Value;
use session::{Session, argmax, floats, ids};
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name)
}

fn adapter(name: &str, scale: f32) -> Lora {
    Lora { path: golden("lora").join(name), scale }
}

fn merged(base: &str, adapters: &[Lora]) -> nano_models::Result<Box<dyn Checkpoint>> {
    merge(open(&golden(base)).unwrap(), adapters)
}

#[test]
fn merged_adapters_give_their_authors_logits() {
    let expected: Value = serde_json::from_slice(&std::fs::read(golden("lora/expected.json")).unwrap()).unwrap();
    let cases = expected["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 3);
    for case in cases {
        let list = case["adapters"].as_array().unwrap().iter();
        let adapters: Vec<Lora> =
            list.map(|a| adapter(a[0].as_str().unwrap(), a[1].as_f64().unwrap() as f32)).collect();
        for base in ["tiny/plain", "tiny/plain/model.gguf"] {
            let checkpoint = merged(base, &adapters).unwrap();
            let backend = Cpu::new(2).unwrap();
            let mut session = Session::of(backend, &*checkpoint, Some(Quantization::F32), KvFormat::F32);
            let rows = session.feed(&ids(&case["tokens"]));
            let limit = 1e-3 * case["logits_std"].as_f64().unwrap() as f32;
            let expected = floats(&case["logits"]);
            let worst = rows.last().unwrap().iter().zip(&expected).map(|(f, e)| (f - e).abs()).fold(0.0, f32::max);
            assert!(worst <= limit, "{base} with {adapters:?}: off by {worst:e}, limit {limit:e}");
            assert_eq!(rows.iter().map(|row| argmax(row)).collect::<Vec<_>>(), ids(&case["pos_argmax"]), "{base}");
        }
    }
}

#[test]
fn a_merged_tensor_keeps_its_format() {
    for (base, name, format) in [
        ("tiny/bf16", "model.layers.0.self_attn.q_proj.weight", "BF16"),
        ("tiny/quantized/model.gguf", "blk.0.attn_q.weight", "Q4_0"),
    ] {
        let checkpoint = merged(base, &[adapter("dora", 1.0)]).unwrap();
        assert_eq!(checkpoint.info(name).unwrap().format.name(), format, "{base}");
        let tensor = checkpoint.tensor(name).unwrap().unwrap();
        assert_eq!(tensor.format.name(), format);
        assert_ne!(tensor.to_f32(), open(&golden(base)).unwrap().tensor(name).unwrap().unwrap().to_f32());
        assert!(checkpoint.notices().iter().any(|n| n.contains("merged into")), "{:?}", checkpoint.notices());
    }
}

#[test]
fn another_adapter_is_another_model() {
    let of = |adapters: &[Lora]| fingerprint(&*merged("tiny/plain", adapters).unwrap()).unwrap();
    let all = [of(&[]), of(&[adapter("lora", 1.0)]), of(&[adapter("lora", 0.5)]), of(&[adapter("dora", 1.0)])];
    for (i, one) in all.iter().enumerate() {
        assert!(!all[..i].contains(one), "{all:?}");
    }
    assert_eq!(of(&[adapter("lora", 0.5)]), all[2]);
}

#[test]
fn adapters_of_woven_experts_are_refused() {
    let (folder, lora) = changed("lora", "target_parameters", serde_json::json!(["mlp.experts.down_proj"]));
    let module = "base_model.model.model.layers.0.mlp.experts";
    let tensors = [("lora_A", [2, 16]), ("lora_B", [32, 2])].map(|(part, dims)| {
        let name = format!("{module}.{part}.weight");
        nano_models::testing::TestTensor::f32(&name, &dims, &vec![0.5; dims[0] * dims[1]])
    });
    std::fs::write(folder.join("adapter_model.safetensors"), nano_models::testing::safetensors(&tensors)).unwrap();
    for base in ["tiny/gpt-oss", "tiny/gpt-oss/model.gguf", "tiny/gpt-oss-mxfp4"] {
        let error = merged(base, std::slice::from_ref(&lora)).err().expect("refused").to_string();
        assert!(
            error.contains("changes model.layers.0.mlp.experts.weight") && error.contains("does not have"),
            "{error}"
        );
    }
    std::fs::remove_dir_all(folder).unwrap();
}

/// A copy of an adapter with its configuration changed.
fn changed(name: &str, key: &str, value: Value) -> (PathBuf, Lora) {
    let folder = std::env::temp_dir().join(format!("nano-lora-{}-{key}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = "adapter_model.safetensors";
    std::fs::copy(golden("lora").join(name).join(file), folder.join(file)).unwrap();
    let config = std::fs::read(golden("lora").join(name).join("adapter_config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&config).unwrap();
    config[key] = value;
    std::fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
    (folder.clone(), Lora { path: folder, scale: 1.0 })
}

#[test]
fn what_cannot_be_merged_is_refused() {
    let refuses = |base: &str, lora: &Lora, says: &[&str]| {
        let error = merged(base, std::slice::from_ref(lora)).err().expect("refused").to_string();
        assert!(says.iter().all(|part| error.contains(part)), "{error}");
    };
    refuses("tiny/plain", &Lora { path: golden("tiny/plain"), scale: 1.0 }, &["adapter_config.json", "PEFT"]);
    refuses("tiny/plain", &Lora { path: golden("nowhere"), scale: 1.0 }, &["nowhere"]);
    // A model of other sizes, and one without such a module.
    refuses("tiny/head-dim", &adapter("lora", 1.0), &["adapter_model.safetensors", "the model makes it"]);
    refuses("tiny/phi3", &adapter("dora", 1.0), &["k_proj", "does not have"]);
    for (key, value, says) in [
        ("peft_type", Value::from("IA3"), "LORA is read"),
        ("fan_in_fan_out", Value::from(true), "not supported"),
        ("lora_alpha", Value::from("x"), "a number is needed"),
        ("alpha_pattern", serde_json::json!({"q_proj": "x"}), "alpha_pattern"),
    ] {
        let (folder, lora) = changed("lora", key, value);
        refuses("tiny/plain", &lora, &["adapter_config.json", says]);
        std::fs::remove_dir_all(folder).unwrap();
    }
    let (folder, lora) = changed("lora", "r", Value::from(1));
    let file = folder.join("adapter_model.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    refuses("tiny/plain", &lora, &["adapter_model.safetensors", "cut short"]);
    std::fs::remove_file(&file).unwrap();
    refuses("tiny/plain", &lora, &["neither adapter_model.safetensors nor"]);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn paths_may_say_a_scale() {
    for (text, path, scale) in
        [("a/b", "a/b", 1.0), ("a/b:0.5", "a/b", 0.5), ("a:b", "a:b", 1.0), ("a:b:2", "a:b", 2.0)]
    {
        assert_eq!(text.parse::<Lora>().unwrap(), Lora { path: path.into(), scale }, "{text}");
    }
    assert!("".parse::<Lora>().is_err() && "a:nan".parse::<Lora>().is_err() && ":1".parse::<Lora>().is_err());
}
