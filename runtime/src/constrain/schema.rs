//! What a JSON schema may ask for. llguidance refuses most of what it cannot enforce, without saying where; here the place
//! is found first, and what it would let pass is refused as well.

use serde_json::{Map, Value, json};
use std::collections::HashSet;

/// Schemas within schemas, and values in lists of values.
const MAX_PARTS: usize = 20_000;
/// How deep they nest without references.
const MAX_DEPTH: usize = 64;
/// Whole numbers up to here are exact where they are compared.
const MAX_EXACT: u64 = 1 << 53;
/// Between two values: a space, or a line break and what indents the next line. Small models would go on with more of it
/// until their reply is full.
pub(super) const WHITE_SPACE: &str = r" |\n(?: {0,24}|\t{0,12})";
pub(super) const ONE_SPACE: &str = " ";
/// An object with settings of llguidance's.
const SETTINGS: &str = "x-guidance";

/// Keywords that say something about the text and are not enforced.
const REFUSED: [&str; 16] = [
    "not",
    "if",
    "then",
    "else",
    "contains",
    "minContains",
    "maxContains",
    "uniqueItems",
    "propertyNames",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "unevaluatedItems",
    "unevaluatedProperties",
    "$dynamicRef",
    "$recursiveRef",
];
/// Keywords that hold a schema, a list of schemas, and schemas by name.
const ONE: [&str; 3] = ["items", "additionalItems", "additionalProperties"];
const LISTS: [&str; 5] = ["allOf", "anyOf", "oneOf", "prefixItems", "items"];
const MAPS: [&str; 2] = ["properties", "patternProperties"];

/// Looks for what cannot be enforced, in all that the schema refers to.
pub(super) fn check(schema: &Value) -> Result<(), String> {
    if let Some(settings) = schema.get(SETTINGS) {
        let lax = ["lenient", "coerce_one_of"].into_iter().find(|name| settings[*name] == json!(true));
        if let Some(name) = lax {
            return Err(format!("{name} in its {SETTINGS} would leave out what cannot be enforced"));
        }
    }
    let mut walk = Walk { root: schema, seen: HashSet::new(), refs: Vec::new(), parts: 0 };
    walk.schema(schema, "#", 0)?;
    while let Some((reference, from)) = walk.refs.pop() {
        let target = walk.resolve(&reference, &from)?;
        walk.schema(target, &reference, 0)?;
    }
    Ok(())
}

/// The schema, with how white space is written unless it says so itself.
pub(super) fn with_white_space(schema: &Value, white_space: &str) -> Value {
    let mut schema = match schema {
        Value::Bool(true) => json!({}),
        other => other.clone(),
    };
    if let Value::Object(object) = &mut schema {
        let settings = object.entry(SETTINGS).or_insert_with(|| json!({}));
        if let Value::Object(settings) = settings
            && !settings.contains_key("whitespace_flexible")
        {
            settings.entry("whitespace_pattern").or_insert_with(|| white_space.into());
        }
    }
    schema
}

struct Walk<'a> {
    root: &'a Value,
    /// References that were found, and those of them that were not followed yet, with the place where they stand.
    seen: HashSet<&'a str>,
    refs: Vec<(String, String)>,
    parts: usize,
}

