//! The command line as users type it.

use super::*;
use nano_kernels::KvFormat;
use nano_runtime::{Device, Overflow, Sampling, ToolChoice, ToolFormat};

fn parsed(line: &str) -> Command {
    parse(line.split(' ').map(OsString::from)).unwrap_or_else(|e| panic!("{line}: {e}"))
}

fn chat(line: &str) -> ChatArgs {
    match parsed(line) {
        Command::Chat(args) => *args,
        other => panic!("{line}: {other:?}"),
    }
}

fn refused(line: &str) -> String {
    parse(line.split(' ').map(OsString::from)).map(|c| panic!("{line}: {c:?}")).unwrap_or_else(|e| e.to_string())
}

#[test]
fn the_definition_is_sound() {
    command().debug_assert();
}

#[test]
fn chat_is_the_default() {
    let args = chat("nano-chat --model m.gguf --prompt a -p b --max-context-len 100 --device cpu --threads 3");
    assert_eq!(
        (args.answerer.model.as_deref(), &args.prompt[..]),
        (Some("m.gguf"), &["a".to_owned(), "b".to_owned()][..])
    );
    assert_eq!((args.context.max_context_len, args.threads.threads), (Some(100), Some(3)));
    assert_eq!(args.answerer.machine.device, Device::Cpu);
    assert_eq!(chat("nano-chat chat -m m.gguf").answerer.model.as_deref(), Some("m.gguf"));
}

#[test]
fn defaults_are_those_of_nanollm() {
    let args = chat("nano-chat -m m");
    assert_eq!(args.generate.options(), nano_runtime::GenerateOptions::default());
    assert_eq!((args.prompt_color, args.reply_color), ("blue".parse().unwrap(), "green".parse().unwrap()));
    assert_eq!((args.chat_template.as_str(), args.log.level()), ("auto", LogLevel::Info));
    assert_eq!((args.overflow, args.reply_prefix.as_str(), args.session), (Overflow::Drop, "", None));
    assert!(args.functions.function.is_empty() && args.functions.functions.is_empty());
    let machine = &args.answerer.machine;
    assert!(machine.quantization.is_none() && machine.kv_cache.is_none() && machine.device == Device::Auto);
}

#[test]
fn a_sampling_flag_implies_sampling() {
    let default = Sampling::default();
    for (flag, sampling) in [
        ("--do-sample", default.clone()),
        ("--temperature 0.5", Sampling { temperature: 0.5, ..default.clone() }),
        ("--top-k 3", Sampling { top_k: 3, ..default.clone() }),
        ("--top-p 0.5", Sampling { top_p: 0.5, ..default.clone() }),
        ("--min-p 0.1", Sampling { min_p: 0.1, ..default.clone() }),
    ] {
        let options = chat(&format!("nano-chat -m m {flag}")).generate.options();
        assert_eq!(options.sampling, Some(sampling), "{flag}");
    }
    let options = chat("nano-chat -m m --repetition-penalty 1.2 --seed 5 --stop x --stop y").generate.options();
    assert_eq!((options.sampling, options.seed, options.stop.len()), (None, Some(5), 2));
}

#[test]
fn model_flags() {
    let args = chat("nano-chat -m m -q q4f16_ft --memory 2GiB --kv-cache q8 --debug");
    assert_eq!(args.answerer.machine.quantization, Some(Quantization::Q4F16));
    assert_eq!((args.answerer.machine.memory, args.answerer.machine.kv_cache), (Some(2 << 30), Some(KvFormat::Q8)));
    assert_eq!(args.log.level(), LogLevel::Debug);
}

#[test]
fn conversation_flags() {
    let args = chat("nano-chat -m m --overflow shift --reply-prefix -- --session s --function a,b --function c");
    assert_eq!((args.overflow, args.reply_prefix.as_str(), args.session), (Overflow::Shift, "--", Some("s".into())));
    assert_eq!(args.functions.function, ["a", "b", "c"]);
    let args = chat("nano-chat -m m --functions a.json --functions b,c.json");
    assert_eq!(args.functions.functions, [PathBuf::from("a.json"), PathBuf::from("b,c.json")]);
}

#[test]
fn flags_of_tools() {
    let args = chat("nano-chat -m m --function time --tools --tool-choice time --tool-format llama-3 --no-reasoning");
    assert_eq!(args.functions.tool_choice, Some(ToolChoice::Named("time".into())));
    assert_eq!((args.functions.tools, args.functions.tool_format), (true, Some(ToolFormat::Llama3)));
    assert_eq!((args.no_reasoning, args.functions.max_function_rounds), (true, None));
    assert!(chat("nano-chat -m m --function time --enable-tools").functions.tools, "as NanoLLM has it");
    let help = command().render_long_help().to_string();
    assert!(ToolFormat::ALL.iter().all(|format| help.contains(format.name())), "{help}");
    let args = chat("nano-chat -m m --max-function-rounds 0 --var enable_thinking=false --var n=1");
    assert_eq!(args.functions.max_function_rounds, Some(0));
    assert_eq!(args.var, [("enable_thinking".to_owned(), false.into()), ("n".to_owned(), 1.into())]);
}

