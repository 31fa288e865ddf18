//! Interrupts, and readers who leave.

use super::harness::{Model, Running, parrot};
use nano_models::testing::Parrot;
use nix::sys::signal::Signal::{SIGINT, SIGTERM};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

/// Goes on for as long as anybody listens.
fn endless() -> Parrot {
    parrot().endless().context(200_000)
}

const ENDLESS: [&str; 3] = ["--json", "--max-new-tokens", "150000"];

#[test]
fn an_interrupt_stops_the_reply_and_keeps_the_conversation() {
    let model = Model::new(&endless());
    let mut running = Running::start(model.command(&ENDLESS), model.dir.path());
    let mut reused = Vec::new();
    for _ in 0..2 {
        running.say("hi");
        assert_eq!(running.event()["event"], "text");
        running.signal(SIGINT);
        let (_, end) = running.turn();
        assert_eq!((&end["event"], &end["finish"]), (&"done".into(), &"cancelled".into()));
        reused.push(end["stats"]["reused_tokens"].as_u64().unwrap());
    }
    assert!(reused[0] == 0 && reused[1] > 0, "the partial reply is part of the conversation: {reused:?}");
    drop(running.stdin.take());
    assert_eq!(running.end().code(), Some(0), "{}", running.stderr());
}

#[test]
fn an_interrupt_outside_of_a_reply_ends_the_program() {
    let model = Model::new(&parrot());
    let mut running = Running::start(model.command(&["--json"]), model.dir.path());
    running.say("hi");
    assert_eq!(running.turn().1["event"], "done");
    // The reply is over a moment after its last event: until then an interrupt is the reply's.
    while running.child.try_wait().unwrap().is_none() {
        running.signal(SIGINT);
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(running.end().code(), Some(130), "{}", running.stderr());
    assert_eq!(running.stderr(), "");
}

#[test]
fn being_told_to_end_finishes_what_was_begun() {
    let model = Model::new(&endless());
    let mut running = Running::start(model.command(&ENDLESS), model.dir.path());
    running.say("hi");
    assert_eq!(running.event()["event"], "text");
    running.signal(SIGTERM);
    assert_eq!(running.turn().1["finish"], "cancelled");
    assert_eq!(running.end().code(), Some(143), "{}", running.stderr());
}

#[test]
fn a_reader_who_leaves_ends_it_quietly() {
    let model = Model::new(&endless());
    let mut running = Running::start(model.command(&ENDLESS), model.dir.path());
    running.say("hi");
    assert!(running.line().contains("text"));
    drop(running.stdout.take());
    let status = running.end();
    assert_eq!((status.code(), status.signal()), (Some(0), None));
    assert_eq!(running.stderr(), "");
}

#[test]
fn other_failures_of_stdout_are_errors() {
    let Ok(full) = std::fs::File::options().write(true).open("/dev/full") else {
        println!("skipped: there is no /dev/full here");
        return;
    };
    let model = Model::new(&parrot());
    let mut command = model.command(&["--prompt", "hi"]);
    let output = command.stdin(Stdio::null()).stdout(full).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("stdout cannot be written"), "{output:?}");
}

#[test]
fn a_closed_stderr_is_nothing() {
    let model = Model::new(&parrot());
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = model.command(&["--prompt", "hi", "--prompt", "/nonsense"]);
    let output = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(writer).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b"Hello there!\n"[..]));
}
