//! The scanner: what is a call and what is none, and that neither depends on the pieces that a reply comes in.

use super::super::BotFunction;
use super::*;
use serde_json::json;
use std::time::{Duration, Instant};

fn functions() -> BotFunctions {
    let say = BotFunction::closure("SAY", "", ["text"], |text: String| text);
    let drive = BotFunction::closure("drive", "", ["speed", "angle"], |_: f64, _: Option<f64>| ());
    let save = BotFunction::closure("save", "", ["data"], |_: Value| ());
    let short = BotFunction::closure("e", "", [], || ());
    BotFunctions::new([BotFunction::closure("time", "", [], || "now"), say, drive, save, short]).unwrap()
}

fn scan<'a>(pieces: impl IntoIterator<Item = &'a str>) -> Vec<Found> {
    scan_for(&functions(), pieces)
}

fn scan_for<'a>(functions: &BotFunctions, pieces: impl IntoIterator<Item = &'a str>) -> Vec<Found> {
    let mut scanner = Scanner::new(functions);
    pieces.into_iter().flat_map(|piece| scanner.push(piece)).collect()
}

/// Name, arguments or error, and the text up to the end of the call.
fn calls(text: &str) -> Vec<(String, Value, &str)> {
    let found = scan([text]).into_iter();
    let shown = |found: Found| {
        let arguments = found.arguments.map_or_else(Value::String, Value::Object);
        (found.name, arguments, &text[..found.end])
    };
    found.map(shown).collect()
}

fn arguments(text: &str) -> Vec<Value> {
    calls(text).into_iter().map(|(_, arguments, _)| arguments).collect()
}

#[test]
fn calls_are_found_with_their_ends() {
    let text = "It is `time()`, so I drive(1, angle=-2.5)!";
    let expected = [
        ("time".to_owned(), json!({}), "It is `time()"),
        ("drive".to_owned(), json!({"speed": 1, "angle": -2.5}), "It is `time()`, so I drive(1, angle=-2.5)"),
    ];
    assert_eq!(calls(text), expected);
    assert_eq!(arguments("time()time()e()"), [json!({}), json!({}), json!({})]);
}

