//! SmolLM2-135M-Instruct calls what it must. Needs NANO_TEST_SMOLLM2, the path of its file; skipped
//! without it.

use nano_runtime::{
    ChatOptions, Finish, GenerateOptions, Message, ModelOptions, NanoModel, Sampling, ToolCall, ToolChoice, ToolFormat,
    Value,
};
use serde_json::json;
use std::time::Instant;

fn tools() -> Vec<Value> {
    let weather = json!({"type": "object", "properties": {
        "city": {"type": "string", "maxLength": 30},
        "days": {"type": "integer", "minimum": 1, "maximum": 14},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
    }, "required": ["city", "unit"]});
    let tool = |name: &str, description: &str, parameters: Value| json!({"type": "function", "function": {"name": name, "description": description, "parameters": parameters}});
    vec![
        tool("get_weather", "Tells the weather in a city.", weather),
        tool("get_time", "Tells the time.", json!({"type": "object", "properties": {}})),
    ]
}

#[test]
fn a_call_that_must_be_made_fits() {
    let Some(path) = std::env::var_os("NANO_TEST_SMOLLM2") else {
        println!("skipped: NANO_TEST_SMOLLM2 does not name the model");
        return;
    };
    let options = ModelOptions { max_context_len: Some(2048), max_sequences: Some(4), ..ModelOptions::default() };
    let model = NanoModel::open(path.as_ref(), options, |_| ()).unwrap();
    // Other formats differ from these in their marks.
    let named = || ToolChoice::Named("get_weather".into());
    for (format, choice, seed) in [
        (ToolFormat::Json, ToolChoice::Required, None),
        (ToolFormat::Hermes, named(), None),
        (ToolFormat::Qwen, named(), Some(2)),
        (ToolFormat::Gemma4, ToolChoice::Required, Some(1)),
    ] {
        let options = ChatOptions { tools: tools(), tool_format: Some(format), ..ChatOptions::default() };
        let mut chat = model.chat(options).unwrap();
        chat.user("What is the weather like in Paris?");
        let options = GenerateOptions {
            tool_choice: choice.clone(),
            max_new_tokens: 400,
            sampling: seed.map(|_| Sampling { temperature: 1.0, ..Sampling::default() }),
            seed,
            ..GenerateOptions::default()
        };
        let started = Instant::now();
        let output = chat.reply(&options).unwrap().wait().unwrap();
        let calls = output.message.tool_calls.as_deref().unwrap_or_default();
        println!(
            "{format}, {:.2} s, first token {:.0} ms, masks {:.2} ms at worst, {} calls",
            started.elapsed().as_secs_f64(),
            1e3 * output.stats.first_token_time,
            1e3 * output.stats.worst_mask_time,
            output.message.tool_calls.as_ref().map_or(0, Vec::len)
        );
        let calls: Vec<_> = calls.iter().map(|call| ToolCall::from_json(call).unwrap()).collect();
        assert!(!calls.is_empty(), "{format}: {}", output.text);
        // Small models go on with more calls, until their reply is full.
        let said = output.message.content.text();
        assert!(said.is_empty() || output.finish == Finish::Length, "{format}: {said:?}");
        for ToolCall { name, arguments, .. } in &calls {
            let known = ["city", "days", "unit"];
            assert!(arguments.keys().all(|key| known.contains(&key.as_str())), "{format}: {}", output.text);
            match name.as_str() {
                "get_weather" => {
                    assert!(arguments["city"].is_string(), "{format}: {}", output.text);
                    let days = arguments.get("days").is_none_or(|days| (1..15).contains(&days.as_u64().unwrap()));
                    assert!(days && ["celsius", "fahrenheit"].contains(&arguments["unit"].as_str().unwrap()));
                }
                other => assert_eq!((other, arguments.len()), ("get_time", 0)),
            }
        }
        if choice != ToolChoice::Required {
            assert_eq!((calls.len(), calls[0].name.as_str()), (1, "get_weather"));
        }
        for call in &calls {
            let result = Message {
                name: Some(call.name.clone()),
                tool_call_id: call.id.clone(),
                ..Message::new("tool", "Sunny, 21")
            };
            chat.append_message(result);
        }
        let options = GenerateOptions { max_new_tokens: 16, ..GenerateOptions::default() };
        let output = chat.reply(&options).unwrap().wait().unwrap();
        assert!(output.stats.reused_tokens > 0, "{format}");
        println!("  then {} fed, {} reused: {:?}", output.stats.input_tokens, output.stats.reused_tokens, output.text);
    }
}
