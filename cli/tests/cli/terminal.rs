//! A person at a terminal: the binary in a pseudo-terminal.

use super::harness::{BYE, HELLO, Model, PATIENCE, parrot};
use nano_models::testing::Parrot;
use rexpect::process::WaitStatus;
use rexpect::session::{PtySession, spawn_command};

/// Shown before each turn, in blue.
pub const PROMPT: &str = "\x1b[34m> \x1b[0m";

pub fn start(model: &Model, args: &[&str], env: &[(&str, &str)]) -> PtySession {
    let mut command = model.command(args);
    command.envs(env.iter().copied());
    spawn_command(command, Some(PATIENCE.as_millis() as u64)).unwrap()
}

/// Waits for the end, and gives the status.
pub fn end(session: &mut PtySession) -> i32 {
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

/// Types a line, and gives what came of it before the next prompt.
pub fn line(session: &mut PtySession, text: &str) -> String {
    session.send(text).unwrap();
    session.send_line("").unwrap();
    // The editor gives the terminal back. While it has it, it may paint the prompt again.
    session.exp_string("\x1b[?2004l").unwrap();
    session.exp_string(PROMPT).unwrap()
}

#[test]
fn taking_back_and_editing() {
    let model = Model::new(&parrot());
    let file = model.dir.path().join("one.session");
    let mut session = start(&model, &["--session", file.to_str().unwrap()], &[]);
    session.exp_string(PROMPT).unwrap();
    line(&mut session, "hi");
    assert!(line(&mut session, "wrong").contains("Bye"));
    let edited = line(&mut session, "/edit right");
    assert!(edited.contains("Bye") && !edited.contains("Hello"), "{edited:?}");
    let list = line(&mut session, "/history");
    assert!(list.contains("2  user       right  (") && list.contains("3  assistant  Bye.  ("), "{list:?}");
    assert!(line(&mut session, "/undo").contains("(taken back: right)"));
    assert!(line(&mut session, "/retry").contains("Hello"));
    assert!(line(&mut session, "/remove 0..1").contains("(removed: 1 message, "));
    assert!(line(&mut session, "/session").contains("1 message, "));
    line(&mut session, "/help");
    session.send_line("/exit").unwrap();
    assert_eq!(end(&mut session), 0);
    let mut session = start(&model, &["--session", file.to_str().unwrap()], &[]);
    session.exp_string("going on after 1 message;").unwrap();
    session.exp_string(PROMPT).unwrap();
    session.send_control('d').unwrap();
    assert_eq!(end(&mut session), 0);
}

#[test]
fn the_tab_key_completes() {
    let model = Model::new(&parrot());
    let file = model.dir.write("a file.chat", "");
    let mut session = start(&model, &["--function", "calculator"], &[]);
    session.exp_string(PROMPT).unwrap();
    let empty = line(&mut session, "/hist\t");
    assert!(empty.contains("0  system  You can call"), "{empty:?}");
    assert!(line(&mut session, "/ca\tcalc\t'6*7'").contains("42"));
    let typed = format!("/load {}/a f\t", file.parent().unwrap().display());
    let failed = line(&mut session, &typed);
    assert!(failed.contains("error:") && failed.contains("a file.chat"), "{failed:?}");
    session.send_line("/exit").unwrap();
    assert_eq!(end(&mut session), 0);
}

#[test]
fn several_lines_are_one_message() {
    let model = Model::new(&parrot());
    let mut session = start(&model, &["--disable-stats"], &[]);
    session.exp_string(PROMPT).unwrap();
    // Pasted, with both kinds of line ends, and not sent by them.
    session.send("\x1b[200~one\r\ntwo\rthree\n\x1b[201~").unwrap();
    assert!(line(&mut session, "four").contains("Hello"));
    // Alt-Enter.
    session.send("five\x1b\rsix").unwrap();
    assert!(line(&mut session, "").contains("Bye"));
    let list = line(&mut session, "/history");
    assert!(list.contains("0  user       one two three four  ("), "{list:?}");
    assert!(list.contains("2  user       five six  (") && list.contains("3  assistant"), "{list:?}");
    // What was typed before is found again, all of its lines.
    session.send("\x12tw").unwrap();
    session.flush().unwrap();
    session.exp_string("(reverse-i-search)`tw'").unwrap();
    assert!(line(&mut session, "").contains("Hello"));
    assert!(line(&mut session, "/history").contains("4  user       one two three four  ("));
    session.send_line("/exit").unwrap();
    assert_eq!(end(&mut session), 0);
}

#[test]
fn what_is_pasted_during_a_reply_is_one_message() {
    let model = Model::new(&parrot().endless().context(100_000));
    let mut session = start(&model, &["--max-new-tokens", "3000"], &[]);
    session.exp_string(PROMPT).unwrap();
    session.send_line("hi").unwrap();
    session.exp_string("\x1b[?2004l").unwrap();
    session.exp_string("\x1b[?2004h").unwrap();
    session.exp_string("there").unwrap();
    // The terminal is still asked to mark what is pasted; a program that is not reading makes nothing of its lines.
    session.send("\x1b[200~one\ntwo\nthree\x1b[201~").unwrap();
    session.flush().unwrap();
    session.exp_string("--max-new-tokens").unwrap();
    session.exp_string(PROMPT).unwrap();
    session.exp_string("two").unwrap();
    line(&mut session, " four");
    assert!(line(&mut session, "/history").contains("2  user       one two three four  ("));
    session.send_control('d').unwrap();
    session.exp_string("\x1b[?2004l").unwrap();
    assert_eq!(end(&mut session), 0);
}

#[test]
fn calls_are_coloured_where_they_are() {
    let parrot = Parrot::new(&[&["I see ", "count", "()"], &[" 42", " things", "."]]).words(&["hi"]).context(4096);
    let model = Model::new(&parrot);
    let functions = r#"[{"name": "count", "command": ["echo", "42"]}]"#;
    let functions = model.dir.write("f.json", functions);
    let args = ["--functions", functions.to_str().unwrap(), "--prompt", "hi"];
    let mut session = start(&model, &args, &[]);
    session.exp_string("\x1b[32mI see \x1b[0m").unwrap();
    session.exp_string("\x1b[36mcount()\x1b[0m").unwrap();
    session.exp_string("\x1b[1;36m 42\x1b[0m\x1b[32m things").unwrap();
    session.exp_string("1 call, ").unwrap();
    assert_eq!(end(&mut session), 0);
    let plain = start(&model, &[&args[..], &["--reply-color", "none"]].concat(), &[]).exp_string("things.").unwrap();
    assert!(plain.contains("I see count() 42 ") && !plain.contains("\x1b[36m"), "{plain:?}");
}

#[test]
fn an_overflow_is_a_note() {
    let model = Model::new(&parrot().context(96));
    let mut session = start(&model, &["-n", "8"], &[]);
    session.exp_string(PROMPT).unwrap();
    let noted =
        (0..8).find(|_| line(&mut session, "hi").contains("\x1b[2m(the context was full: the oldest exchanges"));
    assert!(noted.is_some());
    session.send_line("/exit").unwrap();
    assert_eq!(end(&mut session), 0);
}
