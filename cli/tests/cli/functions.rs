//! Functions that a reply calls, through the whole program: a parrot says the calls, small programs are called. A parrot
//! goes on from the last token before, so the second reply of its script says what follows a result.

use super::harness::{Model, PATIENCE, Running, kill};
use nano_models::testing::Parrot;
use nix::sys::signal::Signal::SIGINT;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A parrot, functions for it, and a file that gets a letter each time `count`, `silent` or `stuck` is called.
struct Robot {
    model: Model,
    functions: PathBuf,
    counter: PathBuf,
}

impl Robot {
    /// Says these tokens; after the result " 42" it says " things." or, given another one, that.
    fn new(reply: &[&str]) -> Self {
        Self::of(&Parrot::new(&[reply, &[" 42", " things", "."]]))
    }

    fn of(parrot: &Parrot) -> Self {
        let model = Model::new(&parrot.clone().words(&["word", "hi"]).context(16_384));
        let counter = model.dir.path().join("counter");
        let count = format!("printf x >> '{}'", counter.display());
        let shell = |name: &str, script: &str| json!({"name": name, "command": ["sh", "-c", script]});
        let mut slow = shell("slow", "sleep 30");
        slow["timeout"] = 0.3.into();
        let anything = json!({"text": {"type": "string"}, "n": {}, "flag": {"type": "boolean"}});
        let functions = json!([
            shell("count", &format!("{count}; echo 42")),
            shell("silent", &count),
            shell("again", "echo 'count()'"),
            shell("broken", "echo no power >&2; exit 3"),
            shell("big", "yes word | head -c 1000000"),
            shell("stuck", &format!("{count}; sleep 60")),
            {"name": "missing", "command": ["no-such-program"]},
            {"name": "echo", "command": ["cat"], "parameters": {"type": "object", "properties": anything}},
            slow,
        ]);
        let functions = model.dir.write("functions.json", functions.to_string());
        Self { model, functions, counter }
    }

