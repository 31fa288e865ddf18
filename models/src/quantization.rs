//! The names under which users ask for weights of another format, and which format each tensor gets.

use nano_kernels::Format;

/// What `--quantization` asks for. Without it a checkpoint's own formats are kept when it is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantization {
    /// 4 bits, groups of 32, symmetric, f16 scales; embedding and head in 8 bits.
    Q4F16,
    /// 4 bits, groups of 32, f16 scales and minima; embedding and head in 8 bits.
    Q4_1,
    /// 4 bits, groups of 32, scales and minima of 6 bits; embedding and head in 6 bits.
    Q4K,
    /// 6 bits, groups of 16, scales of 8 bits.
    Q6K,
    /// 8 bits, groups of 32, f16 scales.
    Q8F16,
    /// float16.
    F16,
    /// bfloat16.
    Bf16,
    /// float32: the checkpoint's own values.
    F32,
}

/// What `--head` asks for: how exact embedding and head are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// Q8_0.
    Q8,
    /// Q6_K; Q8_0 where rows are no whole number of blocks of 256.
    Q6,
    /// Q4_0.
    Q4,
    /// float16.
    F16,
}

impl Quantization {
    /// All there are, the usual name of each first.
    const NAMES: [(Quantization, &[&str]); 8] = [
        (Quantization::Q4F16, &["q4f16", "q4_0", "q4f16_0", "q4f16_1", "q4f16_ft"]),
        (Quantization::Q4_1, &["q4_1"]),
        (Quantization::Q4K, &["q4_k"]),
        (Quantization::Q6K, &["q6_k"]),
        (Quantization::Q8F16, &["q8f16", "q8_0"]),
        (Quantization::F16, &["f16"]),
        (Quantization::Bf16, &["bf16"]),
        (Quantization::F32, &["f32"]),
    ];

    /// The format for a matrix with rows of `cols` values. Rows that are no whole number of blocks of 256 have groups of 32,
    /// of as many bits or more; those that are no whole number of these either stay float16.
    pub fn format(self, cols: usize) -> Format {
        let wanted = match self {
            Quantization::Q4F16 => &[Format::Q4_0][..],
            Quantization::Q4_1 => &[Format::Q4_1],
            Quantization::Q4K => &[Format::Q4K, Format::Q4_1],
            Quantization::Q6K => &[Format::Q6K, Format::Q8_0],
            Quantization::Q8F16 => &[Format::Q8_0],
            Quantization::F16 => &[Format::F16],
            Quantization::Bf16 => &[Format::Bf16],
            Quantization::F32 => &[Format::F32],
        };
        first(wanted, cols)
    }

    /// The format for embedding and head, whose errors are felt most: nobody averages them away. Half of the bytes of a
    /// small model are theirs, a tenth of a large one's.
    pub fn vocabulary(self, head: Option<Head>, cols: usize) -> Format {
        match (head, self) {
            (Some(head), _) => head.format(cols),
            (None, Quantization::Q4F16 | Quantization::Q4_1) => Head::Q8.format(cols),
            (None, Quantization::Q4K) => Head::Q6.format(cols),
            (None, _) => self.format(cols),
        }
    }

    /// Whether its steps are so wide that it matters much which weights are held more exactly.
    pub fn is_coarse(self) -> bool {
        matches!(self, Quantization::Q4F16 | Quantization::Q4_1 | Quantization::Q4K)
    }

    /// The name.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(quantization, _)| *quantization == self).map_or("", |(_, names)| names[0])
    }
}

impl Head {
    const ALL: [Head; 4] = [Head::Q8, Head::Q6, Head::Q4, Head::F16];

    /// The format for rows of `cols` values.
    pub fn format(self, cols: usize) -> Format {
        let wanted = match self {
            Head::Q8 => &[Format::Q8_0][..],
            Head::Q6 => &[Format::Q6K, Format::Q8_0],
            Head::Q4 => &[Format::Q4_0],
            Head::F16 => &[],
        };
        first(wanted, cols)
    }

    /// The name.
    pub fn name(self) -> &'static str {
        match self {
            Head::Q8 => "q8",
            Head::Q6 => "q6",
            Head::Q4 => "q4",
            Head::F16 => "f16",
        }
    }
}

/// The first whose blocks make up rows of `cols` values; else float16.
fn first(wanted: &[Format], cols: usize) -> Format {
    wanted.iter().copied().find(|format| cols.is_multiple_of(format.block_len())).unwrap_or(Format::F16)
}

impl std::str::FromStr for Quantization {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::NAMES.iter().find(|(_, names)| names.contains(&name));
        known.map(|(quantization, _)| *quantization).ok_or_else(|| {
            let known: Vec<&str> =
                Self::NAMES.iter().flat_map(|(_, names)| &names[..names.len().min(2)]).copied().collect();
            format!("{name:?} is no quantization; known: {}", known.join(", "))
        })
    }
}

impl std::str::FromStr for Head {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Head::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|head| head.name() == name)
            .ok_or_else(|| format!("{name:?} is no precision of embedding and head; known: {}", known()))
    }
}
