//! A person talks to SmolLM2, and the power fails. `NANO_TEST_SMOLLM2` names the file; without it this test says so and
//! passes.

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

#[test]
fn a_conversation_survives() {
    let Some(path) = std::env::var_os("NANO_TEST_SMOLLM2") else {
        println!("skipped: NANO_TEST_SMOLLM2 names no model file");
        return;
    };
    let model = Model { dir: TempDir::new("smollm2"), path: path.into() };
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
