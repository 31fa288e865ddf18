//! The command line: commands and their flags. Flags that several commands have are in `groups`, how their values are
//! read in `values`. Nothing here acts.

mod cache;
mod groups;
mod values;

pub use cache::{CacheAction, CacheArgs};
pub use groups::{
    AnswererArgs, ConstraintArgs, ContextArg, FunctionArgs, GenerateArgs, LoadArgs, LogArgs, LogLevel, MachineArgs,
    ModelArg, ReplyArgs, ThreadsArg,
};

use crate::style::Color;
use clap::{Args, FromArgMatches, Subcommand};
use nano_models::{Head, Quantization};
use nano_runtime::Overflow;
use std::ffi::OsString;
use std::path::PathBuf;
use values::{List, count, counts, head, key_value, overflow, positive, quantization, threads_list, window};

/// Version and commit.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("NANO_COMMIT"), ")");

const ABOUT: &str = "Chat with a language model";

const EXAMPLES: &str = "Examples:
  nano-chat --model model.gguf                             talk to a model
  nano-chat --model org/name --quantization q4f16          one of the Hub, packed
  nano-chat -m model.gguf -p 'Hello' -p 'And you?'         two turns, then leave
  printf 'Hello\\n' | nano-chat -m model.gguf --json        JSON lines, for programs
  nano-chat -m model.gguf --session robot.session          go on where it ended, whatever ended it
  nano-chat -m model.gguf --function time,calculator       functions that the model may call
  nano-chat --engine http://host:8000/v1 --function time   a server's model, and tools for it
  nano-chat complete -m model.gguf -p 'Once upon a time'   without a template
  nano-chat quantize -m folder -q q4f16 --out model.gguf   one small file of a model
  nano-chat info -m model.gguf                             formats, sizes, memory
  nano-chat info --device cuda                             the GPU, its driver, its memory's speed

Replies go to stdout, everything else to stderr. The exit status is 0, or 1 to
99 after an error, or 130 after an interrupt outside of a reply.";

/// Reads the command line. Without a command it is [`Command::Chat`].
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, clap::Error> {
    let matches = command().try_get_matches_from(args)?;
    match matches.subcommand_name() {
        Some(_) => Command::from_arg_matches(&matches),
        None => Ok(Command::Chat(Box::new(ChatArgs::from_arg_matches(&matches)?))),
    }
}

fn command() -> clap::Command {
    let top = clap::Command::new("nano-chat").version(VERSION).about(ABOUT).after_help(EXAMPLES);
    // The doc comments of the argument structs are for readers of this file: put the program's own text back.
    Command::augment_subcommands(ChatArgs::augment_args(top))
        .about(ABOUT)
        .long_about(None::<&str>)
        .args_conflicts_with_subcommands(true)
        .subcommand_negates_reqs(true)
        .subcommand_required(false)
        .max_term_width(110)
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Chat with a model (what happens without a command)
    Chat(Box<ChatArgs>),
    /// Continue a text, without a template
    Complete(CompleteArgs),
    /// Show a model's architecture, sizes, formats and memory plan; or what a device is and how fast its memory
    Info(InfoArgs),
    /// Print the tokens of a text as a JSON array of ids
    Tokenize(TokenizeArgs),
    /// Print the text of tokens, nothing added
    Detokenize(DetokenizeArgs),
    /// Print the prompt that a chat template makes of messages
    Render(RenderArgs),
    /// List the built-in chat templates
    Templates(TemplatesArgs),
    /// Print the logits after a list of tokens, as JSON
    Logits(LogitsArgs),
    /// Show the conversation in a file that --session or /save wrote
    Session(SessionArgs),
    /// Write a model as one GGUF file, in formats of one's choice
    Quantize(QuantizeArgs),
    /// Measure a model's perplexity on a text, as llama.cpp does
    Perplexity(PerplexityArgs),
    /// List or remove the packed weights that are kept for faster starts
    Cache(CacheArgs),
    /// Measure speed: prompt and generation, memory bandwidth, load time
    Bench(BenchArgs),
}

