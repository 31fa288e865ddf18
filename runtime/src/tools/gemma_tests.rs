//! Examples of the Gemma family and of Phi-4, cut in every way.

use super::splits::{call, check, text, thought, with_tools};
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

mod gemma {
    use super::*;
    const F: ToolFormat = ToolFormat::Gemma;

    #[test]
    fn lists_of_calls() {
        reads(
            F,
            "[get_weather(city='Paris, \"q\"]', days=[1, 2]), größe()]<end_of_turn>",
            &[call("get_weather", json!({"city": "Paris, \"q\"]", "days": [1, 2]})), call("größe", json!({}))],
        );
    }

    #[test]
    fn objects() {
        reads(F, "{\"name\": \"f\", \"parameters\": {\"a\": null}}\n", &[call("f", json!({"a": null}))]);
        reads(F, "```json\n{\"name\": \"f\"}\n```", &[call("f", json!({}))]);
    }

    #[test]
    fn fences() {
        reads(
            F,
            "Let me see.\n```tool_code\nf(a=1)\nprint(g())\n```\nSoon.",
            &[text("Let me see."), call("f", json!({"a": 1})), call("g", json!({})), text("Soon.")],
        );
        reads(F, "```tool_code\n[f(a=True)]\n```", &[call("f", json!({"a": true}))]);
    }

    #[test]
    fn schemas_name_the_arguments() {
        let expected = with_tools(json!({"f": {"properties": {"a": {}, "b": {}}}}));
        check(F, &expected, "[f(1, b=2)]", &[call("f", json!({"a": 1, "b": 2}))]);
        for answer in ["[f(1, 2, 3)]", "[f(1, a=2)]", "[g()]", "```tool_code\ng()\n```"] {
            check(F, &expected, answer, &[text(answer)]);
        }
    }

    #[test]
    fn what_is_no_call_stays() {
        for answer in [
            "[f(1)]",
            "[f(a=1), and more]",
            "[f(a=1)] calls f.",
            "[f(a=1",
            "[f(a=<b>)]",
            "[text](url)",
            "[]",
            "[(1)]",
            "```tool_code\nx = 1\n```",
            "```tool_code\nf(a=1)\n",
            "```tool_code\n```",
            "```python\nimport os\n```\n",
            "f(a=1)",
        ] {
            stays(F, answer);
        }
    }
}

mod function_gemma {
    use super::*;
    const F: ToolFormat = ToolFormat::FunctionGemma;

    #[test]
    fn all_kinds_of_values() {
        let answer = concat!(
            "<start_function_call>call:f{s:<escape>a, {b}: \"é\n<escape>,n:-1.5,t:true,l:[1,<escape>x<escape>,[]],",
            "o:{k:{},<escape>q r<escape>:null},w:soon}<end_function_call>"
        );
        let arguments = json!({
            "s": "a, {b}: \"é\n", "n": -1.5, "t": true, "l": [1, "x", []], "o": {"k": {}, "q r": null}, "w": "soon",
        });
        reads(F, answer, &[call("f", arguments)]);
    }

    #[test]
    fn text_and_several_calls() {
        let answer = concat!(
            "Ok\n<start_function_call>call:a{}<end_function_call><start_function_call> call: b {x: \"},\\\"\" , y: 1}",
            "<end_function_call><start_function_response>"
        );
        reads(F, answer, &[text("Ok"), call("a", json!({})), call("b", json!({"x": "},\"", "y": 1}))]);
    }

    #[test]
    fn schemas_decide_types() {
        let expected = with_tools(json!({"f": {"properties": {"a": {"type": "string"}, "b": {"type": "boolean"}}}}));
        let answer = "<start_function_call>call:f{a:12,b:True}<end_function_call>";
        check(F, &expected, answer, &[call("f", json!({"a": "12", "b": true}))]);
    }

    #[test]
    fn what_is_no_call_stays() {
        for answer in [
            "<start_function_call>",
            "<start_function_call>f{}",
            "<start_function_call>call:{}",
            "<start_function_call>call:f{a:<escape>x",
            "<start_function_call>call:f{a:1",
            "<start_function_call>call:f{a}<end_function_call>",
            "<start_function_call>call:f{a:}<end_function_call>",
            "<start_function_call>call:f{:1}<end_function_call>",
            "<start_function_call>call:f{a:1]<end_function_call>",
            "<start_function_call>call:f{a:[1}]<end_function_call>",
            "<start_function_call>call:f{a:<b>}<end_function_call>",
            "<start_function_call>call:f{a:\"\\x\"}<end_function_call>",
            "<start_function_call>call:f{a:1 b:2,,}",
        ] {
            stays(F, answer);
        }
        let deep = format!("<start_function_call>call:f{{a:{}{}}}", "[".repeat(5000), "]".repeat(5000));
        assert_eq!(splits::parse(F, &ParserOptions::default(), &[&deep]), [text(&deep)]);
    }
}

mod gemma_4 {
    use super::*;
    const F: ToolFormat = ToolFormat::Gemma4;

    #[test]
    fn thoughts_and_a_call() {
        let answer = concat!(
            "<|channel>thought\nHm.\n<channel|>Look:\n",
            "<|tool_call>call:get_weather{city:<|\"|>a \"b\" <|c<|\"|>,d:[<|\"|>x<|\"|>]}<tool_call|><|tool_response>"
        );
        reads(
            F,
            answer,
            &[thought("Hm."), text("Look:"), call("get_weather", json!({"city": "a \"b\" <|c", "d": ["x"]}))],
        );
    }

    #[test]
    fn what_is_no_call_stays() {
        for answer in ["<|tool_call>call:f{a:<|\"|>x}", "<|tool_call>no", "<|channel>other", "<|tool_call|>[{}]"] {
            stays(F, answer);
        }
    }
}

mod phi {
    use super::*;
    const F: ToolFormat = ToolFormat::Phi4;

    #[test]
    fn both_markers() {
        let tokyo = || call("get_weather", json!({"city": "Tokyo \"}]"}));
        let list = r#"[{"name": "get_weather", "arguments": {"city": "Tokyo \"}]"}}, {"name": "b"}]"#;
        for answer in [
            format!("<|tool_call|>{list}<|/tool_call|>"),
            format!("<|tool_call|>\n{list}</|tool_call|><|end|>"),
            format!("functools{list}"),
        ] {
            reads(F, &answer, &[tokyo(), call("b", json!({}))]);
        }
        reads(
            F,
            "<think>A</think>B <|tool_call|>{\"name\": \"b\"}<|/tool_call|>C",
            &[thought("A"), text("B"), call("b", json!({})), text("C")],
        );
    }

    #[test]
    fn what_is_no_call_stays() {
        for answer in [
            "import functools\n@functools.cache\n",
            "functools[1]",
            "functools[]",
            "<|tool_call|>[{\"name\": \"f\"}",
            "<|tool_call|>[{\"name\": \"f\"}, {\"arguments\": {}}]",
            "<|tool_",
        ] {
            stays(F, answer);
        }
    }
}
