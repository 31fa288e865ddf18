//! Checkpoints that are not what they should be: each gives one error that names the tensor or key, and a damaged one a
//! warning. The right one, to begin with, loads.

use nano_kernels::cpu::Cpu;
use nano_kernels::{Backend, Format, KvFormat};
use nano_models::testing::{GgufWriter, TempDir, TestTensor};
use nano_models::{Decoder, LoadOptions, Quantization, Spec, checkpoint, open, plan};
use std::path::Path;

const DIM: usize = 32;

fn tensor(name: &str, rows: usize, cols: usize) -> TestTensor {
    let dims: &[usize] = if rows == 1 { &[cols] } else { &[rows, cols] };
    TestTensor::f32(name, dims, &vec![0.01; rows * cols])
}

fn tensors() -> Vec<TestTensor> {
    vec![
        tensor("token_embd.weight", 40, DIM),
        tensor("output_norm.weight", 1, DIM),
        tensor("blk.0.attn_norm.weight", 1, DIM),
        tensor("blk.0.attn_q.weight", 32, DIM),
        tensor("blk.0.attn_k.weight", 16, DIM),
        tensor("blk.0.attn_v.weight", 16, DIM),
        tensor("blk.0.attn_output.weight", DIM, 32),
        tensor("blk.0.ffn_norm.weight", 1, DIM),
        tensor("blk.0.ffn_gate.weight", 48, DIM),
        tensor("blk.0.ffn_up.weight", 48, DIM),
        tensor("blk.0.ffn_down.weight", DIM, 48),
    ]
}

fn numbers(architecture: &str) -> GgufWriter {
    let writer = GgufWriter::new(architecture);
    let key = |name: &str| format!("{architecture}.{name}");
    [
        ("block_count", 1u32),
        ("context_length", 64),
        ("embedding_length", DIM as u32),
        ("feed_forward_length", 48),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
    ]
    .into_iter()
    .fold(writer, |writer, (name, value)| writer.value(&key(name), value))
}

/// Loads a file; its notices, or the error.
fn load(
    numbers: GgufWriter,
    tensors: Vec<TestTensor>,
    quantization: Option<Quantization>,
) -> Result<Vec<String>, String> {
    let bytes = tensors.into_iter().fold(numbers, GgufWriter::tensor).bytes();
    let checkpoint = checkpoint::from_bytes(Path::new("m.gguf"), bytes).map_err(|e| e.to_string())?;
    let spec = Spec::read(&*checkpoint).map_err(|e| e.to_string())?;
    let mut cpu = Cpu::new(1).unwrap();
    let options = LoadOptions { quantization, head: None, rows: 4, logits_rows: 1, threads: 1 };
    let mut reports = 0;
    let decoder =
        Decoder::load(&*checkpoint, &mut cpu, &spec, &options, &mut |_| reports += 1).map_err(|e| e.to_string())?;
    assert!(reports >= 11, "progress is told after every tensor");
    Ok(decoder.notices().to_vec())
}

fn changed(change: impl Fn(&mut Vec<TestTensor>)) -> Result<Vec<String>, String> {
    let mut tensors = tensors();
    change(&mut tensors);
    load(numbers("llama"), tensors, None)
}

#[track_caller]
fn fails(result: Result<Vec<String>, String>, words: &[&str]) {
    let error = result.expect_err("an error is due");
    for word in words.iter().chain(&["m.gguf"]) {
        assert!(error.contains(word), "{word:?} is not in: {error}");
    }
}

#[test]
fn the_right_one_loads() {
    assert_eq!(changed(|_| ()), Ok(vec![]));
    for quantization in [Quantization::F32, Quantization::F16, Quantization::Q8F16, Quantization::Q4F16] {
        assert_eq!(load(numbers("llama"), tensors(), Some(quantization)), Ok(vec![]), "{}", quantization.name());
    }
}

#[test]
fn every_missing_tensor_is_named() {
    for i in 0..tensors().len() {
        let name = tensors()[i].name.clone();
        fails(changed(|t| drop(t.remove(i))), &[&name, "is missing"]);
    }
}

#[test]
fn every_wrong_shape_is_named() {
    for i in 1..tensors().len() {
        let name = tensors()[i].name.clone();
        let result = changed(|t| {
            let (rows, cols) = if t[i].dims.len() == 1 { (1, 64) } else { (t[i].dims[0] + 16, t[i].dims[1]) };
            t[i] = tensor(&name, rows, cols);
        });
        fails(result, &[&name, "the model's sizes make it"]);
    }
}

