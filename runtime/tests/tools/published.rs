//! Rounds with templates as they are published, which lie beside the project. Without them the test is skipped.

use crate::common::options;
use crate::{ask, model, reply, result};
use nano_runtime::{ChatOptions, Template, Value};

/// Templates, what a model of the family says, and what its reply is read as.
const CASES: &[(&[&str], &str, &str)] = &[
    (
        &["qwen2.5", "hermes-2-pro", "hermes-3"],
        "<tool_call>\n{\"name\": \"get_current_weather\", \"arguments\": {\"location\":\"Rome\"}}\n</tool_call><|im_end|>",
        "",
    ),
    (
        &["qwen3"],
        "<think>\nHm.\n</think>\n\n<tool_call>\n{\"name\": \"get_current_weather\", \"arguments\": {\"location\":\"Rome\"}}\n</tool_call><|im_end|>",
        "Hm.",
    ),
    (
        &["qwen3.5"],
        "Hm.\n</think>\n\n<tool_call>\n<function=get_current_weather>\n<parameter=location>\nRome\n</parameter>\n</function>\n</tool_call><|im_end|>",
        "Hm.",
    ),
    (
        &["llama-3.1", "llama-3.2", "llama-3.3"],
        "{\"name\": \"get_current_weather\", \"parameters\": {\"location\":\"Rome\"}}<|eot_id|>",
        "",
    ),
    (
        &["mistral-nemo", "mistral-v0.3-tools"],
        "[TOOL_CALLS][{\"name\": \"get_current_weather\", \"arguments\": {\"location\":\"Rome\"}}]</s>",
        "",
    ),
];

#[test]
fn published_templates_feed_only_what_is_new_in_a_round() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/goldens/templates.json");
    let Ok(json) = std::fs::read_to_string(file) else {
        println!("skipped: there is no {file}");
        return;
    };
    let data: Value = serde_json::from_str(&json).unwrap();
    for (names, says, reasoning) in CASES {
        for name in *names {
            let golden = &data["templates"][name];
            let template = Template::jinja(name, golden["template"].as_str().unwrap()).unwrap();
            let closes = if says.starts_with("Hm.") { "</think>\n\n" } else { "" };
            let (model, _) = model(template, &[says, closes, "Sunny.</s>"]);
            let tools = data["tools"].as_array().unwrap().clone();
            let mut options_ = ChatOptions { tools, ..ChatOptions::default() };
            options_.vars.bos_token = golden["bos_token"].as_str().unwrap_or_default().to_owned();
            options_.vars.eos_token = golden["eos_token"].as_str().unwrap_or_default().to_owned();
            options_.vars.extra.insert("date_string".into(), "26 Jul 2024".into());
            let mut chat = model.chat(options_).unwrap();
            let (lines, first) = ask(&mut chat, "Weather in Rome?");
            let call = r#"call call00000 get_current_weather {"location":"Rome"}"#;
            assert_eq!(lines.last().map(String::as_str), Some(call), "{name}: {lines:?}");
            assert_eq!(first.message.reasoning_content.as_deref().unwrap_or_default(), *reasoning, "{name}");
            let rows = chat.num_rows();
            chat.append_message(result(&first.message, 0, "sunny"));
            let (lines, second) = reply(&mut chat, &options());
            assert_eq!(lines, ["text Sunny."], "{name}");
            assert_eq!(second.stats.reused_tokens, rows, "{name}: {}", chat.prompt().unwrap_or_default());
        }
    }
}
