//! JSON schemas of parameters, as far as calls need them: types, values of an enum, lists, required properties, bounds.
//! Where a schema says nothing, or something that is not understood here, every value will do.

use super::argument::{not, whole};
use super::literal::written;
use serde_json::Value;

/// Checks a value. The error is a phrase that follows the argument's name.
pub(super) fn check(schema: &Value, value: &Value) -> Result<(), String> {
    if let Some(allowed) = schema["enum"].as_array().filter(|allowed| !allowed.contains(value)) {
        return Err(not(&format!("one of {}", listed(allowed)), value));
    }
    let types = types(schema);
    if !types.is_empty() && !types.iter().any(|name| is(name, value)) {
        let needed: Vec<&str> = types.iter().map(|name| phrase(name)).collect();
        return Err(not(&needed.join(" or "), value));
    }
    if let Some(number) = value.as_f64() {
        if let Some(least) = schema["minimum"].as_f64().filter(|least| number < *least) {
            return Err(not(&format!("{least} or more"), value));
        }
        if let Some(most) = schema["maximum"].as_f64().filter(|most| number > *most) {
            return Err(not(&format!("{most} or less"), value));
        }
    }
    if let (Some(items), Some(values)) = (schema.get("items"), value.as_array()) {
        for (i, value) in values.iter().enumerate() {
            check(items, value).map_err(|why| format!("at position {i} {why}"))?;
        }
    }
    if let Some(map) = value.as_object() {
        let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        for name in required {
            if !map.contains_key(name) {
                return Err(format!("must have \"{name}\""));
            }
        }
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            if let Some(value) = map.get(name) {
                check(schema, value).map_err(|why| format!("at \"{name}\" {why}"))?;
            }
        }
    }
    Ok(())
}

/// Name of the type in a Python signature.
pub(super) fn annotation(schema: &Value) -> String {
    if let Some(allowed) = schema["enum"].as_array() {
        return format!("Literal[{}]", listed(allowed));
    }
    let name = |name: &&str| match *name {
        "string" => "str".to_owned(),
        "integer" => "int".to_owned(),
        "number" => "float".to_owned(),
        "boolean" => "bool".to_owned(),
        "object" => "dict".to_owned(),
        "null" => "None".to_owned(),
        "array" => match schema.get("items").map(annotation) {
            Some(items) if items != "Any" => format!("list[{items}]"),
            _ => "list".to_owned(),
        },
        _ => "Any".to_owned(),
    };
    let names: Vec<String> = types(schema).iter().map(name).collect();
    if names.is_empty() { "Any".to_owned() } else { names.join(" | ") }
}

/// A value that would do, for an example.
pub(super) fn sample(schema: &Value) -> Value {
    if let Some(first) = schema["enum"].as_array().and_then(|allowed| allowed.first()) {
        return first.clone();
    }
    if let Some(default) = schema.get("default") {
        return default.clone();
    }
    let bound = |name: &str, value: Option<f64>| value.map(|_| schema[name].clone());
    match types(schema).first().copied() {
        Some("integer" | "number") => bound("minimum", schema["minimum"].as_f64().filter(|least| *least > 1.0))
            .or_else(|| bound("maximum", schema["maximum"].as_f64().filter(|most| *most < 1.0)))
            .unwrap_or_else(|| 1.into()),
        Some("boolean") => true.into(),
        Some("array") => Value::Array(schema.get("items").map(sample).into_iter().collect()),
        Some("object") => Value::Object(serde_json::Map::new()),
        Some("null") => Value::Null,
        _ => "text".into(),
    }
}

/// Whether a schema allows None by name.
pub(super) fn allows_null(schema: &Value) -> bool {
    types(schema).contains(&"null") || schema["enum"].as_array().is_some_and(|allowed| allowed.contains(&Value::Null))
}

fn types(schema: &Value) -> Vec<&str> {
    match &schema["type"] {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn is(name: &str, value: &Value) -> bool {
    match name {
        "string" => value.is_string(),
        "integer" => whole(value).is_some(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        _ => true,
    }
}

fn phrase(name: &str) -> &str {
    match name {
        "string" => "a string",
        "integer" => "an integer",
        "number" => "a number",
        "boolean" => "True or False",
        "array" => "a list",
        "object" => "a dict",
        "null" => "None",
        other => other,
    }
}

fn listed(values: &[Value]) -> String {
    values.iter().map(written).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_checked() {
        let schema = json!({"type": "object", "required": ["a"], "properties": {
            "a": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 9}},
            "b": {"enum": ["x", "y"]},
            "c": {"type": ["string", "null"]},
            "d": {"$ref": "#/elsewhere"},
        }});
        for value in [json!({"a": []}), json!({"a": [0, 9, 3.0], "b": "x", "c": null, "d": 1, "e": 2})] {
            assert_eq!(check(&schema, &value), Ok(()), "{value}");
        }
        for (value, why) in [
            (json!([]), "must be a dict, not []"),
            (json!({}), "must have \"a\""),
            (json!({"a": [1, "2"]}), "at \"a\" at position 1 must be an integer, not \"2\""),
            (json!({"a": [-1]}), "at \"a\" at position 0 must be 0 or more, not -1"),
            (json!({"a": [10]}), "at \"a\" at position 0 must be 9 or less, not 10"),
            (json!({"a": [], "b": "z"}), "at \"b\" must be one of \"x\", \"y\", not \"z\""),
            (json!({"a": [], "c": 1}), "at \"c\" must be a string or None, not 1"),
        ] {
            assert_eq!(check(&schema, &value), Err(why.to_owned()), "{value}");
        }
    }

    #[test]
    fn annotations_and_samples() {
        for (schema, name, value) in [
            (json!({}), "Any", json!("text")),
            (json!({"type": "integer"}), "int", json!(1)),
            (json!({"type": "number", "minimum": 5}), "float", json!(5)),
            (json!({"type": "number", "maximum": -5}), "float", json!(-5)),
            (json!({"type": ["boolean", "null"]}), "bool | None", json!(true)),
            (json!({"type": "array", "items": {"type": "string"}}), "list[str]", json!(["text"])),
            (json!({"type": "array"}), "list", json!([])),
            (json!({"type": "string", "enum": ["a", "b"]}), "Literal[\"a\", \"b\"]", json!("a")),
            (json!({"type": "string", "default": "C"}), "str", json!("C")),
        ] {
            assert_eq!((annotation(&schema).as_str(), sample(&schema)), (name, value.clone()), "{schema}");
            assert_eq!(check(&schema, &value), Ok(()));
        }
    }
}
