//! What forced answers can say. The vocabulary is bytes, some words, and the marks of all formats, as control tokens or as
//! mere text.

use super::*;
use crate::tools::speech::{MARKS, Speech};
use crate::tools::splits::parse;
use serde_json::json;

#[path = "../../tests/constrain/fits.rs"]
mod fits;

fn tool(name: &str, parameters: Value) -> Value {
    json!({"type": "function", "function": {"name": name, "description": "?", "parameters": parameters}})
}

fn tools() -> Vec<Value> {
    let opts = json!({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer"}, "maxItems": 2},
                      "s": {"type": "string", "maxLength": 4}}, "required": ["a"], "additionalProperties": false});
    let weather = json!({"type": "object", "properties": {
        "city": {"type": "string", "maxLength": 12},
        "days": {"type": "integer", "minimum": 1, "maximum": 10},
        "unit": {"enum": ["C", "F", "any <b>"]},
        "on": {"type": "boolean"},
        "opts": opts,
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    }, "required": ["city", "unit"]});
    let code = json!({"type": "object", "properties": {
        "x-1": {"type": "number"},
        "code": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 3}, "minItems": 1, "maxItems": 2},
    }});
    vec![
        tool("weather", weather),
        tool("weather_code", code),
        json!({"type": "function", "function": {"name": "ping"}}),
    ]
}

/// Schemas by name.
fn schemas(tools: &[Value]) -> Map<String, Value> {
    let schema = |tool: &Value| closed(tool["function"].get("parameters"));
    tools.iter().map(|tool| (tool["function"]["name"].as_str().unwrap().to_owned(), schema(tool))).collect()
}

/// The calls that a text is; it must be nothing else, and they must fit.
fn calls(format: ToolFormat, tools: &[Value], inside: bool, text: &str) -> Vec<ToolCall> {
    let schemas = schemas(tools);
    let options = ParserOptions { schemas: Arc::new(schemas.clone()), inside_reasoning: inside, calls: true };
    let call = |piece| match piece {
        Piece::Call(call) => call,
        other => panic!("{format}: {other:?} in {text:?}"),
    };
    let calls: Vec<ToolCall> = parse(format, &options, &[text]).into_iter().map(call).collect();
    for call in &calls {
        let schema = schemas.get(&call.name).unwrap_or_else(|| panic!("{format}: {call:?} in {text:?}"));
        let wrong = fits::misfit(schema, &Value::Object(call.arguments.clone()));
        assert_eq!(wrong, None, "{format}: {text:?}");
    }
    calls
}

#[test]
fn whatever_is_drawn_is_calls_with_arguments_that_fit() {
    for marks in [MARKS, &[]] {
        let speech = Speech::new(marks);
        for &format in ToolFormat::ALL {
            for seed in 0..6 {
                let inside = seed % 3 == 1;
                let choice = if seed % 4 == 2 { ToolChoice::Named("weather".into()) } else { ToolChoice::Required };
                let constraint = speech.forced(format, &tools(), &choice, inside);
                let text = speech.walk(&constraint, seed * 100 + 7);
                let calls = calls(format, &tools(), inside, &text);
                let most = if choice == ToolChoice::Required { MOST } else { 1 };
                assert!((1..=most).contains(&calls.len()), "{format}: {text:?}");
                let named = choice == ToolChoice::Required || calls[0].name == "weather";
                assert!(named, "{format}: {text:?}");
            }
        }
    }
}

fn given(name: &str, arguments: Value) -> ToolCall {
    ToolCall { id: None, name: name.to_owned(), arguments: arguments.as_object().unwrap().clone() }
}

