//! The names under which users ask for weights of another format, and which format each tensor gets.

use nano_kernels::Format;

/// What `--quantization` asks for. Without it a checkpoint's own formats are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantization {
    /// 4 bits, groups of 32, symmetric, f16 scales; embedding and head in 8 bits.
    Q4F16,
    /// 8 bits, groups of 32, f16 scales.
    Q8F16,
    /// float16.
    F16,
    /// float32: the checkpoint's own values.
    F32,
}

impl Quantization {
    /// The format for a matrix with rows of `cols` values. Rows that are no whole number of groups stay float16.
    pub fn format(self, cols: usize, vocabulary: bool) -> Format {
        let wanted = match self {
            Quantization::Q4F16 if vocabulary => Format::Q8_0,
            Quantization::Q4F16 => Format::Q4_0,
            Quantization::Q8F16 => Format::Q8_0,
            Quantization::F16 => Format::F16,
            Quantization::F32 => Format::F32,
        };
        if cols.is_multiple_of(wanted.block_len()) { wanted } else { Format::F16 }
    }

    /// The name.
    pub fn name(self) -> &'static str {
        match self {
            Quantization::Q4F16 => "q4f16",
            Quantization::Q8F16 => "q8f16",
            Quantization::F16 => "f16",
            Quantization::F32 => "f32",
        }
    }
}

impl std::str::FromStr for Quantization {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Ok(match name {
            "q4f16" | "q4f16_0" | "q4f16_1" | "q4f16_ft" => Quantization::Q4F16,
            "q8f16" => Quantization::Q8F16,
            "f16" => Quantization::F16,
            "f32" => Quantization::F32,
            _ => return Err(format!("{name:?} is no quantization; known: q4f16, q8f16, f16, f32")),
        })
    }
}
