//! Control tokens come from a template alone.

use super::*;
use nano_models::Control;

/// Every control spelling alone, doubled, cut short, among words and at borders.
fn attacks(tokenizer: &Tokenizer) -> Vec<String> {
    let spellings: Vec<String> = (0..tokenizer.len() as u32)
        .filter(|&id| tokenizer.is_control(id))
        .map(|id| tokenizer.token_text(Some(id)))
        .collect();
    assert!(spellings.len() >= 2);
    let mut out: Vec<String> = Vec::new();
    for s in &spellings {
        let (head, tail) = s.split_at(1);
        out.extend([
            s.clone(),
            format!("{s}{s}"),
            format!("hello{s}world"),
            format!(" {s} "),
            format!("\n{s}\n"),
            format!("{head}{s}{tail}"),
            format!("{head}\u{FDD0}{tail}"),
            format!("{head}\u{FDE0}{tail} \u{FDEF}"),
            format!("你{s}👋"),
        ]);
    }
    out.push(spellings.concat());
    out
}

#[test]
fn what_a_user_writes_never_becomes_a_control_token() {
    for (name, tokenizer) in all() {
        let unknown = tokenizer.encode("\u{10FFFF}", Control::Text).unwrap(); // a character may be unknown, which is no forgery
        for text in attacks(&tokenizer).into_iter().chain(texts()) {
            let direct = tokenizer.encode(&text, Control::Text).unwrap();
            assert!(
                direct.iter().all(|id| !tokenizer.is_control(*id) || unknown.contains(id)),
                "{name}: {text:?}: {direct:?}"
            );
            let hidden = tokenizer.hide_control(&text);
            assert_eq!(tokenizer.encode(&hidden, Control::Parse).unwrap(), direct, "{name}: {text:?}");
            assert_eq!(Tokenizer::show_control(&hidden), text);
        }
    }
}

#[test]
fn what_a_user_writes_comes_out_as_written() {
    for name in ["llama3", "smollm", "gpt2", "qwen2", "default", "spm", "spm-no-prefix"] {
        let tokenizer = gguf(name);
        for text in attacks(&tokenizer) {
            let ids = tokenizer.encode(&text, Control::Text).unwrap();
            assert_eq!(tokenizer.decode(&ids).unwrap(), text, "{name}");
        }
    }
}

#[test]
fn a_template_parses_around_a_user() {
    let tokenizer = gguf("smollm");
    let id = |text: &str| tokenizer.encode(text, Control::Parse).unwrap();
    let (start, end) = (id("<|im_start|>")[0], id("<|im_end|>")[0]);
    for text in attacks(&tokenizer).into_iter().chain(texts()) {
        let rendered = format!("<|im_start|>user\n{}<|im_end|>\n", tokenizer.hide_control(&text));
        let ids = tokenizer.encode(&rendered, Control::Parse).unwrap();
        assert_eq!((ids[0], ids.iter().filter(|&&i| i == start).count()), (start, 1), "{text:?}");
        assert_eq!(ids.iter().filter(|&&i| i == end).count(), 1, "{text:?}");
        // The rest is what a tokenizer gives that has no control tokens at all.
        let inside = tokenizer.encode(&format!("user\n{text}"), Control::Text).unwrap();
        assert_eq!(ids[1..ids.len() - 2], inside, "{text:?}");
    }
}

#[test]
fn a_vocabulary_without_the_control_token_agrees() {
    for name in ["llama3", "smollm", "gpt2", "qwen2", "default", "spm"] {
        let tokenizer = gguf(name);
        let mut vocab = gguf_vocab(name);
        for (text, kind) in vocab.tokens.iter_mut().zip(&mut vocab.types) {
            if *kind == 3 && !text.is_empty() {
                (*text, *kind) = (String::new(), 1);
            }
        }
        (vocab.bos, vocab.eos) = (None, None);
        let never = Tokenizer::from_gguf(vocab).unwrap();
        for text in attacks(&tokenizer).into_iter().chain(texts()) {
            let expected = never.encode(&text, Control::Text).unwrap();
            assert_eq!(tokenizer.encode(&text, Control::Text).unwrap(), expected, "{name}: {text:?}");
        }
    }
}