/// `chat`
#[derive(Debug, Args)]
pub struct ChatArgs {
    #[command(flatten)]
    pub answerer: AnswererArgs,
    #[command(flatten)]
    pub threads: ThreadsArg,
    #[command(flatten)]
    pub context: ContextArg,
    /// A turn: text, or a file of prompts (.txt holds one, .json an array of strings or {"text": …}); may be repeated.
    /// The program leaves after the last one
    #[arg(short, long, value_name = "TEXT|FILE", help_heading = "Conversation", allow_hyphen_values = true)]
    pub prompt: Vec<String>,
    /// What the model is told first: text, or a .txt or .json file
    #[arg(short, long, value_name = "TEXT|FILE", help_heading = "Conversation", allow_hyphen_values = true)]
    pub system_prompt: Option<String>,
    /// A built-in template's name (nano-chat templates lists them), a Jinja file or a NanoLLM-style .json file; auto is the
    /// model's own, or one that suits its vocabulary or its name
    #[arg(long, value_name = "NAME|FILE", default_value = "auto", help_heading = "Conversation")]
    pub chat_template: String,
    /// How each reply begins; the model goes on from there
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true,
        help_heading = "Conversation",
        allow_hyphen_values = true
    )]
    pub reply_prefix: String,
    /// When a turn does not fit into the context: error refuses it; drop removes the oldest exchanges and feeds the rest
    /// again; shift removes them without feeding again, and the model may still know of them
    #[arg(long, value_name = "POLICY", default_value = "drop", value_parser = overflow, help_heading = "Conversation")]
    pub overflow: Overflow,
    /// Go on with the conversation in this file, or begin one there; it is saved after each turn
    #[arg(long, value_name = "FILE", help_heading = "Conversation")]
    pub session: Option<PathBuf>,
    /// A variable for the chat template, as in enable_thinking=false; may be repeated
    #[arg(long, value_name = "KEY=JSON", value_parser = key_value, help_heading = "Conversation")]
    pub var: Vec<(String, serde_json::Value)>,
    #[command(flatten)]
    pub functions: FunctionArgs,
    #[command(flatten)]
    pub generate: GenerateArgs,
    #[command(flatten)]
    pub constraint: ConstraintArgs,
    #[command(flatten)]
    pub reply: ReplyArgs,
    /// Do not show what the model thinks before it answers. A terminal shows it dimmed, --json as events; plain text for a
    /// pipe or a file never has it
    #[arg(long, help_heading = "Output")]
    pub no_reasoning: bool,
    /// Colour of prompts in a terminal
    #[arg(long, value_name = "COLOR", default_value = "blue", help_heading = "Output")]
    pub prompt_color: Color,
    /// Colour of replies in a terminal
    #[arg(long, value_name = "COLOR", default_value = "green", help_heading = "Output")]
    pub reply_color: Color,
    #[command(flatten)]
    pub log: LogArgs,
}

/// `complete`
#[derive(Debug, Args)]
pub struct CompleteArgs {
    #[command(flatten)]
    pub load: LoadArgs,
    #[command(flatten)]
    pub threads: ThreadsArg,
    #[command(flatten)]
    pub context: ContextArg,
    /// The text to continue, or a file of prompts; each prompt is continued by itself. Without it, stdin is one prompt
    #[arg(short, long, value_name = "TEXT|FILE", allow_hyphen_values = true)]
    pub prompt: Vec<String>,
    #[command(flatten)]
    pub generate: GenerateArgs,
    #[command(flatten)]
    pub constraint: ConstraintArgs,
    #[command(flatten)]
    pub reply: ReplyArgs,
    /// Colour of the text in a terminal
    #[arg(long, value_name = "COLOR", default_value = "none", help_heading = "Output")]
    pub reply_color: Color,
    #[command(flatten)]
    pub log: LogArgs,
}

/// `info`
#[derive(Debug, Args)]
pub struct InfoArgs {
    /// As elsewhere. Without it, and with --device, the device is shown instead of a model
    #[arg(short, long, value_name = "PATH|ID", help_heading = "Model", required_unless_present = "device")]
    pub model: Option<String>,
    #[command(flatten)]
    pub machine: MachineArgs,
    #[command(flatten)]
    pub context: ContextArg,
    /// One JSON object
    #[arg(long, help_heading = "Output")]
    pub json: bool,
    #[command(flatten)]
    pub log: LogArgs,
}

/// `tokenize`
#[derive(Debug, Args)]
pub struct TokenizeArgs {
    #[command(flatten)]
    pub model: ModelArg,
    /// The text. Without it, stdin is taken whole, byte for byte
    pub text: Option<String>,
    /// Spellings of control tokens in the text become control tokens
    #[arg(long)]
    pub special: bool,
    /// Put the beginning-of-sequence token first
    #[arg(long)]
    pub bos: bool,
    #[command(flatten)]
    pub log: LogArgs,
}

/// `detokenize`
#[derive(Debug, Args)]
pub struct DetokenizeArgs {
    #[command(flatten)]
    pub model: ModelArg,
    /// Token ids, as in 1,2,3, or @FILE. Without them, they are read from stdin
    pub ids: Option<String>,
    #[command(flatten)]
    pub log: LogArgs,
}

/// `render`
#[derive(Debug, Args)]
pub struct RenderArgs {
    /// The model whose template and spellings of tokens to use
    #[arg(short, long, value_name = "PATH|ID", required_unless_present = "chat_template")]
    pub model: Option<String>,
    /// A built-in template's name, a Jinja file or a NanoLLM-style .json file; auto is the one that suits the model
    #[arg(long, value_name = "NAME|FILE")]
    pub chat_template: Option<String>,
    /// A JSON file with a list of messages, as in the OpenAI API; - is stdin
    #[arg(long, value_name = "FILE")]
    pub messages: PathBuf,
    /// A JSON file with a list of tools, as in the OpenAI API
    #[arg(long, value_name = "FILE")]
    pub tools: Option<PathBuf>,
    /// Do not end with the words that make the model answer
    #[arg(long)]
    pub no_generation_prompt: bool,
    /// A variable for the template; may be repeated
    #[arg(long, value_name = "KEY=JSON", value_parser = key_value)]
    pub var: Vec<(String, serde_json::Value)>,
    #[command(flatten)]
    pub log: LogArgs,
}

