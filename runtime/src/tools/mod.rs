//! What models write when they call tools or think, in their own formats, taken apart as it comes. Text in, [`Piece`]s
//! out: nothing here knows of tokens, conversations or functions, and nothing that a model writes is an error. What does
//! not parse stays text, letter by letter; only white space beside reasoning and calls is dropped with their markers.
//!
//! [`ToolFormat`] is the list of formats; there is one file for each. All but one are read by [`frame::Frame`].
//!
//! The other way round: `written` spells calls, `told` speaks of tools in words where a template cannot, and `forced` is
//! the grammar of answers that must be calls.

mod arguments;
mod bare;
mod curly;
mod deepseek;
mod forced;
mod frame;
mod gemma;
mod harmony;
mod hermes;
mod json;
mod llama;
mod mistral;
mod phi;
mod python;
mod qwen;
mod rules;
mod text;
mod told;
mod typed;
mod written;

pub(crate) use forced::try_schemas;
pub(crate) use told::{told, translate};

#[cfg(test)]
mod channel_tests;
#[cfg(test)]
mod choice_tests;
#[cfg(test)]
mod format_tests;
#[cfg(test)]
mod gemma_tests;
#[cfg(test)]
mod load_tests;
#[cfg(test)]
mod speech;
#[cfg(test)]
mod splits;

use std::sync::Arc;

use serde_json::{Map, Value};

use self::frame::{Dialect, Frame};
use self::harmony::Harmony;

/// A part of what a model wrote.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// Words for the reader.
    Text(String),
    /// What the model thought before it spoke or called.
    Reasoning(String),
    /// A call, complete.
    Call(ToolCall),
}

/// A call of a tool, as the model wrote it. That there is such a tool, and that the arguments suit it, is not known.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolCall {
    /// The call's own name, where the model gave one.
    pub id: Option<String>,
    /// The tool's name.
    pub name: String,
    /// The arguments by name.
    pub arguments: Map<String, Value>,
}

impl ToolCall {
    /// The call as it stands in a message, in the shape of the OpenAI API: with the arguments as JSON text.
    pub fn to_json(&self) -> Value {
        let arguments = Value::Object(self.arguments.clone()).to_string();
        let mut call = Map::new();
        call.extend(self.id.clone().map(|id| ("id".to_owned(), id.into())));
        call.insert("type".to_owned(), "function".into());
        let function = [("name".to_owned(), self.name.clone().into()), ("arguments".to_owned(), arguments.into())];
        call.insert("function".to_owned(), Value::Object(function.into_iter().collect()));
        Value::Object(call)
    }

    /// The call that stands in a message: its arguments may be an object or JSON text, and absent where there are none.
    /// `None`: it has no name, or arguments that are no object.
    pub fn from_json(call: &Value) -> Option<Self> {
        let function = call.get("function").unwrap_or(call);
        let name = function.get("name")?.as_str()?.to_owned();
        let arguments = match function.get("arguments") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(arguments)) => arguments.clone(),
            Some(Value::String(text)) if text.trim().is_empty() => Map::new(),
            Some(Value::String(text)) => serde_json::from_str(text).ok()?,
            Some(_) => return None,
        };
        let id = call.get("id").and_then(Value::as_str).map(str::to_owned);
        Some(Self { id, name, arguments })
    }
}

/// How a family of models writes calls and reasoning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ToolFormat {
    /// The whole answer is a call in JSON, for models that know no format of their own.
    Json,
    /// Llama 3.1 to 3.3.
    Llama3,
    /// Mistral and its kin.
    Mistral,
    /// Hermes, Qwen 2.5 and Qwen 3.
    Hermes,
    /// Qwen 3.5 and Qwen Coder.
    Qwen,
    /// DeepSeek R1, V3 and what was distilled from them.
    DeepSeek,
    /// gpt-oss.
    Harmony,
    /// Gemma 2 and 3, which are told in words how to call.
    Gemma,
    /// FunctionGemma.
    FunctionGemma,
    /// Gemma 4.
    Gemma4,
    /// Phi-4 and Granite 3.
    Phi4,
}

