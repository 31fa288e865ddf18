//! Flags that several commands share, each defined once.

use super::values::{
    above_zero, bytes, count, device, fraction, head, kv_format, lora, number, positive, quantization, share,
    temperature, threads, tool_choice, tool_format,
};
use clap::{Args, ValueEnum};
use nano_kernels::KvFormat;
use nano_models::{Head, Lora, Quantization};
use nano_runtime::{Device, GenerateOptions, Sampling, ToolChoice, ToolFormat};
use std::path::PathBuf;

const MODEL: &str = "Model";
const GENERATION: &str = "Generation";
const FUNCTIONS: &str = "Functions";
const OUTPUT: &str = "Output";

/// Which model, where nothing is computed.
#[derive(Debug, Args)]
pub struct ModelArg {
    /// A GGUF file, a Hugging Face folder, or a Hub id: org/name, org/name:file.gguf, org/name@revision
    #[arg(short, long, value_name = "PATH|ID", help_heading = MODEL)]
    pub model: String,
}

/// Which model, and how to load it.
#[derive(Debug, Args)]
pub struct LoadArgs {
    #[command(flatten)]
    pub model: ModelArg,
    #[command(flatten)]
    pub machine: MachineArgs,
}

/// Who answers: a model that is loaded, or a server.
#[derive(Debug, Args)]
pub struct AnswererArgs {
    /// A GGUF file, a Hugging Face folder, or a Hub id: org/name, org/name:file.gguf, org/name@revision. With --engine, the
    /// server's name for its model; unless given, the only one that it has
    #[arg(short, long, value_name = "PATH|ID", required_unless_present = "engine", help_heading = MODEL)]
    pub model: Option<String>,
    /// Talk to a model behind a server with an OpenAI-compatible API, as in http://host:8000/v1. Flags about how a model is
    /// held or told do not go with it. A key is taken from NANO_API_KEY or OPENAI_API_KEY
    #[arg(long, value_name = "URL", help_heading = MODEL, conflicts_with_all = [
        "quantization", "head", "lora", "no_packed_cache", "device", "memory", "kv_cache", "threads", "chat_template", "reply_prefix", "session", "var",
        "tool_format", "min_new_tokens", "regex", "grammar",
    ])]
    pub engine: Option<String>,
    #[command(flatten)]
    pub machine: MachineArgs,
}

/// How a model is held, and where.
#[derive(Debug, Args)]
pub struct MachineArgs {
    /// Quantize while loading: q4f16, q8f16, f16 or f32; also q4_1, q4_k, q6_k and bf16. Without it the checkpoint's own
    /// formats are kept
    #[arg(short, long, value_name = "FORMAT", value_parser = quantization, help_heading = MODEL)]
    pub quantization: Option<Quantization>,
    /// How exact embedding and head are: q8, q6, q4 or f16; unless given, q8 with --quantization q4f16 and as all else
    /// elsewhere
    #[arg(long, value_name = "FORMAT", value_parser = head, help_heading = MODEL)]
    pub head: Option<Head>,
    /// A LoRA adapter, as a folder that PEFT saved, which is merged into the weights; its change may be multiplied, as in
    /// adapters/mine:0.5. May be repeated
    #[arg(long, value_name = "PATH[:SCALE]", value_parser = lora, help_heading = MODEL)]
    pub lora: Vec<Lora>,
    /// Where to compute: cpu; cuda, which needs an NVIDIA GPU of compute capability 7.2 or newer (Jetson boards from Xavier
    /// on) and its driver, for CUDA 11.4 or newer, but no toolkit; auto is cuda where that works and cpu elsewhere
    #[arg(long, default_value = "auto", value_parser = device, help_heading = MODEL)]
    pub device: Device,
    /// Memory that weights and caches may take, as in 2000000000, 2G or 1.5GiB; unless given, what is free
    #[arg(long, value_name = "BYTES", value_parser = bytes, allow_negative_numbers = true, help_heading = MODEL)]
    pub memory: Option<u64>,
    /// Neither use nor keep packed weights. Elsewhere, a model that must be converted while loading, as with --quantization, is
    /// kept as it is packed, so that the next start is faster. NANO_PACKED_CACHE=off does the same, and
    /// NANO_PACKED_CACHE=FOLDER says where to keep them; nano-chat cache shows them
    #[arg(long, help_heading = MODEL)]
    pub no_packed_cache: bool,
    /// How keys and values are stored: f16, q8 or f32; unless given, f16, or f32 with --quantization f32
    #[arg(long, value_name = "FORMAT", value_parser = kv_format, help_heading = MODEL)]
    pub kv_cache: Option<KvFormat>,
}

