//! Tests of the sampler, against a slow and plain definition.

use super::*;

fn logits(n: usize, seed: u64) -> Vec<f32> {
    let mut random = Random(seed);
    (0..n).map(|_| (random.unit() * 20.0 - 10.0) as f32).collect()
}

fn kept(logits: &[f32], sampling: &Sampling) -> Vec<u32> {
    let mut candidates = Vec::new();
    select(&mut candidates, logits, logits[argmax(logits).unwrap()], sampling);
    let mut tokens: Vec<u32> = candidates.iter().map(|c| c.token).collect();
    tokens.sort_unstable();
    tokens
}

/// Sorts everything.
fn plain(logits: &[f32], sampling: &Sampling) -> Vec<u32> {
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
    if sampling.top_k > 0 {
        order.truncate(sampling.top_k);
    }
    let max = logits[order[0] as usize];
    let weight = |t: u32| f64::from(((logits[t as usize] - max) / sampling.temperature).exp());
    let whole: f64 = order.iter().map(|&t| weight(t)).sum();
    let mut sum = 0.0;
    let end = order.iter().position(|&t| {
        sum += weight(t);
        sum >= whole * f64::from(sampling.top_p)
    });
    if sampling.top_p < 1.0 {
        order.truncate(end.unwrap() + 1);
    }
    order.retain(|&t| weight(t) >= f64::from(sampling.min_p));
    order.sort_unstable();
    order
}

#[test]
fn selects_what_a_full_sort_selects() {
    for n in [1, 7, 300, 5_000] {
        for seed in 0..5 {
            let logits = logits(n, seed);
            for (top_k, top_p, min_p) in [
                (0, 1.0, 0.0),
                (40, 1.0, 0.0),
                (0, 0.9, 0.0),
                (0, 0.9999, 0.0),
                (0, 1.0, 0.1),
                (40, 0.8, 0.05),
                (600, 0.99, 0.0),
            ] {
                for temperature in [0.5, 8.0] {
                    let sampling = Sampling { temperature, top_k, top_p, min_p };
                    assert_eq!(kept(&logits, &sampling), plain(&logits, &sampling), "{n} {seed} {sampling:?}");
                }
            }
        }
    }
}

#[test]
fn ties_at_the_edge_go_to_the_lowest_ids() {
    let logits = vec![1.0; 2_000];
    assert_eq!(kept(&logits, &Sampling { top_k: 3, top_p: 1.0, ..Sampling::default() }), [0, 1, 2]);
    assert_eq!(argmax(&[0.0, 3.0, 3.0]).unwrap(), 1);
}

#[test]
fn frequencies_follow_the_probabilities() {
    let logits: Vec<f32> = [0.5f32, 0.3, 0.2].iter().map(|p| p.ln()).collect();
    let sampling = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0 };
    let options = GenerateOptions { sampling: Some(sampling), seed: Some(1), ..GenerateOptions::default() };
    let mut sampler = Sampler::new(&options);
    let mut counts = [0u32; 3];
    (0..20_000).for_each(|_| counts[sampler.sample(Logits::All(&logits), &[], None).unwrap() as usize] += 1);
    for (count, share) in counts.iter().zip([0.5, 0.3, 0.2]) {
        assert!((f64::from(*count) / 20_000.0 - share).abs() < 0.015, "{counts:?}");
    }
}

