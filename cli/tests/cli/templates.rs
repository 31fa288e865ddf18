//! Chat templates as users meet them: the list, `--chat-template` with every kind of value, and the choice for models
//! that bring none.

use super::harness::{BYE, HELLO, Model, nano, parrot, run};
use nano_models::testing::{TempDir, Tiny};
use serde_json::json;

#[test]
fn the_list() {
    let dir = TempDir::new("templates");
    let with = |args: &[&str]| {
        let mut command = nano(dir.path());
        command.arg("templates").args(args);
        run(command, "").succeeded()
    };
    let list = with(&["--json"]).json();
    let list = list.as_array().unwrap();
    let names: Vec<&str> = list.iter().map(|t| t["name"].as_str().unwrap()).collect();
    for name in
        "llama-2 llama-3 llama-3.1 tiny-llama sheared-llama open-llama vicuna-v0 vicuna-v1 stablelm-zephyr chat-ml \
        chat-ml-tools nous-obsidian phi-2-chat phi-2-instruct gemma llava-v0 llava-v1 llava-llama-2 mistral phi-3 qwen"
            .split_whitespace()
    {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    let find = |name: &str| list.iter().find(|t| t["name"] == name).unwrap();
    let llama = find("llama-3");
    assert_eq!(llama["system_prompt"], "You are a helpful and friendly AI assistant.");
    assert_eq!(llama["stop"], json!(["<|end_of_text|>", "<|eot_id|>"]));
    assert!(llama["source"].as_str().unwrap().contains("<|start_header_id|>"));
    assert_eq!((&find("gemma")["system_prompt"], &find("gemma")["stop"]), (&json!(null), &json!([])));

    let text = with(&[]).text();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() == names.len() + 3 && lines[0].starts_with("name "), "{text}");
    for (name, line) in names.iter().zip(&lines[1..]) {
        assert_eq!(line.split(' ').next(), Some(*name), "{text}");
    }
    assert!(
        text.contains("</s> \\n Q:") && !text.contains("answers to the human's"),
        "stops and prompts in a line: {text}"
    );
}

/// D6: `--chat-template` takes a name, a file or `auto`.
#[test]
fn every_template_takes_part_in_a_chat() {
    let model = Model::new(&parrot());
    let messages = model.dir.write("m.json", r#"[{"role": "user", "content": "U1"}]"#);
    for name in nano_templates::Template::builtin_names() {
        let args = ["render", "--messages", messages.to_str().unwrap(), "--chat-template", name];
        assert!(model.run(&args, "").succeeded().text().contains("U1"), "{name}");
    }
    let json = r#"{"system": "<|im_start|>system\n${MESSAGE}<|im_end|>\n", "bot": "${MESSAGE}<|im_end|>\n", "stop": "there",
        "user": "<|im_start|>user\n${MESSAGE}<|im_end|>\n<|im_start|>assistant\n<|reply0|>"}"#;
    let json = model.dir.write("mine.json", json);
    let jinja = model.dir.write("mine.jinja", format!("{}{{# {{}} #}}", parrot().template()));
    for (template, reply) in [(json.to_str().unwrap(), "Hello"), (jinja.to_str().unwrap(), HELLO), ("auto", HELLO)] {
        let ran = model.run(&["--chat-template", template, "--prompt", "hi"], "").succeeded();
        assert_eq!(ran.text().trim_end(), reply, "{template}");
    }
    let two = model.run(&["--chat-template", "auto", "-p", "hi", "-p", "hi"], "").succeeded();
    assert!(two.text().contains(BYE));
    let broken = model.dir.write("broken.json", r#"{"user": "${MESSAGE}", "stop": {}}"#);
    let args = ["--chat-template", broken.to_str().unwrap(), "-p", "hi"];
    model.run(&args, "").failed_with(&["broken.json", "\"stop\"", "an object"]);
}

/// D6, D7.
#[test]
fn a_model_without_a_template_gets_one_with_a_word() {
    let folder = TempDir::new("no-template");
    let mut files = Tiny::default().folder(1);
    files.files.retain(|(name, _)| name != "tokenizer_config.json");
    files.write(folder.path());
    let with = |args: &[&str]| {
        let mut command = nano(folder.path());
        command.args(args).arg("--model").arg(folder.path());
        run(command, "").succeeded()
    };
    let chat = with(&["-n", "1", "--prompt", "hi"]);
    for word in ["warning: ", "chat-ml is taken", "<|im_start|>", "--chat-template"] {
        assert!(chat.stderr.contains(word), "{}", chat.stderr);
    }
    assert!(!with(&["-n", "1", "--prompt", "hi", "--chat-template", "chat-ml"]).stderr.contains("taken"));
    assert_eq!(with(&["complete", "-n", "1", "--prompt", "hi", "--disable-stats"]).stderr, "", "only a chat needs one");
    assert_eq!(with(&["info", "--json"]).json()["template"], "chat-ml");
    let messages = folder.write("m.json", r#"[{"role": "user", "content": "hi"}]"#);
    let rendered = with(&["render", "--messages", messages.to_str().unwrap()]);
    assert_eq!(rendered.text(), "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
}
