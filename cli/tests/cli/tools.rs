//! What a model thinks, and the tools that it calls between answers, through the whole program: parrots write thoughts and
//! calls as models do, small programs are called.

use super::harness::{Model, PATIENCE, Ran, Running, kill, nano, run};
use super::terminal::{PROMPT, end, line, start};
use nano_models::testing::Parrot;
use nix::sys::signal::Signal::SIGINT;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Instant;

/// How the parrots here write: their template does not tell.
const THINKS: [&str; 2] = ["--tool-format", "hermes"];

/// Thinks, and then says hello; the second reply is without a thought.
fn thinker() -> Parrot {
    Parrot::new(&[&["<think>", "\nA", " greeting", ".\n", "</think>", "\n\n", "Hello", " there", "!"], &["Bye", "."]])
        .words(&["hi"])
}

/// The texts of events of a kind.
fn texts(events: &[Value], kind: &str) -> String {
    events.iter().filter(|event| event["event"] == kind).filter_map(|event| event["text"].as_str()).collect()
}

fn kinds(events: &[Value]) -> Vec<&str> {
    let mut kinds: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    kinds.dedup();
    kinds
}

#[test]
fn a_pipe_gets_the_answer_and_a_program_all_of_it() {
    let model = Model::new(&thinker());
    let plain = model.run(&THINKS, "hi\nhi\n").succeeded();
    assert_eq!(plain.text(), "Hello there!\nBye.\n");
    assert!(!plain.stderr.contains("greeting"), "{}", plain.stderr);
    for args in [&["--json"][..], &["--json", "--disable-streaming"]] {
        let events = model.run(&[&THINKS, args].concat(), "hi\n").succeeded().events();
        assert_eq!(kinds(&events), ["reasoning", "text", "done"], "{args:?}");
        assert_eq!(
            (texts(&events, "reasoning").trim(), texts(&events, "text").as_str()),
            ("A greeting.", "Hello there!")
        );
    }
    let hidden = model.run(&[&THINKS[..], &["--json", "--no-reasoning"]].concat(), "hi\n").succeeded().events();
    assert_eq!(kinds(&hidden), ["text", "done"]);
    let list = model.run(&THINKS, "hi\n/history\n").succeeded().stderr;
    assert!(list.contains("assistant  Hello there!  (") && !list.contains("greeting"), "{list}");
}

#[test]
fn a_terminal_shows_thoughts_dimmed_on_lines_of_their_own() {
    let model = Model::new(&thinker());
    for args in [&[][..], &["--disable-streaming"]] {
        let mut session = start(&model, &[&THINKS, args].concat(), &[]);
        session.exp_string(PROMPT).unwrap();
        let shown = line(&mut session, "hi");
        let (thought, said) = shown.split_once("Hello").unwrap_or_else(|| panic!("{shown:?}"));
        assert!(thought.contains("\x1b[2mA") || thought.contains("\x1b[2m\nA"), "{thought:?}");
        assert!(thought.trim_end_matches("\x1b[32m").ends_with('\n'), "{thought:?}");
        assert!(said.contains("there") && said.contains("tok/s"), "{said:?}");
        session.send_line("/exit").unwrap();
        assert_eq!(end(&mut session), 0);
    }
    let mut session = start(&model, &[&THINKS[..], &["--no-reasoning", "--prompt", "hi"]].concat(), &[]);
    assert!(!session.exp_string("Hello").unwrap().contains("greeting"));
    assert_eq!(end(&mut session), 0);
}

/// The parrots' template, for models that know tools as Hermes does. The number of replies comes in place of `REPLIES`.
const HERMES: &str = "{% if tools %}<|im_start|>system\n{{ tools|tojson }}<|im_end|>\n{% endif %}{% set turn = namespace(n=0) %}\
    {% for m in messages %}{% if m.role == 'assistant' %}<|im_start|>assistant\n<|reply{{ turn.n % REPLIES }}|>{{ m.content }}\
    {% for c in m.tool_calls or [] %}\n<tool_call>\n{\"name\": \"{{ c.function.name }}\", \"arguments\": \
    {{ c.function.arguments|tojson }}}\n</tool_call>{% endfor %}<|im_end|>\n{% set turn.n = turn.n + 1 %}{% else %}\
    <|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n<|reply{{ turn.n % REPLIES }}|>{% endif %}";

