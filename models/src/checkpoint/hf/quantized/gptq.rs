//! GPTQ: `qweight` with words along the inputs, `qzeros` with words along the outputs, `scales`, and `g_idx`, the group of
//! each input. The first version stores zero points less one, so that they go up to 16 or 256.

use super::{Packed, Pieces, Result, Settings, groups};
use crate::checkpoint::packed::{Layout, Zeros};
use std::fmt::{self, Display, Formatter};

/// What config.json says.
#[derive(Debug)]
pub(in super::super) struct Gptq {
    bits: usize,
    group: Option<usize>,
    /// What is added to the zero points of the file.
    plus: u16,
    /// Whether tensors may differ in bits and groups: their shapes tell.
    dynamic: bool,
    by_importance: bool,
}

impl Gptq {
    pub(super) fn new(settings: &Settings<'_>) -> Result<Self> {
        const FORMATS: [&str; 2] = ["checkpoint_format", "format"];
        let wrong = |key, found: &str| {
            let why = format!("is \"{found}\", an order of one kernel's own; gptq and gptq_v2 are read");
            Err(settings.wrong(key, why))
        };
        let mut plus = 1;
        for key in FORMATS {
            match settings.text(key)? {
                None | Some("" | "gptq") => {}
                Some("gptq_v2") => plus = 0,
                Some(other) => return wrong(key, other),
            }
        }
        if settings.flag("is_marlin_format")?.unwrap_or(false) {
            return wrong("is_marlin_format", "true");
        }
        let dynamic = settings.get("dynamic").is_some_and(|d| d.as_object().is_some_and(|d| !d.is_empty()));
        Ok(Gptq {
            bits: settings.bits(&["bits"], &[4, 8])?,
            group: settings.group(&["group_size"])?,
            plus,
            dynamic,
            by_importance: settings.flag("desc_act")?.unwrap_or(false),
        })
    }

    pub(super) fn read(&self, pieces: &mut Pieces<'_>) -> Result<Packed> {
        let quants = pieces.quants("qweight")?;
        let file = quants.file;
        let scales = pieces.scales("scales", true, file)?;
        let zeros = pieces.integers("qzeros", &[4])?.map(|(array, _)| array);
        let zeros = zeros.ok_or_else(|| pieces.wrong(file, "qzeros", "is missing"))?;
        let groups = pieces.integers("g_idx", &[4, 8])?;
        let rows = quants.cols;
        // How many outputs share a word of zero points says how many bits these have.
        let bits = match self.dynamic {
            true => zeros.cols.saturating_mul(32) / rows,
            false => self.bits,
        };
        if bits != 4 && bits != 8 {
            return Err(pieces.wrong(file, "qweight", format!("its quants have {bits} bits; read are 4 and 8")));
        }
        let cols = quants.rows.saturating_mul(32 / bits);
        let per = match self.dynamic {
            true => (cols / scales.array.rows).max(1),
            false => self.group.unwrap_or(cols),
        };
        let zeros = Zeros::Columns(zeros, self.plus);
        Ok(Packed { bits, rows, cols, per, layout: Layout::Columns, quants, scales, zeros, groups, first: 0 })
    }
}

impl Display for Gptq {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let order = if self.by_importance { ", inputs by importance" } else { "" };
        write!(f, "GPTQ, {} bits, {}{order}", self.bits, groups(self.group))
    }
}
