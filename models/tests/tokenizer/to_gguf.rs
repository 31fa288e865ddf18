//! A tokenizer.json written as the keys of a GGUF file: the same tokens, and a name for the way that words are cut.

use super::{file, gguf_vocab, hf, hf_vocab, texts};
use nano_models::{Control, HfVocab, Tokenizer};
use serde_json::Value;

#[test]
fn the_tokens_stay_the_same() {
    for (name, pre) in
        [("llama3", "llama-bpe"), ("smollm", "smollm"), ("gpt2", "gpt-2"), ("qwen2", "qwen2"), ("llama2", "default")]
    {
        let theirs = hf(name);
        let rows = theirs.len() + 3;
        let vocab = hf_vocab(name).to_gguf(rows).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(vocab.pre.as_deref(), Some(pre), "{name}");
        assert_eq!((vocab.tokens.len(), vocab.types.len()), (rows, rows));
        assert_eq!(vocab.tokens[rows - 1], format!("[PAD{}]", rows - 1));
        let ours = Tokenizer::from_gguf(vocab).unwrap();
        assert_eq!((ours.eos(), ours.add_bos()), (theirs.eos(), theirs.add_bos()), "{name}");
        // GGUF has one for pieces with scores where nothing is said.
        assert!(ours.bos() == theirs.bos() || theirs.bos().is_none(), "{name}: {:?}", ours.bos());
        // GGUF does not say that a token takes white space beside it along, or is no part of a word.
        for text in
            texts().into_iter().filter(|text| !["<mask>", "<sep>", "keyword"].iter().any(|odd| text.contains(odd)))
        {
            for control in [Control::Parse, Control::Text] {
                let tokens = |tokenizer: &Tokenizer| tokenizer.encode(&text, control).unwrap();
                assert_eq!(tokens(&ours), tokens(&theirs), "{name}: {text:?}");
            }
            assert_eq!(
                ours.decode(&ours.encode(&text, Control::Text).unwrap()).unwrap(),
                theirs.decode(&theirs.encode(&text, Control::Text).unwrap()).unwrap()
            );
        }
    }
}

#[test]
fn it_is_what_converters_write() {
    for name in ["smollm", "gpt2", "qwen2", "llama3"] {
        let theirs = gguf_vocab(name);
        let ours = hf_vocab(name).to_gguf(theirs.tokens.len()).unwrap();
        assert_eq!(ours.model, theirs.model, "{name}");
        assert_eq!(ours.pre, theirs.pre, "{name}");
        assert_eq!(ours.tokens, theirs.tokens, "{name}");
        assert_eq!(ours.types, theirs.types, "{name}");
        assert_eq!(ours.merges, theirs.merges, "{name}");
    }
}

#[test]
fn what_has_no_name_is_refused() {
    let path = file("qwen2.tokenizer.json");
    let mut json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    json["pre_tokenizer"] = serde_json::json!({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"String": "e"}, "behavior": "Isolated", "invert": false},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]});
    let vocab = HfVocab { path, json: json.to_string().into_bytes(), ..HfVocab::default() };
    let error = vocab.to_gguf(vocab_rows(&vocab)).unwrap_err().to_string();
    assert!(error.contains("has no name in GGUF") && error.contains("qwen2, "), "{error}");
    let error = hf_vocab("unigram").to_gguf(10).unwrap_err().to_string();
    assert!(error.contains("unigram.tokenizer.json: has no merges"), "{error}");
}

fn vocab_rows(vocab: &HfVocab) -> usize {
    Tokenizer::from_hf(vocab.clone()).unwrap().len()
}