impl ToolFormat {
    /// All formats.
    pub const ALL: &'static [Self] = &[
        Self::Json,
        Self::Llama3,
        Self::Mistral,
        Self::Hermes,
        Self::Qwen,
        Self::DeepSeek,
        Self::Harmony,
        Self::Gemma,
        Self::FunctionGemma,
        Self::Gemma4,
        Self::Phi4,
    ];

    /// The format's name, by which it can be asked for.
    pub fn name(self) -> &'static str {
        self.about().0
    }

    /// The models that write so.
    pub fn models(self) -> &'static str {
        self.about().1
    }

    /// What stands at the beginning of a call, where the format has such a thing.
    pub fn markers(self) -> &'static [&'static str] {
        self.dialect().map_or(harmony::MARKERS, |dialect| dialect.opens)
    }

    /// The format of this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|format| format.name().eq_ignore_ascii_case(name))
    }

    /// The format that a model's own template, or else its vocabulary, speaks of. `None` where neither knows any: such a
    /// model can be told of tools in words, and [`Json`](Self::Json) reads what it answers.
    pub fn of(template_source: &str, has_token: impl Fn(&str) -> bool) -> Option<Self> {
        let clues: &[(Self, &[&str])] = &[
            (Self::Harmony, &["<|channel|>", "<|message|>"]),
            (Self::FunctionGemma, &["<start_function_call>"]),
            (Self::Gemma4, &["<|tool_call>"]),
            (Self::Qwen, &["<tool_call>", "<function="]),
            (Self::Hermes, &["<tool_call>"]),
            (Self::DeepSeek, &[deepseek::CALLS_BEGIN]),
            (Self::Mistral, &["[TOOL_CALLS]"]),
            (Self::Phi4, &["<|tool_call|>"]),
            (Self::Phi4, &["functools["]),
            (Self::Llama3, &["<|python_tag|>"]),
            (Self::Llama3, &["<|start_header_id|>", "\"parameters\""]),
            (Self::Gemma, &["<start_of_turn>"]),
        ];
        let told = clues.iter().find(|(_, marks)| marks.iter().all(|mark| template_source.contains(mark)));
        // The parameters of calls and text of prompts are no tokens: such clues say nothing of a vocabulary.
        let known = || clues.iter().find(|(_, marks)| marks.iter().all(|mark| has_token(mark)));
        told.or_else(known).map(|(format, _)| *format)
    }

    fn about(self) -> (&'static str, &'static str) {
        match self {
            Self::Json => ("json", "any model that is told to answer with a call in JSON"),
            Self::Llama3 => ("llama-3", "Llama 3.1, 3.2, 3.3"),
            Self::Mistral => ("mistral", "Mistral 7B v0.3, Nemo, Small, Large, Ministral, Magistral, Devstral"),
            Self::Hermes => ("hermes", "Hermes 2 Pro, Hermes 3, Qwen 2.5, QwQ, Qwen 3"),
            Self::Qwen => ("qwen", "Qwen 3.5 and later, Qwen 3 Coder"),
            Self::DeepSeek => ("deepseek", "DeepSeek R1, V3, V3.1, distilled models"),
            Self::Harmony => ("harmony", "gpt-oss"),
            Self::Gemma => ("gemma", "Gemma 2, Gemma 3"),
            Self::FunctionGemma => ("function-gemma", "FunctionGemma"),
            Self::Gemma4 => ("gemma-4", "Gemma 4"),
            Self::Phi4 => ("phi-4", "Phi-4, Phi-4 mini, Granite 3"),
        }
    }

    /// How the frame reads the format; the channels of gpt-oss are read by a machine of their own.
    fn dialect(self) -> Option<&'static Dialect> {
        Some(match self {
            Self::Json => &bare::JSON,
            Self::Llama3 => &llama::LLAMA,
            Self::Mistral => &mistral::MISTRAL,
            Self::Hermes => &hermes::HERMES,
            Self::Qwen => &qwen::QWEN,
            Self::DeepSeek => &deepseek::DEEPSEEK,
            Self::Harmony => return None,
            Self::Gemma => &gemma::GEMMA,
            Self::FunctionGemma => &curly::FUNCTION_GEMMA,
            Self::Gemma4 => &curly::GEMMA_4,
            Self::Phi4 => &phi::PHI,
        })
    }

    /// Whether models of this format may think before they answer.
    pub(crate) fn has_reasoning(self) -> bool {
        self.dialect().is_none_or(|dialect| !dialect.thoughts.is_empty())
    }

    /// Whether an answer to this prompt begins inside reasoning, because the prompt ends with the opening marker.
    pub fn thinks_from_the_start(self, prompt: &str) -> bool {
        let end = prompt.trim_end();
        match self.dialect() {
            Some(dialect) => dialect.thoughts.first().is_some_and(|(open, _)| end.ends_with(open)),
            None => end.ends_with(harmony::REASONING),
        }
    }
}

