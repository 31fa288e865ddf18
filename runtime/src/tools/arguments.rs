//! Grammars of arguments that are written in a format's own way: in tags, as Qwen has them, and between braces, as
//! FunctionGemma and Gemma 4 do. Strings are held to their lengths and patterns, and choices are spelled out; all other
//! values are JSON, which the readers of both formats take. The readers give text that stands for a string back as it is.

use super::forced::Tool;
use super::rules::{Rules, Say, escaped, text};
use super::written::bare;
use crate::Constraint;
use serde_json::{Map, Value};

const END_PARAMETER: &str = "\n</parameter>\n";

/// What follows `<tool_call>`: the function's tag with a tag for each argument. `None`: these arguments need JSON.
pub(crate) fn tagged(tool: &Tool, rules: &mut Rules) -> Option<Vec<Say>> {
    let fields = fields(&tool.schema)?;
    let is_word =
        |name: &str| !name.is_empty() && name.len() < 128 && name.trim() == name && !name.contains(['>', '<', '\n']);
    if !is_word(tool.name) || !fields.iter().all(|field| is_word(field.name)) {
        return None;
    }
    let mut says = vec![text(format!("<function={}>\n", tool.name))];
    for field in fields {
        let open = text(format!("<parameter={}>\n", field.name));
        let value = match &field.kind {
            Kind::Json(schema) => vec![rules.json(schema), text(END_PARAMETER)],
            Kind::Quoted(_) => return None,
            Kind::Choice(values) if values.iter().any(|value| value.contains("</parameter>")) => return None,
            Kind::Choice(values) => {
                let choice = |value: &String| vec![text(format!("{value}{END_PARAMETER}"))];
                vec![rules.one_of(&values.iter().map(choice).collect::<Vec<_>>())]
            }
            Kind::Text(rule, null) => {
                let tag = escaped("</parameter>");
                let end = escaped(END_PARAMETER);
                let words = rules.terminal(&format!(
                    "{} & ~/(?s:.*){tag}(?s:.*){tag}(?s:.*)/",
                    rule.terminals("", &end).join(" & ")
                ));
                let null = null.then(|| vec![text(format!("null{END_PARAMETER}"))]);
                vec![rules.one_of(&[vec![words]].into_iter().chain(null).collect::<Vec<_>>())]
            }
        };
        let one = [vec![open], value].concat();
        let choices = if field.required { vec![one] } else { vec![one, vec![]] };
        says.push(rules.one_of(&choices));
    }
    says.push(text("</function>"));
    Some(says)
}

/// The function with its arguments between braces. `quote` is the mark around strings.
pub(crate) fn curly(tool: &Tool, quote: &'static str, rules: &mut Rules) -> Vec<Say> {
    let head = text(format!("call:{}", tool.name));
    let plain = |fields: &Vec<Field>| {
        let choices =
            fields.iter().filter_map(|field| if let Kind::Choice(values) = &field.kind { Some(values) } else { None });
        !choices.flatten().any(|value| value.contains(quote))
    };
    let Some(fields) = fields(&tool.schema).filter(plain) else {
        return vec![head, rules.json(&tool.schema)];
    };
    // Of the arguments from one on: with a comma before each that comes, or without one before the first.
    let mut more: Vec<Say> = Vec::new();
    let mut first: Vec<Say> = Vec::new();
    for field in fields.iter().rev() {
        let one = [vec![text(format!("{}:", bare(field.name)))], between_quotes(&field.kind, quote, rules)].concat();
        let one = rules.one_of(&[one]);
        let with = [vec![one.clone()], more.clone()].concat();
        let comma = [vec![text(","), one], more.clone()].concat();
        let (firsts, mores) =
            if field.required { (vec![with], vec![comma]) } else { (vec![with, first], vec![comma, more]) };
        first = vec![rules.one_of(&firsts)];
        more = vec![rules.one_of(&mores)];
    }
    [vec![head, text("{")], first, vec![text("}")]].concat()
}

