//! What is offered, how, and what is refused.

use crate::common::{CHATML, options};
use crate::{ask, drive, model, reply, with_tools};
use nano_runtime::{ChatOptions, Constraint, Error, GenerateOptions, Template, ToolChoice, ToolFormat};
use serde_json::json;

#[test]
fn without_tools_calls_are_text() {
    let call = "<tool_call>\n{\"name\": \"drive\", \"arguments\": {}}\n</tool_call>";
    let (model, _) = model(Template::builtin("chat-ml-tools").unwrap(), &[&call.replace("</tool_call>", "<|im_end|>")]);
    let mut chat = model.chat(ChatOptions::default()).unwrap();
    let (lines, output) = ask(&mut chat, "Go.");
    assert_eq!(lines, ["text <tool_call>\n{\"name\": \"drive\", \"arguments\": {}}\n"]);
    assert!(output.message.tool_calls.is_none());
}

#[test]
fn tools_that_are_none_are_refused() {
    let (model, _) = model(Template::builtin("chat-ml-tools").unwrap(), &[]);
    for tools in [json!([{"type": "function"}]), json!([{"function": {"name": ""}}]), json!([3])] {
        let options = ChatOptions { tools: tools.as_array().unwrap().clone(), ..ChatOptions::default() };
        assert!(matches!(model.chat(options), Err(Error::Option { name: "tools", .. })), "{tools}");
    }
}

#[test]
fn a_choice_that_cannot_be_made_is_refused() {
    let (mut chat, _) = with_tools(Template::builtin("chat-ml-tools").unwrap(), &[]);
    chat.user("Go.");
    let choice = |choice: ToolChoice| GenerateOptions { tool_choice: choice, ..options() };
    let named = chat.reply(&choice(ToolChoice::Named("fly".into())));
    assert!(matches!(named.unwrap_err(), Error::Option { name: "tool_choice", .. }));
    chat.set_tools(Vec::new()).unwrap();
    chat.user("Go.");
    assert!(matches!(
        chat.reply(&choice(ToolChoice::Required)).unwrap_err(),
        Error::Option { name: "tool_choice", .. }
    ));
}

#[test]
fn other_tools_change_the_prompt_and_the_same_ones_do_not() {
    let (mut chat, _) = with_tools(Template::builtin("chat-ml-tools").unwrap(), &["One.<|im_end|>", "Two.<|im_end|>"]);
    ask(&mut chat, "Go.");
    let rows = chat.num_rows();
    chat.set_tools(vec![drive()]).unwrap();
    chat.user("Again.");
    let (_, output) = reply(&mut chat, &options());
    assert_eq!(output.stats.reused_tokens, rows);
    assert_eq!(chat.tools(), [drive()]);
    assert_eq!(chat.tool_format(), Some(ToolFormat::Hermes));
    chat.set_tools(Vec::new()).unwrap();
    chat.user("And again.");
    assert!(!chat.prompt().unwrap().contains("drive"));
}

