//! The machine: memory and its bounds, lanes that part and meet, barriers, what goes wrong and how it is told.

mod run;

use nano_interpreter::Interpreter;
use nano_kernels::cuda::{Arg, Driver, Launch};
use run::{download, kernel, try_apply, upload};

/// Runs `body` in blocks of `threads`; it writes its 32-bit results to [out] in %d10.
fn launch(body: &str, grid: u32, threads: u32, shared: u32, words: usize) -> Result<Vec<u32>, String> {
    let text = kernel(".param .u64 out", &format!("ld.param.u64 %d10, [out];\nmov.u32 %r50, %tid.x;\n{body}"));
    let machine = Interpreter::of_texts(87, &[("test.ptx", &text)]).map_err(|e| e.to_string())?;
    let out = machine.alloc(words * 4, "output").unwrap();
    machine
        .launch(Launch { kernel: "k", grid: [grid, 1, 1], threads, shared, args: &[Arg::Ptr(out)] })
        .map_err(|e| e.to_string())?;
    let bytes = download(&machine, out, words * 4);
    Ok(bytes.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect())
}

/// Each thread stores %r0 at its own place.
const STORE: &str = "mul.wide.u32 %d11, %r50, 4;\nadd.s64 %d11, %d10, %d11;\nst.global.u32 [%d11], %r0;";

fn error(body: &str) -> String {
    launch(body, 1, 32, 0, 32).unwrap_err()
}

#[test]
fn loops_of_different_lengths_meet_again() {
    // Lane l adds up 0..l; all lanes are together again at the end.
    let body = format!(
        "mov.u32 %r0, 0;\nmov.u32 %r1, 0;\nL1:\nsetp.ge.u32 %p1, %r1, %r50;\n@%p1 bra L2;\nadd.u32 %r0, %r0, %r1;\n\
         add.u32 %r1, %r1, 1;\nbra L1;\nL2:\nactivemask.b32 %r2;\nsetp.ne.u32 %p2, %r2, -1;\n@%p2 mov.u32 %r0, 0xffff;\n{STORE}"
    );
    let found = launch(&body, 1, 32, 0, 32).unwrap();
    assert_eq!(found, (0..32).map(|l| l * (l.max(1) - 1) / 2).collect::<Vec<u32>>());
}

#[test]
fn both_sides_of_a_branch_run_and_some_leave_early() {
    let body = format!(
        "and.b32 %r1, %r50, 1;\nsetp.eq.u32 %p1, %r1, 0;\n@%p1 bra EVEN;\nmov.u32 %r0, 1;\nsetp.gt.u32 %p2, %r50, 20;\n\
         @%p2 ret;\nbra.uni BOTH;\nEVEN: mov.u32 %r0, 2;\nBOTH: activemask.b32 %r2;\npopc.b32 %r2, %r2;\n\
         mad.lo.u32 %r0, %r2, 10, %r0;\n{STORE}"
    );
    let found = launch(&body, 1, 32, 0, 32).unwrap();
    for (lane, found) in found.into_iter().enumerate() {
        let odd = lane % 2;
        let expected = if odd == 1 && lane > 20 { 0 } else { 26 * 10 + 2 - odd as u32 };
        assert_eq!(found, expected, "lane {lane}");
    }
}

#[test]
fn a_table_of_targets() {
    let body = format!(
        "and.b32 %r1, %r50, 3;\nT: .branchtargets A, B, C, B;\nbrx.idx %r1, T;\nA: mov.u32 %r0, 5;\nbra D;\n\
         B: mov.u32 %r0, 6;\nbra D;\nC: mov.u32 %r0, 7;\nD:\n{STORE}"
    );
    let found = launch(&body, 1, 32, 0, 32).unwrap();
    assert_eq!(found[..8], [5, 6, 7, 6, 5, 6, 7, 6]);
}

#[test]
fn barriers_let_warps_see_each_other() {
    // Warp 2 leaves before; the others turn 96 numbers around.
    let body = format!(
        ".shared .align 4 .b8 room[384];\nsetp.ge.u32 %p1, %r50, 96;\n@%p1 ret;\nmov.u32 %r1, room;\nmad.lo.u32 %r2, %r50, 4, %r1;\n\
         mul.lo.u32 %r3, %r50, 3;\nst.shared.u32 [%r2], %r3;\nbar.sync 0;\nsub.u32 %r4, 95, %r50;\n\
         mad.lo.u32 %r2, %r4, 4, %r1;\nld.shared.u32 %r0, [%r2];\n{STORE}"
    );
    let found = launch(&body, 1, 128, 0, 128).unwrap();
    assert!((0..96).all(|t| found[t] == (95 - t as u32) * 3), "{found:?}");
}

