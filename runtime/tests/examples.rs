//! The numbered examples say what they should, on a model whose replies are known. `cargo test` builds them.

use nano_models::testing::{Parrot, TempDir};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Whether they were built: by `cargo test`, but not by `cargo test --test examples`.
fn built() -> bool {
    let built = example("10_schema").exists();
    if !built {
        println!("skipped: the examples are not built; cargo test without a choice of tests builds them");
    }
    built
}

fn example(name: &str) -> PathBuf {
    let tests = std::env::current_exe().expect("the path of this test");
    let target = tests.parent().and_then(Path::parent).expect("a target folder");
    target.join("examples").join(name)
}

/// What an example says on stdout and stderr.
fn run(name: &str, args: &[&Path], stdin: &str) -> (String, String) {
    let mut command = Command::new(example(name));
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{name}: {e}"));
    std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), stdin.as_bytes()).expect("stdin");
    let output = child.wait_with_output().expect("an end");
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("UTF-8"));
    assert!(output.status.success(), "{name}: {err}");
    (out, err)
}

#[test]
fn generation_chat_and_two_conversations() {
    if !built() {
        return;
    }
    let (_folder, model) = Parrot::new(&[&["Hello", " there", "!"], &["Bye", "."]]).temp_gguf();
    assert!(!run("1_generate", &[&model], "").0.is_empty());
    let (out, err) = run("2_chat", &[&model], "hi\nhi\n");
    assert_eq!((out.as_str(), err.lines().count()), ("Hello there!\nBye.\n", 2));
    let (out, _) = run("5_two_conversations", &[&model], "");
    assert_eq!(out, "Poet: Hello there!\nCook: Hello there!\n\nPoet: Bye.\nCook: Bye.\n\n");
}

#[test]
fn functions_in_mid_reply() {
    if !built() {
        return;
    }
    let (_folder, model) =
        Parrot::new(&[&["It", " is", " battery", "()", " distance", "(side=", "'left')", "."]]).temp_gguf();
    let (out, err) = run("3_functions", &[&model], "");
    // What follows a result is not in the parrot's script: it ends there.
    assert_eq!(out, "It is battery() 87\n(1 calls)\ndriven: 0 m\n");
    assert_eq!(err, "[battery -> Ok(Some(\"87\"))]\n");
}

#[test]
fn a_session_is_taken_up_again() {
    if !built() {
        return;
    }
    let (_folder, model) = Parrot::new(&[&["Hello", " there", "!"], &["Bye", "."]]).temp_gguf();
    let folder = TempDir::new("example");
    let file = folder.path().join("robot.session");
    let args = [&model, &file, Path::new("hi")];
    let (first, _) = run("4_session", &args, "");
    let (second, err) = run("4_session", &args, "");
    assert_eq!((first.as_str(), second.as_str()), ("Hello there!\n", "Bye.\n"));
    assert!(!err.contains("note:") && !err.contains(" 0 reused"), "{err}");
}

#[test]
fn a_control_loop_talks_and_stops() {
    if !built() {
        return;
    }
    let (_folder, model) = Parrot::new(&[&["Hello", " there", "!"], &["Bye", "."]]).temp_gguf();
    let (out, _) = run("6_control_loop", &[&model], "");
    assert!(out.starts_with("\n> What do you see?\nHello there!\n> And what else?\nBye.\n"), "{out}");
}

/// Where the template knows no tools, a call is a whole reply in JSON.
fn calls(name: &str, arguments: &str) -> String {
    format!("{{\"name\": \"{name}\", \"arguments\": {arguments}}}")
}

#[test]
fn rounds_of_calls() {
    if !built() {
        return;
    }
    let (first, second) = (calls("battery", "{}"), calls("drive", "{\"metres\": 3}"));
    let parrot = Parrot::new(&[&[&first], &[&second], &["Hello", " there", "!"]]).context(8192);
    let (_folder, model) = parrot.temp_gguf();
    let (out, err) = run("7_tools", &[&model], "");
    let expected = "[battery {}]\n[battery: 87]\n[drive {\"metres\":3}]\n\
                    [drive: error: drive: there is an obstacle after 2 m]\nHello there!\n";
    assert_eq!(out, expected);
    assert!(err.contains("[battery took") && err.lines().filter(|line| line.contains("reused")).count() == 3, "{err}");
}

#[test]
fn a_chat_beside_a_chat() {
    if !built() {
        return;
    }
    let (_talker, talker) = Parrot::new(&[&[&calls("diary", "{}")], &["I drove."]]).context(8192).temp_gguf();
    let (_reader, reader) = Parrot::new(&[&["It", " drove", " around."]]).context(8192).temp_gguf();
    let (out, _) = run("8_sub_chat", &[&talker, &reader], "");
    assert_eq!(out, "I drove.\n(904 characters of log were summed up: It drove around.)\n");
}

#[test]
fn answers_from_what_a_server_finds() {
    if !built() {
        return;
    }
    let call = calls("search", "{\"query\": \"charging station?\"}");
    let (_folder, model) = Parrot::new(&[&[&call], &["Behind", " the", " door."]]).context(8192).temp_gguf();
    let (out, _) = run("9_retrieval", &[&model], "");
    assert!(out.starts_with("Behind the door.\n(found: The charging station is behind the kitchen door"), "{out}");
}

#[test]
fn words_become_data() {
    if !built() {
        return;
    }
    // The parrot would go on.
    let (_folder, model) = Parrot::new(&[&["{\"action\": \"drive\", \"amount\": 2", "}", " Sure", "!"]]).temp_gguf();
    let (out, err) = run("10_schema", &[&model], "");
    assert_eq!(out, "\"drive\" by 2\n");
    assert!(err.contains("ms for masks"), "{err}");
}
