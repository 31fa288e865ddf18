//! A writer of GGUF files, after the format's public description. It writes what it is told, also what no file should
//! hold.

use super::TestTensor;
use crate::checkpoint::gguf::type_number;

/// A metadata value, typed as it will be written.
#[derive(Clone, Debug)]
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
    /// A value of this type number with these bytes, whatever they are.
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
            GgufValue::Text(v) => text(out, v.as_bytes()),
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
                v.iter().for_each(|v| text(out, v.as_bytes()));
            }
            GgufValue::Raw(_, bytes) => out.extend(bytes),
        }
    }
}

/// Gathers metadata and tensors, then writes the file.
#[derive(Clone, Debug)]
pub struct GgufWriter {
    /// The version in the header: 3 unless changed.
    pub version: u32,
    /// The alignment of tensor data; written as `general.alignment` only by the test itself.
    pub alignment: usize,
    values: Vec<(String, GgufValue)>,
    tensors: Vec<(TestTensor, u32, Option<u64>)>,
}

impl GgufWriter {
    /// A file of this architecture.
    pub fn new(architecture: &str) -> Self {
        Self::bare().value("general.architecture", architecture)
    }

    /// A file with nothing in it.
    pub fn bare() -> Self {
        GgufWriter { version: 3, alignment: 32, values: Vec::new(), tensors: Vec::new() }
    }

    /// Adds a metadata entry.
    pub fn value(mut self, key: &str, value: impl Into<GgufValue>) -> Self {
        self.values.push((key.to_owned(), value.into()));
        self
    }

    /// Adds a tensor.
    pub fn tensor(self, tensor: TestTensor) -> Self {
        let number = type_number(tensor.format);
        self.odd_tensor(tensor, number, None)
    }

    /// Adds a tensor with a type number and an offset of one's own, right or wrong.
    pub fn odd_tensor(mut self, tensor: TestTensor, number: u32, offset: Option<u64>) -> Self {
        self.tensors.push((tensor, number, offset));
        self
    }

    /// The file's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.values.len() as u64).to_le_bytes());
        for (key, value) in &self.values {
            text(&mut out, key.as_bytes());
            out.extend(value.number().to_le_bytes());
            value.write(&mut out);
        }
        let mut data = Vec::new();
        for (tensor, number, offset) in &self.tensors {
            text(&mut out, tensor.name.as_bytes());
            out.extend((tensor.dims.len() as u32).to_le_bytes());
            for dim in tensor.dims.iter().rev() {
                out.extend((*dim as u64).to_le_bytes());
            }
            out.extend(number.to_le_bytes());
            out.extend(offset.unwrap_or(data.len() as u64).to_le_bytes());
            data.extend(&tensor.bytes);
            data.resize(data.len().next_multiple_of(self.alignment), 0);
        }
        if !data.is_empty() {
            out.resize(out.len().next_multiple_of(self.alignment), 0);
        }
        out.extend(data);
        out
    }
}

fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u64).to_le_bytes());
    out.extend(bytes);
}