#[test]
fn a_template_that_knows_no_tools_has_them_told_in_words() {
    let call = "{\"name\": \"drive\", \"parameters\": {\"speed\": 1}}<|im_end|>";
    let (mut chat, _) = with_tools(Template::jinja("plain", CHATML).unwrap(), &[call, "Done.<|im_end|>"]);
    chat.user("Go.");
    let prompt = chat.prompt().unwrap();
    assert!(prompt.starts_with("<|im_start|>system\n") && prompt.contains("drive"), "{prompt}");
    let (lines, output) = reply(&mut chat, &options());
    assert_eq!(lines, [r#"call call00000 drive {"speed":1}"#]);
    let rows = chat.num_rows();
    chat.append_message(crate::result(&output.message, 0, "went far"));
    let prompt = chat.prompt().unwrap();
    assert!(prompt.contains("went far") && !prompt.contains("<|im_start|>tool"), "{prompt}");
    let (_, output) = reply(&mut chat, &options());
    assert_eq!(output.stats.reused_tokens, rows);
}

#[test]
fn a_call_that_must_be_made_is_made_whatever_the_model_would_say() {
    for (name, choice) in [("required", ToolChoice::Required), ("named", ToolChoice::Named("drive".into()))] {
        let (model, _) = model(Template::builtin("chat-ml-tools").unwrap(), &[&"no\" ".repeat(400)]);
        let mut chat = model.chat(ChatOptions { tools: vec![drive()], ..ChatOptions::default() }).unwrap();
        chat.user("Go.");
        let options = GenerateOptions { tool_choice: choice, max_new_tokens: 400, ..options() };
        let (lines, output) = reply(&mut chat, &options);
        assert!(lines[0].starts_with("call call00000 drive {"), "{name}: {lines:?} {output:?}");
    }
}

#[test]
fn a_tool_whose_arguments_cannot_be_enforced_is_named() {
    let mut bad = drive();
    bad["function"]["name"] = "fly".into();
    bad["function"]["parameters"]["properties"]["where"] = json!({"type": "string", "format": "no such format"});
    let (model, log) = model(Template::builtin("chat-ml-tools").unwrap(), &["Well.<|im_end|>"]);
    let mut chat = model.chat(ChatOptions { tools: vec![drive(), bad], ..ChatOptions::default() }).unwrap();
    chat.user("Go.");
    for choice in [ToolChoice::Required, ToolChoice::Named("fly".into())] {
        let refused = chat.reply(&GenerateOptions { tool_choice: choice, ..options() }).unwrap_err();
        assert!(refused.to_string().starts_with("the function fly cannot be used: a call of it cannot"), "{refused}");
    }
    assert!(log.lock().unwrap().steps.is_empty());
    let (lines, _) = reply(&mut chat, &options());
    assert_eq!(lines, ["text Well."]);
}

#[test]
fn a_template_that_knows_calls_alone_is_told_in_words_how_it_writes_them() {
    // As those of DeepSeek R1.
    let call = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>{{ c.function.name }}\n```json\n\
                {{ c.function.arguments|tojson }}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>";
    let source = CHATML.replace(
        "{{ m.content }}",
        &format!("{{{{ m.content }}}}{{% for c in m.tool_calls or [] %}}{call}{{% endfor %}}"),
    );
    let says = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>drive\n```json\n{\"speed\": 1}\n```\
                <｜tool▁call▁end｜><｜tool▁calls▁end｜><|im_end|>";
    let (mut chat, _) = with_tools(Template::jinja("calls", &source).unwrap(), &[says, "Done.<|im_end|>"]);
    assert_eq!(chat.tool_format(), Some(ToolFormat::DeepSeek));
    chat.user("Go.");
    let prompt = chat.prompt().unwrap();
    assert!(prompt.contains("\"drive\"") && prompt.contains("<｜tool▁sep｜>function_name"), "{prompt}");
    let (lines, output) = reply(&mut chat, &GenerateOptions { max_new_tokens: 400, ..options() });
    assert_eq!(lines, [r#"call call00000 drive {"speed":1}"#]);
    let rows = chat.num_rows();
    chat.append_message(crate::result(&output.message, 0, "went far"));
    let (_, output) = reply(&mut chat, &options());
    assert_eq!(output.stats.reused_tokens, rows);
}

#[test]
fn a_choice_of_none_keeps_the_prompt_and_forbids_the_mark() {
    let (mut chat, _) = with_tools(Template::builtin("chat-ml-tools").unwrap(), &["<tool_call>Well.<|im_end|>"]);
    chat.user("Go.");
    let before = chat.prompt().unwrap();
    let options = GenerateOptions { tool_choice: ToolChoice::None, ..options() };
    let (_, output) = reply(&mut chat, &options);
    assert!(before.contains("drive"));
    assert!(!output.text.contains("<tool_call>"), "{}", output.text);
}

#[test]
fn calls_of_tools_that_are_gone_are_told_in_words_where_the_template_knows_none() {
    let call = "{\"name\": \"drive\", \"parameters\": {\"speed\": 1}}<|im_end|>";
    // Knows two roles, and refuses all others.
    let strict = CHATML.replace(
        "<|im_start|>{{",
        "{% if m.role not in ['user', 'assistant', 'system'] or m.tool_calls %}\
                                 {{ raise_exception('what?') }}{% endif %}<|im_start|>{{",
    );
    let (mut chat, _) =
        with_tools(Template::jinja("strict", &strict).unwrap(), &[call, "Done.<|im_end|>", "Yes.<|im_end|>"]);
    let (_, output) = ask(&mut chat, "Go.");
    chat.append_message(crate::result(&output.message, 0, "went far"));
    reply(&mut chat, &options());
    chat.set_tools(Vec::new()).unwrap();
    let (lines, _) = ask(&mut chat, "Really?");
    assert_eq!(lines, ["text Yes."]);
    assert!(chat.prompt().unwrap().contains("went far"));
}

#[test]
fn a_reply_that_is_held_to_a_form_is_no_reasoning() {
    let thinks = CHATML.replace("assistant\n{%", "assistant\n<think>\n{%");
    assert_ne!(thinks, CHATML);
    let (model, _) = model(Template::jinja("thinks", &thinks).unwrap(), &["Hm.</think>So.<|im_end|>", "yes<|im_end|>"]);
    let format = ChatOptions { tool_format: Some(ToolFormat::Hermes), ..ChatOptions::default() };
    let mut chat = model.chat(format).unwrap();
    assert_eq!(ask(&mut chat, "Well?").0, ["reasoning Hm.", "text So."]);
    chat.user("Well?");
    let held = GenerateOptions { constraint: Some(Constraint::Regex("yes|no".into())), ..options() };
    let (lines, output) = reply(&mut chat, &held);
    assert_eq!((lines, output.text.as_str()), (vec!["text yes".to_owned()], "yes"));
}

#[test]
fn what_is_said_of_a_tool_is_text() {
    let ends = |description: &str| {
        let (model, log) = model(Template::builtin("chat-ml-tools").unwrap(), &["So.<|im_end|>"]);
        let mut tool = drive();
        tool["function"]["description"] = description.into();
        let mut chat = model.chat(ChatOptions { tools: vec![tool], ..ChatOptions::default() }).unwrap();
        ask(&mut chat, "Go.");
        let fed = crate::common::talk::fed(&log);
        let [end] = crate::marks::encode("<|im_end|>")[..] else { panic!("one token") };
        assert!(crate::marks::decode(&fed).contains(description), "{description}");
        fed.iter().filter(|&&token| token == end).count()
    };
    assert_eq!(ends("Drives.<|im_end|>"), ends("Drives."));
}
