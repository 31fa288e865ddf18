//! The engine's manners: several sequences at once, slow and absent readers, full pools, failing steps.

mod common;

use common::*;
use nano_kernels::Pick;
use nano_runtime::{Error, Event, Finish, GenerateOptions, Generation, Limits, NanoModel, Sampling};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The next token is one more than the last, below 200.
fn count(tokens: &[u32]) -> u32 {
    (tokens.last().unwrap() + 1) % 200
}

fn start(model: &NanoModel, first: u32, new: usize) -> Generation {
    model.generate(vec![first], model.cache(), &GenerateOptions { max_new_tokens: new, ..options() })
}

fn counted(first: u32, new: u32) -> Vec<u32> {
    (1..=new).map(|i| (first + i) % 200).collect()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn sequences_share_steps_and_nobody_waits_for_anothers_end() {
    let (fake, log) = Fake::new(Limits { sequences: 3, ..limits() }, count);
    let (fake, gate) = gated(fake);
    let model = fake.model(None);
    // Six for three seats, all of them there before the second step.
    let generations: Vec<Generation> = (0..6).map(|i| start(&model, i * 30, 20)).collect();
    gate.open();
    for (i, generation) in (0..).zip(generations) {
        assert_eq!(generation.wait().unwrap().tokens, counted(i * 30, 20), "{i}");
    }
    let log = log.lock().unwrap();
    // Each has 20 rows. The first step had one sequence; nearly all others had three.
    assert!(log.steps.len() <= 45, "{} steps", log.steps.len());
    // Turns go round: at any time nobody is more than a few tokens behind.
    let mut rows = [0usize; 6];
    for step in log.steps.iter().take(30) {
        step.fed.iter().flatten().for_each(|t| rows[(t % 200) as usize / 30] += 1);
        assert!(rows.iter().max().unwrap() - rows.iter().min().unwrap() <= 2, "{rows:?}");
    }
}

#[test]
fn decoding_goes_on_during_long_prefills_which_share_the_room() {
    let (fake, log) = Fake::new(limits(), count);
    let (fake, gate) = gated(fake);
    let model = fake.model(None);
    let short = start(&model, 0, 20);
    let long: Vec<_> = (0..2).map(|_| model.generate(vec![190; 300], model.cache(), &options())).collect();
    gate.open();
    short.wait().unwrap();
    long.into_iter().for_each(|g| {
        g.wait().unwrap();
    });
    let log = log.lock().unwrap();
    let rows = |step: &Seen| step.fed.iter().map(Vec::len).collect::<Vec<_>>();
    // While all three are there: one decode row, and the rest in even shares.
    for step in &log.steps[1..19] {
        let mut rows = rows(step);
        rows.sort_unstable();
        assert_eq!(rows, [1, 15, 16]);
    }
}

/// D10: a bounded channel.
#[test]
fn a_slow_reader_holds_up_only_itself() {
    let (fake, log) = Fake::new(limits(), count);
    let model = fake.model(None);
    let mut slow = start(&model, 0, 500);
    let fast = start(&model, 50, 300).wait().unwrap();
    assert_eq!(fast.tokens, counted(50, 300));
    // The slow one fills its stream and no more.
    eventually("it stops", || {
        let rows = log.lock().unwrap().rows();
        std::thread::sleep(Duration::from_millis(20));
        log.lock().unwrap().rows() == rows
    });
    let rows = log.lock().unwrap().rows() - 300;
    assert!((10..200).contains(&rows), "{rows}");
    assert!(matches!(slow.next(), Some(Ok(Event::Text(_)))));
    assert_eq!(slow.wait().unwrap().tokens, counted(0, 500));
}

#[test]
fn a_dropped_generation_leaves_no_trace() {
    let (fake, log) = Fake::new(Limits { pages: 4, context: 128, ..limits() }, count);
    let model = fake.model(None);
    for _ in 0..20 {
        let mut dropped = start(&model, 0, 100);
        dropped.next().unwrap().unwrap();
    }
    // All four pages are free again.
    let output = model.generate(vec![5; 120], model.cache(), &options()).wait().unwrap();
    assert_eq!(output.finish, Finish::Context);
    assert!(log.lock().unwrap().rows() > 120);
}

#[test]
fn stop_ends_within_a_step_and_keeps_what_was_said() {
    let model = Fake::new(limits(), count).0.model(None);
    let mut generation = start(&model, 0, 1000);
    let stopper = generation.stopper();
    (0..5).for_each(|_| assert!(matches!(generation.next(), Some(Ok(Event::Text(_))))));
    std::thread::spawn(move || stopper.stop()).join().unwrap();
    let output = generation.wait().unwrap();
    assert_eq!(output.finish, Finish::Cancelled);
    assert!(output.tokens.len() < 100 && output.tokens.len() >= 5);
    assert_eq!(output.tokens, counted(0, output.tokens.len() as u32));
    let fed = [vec![0], output.tokens].concat();
    assert_eq!([output.cache.tokens(), &output.pending].concat(), fed);
    assert_eq!(output.pending.len(), 1);
}

#[test]
fn a_prefill_that_is_stopped_keeps_its_rows_and_the_rest_is_pending() {
    let (fake, log) = Fake::new(limits(), count);
    let (fake, gate) = gated(fake);
    let model = fake.model(None);
    let prompt: Vec<u32> = (0..100).collect();
    let generation = model.generate(prompt.clone(), model.cache(), &options());
    gate.reached();
    generation.stop();
    gate.open();
    let output = generation.wait().unwrap();
    assert_eq!((output.finish, output.tokens.len()), (Finish::Cancelled, 0));
    assert_eq!((output.cache.len(), log.lock().unwrap().rows()), (32, 32));
    assert_eq!([output.cache.tokens(), &output.pending].concat(), prompt);
}

#[test]
fn into_cache_saves_the_cache_at_any_time() {
    let model = Fake::new(limits(), count).0.model(None);
    let mut generation = start(&model, 0, 1000);
    generation.next().unwrap().unwrap();
    let cache = generation.into_cache();
    assert_eq!(cache.tokens(), &[vec![0], counted(0, 999)].concat()[..cache.len()]);
    assert!(!cache.is_empty());
}

/// D14.
#[test]
fn a_failing_step_fails_its_sequences_and_no_other() {
    let faults = [|| Fault::Error, || Fault::Panic, || Fault::NaN, || Fault::Short];
    for (fault, picks) in faults.into_iter().flat_map(|fault| [(fault, false), (fault, true)]) {
        let (mut fake, _) = Fake::new(limits(), count);
        fake.picks = picks;
        // Fails whenever token 105 is fed.
        fake.faults = Box::new(move |fed| fed.concat().contains(&105).then(fault));
        let model = fake.model(None);
        let cache = start(&model, 0, 3).wait().unwrap().cache;
        let held = cache.tokens().to_vec();
        let mut doomed = model.generate(vec![100], cache, &GenerateOptions { max_new_tokens: 20, ..options() });
        let mut text = 0;
        let error = loop {
            match doomed.next().unwrap() {
                Ok(Event::Text(_)) => text += 1,
                Ok(_) => panic!("it went well"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::Step(_) | Error::Logits { .. }), "{error}");
        assert_eq!(text, 5, "{error}");
        assert!(doomed.next().is_none());
        assert_eq!(doomed.into_cache().tokens(), held, "{error}: rolled back");
        // The engine lives.
        assert_eq!(start(&model, 0, 5).wait().unwrap().tokens, counted(0, 5));
    }
}

#[test]
fn the_error_of_a_step_says_why() {
    let (mut fake, _) = Fake::new(limits(), count);
    let mut faults = [Fault::Panic, Fault::Error].into_iter();
    fake.faults = Box::new(move |_| faults.next());
    let model = fake.model(None);
    for why in ["it panicked: the fan fell off", "the fan fell off"] {
        let error = start(&model, 0, 3).wait().unwrap_err();
        assert_eq!(error.to_string(), format!("the engine failed in a step: {why}"));
    }
}

#[test]
fn a_full_pool_makes_a_sequence_wait_for_one_that_ends() {
    let (fake, _) = Fake::new(Limits { pages: 4, context: 128, ..limits() }, count);
    let (fake, gate) = gated(fake);
    let model = fake.model(None);
    let mut first = model.generate(vec![1; 60], model.cache(), &GenerateOptions { max_new_tokens: 40, ..options() });
    let second = model.generate(vec![1; 70], model.cache(), &options());
    gate.open();
    // Reads the first to its end and gives its pages back; then the second goes on.
    let output = first.by_ref().find_map(|e| if let Event::Done(o) = e.unwrap() { Some(o) } else { None }).unwrap();
    assert_eq!(output.tokens.len(), 40);
    drop(output);
    assert_eq!(second.wait().unwrap().finish, Finish::Context);
}

#[test]
fn a_full_pool_is_an_error_when_nobody_would_give_pages_back() {
    let (fake, _) = Fake::new(Limits { pages: 4, context: 128, ..limits() }, count);
    let model = fake.model(None);
    let held =
        model.generate(vec![1; 90], model.cache(), &GenerateOptions { max_new_tokens: 2, ..options() }).wait().unwrap();
    let mut refused = model.generate(vec![1; 40], model.cache(), &options());
    let error = refused.next().unwrap().unwrap_err();
    assert!(matches!(error, Error::PoolFull { needed: 2, free: 1, pages: 4 }), "{error}");
    assert!(refused.into_cache().is_empty());
    drop(held);
    model.generate(vec![1; 40], model.cache(), &options()).wait().unwrap();
}

#[test]
fn two_that_starve_each_other_are_parted() {
    // Both need a third page at the same time, and there are four.
    let (fake, _) = Fake::new(Limits { pages: 4, context: 128, ..limits() }, count);
    let (fake, gate) = gated(fake);
    let model = fake.model(None);
    let forty = GenerateOptions { max_new_tokens: 40, ..options() };
    let older = model.generate(vec![1; 50], model.cache(), &forty);
    let younger = model.generate(vec![1; 50], model.cache(), &forty);
    gate.open();
    assert!(matches!(younger.wait(), Err(Error::PoolFull { .. })));
    assert_eq!(older.wait().unwrap().tokens.len(), 40);
}

/// D13.
#[test]
fn a_seed_gives_the_same_text_alone_and_in_company() {
    let model = || {
        let (fake, _) = Fake::new(limits(), |tokens| tokens.iter().sum::<u32>() % 100);
        fake.model(None)
    };
    let sampling = Sampling { temperature: 5.0, top_k: 20, ..Sampling::default() };
    let seeded = |seed| GenerateOptions { sampling: Some(sampling.clone()), seed: Some(seed), ..options() };
    let alone: Vec<_> = (0..4)
        .map(|i| {
            let model = model();
            model.generate(vec![1, 2], model.cache(), &seeded(i)).wait().unwrap().tokens
        })
        .collect();
    let model = model();
    let together: Vec<_> = (0..4).map(|i| model.generate(vec![1, 2], model.cache(), &seeded(i))).collect();
    let together: Vec<_> = together.into_iter().map(|g| g.wait().unwrap().tokens).collect();
    assert_eq!(alone, together);
    assert_ne!(alone[0], alone[1]);
}

/// A machine that chooses gives the text that its logits would have given, whoever shares its steps.
#[test]
fn a_machine_that_chooses_gives_the_same_text() {
    let sampled = |top_k, seed| GenerateOptions {
        // Nearly all logits are equal: ties are drawn from.
        sampling: Some(Sampling { temperature: 5.0, top_k, top_p: 0.99, min_p: 0.01 }),
        seed: Some(seed),
        ..options()
    };
    let greedy = options();
    let penalty = GenerateOptions { repetition_penalty: 1.5, ..options() };
    let late = GenerateOptions { min_new_tokens: 3, ..sampled(8, 6) };
    let cases = [
        (vec![greedy.clone()], Some(Pick::Argmax)),
        (vec![sampled(64, 1)], Some(Pick::TopK(64))),
        (vec![sampled(1, 1), greedy.clone()], Some(Pick::Argmax)),
        (vec![greedy.clone(), sampled(5, 2), sampled(20, 3), greedy.clone()], Some(Pick::TopK(20))),
        (vec![sampled(65, 1)], Some(Pick::None)),
        (vec![sampled(0, 1), greedy.clone()], None),
        (vec![penalty, greedy.clone(), sampled(9, 4)], None),
        (vec![late, sampled(3, 5)], None),
    ];
    for (requests, expected) in cases {
        let texts = [false, true].map(|picks| {
            let (mut fake, log) = Fake::new(limits(), |tokens| tokens.iter().sum::<u32>() % 100);
            fake.picks = picks;
            let (fake, gate) = gated(fake);
            let model = fake.model(None);
            let start = |o: &GenerateOptions| {
                model.generate(vec![1, 2], model.cache(), &GenerateOptions { max_new_tokens: 12, ..o.clone() })
            };
            let generations: Vec<Generation> = requests.iter().map(start).collect();
            gate.open();
            let outputs: Vec<_> = generations.into_iter().map(|g| g.wait().unwrap()).collect();
            assert!(outputs.iter().all(|o| o.stats.launches_per_token == if picks { 7 } else { 0 }));
            // The first step had the first alone.
            let log = log.lock().unwrap();
            let seen: Vec<Pick> =
                log.steps[1..].iter().filter(|s| s.fed.len() == requests.len()).map(|s| s.pick).collect();
            assert!(seen.len() >= 5, "{requests:?}: {seen:?}");
            match expected {
                Some(pick) if picks => assert!(seen.iter().all(|s| *s == pick), "{requests:?}: {seen:?}"),
                _ => assert!(picks || seen.iter().all(|s| *s == Pick::None), "{seen:?}"),
            }
            outputs.into_iter().map(|o| o.tokens).collect::<Vec<_>>()
        });
        assert_eq!(texts[0], texts[1], "{requests:?}");
    }
}

#[test]
fn dropping_everything_ends_the_thread() {
    let (fake, log) = Fake::new(limits(), count);
    let model = fake.model(None);
    let other = model.clone();
    let mut generation = start(&model, 0, 1000);
    drop((model, other));
    assert!(matches!(generation.next(), Some(Ok(Event::Text(_)))), "a generation needs no model beside it");
    let cache = generation.into_cache();
    assert!(log.lock().unwrap().dropped, "the runner went with the last user");
    drop(cache);
}

#[test]
fn many_threads_at_once() {
    let model = Fake::new(Limits { pages: 32, context: 256, ..limits() }, count).0.model(None);
    let failures = Arc::new(Mutex::new(0));
    std::thread::scope(|scope| {
        for thread in 0..6u32 {
            let (model, failures) = (model.clone(), Arc::clone(&failures));
            scope.spawn(move || {
                for round in 0..15 {
                    let new = if round % 4 == 1 { 1000 } else { 10 + round * 3 };
                    let mut generation = start(&model, thread * 30, new);
                    match round % 4 {
                        0 => drop(generation),
                        1 => {
                            generation.next();
                            generation.stop();
                            assert_eq!(generation.wait().unwrap().finish, Finish::Cancelled);
                        }
                        _ => match generation.wait() {
                            Ok(output) => assert_eq!(output.tokens, counted(thread * 30, 10 + round as u32 * 3)),
                            Err(error) => {
                                assert!(matches!(error, Error::PoolFull { .. }), "{error}");
                                *failures.lock().unwrap() += 1;
                            }
                        },
                    }
                }
            });
        }
    });
    assert_eq!(*failures.lock().unwrap(), 0, "there were pages for all");
}

/// Greedy sequences are fed ahead of what is known of them: the same texts, the same caches, no row too many.
#[test]
fn a_step_may_start_before_the_last_one_is_read() {
    let requests = [(20, None), (7, None), (30, Some(" good")), (1, None)];
    let run = |picks: bool| {
        let (mut fake, _) = Fake::new(limits(), |tokens| match tokens.len() {
            n if n % 13 == 0 => word(" good"),
            n => 65 + (tokens.iter().sum::<u32>() + n as u32) % 26,
        });
        fake.picks = picks;
        let ahead = Arc::clone(&fake.ahead);
        let model = fake.model(None);
        let mut outputs = Vec::new();
        for (turn, company) in [(0, 1), (1, 4)] {
            let start = |(max, stop): &(usize, Option<&str>)| {
                let stop = stop.iter().map(|s| (*s).to_owned()).collect();
                let options = GenerateOptions { max_new_tokens: *max, stop, ..options() };
                model.generate(vec![1 + turn, 2, 3], model.cache(), &options)
            };
            for group in requests.chunks(company) {
                let started: Vec<Generation> = group.iter().map(start).collect();
                outputs.extend(started.into_iter().map(|g| g.wait().unwrap()));
            }
        }
        let ahead = ahead.load(std::sync::atomic::Ordering::Relaxed);
        let ends = outputs.iter().map(|o| (o.text.clone(), o.tokens.clone(), o.finish, o.cache.tokens().to_vec()));
        (ends.collect::<Vec<_>>(), ahead)
    };
    let ((plain, none), (picked, ahead)) = (run(false), run(true));
    assert_eq!(plain, picked);
    assert_eq!(none, 0);
    assert!(ahead > 40, "{ahead} rows were fed ahead");
}

/// What breaks the run ahead: a stop from outside, a reader that leaves, a newcomer, a full context, a step that fails.
#[test]
fn running_ahead_ends_where_it_must() {
    let (mut fake, _) = Fake::new(Limits { context: 40, ..limits() }, count);
    fake.picks = true;
    let model = fake.model(None);
    let endless = GenerateOptions { max_new_tokens: 1000, ..options() };
    let full = model.generate(vec![1, 2], model.cache(), &endless).wait().unwrap();
    assert_eq!((full.finish, full.cache.len()), (Finish::Context, 40));

    let (mut fake, _) = Fake::new(limits(), count);
    fake.picks = true;
    let (fake, gate) = gated(fake);
    let model = fake.model(None);
    let stopped = model.generate(vec![1, 2], model.cache(), &endless);
    gate.reached();
    stopped.stop();
    gate.open();
    let stopped = stopped.wait().unwrap();
    assert_eq!((stopped.finish, stopped.tokens.len()), (Finish::Cancelled, 1));
    assert_eq!(stopped.cache.len() + stopped.pending.len(), 2 + stopped.tokens.len());
    drop(model.generate(vec![1, 2], model.cache(), &endless));
    // The cache that was cut goes on as if nothing had been fed beyond it.
    let mut feed = stopped.pending;
    feed.push(7);
    let again = model.generate(feed, stopped.cache, &GenerateOptions { max_new_tokens: 2, ..options() });
    assert_eq!(again.wait().unwrap().tokens.len(), 2);
}
