//! A warp: its registers and where its lanes are. Lanes at the same instruction form a group; the group that is furthest
//! behind goes first, so that lanes that parted meet again. Barriers of the block are opened in `worker`.

use crate::kernel::{Instruction, Kernel, Step};
use crate::lane::Lanes;
use crate::memory::Memory;
use crate::names::{Fill, Special};

/// Generic addresses of shared memory begin here.
pub const SHARED_WINDOW: u64 = 0xf1 << 56;
/// Generic addresses of a thread's memory begin here.
pub const LOCAL_WINDOW: u64 = 0xf2 << 56;

/// What memory holds that nothing was written to: NaN in every float type.
pub const POISON: u8 = 0xff;
/// Instructions of a warp after which its kernel is said to hang.
const PATIENCE: u64 = 1 << 26;

/// An instruction that cannot be done: the lane that cannot, and why.
#[derive(Debug)]
pub struct Trap {
    /// The first such lane.
    pub lane: u32,
    /// Why.
    pub why: String,
}

/// Whether an instruction was done.
pub type Done = Result<(), Trap>;

/// A launch of a kernel, as its blocks see it.
pub struct Grid {
    /// Blocks in x, y, z.
    pub blocks: [u32; 3],
    /// Threads of a block.
    pub threads: u32,
    /// Bytes of dynamic shared memory.
    pub dynamic: u32,
    /// The parameters' bytes.
    pub params: Vec<u8>,
}

/// What the warps of a block share.
pub struct Block<'m> {
    /// Device memory.
    pub memory: &'m Memory,
    /// Shared memory.
    pub shared: Vec<u8>,
}

/// A copy to shared memory that is under way.
pub struct Copy {
    /// Who asked for it.
    pub lane: u32,
    /// Its group: how many the lane had closed before.
    pub group: u32,
    /// Where to.
    pub to: usize,
    /// What.
    pub bytes: [u8; 16],
    /// How much of that.
    pub count: usize,
}

/// A warp.
pub struct Warp {
    /// Its number in the block.
    pub index: u32,
    /// Registers, lane by lane.
    pub registers: Vec<Lanes>,
    /// Predicates, a bit per lane.
    pub predicates: Vec<u32>,
    /// The lanes' own memory, one after the other.
    pub local: Vec<u8>,
    /// Copies that no wait covered yet.
    pub copies: Vec<Copy>,
    /// Groups of copies that each lane closed.
    pub closed: [u32; 32],
    /// Lanes that have not ended.
    pub live: u32,
    /// Instructions done.
    pub done: u64,
    groups: Vec<Group>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Wait {
    Ready,
    /// For the lanes that an instruction is meant for.
    Warp,
    Block,
}

#[derive(Clone, Copy, Debug)]
struct Group {
    pc: u32,
    mask: u32,
    wait: Wait,
}

/// Lanes of a mask, in order.
pub fn lanes(mask: u32) -> impl Iterator<Item = usize> {
    let mut rest = mask;
    std::iter::from_fn(move || {
        let lane = rest.trailing_zeros();
        rest &= rest.wrapping_sub(1);
        (lane < 32).then_some(lane as usize)
    })
}

impl Warp {
    /// With the registers that a kernel needs.
    pub fn new(kernel: &Kernel) -> Self {
        Self {
            index: 0,
            registers: vec![[0; 32]; kernel.registers],
            predicates: vec![0; kernel.predicates],
            local: vec![0; kernel.local * 32],
            copies: Vec::new(),
            closed: [0; 32],
            live: 0,
            groups: Vec::new(),
            done: 0,
        }
    }

