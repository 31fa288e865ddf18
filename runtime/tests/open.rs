//! Loading small checkpoints, and conversations with them through everything that is real.

use nano_models::testing::{Parrot, TempDir, Tiny};
use nano_runtime::{
    ChatOptions, Device, Error, Finish, GenerateOptions, KvFormat, LoadEvent, ModelInfo, ModelOptions, NanoModel,
    Quantization, Sampling,
};
use std::path::Path;

fn open(path: &Path, options: ModelOptions) -> Result<(NanoModel, Vec<String>), Error> {
    let mut notices = Vec::new();
    let model = NanoModel::open(path, options, |event| {
        if let LoadEvent::Notice(notice) | LoadEvent::Template(notice) = event {
            notices.push(notice);
        }
    })?;
    Ok((model, notices))
}

fn options() -> ModelOptions {
    ModelOptions { threads: Some(1), device: Device::Cpu, ..ModelOptions::default() }
}

fn talk(model: &NanoModel) {
    let mut chat = model.chat(ChatOptions::default()).unwrap();
    for expected in ["Hello there!", "Bye.", "Hello there!"] {
        chat.user("hm");
        let output = chat.reply(&GenerateOptions::default()).unwrap().wait().unwrap();
        assert_eq!((output.text.as_str(), output.finish), (expected, Finish::Stop));
    }
}

fn parrot() -> Parrot {
    Parrot::new(&[&["Hello", " there", "!"], &["Bye", "."]])
}

#[test]
fn a_gguf_file_and_a_folder_talk() {
    let (_file, path) = parrot().temp_gguf();
    let (model, notices) = open(&path, options()).unwrap();
    assert!(notices.is_empty(), "{notices:?}");
    talk(&model);
    let info = model.info();
    assert_eq!((info.name.as_str(), info.context, info.device), ("parrot", 2048, "cpu"));
    assert!(info.memory.total_bytes > info.memory.weights_bytes && info.memory.kv_bytes_per_1k > 0);
    assert!(info.load_time > 0.0 && !info.formats.is_empty());
    assert_eq!(info.stop_tokens, model.tokenizer().stop());

    let folder = parrot().temp_folder();
    talk(&open(folder.path(), options()).unwrap().0);
    talk(&open(folder.path(), ModelOptions { quantization: Some(Quantization::Q8F16), ..options() }).unwrap().0);
}

#[test]
fn gpt_oss_talks_alike_from_both_containers() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/goldens/tiny/gpt-oss-mxfp4");
    let talk = |path: &Path| {
        let (model, _) = open(path, options()).unwrap();
        let mut chat = model.chat(ChatOptions::default()).unwrap();
        let options = GenerateOptions { max_new_tokens: 24, ..GenerateOptions::default() };
        ["the", "and the", "a"].map(|said| {
            let rows = chat.num_rows();
            chat.user(said);
            let output = chat.reply(&options).unwrap().wait().unwrap();
            assert_eq!(output.stats.reused_tokens, rows, "only what is new is fed");
            (output.tokens, output.text)
        })
    };
    let said = talk(&golden);
    assert!(said.iter().all(|(tokens, _)| tokens.len() > 2) && said[0] != said[2], "{said:?}");
    assert_eq!(said, talk(&golden.join("model.gguf")));
}

#[test]
fn a_model_is_told_from_others() {
    let (_file, path) = parrot().temp_gguf();
    let identity = |options: &ModelOptions| ModelInfo::read(&path, options).unwrap().identity.unwrap();
    let one = identity(&options());
    assert_eq!(open(&path, options()).unwrap().0.info().identity.as_ref(), Some(&one));
    assert_eq!((one.model.as_str(), one.quantization.as_str(), one.kv_format.as_str()), ("parrot", "none", "f16"));
    let other = ModelOptions { quantization: Some(Quantization::F32), ..options() };
    assert_eq!(
        identity(&other).difference(&one).unwrap(),
        "the quantization (none there, f32 here) and the KV cache's format (f16 there, f32 here)"
    );
    let (_file, path) = Parrot::new(&[&["Bye", "."]]).temp_gguf();
    let other = ModelInfo::read(&path, &options()).unwrap().identity.unwrap();
    assert_eq!(other.difference(&one).unwrap(), "the weights and the chat template");
}

