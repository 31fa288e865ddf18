//! The built-in templates, NanoLLM-style files, and how a template is found by name. The feeds are NanoLLM's own: what it
//! sends for the first turn, and for the second once the reply with its end token is in the cache.

use nano_templates::{Error, Message, Template, Vars};
use serde_json::json;

const LLAMA_3_HEAD: &str = "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nSYS<|eot_id|>\
    <|start_header_id|>user<|end_header_id|>\n\nU1<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n";
const LLAMA_3_NEXT: &str =
    "<|start_header_id|>user<|end_header_id|>\n\nU2<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n";

/// First feed, what stands between the reply and the second feed, second feed.
const FEEDS: [(&str, &str, &str, &str); 4] = [
    // ChatML ends every turn with a line feed, which NanoLLM left out after a reply.
    (
        "chat-ml",
        "<|im_start|>system\nSYS<|im_end|>\n<|im_start|>user\nU1<|im_end|>\n<|im_start|>assistant\n",
        "<|im_end|>\n",
        "<|im_start|>user\nU2<|im_end|>\n<|im_start|>assistant\n",
    ),
    ("llama-2", "<s>[INST] <<SYS>>\nSYS\n<</SYS>>\n\nU1 [/INST]", "</s>", "<s>[INST] U2 [/INST]"),
    ("llama-3", LLAMA_3_HEAD, "<|eot_id|>", LLAMA_3_NEXT),
    ("vicuna-v1", "SYS\n\nUSER: U1\nASSISTANT: ", "</s>", "USER: U2\nASSISTANT: "),
];

fn conversation() -> [Message; 4] {
    [Message::system("SYS"), Message::user("U1"), Message::assistant("R"), Message::user("U2")]
}

#[test]
fn built_in_templates_feed_what_nanollm_feeds() {
    assert_eq!(Template::builtin_names(), FEEDS.map(|feed| feed.0));
    for (name, first, end, second) in FEEDS {
        let template = Template::builtin(name).expect(name);
        assert_eq!(template.name(), name);
        let render = |messages: &[Message]| template.render(messages, &Vars::default()).expect(name);
        assert_eq!(render(&conversation()[..2]), first);
        // The space before a reply of Llama 2 is its template's.
        let space = if name == "llama-2" { " " } else { "" };
        assert_eq!(render(&conversation()), format!("{first}{space}R{end}{second}"));
        // Parts of text are text.
        let parts = json!([{"role": "system", "content": "SYS"}, {"role": "user", "content": [{"type": "text", "text": "U"}, {"type": "text", "text": "1"}]}]);
        assert_eq!(render(&Message::from_list(parts).expect("parts")), first);
    }
}

#[test]
fn built_in_templates_know_their_defaults() {
    let system = |name: &str| Template::builtin(name).and_then(|t| t.default_system().map(str::to_owned));
    assert_eq!(system("chat-ml").as_deref(), Some("You are a helpful AI assistant."));
    assert_eq!(system("llama-2").as_deref(), Some("Answer the questions."));
    assert_eq!(system("llama-3").as_deref(), Some("You are a helpful and friendly AI assistant."));
    assert!(
        system("vicuna-v1")
            .is_some_and(|s| s.starts_with("A chat between a curious human") && s.ends_with("the human's questions."))
    );
    let stop = |name: &str| Template::builtin(name).map(|t| t.stop().to_vec()).unwrap_or_default();
    assert_eq!(stop("llama-3"), ["<|end_of_text|>", "<|eot_id|>"]);
    assert!(stop("chat-ml").is_empty());
}

#[test]
fn built_in_templates_without_a_system_prompt_or_a_generation_prompt() {
    let render = |name: &str, add: bool, messages: &[Message]| {
        let vars = Vars { add_generation_prompt: add, bos_token: "<s>".to_owned(), ..Vars::default() };
        Template::builtin(name).expect(name).render(messages, &vars)
    };
    let user = [Message::user("U")];
    assert_eq!(render("llama-2", true, &user).expect("text"), "<s>[INST] U [/INST]");
    assert_eq!(render("vicuna-v1", false, &user).expect("text"), "<s>USER: U\n");
    assert_eq!(render("chat-ml", false, &user).expect("text"), "<|im_start|>user\nU<|im_end|>\n");
    let two = [Message::user("A"), Message::user("B")];
    assert_eq!(render("llama-2", true, &two).expect("text"), "<s>[INST] A\nB [/INST]");
    let error = render("llama-2", true, &[Message::new("tool", "x")]).expect_err("a role it does not know");
    assert!(matches!(&error, Error::Raised { message, .. } if message.contains("not tool")), "{error}");
}

