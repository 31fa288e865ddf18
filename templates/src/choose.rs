//! Which template suits a model: its own, or the built-in one that the marks in its vocabulary name, or the one that its
//! name does. A function of what is known about a model; who knows it, and who is told, is decided elsewhere.

use crate::{Error, Template};

/// What is known about a model.
pub struct Clues<'a> {
    /// The name of its file or folder, and others that it goes by; what the first says counts first.
    pub names: &'a [&'a str],
    /// The name of its architecture, as in `llama` or `qwen2`.
    pub architecture: &'a str,
    /// The Jinja template that it brings.
    pub own: Option<&'a str>,
    /// Whether the vocabulary has a token of this spelling that is no ordinary text.
    pub has: &'a dyn Fn(&str) -> bool,
}

/// What was chosen.
#[derive(Debug)]
pub struct Choice {
    /// The template; none where nothing speaks for any, as for models that were never taught to chat.
    pub template: Option<Template>,
    /// What the user should know: sentences.
    pub notices: Vec<String>,
}

/// What [`choose`] calls a template that the model brings.
const OWN: &str = "the model's own";

/// Chooses a template: the model's own if it compiles, then a built-in one by the marks of turns in the vocabulary, then
/// one by the model's name. What is not the model's own comes with a notice that says why.
pub fn choose(clues: &Clues) -> Choice {
    let mut notices = Vec::new();
    let mut lacks = "the model has no chat template of its own";
    match clues.own.map(|source| Template::jinja(OWN, source)) {
        Some(Ok(template)) => return Choice { template: Some(template), notices },
        Some(Err(error)) => {
            lacks = "in its place";
            notices.push(unusable(&error));
        }
        None => {}
    }
    let found = by_marks(clues)
        .map(|(template, mark)| (template, format!("because the vocabulary has {mark}")))
        .or_else(|| by_names(clues.names).map(|(template, name)| (template, format!("by the name {name:?} alone"))));
    let Some((found, why)) = found else { return Choice { template: None, notices } };
    notices.push(format!(
        "{lacks}, the built-in chat template {found} is taken, {why}; if replies look wrong, choose another with \
         --chat-template (nano-chat templates lists them)"
    ));
    Choice { template: Template::builtin(found), notices }
}

fn unusable(error: &Error) -> String {
    format!("the model's own chat template cannot be used: {error}")
}

/// Marks that a model family writes around turns. What a fine-tune adds to a vocabulary counts before what its base had.
fn by_marks(clues: &Clues) -> Option<(&'static str, &'static str)> {
    let has = |spellings: &[&str]| spellings.iter().all(|s| (clues.has)(s));
    // Some have the tokens of ChatML and speak otherwise: Phi 4 has a third one, StableLM does not use them.
    let chat_ml = has(&["<|im_start|>", "<|im_end|>"]) && !has(&["<|im_sep|>"]) && clues.architecture != "stablelm";
    if chat_ml {
        let named = clues.names.iter().any(|name| Name::new(name).part("qwen"));
        let qwen = clues.architecture.starts_with("qwen") && named;
        let tools = has(&["<tool_call>", "</tool_call>"]);
        return Some(match (qwen, tools) {
            (true, _) => ("qwen", "<|im_start|> and the model is a Qwen"),
            (false, true) => ("chat-ml-tools", "<|im_start|> and <tool_call>"),
            (false, false) => ("chat-ml", "<|im_start|>"),
        });
    }
    if has(&["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]) {
        let later = has(&["<|eom_id|>", "<|python_tag|>"]);
        return Some(if later {
            ("llama-3.1", "<|start_header_id|> and <|python_tag|>")
        } else {
            ("llama-3", "<|start_header_id|>")
        });
    }
    if has(&["<start_of_turn>", "<end_of_turn>"]) {
        return Some(("gemma", "<start_of_turn>"));
    }
    if has(&["<|user|>", "<|assistant|>", "<|end|>"]) {
        return Some(("phi-3", "<|assistant|> and <|end|>"));
    }
    has(&["[INST]", "[/INST]"]).then_some(("mistral", "[INST]"))
}

/// What the first name says that says something. Models that were not taught to chat get nothing, as far as names tell.
fn by_names<'a>(names: &[&'a str]) -> Option<(&'static str, &'a str)> {
    let base = |name: &&str| {
        let name = Name::new(name);
        ["base", "pt", "pretrain", "pretrained", "intermediate"].into_iter().any(|word| name.word(word))
    };
    if names.iter().any(base) {
        return None;
    }
    names.iter().find_map(|name| Some((by_name(&Name::new(name))?, *name)))
}

