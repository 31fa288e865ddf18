//! What is known of a model: its name, its sizes, the memory it takes.

use crate::Identity;
use crate::runner::Formats;
use nano_kernels::KvFormat;
use nano_models::{Plan, Spec};

/// A model, for people and for programs that choose.
#[derive(Clone, Debug, Default)]
pub struct ModelInfo {
    /// The file's name without its ending, or the folder's.
    pub name: String,
    /// The model's numbers. Absent for a runner that a test made up.
    pub spec: Option<Spec>,
    /// Where it runs: `cpu` or `cuda`.
    pub device: &'static str,
    /// The GPU's name, if it runs on one.
    pub gpu: Option<String>,
    /// Threads that compute.
    pub threads: usize,
    /// Tokens that one conversation may hold: what was asked for, reduced to what fits into memory.
    pub context: usize,
    /// How keys and values are stored.
    pub kv_format: Option<KvFormat>,
    /// How many tensors of each kind (embedding, head, attention, mlp) are held in each format; empty until weights
    /// are loaded.
    pub formats: Formats,
    /// What it takes of memory.
    pub memory: Memory,
    /// What rows in a session file belong to. Absent for a runner that a test made up.
    pub identity: Option<Identity>,
    /// The chat template's name.
    pub template: Option<String>,
    /// Tokens that end a turn.
    pub stop_tokens: Vec<u32>,
    /// Seconds that loading took.
    pub load_time: f64,
}

/// The memory that a model takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Bytes of weights, in the machine's layout.
    pub weights_bytes: u64,
    /// Bytes of keys and values per 1,024 tokens. They are taken as tokens are fed.
    pub kv_bytes_per_1k: u64,
    /// Bytes of buffers for one step.
    pub workspace_bytes: u64,
    /// The most bytes that are held at a time while weights are loaded: those that are packed, the tensors that are just
    /// read and what they become. What is mapped from files counts, though the system may take it back.
    pub loading_bytes: u64,
    /// Bytes with one conversation of full length.
    pub total_bytes: u64,
}

impl Memory {
    pub(crate) fn new(plan: &Plan, context: usize) -> Self {
        Self {
            weights_bytes: plan.weights_bytes,
            kv_bytes_per_1k: plan.kv_bytes(1024),
            workspace_bytes: plan.workspace_bytes,
            loading_bytes: plan.loading_bytes,
            total_bytes: plan.weights_bytes + plan.workspace_bytes + plan.kv_bytes(context),
        }
    }

    /// The most bytes at any time, with one conversation of full length. The program itself and its tokenizer are not
    /// counted.
    pub fn peak_bytes(&self) -> u64 {
        self.total_bytes.max(self.loading_bytes)
    }
}
