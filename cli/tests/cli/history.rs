//! Commands that change or show a conversation, over pipes.

use super::harness::{BYE, HELLO, Model, Running, parrot};
use nano_models::testing::Parrot;
use serde_json::{Value, json};

/// What a run of several lines leaves: the replies, and the last listing of messages.
fn history(model: &Model, args: &[&str], lines: &str) -> (String, Vec<String>) {
    let ran = model.run(args, format!("{lines}\n/history\n")).succeeded();
    let list = |line: &&str| line.chars().next().is_some_and(|c| c.is_ascii_digit()) && line.contains("  ");
    let all: Vec<&str> = ran.stderr.lines().filter(list).collect();
    let last = all.iter().rposition(|line| line.starts_with('0')).unwrap_or(all.len());
    (ran.text(), all[last..].iter().map(|line| (*line).to_owned()).collect())
}

fn texts(list: &[String]) -> Vec<String> {
    let text = |line: &String| line.split("  (").next().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    list.iter().map(text).collect()
}

#[test]
fn the_history_is_listed() {
    let model = Model::new(&parrot());
    let (_, list) = history(&model, &["--system-prompt", "Be brief."], "hi\ntwo   words");
    assert_eq!(
        texts(&list),
        ["0 system Be brief.", "1 user hi", "2 assistant Hello there!", "3 user two words", "4 assistant Bye."]
    );
    assert!(list.iter().all(|line| line.ends_with(" tokens)")), "{list:?}");
    let long = "word ".repeat(100);
    let (_, list) = history(&model, &[], &long);
    assert!(list[0].chars().count() < 100 && list[0].contains("word…"), "{list:?}");
    let none = model.run(&[], "/history\n").succeeded();
    assert!(none.stderr.contains("no messages yet"), "{}", none.stderr);
    let cut = Model::new(&parrot().endless());
    let (_, list) = history(&cut, &["-n", "2"], "hi");
    assert_eq!(texts(&list), ["0 user hi", "1 assistant Hello there"]);
}

#[test]
fn undo_takes_back_the_last_exchange() {
    let model = Model::new(&parrot());
    let (said, list) = history(&model, &[], "hi\none\n/undo\ntwo");
    assert_eq!(said, format!("{HELLO}\n{BYE}\n{BYE}\n"));
    assert_eq!(texts(&list), ["0 user hi", "1 assistant Hello there!", "2 user two", "3 assistant Bye."]);
    let (_, list) = history(&model, &["--system-prompt", "Be brief."], "hi\n/undo");
    assert_eq!(texts(&list), ["0 system Be brief."]);
    let nothing = model.run(&[], "hi\n/undo\n/undo\nhi\n");
    assert_eq!(nothing.text(), format!("{HELLO}\n{HELLO}\n"));
    nothing.failed_with(&["no exchange to take back"]);
}

#[test]
fn retry_answers_again() {
    let model = Model::new(&parrot());
    let (said, list) = history(&model, &[], "hi\n/retry\nhi\n/retry");
    assert_eq!(said, format!("{HELLO}\n{HELLO}\n{BYE}\n{BYE}\n"));
    assert_eq!(list.len(), 4, "{list:?}");
    model.run(&[], "/retry\n").failed_with(&["no message to reply to"]);
    // Nothing but the answer is computed again.
    let events = model.run(&["--json"], "hi\n/retry\n").succeeded().events();
    let done: Vec<&Value> = events.iter().filter(|e| e["event"] == "done").collect();
    let [fed, reused] = ["input_tokens", "reused_tokens"].map(|name| done[1]["stats"][name].as_u64().unwrap());
    assert!(fed <= 8 && reused > 3, "{done:?}");
}

