//! What sanitizers find in planted mistakes; only in the builds of scripts/sanitize. A finding ends the program, so each
//! mistake is made in a process of its own.
#![cfg(any(feature = "address", feature = "thread"))]

mod common;

use common::Machine;
use nano_kernels::cuda::{Arg, Driver, Launch};
use std::process::Command;

/// Runs one of the ignored tests below.
fn run(test: &str) -> (bool, String) {
    let program = std::env::current_exe().expect("a path");
    let output = Command::new(program).args(["--exact", test, "--ignored", "--nocapture"]).output().expect("a child");
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn finds(test: &str, parts: &[&str]) {
    let (fine, text) = run(test);
    assert!(!fine, "{test} was not found to be wrong");
    for part in parts {
        assert!(text.contains(part), "{test}: '{part}' is not in: {text}");
    }
}

#[cfg(feature = "address")]
#[test]
fn bad_addresses_are_found() {
    finds("store_after", &["use-after-poison", "planted_store", "planted.cu:"]);
    finds("store_before", &["use-after-poison", "planted_store", "planted.cu:"]);
    finds("load_after", &["use-after-poison", "planted_read", "planted.cu:"]);
    finds("shared_after", &["use-after-poison", "planted_dynamic", "planted.cu:"]);
    finds("misaligned", &["misaligned address", "planted_cast", "planted.cu:"]);
    let (fine, text) = run("all_in_bounds");
    assert!(fine, "{text}");
}

#[cfg(feature = "thread")]
#[test]
fn races_are_found() {
    let race = "ThreadSanitizer: data race";
    finds("no_barrier", &[race, "planted.cu:"]);
    finds("no_lanes_barrier", &[race, "planted.cu:"]);
    finds("no_fence", &[race, "unfenced", "planted.cu:"]);
    for right in ["barrier", "lanes_barrier", "fence"] {
        let (fine, text) = run(right);
        assert!(fine, "{right}: {text}");
    }
}

/// In order, where nothing else shows it.
fn on_words(kernel: &'static str, threads: u32, at: &[Arg]) {
    let machine = Machine::new(80, 0, 1);
    let (from, to) = (machine.room(64), machine.room(64));
    let args: Vec<Arg> = if kernel == "planted_read" { vec![from, to] } else { vec![to] };
    let args = [&args, at].concat();
    let launch = Launch { kernel, grid: [1, 1, 1], threads, shared: 256, args: &args };
    machine.0.launch(launch).unwrap();
}

fn fenced(kernel: &'static str) {
    let machine = Machine::new(80, 0, 2);
    let (partial, counter, to) = (machine.room(2000), machine.room(1), machine.room(1));
    machine.run(kernel, 2000, 32, &[partial, counter, to]).unwrap();
}

macro_rules! children {
    ($($name:ident: $body:expr;)*) => {$(
        #[test]
        #[ignore = "a child of another test"]
        fn $name() {
            $body;
        }
    )*};
}

children! {
    store_after: on_words("planted_store", 1, &[Arg::U32(64)]);
    store_before: on_words("planted_store", 1, &[Arg::U32(-1i32 as u32)]);
    load_after: on_words("planted_read", 1, &[Arg::U32(64)]);
    shared_after: on_words("planted_dynamic", 32, &[Arg::U32(64)]);
    misaligned: on_words("planted_cast", 1, &[Arg::U32(8)]);
    all_in_bounds: {
        on_words("planted_store", 1, &[Arg::U32(63)]);
        on_words("planted_read", 1, &[Arg::U32(63)]);
        on_words("planted_dynamic", 32, &[Arg::U32(63)]);
        on_words("planted_cast", 1, &[Arg::U32(16)]);
    };
    no_barrier: on_words("planted_barrier", 64, &[]);
    barrier: on_words("planted_barrier_right", 64, &[]);
    no_lanes_barrier: on_words("planted_lanes", 32, &[]);
    lanes_barrier: on_words("planted_lanes_right", 32, &[]);
    no_fence: fenced("planted_fence");
    fence: fenced("planted_fence_right");
}
