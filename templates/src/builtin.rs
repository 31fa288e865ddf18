//! The built-in templates. Each is a Jinja file in `builtin/` and one entry here: its name, its default system prompt and
//! the strings that end a reply besides the model's own stop tokens. Nothing else needs to change to add one.

/// A built-in template.
pub(crate) struct Builtin {
    pub(crate) name: &'static str,
    pub(crate) source: &'static str,
    pub(crate) system: Option<&'static str>,
    pub(crate) stop: &'static [&'static str],
}

macro_rules! builtins {
    ($($name:literal: $system:expr, $stop:expr;)*) => {
        pub(crate) const NAMES: [&str; [$($name),*].len()] = [$($name),*];
        pub(crate) const BUILTINS: [Builtin; NAMES.len()] = [$(Builtin {
            name: $name,
            source: include_str!(concat!("builtin/", $name, ".jinja")),
            system: $system,
            stop: &$stop,
        }),*];
    };
}

builtins! {
    "chat-ml": Some("You are a helpful AI assistant."), [];
    "llama-2": Some("Answer the questions."), [];
    "llama-3": Some("You are a helpful and friendly AI assistant."), ["<|end_of_text|>", "<|eot_id|>"];
    "vicuna-v1": Some(
        "A chat between a curious human and an artificial intelligence assistant. \
         The assistant gives helpful, detailed, and polite answers to the human's questions."
    ), [];
}
