//! What is asked of the machine wrongly comes back as an error; recordings; and copies that are as late as they may be.

mod common;

use common::Machine;
use nano_emulator::{Emulator, Options};
use nano_kernels::cuda::{Arg, Driver, Launch};

fn wrong(machine: &Machine, launch: Launch<'_>, part: &str) {
    let message = machine.0.launch(launch).expect_err(part).to_string();
    assert!(message.contains(part), "'{part}' is not in: {message}");
    assert_eq!(machine.0.launches(), 0);
}

#[test]
fn launches_are_held_against_the_kernel() {
    let machine = Machine::new(80, 0, 1);
    let room = machine.room(64);
    let Arg::Ptr(at) = room else { unreachable!() };
    let args = [room, room, room, room, Arg::U32(0)];
    let good = Launch { kernel: "test_sum", grid: [1, 1, 1], threads: 128, shared: 0, args: &args };

    wrong(
        &machine,
        Launch { kernel: "test_gone", ..good },
        "kernel test_gone: there is none of this name for emulator of",
    );
    wrong(&machine, Launch { args: &args[..4], ..good }, "kernel test_sum: 4 arguments, where it has 5 parameters");
    for (number, arg, what) in [
        (4, room, "argument 4 is Ptr("),
        (4, Arg::F32(1.0), "where the parameter is an integer of 32 bits"),
        (4, Arg::U64(1), "argument 4 is U64(1)"),
        (0, Arg::U64(at), "where the parameter is a pointer"),
        (1, Arg::U32(at as u32), "argument 1 is U32("),
        (3, Arg::Ptr(at + 257), "argument 3 is the address"),
        (3, Arg::Ptr(at - 1), "where there is no memory"),
    ] {
        let mut args = args;
        args[number] = arg;
        wrong(&machine, Launch { args: &args, ..good }, what);
    }
    wrong(&machine, Launch { threads: 129, ..good }, "129 threads, where its launch bounds allow 1 to 128");
    wrong(&machine, Launch { threads: 0, ..good }, "0 threads");
    wrong(&machine, Launch { grid: [1, 0, 1], ..good }, "a grid of [1, 0, 1] blocks");
    wrong(&machine, Launch { grid: [1, 65536, 1], ..good }, "a grid of [1, 65536, 1] blocks");
    wrong(&machine, Launch { shared: 166_913, ..good }, "166913 bytes of shared memory, where a block may have 166912");
    let old = Machine::new(72, 0, 1);
    wrong(&old, Launch { kernel: "planted_wait", args: &[], ..good }, "none of this name for emulator of sm_72");
    machine.0.launch(good).unwrap();
    assert_eq!(machine.0.launches(), 1);
}

#[test]
fn what_it_says_of_itself() {
    assert!(Emulator::new(Options { arch: 90, ..Options::default() }).is_err());
    for (arch, capability, shared) in [(72, 72, 98_304), (80, 87, 166_912)] {
        let machine = Emulator::new(Options { arch, multiprocessors: 6, ..Options::default() }).unwrap();
        let about = machine.about();
        assert_eq!((about.capability, about.shared_bytes, about.multiprocessors), (capability, shared, 6));
        assert!(machine.kernels().contains(&"test_sum"));
    }
}

#[test]
fn memory_ends() {
    let machine = Emulator::new(Options { memory: 1000, ..Options::default() }).unwrap();
    let first = machine.alloc(600, "the first").unwrap();
    assert!(first.is_multiple_of(256));
    let message = machine.alloc(401, "the second").unwrap_err().to_string();
    assert!(message.contains("the second: 401 bytes of GPU memory"), "{message}");
    let second = machine.alloc(400, "the second").unwrap();
    let mut host = machine.host(700).unwrap();
    host.as_mut().fill(1);
    assert!(machine.upload(first, &host, 0..601).unwrap_err().to_string().contains("601 bytes from 0 on in the first"));
    assert!(machine.upload(first + 100, &host, 0..501).is_err());
    assert!(machine.upload(first + 100, &host, 600..701).is_err());
    assert!(machine.download(second + 400, &mut host, 0..1).is_err());
    assert!(machine.copy(first, first + 100, 101).is_err());
    machine.copy(first, first + 100, 100).unwrap();
    machine.upload(first + 100, &host, 0..500).unwrap();
    machine.copy(first + 100, second, 400).unwrap();
    machine.check().unwrap();
}

#[test]
fn recordings_run_later_and_again() {
    for seed in 0..4 {
        let machine = Machine::new(80, seed, 1);
        let to = machine.put(&[0; 8]);
        machine.0.begin_record().unwrap();
        let count = Launch { kernel: "test_atomics", grid: [1, 1, 1], threads: 256, shared: 0, args: &[to] };
        machine.0.launch(count).unwrap();
        machine.0.launch(Launch { threads: 32, ..count }).unwrap();
        assert!(machine.0.finish().is_err());
        assert!(machine.0.begin_record().is_err());
        assert!(machine.0.alloc(1, "too late").is_err());
        assert!(machine.0.launch(Launch { kernel: "test_gone", ..count }).is_err());
        let graph = machine.0.end_record().unwrap();
        assert!(machine.0.end_record().is_err());
        assert_eq!(machine.get(to, 1), [0]);
        for round in 1..4 {
            machine.0.replay(&graph).unwrap();
            assert_eq!(machine.get(to, 1), [round * 576]);
        }
        assert_eq!(machine.0.launches(), 6);
    }
}

/// Copies done at once hide what a device shows: seeds delay them.
#[test]
fn who_does_not_wait_sees_it() {
    let rounds = |waits: bool| {
        let mut wrong = 0;
        for seed in 1..20 {
            let machine = Machine::new(80, seed, 1);
            let to = machine.0.alloc(256, "words").unwrap();
            let mut host = machine.0.host(512).unwrap();
            host.as_mut()[..256].fill(7);
            machine.0.upload(to, &host, 0..256).unwrap();
            machine.0.mark(1).unwrap();
            if waits {
                machine.0.wait(1).unwrap();
            }
            host.as_mut()[..256].fill(8);
            machine.0.download(to, &mut host, 256..512).unwrap();
            machine.0.mark(2).unwrap();
            // Another mark is no help.
            machine.0.wait(if waits { 2 } else { 3 }).unwrap();
            wrong += usize::from(host.as_ref()[256..].iter().any(|&b| b != 7));
            machine.0.finish().unwrap();
        }
        wrong
    };
    assert_eq!(rounds(true), 0);
    assert!(rounds(false) > 10);
}
