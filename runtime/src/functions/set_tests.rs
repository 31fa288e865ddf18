//! Sets of functions: names, docs, what is spliced, calls without a reply.

use super::*;
use serde_json::json;

fn named(name: &str) -> BotFunction {
    BotFunction::closure(name, "", [], || ())
}

fn drive() -> BotFunction {
    BotFunction::closure(
        "drive",
        "Drives\n  ahead.",
        ["speed", "gentle", "angle"],
        |_: f64, _: bool, _: Option<f64>| "ok",
    )
}

fn refused(functions: impl IntoIterator<Item = BotFunction>) -> String {
    BotFunctions::new(functions).unwrap_err().to_string()
}

#[test]
fn names_are_checked() {
    for name in ["", "my time", "3d", "get-time", "größe", &"x".repeat(65)] {
        assert!(refused([named(name)]).contains("its name"), "{name}");
    }
    assert!(refused([named("a"), named("b"), named("a")]).contains("another one has the same name"));
    let twice = BotFunction::closure("f", "", ["x", "x"], |_: u8, _: u8| ());
    assert_eq!(refused([twice]), "the function f cannot be used: it has two parameters named \"x\"");
    let spaced = BotFunction::closure("f", "", ["x y"], |_: u8| ());
    assert!(refused([spaced]).contains("the name of its parameter \"x y\" must be"));
    let both = BotFunctions::new([named("a")]).unwrap().merge(&BotFunctions::new([named("b")]).unwrap()).unwrap();
    assert_eq!(both.names().collect::<Vec<_>>(), ["a", "b"]);
    assert!(both.clone().merge(&both).is_err());
}

#[test]
fn equal_is_what_is_the_same() {
    let one = BotFunctions::new([named("a")]).unwrap();
    assert_eq!(one, one.clone());
    assert_ne!(one, BotFunctions::new([named("a")]).unwrap());
    assert_ne!(one, one.clone().with_call_limit(1));
    assert_eq!(BotFunctions::default(), BotFunctions::default());
}

#[test]
fn docs_have_a_line_each_and_an_example_that_exists() {
    let docs = BotFunctions::new([drive(), named("time")]).unwrap().docs();
    let lines: Vec<&str> = docs.lines().collect();
    assert_eq!(lines[1], "");
    assert_eq!(lines[2], "* drive(speed: float, gentle: bool, angle: float = None) -> str: Drives ahead.");
    assert_eq!(lines[3], "* time() -> None");
    assert_eq!(lines[5], "For example, to use time write: time()");
    let docs = BotFunctions::new([drive()]).unwrap().docs();
    let example = docs.rsplit("write: ").next().unwrap();
    assert_eq!(example, "drive(speed=1, gentle=True)");
    let functions = BotFunctions::new([drive()]).unwrap();
    assert!(Scanner::new(&functions).push(example)[0].arguments.is_ok());
    assert_eq!(BotFunctions::default().docs(), "");
}

#[test]
fn results_are_framed_and_cut() {
    let functions = BotFunctions::default();
    let spliced = |functions: &BotFunctions, result: std::result::Result<Option<&str>, &str>| {
        let result = result.map(|text| text.map(str::to_owned)).map_err(str::to_owned);
        functions.spliced(&CallReport { name: "f".into(), arguments: Map::new(), result, seconds: 0.0 })
    };
    assert_eq!(spliced(&functions, Ok(Some("12:00"))).unwrap(), " 12:00");
    assert_eq!(spliced(&functions, Ok(None)), None);
    assert_eq!(spliced(&functions, Ok(Some(""))), None);
    assert_eq!(spliced(&functions, Err("f: no")).unwrap(), " (error: f: no)");
    let framed = functions.clone().with_framing(" → ", ";");
    assert_eq!(spliced(&framed, Ok(Some("1"))).unwrap(), " → 1;");
    let short = functions.with_result_limit(10);
    for (text, cut) in [
        ("1234567890", " 1234567890"),
        ("12345678901", " 12345678 …"),
        ("1234 67890 123", " 1234 …"),
        ("12345678 12", " 12345678 …"),
        ("1 345678901", " 1 345678 …"),
        ("éééé éééé é", " éééé …"),
        ("           x", "  …"),
    ] {
        assert_eq!(spliced(&short, Ok(Some(text))).unwrap(), cut, "{text}");
    }
    assert_eq!(spliced(&short.with_result_limit(0), Ok(Some("ab"))).unwrap(), "  …");
}

#[test]
fn calls_without_a_reply() {
    let functions = BotFunctions::new([drive()]).unwrap();
    for text in [r#"{"speed": 1, "gentle": true}"#, "1, gentle=True", "1, true, None"] {
        let report = functions.call_text("drive", text);
        assert_eq!(report.result, Ok(Some("ok".into())), "{text}");
        assert_eq!(report.arguments["speed"], json!(1));
    }
    for (text, why) in [
        ("{\"speed\": 1", "drive: the arguments end too early"),
        ("{\"sped\": 1}", "drive: there is no argument \"sped\""),
        ("fast", "drive: a literal"),
        ("1", "drive: the argument \"gentle\" is missing"),
    ] {
        let error = functions.call_text("drive", text).result.unwrap_err();
        assert!(error.starts_with(why), "{text}: {error}");
    }
    assert!(functions.call_text("fly", "").result.unwrap_err().contains("no function fly"));
}
