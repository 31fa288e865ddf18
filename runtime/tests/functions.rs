//! Functions for models as a program uses them: the macros, sets, calls without a reply. Calls in the middle of replies
//! are found by a scanner that has its tests beside it.

use nano_runtime::{Argument, BotFunction, BotFunctions, bot_function, bot_functions};
use serde_json::{Value, json};
use std::time::Duration;

/// Tells the answer
/// to everything.
///
/// Nobody knows the question.
#[bot_function]
fn answer() -> u32 {
    42
}

#[derive(Argument, Clone, Copy, Debug, PartialEq)]
enum Gear {
    Forward,
    FastForward,
    #[argument(name = "R")]
    Reverse,
}

mod robot {
    use super::Gear;
    use nano_runtime::bot_function;

    /// Drives.
    #[bot_function]
    pub fn drive(
        /// Metres per second.
        speed: f64,
        mut gear: Option<Gear>,
        #[allow(unused)] stops: Vec<Option<i8>>,
    ) -> Result<String, std::num::ParseIntError> {
        gear.get_or_insert(Gear::Forward);
        "1".parse::<u8>()?;
        Ok(format!("{speed} {gear:?} {stops:?}"))
    }

    #[bot_function(name = "HALT", timeout = 2)]
    pub(crate) fn stop() {}

    pub mod arm {
        /// Names that Rust keeps for itself.
        #[nano_runtime::bot_function]
        pub fn r#move(r#type: String, to: u64) -> impl std::fmt::Display {
            format!("{}-{to}", r#type)
        }
    }
}

fn result(functions: &BotFunctions, name: &str, arguments: &str) -> Result<Option<String>, String> {
    functions.call_text(name, arguments).result
}

fn text(text: &str) -> Result<Option<String>, String> {
    Ok(Some(text.to_owned()))
}

#[test]
fn a_function_stays_what_it_was() {
    assert_eq!(answer(), 42);
    assert_eq!(robot::drive(1.5, None, Vec::new()), Ok("1.5 Some(Forward) []".into()));
    robot::stop();
    assert_eq!(robot::arm::r#move("arm".into(), 1).to_string(), "arm-1");
}

#[test]
fn what_a_model_is_told() {
    let functions = bot_functions![answer, robot::drive, robot::stop, robot::arm::r#move,];
    let signatures: Vec<String> = functions.iter().map(BotFunction::signature).collect();
    let gears = r#"Literal["forward", "fast_forward", "R"]"#;
    let drive = format!("drive(speed: float, gear: {gears} = None, stops: list[int]) -> str");
    assert_eq!(signatures, ["answer() -> int", &drive, "HALT() -> None", "move(type: str, to: int) -> str"]);
    let answer = functions.get("answer").unwrap();
    assert_eq!((answer.description(), answer.timeout()), ("Tells the answer to everything.", None));
    assert_eq!(functions.get("HALT").unwrap().timeout(), Some(Duration::from_secs(2)));
    let schema = functions.get("drive").unwrap().parameters();
    assert_eq!(schema["properties"]["speed"], json!({"type": "number", "description": "Metres per second."}));
    assert_eq!(schema["required"], json!(["speed", "stops"]));
    let docs = functions.docs();
    assert!(docs.contains("\n* answer() -> int: Tells the answer to everything.\n"), "{docs}");
    assert!(docs.ends_with("to use answer write: answer()"), "{docs}");
}

#[test]
fn calls_convert_their_arguments() {
    let functions = bot_functions![answer, robot::drive, robot::stop, robot::arm::r#move];
    assert_eq!(result(&functions, "answer", ""), text("42"));
    assert_eq!(result(&functions, "HALT", ""), Ok(None));
    assert_eq!(result(&functions, "move", "'x', to=3"), text("x-3"));
    let driven = text("2 Some(FastForward) [Some(1), None]");
    assert_eq!(result(&functions, "drive", "2, 'fast_forward', [1, None]"), driven);
    assert_eq!(result(&functions, "drive", r#"{"speed": 2, "gear": "fast_forward", "stops": [1, null]}"#), driven);
    let wrong = r#"drive: the argument "gear" must be one of "forward", "fast_forward", "R", not "up""#;
    assert_eq!(result(&functions, "drive", "2, 'up', []"), Err(wrong.into()));
    let wrong = "drive: the argument \"stops\" at position 1 must be an integer from -128 to 127, not 128";
    assert_eq!(result(&functions, "drive", "2, 'R', [1, 128]"), Err(wrong.into()));
    assert_eq!(
        result(&functions, "move", "'x', -1"),
        Err("move: the argument \"to\" must be an integer from 0 to 18446744073709551615, not -1".into())
    );
}

#[test]
fn functions_inside_of_functions() {
    #[derive(Argument)]
    enum Side {
        Left,
        Right,
    }

    /// Turns.
    #[bot_function]
    fn turn(side: Side, by: Option<Value>) -> Option<&'static str> {
        match (side, by) {
            (Side::Left, None) => Some("left"),
            (Side::Left | Side::Right, _) => None,
        }
    }

    let functions = bot_functions![turn];
    assert_eq!(result(&functions, "turn", "'left'"), text("left"));
    assert_eq!(result(&functions, "turn", "'right', {'degrees': 5}"), Ok(None));
    assert_eq!(turn::bot_function().signature(), r#"turn(side: Literal["left", "right"], by: Any = None) -> str"#);
}

#[test]
fn sets_of_all_kinds_together() {
    assert!(bot_functions![].is_empty());
    let count = std::sync::atomic::AtomicUsize::new(0);
    let count = BotFunction::closure("count", "Counts.", [], move || {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1
    });
    let all = bot_functions![answer].with([count]).unwrap();
    let all = all.merge(&BotFunctions::ready_made(["calculator"]).unwrap()).unwrap();
    assert_eq!(all.names().collect::<Vec<_>>(), ["answer", "count", "calculator"]);
    assert_eq!(result(&all, "count", ""), text("1"));
    assert_eq!(result(&all.clone(), "count", ""), text("2"));
    assert_eq!(result(&all, "calculator", "expression='2 ** 10'"), text("1024"));
    let error = all.merge(&bot_functions![answer]).unwrap_err().to_string();
    assert!(error.starts_with("the function answer cannot be used: another one has the same name"), "{error}");
}

#[test]
fn a_call_is_reported() {
    let report = bot_functions![robot::drive].call_text("drive", "1, stops=[]");
    assert_eq!(Value::Object(report.arguments), json!({"speed": 1, "stops": []}));
    assert!(report.seconds >= 0.0);
    let panics = BotFunction::closure("boom", "", [], || -> u8 { panic!("no fuse") });
    let functions = BotFunctions::new([panics]).unwrap();
    let report = functions.call_now("boom", Default::default());
    assert_eq!(functions.spliced(&report).as_deref(), Some(" (error: boom: it panicked: no fuse)"));
}

/// For `/call`, where a person would not think of quotes.
#[test]
fn one_text_needs_no_quotes() {
    let functions = BotFunctions::ready_made(["calculator"]).unwrap();
    for arguments in ["2*(3+4)", "'2*(3+4)'", "expression='2*(3+4)'", r#"{"expression": "2*(3+4)"}"#] {
        assert_eq!(result(&functions, "calculator", arguments), text("14"), "{arguments}");
    }
    assert!(result(&functions, "calculator", "'2', '3'").is_err());
    assert!(result(&bot_functions![robot::drive], "drive", "fast").is_err());
}
