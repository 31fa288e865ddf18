//! Frequencies and factors of rope are those of transformers for every scaling and spelling (scripts/golden.py rope).

use nano_models::testing::{Folder, TestTensor};
use nano_models::{Spec, open};
use serde_json::{Value, json};
use std::path::Path;

fn spec(config: &Value) -> Result<Spec, String> {
    let tensors = [TestTensor::f32("model.embed_tokens.weight", &[4, 64], &[0.0; 256])];
    let dir = Folder::default().json("config.json", config).weights(&tensors, 1).temp("rope");
    let checkpoint = open(dir.path()).map_err(|e| e.to_string())?;
    Spec::read(&*checkpoint).map_err(|e| e.to_string())
}

/// What else a config.json needs.
fn with_sizes(config: &Value) -> Value {
    let mut config = config.clone();
    config["num_hidden_layers"] = json!(1);
    config["intermediate_size"] = json!(64);
    config
}

/// The same as transformers 5 spells it.
fn new_spelling(config: &Value) -> Value {
    let mut config = config.clone();
    let map = config.as_object_mut().unwrap();
    let mut rope = map.remove("rope_scaling").unwrap();
    for key in ["rope_theta", "partial_rotary_factor"] {
        if let Some(value) = map.remove(key) {
            rope[key] = value;
        }
    }
    map.insert("rope_parameters".into(), rope);
    config
}

/// As files from before `rope_type` do.
fn old_spelling(config: &Value) -> Value {
    let mut config = config.clone();
    let rope = config["rope_scaling"].as_object_mut().unwrap();
    let kind = rope.remove("rope_type").unwrap();
    rope.insert("type".into(), if kind == "longrope" { json!("su") } else { kind });
    config
}

#[test]
fn frequencies_are_those_of_transformers() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/rope.json");
    let golden: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 15);
    for case in cases {
        let config = with_sizes(&case["config"]);
        for config in [new_spelling(&config), old_spelling(&config), config] {
            let context = case["context"].as_u64().unwrap() as usize;
            let rope = spec(&config).unwrap().for_context(context).rope;
            let near = |found: f32, expected: &Value| {
                let expected = expected.as_f64().unwrap();
                assert!(
                    (found as f64 - expected).abs() <= 4e-6 * expected,
                    "{}: {found}, not {expected}",
                    case["name"]
                );
            };
            let (found, expected) = (rope.frequencies(), case["frequencies"].as_array().unwrap());
            assert_eq!((found.len(), 2 * found.len()), (expected.len(), rope.dims), "{}", case["name"]);
            found.iter().zip(expected).for_each(|(found, expected)| near(*found, expected));
            near(rope.attention(), &case["attention"]);
        }
    }
}

#[test]
fn what_the_context_chose_is_told() {
    let factors = vec![1.0; 8];
    let config = json!({
        "model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 4096,
        "rope_scaling": {"type": "longrope", "short_factor": factors, "long_factor": factors,
            "original_max_position_embeddings": 512}
    });
    let config = with_sizes(&config);
    let rope = spec(&config).unwrap().rope;
    assert!(rope.notice().unwrap().contains("the context is 4096 tokens; up to 512 tokens"));
    assert_eq!(rope.choice().as_deref(), Some("long"));
    let rope = spec(&config).unwrap().for_context(512).rope;
    assert_eq!((rope.notice(), rope.choice()), (None, None));
}

#[test]
fn scalings_that_make_no_sense_are_refused() {
    let with = |scaling: Value| {
        let config = json!({
            "model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "rope_scaling": scaling
        });
        spec(&with_sizes(&config)).expect_err("an error is due")
    };
    for (scaling, words) in [
        (json!({"type": "alibi"}), "rope_scaling.type is \"alibi\", which is not supported; known: linear"),
        (json!({"type": "yarn", "factor": -1.0}), "rope_scaling.factor is -1; a positive number is needed"),
        (json!({"type": "dynamic"}), "rope_scaling.factor is missing"),
        (
            json!({"type": "longrope", "short_factor": [1.0], "long_factor": [1.0]}),
            "rope_scaling.short_factor holds 1 factors; 8 positive ones are needed",
        ),
        (
            json!({"type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 1.0}),
            "rope_scaling.low_freq_factor is 4; less than high_freq_factor (1) is needed",
        ),
    ] {
        let error = with(scaling);
        assert!(error.contains(words), "{error}");
    }
}
