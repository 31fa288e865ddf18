//! What a conversation with each built-in template feeds, turn by turn: the golden feeds of NanoLLM, as tokens that a runner
//! was given. Each token is a byte or a control token, so a feed can be read as text.

mod common;

use common::{Fake, Shared, byte_spellings, limits, options};
use nano_models::GgufVocab;
use nano_runtime::{
    ChatHistory, ChatOptions, Finish, GenerateOptions, Limits, Message, NanoModel, Template, Tokenizer,
};

/// The control tokens of all families.
const CONTROL: [&str; 17] = [
    "<s>",
    "</s>",
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
    "<|endoftext|>",
    "<bos>",
    "<eos>",
    "<start_of_turn>",
    "<end_of_turn>",
];

/// Templates that feed the same.
struct Case {
    names: &'static [&'static str],
    /// What the model says at the end of a reply; all of it ends the reply.
    end: &'static str,
    first: &'static str,
    /// What is fed at the next turn. The token that ended the reply has no row before, so it comes first.
    second: &'static str,
}

const fn case(names: &'static [&'static str], end: &'static str, first: &'static str, second: &'static str) -> Case {
    Case { names, end, first, second }
}

const CASES: [Case; 18] = [
    case(
        &["llama-2", "llava-llama-2"],
        "</s>",
        "<s>[INST] <<SYS>>\nSYS\n<</SYS>>\n\nU1 [/INST]",
        "</s><s>[INST] U2 [/INST]",
    ),
    case(
        &["llama-3", "llama-3.1"],
        "<|eot_id|>",
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nSYS<|eot_id|>\
         <|start_header_id|>user<|end_header_id|>\n\nU1<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nU2<|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    case(
        &["tiny-llama"],
        "</s>",
        "<|system|>\nSYS</s>\n<|user|>\nU1</s>\n<|assistant|>\n",
        "</s>\n<|user|>\nU2</s>\n<|assistant|>\n",
    ),
    case(&["sheared-llama"], "</s>", "SYS\n\n### Input:\nU1\n\n### Response:", "</s>### Input:\nU2\n\n### Response:"),
    // Here and below: a stop string is cut off, and what the template writes is fed.
    case(&["open-llama"], "\n", "Q: U1\nA:", "\nQ: U2\nA:"),
    case(
        &["vicuna-v0", "llava-v0"],
        "</s>",
        "SYS\n\n### Human: U1\n### Assistant: ",
        "</s>### Human: U2\n### Assistant: ",
    ),
    case(&["vicuna-v1", "llava-v1"], "</s>", "SYS\n\nUSER: U1\nASSISTANT: ", "</s>USER: U2\nASSISTANT: "),
    case(
        &["stablelm-zephyr"],
        "<|endoftext|>",
        "<|system|>\nSYS<|endoftext|>\n<|user|>\nU1<|endoftext|>\n<|assistant|>\n",
        "<|endoftext|>\n<|user|>\nU2<|endoftext|>\n<|assistant|>\n",
    ),
    case(
        &["chat-ml", "chat-ml-tools", "qwen"],
        "<|im_end|>",
        "<|im_start|>system\nSYS<|im_end|>\n<|im_start|>user\nU1<|im_end|>\n<|im_start|>assistant\n",
        "<|im_end|>\n<|im_start|>user\nU2<|im_end|>\n<|im_start|>assistant\n",
    ),
    case(
        &["nous-obsidian"],
        "\n###",
        "<|im_start|>system\nSYS\n###\n<|im_start|>user\nU1\n###\n<|im_start|>assistant\n",
        "###\n<|im_start|>user\nU2\n###\n<|im_start|>assistant\n",
    ),
    // Another end than the one that the template writes.
    case(
        &["nous-obsidian"],
        "<|im_end|>",
        "<|im_start|>system\nSYS\n###\n<|im_start|>user\nU1\n###\n<|im_start|>assistant\n",
        "\n###\n<|im_start|>user\nU2\n###\n<|im_start|>assistant\n",
    ),
    case(&["phi-2-chat"], "<|endoftext|>", "Alice: U1\nBob: ", "<|endoftext|>Alice: U2\nBob: "),
    case(&["phi-2-instruct"], "<|endoftext|>", "Instruct: U1\nOutput: ", "<|endoftext|>Instruct: U2\nOutput: "),
    case(
        &["phi-3"],
        "<|end|>",
        "<|system|>\nSYS<|end|>\n<|user|>\nU1<|end|>\n<|assistant|>\n",
        "<|end|>\n<|user|>\nU2<|end|>\n<|assistant|>\n",
    ),
    case(
        &["gemma"],
        "<end_of_turn>",
        "<bos><start_of_turn>user\nU1<end_of_turn>\n<start_of_turn>model\n",
        "<end_of_turn>\n<start_of_turn>user\nU2<end_of_turn>\n<start_of_turn>model\n",
    ),
    case(&["mistral"], "</s>", "<s>[INST] SYS\n\nU1 [/INST]", "</s>[INST] U2 [/INST]"),
    case(&["bunny"], "</s>", "USER: U1\nASSISTANT: ", "</s>USER: U2\nASSISTANT: "),
    case(&["openvla"], "</s>", "<s>U1", "</s><s>U2"),
];

/// Bytes and the control tokens; the model ends texts with `eos` and wants no token at their start.
fn tokenizer(eos: &str) -> Tokenizer {
    let mut tokens: Vec<String> = byte_spellings().iter().map(char::to_string).collect();
    tokens.extend(CONTROL.map(str::to_owned));
    let types = (0..=tokens.len()).map(|id| if (256..tokens.len()).contains(&id) { 3 } else { 1 }).collect();
    // Such a vocabulary must have a merge.
    tokens.push("~~".to_owned());
    let eos = ids(eos).pop().filter(|&id| id >= 256);
    let vocab = GgufVocab {
        model: "gpt2".into(),
        pre: Some("gpt-2".into()),
        tokens,
        types,
        merges: vec!["~ ~".into()],
        eos,
        add_bos: Some(false),
        ..GgufVocab::default()
    };
    Tokenizer::from_gguf(vocab).unwrap()
}

fn ids(text: &str) -> Vec<u32> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(&byte) = rest.as_bytes().first() {
        let control = CONTROL.iter().position(|c| rest.starts_with(c));
        out.push(control.map_or(u32::from(byte), |i| 256 + i as u32));
        rest = &rest[control.map_or(1, |i| CONTROL[i].len())..];
    }
    out
}

