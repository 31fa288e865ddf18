//! Conversations over pipes and from `--prompt`, as text.

use super::harness::{BYE, HELLO, Model, parrot};
use nano_models::testing::Parrot;

#[test]
fn each_line_of_a_pipe_is_a_turn() {
    let model = Model::new(&parrot());
    let ran = model.run(&[], "hi\n\nhi again\nhi").succeeded();
    assert_eq!(ran.text(), format!("{HELLO}\n{BYE}\n{HELLO}\n"));
    assert_eq!(ran.stderr.matches("tok/s decode").count() + ran.stderr.matches("decode").count(), 3, "{}", ran.stderr);
    assert!(!ran.stderr.contains('\x1b') && !ran.stdout.contains(&b'\x1b'), "no colours without a terminal");
}

#[test]
fn a_folder_is_a_model_too() {
    let folder = parrot().temp_folder();
    let model = Model { path: folder.path().to_owned(), dir: folder };
    assert_eq!(model.run(&[], "hi\n").succeeded().text(), format!("{HELLO}\n"));
    let quantized = model.run(&["--quantization", "q8f16", "--kv-cache", "q8", "--threads", "1"], "hi\n");
    assert_eq!(quantized.succeeded().text(), format!("{HELLO}\n"));
}

#[test]
fn prompts_are_one_conversation() {
    let model = Model::new(&parrot());
    let file = model.dir.write("more.json", r#"["hi", "reset", {"text": "hi"}]"#);
    let one = model.dir.write("one.txt", "two\nlines\n");
    let args = ["--prompt", "hi", "--prompt", file.to_str().unwrap(), "-p", one.to_str().unwrap(), "--disable-stats"];
    let ran = model.run(&args, "never read").succeeded();
    assert_eq!(ran.text(), format!("{HELLO}\n{BYE}\n{HELLO}\n{BYE}\n"), "the bare word in the file resets");
    assert_eq!(ran.stderr.trim(), "(a new conversation)");
    let word = model.run(&["--prompt", "hi", "--prompt", "reset"], "").succeeded();
    assert_eq!(word.text(), format!("{HELLO}\n{BYE}\n"), "on the command line it is a text");
}

#[test]
fn slash_commands_work_in_a_pipe() {
    let model = Model::new(&parrot());
    let ran = model.run(&[], "/stats\nhi\n/reset\nhi\n/clear\nhi\n/stats\n/help\n/template\n/exit\nhi\n").succeeded();
    assert_eq!(ran.text(), format!("{HELLO}\n{HELLO}\n{HELLO}\n"));
    for word in ["no reply yet", "input_tokens", "prefill_rate", "reused_tokens", "/system TEXT", "<|im_start|>"] {
        assert!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
    }
}

#[test]
fn the_system_prompt_is_fed_and_changed() {
    let model = Model::new(&parrot());
    let file = model.dir.write("system.txt", "Be brief, be kind, be done.\n");
    let input_tokens = |args: &[&str], stdin: &str| {
        let ran = model.run(&[&["--json"], args].concat(), stdin).succeeded();
        ran.events().last().unwrap()["stats"]["input_tokens"].as_u64().unwrap()
    };
    let plain = input_tokens(&[], "hi\n");
    let given = input_tokens(&["--system-prompt", "Be brief, be kind, be done."], "hi\n");
    assert!(given > plain + 10, "{given} {plain}");
    assert_eq!(input_tokens(&["--system-prompt", file.to_str().unwrap()], "hi\n"), given, "a file says the same");
    assert_eq!(input_tokens(&[], "hi\n/system Be brief, be kind, be done.\nhi\n"), given);
    let ran = model.run(&["--system-prompt", "Be brief."], "/system\n/system Be long.\n/system\n").succeeded();
    assert!(ran.stderr.contains("Be brief.\n") && ran.stderr.contains("Be long.\n"), "{}", ran.stderr);
    // The one that there is changes nothing, and is not said to.
    let ran = model.run(&["--system-prompt", "Be brief."], "hi\n/system Be brief.\n/history\n").succeeded();
    assert!(!ran.stderr.contains("starts over") && ran.stderr.contains("2  assistant"), "{}", ran.stderr);
}

#[test]
fn limits_and_stops() {
    let model = Model::new(&parrot());
    assert_eq!(model.run(&["--max-new-tokens", "2"], "hi\n").succeeded().text(), "Hello there\n");
    assert_eq!(model.run(&["--stop", " there"], "hi\n").succeeded().text(), "Hello\n");
    assert_eq!(model.run(&["--stop", "o th", "--stop", "never"], "hi\n").succeeded().text(), "Hell\n");
    let held_back = model.run(&["--stop", "!?", "-n", "3"], "hi\n").succeeded();
    assert_eq!(held_back.text(), "Hello there!\n", "what may have been a stop is released");
    assert_eq!(model.run(&["--disable-streaming"], "hi\n").succeeded().text(), format!("{HELLO}\n"));
    let sampled = model.run(&["--temperature", "0.5", "--seed", "7"], "hi\n").succeeded();
    assert_eq!(sampled.text(), format!("{HELLO}\n"));
}

#[test]
fn the_template_may_be_another() {
    // Under another template than its own a parrot says its first reply each time.
    let model = Model::new(&parrot());
    for template in ["chat-ml", "auto"] {
        let ran = model.run(&["--chat-template", template], "hi\n").succeeded();
        assert_eq!(ran.text(), format!("{HELLO}\n"), "{template}");
    }
    assert_eq!(
        model.run(&["--chat-template", "chat-ml"], "hi\nhi\n").succeeded().text(),
        format!("{HELLO}\n{HELLO}\n")
    );
    let jinja = model.dir.write("t.jinja", "{{ messages[-1].content }}\n");
    let own = model.run(&["--chat-template", jinja.to_str().unwrap()], "hi\n/template\n").succeeded();
    assert!(own.stderr.contains("{{ messages[-1].content }}"), "{}", own.stderr);
}

#[test]
fn completion_needs_no_template() {
    let model = Model::new(&parrot());
    let complete = |args: &[&str], stdin: &str| model.run(&[&["complete"], args].concat(), stdin).succeeded();
    assert_eq!(complete(&["--prompt", "Hello"], "").text(), " there!\n");
    assert_eq!(complete(&["-p", "Hello", "-p", "Bye"], "").text(), " there!\n.\n", "each by itself");
    assert_eq!(complete(&[], "well, Hello\n").text(), " there!\n", "stdin is one prompt");
    let events = complete(&["--json", "-p", "Hello"], "").events();
    assert_eq!(events.last().unwrap()["finish"], "stop");
}

#[test]
fn a_failed_turn_does_not_end_the_session() {
    let long = "x".repeat(200);
    let model = Model::new(&parrot().context(96));
    let ran = model.run(&[], format!("hi\n{long}\nhi\n/nonsense\nhi\n"));
    assert_eq!(ran.text(), format!("{HELLO}\n{BYE}\n{HELLO}\n"), "{}", ran.stderr);
    assert_eq!(ran.code, Some(1));
    assert_eq!(ran.stderr.matches("error:").count(), 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("the context is full") && ran.stderr.contains("/nonsense"), "{}", ran.stderr);
}

#[test]
fn invalid_utf8_is_one_bad_line() {
    let model = Model::new(&parrot());
    let ran = model.run(&[], b"hi\nh\xffi\nhi\n");
    assert_eq!(ran.text(), format!("{HELLO}\n{BYE}\n"));
    ran.failed_with(&["line 2", "UTF-8"]);
}

#[test]
fn text_is_never_half_a_character() {
    let bytes = "Größe 🙂".as_bytes();
    let tokens = bytes.iter().enumerate().map(|(i, &b)| vec![b'0' + i as u8, b]).collect();
    let model = Model::new(&Parrot::from_bytes(vec![tokens]));
    let expected: String = {
        let mixed: Vec<u8> = bytes.iter().enumerate().flat_map(|(i, &b)| [b'0' + i as u8, b]).collect();
        String::from_utf8_lossy(&mixed).into_owned()
    };
    assert_eq!(model.run(&[], "hi\n").succeeded().text(), format!("{expected}\n"));

    // Characters cut in the middle, over two tokens each.
    let cut = Parrot::from_bytes(vec![vec![
        b"Gr\xc3".to_vec(),
        b"\xb6\xc3".to_vec(),
        b"\x9fe \xf0\x9f".to_vec(),
        b"\x99\x82".to_vec(),
    ]]);
    let ran = Model::new(&cut).run(&["--json"], "hi\n").succeeded();
    let events = ran.events();
    let texts: Vec<&str> = events.iter().filter_map(|e| e["text"].as_str()).collect();
    assert_eq!(texts.concat(), "Größe 🙂");
    assert!(texts.iter().all(|t| !t.contains('\u{fffd}')), "{texts:?}");
}
