//! The PTX that ships, run through the CUDA backend's own launchers and packing: every operation in small shapes, against
//! the CPU backend. Both round in their own places, so results agree to about float16's precision.

use nano_interpreter::Interpreter;
use nano_kernels::cpu::Cpu;
use nano_kernels::cuda::{Cuda, Sizes};
use nano_kernels::*;
use std::time::Instant;

const FORMATS: [Format; 9] = [
    Format::F16,
    Format::Q8_0,
    Format::Q4_0,
    Format::Q4_1,
    Format::Q4K,
    Format::Q6K,
    Format::Int4(Group::G128),
    Format::Int8(Group::G64),
    Format::Mxfp4,
];
const SIZES: Sizes = Sizes { rows: 48, logits: 16, pages: 16 };

/// Numbers without a pattern, between -1 and 1.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.next() as f32 / (1u32 << 30) as f32 - 1.0).collect()
    }

    /// A weight; as float32 if its values are to be taken as they are.
    fn tensor(&mut self, format: Format, rows: usize, cols: usize, plain: bool) -> HostTensor<'static> {
        let mut bytes = Vec::new();
        for row in self.floats(rows * cols).chunks(cols) {
            let row = stored(format, row);
            if plain {
                let mut values = vec![0.0; cols];
                format::dequantize_row(format, &row, &mut values);
                bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
            } else {
                bytes.extend(row);
            }
        }
        let format = if plain { Format::F32 } else { format };
        HostTensor::new(format!("{format:?}"), format, rows, cols, bytes.into()).unwrap()
    }
}

/// A row as a format holds it: formats of blocks get random bits and scales that keep values near 1.
fn stored(format: Format, row: &[f32]) -> Vec<u8> {
    let half = |v: f32| format::f32_to_f16(v).to_le_bytes();
    if format == Format::F16 {
        return row.iter().flat_map(|v| half(*v)).collect();
    }
    let mut bytes = Vec::new();
    for block in row.chunks(format.block_len()) {
        let from = bytes.len();
        bytes.extend(block.iter().cycle().take(format.block_bytes()).map(|v| (v * 12345.0) as i32 as u8));
        let scales: &[(usize, f32)] = match format {
            Format::Q8_0 => &[(0, 1.0 / 128.0)],
            Format::Q4_0 => &[(0, 1.0 / 8.0)],
            Format::Q4_1 => &[(0, 1.0 / 8.0), (2, 1.0)],
            Format::Q4K => &[(0, 1.0 / 512.0), (2, 1.0 / 64.0)],
            Format::Int4(_) => &[(0, 1.0 / 8.0)],
            Format::Int8(_) => &[(0, 1.0 / 128.0)],
            Format::Mxfp4 => &[],
            _ => &[(208, 1.0 / 2048.0)],
        };
        for (at, scale) in scales {
            bytes[from + at..from + at + 2].copy_from_slice(&half(scale * block[0]));
        }
        if format == Format::Mxfp4 {
            bytes[from] = 123 + bytes[from] % 4;
        }
        if let Format::Int4(_) | Format::Int8(_) = format {
            bytes[from + 3] = 0;
            bytes[from + 2] %= 16;
        }
    }
    bytes
}

/// What operations gave: names, values, and the error that is allowed, relative to the largest value.
type Results = Vec<(String, Vec<f32>, f32)>;

fn buf<B: Backend>(b: &mut B, cols: usize, values: &[f32], precision: Precision) -> B::Buf {
    let mut buf = b.buf((values.len() / cols).max(SIZES.rows), cols, precision).unwrap();
    b.write(&mut buf, values).unwrap();
    buf
}

fn row<B: Backend>(b: &mut B, values: &[f32]) -> B::Buf {
    let mut buf = b.buf(1, values.len(), Precision::Full).unwrap();
    b.write(&mut buf, values).unwrap();
    buf
}

/// A step of rows of two sequences, the second one's from its place `past` on; every third row wants logits.
fn step(rows: [usize; 2], past: usize, pick: Pick) -> Step {
    let sequences = [vec![3, 0, 5], vec![2, 4, 1]].map(|pages| SequenceRows { pages });
    let mut step = Step { sequences: sequences.to_vec(), pick, ..Step::default() };
    for (sequence, count) in rows.into_iter().enumerate() {
        for i in 0..count {
            let position = (i + sequence * past) as u32;
            let page = step.sequences[sequence].pages[position as usize / PAGE_ROWS];
            let slot = page * PAGE_ROWS as u32 + position % PAGE_ROWS as u32;
            let token = (step.rows.len() * 29 % 70) as u32;
            step.rows.push(Row { token, position, slot, sequence: sequence as u32, visible: position + 1 });
        }
    }
    step.logits = (0..step.rows.len() as u32).step_by(3).collect();
    step
}