    fn args<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        [&["--functions", self.functions.to_str().unwrap()], args].concat()
    }

    /// The events of one turn.
    fn events(&self, args: &[&str], user: &str) -> Vec<Value> {
        let length = if args.contains(&"-n") { &[][..] } else { &["-n", "3000"] };
        let args = [&["--json"], length, args].concat();
        self.model.run(&self.args(&args), user).succeeded().events()
    }

    fn wait_for_call(&self, number: usize) {
        let start = Instant::now();
        while self.calls() < number {
            assert!(start.elapsed() < PATIENCE, "nothing is called");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn calls(&self) -> usize {
        std::fs::read(&self.counter).map_or(0, |bytes| bytes.len())
    }
}

fn text(events: &[Value]) -> String {
    events.iter().filter_map(|event| event["text"].as_str()).collect()
}

/// The calls among events: names, and what was returned or why it failed.
fn calls(events: &[Value]) -> Vec<(&str, Option<&str>, Option<&str>)> {
    let calls = events.iter().filter(|event| event["event"] == "call");
    calls.map(|call| (call["name"].as_str().unwrap(), call["returned"].as_str(), call["failed"].as_str())).collect()
}

#[test]
fn each_call_fires_once_however_it_comes() {
    for (reply, said, number) in [
        (&["I see ", "count()"][..], "I see count() 42 things.", 1),
        (&["I see ", "co", "unt", "(", ")"], "I see count() 42 things.", 1),
        (&["I see", " count", "( \n", " )"], "I see count( \n ) 42 things.", 1),
        (&["count", "(). Then"], "count(). Then 42 things.", 1),
        (&["Both: count()count()"], "Both: count()count() 42 42 things.", 2),
        (&["count(), ", "count", "();"], "count(),  42 things.", 1),
        (&["ac", "count()"], "account()", 0),
        (&["count", "ed(", ")"], "counted()", 0),
        (&["count ", "()"], "count ()", 0),
    ] {
        let robot = Robot::new(reply);
        let events = robot.events(&[], "hi");
        assert_eq!((text(&events).as_str(), robot.calls()), (said, number), "{reply:?}: {events:?}");
        assert_eq!(calls(&events), vec![("count", Some("42"), None); number], "{reply:?}");
        let stats = &events.last().unwrap()["stats"];
        assert_eq!(stats["function_calls"], number);
        assert_eq!(stats["function_time"].as_f64().unwrap() > 0.0, number > 0, "{stats}");
        assert_eq!(stats["spliced_tokens"], number, "the result is one token: {stats}");
    }
}

#[test]
fn calls_come_between_their_text_and_their_result() {
    let robot = Robot::new(&["I see ", "count()"]);
    let events = robot.events(&[], "hi");
    let at = events.iter().position(|event| event["event"] == "call").unwrap();
    assert_eq!((text(&events[..at]).as_str(), text(&events[at..]).as_str()), ("I see count()", " 42 things."));
    let call = &events[at];
    assert!(call["seconds"].as_f64().is_some_and(|s| s > 0.0 && s < 60.0), "{call}");
    assert_eq!((&call["arguments"], call.get("failed")), (&json!({}), None));
    let whole = robot.events(&["--disable-streaming"], "hi");
    assert_eq!(whole.iter().map(|e| e["event"].as_str().unwrap()).collect::<Vec<_>>(), ["call", "text", "done"]);
    assert_eq!(text(&whole), "I see count() 42 things.");
    let plain = robot.model.run(&robot.args(&["--debug"]), "hi").succeeded();
    assert_eq!(plain.text(), "I see count() 42 things.\n");
    assert!(plain.stderr.contains("count was called") && plain.stderr.contains("1 call, "), "{}", plain.stderr);
}

#[test]
fn arguments_are_read_and_never_evaluated() {
    for (reply, arguments) in [
        (&["echo(", "'a) b'", ", 1", ")"][..], json!({"text": "a) b", "n": 1})),
        (
            &["echo(text=\"it's (\", ", "n=[1, {'b': [2.5]}],", "\n flag=True\n)"],
            json!({"text": "it's (", "n": [1, {"b": [2.5]}], "flag": true}),
        ),
        (&["echo(n=", "None", ")"], json!({})),
        (&["echo(text='a\\n\\'b\\'')"], json!({"text": "a\n'b'"})),
    ] {
        let events = Robot::new(reply).events(&[], "hi");
        let call = events.iter().find(|event| event["event"] == "call").unwrap();
        // What the program got on its stdin is what it gives back.
        let got: Value = serde_json::from_str(call["returned"].as_str().unwrap_or_default()).unwrap_or(Value::Null);
        assert_eq!(got, arguments, "{reply:?}: {call}");
    }
    for (reply, why) in [
        (&["count(", "1)"][..], "no arguments"),
        (&["echo(", "speed=1)"], "\"speed\""),
        (&["echo(", "1, 2)"], "text"),
        (&["echo(", "count())"], "echo"),
        (&["echo(", "n=1+1)"], "echo"),
    ] {
        let robot = Robot::new(reply);
        let events = robot.events(&[], "hi");
        let failed = calls(&events);
        assert!(matches!(failed[..], [(_, None, Some(found))] if found.contains(why)), "{reply:?}: {failed:?}");
        assert!(text(&events).contains(" (error: ") && robot.calls() == 0, "{reply:?}: {events:?}");
    }
}

#[test]
fn what_fails_is_visible_text() {
    for (name, why) in
        [("slow", "took longer than"), ("broken", "no power"), ("broken", "3"), ("missing", "no-such-program")]
    {
        let robot = Robot::new(&[&format!("{name}()")]);
        let events = robot.events(&[], "hi");
        let failed = calls(&events);
        assert!(matches!(failed[..], [(_, None, Some(found))] if found.contains(why)), "{name}: {failed:?}");
        let said = text(&events);
        assert!(said.starts_with(&format!("{name}() (error: {name}: ")) && said.contains(why), "{said}");
        assert_eq!(events.last().unwrap()["finish"], "stop");
    }
}

#[test]
fn results_are_cut_and_may_be_none() {
    let big = Robot::new(&["big()"]).events(&[], "hi");
    let said = text(&big);
    assert!(said.starts_with("big() word\nword") && said.ends_with("word …"), "{}", &said[said.len() - 20..]);
    assert!((1990..=2010).contains(&said.chars().count()), "{}", said.chars().count());
    let robot = Robot::new(&["a ", "silent()", " b"]);
    let silent = robot.events(&[], "hi");
    assert_eq!((text(&silent).as_str(), robot.calls()), ("a silent() b", 1));
    let call = silent.iter().find(|event| event["event"] == "call").unwrap();
    assert_eq!(call["returned"], Value::Null);
    assert!(call.as_object().unwrap().contains_key("returned"), "{call}");
    let stats = &silent.last().unwrap()["stats"];
    assert_eq!((&stats["spliced_tokens"], &stats["function_calls"]), (&json!(0), &json!(1)));
}

#[test]
fn what_others_write_calls_nothing() {
    let robot = Robot::new(&["It said:", " again()"]);
    let events = robot.events(&[], "count() silent()");
    assert_eq!(text(&events), "It said: again() count()");
    assert_eq!((calls(&events), robot.calls()), (vec![("again", Some("count()"), None)], 0));
    let robot = Robot::new(&["Well."]);
    let events = robot.events(&["--reply-prefix", "count() "], "hi");
    assert_eq!((text(&events).starts_with("count() "), calls(&events).len(), robot.calls()), (true, 0, 0));
}

#[test]
fn a_call_that_is_cut_does_not_fire() {
    let robot = Robot::new(&["I see ", "count", "(", ")"]);
    let cut = robot.events(&["-n", "3"], "hi");
    assert_eq!((text(&cut).as_str(), &cut.last().unwrap()["finish"]), ("I see count(", &json!("length")));
    let stopped = robot.events(&["--stop", "("], "hi");
    assert_eq!(text(&stopped), "I see count");
    assert_eq!(robot.calls(), 0);
    assert!(calls(&cut).is_empty() && calls(&stopped).is_empty());
    // What a result is made of counts for the length.
    let robot = Robot::new(&["count()"]);
    let short = robot.events(&["-n", "2"], "hi");
    assert_eq!((text(&short).as_str(), &short.last().unwrap()["finish"]), ("count() 42", &json!("length")));
    assert_eq!(robot.calls(), 1);
}

#[test]
fn a_reply_may_make_eight_calls() {
    // Every result leads to another call.
    let robot = Robot::of(&Parrot::new(&[&["Go: ", "count()"], &[" 42", ", ", "count()"]]));
    let events = robot.events(&[], "hi");
    let made = calls(&events);
    assert_eq!((robot.calls(), made.len()), (8, 9), "{made:?}");
    assert!(made[8].2.is_some_and(|why| why.contains("8 calls")), "{made:?}");
    assert_eq!(events.last().unwrap()["stats"]["function_calls"], 8);
    assert!(text(&events).starts_with("Go: count() 42, count() 42, "), "{}", text(&events));
}

#[test]
fn an_interrupt_does_not_wait_for_a_function() {
    let robot = Robot::of(&Parrot::new(&[&["Now ", "stuck()"], &["Bye", "."]]));
    let mut running = Running::start(robot.model.command(&robot.args(&["--json"])), robot.model.dir.path());
    running.say("hi");
    let mut said = String::new();
    while !said.ends_with("stuck()") {
        said += running.event()["text"].as_str().unwrap();
    }
    robot.wait_for_call(1);
    let start = Instant::now();
    kill(running.child.id(), SIGINT);
    let (more, end) = running.turn();
    assert_eq!((more.as_str(), &end["finish"]), ("", &json!("cancelled")), "{end}");
    assert!(start.elapsed() < Duration::from_secs(4), "it waited for the time-out");
    running.say("hi");
    assert_eq!(running.turn().0, "Bye.", "the conversation goes on");
    running.say("/call stuck");
    robot.wait_for_call(2);
    kill(running.child.id(), SIGINT);
    let left = running.event();
    assert!(left["message"].as_str().is_some_and(|why| why.contains("stuck")), "{left}");
    drop(running.stdin.take());
    assert_eq!(running.end().code(), Some(1), "one command failed");
}

#[test]
fn functions_are_described_and_called_by_hand() {
    let robot = Robot::new(&["Well."]);
    let args = robot.args(&["--function", "date,time", "--function", "calculator", "--system-prompt", "Be brief."]);
    let ran =
        robot.model.run(&args, "/system\n/functions\n/call echo 'x', n=2\n/call calculator(\"2*3\")\n").succeeded();
    for word in ["Be brief.\n\n", "echo(text: str = None", "* calculator(", "{\"text\":\"x\",\"n\":2}\n", "\n6"] {
        assert!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
    }
    assert_eq!((ran.text().as_str(), robot.calls()), ("", 0));
    let ran = robot.model.run(&args, "/call slow\n/call nope\n/call broken\n/call silent\n/call count 1\nhi\n");
    assert_eq!((ran.text().as_str(), ran.code, robot.calls()), ("Well.\n", Some(1), 1));
    assert_eq!(ran.stderr.matches("error:").count(), 4, "{}", ran.stderr);
    let json = [&args[..], &["--json"]].concat();
    let events = robot.model.run(&json, "/call echo {\"flag\": true}\n/history\n").succeeded().events();
    assert_eq!((&events[0]["event"], &events[0]["arguments"]), (&json!("call"), &json!({"flag": true})));
    assert_eq!(events[0]["returned"], "{\"flag\":true}");
    assert!(!events[1]["text"].as_str().unwrap().contains("flag"), "a call by hand is not part of the conversation");
}

#[test]
fn functions_that_cannot_be() {
    let robot = Robot::new(&["Well."]);
    let file = |name: &str, content: &str| robot.model.dir.write(name, content).to_str().unwrap().to_owned();
    let command = |args: &[&str]| robot.model.run(args, "hi");
    let (not_json, object) = (file("a.json", "["), file("b.json", "{}"));
    let no_command = file("c.json", r#"[{"name": "f"}]"#);
    let date = file("d.json", r#"[{"name": "date", "command": ["date"]}]"#);
    command(&["--functions", "/nowhere.json"]).failed_with(&["--functions", "/nowhere.json"]);
    command(&["--functions", &not_json]).failed_with(&["--functions", "a.json"]);
    command(&["--functions", &object]).failed_with(&["--functions", "b.json", "list"]);
    command(&["--functions", &no_command]).failed_with(&["--functions", "c.json", "\"command\""]);
    command(&["--functions", &date, "--function", "date"]).failed_with(&["--functions", "d.json", "same name"]);
    command(&["--function", "dat"]).failed_with(&["--function", "dat", "date", "calculator"]);
    command(&["--function", "date,date"]).failed_with(&["--function", "date"]);
}
