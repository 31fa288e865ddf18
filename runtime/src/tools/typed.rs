//! Arguments that come as mere text: what type they are is decided by the tool's schema, and where that says nothing, by
//! whether they are JSON.

use serde_json::{Map, Value};

/// The value of an argument that was written as text.
pub(crate) fn value(text: &str, schemas: &Map<String, Value>, tool: &str, name: &str) -> Value {
    let schema = schemas.get(tool).map_or(&Value::Null, |schema| &schema["properties"][name]);
    let mut types = Vec::new();
    collect(schema, &mut types);
    let parsed = || serde_json::from_str::<Value>(text.trim()).ok();
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
    parsed().unwrap_or_else(|| text.into())
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
    value.as_str().map_or_else(|| value.to_string() == text.trim(), |word| word == text)
}