#[test]
fn barriers_of_some_and_counts_at_barriers() {
    let body = format!(
        "setp.lt.u32 %p1, %r50, 64;\nmov.u32 %r0, 0;\n@!%p1 bra REST;\nbar.sync 1, 64;\nREST:\n\
         setp.lt.u32 %p2, %r50, 37;\nbar.red.popc.u32 %r0, 0, %p2;\nbar.red.or.pred %p3, 0, !%p2;\n\
         @%p3 add.u32 %r0, %r0, 100;\n{STORE}"
    );
    assert_eq!(launch(&body, 1, 96, 0, 96).unwrap(), vec![137; 96]);
}

#[test]
fn a_barrier_that_some_never_reach_is_told() {
    let said = error("setp.lt.u32 %p1, %r50, 3;\nL: @%p1 bra L2;\nbar.sync 0;\nret;\nL2: bar.sync 1;");
    assert!(said.contains("hangs") && said.contains("bar.sync 1") && said.contains("0x00000007"), "{said}");
}

#[test]
fn dynamic_shared_memory_follows_the_static_one() {
    let text = kernel(
        ".param .u64 out",
        "ld.param.u64 %d10, [out];\n.shared .align 4 .b8 room[20];\nmov.u32 %r1, room;\nmov.u32 %r2, dynamic;\n\
         ld.shared.u32 %r3, [%r2+60];\nst.global.v2.u32 [%d10], {%r2, %r3};\nst.shared.u32 [%r1+16], 7;",
    )
    .replace(".visible", ".extern .shared .align 128 .b8 dynamic[];\n.visible");
    let machine = Interpreter::of_texts(87, &[("test.ptx", &text)]).unwrap();
    let out = machine.alloc(8, "output").unwrap();
    let run = |shared| machine.launch(Launch { kernel: "k", grid: [1; 3], threads: 1, shared, args: &[Arg::Ptr(out)] });
    run(64).unwrap();
    // It begins at a multiple of 128 and holds poison.
    assert_eq!(download(&machine, out, 8), [128, 0, 0, 0, 255, 255, 255, 255]);
    let said = run(60).unwrap_err().to_string();
    assert!(said.contains("4 bytes at byte 188 of shared memory, which has 188"), "{said}");
    let said = run(1 << 20).unwrap_err().to_string();
    assert!(said.contains("shared memory, where a block may have 166912"), "{said}");
}

#[test]
fn variables_have_their_first_values() {
    let text = kernel(
        ".param .u64 out",
        "ld.param.u64 %d10, [out];\nmov.u64 %d1, table;\nld.const.u32 %r1, [table+4];\nld.const.u32 %r2, [%d1+8];\n\
         ld.global.u32 %r3, [counter];\nadd.u32 %r4, %r3, 1;\nst.global.u32 [counter], %r4;\n\
         st.global.v4.u32 [%d10], {%r1, %r2, %r3, %r4};",
    )
    .replace(
        ".visible",
        ".const .align 4 .u32 table[4] = {1, 0x20, -3};\n.global .align 4 .u32 counter = 40;\n.visible",
    );
    let machine = Interpreter::of_texts(87, &[("test.ptx", &text)]).unwrap();
    let out = machine.alloc(16, "output").unwrap();
    for round in 0..2u32 {
        machine.launch(Launch { kernel: "k", grid: [1; 3], threads: 1, shared: 0, args: &[Arg::Ptr(out)] }).unwrap();
        let expected = [0x20, -3i32 as u32, 40 + round, 41 + round];
        assert_eq!(download(&machine, out, 16), expected.map(u32::to_le_bytes).concat());
    }
}

#[test]
fn generic_addresses_and_a_threads_own_memory() {
    let body = ".local .align 8 .b8 own[16];\n.shared .align 4 .b8 room[128];\nmov.u64 %d1, own;\ncvta.local.u64 %d1, %d1;\n\
         st.u32 [%d1+8], %r50;\nld.local.u32 %r1, [own+8];\nmov.u32 %r2, room;\ncvt.u64.u32 %d2, %r2;\ncvta.shared.u64 %d2, %d2;\n\
         mul.wide.u32 %d3, %r50, 4;\nadd.s64 %d4, %d2, %d3;\nst.u32 [%d4], %r1;\ncvta.to.shared.u64 %d4, %d4;\n\
         ld.shared.u32 %r0, [%d4];\nadd.s64 %d5, %d10, %d3;\nisspacep.shared %p1, %d2;\n@%p1 st.u32 [%d5], %r0;";
    assert_eq!(launch(body, 1, 32, 0, 32).unwrap(), (0..32).collect::<Vec<u32>>());
}