#[test]
fn the_examples_of_each_format_are_admitted() {
    let weather =
        given("weather", json!({"city": "Sã \"P\" <b>\\", "days": 3, "unit": "any <b>", "opts": {"a": [1, 2]}}));
    let two = [weather.clone(), given("ping", json!({}))];
    for marks in [MARKS, &[]] {
        let speech = Speech::new(marks);
        for &format in ToolFormat::ALL {
            let forced = |choice: &ToolChoice, inside| speech.forced(format, &tools(), choice, inside);
            let required = forced(&ToolChoice::Required, false);
            // What is nested is JSON in these.
            let plain = match format {
                ToolFormat::FunctionGemma | ToolFormat::Gemma4 => {
                    given("weather", json!({"city": "Sã \"P\" <b>\\", "days": 3, "unit": "any <b>", "on": true}))
                }
                _ => weather.clone(),
            };
            let one = format.write(std::slice::from_ref(&plain));
            // Phi writes no closing mark that Granite does not have.
            let close = if format == ToolFormat::Phi4 && !marks.is_empty() { "<|/tool_call|>" } else { "" };
            let open = if format == ToolFormat::Phi4 && marks.is_empty() { "functools" } else { "<|tool_call|>" };
            let fit = |text: &str| text.replace("<|tool_call|>", open) + close;
            let named = if format == ToolFormat::Mistral && !marks.is_empty() {
                format!("[TOOL_CALLS]weather[ARGS]{}", Value::Object(plain.arguments.clone()))
            } else {
                fit(&one)
            };
            assert_eq!(speech.admits(&required, &named), (named.clone(), true), "{format}");
            let only = forced(&ToolChoice::Named("weather".into()), false);
            assert_eq!(speech.admits(&only, &named), (named.clone(), true), "{format}");
            let other = fit(&format.write(&two[1..]));
            assert!(!speech.admits(&only, &other).1, "{format}: {other}");
            if !matches!(
                format,
                ToolFormat::Harmony | ToolFormat::Mistral | ToolFormat::FunctionGemma | ToolFormat::Gemma4
            ) {
                let both = fit(&format.write(&two));
                assert_eq!(speech.admits(&required, &both), (both.clone(), true), "{format}");
                assert!(!speech.admits(&only, &both).1, "{format}: {both}");
            }
            assert_eq!(calls(format, &tools(), false, &named), [plain], "{format}");
        }
    }
}

#[test]
fn nothing_but_a_call_begins_an_answer() {
    let first = |speech: &Speech, format, inside| {
        let tokens = speech.first(&speech.forced(format, &tools(), &ToolChoice::Required, inside));
        tokens.iter().map(|&token| speech.spelled(&[token])).collect::<Vec<_>>()
    };
    let (marked, plain) = (Speech::new(MARKS), Speech::new(&[]));
    for (format, expected, letters) in [
        (ToolFormat::Json, &["[", "{"][..], "[{"),
        (ToolFormat::Llama3, &["{", "<|python_tag|>"], "{"),
        (ToolFormat::Mistral, &["[TOOL_CALLS]"], "["),
        (ToolFormat::Hermes, &["<tool_call>"], "<"),
        (ToolFormat::Qwen, &["<tool_call>"], "<"),
        (ToolFormat::DeepSeek, &["<｜tool▁calls▁begin｜>"], "<"),
        (ToolFormat::Harmony, &["<|channel|>"], "<"),
        (ToolFormat::Gemma, &["[", "{"], "[{"),
        (ToolFormat::FunctionGemma, &["<start_function_call>"], "<"),
        (ToolFormat::Gemma4, &["<|tool_call>"], "<"),
        (ToolFormat::Phi4, &["<|tool_call|>"], "f"),
    ] {
        assert_eq!(first(&marked, format, false), expected, "{format}");
        assert_eq!(first(&plain, format, false).concat(), letters, "{format}");
        let close = if format == ToolFormat::Harmony { "<|end|>" } else { "\n" };
        assert_eq!(first(&marked, format, true), [close], "{format}");
    }
}

