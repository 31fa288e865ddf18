//! The same terminal on a model behind a server: a strict stand-in answers, and what it was asked is looked at.

use super::harness::{Ran, Running, nano, run};
use super::server::{
    HEAD, Manner, Reply, Seen, StandIn, delta, events, finish, json_reply, plain_reply, stream_reply, usage,
};
use super::terminal::{PROMPT, end, line};
use nano_models::testing::TempDir;
use nix::sys::signal::Signal::SIGINT;
use rexpect::session::{PtySession, spawn_command};
use serde_json::{Value, json};
use std::process::Command;

/// An answer in two pieces.
fn says(text: &str) -> Vec<Reply> {
    says_after(text, 20)
}

/// The same, after a prompt of so many tokens.
fn says_after(text: &str, prompt: usize) -> Vec<Reply> {
    let (first, second) = text.split_at(text.len() / 2);
    let pieces = [delta(json!({"role": "assistant", "content": first})), delta(json!({"content": second}))];
    stream_reply(&events(&[&pieces[..], &[finish("stop"), usage(prompt, 8, 3)]].concat()))
}

/// Says how often it was asked.
fn counting() -> StandIn {
    StandIn::new(|_, count| says(&format!("Answer {count}.")))
}

/// The program with this server.
fn with(server: &StandIn, dir: &TempDir, args: &[&str]) -> Command {
    let mut command = nano(dir.path());
    command.args(["--engine", &server.url()]).args(args);
    command
}

fn ask(server: &StandIn, args: &[&str], stdin: &str) -> Ran {
    let dir = TempDir::new("engine");
    run(with(server, &dir, args), stdin)
}

/// What was said in a request, as `role text`.
fn said(seen: &Seen) -> Vec<String> {
    let message = |m: &Value| format!("{} {}", m["role"].as_str().unwrap(), m["content"].as_str().unwrap_or("-"));
    seen.body["messages"].as_array().unwrap().iter().map(message).collect()
}