#[test]
fn sizes_and_signs_of_loads() {
    let found = run::apply(
        "ld.global.s8 %d4, [%d50+1];\nld.global.u16 %d5, [%d50+2];\nld.global.s32 %d6, [%d50+4];\nxor.b64 %d0, %d4, %d5;\nxor.b64 %d0, %d0, %d6;",
        &[[0x8123_4567_89ab_cdef, 0, 0]],
    );
    assert_eq!(found[0], 0xcdu8 as i8 as u64 ^ 0x89ab ^ 0x8123_4567u32 as i32 as u64);
}

#[test]
fn atomic_changes_are_done_in_order() {
    // Each of 3 x 64 threads takes a number and swaps with the last place.
    let body = "atom.global.add.u32 %r1, [%d10], 1;\nmul.wide.u32 %d1, %r1, 4;\nadd.s64 %d1, %d10, %d1;\n\
                mov.u32 %r2, %ctaid.x;\nmad.lo.u32 %r2, %r2, 64, %r50;\nst.global.u32 [%d1+4], %r2;\n\
                red.global.max.u32 [%d10+780], %r2;\natom.global.inc.u32 %r3, [%d10+784], 99;\n\
                atom.global.cas.b32 %r4, [%d10+788], 0, %r2;\natom.global.exch.b32 %r5, [%d10+792], %r2;";
    let found = launch(body, 3, 64, 0, 200).unwrap();
    assert_eq!(found[..193], [[192].as_slice(), &(0..192).collect::<Vec<u32>>()].concat());
    assert_eq!(found[195..199], [191, 92, 1, 191]);
}

#[test]
fn what_is_out_of_bounds_is_told() {
    let said = error("add.s64 %d11, %d10, 128;\nld.global.u32 %r0, [%d11];");
    assert!(said.contains("4 bytes at byte 128 of 'output', which has 128"), "{said}");
    assert!(said.contains("thread 0 of block [0, 0, 0]") && said.contains("ld.global.u32 %r0, [%d11];"), "{said}");
    let said = error("mul.wide.u32 %d11, %r50, 4;\nadd.s64 %d11, %d10, %d11;\nst.global.u32 [%d11+40], 0;");
    assert!(said.contains("'output'") && said.contains("thread 22"), "{said}");
    let said = launch("ld.global.v4.u32 {%r0, %r1, %r2, %r3}, [%d10+16];", 1, 1, 0, 6).unwrap_err();
    assert!(said.contains("16 bytes at byte 16 of 'output', which has 24"), "{said}");
    let said = error("ld.global.u32 %r0, [%d10+-4];");
    assert!(said.contains("bytes"), "{said}");
    let said = error("mov.u64 %d11, 0;\nst.u32 [%d11], 0;");
    assert!(said.contains("address 0x0, where there is no memory"), "{said}");
    let said = error(".shared .align 4 .b8 room[8];\nmov.u32 %r1, room;\nld.shared.u32 %r0, [%r1+8];");
    assert!(said.contains("of shared memory, which has 8"), "{said}");
    let said = error(".local .align 4 .b8 own[16];\nmov.u64 %d1, own;\nld.local.u32 %r0, [%d1+16];");
    assert!(said.contains("a thread's memory, which has 16"), "{said}");
}

#[test]
fn what_is_not_aligned_is_told() {
    let said = error("ld.global.v4.u32 {%r0, %r1, %r2, %r3}, [%d10+8];");
    assert!(said.contains("no multiple of 16"), "{said}");
    let said = error("ld.global.u16 %h1, [%d10+1];");
    assert!(said.contains("no multiple of 2"), "{said}");
}

