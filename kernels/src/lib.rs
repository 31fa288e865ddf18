//! Numbers on machines: weight formats, and the operations of a transformer's block program on CPUs and NVIDIA GPUs.
//!
//! The doors are [`Backend`] (the whole border between the mathematics and a machine), [`format`] (how bytes of a
//! checkpoint become weights) and [`Step`] (all that changes from one step to the next). What is deliberately not here:
//! names of models or tensors, tokenizers, file containers, conversations.

mod backend;
pub mod cpu;
pub mod cuda;
mod error;
pub mod format;
mod op;
mod step;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod trace;

pub use backend::Backend;
pub use error::{Error, Result};
pub use format::{Format, Group, HostTensor};
pub use op::{
    Act, After, Attend, Experts, KvFormat, Linear, MAX_HEAD_DIM, Norm, NormKind, PageLayout, Pairing, Precision,
    Products, Rope, Rows,
};
pub use step::{Candidate, MAX_TOP_K, NO_SLOT, PAGE_ROWS, PREV, Pick, Row, SequenceRows, Step};