#[test]
fn a_pipe_and_a_program_talk_to_a_server() {
    let server = counting();
    let ran = ask(&server, &["--system-prompt", "Be brief."], "hi\nand now\n").succeeded();
    assert_eq!(ran.text(), "Answer 0.\nAnswer 1.\n");
    assert!(ran.stderr.contains("12 tokens in (8 reused), 3 out"), "{}", ran.stderr);
    let seen = server.seen();
    assert_eq!(said(&seen[1]), ["system Be brief.", "user hi", "assistant Answer 0.", "user and now"]);
    assert_eq!((&seen[0].body["model"], &seen[0].body["max_tokens"]), (&json!("test"), &json!(128)));
    let events = ask(&server, &["--json", "--model", "test", "--temperature", "0.5"], "hi\n").succeeded().events();
    assert_eq!(events.iter().filter_map(|e| e["text"].as_str()).collect::<String>(), "Answer 2.");
    let done = events.last().unwrap();
    assert_eq!((&done["event"], &done["finish"]), (&json!("done"), &json!("stop")));
    assert_eq!((&done["stats"]["reused_tokens"], &done["stats"]["output_tokens"]), (&json!(8), &json!(3)));
    assert_eq!(server.seen()[2].body["temperature"], 0.5);
    let dir = TempDir::new("engine");
    let file = dir.write("two.json", r#"["one", "two"]"#);
    let files = run(with(&server, &dir, &["--prompt", file.to_str().unwrap(), "--prompt", "three"]), "").succeeded();
    assert_eq!(files.text(), "Answer 3.\nAnswer 4.\nAnswer 5.\n");
    assert_eq!(said(&server.seen()[5]).len(), 5);
}

#[test]
fn keys_and_proxies_are_in_the_environment() {
    let server = StandIn::with(Manner { key: Some("secret"), ..Manner::default() }, |_, _| says("Yes."));
    let dir = TempDir::new("engine");
    let nobody = ("HTTP_PROXY", "http://127.0.0.1:9");
    for env in [
        &[("NANO_API_KEY", "secret"), ("OPENAI_API_KEY", "other")][..],
        &[("NANO_API_KEY", ""), ("OPENAI_API_KEY", "secret")],
        &[("NANO_API_KEY", "secret"), nobody, ("NO_PROXY", "localhost,127.0.0.1")],
    ] {
        let mut command = with(&server, &dir, &["--prompt", "hi"]);
        command.envs(env.iter().copied());
        assert_eq!(run(command, "").succeeded().text(), "Yes.\n", "{env:?}");
    }
    let mut command = with(&server, &dir, &["--prompt", "hi", "--debug"]);
    command.env("NANO_API_KEY", "wrong-key");
    let refused = run(command, "").failed_with(&["key"]);
    assert!(!refused.stderr.contains("wrong-key"), "{}", refused.stderr);
    let mut command = with(&server, &dir, &["--prompt", "hi"]);
    command.env("NANO_API_KEY", "secret").envs([nobody]);
    run(command, "").failed_with(&["HTTP_PROXY", "127.0.0.1"]);
}

/// Calls `battery` when it is asked, and says what it was told.
fn calling() -> StandIn {
    StandIn::new(|seen, _| match said(seen).last().unwrap().strip_prefix("tool ") {
        Some(told) => says(&format!("It is at {told}.")),
        None => {
            let function = json!({"name": "battery", "arguments": "{\"cell\": 2}"});
            let calls = json!([{"index": 0, "id": "a1b2c3d4e", "type": "function", "function": function}]);
            let thought = delta(json!({"reasoning_content": "The battery, then."}));
            let pieces =
                [thought, delta(json!({"content": null, "tool_calls": calls})), finish("tool_calls"), usage(9, 0, 7)];
            stream_reply(&events(&pieces))
        }
    })
}

#[test]
fn functions_are_tools_of_a_server_too() {
    let server = calling();
    let dir = TempDir::new("engine");
    let functions = r#"[{"name": "battery", "description": "Charge.", "command": ["sh", "-c", "read x; echo \"$x 87 %\""],
        "parameters": {"type": "object", "properties": {"cell": {"type": "integer"}}}}]"#;
    let file = dir.write("f.json", functions);
    let args = ["--functions", file.to_str().unwrap()];
    let json =
        run(with(&server, &dir, &[&args[..], &["--json", "--tool-choice", "battery"]].concat()), "hi\n").succeeded();
    let events = json.events();
    let mut kinds: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    kinds.dedup();
    assert_eq!(kinds, ["reasoning", "tool_call", "done", "tool_result", "text", "done"]);
    assert_eq!((&events[1]["id"], &events[1]["arguments"]), (&json!("a1b2c3d4e"), &json!({"cell": 2})));
    let seen = server.seen();
    assert_eq!(seen[0].body["tools"][0]["function"]["name"], "battery");
    assert_eq!(seen[0].body["tool_choice"]["function"]["name"], "battery");
    assert_eq!(seen[1].body.get("tool_choice"), None, "it is forced once");
    assert_eq!(seen[1].body["messages"][2]["tool_call_id"], "a1b2c3d4e");
    let plain = run(with(&server, &dir, &args), "hi\n/functions\n/call battery 3\n").succeeded();
    assert_eq!(plain.text(), "It is at {\"cell\":2} 87 %.\n");
    for word in ["battery(cell=2)", "tool rounds: 1", "battery(cell: int = None)", "{\"cell\":3} 87 %"] {
        assert!(plain.stderr.contains(word), "{word}: {}", plain.stderr);
    }
}