    /// Puts all lanes at the beginning of a block's work.
    pub fn start(&mut self, index: u32, kernel: &Kernel, grid: &Grid, block: [u32; 3]) {
        self.index = index;
        self.registers.fill([u64::MAX; 32]);
        self.predicates.fill(0);
        self.local.fill(POISON);
        self.copies.clear();
        self.closed = [0; 32];
        self.done = 0;
        let threads = (grid.threads - index * 32).min(32);
        self.live = u32::MAX >> (32 - threads);
        self.groups = vec![Group { pc: 0, mask: self.live, wait: Wait::Ready }];
        for &(register, fill) in &kernel.fills {
            self.registers[register as usize] = std::array::from_fn(|lane| {
                let lane = lane as u32;
                match fill {
                    Fill::Value(value) => value,
                    Fill::Param(at, bytes) => {
                        grid.params[at..at + bytes].iter().rev().fold(0, |v, &b| v << 8 | u64::from(b))
                    }
                    Fill::Dynamic(offset) => (kernel.dynamic_base() as u64).wrapping_add(offset),
                    Fill::Special(special) => u64::from(match special {
                        Special::Thread(0) => index * 32 + lane,
                        Special::Threads(0) => grid.threads,
                        Special::Thread(_) => 0,
                        Special::Threads(_) => 1,
                        Special::Block(axis) => block[axis],
                        Special::Blocks(axis) => grid.blocks[axis],
                        Special::Lane => lane,
                        Special::Warp => index,
                        Special::Warps => grid.threads.div_ceil(32),
                        Special::Equal => 1 << lane,
                        Special::Below => (1 << lane) - 1,
                        Special::UpTo => u32::MAX >> (31 - lane),
                        Special::Above => !(u32::MAX >> (31 - lane)),
                        Special::From => u32::MAX << lane,
                        Special::DynamicBytes => grid.dynamic,
                        Special::Idle => 0,
                    }),
                }
            });
        }
    }

    /// Stores a result in the lanes of `mask`.
    pub fn put(&mut self, register: u32, mask: u32, values: &Lanes) {
        let to = &mut self.registers[register as usize];
        if mask == u32::MAX {
            *to = *values;
        } else {
            for lane in lanes(mask) {
                to[lane] = values[lane];
            }
        }
    }

    /// Stores a truth value in the lanes of `mask`.
    pub fn decide(&mut self, predicate: u32, mask: u32, values: u32) {
        let to = &mut self.predicates[predicate as usize];
        *to = *to & !mask | values & mask;
    }

    /// The lanes where a predicate, maybe negated, holds.
    pub fn holds(&self, (predicate, negated): (u32, bool)) -> u32 {
        let held = self.predicates[predicate as usize];
        if negated { !held } else { held }
    }

    /// Runs until all lanes wait or have ended.
    pub fn run(&mut self, block: &mut Block<'_>, kernel: &Kernel) -> Result<(), (u32, Trap)> {
        while let Some(group) = self.next_group() {
            let behind = self.groups.iter().filter(|g| g.wait == Wait::Ready).map(|g| g.pc).min().unwrap_or(u32::MAX);
            self.follow(group, behind, block, &kernel.code)?;
        }
        Ok(())
    }

    /// Takes the ready group that is furthest behind, with all lanes that are at the same place.
    fn next_group(&mut self) -> Option<Group> {
        let pc = self.groups.iter().filter(|g| g.wait == Wait::Ready).map(|g| g.pc).min()?;
        let mut mask = 0;
        self.groups.retain(|group| {
            let taken = group.pc == pc && group.wait == Wait::Ready;
            mask |= if taken { group.mask } else { 0 };
            !taken
        });
        Some(Group { pc, mask, wait: Wait::Ready })
    }

