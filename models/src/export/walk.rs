//! Tokens are taken through a model block by block. A block is read, all lots of tokens go through it, and it is let go
//! before the next: what is measured takes the memory of one block, whatever the model's size.

use crate::decoder::Room;
use crate::load;
use crate::names::Role;
use crate::shapes::name;
use crate::spec::Spec;
use crate::{Checkpoint, Error, LoadOptions, Result};
use nano_kernels::cpu::{Cpu, Inputs};
use nano_kernels::{After, Backend, KvFormat, PAGE_ROWS, PageLayout, Pick, Precision, Row, SequenceRows, Step};

/// Tokens that see each other, at most.
pub const WINDOW: usize = 512;
/// Lots whose rows wait for the next block at a time.
const LOTS: usize = 16;

/// A model on the processor, a block at a time.
pub struct Walk<'a> {
    checkpoint: &'a dyn Checkpoint,
    spec: &'a Spec,
    options: LoadOptions,
    backend: Cpu,
    room: Room<Cpu>,
    /// Keys and values of one block.
    kv: <Cpu as Backend>::Pages,
    /// What the head was given.
    head: Inputs,
}

impl<'a> Walk<'a> {
    /// A walk through `checkpoint`.
    pub fn new(checkpoint: &'a dyn Checkpoint, spec: &'a Spec, threads: usize) -> Result<Self> {
        let mut backend = Cpu::new(threads)?;
        backend.watch();
        let options = LoadOptions { quantization: None, head: None, rows: WINDOW, logits_rows: 0, threads };
        let room = Room::new(&backend, spec, &options)?;
        let layout = spec.page_layout(WINDOW / PAGE_ROWS, KvFormat::F32);
        let kv = backend.pages(PageLayout { layers: 1, ..layout })?;
        let head = Inputs { squares: vec![0.0; spec.dim], ..Inputs::default() };
        Ok(Walk { checkpoint, spec, options, backend, room, kv, head })
    }

    /// Takes tokens through the model, each lot of [`WINDOW`] for itself. `report` is told how many are done: a token that is
    /// through half of the blocks counts half.
    pub fn go(&mut self, tokens: &[u32], report: &mut dyn FnMut(usize)) -> Result<()> {
        let mut done = 0;
        for tokens in tokens.chunks(LOTS * WINDOW) {
            let mut lots = self.embedded(tokens)?;
            for layer in 0..self.spec.layers {
                let block = load::block(self.checkpoint, &mut self.backend, self.spec, &self.options, layer)?;
                for rows in &mut lots {
                    let step = step(rows.len() / self.spec.dim);
                    let Self { backend, room, kv, .. } = self;
                    backend.write(&mut room.x, rows)?;
                    backend.run(&step, None, &mut |b| room.block(b, self.spec, &block, kv, 0))?;
                    let through = backend.read(&room.x, step.rows.len())?;
                    rows.iter_mut().zip(through).for_each(|(x, through)| *x = *through);
                }
                report(done + tokens.len() * (layer + 1) / self.spec.layers);
            }
            self.end(&lots)?;
            done += tokens.len();
        }
        Ok(())
    }

    /// The embeddings of tokens, in lots.
    fn embedded(&self, tokens: &[u32]) -> Result<Vec<Vec<f32>>> {
        let name = name(self.checkpoint, self.spec, Role::Embed, 0, "weight").unwrap_or_default();
        let table = self.checkpoint.tensor(&name)?.ok_or_else(|| crate::arch::missing(self.checkpoint, &name))?;
        let row = |token: &u32| {
            let token = *token as usize;
            if token >= table.rows {
                let why = format!("has {} rows, and the text has a token {token}", table.rows);
                return Err(Error::tensor(self.checkpoint.path(), &name, why));
            }
            let mut row = table.slice_rows(token, token + 1).to_f32();
            row.iter_mut().for_each(|x| *x *= self.spec.embed_scale);
            Ok(row)
        };
        let lots = tokens.chunks(WINDOW).map(|lot| Ok(lot.iter().map(row).collect::<Result<Vec<_>>>()?.concat()));
        lots.collect()
    }

    /// Norms the rows as the head gets them.
    fn end(&mut self, lots: &[Vec<f32>]) -> Result<()> {
        let Self { backend, room, head, .. } = self;
        let norm = load::last_norm(self.checkpoint, backend, self.spec, &self.options)?;
        let mut out = backend.buf(WINDOW, self.spec.dim, Precision::Full)?;
        for rows in lots {
            let step = step(rows.len() / self.spec.dim);
            backend.write(&mut room.x, rows)?;
            backend.run(&step, None, &mut |b| b.norm(&mut out, &room.x, &norm, After::Store))?;
            let normed = backend.read(&out, step.rows.len())?;
            for row in normed.chunks_exact(self.spec.dim).take(step.rows.len()) {
                head.squares.iter_mut().zip(row).for_each(|(sum, x)| *sum += x * x);
            }
            head.rows += step.rows.len() as u64;
        }
        Ok(())
    }

    /// What the products of the blocks were given, and what the head was.
    pub fn seen(mut self) -> (Vec<Inputs>, Inputs) {
        (self.backend.watched(), self.head)
    }
}

/// The first `n` rows of a sequence.
fn step(n: usize) -> Step {
    let row = |at: u32| Row { token: 0, position: at, slot: at, sequence: 0, visible: at + 1 };
    Step {
        rows: (0..n as u32).map(row).collect(),
        sequences: vec![SequenceRows { pages: (0..(WINDOW / PAGE_ROWS) as u32).collect() }],
        logits: Vec::new(),
        pick: Pick::None,
    }
}
