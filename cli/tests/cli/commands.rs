//! The inspection commands, in the form that tests of this and of other projects rely on.

use super::harness::{HELLO, Model, nano, parrot, run};
use nano_models::testing::{Parrot, TempDir, Tiny};
use serde_json::{Value, json};

fn tiny() -> Model {
    let dir = TempDir::new("tiny");
    let path = dir.write("tiny.gguf", Tiny::default().gguf());
    Model { dir, path }
}

#[test]
fn tokenize_and_detokenize() {
    let parrot = parrot();
    let model = Model::new(&parrot);
    let id = |token: &str| parrot.id(token).unwrap();
    let ids = |args: &[&str], stdin: &str| model.run(&[&["tokenize"], args].concat(), stdin).succeeded().json();
    assert_eq!(ids(&["Hello there"], "ignored"), json!([id("Hello"), id(" there")]));
    assert_eq!(ids(&[], "Hello there\n"), json!([id("Hello"), id(" there"), id("\n")]), "stdin byte for byte");
    assert_eq!(ids(&["--special", "<|im_end|>"], ""), json!([id("<|im_end|>")]));
    assert_eq!(ids(&["<|im_end|>"], "").as_array().unwrap().len(), "<|im_end|>".len());
    assert_eq!(ids(&[""], ""), json!([]));
    let back = |ids: &str| model.run(&["detokenize", ids], "").succeeded();
    assert_eq!(back(&format!("{},{},{}", id("Hello"), id(" there"), id("!"))).text(), HELLO);
    assert_eq!(back(&id("<|im_end|>").to_string()).text(), "<|im_end|>");
    // The first half of a character is a byte and nothing more.
    assert_eq!(back(&id_of_byte(&model, "é")).stdout, b"\xc3");
    assert_eq!(model.run(&["detokenize"], format!("[{}]\n", id("Hello"))).succeeded().text(), "Hello");
    let file = model.dir.write("ids", format!("{}, {}", id("Bye"), id(".")));
    assert_eq!(back(&format!("@{}", file.display())).text(), "Bye.");
}

/// The first of the tokens of a character.
fn id_of_byte(model: &Model, text: &str) -> String {
    let ids = model.run(&["tokenize", text], "").succeeded().json();
    ids[0].to_string()
}

