//! embed: rows of packed tables, shelves, and tokens that only the device knows.

use super::{Random, assert_near, everywhere, step};
use half::f16;
use nano_kernels::cuda::{Cuda, Driver};
use nano_kernels::{Backend, Format, Group, HostTensor, PREV, Pick, Precision, Step};

/// A random matrix in a format, with scales as checkpoints have them.
fn tensor(random: &mut Random, format: Format, rows: usize, cols: usize) -> HostTensor<'static> {
    let mut bytes = Vec::new();
    let half = |v: f32| f16::from_f32(v).to_le_bytes();
    for _ in 0..rows * cols / format.block_len() {
        let start = bytes.len();
        let (d, m) = (half(0.01 + 0.005 * random.float()), half(0.05 * random.float().abs()));
        match format {
            Format::F32 => bytes.extend(random.float().to_le_bytes()),
            Format::F16 => bytes.extend(half(random.float())),
            Format::Bf16 => bytes.extend(half::bf16::from_f32(random.float()).to_le_bytes()),
            _ => {
                bytes.extend((0..format.block_bytes()).map(|_| random.next() as u8));
                let block = &mut bytes[start..];
                match format {
                    Format::Q8_0 | Format::Q4_0 => block[..2].copy_from_slice(&d),
                    Format::Q4_1 | Format::Q4K => {
                        block[..2].copy_from_slice(&d);
                        block[2..4].copy_from_slice(&m);
                    }
                    Format::Q6K => block[208..].copy_from_slice(&d),
                    Format::Mxfp4 => block[0] = 110 + random.below(16) as u8,
                    Format::Int4(_) | Format::Int8(_) => {
                        block[..2].copy_from_slice(&d);
                        let zero = [0, 7, 16][random.below(3)] as u16;
                        block[2..4].copy_from_slice(&zero.to_le_bytes());
                    }
                    other => panic!("{other} is not native"),
                }
            }
        }
    }
    HostTensor::new("table", format, rows, cols, bytes.into()).unwrap()
}

/// Every row, dequantized.
fn rows(tensor: &HostTensor<'_>) -> Vec<Vec<f32>> {
    tensor.to_f32().chunks(tensor.cols).map(<[f32]>::to_vec).collect()
}