#[test]
fn progress_ends_at_its_total() {
    let (_file, path) = parrot().temp_gguf();
    let mut last = (0, 0);
    NanoModel::open(&path, options(), |event| {
        if let LoadEvent::Progress { done, total } = event {
            assert!(done >= last.0 && done <= total);
            last = (done, total);
        }
    })
    .unwrap();
    assert!(last.1 > 0 && last.0 == last.1, "{last:?}");
}

#[test]
fn the_plan_comes_before_anything_is_loaded() {
    let (_file, path) = parrot().temp_gguf();
    let mut events = Vec::new();
    let model = NanoModel::open(&path, options(), |event| events.push(event)).unwrap();
    let info = model.info();
    let Some(LoadEvent::Plan { device, memory, context, budget }) = events.first() else { panic!("{events:?}") };
    assert_eq!((*device, *memory, *context), (info.device, info.memory, info.context));
    assert!(budget.is_some_and(|bytes| bytes >= memory.total_bytes), "{budget:?}");
    assert_eq!(events.iter().filter(|event| matches!(event, LoadEvent::Plan { .. })).count(), 1);
}

#[test]
fn info_is_read_without_weights() {
    let (_file, path) = parrot().temp_gguf();
    let info = ModelInfo::read(&path, &options()).unwrap();
    let (model, _) = open(&path, options()).unwrap();
    let loaded = model.info();
    assert_eq!(
        (info.memory, info.context, info.stop_tokens),
        (loaded.memory, loaded.context, loaded.stop_tokens.clone())
    );
}

#[test]
fn the_context_gives_way_to_memory_and_says_so() {
    let (_file, path) = parrot().temp_gguf();
    let memory = open(&path, options()).unwrap().0.info().memory;
    let tight = memory.weights_bytes + memory.workspace_bytes + memory.kv_bytes_per_1k;
    let (model, notices) = open(&path, ModelOptions { memory: Some(tight), ..options() }).unwrap();
    assert_eq!(model.info().context, 1024);
    assert!(notices.iter().any(|n| n.contains("1024 tokens instead of 2048")), "{notices:?}");
    talk(&model);

    let error = open(&path, ModelOptions { memory: Some(memory.weights_bytes), ..options() }).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::Memory { .. }) && error.to_string().contains("--memory"), "{error}");
}

#[test]
fn a_context_beyond_the_models_own_is_noticed() {
    let (_file, path) = parrot().context(64).temp_gguf();
    let (model, notices) = open(&path, ModelOptions { max_context_len: Some(100), ..options() }).unwrap();
    assert_eq!((model.info().context, notices.len()), (100, 1));
    let (model, _) = open(&path, ModelOptions { max_context_len: Some(40), ..options() }).unwrap();
    assert_eq!(model.limits().context, 40);
}

#[test]
fn what_cannot_be_loaded_is_an_error() {
    let (_file, path) = parrot().temp_gguf();
    for (options, name) in [
        (ModelOptions { threads: Some(0), ..ModelOptions::default() }, "threads"),
        (ModelOptions { max_context_len: Some(0), ..options() }, "max_context_len"),
        (ModelOptions { max_sequences: Some(0), ..options() }, "max_sequences"),
    ] {
        let error = open(&path, options).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Option { name: found, .. } if found == name), "{error}");
    }
    let missing = open(Path::new("no/such/model.gguf"), options()).map(|_| ()).unwrap_err();
    assert!(missing.to_string().contains("no/such/model.gguf"), "{missing}");
}

#[test]
fn a_gpu_is_taken_where_it_works_and_never_for_float32() {
    let (_file, path) = parrot().temp_gguf();
    match open(&path, ModelOptions { device: Device::Cuda, ..options() }) {
        Ok((model, _)) => talk(&model),
        Err(error) => {
            println!("skipped: no CUDA device: {error}");
            assert!(error.to_string().contains("--device cpu"), "{error}");
        }
    }
    let weights = ModelOptions { quantization: Some(Quantization::F32), ..options() };
    let cache = ModelOptions { kv_cache: Some(KvFormat::F32), ..options() };
    for (options, name) in [(weights, "quantization"), (cache, "kv_cache")] {
        let error = open(&path, ModelOptions { device: Device::Cuda, ..options.clone() }).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Option { name: found, .. } if found == name), "{error}");
        assert!(error.to_string().contains("take f16"), "{error}");
        let (model, _) = open(&path, ModelOptions { device: Device::Auto, ..options }).unwrap();
        assert_eq!(model.info().device, "cpu");
    }
}