#[test]
fn tensors_that_nobody_uses_are_refused() {
    let result = changed(|t| t.extend([tensor("blk.0.attn_q_norm.weight", 1, 8), tensor("x.y", 1, 8)]));
    fails(result, &["blk.0.attn_q_norm.weight", "is not used by architecture llama", "1 more"]);
    // A second layer's tensors in a model of one layer are such, too.
    fails(changed(|t| t.push(tensor("blk.1.attn_norm.weight", 1, DIM))), &["blk.1.attn_norm.weight"]);
}

#[test]
fn values_that_are_no_numbers_are_told() {
    let notices = changed(|t| t[8].bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes())).unwrap();
    assert!(notices.len() == 1 && notices[0].contains("blk.0.ffn_gate.weight has 1 values"), "{notices:?}");
}

#[test]
fn conversions_are_told() {
    let with = |format: Format, quantization| {
        let mut tensors = tensors();
        tensors[8] = TestTensor { format, bytes: vec![0; 48 * format.row_bytes(DIM).unwrap()], ..tensors[8].clone() };
        load(numbers("llama"), tensors, quantization).unwrap()
    };
    assert_eq!(with(Format::Q4_1, None), [""; 0]);
    assert_eq!(with(Format::Q5_1, None), ["1 tensors of format Q5_1 were converted to Q8_0"]);
    assert_eq!(with(Format::Q4_1, Some(Quantization::F32)), [""; 0]);
    let again = with(Format::Q4_1, Some(Quantization::Q4F16));
    assert!(
        again.len() == 1 && again[0].contains("quantized already (Q4_1)") && again[0].contains("q4f16"),
        "{again:?}"
    );
}

#[test]
fn numbers_that_make_no_model_are_refused() {
    fails(load(numbers("mamba"), tensors(), None), &["general.architecture", "\"mamba\"", "known: llama, mistral"]);
    let with = |key: &str, value: u32| load(numbers("llama").value(key, value), tensors(), None);
    fails(with("llama.attention.key_length", 257), &["llama.attention.key_length", "257", "1 to 256"]);
    fails(with("llama.attention.key_length", 0), &["llama.attention.key_length"]);
    fails(with("llama.rope.dimension_count", 7), &["llama.rope.dimension_count", "7"]);
    fails(with("llama.rope.dimension_count", 64), &["llama.rope.dimension_count", "up to 8"]);
    let scaled = |kind: &str| load(numbers("llama").value("llama.rope.scaling.type", kind), tensors(), None);
    fails(scaled("alibi"), &["llama.rope.scaling.type", "alibi", "known: linear, dynamic, yarn, llama3, longrope"]);
    // These are spelled by tensors in GGUF.
    fails(scaled("llama3"), &["llama.rope.scaling.type"]);
    fails(scaled("longrope"), &["llama.rope.scaling.type"]);
    fails(scaled("linear"), &["llama.rope.scaling.factor", "is missing"]);
}

/// With three experts of width 16 in place of the MLP, in one of the ways that files keep them.
fn sparse(stacked: bool) -> Vec<TestTensor> {
    let mut all = tensors();
    all.retain(|t| !["ffn_gate.", "ffn_up.", "ffn_down."].iter().any(|part| t.name.contains(part)));
    all.push(tensor("blk.0.ffn_gate_inp.weight", 3, DIM));
    for (part, rows, cols) in [("gate", 16, DIM), ("up", 16, DIM), ("down", DIM, 16)] {
        match stacked {
            true => all.push(tensor(&format!("blk.0.ffn_{part}_exps.weight"), 3 * rows, cols)),
            false => all.extend((0..3).map(|e| tensor(&format!("blk.0.ffn_{part}.{e}.weight"), rows, cols))),
        }
    }
    all
}

fn sparse_numbers(count: u32, used: u32) -> GgufWriter {
    let width = numbers("llama").value("llama.expert_feed_forward_length", 16u32);
    width.value("llama.expert_count", count).value("llama.expert_used_count", used)
}

