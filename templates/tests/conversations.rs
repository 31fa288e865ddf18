//! Whole conversations against transformers' own Jinja environment: with the built-in templates, and with some that walk over
//! a conversation as published ones do. `scripts/golden_templates.py` makes the data.

use nano_templates::{Error, Message, Template, Vars};
use serde_json::Value;

#[test]
fn conversations_render_as_in_transformers() {
    let data: Value = serde_json::from_str(include_str!("data/conversations.json")).expect("the golden data is JSON");
    let cases = data["cases"].as_array().expect("cases");
    let mut failures = Vec::new();
    for case in cases {
        let [name, conversation] = ["template", "conversation"].map(|key| case[key].as_str().expect(key));
        let template = match data["templates"][name].as_str() {
            Some(source) => Template::jinja(name, source).unwrap_or_else(|e| panic!("{name}: {e}")),
            None => Template::builtin(name).unwrap_or_else(|| panic!("{name} is not built in")),
        };
        let messages = Message::from_list(data["conversations"][conversation].clone()).expect("messages");
        let vars = Vars {
            add_generation_prompt: case["ask"] == true,
            bos_token: "<s>".to_owned(),
            eos_token: "</s>".to_owned(),
            tools: (case["tools"] == true).then(|| data["tools"].clone()),
            ..Vars::default()
        };
        let got = template.render(&messages, &vars);
        let agrees = match (&got, case["rendered"].as_str(), case["error"].as_str()) {
            (Ok(text), Some(expected), _) => text == expected,
            (Err(Error::Raised { message, .. }), None, Some(error)) => error == format!("TemplateError: {message}"),
            (Err(_), None, Some(error)) => !error.starts_with("TemplateError"),
            _ => false,
        };
        if !agrees {
            let expected = if case["error"].is_null() { &case["rendered"] } else { &case["error"] };
            failures.push(format!("{name}, {conversation}\n  expected {expected}\n  got      {got:?}"));
        }
    }
    for name in Template::builtin_names() {
        assert!(cases.iter().any(|case| case["template"] == *name), "{name} has no case: run the script");
    }
    assert!(failures.is_empty(), "{} of {} differ\n{}", failures.len(), cases.len(), failures.join("\n"));
}