/// A parrot with functions for it, and a file that gets a letter each time `battery` or `stuck` is called.
struct Robot {
    model: Model,
    functions: PathBuf,
    template: PathBuf,
    counter: PathBuf,
}

impl Robot {
    fn new(replies: &[&[&str]]) -> Self {
        let model = Model::new(&Parrot::new(replies).words(&["hi"]).context(16_384));
        let counter = model.dir.path().join("counter");
        let count = format!("printf x >> '{}'", counter.display());
        let shell = |name: &str, script: &str| json!({"name": name, "command": ["sh", "-c", script]});
        let mut stuck = shell("stuck", &format!("{count}; sleep 60"));
        stuck["timeout"] = 60.into();
        let mut battery = shell("battery", &format!("{count}; echo 87; echo percent; echo of 12 V"));
        battery["parameters"] = json!({"type": "object", "properties": {"cell": {"type": "integer"}}});
        let functions = json!([battery, stuck, shell("broken", "echo no power >&2; exit 3"), shell("silent", "true")]);
        let functions = model.dir.write("functions.json", functions.to_string());
        let template = model.dir.write("hermes.jinja", HERMES.replace("REPLIES", &replies.len().to_string()));
        Self { model, functions, template, counter }
    }

    fn args<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        let [functions, template] = [&self.functions, &self.template].map(|path| path.to_str().unwrap());
        [&["--functions", functions, "--tools", "--chat-template", template, "-n", "300"], args].concat()
    }

    fn run(&self, args: &[&str], stdin: &str) -> Ran {
        self.model.run(&self.args(args), stdin)
    }

    fn calls(&self) -> usize {
        std::fs::read(&self.counter).map_or(0, |bytes| bytes.len())
    }

    fn wait_for_call(&self) {
        let start = Instant::now();
        while self.calls() == 0 {
            assert!(start.elapsed() < PATIENCE, "nothing is called");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

const LOOK: &[&str] =
    &["Let me look.", "\n<tool_call>\n", "{\"name\": \"battery\", \"arguments\": {\"cell\": 2}}", "\n</tool_call>"];
const FULL: &[&str] = &["It is", " full", "."];

#[test]
fn a_call_its_result_and_the_answer_are_events() {
    let robot = Robot::new(&[LOOK, FULL]);
    let ran = robot.run(&["--json"], "hi\n").succeeded();
    let events = ran.events();
    assert_eq!(kinds(&events), ["text", "tool_call", "done", "tool_result", "text", "done"]);
    let find = |kind: &str| events.iter().find(|event| event["event"] == kind).unwrap();
    let (call, result, first, last) = (find("tool_call"), find("tool_result"), find("done"), events.last().unwrap());
    assert_eq!((&call["name"], &call["arguments"]), (&json!("battery"), &json!({"cell": 2})));
    assert_eq!((&result["id"], &result["returned"]), (&call["id"], &json!("87\npercent\nof 12 V")));
    assert!(call["id"].as_str().is_some_and(|id| id.len() == 9), "{call}");
    assert!(result["seconds"].as_f64().is_some_and(|s| s > 0.0), "{result}");
    assert_eq!((&first["tool_calls"], last.get("tool_calls")), (&json!(1), None));
    assert!(last["stats"]["reused_tokens"].as_u64() > first["stats"]["input_tokens"].as_u64(), "{last}");
    assert!(last["stats"]["input_tokens"].as_u64() < first["stats"]["input_tokens"].as_u64(), "only the result is fed");
    assert_eq!((texts(&events, "text").trim_end(), robot.calls()), ("Let me look.It is full.", 1));
    let whole = robot.run(&["--json", "--disable-streaming"], "hi\n").succeeded().events();
    assert_eq!(kinds(&whole), ["text", "tool_call", "done", "tool_result", "text", "done"]);
    let hand = robot.run(&[], "/functions\n/call battery 1\nhi\n/history\n/stats\n").succeeded();
    for word in
        ["battery(cell: int = None)", "87", "Let me look. battery(cell=2)", "tool       87 percent", "tool_rounds"]
    {
        assert!(hand.stderr.contains(word), "{word}: {}", hand.stderr);
    }
}

#[test]
fn a_pipe_gets_words_and_the_rest_is_on_stderr() {
    let robot = Robot::new(&[LOOK, FULL]);
    for args in [&[][..], &["--disable-streaming"]] {
        let ran = robot.run(args, "hi\n").succeeded();
        assert_eq!(ran.text(), "Let me look.\nIt is full.\n", "{args:?}");
        for word in ["battery(cell=2)", "→ 87", "tool rounds: 1", "1 call, ", " reused)"] {
            assert!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
        }
    }
    let quiet = robot.run(&["--log-level", "error", "--disable-stats"], "hi\n").succeeded();
    assert_eq!((quiet.text().as_str(), quiet.stderr.as_str()), ("Let me look.\nIt is full.\n", ""));
}

#[test]
fn a_terminal_shows_calls_and_the_beginning_of_results() {
    let robot = Robot::new(&[LOOK, FULL]);
    let mut session = start(&robot.model, &robot.args(&[]), &[]);
    session.exp_string(PROMPT).unwrap();
    let shown = line(&mut session, "hi");
    for text in
        ["Let me look.", "\x1b[36mbattery(cell=2)\x1b[0m\r\n", "\x1b[1;36m  → 87\r\n    percent …\x1b[0m\r\n", "It is"]
    {
        // A pseudo-terminal gives bytes.
        let text: String = text.bytes().map(char::from).collect();
        assert!(shown.contains(&text), "{text:?}: {shown:?}");
    }
    assert!(shown.contains("tool rounds: 1"), "{shown:?}");
    assert!(line(&mut session, "/undo").contains("(taken back: hi)"));
    session.send_line("/exit").unwrap();
    assert_eq!(end(&mut session), 0);
}

#[test]
fn several_calls_run_together_and_failures_are_told() {
    let calls: &[&str] = &[
        "<tool_call>\n{\"name\": \"silent\", \"arguments\": {}}\n</tool_call>\n",
        "<tool_call>\n{\"name\": \"broken\", \"arguments\": {}}\n</tool_call>",
        "\n<tool_call>\n{\"name\": \"nonesuch\", \"arguments\": {}}\n</tool_call>",
    ];
    let robot = Robot::new(&[calls, FULL]);
    let events = robot.run(&["--json"], "hi\n").succeeded().events();
    let results: Vec<&Value> = events.iter().filter(|event| event["event"] == "tool_result").collect();
    assert_eq!(
        results.iter().map(|r| r["name"].as_str().unwrap()).collect::<Vec<_>>(),
        ["silent", "broken", "nonesuch"]
    );
    assert_eq!((results[0]["returned"].clone(), results[0].get("failed")), (Value::Null, None));
    assert!(results[1]["failed"].as_str().unwrap().contains("no power"), "{results:?}");
    assert!(results[2]["failed"].as_str().unwrap().contains("nonesuch"), "{results:?}");
    assert_eq!(texts(&events, "text").trim(), "It is full.");
    let ran = robot.run(&[], "hi\n").succeeded();
    for word in ["  silent → ✓", "  broken → broken: ", "  nonesuch → "] {
        assert!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
    }
}

#[test]
fn rounds_have_an_end() {
    let robot =
        Robot::new(&[LOOK, &[" again", "<tool_call>\n{\"name\": \"battery\", \"arguments\": {}}\n</tool_call>"], FULL]);
    let events = robot.run(&["--json"], "hi\n").succeeded().events();
    assert_eq!((robot.calls(), texts(&events, "text").ends_with("It is full.")), (2, true));
    std::fs::remove_file(&robot.counter).unwrap();
    let ran = robot.run(&["--max-function-rounds", "1"], "hi\n").succeeded();
    assert_eq!(robot.calls(), 1);
    assert!(ran.stderr.contains("1 round"), "{}", ran.stderr);
    // Calls are text where none are wanted.
    std::fs::remove_file(&robot.counter).unwrap();
    let none = robot.run(&["--tool-choice", "none"], "hi\n").succeeded();
    assert_eq!((robot.calls(), none.text().contains("<tool_call>")), (0, true), "{}", none.text());
}

#[test]
fn an_interrupt_leaves_a_function_alone_and_takes_the_turn_back() {
    let robot = Robot::new(&[&["<tool_call>\n{\"name\": \"stuck\", \"arguments\": {}}\n</tool_call>"], FULL]);
    let mut running = Running::start(robot.model.command(&robot.args(&["--json"])), robot.model.dir.path());
    running.say("hi");
    robot.wait_for_call();
    let started = Instant::now();
    kill(running.child.id(), SIGINT);
    let ended = loop {
        let event = running.event();
        if event["event"] == "error" {
            break event;
        }
    };
    assert!(started.elapsed().as_secs() < 30, "it waited for the function");
    assert!(ended["message"].as_str().unwrap().contains("stopped"), "{ended}");
    running.say("/history");
    assert_eq!(running.event()["text"], "(no messages yet)");
    drop(running.stdin.take());
    assert_eq!(running.end().code(), Some(0), "an interrupt is no failure: {}", running.stderr());
}

#[test]
fn a_person_is_told_that_the_turn_was_taken_back() {
    let robot = Robot::new(&[&["<tool_call>\n{\"name\": \"stuck\", \"arguments\": {}}\n</tool_call>"], FULL]);
    let mut session = start(&robot.model, &robot.args(&[]), &[]);
    session.exp_string(PROMPT).unwrap();
    session.send_line("hi").unwrap();
    session.exp_string("stuck()").unwrap();
    robot.wait_for_call();
    session.send_control('c').unwrap();
    session.exp_string("\x1b[2m(interrupted while functions were called: the turn was taken back)").unwrap();
    session.exp_string(PROMPT).unwrap();
    assert!(line(&mut session, "/history").contains("no messages yet"));
    session.send_line("/exit").unwrap();
    assert_eq!(end(&mut session), 0);
}

#[test]
fn a_retry_and_an_edit_answer_with_all_rounds() {
    let robot = Robot::new(&[LOOK, FULL]);
    let ran = robot.run(&[], "hi\n/retry\n/edit hi\n/history\n").succeeded();
    assert_eq!(ran.text(), "Let me look.\nIt is full.\n".repeat(3));
    let list: Vec<&str> = ran.stderr.lines().filter(|line| line.contains(" tokens)")).collect();
    assert_eq!((list.len(), robot.calls()), (4, 3), "{list:?}");
}

#[test]
fn a_session_keeps_calls_and_results() {
    let robot = Robot::new(&[LOOK, FULL]);
    let file = robot.model.dir.path().join("a.session");
    let session = ["--session", file.to_str().unwrap(), "--json"];
    robot.run(&session, "hi\n").succeeded();
    let mut show = nano(robot.model.dir.path());
    show.args(["session", "--json"]).arg(&file);
    let shown = run(show, "").succeeded().json();
    assert_eq!(shown["messages"][1]["tool_calls"][0]["function"]["name"], "battery");
    let events = robot.run(&session, "/history\nhi\n").succeeded().events();
    let list = events[0]["text"].as_str().unwrap();
    assert!(list.contains("battery(") && list.contains("tool ") && list.contains("It is full."), "{list}");
    assert!(events.last().unwrap()["stats"]["reused_tokens"].as_u64().unwrap() > 20, "{events:?}");
}

#[test]
fn variables_reach_the_template() {
    let robot = Robot::new(&[FULL]);
    let template = std::fs::read_to_string(&robot.template).unwrap();
    let asks = "{% if enable_thinking is not defined or enable_thinking %}{{ raise_exception('thinks') }}{% endif %}";
    let file = robot.model.dir.write("thinks.jinja", format!("{asks}{template}"));
    let args = ["--chat-template", file.to_str().unwrap()];
    robot.model.run(&args, "hi\n").failed_with(&["thinks"]);
    let off = robot.model.run(&[&args[..], &["--var", "enable_thinking=false"]].concat(), "hi\n").succeeded();
    assert_eq!(off.text(), "It is full.\n");
}

#[test]
fn what_does_not_go_together_is_said_before_anything_is_loaded() {
    let robot = Robot::new(&[FULL]);
    let file = robot.functions.to_str().unwrap();
    for (args, words) in [
        (&["--tools"][..], &["--tools", "--function"][..]),
        (&["--tool-choice", "required"], &["--tool-choice", "--tools"]),
        (&["--function", "time", "--max-function-rounds", "2"], &["--max-function-rounds", "--tools"]),
        (&["--tools", "--functions", file, "--tool-choice", "bat"], &["bat", "battery, stuck"]),
        (&["--tools", "--functions", file, "--tool-format", "nonesuch"], &["nonesuch", "hermes (", "llama-3 ("]),
        (&["--tools", "--functions", file, "--max-function-rounds", "-1"], &["--max-function-rounds"]),
        (&["--var", "enable_thinking"], &["--var", "KEY=JSON"]),
    ] {
        robot.model.run(args, "hi\n").failed_with(words);
    }
}
