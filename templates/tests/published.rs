//! Chat templates as they are published, each with conversations as transformers renders them: every case must agree byte
//! for byte. The templates belong to others and lie beside the project, not in it; without them the test is skipped.
//! What is our own is in `own`.

use nano_templates::{Error, Message, Template, Vars};
use serde_json::Value;

const CASES: usize = 593;

#[test]
fn published_templates_render_as_in_transformers() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/goldens/templates.json");
    let Ok(json) = std::fs::read_to_string(file) else {
        println!("skipped: {CASES} renders, there is no {file}");
        return;
    };
    let data: Value = serde_json::from_str(&json).expect("the golden data is JSON");
    let (mut cases, mut failures) = (0, Vec::new());
    for (name, golden) in data["templates"].as_object().expect("templates") {
        let template = Template::jinja(name, golden["template"].as_str().expect("template"))
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        for case in golden["cases"].as_array().expect("cases") {
            cases += 1;
            let conversation = case["conv"].as_str().expect("conv");
            let messages = Message::from_list(data["conversations"][conversation].clone()).expect("messages");
            let vars = Vars {
                add_generation_prompt: case["add_generation_prompt"].as_bool().expect("add_generation_prompt"),
                bos_token: golden["bos_token"].as_str().unwrap_or_default().to_owned(),
                eos_token: golden["eos_token"].as_str().unwrap_or_default().to_owned(),
                tools: case["tools"].as_bool().expect("tools").then(|| data["tools"].clone()),
                extra: case["kwargs"].as_object().expect("kwargs").clone(),
                now: None,
            };
            let got = template.render(&messages, &vars);
            let agrees = match (&got, case["rendered"].as_str()) {
                (Ok(text), Some(expected)) => text == expected,
                (Err(Error::Raised { message, .. }), None) => case["error"] == format!("TemplateError: {message}"),
                _ => false,
            };
            if !agrees {
                failures.push(format!("{name}, {conversation}:\n  expected {}\n  got      {got:?}", case["rendered"]));
            }
        }
    }
    assert_eq!(cases, CASES, "cases went missing");
    assert!(failures.is_empty(), "{} of {cases} cases differ\n{}", failures.len(), failures.join("\n"));
}
