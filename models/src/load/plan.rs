//! What a model will take, before anything of it is read.

use super::{LoadOptions, experts, target};
use crate::decoder::Room;
use crate::names::Role;
use crate::shapes::{name, pieces, roles, stacks};
use crate::spec::Spec;
use crate::{Checkpoint, Result, TensorInfo};
use nano_kernels::{Backend, PAGE_ROWS, Products};
use std::marker::PhantomData;

/// The memory that a model will take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Bytes of packed weights.
    pub weights_bytes: u64,
    /// Bytes that one page of the cache takes.
    pub page_bytes: u64,
    /// Bytes of buffers, and of what products need besides.
    pub workspace_bytes: u64,
    /// The most bytes that are held at a time while weights are loaded: those that are packed, the tensors that are just
    /// read (mapped from their file) and what they become.
    pub loading_bytes: u64,
    /// Bytes of tensors that loading must convert into another format, or change.
    pub converted_bytes: u64,
}

impl Plan {
    /// Bytes of cache for `rows` tokens.
    pub fn kv_bytes(&self, rows: usize) -> u64 {
        rows.div_ceil(PAGE_ROWS) as u64 * self.page_bytes
    }
}

/// The memory that `checkpoint` will take on backend `B`. Reads no tensor data.
pub fn plan<B: Backend>(
    checkpoint: &dyn Checkpoint,
    spec: &Spec,
    options: &LoadOptions,
    pages: nano_kernels::PageLayout,
) -> Result<Plan> {
    let mut tally = Tally::<B>::new(*options);
    // In the order of loading.
    let stack = |tally: &mut Tally<B>, roles: &[Role], layer: usize| -> Result<()> {
        for role in roles {
            let name = name(checkpoint, spec, *role, layer, "weight").unwrap_or_default();
            let info = checkpoint.info(&name).ok_or_else(|| crate::arch::missing(checkpoint, &name))?;
            tally.part(info, *role, pieces(*role));
        }
        tally.pack();
        Ok(())
    };
    stack(&mut tally, &[Role::Embed], 0)?;
    if !spec.tied {
        stack(&mut tally, &[Role::Head], 0)?;
    }
    for layer in 0..spec.layers {
        for parts in stacks(spec, layer) {
            stack(&mut tally, &roles(checkpoint, spec, parts, layer), layer)?;
        }
        if spec.each[layer].sparse {
            let [router, shared_up, shared_down] = experts::beside(spec);
            stack(&mut tally, router, layer)?;
            experts::tally(checkpoint, spec, layer, &mut tally)?;
            stack(&mut tally, shared_up, layer)?;
            stack(&mut tally, shared_down, layer)?;
        }
    }
    let workspace = Room::<B>::bytes(spec, options) + B::room_bytes(&products(spec, options));
    Ok(Plan {
        weights_bytes: tally.packed,
        page_bytes: B::page_bytes(&pages) as u64,
        workspace_bytes: workspace as u64,
        loading_bytes: tally.most,
        converted_bytes: if checkpoint.under().is_some() { tally.packed } else { tally.converted },
    })
}

fn products(spec: &Spec, options: &LoadOptions) -> Products {
    let LoadOptions { rows, threads, .. } = *options;
    let cols = spec.dim.max(spec.heads * spec.head_dim).max(spec.dense_hidden());
    let dense = Products { rows, cols, threads, ..Products::default() };
    match spec.experts {
        Some(e) => {
            Products { experts: e.count, chosen: e.chosen, dim: spec.dim, hidden: e.hidden, shared: e.shared, ..dense }
        }
        None => dense,
    }
}

/// Adds up what loading holds.
pub struct Tally<B> {
    options: LoadOptions,
    /// Bytes of weights in the machine's layout.
    packed: u64,
    /// The most at a time.
    most: u64,
    /// Of tensors that change their format.
    converted: u64,
    /// Of the weight that is being made: its parts on the host, and what they will take.
    held: u64,
    becomes: u64,
    backend: PhantomData<fn() -> B>,
}

impl<B: Backend> Tally<B> {
    fn new(options: LoadOptions) -> Self {
        Tally { options, packed: 0, most: 0, converted: 0, held: 0, becomes: 0, backend: PhantomData }
    }

    /// A tensor is looked through.
    pub fn scan(&mut self, info: TensorInfo) {
        self.hold(info.bytes as u64);
    }

    /// A matrix becomes a part of a weight, or `pieces` of it.
    pub fn part(&mut self, info: TensorInfo, role: Role, pieces: usize) {
        let format = target::<B>(info, &self.options, role);
        let rows = info.rows / pieces;
        self.becomes += (pieces * B::weight_bytes(format, rows, info.cols)) as u64;
        self.hold(info.bytes as u64);
        if format == info.format {
            self.held += info.bytes as u64;
        } else {
            let converted = (format.row_bytes(info.cols).unwrap_or(0) * info.rows) as u64;
            self.hold(info.bytes as u64 + converted);
            self.held += converted;
            self.converted += info.bytes as u64;
        }
    }

    /// A vector of so many values stays beside the weights.
    pub fn vector(&mut self, len: usize) {
        self.packed += 4 * len as u64;
    }

    /// The parts become a weight.
    pub fn pack(&mut self) {
        self.packed += self.becomes;
        self.hold(0);
        (self.held, self.becomes) = (0, 0);
    }

    fn hold(&mut self, bytes: u64) {
        self.most = self.most.max(self.packed + self.held + bytes);
    }
}
