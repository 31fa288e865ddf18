//! Tools in words: what is told, and what becomes of calls and results.

use super::*;
use crate::tools::splits::{parse, with_tools};
use crate::tools::{Map, ParserOptions, Piece};
use nano_templates::{Template, Vars};

fn tools() -> Vec<Value> {
    let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"},
                            "opts": {"type": "object"}, "tags": {"type": "array"}}, "required": ["city"]});
    vec![
        json!({"type": "function", "function": {"name": "weather", "description": "Tells it.", "parameters": parameters}}),
    ]
}

fn options() -> ParserOptions {
    let schema = |tool: &Value| tool["function"]["parameters"].clone();
    with_tools(json!({"weather": schema(&tools()[0]), "noargs": {"type": "object"}}))
}

fn call(name: &str, arguments: Value) -> ToolCall {
    ToolCall { id: None, name: name.to_owned(), arguments: arguments.as_object().expect("an object").clone() }
}

/// Calls that are hard to write.
fn calls() -> Vec<ToolCall> {
    let opts = json!({"a": [1, 2.5, {"b": null}], "c": true, "odd, \"key\"": "v"});
    vec![
        call("weather", json!({"city": "Paris", "days": 3})),
        call("noargs", json!({})),
        call("weather", json!({"city": "two\nlines, \"quoted\" and {braced} é", "opts": opts, "tags": ["x", "y, z"]})),
        call("weather", json!({"city": "3", "days": -1})),
    ]
}

#[test]
fn what_is_written_is_read_back_as_the_same_calls() {
    for &format in ToolFormat::ALL {
        for calls in [calls(), calls()[..1].to_vec(), calls()[2..3].to_vec()] {
            let text = format.write(&calls);
            let read = parse(format, &options(), &[&text]);
            assert_eq!(read, calls.into_iter().map(Piece::Call).collect::<Vec<_>>(), "{format}: {text}");
        }
    }
}

#[test]
fn a_call_keeps_its_name() {
    let named = ToolCall { id: Some("abcd12345".into()), ..call("noargs", json!({})) };
    for format in [ToolFormat::Json, ToolFormat::Mistral, ToolFormat::Hermes, ToolFormat::Phi4] {
        let text = format.write(std::slice::from_ref(&named));
        assert_eq!(parse(format, &options(), &[&text]), [Piece::Call(named.clone())], "{format}: {text}");
    }
}

#[test]
fn the_prompt_says_which_functions_there_are_and_shows_a_call_that_is_read() {
    for &format in ToolFormat::ALL {
        let text = told(format, &tools());
        let function = r#"{"name": "weather", "description": "Tells it.", "parameters": {"type": "object", "#;
        assert!(text.contains(function), "{format}: {text}");
        let example = text.split("\n\n").nth(3).expect("an example");
        let read = parse(format, &ParserOptions::default(), &[example]);
        let expected = call("function_name", json!({"argument_name": "value"}));
        assert_eq!(read, [Piece::Call(expected)], "{format}: {text}");
        assert_eq!(text.contains("second_function"), format != ToolFormat::Harmony, "{format}: {text}");
    }
    let json = told(ToolFormat::Json, &tools());
    assert!(
        json.contains("\n\n{\"name\": \"function_name\", \"arguments\": {\"argument_name\": \"value\"}}\n\n"),
        "{json}"
    );
}

fn conversation() -> Vec<Message> {
    let list = json!([
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "", "reasoning_content": "Hm.", "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"Paris\"}"}},
            {"id": "b", "type": "function", "function": {"name": "noargs", "arguments": {}}}]},
        {"role": "tool", "name": "weather", "tool_call_id": "a", "content": "Sun"},
        {"role": "tool", "tool_call_id": "b", "content": "None"},
        {"role": "assistant", "content": "Sunny."},
        {"role": "user", "content": "Thanks"},
    ]);
    Message::from_list(list).expect("messages")
}

