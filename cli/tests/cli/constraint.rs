//! Replies that must look like something, as flags ask for it.

use super::harness::{HELLO, Model, parrot};
use serde_json::{Value, json};

/// Says [`HELLO`] where it may.
fn model() -> Model {
    Model::new(&parrot().words(&["{", "}", "\"", ":", " now", "1"]))
}

#[test]
fn flags_hold_the_reply() {
    let model = model();
    let file = |name: &str, text: &str| model.dir.write(name, text).to_str().unwrap().to_owned();
    let schema =
        r#"{"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"], "additionalProperties": false}"#;
    let (schema_file, grammar_file) = (file("schema.json", schema), file("say.lark", "start: \"Hello\" \" now\"\n"));
    for (flag, value, said) in [
        ("--regex", "Hello (there|now)!", HELLO),
        ("--regex", "-?Hello now", "Hello now"),
        ("--grammar", "start: \"Hello\" /[a-z ]+/ \"!\"", HELLO),
        ("--grammar", grammar_file.as_str(), "Hello now"),
    ] {
        let ran = model.run(&["-p", "hi", "--disable-stats", flag, value], "").succeeded();
        assert_eq!(ran.text().trim_end(), said, "{flag} {value}");
    }
    let ran = model.run(&["complete", "-p", "Hello", "--disable-stats", "--regex", " (now|there)[.!]"], "").succeeded();
    assert_eq!(ran.text().trim_end(), " there!");
    for command in ["chat", "complete"] {
        for schema in [schema, schema_file.as_str()] {
            let ran = model.run(&[command, "-p", "hi", "--json", "--json-schema", schema], "").succeeded();
            let events = ran.events();
            let (done, texts) = events.split_last().unwrap();
            let text: String = texts.iter().map(|event| event["text"].as_str().unwrap()).collect();
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), json!({"a": 1}), "{text}");
            let stats = &done["stats"];
            let (all, worst) = (stats["mask_time"].as_f64().unwrap(), stats["worst_mask_time"].as_f64().unwrap());
            assert!(worst > 0.0 && all >= worst, "{stats}");
        }
    }
}

#[test]
fn what_cannot_be_held_is_told_before_anything_is_said() {
    let model = model();
    let file = |name: &str, text: &[u8]| model.dir.write(name, text).to_str().unwrap().to_owned();
    let broken = file("broken.json", b"{\"type\": ");
    let refused = file("refused.json", b"{\"type\": \"array\", \"uniqueItems\": true}");
    let bytes = file("bytes.lark", b"start: \"\xff\"");
    let lark = file("bad.lark", b"start: \"a\"\nfoo: (");
    for (flag, value, words) in [
        ("--json-schema", "nowhere.json", &["--json-schema nowhere.json", "cannot be read"][..]),
        ("--json-schema", &broken, &["--json-schema", "broken.json", "not JSON"]),
        ("--json-schema", &refused, &["--json-schema", "refused.json", "uniqueItems"]),
        ("--json-schema", "{\"type\": 3}", &["--json-schema: ", "JSON schema cannot be enforced"]),
        ("--regex", "(a", &["--regex: ", "regular expression", "unclosed group"]),
        ("--grammar", "nowhere.lark", &["--grammar nowhere.lark", "cannot be read"]),
        ("--grammar", &bytes, &["bytes.lark", "UTF-8"]),
        ("--grammar", &lark, &["bad.lark", "line 2, column 7"]),
        ("--grammar", "start: foo", &["--grammar: ", "line 1", "foo"]),
    ] {
        for command in ["chat", "complete"] {
            let ran = model.run(&[command, "-p", "hi", flag, value], "").failed_with(words);
            assert!(ran.stdout.is_empty(), "{flag} {value}");
        }
    }
    for pair in [["--regex", "--grammar"], ["--regex", "--json-schema"], ["--grammar", "--json-schema"]] {
        model.run(&["-p", "hi", pair[0], "a", pair[1], "b"], "").failed_with(&[pair[0], pair[1]]);
    }
}
