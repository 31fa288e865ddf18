//! Hostile and broken templates: each must end soon, with an error that says what is wrong and where.

use std::time::{Duration, Instant};

use nano_templates::{Error, Message, Template, Vars};

fn render(source: &str) -> Result<String, Error> {
    Template::jinja("hostile", source)?.render(&[Message::user("Hi")], &Vars::default())
}

#[test]
fn endless_templates_are_stopped() {
    let start = Instant::now();
    for source in [
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% macro f(x) %}{{ g(x) }}{% endmacro %}{% macro g(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
        "{% for i in range(1000000000) %}x{% endfor %}",
        "{{ range(100001) }}",
        "{% for i in range(100000) %}{% for j in range(100000) %}x{% endfor %}{% endfor %}",
        "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
        "{% for i in range(100000) %}{% for j in range(100000) %}{{ 'x' * 1000 }}{% endfor %}{% endfor %}",
        "{{ 'x' * 10000000000 }}",
        "{{ [1] * 10000000000 }}",
        "{% set ns = namespace(x='ab') %}{% for i in range(100) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x='ab') %}{% for i in range(100) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(100) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x='ab') %}{% for i in range(100) %}{% set ns.x = ns.x|replace('a', ns.x) %}{% endfor %}",
        "{% set ns = namespace(x='ab') %}{% for i in range(100) %}{% set ns.x = [ns.x, ns.x]|join %}{% endfor %}",
        "{{ 'x'.ljust(100000000000) }}",
        "{{ '%99999999999d' % 1 }}",
        "{{ messages|slice(99999999999) }}",
        "{{ messages|batch(99999999999, 0)|list }}",
        "{% set ns = namespace(x=[]) %}{% for i in range(100000) %}{% set ns.x = [ns.x] %}{% endfor %}",
        "{% set ns = namespace(x=[]) %}{% for i in range(100000) %}{% set ns.x = {'a': ns.x} %}{% endfor %}",
        "{% set ns = namespace(x=[]) %}{% for i in range(100000) %}{% set ns.x = namespace(x=ns.x) %}{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(100000) %}{% set ns.x = ns.x|zip %}{% endfor %}",
        "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}",
        "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns|tojson }}",
        "{% set ns = namespace() %}{% set ns.x = ns %}{% set ns.y = ns %}",
        &"{% set x = [x] %}".repeat(1_000),
    ] {
        let error = render(source).expect_err(source);
        assert!(matches!(error, Error::Limit { .. }), "{source}: {error}");
    }
    // Two cores shared with other tests, without optimisation: far less than this elsewhere.
    assert!(start.elapsed() < Duration::from_secs(60), "took {:?}", start.elapsed());
}

#[test]
fn broken_templates_name_the_line() {
    for (source, line) in [
        ("{% if %}", 1),
        ("a\nb\n{{ 1 + }}", 3),
        ("{% for x in y %}\n\n{% endif %}", 3),
        ("\n{{ 'open }}", 2),
        ("\n\n{% unknown %}", 3),
        ("{% if a %}\n{% if b %}{% endif %}\n", 2),
        ("{{ a\n+ b\n~ (c\n }}", 4),
        ("{%- break %}", 1),
    ] {
        match Template::jinja("broken", source) {
            Err(Error::Syntax { name, line: found, .. }) => {
                assert_eq!((name.as_str(), found), ("broken", line), "{source}")
            }
            other => panic!("{source}: {other:?}"),
        }
    }
}

#[test]
fn failures_name_the_template_and_the_line() {
    let error = render("a\n{{ messages[0].nothing.more }}").expect_err("undefined");
    assert!(matches!(&error, Error::Render { name, line: 2, .. } if name == "hostile"), "{error}");
    let error =
        render("{% macro f() %}\n{{ raise_exception('only cats') }}{% endmacro %}{{ f() }}").expect_err("raised");
    assert!(matches!(&error, Error::Raised { message, .. } if message == "only cats"), "{error}");
    let error = render("{{ messages.append(1) }}").expect_err("a change");
    assert!(error.to_string().contains("append"), "{error}");
}

#[test]
fn odd_templates_do_not_panic() {
    let nested = ["(", "[", "{", "{{", "{%", "-", "not ", "a.", "a|", "f("]
        .map(|part| format!("{{{{ {} }}}}", part.repeat(20_000)));
    let balanced = format!("{{{{ {}1{} }}}}", "(".repeat(5_000), ")".repeat(5_000));
    let sums = format!("{{{{ 'a'{} }}}}", " + 'b'".repeat(1_000));
    let mixed = format!("{{{{ 1{} }}}}", " + 1 - 1 * 2".repeat(3_000));
    let ifs = format!("{}{}", "{% if 1 %}".repeat(5_000), "{% endif %}".repeat(5_000));
    for source in nested.iter().chain([&balanced, &sums, &mixed, &ifs]) {
        // Whatever they are, they end in a result.
        let _ = render(source);
    }
    assert_eq!(render(&sums).expect("a long sum").len(), 1_001);
    for source in [
        "{{",
        "{%",
        "{#",
        "{",
        "{{}}",
        "{%%}",
        "{{-}}",
        "{% raw %}",
        "{% raw",
        "{{ '\\",
        "{{ \"",
        "é{{ 'é'[0:1]~'ü' }}",
        "{{ a[ }}",
        "{{ ''[::-9223372036854775808] }}",
        "{{ 'abc'[9223372036854775807:-9223372036854775808:-1] }}",
        "{{ range(-9223372036854775808, 9223372036854775807, 9223372036854775807)|list }}",
        "{{ 9223372036854775807 * 9223372036854775807 + 1 }}",
        "{{ 1 % 0 }}",
        "{{ 1 // 0 }}",
        "{{ 1 / 0 }}",
        "{{ -170141183460469231731687303715884105728 % -1 }}",
        "{{ 'a'.center(5, '') }}",
        "{{ 'x'.find('x', 9223372036854775807, -9223372036854775808) }}",
        "{{ '{'.format() }}",
        "{{ '{}'.format() }}",
        "{{ strftime_now('%') }}",
        "{{ strftime_now('%Q') }}",
        "{{ strftime_now(1) }}",
        "{{ strftime_now() }}",
        "{{ raise_exception() }}",
        "{{ tojson }}",
        "{{ 1|tojson(indent='x' * 100) }}",
        "{{ [1, 'a', none]|sort }}",
        "{{ [1, 'a']|max }}",
        "{{ 'x'|indent(99999999999) }}",
        "{{ 5|round(400) }}",
        "{{ 5.5|round(-400) }}",
    ] {
        let _ = render(source);
    }
}
