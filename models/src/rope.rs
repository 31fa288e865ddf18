//! Rotary embedding: frequencies and how they are changed for longer contexts. How files spell it is in `arch/rope.rs`.

use nano_kernels::Pairing;
use std::f64::consts::PI;

/// Rotary embedding.
#[derive(Clone, Debug)]
pub struct RopeSpec {
    /// Which values turn together.
    pub pairing: Pairing,
    /// Leading values of a head that turn.
    pub dims: usize,
    /// Base of the frequencies.
    pub theta: f32,
    /// How frequencies are changed for longer contexts.
    pub scaling: RopeScaling,
    /// Tokens that a conversation may have: what decides scalings that depend on it, once for all positions.
    pub context: usize,
}

/// Scalings of rope frequencies.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// As they are.
    None,
    /// All divided by a factor.
    Linear(f32),
    /// Long wavelengths divided by a factor, short ones kept, a ramp between (Llama 3.1).
    Llama3 {
        /// The divisor.
        factor: f32,
        /// Wavelengths above original / low are divided.
        low: f32,
        /// Wavelengths below original / high are kept.
        high: f32,
        /// The context before scaling, tokens.
        original: f32,
    },
    /// A greater base where the context is longer than the model's own (NTK).
    Dynamic {
        /// How much longer the context may become.
        factor: f32,
        /// The model's own context, tokens.
        original: f32,
    },
    /// Slow frequencies divided by a factor, fast ones kept, a ramp between them by index (YaRN).
    Yarn {
        /// The divisor.
        factor: f32,
        /// The context before scaling, tokens.
        original: f32,
        /// Frequencies that turn more often than this in that context are kept.
        fast: f32,
        /// Frequencies that turn less often than this are divided.
        slow: f32,
        /// Whether the ramp begins and ends at whole indices.
        truncate: bool,
        /// Factor on cos and sin.
        attention: f32,
    },
    /// Each frequency divided by a factor of its own, from one of two lists (LongRoPE).
    Long {
        /// For contexts up to the original.
        short: Vec<f32>,
        /// For longer ones.
        long: Vec<f32>,
        /// The context before scaling, tokens.
        original: usize,
        /// Factor on cos and sin.
        attention: f32,
    },
}

impl RopeScaling {
    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            RopeScaling::None => "none",
            RopeScaling::Linear(_) => "linear",
            RopeScaling::Llama3 { .. } => "llama3",
            RopeScaling::Dynamic { .. } => "dynamic",
            RopeScaling::Yarn { .. } => "yarn",
            RopeScaling::Long { .. } => "longrope",
        }
    }

    /// By how much it stretches the context, where that is one number.
    pub fn factor(&self) -> Option<f32> {
        match self {
            RopeScaling::None | RopeScaling::Long { .. } => None,
            RopeScaling::Linear(factor)
            | RopeScaling::Llama3 { factor, .. }
            | RopeScaling::Dynamic { factor, .. }
            | RopeScaling::Yarn { factor, .. } => Some(*factor),
        }
    }
}

impl RopeSpec {
    /// dims/2 angular frequencies, radians per position.
    pub fn frequencies(&self) -> Vec<f32> {
        let plain = |theta: f64| {
            (0..self.dims / 2).map(move |i| theta.powf(-(2.0 * i as f64) / self.dims as f64) as f32).collect::<Vec<_>>()
        };
        let mut frequencies = plain(self.theta as f64);
        match &self.scaling {
            RopeScaling::None => {}
            RopeScaling::Linear(factor) => frequencies.iter_mut().for_each(|f| *f /= factor),
            RopeScaling::Llama3 { factor, low, high, original } => {
                frequencies.iter_mut().for_each(|f| *f = llama3(*f, *factor, *low, *high, *original));
            }
            RopeScaling::Dynamic { factor, original } => {
                let longer = (self.context as f64 / *original as f64).max(1.0);
                let factor = *factor as f64;
                let dims = self.dims as f64;
                let theta = self.theta as f64 * (factor * longer - (factor - 1.0)).powf(dims / (dims - 2.0));
                frequencies = plain(theta);
            }
            RopeScaling::Yarn { factor, original, fast, slow, truncate, .. } => {
                let [low, high] = [*fast, *slow].map(|turns| self.index_of(turns, *original));
                let (low, high) = if *truncate { (low.floor(), high.ceil()) } else { (low, high) };
                let (low, high) = (low.max(0.0), high.min(self.dims as f64 - 1.0));
                let width = if low == high { 0.001 } else { high - low };
                for (i, f) in frequencies.iter_mut().enumerate() {
                    let divided = ((i as f64 - low) / width).clamp(0.0, 1.0) as f32;
                    *f = *f / factor * divided + *f * (1.0 - divided);
                }
            }
            RopeScaling::Long { short, long, original, .. } => {
                let factors = if self.context > *original { long } else { short };
                frequencies.iter_mut().zip(factors).for_each(|(f, factor)| *f /= factor);
            }
        }
        frequencies
    }

    /// Factor on cos and sin.
    pub fn attention(&self) -> f32 {
        match self.scaling {
            RopeScaling::Yarn { attention, .. } | RopeScaling::Long { attention, .. } => attention,
            _ => 1.0,
        }
    }

    /// Which frequencies the context chose, if it did: keys turned by others are of no use.
    pub fn choice(&self) -> Option<String> {
        match &self.scaling {
            RopeScaling::Long { original, .. } if self.context > *original => Some("long".into()),
            RopeScaling::Dynamic { original, .. } if self.context as f32 > *original => Some(self.context.to_string()),
            _ => None,
        }
    }

    /// What to tell of a choice that the context made.
    pub fn notice(&self) -> Option<String> {
        match &self.scaling {
            RopeScaling::Long { original, .. } if self.context > *original => Some(format!(
                "rope uses its factors for long contexts, since the context is {} tokens; up to {original} tokens it would use \
                 those for short ones",
                self.context
            )),
            RopeScaling::Dynamic { original, .. } if self.context as f32 > *original => Some(format!(
                "rope is scaled for a context of {} tokens; up to {original} tokens it would be as the model was trained",
                self.context
            )),
            _ => None,
        }
    }

    /// The index, between whole ones too, of the frequency that turns so often in a context.
    fn index_of(&self, turns: f32, context: f32) -> f64 {
        let wavelength = context as f64 / (turns as f64 * 2.0 * PI);
        self.dims as f64 * wavelength.ln() / (2.0 * (self.theta as f64).ln())
    }
}

fn llama3(f: f32, factor: f32, low: f32, high: f32, original: f32) -> f32 {
    let wavelength = 2.0 * std::f32::consts::PI / f;
    if wavelength > original / low {
        f / factor
    } else if wavelength < original / high {
        f
    } else {
        let smooth = (original / wavelength - low) / (high - low);
        (1.0 - smooth) * f / factor + smooth * f
    }
}
