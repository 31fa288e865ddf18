//! Runs a few instructions on rows of inputs.
#![allow(dead_code, reason = "each test program uses some of it")]

use nano_interpreter::Interpreter;
use nano_kernels::cuda::{Arg, Driver, Launch};

/// A kernel `k` of these parameters and body, for up to 256 threads.
pub fn kernel(params: &str, body: &str) -> String {
    format!(
        ".version 7.4\n.target sm_80\n.address_size 64\n.visible .entry k({params})\n.maxntid 256, 1, 1\n{{\n\
         .reg .pred %p<20>;\n.reg .b16 %h<40>;\n.reg .b32 %r<60>;\n.reg .f32 %f<40>;\n.reg .b64 %d<60>;\n.reg .f64 %g<20>;\n\
         {body}\nret;\n}}\n"
    )
}

/// Device memory with this in it.
pub fn upload(machine: &Interpreter, bytes: &[u8]) -> u64 {
    let at = machine.alloc(bytes.len(), "input").unwrap();
    let mut host = machine.host(bytes.len()).unwrap();
    host.as_mut().copy_from_slice(bytes);
    machine.upload(at, &host, 0..bytes.len()).unwrap();
    at
}

/// What is in device memory.
pub fn download(machine: &Interpreter, at: u64, bytes: usize) -> Vec<u8> {
    let mut host = machine.host(bytes).unwrap();
    machine.download(at, &mut host, 0..bytes).unwrap();
    machine.finish().unwrap();
    host.as_ref().to_vec()
}

/// Runs `body` on a thread for each row: it finds a, b, c in %d1, %d2, %d3 (and in %r1.., %h1.., their low bits) and
/// leaves its result in %d0.
pub fn apply(body: &str, rows: &[[u64; 3]]) -> Vec<u64> {
    try_apply(body, rows).unwrap()
}

/// The same, or what went wrong.
pub fn try_apply(body: &str, rows: &[[u64; 3]]) -> Result<Vec<u64>, String> {
    let text = kernel(
        ".param .u64 in, .param .u64 out, .param .u32 n",
        &format!(
            "mov.u32 %r50, %tid.x;\nmov.u32 %r51, %ctaid.x;\nmad.lo.u32 %r50, %r51, 256, %r50;\n\
             ld.param.u32 %r51, [n];\nsetp.ge.u32 %p19, %r50, %r51;\n@%p19 ret;\n\
             ld.param.u64 %d50, [in];\nmul.wide.u32 %d51, %r50, 24;\nadd.s64 %d50, %d50, %d51;\n\
             ld.global.u64 %d1, [%d50];\nld.global.u64 %d2, [%d50+8];\nld.global.u64 %d3, [%d50+16];\n\
             cvt.u32.u64 %r1, %d1;\ncvt.u32.u64 %r2, %d2;\ncvt.u32.u64 %r3, %d3;\n\
             cvt.u16.u64 %h1, %d1;\ncvt.u16.u64 %h2, %d2;\ncvt.u16.u64 %h3, %d3;\n\
             mov.u64 %d0, 0;\n{body}\n\
             ld.param.u64 %d50, [out];\nmul.wide.u32 %d51, %r50, 8;\nadd.s64 %d50, %d50, %d51;\nst.global.u64 [%d50], %d0;"
        ),
    );
    let machine = Interpreter::of_texts(80, &[("test.ptx", &text)]).map_err(|e| e.to_string())?;
    let bytes: Vec<u8> = rows.iter().flatten().flat_map(|v| v.to_le_bytes()).collect();
    let (from, to) = (upload(&machine, &bytes), machine.alloc(rows.len() * 8, "output").unwrap());
    let args = [Arg::Ptr(from), Arg::Ptr(to), Arg::U32(rows.len() as u32)];
    let grid = [rows.len().div_ceil(256) as u32, 1, 1];
    machine.launch(Launch { kernel: "k", grid, threads: 256, shared: 0, args: &args }).map_err(|e| e.to_string())?;
    let bytes = download(&machine, to, rows.len() * 8);
    Ok(bytes.chunks_exact(8).map(|b| u64::from_le_bytes(b.try_into().unwrap())).collect())
}

/// `opcode` on 32-bit registers: `%r0 = opcode(%r1, %r2, %r3)` with as many sources as asked for.
pub fn apply32(opcode: &str, sources: usize, rows: &[[u64; 3]]) -> Vec<u32> {
    let list = &", %r1, %r2, %r3"[..5 * sources];
    let found = apply(&format!("{opcode} %r0{list};\ncvt.u64.u32 %d0, %r0;"), rows);
    found.into_iter().map(|v| v as u32).collect()
}

/// Rows of numbers without a pattern, corner cases first.
pub fn rows(count: usize) -> Vec<[u64; 3]> {
    let corners =
        [0, 1, 31, 32, 33, 0x7fff_ffff, 0x8000_0000, u32::MAX as u64, u64::MAX, 1 << 63, 0x7f80_0000, 0x3f80_0000];
    let mut found = Vec::new();
    for a in corners {
        for b in corners {
            found.push([a, b, corners[(a ^ b) as usize % corners.len()]]);
        }
    }
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state ^ state >> 31
    };
    found.extend((0..count).map(|_| [next(), next(), next()]));
    found
}
