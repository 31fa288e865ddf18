//! The bytes of a GGUF file before its tensor data, after the format's public description. Which values and tensors there
//! are is decided by others (`export`); so is what their data are.

/// A metadata value, typed as it will be written.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the names are the format's own
pub enum GgufValue {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    Text(String),
    I32s(Vec<i32>),
    F32s(Vec<f32>),
    Texts(Vec<String>),
    /// A value of this type number with these bytes: those of another file.
    Raw(u32, Vec<u8>),
}

macro_rules! from {
    ($($from:ty => $variant:ident),*) => {
        $(impl From<$from> for GgufValue {
            fn from(value: $from) -> Self {
                GgufValue::$variant(value.into())
            }
        })*
    };
}
from!(u32 => U32, i32 => I32, u64 => U64, f32 => F32, bool => Bool, &str => Text, String => Text, Vec<i32> => I32s, Vec<f32> => F32s, Vec<String> => Texts);

impl GgufValue {
    fn number(&self) -> u32 {
        match self {
            GgufValue::U8(_) => 0,
            GgufValue::I8(_) => 1,
            GgufValue::U16(_) => 2,
            GgufValue::I16(_) => 3,
            GgufValue::U32(_) => 4,
            GgufValue::I32(_) => 5,
            GgufValue::F32(_) => 6,
            GgufValue::Bool(_) => 7,
            GgufValue::Text(_) => 8,
            GgufValue::I32s(_) | GgufValue::F32s(_) | GgufValue::Texts(_) => 9,
            GgufValue::U64(_) => 10,
            GgufValue::I64(_) => 11,
            GgufValue::F64(_) => 12,
            GgufValue::Raw(number, _) => *number,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let list = |out: &mut Vec<u8>, number: u32, len: usize| {
            out.extend(number.to_le_bytes());
            out.extend((len as u64).to_le_bytes());
        };
        match self {
            GgufValue::U8(v) => out.extend(v.to_le_bytes()),
            GgufValue::I8(v) => out.extend(v.to_le_bytes()),
            GgufValue::U16(v) => out.extend(v.to_le_bytes()),
            GgufValue::I16(v) => out.extend(v.to_le_bytes()),
            GgufValue::U32(v) => out.extend(v.to_le_bytes()),
            GgufValue::I32(v) => out.extend(v.to_le_bytes()),
            GgufValue::U64(v) => out.extend(v.to_le_bytes()),
            GgufValue::I64(v) => out.extend(v.to_le_bytes()),
            GgufValue::F32(v) => out.extend(v.to_le_bytes()),
            GgufValue::F64(v) => out.extend(v.to_le_bytes()),
            GgufValue::Bool(v) => out.push(u8::from(*v)),
            GgufValue::Text(v) => text(out, v),
            GgufValue::I32s(v) => {
                list(out, 5, v.len());
                v.iter().for_each(|v| out.extend(v.to_le_bytes()));
            }
            GgufValue::F32s(v) => {
                list(out, 6, v.len());
                v.iter().for_each(|v| out.extend(v.to_le_bytes()));
            }
            GgufValue::Texts(v) => {
                list(out, 8, v.len());
                v.iter().for_each(|v| text(out, v));
            }
            GgufValue::Raw(_, bytes) => out.extend(bytes),
        }
    }
}

/// A tensor's entry of the header.
#[derive(Clone, Debug)]
pub struct Listed<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its shape, the longest stride first.
    pub dims: &'a [usize],
    /// The number of its type.
    pub number: u32,
    /// Bytes of its data.
    pub bytes: u64,
    /// Where they begin, counted from the start of all data, if not behind the tensor before it.
    pub offset: Option<u64>,
}

/// A file's bytes up to the data, and where each tensor's data begin, counted from the start of the file. Data are padded
/// to a multiple of `alignment`, which the values must state where it is not 32.
pub fn header(
    version: u32,
    alignment: u64,
    values: &[(String, GgufValue)],
    tensors: &[Listed<'_>],
) -> (Vec<u8>, Vec<u64>) {
    let mut out = b"GGUF".to_vec();
    out.extend(version.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((values.len() as u64).to_le_bytes());
    for (key, value) in values {
        text(&mut out, key);
        out.extend(value.number().to_le_bytes());
        value.write(&mut out);
    }
    let mut starts = Vec::with_capacity(tensors.len());
    let mut end = 0_u64;
    for tensor in tensors {
        text(&mut out, tensor.name);
        out.extend((tensor.dims.len() as u32).to_le_bytes());
        for dim in tensor.dims.iter().rev() {
            out.extend((*dim as u64).to_le_bytes());
        }
        out.extend(tensor.number.to_le_bytes());
        out.extend(tensor.offset.unwrap_or(end).to_le_bytes());
        starts.push(end);
        end = (end + tensor.bytes).next_multiple_of(alignment);
    }
    if end > 0 {
        out.resize(out.len().next_multiple_of(alignment as usize), 0);
    }
    starts.iter_mut().for_each(|start| *start += out.len() as u64);
    (out, starts)
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}
