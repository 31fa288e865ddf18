//! Which tokens are drawn: those that the constraint allows, whatever else is asked for.

use crate::common::*;
use crate::*;
use nano_kernels::Pick;
use nano_models::testing::Parrot;
use nano_runtime::{Device, Finish, ModelOptions, Sampling};

#[test]
fn the_model_says_what_it_would_where_it_may_and_something_else_where_not() {
    for (pattern, wish, said) in [
        ("yes|no", "yes", "yes"),
        // The runner finds all but its wish equally likely: the lowest token that is allowed.
        ("yes|no", "maybe", "no"),
        ("yes|no", "ya!", "yes"),
        ("(⟨Hello⟩|⟨bye⟩) [a-c]{2}", "⟨Hello⟩ zz", "Hello aa"),
        ("[a-z]{4}", "a-b-", "aaba"),
        (r"\d{3}", "12x", "120"),
        ("Hello world", "⟨Hello⟩⟨ world⟩", "Hello world"),
        ("Hello world", "⟨Hello⟩⟨bye⟩", "Hello world"),
    ] {
        let pattern = pattern.replace(['⟨', '⟩'], "");
        assert_eq!(text(wish, &regex(&pattern)), said, "{pattern} {wish}");
    }
}

#[test]
fn all_logits_are_asked_for_and_a_neighbour_still_goes_its_way() {
    let (mut fake, log) = Fake::new(limits(), says(1, tokens("maybe")));
    fake.picks = true;
    let model = fake.model(None);
    let bound = model.generate(tokens("x"), model.cache(), &regex("yes|no"));
    let free = model.generate(tokens("x"), model.cache(), &options());
    assert_eq!((bound.wait().unwrap().text.as_str(), free.wait().unwrap().text.as_str()), ("no", "maybe"));
    let steps = &log.lock().unwrap().steps;
    assert!(steps.iter().any(|step| step.pick == Pick::None), "{steps:?}");
}

#[test]
fn the_mask_comes_before_penalties_and_before_the_best_are_taken() {
    for change in [
        GenerateOptions { repetition_penalty: 5.0, presence_penalty: 1.0, frequency_penalty: 2.0, ..options() },
        GenerateOptions { sampling: Some(Sampling { top_k: 2, ..Sampling::default() }), ..options() },
        GenerateOptions {
            sampling: Some(Sampling { min_p: 0.9, temperature: 0.2, ..Sampling::default() }),
            ..options()
        },
        GenerateOptions { sampling: Some(Sampling { top_k: 0, top_p: 0.3, ..Sampling::default() }), ..options() },
    ] {
        for seed in 0..20 {
            let options = GenerateOptions { seed: Some(seed), ..change.clone() };
            let options = GenerateOptions { constraint: regex("[pq]{6}[^a-z]é").constraint, ..options };
            let said = text("zzzzzzzzz", &options);
            let (letters, rest) = said.split_at(6);
            assert!(letters.bytes().all(|b| matches!(b, b'p' | b'q')), "{said:?}");
            assert!(!rest.starts_with(|c: char| c.is_ascii_lowercase()) && rest.ends_with('é'), "{said:?}");
            assert_eq!(rest.chars().count(), 2, "{said:?}");
        }
    }
}

#[test]
fn characters_may_come_in_parts() {
    // A parenthesis and the first byte of é, in one token.
    let cut = || {
        let script = |tokens: &[u32]| [CUT, u32::from(b'!'), u32::from(b'!')][tokens.len() - 1];
        Fake::new(limits(), script).0.model(None)
    };
    for (pattern, said) in [(r"\)é", ")é"), (r"\)(é|ü)!", ")é!"), (r"\)[ü-ÿ]!", ")ü!")] {
        let model = cut();
        let output =
            model.generate(tokens("x"), model.cache(), &GenerateOptions { max_new_tokens: 3, ..regex(pattern) });
        let output = output.wait().unwrap();
        assert_eq!((output.tokens[0], output.text.as_str()), (CUT, said), "{pattern}");
    }
    assert_eq!(text("日x", &regex("日本")), "日本");
    assert_eq!(text("⟨ Ünder⟩", &regex(" Ünder(!)")), " Ünder!");
}

#[test]
fn control_tokens_are_no_text() {
    // The runner would say them; a pattern of anything lets none of them in.
    let said = |wish: &str, options: &GenerateOptions| written(wish, options).unwrap();
    let anything = GenerateOptions { max_new_tokens: 4, ..regex("(?s:.){2,8}") };
    for wish in ["<s>a<s>b", "<|im_start|>ab<|im_start|>", "</s>abc", "<|im_end|>abc"] {
        let output = said(wish, &anything);
        assert!(output.tokens.iter().all(|&token| !(BOS..=END).contains(&token)), "{wish}: {:?}", output.tokens);
    }
    // Their spelling is text, letter by letter.
    let output = said("x", &regex(r"<\|im_start\|>"));
    assert_eq!((output.text.as_str(), output.tokens), ("<|im_start|>", bytes("<|im_start|>")));
    // A grammar may ask for one by name or number.
    let output = said("zz", &grammar("start: \"a\" <|im_start|> \"b\" <[256]> \"c\""));
    assert_eq!((output.text.as_str(), output.tokens), ("abc", tokens("a<|im_start|>b<s>c")));
}

#[test]
fn a_grammar_counts_brackets() {
    let brackets = grammar("start: pair\npair: \"(\" pair* \")\"\n%ignore / /");
    assert_eq!(text("(()())x", &brackets), "(()())");
    assert_eq!(text("((()", &GenerateOptions { max_new_tokens: 5, ..brackets.clone() }), "((() ");
    // After the wish the runner ends, and may not yet.
    assert_eq!(written("(( )", &brackets).unwrap().text.replace(' ', "").chars().take(3).collect::<String>(), "(()");
}

#[test]
fn a_real_model_is_held_as_well() {
    let parrot = Parrot::new(&[&["Hello", " there", "!"]]).words(&["Bye", " now", "."]);
    let (_folder, path) = parrot.temp_gguf();
    let options = ModelOptions { threads: Some(1), device: Device::Cpu, ..ModelOptions::default() };
    let model = NanoModel::open(&path, options, |_| ()).unwrap();
    for (pattern, said) in
        [("Hello there!", "Hello there!"), ("Hello (now|there)[.!]", "Hello there!"), ("Bye now[.]", "Bye now.")]
    {
        let mut chat = model.chat(Default::default()).unwrap();
        chat.user("hi");
        let output = chat.reply(&regex(pattern)).unwrap().wait().unwrap();
        assert_eq!((output.text.as_str(), output.finish), (said, Finish::Stop));
    }
}