#[test]
fn edit_puts_another_text_in_place() {
    let model = Model::new(&parrot().context(200));
    let (said, list) = history(&model, &[], "hi\nwrong\n/edit right");
    assert_eq!(said, format!("{HELLO}\n{BYE}\n{BYE}\n"));
    assert_eq!(texts(&list), ["0 user hi", "1 assistant Hello there!", "2 user right", "3 assistant Bye."]);
    // An edit that fails leaves all as it was.
    let long = "x".repeat(300);
    let ran = model.run(&[], format!("hi\none\n/edit {long}\n/history\nhi\n/edit\n"));
    assert_eq!(ran.text(), format!("{HELLO}\n{BYE}\n{HELLO}\n"));
    assert!(ran.stderr.contains("2  user       one ") && ran.stderr.contains("3  assistant  Bye. "), "{}", ran.stderr);
    assert_eq!(ran.stderr.matches("error:").count(), 2, "{}", ran.stderr);
    assert_eq!(ran.code, Some(1));
    model.run(&[], "/edit new\n").failed_with(&["no message of yours"]);
}

#[test]
fn messages_are_removed_by_number() {
    let model = Model::new(&parrot());
    for how in ["", " shift", " exact"] {
        let (said, list) = history(&model, &[], &format!("hi\none\ntwo\n/remove 2..4{how}\nthree"));
        assert_eq!(said, format!("{HELLO}\n{BYE}\n{HELLO}\n{HELLO}\n"), "a parrot counts its replies");
        let texts = texts(&list);
        assert_eq!((texts.len(), &texts[2][..], &texts[4][..]), (6, "2 user two", "4 user three"), "{how}: {list:?}");
    }
    let (_, list) = history(&model, &[], "hi\none\n/remove 1\n/remove 0..=1");
    assert_eq!(texts(&list), ["0 assistant Bye."]);
    let ran = model.run(&[], "hi\n/remove 1..9\n/remove\n/remove x\nhi\n");
    assert_eq!(ran.text(), format!("{HELLO}\n{BYE}\n"));
    assert_eq!(ran.stderr.matches("error:").count(), 3, "{}", ran.stderr);
    assert!(ran.stderr.contains("no message 2:") && ran.stderr.contains("/remove 1..3"), "{}", ran.stderr);
    // Where nothing follows, nothing is fed again either way.
    let ran = model.run(&[], "hi\none\n/remove 2..4 shift\n").succeeded();
    assert!(ran.stderr.contains("removed: 2 messages") && !ran.stderr.contains("fed again"), "{}", ran.stderr);
}

#[test]
fn conversations_are_saved_and_loaded() {
    let model = Model::new(&parrot());
    let file = model.dir.path().join("one.chat");
    let path = file.to_str().unwrap();
    let (said, list) = history(&model, &[], &format!("hi\n/save {path}\n/reset\nhi\n/load {path}\nhi"));
    assert_eq!(said, format!("{HELLO}\n{HELLO}\n{BYE}\n"));
    assert_eq!(list.len(), 4, "{list:?}");
    // Its rows came with it.
    let events = model.run(&["--json"], format!("/load {path}\nhi\n")).succeeded().events();
    assert!(events.last().unwrap()["stats"]["reused_tokens"].as_u64().unwrap() > 5, "{events:?}");
    let ran = model.run(&[], "hi\n/load /nowhere/x.chat\n/save /nowhere/x.chat\n/save\n/load\nhi\n");
    assert_eq!(ran.text(), format!("{HELLO}\n{BYE}\n"));
    assert_eq!(ran.stderr.matches("error:").count(), 4, "{}", ran.stderr);
    assert_eq!(ran.stderr.matches("error: /nowhere").count(), 2, "{}", ran.stderr);
    model.run(&[], "/load none.chat\n").failed_with(&["none.chat"]);
    let other = model.path.to_str().unwrap();
    let before = std::fs::read(&model.path).unwrap();
    let ran = model.run(&[], format!("hi\n/load {other}\n/save {other}\nhi\n"));
    assert_eq!(ran.text(), format!("{HELLO}\n{BYE}\n"));
    assert_eq!(ran.stderr.matches("error:").count(), 2, "{}", ran.stderr);
    assert_eq!(std::fs::read(&model.path).unwrap(), before, "a file that is no session is left alone");
}