fn text(tokens: &[u32]) -> String {
    let control = |id: u32| CONTROL[id as usize - 256].to_owned();
    tokens.iter().map(|&id| u8::try_from(id).map_or_else(|_| control(id), |b| char::from(b).to_string())).collect()
}

/// A conversation with a model that says `reply` and then the end, at every turn.
fn chat(name: &str, case: &Case, reply: &str) -> (ChatHistory, Shared) {
    let says = ids(&format!("{reply}{}", case.end));
    // Of the end, what comes before a stop string stays.
    let kept = reply.len() + case.end.find('#').unwrap_or(0);
    let (first, turn) = (ids(case.first).len(), kept + ids(case.second).len());
    let limits = Limits { vocab: 257 + CONTROL.len(), ..limits() };
    let (fake, log) = Fake::new(limits, move |tokens| {
        let said = (tokens.len() - first) % turn;
        says.get(said).copied().unwrap_or(u32::from(b'?'))
    });
    let model = NanoModel::with_runner(Box::new(fake), tokenizer(case.end), Template::builtin(name)).unwrap();
    let system_prompt = case.first.contains("SYS").then(|| "SYS".to_owned());
    (model.chat(ChatOptions { system_prompt, ..ChatOptions::default() }).unwrap(), log)
}

/// What was fed since the last call.
fn fed(log: &Shared) -> String {
    let mut log = log.lock().unwrap();
    let fed = log.fed();
    log.steps.clear();
    text(&fed)
}

