//! Conversations in files: gone on with after an end of any kind, shown, and damaged.

use super::harness::{BYE, HELLO, Model, Ran, Running, nano, parrot, run};
use nano_models::testing::{Parrot, TempDir, Tiny};
use nix::sys::signal::Signal::{SIGINT, SIGKILL, SIGTERM};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

fn file(model: &Model) -> PathBuf {
    model.dir.path().join("robot.session")
}

/// Chats with a session, over a pipe.
fn chat(model: &Model, args: &[&str], stdin: &str) -> Ran {
    model.run(&[&["--session", file(model).to_str().unwrap()], args].concat(), stdin)
}

fn shown(path: &Path) -> Value {
    let mut command = nano(path.parent().unwrap());
    command.args(["session", "--json"]).arg(path);
    run(command, "").succeeded().json()
}

/// Roles and texts of what a file holds, and a check that its counts add up.
fn messages(path: &Path) -> Vec<(String, String)> {
    let shown = shown(path);
    let list = shown["messages"].as_array().unwrap();
    let tokens: usize = list.iter().map(|message| message["tokens"].as_array().unwrap().len()).sum();
    let [rows, pending] = ["rows", "pending"].map(|name| shown[name].as_u64().unwrap() as usize);
    assert_eq!(tokens, rows + pending, "{shown}");
    let text = |message: &Value, field: &str| message[field].as_str().unwrap().to_owned();
    list.iter().map(|message| (text(message, "role"), text(message, "text"))).collect()
}

fn of(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(role, text)| ((*role).to_owned(), (*text).to_owned())).collect()
}

#[test]
fn a_session_goes_on() {
    let model = Model::new(&parrot());
    assert_eq!(chat(&model, &[], "hi\n").succeeded().text(), format!("{HELLO}\n"));
    let path = file(&model);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let ran = chat(&model, &["--json"], "hi\n").succeeded();
    let events = ran.events();
    let text: String = events.iter().filter_map(|event| event["text"].as_str()).collect();
    assert_eq!((text.as_str(), ran.stderr.as_str()), (BYE, ""));
    let stats = &events.last().unwrap()["stats"];
    assert!(stats["reused_tokens"].as_u64().unwrap() > stats["input_tokens"].as_u64().unwrap(), "{stats}");
    let said = of(&[("user", "hi"), ("assistant", HELLO), ("user", "hi"), ("assistant", BYE)]);
    assert_eq!(messages(&path), said);
    let saved = shown(&path);
    assert!(saved["model"].as_str().unwrap().contains("parrot") && saved["pending"].as_u64().unwrap() > 0, "{saved}");
    let mut text = nano(model.dir.path());
    text.arg("session").arg(&path);
    let text = run(text, "").succeeded().text();
    assert!(text.contains("4 messages") && text.contains("3  assistant  Bye.  ("), "{text}");
    let told = chat(&model, &[], "/session\n").succeeded();
    assert!(told.stderr.contains("robot.session: ") && told.stderr.contains(" kB"), "{}", told.stderr);
}

#[test]
fn every_change_is_saved() {
    let model = Model::new(&parrot());
    let path = file(&model);
    let other = model.dir.path().join("other.chat");
    let (load, save) = (format!("/load {}\n", other.display()), format!("/save {}\n", other.display()));
    for (lines, said) in [
        ("hi\nhi\n".to_owned(), &[("user", "hi"), ("assistant", HELLO), ("user", "hi"), ("assistant", BYE)][..]),
        ("/undo\n".into(), &[("user", "hi"), ("assistant", HELLO)]),
        ("/edit you\n".into(), &[("user", "you"), ("assistant", HELLO)]),
        ("/retry\n".into(), &[("user", "you"), ("assistant", HELLO)]),
        (save, &[("user", "you"), ("assistant", HELLO)]),
        ("/remove 0\n".into(), &[("assistant", HELLO)]),
        ("/reset\n".into(), &[]),
        (load, &[("user", "you"), ("assistant", HELLO)]),
        ("/system Be brief.\n".into(), &[("system", "Be brief.")]),
        ("hi\n".into(), &[("system", "Be brief."), ("user", "hi"), ("assistant", HELLO)]),
    ] {
        chat(&model, &[], &lines).succeeded();
        assert_eq!(messages(&path), of(said), "{lines}");
    }
    let kept = chat(&model, &["--system-prompt", "Be long."], "/system\n").succeeded();
    assert!(kept.stderr.contains("Be brief.\n") && kept.stderr.contains("keeps the system prompt"), "{}", kept.stderr);
    let same = chat(&model, &["--system-prompt", "Be brief."], "").succeeded();
    assert_eq!(same.stderr, "");
}

