//! What cannot be enforced is refused, in words, before anything is fed.

use crate::common::*;
use crate::*;
use nano_runtime::Error;
use serde_json::{Value, json};

/// Refused with these words, nothing fed, and the model goes on.
fn refused(constraint: Constraint, words: &[&str]) {
    let (model, log) = wishes("ok");
    let options = GenerateOptions { constraint: Some(constraint.clone()), ..options() };
    let error = model.generate(tokens("x"), model.cache(), &options).wait().unwrap_err();
    assert!(matches!(error, Error::Constraint { .. }), "{constraint:?}: {error}");
    let sentence = error.to_string();
    for word in words {
        assert!(sentence.contains(word), "{word:?} is not in: {sentence}");
    }
    assert!(!sentence.contains('\n') && sentence.len() < 400 && !sentence.contains("llguidance"), "{sentence}");
    assert_eq!(log.lock().unwrap().rows(), 0, "{sentence}");
    let free = GenerateOptions::default();
    assert_eq!(model.generate(tokens("x"), model.cache(), &free).wait().unwrap().text, "ok");
}

#[test]
fn schemas() {
    let nested = |levels: usize| (0..levels).fold(json!({"type": "null"}), |inner, _| json!({"items": inner}));
    let chain = |links: usize| {
        let link =
            |i: usize| (format!("l{i}"), json!({"type": "array", "items": {"$ref": format!("#/$defs/l{}", i + 1)}}));
        let mut defs: serde_json::Map<String, Value> = (0..links).map(link).collect();
        defs.insert(format!("l{links}"), json!({"type": "null"}));
        json!({"$ref": "#/$defs/l0", "$defs": defs})
    };
    for (schema, words) in [
        (
            json!({"type": "object", "properties": {"a": {"not": {"type": "null"}}}}),
            &["JSON schema", "#/properties/a", "not"][..],
        ),
        (json!({"items": {"uniqueItems": true}}), &["#/items", "uniqueItems"]),
        (json!({"$defs": {"d": {"if": true}}, "$ref": "#/$defs/d"}), &["#/$defs/d", "keyword if"]),
        (json!({"type": "objekt"}), &["objekt"]),
        (json!({"type": "string", "format": "postcode"}), &["postcode"]),
        (json!({"type": "string", "pattern": "(a"}), &["at #", "(a", "unclosed group"]),
        (json!({"type": "string", "pattern": "a(?=b)"}), &["look-around"]),
        (json!({"patternProperties": {"[": true}}), &["at #", "["]),
        (json!({"items": {"pattern": "a?".repeat(10_000)}}), &["#/items", "20000 bytes"]),
        (json!({"oneOf": [{"minimum": 1}, {"maximum": 3}]}), &["oneOf"]),
        (json!({"$ref": "#/$defs/x"}), &["#/$defs/x", "nowhere"]),
        (json!({"$ref": "other.json"}), &["other.json", "not followed"]),
        (json!({"$ref": 1}), &["$ref"]),
        // Recursion that never ends, at once and in every object.
        (json!({"$ref": "#"}), &["no token"]),
        (json!({"type": "integer", "minimum": 5, "maximum": 3}), &["5", "3"]),
        (json!({"enum": []}), &["nothing fits"]),
        (json!(false), &["nothing fits"]),
        (json!([1]), &["a list"]),
        (json!("object"), &["a text"]),
        (json!({"items": 3}), &["#/items", "a number"]),
        (json!({"const": 9007199254740993u64}), &["#/const", "9007199254740993"]),
        (json!({"enum": [{"a": [-9007199254740993i64]}]}), &["#/enum", "exactly"]),
        (json!({"maximum": u64::MAX}), &["#/maximum"]),
        (json!({"prefixItems": [true], "additionalItems": false}), &["prefixItems"]),
        (json!({"$schema": "http://json-schema.org/draft-07/schema#", "prefixItems": [true]}), &["prefixItems"]),
        (json!({"type": "object", "minProperties": 3}), &["minProperties"]),
        (json!({"not": true, "x-guidance": {"lenient": true}}), &["lenient"]),
        (json!({"oneOf": [true, true], "x-guidance": {"coerce_one_of": true}}), &["coerce_one_of"]),
        (json!({"x-guidance": {"colour": 1}}), &["colour"]),
        (nested(70), &["nests", "64"]),
        (json!({"enum": (0..30_000).collect::<Vec<u32>>()}), &["parts"]),
        (chain(15_000), &["parts"]),
        // Every branch is met by every other one: a million of them.
        (
            json!({"allOf": vec![json!({"anyOf": (0..10).map(|i| json!({"properties": {format!("p{i}"): {"type": "string"}}})).collect::<Vec<_>>()}); 6]}),
            &["large"],
        ),
    ] {
        refused(Constraint::JsonSchema(schema), words);
    }
}

