//! Whole tensors: their shapes, and what becomes of them in formats that machines take.

use super::*;
use nano_kernels::HostTensor;
use nano_kernels::format::f32_to_f16;
use std::borrow::Cow;

fn tensor(format: Format, rows: usize, cols: usize, bytes: Vec<u8>) -> HostTensor<'static> {
    HostTensor::new("w", format, rows, cols, Cow::Owned(bytes)).unwrap()
}

#[test]
fn a_tensor_is_as_long_as_its_shape_says() {
    let new = |format, rows, cols, bytes: usize| HostTensor::new("w", format, rows, cols, Cow::Owned(vec![0; bytes]));
    assert!(new(Format::Q4_0, 3, 64, 3 * 36).is_ok());
    for (rows, bytes) in [(3, 3 * 36 - 1), (3, 3 * 36 + 1), (2, 3 * 36), (usize::MAX, 36), (0, 36)] {
        assert!(matches!(new(Format::Q4_0, rows, 64, bytes), Err(Error::TensorBytes { .. })), "{rows} rows, {bytes}");
    }
    for cols in [1, 31, 33, usize::MAX] {
        assert!(matches!(new(Format::Q4_0, 1, cols, 18), Err(Error::RowBlocks { .. })), "{cols}");
    }
    for (rows, cols) in [(0, 64), (5, 0), (0, 0), (usize::MAX, 0)] {
        let empty = new(Format::Q4_0, rows, cols, 0).unwrap();
        assert_eq!(empty.to_f32(), []);
        assert_eq!(empty.non_finite(1), 0);
        assert_eq!(empty.convert(Format::F16, 3).unwrap().bytes.len(), 0);
    }
}

#[test]
fn threads_do_not_change_a_conversion() {
    let mut random = Random(8);
    // More rows than one thread takes at a time.
    let (rows, cols) = (1500, 768);
    let values = random.normals(rows * cols, 0.02);
    let host = tensor(Format::F32, rows, cols, quantize(Format::F32, &values));
    for format in [Format::F16, Format::Q8_0, Format::Q4_0, Format::Q6K] {
        let found = host.convert(format, 1).unwrap();
        assert_eq!((found.rows, found.cols, found.format), (rows, cols, format));
        assert!(*found.bytes == *quantize(format, &values), "{format}");
        for threads in [0, 2, 3, 64] {
            assert!(host.convert(format, threads).unwrap().bytes == found.bytes, "{format}, {threads} threads");
        }
    }
    let q8 = host.convert(Format::Q8_0, 2).unwrap();
    assert_eq!(q8.convert(Format::F32, 2).unwrap().to_f32(), q8.to_f32());
}

#[test]
fn conversions_that_cannot_be_are_errors() {
    let host = tensor(Format::F32, 1, 48, vec![0; 192]);
    assert!(matches!(host.convert(Format::Q4_0, 1), Err(Error::RowBlocks { .. })));
    assert!(matches!(host.convert(Format::Q5_0, 1), Err(Error::Unsupported(_))));
    let bytes = vec![0; 192];
    let borrowed = HostTensor::new("w", Format::F32, 1, 48, Cow::Borrowed(&bytes)).unwrap();
    assert!(matches!(borrowed.convert(Format::F32, 1).unwrap().bytes, Cow::Borrowed(_)), "no copy of the same");
}

/// The f16 of an IQ1_M block lies in the top nibbles of its last four u16.
fn set_iq1_m_scale(block: &mut [u8], bits: u16) {
    for i in 0..4 {
        let byte = &mut block[49 + 2 * i];
        *byte = *byte & 15 | ((bits >> (4 * i) & 15) as u8) << 4;
    }
}

/// Blocks of random codes, with scales, and minima that lay the codes about 0.
fn random_blocks(format: Format, count: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..count * format.block_bytes()).map(|_| random.bits() as u8).collect();
    for block in bytes.chunks_mut(format.block_bytes()) {
        let scale = 0.001 * (1.0 + random.uniform());
        // Where the f16 scale lies, and the minimum with its ratio to the scale.
        let (at, minimum) = match format {
            Format::Q2K => (80, Some((82, 1.5))),
            Format::Q3K => (108, None),
            Format::Q5K => (0, Some((2, 15.5))),
            Format::Q5_1 => (0, Some((2, -15.5))),
            Format::Tq1_0 => (52, None),
            Format::Tq2_0 => (64, None),
            _ => (0, None),
        };
        if format == Format::Mxfp4 {
            block[0] = 112 + block[0] % 16;
            continue;
        }
        if format == Format::Iq1M {
            set_iq1_m_scale(block, f32_to_f16(scale));
            continue;
        }
        if format == Format::Q8K {
            block[..4].copy_from_slice(&scale.to_le_bytes());
            continue;
        }
        block[at..at + 2].copy_from_slice(&f32_to_f16(scale).to_le_bytes());
        if let Some((at, ratio)) = minimum {
            block[at..at + 2].copy_from_slice(&f32_to_f16(scale * ratio).to_le_bytes());
        }
    }
    bytes
}