    /// Runs a group until it parts, waits, ends, or is no longer behind `limit`, where others are.
    fn follow(
        &mut self,
        group: Group,
        limit: u32,
        block: &mut Block<'_>,
        code: &[Instruction],
    ) -> Result<(), (u32, Trap)> {
        let Group { mut pc, mask: all, .. } = group;
        while pc < limit {
            let at = |trap| (pc, trap);
            let Some(instruction) = code.get(pc as usize) else {
                self.end(all);
                return Ok(());
            };
            self.done += 1;
            if self.done > PATIENCE {
                let why = format!("the warp does not end: {PATIENCE} instructions are done");
                return Err(at(Trap { lane: all.trailing_zeros(), why }));
            }
            let mask = instruction.guard.map_or(all, |guard| all & self.holds(guard));
            if mask == 0 {
                pc += 1;
                continue;
            }
            let rest = all & !mask;
            match &instruction.step {
                Step::Do(act) => {
                    act(self, block, mask).map_err(at)?;
                    pc += 1;
                    continue;
                }
                Step::Together(members, act) => {
                    let needed = self.registers[*members as usize][mask.trailing_zeros() as usize] as u32 & self.live;
                    if mask & needed == needed {
                        act(self, block, mask).map_err(at)?;
                        pc += 1;
                        continue;
                    }
                    self.park(pc, mask, Wait::Warp);
                    self.meet(pc, needed);
                }
                Step::Branch(target) if rest == 0 => {
                    pc = *target;
                    continue;
                }
                Step::Branch(target) => self.park(*target, mask, Wait::Ready),
                Step::Table(register, targets) => {
                    for lane in lanes(mask) {
                        let index = self.registers[*register as usize][lane] as u32 as usize;
                        let Some(&target) = targets.get(index) else {
                            return Err(at(Trap {
                                lane: lane as u32,
                                why: format!("there is no branch target {index}"),
                            }));
                        };
                        self.park(target, 1 << lane, Wait::Ready);
                    }
                }
                Step::Exit => self.end(mask),
                Step::Barrier(_) => self.park(pc, mask, Wait::Block),
            }
            if rest != 0 {
                self.park(pc + 1, rest, Wait::Ready);
            }
            return Ok(());
        }
        self.park(pc, all, Wait::Ready);
        Ok(())
    }

    fn park(&mut self, pc: u32, mask: u32, wait: Wait) {
        match self.groups.iter_mut().find(|g| g.pc == pc && g.wait == wait) {
            Some(group) => group.mask |= mask,
            None => self.groups.push(Group { pc, mask, wait }),
        }
    }

    fn end(&mut self, mask: u32) {
        self.live &= !mask;
    }

    /// Lets lanes go on that waited for each other, once all that live are there.
    fn meet(&mut self, pc: u32, needed: u32) {
        for group in &mut self.groups {
            if group.pc == pc && group.wait == Wait::Warp && group.mask & needed == needed {
                group.wait = Wait::Ready;
            }
        }
    }

    /// The same when others have ended since; whether any can go on.
    pub fn meet_again(&mut self, code: &[Instruction]) -> bool {
        let waiting: Vec<Group> = self.groups.iter().copied().filter(|g| g.wait == Wait::Warp).collect();
        for group in &waiting {
            if let Step::Together(members, _) = &code[group.pc as usize].step {
                let needed = self.registers[*members as usize][group.mask.trailing_zeros() as usize] as u32 & self.live;
                self.meet(group.pc, needed);
            }
        }
        self.groups.iter().any(|g| g.wait == Wait::Ready)
    }

    /// Groups that wait for the block: where, which lanes, at what barrier.
    pub fn waiting_at_barrier<'k>(&self, code: &'k [Instruction]) -> Vec<(u32, u32, &'k crate::kernel::Barrier)> {
        let barrier = |g: &Group| match &code[g.pc as usize].step {
            Step::Barrier(barrier) if g.wait == Wait::Block => Some((g.pc, g.mask, barrier)),
            _ => None,
        };
        self.groups.iter().filter_map(barrier).collect()
    }

    /// Lets a group go on that waits for the block.
    pub fn pass(&mut self, pc: u32, mask: u32) {
        self.groups.retain(|g| g.pc != pc || g.wait != Wait::Block);
        self.park(pc + 1, mask, Wait::Ready);
    }

    /// Where lanes are.
    pub fn places(&self) -> impl Iterator<Item = (u32, u32)> {
        self.groups.iter().map(|g| (g.pc, g.mask))
    }
}
