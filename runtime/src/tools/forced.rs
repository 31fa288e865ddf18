//! Answers that must be calls: grammars in which a format's models can write nothing but calls of the tools that there are,
//! with arguments that fit. What such an answer says is read by the format's own reader; what cannot be read back as it
//! was meant is refused here. How arguments are written that are no JSON is in `arguments`.

use super::arguments;
use super::harmony::{self, CHANNEL, MESSAGE};
use super::rules::{Rules, Say, closed, rule, text};
use super::{ParserOptions, Piece, StreamParser, ToolCall, ToolFormat, deepseek, mistral};
use crate::{Constraint, Error, Result, ToolChoice};
use serde_json::{Map, Value};
use std::sync::Arc;

/// Calls in one answer.
const MOST: usize = 8;

/// A tool that may be called.
pub(crate) struct Tool<'a> {
    pub(crate) name: &'a str,
    /// The schema of its arguments.
    pub(crate) schema: Value,
}

impl ToolFormat {
    /// The constraint that makes an answer calls from its first token on: one call of the tool of that name, or one or more
    /// of any. `inside_reasoning`: the answer begins inside reasoning, which is closed first. `token` gives the number of
    /// the control token of a spelling.
    pub(crate) fn forced(
        self,
        tools: &[Value],
        choice: &ToolChoice,
        inside_reasoning: bool,
        token: impl Fn(&str) -> Option<u32>,
    ) -> Result<Constraint> {
        let chosen: Vec<_> = chosen(tools, choice).collect();
        chosen.iter().try_for_each(|tool| self.check(tool))?;
        if chosen.is_empty() {
            return Err(Error::Option {
                name: "tool_choice",
                found: match choice {
                    ToolChoice::Named(name) => name.clone(),
                    _ => "required".to_owned(),
                },
                need: "there must be a tool to call, and it must be one of those that are offered",
            });
        }
        let most = if matches!(choice, ToolChoice::Named(_)) { 1 } else { MOST };
        let mut rules = Rules::new(&token);
        let mut says = if inside_reasoning { self.closing() } else { Vec::new() };
        says.extend(self.calls(&chosen, most, &mut rules));
        let constraint = rules.start(&says);
        let checked = constraint.check();
        match &chosen[..] {
            [tool] => named(tool.name, checked)?,
            _ => checked?,
        }
        Ok(constraint)
    }