/// Goes on for as long as anybody listens.
fn endless() -> Model {
    Model::new(&parrot().endless().context(200_000))
}

fn start(model: &Model) -> Running {
    let args = ["--json", "-n", "150000", "--session", file(model).to_str().unwrap()].map(str::to_owned);
    Running::start(model.command(&args.each_ref().map(String::as_str)), model.dir.path())
}

#[test]
fn a_kill_leaves_the_last_turn() {
    let model = Model::new(&parrot());
    let path = file(&model);
    // What was told is saved.
    for turns in 1..=3 {
        let mut running = start(&model);
        running.say("hi");
        assert_eq!(running.turn().1["event"], "done");
        running.signal(SIGKILL);
        running.end();
        assert_eq!(messages(&path).len(), 2 * turns);
    }
    let model = endless();
    let path = file(&model);
    let mut running = start(&model);
    running.say("hi");
    running.event();
    running.signal(SIGINT);
    assert_eq!(running.turn().1["finish"], "cancelled");
    let before = messages(&path);
    assert_eq!((before.len(), before[0].1.as_str()), (2, "hi"), "what was interrupted is saved");
    running.say("more");
    for _ in 0..50 {
        assert_eq!(running.event()["event"], "text");
    }
    running.signal(SIGKILL);
    running.end();
    assert_eq!(messages(&path), before);
    let mut running = start(&model);
    running.say("again");
    running.event();
    running.signal(SIGTERM);
    let (_, done) = running.turn();
    assert!(done["stats"]["reused_tokens"].as_u64().unwrap() > 5, "{done}");
    assert_eq!(running.end().code(), Some(143), "{}", running.stderr());
    assert_eq!((messages(&path).len(), running.stderr().as_str()), (4, ""));
}

#[test]
fn damage_is_named() {
    let model = Model::new(&parrot());
    let path = file(&model);
    chat(&model, &[], "hi\n").succeeded();
    let one = std::fs::metadata(&path).unwrap().len() as usize;
    chat(&model, &[], "hi\n").succeeded();
    let good = std::fs::read(&path).unwrap();
    let damaged = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    };
    // A cut tail, and damage in it: the turn before.
    std::fs::write(&path, &good[..good.len() - 10]).unwrap();
    let ran = chat(&model, &[], "hi\n").succeeded();
    assert_eq!(ran.text(), format!("{BYE}\n"));
    assert!(ran.stderr.contains("warning: ") && ran.stderr.contains("robot.session"), "{}", ran.stderr);
    damaged(good.len() - 10);
    assert_eq!(chat(&model, &[], "hi\n").succeeded().text(), format!("{BYE}\n"));
    // Damaged rows, here those of the second turn's first page, are computed again, with a notice.
    damaged(one.next_multiple_of(4096) + 64 + 1000);
    let ran = chat(&model, &[], "hi\n").succeeded();
    assert_eq!(ran.text(), format!("{HELLO}\n"));
    assert!(ran.stderr.contains("computed again") && ran.stderr.contains("robot.session"), "{}", ran.stderr);
    // Without its beginning it is nothing, and is left alone.
    damaged(3);
    let bytes = std::fs::read(&path).unwrap();
    chat(&model, &[], "hi\n").failed_with(&["robot.session"]);
    let mut show = nano(model.dir.path());
    show.arg("session").arg(&path);
    run(show, "").failed_with(&["robot.session"]);
    model.run(&["logits", "--session", path.to_str().unwrap()], "").failed_with(&["robot.session"]);
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[test]
fn another_model_computes_the_rows_again() {
    let model = Model::new(&parrot());
    chat(&model, &[], "hi\n").succeeded();
    let other = Model::new(&Parrot::new(&[&["One"], &["Two"]]));
    std::fs::copy(file(&model), file(&other)).unwrap();
    let ran = chat(&other, &[], "hi\n").succeeded();
    assert_eq!(ran.text(), "Two\n", "the messages stay");
    assert!(ran.stderr.contains("warning: ") && ran.stderr.contains("changed"), "{}", ran.stderr);
    assert_eq!(messages(&file(&other)).len(), 4);
    let again = chat(&other, &["--json"], "hi\n").succeeded();
    assert_eq!(again.stderr, "");
    assert!(again.events().last().unwrap()["stats"]["reused_tokens"].as_u64().unwrap() > 5);
    let kv = chat(&model, &["--kv-cache", "q8"], "hi\n").succeeded();
    assert_eq!(kv.text(), format!("{BYE}\n"));
    assert!(kv.stderr.contains("changed"), "{}", kv.stderr);
}

