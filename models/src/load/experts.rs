//! The experts of a layer, however the checkpoint keeps them: each by itself, or one matrix of all.

use super::plan::Tally;
use super::{Loader, piece, target};
use crate::assemble::Mlp;
use crate::names::{self, Role};
use crate::shapes::name;
use crate::spec::{ExpertSpec, Spec};
use crate::{Checkpoint, Result, TensorInfo};
use nano_kernels::{Backend, HostTensor};

/// What a matrix of an expert is called alone, in a stack of all experts, and in a stack of pairs with its place there.
pub struct Matrix {
    pub alone: Role,
    pub stack: Role,
    pair: Option<(Role, usize)>,
}

pub const MATRICES: [Matrix; 3] = [
    Matrix { alone: Role::ExpertGate, stack: Role::ExpertGates, pair: Some((Role::ExpertGateUps, 0)) },
    Matrix { alone: Role::ExpertUp, stack: Role::ExpertUps, pair: Some((Role::ExpertGateUps, 1)) },
    Matrix { alone: Role::ExpertDown, stack: Role::ExpertDowns, pair: None },
];

/// Where a matrix of an expert lies: one of equal pieces of a tensor.
pub struct Source {
    pub role: Role,
    pub name: String,
    pub piece: usize,
    pub pieces: usize,
}

/// Rows and columns of a role's weight.
pub fn shape(e: ExpertSpec, dim: usize, role: Role) -> (usize, usize) {
    match role {
        Role::Router => (e.count, dim),
        Role::ExpertGate | Role::ExpertUp => (e.hidden, dim),
        Role::ExpertDown => (dim, e.hidden),
        Role::ExpertGates | Role::ExpertUps => (e.count * e.hidden, dim),
        Role::ExpertGateUps => (2 * e.count * e.hidden, dim),
        Role::ExpertDowns => (e.count * dim, e.hidden),
        Role::SharedGate | Role::SharedUp => (e.shared, dim),
        Role::SharedDown => (dim, e.shared),
        _ => (1, dim),
    }
}

/// The weights of a layer beside those of its experts: router, and up and down of the shared expert.
pub fn beside(spec: &Spec) -> [&'static [Role]; 3] {
    match spec.experts.unwrap_or_default().shared {
        0 => [&[Role::Router], &[], &[]],
        _ => [&[Role::Router, Role::SharedRouter], &[Role::SharedGate, Role::SharedUp], &[Role::SharedDown]],
    }
}

/// Adds the experts of a layer to what loading holds.
pub fn tally<B: Backend>(checkpoint: &dyn Checkpoint, spec: &Spec, layer: usize, tally: &mut Tally<B>) -> Result<()> {
    let count = spec.experts.unwrap_or_default().count;
    for expert in 0..count {
        for matrices in [&MATRICES[..2], &MATRICES[2..]] {
            for matrix in matrices {
                let from = source(checkpoint, spec, layer, matrix, expert)?;
                let info = checkpoint.info(&from.name).ok_or_else(|| crate::arch::missing(checkpoint, &from.name))?;
                if from.piece == 0 {
                    tally.scan(info);
                }
                let (rows, bytes) = (info.rows / from.pieces, info.bytes / from.pieces);
                tally.part(TensorInfo { rows, bytes, ..info }, from.role, 1);
            }
            tally.pack();
        }
    }
    for matrix in &MATRICES {
        biases(checkpoint, spec, layer, matrix)?.iter().for_each(|(_, (rows, cols))| tally.vector(rows * cols));
    }
    Ok(())
}

/// Finds a matrix of an expert.
pub fn source(
    checkpoint: &dyn Checkpoint,
    spec: &Spec,
    layer: usize,
    matrix: &Matrix,
    expert: usize,
) -> Result<Source> {
    let Matrix { alone, stack, pair } = *matrix;
    let count = spec.experts.unwrap_or_default().count;
    let find = |role: Role| {
        let all = names::all(spec.arch.names, checkpoint.container(), role, layer, "weight");
        all.map(|name| name.replace("{e}", &expert.to_string())).find(|name| checkpoint.info(name).is_some())
    };
    if let Some(name) = find(stack) {
        return Ok(Source { role: stack, name, piece: expert, pieces: count });
    }
    if let Some((role, place)) = pair
        && let Some(name) = find(role)
    {
        return Ok(Source { role, name, piece: 2 * expert + place, pieces: 2 * count });
    }
    if let Some(name) = find(alone) {
        return Ok(Source { role: alone, name, piece: 0, pieces: 1 });
    }
    let usual = [stack, alone].into_iter().find_map(|role| name(checkpoint, spec, role, layer, "weight"));
    let usual = usual.unwrap_or_default().replace("{e}", &expert.to_string());
    Err(crate::arch::missing(checkpoint, &usual))
}