/// How many threads compute.
#[derive(Debug, Args)]
pub struct ThreadsArg {
    /// Threads to compute with; unless given, one per core
    #[arg(short, long, value_name = "N", value_parser = threads, allow_negative_numbers = true, help_heading = MODEL)]
    pub threads: Option<usize>,
}

/// How long conversations may become.
#[derive(Debug, Args)]
pub struct ContextArg {
    /// Tokens that the conversation may hold; unless given, as many as the model and the memory, or the server, allow
    #[arg(long, value_name = "TOKENS", value_parser = positive, allow_negative_numbers = true, help_heading = MODEL)]
    pub max_context_len: Option<usize>,
}

/// How to generate.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// Tokens to generate at most
    #[arg(short = 'n', long, value_name = "N", default_value = "128", value_parser = positive,
          allow_negative_numbers = true, help_heading = GENERATION)]
    pub max_new_tokens: usize,
    /// Tokens to generate before the reply may end
    #[arg(long, value_name = "N", default_value = "0", value_parser = count, allow_negative_numbers = true, help_heading = GENERATION)]
    pub min_new_tokens: usize,
    /// Draw tokens at random instead of taking the most likely one; any of the next four flags implies it
    #[arg(long, help_heading = GENERATION)]
    pub do_sample: bool,
    /// Above 1 more random, below 1 less; 0 takes the most likely token [default: 0.7]
    #[arg(long, value_name = "T", value_parser = temperature, allow_negative_numbers = true, help_heading = GENERATION)]
    pub temperature: Option<f32>,
    /// Draw from the K most likely tokens; 0 takes all [default: 40]
    #[arg(long, value_name = "K", value_parser = count, allow_negative_numbers = true, help_heading = GENERATION)]
    pub top_k: Option<usize>,
    /// Draw from the fewest tokens whose probabilities add up to P [default: 0.95]
    #[arg(long, value_name = "P", value_parser = share, allow_negative_numbers = true, help_heading = GENERATION)]
    pub top_p: Option<f32>,
    /// Draw from tokens at least P times as likely as the most likely one [default: 0]
    #[arg(long, value_name = "P", value_parser = fraction, allow_negative_numbers = true, help_heading = GENERATION)]
    pub min_p: Option<f32>,
    /// Makes tokens that were there already less likely; 1 does nothing
    #[arg(long, value_name = "X", default_value = "1.0", value_parser = above_zero, allow_negative_numbers = true,
          help_heading = GENERATION)]
    pub repetition_penalty: f32,
    /// Taken from the logits of tokens that were there already
    #[arg(long, value_name = "X", default_value = "0.0", value_parser = number, allow_negative_numbers = true,
          help_heading = GENERATION)]
    pub presence_penalty: f32,
    /// Taken from those logits once per occurrence
    #[arg(long, value_name = "X", default_value = "0.0", value_parser = number, allow_negative_numbers = true,
          help_heading = GENERATION)]
    pub frequency_penalty: f32,
    /// The same seed and the same input give the same text
    #[arg(long, value_name = "N", allow_negative_numbers = true, help_heading = GENERATION)]
    pub seed: Option<u64>,
    /// A text that ends the reply and is not shown; may be repeated
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, help_heading = GENERATION)]
    pub stop: Vec<String>,
}

impl GenerateArgs {
    /// As the library takes it.
    pub fn options(&self) -> GenerateOptions {
        let default = Sampling::default();
        let sampling = self.samples().then(|| Sampling {
            temperature: self.temperature.unwrap_or(default.temperature),
            top_k: self.top_k.unwrap_or(default.top_k),
            top_p: self.top_p.unwrap_or(default.top_p),
            min_p: self.min_p.unwrap_or(default.min_p),
        });
        GenerateOptions {
            max_new_tokens: self.max_new_tokens,
            min_new_tokens: self.min_new_tokens,
            sampling,
            repetition_penalty: self.repetition_penalty,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            seed: self.seed,
            stop: self.stop.clone(),
            ..GenerateOptions::default()
        }
    }

