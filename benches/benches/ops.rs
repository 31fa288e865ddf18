//! The operations, one by one: products for decode (GB/s of weights) and prefill (GOPS), attention.
//!
//! `cargo bench -p nano-benches --bench ops [-- threads... formats...]`

use nano_benches::{median, step};
use nano_kernels::cpu::{Cpu, Isa};
use nano_kernels::{After, Attend, Backend, Format, Group, HostTensor, KvFormat, Linear, PageLayout, Precision, Rows};
use std::borrow::Cow;

fn weight(format: Format, rows: usize, cols: usize) -> HostTensor<'static> {
    let mut bytes = vec![0u8; format.row_bytes(cols).unwrap() * rows];
    let mut x = 1u32;
    bytes.iter_mut().for_each(|b| {
        x = x.wrapping_mul(1664525).wrapping_add(1013904223);
        *b = (x >> 27) as u8;
    });
    bytes.chunks_exact_mut(format.block_bytes()).for_each(|block| match format {
        Format::Int4(_) | Format::Int8(_) => block[2..4].copy_from_slice(&[8, 0]),
        Format::Mxfp4 => block[0] = 120,
        _ => {}
    });
    HostTensor::new("w", format, rows, cols, Cow::Owned(bytes)).unwrap()
}

fn products(isa: Isa, threads: usize, names: &[String]) {
    let mut cpu = Cpu::with_isa(threads, isa).unwrap();
    let formats = [Format::Q4_1, Format::Q4_0, Format::Mxfp4, Format::Q8_0, Format::Q4K, Format::Q6K, Format::F16];
    let groups = [Format::Int4(Group::G128), Format::Int4(Group::G32), Format::Int8(Group::G128)];
    let named = |format: &Format| names.is_empty() || names.iter().any(|name| name == format.name());
    for format in formats.into_iter().chain(groups).filter(named) {
        let (outs, cols) = (1536, 1536);
        // Enough copies that no cache holds them.
        let copies: Vec<Linear<Cpu>> = (0..64)
            .map(|_| Linear { weight: cpu.weight(&[weight(format, outs, cols)]).unwrap(), bias: None })
            .collect();
        let bytes = Cpu::weight_bytes(format, outs, cols) * copies.len();
        let mut line = format!("{:14} {threads}T {:9}", isa.name(), format.name());
        for rows in [1, 8, 256] {
            let x = cpu.buf(rows, cols, Precision::Half).unwrap();
            let mut out = cpu.buf(rows, outs, Precision::Half).unwrap();
            let step = step(rows, 512);
            let n = if rows == 256 { 4 } else { copies.len() };
            let time = median(5, || {
                cpu.run(&step, None, &mut |cpu| {
                    copies[..n].iter().try_for_each(|w| cpu.linear(&mut out, &x, None, w, After::Store, Rows::All))
                })
                .unwrap()
            });
            let rate = match rows {
                1 => format!("{:6.1} GB/s", bytes as f64 / time * 1e-9),
                _ => format!("{:6.0} GOPS at {rows}", (2 * rows * outs * cols * n) as f64 / time * 1e-9),
            };
            line += &format!("  {rate}");
        }
        println!("{line}");
    }
}

fn attention(isa: Isa, threads: usize) {
    let mut cpu = Cpu::with_isa(threads, isa).unwrap();
    let a = Attend { heads: 9, kv_heads: 3, head_dim: 64, scale: 0.125, window: None, softcap: None };
    for format in [KvFormat::F16, KvFormat::Q8] {
        let layout = PageLayout { pages: 64, layers: 1, kv_heads: 3, head_dim: 64, format };
        let kv = cpu.pages(layout).unwrap();
        let mut line = format!("{:14} {threads}T attend {format:?}", isa.name());
        for (rows, context) in [(1, 512), (1, 2048), (256, 512), (256, 2048)] {
            let q = cpu.buf(rows, 9 * 64, Precision::Half).unwrap();
            let mut out = cpu.buf(rows, 9 * 64, Precision::Half).unwrap();
            let step = step(rows, context);
            let reps = if rows == 1 { 50 } else { 3 };
            let time = median(5, || {
                cpu.run(&step, None, &mut |cpu| (0..reps).try_for_each(|_| cpu.attend(&mut out, &q, &kv, 0, a, None)))
                    .unwrap()
            });
            line += &format!("  {rows}x{context}: {:.1} us", time / reps as f64 * 1e6);
        }
        println!("{line}");
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let threads: Vec<usize> = words.iter().filter_map(|word| word.parse().ok()).collect();
    let names: Vec<String> = words.into_iter().filter(|word| word.parse::<usize>().is_err()).collect();
    for threads in if threads.is_empty() { vec![1, 2] } else { threads } {
        for isa in Isa::available().into_iter().filter(|isa| *isa != Isa::Scalar) {
            products(isa, threads, &names);
            if names.is_empty() {
                attention(isa, threads);
            }
        }
    }
}
