//! The literal parser, against what Python reads and against what it refuses.

use super::*;
use serde_json::json;

fn value(text: &str) -> Value {
    let found = arguments(text).unwrap_or_else(|problem| panic!("{text}: {problem}"));
    assert_eq!((found.positional.len(), found.keywords.len()), (1, 0), "{text}");
    found.positional[0].clone()
}

fn refused(text: &str) -> String {
    match arguments(text) {
        Err(problem) => problem.to_string(),
        Ok(found) => panic!("{text} gave {found:?}"),
    }
}

#[test]
fn plain_values() {
    for (text, expected) in [
        ("1", json!(1)),
        ("-7", json!(-7)),
        ("+7", json!(7)),
        ("007", json!(7)),
        ("1_000", json!(1000)),
        ("0x1F", json!(31)),
        ("-0b101", json!(-5)),
        ("0o17", json!(15)),
        ("1.", json!(1.0)),
        (".5", json!(0.5)),
        ("-1.5e-3", json!(-0.0015)),
        ("1E+2", json!(100.0)),
        ("18446744073709551615", json!(u64::MAX)),
        ("-9223372036854775808", json!(i64::MIN)),
        ("100000000000000000000", json!(1e20)),
        ("True", json!(true)),
        ("false", json!(false)),
        ("None", json!(null)),
        (" null ", json!(null)),
        ("[]", json!([])),
        ("[1, 'a', [True, None],]", json!([1, "a", [true, null]])),
        ("(1)", json!(1)),
        ("(1,)", json!([1])),
        ("()", json!([])),
        ("(1, 2)", json!([1, 2])),
        ("{}", json!({})),
        ("{'a': 1, \"b\" : {'c': [2]},}", json!({"a": 1, "b": {"c": [2]}})),
    ] {
        assert_eq!(value(text), expected, "{text}");
    }
}

#[test]
fn strings() {
    for (text, expected) in [
        (r#"'it "is"'"#, r#"it "is""#),
        (r#""it's )""#, "it's )"),
        (r"'it\'s'", "it's"),
        (r"'a\n\t\\\x41\u00e9\U0001F600\101\0'", "a\n\t\\A\u{e9}\u{1f600}A\0"),
        (r"'\ud83d\ude00'", "\u{1f600}"),
        (r"'\ud83d'", "\u{fffd}"),
        (r"'\ud83d\u0041'", "\u{fffd}A"),
        (r"'\d\/'", r"\d\/"),
        (r"r'\d\''", r"\d\'"),
        ("'one\ntwo'", "one\ntwo"),
        ("'one\\\ntwo'", "onetwo"),
        ("'''it's\n\"so\"'''", "it's\n\"so\""),
        (r#""""a""b\"""""#, "a\"\"b\""),
        ("''", ""),
        ("'a' \"b\"\n'c'", "abc"),
        ("u'€'", "€"),
    ] {
        assert_eq!(value(text), json!(expected), "{text}");
    }
}

#[test]
fn arguments_in_order_and_by_name() {
    let found = arguments("\n  1,\n  'two',\n  three = 3.0,\n  _f4=[4],\n").unwrap();
    assert_eq!(found.positional, [json!(1), json!("two")]);
    assert_eq!(found.keywords, [("three".into(), json!(3.0)), ("_f4".into(), json!([4]))]);
    assert_eq!(arguments(" \n").unwrap(), Literals::default());
    assert!(refused("a=1, 2").contains("without a name"));
}

#[test]
fn what_is_no_literal_is_refused() {
    for text in [
        "a",
        "a.b",
        "f()",
        "1 + 1",
        "1-1",
        "2*3",
        "1 2",
        "a==1",
        "f'x'",
        "b'x'",
        "1j",
        "1__0",
        "_1",
        "1_",
        "0x",
        "0xg",
        "0x-1",
        "inf",
        "nan",
        "1e999",
        "--1",
        "-",
        ".",
        "1.2.3",
        "1e",
        "{1: 2}",
        "{'a', 'b'}",
        "{'a' 1}",
        "[1 2]",
        "[,]",
        ",",
        "1,,2",
        "[1)",
        "lambda: 0",
        "'a' + 'b'",
        r"'\xg1'",
        "x for x in y",
        "`1`",
        "*a",
        "**{}",
        "not True",
        "é=",
    ] {
        refused(text);
    }
    assert!(refused("speed").contains("before \"speed\""));
}

#[test]
fn an_end_that_is_too_early_is_told_from_a_mistake() {
    for text in ["'a", "[1", "{'a'", "{'a': 1", "a=", "'''a''", "[1, ", "(", r"'\x4", "1, [\n\n"] {
        assert_eq!(arguments(text), Err(Problem::End), "{text}");
    }
    for text in ["at any", "[1 2", "1; "] {
        assert_ne!(arguments(text), Err(Problem::End), "{text}");
    }
}

#[test]
fn deep_nests_are_refused_and_do_not_overflow() {
    let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
    assert!(arguments(&deep(DEPTH)).is_ok());
    assert!(arguments(&"[[]],".repeat(DEPTH)).is_ok(), "side by side is not deep");
    assert!(refused(&deep(DEPTH + 1)).contains("nested"));
    assert!(refused(&"{'a':(".repeat(300_000)).contains("nested"));
}

#[test]
fn values_are_written_as_python_writes_them() {
    let value = json!({"a": [true, null, 1.5], "b": "it's"});
    assert_eq!(written(&value), r#"{"a": [True, None, 1.5], "b": "it's"}"#);
    assert_eq!(self::value(&written(&value)), value);
}
