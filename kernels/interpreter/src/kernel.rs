//! A kernel ready to run: decoded instructions and what they need.

use crate::machine::{Block, Done, Warp};
use crate::module::{Entry, Param, Variable};
use crate::names::{Fill, Names};
use crate::ops::decode;
use crate::statement::{labels, statements};
use std::collections::HashMap;

/// Does an instruction for the lanes of a mask.
pub type Act = Box<dyn Fn(&mut Warp, &mut Block<'_>, u32) -> Done + Send + Sync>;

/// What an instruction does.
pub enum Step {
    /// Something that each lane can do.
    Do(Act),
    /// Something that lanes do together: the register says which.
    Together(u32, Act),
    /// Goes on elsewhere.
    Branch(u32),
    /// Goes on at the target that a register chooses.
    Table(u32, Vec<u32>),
    /// Ends.
    Exit,
    /// Waits for the block.
    Barrier(Barrier),
}

/// A barrier of the block.
pub struct Barrier {
    /// The register with its number.
    pub number: u32,
    /// The register with the number of threads that it is for; all if there is none.
    pub count: Option<u32>,
    /// What is found out on the way.
    pub reduction: Option<Reduction>,
}

/// A question to all threads at a barrier.
#[derive(Clone, Copy)]
pub struct Reduction {
    /// `popc`, `and` or `or`.
    pub kind: &'static str,
    /// The predicate that is asked about.
    pub asks: (u32, bool),
    /// The register or predicate for the answer.
    pub to: u32,
}

/// A decoded instruction.
pub struct Instruction {
    /// Lanes without this predicate (or, if negated, with it) skip it.
    pub guard: Option<(u32, bool)>,
    /// What it does.
    pub step: Step,
    /// Its line in the file.
    pub line: u32,
}

/// A decoded kernel.
pub struct Kernel {
    /// Its name.
    pub name: String,
    /// The file it is from.
    pub file: String,
    /// Its parameters.
    pub params: Vec<Param>,
    /// The most threads that a block may have.
    pub threads: u32,
    /// Registers that it uses.
    pub registers: usize,
    /// Predicates that it uses.
    pub predicates: usize,
    /// What registers hold at first.
    pub fills: Vec<(u32, Fill)>,
    /// Its instructions.
    pub code: Vec<Instruction>,
    /// Bytes of static shared memory.
    pub shared: usize,
    /// Bytes of a thread's memory.
    pub local: usize,
    /// Whether blocks see what others did: they then run in order, on one thread.
    pub ordered: bool,
    dynamic_align: usize,
    lines: Vec<String>,
}

impl Kernel {
    /// Decodes a kernel of a file; `globals` are the addresses of the file's variables in device memory.
    pub fn new(
        entry: &Entry<'_, '_>,
        variables: &[Variable],
        globals: &HashMap<String, u64>,
        file: &str,
        text: &str,
    ) -> Result<Self, String> {
        let wrong = |e: String| format!("{file}, kernel {}: {e}", entry.name);
        let labels = labels(entry.body).map_err(wrong)?;
        let mut names = Names::new(globals, variables, &entry.params, labels);
        let (mut code, mut ordered) = (Vec::new(), false);
        let text: Vec<&str> = text.lines().collect();
        let mut lines = Vec::new();
        statements(entry.body, &mut names, |statement, names| {
            let changes = statement.opcode.starts_with("atom.") || statement.opcode.starts_with("red.");
            ordered |= changes && !statement.opcode.contains(".shared.");
            let step = decode(statement.opcode, statement.operands, names)?;
            code.push(Instruction { guard: statement.guard, step, line: statement.line });
            lines.push(text.get(statement.line as usize - 1).map_or("", |l| l.trim()).to_owned());
            Ok(())
        })
        .map_err(wrong)?;
        Ok(Self {
            name: entry.name.to_owned(),
            file: file.to_owned(),
            params: entry.params.clone(),
            threads: entry.threads,
            registers: names.registers as usize,
            predicates: names.predicates as usize,
            code,
            shared: names.shared,
            local: names.local.next_multiple_of(16),
            dynamic_align: names.dynamic_align,
            fills: names.fills(),
            ordered,
            lines,
        })
    }

    /// Where dynamic shared memory begins.
    pub fn dynamic_base(&self) -> usize {
        self.shared.next_multiple_of(self.dynamic_align)
    }

    /// An instruction as its file has it.
    pub fn place(&self, instruction: &Instruction) -> String {
        let at = self.code.iter().position(|i| std::ptr::eq(i, instruction)).unwrap_or(0);
        let text = self.lines.get(at).map_or("", String::as_str);
        format!("{}:{}: {text}", self.file, instruction.line)
    }
}