#[test]
fn calls_and_results_become_what_model_and_user_say() {
    let said = translate(&conversation(), ToolFormat::Json);
    let texts: Vec<_> = said.iter().map(|message| (message.role.as_str(), message.content.text())).collect();
    let calls = r#"[{"name": "weather", "arguments": {"city": "Paris"}, "id": "a"}, {"name": "noargs", "arguments": {}, "id": "b"}]"#;
    let expected = [
        ("system", "Be kind."),
        ("user", "Weather?"),
        ("assistant", calls),
        ("user", "The function weather returned:\nSun\n\nThe function noargs returned:\nNone"),
        ("assistant", "Sunny."),
        ("user", "Thanks"),
    ];
    assert_eq!(texts, expected.map(|(role, text)| (role, text.to_owned())));
    assert!(said.iter().all(|message| message.tool_calls.is_none() && message.tool_call_id.is_none()));
    assert_eq!(said[2].reasoning_content.as_deref(), Some("Hm."));
}

#[test]
fn what_stands_beside_calls_and_results_is_kept() {
    let list = json!([
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": "I look.", "tool_calls": [{"function": {"name": "f", "arguments": "{broken"}}]},
        {"role": "tool", "content": [{"type": "text", "text": "seen"}, {"type": "image"}]},
        {"role": "user", "content": "Stop"},
        {"role": "user", "content": "Really"},
    ]);
    let said = translate(&Message::from_list(list).expect("messages"), ToolFormat::Hermes);
    assert_eq!(said.len(), 4);
    assert_eq!(said[1].content.text(), "I look.\n\n{\"function\": {\"name\": \"f\", \"arguments\": \"{broken\"}}");
    assert_eq!(said[2].content.text(), "The function returned:\nseen\n\nStop");
    assert!(matches!(&said[2].content, Content::Parts(parts) if parts[2].kind == "image"));
    assert_eq!(said[3].content.text(), "Really");
}

#[test]
fn every_built_in_template_renders_what_was_translated() {
    for name in Template::builtin_names() {
        let template = Template::builtin(name).expect(name);
        let vars = Vars::default();
        if template.knows_tools(&vars).results {
            continue;
        }
        let mut messages = translate(&conversation(), ToolFormat::Json);
        // What the conversation's owner does where there is no place for a system prompt.
        if template.render(&messages[..2], &vars).is_err() {
            messages.remove(0);
        }
        let text = template.render(&messages, &vars).unwrap_or_else(|e| panic!("{name}: {e}"));
        for word in [r#"{"city": "Paris"}"#, "Sun\n", "None", "Sunny.", "Thanks"] {
            assert_eq!(text.matches(word).count(), 1, "{name}, {word}: {text}");
        }
    }
}

#[test]
fn every_published_template_renders_a_translated_conversation_or_knows_results() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/goldens/templates.json");
    let Ok(json) = std::fs::read_to_string(file) else {
        println!("skipped: 48 templates, there is no {file}");
        return;
    };
    let data: Value = serde_json::from_str(&json).expect("the golden data is JSON");
    let mut translated = 0;
    for (name, golden) in data["templates"].as_object().expect("templates") {
        let template = Template::jinja(name, golden["template"].as_str().expect("template")).expect(name);
        let vars = Vars { bos_token: "<s>".into(), eos_token: "</s>".into(), ..Vars::default() };
        if template.knows_tools(&vars).results {
            continue;
        }
        let messages = translate(&conversation()[1..], ToolFormat::Json);
        let text = template.render(&messages, &vars).unwrap_or_else(|e| panic!("{name}: {e}"));
        // They write lists of parts only.
        if ["smolvlm", "llava-1.5"].contains(&name.as_str()) {
            assert!(!text.contains("Weather?"), "{text}");
            continue;
        }
        translated += 1;
        for word in [r#"{"city": "Paris"}"#, "Sun\n", "Thanks"] {
            assert!(text.contains(word), "{name}, {word}: {text}");
        }
    }
    assert_eq!(translated, 28);
}

#[test]
fn json_has_spaces_as_python_writes_it() {
    let value = json!({"a": [1, {"b": "c,d:e"}, []], "é": {}, "x": 1.0});
    assert_eq!(dumps(&value), r#"{"a": [1, {"b": "c,d:e"}, []], "é": {}, "x": 1.0}"#);
    assert_eq!(dumps(&Map::new()), "{}");
}