#[test]
fn an_engine_needs_no_model_and_takes_no_flags_of_one() {
    let args = chat("nano-chat --engine http://host:8000/v1");
    assert_eq!((args.answerer.engine.as_deref(), args.answerer.model), (Some("http://host:8000/v1"), None));
    let args = chat("nano-chat chat --engine host:8000 -m name --max-context-len 100 --temperature 1 --overflow error");
    assert_eq!((args.answerer.model.as_deref(), args.context.max_context_len), (Some("name"), Some(100)));
    for line in [
        "--session s",
        "-q q4f16",
        "--device auto",
        "--memory 1G",
        "--kv-cache q8",
        "-t 2",
        "--chat-template auto",
        "--reply-prefix x",
        "--var a=1",
        "--tool-format json",
        "--min-new-tokens 1",
        "--regex x",
        "--grammar x",
    ] {
        let error = refused(&format!("nano-chat --engine host:8000 {line}"));
        assert!(error.contains("--engine") && error.contains("cannot be used with"), "{line}: {error}");
    }
    assert!(refused("nano-chat complete --engine host:8000").contains("--engine"));
}

#[test]
fn commands() {
    let Command::Bench(args) = parsed("nano-chat bench -m m -p 128,512 -n 0 -t 1,2 -r 3 --json") else { panic!() };
    assert_eq!((args.prompt_tokens, args.new_tokens, args.threads), (vec![128, 512], vec![0], Some(vec![1, 2])));
    assert_eq!((args.repetitions, args.json), (3, true));
    let Command::Perplexity(args) = parsed("nano-chat perplexity -m m -f t.txt") else { panic!() };
    assert_eq!(args.context, 512);
    let Command::Render(args) =
        parsed("nano-chat render --chat-template chat-ml --messages m.json --var a=1 --var b=true")
    else {
        panic!()
    };
    assert_eq!(args.var, [("a".to_owned(), 1.into()), ("b".to_owned(), true.into())]);
    let Command::Logits(args) = parsed("nano-chat logits -m m --tokens 1,2 --generate 4 --all") else { panic!() };
    assert_eq!((args.tokens.as_deref(), args.generate, args.all), (Some("1,2"), 4, true));
    let Command::Logits(args) = parsed("nano-chat logits -m m --session s") else { panic!() };
    assert_eq!((args.session, args.tokens), (Some("s".into()), None));
    let Command::Session(args) = parsed("nano-chat session s --json") else { panic!() };
    assert_eq!((args.file, args.json), (PathBuf::from("s"), true));
    assert!(matches!(parsed("nano-chat tokenize -m m --special --bos text"), Command::Tokenize(_)));
    assert!(matches!(parsed("nano-chat detokenize -m m 1,2,3"), Command::Detokenize(_)));
    assert!(matches!(parsed("nano-chat info -m m --json"), Command::Info(_)));
    assert!(matches!(parsed("nano-chat complete -m m -p x --json"), Command::Complete(_)));
}

#[test]
fn what_is_wrong_is_named() {
    for (line, flag) in [
        ("--max-new-tokens 0", "--max-new-tokens"),
        ("--max-new-tokens -5", "--max-new-tokens"),
        ("--max-new-tokens 99999999999999999999", "--max-new-tokens"),
        ("--min-new-tokens -1", "--min-new-tokens"),
        ("--max-context-len 0", "--max-context-len"),
        ("--threads 0", "--threads"),
        ("--threads x", "--threads"),
        ("--threads 100000", "--threads"),
        ("--temperature -1", "--temperature"),
        ("--temperature nan", "--temperature"),
        ("--top-p 0", "--top-p"),
        ("--top-p 1.5", "--top-p"),
        ("--min-p -0.1", "--min-p"),
        ("--top-k -3", "--top-k"),
        ("--repetition-penalty 0", "--repetition-penalty"),
        ("--memory 0", "--memory"),
        ("--memory lots", "--memory"),
        ("--kv-cache q4", "--kv-cache"),
        ("--device tpu", "--device"),
        ("--quantization q3", "--quantization"),
        ("--head q5", "--head"),
        ("--seed -1", "--seed"),
        ("--prompt-color pink", "--prompt-color"),
        ("--log-level loud", "--log-level"),
        ("--overflow never", "--overflow"),
        ("--modle m", "--modle"),
        ("--tool-format hermes-2", "deepseek ("),
        ("--max-function-rounds x", "--max-function-rounds"),
        ("--var thinking", "KEY=JSON"),
    ] {
        let error = refused(&format!("nano-chat --model m {line}"));
        assert!(error.contains(flag), "{line}: {error}");
    }
    assert!(refused("nano-chat --prompt hi").contains("--model"));
    assert!(refused("nano-chat --engine").contains("--engine"));
    assert!(refused("nano-chat logits -m m").contains("--tokens"));
    assert!(refused("nano-chat logits -m m --session s --tokens 1").contains("--session"));
    assert!(refused("nano-chat session").contains("<FILE>"));
    assert!(refused("nano-chat bench -m m -p -1").contains("-p"));
    assert!(refused("nano-chat perplexity -m m --file f --context 2").contains("--context"));
    assert!(refused("nano-chat render --messages f").contains("--model"));
}