fn embeds<B: Backend>(b: &mut B, plain: bool, results: &mut Results) {
    let mut random = Random(1);
    for format in FORMATS {
        let table = b.weight(&[random.tensor(format, 70, 256, plain)]).unwrap();
        let mut x = b.buf(SIZES.rows, 256, Precision::Full).unwrap();
        b.run(&step([2, 3], 0, Pick::None), None, &mut |b| b.embed(&mut x, &table, 1.5, None)).unwrap();
        results.push((format!("embed {format:?}"), b.read(&x, 5).unwrap().to_vec(), 1e-3));
    }
}

fn products<B: Backend>(b: &mut B, plain: bool, results: &mut Results) {
    let mut random = Random(2);
    let afters = [After::Store, After::Add, After::Act(Act::Gelu), After::Act(Act::GeluTanh), After::Glu(Act::Silu)];
    for (number, format) in FORMATS.into_iter().enumerate() {
        for (turn, rows) in [[1, 0], [2, 1], [5, 2], [20, 13]].into_iter().enumerate() {
            let after = afters[(number + turn) % afters.len()];
            let gated = matches!(after, After::Glu(_));
            let (cols, each) = (256 << (turn % 2), 32);
            let parts: Vec<_> = (0..2).map(|_| random.tensor(format, each, cols, plain)).collect();
            let outs = if gated { each } else { 2 * each };
            let bias = (turn % 2 == 0).then(|| random.floats(2 * each));
            let linear = Linear { weight: b.weight(&parts).unwrap(), bias: bias.map(|v| row(b, &v)) };
            let layer = turn % 2 == 1;
            let norm = Norm {
                kind: if layer { NormKind::Layer } else { NormKind::Rms },
                weight: row(b, &random.floats(cols)),
                bias: layer.then(|| row(b, &random.floats(cols))),
                eps: 1e-5,
            };
            let norm = (number % 2 == 0).then_some(norm);
            let count = rows[0] + rows[1];
            let x = buf(b, cols, &random.floats(count * cols), Precision::Full);
            let mut out = buf(b, outs, &random.floats(SIZES.rows * outs), Precision::Full);
            let picks = if turn == 2 { Rows::Logits } else { Rows::All };
            let step = step(rows, 0, Pick::None);
            b.run(&step, None, &mut |b| b.linear(&mut out, &x, norm.as_ref(), &linear, after, picks)).unwrap();
            let read = if turn == 2 { step.logits.len() } else { count };
            let name = format!("{count} rows times {format:?} of {cols}, {after:?}");
            results.push((name, b.read(&out, read).unwrap().to_vec(), 2e-3));
        }
    }
}

fn rows<B: Backend>(b: &mut B, results: &mut Results) {
    let mut random = Random(3);
    for (kind, after) in [(NormKind::Rms, After::Store), (NormKind::Layer, After::Add)] {
        let bias = (kind == NormKind::Layer).then(|| row(b, &random.floats(200)));
        let norm = Norm { kind, weight: row(b, &random.floats(200)), bias, eps: 1e-6 };
        let x = buf(b, 200, &random.floats(1000), Precision::Full);
        let mut out = buf(b, 200, &random.floats(1000), Precision::Full);
        b.run(&step([3, 2], 0, Pick::None), None, &mut |b| b.norm(&mut out, &x, &norm, after)).unwrap();
        results.push((format!("norm {kind:?}"), b.read(&out, 5).unwrap().to_vec(), 1e-5));
    }
    let values: Vec<f32> = random.floats(1500).iter().map(|v| v * 50.0).collect();
    let mut x = buf(b, 300, &values, Precision::Full);
    let step = step([4, 9], 0, Pick::TopK(7));
    b.run(&step, None, &mut |b| {
        b.softcap(&mut x, 30.0)?;
        b.pick(&x)
    })
    .unwrap();
    let picks: Vec<f32> = b.picks(0).unwrap().iter().flat_map(|c| [c.id as f32, c.logit]).collect();
    results.push(("pick".to_owned(), picks, 1e-5));
    results.push(("softcap".to_owned(), b.read(&x, 5).unwrap().to_vec(), 1e-5));
}