fn tables<D: Driver>(cuda: &mut Cuda<D>) -> Vec<f32> {
    let mut random = Random::new(21);
    let mut seen = Vec::new();
    let kinds: [(&[Format], usize); 14] = [
        (&[Format::F16], 20),
        (&[Format::F32], 131),
        (&[Format::Bf16], 136),
        (&[Format::Q8_0], 160),
        (&[Format::Q4_0], 1056),
        (&[Format::Q4_1], 96),
        (&[Format::Q4K], 768),
        (&[Format::Q6K], 256),
        (&[Format::Q4K, Format::Q6K, Format::Q4_0], 512),
        (&[Format::Mxfp4], 352),
        (&[Format::Int4(Group::G32)], 160),
        (&[Format::Int4(Group::G128), Format::Q8_0], 384),
        (&[Format::Int8(Group::G64)], 192),
        (&[Format::Int8(Group::G128), Format::Int4(Group::G64)], 1152),
    ];
    for (number, (formats, cols)) in kinds.into_iter().enumerate() {
        let tensors: Vec<HostTensor<'_>> =
            formats.iter().enumerate().map(|(i, f)| tensor(&mut random, *f, 35 + 13 * i, cols)).collect();
        // The last two have columns in an order of their own.
        let order: Vec<u32> = (0..cols as u32).map(|c| if number < 12 { c } else { cols as u32 - 1 - c }).collect();
        let tensors: Vec<_> = tensors.into_iter().map(|tensor| tensor.with_order(&order).unwrap()).collect();
        let table = cuda.weight(&tensors).unwrap();
        let exact: Vec<Vec<f32>> = tensors.iter().flat_map(rows).collect();
        let (scale, half) = ([1.0, 22.627417][number % 2], number % 3 == 0);
        let precision = if half { Precision::Half } else { Precision::Full };
        let mut x = cuda.buf(40, cols, precision).unwrap();
        cuda.write(&mut x, &vec![7.0; 40 * cols]).unwrap();
        let shelf_half = number % 2 == 0;
        let shelf_precision = if shelf_half { Precision::Half } else { Precision::Full };
        let mut shelf = cuda.buf(3, cols, shelf_precision).unwrap();
        // What lies behind the shelf is not of it.
        let mut behind = cuda.buf(3, cols, Precision::Full).unwrap();
        cuda.write(&mut behind, &vec![7.0; 3 * cols]).unwrap();
        let shelved = random.floats(3 * cols);
        cuda.write(&mut shelf, &shelved).unwrap();
        let n = exact.len() as u32;
        // Rows of all parts; rows of the shelf; what is nowhere.
        let mut tokens: Vec<u32> = [0, 1, 7, 8, 15, 16, 17, 34, n - 1].into();
        tokens.extend((0..15).map(|_| random.below(n as usize) as u32));
        tokens.extend([n, n + 2, n + 3, PREV - 1, PREV + 1000, u32::MAX]);
        cuda.run(&step(&tokens), None, &mut |b| b.embed(&mut x, &table, scale, Some(&shelf))).unwrap();
        let found = cuda.read(&x, 40).unwrap().to_vec();
        for (r, token) in tokens.iter().enumerate() {
            for c in 0..cols {
                let what = format!("{formats:?}, token {token}, column {c}");
                let value = found[r * cols + c];
                match token.checked_sub(n) {
                    None => {
                        let right = exact[*token as usize][c] as f64 * scale as f64;
                        // float32 tables are held in f16.
                        let kept = if formats[0] == Format::F32 { right.abs() / 2048.0 + 1e-6 } else { 0.0 };
                        assert_near(value, right, kept + 4e-7 * right.abs() + 1e-7, half, &what);
                    }
                    Some(row) if row < 3 => {
                        assert_near(value, shelved[row as usize * cols + c] as f64, 0.0, half || shelf_half, &what)
                    }
                    Some(_) => assert_eq!(value, 0.0, "{what}"),
                }
            }
        }
        assert!(found[tokens.len() * cols..].iter().all(|v| *v == 7.0), "rows past the step");
        seen.extend(found);
    }
    seen
}

#[test]
fn rows_are_the_dequantized_ones() {
    everywhere!(tables);
}

/// A row of logits chooses the next run's token, on the device alone; recorded and replayed.
fn chained<D: Driver>(cuda: &mut Cuda<D>) -> Vec<f32> {
    let mut random = Random::new(22);
    let tensor = tensor(&mut random, Format::F16, 50, 24);
    let exact = rows(&tensor);
    let table = cuda.weight(&[tensor]).unwrap();
    let mut x = cuda.buf(8, 24, Precision::Full).unwrap();
    let mut logits = cuda.buf(8, 50, Precision::Full).unwrap();
    let mut before: Vec<u32> = Vec::new();
    for (i, pick) in [Pick::Argmax, Pick::Argmax, Pick::TopK(7), Pick::TopK(7), Pick::Argmax].into_iter().enumerate() {
        let values = random.floats(8 * 50);
        cuda.write(&mut logits, &values).unwrap();
        // Rows 1 and 0 of the run before, and a token that is known.
        let tokens = if i == 0 { [1, 2, 3] } else { [PREV + 1, 9, PREV] };
        let step = Step { logits: vec![0, 2], pick, ..step(&tokens) };
        let mut body = |b: &mut Cuda<D>| {
            b.embed(&mut x, &table, 1.0, None)?;
            b.pick(&logits)
        };
        cuda.run(&step, Some(4), &mut body).unwrap();
        let found = cuda.read(&x, 3).unwrap().to_vec();
        let known = tokens.map(|t| if t >= PREV { before[(t - PREV) as usize] } else { t });
        for (r, token) in known.into_iter().enumerate() {
            assert_eq!(found[r * 24..][..24], exact[token as usize], "run {i}, row {r}");
        }
        let best = |row: &[f32]| (0..50).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap() as u32;
        before = values.chunks(50).take(2).map(best).collect();
        let picked = cuda.picks(0).unwrap();
        assert_eq!([picked[0].id, picked[pick.count()].id].to_vec(), before, "run {i}");
    }
    assert_eq!(cuda.recordings(), 2);
    Vec::new()
}

#[test]
fn picks_are_the_next_tokens() {
    everywhere!(chained);
}
