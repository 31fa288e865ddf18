//! Small checkpoints made in memory, for tests: of this crate, and of those above it through the feature `testing`.
//! Nothing here is compiled into programs. What a test gives wrongly is a panic here, with the reason.
//!
//! * [`GgufWriter`] writes GGUF files, right ones and wrong ones.
//! * [`safetensors`] and [`Folder`] write Hugging Face folders.
//! * [`Tiny`] is a llama with pseudo-random weights, the same in both containers.
//! * [`fuzz`] is what the fuzz targets run.
//! * [`Parrot`] is a llama whose greedy reply is known: what the test says.

mod folder;
pub mod fuzz;
mod gguf;
mod parrot;
mod parrot_vocab;
mod tiny;

pub use crate::checkpoint::gguf::GgufValue;
pub use folder::{Folder, RawTensor, TempDir, raw_safetensors, safetensors};
pub use gguf::GgufWriter;
pub use parrot::Parrot;
pub use tiny::Tiny;

use nano_kernels::Format;

/// A tensor to be written: `dims` has the longest stride first, as in `rows x cols`.
#[derive(Clone, Debug)]
pub struct TestTensor {
    /// Its name.
    pub name: String,
    /// How `bytes` are to be read.
    pub format: Format,
    /// Its shape.
    pub dims: Vec<usize>,
    /// Its data.
    pub bytes: Vec<u8>,
}

impl TestTensor {
    /// A float32 tensor.
    pub fn f32(name: &str, dims: &[usize], values: &[f32]) -> Self {
        assert_eq!(
            dims.iter().product::<usize>(),
            values.len(),
            "{name}: {dims:?} does not hold {} values",
            values.len()
        );
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        TestTensor { name: name.to_owned(), format: Format::F32, dims: dims.to_vec(), bytes }
    }
}
