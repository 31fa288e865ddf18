//! Steps of many rows.

use super::*;

#[test]
fn prefill_of_every_head() {
    for (i, head_dim) in [16, 20, 64, 80, 96, 128, 256].into_iter().enumerate() {
        for (k, format) in FORMATS.into_iter().enumerate() {
            let mut case = Case::new([4, 2, 7][(i + k) % 3], head_dim, format, &[(70, 21)]);
            case.precision = [Precision::Half, Precision::Full][(i + k) % 2];
            case.multiprocessors = 1;
            check(&case, &BOTH);
        }
    }
}

#[test]
fn prefill_of_every_group() {
    for (i, group) in [1, 2, 3, 4, 7, 8, 16, 20].into_iter().enumerate() {
        for multiprocessors in [1, 16] {
            let mut case = Case::new(group, 64, FORMATS[i % 2], &[(50, 40), (37, 1), (33, 33)]);
            case.multiprocessors = multiprocessors;
            check(&case, &BOTH);
        }
    }
}

#[test]
fn prefill_of_every_length() {
    for (i, length) in [9, 31, 32, 33, 64, 100, 700].into_iter().enumerate() {
        let mut case = Case::new(2, 64, FORMATS[i % 2], &[(length, length.min(130))]);
        case.multiprocessors = 1;
        check(&case, &BOTH);
    }
    // Many sequences of one row each go the way of decode.
    check(&Case::new(2, 64, KvFormat::F16, &[(40, 1), (1, 1), (90, 1)].repeat(4)), &BOTH);
}

#[test]
fn prefill_of_windows_and_caps() {
    for (i, window) in [1, 31, 32, 50, 1000].into_iter().enumerate() {
        let mut case = Case::new(2, 64, FORMATS[i % 2], &[(20, 20), (200, 100)]);
        case.window = Some(window);
        case.softcap = [None, Some(3.0)][i % 2];
        case.multiprocessors = [1, 16][i / 2 % 2];
        check(&case, &BOTH);
    }
}

#[test]
fn prefill_with_sinks() {
    for (i, head_dim) in [64, 20, 96, 128, 256].into_iter().enumerate() {
        for (k, format) in FORMATS.into_iter().enumerate() {
            let mut case = Case::new([8, 3, 11][(i + k) % 3], head_dim, format, &[(70, 21), (200, 12)]).with_sinks();
            case.window = [None, Some(128)][(i + k) % 2];
            case.softcap = [None, Some(3.0)][k];
            case.multiprocessors = [1, 16][i % 2];
            check(&case, &BOTH);
        }
    }
}
