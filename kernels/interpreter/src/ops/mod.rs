//! From an opcode and its operands to what it does. Each file holds a family; a modifier that no one took is an error.

mod bits;
mod compare;
mod convert;
mod copy;
mod float;
mod integer;
mod memory;
mod mma;
mod warp;

use crate::kernel::{Act, Step};
use crate::lane::Lane;
use crate::names::{Fill, Names, Operand};

type Decoded = Result<Option<Step>, String>;

/// An instruction that is being decoded.
struct Op<'o, 'n> {
    /// The first part of the opcode.
    name: &'o str,
    /// Its modifiers and types that nobody took so far.
    parts: Vec<&'o str>,
    operands: Vec<Operand>,
    names: &'o mut Names<'n>,
}

/// Decodes an instruction.
pub fn decode(opcode: &str, operands: Vec<Operand>, names: &mut Names<'_>) -> Result<Step, String> {
    let mut parts = opcode.split('.');
    let name = parts.next().unwrap_or("");
    let mut op = Op { name, parts: parts.collect(), operands, names };
    let families: [fn(&mut Op<'_, '_>) -> Decoded; 9] = [
        memory::decode,
        integer::decode,
        float::decode,
        bits::decode,
        compare::decode,
        convert::decode,
        warp::decode,
        copy::decode,
        mma::decode,
    ];
    for family in families {
        if let Some(step) = family(&mut op).map_err(|e| format!("'{opcode}': {e}"))? {
            if !op.parts.is_empty() {
                return Err(format!("'{opcode}': '.{}' is not known here", op.parts.join(".")));
            }
            return Ok(step);
        }
    }
    Err(format!("'{opcode}' is not known"))
}

impl Op<'_, '_> {
    /// Takes a modifier if it is there.
    fn take(&mut self, part: &str) -> bool {
        let at = self.parts.iter().position(|p| *p == part);
        at.map(|at| self.parts.remove(at)).is_some()
    }