    fn samples(&self) -> bool {
        let flag = self.temperature.is_some() || self.top_k.is_some() || self.top_p.is_some() || self.min_p.is_some();
        self.do_sample || flag
    }
}

/// What replies must look like.
#[derive(Debug, Args)]
pub struct ConstraintArgs {
    /// Replies are JSON that fits this schema: JSON text, or a file with it. What cannot be enforced is refused
    #[arg(long, value_name = "FILE|TEXT", conflicts_with_all = ["regex", "grammar"], help_heading = GENERATION)]
    pub json_schema: Option<String>,
    /// Replies match this regular expression from start to end
    #[arg(long, value_name = "TEXT", conflicts_with = "grammar", allow_hyphen_values = true, help_heading = GENERATION)]
    pub regex: Option<String>,
    /// Replies follow this grammar, in llguidance's form of Lark: its text, or a file with it
    #[arg(long, value_name = "FILE|TEXT", help_heading = GENERATION)]
    pub grammar: Option<String>,
}

/// What a model may call, and how.
#[derive(Debug, Args)]
pub struct FunctionArgs {
    /// Functions that the model may call: a JSON list of {name, description, parameters, command, timeout}, whose
    /// commands get the arguments as JSON on stdin; may be repeated
    #[arg(long, value_name = "FILE.json", help_heading = FUNCTIONS)]
    pub functions: Vec<PathBuf>,
    /// Ready-made functions that it may call: date, time, calculator, system_info; may be repeated
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', help_heading = FUNCTIONS)]
    pub function: Vec<String>,
    /// Offer them as tools: the model ends an answer with calls in its own format, gets what they return, and answers
    /// again. Without it, calls stand in the middle of replies. --engine implies it
    #[arg(long, visible_alias = "enable-tools", help_heading = FUNCTIONS)]
    pub tools: bool,
    /// Whether tools are called: auto, as the model likes; none; required, one or more at first; or the function of this
    /// name at first [default: auto]
    #[arg(long, value_name = "CHOICE", value_parser = tool_choice, help_heading = FUNCTIONS)]
    pub tool_choice: Option<ToolChoice>,
    /// How the model writes calls of tools and what it thinks, where its template does not tell: json, llama-3, mistral,
    /// hermes, qwen, deepseek, harmony, gemma, function-gemma, gemma-4 or phi-4
    #[arg(long, value_name = "NAME", value_parser = tool_format, help_heading = FUNCTIONS)]
    pub tool_format: Option<ToolFormat>,
    /// How often in a turn the model may call tools and get what they return; then it must answer [default: 8]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true, help_heading = FUNCTIONS)]
    pub max_function_rounds: Option<usize>,
}

/// How replies are shown.
#[derive(Debug, Args)]
pub struct ReplyArgs {
    /// Events as JSON lines on stdout; lines of stdin may be {"user": TEXT} or {"command": "/reset"}
    #[arg(long, help_heading = OUTPUT)]
    pub json: bool,
    /// Show a reply when it is complete
    #[arg(long, help_heading = OUTPUT)]
    pub disable_streaming: bool,
    /// Show no statistics after a reply
    #[arg(long, help_heading = OUTPUT)]
    pub disable_stats: bool,
}

/// How much is told on stderr.
#[derive(Debug, Args)]
pub struct LogArgs {
    /// What to tell on stderr
    #[arg(long, value_name = "LEVEL", default_value = "info", value_enum, help_heading = OUTPUT)]
    pub log_level: LogLevel,
    /// The same as --log-level debug
    #[arg(long, visible_alias = "verbose", help_heading = OUTPUT)]
    pub debug: bool,
}

impl LogArgs {
    /// The level that was asked for.
    pub fn level(&self) -> LogLevel {
        if self.debug { LogLevel::Debug } else { self.log_level }
    }
}

/// From the most talkative to the quietest. Errors that end the program are always told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum LogLevel {
    Debug,
    Info,
    Warning,
    Error,
    Critical,
}
