//! Inputs that once did harm, or nearly: each target's folder under fuzz/regressions is run through its fuzz function.
//! Seeds made here, mutated with a fixed seed, run beside them, so that every test run fuzzes a little.

use nano_kernels::cpu::Cpu;
use nano_kernels::{Backend, Format, Group, HostTensor};
use nano_models::testing::{GgufWriter, TestTensor, Tiny, fuzz, safetensors};
use std::path::Path;

/// Runs every kept file of a target and says how many there were.
fn kept(target: &str, run: fn(&[u8])) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/regressions").join(target);
    let files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    for file in &files {
        eprintln!("{}", file.display());
        run(&std::fs::read(file).unwrap());
    }
    files.len()
}

/// Runs a seed cut at every byte (or every few, of a long one), then with bytes changed.
fn mutated(seed: &[u8], tries: usize, run: fn(&[u8])) {
    let step = seed.len().div_ceil(tries).max(1);
    for end in (0..=seed.len()).step_by(step) {
        run(&seed[..end]);
    }
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |n: usize| {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 33) as usize % n
    };
    for _ in 0..tries {
        let mut bytes = seed.to_vec();
        for _ in 0..=next(3) {
            let at = next(bytes.len());
            match next(4) {
                0 => bytes[at] ^= 1 << next(8),
                1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][next(5)],
                // A count or an offset that is absurd.
                2 => bytes.iter_mut().skip(at).take(8).for_each(|b| *b = 0xff),
                _ => {
                    bytes.remove(at);
                }
            }
        }
        run(&bytes);
    }
}

fn small_gguf() -> Vec<u8> {
    let tokens = ["a", "b", "ab", "<s>"].map(str::to_owned).to_vec();
    GgufWriter::new("llama")
        .value("llama.block_count", 1u32)
        .value("llama.a", vec![1.0f32, 2.0])
        .value("tokenizer.ggml.model", "gpt2")
        .value("tokenizer.ggml.pre", "gpt-2")
        .value("tokenizer.ggml.tokens", tokens)
        .value("tokenizer.ggml.token_type", vec![1, 1, 1, 3])
        .value("tokenizer.ggml.merges", vec!["a b".to_owned()])
        .value("tokenizer.ggml.eos_token_id", 3u32)
        .tensor(TestTensor::f32("one", &[2, 4], &[0.0; 8]))
        .tensor(TestTensor::f32("two", &[8], &[0.0; 8]))
        .bytes()
}

#[test]
fn gguf() {
    assert!(kept("gguf", fuzz::gguf) > 0);
    mutated(&small_gguf(), 3000, fuzz::gguf);
}

#[test]
fn shard() {
    assert!(kept("shard", fuzz::shard) > 0);
    let tensors = [TestTensor::f32("a", &[2, 2], &[0.0; 4]), TestTensor::f32("b", &[3], &[0.0; 3])];
    mutated(&safetensors(&tensors), 5000, fuzz::shard);
}

#[test]
fn torch() {
    assert!(kept("torch", fuzz::torch) > 0);
    mutated(include_bytes!("goldens/torch/tensors.bin"), 5000, fuzz::torch);
    mutated(include_bytes!("../fuzz/regressions/torch/good"), 5000, fuzz::torch);
}

#[test]
fn packed() {
    assert!(kept("packed", fuzz::packed) >= 3);
    for method in ["awq", "gptq", "compressed", "mxfp4", "woven-floats"] {
        let seed = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/regressions/packed").join(method));
        mutated(&seed.unwrap(), 2000, fuzz::packed);
    }
}

#[test]
fn mlc() {
    assert!(kept("mlc", fuzz::mlc) > 0);
    let seed = br#"{"records":[{"dataPath":"s.bin","records":[{"name":"a.q_weight","shape":[4,8],"dtype":"uint32","format":"raw","nbytes":128,"byteOffset":0},{"name":"b","shape":[3],"dtype":"float32","format":"f32-to-bf16","nbytes":6,"byteOffset":128}]}]}"#;
    mutated(seed, 5000, fuzz::mlc);
}

#[test]
fn adapter() {
    assert!(kept("adapter", fuzz::adapter) > 0);
    let json = br#"{"peft_type":"LORA","lora_alpha":4,"alpha_pattern":{"up_proj":2},"use_rslora":false}"#;
    let name = |module: &str, end: &str| format!("base_model.model.model.{module}.{end}");
    let up = "layers.0.mlp.up_proj";
    let tensors = [
        TestTensor::f32(&name(up, "lora_A.weight"), &[2, 6], &[1.0; 12]),
        TestTensor::f32(&name(up, "lora_B.weight"), &[8, 2], &[1.0; 16]),
        TestTensor::f32(&name(up, "lora_magnitude_vector"), &[8], &[1.0; 8]),
        TestTensor::f32(&name("embed_tokens", "lora_embedding_A"), &[2, 5], &[1.0; 10]),
        TestTensor::f32(&name("embed_tokens", "lora_embedding_B"), &[6, 2], &[1.0; 12]),
        TestTensor::f32(&name("norm", "weight"), &[6], &[1.0; 6]),
    ];
    mutated(&[&json[..], b"\n", &safetensors(&tensors)].concat(), 5000, fuzz::adapter);
}

#[test]
fn calibration() {
    assert!(kept("calibration", fuzz::calibration) > 0);
    let seed = GgufWriter::new("llama")
        .value("general.type", "imatrix")
        .tensor(TestTensor::f32("blk.0.attn_q.weight.in_sum2", &[1, 8], &[1.0; 8]))
        .tensor(TestTensor::f32("blk.0.attn_q.weight.counts", &[1, 1], &[3.0]))
        .bytes();
    mutated(&seed, 3000, fuzz::calibration);
}

#[test]
fn store() {
    assert!(kept("store", fuzz::store) > 0);
    let cpu = Cpu::new(1).unwrap();
    for format in [Format::Q8_0, Format::Int4(Group::G64), Format::F16] {
        let bytes = vec![0; 20 * format.row_bytes(64).unwrap()];
        let host = HostTensor::new("t", format, 20, 64, bytes.into()).unwrap();
        let mut seed = br#"{"stamp":"s","model":"m","format":"f","weights":[{"key":"k","at":8,"bytes":64,"hash":"0","step":1,"broken":[["t",2]],"reordered":[]}]}"#.to_vec();
        seed.push(b'\n');
        cpu.store_weight(&cpu.weight(&[host]).unwrap(), &mut seed).unwrap();
        // Half of the changes in what comes before the quants.
        mutated(&seed, 1000, fuzz::store);
        mutated(&seed[..seed.len().min(400)], 2000, fuzz::store);
    }
}

#[test]
fn index() {
    assert!(kept("index", fuzz::index) > 0);
    let seed =
        br#"{"metadata":{"total_size":12},"weight_map":{"a":"model-00001-of-00002.safetensors","b":"m2.safetensors"}}"#;
    mutated(seed, 5000, fuzz::index);
}

#[test]
fn tokenizer() {
    assert!(kept("tokenizer", fuzz::tokenizer) > 0);
    let folder = Tiny::default().folder(1);
    let (_, json) = folder.files.iter().find(|(name, _)| name == "tokenizer.json").unwrap();
    mutated(json, 60, fuzz::tokenizer);
}