/// NanoLLM's own tables: file, first feed, second feed.
fn tables() -> Vec<(serde_json::Value, &'static str, &'static str)> {
    vec![
        (
            json!({"system": "<s>[INST] <<SYS>>\n${MESSAGE}\n<</SYS>>\n\n", "first": "${MESSAGE} [/INST]", "user": "<s>[INST] ${MESSAGE} [/INST]", "bot": " ${MESSAGE}"}),
            "<s>[INST] <<SYS>>\nSYS\n<</SYS>>\n\nU1 [/INST]",
            "<s>[INST] U2 [/INST]",
        ),
        (
            json!({
                "system": "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n${MESSAGE}<|eot_id|>",
                "user": "<|start_header_id|>user<|end_header_id|>\n\n${MESSAGE}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
                "bot": "${MESSAGE}<|eot_id|>"}),
            LLAMA_3_HEAD,
            LLAMA_3_NEXT,
        ),
        (
            json!({"system": "<|system|>\n${MESSAGE}</s>\n", "user": "<|user|>\n${MESSAGE}</s>\n<|assistant|>\n", "bot": "${MESSAGE}"}),
            "<|system|>\nSYS</s>\n<|user|>\nU1</s>\n<|assistant|>\n",
            "<|user|>\nU2</s>\n<|assistant|>\n",
        ),
        (
            json!({"system": "${MESSAGE}\n\n", "user": "### Input:\n${MESSAGE}\n\n### Response:", "bot": "${MESSAGE}"}),
            "SYS\n\n### Input:\nU1\n\n### Response:",
            "### Input:\nU2\n\n### Response:",
        ),
        (json!({"user": "Q: ${MESSAGE}\nA:", "bot": "${MESSAGE}\n"}), "Q: U1\nA:", "Q: U2\nA:"),
        (
            json!({"system": "${MESSAGE}\n\n", "user": "USER: ${MESSAGE}\nASSISTANT: ", "bot": "${MESSAGE}\n"}),
            "SYS\n\nUSER: U1\nASSISTANT: ",
            "USER: U2\nASSISTANT: ",
        ),
        (
            json!({"first": "<bos><start_of_turn>user\n${MESSAGE}<end_of_turn>\n<start_of_turn>model\n", "user": "<end_of_turn>\n<start_of_turn>user\n${MESSAGE}<end_of_turn>\n<start_of_turn>model\n", "bot": "${MESSAGE}"}),
            "<bos><start_of_turn>user\nU1<end_of_turn>\n<start_of_turn>model\n",
            "<end_of_turn>\n<start_of_turn>user\nU2<end_of_turn>\n<start_of_turn>model\n",
        ),
    ]
}

#[test]
fn nanollm_files_feed_what_nanollm_feeds() {
    for (json, first, second) in tables() {
        let template = Template::nanollm("my-model.json", &json.to_string()).expect("template");
        assert_eq!(template.name(), "my-model");
        let messages = &conversation()[usize::from(json.get("system").is_none())..];
        let render =
            |count: usize| template.render(&messages[..messages.len() - count], &Vars::default()).expect("text");
        assert_eq!(render(2), first);
        assert_eq!(render(0), render(1) + second);
    }
}

#[test]
fn nanollm_neighbours_of_one_role_share_a_turn() {
    let json = json!({"name": "n", "system_prompt": "S", "system": "[${MESSAGE}]", "first": "<1${MESSAGE}>", "user": "<${MESSAGE}>", "bot": "(${MESSAGE})",
        "tool_response": "{${MESSAGE}}", "narrator": "*${MESSAGE}*", "stop": ["###", 7, [1, 2]], "tool_call": "<tool>(.*?)</tool>", "tool_spec": "openai"});
    let template = Template::nanollm("file.json", &json.to_string()).expect("template");
    let render = |roles: &[&str]| {
        let messages: Vec<Message> =
            roles.iter().enumerate().map(|(i, role)| Message::new(*role, i.to_string())).collect();
        template.render(&messages, &Vars::default())
    };
    assert_eq!(render(&["system", "user", "user", "assistant", "user"]).expect("text"), "[0]<112>(3)<4>");
    assert_eq!(render(&["user", "assistant", "user", "user", "user"]).expect("text"), "<0>(1)<234>");
    assert_eq!(render(&["system", "user", "bot", "tool", "narrator"]).expect("text"), "[0]<11>(2){3}*4*");
    assert_eq!((template.name(), template.default_system()), ("n", Some("S")));
    assert_eq!(template.stop(), ["###"]);
    assert_eq!(template.stop_ids(), [vec![7], vec![1, 2]]);
    let error = render(&["system", "critic"]).expect_err("a role without a key").to_string();
    assert!(error.contains("no key \"critic\", which message 1") && error.contains("narrator"), "{error}");
    let single = |stop: serde_json::Value| {
        let json = json!({"user": "${MESSAGE}", "stop": stop});
        Template::nanollm("s.json", &json.to_string()).map(|t| (t.stop().to_vec(), t.stop_ids().to_vec())).ok()
    };
    assert_eq!(single(json!("x")), Some((vec!["x".to_owned()], vec![])));
    assert_eq!(single(json!(5)), Some((vec![], vec![vec![5]])));
}

#[test]
fn wrong_nanollm_files_name_the_file_and_the_key() {
    for (json, expected) in [
        ("{", "not valid JSON"),
        ("[]", "found a list of 0"),
        ("{}", "the key \"user\" is missing; found no keys"),
        ("{\"bot\": \"${MESSAGE}\"}", "the key \"user\" is missing; found bot"),
        ("{\"user\": 5}", "the key \"user\" must be a string, found the number 5"),
        ("{\"user\": \"USER:\"}", "the key \"user\" must contain ${MESSAGE} once, found it 0 times"),
        ("{\"user\": \"${MESSAGE}${MESSAGE}\"}", "found it 2 times"),
        ("{\"user\": \"${MESSAGE}\", \"system_prompt\": \"S\"}", "\"system_prompt\" needs a key \"system\""),
        (
            "{\"user\": \"${MESSAGE}\", \"stop\": {}}",
            "the key \"stop\" takes strings, token ids and lists of token ids, found an object",
        ),
        ("{\"user\": \"${MESSAGE}\", \"stop\": [-1]}", "found the number -1"),
        ("{\"user\": \"${MESSAGE}\", \"stop\": [[\"a\"]]}", "found the string \"a\""),
        ("{\"user\": \"${MESSAGE}\", \"name\": 1}", "the key \"name\" must be a string"),
    ] {
        let error = Template::nanollm("dir/broken.json", json).expect_err(json).to_string();
        assert!(error.contains("broken.json") && error.contains(expected), "{json}: {error}");
    }
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
