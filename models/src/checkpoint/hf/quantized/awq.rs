//! AWQ in the order of its GEMM kernel: `qweight`, `qzeros` and `scales`, all with a row for an input or a group.

use super::{Packed, Pieces, Result, Settings, groups};
use crate::checkpoint::packed::{Layout, Zeros};
use std::fmt::{self, Display, Formatter};

/// What config.json says.
#[derive(Debug)]
pub(in super::super) struct Awq {
    group: Option<usize>,
    zero_point: bool,
}

impl Awq {
    pub(super) fn new(settings: &Settings<'_>) -> Result<Self> {
        settings.bits(&["bits", "w_bit"], &[4])?;
        // Each tool has its own key for it.
        for key in ["version", "format"] {
            match settings.text(key)?.map(str::to_ascii_lowercase).as_deref() {
                None | Some("gemm") => {}
                Some(other) => {
                    let why = format!("is \"{other}\", an order of one kernel's own; only gemm is read");
                    return Err(settings.wrong(key, why));
                }
            }
        }
        let zero_point = settings.flag("zero_point")?.unwrap_or(true);
        Ok(Awq { group: settings.group(&["group_size", "q_group_size"])?, zero_point })
    }

    pub(super) fn read(&self, pieces: &mut Pieces<'_>) -> Result<Packed> {
        let quants = pieces.quants("qweight")?;
        let scales = pieces.scales("scales", true, quants.file)?;
        let zeros = match pieces.integers("qzeros", &[4])? {
            Some((array, _)) => Zeros::Awq(array),
            None if !self.zero_point => Zeros::Same(8),
            None => return Err(pieces.wrong(quants.file, "qzeros", "is missing")),
        };
        let (rows, cols) = (quants.cols.saturating_mul(8), quants.rows);
        let per = self.group.unwrap_or(cols);
        Ok(Packed { bits: 4, rows, cols, per, layout: Layout::Awq, quants, scales, zeros, groups: None, first: 0 })
    }
}

impl Display for Awq {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "AWQ, 4 bits, {}", groups(self.group))
    }
}