    /// Takes the first of these modifiers that is there.
    fn take_one<'p>(&mut self, parts: &[&'p str]) -> Option<&'p str> {
        parts.iter().copied().find(|part| self.take(part))
    }

    /// Drops modifiers that change nothing here.
    fn ignore(&mut self, parts: &[&str]) {
        self.parts.retain(|p| !parts.contains(p));
    }

    /// Takes the last part: the type.
    fn kind(&mut self) -> Result<String, String> {
        self.parts.pop().map(str::to_owned).ok_or_else(|| "a type is missing".to_owned())
    }

    fn operand(&self, at: usize) -> Result<&Operand, String> {
        self.operands.get(at).ok_or_else(|| format!("operand {} is missing", at + 1))
    }

    /// A source: its register.
    fn source(&mut self, at: usize) -> Result<u32, String> {
        let operand = self.operand(at)?.clone();
        self.source_of(&operand)
    }

    fn source_of(&mut self, operand: &Operand) -> Result<u32, String> {
        match operand {
            Operand::Register(register) => Ok(*register),
            Operand::Number(value) => Ok(self.names.filled(Fill::Value(*value))),
            other => Err(format!("{other:?} where a register or number is expected")),
        }
    }

    /// A destination: its register.
    fn target(&mut self, at: usize) -> Result<u32, String> {
        let operand = self.operand(at)?.clone();
        self.target_of(&operand)
    }

    fn target_of(&mut self, operand: &Operand) -> Result<u32, String> {
        match operand {
            Operand::Register(register) => Ok(*register),
            Operand::Nothing => Ok(self.names.fresh()),
            other => Err(format!("{other:?} where a register is expected")),
        }
    }

    fn predicate(&self, at: usize) -> Result<(u32, bool), String> {
        match self.operand(at)? {
            Operand::Predicate(predicate, negated) => Ok((*predicate, *negated)),
            other => Err(format!("{other:?} where a predicate is expected")),
        }
    }

    /// A register with an address, and what is added to it.
    fn address(&mut self, at: usize) -> Result<(u32, i64), String> {
        match self.operand(at)? {
            Operand::At(register, offset) => Ok((*register, *offset)),
            other => Err(format!("{other:?} where an address is expected")),
        }
    }

    /// A number that must be known now.
    fn number(&self, at: usize) -> Result<u64, String> {
        match self.operand(at)? {
            Operand::Number(value) => Ok(*value),
            other => Err(format!("{other:?} where a number is expected")),
        }
    }

    fn list(&self, at: usize) -> Result<Vec<Operand>, String> {
        match self.operand(at)? {
            Operand::List(list) => Ok(list.clone()),
            other => Ok(vec![other.clone()]),
        }
    }

    /// A list of registers to be read.
    fn sources(&mut self, at: usize) -> Result<Vec<u32>, String> {
        self.list(at)?.iter().map(|one| self.source_of(one)).collect()
    }

    /// A list of registers to be written.
    fn targets(&mut self, at: usize) -> Result<Vec<u32>, String> {
        self.list(at)?.iter().map(|one| self.target_of(one)).collect()
    }

    /// `d = f(a)`
    fn one<A: Lane, R: Lane>(&mut self, f: impl Fn(A) -> R + Send + Sync + 'static) -> Decoded {
        let (d, a) = (self.target(0)?, self.source(1)?);
        act(Box::new(move |w, _, mask| {
            let a = &w.registers[a as usize];
            let mut result = [0; 32];
            for lane in 0..32 {
                result[lane] = f(A::of(a[lane])).bits();
            }
            w.put(d, mask, &result);
            Ok(())
        }))
    }

    /// `d = f(a, b)`
    fn two<A: Lane, B: Lane, R: Lane>(&mut self, f: impl Fn(A, B) -> R + Send + Sync + 'static) -> Decoded {
        let (d, a, b) = (self.target(0)?, self.source(1)?, self.source(2)?);
        act(Box::new(move |w, _, mask| {
            let (a, b) = (&w.registers[a as usize], &w.registers[b as usize]);
            let mut result = [0; 32];
            for lane in 0..32 {
                result[lane] = f(A::of(a[lane]), B::of(b[lane])).bits();
            }
            w.put(d, mask, &result);
            Ok(())
        }))
    }

    /// `d = f(a, b, c)`
    fn three<A: Lane, B: Lane, C: Lane, R: Lane>(
        &mut self,
        f: impl Fn(A, B, C) -> R + Send + Sync + 'static,
    ) -> Decoded {
        let (d, a, b, c) = (self.target(0)?, self.source(1)?, self.source(2)?, self.source(3)?);
        act(Box::new(move |w, _, mask| {
            let (a, b, c) = (&w.registers[a as usize], &w.registers[b as usize], &w.registers[c as usize]);
            let mut result = [0; 32];
            for lane in 0..32 {
                result[lane] = f(A::of(a[lane]), B::of(b[lane]), C::of(c[lane])).bits();
            }
            w.put(d, mask, &result);
            Ok(())
        }))
    }
}

fn act(act: Act) -> Decoded {
    Ok(Some(Step::Do(act)))
}

/// Evaluates an expression with a type's name standing for the Rust type that a string names; an error for others.
macro_rules! typed {
    ($kind:expr, $t:ident in [$($name:pat => $type:ty),* $(,)?], $body:expr) => {
        match $kind {
            $($name => { type $t = $type; $body })*
            other => Err(format!("type '{other}' is not known here")),
        }
    };
}

/// The same for whole numbers.
macro_rules! whole {
    ($kind:expr, $t:ident, $body:expr) => {
        crate::ops::typed!($kind, $t in [
            "u16" | "b16" => u16, "s16" => i16, "u32" | "b32" => u32, "s32" => i32, "u64" | "b64" => u64, "s64" => i64,
        ], $body)
    };
}

use {typed, whole};
