//! Rotary embedding as files spell it: config.json's old and new ways, and GGUF's keys.

use super::Arch;
use crate::{Checkpoint, Container, Result, RopeScaling, RopeSpec};

/// Where config.json may speak of it, from the first choice on.
const GLOBAL: &[&str] = &["rope_scaling", "rope_parameters.full_attention", "rope_parameters"];
const LOCAL: &[&str] = &["rope_parameters.sliding_attention"];

/// The rotary embedding of heads of `head_dim`, of which a Hugging Face model turns `part` if its config.json says nothing.
pub fn rope(arch: &Arch, checkpoint: &dyn Checkpoint, head_dim: usize, part: f32, context: usize) -> Result<RopeSpec> {
    let c = checkpoint.config();
    let keys = Keys { checkpoint, places: GLOBAL, context };
    let part_keys = keys.of("partial_rotary_factor") + "|partial_rotary_factor|rope_pct|rotary_pct";
    let dims = match checkpoint.container() {
        Container::HuggingFace => (head_dim as f32 * c.opt_f32(&part_keys, "")?.unwrap_or(part)) as usize,
        Container::Gguf => c.opt_usize("", "rope.dimension_count")?.unwrap_or(head_dim),
    };
    let theta = c.opt_f32(&(keys.of("rope_theta") + "|rope_theta"), "rope.freq_base")?.unwrap_or(10000.0);
    Ok(RopeSpec { pairing: arch.pairing(checkpoint.container()), dims, theta, scaling: keys.scaling(dims)?, context })
}

/// That of sliding layers, where they have one of their own; of `theta` if nothing is said, and unscaled.
pub fn local(global: &RopeSpec, checkpoint: &dyn Checkpoint, theta: f32) -> Result<RopeSpec> {
    let keys = Keys { checkpoint, places: LOCAL, context: global.context };
    let hf = keys.of("rope_theta") + "|rope_local_base_freq";
    let theta = checkpoint.config().opt_f32(&hf, "rope.freq_base_swa")?.unwrap_or(theta);
    let scaling = match checkpoint.container() {
        Container::HuggingFace => keys.scaling(global.dims)?,
        Container::Gguf => RopeScaling::None,
    };
    Ok(RopeSpec { theta, scaling, ..global.clone() })
}

/// One rotary embedding's keys.
struct Keys<'a> {
    checkpoint: &'a dyn Checkpoint,
    places: &'static [&'static str],
    context: usize,
}