impl<'a> Walk<'a> {
    fn schema(&mut self, schema: &'a Value, at: &str, depth: usize) -> Result<(), String> {
        self.count(at, depth)?;
        let object = match schema {
            Value::Object(object) => object,
            Value::Bool(_) => return Ok(()),
            other => {
                return Err(format!("at {at}: a schema is an object, true or false, and this is {}", short(other)));
            }
        };
        self.keywords(object, at)?;
        for (key, value) in object {
            let place = format!("{at}/{key}");
            match value {
                Value::Array(list) if LISTS.contains(&key.as_str()) => {
                    for (index, part) in list.iter().enumerate() {
                        self.schema(part, &format!("{place}/{index}"), depth + 1)?;
                    }
                }
                Value::Object(parts) if MAPS.contains(&key.as_str()) => {
                    for (name, part) in parts {
                        self.schema(part, &format!("{place}/{name}"), depth + 1)?;
                    }
                }
                _ if ONE.contains(&key.as_str()) => self.schema(value, &place, depth + 1)?,
                _ if matches!(key.as_str(), "const" | "enum") => self.value(value, &place, depth + 1)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Looks at a schema's own keywords.
    fn keywords(&mut self, object: &'a Map<String, Value>, at: &str) -> Result<(), String> {
        if let Some(key) = REFUSED.into_iter().find(|key| object.contains_key(*key)) {
            return Err(format!(
                "at {at}: the keyword {key} is not enforced; leave it out, and check for it afterwards"
            ));
        }
        if let Some(reference) = object.get("$ref") {
            let reference = reference.as_str().ok_or_else(|| format!("at {at}: $ref is no text"))?;
            if self.seen.insert(reference) {
                self.refs.push((reference.to_owned(), at.to_owned()));
            }
        }
        // The list would be left out.
        let old = object.contains_key("additionalItems") || object.get("items").is_some_and(Value::is_array);
        if object.contains_key("prefixItems") && (old || self.is_old()) {
            return Err(format!(
                "at {at}: prefixItems belongs to a newer kind of schema than additionalItems, a list of \
                                items or the schema that $schema names"
            ));
        }
        // The same key could be written again and again.
        let required = object.get("required").and_then(Value::as_array).map_or(0, Vec::len);
        let closed =
            object.get("additionalProperties") == Some(&json!(false)) && !object.contains_key("patternProperties");
        if object.get("minProperties").and_then(Value::as_u64).is_some_and(|min| min > 1.max(required as u64))
            && !closed
        {
            return Err(format!("at {at}: minProperties is enforced only with additionalProperties: false"));
        }
        for pattern in
            object.get("pattern").and_then(Value::as_str).into_iter().chain(keys(object, "patternProperties"))
        {
            super::check_text(pattern, super::MAX_REGEX).map_err(|why| format!("at {at}: the pattern: {why}"))?;
            if let Err(regex::Error::Syntax(error)) = regex::Regex::new(pattern) {
                let why = error.lines().find_map(|line| line.strip_prefix("error: ")).unwrap_or("it cannot be read");
                return Err(format!("at {at}: the pattern {pattern:?}: {why}"));
            }
        }
        let limits = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"];
        limits.into_iter().filter_map(|key| Some((key, object.get(key)?))).try_for_each(|(key, value)| {
            if is_exact(value) { Ok(()) } else { Err(inexact(value, &format!("{at}/{key}"))) }
        })
    }

    /// Looks at a value that must be written as it is.
    fn value(&mut self, value: &Value, at: &str, depth: usize) -> Result<(), String> {
        self.count(at, depth)?;
        match value {
            Value::Array(list) => list.iter().try_for_each(|value| self.value(value, at, depth + 1)),
            Value::Object(object) => object.values().try_for_each(|value| self.value(value, at, depth + 1)),
            value if !is_exact(value) => Err(inexact(value, at)),
            _ => Ok(()),
        }
    }

    fn count(&mut self, at: &str, depth: usize) -> Result<(), String> {
        self.parts += 1;
        if self.parts > MAX_PARTS {
            return Err(format!("it has more than {MAX_PARTS} parts"));
        }
        if depth > MAX_DEPTH {
            // The place itself would fill the screen.
            let start: String = at.chars().take(60).collect();
            return Err(format!("at {start}…: it nests more than {MAX_DEPTH} deep"));
        }
        Ok(())
    }

    /// Whether the schema says that it is of a kind from before 2020.
    fn is_old(&self) -> bool {
        let kind = self.root.get("$schema").and_then(Value::as_str);
        kind.is_some_and(|kind| kind.contains("draft-0") || kind.contains("2019-09"))
    }

    /// What a reference points to, without escapes, as llguidance reads it.
    fn resolve(&self, reference: &str, from: &str) -> Result<&'a Value, String> {
        if matches!(reference, "#" | "#/") {
            return Ok(self.root);
        }
        let Some(path) = reference.strip_prefix("#/") else {
            return Err(format!(
                "at {from}: the reference {reference:?} is not followed; only those that begin with #/ are"
            ));
        };
        let found = path.split('/').try_fold(self.root, |value, part| match value {
            Value::Array(list) => list.get(part.parse::<usize>().ok()?),
            value => value.get(part),
        });
        found.ok_or_else(|| format!("at {from}: the reference {reference:?} leads nowhere; escapes in it are not read"))
    }
}

fn keys<'a>(object: &'a Map<String, Value>, key: &str) -> impl Iterator<Item = &'a str> {
    object.get(key).and_then(Value::as_object).into_iter().flat_map(|map| map.keys().map(String::as_str))
}

fn is_exact(value: &Value) -> bool {
    match value.as_u64().or_else(|| value.as_i64().map(i64::unsigned_abs)) {
        Some(number) => number <= MAX_EXACT,
        None => true,
    }
}

fn inexact(value: &Value, at: &str) -> String {
    format!("at {at}: {value} is too large to be compared exactly; whole numbers go up to {MAX_EXACT}")
}

fn short(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
