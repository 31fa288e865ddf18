//! Tiny checkpoints, made by the models' authors' code: logits, greedy tokens and sums of negative log likelihoods must
//! be theirs, from both containers, fed at once and step by step.

mod session;

use nano_models::Quantization;
use serde_json::Value;
use session::{Session, argmax, floats, ids, nll};
use std::path::{Path, PathBuf};

fn goldens() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/tiny");
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    found.sort();
    assert!(found.len() >= 12, "the goldens are there");
    found
}

/// Checks one case; the tolerance is a share of the logits' standard deviation.
fn check(what: &str, session: &mut Session, case: &Value, tolerance: f32) {
    session.fed = 0;
    let tokens = ids(&case["tokens"]);
    let rows = session.feed(&tokens);
    let limit = tolerance * case["logits_std"].as_f64().unwrap() as f32;
    let near = |found: &[f32], expected: &Value, when: &str| {
        let expected = floats(expected);
        assert_eq!(found.len(), expected.len());
        let worst = found.iter().zip(&expected).map(|(f, e)| (f - e).abs()).fold(0.0, f32::max);
        assert!(worst <= limit, "{what} {} tokens {when}: off by {worst:e}, limit {limit:e}", tokens.len());
    };
    near(rows.last().unwrap(), &case["logits"], "at once");
    let found: Vec<u32> = rows.iter().map(|row| argmax(row)).collect();
    assert_eq!(found, ids(&case["pos_argmax"]), "{what}: argmax after each of {} tokens", tokens.len());
    let sum: f64 = rows.iter().zip(&tokens[1..]).map(|(row, next)| nll(row, *next)).sum();
    let expected = case["nll_sum"].as_f64().unwrap();
    assert!((sum - expected).abs() <= 1e-3 * expected.max(1.0), "{what}: nll {sum}, not {expected}");

    let mut next = argmax(rows.last().unwrap());
    let mut said = Vec::new();
    for expected in ids(&case["greedy"]["tokens"]) {
        assert_eq!(next, expected, "{what}: greedy token {}", said.len());
        said.push(next);
        let row = session.feed(&[next]).pop().unwrap();
        next = argmax(&row);
        if said.len() == 32 {
            near(&row, &case["greedy"]["logits"], "after 32 greedy tokens");
        }
    }

    // Step by step, the same bits.
    session.fed = 0;
    for (i, token) in tokens.iter().enumerate() {
        let row = session.feed(&[*token]).pop().unwrap();
        assert!(row == rows[i], "{what}: row {i} of {} differs when fed alone", tokens.len());
    }
}

const HF_ONLY: &[&str] = &["gemma3-images", "ministral", "new-gemma3", "qwen2-moe-mixed", "qwen2-window"];

#[test]
fn tiny_checkpoints_give_their_authors_logits() {
    for folder in goldens() {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let expected: Value = serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap();
        // Not all that config.json says can be said in GGUF.
        let gguf = Some(folder.join("model.gguf")).filter(|path| path.exists());
        assert!(gguf.is_some() || HF_ONLY.contains(&name.as_str()), "{name} has a GGUF file");
        for (container, path, threads) in [("folder", Some(folder.clone()), 1), ("GGUF", gguf, 2)] {
            let Some(path) = path else { continue };
            let what = format!("{name} ({container})");
            let mut session = Session::open(&path, Some(Quantization::F32), threads);
            for case in expected["cases"].as_array().unwrap() {
                check(&what, &mut session, case, 1e-3);
            }
        }
    }
}
