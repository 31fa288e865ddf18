//! Every kind packed and read back; what is not native.

use super::*;
use crate::testing::Random;
use std::borrow::Cow;

#[test]
fn packed_rows_are_the_rows() {
    let mut random = Random::new(7);
    let formats = [
        (Format::F32, 37),
        (Format::F16, 37),
        (Format::Bf16, 37),
        (Format::Q8_0, 96),
        (Format::Q4_0, 96),
        (Format::Mxfp4, 96),
        (Format::Q4_1, 96),
        (Format::Q4K, 512),
        (Format::Q6K, 512),
        (Format::Int4(Group::G32), 96),
        (Format::Int4(Group::G64), 192),
        (Format::Int4(Group::G128), 384),
        (Format::Int8(Group::G32), 96),
        (Format::Int8(Group::G64), 192),
        (Format::Int8(Group::G128), 384),
    ];
    for (format, cols) in formats {
        for rows in [1, 16, 19] {
            let bytes = random.weight(format, rows, cols);
            let host = HostTensor::new("t", format, rows, cols, Cow::Owned(bytes)).unwrap();
            let packed = Packed::new(&host, 2, &mut Arena::default()).unwrap();
            let expected = host.to_f32();
            let mut row = vec![0.0; cols];
            for r in 0..rows {
                packed.row(r, &mut row);
                assert_eq!(row, expected[r * cols..(r + 1) * cols], "{format} row {r} of {rows}");
            }
        }
    }
}

#[test]
fn a_format_that_is_not_native_is_refused() {
    let host = HostTensor::new("blk.0.w", Format::Q5_0, 1, 32, Cow::Owned(vec![0; 22])).unwrap();
    let error = Packed::new(&host, 1, &mut Arena::default()).err().unwrap().to_string();
    assert!(error.contains("blk.0.w") && error.contains("Q5_0"), "{error}");
}