/// `templates`
#[derive(Debug, Args)]
pub struct TemplatesArgs {
    /// One JSON array, with the templates' sources
    #[arg(long, help_heading = "Output")]
    pub json: bool,
    #[command(flatten)]
    pub log: LogArgs,
}

/// `logits`
#[derive(Debug, Args)]
pub struct LogitsArgs {
    #[command(flatten)]
    pub load: LoadArgs,
    #[command(flatten)]
    pub threads: ThreadsArg,
    /// Token ids, as in 1,2,3, or @FILE with such a list
    #[arg(long, value_name = "IDS|@FILE", required_unless_present_any = ["tokens_file", "session"],
          conflicts_with = "tokens_file")]
    pub tokens: Option<String>,
    /// A JSON file {name: [ids], …}; the answer is {name: {…}, …}
    #[arg(long, value_name = "FILE")]
    pub tokens_file: Option<PathBuf>,
    /// The tokens of a conversation in a file that --session or /save wrote; what is saved is not computed again, so that
    /// nll_sum is null
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tokens", "tokens_file", "generate", "all"])]
    pub session: Option<PathBuf>,
    /// The template of that conversation, if it is not the model's own
    #[arg(long, value_name = "NAME|FILE", requires = "session")]
    pub chat_template: Option<String>,
    /// Also continue greedily by so many tokens; the end-of-sequence token does not end it
    #[arg(long, value_name = "N", default_value = "0", value_parser = count, allow_negative_numbers = true)]
    pub generate: usize,
    /// Also give the most likely next token after every token
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub log: LogArgs,
}

/// `session`
#[derive(Debug, Args)]
pub struct SessionArgs {
    /// The file
    pub file: PathBuf,
    /// One JSON object
    #[arg(long, help_heading = "Output")]
    pub json: bool,
    #[command(flatten)]
    pub log: LogArgs,
}

/// `quantize`
#[derive(Debug, Args)]
pub struct QuantizeArgs {
    #[command(flatten)]
    pub model: ModelArg,
    /// The format of the weights: q4f16 (q4_0), q8f16 (q8_0), q4_1, q4_k, q6_k, f16, bf16 or f32
    #[arg(short, long, value_name = "FORMAT", value_parser = quantization)]
    pub quantization: Quantization,
    /// That of embedding and head: q8, q6, q4 or f16; unless given, q8 with q4f16 and q4_1, q6 with q4_k, and as all else
    /// elsewhere
    #[arg(long, value_name = "FORMAT", value_parser = head)]
    pub head: Option<Head>,
    /// The file to write
    #[arg(short, long, value_name = "FILE.gguf")]
    pub out: PathBuf,
    /// Replace the file if it is there already
    #[arg(long)]
    pub force: bool,
    /// Measure on this text (or a file of it) which weights matter, and quantize those more exactly. Some thousand words of
    /// the kind that the model is for will do. Unless given, 4 bits are measured on a short text of many kinds; none measures
    /// nothing
    #[arg(long, value_name = "TEXT|FILE|none")]
    pub calibrate: Option<String>,
    /// A file for what was measured: --calibrate writes it, without --calibrate it is read
    #[arg(long, value_name = "FILE")]
    pub calibration: Option<PathBuf>,
    #[command(flatten)]
    pub threads: ThreadsArg,
    #[command(flatten)]
    pub log: LogArgs,
}

/// `perplexity`
#[derive(Debug, Args)]
pub struct PerplexityArgs {
    #[command(flatten)]
    pub load: LoadArgs,
    #[command(flatten)]
    pub threads: ThreadsArg,
    /// The text
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// Tokens in a window; the second half of each is scored
    #[arg(short, long, value_name = "TOKENS", default_value = "512", value_parser = window, allow_negative_numbers = true)]
    pub context: usize,
    #[command(flatten)]
    pub log: LogArgs,
}

/// `bench`
#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(flatten)]
    pub load: LoadArgs,
    /// Lengths of prompts to measure; 0 leaves the test out
    #[arg(short = 'p', long, value_name = "TOKENS,…", default_value = "128,512", value_parser = counts, allow_negative_numbers = true)]
    pub prompt_tokens: List,
    /// Numbers of tokens to generate; 0 leaves the test out
    #[arg(short = 'n', long, value_name = "TOKENS,…", default_value = "64,128", value_parser = counts, allow_negative_numbers = true)]
    pub new_tokens: List,
    /// Numbers of threads; unless given, one per core
    #[arg(short, long, value_name = "N,…", value_parser = threads_list, allow_negative_numbers = true)]
    pub threads: Option<List>,
    /// Repetitions of each test, after one that does not count
    #[arg(short, long, value_name = "N", default_value = "5", value_parser = positive, allow_negative_numbers = true)]
    pub repetitions: usize,
    /// One JSON object
    #[arg(long, help_heading = "Output")]
    pub json: bool,
    #[command(flatten)]
    pub log: LogArgs,
}

#[cfg(test)]
mod tests;