#[test]
fn programs_use_the_same_commands() {
    let model = Model::new(&parrot());
    let mut running = Running::start(model.command(&["--json"]), model.dir.path());
    // What acts says nothing if it can be done: the event that comes is that of the last line.
    let mut say = |lines: &[Value]| {
        lines.iter().for_each(|line| running.say(&line.to_string()));
        loop {
            let event = running.event();
            if event["event"] != "text" {
                return event;
            }
        }
    };
    let command = |name: &str| json!({"command": name});
    assert_eq!(say(&[json!({"user": "hi"})])["event"], "done");
    assert_eq!(say(&[command("/undo"), json!({"user": "one"})])["stats"]["reused_tokens"], 0);
    assert_eq!(say(&[command("edit a\nb")])["event"], "done");
    let list = say(&[command("/history")]);
    assert_eq!((&list["event"], &list["command"]), (&json!("command"), &json!("/history")));
    let text = list["text"].as_str().unwrap();
    assert!(text.contains("user       a b ") && text.lines().count() == 2, "{text}");
    assert_eq!(say(&[command("/retry")])["event"], "done");
    for (name, word) in [("/stats", "function_calls"), ("/session", "pending"), ("/functions", "no functions")] {
        let answer = say(&[command(name)]);
        assert_eq!((&answer["event"], &answer["command"]), (&json!("command"), &json!(name)));
        assert!(answer["text"].as_str().unwrap().contains(word), "{answer}");
    }
    for (name, word) in [("/remove 5..6", "no message"), ("/call time", "time"), ("/load x", "x")] {
        let error = say(&[command(name)]);
        let why = error["message"].as_str().or(error["failed"].as_str());
        assert!(why.is_some_and(|why| why.contains(word)), "{error}");
    }
}

#[test]
fn an_overflow_is_told() {
    let model = Model::new(&parrot().context(96));
    let turns = "hi\n".repeat(12);
    for policy in ["drop", "shift"] {
        let ran = model.run(&["--json", "--overflow", policy, "-n", "8"], &turns).succeeded();
        let events = ran.events();
        let told: Vec<&Value> = events.iter().filter(|e| e["event"] == "overflow").collect();
        assert!(!told.is_empty() && told.iter().all(|e| e["removed_rows"].as_u64().is_some_and(|n| n > 0)), "{told:?}");
        assert!(told.iter().all(|e| e["policy"] == "drop" || e["policy"] == policy), "{told:?}");
        assert_eq!(events.iter().filter(|e| e["event"] == "done").count(), 12);
        let first = events.iter().position(|e| e["event"] == "overflow").unwrap();
        assert_eq!((&events[first - 1]["event"], &events[first + 1]["event"]), (&json!("done"), &json!("text")));
        let whole = model.run(&["--json", "--overflow", policy, "-n", "8", "--disable-streaming"], &turns).succeeded();
        assert!(whole.events().iter().any(|e| e["event"] == "overflow"));
    }
    let text = model.run(&["-n", "8"], &turns).succeeded();
    assert!(text.stderr.contains("oldest exchanges were removed") && text.stderr.contains("drop"), "{}", text.stderr);
    assert_eq!(text.text().lines().count(), 12);
    let quiet = model.run(&["-n", "8", "--log-level", "error", "--disable-stats"], &turns).succeeded();
    assert_eq!(quiet.stderr, "");
    let ran = model.run(&["--overflow", "error", "-n", "8"], &turns);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("the context is full"), "{}", ran.stderr);
    model.run(&["--overflow", "sometimes"], "").failed_with(&["--overflow", "error, drop or shift"]);
}

#[test]
fn a_reply_begins_as_it_was_told() {
    let model = Model::new(&Parrot::new(&[&["Well", ",", " yes", "."]]).words(&["hi"]));
    let ran = model.run(&["--reply-prefix", "Well,"], "hi\n/history\n").succeeded();
    assert_eq!(ran.text(), "Well, yes.\n");
    assert!(ran.stderr.contains("assistant  Well, yes. "), "{}", ran.stderr);
    let events = model.run(&["--json", "--reply-prefix", "Well,"], "hi\n").succeeded().events();
    assert_eq!(events[0], json!({"event": "text", "text": "Well,"}));
    let dashes = model.run(&["--reply-prefix", "--Well,"], "hi\n").succeeded();
    assert_eq!(dashes.text(), "--Well, yes.\n");
}