#[test]
fn a_turn_has_an_end_whatever_a_server_calls() {
    let call = json!([{"index": 0, "id": "a", "type": "function", "function": {"name": "time", "arguments": "{}"}}]);
    let server = StandIn::new(move |_, _| {
        stream_reply(&events(&[delta(json!({"content": null, "tool_calls": call})), finish("tool_calls")]))
    });
    for (rounds, asked) in [("0", 1), ("2", 3)] {
        let before = server.seen().len();
        let ran = ask(&server, &["--json", "--function", "time", "--max-function-rounds", rounds], "hi\n").succeeded();
        let events = ran.events();
        let done: Vec<bool> =
            events.iter().filter(|e| e["event"] == "done").map(|e| e.get("tool_calls").is_some()).collect();
        assert_eq!(done, [vec![true; asked], vec![false]].concat(), "{events:?}");
        assert!(events.last().unwrap()["event"] == "done" && server.seen().len() - before == asked, "{events:?}");
        assert_eq!(server.seen().last().unwrap().body["tool_choice"], "none");
    }
}

#[test]
fn commands_work_on_messages() {
    let server = counting();
    let dir = TempDir::new("engine");
    let path = dir.path().join("saved.json");
    let path = path.to_str().unwrap();
    let lines = format!(
        "/system Be brief.\nhi\n/retry\ntwo\n/edit 2\n/remove 1..3\n/history\n/save {path}\n/undo\n/history\n/reset\n\
         /load {path}\nthree\n/stats\n/system\n"
    );
    let ran = run(with(&server, &dir, &[]), lines).succeeded();
    assert_eq!(ran.text(), "Answer 0.\nAnswer 1.\nAnswer 2.\nAnswer 3.\nAnswer 4.\n");
    let seen: Vec<Vec<String>> = server.seen().iter().map(said).collect();
    assert_eq!(seen[1], ["system Be brief.", "user hi"], "a retry says nothing of the answer before");
    assert_eq!(seen[3], ["system Be brief.", "user hi", "assistant Answer 1.", "user 2"]);
    assert_eq!(seen[4], ["system Be brief.", "user 2", "assistant Answer 3.", "user three"]);
    for word in [
        "0  system     Be brief.\n1  user       2\n2  assistant  Answer 3.\n",
        "0  system  Be brief.\n",
        "(removed: 2 messages)",
        "(taken back: 2)",
        "(loaded: 3 messages; /history lists them)",
        "23 of 2048 tokens",
    ] {
        assert!(ran.stderr.contains(word), "{word:?}: {}", ran.stderr);
    }
    let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(file[2], json!({"role": "assistant", "content": "Answer 3."}));
    let not = dir.write("notes.txt", "mine");
    let lines = format!(
        "hi\n/session\n/template\n/remove 0..1 shift\n/remove 5..6\n/load /nowhere.json\n/load {0}\n/save {0}\n/history\n",
        not.display()
    );
    let ran = run(with(&server, &dir, &[]), lines);
    assert_eq!((ran.code, ran.stderr.matches("error:").count()), (Some(1), 7), "{}", ran.stderr);
    for word in
        ["/session needs a model on this machine", "/template needs", "no message 5", "/nowhere.json", "left alone"]
    {
        assert!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
    }
    assert!(
        ran.stderr.contains("1  assistant  Answer 5."),
        "nothing of it has changed the conversation: {}",
        ran.stderr
    );
    assert_eq!(std::fs::read_to_string(&not).unwrap(), "mine");
}

#[test]
fn errors_leave_the_conversation_as_it_was() {
    let server = StandIn::new(|_, count| match count {
        0 => says("Hello."),
        1 => json_reply(401, &json!({"error": {"message": "Incorrect API key", "code": "invalid_api_key"}})),
        2 => plain_reply(200, "Content-Type: text/html\r\n", "<html><body>Log in, please</body></html>"),
        3 => vec![Reply::Bytes(format!("{HEAD}data: {}\n\n", delta(json!({"content": "It"}))).into_bytes())],
        4 => json_reply(200, &json!({"choices": []})),
        _ => says("Back again."),
    });
    let ran = ask(&server, &[], "hi\na\nb\nc\nd\ne\n");
    assert_eq!((ran.code, ran.stderr.matches("error:").count()), (Some(1), 4), "{}", ran.stderr);
    assert_eq!(ran.text(), "Hello.\nIt\nBack again.\n");
    assert!(ran.stderr.contains("Incorrect API key") && !ran.stderr.contains("panicked"), "{}", ran.stderr);
    let seen = server.seen();
    assert_eq!(said(seen.last().unwrap()), ["user hi", "assistant Hello.", "user e"]);
    assert_eq!(seen.len(), 6, "nothing is asked twice");
    let server = StandIn::new(|_, _| json_reply(404, &json!({"error": {"message": "no such model"}})));
    let events = ask(&server, &["--json"], "hi\n").events();
    assert!(events[0]["event"] == "error" && events[0]["message"].as_str().unwrap().contains("model"), "{events:?}");
}

