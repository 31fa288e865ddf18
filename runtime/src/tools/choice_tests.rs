//! Which format is chosen, and what of a format is known beforehand.

use super::*;

#[test]
fn names_are_found_again() {
    for &format in ToolFormat::ALL {
        assert_eq!(ToolFormat::by_name(format.name()), Some(format));
        assert_eq!(ToolFormat::by_name(&format.to_string().to_uppercase()), Some(format));
        assert_eq!(ToolFormat::ALL.iter().filter(|other| other.name() == format.name()).count(), 1);
        assert!(!format.models().is_empty());
    }
    assert_eq!(ToolFormat::by_name("esperanto"), None);
}

/// What a template alone says.
fn told(template: &str) -> Option<ToolFormat> {
    ToolFormat::of(template, |_| false)
}

#[test]
fn templates_tell() {
    for (template, format) in [
        ("{{ '<|start_header_id|>' }}{{ '{\"name\": \"' }}{{ '\"parameters\": ' }}", ToolFormat::Llama3),
        ("{{ '<|python_tag|>' + tool_call.name }}", ToolFormat::Llama3),
        ("<tool_call>\n{{ call|tojson }}\n</tool_call>{{ \"parameters\": tool }}", ToolFormat::Hermes),
        ("<tool_call>\n<function=f>\n<parameter=a>", ToolFormat::Qwen),
        ("{{ '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>' }}", ToolFormat::DeepSeek),
        ("{{- '[TOOL_CALLS] [' }}", ToolFormat::Mistral),
        ("<|start|>assistant<|channel|>final<|message|>", ToolFormat::Harmony),
        ("<start_of_turn>model\n", ToolFormat::Gemma),
        ("<start_of_turn>model\n<start_function_call>call:", ToolFormat::FunctionGemma),
        ("<|turn>model\n<|tool_call>call:", ToolFormat::Gemma4),
        ("respond only with <|tool_call|> followed by a JSON list", ToolFormat::Phi4),
        ("formatted as functools[{\"name\"", ToolFormat::Phi4),
    ] {
        assert_eq!(told(template), Some(format), "{template}");
    }
    assert_eq!(told("<|im_start|>{{ message.role }}\n"), None);
    assert_eq!(told("<|START_ACTION|>[{\"parameters\": {}}]<|END_ACTION|>"), None);
}

#[test]
fn the_vocabulary_tells_where_the_template_does_not() {
    let llama = |token: &str| ["<|start_header_id|>", "<|python_tag|>"].contains(&token);
    assert_eq!(ToolFormat::of("", llama), Some(ToolFormat::Llama3));
    assert_eq!(ToolFormat::of("<tool_call>", llama), Some(ToolFormat::Hermes));
    assert_eq!(ToolFormat::of("", |token| token == "<|start_header_id|>"), None);
    assert_eq!(ToolFormat::of("", |token| token == "[TOOL_CALLS]"), Some(ToolFormat::Mistral));
}

#[test]
fn built_in_templates() {
    let of = |name: &str| {
        let template = nano_templates::Template::builtin(name).expect("it is built in");
        told(template.source())
    };
    assert_eq!(of("chat-ml-tools"), Some(ToolFormat::Hermes));
    assert_eq!(of("gemma"), Some(ToolFormat::Gemma));
    assert_eq!(of("chat-ml"), None);
    assert_eq!(of("vicuna-v1"), None);
}

#[test]
fn prompts_that_end_inside_reasoning() {
    for (format, prompt, inside) in [
        (ToolFormat::Qwen, "<|im_start|>assistant\n<think>\n", true),
        (ToolFormat::Qwen, "<|im_start|>assistant\n<think>\n\n</think>\n\n", false),
        (ToolFormat::Hermes, "<|im_start|>assistant\n", false),
        (ToolFormat::DeepSeek, "<｜Assistant｜><think>\n", true),
        (ToolFormat::Mistral, "[/INST][THINK]", true),
        (ToolFormat::Json, "<think>", true),
        (ToolFormat::Harmony, "<|start|>assistant", false),
    ] {
        assert_eq!(format.thinks_from_the_start(prompt), inside, "{format}: {prompt}");
    }
}

#[test]
fn formats_open_calls_by_their_markers() {
    assert_eq!(ToolFormat::Hermes.markers(), ["<tool_call>"]);
    assert!(ToolFormat::Json.markers().is_empty());
    assert!(ToolFormat::Harmony.markers().contains(&"<|channel|>"));
}

#[test]
fn text_flows_at_once() {
    for &format in ToolFormat::ALL {
        let mut parser = StreamParser::new(format, ParserOptions::default());
        assert_eq!(parser.push("Hello"), [Piece::Text("Hello".into())], "{format}");
        assert_eq!(parser.push(", world"), [Piece::Text(", world".into())], "{format}");
        assert_eq!(
            parser.push(" 1 < 2 ["),
            [Piece::Text(" 1 < 2 [".into())].map(|piece| held(format, piece)),
            "{format}"
        );
        assert!(parser.push("").is_empty());
    }
}

/// Mistral's markers begin with a bracket.
fn held(format: ToolFormat, piece: Piece) -> Piece {
    if format == ToolFormat::Mistral { Piece::Text(" 1 < 2".into()) } else { piece }
}

#[test]
fn thoughts_flow_at_once() {
    for (format, open) in [(ToolFormat::Hermes, "<think>\n"), (ToolFormat::Harmony, "<|channel|>analysis<|message|>")] {
        let mut parser = StreamParser::new(format, ParserOptions::default());
        assert!(parser.push(open).is_empty());
        assert_eq!(parser.push("Hm"), [Piece::Reasoning("Hm".into())]);
        assert_eq!(parser.push(" so <"), [Piece::Reasoning(" so".into())].map(|piece| so(format, piece)));
    }
}

/// White space before a closing marker belongs to it, where a format has such space.
fn so(format: ToolFormat, piece: Piece) -> Piece {
    if format == ToolFormat::Harmony { Piece::Reasoning(" so ".into()) } else { piece }
}

#[test]
fn a_call_is_given_as_soon_as_it_is_complete() {
    let mut parser = StreamParser::new(ToolFormat::Hermes, ParserOptions::default());
    assert!(parser.push("<tool_call>\n{\"name\": \"f\", \"arguments\": {}").is_empty());
    assert_eq!(parser.push("}"), [splits::call("f", serde_json::json!({}))]);
    assert!(parser.push("\n</tool_call>").is_empty());
}
