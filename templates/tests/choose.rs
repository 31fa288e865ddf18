//! Which template is chosen for which model: NanoLLM's table of names, what it picked wrongly, and what counts before names.

use nano_templates::{Choice, Clues, choose};

const CHAT_ML: &[&str] = &["<|im_start|>", "<|im_end|>"];
const LLAMA_3: &[&str] = &["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"];

fn all<'a>(some: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [some, more].concat()
}

fn choice(name: &str, architecture: &str, own: Option<&str>, vocabulary: &[&str]) -> Choice {
    choose(&Clues { names: &[name], architecture, own, has: &|spelling| vocabulary.contains(&spelling) })
}

fn chosen(name: &str, architecture: &str, vocabulary: &[&str]) -> Option<String> {
    let choice = choice(name, architecture, None, vocabulary);
    assert_eq!(choice.notices.len(), usize::from(choice.template.is_some()), "{name}: {choice:?}");
    choice.template.map(|t| t.name().to_owned())
}

#[test]
fn a_models_own_template_comes_first_and_needs_no_word() {
    let own = choice("Llama-3-8B", "llama", Some("{{ messages[0].content }}"), CHAT_ML);
    assert_eq!(own.template.map(|t| t.name().to_owned()).as_deref(), Some("the model's own"));
    assert!(own.notices.is_empty());
}

#[test]
fn a_broken_template_gives_way_with_a_word() {
    let broken = choice("m", "llama", Some("{% for"), CHAT_ML);
    assert_eq!(broken.template.map(|t| t.name().to_owned()).as_deref(), Some("chat-ml"));
    assert!(broken.notices[0].contains("own chat template cannot be used: syntax error"), "{:?}", broken.notices);
    assert!(broken.notices[1].contains("chat-ml") && broken.notices[1].contains("--chat-template"));
    let nothing = choice("m", "llama", Some("{% for"), &[]);
    assert!(nothing.template.is_none() && nothing.notices.len() == 1);
}

/// D7.
#[test]
fn marks_in_the_vocabulary_come_before_the_name() {
    let tools = all(CHAT_ML, &["<tool_call>", "</tool_call>"]);
    let llama_31 = all(LLAMA_3, &["<|eom_id|>", "<|python_tag|>"]);
    let gemma = ["<bos>", "<start_of_turn>", "<end_of_turn>"];
    let phi_3 = ["<|user|>", "<|assistant|>", "<|end|>", "<|system|>"];
    let cases: [(&str, &str, &[&str], &str); 13] = [
        ("vicuna-7b", "llama", CHAT_ML, "chat-ml"),
        ("m", "llama", &all(LLAMA_3, CHAT_ML), "chat-ml"),
        ("m", "llama", &all(LLAMA_3, &tools), "chat-ml-tools"),
        ("Qwen2.5-7B-Instruct", "qwen2", &tools, "qwen"),
        ("Qwen1.5-0.5B-Chat", "qwen2", CHAT_ML, "qwen"),
        // A fine-tune that was not told that it is a Qwen.
        ("dolphin-2.9-7b", "qwen2", CHAT_ML, "chat-ml"),
        ("vicuna-7b", "llama", LLAMA_3, "llama-3"),
        ("m", "llama", &llama_31, "llama-3.1"),
        ("m", "gemma2", &gemma, "gemma"),
        ("phi-2", "phi3", &phi_3, "phi-3"),
        ("m", "llama", &["[INST]", "[/INST]"], "mistral"),
        // Tokens of ChatML that are used otherwise, or not at all.
        ("stablelm-2-zephyr-1_6b", "stablelm", CHAT_ML, "stablelm-zephyr"),
        ("m", "llama", &["<|im_start|>", "<|im_end|>", "<|im_sep|>", "[INST]", "[/INST]"], "mistral"),
    ];
    for (name, architecture, vocabulary, expected) in cases {
        assert_eq!(chosen(name, architecture, vocabulary).as_deref(), Some(expected), "{name} {vocabulary:?}");
    }
    assert_eq!(chosen("phi-4", "phi3", &["<|im_start|>", "<|im_end|>", "<|im_sep|>"]), None);
}

#[test]
fn a_model_that_was_never_taught_to_chat_gets_none() {
    let words = ["<s>", "</s>", "<unk>", "<|endoftext|>"];
    for name in [
        "model",
        "gpt-neo",
        "Mistral-7B-v0.1",
        "CodeLlama-7b-hf",
        "Qwen2.5-0.5B",
        "SmolLM2-135M",
        "llama-7b",
        "llama-30b",
        "TinyLlama-1.1B-intermediate-step-1431k-3T",
        "gemma-3-4b-pt",
        "Llama-3-8B-base",
        "dolphinarium-phial",
        "",
    ] {
        assert_eq!(chosen(name, "llama", &words), None, "{name}");
        assert_eq!(
            chosen(name, "llama", &["<|im_start|>", "<start_of_turn>", "[INST]", "<|eot_id|>"]),
            None,
            "half a pair"
        );
    }
}

