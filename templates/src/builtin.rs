//! The built-in templates: NanoLLM's, and those of Mistral, Phi 3 and Qwen. Each is one entry here and one Jinja file in
//! `builtin/`, which says what is special about it; what several share stands beside it (`text`, `turns`, `tools`).
//! Nothing else needs to change to add one. Where they feed something other than NanoLLM did is told at
//! [`Template::builtin`](crate::Template::builtin).

/// A built-in template.
pub(crate) struct Builtin {
    pub(crate) name: &'static str,
    /// What it is for.
    pub(crate) about: &'static str,
    pub(crate) source: &'static str,
    pub(crate) system: Option<&'static str>,
    /// What ends a reply besides the model's own stop tokens.
    pub(crate) stop: &'static [&'static str],
    pub(crate) tool_call: Option<&'static str>,
}

/// The Jinja source of a file: `plain`, with macros for calls (`tools`), or a table of what stands around the messages of
/// each role (`turns`).
macro_rules! source {
    (plain $file:literal) => {
        concat!(include_str!("builtin/text.jinja"), include_str!(concat!("builtin/", $file, ".jinja")))
    };
    (tools $file:literal) => {
        concat!(
            include_str!("builtin/text.jinja"),
            include_str!("builtin/tools.jinja"),
            include_str!(concat!("builtin/", $file, ".jinja"))
        )
    };
    (turns $file:literal) => {
        concat!(
            include_str!("builtin/text.jinja"),
            include_str!(concat!("builtin/", $file, ".jinja")),
            include_str!("builtin/turns.jinja")
        )
    };
}

macro_rules! builtins {
    ($($name:literal: $kind:ident $file:literal, $about:literal, $system:expr, $stop:expr, $tool_call:expr;)*) => {
        pub(crate) const NAMES: [&str; [$($name),*].len()] = [$($name),*];
        pub(crate) const BUILTINS: [Builtin; NAMES.len()] = [$(Builtin {
            name: $name,
            about: $about,
            source: source!($kind $file),
            system: $system,
            stop: &$stop,
            tool_call: $tool_call,
        }),*];
    };
}

const ASSISTANT: &str = "You are a helpful AI assistant.";
const FRIENDLY: &str = "You are a helpful and friendly AI assistant.";
const VICUNA: &str = "A chat between a curious human and an artificial intelligence assistant. \
                      The assistant gives helpful, detailed, and polite answers to the human's questions.";
const LLAVA: &str = "You are a helpful language and vision assistant. You are able to understand the visual content that \
                     the user provides, and assist the user with a variety of tasks using natural language.";
const CHATBOT: &str = "You are a friendly chatbot who always gives helpful answers to the user's questions.";
const RESPONSE: &str = "You are a helpful assistant. Write a response that appropriately completes the request.";
const QWEN: &str = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.";

builtins! {
    "llama-2": plain "llama-2", "Llama 2 chat", Some("Answer the questions."), [], None;
    "llama-3": plain "llama-3", "Llama 3 instruct", Some(FRIENDLY), ["<|end_of_text|>", "<|eot_id|>"], None;
    "llama-3.1": plain "llama-3.1", "Llama 3.1, 3.2 and 3.3 instruct, with calls", Some(FRIENDLY),
        ["<|end_of_text|>", "<|eot_id|>", "<|eom_id|>"], Some(r"<\|python_tag\|>(.*?)<\|eom_id\|>");
    "tiny-llama": turns "tiny-llama", "TinyLlama chat", Some(CHATBOT), [], None;
    "sheared-llama": turns "sheared-llama", "Sheared-LLaMA, tuned on instructions", Some(RESPONSE), [], None;
    "open-llama": turns "open-llama", "OpenLLaMA: questions and answers", None, ["</s>", "\n", "Q:"], None;
    "vicuna-v0": turns "vicuna-v0", "Vicuna 0", Some(VICUNA), [], None;
    "vicuna-v1": turns "vicuna-v1", "Vicuna 1.1 and 1.5, VILA", Some(VICUNA), [], None;
    "stablelm-zephyr": turns "stablelm-zephyr", "StableLM Zephyr", Some(ASSISTANT), [], None;
    "chat-ml": plain "chat-ml", "ChatML: SmolLM2, Dolphin, OpenHermes and many others", Some(ASSISTANT), [], None;
    "chat-ml-tools": tools "chat-ml-tools", "ChatML with calls: Hermes 2 Pro, Hermes 3", Some(ASSISTANT),
        ["<|im_end|>", "</tool_call>"], Some("<tool_call>(.*?)</tool_call>");
    "nous-obsidian": turns "nous-obsidian", "Nous Obsidian", Some(ASSISTANT), ["###", "<|im_end|>"], None;
    "phi-2-chat": turns "phi-2-chat", "Phi 2, as a dialogue", None, [], None;
    "phi-2-instruct": turns "phi-2-instruct", "Phi 2, as an instruction", None, [], None;
    "phi-3": turns "phi-3", "Phi 3 and 3.5", None, ["<|end|>"], None;
    "gemma": plain "gemma", "Gemma 1, 2 and 3, tuned on instructions", None, [], None;
    "mistral": plain "mistral", "Mistral and Mixtral instruct", None, [], None;
    "qwen": tools "qwen", "Qwen 2.5 instruct, with calls", Some(QWEN), ["<|im_end|>"],
        Some("<tool_call>(.*?)</tool_call>");
    "llava-v0": turns "vicuna-v0", "LLaVA 0 (the same as vicuna-v0)", Some(VICUNA), [], None;
    "llava-v1": turns "vicuna-v1", "LLaVA 1.5 (the same as vicuna-v1)", Some(VICUNA), [], None;
    "llava-llama-2": plain "llama-2", "LLaVA on Llama 2", Some(LLAVA), [], None;
    "bunny": turns "bunny", "Bunny", None, [], None;
    "openvla": turns "openvla", "OpenVLA: the message is the whole prompt", None, [], None;
}
