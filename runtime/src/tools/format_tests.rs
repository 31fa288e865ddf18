//! Examples of every format, cut in every way.

use super::splits::{call, call_with_id, check, inside, text, thought, with_tools};
use super::*;
use serde_json::json;

/// Checks an answer of which nothing is known beforehand.
fn reads(format: ToolFormat, answer: &str, pieces: &[Piece]) {
    check(format, &ParserOptions::default(), answer, pieces);
}

/// Checks that an answer is nothing but text.
fn stays(format: ToolFormat, answer: &str) {
    reads(format, answer, &[text(answer)]);
}

fn paris() -> Piece {
    call("get_weather", json!({"city": "Paris"}))
}

mod json_answers {
    use super::*;
    const F: ToolFormat = ToolFormat::Json;

    #[test]
    fn the_whole_answer_is_a_call() {
        reads(F, r#"{"name": "get_weather", "parameters": {"city": "Paris"}}"#, &[paris()]);
        reads(F, "\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}\n", &[paris()]);
        reads(
            F,
            r#"[{"name": "noargs"}, {"name": "a", "id": "7"}]"#,
            &[call("noargs", json!({})), call_with_id("7", "a", json!({}))],
        );
        reads(F, "```json\n{\"name\": \"noargs\"}\n```\n", &[call("noargs", json!({}))]);
        reads(F, "<think>Well.</think>\n{\"name\": \"a\"}", &[thought("Well."), call("a", json!({}))]);
    }

    #[test]
    fn the_form_of_the_interface_of_openai() {
        let answer = r#"{"type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}}"#;
        reads(F, answer, &[call("f", json!({"a": 1}))]);
    }

    #[test]
    fn an_answer_in_json_is_text() {
        for answer in [
            r#"{"city": "Paris", "name": "x"}"#,
            r#"{"name": "f", "parameters": {}} is how you call f."#,
            r#"{"name": "f", "parameters": 7}"#,
            r#"{"name": "", "parameters": {}}"#,
            r#"{"name": "f", "parameters": {"#,
            r#"[1, {"name": "f"}]"#,
            "[]",
            "[see](there)",
            "```json\n{\"name\": \"f\"}\n",
            "```json\n{\"name\": \"f\"}\n```\nThat is all.",
            "```rust\nfn main() {}\n```",
            "{x} is a set.",
            "Sure: {\"name\": \"f\"}",
            " \n ",
            "",
        ] {
            if answer.is_empty() { reads(F, answer, &[]) } else { stays(F, answer) }
        }
    }

    #[test]
    fn only_known_names_count() {
        let expected = with_tools(json!({"f": {}}));
        check(F, &expected, r#"{"name": "g", "parameters": {}}"#, &[text(r#"{"name": "g", "parameters": {}}"#)]);
        check(F, &expected, r#"{"name": "f", "parameters": {}}"#, &[call("f", json!({}))]);
    }
}

mod llama {
    use super::*;
    const F: ToolFormat = ToolFormat::Llama3;

    #[test]
    fn with_and_without_the_tag() {
        reads(F, r#"<|python_tag|>{"name": "get_weather", "parameters": {"city": "Paris"}}"#, &[paris()]);
        reads(F, r#"{"name": "get_weather", "parameters": {"city": "Paris"}}"#, &[paris()]);
        reads(
            F,
            r#"Look: <|python_tag|>{"name": "a", "arguments": {}}<|eom_id|>"#,
            &[text("Look:"), call("a", json!({}))],
        );
    }

    #[test]
    fn several_calls() {
        let both = [call("a", json!({})), call("b", json!({"x": 1}))];
        reads(F, r#"{"name": "a", "parameters": {}}; {"name": "b", "parameters": {"x": 1}}"#, &both);
        reads(F, r#"<|python_tag|>{"name": "a"}; {"name": "b", "parameters": {"x": 1}}<|eot_id|>"#, &both);
        reads(F, "[a(), b(x=1)]<|eot_id|>", &both);
    }

    #[test]
    fn built_in_tools() {
        reads(
            F,
            r#"<|python_tag|>brave_search.call(query="a \" (c")"#,
            &[call("brave_search", json!({"query": "a \" (c"}))],
        );
    }

    #[test]
    fn what_is_no_call_stays() {
        stays(F, "<|python_tag|>import os\nprint(os.getcwd())");
        stays(F, r#"<|python_tag|>{"name": "a", "parameters": {"x": "#);
        stays(F, r#"{"name": "a"}; and {"name": "b"}"#);
        reads(F, r#"<|python_tag|>{"name": "a"}; and more"#, &[call("a", json!({})), text("; and more")]);
    }
}

mod mistral {
    use super::*;
    const F: ToolFormat = ToolFormat::Mistral;

    #[test]
    fn a_list() {
        let answer = concat!(
            r#"Sure.[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Paris"}, "id": "bbc5b7ede"}, "#,
            r#"{"name": "noargs"}]</s>"#
        );
        reads(
            F,
            answer,
            &[
                text("Sure."),
                call_with_id("bbc5b7ede", "get_weather", json!({"city": "Paris"})),
                call("noargs", json!({})),
            ],
        );
    }

    #[test]
    fn names_ids_and_arguments() {
        reads(
            F,
            r#"[TOOL_CALLS]f[ARGS]{"a": "[ARGS]"}[TOOL_CALLS]g[CALL_ID]x1[ARGS]{}</s>"#,
            &[call("f", json!({"a": "[ARGS]"})), call_with_id("x1", "g", json!({}))],
        );
        reads(
            F,
            "Ok.\n[TOOL_CALLS]größe{\"q\": \"東京\"} Done.",
            &[text("Ok."), call("größe", json!({"q": "東京"})), text("Done.")],
        );
    }

    #[test]
    fn thoughts() {
        reads(F, "[THINK]Hm [x].[/THINK]Hi.", &[thought("Hm [x]."), text("Hi.")]);
    }

    #[test]
    fn what_is_no_call_stays() {
        for answer in [
            "[TOOL_CALLS]",
            "[TOOL_CALLS] none",
            "[TOOL_CALLS]f[ARGS]no",
            "[TOOL_CALLS]f[ARGS]{\"a\": 1",
            "[TOOL_CALLS][{\"name\": 1}]",
            "<s>old</s> [TOOL]",
        ] {
            stays(F, answer);
        }
    }
}

mod hermes {
    use super::*;
    const F: ToolFormat = ToolFormat::Hermes;

    #[test]
    fn thoughts_words_and_calls() {
        let answer = concat!(
            "<think>\nI need the weather.\n</think>\n\nLet me look.\n<tool_call>\n",
            "{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}\n</tool_call>\n<tool_call>\n",
            "{\"name\": \"get_time\", \"arguments\": {}}\n</tool_call>"
        );
        reads(F, answer, &[thought("I need the weather."), text("Let me look."), paris(), call("get_time", json!({}))]);
    }

    #[test]
    fn the_answer_begins_inside_reasoning() {
        let answer = concat!(
            "I need the weather.\n</think>\n\n<tool_call>\n",
            "{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}\n</tool_call>"
        );
        check(F, &inside(), answer, &[thought("I need the weather."), paris()]);
        check(F, &inside(), "<think>\nTwice.</think>Hi.", &[thought("Twice."), text("Hi.")]);
        check(F, &inside(), "\n</think>\n\nHi.", &[text("Hi.")]);
        check(F, &inside(), "Cut </thin", &[thought("Cut </thin")]);
        check(F, &inside(), "A <tool_call>{\"name\": \"a\"}", &[thought("A <tool_call>{\"name\": \"a\"}")]);
    }

    #[test]
    fn several_objects_and_the_end_left_out() {
        let both = [call("a", json!({})), call("b", json!({}))];
        reads(F, "<tool_call>{\"name\": \"a\"}\n{\"name\": \"b\"}</tool_call>", &both);
        reads(F, "<tool_call>{\"name\": \"a\"}<tool_call>{\"name\": \"b\"}", &both);
        reads(F, "<tool_call>[{\"name\": \"a\"}, {\"name\": \"b\"}]</tool_call><|im_end|>", &both);
    }

    #[test]
    fn markers_quotes_and_braces_in_strings() {
        let answer = r#"<tool_call>{"name": "f", "arguments": {"s": "</tool_call>}\"{ \\"}}</tool_call> Ok"#;
        reads(F, answer, &[call("f", json!({"s": "</tool_call>}\"{ \\"})), text("Ok")]);
        let answer = "<tool_call>{\"name\": \"f\", \"arguments\": {\"s\": \"a\nb\t\u{1}é\u{7f}\\u00e9\"}}</tool_call>";
        reads(F, answer, &[call("f", json!({"s": "a\nb\t\u{1}é\u{7f}é"}))]);
    }

    #[test]
    fn text_around_calls_is_kept() {
        reads(
            F,
            " a < b \n\n<tool_call>{\"name\": \"a\"}</tool_call>\n\n é\n",
            &[text(" a < b"), call("a", json!({})), text("é\n")],
        );
    }

    #[test]
    fn what_is_no_call_stays() {
        for answer in [
            "<tool_call>",
            "x\n<tool_call> no </tool_call>\ny ",
            "<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": 1}",
            "<tool_call>{'name': 'f'}</tool_call>",
            "<tool_call>{\"name\": \"f\",}</tool_call>",
            "<tool_call>{\"name\": \"f\"]</tool_call>",
            "<tool_call>{\"nam\": \"f\"}</tool_call>",
            "<tool_call>{\"name\": \"f\", \"arguments\": [1]}</tool_call>",
            "<tool_calls> and </think> and <think>",
            "1 <tool_cal",
        ] {
            stays(F, answer);
        }
    }

    #[test]
    fn a_good_call_is_found_behind_a_bad_one() {
        let bad = "<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": \"no end}}</tool_call>";
        let answer = format!("{bad}\n<tool_call>{{\"name\": \"g\"}}</tool_call>");
        reads(F, &answer, &[text(bad), call("g", json!({}))]);
    }

    #[test]
    fn calls_that_are_not_wanted_are_text() {
        let expected = ParserOptions { calls: false, ..ParserOptions::default() };
        let answer = "<think>A</think>\n<tool_call>{\"name\": \"a\"}</tool_call>";
        check(F, &expected, answer, &[thought("A"), text("<tool_call>{\"name\": \"a\"}</tool_call>")]);
    }
}

mod qwen {
    use super::*;
    const F: ToolFormat = ToolFormat::Qwen;

    const ANSWER: &str = concat!(
        "Plan it.\n</think>\n\n<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n",
        "<parameter=days>\n3\n</parameter>\n<parameter=opts>\n{\"a\": [1]}\n</parameter>\n</function>\n</tool_call>"
    );

    #[test]
    fn thoughts_and_a_call() {
        let made = call("get_weather", json!({"city": "Paris", "days": 3, "opts": {"a": [1]}}));
        check(F, &inside(), ANSWER, &[thought("Plan it."), made]);
    }

    #[test]
    fn schemas_decide_types() {
        let schema = json!({"f": {"properties": {
            "a": {"type": "string"},
            "b": {"type": ["integer", "null"]},
            "c": {"type": "boolean"},
            "d": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "e": {"enum": [1, "1", "two"]},
            "g": {"type": "number"},
        }}});
        let answer = |key: &str, value: &str| format!("<function=f><parameter={key}>{value}</parameter></function>");
        for (key, written, value) in [
            ("a", "3", json!("3")),
            ("a", "null", json!("null")),
            ("a", "\n x\n\n", json!(" x\n")),
            ("b", "3", json!(3)),
            ("b", "None", json!(null)),
            ("c", "True", json!(true)),
            ("c", "false", json!(false)),
            ("d", "null", json!(null)),
            ("d", "7", json!("7")),
            ("e", "1", json!(1)),
            ("e", "two", json!("two")),
            ("g", "\n1.5\n", json!(1.5)),
            ("g", "much", json!("much")),
            ("z", "[true]", json!([true])),
            ("z", "True", json!("True")),
        ] {
            check(F, &with_tools(schema.clone()), &answer(key, written), &[call("f", json!({key: value}))]);
        }
    }

    #[test]
    fn empty_bodies_and_tags_left_out() {
        reads(F, "<tool_call><function=ping></function></tool_call>", &[call("ping", json!({}))]);
        reads(F, "Now:\n<function=ping>\n</function>\n</tool_call>\n", &[text("Now:"), call("ping", json!({}))]);
        reads(
            F,
            "<tool_call>\n<function=f>\n<parameter=a>\n\n</parameter>\n</tool_call> .",
            &[call("f", json!({"a": ""})), text(".")],
        );
        reads(F, "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>", &[call("f", json!({}))]);
    }

    #[test]
    fn values_hold_anything_but_their_end() {
        let value = "if a < b { \"</function>\" } // <tool_call> é\u{1}";
        let answer = format!("<tool_call><function=f><parameter=s>\n{value}\n</parameter></function></tool_call>");
        reads(F, &answer, &[call("f", json!({"s": value}))]);
    }

    #[test]
    fn what_is_no_call_stays() {
        for answer in [
            "<function=f",
            "<function=f>",
            "<function=>x</function>",
            "<tool_call><function=f><parameter=a>1</parameter>",
            "<tool_call><function=f><parameter=a>1</function></tool_call>",
            "<tool_call><function=f>words</function></tool_call>",
            "a <function> b",
        ] {
            stays(F, answer);
        }
    }
}