#[test]
fn a_long_chain_of_references_is_walked() {
    // Whoever follows it calls itself at every link.
    const LINKS: usize = 1_500;
    let shapes: [fn(Value) -> Value; 4] = [
        |next| json!({"type": "array", "items": next}),
        |next| json!({"allOf": [next]}),
        |next| json!({"anyOf": [next]}),
        |next| json!({"type": "object", "properties": {"a": next}}),
    ];
    for shape in shapes {
        let link = |i: usize| (format!("l{i}"), shape(json!({"$ref": format!("#/$defs/l{}", i + 1)})));
        let mut defs: serde_json::Map<String, Value> = (0..LINKS).map(link).collect();
        defs.insert(format!("l{LINKS}"), json!({"type": "null"}));
        let schema = json!({"$ref": "#/$defs/l0", "$defs": defs});
        let options =
            GenerateOptions { constraint: Some(Constraint::JsonSchema(schema)), max_new_tokens: 3, ..options() };
        match written("x", &options) {
            Ok(output) => assert!(output.text.starts_with(['[', 'n', '{']), "{}", output.text),
            Err(error) => assert!(matches!(error, Error::Constraint { .. }), "{error}"),
        }
    }
}

#[test]
fn regular_expressions() {
    let deep = format!("{}a{}", "(".repeat(300), ")".repeat(300));
    let long = "a?".repeat(10_000);
    for (pattern, words) in [
        ("(a", &["regular expression", "unclosed group"][..]),
        ("a(?=b)", &["look-around"]),
        (r"(a)\1", &["backreference"]),
        ("a^b", &["lookarounds"]),
        ("[z-a]", &["range"]),
        ("", &["empty"]),
        (r"[a&&b]", &["no token"]),
        (&deep, &["nest", "250"]),
        (&long, &["20000 bytes", "16384"]),
        // Tokens of this vocabulary cannot write the byte 255.
        (r"(?-u:\xff)", &[]),
    ] {
        refused(Constraint::Regex(pattern.into()), words);
    }
}

#[test]
fn grammars() {
    let long = "start: \"a\"\n".repeat(10_000);
    for (grammar, words) in [
        ("start: \"a\" foo", &["grammar", "line 1", "foo"][..]),
        ("start: \"a\"\nfoo: (", &["line 2", "column 7"]),
        ("start: \"a\"\n\nfoo: \"b", &["line 3"]),
        ("foo: \"a\"", &["start"]),
        ("", &["start"]),
        ("start: \"\"", &["empty"]),
        ("start: start \"a\"", &["no token"]),
        ("start: <|nope|>", &["<|nope|>"]),
        ("start: <[9999]>", &["9999"]),
        ("start: /a(?=b)/", &["line 1", "look-around"]),
        ("start: %json {\"type\": \"objekt\"}", &["objekt"]),
        ("start: %json {", &["%json"]),
        ("start: @other", &["other"]),
        (&long, &["110000 bytes"]),
    ] {
        refused(Constraint::Grammar(grammar.into()), words);
    }
}

#[test]
fn a_pattern_that_explodes_while_it_is_written_ends_its_reply_only() {
    // Which of the last 40 letters were an a: 2^40 states, one more with each letter.
    let (model, _) = wishes("x");
    let letters = "ab".repeat(200);
    let (fake, _) = Fake::new(limits(), says(1, bytes(&letters)));
    let wild = fake.model(None);
    let options = GenerateOptions { max_new_tokens: 400, ..regex("[ab]*a[ab]{40}(a[ab]{60}b)+[ab]*c") };
    match wild.generate(tokens("x"), wild.cache(), &options).wait() {
        Ok(output) => assert!(output.text.starts_with("abab")),
        Err(error) => assert!(matches!(error, Error::Constraint { .. }), "{error}"),
    }
    assert_eq!(wild.generate(tokens("x"), wild.cache(), &regex("yes")).wait().unwrap().text, "yes");
    drop(model);
}
