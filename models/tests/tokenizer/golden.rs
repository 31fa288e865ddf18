//! The same ids as the authors' code.

use super::*;
use nano_models::Control;

fn agrees(what: &str, tokenizer: &Tokenizer, control: Control, expected: &[Vec<u32>]) {
    let texts = texts();
    assert_eq!(texts.len(), expected.len());
    let wrong: Vec<_> = texts
        .iter()
        .zip(expected)
        .filter_map(|(text, expected)| {
            let found = tokenizer.encode(text, control).unwrap();
            (&found != expected).then(|| format!("\n  {text:?}\n    found    {found:?}\n    expected {expected:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{what}, {control:?}: {} of {} texts{}", wrong.len(), texts.len(), wrong.concat());
}

#[test]
fn tokenizer_json_gives_the_ids_of_the_tokenizers_package() {
    for name in HF.into_iter().chain(["unigram"]) {
        let (tokenizer, golden) = (hf(name), json(&format!("{name}.hf.json")));
        agrees(name, &tokenizer, Control::Parse, &ids(&golden, "parse"));
        agrees(name, &tokenizer, Control::Text, &ids(&golden, "text"));
    }
}

#[test]
fn gguf_vocabularies_give_the_ids_of_llama_cpp_and_sentencepiece() {
    for name in GGUF {
        let (tokenizer, golden) = (gguf(name), json(&format!("{name}.gguf.json")));
        agrees(name, &tokenizer, Control::Text, &ids(&golden, "text"));
        if golden.get("parse").is_some() {
            agrees(name, &tokenizer, Control::Parse, &ids(&golden, "parse"));
        }
    }
}

#[test]
fn a_real_vocabulary_gives_the_ids_of_llama_cpp() {
    let Some(path) = std::env::var_os("NANO_TEST_SMOLLM2") else {
        println!("skipped: NANO_TEST_SMOLLM2 names no model file");
        return;
    };
    let tokenizer = nano_models::open(path.as_ref()).unwrap().tokenizer().unwrap();
    let golden = json("smollm2.gguf.json");
    agrees("SmolLM2", &tokenizer, Control::Text, &ids(&golden, "text"));
    agrees("SmolLM2", &tokenizer, Control::Parse, &ids(&golden, "parse"));
    assert_eq!(tokenizer.stop(), [2, 0]);
    assert!(!tokenizer.add_bos());
    for text in texts() {
        assert_eq!(tokenizer.decode(&tokenizer.encode(&text, Control::Text).unwrap()).unwrap(), text);
    }
}

#[test]
fn the_authors_continue_a_text_as_we_do() {
    // After a control token no space is invented where the scheme is "first".
    let tokenizer = hf("llama2-first");
    for text in texts() {
        let whole = tokenizer.encode(&format!("<s>{text}"), Control::Parse).unwrap();
        assert_eq!(tokenizer.encode_next(&text).unwrap(), whole[1..], "{text:?}");
        assert_eq!(tokenizer.encode_after(whole[0], &text).unwrap(), whole[1..], "{text:?}");
    }
    // It is, where the normalizer does it; but never in the middle of a text.
    for tokenizer in [hf("llama2"), gguf("spm")] {
        let whole = tokenizer.encode("</s>hello", Control::Parse).unwrap();
        let spaced = tokenizer.encode("hello", Control::Parse).unwrap();
        assert_eq!(whole[1..], spaced);
        assert_eq!(tokenizer.encode_after(whole[0], "hello").unwrap(), spaced);
        let next = tokenizer.encode_next("hello").unwrap();
        assert_ne!(next, spaced);
        assert_eq!(tokenizer.encode_after(spaced[0], "hello").unwrap(), next);
        let inside: Vec<u8> = next.iter().flat_map(|&id| tokenizer.piece(id).unwrap()).collect();
        assert_eq!(inside, b"hello");
        // Behind a control token inside the continuing text, the usual rule holds.
        let later = tokenizer.encode_next("hello</s>hello").unwrap();
        assert_eq!(later, [next, whole].concat());
    }
}

#[test]
fn continuing_changes_nothing_where_no_space_is_invented() {
    for tokenizer in [gguf("smollm"), gguf("spm-no-prefix"), hf("llama3")] {
        for text in texts() {
            assert_eq!(tokenizer.encode_next(&text).unwrap(), tokenizer.encode(&text, Control::Parse).unwrap());
        }
    }
}

#[test]
fn files_say_what_begins_and_ends_a_text() {
    let llama3 = hf("llama3");
    assert_eq!(llama3.token_text(llama3.bos()), "<|begin_of_text|>");
    assert!(llama3.add_bos(), "the post-processor adds it");

    let config = r#"{"bos_token": {"content": "<s>"}, "eos_token": "</s>", "add_bos_token": true, "pad_token": "in"}"#;
    let config = Some(serde_json::from_str(config).unwrap());
    let smollm = Tokenizer::from_hf(HfVocab { config, stop: vec![4, 2], ..hf_vocab("smollm") }).unwrap();
    assert_eq!([smollm.bos(), smollm.eos()], [Some(3), Some(4)]);
    assert!(smollm.add_bos());
    assert_eq!(smollm.stop(), [4, 2, 0, 6], "eos, the given ones, and those known by spelling, each once");
    assert!(
        smollm.encode("in", Control::Parse).unwrap().iter().all(|&id| smollm.is_control(id)),
        "the configuration says so"
    );

    let plain = hf("smollm");
    assert_eq!((plain.bos(), plain.add_bos(), plain.token_text(None)), (None, false, String::new()));

    assert!(gguf("llama3").add_bos(), "the default of llama-bpe");
    assert!(!gguf("smollm").add_bos());
    assert!(gguf("spm").add_bos(), "the default of SentencePiece");
    let no = GgufVocab { add_bos: Some(false), ..gguf_vocab("spm") };
    assert!(!Tokenizer::from_gguf(no).unwrap().add_bos());
    let stop = GgufVocab { eot: Some(2), stop: vec![9, 4], ..gguf_vocab("smollm") };
    assert_eq!(Tokenizer::from_gguf(stop).unwrap().stop(), [4, 2, 9, 0, 6]);
}

#[test]
fn tokenizers_are_shared_between_threads() {
    fn shared<T: Send + Sync + Clone>(_: &T) {}
    let tokenizer = gguf("smollm");
    shared(&tokenizer);
    let expected = tokenizer.encode("hello world", Control::Parse).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(tokenizer.encode("hello world", Control::Parse).unwrap(), expected));
        }
    });
}
