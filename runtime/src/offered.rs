//! What a conversation offers its model to call, and how its replies are read: in the format that the template or the
//! vocabulary speaks of, or in JSON that the model is told of in words.

use crate::chat::ChatHistory;
use crate::prompt::hide_strings;
use crate::reading::{Reader, Reading, next_number};
use crate::tools::{self, ToolFormat};
use crate::transcript::Told;
use crate::{Error, GenerateOptions, Map, Result, ToolChoice, Value};
use nano_models::{Control, Tokenizer};
use nano_templates::{Message, Template, Vars};
use std::sync::{Arc, OnceLock};

/// Closes a call. Templates made for one call a reply end the reply with it.
const CALL_END: &str = "</tool_call>";

/// The tools of a conversation and the way to speak of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Offered {
    pub(crate) tools: Vec<Value>,
    /// `None`: replies are text as they are.
    pub(crate) reader: Option<Reader>,
    /// The same for the template: spellings of control tokens are hidden, as what is said of a tool may come from anywhere.
    shown: Value,
    /// What the model is told where its template cannot tell it, hidden likewise.
    pub(crate) told: Option<String>,
    /// The template knows no calls and no results: those that there are, of tools that may be gone, are told in this format.
    pub(crate) translated: Option<ToolFormat>,
    /// Calls of all of them can be forced.
    enforceable: OnceLock<()>,
}

impl ChatHistory {
    /// Offers the model these tools, objects of the OpenAI API as [`BotFunction::tool`](crate::BotFunction::tool) gives
    /// them, in place of those it was offered. They are told by the template, or in words where it knows none. The calls
    /// of a reply are in its message, and are [`Event::ToolCall`](crate::Event::ToolCall)s: running them, and appending
    /// what they return as messages of the role `tool`, is up to the caller (see [`Chat`](crate::Chat)).
    ///
    /// Nothing is fed before the next reply. Tools that are other than before stand at the beginning of the prompt, so
    /// that the conversation is fed again.
    pub fn set_tools(&mut self, tools: Vec<Value>) -> Result<()> {
        self.settle();
        if tools != self.offered.tools {
            self.offered = self.offer(tools)?;
        }
        Ok(())
    }

    /// The tools that the model is offered.
    pub fn tools(&self) -> &[Value] {
        &self.offered.tools
    }

    /// The format in which calls and reasoning are read. `None`: replies are text.
    pub fn tool_format(&self) -> Option<ToolFormat> {
        self.offered.reader.as_ref().map(|reader| reader.format)
    }

    /// How to speak of these tools.
    pub(crate) fn offer(&self, tools: Vec<Value>) -> Result<Offered> {
        let tokenizer = self.model.tokenizer();
        let has_token = |text: &str| has_token(tokenizer, text);
        let source = self.template.source();
        let known = self.format.or_else(|| ToolFormat::of(source, has_token));
        let mut schemas = Map::new();
        for (index, tool) in tools.iter().enumerate() {
            let (name, parameters) = declared(tool).ok_or_else(|| Error::Option {
                name: "tools",
                found: format!("a list whose entry {index} is no tool"),
                need: "each must be {\"type\": \"function\", \"function\": {\"name\": …, \"parameters\": …}}",
            })?;
            schemas.insert(name.to_owned(), parameters);
        }
        let mut offered = Offered::default();
        let knows = self.template.knows_tools(&self.vars);
        let in_words = |format| matches!(format, ToolFormat::Json | ToolFormat::Gemma);
        let spoken = match known {
            Some(format) if knows.tools || knows.results || self.format.is_some() || in_words(format) => format,
            _ => ToolFormat::Json,
        };
        offered.translated = (!knows.results).then_some(spoken);
        let format = if tools.is_empty() {
            let thinks = || source.contains("<think>") || has_token("<think>");
            known.filter(|format| format.has_reasoning()).or_else(|| thinks().then_some(ToolFormat::Json))
        } else {
            offered.told = (!knows.tools).then(|| tokenizer.hide_control(&tools::told(spoken, &tools)));
            offered.shown = Value::Array(tools.clone());
            hide_strings(&mut offered.shown, &|text: &mut String| *text = tokenizer.hide_control(text));
            Some(spoken)
        };
        offered.reader =
            format.map(|format| Reader { format, schemas: Arc::new(schemas), ends: self.turn_ends(tokenizer) });
        offered.tools = tools;
        Ok(offered)
    }

    /// What ends a reply besides single tokens.
    pub(crate) fn stops(&self) -> impl Iterator<Item = &String> {
        let calls = !self.offered.tools.is_empty();
        self.stop_strings.iter().filter(move |stop| !calls || *stop != CALL_END)
    }

    /// How the ends of turns are spelled.
    fn turn_ends(&self, tokenizer: &Tokenizer) -> Vec<String> {
        let tokens = tokenizer.stop().iter().chain(&self.stop_tokens);
        let spelled = tokens.map(|&token| tokenizer.token_text(Some(token)));
        let ends = spelled.chain(self.stop_strings.iter().filter(|stop| *stop != CALL_END).cloned());
        ends.filter(|end| !end.trim().is_empty()).collect()
    }