#[test]
fn what_is_not_known_is_named() {
    for (text, part) in [
        ("wgmma.fence.sync.aligned;", "'wgmma.fence.sync.aligned' is not known"),
        ("add.rz.f32 %f1, %f2, %f3;", "'add.rz.f32': '.rz' is not known here"),
        ("cvt.rna.tf32.f32 %r1, %f2;", "cvt.rna.tf32.f32"),
        ("ld.global.b128 %d1, [%d10];", "type 'b128'"),
        ("mov.u32 %r1, %nosuch;", "'%nosuch' is not known"),
        ("mov.u32 %r60, 1;", "'%r60' is not known"),
        ("bra NOWHERE;", "'NOWHERE' is not known"),
        ("add.u32 %r1, %r2;", "operand 3 is missing"),
    ] {
        let said = error(text);
        assert!(said.contains(part) && said.contains("test.ptx, kernel k: line "), "{said}");
    }
}

#[test]
fn a_kernel_that_does_not_end_is_stopped() {
    let said = error("L: bra L;");
    assert!(said.contains("does not end"), "{said}");
}

#[test]
fn launches_are_held_against_the_kernel() {
    let text = kernel(".param .u64 out, .param .u32 n, .param .f32 f", "");
    let machine = Interpreter::of_texts(72, &[("test.ptx", &text)]).unwrap();
    let out = machine.alloc(4, "output").unwrap();
    let say = |kernel, grid, threads, args: &[Arg]| {
        machine
            .launch(Launch { kernel, grid, threads, shared: 0, args })
            .map_or_else(|e| e.to_string(), |()| String::new())
    };
    let good = [Arg::Ptr(out), Arg::U32(1), Arg::F32(2.0)];
    assert_eq!(say("k", [1; 3], 256, &good), "");
    assert!(say("j", [1; 3], 256, &good).contains("kernel j"));
    assert!(say("k", [1; 3], 257, &good).contains("257 threads, where its launch bounds allow 1 to 256"));
    assert!(say("k", [0, 1, 1], 32, &good).contains("a grid of [0, 1, 1]"));
    assert!(say("k", [1, 70000, 1], 32, &good).contains("a grid of"));
    assert!(say("k", [1; 3], 32, &good[..2]).contains("2 arguments, where it has 3"));
    assert!(
        say("k", [1; 3], 32, &[good[0], good[2], good[1]])
            .contains("argument 1 is F32(2.0), where the parameter is u32")
    );
    assert!(say("k", [1; 3], 32, &[Arg::Ptr(12), good[1], good[2]]).contains("address 0xc, where there is no memory"));
}

#[test]
fn what_is_recorded_runs_when_replayed() {
    let text = kernel(
        ".param .u64 out, .param .u32 n",
        "ld.param.u64 %d10, [out];\nld.param.u32 %r1, [n];\nld.global.u32 %r2, [%d10];\nmad.lo.u32 %r2, %r2, 10, %r1;\nst.global.u32 [%d10], %r2;",
    );
    let machine = Interpreter::of_texts(72, &[("test.ptx", &text)]).unwrap();
    let (at, copy) = (upload(&machine, &[0; 4]), machine.alloc(4, "copy").unwrap());
    machine.begin_record().unwrap();
    for n in [1, 2, 3] {
        let args = [Arg::Ptr(at), Arg::U32(n)];
        machine.launch(Launch { kernel: "k", grid: [1; 3], threads: 1, shared: 0, args: &args }).unwrap();
    }
    machine.copy(at, copy, 4).unwrap();
    assert!(machine.alloc(4, "more").is_err());
    let recording = machine.end_record().unwrap();
    assert_eq!(download(&machine, at, 4), [0; 4]);
    machine.replay(&recording).unwrap();
    machine.replay(&recording).unwrap();
    assert_eq!(download(&machine, copy, 4), 123_123u32.to_le_bytes());
    assert!(machine.end_record().is_err());
}

#[test]
fn statements_may_be_scoped_and_commented() {
    let body = "{ .reg .b32 x, y; // one\nmov.u32 x, 3; /* two\n */ mov.u32 y, x; { .reg .b32 x; mov.u32 x, 9; }\nadd.u32 %r0, x, y; }\n\
                cvt.u64.u32 %d0, %r0;";
    assert_eq!(try_apply(body, &[[0; 3]]).unwrap(), [6]);
    assert!(try_apply("{ .reg .b32 x; mov.u32 x, 3; }\nmov.u32 x, 3;", &[[0; 3]]).unwrap_err().contains("'x'"));
}

#[test]
fn every_kernel_of_the_project_is_understood() {
    for capability in [72, 87] {
        Interpreter::new(capability).unwrap().decode_all().unwrap();
    }
}
