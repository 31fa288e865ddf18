//! Writing grammars in llguidance's form of Lark, piece by piece: text, marks of a format, schemas and rules by name.

use crate::Constraint;
use crate::constrain::embedded;
use serde_json::{Map, Value, json};

/// A piece of what a rule says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Say {
    /// These letters.
    Text(String),
    /// A mark of the format: a control token where the vocabulary has one, else these letters.
    Mark(&'static str),
    /// What another rule says, or an expression.
    Rule(String),
}

pub(crate) fn text(text: impl Into<String>) -> Say {
    Say::Text(text.into())
}

pub(crate) fn rule(name: impl Into<String>) -> Say {
    Say::Rule(name.into())
}

/// The rules of a grammar.
pub(crate) struct Rules<'a> {
    /// The number of a control token.
    token: &'a dyn Fn(&str) -> Option<u32>,
    text: String,
    count: usize,
}

impl<'a> Rules<'a> {
    pub(crate) fn new(token: &'a dyn Fn(&str) -> Option<u32>) -> Self {
        Self { token, text: String::new(), count: 0 }
    }

    /// Whether a mark is a token of its own.
    pub(crate) fn is_token(&self, mark: &str) -> bool {
        (self.token)(mark).is_some()
    }

    /// The expression that says all of this.
    pub(crate) fn all(&self, says: &[Say]) -> String {
        let mut words: Vec<String> = Vec::new();
        let mut letters = String::new();
        for say in says {
            let word = match say {
                Say::Text(text) => {
                    letters += text;
                    continue;
                }
                Say::Mark(mark) => match (self.token)(mark) {
                    None => {
                        letters += mark;
                        continue;
                    }
                    // By number: some are spelled as no name of a grammar can be.
                    Some(id) => format!("<[{id}]>"),
                },
                Say::Rule(name) => name.clone(),
            };
            words.extend(literal(&letters));
            letters.clear();
            words.push(word);
        }
        words.extend(literal(&letters));
        if words.is_empty() { "\"\"".to_owned() } else { words.join(" ") }
    }

    /// A new rule that says one of these.
    pub(crate) fn one_of(&mut self, choices: &[Vec<Say>]) -> Say {
        let choices: Vec<_> = choices.iter().map(|says| self.all(says)).collect();
        let name = self.name("r");
        self.text += &format!("{name}: {}\n", choices.join(" | "));
        rule(name)
    }

    /// A new rule for JSON that fits a schema.
    pub(crate) fn json(&mut self, schema: &Value) -> Say {
        let name = self.name("j");
        let mut schema = schema.clone();
        if let Value::Object(schema) = &mut schema {
            // Calls are written on one line, as templates show them: what was said need not be fed again.
            schema.entry("x-guidance").or_insert_with(|| json!({"whitespace_pattern": " "}));
        }
        self.text += &format!("{name}: %json {}\n", embedded(&schema));
        rule(name)
    }

    /// A new terminal: text that matches this expression of terminals.
    pub(crate) fn terminal(&mut self, expression: &str) -> Say {
        let name = self.name("T");
        self.text += &format!("{name}: {expression}\n");
        rule(name)
    }

    /// The grammar that begins with this.
    pub(crate) fn start(self, says: &[Say]) -> Constraint {
        Constraint::Grammar(format!("start: {}\n{}", self.all(says), self.text))
    }

    fn name(&mut self, kind: &str) -> String {
        self.count += 1;
        format!("{kind}_{}", self.count)
    }
}

/// Text as a grammar spells it. `None`: it is empty.
pub(crate) fn literal(text: &str) -> Option<String> {
    // The grammar's strings are those of JSON, without this one control character.
    (!text.is_empty()).then(|| Value::from(text).to_string().replace('\u{7f}', "\\u007f"))
}

/// Text as a regular expression between slashes.
pub(crate) fn escaped(text: &str) -> String {
    regex::escape(text).replace('/', "\\/").replace('\n', "\\n")
}

/// A schema of arguments in which a call may not have others than those that are declared: nobody could use them.
pub(crate) fn closed(parameters: Option<&Value>) -> Value {
    let mut schema = match parameters {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(schema)) => schema.clone(),
        Some(other) => return other.clone(),
    };
    if !schema.contains_key("$ref") {
        schema.entry("type").or_insert_with(|| "object".into());
    }
    let open = ["additionalProperties", "patternProperties", "allOf", "anyOf", "oneOf", "$ref"];
    if !open.iter().any(|key| schema.contains_key(*key)) {
        schema.insert("additionalProperties".to_owned(), false.into());
    }
    Value::Object(schema)
}
