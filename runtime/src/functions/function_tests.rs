//! Functions and their arguments: signatures, schemas, binding, checks, panics.

use super::super::literal::arguments;
use super::*;

fn drive() -> BotFunction {
    BotFunction::closure("drive", "Drives.", ["speed", "angle"], |speed: f64, angle: Option<f64>| {
        format!("{speed} {angle:?}")
    })
}

fn call(function: &BotFunction, text: &str) -> Result<Option<String>, String> {
    function.call(&function.bind(arguments(text).unwrap())?)
}

fn text(text: &str) -> Result<Option<String>, String> {
    Ok(Some(text.to_owned()))
}

#[test]
fn told_to_models() {
    let drive = drive();
    assert_eq!(drive.signature(), "drive(speed: float, angle: float = None) -> str");
    let parameters = json!({
        "type": "object",
        "properties": {"speed": {"type": "number"}, "angle": {"type": "number"}},
        "required": ["speed"],
    });
    assert_eq!(drive.parameters(), &parameters);
    let function = json!({"name": "drive", "description": "Drives.", "parameters": parameters});
    assert_eq!(drive.tool(), json!({"type": "function", "function": function}));
    let renamed = drive.clone().with_name("GO").with_timeout(Duration::from_secs(1));
    assert_eq!((renamed.name(), renamed.timeout()), ("GO", Some(Duration::from_secs(1))));
    assert_eq!((drive.name(), drive.timeout()), ("drive", None));
    assert!(drive == drive.clone() && drive != renamed);
}

#[test]
fn arguments_are_bound_by_place_and_by_name() {
    let drive = drive();
    assert_eq!(call(&drive, "1"), text("1 None"));
    assert_eq!(call(&drive, "1, 2"), text("1 Some(2.0)"));
    assert_eq!(call(&drive, "1, angle=2"), text("1 Some(2.0)"));
    assert_eq!(call(&drive, "angle=2.5, speed=1"), text("1 Some(2.5)"));
    assert_eq!(call(&drive, "1, None"), text("1 None"));
}

#[test]
fn what_does_not_fit_is_said() {
    let drive = drive();
    for (arguments, why) in [
        ("", "drive: the argument \"speed\" is missing"),
        ("angle=1", "drive: the argument \"speed\" is missing"),
        ("1, 2, 3", "drive: it takes 2 arguments (speed, angle), not 3"),
        ("1, speed=2", "drive: the argument \"speed\" is given twice"),
        ("speed=1, speed=2", "drive: the argument \"speed\" is given twice"),
        ("1, sped=2", "drive: there is no argument \"sped\"; it takes 2 arguments (speed, angle)"),
        ("'fast'", "drive: the argument \"speed\" must be a number, not \"fast\""),
        ("None", "drive: the argument \"speed\" must be a number, not None"),
    ] {
        assert_eq!(call(&drive, arguments), Err(why.into()), "{arguments}");
    }
    assert!(drive.call(&Map::new()).is_err(), "a call from a map is checked too");
}

#[test]
fn closures_of_every_length() {
    assert_eq!(call(&BotFunction::closure("f", "", [], || ()), ""), Ok(None));
    let six = |a: u8, b: bool, c: String, d: Vec<i64>, e: f32, f: Value| format!("{a} {b} {c} {d:?} {e} {f}");
    let six = BotFunction::closure("f", "", ["a", "b", "c", "d", "e", "f"], six);
    assert_eq!(call(&six, "1, True, 'x', [2], 3.5, {'k': None}"), text("1 true x [2] 3.5 {\"k\":null}"));
}

#[test]
fn errors_and_panics_are_sentences() {
    let fails = BotFunction::closure("f", "", [], || Err::<(), _>("the motor is off"));
    assert_eq!(call(&fails, ""), Err("f: the motor is off".into()));
    let panics = BotFunction::closure("f", "", ["n"], |n: usize| [1, 2][n]);
    assert_eq!(call(&panics, "1"), text("2"));
    assert!(call(&panics, "2").unwrap_err().starts_with("f: it panicked: index out of bounds"));
}

#[test]
fn schemas_check_what_they_speak_of() {
    let schema = json!({
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer", "default": 3},
            "unit": {"enum": ["C", "F"]},
        },
        "required": ["city"],
    });
    let echo = |arguments: &Map<String, Value>, _| Ok(Some(Value::Object(arguments.clone()).to_string()));
    let weather = BotFunction::by_schema("weather".into(), String::new(), schema.clone(), echo);
    assert_eq!(weather.signature(), "weather(city: str, days: int = 3, unit: Literal[\"C\", \"F\"] = None) -> str");
    assert_eq!(call(&weather, "'Oslo'"), text(r#"{"city":"Oslo","days":3}"#));
    assert_eq!(call(&weather, "'Oslo', 1, None"), text(r#"{"city":"Oslo","days":1}"#));
    assert_eq!(call(&weather, "1"), Err("weather: the argument \"city\" must be a string, not 1".into()));
    assert!(call(&weather, "'Oslo', unit='K'").unwrap_err().contains("must be one of \"C\", \"F\""));
    assert!(call(&weather, "'Oslo', wind=1").unwrap_err().contains("no argument \"wind\""));
    let mut open = schema;
    open["additionalProperties"] = true.into();
    let open = BotFunction::by_schema("weather".into(), String::new(), open, echo);
    assert_eq!(call(&open, "'Oslo', wind=1"), text(r#"{"city":"Oslo","wind":1,"days":3}"#));
    let lenient = BotFunction::by_schema("f".into(), String::new(), json!({"properties": {"a": {}}}), echo);
    assert_eq!(call(&lenient, "[1]"), text(r#"{"a":[1]}"#));
}
