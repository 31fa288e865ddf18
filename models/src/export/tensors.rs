//! Which tensors a GGUF file of a model has, and from which tensors of the checkpoint each is made. No data are read here.

use crate::checkpoint::Container;
use crate::load::experts;
use crate::names::{self, Role};
use crate::shapes::{HEAD, name, roles, shape, stacks};
use crate::spec::{HeadNorms, Spec};
use crate::{Checkpoint, Error, Result, RopeScaling, TensorInfo};
use nano_kernels::{NormKind, Pairing};
use std::collections::HashSet;
use std::ops::Range;

/// A tensor of the file.
pub struct Item {
    /// Its name.
    pub name: String,
    /// Its shape, the longest stride first.
    pub dims: Vec<usize>,
    /// What it is for.
    pub role: Role,
    /// Whether it is a matrix, which may be quantized.
    pub matrix: bool,
    /// Added to all values.
    pub plus: f32,
    /// What it is made of.
    pub data: Data,
}

/// What a tensor is made of.
pub enum Data {
    /// Rows of tensors of the checkpoint, one after the other.
    Parts(Vec<Part>),
    /// These values.
    Values(Vec<f32>),
}

/// Rows of a tensor of the checkpoint.
pub struct Part {
    /// The tensor.
    pub name: String,
    /// Its rows.
    pub rows: Range<usize>,
    /// Rows, or the values of a vector, that change places.
    pub turns: Vec<Turn>,
}

/// Heads whose values lie in halves and are to lie in pairs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Rows of all heads.
    pub rows: Range<usize>,
    /// Rows of one.
    pub head: usize,
    /// Of which so many turn.
    pub dims: usize,
}

impl Turn {
    /// Which row comes to `row`.
    pub fn source(&self, row: usize) -> usize {
        if !self.rows.contains(&row) {
            return row;
        }
        let at = (row - self.rows.start) % self.head;
        match at < self.dims {
            true => row - at + at % 2 * (self.dims / 2) + at / 2,
            false => row,
        }
    }
}

/// Lists the tensors. All of the checkpoint's are used, or ignored by name.
pub fn list(checkpoint: &dyn Checkpoint, spec: &Spec) -> Result<Vec<Item>> {
    let mut list = List { checkpoint, spec, used: HashSet::new(), items: Vec::new() };
    list.factors()?;
    list.weight(Role::Embed, 0)?;
    for layer in 0..spec.layers {
        list.layer(layer)?;
    }
    list.norm(Role::Norm, 0)?;
    if spec.tied {
        list.used.extend(name(checkpoint, spec, Role::Head, 0, "weight"));
    } else {
        list.weight(Role::Head, 0)?;
    }
    list.finish()
}

struct List<'a> {
    checkpoint: &'a dyn Checkpoint,
    spec: &'a Spec,
    used: HashSet<String>,
    items: Vec<Item>,
}