/// D1, D8, D16: as NanoLLM feeds, nothing twice and nothing left out.
#[test]
fn built_in_templates_feed_what_nanollm_feeds() {
    for case in &CASES {
        // A space at its start is the model's own in some families.
        for (name, reply) in case.names.iter().flat_map(|name| [(name, "Yes, sir."), (name, " Yes")]) {
            let (mut chat, log) = chat(name, case, reply);
            let second = |user: &str| case.second.replace("U2", user);
            for (user, feed) in [("U1", case.first.to_owned()), ("U2", second("U2")), ("U3", second("U3"))] {
                chat.user(user);
                let output = chat.reply(&options()).unwrap().wait().unwrap();
                assert_eq!((output.text.trim_end(), output.finish), (reply, Finish::Stop), "{name}, {user}");
                let fed = fed(&log);
                let rest = fed.strip_prefix(&format!("{feed}{reply}"));
                // A stop string of several tokens is fed up to the last one, and taken back.
                assert!(rest.is_some_and(|rest| case.end.starts_with(rest)), "{name}, {user}: {fed:?}");
            }
            assert_eq!(chat.messages().len(), usize::from(case.first.contains("SYS")) + 6);
        }
    }
    for name in Template::builtin_names() {
        assert!(CASES.iter().any(|case| case.names.contains(name)), "{name} has no feed");
    }
}

#[test]
fn what_a_function_returned_is_fed_as_a_turn_of_its_own() {
    let header = "<|im_start|>user\nU1<|im_end|>\n<|im_start|>assistant\n";
    let case = case(
        &[],
        "</tool_call>",
        header,
        "</tool_call><|im_end|>\n<|im_start|>tool\n<tool_response>\nT\n</tool_response>\n<|im_end|>\n<|im_start|>assistant\n",
    );
    let (mut chat, log) = chat("chat-ml-tools", &case, "<tool_call>{}");
    chat.set_system_prompt(None);
    chat.user("U1");
    assert_eq!(chat.reply(&options()).unwrap().wait().unwrap().text, "<tool_call>{}");
    assert!(fed(&log).starts_with(&format!("{header}<tool_call>{{}}")));
    chat.append_message(Message::new("tool", "T"));
    chat.reply(&options()).unwrap().wait().unwrap();
    let fed = fed(&log);
    assert!(fed.starts_with(&format!("{}<tool_call>{{}}", case.second)), "{fed:?}");
}

/// D8: a template's stops become tokens of one model and stay strings of another, in whatever order they talk.
#[test]
fn stops_are_resolved_for_each_model_by_itself() {
    let json = r#"{"user": "${MESSAGE}", "stop": ["<|user|>"]}"#;
    let template = Template::nanollm("t.json", json).unwrap();
    let chat = |tokenizer: Tokenizer, says: Vec<u32>| {
        let limits = Limits { vocab: 273, ..limits() };
        let (fake, _) = Fake::new(limits, move |tokens| says.get((tokens.len() - 1) % 3).copied().unwrap_or(0));
        let model = NanoModel::with_runner(Box::new(fake), tokenizer, Some(template.clone())).unwrap();
        model.chat(ChatOptions::default()).unwrap()
    };
    let token = ids("<|user|>")[0];
    for _ in 0..2 {
        let mut one = chat(tokenizer("</s>"), vec![u32::from(b'a'), token]);
        one.user("U");
        let output = one.reply(&options()).unwrap().wait().unwrap();
        assert_eq!((output.text.as_str(), output.stop_token), ("a", Some(token)));
        // Here the same id is one of the words, and the stop is nine letters.
        let mut other = chat(common::tokenizer(false), vec![u32::from(b'a'), token, u32::from(b'b')]);
        other.user("U");
        let output = other.reply(&GenerateOptions { max_new_tokens: 6, ..options() }).unwrap().wait().unwrap();
        assert_eq!((output.stop_token, output.finish), (None, Finish::Length));
        assert!(output.text.starts_with('a') && output.text.len() > 6, "{:?}", output.text);
    }
}