#[test]
fn the_oldest_exchanges_are_left_out_where_the_context_is_full() {
    // The server has 2048 tokens of context, and counts a token for two letters.
    let tokens = |seen: &Seen| seen.body["messages"].to_string().len() / 2;
    let server = || {
        StandIn::new(move |seen, count| match seen.what.as_str() {
            "POST /tokenize" => json_reply(200, &json!({"count": tokens(seen)})),
            _ if count == 3 => json_reply(400, &json!({"error": {"message": "no"}})),
            _ => says_after("Yes.", tokens(seen)),
        })
    };
    let answers = |server: &StandIn| -> Vec<Seen> {
        server.seen().into_iter().filter(|seen| seen.what.ends_with("completions")).collect()
    };
    let long = format!("{}\n", "many words ".repeat(100)).repeat(7);
    let full = server();
    let ran = ask(&full, &["--json", "-n", "100", "--system-prompt", "Be brief."], &format!("{long}/history\n"));
    let events = ran.events();
    let removed = events.iter().filter(|event| event["event"] == "overflow");
    let removed: Vec<u64> = removed.map(|event| event["removed_rows"].as_u64().unwrap()).collect();
    assert!(removed.len() == 2 && removed.iter().all(|&n| n > 500), "{removed:?}");
    let lengths: Vec<usize> = answers(&full).iter().map(|seen| said(seen).len()).collect();
    assert_eq!(lengths, [2, 4, 6, 2, 2, 4, 6], "{events:?}");
    assert!(answers(&full).iter().all(|seen| said(seen)[0] == "system Be brief."));
    // The fourth turn fails, and leaves nothing. The list of messages stays whole.
    assert_eq!(events.last().unwrap()["text"].as_str().unwrap().lines().count(), 13);
    let error = server();
    ask(&error, &["--overflow", "error", "-n", "100"], &long);
    assert_eq!(said(answers(&error).last().unwrap()).len(), 11, "the server says what it thinks of that");
}

#[test]
fn servers_that_cannot_be_talked_to() {
    let dir = TempDir::new("engine");
    let bare = |args: &[&str]| {
        let mut command = nano(dir.path());
        command.args(args);
        run(command, "hi\n")
    };
    bare(&["--engine", "http://127.0.0.1:9/v1"]).failed_with(&["127.0.0.1:9"]);
    bare(&["--engine", "ftp://host/v1"]).failed_with(&["ftp"]);
    bare(&["--engine", ""]).failed_with(&["engine"]);
    let events = bare(&["--engine", "http://127.0.0.1:9/v1", "--json"]).events();
    assert_eq!(events[0]["event"], "error");
}

