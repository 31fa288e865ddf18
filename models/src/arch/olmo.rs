//! OLMo 2: norms of what branches add instead of what they read, and of the whole of q and k.

use super::{Arch, base};
use crate::names;
use crate::spec::{HeadNorms, Spec};
use crate::{Checkpoint, Result};
use nano_kernels::Pairing;

pub static OLMO2: Arch = Arch {
    name: "olmo2",
    models: "OLMo 2",
    hf: &["olmo2"],
    gguf: &["olmo2"],
    spec,
    names: &[names::COMMON, names::POST_NORMS, names::HEAD_NORMS],
    ignored: &["rotary_emb.inv_freq"],
    pairing: (Pairing::Halves, Pairing::Halves),
};

fn spec(arch: &'static Arch, checkpoint: &dyn Checkpoint, vocab: usize) -> Result<Spec> {
    Ok(Spec { head_norms: HeadNorms::Whole, ..base(arch, checkpoint, vocab)? })
}