fn between_quotes(kind: &Kind, quote: &'static str, rules: &mut Rules) -> Vec<Say> {
    let mark = Say::Mark(quote);
    match kind {
        Kind::Json(schema) | Kind::Quoted(schema) => vec![rules.json(schema)],
        Kind::Choice(values) => {
            let choice = |value: &String| vec![mark.clone(), text(value), mark.clone()];
            vec![rules.one_of(&values.iter().map(choice).collect::<Vec<_>>())]
        }
        Kind::Text(rule, null) => {
            let spelled = escaped(quote);
            let mut choices = Vec::new();
            if rules.is_token(quote) {
                if rule.may_be_empty() {
                    choices.push(vec![mark.clone(), mark.clone()]);
                }
                let words = rule.terminals("", "").join(" & ");
                let words = rules.terminal(&format!("{words} & /(?s:.+)/ & ~/(?s:.*){spelled}(?s:.*)/"));
                choices.push(vec![mark.clone(), words, mark]);
            } else {
                let words = rule.terminals(&spelled, &spelled).join(" & ");
                let thrice = format!("~/(?s:.*){spelled}(?s:.*){spelled}(?s:.*){spelled}(?s:.*)/");
                choices.push(vec![rules.terminal(&format!("{words} & {thrice}"))]);
            }
            choices.extend(null.then(|| vec![text("null")]));
            vec![rules.one_of(&choices)]
        }
    }
}

/// An argument.
struct Field<'a> {
    name: &'a str,
    required: bool,
    kind: Kind,
}

/// How an argument is written.
enum Kind {
    /// Any text of a kind, or else, if so it says, nothing.
    Text(TextRule, bool),
    /// One of these texts.
    Choice(Vec<String>),
    /// JSON that fits a schema.
    Json(Value),
    /// The same of strings, whose quotation marks would be taken for theirs in a tag.
    Quoted(Value),
}

/// What a string must be like.
#[derive(Default)]
struct TextRule {
    least: u64,
    most: Option<u64>,
    pattern: Option<String>,
}

impl TextRule {
    fn may_be_empty(&self) -> bool {
        self.least == 0 && self.pattern.is_none()
    }

    /// Expressions that must all match, with this at both ends.
    fn terminals(&self, before: &str, after: &str) -> Vec<String> {
        let (least, most) = (self.least, self.most.map_or(String::new(), |most| most.to_string()));
        let length =
            if least == 0 && most.is_empty() { "(?s:.*)".to_owned() } else { format!("(?s:.{{{least},{most}}})") };
        let pattern = self.pattern.as_deref().map(|pattern| {
            // Alternatives of which only one is anchored are anchored here all: fewer texts match, and those do.
            let (start, end) = (pattern.starts_with('^'), pattern.ends_with('$') && !pattern.ends_with("\\$"));
            let inner = &pattern[usize::from(start)..pattern.len() - usize::from(end)];
            let free = |anchored: bool| if anchored { "" } else { "(?s:.*)" };
            format!("{}(?:{}){}", free(start), slashed(inner), free(end))
        });
        [Some(length), pattern].into_iter().flatten().map(|part| format!("/{before}{part}{after}/")).collect()
    }
}

/// A regular expression as it can stand between slashes.
fn slashed(pattern: &str) -> String {
    let mut out = String::new();
    let mut escape = false;
    for c in pattern.chars() {
        match c {
            '/' if !escape => out += "\\/",
            '\n' => out += "\\n",
            c => out.push(c),
        }
        escape = c == '\\' && !escape;
    }
    out
}

/// The arguments of a schema that says no more than which there are. `None`: it says more.
fn fields<'a>(schema: &'a Value) -> Option<Vec<Field<'a>>> {
    let said = ["type", "properties", "required", "additionalProperties", "$defs", "definitions", "$schema", "$id"];
    let object = schema.as_object()?;
    if !object.keys().all(|key| said.contains(&key.as_str()) || is_note(key)) {
        return None;
    }
    let required: Vec<&str> =
        object.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = match object.get("properties") {
        Some(properties) => properties.as_object()?,
        None => return required.is_empty().then(Vec::new),
    };
    if !required.iter().all(|name| properties.contains_key(*name)) {
        return None;
    }
    let field = |(name, part): (&'a String, &Value)| {
        Some(Field { name, required: required.contains(&name.as_str()), kind: kind(part, object)? })
    };
    properties.iter().map(field).collect()
}