#[test]
fn experts_are_found_in_both_forms_and_named_where_they_are_not() {
    for stacked in [true, false] {
        for quantization in [None, Some(Quantization::Q8F16), Some(Quantization::Q4F16)] {
            assert_eq!(load(sparse_numbers(3, 2), sparse(stacked), quantization), Ok(vec![]));
        }
        for i in tensors().len() - 3..sparse(stacked).len() {
            let (mut less, mut wrong) = (sparse(stacked), sparse(stacked));
            let name = less.remove(i).name;
            let word = if name.contains("gate_inp") { "blk.0.ffn_gate" } else { &name };
            // Where nothing of one form is left, the other may be meant.
            let words: &[&str] = if stacked { &["missing", word] } else { &["missing", "blk.0.ffn_"] };
            fails(load(sparse_numbers(3, 2), less, None), words);
            wrong[i] = tensor(&name, 7, DIM);
            fails(load(sparse_numbers(3, 2), wrong, None), &[&name, "7 x 32"]);
        }
    }
    for used in [0, 4] {
        fails(load(sparse_numbers(3, used), sparse(true), None), &["expert_used_count", "1 to 3"]);
    }
}

#[test]
fn a_step_reads_the_chosen_experts_only() {
    let bytes = sparse(true).into_iter().fold(sparse_numbers(3, 1), GgufWriter::tensor).bytes();
    let checkpoint = checkpoint::from_bytes(Path::new("m.gguf"), bytes).unwrap();
    let spec = Spec::read(&*checkpoint).unwrap();
    let options = LoadOptions { quantization: None, head: None, rows: 4, logits_rows: 1, threads: 1 };
    let mut cpu = Cpu::new(1).unwrap();
    let decoder = Decoder::load(&*checkpoint, &mut cpu, &spec, &options, &mut |_| ()).unwrap();
    // Rows are packed by 16: the head, attention, router; gate, up and down of an expert.
    let (others, expert) = (4 * DIM as u64 * (48 + 64 + 32 + 16), 4 * DIM as u64 * 48);
    assert_eq!(decoder.step_bytes(), others + expert);
    let plan = plan::<Cpu>(&*checkpoint, &spec, &options, spec.page_layout(1, KvFormat::F16)).unwrap();
    assert_eq!(plan.weights_bytes, others + 3 * expert);
}

#[test]
fn biases_of_experts_are_planned() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/tiny/gpt-oss-mxfp4");
    for (path, stacked) in [(golden.clone(), 1), (golden.join("model.gguf"), 4)] {
        let checkpoint = open(&path).unwrap();
        let spec = Spec::read(&*checkpoint).unwrap();
        let options = LoadOptions { quantization: None, head: None, rows: 4, logits_rows: 1, threads: 1 };
        let mut expected = 0;
        for name in checkpoint.names() {
            let info = checkpoint.info(name).unwrap();
            let experts = name.contains("exp");
            expected += match name.ends_with(".bias") {
                true if experts => 4 * info.rows * info.cols,
                false if info.rows > 1 => {
                    let pieces = if experts { stacked } else { 1 };
                    pieces * Cpu::weight_bytes(Cpu::native(info.format), info.rows / pieces, info.cols)
                }
                _ => 0,
            };
        }
        let plan = plan::<Cpu>(&*checkpoint, &spec, &options, spec.page_layout(1, KvFormat::F16)).unwrap();
        assert_eq!(plan.weights_bytes, expected as u64, "{}", path.display());
    }
}

#[test]
fn gates_that_are_cut_elsewhere_are_refused() {
    let dir = TempDir::new("oss-gates");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/tiny/gpt-oss");
    let config = std::fs::read_to_string(golden.join("config.json")).unwrap();
    let read = |config: &str| {
        dir.write("config.json", config);
        std::fs::copy(golden.join("model.safetensors"), dir.path().join("model.safetensors")).unwrap();
        Spec::read(&*open(dir.path()).unwrap()).map(|_| ())
    };
    read(&config).unwrap();
    for (from, to, says) in [
        ("\"swiglu_limit\": 7.0", "\"swiglu_limit\": 5.0", "swiglu_limit is 5; only 7 is supported"),
        ("\"swiglu_limit\": 7.0", "\"swiglu_alpha\": 1.5", "swiglu_alpha is 1.5; only 1.702 is supported"),
    ] {
        let error = read(&config.replace(from, to)).unwrap_err().to_string();
        assert!(error.contains("config.json") && error.contains(says), "{error}");
    }
}
