//! Steps of a few rows, and how they are split.

use super::*;

#[test]
fn decode_of_every_head() {
    for (i, head_dim) in [16, 20, 64, 80, 96, 128, 256].into_iter().enumerate() {
        for (k, format) in FORMATS.into_iter().enumerate() {
            let mut case = Case::new([4, 2, 7][(i + k) % 3], head_dim, format, &[(100, 1)]);
            case.precision = [Precision::Half, Precision::Full][(i + k) % 2];
            check(&case, &BOTH);
        }
    }
}

#[test]
fn decode_of_every_group() {
    for (i, group) in [1, 2, 3, 4, 7, 8, 16, 20].into_iter().enumerate() {
        check(&Case::new(group, 64, FORMATS[i % 2], &[(70, 1), (33, 1)]), &BOTH);
    }
}

#[test]
fn decode_of_every_length() {
    for (i, length) in [1, 31, 32, 33, 64, 100, 700].into_iter().enumerate() {
        check(&Case::new(3, 64, FORMATS[i % 2], &[(length, 1)]), &BOTH);
    }
    // Three rows are padded to four; a sequence of its own, and two rows of one.
    for format in FORMATS {
        check(&Case::new(4, 32, format, &[(45, 1), (70, 2)]), &BOTH);
        check(&Case::new(2, 64, format, &[(5, 1), (64, 1), (129, 1), (1, 1), (300, 1)]), &BOTH);
    }
}

#[test]
fn decode_of_windows_and_caps() {
    for (i, window) in [1, 31, 32, 50, 1000].into_iter().enumerate() {
        let mut case = Case::new(4, 64, FORMATS[i % 2], &[(20, 1), (150, 1), (64, 1)]);
        case.window = Some(window);
        case.softcap = [None, Some(3.0)][i % 2];
        check(&case, &BOTH);
    }
}

/// More pages than a warp looks up at a time.
#[test]
fn decode_of_a_long_sequence() {
    for format in FORMATS {
        let mut case = Case::new(1, 16, format, &[(8500, 1)]);
        (case.kv_heads, case.multiprocessors) = (1, 1);
        check(&case, &BOTH);
    }
}

#[test]
fn splits_change_little() {
    for format in FORMATS {
        let mut case = Case::new(4, 64, format, &[(2100, 1)]);
        case.kv_heads = 1;
        for (multiprocessors, window) in [(1, None), (2, None), (4, None), (8, Some(700)), (8, None)] {
            case.multiprocessors = multiprocessors;
            case.window = window;
            check(&case, &[(72, 0), (80, 0), (80, 9)]);
        }
    }
    // Several rows and parts of a group, with counters of their own; lengths for which some blocks find nothing.
    let mut case = Case::new(20, 96, KvFormat::F16, &[(700, 1), (3, 1), (600, 1)]);
    case.multiprocessors = 100;
    check(&case, &BOTH);
    let mut case = Case::new(9, 256, KvFormat::Q8, &[(520, 1)]);
    case.multiprocessors = 64;
    check(&case, &BOTH);
}

#[test]
fn decode_with_sinks() {
    for (i, head_dim) in [64, 20, 96, 128, 256].into_iter().enumerate() {
        for (k, format) in FORMATS.into_iter().enumerate() {
            let mut case =
                Case::new([8, 3, 20][(i + k) % 3], head_dim, format, &[(200, 1), (33, 1), (150, 1)]).with_sinks();
            case.window = [None, Some(128)][(i + k) % 2];
            case.softcap = [None, Some(3.0)][k];
            check(&case, &BOTH);
        }
    }
    // Parts of the cache, of which some find nothing.
    for (head_dim, format, multiprocessors) in [(64, KvFormat::F16, 100), (256, KvFormat::Q8, 64)] {
        let mut case = Case::new(9, head_dim, format, &[(700, 1), (3, 1)]).with_sinks();
        case.multiprocessors = multiprocessors;
        check(&case, &BOTH);
    }
}
