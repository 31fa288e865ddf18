//! Functions without Rust: a JSON file that names programs, and the parameters that they take.

use super::function::BotFunction;
use super::{BotFunctions, check_name, command};
use crate::{Error, Result};
use serde_json::{Map, Value, json};
use std::path::Path;
use std::time::Duration;

const FIELDS: &str = "name, description, parameters, command and timeout";

impl BotFunctions {
    /// The functions of a JSON file: a list of objects with `name`, `description`, `parameters` (a JSON schema of an
    /// object), `command` (a program and its arguments) and `timeout` (seconds; all but the first and the fourth may be
    /// missing).
    ///
    /// A call runs the program, without a shell, and gives it the arguments as a JSON object on its standard input.
    /// What it prints is the result. If it ends with another status than 0 the call has failed, with the last of its
    /// standard error. When its time is over it is ended, with all that it started. A program with a `/` in its name
    /// counts from the folder of the file.
    ///
    /// ```json
    /// [{"name": "say", "description": "Speaks a text.", "command": ["./say.sh", "--loud"], "timeout": 20,
    ///   "parameters": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}}]
    /// ```
    pub fn from_file(path: &Path) -> Result<Self> {
        let wrong = |problem: String| Error::FunctionsFile { path: path.to_owned(), problem };
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let value: Value = serde_json::from_str(&text).map_err(|error| wrong(format!("it is no JSON: {error}")))?;
        let Value::Array(entries) = value else { return Err(wrong("it must be a list of functions".into())) };
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut functions = Self::default();
        for (i, entry) in entries.iter().enumerate() {
            let name = entry["name"].as_str().map(|name| format!(" ({name})")).unwrap_or_default();
            let place = |(field, why): (&str, String)| match field {
                "" => wrong(format!("entry {}{name} {why}", i + 1)),
                _ => wrong(format!("field \"{field}\" of entry {}{name} {why}", i + 1)),
            };
            let function = function(entry, folder).map_err(place)?;
            if functions.get(function.name()).is_some() {
                return Err(place(("name", "is that of an earlier entry too".into())));
            }
            functions = functions.with([function])?;
        }
        Ok(functions)
    }
}

/// A field and what is wrong with it, as a phrase.
type Wrong = (&'static str, String);

fn function(entry: &Value, folder: &Path) -> std::result::Result<BotFunction, Wrong> {
    let Some(entry) = entry.as_object() else { return Err(("", "must be an object".into())) };
    let known = ["name", "description", "parameters", "command", "timeout"];
    if let Some(field) = entry.keys().find(|field| !known.contains(&field.as_str())) {
        return Err(("", format!("has a field \"{field}\"; the fields are {FIELDS}")));
    }
    let text = |field: &'static str| match entry.get(field) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err((field, "must be a string".to_owned())),
    };
    let name = text("name")?.ok_or(("name", "is missing".to_owned()))?;
    check_name(&name).map_err(|why| ("name", why.to_owned()))?;
    let description = text("description")?.unwrap_or_default();
    let command = program(entry.get("command"), folder).map_err(|why| ("command", why))?;
    let schema = parameters(entry.get("parameters")).map_err(|why| ("parameters", why))?;
    let run = move |arguments: &Map<String, Value>, end| command::run(&command, arguments, end);
    let function = BotFunction::by_schema(name, description, schema, run);
    let Some(timeout) = entry.get("timeout") else { return Ok(function) };
    let seconds = timeout.as_f64().filter(|seconds| *seconds > 0.0).map(Duration::try_from_secs_f64);
    match seconds {
        Some(Ok(timeout)) => Ok(function.with_timeout(timeout)),
        _ => Err(("timeout", "must be a number of seconds, more than 0".into())),
    }
}

/// A program with a path counts from the folder of the file, and must be there; others are looked up when called.
fn program(command: Option<&Value>, folder: &Path) -> std::result::Result<Vec<String>, String> {
    let command = command.ok_or("is missing")?;
    let words = command.as_array().filter(|words| !words.is_empty()).into_iter().flatten();
    let mut words: Vec<String> = words.filter_map(|word| word.as_str().map(str::to_owned)).collect();
    if words.len() != command.as_array().map_or(0, Vec::len) || words.first().is_none_or(String::is_empty) {
        return Err("must be a list of strings, a program and its arguments".into());
    }
    if words.iter().any(|word| word.contains('\0')) {
        return Err("must not contain the character with the code 0".into());
    }
    if words[0].contains('/') {
        let path = folder.join(&words[0]);
        let full = std::path::absolute(&path).unwrap_or(path);
        if !full.is_file() {
            return Err(format!("names a program that is not there: {}", full.display()));
        }
        words[0] = full.into_os_string().into_string().map_err(|path| format!("has no name in UTF-8: {path:?}"))?;
    }
    Ok(words)
}

