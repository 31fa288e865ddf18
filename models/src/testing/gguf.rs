//! A writer of whole GGUF files. It writes what it is told, also what no file should hold.

use super::TestTensor;
use crate::checkpoint::gguf::{GgufValue, Listed, header, type_number};

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
        let listed = self.tensors.iter().map(|(tensor, number, offset)| Listed {
            name: &tensor.name,
            dims: &tensor.dims,
            number: *number,
            bytes: tensor.bytes.len() as u64,
            offset: *offset,
        });
        let listed: Vec<Listed<'_>> = listed.collect();
        let (mut out, starts) = header(self.version, self.alignment as u64, &self.values, &listed);
        for ((tensor, ..), start) in self.tensors.iter().zip(starts) {
            out.resize(start as usize, 0);
            out.extend(&tensor.bytes);
            out.resize(out.len().next_multiple_of(self.alignment), 0);
        }
        out
    }
}