    /// Tokens that begin a call and nothing else, of those that the vocabulary has: without them there are no calls. Some
    /// formats have none.
    pub(crate) fn forbidden(self, has_token: impl Fn(&str) -> bool) -> Vec<&'static str> {
        let opens = self.dialect().map_or(&[][..], |dialect| dialect.opens);
        opens.iter().copied().filter(|open| has_token(open)).collect()
    }

    /// Looks for what can be refused without a vocabulary.
    fn check(self, tool: &Tool) -> Result<()> {
        let Tool { name, schema } = tool;
        if !self.reads(&self.write(&[call(name)]), name) {
            return Err(refused(name, &format!("models of the format {self} cannot write its name")));
        }
        if schema.get("type").is_some_and(|kind| kind != "object") {
            return Err(refused(name, "the schema of its parameters is of another type than object"));
        }
        named(name, Constraint::JsonSchema(schema.clone()).check())
    }

    /// Whether this text is read as a call of a tool.
    fn reads(self, text: &str, name: &str) -> bool {
        let schemas = Arc::new([(name.to_owned(), Value::Object(Map::new()))].into_iter().collect());
        let mut parser = StreamParser::new(self, ParserOptions { schemas, ..ParserOptions::default() });
        let mut pieces = parser.push(text);
        pieces.extend(parser.finish());
        pieces == [Piece::Call(call(name))]
    }

    /// What ends reasoning.
    fn closing(self) -> Vec<Say> {
        match self.dialect().and_then(|dialect| dialect.thoughts.first()) {
            Some((_, close)) => vec![text("\n"), Say::Mark(close), text("\n\n")],
            None => vec![Say::Mark(harmony::END), Say::Mark(harmony::START), text("assistant")],
        }
    }

    /// One call or more.
    fn calls(self, tools: &[Tool], most: usize, rules: &mut Rules) -> Vec<Say> {
        match self {
            Self::Json | Self::Gemma => {
                let key = if self == Self::Json { "arguments" } else { "parameters" };
                let one = objects(tools, key, rules);
                if most == 1 {
                    return vec![one];
                }
                let list = series(&[], std::slice::from_ref(&one), &[text(", ")], &[], most, rules);
                vec![rules.one_of(&[vec![one], vec![text("["), list, text("]")]])]
            }
            Self::Llama3 => {
                let one = objects(tools, "parameters", rules);
                let calls = series(&[], &[one], &[text("; ")], &[], most, rules);
                let tag = rules.one_of(&[vec![], vec![Say::Mark("<|python_tag|>")]]);
                if rules.is_token("<|python_tag|>") { vec![tag, calls] } else { vec![calls] }
            }
            Self::Mistral => {
                let named = |tool: &Tool| self.reads(&format!("[TOOL_CALLS]{}[ARGS]{{}}", tool.name), tool.name);
                if rules.is_token(mistral::ARGS) && tools.iter().all(named) {
                    let head = |tool: &Tool| vec![text(tool.name), Say::Mark(mistral::ARGS)];
                    let one = each(tools, rules, |tool, rules| [head(tool), vec![rules.json(&tool.schema)]].concat());
                    return vec![series(&[Say::Mark(mistral::CALLS)], &[one], &[], &[], most, rules)];
                }
                let one = objects(tools, "arguments", rules);
                let list = series(&[], &[one], &[text(", ")], &[], most, rules);
                let space = rules.one_of(&[vec![], vec![text(" ")]]);
                vec![Say::Mark(mistral::CALLS), space, text("["), list, text("]")]
            }
            Self::Hermes => {
                let one = objects(tools, "arguments", rules);
                let (open, close) = ([Say::Mark("<tool_call>"), text("\n")], [text("\n"), Say::Mark("</tool_call>")]);
                vec![series(&open, &[one], &[text("\n")], &close, most, rules)]
            }
            Self::Qwen => {
                let one = each(tools, rules, |tool, rules| {
                    arguments::tagged(tool, rules).unwrap_or_else(|| object(tool, "arguments", rules))
                });
                let (open, close) = ([Say::Mark("<tool_call>"), text("\n")], [text("\n"), Say::Mark("</tool_call>")]);
                vec![series(&open, &[one], &[text("\n")], &close, most, rules)]
            }
            Self::DeepSeek => {
                let one = each(tools, rules, |tool, rules| {
                    let json = rules.json(&tool.schema);
                    // As R1 has it, and as V3.1 does: the marks are the same.
                    let first = [
                        text("function"),
                        Say::Mark(deepseek::SEPARATOR),
                        text(format!("{}\n```json\n", tool.name)),
                        json.clone(),
                        text("\n```"),
                    ];
                    let later = [text(tool.name), Say::Mark(deepseek::SEPARATOR), json];
                    vec![rules.one_of(&[first.to_vec(), later.to_vec()])]
                });
                let (open, close) = ([Say::Mark(deepseek::CALL_BEGIN)], [Say::Mark(deepseek::CALL_END)]);
                let between = rules.one_of(&[vec![], vec![text("\n")]]);
                let calls = series(&open, &[one], &[between], &close, most, rules);
                vec![Say::Mark(deepseek::CALLS_BEGIN), calls, Say::Mark(deepseek::CALLS_END)]
            }
            Self::Harmony => vec![each(tools, rules, |tool, rules| {
                vec![
                    Say::Mark(CHANNEL),
                    text(format!("commentary to=functions.{} ", tool.name)),
                    Say::Mark(harmony::CONSTRAIN),
                    text("json"),
                    Say::Mark(MESSAGE),
                    rules.json(&tool.schema),
                    Say::Mark(harmony::CALL),
                ]
            })],
            Self::FunctionGemma | Self::Gemma4 => {
                let (open, close, quote) = match self {
                    Self::Gemma4 => ("<|tool_call>", "<tool_call|>", "<|\"|>"),
                    _ => ("<start_function_call>", "<end_function_call>", "<escape>"),
                };
                let one = each(tools, rules, |tool, rules| arguments::curly(tool, quote, rules));
                vec![series(&[Say::Mark(open)], &[one], &[], &[Say::Mark(close)], most, rules)]
            }
            Self::Phi4 => {
                let one = objects(tools, "arguments", rules);
                let list = series(&[], &[one], &[text(", ")], &[], most, rules);
                let token = rules.is_token("<|tool_call|>");
                let open = Say::Mark(if token { "<|tool_call|>" } else { "functools" });
                // Granite has no mark for the end.
                let close = rules.is_token("<|/tool_call|>").then_some(Say::Mark("<|/tool_call|>"));
                [open, text("["), list, text("]")].into_iter().chain(close).collect()
            }
        }
    }
}

