//! gpt-oss: experts with biases whose gates are cut, a sink in every head of attention, a window in every other layer.

use super::{Arch, base, experts, slide};
use crate::names;
use crate::spec::Spec;
use crate::{Checkpoint, Config, Container, Result, RopeScaling};
use nano_kernels::{Act, Pairing};

pub static GPT_OSS: Arch = Arch {
    name: "gpt-oss",
    models: "gpt-oss 20b, 120b",
    hf: &["gpt_oss"],
    gguf: &["gpt-oss"],
    spec,
    names: &[names::COMMON, names::GPT_OSS],
    ignored: &["rotary_emb.inv_freq"],
    pairing: (Pairing::Halves, Pairing::Halves),
};

fn spec(arch: &'static Arch, checkpoint: &dyn Checkpoint, vocab: usize) -> Result<Spec> {
    let spec = base(arch, checkpoint, vocab)?;
    let c = checkpoint.config();
    let mut rope = spec.rope;
    if !c.has("rope_theta|rope_scaling.rope_theta|rope_parameters.rope_theta", "rope.freq_base") {
        rope.theta = 150_000.0;
    }
    if let (RopeScaling::Yarn { truncate, .. }, Container::Gguf) = (&mut rope.scaling, checkpoint.container()) {
        // GGUF does not say it; all models of the family were trained so.
        *truncate = false;
    }
    let norm_eps = c.opt_f32("rms_norm_eps", "attention.layer_norm_rms_epsilon")?.unwrap_or(1e-5);
    let mut spec = Spec { rope, norm_eps, act: clamped(c)?, ..spec };
    let window = c.opt_usize("sliding_window", "attention.sliding_window")?.unwrap_or(128);
    slide(&mut spec, c, Some(window), |layer| layer % 2 == 0)?;
    experts(&mut spec, checkpoint, (true, true))?;
    Ok(spec)
}

/// The activation of gates, whose numbers are those of all published models.
fn clamped(c: &Config) -> Result<Act> {
    for (key, known) in [("swiglu_limit", 7.0), ("swiglu_alpha", 1.702)] {
        if let Some(other) = c.opt_f32(key, "")?.filter(|found| *found != known) {
            return Err(c.bad(key, "", format!("is {other}; only {known} is supported")));
        }
    }
    Ok(Act::Clamped)
}