/// NanoLLM's table of names, in an order and with conditions that do not take one family for another.
fn by_name(name: &Name) -> Option<&'static str> {
    let part = |part| name.part(part);
    let word = |word| name.word(word);
    let tuned = word("instruct") || word("chat") || word("it");
    if part("hermes") {
        return if part("hermes-2-pro") || part("hermes-3") {
            Some("chat-ml-tools")
        } else {
            (part("hermes-2") || part("openhermes")).then_some("chat-ml")
        };
    }
    let found = [
        (part("stablelm") && part("zephyr"), "stablelm-zephyr"),
        (part("obsidian-3b"), "nous-obsidian"),
        (word("dolphin") || part("zephyr") && part("gemma"), "chat-ml"),
        (part("bunny"), "bunny"),
        (part("openvla"), "openvla"),
        (part("capybara"), "vicuna-v1"),
        (part("llava") && word("mistral"), "mistral"),
        (part("llava") && name.llama() == Some("2"), "llava-llama-2"),
        (word("vila") && name.llama().is_none_or(|version| version == "2"), "vicuna-v1"),
        (part("phi-3") || word("phi3"), "phi-3"),
        (word("phi") && !part("phi-4") || word("phi2"), "phi-2-instruct"),
        (part("gemma"), "gemma"),
        (part("tinyllama"), "tiny-llama"),
        (part("sheared-llama"), "sheared-llama"),
        (part("open-llama") || part("openllama"), "open-llama"),
        (part("codellama") && tuned, "llama-2"),
        (name.llama() == Some("2"), "llama-2"),
        (name.llama() == Some("3"), "llama-3"),
        (name.llama() == Some("3.1"), "llama-3.1"),
        (part("vicuna") && part("v1"), "vicuna-v1"),
        (part("vicuna"), "vicuna-v0"),
        (part("llava") && (part("v1") || word("1.5") || word("1.6")), "llava-v1"),
        (part("llava"), "llava-v0"),
        ((part("mistral") || part("mixtral")) && tuned, "mistral"),
        (part("qwen") && tuned, "qwen"),
    ];
    found.into_iter().find(|(fits, _)| *fits).map(|(_, template)| template)
}

/// A model's name in small letters, its words joined by hyphens.
struct Name(String);

impl Name {
    fn new(name: &str) -> Self {
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c.to_ascii_lowercase() } else { '-' };
        Self(name.chars().map(plain).collect())
    }

    /// These letters are in it somewhere.
    fn part(&self, part: &str) -> bool {
        self.0.contains(part)
    }

    /// It is a word of the name. Numbers may follow it: `vila` is a word of `vila1.5-3b`, `phi` none of `dolphin`.
    fn word(&self, word: &str) -> bool {
        let number = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit() || c == '.');
        self.0.split('-').any(|w| w.strip_prefix(word).is_some_and(|rest| rest.is_empty() || number(rest)))
    }

    /// The generation of Llama: 2, 3, or 3.1 for that and what followed it. Sizes (`llama-30b`) are none.
    fn llama(&self) -> Option<&'static str> {
        self.0.match_indices("llama").find_map(|(at, found)| {
            let rest = &self.0[at + found.len()..];
            let rest = rest.strip_prefix('-').unwrap_or(rest);
            let end = rest.find('-').unwrap_or(rest.len());
            match &rest[..end] {
                "2" => Some("2"),
                "3" | "3.0" => Some("3"),
                "3.1" | "3.2" | "3.3" => Some("3.1"),
                _ => None,
            }
        })
    }
}
