//! The built-in templates, and how one is found by name. The feeds are NanoLLM's own: what it sends for the first turn, and
//! for the second once the reply with its end token is in the cache.

use nano_templates::{Error, Message, Template, ToolSpec, Vars};
use serde_json::{Value, json};

/// The templates, what they feed first, what stands between a reply and the second feed, and the second feed. The line
/// feeds after an end token are those that NanoLLM left out.
const FEEDS: [(&[&str], &str, &str, &str); 18] = [
    (&["llama-2", "llava-llama-2"], "<s>[INST] <<SYS>>\nSYS\n<</SYS>>\n\nU1 [/INST]", "</s>", "<s>[INST] U2 [/INST]"),
    (
        &["llama-3", "llama-3.1"],
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nSYS<|eot_id|>\
         <|start_header_id|>user<|end_header_id|>\n\nU1<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        "<|eot_id|>",
        "<|start_header_id|>user<|end_header_id|>\n\nU2<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    (
        &["tiny-llama"],
        "<|system|>\nSYS</s>\n<|user|>\nU1</s>\n<|assistant|>\n",
        "</s>\n",
        "<|user|>\nU2</s>\n<|assistant|>\n",
    ),
    (&["sheared-llama"], "SYS\n\n### Input:\nU1\n\n### Response:", "</s>", "### Input:\nU2\n\n### Response:"),
    (&["open-llama"], "Q: U1\nA:", "\n", "Q: U2\nA:"),
    (&["vicuna-v0", "llava-v0"], "SYS\n\n### Human: U1\n### Assistant: ", "</s>", "### Human: U2\n### Assistant: "),
    (&["vicuna-v1", "llava-v1"], "SYS\n\nUSER: U1\nASSISTANT: ", "</s>", "USER: U2\nASSISTANT: "),
    (
        &["stablelm-zephyr"],
        "<|system|>\nSYS<|endoftext|>\n<|user|>\nU1<|endoftext|>\n<|assistant|>\n",
        "<|endoftext|>\n",
        "<|user|>\nU2<|endoftext|>\n<|assistant|>\n",
    ),
    (
        &["chat-ml", "chat-ml-tools", "qwen"],
        "<|im_start|>system\nSYS<|im_end|>\n<|im_start|>user\nU1<|im_end|>\n<|im_start|>assistant\n",
        "<|im_end|>\n",
        "<|im_start|>user\nU2<|im_end|>\n<|im_start|>assistant\n",
    ),
    (
        &["nous-obsidian"],
        "<|im_start|>system\nSYS\n###\n<|im_start|>user\nU1\n###\n<|im_start|>assistant\n",
        "\n###\n",
        "<|im_start|>user\nU2\n###\n<|im_start|>assistant\n",
    ),
    (&["phi-2-chat"], "Alice: U1\nBob: ", "<|endoftext|>", "Alice: U2\nBob: "),
    (&["phi-2-instruct"], "Instruct: U1\nOutput: ", "<|endoftext|>", "Instruct: U2\nOutput: "),
    (
        &["phi-3"],
        "<|system|>\nSYS<|end|>\n<|user|>\nU1<|end|>\n<|assistant|>\n",
        "<|end|>\n",
        "<|user|>\nU2<|end|>\n<|assistant|>\n",
    ),
    // NanoLLM begins the second feed with the end of the turn, which is the token that ends the reply here.
    (
        &["gemma"],
        "<bos><start_of_turn>user\nU1<end_of_turn>\n<start_of_turn>model\n",
        "",
        "<end_of_turn>\n<start_of_turn>user\nU2<end_of_turn>\n<start_of_turn>model\n",
    ),
    (&["mistral"], "<s>[INST] SYS\n\nU1 [/INST]", "</s>", "[INST] U2 [/INST]"),
    (&["mistral"], "<s>[INST] U1 [/INST]", "</s>", "[INST] U2 [/INST]"),
    (&["bunny"], "USER: U1\nASSISTANT: ", "</s>", "USER: U2\nASSISTANT: "),
    (&["openvla"], "<s>U1", "</s>", "<s>U2"),
];

fn builtin(name: &str) -> Template {
    Template::builtin(name).unwrap_or_else(|| panic!("{name} is not built in"))
}

