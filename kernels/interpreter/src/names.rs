//! What a kernel's names stand for: registers, predicates, variables, labels. Numbers and special registers become
//! registers that are filled before the kernel starts, so that every source of an instruction is a register.

use crate::machine::{LOCAL_WINDOW, SHARED_WINDOW};
use crate::module::{Param, Place, Variable};
use std::collections::HashMap;

/// What a register holds before the first instruction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fill {
    /// A number.
    Value(u64),
    /// Bytes of the parameters: where, and how many.
    Param(usize, usize),
    /// An address in dynamic shared memory, as bytes from its beginning.
    Dynamic(u64),
    /// A special register.
    Special(Special),
}

/// Special registers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Special {
    /// Thread in its block, x, y or z.
    Thread(usize),
    /// Threads of a block.
    Threads(usize),
    /// Block in the grid.
    Block(usize),
    /// Blocks of the grid.
    Blocks(usize),
    /// Lane in its warp.
    Lane,
    /// Warp in its block.
    Warp,
    /// Warps of the block.
    Warps,
    /// A bit for this lane.
    Equal,
    /// Bits for the lanes before this one.
    Below,
    /// Those and this one's.
    UpTo,
    /// Bits for the lanes after this one.
    Above,
    /// Those and this one's.
    From,
    /// Bytes of dynamic shared memory.
    DynamicBytes,
    /// Something that says nothing about the work: a clock, a multiprocessor.
    Idle,
}

/// What is written as an operand.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// A register.
    Register(u32),
    /// A predicate; whether it is negated.
    Predicate(u32, bool),
    /// A number's bits.
    Number(u64),
    /// A register with an address, and what is added.
    At(u32, i64),
    /// A place among the parameters.
    Param(usize),
    /// `{a, b}`
    List(Vec<Operand>),
    /// `a|b`
    Both(Box<Operand>, Box<Operand>),
    /// An instruction.
    Target(u32),
    /// Instructions to choose from.
    Targets(Vec<u32>),
    /// `_`
    Nothing,
}

#[derive(Clone, Debug)]
enum Name {
    Register(u32),
    Predicate(u32),
    Address(u64),
    Dynamic,
    Targets(Vec<u32>),
}

/// Names with a number behind them, as `%r<7>` declares them.
struct Family {
    prefix: String,
    count: usize,
    predicate: bool,
}

/// The names of a kernel.
pub struct Names<'n> {
    globals: &'n HashMap<String, u64>,
    outer: &'n [Variable],
    params: &'n [Param],
    labels: HashMap<String, u32>,
    scopes: Vec<HashMap<String, Name>>,
    families: Vec<Family>,
    fills: Vec<(u32, Fill)>,
    /// Registers so far.
    pub registers: u32,
    /// Predicates so far.
    pub predicates: u32,
    /// Bytes of shared memory so far, but for the dynamic one.
    pub shared: usize,
    /// What dynamic shared memory begins at a multiple of.
    pub dynamic_align: usize,
    /// Bytes of a thread's memory so far.
    pub local: usize,
}

impl<'n> Names<'n> {
    /// Names from outside a kernel: variables in device memory by address, the others by declaration, labels.
    pub fn new(
        globals: &'n HashMap<String, u64>,
        outer: &'n [Variable],
        params: &'n [Param],
        labels: HashMap<String, u32>,
    ) -> Self {
        Self {
            globals,
            outer,
            params,
            labels,
            scopes: vec![HashMap::new()],
            families: Vec::new(),
            fills: Vec::new(),
            registers: 0,
            predicates: 0,
            shared: 0,
            dynamic_align: 16,
            local: 0,
        }
    }

    /// What registers start with.
    pub fn fills(self) -> Vec<(u32, Fill)> {
        self.fills
    }

    /// An opening brace.
    pub fn open(&mut self) {
        self.scopes.push(HashMap::new());
    }

    /// A closing brace.
    pub fn close(&mut self) {
        self.scopes.pop();
    }

