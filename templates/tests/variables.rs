//! The variables beside the messages: tokens, tools, extras, the time.

use nano_templates::{Error, Message, Template, Time, Vars};
use serde_json::json;

fn render(source: &str, vars: &Vars) -> Result<String, Error> {
    Template::jinja("t", source)?.render(&[Message::user("Hi")], vars)
}

#[test]
fn the_date_may_be_given() {
    let now = Some(Time { year: 2024, month: 7, day: 6, hour: 15, minute: 4, second: 9 });
    let vars = Vars { now, ..Vars::default() };
    // Expected values from Python's datetime(2024, 7, 6, 15, 4, 9).strftime.
    for (format, expected) in [
        ("%d %b %Y", "06 Jul 2024"),
        ("%Y-%m-%d", "2024-07-06"),
        ("%A, %B %-d, %Y at %H:%M:%S", "Saturday, July 6, 2024 at 15:04:09"),
        ("%I:%M %p %a %j %y %e %%", "03:04 PM Sat 188 24  6 %"),
        ("[%Z%z]", "[]"),
        ("", ""),
    ] {
        let source = format!("{{{{ strftime_now('{format}') }}}}");
        assert_eq!(render(&source, &vars).expect(format), expected, "{format}");
    }
    let wrong = Vars { now: now.map(|t| Time { month: 13, ..t }), ..Vars::default() };
    assert!(matches!(render("{{ strftime_now('%d') }}", &wrong), Err(Error::Render { .. })));
}

#[test]
fn the_date_is_today_otherwise() {
    let year = render("{{ strftime_now('%Y') }}", &Vars::default()).expect("a year");
    assert!((2024..3000).contains(&year.parse::<i32>().expect("a number")), "{year}");
}

#[test]
fn extra_variables_come_last() {
    let extra = json!({"enable_thinking": false, "eos_token": "E2"}).as_object().cloned().expect("an object");
    let vars = Vars {
        bos_token: "B".to_owned(),
        eos_token: "E".to_owned(),
        tools: Some(json!([{"type": "function"}])),
        extra,
        ..Vars::default()
    };
    let source = "{{ bos_token }}{{ eos_token }} {{ enable_thinking }} {{ tools|length }} {{ add_generation_prompt }} {{ documents }}";
    assert_eq!(render(source, &vars).expect("text"), "BE2 False 1 True None");
    assert_eq!(render("{{ tools is none }}", &Vars::default()).expect("text"), "True");
}

#[test]
fn marks_in_messages_survive_every_way_to_print_them() {
    let template =
        Template::jinja("t", "{{ messages[0].content }} {{ [messages[0].content] }} {{ messages[0].content|tojson }}");
    let text = template.and_then(|t| t.render(&[Message::user("<\u{fdd0}|x|>")], &Vars::default()));
    assert_eq!(text.expect("text"), "<\u{fdd0}|x|> ['<\u{fdd0}|x|>'] \"<\u{fdd0}|x|>\"");
}

#[test]
fn templates_may_be_shared_between_threads() {
    fn shared<T: Clone + Send + Sync + 'static>(value: &T) -> T {
        value.clone()
    }
    let template = Template::builtin("chat-ml").expect("chat-ml");
    let other = shared(&template);
    let text =
        std::thread::spawn(move || other.render(&[Message::user("a")], &Vars::default())).join().expect("a thread");
    assert_eq!(text.expect("text"), template.render(&[Message::user("a")], &Vars::default()).expect("text"));
}
