//! Which matrices a layer has, which of them are read together, and what shape every tensor must have.

use crate::Checkpoint;
use crate::load::experts;
use crate::names::{self, Role};
use crate::spec::{HeadNorms, Spec};

/// Matrices of a layer that are stacked and read together; the last is what the others are called where a file has them
/// as one.
pub type Stack = (&'static [Role], Option<Role>);
pub const QKV: Stack = (&[Role::Q, Role::K, Role::V], Some(Role::Qkv));
pub const OUT: Stack = (&[Role::Out], None);
pub const GATED: Stack = (&[Role::Gate, Role::Up], Some(Role::GateUp));
pub const PLAIN: Stack = (&[Role::Up], None);
pub const DOWN: Stack = (&[Role::Down], None);

/// The stacks of a layer; one with experts has only the first two.
pub fn stacks(spec: &Spec, layer: usize) -> Vec<Stack> {
    let mlp = [if spec.gated { GATED } else { PLAIN }, DOWN];
    [QKV, OUT].into_iter().chain(mlp.into_iter().filter(|_| !spec.each[layer].sparse)).collect()
}

/// What this checkpoint calls a role's `weight` or `bias`, or would.
pub fn name(checkpoint: &dyn Checkpoint, spec: &Spec, role: Role, layer: usize, part: &str) -> Option<String> {
    let (names, container) = (spec.arch.names, checkpoint.container());
    let mut there = names::all(names, container, role, layer, part).filter(|name| checkpoint.info(name).is_some());
    there.next().or_else(|| names::name(names, container, role, layer, part))
}

/// The roles of a stack as this checkpoint has them: one by one, or all in one.
pub fn roles(checkpoint: &dyn Checkpoint, spec: &Spec, (parts, whole): Stack, layer: usize) -> Vec<Role> {
    let names = spec.arch.names;
    let has = |role| {
        let name = name(checkpoint, spec, role, layer, "weight");
        name.is_some_and(|name| checkpoint.info(&name).is_some())
    };
    match whole.filter(|whole| names::has(names, *whole)) {
        Some(whole) if has(whole) || !has(parts[0]) => vec![whole],
        _ => parts.to_vec(),
    }
}

/// Stands for a head in a name.
pub const HEAD: &str = "{head}";

/// Rows and columns that a role's weight must have.
pub fn shape(spec: &Spec, role: Role) -> (usize, usize) {
    let (q, kv) = (spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim);
    match role {
        Role::Embed | Role::Head => (spec.vocab, spec.dim),
        Role::Norm | Role::AttendNorm | Role::AttendPost | Role::MlpNorm | Role::MlpPost => (1, spec.dim),
        Role::QNorm | Role::KNorm => {
            let heads = if role == Role::QNorm { spec.heads } else { spec.kv_heads };
            match spec.head_norms {
                HeadNorms::None | HeadNorms::Shared => (1, spec.head_dim),
                HeadNorms::Own => (heads, spec.head_dim),
                HeadNorms::Whole => (1, heads * spec.head_dim),
            }
        }
        Role::Sinks => (1, spec.heads),
        Role::RopeFactors => (1, spec.rope.dims / 2),
        Role::Qkv => (spec.qkv(), spec.dim),
        Role::Q => (q, spec.dim),
        Role::K | Role::V => (kv, spec.dim),
        Role::Out => (spec.dim, q),
        Role::GateUp => (2 * spec.hidden, spec.dim),
        Role::Gate | Role::Up => (spec.hidden, spec.dim),
        Role::Down => (spec.dim, spec.hidden),
        role => experts::shape(spec.experts.unwrap_or_default(), spec.dim, role),
    }
}

/// How many equal parts of a backend's weight a role's matrix makes: a gate and its up are told apart.
pub fn pieces(role: Role) -> usize {
    if role == Role::GateUp { 2 } else { 1 }
}
