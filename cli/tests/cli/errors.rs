//! Bad input: one clear error, a status from 1 to 99, and never a panic.

use super::harness::{HELLO, Model, Ran, nano, parrot, run};
use super::stand_in::StandIn;
use nano_models::testing::{Folder, TempDir};

/// Runs without a model of its own.
fn bare(dir: &TempDir, args: &[&str], env: &[(&str, &str)]) -> Ran {
    let mut command = nano(dir.path());
    command.args(args).envs(env.iter().copied());
    run(command, "hi\n")
}

#[test]
fn models_that_are_none() {
    let dir = TempDir::new("errors");
    let file = |name: &str, content: &[u8]| dir.write(name, content).to_str().unwrap().to_owned();
    let gguf = parrot().gguf();
    for (model, words) in [
        ("/nowhere/model.gguf".to_owned(), &["/nowhere/model.gguf"][..]),
        ("nowhere".to_owned(), &["nowhere"]),
        (file("empty.gguf", b""), &["empty.gguf"]),
        (file("magic.gguf", b"GGML and more bytes that follow"), &["magic.gguf"]),
        (file("cut.gguf", &gguf[..gguf.len() / 2]), &["cut.gguf"]),
        (file("head.gguf", &gguf[..100]), &["head.gguf"]),
        (dir.path().join("sub/../.").to_str().unwrap().to_owned(), &[]),
    ] {
        for command in ["chat", "info", "tokenize"] {
            bare(&dir, &[command, "--model", &model], &[]).failed_with(words);
        }
    }
    let folder = Folder::default().file("config.json", "{").temp("broken");
    let path = folder.path().to_str().unwrap();
    bare(&dir, &["--model", path], &[]).failed_with(&["config.json"]);
}

#[test]
fn the_hub_out_of_reach() {
    let dir = TempDir::new("hub");
    let args = ["info", "--model", "org/name"];
    bare(&dir, &args, &[("HF_HUB_OFFLINE", "1")]).failed_with(&["org/name", "HF_HUB_OFFLINE"]);
    // Nobody listens at this port.
    bare(&dir, &args, &[("HF_ENDPOINT", "http://127.0.0.1:9")]).failed_with(&["org/name"]);
    let file = dir.write("file", "");
    let cache = file.join("cache");
    bare(&dir, &args, &[("HF_HUB_CACHE", cache.to_str().unwrap())]).failed_with(&["cache", "HF_HUB_CACHE"]);
    bare(&dir, &["info", "--model", "org/name:weights.bin"], &[]).failed_with(&[".gguf"]);
}

#[test]
fn a_model_of_the_hub_is_fetched_once() {
    let dir = TempDir::new("hub");
    let hub = StandIn::new("org/name").file("parrot.gguf", &parrot().gguf()).start();
    let endpoint = hub.endpoint();
    let env = [("HF_ENDPOINT", endpoint.as_str())];
    let first = bare(&dir, &["--model", "org/name"], &env).succeeded();
    assert_eq!(first.text(), format!("{HELLO}\n"));
    assert!(first.stderr.contains("downloading parrot.gguf"), "{}", first.stderr);
    let asked = hub.requests().len();
    let second = bare(&dir, &["--model", "org/name:parrot.gguf"], &env).succeeded();
    assert_eq!((second.text(), hub.requests().len()), (format!("{HELLO}\n"), asked), "the network is left alone");
    assert!(!second.stderr.contains("downloading"), "{}", second.stderr);
}

#[test]
fn no_model_at_all() {
    let dir = TempDir::new("nothing");
    bare(&dir, &[], &[]).failed_with(&["--model"]);
    bare(&dir, &["frobnicate"], &[]).failed_with(&["frobnicate"]);
    bare(&dir, &["--model"], &[]).failed_with(&["--model"]);
}

#[test]
fn numbers_that_cannot_be() {
    let model = Model::new(&parrot());
    for args in [
        ["--max-new-tokens", "0"],
        ["--max-new-tokens", "-1"],
        ["--max-context-len", "0"],
        ["--threads", "0"],
        ["--temperature", "-1"],
        ["--top-p", "2"],
        ["--memory", "0"],
        ["--seed", "x"],
    ] {
        model.run(&args, "hi\n").failed_with(&[args[0]]);
    }
    model.run(&["--min-new-tokens", "5", "--max-new-tokens", "2"], "").failed_with(&["min_new_tokens", "5"]);
    model.run(&["--stop", ""], "").failed_with(&["stop"]);
    model.run(&["--memory", "1000"], "hi\n").failed_with(&["memory", "1000"]);
    if nano_runtime::Device::Cuda.gpu_report().is_err() {
        model.run(&["--device", "cuda"], "hi\n").failed_with(&["error: ", "--device cpu"]);
    }
    for (flag, name) in [("--quantization", "quantization"), ("--kv-cache", "kv_cache")] {
        let asked = ["--device", "cuda", flag, "f32"];
        model.run(&asked, "hi\n").failed_with(&[name, "float16", "take f16", "--device cpu"]);
    }
    model.run(&["bench", "-p", "0", "-n", "0"], "").failed_with(&["-p"]);
    model.run(&["bench", "-t", "0"], "").failed_with(&["--threads"]);
    model.run(&["perplexity", "--file", "/nowhere", "--context", "2"], "").failed_with(&["--context"]);
    let absurd = ["--max-new-tokens", "1000000000000", "--min-new-tokens", "999999999999"];
    let ran = model.run(&[&absurd[..], &["--stop", "there"]].concat(), "hi\n").succeeded();
    assert!(ran.text().starts_with("Hello there!"), "it goes on to the end of the context: {}", ran.stderr);
    // More than there is: taken as far as it goes, and said.
    let ran = model.run(&["--max-context-len", "1000000", "--memory", "40000000"], "hi\n").succeeded();
    assert_eq!(ran.text(), format!("{HELLO}\n"));
    assert!(ran.stderr.contains("context"), "{}", ran.stderr);
    let quiet = model.run(&["--max-context-len", "1000000", "--memory", "40000000", "--log-level", "error"], "");
    assert_eq!(quiet.succeeded().stderr, "");
}

