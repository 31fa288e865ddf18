//! Calls, results and reasoning before templates, which want them in forms that differ.

use nano_templates::{Knows, Message, Template, Vars};
use serde_json::{Value, json};

const ALL: Knows = Knows { tools: true, results: true };

/// A conversation in the form of the OpenAI API, as clients and histories have it.
fn conversation(ids: [&str; 2]) -> Vec<Message> {
    let call = |id: &str, place: &str| {
        json!({"id": id, "type": "function", "function": {
            "name": "get_current_weather", "arguments": json!({"location": place, "unit": "celsius"}).to_string()}})
    };
    let result = |id: &str, text: &str| json!({"role": "tool", "name": "get_current_weather", "tool_call_id": id, "content": text});
    let list = json!([
        {"role": "user", "content": "Weather in both?"},
        {"role": "assistant", "content": null, "reasoning_content": "Two calls.",
         "tool_calls": [call(ids[0], "Paris"), call(ids[1], "Rome")]},
        result(ids[0], "ELEVEN"),
        result(ids[1], "TWELVE"),
        {"role": "assistant", "content": "About the same."},
        {"role": "user", "content": "And now?"},
    ]);
    Message::from_list(list).expect("messages")
}

/// A template that is given one tool, and what it writes of the first messages of the conversation.
fn written(template: &Template, messages: usize) -> String {
    let vars = Vars { tools: Some(json!([{"type": "function", "function": {"name": "f"}}])), ..Vars::default() };
    template.render(&conversation(["abcd12345", "abcd12346"])[..messages], &vars).expect("a prompt")
}

#[test]
fn a_conversation_with_calls_renders_with_every_published_template_that_knows_them() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/goldens/templates.json");
    let Ok(json) = std::fs::read_to_string(file) else {
        println!("skipped: 48 templates, there is no {file}");
        return;
    };
    let data: Value = serde_json::from_str(&json).expect("the golden data is JSON");
    let (mut tools, mut results) = (Vec::new(), Vec::new());
    for (name, golden) in data["templates"].as_object().expect("templates") {
        let template = Template::jinja(name, golden["template"].as_str().expect("template")).expect(name);
        let spelling = |key: &str| golden[key].as_str().unwrap_or_default().to_owned();
        let vars = Vars { bos_token: spelling("bos_token"), eos_token: spelling("eos_token"), ..Vars::default() };
        let knows = template.knows_tools(&vars);
        if knows.tools {
            tools.push(name.as_str());
        }
        if !knows.results {
            continue;
        }
        results.push(name.as_str());
        let vars = Vars { tools: knows.tools.then(|| data["tools"].clone()), ..vars };
        for ids in [["abcd12345", "abcd12346"], ["call_1", "call_2"]] {
            let all = conversation(ids);
            // As it grows: before the calls, after them, after one result, after both, and with all that follows.
            for length in [1, 3, 4, 5, 6] {
                let prompt = template.render(&all[..length], &vars).unwrap_or_else(|e| panic!("{name}, {length}: {e}"));
                let counts = ["Paris", "Rome", "ELEVEN", "TWELVE"].map(|word| prompt.matches(word).count());
                let (calls, last) = (usize::from(length > 1), usize::from(length > 3));
                assert_eq!(counts, [calls, calls, calls, last], "{name}, {length}: {prompt}");
            }
        }
    }
    let silent = ["deepseek-r1", "deepseek-r1-distill-qwen", "deepseek-v3.1"];
    let known = "llama-3.1 llama-3.2 llama-3.3 llama-3.2-vision qwen2.5 qwq qwen3 qwen3.5 mistral-v0.3-tools \
                 mistral-nemo hermes-2-pro hermes-3 command-r7b granite-3.3 functionary-3.2 kimi-k2";
    assert_eq!(tools, known.split(' ').collect::<Vec<_>>());
    results.retain(|name| !silent.contains(name));
    // It writes the content of all messages, and nothing of calls.
    tools.retain(|name| *name != "granite-3.3");
    assert_eq!(results, tools);
}