/// Tries the schemas of the tools that may be called: what a whole grammar is refused for does not name the tool.
pub(crate) fn try_schemas(
    tools: &[Value],
    choice: &ToolChoice,
    check: impl Fn(&Constraint) -> Result<()>,
) -> Result<()> {
    chosen(tools, choice).try_for_each(|tool| named(tool.name, check(&Constraint::JsonSchema(tool.schema))))
}

/// The tools that may be called.
fn chosen<'a>(tools: &'a [Value], choice: &'a ToolChoice) -> impl Iterator<Item = Tool<'a>> {
    let tool = |tool: &'a Value| {
        let function = tool.get("function").unwrap_or(tool);
        let name = function.get("name").and_then(Value::as_str).unwrap_or_default();
        Tool { name, schema: closed(function.get("parameters")) }
    };
    tools.iter().map(tool).filter(move |tool| !matches!(choice, ToolChoice::Named(name) if name != tool.name))
}

/// An error about a tool's schema, with the tool's name.
fn named(name: &str, result: Result<()>) -> Result<()> {
    match result {
        Err(Error::Constraint { problem, .. }) => Err(refused(name, &problem)),
        other => other,
    }
}

fn refused(name: &str, problem: &str) -> Error {
    Error::Function { name: name.to_owned(), problem: format!("a call of it cannot be forced: {problem}") }
}

fn call(name: &str) -> ToolCall {
    ToolCall { id: None, name: name.to_owned(), arguments: Map::new() }
}

/// A rule for a call of any of the tools.
fn each(tools: &[Tool], rules: &mut Rules, mut write: impl FnMut(&Tool, &mut Rules) -> Vec<Say>) -> Say {
    let calls: Vec<_> = tools.iter().map(|tool| write(tool, rules)).collect();
    rules.one_of(&calls)
}

/// The same for calls that are objects in JSON.
fn objects(tools: &[Tool], key: &str, rules: &mut Rules) -> Say {
    each(tools, rules, |tool, rules| object(tool, key, rules))
}

fn object(tool: &Tool, key: &str, rules: &mut Rules) -> Vec<Say> {
    let head = format!("{{\"name\": {}, \"{key}\": ", Value::from(tool.name));
    vec![text(head), rules.json(&tool.schema), text("}")]
}

/// Calls one after the other.
fn series(open: &[Say], one: &[Say], between: &[Say], close: &[Say], most: usize, rules: &mut Rules) -> Say {
    let first = [open, one, close].concat();
    if most == 1 {
        return rules.one_of(&[first]);
    }
    let next = rules.one_of(&[[between, &first].concat()]);
    let Say::Rule(next) = next else { return next };
    let more = rule(format!("{next}{{0,{}}}", most - 1));
    rules.one_of(&[[&first[..], &[more]].concat()])
}

#[cfg(test)]
#[path = "forced_tests.rs"]
mod tests;