#[test]
fn templates() {
    let model = Model::new(&parrot());
    let broken = model.dir.write("broken.jinja", "{% if %}");
    let raises = model.dir.write("raises.jinja", "{{ raise_exception('not today') }}");
    let json = model.dir.write("bad.json", r#"{"user": 1}"#);
    let with = |file: &str, stdin: &str| model.run(&["--chat-template", file], stdin);
    with("nonesuch", "").failed_with(&["nonesuch", "chat-ml", "llama-2", "llama-3", "vicuna-v1"]);
    with(broken.to_str().unwrap(), "").failed_with(&["broken.jinja"]);
    with(json.to_str().unwrap(), "").failed_with(&["bad.json"]);
    assert_eq!(with(raises.to_str().unwrap(), "hi\n").failed_with(&["not today"]).text(), "");
    let folder = parrot().folder();
    let files = folder.files.iter().filter(|(name, _)| name != "chat_template.jinja").cloned();
    let mut bare = Folder { files: files.collect() };
    for (name, content) in &mut bare.files {
        if name == "tokenizer_config.json" {
            let mut config: serde_json::Value = serde_json::from_slice(content).unwrap();
            config.as_object_mut().unwrap().remove("chat_template");
            *content = config.to_string().into_bytes();
        }
        // Nor a mark that speaks for a built-in one.
        if name == "tokenizer.json" {
            *content = String::from_utf8_lossy(content).replace("<|im_start|>", "<|m_start|>").into_bytes();
        }
    }
    let dir = bare.temp("no-template");
    let model = Model { path: dir.path().to_owned(), dir };
    model.run(&[], "hi\n").failed_with(&["no chat template", "--chat-template", "chat-ml"]);
    model.run(&["render", "--messages", "/nowhere"], "").failed_with(&["--chat-template"]);
    assert_eq!(model.run(&["complete", "-p", "Hello"], "").succeeded().text(), " there!\n");
}

#[test]
fn files_of_commands() {
    let model = Model::new(&parrot());
    let write = |name: &str, content: &[u8]| model.dir.write(name, content).to_str().unwrap().to_owned();
    let (not_json, object) = (write("a.json", b"["), write("b.json", b"{}"));
    let (no_role, text) = (write("c.json", br#"[{"content": "x"}]"#), write("d.txt", b"\xff\xfe"));
    for (args, words) in [
        (&["render", "--messages", "/nowhere.json"][..], &["/nowhere.json"][..]),
        (&["render", "--messages", &not_json], &["a.json"]),
        (&["render", "--messages", &object], &["b.json"]),
        (&["render", "--messages", &no_role], &["c.json", "role"]),
        (&["--prompt", &not_json], &["a.json"]),
        (&["--prompt", &text], &["d.txt", "UTF-8"]),
        (&["--system-prompt", &object], &["b.json"]),
        (&["tokenize", "--bos", "hi"], &["--bos"]),
        (&["detokenize", "1,x"], &["\"x\""]),
        (&["detokenize", "99999999"], &["99999999"]),
        (&["detokenize", "@/nowhere"], &["/nowhere"]),
        (&["logits", "--tokens", ""], &["empty"]),
        (&["logits", "--tokens", "1,-2"], &["-2"]),
        (&["logits", "--tokens", "99999999"], &["99999999"]),
        (&["logits", "--tokens", "1", "--generate", "1000000000000"], &["context"]),
        (&["logits", "--tokens-file", &not_json], &["a.json"]),
        (&["logits", "--tokens-file", &object], &["empty"]),
        (&["perplexity", "--file", "/nowhere"], &["/nowhere"]),
        (&["perplexity", "--file", &not_json], &["a.json", "tokens"]),
        (&["perplexity", "--file", &text], &["d.txt", "UTF-8"]),
        (&["complete", "--prompt", ""], &["empty"]),
    ] {
        model.run(args, "").failed_with(words);
    }
    model.run(&["tokenize"], b"ab\nc\xff").failed_with(&["line 2", "UTF-8"]);
    model.run(&["complete"], b"\xff").failed_with(&["UTF-8"]);
}