/// The tensors that hold the biases of a matrix of all experts, in their order, with their shapes: one, or one for each
/// expert. Most models have none.
pub fn biases(
    checkpoint: &dyn Checkpoint,
    spec: &Spec,
    layer: usize,
    matrix: &Matrix,
) -> Result<Vec<(String, (usize, usize))>> {
    let e = spec.experts.unwrap_or_default();
    let (outputs, _) = shape(e, spec.dim, matrix.alone);
    let named = |role: Role| name(checkpoint, spec, role, layer, "bias").unwrap_or_default();
    let stack = named(matrix.stack);
    if checkpoint.info(&stack).is_some() {
        return Ok(vec![(stack, (e.count, outputs))]);
    }
    let alone = named(matrix.alone);
    let each: Vec<String> = (0..e.count).map(|expert| alone.replace("{e}", &expert.to_string())).collect();
    let there = |name: &&String| checkpoint.info(name).is_some();
    match each.iter().find(|name| !there(name)) {
        Some(_) if !each.iter().any(|name| there(&name)) => Ok(Vec::new()),
        Some(absent) => Err(crate::arch::missing(checkpoint, absent)),
        None => Ok(each.into_iter().map(|name| (name, (1, outputs))).collect()),
    }
}

impl<'a, B: Backend> Loader<'a, B> {
    /// Router, experts and shared expert of a layer.
    pub fn experts(&mut self, layer: usize) -> Result<Mlp<B>> {
        let [router, shared_up, shared_down] = beside(self.spec);
        let router = self.linear(router, layer)?;
        let e = self.spec.experts.unwrap_or_default();
        let before = self.step_bytes;
        let (mut up, mut down) = (Vec::new(), Vec::new());
        let mut open = Vec::new();
        for expert in 0..e.count {
            let matrix = |i: usize| source(self.checkpoint, self.spec, layer, &MATRICES[i], expert);
            let [gate, value, back] = [matrix(0)?, matrix(1)?, matrix(2)?];
            up.push(self.pieces(&[gate, value], &mut open)?);
            down.push(self.pieces(&[back], &mut open)?);
        }
        open.iter().for_each(|name| self.done(name));
        // A token reads the chosen ones only.
        self.step_bytes = before + (self.step_bytes - before) * e.chosen as u64 / e.count as u64;
        let shared = match e.shared {
            0 => None,
            _ => Some((self.weight(shared_up, layer)?, self.weight(shared_down, layer)?)),
        };
        let biases = [self.biases(layer, &MATRICES[..2])?, self.biases(layer, &MATRICES[2..])?];
        Ok(Mlp::Sparse { router, up, down, shared, biases })
    }

    /// Of each expert the biases of these matrices, one after the other.
    fn biases(&mut self, layer: usize, matrices: &[Matrix]) -> Result<Option<Vec<f32>>> {
        let e = self.spec.experts.unwrap_or_default();
        let outputs = shape(e, self.spec.dim, matrices[0].alone).0;
        let mut all = vec![0.0; e.count * matrices.len() * outputs];
        let mut any = false;
        for (i, matrix) in matrices.iter().enumerate() {
            let mut values = Vec::new();
            for (name, shape) in biases(self.checkpoint, self.spec, layer, matrix)? {
                let tensor = self.take(&name, shape)?.ok_or_else(|| crate::arch::missing(self.checkpoint, &name))?;
                values.extend(tensor.to_f32());
                self.done(&name);
            }
            any |= !values.is_empty();
            let places = all.chunks_exact_mut(outputs).skip(i).step_by(matrices.len());
            places.zip(values.chunks_exact(outputs)).for_each(|(place, bias)| place.copy_from_slice(bias));
        }
        Ok(any.then_some(all))
    }

    /// Pieces of tensors in the backend's layout. Stacks stay `open` until all experts have theirs.
    fn pieces(&mut self, sources: &[Source], open: &mut Vec<String>) -> Result<B::Weight> {
        let key = sources.iter().map(|source| format!("{} {} ", source.name, source.piece)).collect::<String>();
        if let Some(weight) = self.kept(&key) {
            for Source { role, name, piece, pieces } in sources {
                if *piece == 0 {
                    self.pass(*role, name)?;
                }
                if *pieces == 1 {
                    self.done(name);
                } else if !open.contains(name) {
                    open.push(name.clone());
                }
            }
            return Ok(weight);
        }
        let before = self.found();
        let mut parts: Vec<HostTensor<'a>> = Vec::new();
        for Source { role, name, piece: number, pieces } in sources {
            let checkpoint: &'a dyn Checkpoint = self.checkpoint;
            let missing = || crate::arch::missing(checkpoint, name);
            let shape = crate::shapes::shape(self.spec, *role);
            let tensor = match self.used.contains(name) {
                true => checkpoint.tensor(name)?,
                false => self.take(name, shape)?,
            };
            let tensor = tensor.ok_or_else(missing)?;
            if *pieces > 1 {
                // It was looked through as a whole; from here one expert's piece at a time is read.
                checkpoint.release(name);
            }
            let info = checkpoint.info(name).ok_or_else(missing)?;
            let to = match *number {
                0 => self.note(info, *role),
                _ => target::<B>(info, self.options, *role),
            };
            let part = if *pieces == 1 { tensor } else { piece(&tensor, *number, *pieces) };
            parts.push(self.converted(part, to, name)?);
            if *pieces > 1 && !open.contains(name) {
                open.push(name.clone());
            }
        }
        let parts = self.in_one_order(parts)?;
        self.step_bytes += parts.iter().map(|p| B::weight_bytes(p.format, p.rows, p.cols) as u64).sum::<u64>();
        let weight = self.backend.weight(&parts)?;
        drop(parts);
        for Source { name, pieces, .. } in sources {
            if *pieces == 1 { self.done(name) } else { self.checkpoint.release(name) }
        }
        self.made(key, before);
        Ok(weight)
    }
}