#[test]
fn a_seed_repeats_its_draws() {
    let draws = |seed| {
        let options = GenerateOptions { sampling: Some(Sampling::default()), seed, ..GenerateOptions::default() };
        let mut sampler = Sampler::new(&options);
        (0..64).map(|i| sampler.sample(Logits::All(&logits(100, i)), &[], None).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(draws(Some(7)), draws(Some(7)));
    assert_ne!(draws(Some(7)), draws(Some(8)));
    assert_ne!(draws(None), draws(None));
}

/// The best, as a machine gives them.
fn best(logits: &[f32], count: usize) -> Vec<Picked> {
    let mut all: Vec<Picked> = logits.iter().zip(0..).map(|(&logit, id)| Picked { id, logit }).collect();
    all.sort_by(|a, b| (b.logit + 0.0).total_cmp(&(a.logit + 0.0)).then(a.id.cmp(&b.id)));
    all.truncate(count);
    all
}

#[test]
fn the_best_are_drawn_from_as_all_would_be() {
    for (top_k, temperature, top_p, min_p) in [
        (40, 0.7, 0.95, 0.0),
        (64, 8.0, 1.0, 0.0),
        (2, 8.0, 0.6, 0.0),
        (30, 3.0, 1.0, 0.2),
        (1, 1.0, 1.0, 0.0),
        (9, 0.0, 1.0, 0.0),
    ] {
        let sampling = Some(Sampling { temperature, top_k, top_p, min_p });
        let options = GenerateOptions { sampling, seed: Some(11), ..GenerateOptions::default() };
        let (mut with_all, mut with_best) = (Sampler::new(&options), Sampler::new(&options));
        for round in 0..200 {
            let mut logits = logits(300, round);
            match round % 4 {
                // Ties, at the edge too; zeros of both signs; few that are possible.
                1 => logits.iter_mut().for_each(|l| *l = l.round()),
                2 => logits.iter_mut().enumerate().for_each(|(i, l)| *l = if i % 3 == 0 { -0.0 } else { 0.0 * *l }),
                3 => logits[5..].fill(f32::NEG_INFINITY),
                _ => {}
            }
            let count = with_best.needs(300, &[], false).count();
            assert_eq!(count, if temperature == 0.0 { 1 } else { top_k });
            // Others in the step may want more.
            let picked = best(&logits, (count + round as usize % 3).min(64));
            let drawn = with_all.sample(Logits::All(&logits), &[], None).unwrap();
            assert_eq!(with_best.sample(Logits::Best(&picked), &[], None).unwrap(), drawn, "{round} {options:?}");
        }
    }
}

#[test]
fn all_logits_are_asked_for_where_the_best_will_not_do() {
    let needs = |options: GenerateOptions, banned: &[u32]| Sampler::new(&options).needs(100, banned, false);
    let top = |top_k| GenerateOptions {
        sampling: Some(Sampling { top_k, ..Sampling::default() }),
        ..GenerateOptions::default()
    };
    assert_eq!(needs(GenerateOptions::default(), &[]), Pick::Argmax);
    assert_eq!(needs(top(64), &[]), Pick::TopK(64));
    for all in [top(0), top(65), GenerateOptions { presence_penalty: 0.1, ..top(5) }] {
        assert_eq!(needs(all.clone(), &[]), Pick::None, "{all:?}");
    }
    assert_eq!(needs(GenerateOptions::default(), &[3]), Pick::None);
    assert_eq!(Sampler::new(&top(40)).needs(40, &[], false), Pick::None, "a vocabulary as small as that");
}

#[test]
fn broken_picks_are_an_error() {
    let mut sampler = Sampler::new(&GenerateOptions::default());
    for logit in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let error = sampler.sample(Logits::Best(&[Picked { id: 7, logit }]), &[], None).unwrap_err();
        assert!(matches!(error, Error::Logits { token: 7, .. }), "{error}");
    }
    assert!(sampler.sample(Logits::Best(&[]), &[], None).is_err());
}

#[test]
fn splitmix_gives_the_published_numbers() {
    // The first outputs for the state 1234567, from the reference implementation's own test.
    let mut random = Random(1_234_567);
    let found: Vec<u64> = (0..3).map(|_| random.next()).collect();
    assert_eq!(found, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
}

#[test]
fn greedy_unless_asked_otherwise() {
    let zero = Sampling { temperature: 0.0, ..Sampling::default() };
    for sampling in [None, Some(zero)] {
        let mut sampler = Sampler::new(&GenerateOptions { sampling, ..GenerateOptions::default() });
        assert_eq!(sampler.sample(Logits::All(&[0.0, 2.0, 1.0]), &[], None).unwrap(), 1);
        assert_eq!(sampler.sample(Logits::All(&[0.0, 2.0, 1.0]), &[1], None).unwrap(), 2);
    }
}

#[test]
fn broken_logits_are_an_error_wherever_they_stand() {
    for broken in [f32::NAN, f32::INFINITY] {
        for at in [0, 7, 8, 16] {
            let mut logits = vec![0.0; 17];
            logits[at] = broken;
            let error = argmax(&logits).unwrap_err();
            assert!(matches!(error, Error::Logits { token, .. } if token == at), "{error}");
        }
    }
    assert!(argmax(&[f32::NEG_INFINITY; 3]).is_err());
    assert!(argmax(&[]).is_err());
}

#[test]
fn penalties_move_the_choice() {
    let options = GenerateOptions { repetition_penalty: 1.5, ..GenerateOptions::default() };
    let mut sampler = Sampler::new(&options);
    assert_eq!(sampler.sample(Logits::All(&[2.0, 1.9]), &[], None).unwrap(), 0);
    sampler.saw(0);
    assert_eq!(sampler.sample(Logits::All(&[2.0, 1.9]), &[], None).unwrap(), 1);
}

#[test]
fn only_tokens_of_the_mask_are_drawn() {
    // Words of all kinds, and logits that end within one.
    let logits: Vec<f32> = (0..150).map(|i| i as f32).collect();
    let draw = |mask: &[u32], banned: &[u32], options: GenerateOptions| {
        Sampler::new(&options).sample(Logits::All(&logits), banned, Some(mask)).unwrap()
    };
    let greedy = GenerateOptions::default;
    assert_eq!(draw(&[u32::MAX; 5], &[], greedy()), 149);
    assert_eq!(draw(&[u32::MAX, u32::MAX, 0, 0, 0], &[], greedy()), 63);
    assert_eq!(draw(&[0, 1 << 31 | 1, 0, 0, 0], &[], greedy()), 63);
    assert_eq!(draw(&[0, 1 << 31 | 1, 0, 0, 0], &[63], greedy()), 32);
    assert_eq!(draw(&[2], &[], greedy()), 1, "a mask that ends early allows nothing more");
    let sampling = Some(Sampling { temperature: 100.0, top_k: 3, ..Sampling::default() });
    let few = |seed| draw(&[9, 0, 0, 0, 0], &[], GenerateOptions { sampling: sampling.clone(), seed, ..greedy() });
    let drawn: std::collections::BTreeSet<u32> = (0..50).map(|seed| few(Some(seed))).collect();
    assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [0, 3], "the best are taken from what is allowed");
    let error = Sampler::new(&greedy()).sample(Logits::All(&logits), &[], Some(&[0; 5])).unwrap_err();
    assert!(matches!(error, Error::Logits { .. }), "{error}");
    assert_eq!(Sampler::new(&greedy()).needs(1000, &[], true), Pick::None);
}
