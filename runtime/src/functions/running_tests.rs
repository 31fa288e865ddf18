//! Calls under way: results, panics, time-outs, hanging calls. No test here waits for a clock but the one that must run
//! out.

use super::super::BotFunction;
use super::*;
use std::sync::mpsc::{Receiver, Sender, channel};

/// A function that returns once something is sent.
fn waits(name: &str) -> (BotFunction, Sender<()>) {
    let (send, receive) = channel();
    let receive: Mutex<Receiver<()>> = Mutex::new(receive);
    (BotFunction::closure(name, "", [], move || lock(&receive).recv().map(|()| "done")), send)
}

fn call(functions: &BotFunctions, name: &str) -> Running {
    functions.start(functions.call_of(name, Map::new()), || ())
}

/// Waits for what another thread is about to do; fails if it never does.
fn until(done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(30));
        std::thread::yield_now();
    }
}

#[test]
fn a_call_is_made_off_the_thread_and_wakes() {
    let (wait, go) = waits("wait");
    let functions = BotFunctions::new([wait]).unwrap();
    let (bell, rung) = channel();
    let mut running = functions.start(functions.call_of("wait", Map::new()), move || bell.send(()).unwrap());
    assert_eq!(running.poll(), None);
    assert!(running.deadline() > Instant::now());
    go.send(()).unwrap();
    rung.recv().unwrap();
    let report = running.poll().unwrap();
    assert_eq!((report.name.as_str(), report.result), ("wait", Ok(Some("done".into()))));
    assert!(report.seconds > 0.0);
    assert_eq!(running.poll(), None, "a report is given once");
    assert!(rung.recv().is_err(), "one ring");
}

#[test]
fn what_cannot_be_called_is_done_at_once() {
    let functions = BotFunctions::new([BotFunction::closure("f", "", ["n"], |_: u8| ())]).unwrap();
    let found = Found { name: "f".into(), arguments: Err("f: no".into()), end: 0 };
    let report = functions.start(found, || ()).poll().unwrap();
    assert_eq!((report.arguments, report.result), (Map::new(), Err("f: no".into())));
    let report = functions.call_now("g", Map::new());
    assert_eq!(report.result, Err("there is no function g; there is f".into()));
    assert_eq!(functions.call_now("f", Map::new()).result, Err("f: the argument \"n\" is missing".into()));
}

#[test]
fn a_panic_is_a_failure() {
    let panics = BotFunction::closure("f", "", [], || -> String { panic!("out of {}", "oil") });
    let report = BotFunctions::new([panics]).unwrap().call_now("f", Map::new());
    assert_eq!(report.result, Err("f: it panicked: out of oil".into()));
}

#[test]
fn a_late_call_is_left_alone_and_counted_until_it_ends() {
    let (wait, go) = waits("wait");
    let functions = BotFunctions::new([wait.with_timeout(Duration::from_millis(20))]).unwrap();
    let report = functions.call_now("wait", Map::new());
    assert_eq!(report.result, Err("wait: it took longer than 0.02 seconds".into()));
    assert!(report.seconds >= 0.02);
    assert_eq!(functions.hanging.load(Ordering::Relaxed), 1);
    go.send(()).unwrap();
    until(|| functions.hanging.load(Ordering::Relaxed) == 0);
}

#[test]
fn the_ninth_call_after_eight_that_hang_is_refused() {
    let (wait, go) = waits("wait");
    let fast = BotFunction::closure("fast", "", [], || 1);
    let functions = BotFunctions::new([wait, fast]).unwrap();
    for _ in 0..HANGING {
        assert!(call(&functions, "fast").wait().result.is_ok());
        // A reply that is cancelled drops its call.
        drop(call(&functions, "wait"));
    }
    let why = "fast: it was not called, because 8 earlier calls are still hanging";
    assert_eq!(call(&functions.clone(), "fast").wait().result, Err(why.into()), "clones count together");
    go.send(()).unwrap();
    until(|| functions.hanging.load(Ordering::Relaxed) < HANGING);
    assert!(call(&functions, "fast").wait().result.is_ok());
    drop(go);
}

#[test]
fn a_time_without_end_is_no_error() {
    let functions = BotFunctions::new([BotFunction::closure("f", "", [], || 1)]).unwrap().with_timeout(Duration::MAX);
    assert!(functions.call_now("f", Map::new()).result.is_ok());
    let own = functions.get("f").unwrap().clone().with_timeout(Duration::MAX);
    assert!(own.call(&Map::new()).is_ok());
}
