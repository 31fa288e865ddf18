//! Whether a value fits a schema: as much of JSON Schema as the tests use, and nothing from the code under test.

use serde_json::{Value, json};

/// Says where a value does not fit.
pub fn misfit(schema: &Value, value: &Value) -> Option<String> {
    check(schema, schema, value, "")
}

fn check(root: &Value, schema: &Value, value: &Value, at: &str) -> Option<String> {
    let wrong = |key: &str| Some(format!("at {at:?}: {value} against {key} of {schema}"));
    for (key, rule) in schema.as_object().expect("a schema") {
        let list = rule.as_array().map(Vec::as_slice).unwrap_or_default();
        let count = |n: usize, at_least: bool| {
            rule.as_u64().is_some_and(|m| if at_least { n as u64 >= m } else { n as u64 <= m })
        };
        let fits = match key.as_str() {
            "type" => list.iter().chain(rule.is_string().then_some(rule)).any(|name| is(name, value)),
            "enum" => list.contains(value),
            "const" => rule == value,
            "anyOf" => list.iter().any(|part| check(root, part, value, at).is_none()),
            "$ref" => {
                let path = rule.as_str().unwrap().strip_prefix('#').unwrap();
                return check(root, root.pointer(path).unwrap(), value, at);
            }
            "minLength" => value.as_str().is_none_or(|s| count(s.chars().count(), true)),
            "maxLength" => value.as_str().is_none_or(|s| count(s.chars().count(), false)),
            "pattern" => value.as_str().is_none_or(|s| matches(rule.as_str().unwrap(), s)),
            "minimum" => value.as_f64().is_none_or(|n| n >= rule.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|n| n <= rule.as_f64().unwrap()),
            "minItems" => value.as_array().is_none_or(|a| count(a.len(), true)),
            "maxItems" => value.as_array().is_none_or(|a| count(a.len(), false)),
            "items" => {
                let wrong =
                    value.as_array().into_iter().flatten().find_map(|v| check(root, rule, v, &format!("{at}/*")));
                if wrong.is_some() {
                    return wrong;
                }
                true
            }
            "required" => list.iter().all(|name| value.get(name.as_str().unwrap()).is_some()),
            "properties" => {
                let named = rule.as_object().unwrap().iter();
                let wrong = named
                    .filter_map(|(name, part)| Some((name, part, value.get(name)?)))
                    .find_map(|(name, part, value)| check(root, part, value, &format!("{at}/{name}")));
                if wrong.is_some() {
                    return wrong;
                }
                true
            }
            "additionalProperties" => {
                assert_eq!(rule, &json!(false));
                let names = value.as_object().into_iter().flat_map(|o| o.keys());
                names.into_iter().all(|name| schema["properties"].get(name).is_some())
            }
            "$defs" | "title" | "description" => true,
            other => panic!("the tests' checker knows no {other}"),
        };
        if !fits {
            return wrong(key);
        }
    }
    None
}

fn is(name: &Value, value: &Value) -> bool {
    match name.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|n| n.fract() == 0.0),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("no such type: {other}"),
    }
}

/// The one pattern that the tests use.
fn matches(pattern: &str, text: &str) -> bool {
    assert_eq!(pattern, "^[A-Z]{2}-[0-9]{3}$");
    let bytes = text.as_bytes();
    bytes.len() == 6
        && bytes[..2].iter().all(u8::is_ascii_uppercase)
        && bytes[2] == b'-'
        && bytes[3..].iter().all(u8::is_ascii_digit)
}

#[test]
fn the_checker_tells_what_fits() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer", "maximum": 3}}, "required": ["a"],
                        "additionalProperties": false});
    assert_eq!(misfit(&schema, &json!({"a": 3})), None);
    for value in [json!({"a": 4}), json!({}), json!({"a": 1, "b": 2}), json!({"a": "x"}), json!([])] {
        assert!(misfit(&schema, &value).is_some(), "{value}");
    }
    assert!(matches("^[A-Z]{2}-[0-9]{3}$", "AB-123") && !matches("^[A-Z]{2}-[0-9]{3}$", "AB-12x"));
}
