//! Tiny checkpoints, packed by the code of the tools that made those of users (`scripts/golden_packed.py`): every value is
//! the one that the tool reads, logits are those of transformers, and what the backend multiplies as it is comes near.

use crate::session::{Session, argmax, floats, ids};
use nano_kernels::cpu::Cpu;
use nano_kernels::{Backend, Format, Group};
use nano_models::{Decoder, LoadOptions, Quantization, Spec, open};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The checkpoints, with the formats that their quantized weights are held in.
pub const CASES: [(&str, Format); 36] = [
    ("awq", Format::Int4(Group::G32)),
    ("awq-symmetric", Format::Int4(Group::G64)),
    ("awq-128", Format::Int4(Group::G128)),
    ("awq-experts", Format::Int4(Group::G32)),
    ("gptq", Format::Int4(Group::G32)),
    ("gptq-order", Format::Int4(Group::G32)),
    ("gptq-8", Format::Int8(Group::G64)),
    ("gptq-v2", Format::Int8(Group::G32)),
    ("gptq-experts", Format::Int4(Group::G32)),
    ("compressed", Format::Int4(Group::G64)),
    ("compressed-asymmetric", Format::Int4(Group::G32)),
    ("compressed-order", Format::Int4(Group::G32)),
    ("compressed-8", Format::Int8(Group::G64)),
    ("mlc-0", Format::Int4(Group::G32)),
    ("mlc-1", Format::Int4(Group::G32)),
    ("mlc-gemma", Format::Int4(Group::G32)),
    ("mlc-gemma2", Format::Int4(Group::G32)),
    ("mlc-stablelm", Format::Int4(Group::G32)),
    ("mlc-phi2", Format::Int4(Group::G32)),
    ("mlc-first-phi2", Format::Int4(Group::G32)),
    ("awq-qwen3", Format::Int4(Group::G32)),
    ("awq-gemma", Format::Int4(Group::G32)),
    ("awq-phi3", Format::Int4(Group::G32)),
    ("awq-mixtral", Format::Int4(Group::G32)),
    ("awq-granite", Format::Int4(Group::G32)),
    ("gptq-gemma2", Format::Int4(Group::G32)),
    ("gptq-phi2", Format::Int4(Group::G32)),
    ("gptq-qwen2-moe", Format::Int4(Group::G32)),
    ("gptq-smollm3", Format::Int4(Group::G32)),
    ("gptq-ministral", Format::Int4(Group::G32)),
    ("gptq-stablelm", Format::Int4(Group::G32)),
    ("gptq-olmo2", Format::Int4(Group::G32)),
    ("compressed-gemma3", Format::Int4(Group::G32)),
    ("compressed-olmoe", Format::Int4(Group::G32)),
    ("compressed-stablelm-12b", Format::Int4(Group::G32)),
    ("compressed-phi3-long", Format::Int4(Group::G32)),
];

pub fn golden(name: &str) -> (PathBuf, Value) {
    // Cargo says where the crate is; whoever runs this program elsewhere says it in cargo's stead.
    let root = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let folder = Path::new(&root).join("tests/goldens/packed").join(name);
    let bytes = std::fs::read(folder.join("expected.json")).unwrap();
    (folder, serde_json::from_slice(&bytes).unwrap())
}

/// The sum over i of (2 i + 1) times the bits of value i.
fn digest(values: &[f32]) -> u64 {
    let term = |(i, value): (usize, &f32)| (2 * i as u64 + 1).wrapping_mul(u64::from(value.to_bits()));
    values.iter().enumerate().map(term).fold(0, u64::wrapping_add)
}