    /// Puts what the model is told of its tools into messages, where the template cannot.
    pub(crate) fn speak_of_tools(&self, messages: &mut Vec<Message>, vars: &mut Vars) {
        let Offered { tools, shown, told, translated, .. } = &self.offered;
        if let Some(format) = translated
            && messages.iter().any(|message| message.role == "tool" || message.tool_calls.is_some())
        {
            *messages = tools::translate(messages, *format);
        }
        match told {
            None if tools.is_empty() => {}
            None => vars.tools = Some(shown.clone()),
            Some(told) => match messages.first_mut() {
                Some(first) if first.role == "system" => add(first, |text| format!("{}\n\n{told}", text.trim_end())),
                _ if self.refuses_system => {
                    if let Some(first) = messages.iter_mut().find(|message| message.role == "user") {
                        add(first, |text| format!("{told}\n\n{text}"));
                    }
                }
                _ => messages.insert(0, Message::system(told)),
            },
        }
    }

    /// Whether the template takes no system prompt.
    pub(crate) fn refuses_system(template: &Template, vars: &Vars) -> bool {
        let ask = Message::user("?");
        template.render(&[Message::system("s"), ask.clone()], vars).is_err() && template.render(&[ask], vars).is_ok()
    }

    /// Readies a reply to a prompt: what the generation is told, and who reads it. Options are changed to what a tool choice
    /// asks for.
    pub(crate) fn read_reply(&self, prompt: &str, options: &mut GenerateOptions) -> Result<(Told, Option<Reading>)> {
        let mut told = Told::default();
        let Offered { tools, reader, .. } = &self.offered;
        let choice = &options.tool_choice;
        let Some(reader) = reader else {
            return self.check_choice(choice).map(|()| (told, None));
        };
        self.check_choice(choice)?;
        told.spelled = true;
        let tokenizer = self.model.tokenizer();
        let has_token = |text: &str| has_token(tokenizer, text);
        // What is held to a form is the answer from its first token on, even where the prompt opens reasoning.
        let before = if options.constraint.is_none() { prompt } else { "" };
        if !tools.is_empty() {
            match choice {
                ToolChoice::Auto => {}
                ToolChoice::None => {
                    let forbidden = reader.format.forbidden(has_token);
                    told.forbidden = forbidden.iter().filter_map(|text| token(tokenizer, text)).collect();
                }
                ToolChoice::Required | ToolChoice::Named(_) => {
                    let inside = reader.format.thinks_from_the_start(prompt);
                    if options.constraint.is_some() || !options.reply_prefix.is_empty() {
                        return Err(Error::Option {
                            name: "tool_choice",
                            found: "a call that must be made".into(),
                            need: "it goes with no constraint and no reply prefix: leave those out, or the choice",
                        });
                    }
                    let control = |text: &str| token(tokenizer, text).filter(|&id| is_control(tokenizer, id));
                    let constraint = reader.format.forced(tools, choice, inside, control)?;
                    if self.offered.enforceable.get().is_none() {
                        tools::try_schemas(tools, choice, |schema| self.model.check_constraint(schema))?;
                        if *choice == ToolChoice::Required {
                            self.offered.enforceable.get_or_init(|| ());
                        }
                    }
                    options.constraint = Some(constraint);
                }
            }
        }
        let calls = self.state.messages.iter().flat_map(|m| m.tool_calls.iter().flatten());
        Ok((told, Some(reader.read(before, options.tool_choice != ToolChoice::None, next_number(calls)))))
    }

    fn check_choice(&self, choice: &ToolChoice) -> Result<()> {
        let tools = &self.offered.tools;
        let found = match choice {
            ToolChoice::Auto | ToolChoice::None => return Ok(()),
            ToolChoice::Required => "required".to_owned(),
            ToolChoice::Named(name) => name.clone(),
        };
        let known = |name: &str| tools.iter().filter_map(declared).any(|(known, _)| known == name);
        let wrong = |need| Err(Error::Option { name: "tool_choice", found: found.clone(), need });
        match choice {
            _ if tools.is_empty() => wrong("no tools are offered that could be called"),
            ToolChoice::Named(name) if !known(name) => wrong("no tool of that name is offered"),
            _ => Ok(()),
        }
    }
}

/// The name of a tool and the schema of its parameters.
fn declared(tool: &Value) -> Option<(&str, Value)> {
    let function = tool.get("function").unwrap_or(tool);
    let name = function.get("name")?.as_str().filter(|name| !name.is_empty())?;
    let parameters = function.get("parameters").filter(|schema| !schema.is_null());
    Some((name, parameters.cloned().unwrap_or_else(|| serde_json::json!({"type": "object", "properties": {}}))))
}

fn add(message: &mut Message, change: impl FnOnce(String) -> String) {
    message.content = change(message.content.text()).into();
}

fn token(tokenizer: &Tokenizer, text: &str) -> Option<u32> {
    match tokenizer.encode(text, Control::Parse).ok()?[..] {
        [token] => Some(token),
        _ => None,
    }
}

/// Whether grammars see a token as no text.
fn is_control(tokenizer: &Tokenizer, id: u32) -> bool {
    tokenizer.is_control(id) || tokenizer.stop().contains(&id)
}

fn has_token(tokenizer: &Tokenizer, text: &str) -> bool {
    token(tokenizer, text).is_some()
}
