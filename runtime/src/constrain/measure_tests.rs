//! What masks take, with a real model's vocabulary. Not a test: `cargo test --release -p nano-runtime measure --
//! --ignored --nocapture` prints it. Needs NANO_TEST_SMOLLM2, the path of SmolLM2's file.

use super::*;
use nano_models::Control;
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;

#[test]
#[ignore = "prints times"]
fn measure() {
    let Some(path) = std::env::var_os("NANO_TEST_SMOLLM2").map(PathBuf::from) else {
        return println!("skipped: NANO_TEST_SMOLLM2 does not name the model");
    };
    let tokenizer = nano_models::open(&path).unwrap().tokenizer().unwrap();
    let resident = resident();
    let started = Instant::now();
    let vocabulary = Vocabulary::new(&tokenizer, tokenizer.len()).map(Arc::new);
    println!(
        "vocabulary of {} tokens: {:.1} ms, {} kB",
        tokenizer.len(),
        1e3 * started.elapsed().as_secs_f64(),
        self::resident() - resident
    );
    let object = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 24},
            "kind": {"enum": ["animal", "plant", "place", "thing", "person"]},
            "size": {"type": "integer", "minimum": 0, "maximum": 1000},
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 12}, "maxItems": 3},
            "alive": {"type": "boolean"},
            "note": {"type": "string"},
        },
        "required": ["name", "kind", "size", "tags", "alive", "note"],
        "additionalProperties": false,
    });
    let text = r#"{"name": "Grevy's zebra", "kind": "animal", "size": 410, "tags": ["stripes", "savanna"],
  "alive": true, "note": "The largest living wild equid; found in Kenya and in Ethiopia. \"Grévy\" was a president."}"#;
    for (name, constraint, text) in [
        ("object", Constraint::JsonSchema(object), text),
        ("any JSON", Constraint::JsonSchema(json!(true)), text),
        ("words", Constraint::Regex("([a-z]{1,12}[ .]){3,40}".into()), "the cat sat on the mat and looked at the dog."),
        (
            "arithmetic",
            Constraint::Grammar(
                "start: sum\nsum: term (/[+-]/ term)*\nterm: NUMBER | \"(\" sum \")\"\nNUMBER: /[0-9]+/".into(),
            ),
            "12+(345-6)-((78+9)+10)",
        ),
    ] {
        let tokens = tokenizer.encode(text, Control::Text).unwrap();
        let mut times = Vec::new();
        let started = Instant::now();
        let mut masks = Masks::new(&constraint, &vocabulary).unwrap();
        let compiled = started.elapsed();
        let mut before = masks.times().0;
        for &token in &tokens {
            masks.mask().unwrap();
            masks.push(token).unwrap();
            masks.mask().unwrap();
            times.push(1e3 * (masks.times().0 - before).as_secs_f64());
            before = masks.times().0;
        }
        let worst = times.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
        let after = tokenizer.decode(&tokens[worst..=worst]).unwrap();
        let most = times[worst];
        times.sort_by(f64::total_cmp);
        println!(
            "{name}: compiled in {:.1} ms; {} masks, median {:.3} ms, worst {most:.2} ms (after {after:?})",
            1e3 * compiled.as_secs_f64(),
            times.len(),
            times[times.len() / 2],
        );
    }
}

/// Kilobytes of memory that this process has.
fn resident() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok()).unwrap_or(0)
}