#[test]
fn every_value_is_what_the_tool_reads() {
    for (name, format) in CASES {
        let (folder, expected) = golden(name);
        let checkpoint = open(&folder).unwrap();
        let expected = expected["tensors"].as_object().unwrap();
        assert_eq!(checkpoint.names(), expected.keys().map(String::as_str).collect::<Vec<_>>(), "{name}");
        let mut quantized = 0;
        for (tensor, expected) in expected {
            let info = checkpoint.info(tensor).unwrap();
            let found = checkpoint.tensor(tensor).unwrap().unwrap();
            let shape = (expected[0].as_u64().unwrap() as usize, expected[1].as_u64().unwrap() as usize);
            assert_eq!((info.rows, info.cols), shape, "{name}: {tensor}");
            assert_eq!((found.format, found.rows, found.cols), (info.format, info.rows, info.cols), "{name}: {tensor}");
            assert_eq!(digest(&found.to_f32()).to_string(), expected[2].as_str().unwrap(), "{name}: {tensor}");
            // Rows of 96 fit in no longer groups than 32.
            let narrow = info.cols == 96 && info.format.block_len() == 32;
            quantized += usize::from(info.format == format || narrow && info.format.block_len() > 1);
        }
        assert!(quantized >= 7, "{name}: {quantized} tensors are {format}");
        assert!(checkpoint.notices().is_empty(), "{name}: {:?}", checkpoint.notices());
    }
}

/// Σ(error²) / Σ(value²) of the logits after each case's last token, of cases of up to `longest` tokens.
pub fn errors<B: Backend>(
    what: &str,
    session: &mut Session<B>,
    expected: &Value,
    tolerance: Option<f32>,
    longest: usize,
) -> f64 {
    let (mut error, mut square) = (0.0, 0.0);
    for case in expected["cases"].as_array().unwrap() {
        session.fed = 0;
        let tokens = ids(&case["tokens"]);
        if tokens.len() > longest {
            continue;
        }
        let rows = session.feed(&tokens);
        let (found, logits) = (rows.last().unwrap(), floats(&case["logits"]));
        assert_eq!(found.len(), logits.len(), "{what}");
        for (f, e) in found.iter().zip(&logits) {
            error += f64::from(f - e).powi(2);
            square += f64::from(*e).powi(2);
        }
        let Some(tolerance) = tolerance else { continue };
        let limit = tolerance * case["logits_std"].as_f64().unwrap() as f32;
        let worst = found.iter().zip(&logits).map(|(f, e)| (f - e).abs()).fold(0.0, f32::max);
        assert!(worst <= limit, "{what}, {} tokens: off by {worst:e}, limit {limit:e}", tokens.len());
        let best: Vec<u32> = rows.iter().map(|row| argmax(row)).collect();
        assert_eq!(best, ids(&case["pos_argmax"]), "{what}: argmax after each of {} tokens", tokens.len());
    }
    error / square
}

#[test]
fn logits_are_those_of_transformers() {
    for (name, _) in CASES {
        let (folder, expected) = golden(name);
        let mut exact = Session::open(&folder, Some(Quantization::F32), 2);
        errors(&format!("{name} as F32"), &mut exact, &expected, Some(1e-3), usize::MAX);
        // Weights as they are, activations in 8 bits.
        let found = errors(name, &mut Session::open(&folder, None, 2), &expected, None, usize::MAX);
        println!("{name}: {found:e}");
        assert!(found < 2e-3, "{name}: {found:e}");
    }
}

#[test]
fn parts_whose_inputs_lie_in_other_orders_are_held_as_floats() {
    let notices = |name: &str, quantization| {
        let checkpoint = open(&golden(name).0).unwrap();
        let mut backend = Cpu::new(1).unwrap();
        let spec = Spec::read(&*checkpoint).unwrap();
        let options = LoadOptions { quantization, head: None, rows: 8, logits_rows: 1, threads: 1 };
        Decoder::load(&*checkpoint, &mut backend, &spec, &options, &mut |_| ()).unwrap().notices().to_vec()
    };
    let found = notices("gptq-order", None);
    assert_eq!(
        found,
        [
            "tensor model.layers.1.self_attn.q_proj.weight and 2 other tensors: held as F32, because tensors that are read \
          with it have their columns in another order"
        ]
    );
    assert!(notices("gptq-v2", None).is_empty());
    let again = notices("gptq-v2", Some(Quantization::Q4F16));
    assert!(again[0].starts_with("the checkpoint is quantized already (INT8-G32)"), "{again:?}");
}
