//! The text model inside a model that also reads images: its numbers lie in `text_config`, its tensors under a prefix. Both
//! are brought into the form of a text model alone, so that architectures need not know. What else such a checkpoint holds
//! is left out.

use serde_json::{Map, Value, json};

/// Where transformers puts the text model, with what takes its place. Later versions turned the first two around.
const PREFIXES: [(&str, &str); 3] =
    [("language_model.model.", "model."), ("model.language_model.", "model."), ("language_model.lm_head.", "lm_head.")];

/// First parts of the names of what encodes images.
const IMAGES: [&str; 6] = [
    "vision_tower.",
    "vision_model.",
    "multi_modal_projector.",
    "model.vision_tower.",
    "model.multi_modal_projector.",
    "model.visual.",
];

/// The text model's own config.json, if `json` is that of a model with several parts.
pub fn text_config(json: &Value) -> Option<Value> {
    let mut text = json.get("text_config")?.as_object()?.clone();
    let kind = text.get("model_type")?.as_str()?.to_owned();
    // What is said of the whole model holds for its parts.
    for key in ["eos_token_id", "bos_token_id", "tie_word_embeddings", "quantization_config", "torch_dtype", "dtype"] {
        if let Some(value) = json.get(key).filter(|value| !value.is_null()) {
            text.entry(key).or_insert_with(|| value.clone());
        }
    }
    for (key, value) in unsaid(&kind) {
        text.entry(key).or_insert(value);
    }
    Some(Value::Object(text))
}

/// What a `text_config` leaves out: numbers that are those of the class in transformers which reads it.
fn unsaid(kind: &str) -> Map<String, Value> {
    let numbers = match kind {
        "gemma3_text" => json!({
            "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26, "num_attention_heads": 8,
            "num_key_value_heads": 4, "head_dim": 256, "max_position_embeddings": 131072, "rms_norm_eps": 1e-6,
            "query_pre_attn_scalar": 256, "sliding_window": 4096, "rope_theta": 1e6, "rope_local_base_freq": 1e4,
        }),
        "llama" => json!({
            "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
            "max_position_embeddings": 2048, "rms_norm_eps": 1e-6,
        }),
        "mistral" => json!({
            "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
            "num_key_value_heads": 8, "max_position_embeddings": 131072, "rms_norm_eps": 1e-6,
        }),
        _ => Value::Null,
    };
    match numbers {
        Value::Object(numbers) => numbers,
        _ => Map::new(),
    }
}

/// What a tensor is called in the text model; `None` if it is of another part.
pub fn text_name(name: &str) -> Option<String> {
    if IMAGES.iter().any(|part| name.starts_with(part)) {
        return None;
    }
    let found = PREFIXES.iter().find_map(|(long, short)| Some(format!("{short}{}", name.strip_prefix(long)?)));
    Some(found.unwrap_or_else(|| name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_text_model() {
        for (name, text) in [
            ("language_model.model.layers.3.mlp.up_proj.weight", Some("model.layers.3.mlp.up_proj.weight")),
            ("model.language_model.norm.weight", Some("model.norm.weight")),
            ("language_model.lm_head.weight", Some("lm_head.weight")),
            ("lm_head.weight", Some("lm_head.weight")),
            ("vision_tower.vision_model.embeddings.patch_embedding.bias", None),
            ("model.multi_modal_projector.mm_input_projection_weight", None),
        ] {
            assert_eq!(text_name(name).as_deref(), text, "{name}");
        }
    }

    #[test]
    fn what_a_text_config_leaves_out_is_its_class() {
        let published = json!({
            "model_type": "gemma3", "eos_token_id": [1, 106],
            "text_config": {"model_type": "gemma3_text", "hidden_size": 2560, "num_hidden_layers": 34, "sliding_window": 1024},
        });
        let text = text_config(&published).unwrap();
        assert_eq!(text["hidden_size"], 2560);
        assert_eq!(text["num_attention_heads"], 8);
        assert_eq!(text["sliding_window"], 1024);
        assert_eq!(text["eos_token_id"], json!([1, 106]));
        assert_eq!(text["model_type"], "gemma3_text");
        assert!(text_config(&json!({"model_type": "llama"})).is_none());
        assert!(text_config(&json!({"model_type": "x", "text_config": {"hidden_size": 1}})).is_none());
    }
}