#[test]
fn conversion_to_native_formats_costs_little() {
    // The table in the documentation of `Format::native`.
    let limits = [
        (Format::Q5_0, 0.0),
        (Format::Iq4Nl, 0.0),
        (Format::Q3K, 0.0),
        (Format::Q8K, 2.4e-7),
        (Format::Q5_1, 2e-5),
        (Format::Q5K, 2e-5),
        (Format::Q2K, 3e-4),
        (Format::Iq4Xs, 2e-7),
        (Format::Iq3S, 0.0),
        (Format::Iq3Xxs, 0.0),
        (Format::Iq2S, 3e-4),
        (Format::Iq2Xs, 3e-4),
        (Format::Iq2Xxs, 3e-4),
        (Format::Iq1M, 0.0),
        (Format::Iq1S, 0.0),
        (Format::Tq1_0, 0.0),
        (Format::Tq2_0, 0.0),
    ];
    let mut random = Random(9);
    for (format, limit) in limits {
        let host = tensor(format, 8, 2048, random_blocks(format, 8 * 2048 / format.block_len(), &mut random));
        let error = |to| nmse(&host.convert(to, 2).unwrap().to_f32(), &host.to_f32());
        let all = [Format::Q8_0, Format::Q6K, Format::Q4K, Format::Q4_1, Format::Q4_0]
            .map(|to| format!("{to} {:.1e}", error(to)));
        println!("{format}: {}", all.join(", "));
        let found = error(format.native());
        assert!(found <= limit, "{format} to {}: {found:e}", format.native());
    }
    for format in WRITABLE.into_iter().chain([Format::Mxfp4]) {
        assert_eq!(format.native(), format);
    }
}

#[test]
fn conversions_without_loss_keep_every_bit() {
    let mut random = Random(10);
    for (from, to) in [
        (Format::Q4_0, Format::Q8_0),
        (Format::Q5_0, Format::Q8_0),
        (Format::Iq4Nl, Format::Q8_0),
        (Format::Q3K, Format::Q6K),
        (Format::Iq3S, Format::Q6K),
        (Format::Iq3Xxs, Format::Q6K),
        (Format::Iq1M, Format::Q6K),
        (Format::Iq1S, Format::Q6K),
        (Format::Tq1_0, Format::Q4_0),
        (Format::Tq2_0, Format::Q4_0),
        (Format::Mxfp4, Format::Q8_0),
        (Format::Q2K, Format::F32),
    ] {
        let host = tensor(from, 4, 512, random_blocks(from, 4 * 512 / from.block_len(), &mut random));
        let (before, after) = (host.to_f32(), host.convert(to, 1).unwrap().to_f32());
        assert!(before.iter().zip(&after).all(|(a, b)| a.to_bits() == b.to_bits()), "{from} to {to}");
    }
}

#[test]
fn values_that_are_no_numbers_are_found() {
    let mut random = Random(11);
    for format in WRITABLE.into_iter().chain(READ_ONLY) {
        let mut bytes = random_blocks(format, 100, &mut random);
        if format.block_len() == 1 {
            bytes = quantize(format, &random.normals(70_000, 1.0));
        }
        let (at, wide) = match format {
            Format::Q2K => (82, false),
            Format::Q3K => (108, false),
            Format::Q6K => (208, false),
            Format::Q4K | Format::Q5K | Format::Q4_1 | Format::Q5_1 => (2, false),
            Format::F32 | Format::Q8K => (0, true),
            Format::Tq1_0 => (52, false),
            Format::Tq2_0 => (64, false),
            _ => (0, false),
        };
        for block in bytes.chunks_mut(format.block_bytes()) {
            if matches!(format, Format::Mxfp4 | Format::Iq1M) {
                continue;
            }
            // Every scale and minimum is a number to begin with.
            for at in if wide { vec![] } else { vec![at, 0, 80].into_iter().filter(|x| x + 2 <= block.len()).collect() }
            {
                if format.block_len() > 1 {
                    block[at..at + 2].copy_from_slice(&f32_to_f16(0.01).to_le_bytes());
                }
            }
        }
        let rows = |bytes: Vec<u8>| {
            let cols = bytes.len() / format.block_bytes() * format.block_len();
            tensor(format, 1, cols, bytes)
        };
        assert_eq!(rows(bytes.clone()).non_finite(1), 0, "{format}");
        let last = bytes.len() - format.block_bytes();
        for (block, high) in [(0, 0x7f), (last, 0xff)] {
            // The upper byte of an infinity or NaN of any of the three floats, with the bits below it set.
            match format {
                Format::Mxfp4 => bytes[block] = 0x80 | high,
                Format::Iq1M => set_iq1_m_scale(&mut bytes[block..][..56], u16::from(high) << 8 | 0x80),
                _ => {
                    let top = block + at + if wide { 3 } else { 1 };
                    (bytes[top - 1], bytes[top]) = (0x80 | bytes[top - 1], high);
                }
            }
        }
        assert_eq!(rows(bytes).non_finite(1), 2 * format.block_len(), "{format}");
    }
}
