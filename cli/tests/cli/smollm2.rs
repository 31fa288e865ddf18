//! A person talks to SmolLM2, the power fails, and tools are called. `NANO_TEST_SMOLLM2` names the file; without it these
//! tests say so and pass.

use super::harness::{Model, nano, run};
use super::terminal::{PROMPT, end, line, start};
use nano_models::testing::TempDir;
use serde_json::Value;
use std::path::Path;

fn messages(path: &Path) -> Vec<String> {
    let mut command = nano(path.parent().unwrap());
    command.args(["session", "--json"]).arg(path);
    let shown = run(command, "").succeeded().json();
    let list = shown["messages"].as_array().unwrap();
    let tokens: usize = list.iter().map(|message| message["tokens"].as_array().unwrap().len()).sum();
    assert_eq!(Value::from(tokens), shown["rows"].as_u64().unwrap() + shown["pending"].as_u64().unwrap());
    list.iter().map(|message| message["text"].as_str().unwrap().to_owned()).collect()
}

/// Tokens fed and reused, as the line of statistics has them.
fn fed(shown: &str) -> (usize, usize) {
    let before = |word: &str| shown.split(word).next().unwrap().rsplit([' ', '\n', '(', 'm']).next().unwrap().parse();
    (before(" tokens in").unwrap(), before(" reused").unwrap())
}

fn model() -> Option<Model> {
    let path = std::env::var_os("NANO_TEST_SMOLLM2");
    if path.is_none() {
        println!("skipped: NANO_TEST_SMOLLM2 names no model file");
    }
    path.map(|path| Model { dir: TempDir::new("smollm2"), path: path.into() })
}

#[test]
fn a_tool_is_called_and_only_its_result_is_fed() {
    let Some(model) = model() else { return };
    let args = ["--json", "--tools", "--function", "calculator", "--tool-choice", "calculator", "-n", "40"];
    let events = model.run(&args, "What is six times seven?\n").succeeded().events();
    let find = |kind: &str| events.iter().find(|event| event["event"] == kind).unwrap_or_else(|| panic!("{events:?}"));
    let (call, result, first, last) = (find("tool_call"), find("tool_result"), find("done"), events.last().unwrap());
    assert_eq!((&call["name"], &call["id"]), (&"calculator".into(), &result["id"]));
    assert!(call["arguments"]["expression"].is_string(), "the schema is held to: {call}");
    assert_eq!(first["tool_calls"], 1);
    let count = |event: &Value, name: &str| event["stats"][name].as_u64().unwrap();
    assert!(count(last, "reused_tokens") >= count(first, "input_tokens"), "{events:?}");
    assert!(count(last, "input_tokens") < count(first, "input_tokens"), "{events:?}");
}

#[test]
fn a_conversation_survives() {
    let Some(model) = model() else { return };
    let [session, copy] = ["robot.session", "copy.session"].map(|name| model.dir.path().join(name));
    let args = ["-n", "12", "--max-context-len", "160", "--system-prompt", "Be brief.", "--session"];
    let args = [&args[..], &[session.to_str().unwrap()]].concat();
    let mut talk = start(&model, &args, &[]);
    talk.exp_string(PROMPT).unwrap();
    line(&mut talk, "The capital of France is");
    let said = messages(&session);
    assert!(said.len() == 3 && said[2].contains("Paris"), "{said:?}");

    // Taken back, and edited: as if it had not been said.
    line(&mut talk, "Forget it.");
    assert!(line(&mut talk, "/undo").contains("(taken back: Forget it.)"));
    assert_eq!(messages(&session), said);
    line(&mut talk, "What is the capital of Spain?");
    let spain = messages(&session);
    line(&mut talk, "/edit What is the capital of Italy?");
    let italy = messages(&session);
    assert_eq!((&italy[..3], italy[3].as_str()), (&said[..], "What is the capital of Italy?"));
    assert!(italy[4] != spain[4] && italy[4].contains("Rome"), "{italy:?}");
    line(&mut talk, "/edit What is the capital of Spain?");
    assert_eq!(messages(&session), spain, "the same answer to the same history");

    // More than the context holds: the oldest go, the system prompt stays.
    let noted = (0..6).any(|_| line(&mut talk, "Tell me about the sea.").contains("the oldest exchanges were removed"));
    let kept = messages(&session);
    assert!(noted && kept[0] == "Be brief." && !kept.contains(&said[1]), "{kept:?}");
    assert!(line(&mut talk, &format!("/save {}", copy.display())).contains("(saved: "));
    assert_eq!(messages(&copy), kept);

    // The end, in the middle of a reply.
    talk.send_line("And about the mountains?").unwrap();
    talk.exp_string("\x1b[32m").unwrap();
    talk.process_mut().signal("SIGKILL".parse().unwrap()).unwrap();
    talk.exp_eof().unwrap();
    assert_eq!(messages(&session), kept);
    let mut answers = Vec::new();
    for file in [&session, &copy] {
        let mut talk = start(&model, &[&args[..args.len() - 1], &[file.to_str().unwrap()]].concat(), &[]);
        talk.exp_string("going on after").unwrap();
        talk.exp_string(PROMPT).unwrap();
        let shown = line(&mut talk, "Thanks.");
        let (fed, reused) = fed(&shown);
        assert!(fed < 30 && reused > 40, "nothing is computed again: {shown:?}");
        answers.push(messages(file));
        talk.send_line("/exit").unwrap();
        assert_eq!(end(&mut talk), 0);
    }
    assert_eq!(answers[0], answers[1]);
}