impl List<'_> {
    fn layer(&mut self, layer: usize) -> Result<()> {
        let norms = [Role::AttendNorm, Role::AttendPost, Role::MlpNorm, Role::MlpPost];
        for role in norms.into_iter().filter(|role| !(self.spec.parallel && *role == Role::MlpNorm)) {
            if names::has(self.spec.arch.names, role) {
                self.norm(role, layer)?;
            }
        }
        if self.spec.head_norms != HeadNorms::None {
            self.head_norm(Role::QNorm, layer)?;
            self.head_norm(Role::KNorm, layer)?;
        }
        if names::has(self.spec.arch.names, Role::Sinks) {
            let from = name(self.checkpoint, self.spec, Role::Sinks, layer, "weight").unwrap_or_default();
            self.vector(Role::Sinks, layer, "weight", from, self.spec.heads, 0.0, Vec::new())?;
        }
        for stack in stacks(self.spec, layer) {
            for role in roles(self.checkpoint, self.spec, stack, layer) {
                self.weight(role, layer)?;
            }
        }
        if self.spec.each[layer].sparse {
            for role in experts::beside(self.spec).into_iter().flatten() {
                self.weight(*role, layer)?;
            }
            self.experts(layer)?;
            self.biases(layer)?;
        }
        Ok(())
    }

    /// A role's name in the file.
    fn gguf(&self, role: Role, layer: usize, part: &str) -> Result<String> {
        let name = names::name(self.spec.arch.names, Container::Gguf, role, layer, part);
        name.ok_or_else(|| {
            let why = format!("cannot be written as GGUF: {role:?} has no name there for {}", self.spec.arch.name);
            Error::file(self.checkpoint.path(), why)
        })
    }

    /// A tensor of the checkpoint, of a checked shape.
    fn take(&mut self, name: &str, (rows, cols): (usize, usize)) -> Result<TensorInfo> {
        let info = self.checkpoint.info(name).ok_or_else(|| crate::arch::missing(self.checkpoint, name))?;
        if (info.rows, info.cols) != (rows, cols) {
            let why = format!("is {} x {}; the model's sizes make it {rows} x {cols}", info.rows, info.cols);
            return Err(Error::tensor(self.checkpoint.path(), name, why));
        }
        self.used.insert(name.to_owned());
        Ok(info)
    }

    /// A matrix, and its bias if there is one.
    fn weight(&mut self, role: Role, layer: usize) -> Result<()> {
        let from = name(self.checkpoint, self.spec, role, layer, "weight").unwrap_or_default();
        let shape = shape(self.spec, role);
        let info = self.take(&from, shape)?;
        let turns = self.turns(role, info.rows);
        let part = Part { name: from, rows: 0..info.rows, turns: turns.clone() };
        let dims = if info.rows == 1 { vec![info.cols] } else { vec![info.rows, info.cols] };
        let name_of_item = self.gguf(role, layer, "weight")?;
        let matrix = info.rows > 1 && !matches!(role, Role::Router);
        self.items.push(Item { name: name_of_item, dims, role, matrix, plus: 0.0, data: Data::Parts(vec![part]) });
        let bias = name(self.checkpoint, self.spec, role, layer, "bias");
        match bias.filter(|bias| self.checkpoint.info(bias).is_some()) {
            Some(bias) => self.vector(role, layer, "bias", bias, shape.0, 0.0, turns),
            None => Ok(()),
        }
    }

    fn norm(&mut self, role: Role, layer: usize) -> Result<()> {
        let of = |part| name(self.checkpoint, self.spec, role, layer, part).unwrap_or_default();
        let (weight, bias) = (of("weight"), of("bias"));
        self.vector(role, layer, "weight", weight, self.spec.dim, self.spec.norm_plus, Vec::new())?;
        match self.spec.norm {
            NormKind::Rms => Ok(()),
            NormKind::Layer => self.vector(role, layer, "bias", bias, self.spec.dim, 0.0, Vec::new()),
        }
    }

    /// Norms of heads; some checkpoints have a tensor for each head.
    fn head_norm(&mut self, role: Role, layer: usize) -> Result<()> {
        let from = name(self.checkpoint, self.spec, role, layer, "weight").unwrap_or_default();
        let (rows, cols) = shape(self.spec, role);
        let mut parts = Vec::new();
        if from.contains(HEAD) {
            for head in 0..rows {
                let name = from.replace(HEAD, &head.to_string());
                self.take(&name, (1, cols))?;
                parts.push(Part { name, rows: 0..1, turns: self.turns(role, cols) });
            }
        } else {
            self.take(&from, (rows, cols))?;
            parts.push(Part { name: from, rows: 0..rows, turns: self.turns(role, cols) });
        }
        let dims = if rows == 1 { vec![cols] } else { vec![rows, cols] };
        let (name, plus) = (self.gguf(role, layer, "weight")?, self.spec.norm_plus);
        self.items.push(Item { name, dims, role, matrix: false, plus, data: Data::Parts(parts) });
        let bias = name_of_bias(self.checkpoint, self.spec, role, layer);
        match bias {
            Some(bias) => self.vector(role, layer, "bias", bias, rows * cols, 0.0, self.turns(role, cols)),
            None => Ok(()),
        }
    }

    #[allow(clippy::too_many_arguments)] // what a vector is, said once
    fn vector(
        &mut self,
        role: Role,
        layer: usize,
        part: &str,
        from: String,
        len: usize,
        plus: f32,
        turns: Vec<Turn>,
    ) -> Result<()> {
        self.take(&from, (1, len))?;
        let parts = vec![Part { name: from, rows: 0..1, turns }];
        let name = self.gguf(role, layer, part)?;
        self.items.push(Item { name, dims: vec![len], role, matrix: false, plus, data: Data::Parts(parts) });
        Ok(())
    }

    /// The matrices of all experts, each kind as one.
    fn experts(&mut self, layer: usize) -> Result<()> {
        let count = self.spec.experts.unwrap_or_default().count;
        for matrix in &experts::MATRICES {
            let mut parts = Vec::new();
            let (rows, cols) = shape(self.spec, matrix.alone);
            for expert in 0..count {
                let from = experts::source(self.checkpoint, self.spec, layer, matrix, expert)?;
                let info = self.take(&from.name, shape(self.spec, from.role))?;
                let rows = info.rows / from.pieces;
                parts.push(Part {
                    name: from.name,
                    rows: from.piece * rows..(from.piece + 1) * rows,
                    turns: Vec::new(),
                });
            }
            let name = self.gguf(matrix.stack, layer, "weight")?;
            let (dims, data) = (vec![count, rows, cols], Data::Parts(parts));
            self.items.push(Item { name, dims, role: matrix.stack, matrix: true, plus: 0.0, data });
        }
        Ok(())
    }

    /// Their biases, those of a kind of matrix as one.
    fn biases(&mut self, layer: usize) -> Result<()> {
        let count = self.spec.experts.unwrap_or_default().count;
        for matrix in &experts::MATRICES {
            let mut parts = Vec::new();
            for (name, shape) in experts::biases(self.checkpoint, self.spec, layer, matrix)? {
                self.take(&name, shape)?;
                parts.push(Part { name, rows: 0..shape.0, turns: Vec::new() });
            }
            if !parts.is_empty() {
                let name = self.gguf(matrix.stack, layer, "bias")?;
                let dims = vec![count, shape(self.spec, matrix.alone).0];
                let (role, data) = (matrix.stack, Data::Parts(parts));
                self.items.push(Item { name, dims, role, matrix: false, plus: 0.0, data });
            }
        }
        Ok(())
    }

    /// What rope divides frequencies by, where that is a tensor.
    fn factors(&mut self) -> Result<()> {
        let mut values = |name: &str, values: Vec<f32>| {
            let (dims, data) = (vec![values.len()], Data::Values(values));
            let name = name.to_owned();
            self.items.push(Item { name, dims, role: Role::RopeFactors, matrix: false, plus: 0.0, data });
        };
        let rope = &self.spec.rope;
        match &rope.scaling {
            RopeScaling::Llama3 { .. } => {
                let plain = crate::RopeSpec { scaling: RopeScaling::None, ..rope.clone() }.frequencies();
                values("rope_freqs.weight", plain.iter().zip(rope.frequencies()).map(|(f, to)| f / to).collect());
            }
            RopeScaling::Long { short, long, .. } => {
                values("rope_factors_long.weight", long.clone());
                values("rope_factors_short.weight", short.clone());
            }
            _ => {}
        }
        let from = name(self.checkpoint, self.spec, Role::RopeFactors, 0, "weight");
        match from.filter(|from| self.checkpoint.info(from).is_some()) {
            Some(from) => self.vector(Role::RopeFactors, 0, "weight", from, rope.dims / 2, 0.0, Vec::new()),
            None => Ok(()),
        }
    }

    /// The rows of a role's matrix, or the values of its vector, that lie otherwise in GGUF.
    fn turns(&self, role: Role, rows: usize) -> Vec<Turn> {
        let arch = self.spec.arch;
        if (self.spec.rope.pairing, arch.pairing(Container::Gguf)) != (Pairing::Halves, Pairing::Adjacent) {
            return Vec::new();
        }
        let (head, dims) = (self.spec.head_dim, self.spec.rope.dims);
        let turned = match role {
            Role::Q | Role::K | Role::QNorm | Role::KNorm => rows,
            Role::Qkv => (self.spec.heads + self.spec.kv_heads) * head,
            _ => return Vec::new(),
        };
        vec![Turn { rows: 0..turned, head, dims }]
    }

    /// Refuses tensors that nobody used.
    fn finish(self) -> Result<Vec<Item>> {
        let arch = self.spec.arch;
        let ignored = |name: &str| arch.ignored.iter().any(|end| name.ends_with(end));
        let left = self.checkpoint.names().into_iter().find(|name| !self.used.contains(*name) && !ignored(name));
        match left {
            Some(name) => {
                let why = format!("is not used by architecture {}: this is another kind of model", arch.name);
                Err(Error::tensor(self.checkpoint.path(), name, why))
            }
            None => Ok(self.items),
        }
    }
}

fn name_of_bias(checkpoint: &dyn Checkpoint, spec: &Spec, role: Role, layer: usize) -> Option<String> {
    name(checkpoint, spec, role, layer, "bias").filter(|bias| checkpoint.info(bias).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_become_pairs() {
        let turn = Turn { rows: 0..12, head: 6, dims: 4 };
        let sources: Vec<usize> = (0..14).map(|row| turn.source(row)).collect();
        // Of each head, 0 and 2 turn together, and 1 and 3; the last two values do not turn.
        assert_eq!(sources, [0, 2, 1, 3, 4, 5, 6, 8, 7, 9, 10, 11, 12, 13]);
    }
}
