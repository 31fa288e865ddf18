//! Mistakes planted in kernels are found, and their messages say where. Beside each stands what is right.

mod common;

use common::Machine;
use nano_kernels::cuda::{Arg, Driver, Launch};

/// The message of a launch that must fail.
fn message(machine: &Machine, kernel: &'static str, threads: u32, args: &[Arg]) -> String {
    machine.run(kernel, 1, threads, args).expect_err(kernel).to_string()
}

fn says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "'{part}' is not in: {message}");
    }
}

/// How many seeds of 1..=20 give the right words.
fn right_seeds(arch: u32, kernel: &'static str, from: &[u32], expected: &[u32]) -> usize {
    let right = |seed: &u64| {
        let machine = Machine::new(arch, *seed, 1);
        let to = machine.room(expected.len());
        let from = (!from.is_empty()).then(|| machine.put(from));
        let args: Vec<Arg> = from.into_iter().chain([to]).collect();
        machine.run(kernel, 1, if kernel.contains("lanes") { 32 } else { 64 }, &args).unwrap();
        machine.get(to, expected.len()) == expected
    };
    (1..=20).filter(right).count()
}

#[test]
fn a_missing_wait_leaves_poison() {
    let from: Vec<u32> = (0..512).collect();
    for (kernel, right) in [("planted_wait", false), ("planted_wait_right", true)] {
        let machine = Machine::new(80, 0, 1);
        let (input, to) = (machine.put(&from), machine.room(512));
        machine.run(kernel, 1, 64, &[input, to]).unwrap();
        let found = machine.get(to, 512);
        assert_eq!(found[..256], from[..256]);
        assert_eq!(found[256..] == from[256..], right, "{kernel}");
        if !right {
            assert!(found[256..].iter().all(|&w| w == u32::MAX));
        }
        assert_eq!(right_seeds(80, kernel, &from, &from), if right { 20 } else { 0 }, "{kernel}");
    }
}

#[test]
fn a_missing_barrier_shows_under_seeds() {
    let from: Vec<u32> = (0..512).collect();
    let sums: Vec<u32> = (0..128u32).map(|i| i / 64 * 1024 + 16 * ((i + 32) % 64) + 6).collect();
    assert_eq!(right_seeds(80, "planted_overwrite_right", &from, &sums), 20);
    let lucky = right_seeds(80, "planted_overwrite", &from, &sums);
    assert!(lucky <= 2, "{lucky} of 20 seeds do not show the missing barrier");

    for arch in [72, 80] {
        let crossed: Vec<u32> = (0..64).map(|i| i ^ 32).collect();
        assert_eq!(right_seeds(arch, "planted_barrier_right", &[], &crossed), 20);
        assert_eq!(right_seeds(arch, "planted_barrier", &[], &crossed), 0);
        let shifted: Vec<u32> = (0..32u32).map(|i| i.saturating_sub(1)).collect();
        assert_eq!(right_seeds(arch, "planted_lanes_right", &[], &shifted), 20);
        assert_eq!(right_seeds(arch, "planted_lanes", &[], &shifted), 0);
    }
}

#[test]
fn threads_that_wait_for_nobody() {
    for (arch, seed) in [(72, 0), (80, 0), (80, 1), (80, 2)] {
        let machine = |kernel, args: &[Arg]| {
            let machine = Machine::new(arch, seed, 1);
            let to = machine.room(64);
            message(&machine, kernel, 64, &[&[to], args].concat())
        };
        says(
            &machine("planted_parted", &[Arg::U32(16)]),
            &[
                "kernel planted_parted, block (0, 0, 0): deadlock: 32 of 64 threads wait, 32 have ended",
                "; 16 from thread 0 on",
            ],
        );
        says(
            &machine("planted_parted", &[Arg::U32(40)]),
            &["deadlock: 64 of 64", "__syncthreads", "24 from thread 40 on at planted.cu:", "a vote of lanes ffffffff"],
        );
        says(&machine("planted_barriers", &[Arg::U32(40)]), &["lanes of warp 1 part", "planted.cu:", "__syncthreads"]);
    }
    // Whole warps may meet at different places.
    let machine = Machine::new(80, 0, 1);
    let to = machine.room(64);
    machine.run("planted_barriers", 1, 64, &[to, Arg::U32(32)]).unwrap();
}

