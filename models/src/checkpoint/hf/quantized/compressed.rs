//! compressed-tensors in its format pack-quantized: `weight_packed` with words along the inputs, `weight_scale`, and where
//! they are not all half the range, `weight_zero_point` with words along the outputs; `weight_g_idx` is the group of each
//! input. Which of several schemes a tensor has is told by its shapes.

use super::{Packed, Pieces, Result, Settings, groups};
use crate::checkpoint::packed::{Layout, Zeros};
use serde_json::Value;
use std::fmt::{self, Display, Formatter};

/// Its schemes.
#[derive(Debug)]
pub(in super::super) struct Compressed {
    schemes: Vec<Scheme>,
}

/// How some weights were quantized.
#[derive(Debug)]
struct Scheme {
    bits: usize,
    group: Option<usize>,
    symmetric: bool,
}

const FORMAT: &str = "pack-quantized";

impl Compressed {
    pub(super) fn new(settings: &Settings<'_>) -> Result<Self> {
        let format = settings.text("format")?.unwrap_or(FORMAT);
        if ![FORMAT, "mixed-precision"].contains(&format) {
            return Err(settings.wrong("format", unread(format)));
        }
        let empty = |value: &Value| value.as_object().is_none_or(|object| object.values().all(no_value));
        if settings.get("transform_config").is_some_and(|transform| !empty(transform)) {
            let why = "turns activations while the model runs, which is not supported";
            return Err(settings.wrong("transform_config", why));
        }
        let none = serde_json::Map::new();
        let all = settings.get("config_groups").and_then(Value::as_object).unwrap_or(&none);
        let mut schemes = Vec::new();
        for (name, json) in all {
            schemes.push(Scheme::new(&Settings { file: settings.file.clone(), at: settings.at, json }, name)?);
        }
        match schemes.is_empty() {
            true => Err(settings.wrong("config_groups", "is missing or empty: what the weights are is not known")),
            false => Ok(Compressed { schemes }),
        }
    }

    pub(super) fn read(&self, pieces: &mut Pieces<'_>) -> Result<Packed> {
        const QUANTS: &str = "weight_packed";
        let quants = pieces.quants(QUANTS)?;
        let file = quants.file;
        let scales = pieces.scales("weight_scale", false, file)?;
        let shape = pieces.integers("weight_shape", &[4, 8])?;
        let zeros = pieces.integers("weight_zero_point", &[1, 4])?;
        let groups = pieces.integers("weight_g_idx", &[4, 8])?;
        let fits = |scheme: &&Scheme| {
            let cols = quants.cols.saturating_mul(32 / scheme.bits);
            let stated = shape.as_ref().and_then(|(array, size)| {
                let bytes = pieces.tensors.bytes(array.file).get(array.range.clone())?;
                let last: [u8; 4] = bytes.get(bytes.len().checked_sub(*size)?..)?.first_chunk().copied()?;
                Some(u32::from_le_bytes(last) as usize)
            });
            stated.is_none_or(|stated| stated == cols)
                && cols.div_ceil(scheme.group.unwrap_or(cols)) == scales.array.cols
        };
        // Only where there are several need the shapes be looked at, which are read from the file.
        let scheme = match &self.schemes[..] {
            [only] => only,
            several => several.iter().find(fits).ok_or_else(|| {
                let why = format!(
                    "its {} x {} words and {} scales in each row fit none of the config_groups",
                    quants.rows, quants.cols, scales.array.cols
                );
                pieces.wrong(file, QUANTS, why)
            })?,
        };
        let half = 1 << (scheme.bits - 1);
        let zeros = match zeros {
            Some((array, 1)) => Zeros::Signed(array),
            Some((array, _)) => Zeros::Rows(array),
            None if scheme.symmetric => Zeros::Same(half),
            None => return Err(pieces.wrong(file, "weight_zero_point", "is missing")),
        };
        let (rows, cols) = (quants.rows, quants.cols.saturating_mul(32 / scheme.bits));
        let per = scheme.group.unwrap_or(cols);
        let layout = Layout::Rows;
        Ok(Packed { bits: scheme.bits, rows, cols, per, layout, quants, scales, zeros, groups, first: 0 })
    }
}

impl Scheme {
    /// Reads an entry of `config_groups`.
    fn new(entry: &Settings<'_>, name: &str) -> Result<Self> {
        let key = |inner: &str| format!("config_groups.{name}.{inner}");
        if let Some(format) = entry.text("format")?.filter(|format| *format != FORMAT) {
            return Err(entry.wrong(&key("format"), unread(format)));
        }
        if let Some(input) = entry.get("input_activations") {
            let bits = input.get("num_bits").unwrap_or(&Value::Null);
            let why = format!("rounds activations to {bits} bits, which is not supported; weights alone are read");
            return Err(entry.wrong(&key("input_activations"), why));
        }
        let Some(json) = entry.get("weights") else { return Err(entry.wrong(&key("weights"), "is missing")) };
        let weights = Settings { file: entry.file.clone(), at: entry.at, json };
        if let Some(kind) = weights.text("type")?.filter(|kind| *kind != "int") {
            return Err(entry.wrong(&key("weights.type"), format!("is \"{kind}\"; int is read")));
        }
        let group = match weights.text("strategy")? {
            Some("channel") => None,
            None | Some("group") => weights.group(&["group_size"])?,
            Some(other) => {
                return Err(
                    entry.wrong(&key("weights.strategy"), format!("is \"{other}\"; group and channel are read"))
                );
            }
        };
        let symmetric = weights.flag("symmetric")?.unwrap_or(true);
        Ok(Scheme { bits: weights.bits(&["num_bits"], &[4, 8])?, group, symmetric })
    }
}

fn unread(format: &str) -> String {
    format!("is \"{format}\"; only {FORMAT} with 4 or 8 bits is read")
}

/// Whether a value of an option says nothing.
fn no_value(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
        _ => false,
    }
}

impl Display for Compressed {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let schemes: Vec<String> =
            self.schemes.iter().map(|s| format!("{} bits, {}", s.bits, groups(s.group))).collect();
        write!(f, "compressed-tensors, {}", schemes.join("; "))
    }
}
