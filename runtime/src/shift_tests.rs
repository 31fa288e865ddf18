//! Rows that move up in a cache, on models of one layer with real arithmetic: there, where no row holds anything of the
//! rows before it, the rest must be what a fresh prefill computes, for every kind of rope.

use crate::runner::{Limits, Machine, Wanted};
use crate::{KvCache, ModelInfo, NanoModel};
use nano_kernels::{KvFormat, Pairing};
use nano_models::testing::{TempDir, Tiny};
use nano_models::{LoadOptions, RopeScaling, Spec};
use std::ops::Range;

const LIMITS: Limits = Limits { rows: 40, logits_rows: 4, sequences: 4, vocab: 0, pages: 16, context: 256 };

fn model(layers: usize, kv: KvFormat, change: impl FnOnce(&mut Spec)) -> NanoModel {
    let folder = TempDir::new("shift");
    let tiny = Tiny { layers, ..Tiny::default() };
    let checkpoint = nano_models::open(&folder.write("tiny.gguf", tiny.gguf())).unwrap();
    let mut spec = Spec::read(&*checkpoint).unwrap();
    change(&mut spec);
    let limits = Limits { vocab: spec.vocab, ..LIMITS };
    let options =
        LoadOptions { quantization: None, head: None, rows: limits.rows, logits_rows: limits.logits_rows, threads: 1 };
    let wanted = Wanted { checkpoint: &*checkpoint, spec: &spec, options: &options, kv, limits, packed: None };
    let runner = Machine::Cpu.load(&wanted, &mut |_| ()).unwrap().0;
    NanoModel::assemble(runner, checkpoint.tokenizer().unwrap(), None, ModelInfo::default()).unwrap()
}

fn tokens(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| (i * i * 7 + i * 3) % 250).collect()
}

/// Feeds tokens, and gives the logits after the last.
fn feed(model: &NanoModel, tokens: &[u32], cache: KvCache) -> (KvCache, Vec<f32>) {
    let (cache, logits) = model.0.logits(tokens, cache);
    (cache, logits.unwrap())
}

/// Mean square of the difference, in mean squares of `right`.
fn error(left: &[f32], right: &[f32]) -> f64 {
    let sum = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    let difference = sum(&mut left.iter().zip(right).map(|(&l, &r)| f64::from(l) - f64::from(r)));
    difference / sum(&mut right.iter().map(|&r| f64::from(r)))
}

/// How far the logits after `range` was taken out of 120 tokens are from those of a fresh prefill. A fork from before
/// must not notice.
fn taken_out(model: &NanoModel, range: Range<usize>) -> f64 {
    let all = tokens(120);
    let (mut cache, before) = feed(model, &all, model.cache());
    let fork = cache.fork();
    let (cache, done) = model.0.remove_rows(cache, range.clone());
    done.unwrap();
    let rest: Vec<u32> = [&all[..range.start], &all[range.end..]].concat();
    assert_eq!(cache.tokens(), rest);
    let next = [17, 4];
    let (cache, shifted) = feed(model, &next, cache);
    let (_, fresh) = feed(model, &[&rest[..], &next].concat(), model.cache());
    let (fork, after) = feed(model, &[], fork);
    assert_eq!((after, fork.tokens()), (before, &all[..]), "the fork's rows stay");
    drop((cache, fork));
    error(&shifted, &fresh)
}

#[test]
fn a_shift_is_a_fresh_prefill_where_rows_know_nothing_of_each_other() {
    let llama3 = RopeScaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 64.0 };
    // The context of these models is 256 tokens.
    let dynamic = RopeScaling::Dynamic { factor: 4.0, original: 64.0 };
    let (fast, slow, truncate) = (16.0, 1.0, true);
    let yarn = RopeScaling::Yarn { factor: 4.0, original: 64.0, fast, slow, truncate, attention: 1.25 };
    let long = RopeScaling::Long { short: vec![1.0; 8], long: vec![3.0; 8], original: 64, attention: 1.5 };
    for scaling in [RopeScaling::None, RopeScaling::Linear(4.0), llama3, dynamic, yarn, long] {
        for pairing in [Pairing::Halves, Pairing::Adjacent] {
            for dims in [16, 8] {
                let model = model(1, KvFormat::F32, |spec| {
                    spec.rope.scaling = scaling.clone();
                    spec.rope.pairing = pairing;
                    spec.rope.dims = dims;
                });
                // Within a page, across pages, whole pages, the beginning.
                for range in [10..20, 10..47, 32..64, 0..33, 3..119] {
                    let error = taken_out(&model, range.clone());
                    assert!(error < 1e-10, "{scaling:?} {pairing:?} {dims}, {range:?}: {error}");
                }
            }
        }
    }
}

#[test]
fn a_shift_of_half_precision_rows_is_as_exact_as_they_are() {
    for (kv, limit) in [(KvFormat::F16, 1e-5), (KvFormat::Q8, 1e-3)] {
        let error = taken_out(&model(1, kv, |_| ()), 10..47);
        assert!(error < limit, "{kv:?}: {error}");
    }
}

/// What the documentation says of a shift: rows computed while attending to the removed ones stay so.
#[test]
fn with_more_layers_rows_remember_what_was_removed() {
    let error = taken_out(&model(2, KvFormat::F32, |_| ()), 10..47);
    assert!(error > 1e-6, "{error}");
}