#[test]
fn what_needs_a_model_here_is_refused_by_name() {
    let server = counting();
    for (args, flag) in [
        (&["--session", "x"][..], "--session"),
        (&["--quantization", "q4f16"], "--quantization"),
        (&["--device", "cpu"], "--device"),
        (&["--kv-cache", "q8"], "--kv-cache"),
        (&["--memory", "1G"], "--memory"),
        (&["--threads", "2"], "--threads"),
        (&["--chat-template", "llama-2"], "--chat-template"),
        (&["--reply-prefix", "Well"], "--reply-prefix"),
        (&["--overflow", "shift"], "--overflow shift"),
        (&["--tool-format", "hermes"], "--tool-format"),
        (&["--var", "a=1"], "--var"),
        (&["--min-new-tokens", "4"], "--min-new-tokens"),
        (&["--regex", "a+"], "--regex"),
        (&["--tool-choice", "required"], "--tool-choice"),
        (&["--tool-choice", "time"], "--tool-choice"),
    ] {
        ask(&server, args, "hi\n").failed_with(&[flag]);
    }
    assert!(server.seen().is_empty());
    let schema = r#"{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}"#;
    ask(&server, &["--json-schema", schema], "hi\n").succeeded();
    assert_eq!(server.seen()[0].body["response_format"]["json_schema"]["schema"]["required"], json!(["a"]));
}

fn terminal(server: &StandIn, dir: &TempDir, args: &[&str]) -> PtySession {
    let mut session =
        spawn_command(with(server, dir, args), Some(super::harness::PATIENCE.as_millis() as u64)).unwrap();
    session.exp_string("/help lists commands").unwrap();
    session.exp_string(PROMPT).unwrap();
    session
}

#[test]
fn a_person_talks_to_a_server() {
    let server = calling();
    let dir = TempDir::new("engine");
    let file = dir.write("f.json", r#"[{"name": "battery", "command": ["echo", "87 %"]}]"#);
    let mut session = terminal(&server, &dir, &["--functions", file.to_str().unwrap()]);
    let shown = line(&mut session, "how full?");
    let call = "\x1b[2mThe battery, then.\x1b[0m\r\n\x1b[36mbattery(cell=2)\x1b[0m\r\n";
    assert!(shown.contains(call) && shown.contains("It is at "), "{shown:?}");
    assert!(line(&mut session, "/history").contains("0  user       how full?\r\n"));
    assert!(line(&mut session, "/session").contains("needs a model on this machine"));
    assert!(line(&mut session, "/undo").contains("(taken back: how full?)"));
    session.send_line("/exit").unwrap();
    assert_eq!(end(&mut session), 0);
}

#[test]
fn an_interrupt_ends_an_answer_that_stalls() {
    let server = StandIn::new(|_, count| match count {
        0 => vec![
            Reply::Bytes(format!("{HEAD}data: {}\n\n", delta(json!({"content": "One moment"}))).into_bytes()),
            Reply::UntilClosed,
        ],
        1 => vec![Reply::UntilClosed],
        _ => says("Here I am."),
    });
    let dir = TempDir::new("engine");
    let mut session = terminal(&server, &dir, &[]);
    session.send_line("hi").unwrap();
    session.exp_string("moment").unwrap();
    session.send_control('c').unwrap();
    session.exp_string("interrupted").unwrap();
    session.exp_string(PROMPT).unwrap();
    assert!(line(&mut session, "/history").contains("1  assistant  One moment"), "what was said stays");
    session.send_line("hello?").unwrap();
    while server.seen().len() < 2 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    session.send_control('c').unwrap();
    session.exp_string(PROMPT).unwrap();
    assert!(line(&mut session, "there?").contains("Here"));
    session.send_line("/exit").unwrap();
    assert_eq!(end(&mut session), 0);
    server.wait_until_closed(2);
}

#[test]
fn an_interrupt_is_told_to_programs() {
    let stalls = || {
        vec![
            Reply::Bytes(format!("{HEAD}data: {}\n\n", delta(json!({"content": "One"}))).into_bytes()),
            Reply::UntilClosed,
        ]
    };
    let server = StandIn::new(move |_, _| stalls());
    let dir = TempDir::new("engine");
    let mut running = Running::start(with(&server, &dir, &["--json"]), dir.path());
    running.say("hi");
    assert_eq!(running.event()["text"], "One");
    running.signal(SIGINT);
    assert_eq!(running.turn().1["finish"], "cancelled");
    drop(running.stdin.take());
    assert_eq!(running.end().code(), Some(0), "{}", running.stderr());
}
