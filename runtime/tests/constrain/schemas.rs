//! Whatever a model would say, what it says under a schema is JSON that fits.

use crate::common::*;
use crate::fits::misfit;
use crate::*;
use nano_runtime::{Finish, Sampling};
use serde_json::{Value, json};

fn schema(schema: Value) -> GenerateOptions {
    GenerateOptions { constraint: Some(Constraint::JsonSchema(schema)), max_new_tokens: 900, ..options() }
}

fn all() -> Vec<Value> {
    let word = json!({"type": "string", "maxLength": 5});
    let count = json!({"type": "integer", "minimum": -20, "maximum": 300});
    let tree = json!({"type": "object", "properties": {"v": count, "n": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/tree"}]}},
                      "required": ["v", "n"], "additionalProperties": false});
    vec![
        json!({"type": "boolean"}),
        json!({"enum": ["red", "grün", 3, null, {"a": [1, "x"]}]}),
        json!({"const": "only \"this\" \\ é"}),
        count.clone(),
        word.clone(),
        json!({"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"}),
        json!({"type": "string", "minLength": 2, "maxLength": 3}),
        json!({"type": ["integer", "null"], "minimum": 0, "maximum": 9}),
        json!({"type": "array", "items": count, "minItems": 2, "maxItems": 4}),
        json!({"type": "object", "properties": {"a": word, "b": count, "c": {"type": "boolean"}}, "required": ["a", "c"],
               "additionalProperties": false}),
        json!({"type": "object", "properties": {"list": {"type": "array", "items": {"type": "object",
               "properties": {"id": count, "tags": {"type": "array", "items": word, "maxItems": 2}},
               "required": ["id"], "additionalProperties": false}, "maxItems": 2}}, "required": ["list"],
               "additionalProperties": false}),
        json!({"anyOf": [{"type": "object", "properties": {"kind": {"const": "a"}, "x": word}, "required": ["kind", "x"],
               "additionalProperties": false}, {"type": "null"}]}),
        json!({"$ref": "#/$defs/tree", "$defs": {"tree": tree}}),
    ]
}

/// Says something else at every place of every reply.
fn babble(seed: u64) -> impl FnMut(&[u32]) -> u32 + Send + 'static {
    move |tokens| {
        let mix = (tokens.len() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ seed.wrapping_mul(0xD1B5_4A32_D192_ED03);
        let mix = (mix ^ (mix >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        ((mix >> 33) % (u64::from(CUT) + 1)) as u32
    }
}

#[test]
fn replies_fit_whatever_is_drawn() {
    for (number, rules) in all().into_iter().enumerate() {
        let model = Fake::new(limits(), babble(number as u64)).0.model(None);
        for seed in 0..12 {
            // The runner's logits are almost equal: almost any token that is allowed.
            let sampling = (seed > 0).then_some(Sampling { temperature: 2.0, top_k: 0, top_p: 1.0, min_p: 0.0 });
            let options = GenerateOptions { sampling, seed: Some(seed), ..schema(rules.clone()) };
            let output = model.generate(bytes("x"), model.cache(), &options).wait().unwrap();
            if output.finish == Finish::Length {
                assert!(rules.to_string().contains("$ref"), "only what recurses has no end: {}", output.text);
                continue;
            }
            let value = serde_json::from_str(&output.text).unwrap_or_else(|e| panic!("{rules}: {e}: {}", output.text));
            assert_eq!(misfit(&rules, &value), None, "{}", output.text);
        }
    }
}

#[test]
fn what_the_model_says_well_is_left_as_it_is() {
    let rules = &all()[9];
    for json in [
        r#"{"a":"x","b":7,"c":true}"#,
        r#"{"a": "é\n", "c": false}"#,
        "{\n  \"a\": \"\",\n  \"b\": -3,\n  \"c\": true\n}",
        "{\n\t\"a\": \"日本\",\n\t\"c\": true}",
    ] {
        assert_eq!(text(json, &schema(rules.clone())), json);
    }
    // Space without end is not to be had.
    let spaces = text(r#"{                       "a""#, &schema(rules.clone()));
    assert!(spaces.starts_with("{ \"a\""), "{spaces}");
    // Unless the schema says how it is written.
    let mut tight = rules.clone();
    tight["x-guidance"] = json!({"whitespace_flexible": false, "key_separator": ": ", "item_separator": ", "});
    assert_eq!(text(r#"{ "a":"x","c":true }"#, &schema(tight)), r#"{"a": "x", "b": -0, "c": false}"#);
}

#[test]
fn anything_is_json_at_least() {
    for (wish, said) in [("[1, {\"a\": null}]", "[1, {\"a\": null}]"), ("true", "true"), ("\"x\"", "\"x\"")] {
        assert_eq!(text(wish, &schema(json!(true))), said);
        assert_eq!(text(wish, &schema(json!({}))), said);
    }
}
