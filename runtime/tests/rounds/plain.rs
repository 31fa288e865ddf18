//! Rounds in which everything goes well, and the limits that end them.

use crate::script::*;
use nano_runtime::{BotFunctions, Chat, GenerateOptions, Message, ToolChoice};

#[test]
fn words_without_calls_are_a_round() {
    let (mut chat, script) = chat([vec![Think("hm"), Text("Hello"), Text(" there.")]]);
    let lines = lines(chat.round("hi").unwrap());
    assert_eq!(lines, ["think hm", "text Hello", "text  there.", "done stop"]);
    assert_eq!(told(chat.messages()), ["user: hi", "assistant: Hello there."]);
    let request = &script.asked()[0];
    assert_eq!(told(&request.messages), ["user: hi"]);
    assert_eq!(request.tools.len(), 3);
    assert_eq!(request.options.tool_choice, ToolChoice::Auto);
    assert!(!chat.is_busy() && chat.poll().is_none() && chat.next_event().is_none());
}

#[test]
fn calls_are_made_and_results_come_in_their_order() {
    let calls = vec![Text("Let me see."), Call("add", r#"{"a": 1, "b": 2}"#), Call("echo", r#"{"text": "x"}"#)];
    let (mut chat, script) = chat([calls, vec![Call("echo", r#"{"text": "y"}"#)], vec![Text("Done.")]]);
    let lines = lines(chat.round("go").unwrap());
    assert_eq!(
        lines,
        [
            "text Let me see.",
            "call add",
            "call echo",
            "done stop",
            "result add 3",
            "result echo x",
            "call echo",
            "done stop",
            "result echo y",
            "text Done.",
            "done stop"
        ]
    );
    let all = [
        "user: go",
        "assistant: Let me see. <add> <echo>",
        "tool: 3",
        "tool: x",
        "assistant:  <echo>",
        "tool: y",
        "assistant: Done.",
    ];
    assert_eq!(told(chat.messages()), all);
    assert_whole(chat.messages());
    let asked: Vec<usize> = script.asked().iter().map(|request| request.messages.len()).collect();
    assert_eq!(asked, [1, 4, 6]);
}

#[test]
fn the_system_prompt_and_other_messages_come_first_and_stay() {
    let (chat, script) = chat([vec![Fail], vec![Text("a")], vec![Text("b")]]);
    let mut chat = chat.with_system_prompt("Be brief.").with_messages([Message::user("1"), Message::assistant("2")]);
    assert!(chat.ask("x").is_err());
    assert_eq!(told(chat.messages()), ["system: Be brief.", "user: 1", "assistant: 2"]);
    assert_eq!(chat.ask("y").unwrap(), "a");
    assert_eq!(chat.ask("z").unwrap(), "b");
    assert_eq!(script.asked()[2].messages.len(), 6);
    assert_eq!(told(&chat.undo()), ["user: z", "assistant: b"]);
    assert_eq!(told(&chat.undo()), ["user: y", "assistant: a"]);
    chat.reset();
    assert_eq!(told(chat.messages()), ["system: Be brief."]);
    assert!(chat.undo().is_empty());
    chat.set_system_prompt(None);
    assert!(chat.messages().is_empty());
}

#[test]
fn a_round_on_what_was_appended_with_options_of_its_own() {
    let (mut chat, script) = chat([vec![Text("a")], vec![Text("b")]]);
    chat.append_message(Message::user("one"));
    chat.append_message(Message::user("two"));
    let options = GenerateOptions { max_new_tokens: 7, ..GenerateOptions::default() };
    assert_eq!(chat.answer(&options).unwrap().wait().unwrap().text, "a");
    chat.options_mut().max_new_tokens = 9;
    chat.ask("three").unwrap();
    let limits: Vec<usize> = script.asked().iter().map(|request| request.options.max_new_tokens).collect();
    assert_eq!(limits, [7, 9]);
    // A round that cannot begin takes back what was appended for it, and no more.
    chat.append_message(Message::user("four"));
    assert!(chat.answer(&options).is_err());
    assert_eq!(chat.messages().len(), 5);
    let nothing = Chat::new(Script::new([])).answer(&options).map(drop).unwrap_err();
    assert!(nothing.to_string().contains("no message to reply to"), "{nothing}");
}

/// Calls without end, of which `rounds` are made.
fn endless(most: Option<usize>, rounds: usize) {
    let again = || vec![Call("add", r#"{"a": 1, "b": 1}"#)];
    let answers = (0..rounds).map(|_| again()).chain([vec![Text("Enough.")]]);
    let (chat, script) = chat(answers);
    let mut chat = chat.with_max_function_rounds(most);
    let lines = lines(chat.round("go").unwrap());
    let asked = script.asked();
    assert_eq!(asked.len(), rounds + 1);
    let (last, before) = asked.split_last().unwrap();
    assert!(before.iter().all(|request| request.options.tool_choice == ToolChoice::Auto));
    let off = if most.is_some() { ToolChoice::None } else { ToolChoice::Auto };
    assert_eq!((&last.options.tool_choice, last.tools.len()), (&off, 3), "tools stay in the prompt");
    let notices: Vec<&String> = lines.iter().filter(|line| line.starts_with("notice")).collect();
    match most.filter(|&most| most > 0) {
        Some(most) => assert_eq!(
            notices,
            [&format!("notice there were {most} rounds of calls: the model answers without calling")]
        ),
        None => assert!(notices.is_empty()),
    }
    assert_eq!(chat.messages().last().unwrap().content.text(), "Enough.");
    // The next round begins anew.
    script.says([vec![Text("ok")]]);
    chat.ask("more").unwrap();
    let choice = if most == Some(0) { ToolChoice::None } else { ToolChoice::Auto };
    assert_eq!(script.asked()[0].options.tool_choice, choice);
}

#[test]
fn rounds_of_calls_have_an_end() {
    endless(Some(0), 0);
    endless(Some(1), 1);
    endless(Some(3), 3);
    endless(None, 20);
}

#[test]
fn a_model_that_calls_where_it_should_not_gets_no_call() {
    let add = || Call("add", r#"{"a": 1, "b": 1}"#);
    let (chat, script) = chat([vec![add()], vec![Text("So"), add(), add()]]);
    let mut chat = chat.with_max_function_rounds(Some(1));
    let lines = lines(chat.round("go").unwrap());
    let off = "result add error: add was not called: no more calls are possible now";
    let end = "notice the model called functions where it should not: the round ends here";
    assert_eq!(lines[lines.len() - 4..], ["done stop", off, off, end]);
    assert_whole(chat.messages());
    assert_eq!(chat.messages().len(), 6);
    script.says([vec![Text("ok")]]);
    assert_eq!(chat.ask("more").unwrap(), "ok");
}

#[test]
fn a_call_is_forced_in_the_first_answer_only() {
    for forced in [ToolChoice::Required, ToolChoice::Named("add".into())] {
        let (mut chat, script) = chat([vec![Call("add", r#"{"a": 1, "b": 1}"#)], vec![Text("2")]]);
        chat.options_mut().tool_choice = forced.clone();
        chat.ask("go").unwrap();
        let choices: Vec<ToolChoice> = script.asked().into_iter().map(|request| request.options.tool_choice).collect();
        assert_eq!(choices, [forced, ToolChoice::Auto]);
    }
    let (mut chat, script) = chat([vec![Text("2")]]);
    chat.options_mut().tool_choice = ToolChoice::None;
    chat.ask("go").unwrap();
    assert_eq!(script.asked()[0].options.tool_choice, ToolChoice::None);
}

#[test]
fn functions_may_change_between_rounds() {
    let (mut chat, script) = chat([vec![Text("a")], vec![Text("b")]]);
    chat.ask("x").unwrap();
    chat.set_functions(BotFunctions::default());
    chat.ask("y").unwrap();
    let tools: Vec<usize> = script.asked().iter().map(|request| request.tools.len()).collect();
    assert_eq!(tools, [3, 0]);
}