impl Keys<'_> {
    /// Every way to say `key` in config.json.
    fn of(&self, key: &str) -> String {
        self.places.iter().map(|place| format!("{place}.{key}")).collect::<Vec<_>>().join("|")
    }

    fn scaling(&self, dims: usize) -> Result<RopeScaling> {
        let c = self.checkpoint.config();
        let kind = (self.of("rope_type") + "|" + &self.of("type"), "rope.scaling.type");
        let long = self.checkpoint.info("rope_factors_long.weight").is_some();
        Ok(match c.opt_str(&kind.0, kind.1)? {
            _ if long => self.long(dims)?,
            None if c.has("", "rope.scale_linear") => RopeScaling::Linear(self.number("", "rope.scale_linear")?),
            None | Some("default" | "none") => RopeScaling::None,
            Some("linear") => RopeScaling::Linear(self.number("factor", "rope.scaling.factor")?),
            Some("dynamic") => RopeScaling::Dynamic {
                factor: self.number("factor", "rope.scaling.factor")?,
                original: self.context as f32,
            },
            Some("yarn") => self.yarn()?,
            Some("llama3") if c.container() == Container::HuggingFace => self.llama3()?,
            Some("longrope" | "su") if c.container() == Container::HuggingFace => self.long(dims)?,
            Some(other) => {
                let known = "known: linear, dynamic, yarn, llama3, longrope";
                return Err(c.bad(&kind.0, kind.1, format!("is \"{other}\", which is not supported; {known}")));
            }
        })
    }

    /// A number above 0 that must be there.
    fn number(&self, key: &str, gguf: &str) -> Result<f32> {
        let hf = if key.is_empty() { String::new() } else { self.of(key) };
        self.checkpoint.config().f32(&hf, gguf).and_then(|value| self.positive(&hf, gguf, value))
    }

    /// A number above 0, if it is stated.
    fn opt_number(&self, key: &str, gguf: &str) -> Result<Option<f32>> {
        let hf = self.of(key);
        let value = self.checkpoint.config().opt_f32(&hf, gguf)?;
        value.map(|value| self.positive(&hf, gguf, value)).transpose()
    }

    fn positive(&self, hf: &str, gguf: &str, value: f32) -> Result<f32> {
        if value > 0.0 {
            return Ok(value);
        }
        Err(self.checkpoint.config().bad(hf, gguf, format!("is {value}; a positive number is needed")))
    }

    /// The context before scaling.
    fn original(&self) -> Result<f32> {
        let hf = format!("original_max_position_embeddings|{}", self.of("original_max_position_embeddings"));
        let gguf = "rope.scaling.original_context_length";
        let stated = self.checkpoint.config().opt_f32(&hf, gguf)?;
        self.positive(&hf, gguf, stated.unwrap_or(self.context as f32))
    }

    fn llama3(&self) -> Result<RopeScaling> {
        let (low, high) = (self.number("low_freq_factor", "")?, self.number("high_freq_factor", "")?);
        if low >= high {
            let why = format!("is {low}; less than high_freq_factor ({high}) is needed");
            return Err(self.checkpoint.config().bad(&self.of("low_freq_factor"), "", why));
        }
        Ok(RopeScaling::Llama3 { factor: self.number("factor", "")?, low, high, original: self.original()? })
    }

    fn yarn(&self) -> Result<RopeScaling> {
        let original = self.original()?;
        let factor = self.opt_number("factor", "rope.scaling.factor")?.unwrap_or(self.context as f32 / original);
        let mscale = |by: f32| if factor <= 1.0 { 1.0 } else { 0.1 * by * factor.ln() + 1.0 };
        let by = |key: &str| self.opt_number(key, "");
        let attention = match (by("attention_factor")?, by("mscale")?, by("mscale_all_dim")?) {
            (Some(attention), ..) => attention,
            (None, Some(one), Some(all)) => mscale(one) / mscale(all),
            // A GGUF file states a further factor, if any.
            _ => mscale(1.0) * self.checkpoint.config().opt_f32("", "rope.scaling.attn_factor")?.unwrap_or(1.0),
        };
        Ok(RopeScaling::Yarn {
            factor,
            original,
            fast: self.opt_number("beta_fast", "rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
            slow: self.opt_number("beta_slow", "rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
            truncate: self.checkpoint.config().opt_bool(&self.of("truncate"), "")?.unwrap_or(true),
            attention,
        })
    }

    fn long(&self, dims: usize) -> Result<RopeScaling> {
        let c = self.checkpoint.config();
        let list = |key: &str| -> Result<Vec<f32>> {
            let (hf, tensor) = (self.of(&format!("{key}_factor")), format!("rope_factors_{key}.weight"));
            let (name, factors) = match c.container() {
                Container::HuggingFace => (hf.clone(), c.opt_f32s(&hf, "")?),
                Container::Gguf => (tensor.clone(), self.checkpoint.tensor(&tensor)?.map(|tensor| tensor.to_f32())),
            };
            let factors = factors.unwrap_or_default();
            if factors.len() == dims / 2 && factors.iter().all(|f| *f > 0.0) {
                return Ok(factors);
            }
            let why = format!("holds {} factors; {} positive ones are needed", factors.len(), dims / 2);
            Err(match c.container() {
                Container::HuggingFace => c.bad(&hf, "", why),
                Container::Gguf => crate::Error::tensor(self.checkpoint.path(), &name, why),
            })
        };
        let original = self.original()?;
        let factor = self.opt_number("factor", "")?.unwrap_or(self.context as f32 / original);
        let usual = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / original.ln()).sqrt() };
        let attention = self.opt_number("attention_factor", "rope.scaling.attn_factor")?.unwrap_or(usual);
        Ok(RopeScaling::Long { short: list("short")?, long: list("long")?, original: original as usize, attention })
    }
}
