//! The Jinja environment against transformers' own: small templates, one peculiarity each. `scripts/golden_templates.py`
//! makes the data.

use nano_templates::{Error, Message, Template, Vars};
use serde_json::Value;

#[test]
fn snippets_render_as_in_transformers() {
    let data: Value = serde_json::from_str(include_str!("data/environment.json")).expect("the golden data is JSON");
    let mut extra = data["vars"].as_object().expect("vars").clone();
    let messages = Message::from_list(extra.remove("messages").expect("messages")).expect("messages");
    let vars = Vars { extra, ..Vars::default() };
    let cases = data["cases"].as_array().expect("cases");
    let mut failures = Vec::new();
    for case in cases {
        let source = case["template"].as_str().expect("template");
        let got = Template::jinja("snippet", source).and_then(|template| template.render(&messages, &vars));
        let agrees = match (&got, case["rendered"].as_str(), case["error"].as_str()) {
            (Ok(text), Some(expected), _) => text == expected,
            (Err(Error::Raised { message, .. }), None, Some(error)) => error == format!("TemplateError: {message}"),
            (Err(_), None, Some(error)) => !error.starts_with("TemplateError"),
            _ => false,
        };
        if !agrees {
            let expected = if case["error"].is_null() { &case["rendered"] } else { &case["error"] };
            failures.push(format!("{source:?}\n  expected {expected}\n  got      {got:?}"));
        }
    }
    assert!(cases.len() > 100, "cases went missing");
    assert!(failures.is_empty(), "{} of {} differ\n{}", failures.len(), cases.len(), failures.join("\n"));
}