#[test]
fn built_in_templates_say_what_they_know() {
    let vars = Vars::default();
    for name in Template::builtin_names() {
        let knows = Template::builtin(name).expect(name).knows_tools(&vars);
        let all = ["chat-ml-tools", "llama-3.1", "qwen"].contains(name);
        assert_eq!(knows, if all { ALL } else { Knows::default() }, "{name}");
    }
    let words =
        Template::nanollm("words.json", r#"{"user": "U:${MESSAGE}", "bot": "B:${MESSAGE}"}"#).expect("template");
    assert_eq!(words.knows_tools(&vars), Knows::default());
}

/// What gpt-oss asks of messages: one call each, `thinking`, and no words beside that.
const CHANNELS: &str = r#"
{%- for tool in tools or [] %}{{ tool.function.name }} {% endfor %}
{%- set last = namespace(name=none) %}
{%- for message in messages %}
    {%- if message.role == "assistant" %}
        {%- if "<|channel|>" in message.content %}{{ raise_exception("channels") }}{% endif %}
        {%- if message.tool_calls %}
            {%- set call = message.tool_calls[0].function %}
            {%- set last.name = call.name %}
            {%- if message.content and message.thinking %}{{ raise_exception("both") }}{% endif %}
            {{- "[" + (message.thinking or message.content) + "]" }}
            {{- call.name + call.arguments|tojson + ";" }}
        {%- else %}
            {{- message.content + ";" }}
        {%- endif %}
    {%- elif message.role == "tool" %}
        {%- if last.name is none %}{{ raise_exception("no call") }}{% endif %}
        {{- last.name + " gave " + message.content|tojson + ";" }}
    {%- else %}
        {{- message.content + ";" }}
    {%- endif %}
{%- endfor %}"#;

#[test]
fn reasoning_has_the_name_that_the_template_gives_it_and_may_take_the_words_along() {
    let template = Template::jinja("channels", CHANNELS).expect("template");
    assert_eq!(template.knows_tools(&Vars::default()), ALL);
    let call = |place: &str| format!(r#"get_current_weather{{"location": "{place}", "unit": "celsius"}};"#);
    let gave = |text: &str| format!(r#"get_current_weather gave "{text}";"#);
    let (paris, rome, eleven, twelve) = (call("Paris"), call("Rome"), gave("ELEVEN"), gave("TWELVE"));
    let expected = format!("f Weather in both?;[Two calls.]{paris}{eleven}[]{rome}{twelve}About the same.;And now?;");
    assert_eq!(written(&template, 6), expected);
    let mut messages = conversation(["a", "b"]);
    messages[1].content = "Wait.".into();
    let both = template.render(&messages, &Vars::default()).expect("a prompt");
    assert!(both.contains("[Two calls.\n\nWait.]") && !both.contains(";Wait"), "{both}");
    messages[1].reasoning_content = None;
    let words = template.render(&messages, &Vars::default()).expect("a prompt");
    assert!(words.contains("[Wait.]get"), "{words}");

    let plan = "{% for m in messages %}{{ m.content }}{{ message.tool_plan }}{% set message = m %}{% endfor %}";
    let plan =
        plan.replace("{{ message.tool_plan }}{% set message = m %}", "{% set message = m %}{{ message.tool_plan }}");
    let template = Template::jinja("plan", &plan).expect("template");
    assert!(written(&template, 2).ends_with("Two calls."), "{}", written(&template, 2));
}

#[test]
fn results_go_to_their_own_calls() {
    // One call a message, as Llama has it.
    let source = "{% for m in messages %}{% if m.tool_calls %}{% if m.tool_calls|length != 1 %}{{ raise_exception('one') }}\
                  {% endif %}{{ m.tool_calls[0].function.arguments.location or m.tool_calls[0].function.arguments.place }}\
                  {% else %} {{ m.content }}{% endif %};{% endfor %}";
    let template = Template::jinja("one", source).expect("template");
    let render = |messages: &[Message]| template.render(messages, &Vars::default()).expect("a prompt");
    let mut messages = conversation(["a", "b"]);
    assert_eq!(render(&messages[1..5]), "Paris; ELEVEN;Rome; TWELVE; About the same.;");
    messages.swap(2, 3);
    assert_eq!(render(&messages[1..4]), "Paris; ELEVEN;Rome; TWELVE;");
    for result in &mut messages[2..4] {
        result.tool_call_id = None;
    }
    assert_eq!(render(&messages[1..4]), "Paris; TWELVE;Rome; ELEVEN;");
    messages[2].tool_call_id = Some("c".into());
    assert_eq!(render(&messages[1..5]), "Paris;Rome; TWELVE; ELEVEN; About the same.;");
    assert_eq!(render(&messages[1..2]), "Paris;Rome;");
}