fn attention<B: Backend>(b: &mut B, results: &mut Results) {
    for (number, format) in [KvFormat::F16, KvFormat::Q8].into_iter().enumerate() {
        let mut random = Random(4 + number as u64);
        let (heads, kv_heads, head_dim) = [(6, 2, 64), (4, 4, 48)][number];
        let (width, all) = (heads * head_dim, (heads + 2 * kv_heads) * head_dim);
        let norm = |b: &mut B, random: &mut Random| Norm {
            kind: NormKind::Rms,
            weight: row(b, &random.floats(head_dim)),
            bias: None,
            eps: 1e-6,
        };
        let frequencies: Vec<f32> = (0..head_dim / 2).map(|i| 0.7f32.powi(i as i32)).collect();
        let rope = Rope {
            pairing: [Pairing::Halves, Pairing::Adjacent][number],
            dims: head_dim,
            frequencies: row(b, &frequencies),
            factor: 1.0,
            heads,
            kv_heads,
            head_dim,
            q_norm: (number == 1).then(|| norm(b, &mut random)),
            k_norm: (number == 1).then(|| norm(b, &mut random)),
            whole_norms: false,
        };
        let mut kv = b.pages(PageLayout { pages: 6, layers: 2, kv_heads, head_dim, format }).unwrap();
        let attend = Attend {
            heads,
            kv_heads,
            head_dim,
            scale: 0.3,
            window: [None, Some(20)][number],
            softcap: [Some(8.0), None][number],
        };
        // A prompt each, then a few tokens of both, then attention without a cache.
        for (part, rows) in [[33, 14], [1, 0], [1, 2]].into_iter().enumerate() {
            let count = rows[0] + rows[1];
            let qkv = buf(b, all, &random.floats(count * all), Precision::Half);
            let mut q = b.buf(SIZES.rows, width, Precision::Half).unwrap();
            let mut out = b.buf(SIZES.rows, width, Precision::Half).unwrap();
            let mut step = step(rows, if part == 0 { 0 } else { 14 }, Pick::None);
            if part > 0 {
                let first = &mut step.rows[0];
                (first.position, first.visible, first.slot) = (32 + part as u32, 33 + part as u32, part as u32);
            }
            b.run(&step, None, &mut |b| {
                b.rope_store(&mut q, &qkv, &mut kv, 1, &rope)?;
                b.attend(&mut out, &q, &kv, 1, attend, None)
            })
            .unwrap();
            let limit = if format == KvFormat::Q8 { 2e-2 } else { 4e-3 };
            results.push((format!("attention {format:?}, part {part}"), b.read(&out, count).unwrap().to_vec(), limit));
            if part == 0 {
                let plain = Attend { window: None, ..attend };
                b.run(&step, None, &mut |b| b.attend_all(&mut out, &qkv, plain)).unwrap();
                results.push((format!("all see all {number}"), b.read(&out, count).unwrap().to_vec(), 4e-3));
            }
        }
        b.copy_rows(&mut kv, &[96, 97, 0], &[97, 40, 41]).unwrap();
        b.shift(&mut kv, 1, &rope, &[97, 98, 40], 3).unwrap();
        for page in [3, 1] {
            let layout = PageLayout { pages: 6, layers: 2, kv_heads, head_dim, format };
            let mut bytes = vec![0; layout.portable_bytes()];
            b.read_page(&kv, page, &mut bytes).unwrap();
            let values = bytes.chunks_exact(2).map(|v| format::f16_to_f32(u16::from_le_bytes([v[0], v[1]])));
            if format == KvFormat::F16 {
                results.push((format!("page {page}"), values.collect(), 4e-3));
            }
        }
    }
}

/// `plain`: weights as float32, for the CPU rounds the inputs of products with quants to eight bits.
fn everything<B: Backend>(b: &mut B, plain: bool) -> Results {
    let mut results = Vec::new();
    embeds(b, plain, &mut results);
    products(b, plain, &mut results);
    rows(b, &mut results);
    attention(b, &mut results);
    results
}

fn check(capability: u32) {
    let expected = everything(&mut Cpu::new(1).unwrap(), true);
    let mut cuda = Cuda::new(Interpreter::new(capability).unwrap(), SIZES).unwrap();
    let start = Instant::now();
    let found = everything(&mut cuda, false);
    let rate = 32e-6 * cuda.driver().instructions() as f64 / start.elapsed().as_secs_f64();
    println!("sm_{capability}: {rate:.0} million instructions of lanes a second, packing and decoding included");
    assert_eq!(found.len(), expected.len());
    for ((name, found, limit), (_, expected, _)) in found.iter().zip(&expected) {
        assert_eq!(found.len(), expected.len(), "{name}");
        let largest = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
        assert!(largest > 0.1 && largest.is_finite(), "{name}: nothing to compare");
        for (i, (f, e)) in found.iter().zip(expected).enumerate() {
            let error = (f - e).abs() / largest;
            assert!(
                error < *limit,
                "{name}, value {i}: {f}, {e} on the CPU; {error:e} of the largest, {limit:e} allowed"
            );
        }
    }
}

#[test]
fn compute_72_does_what_the_cpu_does() {
    check(72);
}

#[test]
fn compute_80_does_what_the_cpu_does() {
    check(87);
}
