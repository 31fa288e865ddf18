//! A call, its result, the answer: what each is read as, and that nothing but what is new is fed.

use crate::common::options;
use crate::common::{Shared, talk::fed};
use crate::marks::decode;
use crate::{ask, reply, result, with_tools};
use nano_runtime::{ChatHistory, Template};

/// Thinks, calls and is told, as the templates of several families have it.
pub const THINKING: &str = "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}\
    {% set ns.last = loop.index0 %}{% endif %}{% endfor %}{{ tools|tojson if tools }}\
    {% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}\
    {% if m.reasoning_content and loop.index0 > ns.last %}<think>\n{{ m.reasoning_content.strip('\n') }}\n</think>\n\n{% endif %}\
    {{ m.content }}{% for c in m.tool_calls or [] %}\n<tool_call>\n{\"name\": \"{{ c.function.name }}\", \"arguments\": \
    {{ c.function.arguments|tojson }}}\n</tool_call>{% endfor %}{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}";

/// Asks, appends the result, and gives what was fed for the second reply.
fn round(chat: &mut ChatHistory, log: &Shared) -> (Vec<String>, String) {
    let (lines, first) = ask(chat, "Go.");
    let before = chat.num_tokens();
    assert_eq!(chat.num_pending(), usize::from(first.stop_token.is_some() || chat.num_pending() == 1));
    fed(log);
    let call = chat.messages().last().unwrap().clone();
    assert_eq!(call, first.message);
    chat.append_message(result(&call, 0, "ok"));
    let (answer, second) = reply(chat, &options());
    assert_eq!(answer, ["text Done."]);
    assert_eq!(second.stats.reused_tokens, before - 1, "all rows of the call are used again");
    let prompt = fed(log);
    assert_eq!(prompt.len(), second.stats.input_tokens + second.tokens.len() - 1);
    (lines, decode(&prompt[..second.stats.input_tokens]))
}