/// How a value is written that fits a schema in `root`. `None`: only the whole can be put as a schema.
fn kind(part: &Value, root: &Map<String, Value>) -> Option<Kind> {
    let whole = in_context(part, root)?;
    let Some(schema) = part.as_object() else { return Some(Kind::Json(whole)) };
    let types = |value: &Value| match &value["type"] {
        Value::Array(types) => types.clone(),
        one => vec![one.clone()],
    };
    let has = |value: &Value, kind: &str| types(value).iter().any(|one| one == kind);
    let choices = ["anyOf", "oneOf"].into_iter().find_map(|key| schema.get(key)?.as_array());
    // What the readers take for a string, they take for nothing else but null.
    let (strings, null) = match choices.filter(|_| !schema.contains_key("type")) {
        Some(choices) if choices.iter().any(|choice| has(choice, "string")) => {
            let strings: Vec<_> = choices.iter().filter(|choice| has(choice, "string")).collect();
            let alone = schema.keys().all(|key| matches!(key.as_str(), "anyOf" | "oneOf") || is_note(key));
            (strings.first().copied().filter(|_| strings.len() == 1 && alone), choices.iter().any(|c| has(c, "null")))
        }
        _ if has(part, "string") => (Some(part), has(part, "null")),
        _ if schema.get("enum").and_then(Value::as_array).is_some_and(|all| all.iter().all(Value::is_string)) => {
            (Some(part), false)
        }
        _ => return Some(Kind::Json(whole)),
    };
    Some(strings.and_then(Value::as_object).and_then(|schema| string(schema, null)).unwrap_or(Kind::Quoted(whole)))
}

/// How a string is written. `None`: there is more to say of it than a rule for texts can.
fn string(schema: &Map<String, Value>, null: bool) -> Option<Kind> {
    let said = ["type", "enum", "const", "minLength", "maxLength", "pattern"];
    if !schema.keys().all(|key| said.contains(&key.as_str()) || is_note(key)) {
        return None;
    }
    let choices =
        schema.get("enum").and_then(Value::as_array).cloned().or_else(|| Some(vec![schema.get("const")?.clone()]));
    let rule = TextRule {
        least: schema.get("minLength").map_or(Some(0), Value::as_u64)?,
        most: schema.get("maxLength").map(Value::as_u64).map_or(Some(None), |most| most.map(Some))?,
        pattern: schema.get("pattern").and_then(Value::as_str).map(str::to_owned),
    };
    let Some(choices) = choices else {
        return rule.pattern.as_deref().is_none_or(is_anchored_outside).then_some(Kind::Text(rule, null));
    };
    let texts: Vec<String> = choices.iter().filter_map(|choice| choice.as_str().map(str::to_owned)).collect();
    (!texts.is_empty() && rule.least == 0 && rule.most.is_none() && rule.pattern.is_none())
        .then_some(Kind::Choice(texts))
}

/// Whether a keyword says nothing of what fits.
fn is_note(key: &str) -> bool {
    matches!(key, "title" | "description" | "default" | "examples" | "deprecated" | "$comment")
}

/// Whether a pattern has no anchors but at its ends.
fn is_anchored_outside(pattern: &str) -> bool {
    let inner = pattern.strip_prefix('^').unwrap_or(pattern);
    let inner = inner.strip_suffix('$').filter(|inner| !inner.ends_with('\\')).unwrap_or(inner);
    let plain = inner.replace("[^", "[");
    !plain.contains(['^', '$'])
        && !["\\b", "\\B", "\\A", "\\z", "\\Z", "(?"].iter().any(|anchor| plain.contains(anchor))
}

/// A part of a schema as one by itself, with the definitions that it may refer to.
fn in_context(part: &Value, root: &Map<String, Value>) -> Option<Value> {
    let mut schema = match part {
        Value::Object(schema) => schema.clone(),
        Value::Bool(true) => Map::new(),
        _ => return None,
    };
    if part.to_string().contains("\"$ref\"") {
        for key in ["$defs", "definitions"] {
            if let Some(definitions) = root.get(key) {
                schema.insert(key.to_owned(), definitions.clone());
            }
        }
    }
    let schema = Value::Object(schema);
    (refers_to_definitions(&schema) && Constraint::JsonSchema(schema.clone()).check().is_ok()).then_some(schema)
}

/// Whether all references lead to definitions.
fn refers_to_definitions(schema: &Value) -> bool {
    match schema {
        Value::Array(list) => list.iter().all(refers_to_definitions),
        Value::Object(parts) => parts.iter().all(|(key, part)| match part {
            Value::String(target) if key == "$ref" => {
                target.starts_with("#/$defs/") || target.starts_with("#/definitions/")
            }
            part => refers_to_definitions(part),
        }),
        _ => true,
    }
}