    fn bind(&mut self, name: &str, what: Name) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name.to_owned(), what);
        }
    }

    /// A register that nothing else uses.
    pub fn fresh(&mut self) -> u32 {
        self.registers += 1;
        self.registers - 1
    }

    /// A predicate that nothing else uses.
    pub fn fresh_predicate(&mut self) -> u32 {
        self.predicates += 1;
        self.predicates - 1
    }

    /// A register that holds this from the start.
    pub fn filled(&mut self, fill: Fill) -> u32 {
        if let Some((register, _)) = self.fills.iter().find(|(_, f)| *f == fill) {
            return *register;
        }
        let register = self.fresh();
        self.fills.push((register, fill));
        register
    }

    /// `.reg .b32 name;` or, with a count, `name<count>`.
    pub fn register(&mut self, kind: &str, name: &str, count: Option<usize>) {
        let predicate = kind == ".pred";
        match count {
            Some(count) => self.families.push(Family { prefix: name.to_owned(), count, predicate }),
            None if predicate => {
                let fresh = Name::Predicate(self.fresh_predicate());
                self.bind(name, fresh);
            }
            None => {
                let fresh = Name::Register(self.fresh());
                self.bind(name, fresh);
            }
        }
    }

    /// A variable of the kernel.
    pub fn variable(&mut self, variable: &Variable) -> Result<(), String> {
        let name = self.place(variable)?;
        self.bind(&variable.name, name);
        Ok(())
    }

    /// `name: .branchtargets a, b;`
    pub fn targets(&mut self, name: &str, labels: &[&str]) -> Result<(), String> {
        let find = |l: &&str| self.labels.get(*l).copied().ok_or_else(|| format!("label '{l}' is not there"));
        let found = labels.iter().map(find).collect::<Result<_, _>>()?;
        self.bind(name, Name::Targets(found));
        Ok(())
    }

    fn place(&mut self, variable: &Variable) -> Result<Name, String> {
        let room = match variable.place {
            Place::Shared => &mut self.shared,
            Place::Local => &mut self.local,
            Place::Global => return Err(format!("variable '{}' of a kernel lies in device memory", variable.name)),
        };
        let Some(bytes) = variable.bytes else {
            self.dynamic_align = self.dynamic_align.max(variable.align);
            return Ok(Name::Dynamic);
        };
        if !variable.start.is_empty() {
            return Err(format!("variable '{}' cannot have a first value", variable.name));
        }
        let at = room.next_multiple_of(variable.align);
        *room = at + bytes;
        Ok(Name::Address(at as u64))
    }

    fn find(&mut self, word: &str) -> Result<Option<Name>, String> {
        if let Some(found) = self.scopes.iter().rev().find_map(|scope| scope.get(word)) {
            return Ok(Some(found.clone()));
        }
        let stem = word.trim_end_matches(|c: char| c.is_ascii_digit());
        if let Ok(number) = word[stem.len()..].parse::<usize>()
            && let Some(family) = self.families.iter().rev().find(|f| f.prefix == stem && number < f.count)
        {
            let name =
                if family.predicate { Name::Predicate(self.fresh_predicate()) } else { Name::Register(self.fresh()) };
            self.scopes[0].insert(word.to_owned(), name.clone());
            return Ok(Some(name));
        }
        if let Some(&address) = self.globals.get(word) {
            return Ok(Some(Name::Address(address)));
        }
        if let Some(variable) = self.outer.iter().find(|v| v.name == word) {
            let name = self.place(&variable.clone())?;
            self.scopes[0].insert(word.to_owned(), name.clone());
            return Ok(Some(name));
        }
        Ok(None)
    }

    /// What a word stands for, `offset` beyond it.
    pub fn operand(&mut self, word: &str, offset: i64) -> Result<Operand, String> {
        if word == "_" {
            return Ok(Operand::Nothing);
        }
        if let Some(special) = special(word) {
            return Ok(Operand::Register(self.filled(Fill::Special(special))));
        }
        let unmoved =
            |what: Operand| if offset == 0 { Ok(what) } else { Err(format!("{offset} is added to '{word}'")) };
        match self.find(word)? {
            Some(Name::Register(register)) => unmoved(Operand::Register(register)),
            Some(Name::Predicate(predicate)) => unmoved(Operand::Predicate(predicate, false)),
            Some(Name::Address(at)) => Ok(Operand::Number(at.wrapping_add_signed(offset))),
            Some(Name::Dynamic) => Ok(Operand::Register(self.filled(Fill::Dynamic(offset as u64)))),
            Some(Name::Targets(targets)) => unmoved(Operand::Targets(targets)),
            None => {
                if let Some(param) = self.params.iter().find(|p| p.name == word) {
                    return Ok(Operand::Param(param.at.wrapping_add_signed(offset as isize)));
                }
                let target = self.labels.get(word).copied().ok_or_else(|| format!("'{word}' is not known"))?;
                unmoved(Operand::Target(target))
            }
        }
    }
}

fn special(word: &str) -> Option<Special> {
    let axis = |rest: &str| ["x", "y", "z"].iter().position(|&a| a == rest);
    let (name, rest) = word.strip_prefix('%')?.split_once('.').unwrap_or((&word[1..], ""));
    Some(match (name, axis(rest)) {
        ("tid", Some(axis)) => Special::Thread(axis),
        ("ntid", Some(axis)) => Special::Threads(axis),
        ("ctaid", Some(axis)) => Special::Block(axis),
        ("nctaid", Some(axis)) => Special::Blocks(axis),
        ("laneid", None) => Special::Lane,
        ("warpid", None) => Special::Warp,
        ("nwarpid", None) => Special::Warps,
        ("lanemask_eq", None) => Special::Equal,
        ("lanemask_lt", None) => Special::Below,
        ("lanemask_le", None) => Special::UpTo,
        ("lanemask_gt", None) => Special::Above,
        ("lanemask_ge", None) => Special::From,
        ("dynamic_smem_size", None) => Special::DynamicBytes,
        ("clock" | "clock64" | "globaltimer" | "smid", None) => Special::Idle,
        _ => return None,
    })
}

/// An address in a space of its own, as a generic one.
pub fn generic(place: Place, at: u64) -> u64 {
    match place {
        Place::Global => at,
        Place::Shared => at.wrapping_add(SHARED_WINDOW),
        Place::Local => at.wrapping_add(LOCAL_WINDOW),
    }
}
