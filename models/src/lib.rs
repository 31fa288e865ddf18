//! From files to a model: checkpoints (GGUF files, Hugging Face folders, the Hub), their numbers, their tokenizers. What is
//! deliberately not here: arithmetic, conversations, terminals.

pub mod arch;
mod assemble;
pub mod checkpoint;
mod config;
mod decoder;
mod error;
mod export;
mod fingerprint;
mod load;
mod names;
mod quantization;
mod rope;
mod shapes;
mod spec;
mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod tokenizer;

pub use checkpoint::lora::{Lora, merge};
pub use checkpoint::{Checkpoint, Container, TensorInfo, hub, open};
pub use config::Config;
pub use decoder::Decoder;
pub use error::{Error, Result};
pub use export::{Calibration, ExportOptions, Exported, export};
pub use fingerprint::fingerprint;
pub use load::{LoadOptions, Plan, Progress, plan};
pub use names::{Name, Role};
pub use quantization::{Head, Quantization};
pub use rope::{RopeScaling, RopeSpec};
pub use spec::{ExpertSpec, HeadNorms, LayerRope, LayerSpec, Spec};
pub use store::{KeptModel, PackedCache};
pub use tokenizer::{Control, Detokenizer, GgufVocab, HfVocab, Tokenizer};