#[test]
fn no_merge_and_no_whole_word_is_a_way_in() {
    // Merges lead to a control token, and `llama-bpe` would take the whole word.
    let strings = |list: &[&str]| list.iter().map(|s| s.to_string()).collect::<Vec<_>>();
    let vocab = GgufVocab {
        model: "gpt2".into(),
        pre: Some("llama-bpe".into()),
        tokens: strings(&["S", "T", "ST", "P", "STP", "x"]),
        types: vec![1, 1, 1, 1, 3, 1],
        merges: strings(&["S T", "ST P"]),
        ..GgufVocab::default()
    };
    let tokenizer = Tokenizer::from_gguf(vocab).unwrap();
    assert_eq!(tokenizer.encode("STP", Control::Text).unwrap(), [2, 3]);
    assert_eq!(tokenizer.encode("xSTP", Control::Parse).unwrap(), [5, 4]);
    assert_eq!(tokenizer.encode(&tokenizer.hide_control("xSTP"), Control::Parse).unwrap(), [5, 2, 3]);

    let json = br#"{"added_tokens": [{"id": 4, "content": "STP", "special": true, "normalized": true}], "decoder": {"type": "ByteLevel"},
        "model": {"vocab": {"S": 0, "T": 1, "ST": 2, "P": 3, "STP": 4}, "merges": ["S T", "ST P"], "ignore_merges": true}}"#;
    let tokenizer = Tokenizer::from_hf(HfVocab { json: json.to_vec(), ..HfVocab::default() }).unwrap();
    assert_eq!(tokenizer.encode("STP", Control::Text).unwrap(), [2, 3]);
    assert_eq!(tokenizer.encode("STP", Control::Parse).unwrap(), [4]);
}

#[test]
fn one_letter_can_be_a_control_token() {
    let json = br#"{"added_tokens": [{"id": 2, "content": "x", "special": true}, {"id": 3, "content": "xa", "special": false, "normalized": false}],
        "model": {"vocab": {"a": 0, "b": 1}, "merges": [], "unk_token": "b"}}"#;
    let tokenizer = Tokenizer::from_hf(HfVocab { json: json.to_vec(), ..HfVocab::default() }).unwrap();
    let hidden = |text: &str| tokenizer.encode(&tokenizer.hide_control(text), Control::Parse).unwrap();
    assert_eq!(tokenizer.encode("axxa", Control::Parse).unwrap(), [0, 2, 3]);
    assert_eq!(hidden("ax"), [0, 1], "x is a character like any other, here an unknown one");
    assert_eq!(hidden("axa"), [0, 3], "and part of what is no control token");
    assert_eq!(tokenizer.encode("axa", Control::Text).unwrap(), [0, 3]);
}

#[test]
fn other_added_tokens_are_parsed_in_what_a_user_writes() {
    for tokenizer in [gguf("smollm"), hf("smollm")] {
        let id = |text: &str| tokenizer.encode(text, Control::Text).unwrap();
        let call = id("<tool_call>");
        assert_eq!(call.len(), 1);
        assert_eq!(id("a<tool_call>b"), [id("a"), call.clone(), id("b")].concat());
        // Also in a stretch in which something was hidden.
        let hidden = tokenizer.hide_control("<|im_end|><tool_call>");
        assert_eq!(tokenizer.encode(&hidden, Control::Parse).unwrap(), [id("<|im_end|>"), call].concat());
    }
}

/// A vocabulary of these control tokens and a letter.
fn marks(control: &[&str]) -> Tokenizer {
    let tokens: Vec<String> = control.iter().chain(&["a"]).map(|&text| text.to_owned()).collect();
    let types = (0..tokens.len()).map(|i| if i < control.len() { 3 } else { 1 }).collect();
    let scores = vec![0.0; tokens.len()];
    Tokenizer::from_gguf(GgufVocab { model: "llama".into(), tokens, types, scores, ..GgufVocab::default() }).unwrap()
}

#[test]
fn what_ends_a_turn_of_phi_ends_a_message_of_gpt_oss() {
    assert!(marks(&["<|end|>", "<|user|>"]).stop().contains(&0));
    let stop = marks(&["<|end|>", "<|call|>", "<|return|>"]).stop().to_vec();
    assert!(!stop.contains(&0) && stop.contains(&1) && stop.contains(&2), "{stop:?}");
}

#[test]
fn control_tokens_are_spelled_for_those_who_read_marks() {
    let tokenizer = marks(&["<|call|>"]);
    let (mut silent, mut spelled) = (tokenizer.detokenizer_inside(), tokenizer.detokenizer_inside().spelling_control());
    let said = |detokenizer: &mut nano_models::Detokenizer| [1, 0, 1, 99].map(|id| detokenizer.push(id)).concat();
    assert_eq!((said(&mut silent), said(&mut spelled)), ("aa".to_owned(), "a<|call|>a".to_owned()));
}
