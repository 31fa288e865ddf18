//! Messages in and out of JSON, and what a template sees of them.

use nano_templates::{Content, Error, Message, Part, Template, Vars};
use serde_json::{Value, json};

#[test]
fn messages_keep_everything_they_hold() {
    let list = json!([
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "Look:"}, {"type": "image_url", "image_url": {"url": "u"}}], "name": "Ann"},
        {"role": "assistant", "content": null, "reasoning_content": "hm", "tool_calls": [
            {"function": {"arguments": "{\"x\": 1}", "name": "f"}, "id": "1", "type": "function"}]},
        {"role": "tool", "content": "ok", "tool_call_id": "1", "weather": {"b": 1, "a": 2}},
        {"role": "assistant"},
    ]);
    let messages = Message::from_list(list.clone()).expect("messages");
    assert_eq!(messages[0], Message::system("Be kind."));
    assert_eq!(messages[1].content.text(), "Look:");
    assert!(matches!(&messages[1].content, Content::Parts(parts) if parts[0] == Part::text("Look:")));
    assert_eq!(messages[2].content, Content::None);
    assert_eq!(messages[2].reasoning_content.as_deref(), Some("hm"));
    assert_eq!(messages[3].other["weather"]["a"], 2);
    assert_eq!(messages[4].content, Content::Absent);
    assert_eq!(serde_json::to_value(&messages).expect("JSON"), list);
    let again: Vec<Message> = serde_json::from_value(list).expect("messages");
    assert_eq!(again, messages);
}

#[test]
fn arguments_of_calls_reach_the_template_as_objects() {
    let template = Template::jinja(
        "calls",
        "{% for c in messages[0].tool_calls %}{{ c.function.arguments is mapping }} {{ c.function.arguments|tojson }};{% endfor %}",
    )
    .expect("template");
    let call = |arguments: Value| json!({"type": "function", "function": {"name": "f", "arguments": arguments}});
    let message = json!([{"role": "assistant", "tool_calls": [
        call(json!("{\"b\": 1.0, \"a\": [\"é\"]}")), call(json!({"z": 1})), call(json!("{broken")), call(json!("[1]")),
    ]}]);
    let messages = Message::from_list(message).expect("messages");
    let text = template.render(&messages, &Vars::default()).expect("text");
    assert_eq!(text, "True {\"b\": 1.0, \"a\": [\"é\"]};True {\"z\": 1};False \"{broken\";False \"[1]\";");
}

#[test]
fn content_may_be_null_or_absent() {
    let template = Template::jinja("c", "{{ messages[0].content is defined }} {{ messages[0].content is none }}")
        .expect("template");
    let render = |message: Value| {
        template.render(&Message::from_list(json!([message])).expect("messages"), &Vars::default()).expect("text")
    };
    assert_eq!(render(json!({"role": "user"})), "False False");
    assert_eq!(render(json!({"role": "user", "content": null})), "True True");
    assert_eq!(render(json!({"role": "user", "content": ""})), "True False");
}

#[test]
fn wrong_messages_are_named() {
    for (messages, expected) in [
        ("{", "the messages are not a JSON list of messages: EOF"),
        ("{\"role\": \"user\"}", "the messages are not a JSON list of messages: found an object"),
        ("[{\"role\": \"user\", \"content\": \"a\"}, 7]", "messages[1] is the number 7, not an object"),
        ("[{\"content\": \"a\"}]", "messages[0].role: expected a string, found nothing"),
        ("[{\"role\": 1}]", "messages[0].role: expected a string, found the number 1"),
        (
            "[{\"role\": \"a\"}, {\"role\": \"b\", \"content\": 5}]",
            "messages[1].content: expected a string, a list of parts or null, found the number 5",
        ),
        (
            "[{\"role\": \"a\", \"content\": [\"x\"]}]",
            "messages[0].content[0]: expected an object with a type, found the string \"x\"",
        ),
        (
            "[{\"role\": \"a\", \"content\": [{\"type\": \"text\"}]}]",
            "messages[0].content[0].text: expected a string, found nothing",
        ),
        (
            "[{\"role\": \"a\", \"content\": [{\"text\": \"t\"}]}]",
            "messages[0].content[0].type: expected a string, found nothing",
        ),
        ("[{\"role\": \"a\", \"name\": []}]", "messages[0].name: expected a string, found a list of 0"),
        (
            "[{\"role\": \"a\", \"tool_calls\": {}}]",
            "messages[0].tool_calls: expected a list of calls, found an object",
        ),
        (
            "[{\"role\": \"a\", \"tool_calls\": [{\"function\": {}}]}]",
            "messages[0].tool_calls[0].function.name: expected a string, found nothing",
        ),
    ] {
        let error = Message::parse_list(messages).expect_err(messages).to_string();
        assert!(error.contains(expected), "{messages}: {error}");
    }
    let deep = "[".repeat(100_000);
    assert!(matches!(Message::parse_list(&deep), Err(Error::Messages { .. })));
}