#[test]
fn a_failed_save_is_a_warning() {
    let model = Model::new(&parrot());
    // Files may be 8 KiB long, and a write beyond that is an error.
    let small = |args: &[&str]| {
        let mut shell = std::process::Command::new("sh");
        shell.env_clear().env("HOME", model.dir.path()).env("PATH", "/usr/bin:/bin");
        shell.args(["-c", "trap '' XFSZ; ulimit -f 16; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_nano-chat"), "--model"]);
        shell.arg(&model.path).arg("--session").arg(file(&model)).args(args);
        run(shell, "hi\nhi\n").succeeded()
    };
    let ran = small(&[]);
    assert_eq!(ran.text(), format!("{HELLO}\n{BYE}\n"));
    let warnings: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("warning:")).collect();
    assert!(warnings.len() == 2 && warnings.iter().all(|line| line.contains("robot.session")), "{}", ran.stderr);
    // Whoever reads events is told before the end is, which would otherwise mean that the turn is saved.
    let events: Vec<String> = small(&["--json"]).events().iter().map(|e| e["event"].to_string()).collect();
    let ends: Vec<&str> = events.iter().map(|e| e.trim_matches('"')).filter(|e| *e != "text").collect();
    assert_eq!(ends, ["error", "done", "error", "done"]);
}

#[test]
fn files_that_cannot_be_sessions() {
    let model = Model::new(&parrot());
    let with = |path: &str| model.run(&["--session", path], "hi\n");
    with("/nowhere/x").failed_with(&["/nowhere"]);
    let own = model.path.to_str().unwrap();
    let before = std::fs::read(&model.path).unwrap();
    with(own).failed_with(&["parrot.gguf"]);
    assert_eq!(std::fs::read(&model.path).unwrap(), before);
    with(model.dir.path().to_str().unwrap()).failed_with(&[model.dir.path().to_str().unwrap()]);
    // One that is open elsewhere.
    let mut running = start(&model);
    running.say("hi");
    assert_eq!(running.turn().1["event"], "done");
    chat(&model, &[], "hi\n").failed_with(&["robot.session", "open elsewhere"]);
    assert_eq!(messages(&file(&model)).len(), 2, "it can be looked at");
    let dir = TempDir::new("session");
    let mut show = nano(dir.path());
    show.args(["session", "/nowhere"]);
    run(show, "").failed_with(&["/nowhere"]);
}

#[test]
fn logits_after_a_session_are_those_of_its_tokens() {
    let dir = TempDir::new("tiny");
    let path = dir.write("tiny.gguf", Tiny::default().gguf());
    let model = Model { dir, path };
    let exact = ["--quantization", "f32"];
    let ran = chat(&model, &[&exact[..], &["-n", "20", "--disable-stats"]].concat(), "hi\nand\n/undo\nthen\n");
    assert_eq!(ran.succeeded().stderr.lines().count(), 1);
    let path = file(&model);
    let path = path.to_str().unwrap();
    let logits = |args: &[&str]| model.run(&[&["logits"], &exact[..], args].concat(), "");
    let saved = logits(&["--session", path]).succeeded().json();
    let file = shown(path.as_ref());
    let tokens: Vec<u64> = file["messages"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|message| message["tokens"].as_array().unwrap())
        .map(|token| token.as_u64().unwrap())
        .collect();
    assert_eq!(saved["input_ids"], json!(tokens));
    let list = tokens.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
    let fresh = logits(&["--tokens", &list]).succeeded().json();
    assert_eq!(saved["logits"], fresh["logits"]);
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!((keys(&saved), &saved["tokens"]), (keys(&fresh), &json!([])));
    // It is only looked at.
    assert_eq!(shown(path.as_ref()), file);
    for other in [["--tokens", "1"], ["--tokens-file", "x"], ["--generate", "1"]] {
        logits(&[&["--session", path], &other[..]].concat()).failed_with(&["--session"]);
    }
    let empty = model.dir.path().join("empty.chat");
    model.run(&exact, format!("/save {}\n", empty.display())).succeeded();
    logits(&["--session", empty.to_str().unwrap()]).failed_with(&["empty.chat", "no token"]);
}