#[test]
fn literals_of_all_kinds_in_calls() {
    for (text, expected) in [
        ("SAY('hi :)')", json!({"text": "hi :)"})),
        (r#"SAY("it's (\")")"#, json!({"text": "it's (\")"})),
        (r"SAY('a\')')", json!({"text": "a')"})),
        (r"SAY('a\\')", json!({"text": r"a\"})),
        ("SAY('''a')b''c)''')", json!({"text": "a')b''c)"})),
        ("SAY('')", json!({"text": ""})),
        ("SAY('' ')')", json!({"text": ")"})),
        ("SAY(r'\\')')", json!({"text": "\\')"})),
        ("save({'a': [1, (2, 3)], \"b\": {}})", json!({"data": {"a": [1, [2, 3]], "b": {}}})),
        ("drive(\n  speed = 1,\n\n  angle = None,\n)", json!({"speed": 1, "angle": null})),
        ("SAY('one\n\ntwo')", json!({"text": "one\n\ntwo"})),
        ("SAY(\"€ über\")", json!({"text": "€ über"})),
    ] {
        assert_eq!(arguments(text), [expected], "{text}");
    }
}

#[test]
fn names_are_whole_words_before_a_parenthesis() {
    for text in
        ["xtime()", "time ()", "time\n()", "_time()", "étime()", "Time()", "time[]", "3e()", "time", "timex()", "()"]
    {
        assert_eq!(arguments(text), [] as [Value; 0], "{text}");
    }
    for text in ["(time())", "x.time()", "\u{1f600}time()", "€time()", "f(time())", "\\time()"] {
        assert_eq!(arguments(text).len(), 1, "{text}");
    }
}

#[test]
fn what_is_no_literal_or_does_not_fit_is_an_error() {
    for (text, why) in [
        ("drive(fast)", "drive: a literal"),
        ("drive(time())", "drive: a literal"),
        ("drive(1 + 1)", "drive: ',' between arguments is expected before \"+ 1\""),
        ("drive(])", "drive: "),
        ("drive()", "drive: the argument \"speed\" is missing"),
        ("time(1)", "time: it takes no arguments, not 1"),
        ("drive(1, 2, 3)", "drive: it takes 2 arguments"),
    ] {
        let found = arguments(text);
        assert_eq!(found.len(), 1, "{text}");
        assert!(found[0].as_str().is_some_and(|error| error.starts_with(why)), "{text}: {found:?}");
    }
}

#[test]
fn an_open_call_never_fires() {
    for text in ["time(", "drive(1, 2", "SAY('a)", "SAY('''a')", "save([1)", "save({'a': '}'"] {
        assert_eq!(arguments(text), [] as [Value; 0], "{text}");
    }
}

#[test]
fn prose_after_a_parenthesis_hides_no_calls_for_long() {
    assert_eq!(arguments("I can call time( at any time.\n \nNow: time()"), [json!({})]);
    // An apostrophe in it begins no text that would go on for ever.
    assert_eq!(arguments("time( that's it, as they say.\n\nNow: time()"), [json!({})]);
    assert_eq!(arguments("time(\n\nwith three lines\n\n\n\n\n\n of prose\n\n. time()"), [json!({})]);
    let long = |n: usize| format!("SAY('{}') time()", "x".repeat(n));
    assert_eq!(arguments(&long(LONGEST - 2)).len(), 2);
    // One more, and it is text: what follows the 64 KiB is read anew.
    assert_eq!(arguments(&long(LONGEST - 1)).len(), 1);
    assert_eq!(arguments(&format!("time({}time()", " ".repeat(LONGEST + 1))).len(), 1);
    assert_eq!(arguments(&format!("time({}xtime()", " ".repeat(LONGEST))).len(), 0, "a name has a start");
}

#[test]
fn a_splice_belongs_to_no_call() {
    let mut scanner = Scanner::new(&functions());
    let end = |found: Vec<Found>| found.iter().map(|found| found.end).collect::<Vec<_>>();
    assert_eq!(end(scanner.push("time()")), [6]);
    scanner.splice(" €time()");
    assert_eq!(end(scanner.push(" e()")), [6 + 10 + 4]);
    scanner.splice("");
    scanner.splice("ti");
    assert_eq!(end(scanner.push("me()")), [] as [usize; 0], "half of the name is not the model's");
    scanner.splice("time");
    assert_eq!(end(scanner.push("() drive(")), [] as [usize; 0], "the name is not the model's");
    scanner.splice("x");
    assert_eq!(end(scanner.push("1)")), [] as [usize; 0], "the call was cut by a splice");
    scanner.splice("x");
    assert_eq!(end(scanner.push("time()")), [] as [usize; 0], "a word that begins in a splice");
    scanner.splice(&"y ".repeat(100));
    assert_eq!(end(scanner.push("time()")).len(), 1);
}

#[test]
fn no_functions_no_calls() {
    let mut scanner = Scanner::new(&BotFunctions::default());
    assert_eq!(scanner.push("time() ()"), []);
    scanner.splice("x");
}

const REPLIES: [&str; 10] = [
    "It is `time()`, so I drive(1, angle=-2.5)!",
    "time()time()e()xe() e()",
    "SAY('hi :)') SAY(\"it's\\\")\") SAY('''a')b'')''') SAY('')",
    "save({'a': [1, (2, 3)]})save([)]) time(]) drive(1))",
    "drive(\n speed=1,\n\n angle=2) time(at any\n\n time()) \n\n e()",
    "€time() étime() \u{1f600}e() x\u{301}e() SAY('\u{1f600}\\ud83d\\ude00')",
    "drive(time()) drive(x) drive(1+1) SAY(SAY('a'))",
    "time( time( \n\ntime()\n\n(time())",
    "SAY(r'\\') time()') time(''''') e()''') e()",
    "((((time((((()))) e() )))) time())",
];

#[test]
fn every_cut_gives_the_same_calls() {
    let functions = functions();
    for reply in REPLIES {
        let whole = scan_for(&functions, [reply]);
        assert!(!whole.is_empty(), "{reply}");
        let cuts: Vec<usize> = (0..=reply.len()).filter(|&at| reply.is_char_boundary(at)).collect();
        for (i, &a) in cuts.iter().enumerate() {
            for &b in &cuts[i..] {
                assert_eq!(
                    scan_for(&functions, [&reply[..a], &reply[a..b], &reply[b..]]),
                    whole,
                    "{reply} cut at {a} and {b}"
                );
            }
        }
        let single = cuts.windows(2).map(|pair| &reply[pair[0]..pair[1]]);
        assert_eq!(scan_for(&functions, single), whole, "{reply} in characters");
    }
}

/// Numbers that look random and are the same each time.
fn random(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*state >> 33) as usize
}

#[test]
fn nonsense_in_any_pieces_gives_the_same_calls_and_no_panic() {
    let functions = functions();
    let bits = [
        "time()",
        "e()",
        "SAY('a')",
        "time",
        "(",
        ")",
        "()",
        "SAY",
        "'",
        "\"",
        "'''",
        "\\",
        "[",
        "]",
        "{",
        "}",
        ",",
        "=",
        "1",
        "e",
        "-",
        "\n",
        "\n\n",
        " ",
        "é",
        "\u{1f600}",
        "drive(",
        "None",
        "0x",
        "\\u",
        "\\ud83d",
        ":",
        "speed",
        "#",
        ".",
        "_",
        "x",
    ];
    let state = &mut 1;
    let mut calls = 0;
    for _ in 0..3000 {
        let pieces: Vec<&str> = (0..random(state) % 40).map(|_| bits[random(state) % bits.len()]).collect();
        let whole = scan_for(&functions, [pieces.concat().as_str()]);
        calls += whole.len();
        assert_eq!(scan_for(&functions, pieces.iter().copied()), whole, "{pieces:?}");
    }
    assert!(calls > 500, "only {calls} calls: the test has become blind");
}

#[test]
fn a_megabyte_takes_no_longer_than_its_length() {
    const SIZE: usize = 1 << 20;
    const IN_BYTES: usize = 1 << 17;
    let begun = Instant::now();
    let mut texts: Vec<String> =
        ["time()", "(", "time(", "time(\n\n", "SAY('", "x ", "drive(1,\n\n", "[", "''", "save([", "time", "SAY(\\'"]
            .map(|bit| bit.repeat(SIZE / bit.len()))
            .into();
    // Open calls that are arguments up to each of their many empty lines.
    texts.push(format!("{})))", "save([".to_owned() + &"1,\n\n".repeat(LONGEST / 4)).repeat(SIZE / LONGEST));
    for text in texts {
        let whole = scan([text.as_str()]);
        let single = scan((0..IN_BYTES).map(|at| &text[at..at + 1]));
        assert_eq!(single, whole[..single.len()], "{}", &text[..20]);
    }
    // Quadratic work takes minutes, and all of this less than a second.
    assert!(begun.elapsed() < Duration::from_secs(20));
}
