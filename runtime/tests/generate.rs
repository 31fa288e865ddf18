//! Generations on a scripted runner: text, stops, limits, and what remains in the cache.

mod common;

use common::*;
use nano_runtime::{
    BotFunction, BotFunctions, Error, Event, Finish, GenerateOptions, Generation, Limits, NanoModel, Output, Sampling,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn model(reply: &str, prompt: usize) -> NanoModel {
    Fake::new(limits(), says(prompt, tokens(reply))).0.model(None)
}

fn start(model: &NanoModel, prompt: &str, options: GenerateOptions) -> Generation {
    model.generate(tokens(prompt), model.cache(), &options)
}

/// The texts of the events, and the output.
fn read(generation: Generation) -> (Vec<String>, Output) {
    let mut texts = Vec::new();
    for event in generation {
        match event.unwrap() {
            Event::Text(text) => texts.push(text),
            Event::Done(output) => {
                assert_eq!(texts.concat(), output.text);
                return (texts, *output);
            }
            other => panic!("{other:?}"),
        }
    }
    panic!("no end");
}

fn stop(text: &str) -> GenerateOptions {
    GenerateOptions { stop: vec![text.into()], ..options() }
}

/// D16.
#[test]
fn the_stream_and_the_blocking_variant_give_the_same() {
    let model = model("⟨Hello⟩⟨ world⟩!", 2);
    let (texts, streamed) = read(start(&model, "ab", options()));
    let waited = start(&model, "ab", options()).wait().unwrap();
    assert_eq!(texts, ["Hello", " world", "!"]);
    for output in [&streamed, &waited] {
        assert_eq!(output.text, "Hello world!");
        assert_eq!(output.tokens, tokens("⟨Hello⟩⟨ world⟩!</s>"));
        assert_eq!((output.finish, output.stop_token), (Finish::Stop, Some(EOS)));
        assert_eq!(output.cache.tokens(), tokens("ab⟨Hello⟩⟨ world⟩!"));
        assert_eq!(output.pending, [EOS]);
        let stats = output.stats;
        assert_eq!((stats.input_tokens, stats.reused_tokens, stats.output_tokens), (2, 0, 4));
        assert!(stats.first_token_time >= stats.prefill_time && stats.prefill_time > 0.0 && stats.decode_time > 0.0);
        assert!(stats.gb_s() > 0.0);
    }
}

#[test]
fn a_cache_goes_on_where_it_ended() {
    let (fake, log) = Fake::new(limits(), |tokens| tokens.len() as u32);
    let model = fake.model(None);
    let four = GenerateOptions { max_new_tokens: 4, ..options() };
    let output = model.generate(bytes("abc"), model.cache(), &four).wait().unwrap();
    assert_eq!((output.tokens, output.finish), (vec![3, 4, 5, 6], Finish::Length));
    assert_eq!((output.cache.len(), output.pending.clone()), (6, vec![6]));
    let again = model.generate(output.pending, output.cache, &four).wait().unwrap();
    assert_eq!(again.tokens, [7, 8, 9, 10]);
    assert_eq!((again.stats.input_tokens, again.stats.reused_tokens), (1, 6));
    // Every token had one row, once.
    assert_eq!(log.lock().unwrap().fed(), [bytes("abc"), (3..10).collect()].concat());
    // An empty prompt computes the last row again, for its logits.
    let last = model.generate(Vec::new(), again.cache, &four).wait().unwrap();
    assert_eq!((last.tokens[0], last.stats.reused_tokens), (10, 9));
}

/// D9.
#[test]
fn a_stop_string_is_found_wherever_tokens_cut_it() {
    // What is said, what is shown, rows of what is said that stay, and the pending tokens after them.
    for (reply, shown, rows, pending) in [
        ("ab###c", "ab", 2, ""),
        ("ab⟨##⟩#c", "ab", 2, ""),
        ("ab#⟨##⟩c", "ab", 2, ""),
        ("b⟨a#⟩⟨##⟩", "ba", 1, "a"),
        ("b⟨no!##⟩#", "bno!", 1, "no!"),
        ("⟨###b⟩", "", 0, ""),
        ("⟨one###⟩", "one", 0, "one"),
        ("a#b⟨##⟩⟨#x⟩", "a#b", 3, ""),
        ("⟨a#⟩⟨a#⟩⟨##⟩", "a#a", 1, "a"),
        ("é⟨###b⟩", "é", 2, ""),
    ] {
        let model = model(reply, 3);
        let (texts, output) = read(start(&model, "xyz", stop("###")));
        assert_eq!((output.text.as_str(), output.finish), (shown, Finish::Stop), "{reply}");
        assert!(texts.iter().all(|t| !t.contains("##")), "{reply}: {texts:?}");
        let said = tokens(reply);
        assert_eq!(output.cache.tokens(), [bytes("xyz"), said[..rows].to_vec()].concat(), "{reply}");
        assert_eq!((output.pending, output.stop_token), (tokens(pending), None), "{reply}");
        assert!(said.starts_with(&output.tokens), "{reply}: sampled tokens are kept as they were");
    }
}

#[test]
fn text_before_a_stop_string_that_shares_a_character_with_no_token_is_fed_again() {
    // The character is cut over tokens, and the last of them also begins the stop string: it is one token here.
    let said = [bytes(" "), vec![0xC3], vec![0x9C], bytes("#")].concat();
    let model = Fake::new(limits(), says(1, said)).0.model(None);
    let (_, output) = read(start(&model, "x", stop("Ü#")));
    assert_eq!((output.text.as_str(), output.cache.tokens()), (" ", &tokens("x ")[..]));
    assert!(output.pending.is_empty());
}

#[test]
fn what_is_held_back_is_released_when_the_length_ends_the_reply() {
    let model = model("ab⟨##⟩##", 1);
    let three = GenerateOptions { max_new_tokens: 3, ..stop("###") };
    let (texts, output) = read(start(&model, "x", three));
    assert_eq!((texts.as_slice(), output.finish), (&["a".into(), "b".into(), "##".into()][..], Finish::Length));
    // And a false start, as soon as it is known to be one.
    let model = self::model("a##b", 1);
    let (texts, _) = read(start(&model, "x", stop("###")));
    assert_eq!(texts, ["a", "##b"]);
}

/// D10.
#[test]
fn half_a_character_is_never_shown() {
    let model = Fake::new(limits(), says(1, bytes("aé🙂"))).0.model(None);
    let (texts, _) = read(start(&model, "x", options()));
    assert_eq!(texts, ["a", "é", "🙂"]);
    let two = GenerateOptions { max_new_tokens: 2, ..options() };
    let (texts, _) = read(start(&model, "x", two));
    assert_eq!(texts, ["a", "\u{FFFD}"]);
}

#[test]
fn stops_wait_for_min_new_tokens() {
    // The end-of-sequence token is masked, and of the rest, all equal, token 0 is the lowest.
    let min = |n| GenerateOptions { min_new_tokens: n, max_new_tokens: 6, ..stop("b") };
    let (_, output) = read(start(&model("", 1), "x", min(2)));
    assert_eq!((output.tokens, output.finish), (vec![0, 0, EOS], Finish::Stop));
    let (_, output) = read(start(&model("bb", 1), "x", min(1)));
    assert_eq!((output.text.as_str(), output.finish), ("b", Finish::Stop));
}

#[test]
fn ignore_eos_goes_on() {
    let all = GenerateOptions { ignore_eos: true, max_new_tokens: 4, ..options() };
    let (_, output) = read(start(&model("a", 1), "x", all.clone()));
    assert_eq!((output.tokens, output.finish), (vec![97, EOS, EOS, EOS], Finish::Length));
    // A stop that the caller names still counts, also as a token.
    let (_, output) =
        read(start(&model("a<|im_end|>b", 1), "x", GenerateOptions { stop: vec!["<|im_end|>".into()], ..all }));
    assert_eq!((output.text.as_str(), output.stop_token), ("a", Some(END)));
}

#[test]
fn the_context_ends_a_reply_and_refuses_a_prompt() {
    let small = Limits { context: 8, ..limits() };
    let (fake, log) = Fake::new(small, |tokens| tokens.len() as u32);
    let model = fake.model(None);
    let (_, output) = read(start(&model, "abcde", options()));
    assert_eq!((output.finish, output.cache.len(), output.pending), (Finish::Context, 8, vec![8]));
    let (_, output) = read(start(&model, "abcdefgh", options()));
    assert_eq!((output.finish, output.tokens), (Finish::Context, vec![8]));
    let rows = log.lock().unwrap().rows();
    let error = model.generate(vec![1], output.cache, &options()).wait().unwrap_err();
    assert!(matches!(error, Error::ContextFull { needed: 9, available: 8 }), "{error}");
    assert_eq!(log.lock().unwrap().rows(), rows, "nothing was fed");
}

#[test]
fn what_cannot_be_done_is_said_and_gives_the_cache_back() {
    let (model, other) = (model("", 1), model("", 1));
    let cache = start(&model, "abc", options()).wait().unwrap().cache;
    let bad = GenerateOptions { max_new_tokens: 0, ..options() };
    let mut generation = model.generate(vec![1], cache, &bad);
    assert!(matches!(generation.next(), Some(Err(Error::Option { name: "max_new_tokens", .. }))));
    assert!(generation.next().is_none());
    let cache = generation.into_cache();
    assert_eq!(cache.tokens(), bytes("abc"));
    assert!(matches!(other.generate(vec![1], cache, &options()).wait(), Err(Error::ForeignCache)));
    assert!(matches!(start(&model, "", options()).wait(), Err(Error::EmptyPrompt)));
    let vocab = limits().vocab;
    let token = model.generate(vec![vocab as u32], model.cache(), &options()).wait();
    assert!(matches!(token, Err(Error::Token { vocab: found, .. }) if found == vocab));
}

#[test]
fn options_out_of_range_are_named() {
    let sampling = |s: Sampling| GenerateOptions { sampling: Some(s), ..options() };
    for (options, name) in [
        (GenerateOptions { min_new_tokens: 129, ..options() }, "min_new_tokens"),
        (stop(""), "stop"),
        (GenerateOptions { repetition_penalty: 0.0, ..options() }, "repetition_penalty"),
        (GenerateOptions { presence_penalty: f32::NAN, ..options() }, "presence_penalty"),
        (GenerateOptions { frequency_penalty: f32::INFINITY, ..options() }, "frequency_penalty"),
        (sampling(Sampling { temperature: -1.0, ..Sampling::default() }), "temperature"),
        (sampling(Sampling { top_p: 0.0, ..Sampling::default() }), "top_p"),
        (sampling(Sampling { min_p: 1.5, ..Sampling::default() }), "min_p"),
    ] {
        let error = options.check().unwrap_err();
        assert!(matches!(error, Error::Option { name: found, .. } if found == name), "{error}");
    }
}

#[test]
fn a_completion_starts_with_bos_where_the_model_wants_it_and_takes_text_as_text() {
    for (add_bos, start) in [(false, ""), (true, "<s>")] {
        let (fake, log) = Fake::new(limits(), |_| EOS);
        let model = NanoModel::with_runner(Box::new(fake), tokenizer(add_bos), None).unwrap();
        model.complete("a<s>", &options()).unwrap().wait().unwrap();
        assert_eq!(log.lock().unwrap().fed(), [tokens(start), bytes("a<s>")].concat());
    }
}

/// D13.
#[test]
fn penalties_spare_control_tokens() {
    // Without the penalty "a" follows for ever; with it, once. The stop token was in the prompt and still ends it.
    let (fake, _) = Fake::new(limits(), |tokens| if tokens.len() < 4 { 97 } else { EOS });
    let model = fake.model(None);
    let options = GenerateOptions { repetition_penalty: 1e9, presence_penalty: 0.5, ..options() };
    let output = model.generate(vec![EOS, 1], model.cache(), &options).wait().unwrap();
    assert_eq!(output.tokens, [97, 0, EOS]);
}

#[test]
fn scores_give_the_logits_of_the_rows_asked_for() {
    let (fake, log) = Fake::new(limits(), |tokens| tokens.len() as u32);
    let model = fake.model(None);
    let mut found = Vec::new();
    model
        .score(&[7; 50], 20..45, |row, logits| found.push((row, logits.iter().position(|&l| l == 1.0).unwrap())))
        .unwrap();
    assert_eq!(found, (20..45).map(|row| (row, row + 1)).collect::<Vec<_>>());
    let log = log.lock().unwrap();
    assert_eq!((log.rows(), log.steps.iter().map(|s| s.logits).sum::<usize>()), (45, 25));
    assert!(matches!(model.score(&[], 0..1, |_, _| ()), Err(Error::EmptyPrompt)));
    assert!(matches!(model.score(&[1; 1025], 0..1025, |_, _| ()), Err(Error::ContextFull { .. })));
}

/// A function may hold the model that calls it. The last of its users is then the engine's own thread, when it lets go of
/// a generation that nobody reads any more.
#[test]
fn an_engine_may_be_the_last_to_hold_its_model() {
    let panics = Arc::new(AtomicUsize::new(0));
    let (seen, before) = (Arc::clone(&panics), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |panic| {
        // Only the engines of other tests panic, in a step.
        let of_a_step = panic.payload().downcast_ref::<&str>().is_some_and(|text| text.contains("fan"));
        seen.fetch_add(usize::from(!of_a_step), Ordering::Relaxed);
        before(panic);
    }));
    let (fake, log) = Fake::new(limits(), |_| 97);
    let (fake, gate) = gated(fake);
    let model = fake.model(None);
    let held = model.clone();
    let inner = BotFunction::closure("limit", "", [], move || held.limits().context);
    let functions = BotFunctions::new([inner]).unwrap();
    let generation = start(&model, "go", GenerateOptions { functions, ..options() });
    gate.reached();
    drop((generation, model));
    gate.open();
    while !log.lock().unwrap().dropped {
        std::thread::yield_now();
    }
    assert_eq!(panics.load(Ordering::Relaxed), 0);
}