impl std::fmt::Display for ToolFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What a parser is told beforehand.
#[derive(Clone, Debug)]
pub struct ParserOptions {
    /// JSON schemas of the tools' parameters, by name. They decide types where the format leaves them open, and, where
    /// there are any, only these names count in formats that cannot tell a call from an answer in JSON.
    pub schemas: Arc<Map<String, Value>>,
    /// The answer begins inside reasoning.
    pub inside_reasoning: bool,
    /// Calls are looked for. Without, they are text.
    pub calls: bool,
}

impl Default for ParserOptions {
    fn default() -> Self {
        Self { schemas: Arc::default(), inside_reasoning: false, calls: true }
    }
}

/// Takes the text of one answer apart, however it is cut.
///
/// ```
/// use nano_runtime::{ParserOptions, Piece, StreamParser, ToolFormat};
///
/// let mut parser = StreamParser::new(ToolFormat::Hermes, ParserOptions::default());
/// let mut pieces = parser.push("Let me look.\n<tool_call>\n{\"name\": \"battery\", \"argu");
/// pieces.extend(parser.push("ments\": {\"cell\": 2}}\n</tool_call>"));
/// pieces.extend(parser.finish());
/// let [Piece::Text(text), Piece::Call(call)] = &pieces[..] else { panic!("{pieces:?}") };
/// assert_eq!((text.as_str(), call.name.as_str(), &call.arguments["cell"]), ("Let me look.", "battery", &2.into()));
/// ```
pub struct StreamParser(Reader);

enum Reader {
    Frame(Frame),
    Harmony(Harmony),
}

impl StreamParser {
    /// A parser for one answer.
    pub fn new(format: ToolFormat, options: ParserOptions) -> Self {
        Self(match format.dialect() {
            Some(dialect) => Reader::Frame(Frame::new(dialect, options)),
            None => Reader::Harmony(Harmony::new(options)),
        })
    }

    /// Adds text, with the spellings of control tokens in it. Of what comes back, no two texts are neighbours.
    pub fn push(&mut self, text: &str) -> Vec<Piece> {
        match &mut self.0 {
            Reader::Frame(frame) => frame.push(text),
            Reader::Harmony(harmony) => harmony.push(text),
        }
    }

    /// What was held back, when nothing follows.
    pub fn finish(&mut self) -> Vec<Piece> {
        match &mut self.0 {
            Reader::Frame(frame) => frame.finish(),
            Reader::Harmony(harmony) => harmony.finish(),
        }
    }
}

/// Pieces in the making: neighbours of one kind become one, and nothing is ever empty.
#[derive(Default)]
pub(crate) struct Pieces(Vec<Piece>);

impl Pieces {
    fn text(&mut self, text: &str) {
        match self.0.last_mut() {
            Some(Piece::Text(last)) => last.push_str(text),
            _ if text.is_empty() => (),
            _ => self.0.push(Piece::Text(text.to_owned())),
        }
    }

    fn reasoning(&mut self, text: &str) {
        match self.0.last_mut() {
            Some(Piece::Reasoning(last)) => last.push_str(text),
            _ if text.is_empty() => (),
            _ => self.0.push(Piece::Reasoning(text.to_owned())),
        }
    }

    fn calls(&mut self, calls: Vec<ToolCall>) {
        self.0.extend(calls.into_iter().map(Piece::Call));
    }
}
