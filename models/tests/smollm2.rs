//! SmolLM2-135M-Instruct, the real file: in float32 its logits are those of transformers; in its own formats they are as
//! near to them as llama.cpp's. `NANO_TEST_SMOLLM2` names the file; without it these tests say so and pass.

mod session;

use nano_models::Quantization;
use serde_json::Value;
use session::{Session, argmax, floats, ids, nll};
use std::path::{Path, PathBuf};

fn golden(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/smollm2").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn model() -> Option<PathBuf> {
    let path = std::env::var_os("NANO_TEST_SMOLLM2").map(PathBuf::from);
    if path.is_none() {
        println!("skipped: NANO_TEST_SMOLLM2 does not name the model");
    }
    path
}

/// Noise over signal of the sampled logits.
fn nmse(logits: &[f32], case: &Value) -> f64 {
    let mean = case["mean"].as_f64().unwrap();
    let expected = floats(&case["sample_logits"]);
    let found = ids(&case["sample_ids"]);
    let noise: f64 = found.iter().zip(&expected).map(|(i, e)| ((logits[*i as usize] - e) as f64).powi(2)).sum();
    noise / expected.iter().map(|e| (*e as f64 - mean).powi(2)).sum::<f64>()
}

#[test]
fn float32_gives_the_logits_of_transformers() {
    let Some(path) = model() else { return };
    let mut session = Session::open(&path, Some(Quantization::F32), 2);
    for (name, case) in golden("transformers.json")["cases"].as_object().unwrap() {
        let tokens = ids(&case["tokens"]);
        session.fed = 0;
        let rows = session.feed(&tokens);
        let last = rows.last().unwrap();
        let limit = 1e-3 * case["std"].as_f64().unwrap() as f32;
        for (list, values) in [("top_ids", "top_logits"), ("sample_ids", "sample_logits")] {
            for (id, expected) in ids(&case[list]).iter().zip(floats(&case[values])) {
                let found = last[*id as usize];
                assert!((found - expected).abs() <= limit, "{name}: logit {id} is {found}, not {expected}");
            }
        }
        let sum: f64 = rows.iter().zip(&tokens[1..]).map(|(row, next)| nll(row, *next)).sum();
        let expected = case["nll_sum"].as_f64().unwrap();
        assert!((sum - expected).abs() <= 1e-4 * expected.max(1.0), "{name}: nll {sum}, not {expected}");
        let ties = ids(&case["pos_near_ties"]);
        for (at, (row, expected)) in rows.iter().zip(ids(&case["pos_argmax"])).enumerate() {
            assert!(argmax(row) == expected || ties.contains(&(at as u32)), "{name}: argmax after token {at}");
        }
    }
}

#[test]
fn the_files_own_formats_are_as_near_as_in_llama_cpp() {
    let Some(path) = model() else { return };
    let (exact, theirs) = (golden("transformers.json"), golden("llama.cpp.json"));
    let mut session = Session::open(&path, None, 2);
    let (mut ours_total, mut theirs_total) = (0.0, 0.0);
    for (name, case) in exact["cases"].as_object().unwrap() {
        let tokens = ids(&case["tokens"]);
        session.fed = 0;
        let rows = session.feed(&tokens);
        let ours = nmse(rows.last().unwrap(), case);
        assert!(ours < 0.08, "{name}: {ours}");
        ours_total += ours;
        theirs_total += theirs["cases"][name]["nmse_to_transformers"].as_f64().unwrap();
        let sum: f64 = rows.iter().zip(&tokens[1..]).map(|(row, next)| nll(row, *next)).sum();
        let expected = case["nll_sum"].as_f64().unwrap();
        assert!((sum - expected).abs() <= 0.02 * expected.max(1.0), "{name}: nll {sum}, exact {expected}");
    }
    assert!(ours_total < 1.5 * theirs_total, "{ours_total} against {theirs_total}");
}

#[test]
fn quantizing_on_load_keeps_the_meaning() {
    let Some(path) = model() else { return };
    let exact = golden("transformers.json");
    // 4 bits from values that had 4 bits of another kind: the worst that can be asked. A float checkpoint loses less.
    for (quantization, limit) in [(Quantization::F16, 1e-3), (Quantization::Q8F16, 0.01), (Quantization::Q4F16, 0.1)] {
        let mut session = Session::open(&path, Some(quantization), 2);
        let (mut sum, mut expected) = (0.0, 0.0);
        for (_, case) in exact["cases"].as_object().unwrap() {
            let tokens = ids(&case["tokens"]);
            session.fed = 0;
            sum += session.feed(&tokens).iter().zip(&tokens[1..]).map(|(row, next)| nll(row, *next)).sum::<f64>();
            expected += case["nll_sum"].as_f64().unwrap();
        }
        let loss = (sum / expected - 1.0).abs();
        assert!(loss < limit, "{}: nll {sum}, exact {expected}", quantization.name());
    }
}
