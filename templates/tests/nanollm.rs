//! NanoLLM-style template files: what they feed, and what is wrong with those that are wrong.

use nano_templates::{Message, Template, ToolSpec, Vars};
use serde_json::json;

const LLAMA_3_HEAD: &str = "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nSYS<|eot_id|>\
    <|start_header_id|>user<|end_header_id|>\n\nU1<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n";
const LLAMA_3_NEXT: &str =
    "<|start_header_id|>user<|end_header_id|>\n\nU2<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n";

fn conversation() -> [Message; 4] {
    [Message::system("SYS"), Message::user("U1"), Message::assistant("R"), Message::user("U2")]
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

/// D6.
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
        ("{\"user\": \"${MESSAGE}\", \"name\": \"\"}", "the key \"name\" is empty"),
        ("{\"user\": \"${MESSAGE}\", \"system_prompt\": []}", "the key \"system_prompt\" must be a string"),
        ("{\"user\": \"${MESSAGE}\", \"user\": \"${MESSAGE}\"}", "the key \"user\" is there twice"),
        ("{\"user\": \"${MESSAGE}\", \"narrator\": \"*\"}", "\"narrator\" must contain ${MESSAGE} once"),
        ("{\"user\": \"${MESSAGE}\", \"first\": null}", "the key \"first\" must be a string, found null"),
        ("{\"user\": \"${MESSAGE}\", \"stop\": \"\"}", "the key \"stop\" takes strings"),
        ("{\"user\": \"${MESSAGE}\", \"stop\": [1.5]}", "found the number 1.5"),
        ("{\"user\": \"${MESSAGE}\", \"stop\": [[]]}", "found a list of 0"),
        ("{\"user\": \"${MESSAGE}\", \"stop\": 4294967296}", "found the number 4294967296"),
        ("{\"user\": \"${MESSAGE}\", \"tool_call\": \"<c>(.*\"}", "\"tool_call\" must be a regular expression"),
        ("{\"user\": \"${MESSAGE}\", \"tool_call\": \"<c>(.*\"}", "unclosed group"),
        ("{\"user\": \"${MESSAGE}\", \"tool_call\": \"<c>\"}", "\"tool_call\" must have a group"),
        ("{\"user\": \"${MESSAGE}\", \"tool_call\": 1}", "the key \"tool_call\" must be a string"),
        ("{\"user\": \"${MESSAGE}\", \"tool_spec\": \"xml\"}", "\"tool_spec\" must be openai or python"),
        ("{\"user\": \"${MESSAGE}\", \"tool_spec\": \"openai\"}", "which needs a key \"tool_call\""),
        ("{\"user\": \"${MESSAGE}\"} x", "not valid JSON"),
    ] {
        let error = Template::nanollm("dir/broken.json", json).expect_err(json).to_string();
        assert!(error.contains("broken.json") && error.contains(expected), "{json}: {error}");
    }
}

/// D6: a name is not needed.
#[test]
fn optional_keys_may_be_null_or_left_out() {
    let json = r#"{"name": null, "system_prompt": null, "user": "<${MESSAGE}>", "stop": null, "tool_call": null, "tool_spec": null}"#;
    let template = Template::nanollm("folder/mine.json", json).expect("template");
    assert_eq!((template.name(), template.default_system(), template.tool_call()), ("mine", None, None));
    assert!(template.stop().is_empty() && template.stop_ids().is_empty() && template.tool_spec().is_none());
    // A reply is what the model said where no key says more.
    let messages = [Message::user("U1"), Message::assistant("R"), Message::user("U2")];
    assert_eq!(template.render(&messages, &Vars::default()).expect("text"), "<U1>R<U2>");
}

#[test]
fn what_a_file_says_of_calls_is_kept() {
    let with = |more: &str| {
        let json = format!(r#"{{"user": "${{MESSAGE}}", "tool_response": "<${{MESSAGE}}>"{more}}}"#);
        Template::nanollm("t.json", &json).expect(more)
    };
    let calls = with(r#", "tool_call": "<c>(.*?)</c>""#);
    assert_eq!((calls.tool_call(), calls.tool_spec()), (Some("<c>(.*?)</c>"), Some(ToolSpec::OpenAi)));
    let python = with(r#", "tool_spec": "python""#);
    assert_eq!((python.tool_call(), python.tool_spec()), (None, Some(ToolSpec::Python)));
    assert_eq!(with("").tool_spec(), None);
    let messages = [Message::user("U"), Message::assistant("R"), Message::new("tool", "T")];
    assert_eq!(calls.render(&messages, &Vars::default()).expect("text"), "UR<T>");
}
