//! GGUF's numbers for tensor types, and which of them can be read.

use super::value::Fault;
use nano_kernels::Format;

/// Types that can be read, with their numbers in the file.
const READABLE: [(u32, Format); 26] = [
    (0, Format::F32),
    (1, Format::F16),
    (30, Format::Bf16),
    (8, Format::Q8_0),
    (2, Format::Q4_0),
    (3, Format::Q4_1),
    (12, Format::Q4K),
    (14, Format::Q6K),
    (6, Format::Q5_0),
    (7, Format::Q5_1),
    (10, Format::Q2K),
    (11, Format::Q3K),
    (13, Format::Q5K),
    (15, Format::Q8K),
    (20, Format::Iq4Nl),
    (16, Format::Iq2Xxs),
    (17, Format::Iq2Xs),
    (18, Format::Iq3Xxs),
    (19, Format::Iq1S),
    (21, Format::Iq3S),
    (22, Format::Iq2S),
    (23, Format::Iq4Xs),
    (29, Format::Iq1M),
    (34, Format::Tq1_0),
    (35, Format::Tq2_0),
    (39, Format::Mxfp4),
];

/// Types that files hold and that cannot be read, so that the error can name them.
const KNOWN: [(u32, &str); 16] = [
    (4, "Q4_2"),
    (5, "Q4_3"),
    (9, "Q8_1"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (31, "Q4_0_4_4"),
    (32, "Q4_0_4_8"),
    (33, "Q4_0_8_8"),
    (36, "IQ4_NL_4_4"),
    (37, "IQ4_NL_4_8"),
    (38, "IQ4_NL_8_8"),
    (40, "NVFP4"),
    (41, "Q1_0"),
];

/// The format of a type number.
pub(super) fn format(id: u32) -> Result<Format, Fault> {
    if let Some((_, format)) = READABLE.iter().find(|(n, _)| *n == id) {
        return Ok(*format);
    }
    let readable: Vec<&str> = READABLE.iter().map(|(_, f)| f.name()).collect();
    let what = match KNOWN.iter().find(|(n, _)| *n == id) {
        Some((_, name)) => format!("({name}) is not supported"),
        None => "does not exist".into(),
    };
    Err(format!("its type {id} {what}; supported are {}", readable.join(" ")))
}

/// The type number of a format.
pub(crate) fn type_number(format: Format) -> u32 {
    // Every format stands in the table: a test walks them.
    READABLE.iter().find(|(_, f)| *f == format).map_or(u32::MAX, |(n, _)| *n)
}