fn parameters(schema: Option<&Value>) -> std::result::Result<Value, String> {
    let Some(schema) = schema else { return Ok(json!({"type": "object", "properties": {}})) };
    let fields = schema.as_object().ok_or("must be a JSON schema, an object")?;
    if fields.get("type").is_some_and(|kind| kind != "object") {
        return Err("must be a schema of an object: its \"type\" must be \"object\"".into());
    }
    let empty = Map::new();
    let properties = match fields.get("properties") {
        None => &empty,
        Some(properties) => properties.as_object().ok_or("must have an object as its \"properties\"")?,
    };
    for (name, schema) in properties {
        check_name(name).map_err(|why| format!("has a property \"{name}\" whose name {why}"))?;
        if !schema.is_object() {
            return Err(format!("has a property \"{name}\" whose schema is no object"));
        }
    }
    let required = match fields.get("required") {
        None => &[] as &[Value],
        Some(required) => required.as_array().ok_or("must have a list as its \"required\"")?,
    };
    for name in required {
        if name.as_str().is_none_or(|name| !properties.contains_key(name)) {
            return Err(format!("requires {name}, which is none of its properties"));
        }
    }
    Ok(schema.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nano_models::testing::TempDir;

    fn load(text: &str) -> (TempDir, Result<BotFunctions>) {
        let folder = TempDir::new("functions");
        let path = folder.path().join("functions.json");
        std::fs::write(&path, text).unwrap();
        // A copy would need a moment in which nothing else starts a program.
        std::os::unix::fs::symlink("/bin/cat", folder.path().join("tool")).unwrap();
        let functions = BotFunctions::from_file(&path);
        (folder, functions)
    }

    #[test]
    fn programs_are_functions() {
        let (_folder, functions) = load(
            r#"[{"name": "echo", "description": "Gives back.", "command": ["./tool", "-"], "timeout": 20,
                 "parameters": {"properties": {"text": {"type": "string"}, "n": {"type": "integer", "default": 2}},
                                "required": ["text"]}},
                {"name": "fail", "command": ["sh", "-c", "echo broken >&2; exit 2"]}]"#,
        );
        let functions = functions.unwrap();
        let echo = functions.get("echo").unwrap();
        assert_eq!(echo.signature(), "echo(text: str, n: int = 2) -> str");
        assert_eq!((echo.description(), echo.timeout()), ("Gives back.", Some(Duration::from_secs(20))));
        let report = functions.call_text("echo", "'it''s'");
        assert_eq!(report.result, Ok(Some(r#"{"text":"its","n":2}"#.into())));
        let report = functions.call_text("echo", "1");
        assert_eq!(report.result, Err("echo: the argument \"text\" must be a string, not 1".into()));
        let report = functions.call_text("fail", "");
        assert_eq!(report.result, Err("fail: its program ended with exit status: 2: broken".into()));
    }

    #[test]
    fn bad_files_are_refused_with_the_place() {
        let one = |fields: &str| format!(r#"[{{"name": "ok", "command": ["a"]}}, {{{fields}}}]"#);
        for (text, why) in [
            ("[".to_owned(), "it is no JSON: EOF while parsing"),
            ("{}".to_owned(), "it must be a list of functions"),
            ("[1]".to_owned(), "entry 1 must be an object"),
            (one(r#""command": ["a"]"#), "field \"name\" of entry 2 is missing"),
            (one(r#""name": 1, "command": ["a"]"#), "field \"name\" of entry 2 must be a string"),
            (one(r#""name": "a-b", "command": ["a"]"#), "field \"name\" of entry 2 (a-b) must be made of"),
            (one(r#""name": "ok", "command": ["a"]"#), "field \"name\" of entry 2 (ok) is that of an earlier entry"),
            (one(r#""name": "f""#), "field \"command\" of entry 2 (f) is missing"),
            (one(r#""name": "f", "command": []"#), "field \"command\" of entry 2 (f) must be a list of strings"),
            (one(r#""name": "f", "command": "ls -l""#), "must be a list of strings"),
            (one(r#""name": "f", "command": ["a", 1]"#), "must be a list of strings"),
            (one(r#""name": "f", "command": ["./none"]"#), "names a program that is not there"),
            (one(r#""name": "f", "command": ["a\u0000"]"#), "must not contain the character"),
            (
                one(r#""name": "f", "command": ["a"], "timeout": 0"#),
                "field \"timeout\" of entry 2 (f) must be a number",
            ),
            (one(r#""name": "f", "command": ["a"], "timeout": 1e300"#), "field \"timeout\""),
            (
                one(r#""name": "f", "command": ["a"], "timout": 1"#),
                "entry 2 (f) has a field \"timout\"; the fields are",
            ),
            (one(r#""name": "f", "command": ["a"], "description": 1"#), "field \"description\""),
            (
                one(r#""name": "f", "command": ["a"], "parameters": []"#),
                "field \"parameters\" of entry 2 (f) must be a JSON",
            ),
            (
                one(r#""name": "f", "command": ["a"], "parameters": {"type": "string"}"#),
                "must be a schema of an object",
            ),
            (
                one(r#""name": "f", "command": ["a"], "parameters": {"properties": []}"#),
                "an object as its \"properties\"",
            ),
            (one(r#""name": "f", "command": ["a"], "parameters": {"properties": {"a": 1}}"#), "schema is no object"),
            (
                one(r#""name": "f", "command": ["a"], "parameters": {"properties": {"a b": {}}}"#),
                "a property \"a b\" whose name",
            ),
            (
                one(r#""name": "f", "command": ["a"], "parameters": {"required": 1}"#),
                "must have a list as its \"required\"",
            ),
            (
                one(r#""name": "f", "command": ["a"], "parameters": {"required": ["x"]}"#),
                "requires \"x\", which is none",
            ),
        ] {
            let (folder, functions) = load(&text);
            let error = functions.expect_err(&text).to_string();
            assert!(error.contains(why) && error.contains("functions.json"), "{text}: {error}");
            drop(folder);
        }
        assert!(BotFunctions::from_file(Path::new("no/such.json")).unwrap_err().to_string().contains("no/such.json"));
    }
}