#[test]
fn lanes_that_do_not_do_the_same() {
    let fails = |kernel: &'static str, seed| {
        let machine = Machine::new(80, seed, 1);
        let to = machine.room(32);
        message(&machine, kernel, 32, &[to])
    };
    for seed in 0..5 {
        says(&fails("planted_collectives", seed), &["lanes of warp 0 part", "a shuffle", "a vote", "planted.cu:"]);
        says(&fails("planted_places", seed), &["lanes of warp 0 part", "at a shuffle", "for a shuffle", "planted.cu:"]);
        says(&fails("planted_exited", seed), &["shuffles from lane", "which did not take part", "aaaaaaaa"]);
        says(&fails("planted_mask", seed), &["a vote whose mask 0000ffff leaves out lane"]);
        says(&fails("planted_product", seed), &["mma_m16n8k16 without all lanes of the warp: 7fffffff"]);
    }
    let machine = Machine::new(72, 0, 1);
    let to = machine.room(32);
    says(&message(&machine, "planted_product", 32, &[to]), &["mma_m8n8k4 without all lanes"]);
    // Nothing runs on a machine that has failed.
    assert!(machine.run("planted_barrier", 1, 64, &[to]).is_err());
}

#[test]
fn stores_out_of_bounds() {
    if cfg!(feature = "address") {
        return; // The sanitizer ends the program at the store: scripts/sanitize looks for that.
    }
    for (at, parts) in [
        (256, ["wrote after it, 0 bytes from its end", "room of a test (1024 bytes)"]),
        (258, ["wrote after it, 8 bytes from its end", "room of a test"]),
        (-1, ["wrote before it, 4 bytes from its start", "room of a test"]),
    ] {
        let machine = Machine::new(80, 0, 1);
        let to = machine.room(256);
        machine.run("planted_store", 1, 1, &[to, Arg::U32(0)]).unwrap();
        machine.0.check().unwrap();
        machine.run("planted_store", 1, 32, &[to, Arg::U32(at as u32)]).unwrap();
        says(&machine.0.check().unwrap_err().to_string(), &parts);
        let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(machine)));
        let text = *dropped.unwrap_err().downcast::<String>().unwrap();
        says(&text, &parts);
    }
}

#[test]
fn access_that_is_misaligned() {
    for bytes in [1, 2, 4, 8, 16, 32] {
        let machine = Machine::new(80, 0, 1);
        let (from, to) = (machine.room(64), machine.room(1));
        says(&message(&machine, "planted_load", 1, &[from, to, Arg::U32(bytes)]), &["misaligned", "planted.cu:"]);
    }
    let copy = |to, from| {
        let machine = Machine::new(80, 0, 1);
        let args = [machine.room(64), Arg::U32(to), Arg::U32(from)];
        let launch = Launch { kernel: "planted_copy", grid: [1, 1, 1], threads: 1, shared: 256, args: &args };
        machine.0.launch(launch)
    };
    copy(16, 32).unwrap();
    says(&copy(8, 0).unwrap_err().to_string(), &["asynchronous copy to", "misaligned"]);
    says(&copy(0, 4).unwrap_err().to_string(), &["asynchronous copy from", "misaligned"]);
}

#[test]
fn more_than_a_block_has() {
    for (arch, limit) in [(72, 96 << 10), (80, 163 << 10)] {
        let run = |shared| {
            let machine = Machine::new(arch, 0, 1);
            let args = [machine.room(32)];
            let launch = Launch { kernel: "planted_shared", grid: [1, 1, 1], threads: 32, shared, args: &args };
            machine.0.launch(launch)
        };
        run(limit - 40_000).unwrap();
        let text = run(limit - 39_999).unwrap_err().to_string();
        says(&text, &["40000 bytes of static", "shared memory", &format!("may have {limit}")]);
    }
    let machine = Machine::new(80, 0, 1);
    let to = machine.room(1);
    machine.run("planted_stack", 1, 32, &[to, Arg::U32(10)]).unwrap();
    if !cfg!(any(feature = "address", feature = "thread")) {
        says(&message(&machine, "planted_stack", 1, &[to, Arg::U32(17)]), &["needs more than 65536 bytes of stack"]);
    }
}