#[test]
fn hermes_calls_and_only_the_result_is_fed() {
    let call = "Let me.\n<tool_call>\n{\"arguments\":{\"speed\": 2.50,  \"where\":\"\\u00fcber\"}, \"name\":\"drive\"}\n</tool_call><|im_end|>";
    let (mut chat, log) = with_tools(Template::builtin("chat-ml-tools").unwrap(), &[call, "Done.<|im_end|>"]);
    let (lines, fed) = round(&mut chat, &log);
    assert_eq!(lines, ["text Let me.", r#"call call00000 drive {"speed":2.5,"where":"über"}"#]);
    let next =
        "<|im_end|>\n<|im_start|>tool\n<tool_response>\nok\n</tool_response>\n<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(fed, next);
    assert_eq!(chat.messages().len(), 5);
}

#[test]
fn llama_calls_with_and_without_its_mark() {
    for call in [
        "<|python_tag|>{\"name\": \"drive\", \"parameters\": {\"speed\": 1}}<|eom_id|>",
        "{\"name\": \"drive\", \"parameters\": {\"speed\":1}}<|eot_id|>",
    ] {
        let (mut chat, log) = with_tools(Template::builtin("llama-3.1").unwrap(), &[call, "Done.<|eot_id|>"]);
        let (lines, fed) = round(&mut chat, &log);
        assert_eq!(lines, [r#"call call00000 drive {"speed":1}"#]);
        // What the model ended with stands; the template ends a message that calls with its own mark.
        assert_eq!(
            fed.trim_start_matches("<|eom_id|>"),
            "<|start_header_id|>ipython<|end_header_id|>\n\nok<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
        );
    }
}

#[test]
fn thoughts_stay_during_a_round_and_go_when_the_user_speaks() {
    let call = "<think>\nWhere to?\n</think>\n\n<tool_call>\n{\"name\": \"drive\", \"arguments\": {\"speed\": 1}}\n</tool_call><|im_end|>";
    let template = Template::jinja("thinking", THINKING).unwrap();
    let (mut chat, log) = with_tools(template, &[call, "Done.<|im_end|>", "Yes.<|im_end|>"]);
    let (lines, fed_next) = round(&mut chat, &log);
    assert_eq!(lines, ["reasoning Where to?", r#"call call00000 drive {"speed":1}"#]);
    assert_eq!(fed_next, "<|im_end|>\n<|im_start|>tool\nok<|im_end|>\n<|im_start|>assistant\n");
    assert_eq!(chat.messages()[1].reasoning_content.as_deref(), Some("Where to?"));
    let (lines, output) = ask(&mut chat, "And now?");
    assert_eq!(lines, ["text Yes."]);
    let fed = fed(&log);
    let text = decode(&fed[..output.stats.input_tokens]);
    assert!(
        text.starts_with("<tool_call>\n{\"name\"") && text.ends_with("And now?<|im_end|>\n<|im_start|>assistant\n"),
        "{text}"
    );
}

#[test]
fn an_empty_thought_that_the_prompt_holds_is_no_reason_to_feed_the_call_again() {
    let call = "<tool_call>\n{\"name\": \"drive\", \"arguments\": {\"speed\": 1}}\n</tool_call><|im_end|>";
    let template = Template::jinja("thinking", THINKING).unwrap();
    let (model, log) = crate::model(template, &[call, "Done.<|im_end|>"]);
    let mut options = nano_runtime::ChatOptions { tools: vec![crate::drive()], ..Default::default() };
    options.vars.extra.insert("enable_thinking".into(), false.into());
    let mut chat = model.chat(options).unwrap();
    let (lines, fed) = round(&mut chat, &log);
    assert_eq!(lines, [r#"call call00000 drive {"speed":1}"#]);
    assert_eq!(fed, "<|im_end|>\n<|im_start|>tool\nok<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n");
}

#[test]
fn an_edited_call_is_fed_as_it_is_now() {
    let call = "<tool_call>\n{\"name\": \"drive\", \"arguments\": {\"speed\": 1}}\n</tool_call><|im_end|>";
    let (mut chat, log) = with_tools(Template::builtin("chat-ml-tools").unwrap(), &[call, "Done.<|im_end|>"]);
    ask(&mut chat, "Go.");
    let call = chat.messages().last().unwrap().clone();
    chat.append_message(result(&call, 0, "ok"));
    let index = chat.messages().len() - 2;
    chat.edit(index, "Words.").unwrap();
    fed(&log);
    let (_, output) = reply(&mut chat, &options());
    let text = decode(&fed(&log)[..output.stats.input_tokens]);
    assert!(text.starts_with("<|im_start|>assistant\nWords.\n<tool_call>"), "{text}");
}

#[test]
fn two_calls_and_words_that_only_look_like_one() {
    let calls = "<tool_call>\n{\"name\": \"drive\", \"arguments\": {\"speed\": 1}}\n</tool_call>\n<tool_call>\n\
                 {\"name\": \"drive\", \"arguments\": {\"speed\": 2}}\n</tool_call><|im_end|>";
    let broken = "<tool_call>\n{\"name\": drive}\n</tool_call> is how.<|im_end|>";
    let (mut chat, _) = with_tools(Template::builtin("chat-ml-tools").unwrap(), &[calls, broken]);
    let (lines, output) = ask(&mut chat, "Go.");
    assert_eq!(lines, [r#"call call00000 drive {"speed":1}"#, r#"call call00001 drive {"speed":2}"#]);
    assert_eq!(output.text, "");
    let call = chat.messages().last().unwrap().clone();
    chat.append_message(result(&call, 0, "a"));
    chat.append_message(result(&call, 1, "b"));
    let (lines, output) = reply(&mut chat, &options());
    assert_eq!(lines, ["text <tool_call>\n{\"name\": drive}\n</tool_call> is how."]);
    assert!(output.message.tool_calls.is_none());
}
