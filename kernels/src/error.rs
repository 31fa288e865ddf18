//! What can go wrong on this floor.

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;

/// Errors of formats and backends. Each says which tensor or buffer, what was found and what would do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tensor's byte count does not fit its format and shape.
    #[error("tensor {name}: {found} bytes where {format} of {rows} x {cols} takes {expected}")]
    TensorBytes {
        /// The tensor's name in its file.
        name: String,
        /// The format's name.
        format: &'static str,
        /// Rows (outputs).
        rows: usize,
        /// Columns (inputs).
        cols: usize,
        /// Bytes found.
        found: usize,
        /// Bytes that the format takes.
        expected: usize,
    },
    /// A row is no whole number of the format's blocks.
    #[error("tensor {name}: rows of {cols} values cannot be stored as {format}, whose blocks hold {block}")]
    RowBlocks {
        /// The tensor's name in its file.
        name: String,
        /// The format's name.
        format: &'static str,
        /// Columns found.
        cols: usize,
        /// Values in one block.
        block: usize,
    },
    /// Two shapes that must agree do not.
    #[error("{what}: {found} where {expected} is needed")]
    Shape {
        /// What was looked at.
        what: String,
        /// What was found.
        found: String,
        /// What is needed.
        expected: String,
    },
    /// Memory for a buffer cannot be had.
    #[error(
        "{what}: {bytes} bytes of memory cannot be had; lower --max-context-len or --memory, or close other programs"
    )]
    Memory {
        /// What the memory is for.
        what: String,
        /// How much was asked for.
        bytes: usize,
    },
    /// Memory of a GPU cannot be had.
    #[error(
        "{what}: {bytes} bytes of GPU memory cannot be had, {free} are free; take a smaller model or --quantization \
         q4f16, lower --max-context-len or --memory, or close other programs"
    )]
    DeviceMemory {
        /// What the memory is for.
        what: String,
        /// How much was asked for.
        bytes: usize,
        /// How much is free.
        free: u64,
    },
    /// A GPU is not here, refuses something, or was lost; a sentence that says what to do.
    #[error("{0}")]
    Device(String),
    /// This machine does not have what was asked for.
    #[error("{0}")]
    Unsupported(String),
}