#[test]
fn forms_of_other_versions_are_admitted() {
    let speech = Speech::new(MARKS);
    let older: Vec<_> = MARKS.iter().copied().filter(|mark| !["[ARGS]", "<|/tool_call|>"].contains(mark)).collect();
    let older = Speech::new(&older);
    for (speech, format, text) in [
        (
            &speech,
            ToolFormat::Llama3,
            r#"<|python_tag|>{"name": "ping", "parameters": {}}; {"name": "ping", "parameters": {}}"#,
        ),
        (&speech, ToolFormat::Mistral, "[TOOL_CALLS]ping[ARGS]{}[TOOL_CALLS]weather_code[ARGS]{\"x-1\": 2.5}"),
        (
            &older,
            ToolFormat::Mistral,
            r#"[TOOL_CALLS] [{"name": "ping", "arguments": {}}, {"name": "ping", "arguments": {}}]"#,
        ),
        (&older, ToolFormat::Mistral, r#"[TOOL_CALLS][{"name": "ping", "arguments": {}}]"#),
        (&older, ToolFormat::Phi4, r#"<|tool_call|>[{"name": "ping", "arguments": {}}]"#),
        (
            &speech,
            ToolFormat::DeepSeek,
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>ping<｜tool▁sep｜>{}<｜tool▁call▁end｜>\
             <｜tool▁call▁begin｜>ping<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        ),
        (
            &speech,
            ToolFormat::FunctionGemma,
            "<start_function_call>call:weather_code{x-1:2.5,code:<escape>AB-123<escape>,tags:[\"a\", \"b\"]}\
             <end_function_call><start_function_call>call:ping{}<end_function_call>",
        ),
        (
            &speech,
            ToolFormat::Gemma4,
            "<|tool_call>call:weather{city:<|\"|><|\"|>,unit:<|\"|>C<|\"|>,note:null}<tool_call|>",
        ),
        (
            &speech,
            ToolFormat::Qwen,
            "<tool_call>\n<function=weather>\n<parameter=city>\n3\n\n\n</parameter>\n<parameter=unit>\nF\n</parameter>\n\
             <parameter=note>\nnull\n</parameter>\n</function>\n</tool_call>",
        ),
    ] {
        let constraint = speech.forced(format, &tools(), &ToolChoice::Required, false);
        assert_eq!(speech.admits(&constraint, text), (text.to_owned(), true), "{format}");
        assert!(!calls(format, &tools(), false, text).is_empty(), "{format}");
    }
}

#[test]
fn arguments_that_do_not_fit_are_not_admitted() {
    let speech = Speech::new(MARKS);
    let open = "<tool_call>\n<function=weather_code>\n<parameter=";
    for (format, good, bad) in [
        (ToolFormat::Json, r#"{"name": "weather_code", "arguments": {"x-1": "#, "\"1"),
        (ToolFormat::Json, r#"{"name": "weather_code", "arguments": {""#, "y"),
        (ToolFormat::Json, r#"{"name": "weather_code", ""#, "parameters"),
        (ToolFormat::Hermes, "<tool_call>\n{\"name\": \"p", "ong"),
        (ToolFormat::Gemma4, "<|tool_call>call:weather_code{code:<|\"|>AB-12", "x"),
        (ToolFormat::Gemma4, "<|tool_call>call:weather_code{x-1:1", "a"),
        (ToolFormat::FunctionGemma, "<start_function_call>call:weather{city:<escape>1234567890ab", "c"),
        (ToolFormat::Qwen, &format!("{open}x-1>\n1"), "a"),
        (ToolFormat::Qwen, &format!("{open}code>\nAB-123\n</parameter>\n</function>\n"), "<parameter"),
        (ToolFormat::Qwen, "<tool_call>\n<function=weather>\n<", "/function"),
        (
            ToolFormat::Qwen,
            "<tool_call>\n<function=weather>\n<parameter=city>\na\n</parameter>\n<parameter=unit>\n",
            "K",
        ),
    ] {
        let constraint = speech.forced(format, &tools(), &ToolChoice::Required, false);
        let (said, _) = speech.admits(&constraint, &format!("{good}{bad}"));
        assert_eq!(said, good, "{format}: {bad}");
    }
}

#[test]
fn names_that_are_hard_to_write_are_written_or_refused() {
    let speech = Speech::new(MARKS);
    for name in ["it's \"odd\" \\x41", "a b", "é\u{7f}\n", "x<y>", "</parameter>", "functions.f", "all"] {
        let odd =
            tool(name, json!({"type": "object", "properties": {"a\"b: <c>": {"type": "string", "maxLength": 2}}}));
        let odd = [odd];
        for &format in ToolFormat::ALL {
            match format.forced(&odd, &ToolChoice::Required, false, |text| speech.token(text)) {
                Ok(constraint) => {
                    let text = speech.walk(&constraint, 5);
                    assert_eq!(calls(format, &odd, false, &text)[0].name, name, "{format}: {text:?}");
                }
                Err(error) => {
                    let json = [ToolFormat::Json, ToolFormat::Gemma, ToolFormat::Llama3, ToolFormat::Hermes];
                    assert!(!json.contains(&format), "{format}: {error}");
                    let expected = format!("models of the format {format} cannot write its name");
                    assert!(error.to_string().contains(&expected), "{error}");
                }
            }
        }
    }
}

#[test]
fn what_a_schema_asks_for_beyond_texts_is_put_in_json() {
    let speech = Speech::new(MARKS);
    let person = json!({"type": "object", "properties": {"who": {"$ref": "#/$defs/P"}}, "required": ["who"],
        "$defs": {"P": {"type": "object", "properties": {"id": {"type": "string", "maxLength": 2}}, "required": ["id"],
                        "additionalProperties": false}}});
    let either = json!({"type": "object", "properties": {"v": {"anyOf": [{"type": "string", "maxLength": 3},
        {"type": "string", "enum": ["longer"]}]}}, "required": ["v"]});
    let choice = json!({"anyOf": [{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"],
        "additionalProperties": false}, {"type": "object", "properties": {"b": {"type": "boolean"}}, "required": ["b"],
        "additionalProperties": false}]});
    for schema in [person, either, choice] {
        let tools = [tool("f", schema)];
        for &format in ToolFormat::ALL {
            let constraint = speech.forced(format, &tools, &ToolChoice::Required, false);
            for seed in 0..3 {
                let text = speech.walk(&constraint, seed);
                let schema = &schemas(&tools)["f"];
                let mut stripped = schema.clone();
                stripped.as_object_mut().unwrap().shift_remove("additionalProperties");
                assert!(!calls(format, &tools, false, &text).is_empty(), "{format}: {text}");
            }
        }
    }
}

#[test]
fn refusals_name_the_tool() {
    let speech = Speech::new(&[]);
    let refused = |tools: &[Value], choice: &ToolChoice| {
        ToolFormat::Qwen.forced(tools, choice, false, |text| speech.token(text)).unwrap_err().to_string()
    };
    let mut all = tools();
    all.push(tool("bad", json!({"type": "object", "properties": {"x": {"not": {"type": "string"}}}})));
    assert_eq!(
        refused(&all, &ToolChoice::Required),
        "the function bad cannot be used: a call of it cannot be forced: at #/properties/x: the keyword not is not \
         enforced; leave it out, and check for it afterwards"
    );
    all.push(tool("list", json!({"type": "array"})));
    let named = |name: &str| ToolChoice::Named(name.into());
    let problem = refused(&all, &named("list"));
    assert!(problem.starts_with("the function list cannot be used") && problem.contains("another type"), "{problem}");
    assert!(refused(&all, &named("nobody")).contains("tool_choice is nobody"));
    assert!(refused(&[], &ToolChoice::Required).contains("tool_choice is required"));
    // The others can be called.
    let constraint = speech.forced(ToolFormat::Qwen, &all, &named("ping"), false);
    let text = "<tool_call>\n<function=ping>\n</function>\n</tool_call>";
    assert_eq!(speech.admits(&constraint, text), (text.to_owned(), true));
}

#[test]
fn what_begins_calls_can_be_forbidden() {
    let known = |format: ToolFormat| format.forbidden(|text| MARKS.contains(&text));
    assert_eq!(known(ToolFormat::Hermes), ["<tool_call>"]);
    assert_eq!(known(ToolFormat::Qwen), ["<tool_call>"]);
    assert_eq!(known(ToolFormat::Mistral), ["[TOOL_CALLS]"]);
    assert_eq!(known(ToolFormat::Llama3), ["<|python_tag|>"]);
    assert_eq!(known(ToolFormat::Phi4), ["<|tool_call|>"]);
    assert!(known(ToolFormat::Json).is_empty() && known(ToolFormat::Harmony).is_empty());
    assert!(ToolFormat::Hermes.forbidden(|_| false).is_empty());
}
