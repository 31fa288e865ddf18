//! What a kernel may do works, in order and under shuffled schedules, on one thread and on several.

mod common;

use common::{Machine, machines};
use nano_kernels::cuda::{Arg, Driver, Launch};

#[test]
fn blocks_work_together() {
    for machine in machines() {
        let n = 10_000u32;
        let from = machine.put(&(0..n).collect::<Vec<_>>());
        let (partial, counter, to) = (machine.room(7), machine.room(1), machine.room(1));
        for _ in 0..3 {
            machine.run("test_sum", 7, 128, &[from, partial, counter, to, Arg::U32(n)]).unwrap();
            assert_eq!(machine.get(to, 1), [n * (n - 1) / 2]);
        }
        machine.0.check().unwrap();
    }
}

#[test]
fn values_travel_between_lanes() {
    for machine in machines() {
        let to = machine.room(32 * 16);
        machine.run("test_lanes", 1, 32, &[to]).unwrap();
        let value = |lane: u32| lane * 3 + 1;
        for (lane, out) in (0u32..).zip(machine.get(to, 32 * 16).chunks(16)) {
            let eight = lane / 8 * 8;
            assert_eq!(out[0], value(5));
            assert_eq!(out[1], value(eight + (lane + 3) % 8));
            assert_eq!(out[2], value(if lane < 2 { lane } else { lane - 2 }));
            assert_eq!(out[3], value(if lane % 8 < 3 { lane } else { lane - 3 }));
            assert_eq!(out[4], value(if lane > 29 { lane } else { lane + 2 }));
            assert_eq!(out[5], value(if lane % 8 > 4 { lane } else { lane + 3 }));
            assert_eq!(out[6], value(lane ^ 9));
            // Beyond the end of the segment a lane keeps its own; before its start it does not.
            assert_eq!(out[7], value(if lane ^ 9 < eight + 8 { lane ^ 9 } else { lane }));
            assert_eq!(out[8], (0..32).filter(|l| l % 3 == 0).map(|l| 1 << l).sum::<u32>());
            assert_eq!(out[9], 11);
            assert_eq!(out[10], lane ^ 1);
            assert_eq!(out[11], value(lane ^ if lane < 16 { 1 } else { 2 }));
            assert_eq!(out[12..14], if lane < 20 { [0xf_ffff, 77] } else { [0, 0] });
        }
    }
}

#[test]
fn blocks_have_their_own_shared_memory() {
    for machine in machines() {
        let to = machine.room(30 * 64 * 4);
        let launch = Launch { kernel: "test_block", grid: [2, 3, 5], threads: 64, shared: 256, args: &[to] };
        machine.0.launch(launch).unwrap();
        for (thread, out) in machine.get(to, 30 * 64 * 4).chunks(4).enumerate() {
            // Poison, not what another block left.
            assert_eq!(out, [u32::MAX, (thread as u32 % 64) ^ 63, 22, 10], "thread {thread}");
        }
    }
}

#[test]
fn shared_arrays_belong_to_their_function() {
    for machine in machines() {
        let to = machine.room(64);
        machine.run("test_shared", 1, 64, &[to]).unwrap();
        for (thread, out) in (0u32..).zip(machine.get(to, 64)) {
            let other = 63 - thread;
            let wide = other * (1 + other / 32) + 2;
            // The 128 wide array's far half was never written: poison.
            assert_eq!(
                out,
                (wide * 1000).wrapping_add(7 + 14).wrapping_add(u32::MAX).wrapping_add(18),
                "thread {thread}"
            );
        }
    }
}

#[test]
fn atomics_add_up() {
    for machine in machines() {
        let to = machine.put(&[0, 0, u32::MAX, 0, 0, 0, 0, 0]);
        machine.run("test_atomics", 4, 256, &[to]).unwrap();
        let found = machine.get(to, 8);
        assert_eq!(found[..4], [2048, 255, 0, u32::MAX]);
        assert!((1..=256).contains(&found[4]));
        assert_eq!(found[5..], [1, 5, 1]);
    }
}

#[test]
fn a_seed_repeats_itself() {
    let order = |seed| {
        let machine = Machine::new(80, seed, 1);
        let to = machine.put(&[0; 8]);
        machine.run("test_atomics", 1, 256, &[to]).unwrap();
        machine.get(to, 8)[4]
    };
    let first: Vec<u32> = (0..8).map(order).collect();
    assert_eq!(first, (0..8).map(order).collect::<Vec<_>>());
    assert!(first[1..].iter().any(|&winner| winner != first[0]), "every seed gives the order of seed 0: {first:?}");
}
