//! A person at a terminal: the binary in a pseudo-terminal.

use super::harness::{BYE, HELLO, Model, PATIENCE, parrot};
use rexpect::process::WaitStatus;
use rexpect::session::{PtySession, spawn_command};

/// Shown before each turn, in blue.
const PROMPT: &str = "\x1b[34m> \x1b[0m";

fn start(model: &Model, args: &[&str], env: &[(&str, &str)]) -> PtySession {
    let mut command = model.command(args);
    command.envs(env.iter().copied());
    spawn_command(command, Some(PATIENCE.as_millis() as u64)).unwrap()
}

/// Waits for the end, and gives the status.
fn end(session: &mut PtySession) -> i32 {
    session.exp_eof().unwrap();
    match session.process().wait().unwrap() {
        WaitStatus::Exited(_, status) => status,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_conversation() {
    let model = Model::new(&parrot());
    let mut session = start(&model, &[], &[]);
    session.exp_string("/help lists commands").unwrap();
    session.exp_string(PROMPT).unwrap();
    session.send_line("hi").unwrap();
    session.exp_string("\x1b[32mHello\x1b[0m").unwrap();
    session.exp_string(" there").unwrap();
    session.exp_string("tok/s").unwrap();
    session.exp_string(PROMPT).unwrap();
    session.send_line("two lines, \\").unwrap();
    session.send_line("one turn").unwrap();
    session.exp_string("Bye").unwrap();
    session.exp_string(PROMPT).unwrap();
    session.send_line("/stats").unwrap();
    session.exp_string("output_tokens").unwrap();
    session.send_line("/reset").unwrap();
    session.exp_string("(a new conversation)").unwrap();
    session.exp_string(PROMPT).unwrap();
    session.send_line("hi").unwrap();
    session.exp_string("Hello").unwrap();
    session.exp_string(PROMPT).unwrap();
    session.send_line("/nonsense").unwrap();
    session.exp_string("/help lists the commands").unwrap();
    session.exp_string(PROMPT).unwrap();
    // What was typed before comes back with the arrow key.
    session.send("\x1b[A\x1b[A").unwrap();
    session.flush().unwrap();
    session.exp_string("hi").unwrap();
    session.send_control('c').unwrap();
    session.exp_string("Ctrl-D or /exit leaves").unwrap();
    session.exp_string(PROMPT).unwrap();
    session.send_line("/exit").unwrap();
    assert_eq!(end(&mut session), 0);
    let history = std::fs::read_to_string(model.dir.path().join(".local/state/nano-chat/history")).unwrap();
    assert!(history.contains("one turn") && history.contains("/stats"), "{history}");
}

#[test]
fn leaving() {
    let model = Model::new(&parrot());
    let mut session = start(&model, &[], &[]);
    session.exp_string(PROMPT).unwrap();
    session.send_control('d').unwrap();
    assert_eq!(end(&mut session), 0, "Ctrl-D");
    let mut session = start(&model, &[], &[]);
    session.exp_string(PROMPT).unwrap();
    session.send_control('c').unwrap();
    session.exp_string("Ctrl-D or /exit leaves").unwrap();
    session.exp_string(PROMPT).unwrap();
    session.send_control('c').unwrap();
    assert_eq!(end(&mut session), 130, "Ctrl-C twice");
}

#[test]
fn ctrl_c_stops_a_reply() {
    let model = Model::new(&parrot().endless().context(100_000));
    let mut session = start(&model, &["--max-new-tokens", "90000"], &[]);
    session.exp_string(PROMPT).unwrap();
    session.send_line("hi").unwrap();
    session.exp_string("there").unwrap();
    session.send_control('c').unwrap();
    session.exp_string("interrupted").unwrap();
    session.exp_string(PROMPT).unwrap();
    session.send_line("/stats").unwrap();
    session.exp_string("cancelled").unwrap();
    session.exp_string(PROMPT).unwrap();
    session.send_line("/exit").unwrap();
    assert_eq!(end(&mut session), 0);
}

#[test]
fn no_colors_where_they_are_not_wanted() {
    let model = Model::new(&parrot());
    for (args, env) in [
        (&["--prompt-color", "none", "--reply-color", "none"][..], &[][..]),
        (&[], &[("NO_COLOR", "1")]),
        (&[], &[("TERM", "dumb")]),
    ] {
        let mut session = start(&model, args, env);
        session.exp_string("> ").unwrap();
        session.send_line("hi").unwrap();
        let before = session.exp_string("GB/s").unwrap();
        assert!(before.contains(HELLO) && !before.contains("\x1b[32m"), "{before:?}");
        session.send_line("hi").unwrap();
        let before = session.exp_string("GB/s").unwrap();
        assert!(before.contains(BYE) && !before.contains("\x1b[34m"), "{before:?}");
        session.send_control('d').unwrap();
        assert_eq!(end(&mut session), 0);
    }
}

#[test]
fn no_history_is_no_problem() {
    let model = Model::new(&parrot());
    let file = model.dir.write("file", "");
    let state = file.join("state");
    let mut session = start(&model, &[], &[("XDG_STATE_HOME", state.to_str().unwrap())]);
    session.exp_string(PROMPT).unwrap();
    session.send_line("hi").unwrap();
    let shown = session.exp_string("tok/s").unwrap();
    assert!(!shown.contains("history"), "{shown}");
    session.send_control('d').unwrap();
    assert_eq!(end(&mut session), 0);
    let mut session = start(&model, &["--debug"], &[("XDG_STATE_HOME", state.to_str().unwrap())]);
    session.exp_string("no history is kept").unwrap();
    session.exp_string(PROMPT).unwrap();
    session.send_line("/exit").unwrap();
    assert_eq!(end(&mut session), 0);
}

#[test]
fn prompts_are_echoed_and_end_it() {
    let model = Model::new(&parrot());
    let mut session = start(&model, &["--prompt", "hi", "--prompt", "hi"], &[]);
    session.exp_string("> hi").unwrap();
    session.exp_string("Hello").unwrap();
    session.exp_string("> hi").unwrap();
    session.exp_string("Bye").unwrap();
    assert_eq!(end(&mut session), 0);
}

#[test]
fn what_is_typed_ahead_is_not_lost() {
    let model = Model::new(&parrot());
    let mut session = start(&model, &[], &[]);
    session.exp_string(PROMPT).unwrap();
    session.send("hi\nhi\n/exit\n").unwrap();
    session.exp_string("Hello").unwrap();
    session.exp_string("Bye").unwrap();
    assert_eq!(end(&mut session), 0);
}

#[test]
fn signals_at_the_prompt() {
    let model = Model::new(&parrot());
    for (signals, status) in [(&["SIGTERM"][..], 143), (&["SIGINT", "SIGINT"], 130)] {
        let mut session = start(&model, &[], &[]);
        session.exp_string(PROMPT).unwrap();
        for (i, signal) in signals.iter().enumerate() {
            session.process_mut().signal(signal.parse().unwrap()).unwrap();
            if i + 1 < signals.len() {
                session.exp_string("/exit leaves").unwrap();
            }
        }
        assert_eq!(end(&mut session), status);
    }
}
