//! Single blocks of a model, for those who let rows through one after the other and keep none.

use super::{LoadOptions, Loader};
use crate::assemble::{self, Scale};
use crate::decoder::Layer;
use crate::names::Role;
use crate::spec::Spec;
use crate::store::Shelf;
use crate::{Checkpoint, Result};
use nano_kernels::{Backend, Norm};

/// Loads the block number `layer`.
pub fn block<B: Backend>(
    checkpoint: &dyn Checkpoint,
    backend: &mut B,
    spec: &Spec,
    options: &LoadOptions,
    layer: usize,
) -> Result<Layer<B>> {
    let report = &mut |_| ();
    let mut loader = Loader::new(checkpoint, &*backend, spec, options, Shelf::default(), report);
    let factors = loader.vector(Role::RopeFactors, 0, "weight", false)?;
    let block = loader.block(layer)?;
    assemble::layer(backend, spec, factors, layer, block)
}

/// Loads the norm behind the last block.
pub fn last_norm<B: Backend>(
    checkpoint: &dyn Checkpoint,
    backend: &mut B,
    spec: &Spec,
    options: &LoadOptions,
) -> Result<Norm<B>> {
    let report = &mut |_| ();
    let mut loader = Loader::new(checkpoint, &*backend, spec, options, Shelf::default(), report);
    let scale: Scale = loader.needed_norm(Role::Norm, 0)?;
    assemble::norm(backend, spec, scale)
}
