//! What NanoLLM gets wrong and the program gets right, by the numbers of the list that this project keeps. Those that
//! concern conversations and generations are in runtime/tests/defects, with a table of all others.

use super::harness::{BYE, HELLO, Model, parrot};

/// Commands begin with a slash and are no text; the end of the input is an end; bare words are commands in files of
/// prompts alone.
#[test]
fn d05_commands_are_commands_and_the_end_is_an_end() {
    let model = Model::new(&parrot());
    let ran = model.run(&[], "hi\n/reset\nhi\n/clear\nhi\n/stats\n/help\n").succeeded();
    assert_eq!(ran.text(), format!("{HELLO}\n{HELLO}\n{HELLO}\n"));
    assert_eq!(model.run(&[], "hi\nreset\n").succeeded().text(), format!("{HELLO}\n{BYE}\n"), "a word of the user");
    assert_eq!(model.run(&[], "hi\n/exit\nhi\n").succeeded().text(), format!("{HELLO}\n"));
    let file = model.dir.write("batch.json", r#"["hi", "reset", "hi", "clear", "hi"]"#);
    let ran = model.run(&["--prompt", file.to_str().unwrap()], "").succeeded();
    assert_eq!(ran.text(), format!("{HELLO}\n{HELLO}\n{HELLO}\n"));
    assert_eq!(model.run(&[], "").succeeded().text(), "");
}

/// A file of a template needs no name, and what is wrong in it is named with the key.
#[test]
fn d06_a_json_file_is_a_template() {
    let model = Model::new(&parrot());
    let write = |name: &str, text: &str| model.dir.write(name, text).to_str().unwrap().to_owned();
    let good = write("robot.json", r#"{"user": "U: ${MESSAGE}\nB:\n", "bot": "${MESSAGE}\n"}"#);
    let messages = write("m.json", r#"[{"role": "user", "content": "hi"}]"#);
    let args = ["render", "--messages", &messages, "--chat-template", &good];
    assert_eq!(model.run(&args, "").succeeded().text(), "U: hi\nB:\n");
    assert_eq!(model.run(&["--chat-template", &good], "hi\n").succeeded().text(), format!("{HELLO}\n"));
    for (text, word) in [(r#"{"user": 1}"#, "user"), (r#"{"usr": "x"}"#, "usr"), ("{}", "user"), ("[", "bad.json")] {
        let bad = write("bad.json", text);
        model.run(&["--chat-template", &bad], "hi\n").failed_with(&["bad.json", word]);
    }
}

/// The length of the context is a matter of the run, and what does not fit is refused with numbers before it is loaded.
#[test]
fn d17_the_context_is_chosen_when_a_model_is_run() {
    let model = Model::new(&parrot());
    let memory = |context: &str| {
        let info = model.run(&["info", "--json", "--max-context-len", context], "").succeeded().json();
        (info["memory"]["context"].as_u64().unwrap(), info["memory"]["total_bytes"].as_u64().unwrap())
    };
    let ((small, less), (large, more)) = (memory("64"), memory("1024"));
    assert_eq!((small, large), (64, 1024));
    assert!(less < more);
    let before = std::fs::read(&model.path).unwrap();
    model.run(&["--max-context-len", "64"], "hi\n").succeeded();
    assert!(before == std::fs::read(&model.path).unwrap(), "nothing is written for it");
    model.run(&["--memory", "10000"], "hi\n").failed_with(&["bytes of memory", "10000"]);
}

/// Every `--prompt` is one, and a text is a text, whatever it ends in.
#[test]
fn d19_no_prompt_is_lost_or_taken_for_something_else() {
    let model = Model::new(&parrot());
    let ran = model.run(&["--prompt", "hi", "--prompt", "hi"], "").succeeded();
    assert_eq!(ran.text(), format!("{HELLO}\n{BYE}\n"));
    // What follows a prompt is not dropped.
    model.run(&["--prompt", "hi", "hi"], "").failed_with(&["hi"]);
    for text in ["what is in photo.jpg", "photo.JPG", "notes.txt", "is this a.json"] {
        let ran = model.run(&["--prompt", text], "").succeeded();
        assert_eq!(ran.text(), format!("{HELLO}\n"), "{text} is a text, and no file");
    }
}
