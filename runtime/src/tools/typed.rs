//! Arguments that come as mere text: what type they are is decided by the tool's schema, and where that says nothing, by
//! whether they are JSON.

use serde_json::{Map, Value};

/// The value of an argument that was written as text.
pub(crate) fn value(text: &str, schemas: &Map<String, Value>, tool: &str, name: &str) -> Value {
    let schema = schemas.get(tool).map_or(&Value::Null, |schema| &schema["properties"][name]);
    let mut types = Vec::new();
    collect(schema, &mut types);
    if let Some(chosen) =
        schema["enum"].as_array().and_then(|values| values.iter().find(|value| is_written(value, text)))
    {
        return chosen.clone();
    }
    // Templates write values as Python does.
    match text.trim() {
        "null" | "None" if types.contains(&"null") => return Value::Null,
        "True" if types.contains(&"boolean") && !types.contains(&"string") => return true.into(),
        "False" if types.contains(&"boolean") && !types.contains(&"string") => return false.into(),
        _ if types.contains(&"string") => return text.into(),
        _ => (),
    }
    serde_json::from_str(text.trim()).unwrap_or_else(|_| text.into())
}

/// The types that a schema allows, as far as it says.
fn collect<'a>(schema: &'a Value, types: &mut Vec<&'a str>) {
    match &schema["type"] {
        Value::String(one) => types.push(one),
        Value::Array(several) => types.extend(several.iter().filter_map(Value::as_str)),
        _ => {
            for choices in ["anyOf", "oneOf"].into_iter().filter_map(|key| schema[key].as_array()) {
                types.extend(choices.iter().filter_map(|choice| choice["type"].as_str()));
            }
        }
    }
}

fn is_written(value: &Value, text: &str) -> bool {
    match value {
        Value::String(word) => word == text,
        value => serde_json::from_str(text.trim()).is_ok_and(|other: Value| other == *value),
    }
}