#[test]
fn a_broken_template_of_the_models_own_gives_way_to_a_built_in_one() {
    let folder = TempDir::new("template");
    let tiny = Tiny { template: "{% for".into(), ..Tiny::default() };
    let path = folder.write("tiny.gguf", tiny.gguf());
    let (model, notices) = open(&path, options()).unwrap();
    let words = ["own chat template cannot be used", "chat-ml is taken, because the vocabulary has <|im_start|>"];
    assert!(notices.len() == 2 && notices.iter().zip(words).all(|(n, word)| n.contains(word)), "{notices:?}");
    assert_eq!(model.info().template.as_deref(), Some("chat-ml"));
    assert!(model.chat(ChatOptions::default()).is_ok());
    // What was asked for needs no word.
    let template = nano_runtime::Template::builtin("gemma");
    let (model, notices) = open(&path, ModelOptions { template, ..options() }).unwrap();
    assert_eq!((model.info().template.as_deref(), notices.len()), (Some("gemma"), 0));
}

#[test]
fn a_seed_gives_the_same_text_whatever_the_number_of_threads() {
    let folder = TempDir::new("threads");
    let path = folder.write("tiny.gguf", Tiny::default().gguf());
    let sampling = Sampling { temperature: 2.0, ..Sampling::default() };
    let seeded =
        GenerateOptions { sampling: Some(sampling), seed: Some(5), ignore_eos: true, ..GenerateOptions::default() };
    let tokens = |threads, kv| {
        let options = ModelOptions { threads: Some(threads), kv_cache: Some(kv), ..options() };
        let (model, _) = open(&path, options).unwrap();
        model.complete("hello world", &seeded).unwrap().wait().unwrap().tokens
    };
    for kv in [KvFormat::F16, KvFormat::F32, KvFormat::Q8] {
        let one = tokens(1, kv);
        assert_eq!(one.len(), 128);
        assert_eq!(one, tokens(2, kv));
        assert_eq!(one, tokens(3, kv));
    }
}

/// D7: the vocabulary, then the names.
#[test]
fn a_folder_without_a_template_gets_one_by_what_it_is() {
    let mut folder = Tiny::default().folder(2);
    folder.files.retain(|(name, _)| name != "tokenizer_config.json");
    let with_marks = folder.temp("plain");
    let (model, notices) = open(with_marks.path(), options()).unwrap();
    assert_eq!(model.info().template.as_deref(), Some("chat-ml"));
    assert!(notices.len() == 1 && notices[0].contains("no chat template of its own"), "{notices:?}");
    // The same without marks is a model that was never taught to chat.
    for (name, content) in &mut folder.files {
        if name == "tokenizer.json" {
            let text = String::from_utf8(content.clone()).unwrap();
            *content = text.replace("<|im_start|>", "<|m_start|>").into_bytes();
        }
    }
    let plain = folder.temp("plain");
    let (model, notices) = open(plain.path(), options()).unwrap();
    assert!(model.template().is_none() && notices.is_empty(), "{notices:?}");
    assert!(matches!(model.chat(ChatOptions::default()).map(|_| ()), Err(Error::NoTemplate { .. })));
    assert!(model.complete("a", &GenerateOptions::default()).unwrap().wait().is_ok());
    // The Hub's cache names folders after commits.
    let commit = plain.path().join("models--lmsys--vicuna-7b-v1.5/snapshots/0123456789abcdef");
    std::fs::create_dir_all(&commit).unwrap();
    folder.write(&commit);
    let (model, notices) = open(&commit, options()).unwrap();
    assert_eq!(model.info().template.as_deref(), Some("vicuna-v1"), "{notices:?}");
    assert!(notices.concat().contains("by the name \"vicuna-7b-v1.5\" alone"), "{notices:?}");
}