fn render(name: &str, messages: &[Message]) -> String {
    builtin(name).render(messages, &Vars::default()).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn built_in_templates_feed_what_nanollm_feeds() {
    let conversation = [Message::system("SYS"), Message::user("U1"), Message::assistant("R"), Message::user("U2")];
    for (names, first, end, second) in FEEDS {
        let messages = &conversation[usize::from(!first.contains("SYS"))..];
        for name in names {
            assert_eq!(builtin(name).name(), *name);
            assert_eq!(render(name, &messages[..messages.len() - 2]), first, "{name}");
            // The space before a reply of Llama 2 is its template's.
            let space = if name.ends_with("llama-2") { " " } else { "" };
            assert_eq!(render(name, messages), format!("{first}{space}R{end}{second}"), "{name}");
        }
    }
    for name in Template::builtin_names() {
        assert!(FEEDS.iter().any(|feed| feed.0.contains(name)), "{name} has no feed");
        assert!(Template::builtin_about(name).is_some_and(|about| !about.is_empty()), "{name}");
    }
}

#[test]
fn parts_of_text_are_text() {
    let parts = json!([{"role": "user", "content": [{"type": "text", "text": "U"}, {"type": "image"}, {"type": "text", "text": "1"}]}]);
    for name in Template::builtin_names() {
        let parts = Message::from_list(parts.clone()).expect("parts");
        assert_eq!(render(name, &parts), render(name, &[Message::user("U1")]), "{name}");
    }
}

#[test]
fn built_in_templates_know_their_defaults() {
    let names = Template::builtin_names();
    let starts = |start: &str| -> Vec<&str> {
        let starts = |name: &&&str| builtin(name).default_system().is_some_and(|s| s.starts_with(start));
        names.iter().filter(starts).copied().collect()
    };
    let helpful = ["stablelm-zephyr", "chat-ml", "chat-ml-tools", "nous-obsidian"];
    assert_eq!(starts("You are a helpful AI assistant."), helpful);
    assert_eq!(starts("Answer the questions."), ["llama-2"]);
    assert_eq!(starts("You are a helpful and friendly AI assistant."), ["llama-3", "llama-3.1"]);
    assert_eq!(starts("You are a friendly chatbot who always gives helpful"), ["tiny-llama"]);
    assert_eq!(starts("You are a helpful assistant. Write a response that"), ["sheared-llama"]);
    assert_eq!(starts("You are a helpful language and vision assistant. You"), ["llava-llama-2"]);
    assert_eq!(starts("A chat between a curious human and an"), ["vicuna-v0", "vicuna-v1", "llava-v0", "llava-v1"]);
    assert_eq!(starts("").len(), 15, "the others have none");
    assert!(builtin("vicuna-v1").default_system().is_some_and(|s| s.ends_with("answers to the human's questions.")));
    let stops: Vec<(&str, Vec<String>)> =
        names.iter().map(|name| (*name, builtin(name).stop().to_vec())).filter(|(_, stop)| !stop.is_empty()).collect();
    let expected: [(&str, &[&str]); 7] = [
        ("llama-3", &["<|end_of_text|>", "<|eot_id|>"]),
        ("llama-3.1", &["<|end_of_text|>", "<|eot_id|>", "<|eom_id|>"]),
        ("open-llama", &["</s>", "\n", "Q:"]),
        ("chat-ml-tools", &["<|im_end|>", "</tool_call>"]),
        ("nous-obsidian", &["###", "<|im_end|>"]),
        ("phi-3", &["<|end|>"]),
        ("qwen", &["<|im_end|>"]),
    ];
    assert_eq!(stops, expected.map(|(name, stop)| (name, stop.iter().map(|&s| s.to_owned()).collect())));
}

#[test]
fn built_in_templates_without_a_system_prompt_or_a_generation_prompt() {
    let render = |name: &str, add: bool, messages: &[Message]| {
        let vars = Vars { add_generation_prompt: add, bos_token: "<s>".to_owned(), ..Vars::default() };
        builtin(name).render(messages, &vars)
    };
    let user = [Message::user("U")];
    assert_eq!(render("llama-2", true, &user).expect("text"), "<s>[INST] U [/INST]");
    assert_eq!(render("vicuna-v1", false, &user).expect("text"), "USER: U\n", "a conversation adds what begins a text");
    assert_eq!(render("chat-ml", false, &user).expect("text"), "<|im_start|>user\nU<|im_end|>\n");
    assert_eq!(render("gemma", false, &user).expect("text"), "<bos><start_of_turn>user\nU<end_of_turn>\n");
    let two = [Message::user("A"), Message::user("B")];
    assert_eq!(render("llama-2", true, &two).expect("text"), "<s>[INST] A\nB [/INST]");
    assert_eq!(render("vicuna-v1", true, &two).expect("text"), "USER: A\nUSER: B\nASSISTANT: ");
    let system = [Message::system("S"), Message::user("U")];
    let gemma = "<bos><start_of_turn>user\nS\n\nU<end_of_turn>\n<start_of_turn>model\n";
    assert_eq!(render("gemma", true, &system).expect("text"), gemma);
}

#[test]
fn what_a_template_has_no_place_for_is_named() {
    let refused = |name: &str, messages: &[Message]| {
        let error = builtin(name).render(messages, &Vars::default()).expect_err(name);
        assert!(matches!(error, Error::Raised { .. }), "{error}");
        error.to_string()
    };
    for name in ["phi-2-chat", "phi-2-instruct", "open-llama", "bunny", "openvla"] {
        let error = refused(name, &[Message::system("S"), Message::user("U")]);
        assert!(error.contains(name) && error.contains("role system"), "{error}");
    }
    for name in ["llama-2", "vicuna-v1", "mistral", "gemma"] {
        assert!(refused(name, &[Message::user("U"), Message::new("tool", "x")]).contains("role tool"), "{name}");
    }
    for name in ["mistral", "gemma"] {
        let late = [Message::user("U"), Message::system("S")];
        assert!(refused(name, &late).contains("role system"), "{name}");
        // It would be lost.
        let early = [Message::system("S"), Message::assistant("R")];
        assert!(refused(name, &early).contains("role assistant"), "{name}");
    }
}

#[test]
fn the_line_that_ends_a_turn_comes_once() {
    let messages = [Message::user("U"), Message::assistant("R\n"), Message::user("V\n")];
    let expected = "<|im_start|>user\nU\n###\n<|im_start|>assistant\nR\n###\n<|im_start|>user\nV\n\n###\n\
                    <|im_start|>assistant\n";
    assert_eq!(render("nous-obsidian", &messages), expected);
    // Its own space, whether the reply has one or not.
    for reply in ["R", " R", "  R\n"] {
        let text = render("llama-2", &[Message::user("U"), Message::assistant(reply)]);
        assert_eq!(text, "<s>[INST] U [/INST] R</s>");
    }
}

#[test]
fn calls_and_what_they_returned() {
    for (name, pattern) in [
        ("llama-3.1", r"<\|python_tag\|>(.*?)<\|eom_id\|>"),
        ("chat-ml-tools", "<tool_call>(.*?)</tool_call>"),
        ("qwen", "<tool_call>(.*?)</tool_call>"),
    ] {
        let template = builtin(name);
        assert_eq!((template.tool_call(), template.tool_spec()), (Some(pattern), Some(ToolSpec::OpenAi)), "{name}");
    }
    assert_eq!((builtin("chat-ml").tool_call(), builtin("chat-ml").tool_spec()), (None, None));

    let call = json!([{"role": "user", "content": "U"}, {"role": "assistant", "content": null, "tool_calls": [
        {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]}, {"role": "tool", "content": "T"}]);
    let messages = Message::from_list(call).expect("messages");
    let user = "<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n";
    let call = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call>";
    let response = "<|im_start|>tool\n<tool_response>\nT\n</tool_response>\n<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(render("chat-ml-tools", &messages), format!("{user}{call}<|im_end|>\n{response}"));
    let header = |role: &str| format!("<|start_header_id|>{role}<|end_header_id|>\n\n");
    let llama = format!(
        "<|begin_of_text|>{}U<|eot_id|>{}<|python_tag|>{{\"name\": \"f\", \"parameters\": {{\"x\": 1}}}}<|eom_id|>{}T<|eot_id|>{}",
        header("user"),
        header("assistant"),
        header("ipython"),
        header("assistant")
    );
    assert_eq!(render("llama-3.1", &messages), llama);
    // As the model says it, its end cut off by the stop; and a call that is closed.
    for (words, end) in [("Hm.\n<tool_call>\n{}\n", "</tool_call>"), ("<tool_call>{}</tool_call>", "")] {
        let text = render("chat-ml-tools", &[Message::user("U"), Message::assistant(words)]);
        assert!(text.starts_with(&format!("{user}{words}{end}<|im_end|>\n")), "{text}");
    }
    let tools = Vars { tools: Some(json!([{"type": "function", "function": {"name": "f"}}])), ..Vars::default() };
    for name in ["chat-ml-tools", "llama-3.1", "qwen"] {
        for messages in [&[Message::system("SYS"), Message::user("U")][..], &[Message::user("U")]] {
            let text = builtin(name).render(messages, &tools).expect(name);
            assert_eq!(text.matches("\"name\": \"f\"").count(), 1, "{text}");
            assert_eq!(text.contains("SYS"), messages.len() == 2);
            let plain = render(name, messages);
            assert!(!plain.contains("\"f\"") && text.ends_with(&plain[plain.len() - 30..]), "{text}");
        }
    }
}

/// Renders of the models' own templates, where they and the built-in ones mean the same. Skipped without the folder.
#[test]
fn built_in_templates_agree_with_the_models_own() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/goldens/templates.json");
    let Ok(json) = std::fs::read_to_string(file) else {
        println!("skipped: 60 renders, there is no {file}");
        return;
    };
    let data: Value = serde_json::from_str(&json).expect("the golden data is JSON");
    let mut compared = 0;
    for (golden, name, only) in [
        ("qwen2.5", "qwen", ""),
        ("smollm2-gguf", "chat-ml", "system_3turns unicode whitespace"),
        ("dolphin-chatml", "chat-ml", "nosys_3turns consecutive_user"),
        ("llama-3", "llama-3", "system_3turns nosys_3turns unicode consecutive_user"),
        ("mixtral", "mistral", ""),
        ("phi-3.5", "phi-3", ""),
        ("gemma-2", "gemma", "single nosys_3turns"),
        ("zephyr", "tiny-llama", ""),
    ] {
        let golden = &data["templates"][golden];
        for case in golden["cases"].as_array().expect("cases") {
            let conversation = case["conv"].as_str().expect("conv");
            let add_generation_prompt = case["add_generation_prompt"] == true;
            let expected = case["rendered"].as_str().filter(|_| only.is_empty() || only.contains(conversation));
            // Without the words that ask for a reply, Phi 3.5 ends the text.
            let Some(expected) = expected.filter(|_| name != "phi-3" || add_generation_prompt) else { continue };
            let vars = Vars {
                add_generation_prompt,
                bos_token: golden["bos_token"].as_str().unwrap_or_default().to_owned(),
                eos_token: golden["eos_token"].as_str().unwrap_or_default().to_owned(),
                tools: (case["tools"] == true).then(|| data["tools"].clone()),
                ..Vars::default()
            };
            let messages = Message::from_list(data["conversations"][conversation].clone()).expect("messages");
            let text = builtin(name).render(&messages, &vars).expect(name);
            assert_eq!(text, expected, "{name}, {conversation}");
            compared += 1;
        }
    }
    assert_eq!(compared, 60, "cases went missing");
}

#[test]
fn templates_are_found_by_name_and_by_file() {
    let folder = std::env::temp_dir().join(format!("nano-templates-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = |name: &str, text: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("a file");
        path.to_str().expect("UTF-8").to_owned()
    };
    let jinja = file("mine.jinja", b"{{ messages[0].content }}!\n");
    let json = file("mine.json", br#"{"user": "U:${MESSAGE}"}"#);
    let bytes = file("bytes.jinja", b"\xff\xfe");
    let render = |name: &str| Template::resolve(name).and_then(|t| t.render(&[Message::user("a")], &Vars::default()));
    assert_eq!(render(&jinja).expect("Jinja"), "a!");
    assert_eq!(render(&json).expect("JSON"), "U:a");
    assert_eq!(render("chat-ml").expect("built-in"), "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n");
    let unknown = render("no-such-template").expect_err("unknown").to_string();
    assert!(Template::builtin_names().iter().all(|name| unknown.contains(name)), "{unknown}");
    assert!(matches!(render(&bytes), Err(Error::Read { .. })));
    assert!(matches!(render(folder.to_str().expect("UTF-8")), Err(Error::Read { .. })));
    std::fs::remove_dir_all(&folder).expect("cleaned up");
}