#[test]
fn render() {
    let model = Model::new(&parrot());
    let messages = model.dir.write("m.json", r#"[{"role": "user", "content": "hi"}]"#);
    let tools = model.dir.write("tools.json", r#"[{"type": "function", "function": {"name": "f"}}]"#);
    let messages = messages.to_str().unwrap();
    let chat_ml = |args: &[&str]| {
        let mut command = nano(model.dir.path());
        command.args(["render", "--chat-template", "chat-ml", "--messages", messages]).args(args);
        run(command, "").succeeded().text()
    };
    let prompt = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(chat_ml(&[]), prompt);
    assert_eq!(chat_ml(&["--no-generation-prompt"]), "<|im_start|>user\nhi<|im_end|>\n");
    let own = model.run(&["render", "--messages", messages], "").succeeded().text();
    assert_eq!(own, format!("{prompt}<|reply0|>"), "the model's own");
    let stdin = r#"[{"role": "user", "content": "from a pipe"}]"#;
    assert!(model.run(&["render", "--messages", "-"], stdin).succeeded().text().contains("from a pipe"));
    let jinja = model.dir.write("t.jinja", "{{ tools[0].function.name }} {{ n + 1 }} {{ s }} {{ eos_token }}");
    let args = ["render", "--messages", messages, "--chat-template", jinja.to_str().unwrap()];
    let vars = ["--tools", tools.to_str().unwrap(), "--var", "n=2", "--var", "s=\"x\""];
    assert_eq!(model.run(&[&args[..], &vars].concat(), "").succeeded().text(), "f 3 x <|im_end|>");
}

#[test]
fn info() {
    let model = Model::new(&parrot());
    let info = model.run(&["info", "--json"], "").succeeded().json();
    assert_eq!((&info["architecture"], &info["layers"]), (&json!("llama"), &json!(1)));
    let memory = &info["memory"];
    assert_eq!(memory["context"], 2048);
    let [weights, kv, total] = ["weights_bytes", "kv_bytes_per_1k", "total_bytes"].map(|n| memory[n].as_u64().unwrap());
    // One layer, one head of 64 values, keys and values in 16 bits.
    assert_eq!(kv, 1024 * 64 * 2 * 2);
    assert!(weights > 0 && total >= weights + 2 * kv, "{memory}");
    assert!(info["stop_tokens"].as_array().unwrap().iter().any(|t| t["text"] == "<|im_end|>"), "{info}");
    assert!(
        info["tensors"].as_array().unwrap().iter().any(|t| t["kind"] == "blk.*.attn_q.weight" && t["format"] == "F32")
    );
    let less = model.run(&["info", "--json", "--kv-cache", "q8", "--max-context-len", "100"], "").succeeded().json();
    assert!(less["memory"]["kv_bytes_per_1k"].as_u64().unwrap() < kv);
    assert_eq!(less["memory"]["context"], 100);
    let text = model.run(&["info"], "").succeeded().text();
    for word in ["llama", "blk.*.attn_q.weight", "<|im_end|>", "2048 tokens of context", "Hugging Face"] {
        assert_eq!(text.contains(word), word != "Hugging Face", "{word}: {text}");
    }
}

fn logits(model: &Model, args: &[&str]) -> Value {
    model.run(&[&["logits", "--quantization", "f32"], args].concat(), "").succeeded().json()
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn argmax(values: &[f64]) -> usize {
    (0..values.len()).rev().max_by(|&a, &b| values[a].total_cmp(&values[b])).unwrap()
}

fn nll(logits: &[f64], token: usize) -> f64 {
    logits.iter().map(|l| (l - logits[token]).exp()).sum::<f64>().ln()
}

#[test]
fn logits_agree_with_themselves() {
    let model = tiny();
    let ids = [10_usize, 65, 200, 33];
    // After one, two, three, four tokens: each run has its logits at the end.
    let ends: Vec<Value> = (1..=4)
        .map(|n| {
            let list: Vec<String> = ids[..n].iter().map(|id| id.to_string()).collect();
            logits(&model, &["--tokens", &list.join(",")])
        })
        .collect();
    let rows: Vec<Vec<f64>> = ends.iter().map(|e| floats(&e["logits"])).collect();
    assert!(ends[0].get("pos_argmax").is_none() && ends[0]["nll_sum"] == 0.0 && ends[0]["tokens"] == json!([]));
    let all = logits(&model, &["--tokens", "10,65,200,33", "--all", "--generate", "5"]);
    assert_eq!(all["input_ids"], json!(ids));
    assert_eq!(floats(&all["logits"]), rows[3], "incremental and at once");
    let expected: f64 = (0..3).map(|i| nll(&rows[i], ids[i + 1])).sum();
    assert!((all["nll_sum"].as_f64().unwrap() - expected).abs() < 1e-4, "{} {expected}", all["nll_sum"]);
    let best: Vec<usize> = rows.iter().map(|row| argmax(row)).collect();
    assert_eq!(all["pos_argmax"], json!(best));
    let tokens = all["tokens"].as_array().unwrap();
    assert_eq!((tokens.len(), &tokens[0]), (5, &json!(best[3])), "the end-of-sequence token ends nothing");

    let batch = model.dir.write("batch.json", r#"{"b": [10, 65, 200, 33], "a": [10]}"#);
    let batch = logits(&model, &["--tokens-file", batch.to_str().unwrap(), "--all", "--generate", "5"]);
    assert_eq!(batch["b"], all);
    assert_eq!(batch["a"]["logits"], ends[0]["logits"]);
    let list = model.dir.write("list", "[10, 65, 200, 33]");
    let list = format!("@{}", list.display());
    assert_eq!(logits(&model, &["--tokens", &list, "--all", "--generate", "5"]), all);
}

#[test]
fn generated_tokens_do_not_end() {
    let parrot = parrot();
    let model = Model::new(&parrot);
    let [hello, there, mark, end] = ["Hello", " there", "!", "<|im_end|>"].map(|t| parrot.id(t).unwrap());
    let all = logits(&model, &["--tokens", &hello.to_string(), "--generate", "5"]);
    assert_eq!(all["tokens"], json!([there, mark, end, end, end]));
}

#[test]
fn perplexity_of_a_text_that_is_known_by_heart() {
    let parrot = Parrot::new(&[&[" one", " two", " three"]]).endless();
    let model = Model::new(&parrot);
    let ppl = |text: String, context: &str| {
        let file = model.dir.write("text", text);
        model.run(&["perplexity", "--file", file.to_str().unwrap(), "--context", context], "").succeeded().json()
    };
    let sure = ppl(" one two three".repeat(20), "16");
    // 60 tokens are three windows of 16; of each, positions 8 to 14 are scored.
    assert_eq!(sure["tokens"], 21, "{sure}");
    assert!((sure["ppl"].as_f64().unwrap() - 1.0).abs() < 1e-3, "{sure}");
    let wrong = ppl(" three two one".repeat(20), "16");
    let (ppl, sum) = (wrong["ppl"].as_f64().unwrap(), wrong["nll_sum"].as_f64().unwrap());
    assert!((ppl.ln() - sum / wrong["tokens"].as_f64().unwrap()).abs() < 1e-6 && ppl > 100.0, "{wrong}");
}

#[test]
fn bench() {
    let model = Model::new(&parrot());
    let ran = model
        .run(&["bench", "--device", "cpu", "-p", "8,40", "-n", "4,0", "-t", "1,2", "-r", "2", "--json"], "")
        .succeeded()
        .json();
    let results = ran["results"].as_array().unwrap();
    let tests: Vec<(&str, u64)> =
        results.iter().map(|r| (r["test"].as_str().unwrap(), r["threads"].as_u64().unwrap())).collect();
    assert_eq!(tests, [("pp8", 1), ("pp40", 1), ("tg4", 1), ("pp8", 2), ("pp40", 2), ("tg4", 2)]);
    for result in results {
        let [median, min, max] = ["median", "min", "max"].map(|n| result["tok_s"][n].as_f64().unwrap());
        assert!(0.0 < min && min <= median && median <= max, "{result}");
        assert!(result["gb_s"].as_f64().unwrap() > 0.0 && result["bandwidth_pct"].as_f64().unwrap() > 0.0, "{result}");
    }
    let [load, first] = ["load_s", "first_token_s"].map(|n| ran[n].as_f64().unwrap());
    assert!(0.0 < load && load < first, "{ran}");
    assert!(ran["model"] == "parrot" && ran["device"].as_str().unwrap().starts_with("cpu"), "{ran}");
    assert!(ran["peak_rss_bytes"].as_u64().unwrap() > 1 << 20);
    let table = model.run(&["bench", "-p", "0", "-n", "4", "-t", "1", "-r", "1"], "").succeeded().text();
    assert!(table.contains("tg4") && !table.contains("pp"), "{table}");
}

#[test]
fn info_of_a_device() {
    let dir = TempDir::new("device");
    let with = |args: &[&str]| {
        let mut command = nano(dir.path());
        command.arg("info").args(args);
        run(command, "")
    };
    let cpu = with(&["--device", "cpu", "--json"]).succeeded().json();
    assert!(cpu["device"] == "cpu" && cpu["threads"].as_u64().unwrap() > 0, "{cpu}");
    assert!(cpu["read_gb_s"].as_f64().unwrap() > 0.0 && cpu["memory"]["free_bytes"].as_u64().unwrap() > 0, "{cpu}");
    let text = with(&["--device", "cpu"]).succeeded().text();
    assert!(text.starts_with("device        cpu, ") && text.contains("GB/s read by"), "{text}");
    match nano_runtime::Device::Cuda.gpu_report() {
        Ok(_) => {
            let gpu = with(&["--device", "cuda", "--json"]).succeeded().json();
            assert!(gpu["device"] == "cuda" && gpu["copy_gb_s"].as_f64().unwrap() > 1.0, "{gpu}");
            assert!(with(&["--device", "cuda"]).succeeded().text().contains("copies"));
        }
        Err(error) => {
            println!("skipped: no CUDA device: {error}");
            with(&["--device", "cuda"]).failed_with(&["--device cpu"]);
        }
    }
    with(&[]).failed_with(&["--model"]);
}

#[test]
fn version_and_help() {
    let dir = TempDir::new("version");
    let with = |args: &[&str]| {
        let mut command = nano(dir.path());
        command.args(args);
        run(command, "").succeeded().text()
    };
    let version = with(&["--version"]);
    assert!(version.starts_with(concat!("nano-chat ", env!("CARGO_PKG_VERSION"), " (")), "{version}");
    let help = with(&["--help"]);
    for word in ["Examples:", "--max-new-tokens", "[default: 128]", "perplexity", "Generation:", "stdout"] {
        assert!(help.contains(word), "{word}: {help}");
    }
    for command in
        ["chat", "complete", "info", "tokenize", "detokenize", "render", "logits", "session", "perplexity", "bench"]
    {
        assert!(with(&[command, "--help"]).contains("Usage:"), "{command}");
    }
}

#[test]
fn info_of_experts() {
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/goldens/tiny/qwen2-moe-mixed");
    let with = |more: &[&str]| {
        let mut command = nano(std::env::temp_dir().as_path());
        command.args(["info", "--device", "cpu", "--model", golden.to_str().unwrap()]).args(more);
        run(command, "").succeeded()
    };
    let text = with(&[]).text();
    assert!(text.contains("6 of width 16, 2 for each token, one of 48 for every token in 1 layer"), "{text}");
    let experts = &with(&["--json"]).json()["experts"];
    assert_eq!((&experts["count"], &experts["per_token"], &experts["layers"]), (&json!(6), &json!(2), &json!(1)));
}

#[test]
fn info_of_gpt_oss() {
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/goldens/tiny/gpt-oss-mxfp4");
    for (path, tensors) in [
        ("", "model.layers.*.mlp.experts.*.gate_proj.weight MXFP4 16 x [32 x 64]"),
        ("model.gguf", "blk.*.ffn_gate_exps.weight MXFP4 4 x [128 x 64]"),
    ] {
        let mut command = nano(std::env::temp_dir().as_path());
        command.args(["info", "--device", "cpu", "--model", golden.join(path).to_str().unwrap()]);
        let text = run(command, "").succeeded().text();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for says in
            ["gpt-oss", "4 of width 32, 2 for each token", "20 tokens in 2 layers", "scaling yarn, factor 4", tensors]
        {
            assert!(text.contains(says), "{says} in\n{text}");
        }
    }
}

#[test]
fn adapters_are_merged() {
    let goldens = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/goldens");
    let (base, lora, dora) = (goldens.join("tiny/plain"), goldens.join("lora/lora"), goldens.join("lora/dora"));
    let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let expected: Value = serde_json::from_slice(&std::fs::read(goldens.join("lora/expected.json")).unwrap()).unwrap();
    let case = &expected["cases"][2];
    let tokens: Vec<String> = case["tokens"].as_array().unwrap().iter().map(Value::to_string).collect();
    let model = tiny();
    let run_with = |adapters: &[String]| {
        let mut command = nano(model.dir.path());
        command.args(["logits", "--model", &path(&base), "--quantization", "f32", "--tokens", &tokens.join(",")]);
        for adapter in adapters {
            command.args(["--lora", adapter]);
        }
        run(command, "")
    };
    let found = run_with(&[format!("{}:0.5", path(&lora)), path(&dora)]).succeeded().json();
    let limit = 1e-3 * case["logits_std"].as_f64().unwrap();
    for (found, expected) in floats(&found["logits"]).iter().zip(floats(&case["logits"])) {
        assert!((found - expected).abs() < limit, "{found} {expected}");
    }
    run_with(&[path(&base)]).failed_with(&["adapter_config.json", "--lora"]);
    run_with(&[":2".into()]).failed_with(&["--lora", "PATH:scale"]);
}

#[test]
fn a_checkpoint_without_a_tokenizer_will_do_for_ids() {
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/goldens/tiny/plain");
    let model = tiny();
    let folder = model.dir.path().join("weights-only");
    std::fs::create_dir(&folder).unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(golden.join(file), folder.join(file)).unwrap();
    }
    let folder = folder.to_str().unwrap();
    let expected: Value = serde_json::from_slice(&std::fs::read(golden.join("expected.json")).unwrap()).unwrap();
    let case = &expected["cases"][1];
    let tokens: Vec<String> = case["tokens"].as_array().unwrap().iter().map(Value::to_string).collect();
    let args =
        ["logits", "--model", folder, "--quantization", "f32", "--generate", "32", "--tokens", &tokens.join(",")];
    let run_with = |args: &[&str]| {
        let mut command = nano(model.dir.path());
        command.args(args);
        run(command, "")
    };
    let found = run_with(&args).succeeded().json();
    assert_eq!(found["tokens"], case["greedy"]["tokens"]);
    let limit = 1e-3 * case["logits_std"].as_f64().unwrap();
    for (found, expected) in floats(&found["logits"]).iter().zip(floats(&case["logits"])) {
        assert!((found - expected).abs() < limit, "{found} {expected}");
    }
    let info = run_with(&["info", "--model", folder, "--json"]).succeeded().json();
    assert_eq!(info["architecture"], "llama");
    // To chat, a tokenizer is needed.
    run_with(&["--model", folder, "--prompt", "Hi"]).failed_with(&["tokenizer.json"]);
}