#[test]
fn nanollms_table_of_names() {
    for (name, expected) in [
        ("stablelm-zephyr-3b", "stablelm-zephyr"),
        ("Obsidian-3B-V0.5", "nous-obsidian"),
        ("phi-2", "phi-2-instruct"),
        ("phi-1_5", "phi-2-instruct"),
        ("gemma-2b-it", "gemma"),
        ("TinyLlama-1.1B-Chat-v1.0", "tiny-llama"),
        ("Sheared-LLaMA-2.7B-ShareGPT", "sheared-llama"),
        ("open_llama_3b_v2", "open-llama"),
        ("VILA-7b", "vicuna-v1"),
        ("VILA1.5-3b", "vicuna-v1"),
        ("Llama-2-7b-chat-hf", "llama-2"),
        ("llava-llama-2-13b-chat", "llava-llama-2"),
        ("Meta-Llama-3-8B-Instruct", "llama-3"),
        ("vicuna-7b-v1.5", "vicuna-v1"),
        ("vicuna-7b-delta-v0", "vicuna-v0"),
        ("llava-v1.5-7b", "llava-v1"),
        ("llava-7b-delta-v0", "llava-v0"),
        ("openvla-7b", "openvla"),
    ] {
        assert_eq!(chosen(name, "llama", &[]).as_deref(), Some(expected), "{name}");
    }
}

/// D7.
#[test]
fn what_nanollms_table_picked_wrongly() {
    for (name, expected) in [
        ("Llama-3-VILA1.5-8B", Some("llama-3")),
        ("Llama-3.1-8B-Instruct", Some("llama-3.1")),
        ("Llama-3.2-1B-Instruct-Q4_K_M", Some("llama-3.1")),
        ("Hermes-2-Pro-Llama-3-8B", Some("chat-ml-tools")),
        ("llava-v1.6-mistral-7b", Some("mistral")),
        ("llava-1.5-7b-hf", Some("llava-v1")),
        ("dolphin-2.6-mistral-7b", Some("chat-ml")),
        ("Mistral-7B-Instruct-v0.2", Some("mistral")),
        ("Mixtral-8x7B-Instruct-v0.1", Some("mistral")),
        ("Qwen1.5-7B-Chat", Some("qwen")),
        ("Nous-Capybara-7B-V1", Some("vicuna-v1")),
        ("Bunny-v1_0-3B", Some("bunny")),
        ("CodeLlama-7b-Instruct-hf", Some("llama-2")),
        ("Phi-3-mini-4k-instruct", Some("phi-3")),
        ("Phi-3.5-mini-instruct", Some("phi-3")),
        ("zephyr-7b-gemma-v0.1", Some("chat-ml")),
        ("openvla-llama-2-7b", Some("openvla")),
        ("Nous-Hermes-Llama2-13b", None),
        ("phi-4", None),
    ] {
        assert_eq!(chosen(name, "llama", &[]).as_deref(), expected, "{name}");
    }
}

#[test]
fn the_notice_says_what_why_and_what_else() {
    let notice = |name, vocabulary| choice(name, "llama", None, vocabulary).notices.concat();
    let marks = notice("m", CHAT_ML);
    for part in ["no chat template of its own", "chat-ml is taken", "vocabulary has <|im_start|>", "--chat-template"] {
        assert!(marks.contains(part), "{marks}");
    }
    let name = notice("vicuna-7b", &[]);
    assert!(name.contains("vicuna-v0 is taken, by the name \"vicuna-7b\" alone"), "{name}");
}

#[test]
fn a_second_name_is_asked_where_the_first_says_nothing() {
    let chosen = |names: &[&str]| {
        choose(&Clues { names, architecture: "llama", own: None, has: &|_| false })
            .template
            .map(|t| t.name().to_owned())
    };
    assert_eq!(chosen(&["model", "Vicuna 7B v1.5"]).as_deref(), Some("vicuna-v1"));
    assert_eq!(chosen(&["vicuna-7b-v1.5", "Llama 2"]).as_deref(), Some("vicuna-v1"));
    assert_eq!(chosen(&["model-base", "Llama 2"]), None);
    assert_eq!(chosen(&[]), None);
}
